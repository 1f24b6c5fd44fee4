package mongo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

const (
	// maxGather bounds how long a round trip waits for those who took part in the last one.
	maxGather = 10 * time.Millisecond
	// minLinger and maxLinger bound how long a write waits for a round trip under way before it
	// gets one of its own: in between it is twice the time that the last one took.
	minLinger = 25 * time.Millisecond
	maxLinger = 250 * time.Millisecond
	// share is how many writes get a round trip of their own though another one is under way.
	share = 64
)

// A write is what one caller wants written: its steps in order, and then its messages.
type write struct {
	key   group.Key
	steps []step
	docs  []bson.Raw // messages of one group in the order of their SEQs; none: only the steps
	ids   [][]byte   // the messages' MsgIDs
	size  int        // bytes
	count int        // documents

	next   int // the step that comes next
	queued time.Time
	finish func(error) // called once, by the goroutine that knows the outcome
}

// A committer gathers writes of many callers and sends them in shared round trips, so that
// their number follows from the time a round trip takes and not from the number of messages.
//
// While a round trip is under way the next one gathers. Another one starts beside it only for
// enough writes, or for one that has waited long: a server that is slow for some groups must
// not hold up the rest. Before it sends, a round trip waits a moment for as many writes as
// took part in the last one: callers in lockstep would otherwise fall apart into ever smaller
// shares. A group has at most one write in all of this (see groups).
type committer struct {
	send  func([]*write)
	limit struct{ flights, documents, bytes, queue int }

	mu     sync.Mutex
	queue  []*write
	closed bool
	// flights is how many round trips are under way.
	flights int
	// expect is how many writes the next round trip may hope for, and gather how long.
	expect int
	gather time.Duration
	linger time.Duration
	ended  time.Time // when the last round trip ended

	wake    chan struct{} // has room for one
	running sync.WaitGroup
}

func newCommitter(cfg Config, send func([]*write)) *committer {
	c := &committer{send: send, linger: minLinger, wake: make(chan struct{}, 1)}
	c.limit.flights, c.limit.documents, c.limit.bytes, c.limit.queue = cfg.InFlight, cfg.BatchDocuments, cfg.BatchBytes, cfg.QueueLen
	c.running.Go(c.dispatch)
	return c
}

var errQueueFull = fmt.Errorf("%w: too many writes wait", storage.ErrUnavailable)

// submit queues w. After an error finish is not called.
func (c *committer) submit(w *write) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return storage.ErrClosed
	}
	if len(c.queue) >= c.limit.queue {
		return errQueueFull
	}
	w.queued = time.Now()
	c.queue = append(c.queue, w)
	c.signal()
	return nil
}

// withdraw takes w out of the queue; false: it is under way or done.
func (c *committer) withdraw(w *write) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, q := range c.queue {
		if q == w {
			c.queue = append(c.queue[:i], c.queue[i+1:]...)
			return true
		}
	}
	return false
}

// close refuses new writes and waits for those that were taken.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.signal()
	c.mu.Unlock()
	c.running.Wait()
}

func (c *committer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// dispatch starts round trips until the committer is closed and its queue empty.
func (c *committer) dispatch() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		c.mu.Lock()
		now := time.Now()
		wait := c.wait(now)
		if wait <= 0 {
			batch := c.take()
			c.flights++
			c.mu.Unlock()
			c.running.Go(func() { c.fly(batch) })
			continue
		}
		over := c.closed && len(c.queue) == 0
		c.mu.Unlock()
		if over {
			return
		}
		timer.Reset(wait)
		select {
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// wait is how long the queue must wait before a round trip starts; c.mu is held.
func (c *committer) wait(now time.Time) time.Duration {
	const forever = time.Hour
	if len(c.queue) == 0 || c.flights >= c.limit.flights {
		return forever
	}
	age := now.Sub(c.queue[0].queued)
	if c.flights > 0 {
		if len(c.queue) >= share {
			return 0
		}
		return c.linger - age
	}
	if len(c.queue) >= c.expect || c.closed {
		return 0
	}
	return c.gather - max(0, min(age, now.Sub(c.ended)))
}

// take takes the next round trip's writes off the queue; c.mu is held.
func (c *committer) take() []*write {
	n, documents, bytes := 0, 0, 0
	for ; n < len(c.queue); n++ {
		documents += c.queue[n].count
		bytes += c.queue[n].size
		if n > 0 && (documents > c.limit.documents || bytes > c.limit.bytes) {
			break
		}
	}
	batch := append([]*write(nil), c.queue[:n]...)
	rest := copy(c.queue, c.queue[n:])
	clear(c.queue[rest:])
	c.queue = c.queue[:rest]
	return batch
}

func (c *committer) fly(batch []*write) {
	began := time.Now()
	c.send(batch)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flights--
	c.ended = time.Now()
	c.expect = len(batch) + len(c.queue)
	took := c.ended.Sub(began)
	c.gather = min(maxGather, took/3)
	c.linger = min(max(minLinger, 2*took), maxLinger)
	c.signal()
}

// commit hands w to c and waits for its outcome. A caller whose ctx ends while the write is
// under way learns that the outcome is unknown; left is called then.
func (s *Store) commit(ctx context.Context, c *committer, w *write, left func()) error {
	done := make(chan error, 1)
	finish := w.finish
	w.finish = func(err error) {
		finish(err)
		done <- err
	}
	if err := c.submit(w); err != nil {
		finish(errNotSent)
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if c.withdraw(w) {
		finish(errNotSent)
		return context.Cause(ctx)
	}
	left()
	select { // it may have ended in the meantime
	case err := <-done:
		return err
	default:
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, context.Cause(ctx))
	}
}

// errNotSent tells a write's finish that nothing of it was sent.
var errNotSent = errors.New("storage: not sent")
