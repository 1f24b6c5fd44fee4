package storagetest

import (
	"cmp"
	"context"
	"iter"
	"sync/atomic"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// Faulty is a store whose call number FailAt (counted from 0, whatever the method; Health and
// Close don't count) fails. A loop over FailAt ends when Fired says that no call was left to fail.
type Faulty struct {
	storage.Store
	FailAt int64
	// After says that the failing call takes effect before it fails, like an answer that got lost.
	After bool
	// Err is the error; nil means storage.ErrUnavailable.
	Err error

	calls atomic.Int64
	fired atomic.Bool
}

// Fired reports whether the failing call was made.
func (f *Faulty) Fired() bool { return f.fired.Load() }

// Calls returns how many calls were made.
func (f *Faulty) Calls() int64 { return f.calls.Load() }

// fault returns the error of this call, if it is the one.
func (f *Faulty) fault() error {
	if f.calls.Add(1)-1 != f.FailAt {
		return nil
	}
	f.fired.Store(true)
	return cmp.Or(f.Err, storage.ErrUnavailable)
}

// try makes a call of the store, unless it is the one to fail.
func try[T any](f *Faulty, call func() (T, error)) (T, error) {
	var zero T
	if err := f.fault(); err != nil {
		if f.After {
			_, _ = call()
		}
		return zero, err
	}
	return call()
}

func (f *Faulty) do(call func() error) error {
	_, err := try(f, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// rows is try for what yields rows; After yields them all before the error.
func rows[T any](f *Faulty, all iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := f.fault()
		if err == nil || f.After {
			for row, err := range all {
				if !yield(row, err) || err != nil {
					return
				}
			}
		}
		if err != nil {
			var zero T
			yield(zero, err)
		}
	}
}

// Append implements storage.MessageLog.
func (f *Faulty) Append(ctx context.Context, b *storage.Batch) error {
	return f.do(func() error { return f.Store.Append(ctx, b) })
}

// Head implements storage.MessageLog.
func (f *Faulty) Head(ctx context.Context, key group.Key) (storage.Head, error) {
	return try(f, func() (storage.Head, error) { return f.Store.Head(ctx, key) })
}

// Heads implements storage.MessageLog.
func (f *Faulty) Heads(ctx context.Context, keys []group.Key) ([]storage.Head, error) {
	return try(f, func() ([]storage.Head, error) { return f.Store.Heads(ctx, keys) })
}

// Range implements storage.MessageLog.
func (f *Faulty) Range(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return rows(f, f.Store.Range(ctx, key, from, to))
}

// RangeDown implements storage.MessageLog.
func (f *Faulty) RangeDown(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return rows(f, f.Store.RangeDown(ctx, key, from, to))
}

// Ends implements storage.MessageLog.
func (f *Faulty) Ends(ctx context.Context, keys []group.Key) ([]storage.End, error) {
	return try(f, func() ([]storage.End, error) { return f.Store.Ends(ctx, keys) })
}

// Latest implements storage.MessageLog.
func (f *Faulty) Latest(ctx context.Context, ends []storage.End, depth int, keep func(*group.Message) bool) ([]*group.Message, error) {
	return try(f, func() ([]*group.Message, error) { return f.Store.Latest(ctx, ends, depth, keep) })
}

// Replace implements storage.MessageLog.
func (f *Faulty) Replace(ctx context.Context, key group.Key, msgs []*group.Message, muts ...storage.Mutation) error {
	return f.do(func() error { return f.Store.Replace(ctx, key, msgs, muts...) })
}

// Hour implements storage.MessageLog.
func (f *Faulty) Hour(ctx context.Context, from int64) iter.Seq2[*group.Message, error] {
	return rows(f, f.Store.Hour(ctx, from))
}

// Drop implements storage.MessageLog.
func (f *Faulty) Drop(ctx context.Context, key group.Key) error {
	return f.do(func() error { return f.Store.Drop(ctx, key) })
}

// Sweep implements storage.MessageLog.
func (f *Faulty) Sweep(ctx context.Context, now int64) (bool, error) {
	return try(f, func() (bool, error) { return f.Store.Sweep(ctx, now) })
}

// Get implements storage.Records.
func (f *Faulty) Get(ctx context.Context, table, key string) ([]byte, error) {
	return try(f, func() ([]byte, error) { return f.Store.Get(ctx, table, key) })
}

// GetMany implements storage.Records.
func (f *Faulty) GetMany(ctx context.Context, table string, keys []string) ([][]byte, error) {
	return try(f, func() ([][]byte, error) { return f.Store.GetMany(ctx, table, keys) })
}

// GetAll implements storage.Records.
func (f *Faulty) GetAll(ctx context.Context, refs []storage.Ref) ([][]byte, error) {
	return try(f, func() ([][]byte, error) { return f.Store.GetAll(ctx, refs) })
}

// Scan implements storage.Records.
func (f *Faulty) Scan(ctx context.Context, table string, span storage.Span) iter.Seq2[storage.Record, error] {
	return rows(f, f.Store.Scan(ctx, table, span))
}

// Apply implements storage.Records.
func (f *Faulty) Apply(ctx context.Context, muts ...storage.Mutation) error {
	return f.do(func() error { return f.Store.Apply(ctx, muts...) })
}
