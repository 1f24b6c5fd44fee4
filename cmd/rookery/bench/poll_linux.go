package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Tokens that the poller keeps to itself.
const (
	tokenWake  = -1
	tokenTimer = -2
)

// A poller is one epoll instance with an eventfd that wakes it and a timerfd for instants that milliseconds are too
// coarse for. All methods but wake belong to the loop's goroutine.
type poller struct {
	epoll, wakeup, timer int
	events               []unix.EpollEvent
}

func newPoller() (*poller, error) {
	p := &poller{epoll: -1, wakeup: -1, timer: -1, events: make([]unix.EpollEvent, 1024)}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if p.wakeup, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		p.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		p.close()
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	if err := errors.Join(p.add(p.wakeup, tokenWake), p.add(p.timer, tokenTimer)); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) close() {
	for _, fd := range []int{p.timer, p.wakeup, p.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// add watches fd in both directions, edge-triggered: TCP reports room for writing only after a write found none, so
// watching for it all the time costs nothing and saves the epoll_ctl calls.
func (p *poller) add(fd int, token int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: token}
	if fd == p.wakeup || fd == p.timer {
		ev.Events = unix.EPOLLIN | unix.EPOLLET
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &ev))
}

// wait calls ready for every descriptor that something happened on, then returns; without any it returns after limit.
func (p *poller) wait(limit time.Duration, ready func(token int32, readable, writable bool)) error {
	n, err := unix.EpollWait(p.epoll, p.events, int(limit.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("epoll_wait", err)
	}
	for i := range max(n, 0) {
		ev := &p.events[i]
		switch ev.Fd {
		case tokenWake, tokenTimer: // edge-triggered: nothing to read back
		default:
			const failed = unix.EPOLLERR | unix.EPOLLHUP
			ready(ev.Fd, ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|failed) != 0, ev.Events&(unix.EPOLLOUT|failed) != 0)
		}
	}
	return nil
}

// wake ends the wait that is under way, or the next one. Any goroutine may call it.
func (p *poller) wake() {
	_, _ = unix.Write(p.wakeup, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// arm ends a wait after d; it replaces what was armed before.
func (p *poller) arm(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(d), 1))}
	return os.NewSyscallError("timerfd_settime", unix.TimerfdSettime(p.timer, 0, &spec, nil))
}

// dialSocket starts a TCP connection from source (the zero value leaves the choice to the kernel). It is established
// when the descriptor becomes writable and socketError answers nil.
func dialSocket(to netip.AddrPort, source netip.Addr) (fd int, err error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if source.IsValid() {
		// The port is chosen at connect, so that it only has to be free for this destination.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(source, 0))); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("bind to %s: %w", source, err)
		}
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect to %s: %w", to, err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

func socketError(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if code != 0 {
		return unix.Errno(code)
	}
	return nil
}

// readSocket answers n = 0 without eof when there is nothing to read now.
func readSocket(fd int, b []byte) (n int, eof bool, err error) {
	for {
		n, err = unix.Read(fd, b)
		switch {
		case err == nil:
			return n, n == 0, nil
		case errors.Is(err, unix.EAGAIN):
			return 0, false, nil
		case !errors.Is(err, unix.EINTR):
			return 0, false, err
		}
	}
}

// writeSocket answers n = 0 when there is no room to write now.
func writeSocket(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Write(fd, b)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EAGAIN):
			return 0, nil
		case !errors.Is(err, unix.EINTR):
			return 0, err
		}
	}
}

func closeSocket(fd int) { _ = unix.Close(fd) }

// raiseFileLimit asks for as many descriptors as the hard limit allows and returns that number.
func raiseFileLimit() (int, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, os.NewSyscallError("setrlimit", err)
	}
	return int(min(lim.Cur, 1<<30)), nil
}
