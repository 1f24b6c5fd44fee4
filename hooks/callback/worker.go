package callback

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

// perTurn is how many records of one queue are sent before another queue has its turn.
const perTurn = 64

// Run sends until ctx ends, and returns when what is under way has ended. What was not sent
// is sent by the next run. It is called once.
func (o *Outbox) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer o.end()
	running.Go(func() { o.writeStates(ctx) })
	slots := make(chan struct{}, o.cfg.AfterConcurrency)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		q := o.take()
		for q == nil {
			select {
			case <-o.wake:
			case <-ctx.Done():
				return nil
			}
			q = o.take()
		}
		running.Go(func() {
			o.turn(ctx, q)
			<-slots
		})
	}
}

// turn sends the first records of a queue, in order, as far as they succeed.
func (o *Outbox) turn(ctx context.Context, q *queue) {
	rows, err := o.read(ctx, q)
	if err != nil {
		if ctx.Err() == nil {
			o.log.Warn("callbacks not read", "err", err)
		}
		o.rest(q, 0)
		return
	}
	var muts []storage.Mutation
	var bytes int64
	n := 0
	var pause *time.Duration
	for _, row := range rows {
		more, wait := o.deliver(ctx, row)
		if wait != nil {
			pause = wait
			break
		}
		muts = append(append(muts, storage.Callbacks.Delete(row.key)), more...)
		bytes += row.size
		n++
	}
	if n > 0 {
		// What was sent is taken out even when ctx ends, or the next run sends it again.
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		err := o.store.Apply(dctx, muts...)
		cancel()
		if err != nil {
			o.log.Warn("callbacks not taken out, they will be sent again", "entries", n, "err", err)
			o.rest(q, 0)
			return
		}
		o.forget(q.prefix, int64(n), bytes)
		q.pause = 0
	}
	if pause != nil {
		o.rest(q, *pause)
		return
	}
	o.leave(q, len(rows) == perTurn)
}

// A row is a record that is to be sent.
type row struct {
	key  string
	size int64
	*storage.Callback
}

func (o *Outbox) read(ctx context.Context, q *queue) (rows []row, err error) {
	for rec, err := range o.store.Scan(ctx, storage.Callbacks.Name, storage.Span{Prefix: q.prefix, Limit: perTurn}) {
		if err != nil {
			return nil, err
		}
		r := row{key: rec.Key, size: int64(len(rec.Value)), Callback: new(storage.Callback)}
		if err := json.Unmarshal(rec.Value, r.Callback); err != nil {
			r.Callback = nil
			o.log.Error("callback record", "key", rec.Key, "err", err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// deliver sends one record. It returns what is to be written when the record is taken out, or,
// if it has to stay, the pause before the next try; 0: one that grows.
func (o *Outbox) deliver(ctx context.Context, r row) (muts []storage.Mutation, pause *time.Duration) {
	if r.Callback == nil {
		o.metrics.deaths.WithLabelValues("unreadable").Inc()
		return nil, nil
	}
	age := time.Since(time.UnixMilli(r.Time))
	if o.cfg.Retry && age > o.cfg.RetryAge {
		return o.giveUp(r.key, r.Callback, "age"), nil
	}
	if there, err := o.happened(ctx, r.Callback); err != nil {
		return nil, new(time.Duration)
	} else if !there {
		if age < lost { // its write may still be under way
			return nil, new(o.cfg.RetryPauseMin)
		}
		return nil, nil
	}
	cctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	began := time.Now()
	err := o.client.tell(cctx, r.Command, r.Body, hooks.Origin{IP: r.IP, Platform: r.Platform})
	switch {
	case ctx.Err() != nil:
		if err != nil {
			return nil, new(time.Duration)
		}
	case errors.Is(err, errOpen):
		o.metrics.calls.WithLabelValues("after", "breaker").Inc()
		if o.cfg.Retry {
			return nil, new(time.Duration)
		}
		return o.giveUp(r.key, r.Callback, "failed"), nil
	}
	o.metrics.duration.WithLabelValues("after").Observe(time.Since(began).Seconds())
	if err == nil {
		o.metrics.calls.WithLabelValues("after", "ok").Inc()
		return nil, nil
	}
	o.metrics.calls.WithLabelValues("after", outcomeOf(err)).Inc()
	o.log.Debug("after-callback failed", "command", r.Command, "group", string(r.Group), "msgid", r.ID.String(), "err", err)
	if !o.cfg.Retry {
		return o.giveUp(r.key, r.Callback, "failed"), nil
	}
	return nil, new(time.Duration)
}

// happened reports whether the message that c tells of is in the log, if it tells of one: a
// store that can't write both at once may have only the record.
func (o *Outbox) happened(ctx context.Context, c *storage.Callback) (bool, error) {
	if c.Seq == 0 {
		return true, nil
	}
	g, err := storage.FindGroup(ctx, o.store, c.Group)
	if err != nil {
		return false, err
	}
	if g == nil || g.Incarnation != c.Incarnation {
		return true, nil // destroyed since, with its log
	}
	for m, err := range o.store.Range(ctx, g.Key(), c.Seq, c.Seq+1) {
		if err != nil {
			return false, err
		}
		return m.ID == c.ID, nil
	}
	head, err := o.store.Head(ctx, g.Key())
	return head.Tail >= c.Seq, err // expired since
}
