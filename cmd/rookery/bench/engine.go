package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// An engine runs the loops of one run.
type engine struct {
	clock
	loops []*loop
	group sync.WaitGroup
	stop  context.CancelCauseFunc
}

// startEngine starts the loops. The context that it returns ends with ctx, with close, or when a loop breaks.
func startEngine(ctx context.Context, threads int) (*engine, context.Context, error) {
	ctx, stop := context.WithCancelCause(ctx)
	e := &engine{clock: newClock(), stop: stop}
	for range max(threads, 1) {
		l, err := newLoop(e.clock)
		if err != nil {
			for _, l := range e.loops {
				l.poll.close()
			}
			stop(err)
			return nil, nil, err
		}
		e.loops = append(e.loops, l)
	}
	for _, l := range e.loops {
		e.group.Go(func() {
			if err := l.run(ctx); err != nil {
				stop(err)
			}
		})
	}
	return e, ctx, nil
}

// close ends the loops and with them every connection.
func (e *engine) close() {
	e.stop(nil)
	e.group.Wait()
}

// each runs f on every loop's goroutine, one loop after the other.
func (e *engine) each(ctx context.Context, f func(l *loop)) error {
	for _, l := range e.loops {
		if err := l.call(ctx, func() { f(l) }); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) tally() tally {
	var sum tally
	for _, l := range e.loops {
		sum = sum.plus(l.meter.tally(), 1)
	}
	return sum
}

func (e *engine) problems() map[string]int {
	all := make(map[string]int)
	for _, l := range e.loops {
		l.meter.mu.Lock()
		for text, n := range l.meter.problems {
			all[text] += n
		}
		l.meter.mu.Unlock()
	}
	return all
}

// An opener connects sessions, at most so many at a time, and waits until all are open.
type opener struct {
	engine   *engine
	to       netip.AddrPort
	sources  []netip.Addr // taken in turn; empty leaves the choice to the kernel
	pending  atomic.Int64
	failures atomic.Int64
	dialled  atomic.Int64
	done     chan struct{}
	first    atomic.Pointer[error]
	record   bool // whether connecting is what the run measures
	queues   []*dialQueue
	end      func(s *session) // called on the loop when a session is open; may be nil
}

// dialQueue is one loop's share of an opener.
type dialQueue struct {
	opener *opener
	loop   *loop
	left   []*session
	budget int // connections that may still be started before one is done
}

// portsPerSource is how many connections one source address gets: less than the ephemeral ports of a default Linux.
const portsPerSource = 20_000

// sourcesFor spreads n connections to a loopback address over several source addresses, as one address has only
// about 28,000 ports towards one listener.
func sourcesFor(to netip.AddrPort, n int) []netip.Addr {
	if n <= portsPerSource || !to.Addr().Is4() || !to.Addr().IsLoopback() {
		return nil
	}
	var all []netip.Addr
	for i := range (n + portsPerSource - 1) / portsPerSource {
		all = append(all, netip.AddrFrom4([4]byte{127, 0, byte(1 + i/250), byte(1 + i%250)}))
	}
	return all
}

// open connects all sessions, at most parallel at a time, and returns when each is subscribed. A session that fails
// fails the whole, except where the opener is asked to record: then failures are counted and the first is kept.
func (o *opener) open(ctx context.Context, sessions []*session, parallel int) error {
	if len(sessions) == 0 {
		return nil
	}
	o.done = make(chan struct{})
	o.pending.Store(int64(len(sessions)))
	if o.sources == nil {
		o.sources = sourcesFor(o.to, len(sessions))
	}
	loops := o.engine.loops
	for i, l := range loops {
		q := &dialQueue{opener: o, loop: l, budget: max(parallel/len(loops), 1)}
		for k := i; k < len(sessions); k += len(loops) {
			sessions[k].opener = o
			q.left = append(q.left, sessions[k])
		}
		o.queues = append(o.queues, q)
	}
	for _, q := range o.queues {
		q.loop.post(func() { q.work(q.loop) })
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := o.first.Load(); err != nil && !o.record {
		return fmt.Errorf("%d of %d connections failed, the first: %w", o.failures.Load(), len(sessions), *err)
	}
	return nil
}

// connectTimeout bounds the time from dialling to being subscribed.
const connectTimeout = 30 * time.Second

func (q *dialQueue) work(l *loop) {
	for q.budget > 0 && len(q.left) > 0 {
		s := q.left[0]
		q.left = q.left[1:]
		q.budget--
		var source netip.Addr
		n := int(q.opener.dialled.Add(1))
		if len(q.opener.sources) > 0 {
			source = q.opener.sources[n%len(q.opener.sources)]
		}
		s.phase = phaseConnecting
		s.dialledAt = l.now()
		c, err := l.dial(q.opener.to, source, s)
		if err != nil {
			s.phase = phaseClosed
			q.opener.finish(q, err)
			continue
		}
		s.conn = c
		l.at(s.dialledAt+int64(connectTimeout), deadline{s})
	}
}

// A deadline ends a session that is not open by then.
type deadline struct{ s *session }

func (d deadline) work(*loop) {
	if d.s.phase == phaseConnecting || d.s.phase == phaseSubscribing {
		d.s.conn.fail(fmt.Errorf("not open after %s: %w", connectTimeout, os.ErrDeadlineExceeded))
	}
}

func (o *opener) queue(l *loop) *dialQueue {
	for _, q := range o.queues {
		if q.loop == l {
			return q
		}
	}
	panic("bench: a session on a loop that its opener does not know")
}

func (o *opener) opened(s *session) {
	l := s.conn.loop
	if o.record && l.meter.call != nil {
		l.meter.calls.Add(1)
		l.meter.call.record(s.dialledAt, l.now())
	}
	if o.end != nil {
		o.end(s)
	}
	o.finish(o.queue(l), nil)
}

func (o *opener) failed(s *session, err error) {
	s.meter().callErrors.Add(1)
	s.meter().problem(err)
	o.finish(o.queue(s.conn.loop), err)
}

func (o *opener) finish(q *dialQueue, err error) {
	if err != nil {
		o.failures.Add(1)
		o.first.CompareAndSwap(nil, &err)
	}
	q.budget++
	if o.pending.Add(-1) == 0 {
		close(o.done)
		return
	}
	q.loop.soon(q)
}

// keepAlives makes every loop send PINGREQ for sessions when they are due.
func keepAlives(ctx context.Context, e *engine, sessions []*session) error {
	return e.each(ctx, func(l *loop) {
		var own []*session
		for _, s := range sessions {
			if s.conn != nil && s.conn.loop == l {
				own = append(own, s)
			}
		}
		l.ticks = append(l.ticks, func(now int64) {
			for _, s := range own {
				s.ping(now)
			}
		})
	})
}
