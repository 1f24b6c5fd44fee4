package broker

import (
	"runtime"
	"sync"
)

// A flusher writes to plain TCP connections what waits for them, without ever waiting for a
// client: what the kernel does not take at once goes to a goroutine of that connection. A
// goroutine for each connection and message would cost more than the system call.
//
// The groups with something to write take turns, so that a large one holds up the others by
// one slice of its connections and not by all.
type flusher struct {
	metrics *metrics
	most    int // workers at a time

	mu          sync.Mutex
	first, last *line
	workers     int

	own line // connections with something that is no group's
}

// A line is the connections that wait for a write because of one group. It is in the
// flusher's list while it is not empty. All is guarded by flusher.mu.
type line struct {
	next        *line
	first, last *slice
}

// sliceLen is how many connections a line gets written in its turn: some tenths of a millisecond.
const sliceLen = 64

type slice struct {
	next  *slice
	n     int
	conns [sliceLen]*conn
}

var slices64 = sync.Pool{New: func() any { return new(slice) }}

func newFlusher(m *metrics) *flusher {
	// One processor is left to those who make something to be written.
	return &flusher{metrics: m, most: max(1, runtime.GOMAXPROCS(0)-1)}
}

// write has a connection written to whose conn.due was true.
func (f *flusher) write(l *line, c *conn) {
	if c.raw == nil {
		go c.flush(nil, nil)
		return
	}
	f.add(l, []*conn{c})
}

// add lines up connections with a raw side whose conn.due was true.
func (f *flusher) add(l *line, conns []*conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.first == nil {
		if f.first == nil {
			f.first = l
		} else {
			f.last.next = l
		}
		f.last = l
	}
	for len(conns) > 0 {
		if l.last == nil || l.last.n == sliceLen {
			s := slices64.Get().(*slice)
			if l.last == nil {
				l.first = s
			} else {
				l.last.next = s
			}
			l.last = s
		}
		n := copy(l.last.conns[l.last.n:], conns)
		l.last.n += n
		conns = conns[n:]
	}
	if f.workers < f.most {
		f.workers++
		go f.work()
	}
}

// take returns the next slice. A worker that gets none has to end.
func (f *flusher) take() *slice {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.first
	if l == nil {
		f.workers--
		return nil
	}
	s := l.first
	if l.first = s.next; l.first == nil {
		l.last = nil
	}
	s.next = nil
	if f.first = l.next; f.first == nil {
		f.last = nil
	}
	l.next = nil
	if l.first != nil { // to the end of the list
		if f.first == nil {
			f.first = l
		} else {
			f.last.next = l
		}
		f.last = l
	}
	return s
}

func (f *flusher) work() {
	w := writers.Get().(*writer)
	for s := f.take(); s != nil; s = f.take() {
		for _, c := range s.conns[:s.n] {
			if !c.flushAtOnce(w) {
				f.add(&f.own, []*conn{c})
			}
		}
		clear(s.conns[:s.n])
		s.n = 0
		slices64.Put(s)
		f.metrics.written(w.writes, w.bytes, w.sent)
		w.writes, w.bytes, w.sent = 0, 0, 0
		runtime.Gosched() // a worker may have work for long: the lanes and the readers get their turn
	}
	writers.Put(w)
}

var writers = sync.Pool{New: func() any {
	w := &writer{buf: make([]byte, 0, 4<<10)}
	w.call = w.write
	return w
}}

// A writer is what a worker writes with.
type writer struct {
	buf  []byte
	call func(fd uintptr) bool // write, made once

	p   []byte // what write is to write
	n   int    // how much it has written
	err error

	writes, bytes, sent int // since they were last put into the metrics
}

// maxTurns is how often a worker writes to one connection before others get their turn.
const maxTurns = 4

// flushAtOnce writes as much of what is due as the kernel takes, and leaves the rest to a
// goroutine. It reports false if there is more to be written in another turn.
func (c *conn) flushAtOnce(w *writer) bool {
	c.mu.Lock()
	for turn := 0; c.state != connDead && c.writable(); turn++ {
		if turn == maxTurns {
			c.mu.Unlock()
			return false
		}
		out, sent := c.fill(w.buf[:0])
		if len(out) == 0 {
			break
		}
		w.buf = out
		c.mu.Unlock()
		w.p, w.n, w.err = out, 0, nil
		err := c.raw.Write(w.call)
		if err == nil {
			err = w.err
		}
		w.writes++
		w.bytes += len(out)
		w.sent += sent
		if err == nil && w.n < len(out) {
			rest := w.buf
			w.buf = make([]byte, 0, 4<<10)
			go c.flush(&rest, rest[w.n:])
			return true
		}
		c.mu.Lock()
		if err != nil {
			c.writeFailed(err)
		}
	}
	c.flushEnds()
	c.mu.Unlock()
	if cap(w.buf) > 2*flushBytes {
		w.buf = make([]byte, 0, 4<<10)
	}
	return true
}
