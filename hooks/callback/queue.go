package callback

import (
	"time"
)

// A queue is the records of one group or account, while there are any. It is sent by one
// goroutine at a time, in turns.
type queue struct {
	prefix  string
	state   queueState
	again   bool // written to since its turn began
	records int64
	bytes   int64
	last    time.Time // when a record was expected last
	pause   time.Duration
	timer   *time.Timer // of a paused queue
}

type queueState uint8

const (
	idle   queueState = iota
	queued            // in Outbox.ready
	taken             // its turn is on
	paused            // after a failure
)

// expect counts a record that is there, or is about to be written.
func (o *Outbox) expect(prefix string, size int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count(prefix, size)
}

// expectWithin is expect within the bounds; it reports false if there is no room.
func (o *Outbox) expectWithin(prefix string, size int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.entries >= o.cfg.Entries || o.bytes+size > o.cfg.Bytes {
		return false
	}
	o.count(prefix, size)
	return true
}

// roomForRefusal reports whether one more record may go into a queue of refused messages.
func (o *Outbox) roomForRefusal(prefix string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.queues[prefix]
	return (q == nil || q.records < maxRefused) && o.entries < (o.cfg.Entries+1)/2 && o.bytes < o.cfg.Bytes/2
}

// count is expect; o.mu is held.
func (o *Outbox) count(prefix string, size int64) {
	q := o.queues[prefix]
	if q == nil {
		q = &queue{prefix: prefix}
		o.queues[prefix] = q
	}
	q.records++
	q.bytes += size
	q.last = time.Now()
	o.total(1, size)
}

// total adds to the sums; o.mu is held.
func (o *Outbox) total(records, bytes int64) {
	o.entries += records
	o.bytes += bytes
	o.metrics.entries.Set(float64(o.entries))
	o.metrics.bytes.Set(float64(o.bytes))
}

// forget takes records that are gone off the count.
func (o *Outbox) forget(prefix string, records, bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.queues[prefix]
	if q == nil {
		return
	}
	records, bytes = min(records, q.records), min(bytes, q.bytes)
	q.records -= records
	q.bytes -= bytes
	o.total(-records, -bytes)
}

// written says that records of the queue are durable.
func (o *Outbox) written(prefix string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if q := o.queues[prefix]; q != nil {
		o.schedule(q)
	}
}

// schedule gives the queue a turn; o.mu is held.
func (o *Outbox) schedule(q *queue) {
	switch q.state {
	case idle:
		q.state = queued
		o.ready = append(o.ready, q)
		select {
		case o.wake <- struct{}{}:
		default:
		}
	case taken:
		q.again = true
	}
}

// take begins the next queue's turn; nil if none is ready.
func (o *Outbox) take() *queue {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.ready) == 0 {
		o.ready = nil
		return nil
	}
	q := o.ready[0]
	o.ready = o.ready[1:]
	q.state, q.again = taken, false
	return q
}

// lost is how long a record may be expected that does not appear: its write has failed.
const lost = time.Minute

// leave ends a queue's turn: more says that records are left.
func (o *Outbox) leave(q *queue, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q.state, q.pause = idle, 0
	switch {
	case more || q.again:
		o.schedule(q)
	case q.records <= 0 || time.Since(q.last) > lost:
		o.total(-q.records, -q.bytes)
		delete(o.queues, q.prefix)
	}
}

// rest ends a queue's turn after a failure: the next one comes after a pause, of the given
// length or, if that is 0, one that doubles with each failure.
func (o *Outbox) rest(q *queue, pause time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q.state = paused
	if pause == 0 {
		q.pause = min(max(2*q.pause, o.cfg.RetryPauseMin), o.cfg.RetryPauseMax)
		pause = q.pause
	}
	if o.ended {
		return
	}
	q.timer = time.AfterFunc(pause, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.resume(q)
	})
}

// resume ends a pause; o.mu is held.
func (o *Outbox) resume(q *queue) {
	if q.state == paused && !o.ended {
		q.timer.Stop()
		q.state = idle
		o.schedule(q)
	}
}

// RetryNow ends all pauses.
func (o *Outbox) RetryNow() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, q := range o.queues {
		o.resume(q)
	}
}

// tryLater ends the pause of one queue when the breaker lets a call through: its record tries
// whether the server is back, which ends the others' pauses.
func (o *Outbox) tryLater() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	if o.try != nil {
		o.try.Stop()
	}
	o.try = time.AfterFunc(o.cfg.BreakerPause, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, q := range o.queues {
			if q.state == paused {
				o.resume(q)
				return
			}
		}
	})
}

// end stops the timers for good.
func (o *Outbox) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	if o.try != nil {
		o.try.Stop()
	}
	for _, q := range o.queues {
		if q.timer != nil {
			q.timer.Stop()
		}
	}
}
