package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"
)

// A door is one listener.
type door struct {
	name string // tcp, tls, ws, wss
	ln   net.Listener
}

// A ListenError says which address could not be listened on.
type ListenError struct {
	Name string // tcp, tls, ws or wss
	Addr string // as configured
	Err  error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("broker: listen on %s for %s: %v", e.Addr, e.Name, e.Err)
}

func (e *ListenError) Unwrap() error { return e.Err }

// Listen opens the configured addresses. It may be called before Run, to learn the addresses
// that port 0 has become; what it opened is closed by Run.
func (b *Broker) Listen() error {
	if len(b.doors) > 0 {
		return nil
	}
	for _, d := range []struct {
		name, addr string
		tls        bool
	}{
		{"tcp", b.cfg.TCPAddr, false}, {"tls", b.cfg.TLSAddr, true}, {"ws", b.cfg.WSAddr, false}, {"wss", b.cfg.WSSAddr, true},
	} {
		if d.addr == "" {
			continue
		}
		ln, err := b.listen(d.addr)
		if err != nil {
			b.closeDoors()
			return &ListenError{Name: d.name, Addr: d.addr, Err: err}
		}
		b.doors = append(b.doors, door{d.name, ln})
	}
	return nil
}

func (b *Broker) listen(addr string) (net.Listener, error) {
	var lc net.ListenConfig // keeps TCP connections alive by default, for clients without a keep alive
	return lc.Listen(b.ctx, "tcp", addr)
}

// Close closes what Listen has opened, for a broker that is never run.
func (b *Broker) Close() { b.closeDoors() }

func (b *Broker) closeDoors() {
	for _, d := range b.doors {
		_ = d.ln.Close()
	}
}

// Addr returns the address of a listener: tcp, tls, ws or wss. It is nil if there is none.
func (b *Broker) Addr(name string) net.Addr {
	for _, d := range b.doors {
		if d.name == name {
			return d.ln.Addr()
		}
	}
	return nil
}

const (
	// acceptPause is how long accepting waits after an error, twice as long each time: out
	// of descriptors or memory, connections wait in the kernel until some are free.
	acceptPause    = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// accept passes a listener's connections to take until it is closed.
func (b *Broker) accept(d door, take func(net.Conn)) {
	pause := acceptPause
	for {
		nc, err := d.ln.Accept()
		switch {
		case err == nil:
			pause = acceptPause
			take(nc)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			b.metrics.acceptErrors.Add(1)
			if pause == acceptPause { // once for a spell of them
				b.log.Warn("accept failed, trying on", "listener", d.name, "err", err)
			}
			select {
			case <-time.After(pause):
			case <-b.ctx.Done():
				return
			}
			pause = min(2*pause, maxAcceptPause)
		}
	}
}

// take serves a TCP connection, with TLS if the door has it.
func (b *Broker) take(d door, nc net.Conn) {
	c := b.newConn(nc)
	if c == nil {
		_ = nc.Close()
		return
	}
	if d.name == "tls" {
		c.nc = tls.Server(nc, b.cfg.TLS) // shakes hands at the first read, within the same deadline
	} else {
		c.raw = rawConn(nc)
	}
	if !b.launch(func() { b.serve(c) }) {
		b.leave(c)
	}
}

// newConn lets a connection in, or returns nil if a limit forbids it.
func (b *Broker) newConn(nc net.Conn) *conn {
	c := &conn{b: b, nc: nc}
	c.framer.grammar.max = b.cfg.MaxPacketSize
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		c.addr = ap.Addr().Unmap()
	}
	now := time.Now()
	if limit := b.limits.enter(c.addr, now); limit != "" {
		b.metrics.turnedAway.WithLabelValues(limit).Inc()
		return nil
	}
	if !b.track(c) { // we stop
		b.limits.leave(c.addr, false)
		return nil
	}
	_ = nc.SetDeadline(now.Add(b.cfg.ConnectDeadline))
	b.metrics.connections.Add(1)
	return c
}

// loggedIn ends what holds for connections before their CONNECT.
func (c *conn) loggedIn() {
	c.b.limits.loggedIn()
	_ = c.nc.SetDeadline(time.Time{}) // the keep alive's and the writes' follow
}

// serve reads from a connection until it ends and cleans up after it, whatever happened.
func (b *Broker) serve(c *conn) {
	defer b.leave(c)
	defer func() {
		if r := recover(); r != nil {
			// mochi panics on some packets that end too early; it is the client's connection that
			// pays, nobody else's.
			b.metrics.panics.Add(1)
			b.log.Warn("packet could not be handled", "client", c.addr.String(), "panic", r)
			b.log.Debug("packet could not be handled", "client", c.addr.String(), "stack", string(debug.Stack()))
			_ = c.Close()
		}
	}()
	err := b.server.EstablishConnection("", c)
	b.log.Debug("connection ended", "client", c.addr.String(), "err", err)
}

// leave undoes what the connection has done to the broker. The session goes first: closing
// may take a moment.
func (b *Broker) leave(c *conn) {
	c.end(endNetwork, 0, "")
	if c.session != nil {
		b.endSession(c.session)
	}
	c.finish()
	b.untrack(c)
	b.limits.leave(c.addr, c.session != nil)
	b.metrics.connections.Add(-1)
}

// endSession ends what a login began, whatever has ended it.
func (b *Broker) endSession(s *session) {
	b.metrics.sessions.Add(-1)
	s.detach()
	b.leaveWill(s) // before the session may be resumed
	b.closeSession(s)
	b.registry.release(s.user)
	b.sessionEnded(s)
}
