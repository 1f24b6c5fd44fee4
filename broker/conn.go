package broker

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
)

// A conn is one connection: the net.Conn that mochi reads from and writes to, with a write
// queue of our own. Nobody ever waits for the client but a goroutine that writes to it, and
// that one exists only while the client does not take what is to be written.
//
// Lock order: user.mu, room.mu, conn.mu, flusher.mu.
type conn struct {
	b       *Broker
	nc      net.Conn
	raw     syscall.RawConn // of nc, if it can be written to without waiting; else nil
	addr    netip.Addr
	session *session // set at login by the reader, which is the only one to use it before then

	// The reader's alone.
	framer   framer
	idle     time.Duration // one and a half keep alives; 0: before login, or none
	deadline time.Time
	armed    uint64 // framer.packets when deadline was set
	readErr  bool   // the transport failed, or the client closed it

	// Set at login, not changed after.
	version   byte
	terse     bool                  // asked for no Reason Strings and user properties
	maxPacket int                   // the client's; 0: no limit
	connect   packets.ConnectParams // of CONNECT, until the login

	mu       sync.Mutex
	state    connState
	cause    endCause
	told     bool          // mochi has written a DISCONNECT
	welcome  bool          // and before that a CONNACK that lets the client in
	flushing bool          // the flusher or a goroutine writes, or is about to
	flushed  chan struct{} // closed when none does, if not nil
	control  []byte        // packets that are no deliveries; written first
	items    []item        // deliveries; items[head:] wait
	head     int
	queued   int           // bytes of items
	room     chan struct{} // closed when items have got short, or it is over, if not nil
	window   window
	wdead    time.Time // the write deadline
}

type connState uint8

const (
	connOpen connState = iota
	connClosing
	connDead // a write failed: nothing can be said any more
)

// An item is a run of frames that waits to be written.
type item struct {
	f        *frames
	from, to uint32
}

const (
	// flushBytes is how much is gathered for one write; a single packet may be larger.
	flushBytes = 32 << 10
	// lingerTime is how long a connection that we close may take to take what is left for it.
	lingerTime = time.Second
	// lingerBytes bounds what is read and thrown away meanwhile. Closing with unread data
	// would reset the connection and take our DISCONNECT from the client.
	lingerBytes = 1 << 20
	// keptItems and keptControl are how much of the queues an idle connection keeps.
	keptItems, keptControl = 8, 64
)

var aLongTimeAgo = time.Unix(1, 0)

var errClosing = errors.New("broker: connection is closing")

// Read is called by mochi's reader.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if c.framer.grammar.fault != nil { // all that came before it was handled
			return 0, c.refuse(c.framer.grammar.fault)
		}
		if err := c.armRead(); err != nil {
			return 0, err
		}
		n, err := c.nc.Read(p)
		if n > 0 {
			n = c.scan(p[:n])
		}
		if err != nil {
			c.readErr = true
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.timedOut()
			}
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// scan passes p on without the PUBACKs in it.
func (c *conn) scan(p []byte) int {
	if c.session == nil {
		return c.framer.scan(p, false, nil)
	}
	locked, moved := false, false // once for all PUBACKs in p, and not for others
	n := c.framer.scan(p, true, func(id uint16) {
		if !locked {
			c.mu.Lock()
			locked = true
		}
		moved = c.window.ack(id) || moved
	})
	if moved {
		c.windowMoved()
	}
	if locked {
		c.mu.Unlock()
	}
	return n
}

// refuse ends the connection for a packet that is not MQTT's.
func (c *conn) refuse(f *fault) error {
	c.b.metrics.refused(f.code)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		c.endLocked(endProtocol, f.code, f.reason)
		return errEnded
	}
	c.say(f.appendConnack(nil))
	c.endLocked(endRefused, 0, "")
	return errEnded
}

// ackedOne takes a PUBACK.
func (c *conn) ackedOne(id uint16) {
	c.mu.Lock()
	if c.window.ack(id) {
		c.windowMoved()
	}
	c.mu.Unlock()
}

// windowMoved goes on when the client has acknowledged. mu is held.
func (c *conn) windowMoved() {
	if d := c.durable(); d != nil {
		d.acknowledged(c.window.next - c.window.oldest)
	}
	c.start()
}

// durable returns the session that outlives the connection, or nil. mu is held.
func (c *conn) durable() *durable {
	if c.session == nil {
		return nil
	}
	return c.session.durable
}

// armRead sets the keep alive's deadline if a packet has ended since it was set. It is set a
// little too late, so that it need not be set for each packet. Before login the deadline of
// CONNECT stands.
func (c *conn) armRead() error {
	if c.idle == 0 || c.armed == c.framer.packets && !c.deadline.IsZero() {
		if c.closing() {
			return errClosing
		}
		return nil
	}
	c.armed = c.framer.packets
	now := time.Now()
	if c.deadline.Sub(now) >= c.idle {
		if c.closing() {
			return errClosing
		}
		return nil
	}
	c.deadline = now.Add(c.idle + min(c.idle/8, time.Second))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != connOpen {
		return errClosing
	}
	return c.nc.SetReadDeadline(c.deadline)
}

func (c *conn) closing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state != connOpen
}

// timedOut ends a connection whose client was silent for too long [MQTT-3.1.2-22].
func (c *conn) timedOut() {
	if c.session == nil {
		c.end(endTimeout, 0, "")
		return
	}
	c.end(endTimeout, codeKeepAlive, "keep alive timeout")
}

// Write takes a packet of mochi's: CONNACK, PINGRESP, or DISCONNECT.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != connOpen {
		return 0, errClosing
	}
	c.say(p)
	if s := c.session; s != nil && p[0]>>4 == typeConnack {
		c.welcome = true
		if s.durable != nil && s.durable.restored != nil {
			c.b.resume(s)
		}
	}
	c.told = c.told || p[0]>>4 == typeDisconnect
	return len(p), nil
}

// say appends packets that are no deliveries. mu is held.
func (c *conn) say(packets []byte) {
	if c.state != connOpen {
		return
	}
	c.control = append(c.control, packets...)
	if len(c.control)+c.queued > c.b.cfg.SlowConsumerBytes {
		c.slow()
		return
	}
	c.start()
}

// put appends the frames from ≤ i < to of f and has them written. mu is held.
func (c *conn) put(f *frames, from, to uint32) {
	c.enqueue(f, from, to)
	c.start()
}

// enqueue appends the frames from ≤ i < to of f. What was due to be written before is for
// the caller. mu is held.
func (c *conn) enqueue(f *frames, from, to uint32) {
	if c.state != connOpen || from == to {
		return
	}
	if c.maxPacket > 0 && f.longest > c.maxPacket {
		c.putFitting(f, from, to)
		return
	}
	c.waits(f.bytes(from, to))
	if c.queued+len(c.control) > c.b.cfg.SlowConsumerBytes && len(c.items) > c.head {
		c.slow()
		return
	}
	if n := len(c.items); n > c.head && c.items[n-1].f == f && c.items[n-1].to == from {
		c.items[n-1].to = to
	} else {
		c.items = append(c.items, item{f, from, to})
	}
}

// waits counts bytes of deliveries in (or, below zero, out). mu is held.
func (c *conn) waits(n int) {
	c.queued += n
	if c.room != nil && c.queued <= c.b.cfg.SlowConsumerBytes/4 {
		close(c.room)
		c.room = nil
	}
	c.b.metrics.queued.Add(int64(n))
}

// putFitting leaves out what is larger than the client takes [MQTT-3.1.2-25]: the client
// sees a hole in the SEQs and can read the message from history.
func (c *conn) putFitting(f *frames, from, to uint32) {
	for i := from; i < to; i++ {
		if n := f.bytes(i, i+1); n <= c.maxPacket {
			c.waits(n)
			c.items = append(c.items, item{f, i, i + 1})
		}
	}
	if c.queued+len(c.control) > c.b.cfg.SlowConsumerBytes {
		c.slow()
	}
}

// drop takes the frames of a room out of the queue.
func (c *conn) drop(r *room) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.items[:c.head]
	for _, it := range c.items[c.head:] {
		if it.f.room == r {
			c.waits(-it.f.bytes(it.from, it.to))
			continue
		}
		kept = append(kept, it)
	}
	clear(c.items[len(kept):])
	c.items = kept
}

// slow ends a connection whose client does not keep up. mu is held.
func (c *conn) slow() {
	c.b.metrics.slow.Add(1)
	c.endLocked(endSlow, codeQuota, "too slow: read what you missed from history")
}

// start has what is due written. mu is held.
func (c *conn) start() {
	if c.due() {
		c.b.flusher.write(&c.b.flusher.own, c)
	}
}

// due reports whether there is something that may be written now and nobody writes. Then it
// is for the caller to hand the connection to the flusher. mu is held.
func (c *conn) due() bool {
	if c.flushing || c.state == connDead || !c.writable() {
		return false
	}
	c.flushing = true
	return true
}

func (c *conn) writable() bool {
	if len(c.control) > 0 {
		return true
	}
	return c.head < len(c.items) && (c.items[c.head].f.ids == nil || c.window.open())
}

var flushBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, 4<<10)) }}

// flush writes rest, which may lie in buf, and then until nothing is left that may be
// written. It waits for the client, in a goroutine of its own. There is one at a time for a
// connection; the connection's serve waits for it.
func (c *conn) flush(buf *[]byte, rest []byte) {
	if buf == nil {
		buf = flushBuffers.Get().(*[]byte)
	}
	out, sent := rest, 0
	c.mu.Lock()
	for c.state != connDead {
		if len(out) == 0 {
			if out, sent = c.fill((*buf)[:0]); len(out) == 0 {
				break
			}
			*buf = out
			c.b.metrics.written(1, len(out), sent)
		}
		err := c.armWrite()
		c.mu.Unlock()
		if err == nil {
			_, err = c.nc.Write(out)
		}
		out = nil
		c.mu.Lock()
		if err != nil {
			c.writeFailed(err)
		}
	}
	if c.state == connOpen && c.raw != nil { // the flusher sets none, and must not meet an old one
		c.wdead = time.Time{}
		_ = c.nc.SetWriteDeadline(c.wdead)
	}
	c.flushEnds()
	c.mu.Unlock()
	if cap(*buf) <= 2*flushBytes {
		flushBuffers.Put(buf)
	}
}

// writeFailed ends a connection that cannot be written to. mu is held.
func (c *conn) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) && c.state == connOpen {
		c.b.metrics.slow.Add(1)
		c.endLocked(endSlow, 0, "")
	}
	c.endLocked(endNetwork, 0, "")
	c.state, c.control = connDead, nil
}

// flushEnds says that nobody writes any more. mu is held.
func (c *conn) flushEnds() {
	c.flushing = false
	if c.flushed != nil {
		close(c.flushed)
		c.flushed = nil
	}
}

// fill appends what may be written now to buf, about flushBytes of it, and counts the deliveries. mu is held.
func (c *conn) fill(buf []byte) (_ []byte, sent int) {
	buf = append(buf, c.control...)
	if cap(c.control) > keptControl {
		c.control = nil
	}
	c.control = c.control[:0]
	for c.head < len(c.items) && len(buf) < flushBytes {
		it := &c.items[c.head]
		n := it.to - it.from
		if it.f.ids != nil {
			n = uint32(min(uint64(n), c.window.size-(c.window.next-c.window.oldest)))
		}
		n = min(n, it.f.fit(it.from, flushBytes-len(buf)))
		if n == 0 {
			break
		}
		start := it.f.start(it.from)
		base := len(buf) - start
		buf = append(buf, it.f.buf[start:it.f.start(it.from+n)]...)
		if it.f.ids != nil {
			for i, at := range it.f.ids[it.from : it.from+n] {
				if d := c.durable(); d != nil {
					var seq group.Seq
					if it.f.seqs != nil {
						seq = it.f.seqs[int(it.from)+i]
					}
					d.sent(it.f.room, seq)
				}
				id := c.window.take()
				buf[base+int(at)], buf[base+int(at)+1] = byte(id>>8), byte(id)
			}
		}
		c.waits(-it.f.bytes(it.from, it.from+n))
		sent += int(n)
		if it.from += n; it.from == it.to {
			*it = item{}
			c.head++
		}
	}
	if c.head == len(c.items) {
		c.head = 0
		if cap(c.items) > keptItems {
			c.items = nil
		}
		c.items = c.items[:0]
	} else if c.head > 64 && c.head > len(c.items)/2 {
		n := copy(c.items, c.items[c.head:])
		clear(c.items[n:])
		c.items, c.head = c.items[:n], 0
	}
	return buf, sent
}

// armWrite sets the deadline within which a write must make progress, early enough not to
// do it each time. mu is held.
func (c *conn) armWrite() error {
	if c.state != connOpen {
		return nil // the end has set one
	}
	now, limit := time.Now(), c.b.cfg.SlowConsumerTime
	if c.wdead.Sub(now) >= limit {
		return nil
	}
	c.wdead = now.Add(limit + limit/4)
	return c.nc.SetWriteDeadline(c.wdead)
}

// end lets the connection come to its end: an MQTT 5 client is told code and reason if code
// is not 0, what waits for it is forgotten, and the reader stops. It does not wait. Only the
// first end counts.
func (c *conn) end(cause endCause, code byte, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(cause, code, reason)
}

func (c *conn) endLocked(cause endCause, code byte, reason string) {
	if c.state != connOpen {
		return
	}
	c.cause = cause
	if code != 0 && c.version == 5 && c.welcome { // nothing may come before CONNACK [MQTT-3.2.0-1]
		c.control = c.appendDisconnect(c.control, code, reason)
	}
	clear(c.items)
	c.items, c.head = nil, 0
	c.waits(-c.queued) // wakes who waits for room, too
	c.start()          // before the state forbids it
	c.state = connClosing
	now := time.Now()
	_ = c.nc.SetWriteDeadline(now.Add(lingerTime))
	_ = c.nc.SetReadDeadline(aLongTimeAgo)
	if s := c.session; s != nil {
		s.resume()
	}
}

// Close is called by mochi's reader when it has ended with the client. If it was neither the
// client nor the network that ended it, and nothing was said yet, then it was a packet that
// mochi could not read.
func (c *conn) Close() error {
	switch {
	case c.readErr:
		c.end(endNetwork, 0, "")
	case c.session == nil || c.told:
		c.end(endProtocol, 0, "")
	default:
		c.end(endProtocol, codeMalformed, "malformed packet")
	}
	return nil
}

// finish closes the connection, after end, when what is left to say has been said, in bounded
// time. It is called once, by the goroutine that has read from it.
func (c *conn) finish() {
	c.mu.Lock()
	wait := c.flushing
	if wait {
		c.flushed = make(chan struct{})
	}
	flushed, dead, cause := c.flushed, c.state == connDead, c.cause
	c.mu.Unlock()
	if wait {
		<-flushed // the write deadline bounds it
	}
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && !dead && cause.ours() {
		_ = half.CloseWrite()
		_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
	}
	_ = c.nc.Close()
}

// LocalAddr returns the address that the client connected to.
func (c *conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr returns the client's address.
func (c *conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// SetDeadline does nothing: mochi sets one for each packet and each way; ours are set where they are needed.
func (c *conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// An endCause says why a connection ended.
type endCause uint8

const (
	endNetwork   endCause = iota // the connection broke, or the client closed it without a word
	endClient                    // the client said DISCONNECT
	endTimeout                   // the client was silent for too long
	endProtocol                  // the client broke the protocol, or we could not go on with it
	endTakenOver                 // another connection with its client identifier
	endKicked                    // an administrator, or the login policy
	endSlow                      // the client did not read
	endShutdown                  // we stop
	endRefused                   // the login was refused
)

// ours reports whether we ended it, so that the client may have something to read yet.
func (e endCause) ours() bool { return e != endNetwork && e != endClient }
