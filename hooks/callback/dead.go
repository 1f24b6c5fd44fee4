package callback

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rookery-im/rookery/storage"
)

// An Item is an after-callback that waits to be sent, or was given up.
type Item struct {
	Number  string    `json:"Number"` // names it in Retry and Drop, if it is dead
	Queue   string    `json:"Queue"`
	Command string    `json:"CallbackCommand"`
	At      time.Time `json:"At"`
	Why     string    `json:"Why,omitempty"` // empty: it waits
}

// Waiting lists what waits to be sent, limit items at most, by queue.
func Waiting(ctx context.Context, r storage.Records, limit int) (items []Item, err error) {
	for row, err := range storage.Callbacks.Scan(ctx, r, storage.Span{Limit: limit}) {
		if err != nil {
			return nil, err
		}
		queue, n, err := splitNumber(row.Key)
		if err != nil {
			return nil, err
		}
		items = append(items, Item{Number: storage.Num(n), Queue: queue, Command: row.Value.Command, At: time.UnixMilli(row.Value.Time)})
	}
	return items, nil
}

// Dead lists what was given up, limit items at most, oldest first.
func Dead(ctx context.Context, r storage.Records, limit int) (items []Item, err error) {
	for row, err := range storage.DeadCallbacks.Scan(ctx, r, storage.Span{Limit: limit}) {
		if err != nil {
			return nil, err
		}
		queue, _, err := splitNumber(row.Value.Key)
		if err != nil {
			return nil, err
		}
		items = append(items, Item{Number: row.Key, Queue: queue, Command: row.Value.Command, At: time.UnixMilli(row.Value.Time), Why: row.Value.Why})
	}
	return items, nil
}

// Retry puts the dead callback of that number back into its queue, at its old place, as if it
// had happened now. The store must have no running Outbox: ask that one's Retry.
func Retry(ctx context.Context, r storage.Records, number string) error {
	_, _, err := retry(ctx, r, number)
	return err
}

func retry(ctx context.Context, r storage.Records, number string) (queue string, size int64, err error) {
	c, err := findDead(ctx, r, number)
	if err != nil {
		return "", 0, err
	}
	key := c.Key
	if queue, _, err = splitNumber(key); err != nil {
		return "", 0, err
	}
	c.Key, c.Why, c.Time = "", "", time.Now().UnixMilli()
	put := storage.Callbacks.Put(key, c)
	return queue, int64(len(put.Value)), r.Apply(ctx, put, storage.DeadCallbacks.Delete(number))
}

// Drop forgets the dead callback of that number.
func Drop(ctx context.Context, r storage.Records, number string) error {
	if _, err := findDead(ctx, r, number); err != nil {
		return err
	}
	return r.Apply(ctx, storage.DeadCallbacks.Delete(number))
}

// ErrNotDead is the error for a number that no dead callback has.
var ErrNotDead = errors.New("no dead callback has")

func findDead(ctx context.Context, r storage.Records, number string) (*storage.Callback, error) {
	c, err := storage.DeadCallbacks.Get(ctx, r, number)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("%w the number %.40q", ErrNotDead, number)
	}
	return c, err
}

// Waiting is the function of that name for the outbox's store.
func (o *Outbox) Waiting(ctx context.Context, limit int) ([]Item, error) {
	return Waiting(ctx, o.store, limit)
}

// Dead is the function of that name for the outbox's store.
func (o *Outbox) Dead(ctx context.Context, limit int) ([]Item, error) {
	return Dead(ctx, o.store, limit)
}

// Retry sends a dead callback again.
func (o *Outbox) Retry(ctx context.Context, number string) error {
	queue, size, err := retry(ctx, o.store, number)
	if err != nil {
		return err
	}
	o.metrics.dead.Set(float64(o.dead.Add(-1)))
	o.expect(queue, size)
	o.written(queue)
	return nil
}

// Drop forgets a dead callback.
func (o *Outbox) Drop(ctx context.Context, number string) error {
	if err := Drop(ctx, o.store, number); err != nil {
		return err
	}
	o.metrics.dead.Set(float64(o.dead.Add(-1)))
	return nil
}
