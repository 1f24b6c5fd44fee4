//go:build !linux

package bench

import (
	"errors"
	"net/netip"
	"time"
)

// errNeedsLinux is what a run answers elsewhere: the loops are built on epoll and the figures come from /proc.
var errNeedsLinux = errors.New("rookery bench needs Linux (epoll and /proc)")

type poller struct{}

func newPoller() (*poller, error)                                 { return nil, errNeedsLinux }
func (*poller) close()                                            {}
func (*poller) add(int, int32) error                              { return errNeedsLinux }
func (*poller) wait(time.Duration, func(int32, bool, bool)) error { return errNeedsLinux }
func (*poller) wake()                                             {}
func (*poller) arm(time.Duration) error                           { return errNeedsLinux }
func dialSocket(netip.AddrPort, netip.Addr) (int, error)          { return -1, errNeedsLinux }
func socketError(int) error                                       { return errNeedsLinux }
func readSocket(int, []byte) (n int, eof bool, err error)         { return 0, false, errNeedsLinux }
func writeSocket(int, []byte) (int, error)                        { return 0, errNeedsLinux }
func closeSocket(int)                                             {}
func raiseFileLimit() (int, error)                                { return 0, errNeedsLinux }
