package broker

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limits bounds connections, in all and by address.
type limits struct {
	cfg *Config

	mu      sync.Mutex
	total   int
	waiting int // not logged in yet
	byAddr  map[netip.Prefix]*list.Element
	idle    list.List // addresses without a connection, the longest idle first; then the others
}

// An origin is what is remembered of an address.
type origin struct {
	prefix netip.Prefix
	open   int
	rate   *rate.Limiter
}

func newLimits(cfg *Config) *limits {
	return &limits{cfg: cfg, byAddr: make(map[netip.Prefix]*list.Element)}
}

// prefixOf is the unit that the limits count by: an IPv4 address, or an IPv6 /64.
func prefixOf(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // not an IP address, as with a unix socket
		return netip.Prefix{}
	}
	return p
}

// enter lets a connection in, or names the limit that forbids it. Each one that was let in
// is followed by one leave.
func (l *limits) enter(a netip.Addr, now time.Time) (refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.cfg.Connections > 0 && l.total >= l.cfg.Connections:
		return "connections"
	case l.waiting >= l.cfg.Unauthenticated:
		return "unauthenticated"
	}
	if !l.counted(a) {
		l.total++
		l.waiting++
		return ""
	}
	o := l.origin(prefixOf(a))
	switch {
	case o == nil:
		return "tracked_addresses"
	case l.cfg.ConnectionsPerAddress > 0 && o.open >= l.cfg.ConnectionsPerAddress:
		return "connections_per_address"
	case o.rate != nil && !o.rate.AllowN(now, 1):
		return "connects_per_address"
	}
	o.open++
	l.total++
	l.waiting++
	return ""
}

// loggedIn says that a connection is not among the unauthenticated any more.
func (l *limits) loggedIn() {
	l.mu.Lock()
	l.waiting--
	l.mu.Unlock()
}

// leave says that a connection has ended.
func (l *limits) leave(a netip.Addr, loggedIn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if !loggedIn {
		l.waiting--
	}
	if !l.counted(a) {
		return
	}
	if e := l.byAddr[prefixOf(a)]; e != nil {
		if o := e.Value.(*origin); o.open > 0 {
			o.open--
		}
	}
}

func (l *limits) counted(a netip.Addr) bool {
	return a.IsValid() && (l.cfg.CountLoopback || !a.Unmap().IsLoopback()) &&
		(l.cfg.ConnectionsPerAddress > 0 || l.cfg.ConnectsPerAddress > 0)
}

// origin returns what is remembered of an address. When too much is remembered, the address
// that connected longest ago and has no connection is forgotten; nil if the oldest few all have.
func (l *limits) origin(p netip.Prefix) *origin {
	if e := l.byAddr[p]; e != nil {
		l.idle.MoveToBack(e)
		return e.Value.(*origin)
	}
	if len(l.byAddr) >= l.cfg.TrackedAddresses && !l.forget() {
		return nil
	}
	o := &origin{prefix: p}
	if n := l.cfg.ConnectsPerAddress; n > 0 {
		o.rate = rate.NewLimiter(rate.Limit(n), l.cfg.ConnectBurstPerAddress)
	}
	l.byAddr[p] = l.idle.PushBack(o)
	return o
}

// forget makes room for one address.
func (l *limits) forget() bool {
	const look = 16
	for range min(look, l.idle.Len()) {
		e := l.idle.Front()
		o := e.Value.(*origin)
		if o.open == 0 {
			l.idle.Remove(e)
			delete(l.byAddr, o.prefix)
			return true
		}
		l.idle.MoveToBack(e)
	}
	return false
}
