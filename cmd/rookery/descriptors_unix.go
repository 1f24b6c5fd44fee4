//go:build unix

package main

import "syscall"

// descriptorLimit returns how many descriptors a process may have open at the most.
func descriptorLimit() (limit uint64, known bool) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return uint64(r.Max), true //nolint:unconvert // it is signed on some systems
}
