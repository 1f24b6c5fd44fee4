package dispatch

import (
	"context"
	"time"

	"github.com/rookery-im/rookery/storage"
)

// A record is the end of a task, or what is left of it; done is called when it is durable, or
// with false when it could not be written before the worker had to end.
type record struct {
	mut  storage.Mutation
	done func(durable bool)
}

// maxRecords bounds what is written at once.
const maxRecords = 512

// keepRecords writes records, those that have gathered during one write together in the next.
// A store that fails is asked until it works or late ends. It returns when closing is closed
// and nothing is left.
func (d *Dispatcher) keepRecords(late context.Context, closing <-chan struct{}) {
	for {
		var batch []record
		select {
		case r := <-d.records:
			batch = append(batch, r)
		case <-closing:
			select {
			case r := <-d.records:
				batch = append(batch, r)
			default:
				return
			}
		}
		for full := false; !full && len(batch) < maxRecords; {
			select {
			case r := <-d.records:
				batch = append(batch, r)
			default:
				full = true
			}
		}
		muts := make([]storage.Mutation, len(batch))
		for i, r := range batch {
			muts[i] = r.mut
		}
		durable := d.applyUntil(late, muts)
		for _, r := range batch {
			r.done(durable)
		}
	}
}

// applyUntil writes muts, again and again until it is done or ctx ends.
func (d *Dispatcher) applyUntil(ctx context.Context, muts []storage.Mutation) bool {
	pause := 50 * time.Millisecond
	for {
		err := d.store.Apply(ctx, muts...)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		d.log.Warn("push results not recorded, trying again", "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		pause = min(2*pause, 5*time.Second)
	}
}
