// Package storagetest is the contract of package storage as code: every implementation runs
// it (Run), and what a store is to do is added here first. It also has what tests of the
// store's users need: messages to store (NewMessage), a store in memory (Memory) and a store
// whose n-th call fails (Faulty).
package storagetest
