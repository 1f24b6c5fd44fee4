// Package storagetest is the contract of package storage as code: a suite that every store
// passes, a store in memory, and a store that fails on purpose.
package storagetest
