package bench

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"
)

// maxFrame bounds one packet or HTTP response, and with it what a connection may keep of an incomplete one.
const maxFrame = 4 << 20

// tick is how often a loop looks after keep-alives and stalled senders; it also bounds one wait.
const tick = 100 * time.Millisecond

var (
	errClosedByPeer = fmt.Errorf("closed by the broker: %w", io.EOF)
	errTooLong      = errors.New("a packet longer than 4 MiB")
)

// A clock gives Unix nanoseconds that never step back.
type clock struct {
	base time.Time
	unix int64
}

func newClock() clock {
	now := time.Now()
	return clock{base: now, unix: now.UnixNano()}
}

func (c clock) now() int64 { return c.unix + int64(time.Since(c.base)) }

// protocol is what runs above the bytes of a connection. All calls come from the connection's loop.
type protocol interface {
	connected(c *conn)
	// consume handles the whole packets at the front of b and says how many bytes they were. It keeps nothing of b.
	consume(c *conn, b []byte) (int, error)
	// closed is called once, with the reason, unless the run itself closed the connection.
	closed(c *conn, err error)
}

// A worker is woken by its loop: after everything that was read in one turn when it asked for it with
// conn.loop.soon, and at the instant it named with loop.at.
type worker interface{ work(l *loop) }

// A conn is one TCP connection of a loop.
type conn struct {
	loop       *loop
	fd         int
	token      int32
	proto      protocol
	connecting bool
	deaf       bool   // does not read: plays a stalled consumer
	rest       []byte // the beginning of a packet
	out        []byte // what the socket did not take yet
}

// A loop owns connections and everything above them. One goroutine runs it.
type loop struct {
	clock
	poll   *poller
	conns  []*conn // by token; nil when closed
	free   []int32 // tokens to use again
	in     []byte
	readAt int64  // when the bytes that are being consumed were read
	acks   []byte // scratch for the acknowledgements of one read
	burst  []byte // scratch for what one sender writes at once
	ready  []worker
	timers timers
	ticks  []func(now int64)
	meter  *meter

	mu     sync.Mutex
	posted []func() // guarded by mu
}

func newLoop(c clock) (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &loop{clock: c, poll: p, in: make([]byte, 512<<10), meter: new(meter)}, nil
}

// run serves the loop until ctx ends and then closes every connection.
func (l *loop) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.poll.wake)
	defer stop()
	defer l.shut()
	nextTick := l.now()
	for ctx.Err() == nil {
		if err := l.poll.wait(tick, l.event); err != nil {
			return err
		}
		l.runPosted()
		now := l.now()
		l.timers.fire(l, now)
		if now >= nextTick {
			nextTick = now + int64(tick)
			for _, f := range l.ticks {
				f(now)
			}
		}
		l.runReady()
		if err := l.armTimer(); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) shut() {
	for _, c := range l.conns {
		if c != nil {
			c.drop()
		}
	}
	l.poll.close()
}

// post runs f on the loop's goroutine. Any goroutine may call it.
func (l *loop) post(f func()) {
	l.mu.Lock()
	l.posted = append(l.posted, f)
	first := len(l.posted) == 1
	l.mu.Unlock()
	if first {
		l.poll.wake()
	}
}

// call runs f on the loop's goroutine and waits for it, or for ctx.
func (l *loop) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	l.post(func() {
		f()
		close(done)
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *loop) runPosted() {
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// soon calls w after what is being read now. Calling it twice in a turn calls w twice.
func (l *loop) soon(w worker) { l.ready = append(l.ready, w) }

func (l *loop) runReady() {
	// A worker may ask to be called again: that belongs to the next turn.
	turn := l.ready
	l.ready = nil
	for _, w := range turn {
		w.work(l)
	}
	if len(l.ready) > 0 {
		l.poll.wake()
		return
	}
	clear(turn)
	l.ready = turn[:0]
}

// at calls w at an instant of the loop's clock.
func (l *loop) at(when int64, w worker) { heap.Push(&l.timers, timer{when: when, w: w}) }

func (l *loop) armTimer() error {
	if len(l.timers) == 0 {
		return nil
	}
	left := time.Duration(l.timers[0].when - l.now())
	if left >= tick {
		return nil // the wait ends before
	}
	return l.poll.arm(left)
}

// dial opens a connection; proto.connected or proto.closed tells how it went.
func (l *loop) dial(to netip.AddrPort, source netip.Addr, proto protocol) (*conn, error) {
	fd, err := dialSocket(to, source)
	if err != nil {
		return nil, err
	}
	c := &conn{loop: l, fd: fd, proto: proto, connecting: true}
	if n := len(l.free); n > 0 {
		c.token = l.free[n-1]
		l.free = l.free[:n-1]
		l.conns[c.token] = c
	} else {
		c.token = int32(len(l.conns))
		l.conns = append(l.conns, c)
	}
	if err := l.poll.add(fd, c.token); err != nil {
		c.drop()
		return nil, err
	}
	return c, nil
}

func (l *loop) event(token int32, readable, writable bool) {
	c := l.conns[token]
	if c == nil {
		return
	}
	if c.connecting {
		if err := socketError(c.fd); err != nil {
			c.fail(err)
			return
		}
		if !writable {
			return
		}
		c.connecting = false
		c.proto.connected(c)
	}
	if writable && c.fd >= 0 && len(c.out) > 0 {
		c.flush()
	}
	if readable && c.fd >= 0 && !c.deaf {
		c.read()
	}
}

func (c *conn) read() {
	l := c.loop
	for {
		kept := copy(l.in, c.rest)
		n, eof, err := readSocket(c.fd, l.in[kept:])
		if err != nil || eof {
			if eof {
				err = errClosedByPeer
			}
			c.fail(err)
			return
		}
		if n == 0 {
			return
		}
		l.readAt = l.now()
		b := l.in[:kept+n]
		used, err := c.proto.consume(c, b)
		if err != nil {
			c.fail(err)
		}
		if c.fd < 0 {
			return
		}
		if len(b)-used >= maxFrame {
			c.fail(errTooLong)
			return
		}
		c.rest = append(c.rest[:0], b[used:]...)
		filled := len(b) == len(l.in)
		if len(c.rest) > len(l.in)/2 {
			l.in = make([]byte, 2*len(l.in)) // a long packet: the next read must have room
		}
		if !filled {
			return // edge-triggered: a short read means that the socket is empty
		}
	}
}

// write sends b, or keeps what the socket does not take. It keeps no reference to b.
func (c *conn) write(b []byte) {
	if c.fd < 0 || len(b) == 0 {
		return
	}
	if len(c.out) == 0 && !c.connecting {
		n, err := writeSocket(c.fd, b)
		if err != nil {
			c.fail(err)
			return
		}
		b = b[n:]
	}
	c.out = append(c.out, b...)
}

func (c *conn) flush() {
	n, err := writeSocket(c.fd, c.out)
	if err != nil {
		c.fail(err)
		return
	}
	c.out = append(c.out[:0], c.out[n:]...)
	if len(c.out) == 0 {
		c.out = nil
	}
}

// fail closes the connection and tells the protocol why.
func (c *conn) fail(err error) {
	if c.fd >= 0 {
		c.drop()
		c.proto.closed(c, err)
	}
}

// drop closes the connection and tells nobody.
func (c *conn) drop() {
	if c.fd < 0 {
		return
	}
	closeSocket(c.fd)
	c.fd = -1
	c.loop.conns[c.token] = nil
	c.loop.free = append(c.loop.free, c.token)
}

// timers is a heap of instants.
type timers []timer

type timer struct {
	when int64
	w    worker
}

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].when < t[j].when }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}

func (t *timers) fire(l *loop, now int64) {
	for len(*t) > 0 && (*t)[0].when <= now {
		heap.Pop(t).(timer).w.work(l)
	}
}
