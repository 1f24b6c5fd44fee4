package pebble

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-im/rookery/storage"
)

const stripeCount = 256

// stripes make an Insert's look and write one step. They are held while a batch is checked
// and handed to the log, never across an fsync.
type stripes struct {
	seed maphash.Seed
	mu   [stripeCount]sync.RWMutex
}

// lock locks the stripes of the records that muts insert, alone, and those of the ones that they
// put, together with others who put: all that must not come between an Insert's look and its
// write. A Delete needs none: whatever an Insert saw, there is an order of the two that explains
// it. Stripes are locked in ascending order.
func (s *stripes) lock(muts []storage.Mutation) (unlock func()) {
	type hold struct {
		stripe int
		alone  bool
	}
	var held []hold
	for _, m := range muts {
		if m.Op == storage.Insert || m.Op == storage.Put {
			stripe := int(maphash.Comparable(s.seed, [2]string{m.Table, m.Key}) % stripeCount)
			held = append(held, hold{stripe, m.Op == storage.Insert})
		}
	}
	slices.SortFunc(held, func(a, b hold) int {
		if a.stripe == b.stripe && a.alone != b.alone { // the first of a stripe stays
			if a.alone {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.stripe, b.stripe)
	})
	held = slices.CompactFunc(held, func(a, b hold) bool { return a.stripe == b.stripe })
	for _, h := range held {
		if h.alone {
			s.mu[h.stripe].Lock()
		} else {
			s.mu[h.stripe].RLock()
		}
	}
	return func() {
		for _, h := range held {
			if h.alone {
				s.mu[h.stripe].Unlock()
			} else {
				s.mu[h.stripe].RUnlock()
			}
		}
	}
}

// Get returns the record's value, or ErrNotFound.
func (s *Store) Get(ctx context.Context, table, key string) ([]byte, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	k, err := recordKey(table, key)
	if err != nil {
		return nil, err
	}
	var value []byte
	found, err := s.view(k, func(v []byte) error {
		value = owned(v)
		return nil
	})
	if err == nil && !found {
		err = storage.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("table %s: record %q: %w", table, key, err)
	}
	return value, nil
}

// GetMany returns the values of keys in their order, nil where there is none. All are of one moment.
func (s *Store) GetMany(ctx context.Context, table string, keys []string) ([][]byte, error) {
	refs := make([]storage.Ref, len(keys))
	for i, key := range keys {
		refs[i] = storage.Ref{Table: table, Key: key}
	}
	return s.GetAll(ctx, refs)
}

// GetAll is GetMany for records of several tables. One iterator goes through them in the order
// of their keys: neighbours share its blocks.
func (s *Store) GetAll(ctx context.Context, refs []storage.Ref) (_ [][]byte, err error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	type place struct {
		key []byte
		at  int
	}
	places := make([]place, len(refs))
	for i, r := range refs {
		k, err := recordKey(r.Table, r.Key)
		if err != nil {
			return nil, fmt.Errorf("table %s: record %q: %w", r.Table, r.Key, err)
		}
		places[i] = place{k, i}
	}
	slices.SortFunc(places, func(a, b place) int { return bytes.Compare(a.key, b.key) })
	it, err := s.db.NewIterWithContext(ctx, nil)
	if err != nil {
		return nil, unavailable(err)
	}
	defer func() {
		if e := it.Close(); e != nil && err == nil {
			err = unavailable(e)
		}
	}()
	values := make([][]byte, len(refs))
	for _, p := range places {
		// The prefix is the whole key, which is what the Bloom filters know.
		if it.SeekPrefixGE(p.key) && bytes.Equal(it.Key(), p.key) {
			v, err := it.ValueAndErr()
			if err != nil {
				return nil, unavailable(err)
			}
			values[p.at] = owned(v)
		}
		if err := it.Error(); err != nil {
			return nil, unavailable(err)
		}
	}
	return values, nil
}

// Scan yields the records of a span.
func (s *Store) Scan(ctx context.Context, table string, span storage.Span) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(storage.Record{}, err)
			return
		}
		prefix, err := recordPrefix(table)
		if err != nil {
			yield(storage.Record{}, err)
			return
		}
		skip := len(prefix)
		bounds := spanBounds(prefix, span)
		if bounds == nil {
			return
		}
		it, err := s.db.NewIterWithContext(ctx, bounds)
		if err != nil {
			yield(storage.Record{}, unavailable(err))
			return
		}
		defer it.Close()
		n := 0
		for valid := first(it, span.Reverse); valid; valid = next(it, span.Reverse) {
			if err := ctx.Err(); err != nil {
				yield(storage.Record{}, err)
				return
			}
			value, err := it.ValueAndErr()
			if err != nil {
				yield(storage.Record{}, unavailable(err))
				return
			}
			if !yield(storage.Record{Key: string(it.Key()[skip:]), Value: owned(value)}, nil) {
				return
			}
			if n++; n == span.Limit {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(storage.Record{}, unavailable(err))
		}
	}
}

// spanBounds returns the keys of a span, or nil if it is empty.
func spanBounds(prefix []byte, span storage.Span) *pebble.IterOptions {
	lower := append(slices.Clone(prefix), span.Prefix...)
	upper := prefixEnd(lower)
	if span.After != "" {
		after := append(slices.Clone(prefix), span.After...)
		if span.Reverse {
			if slices.Compare(after, upper) < 0 {
				upper = after
			}
		} else if after = append(after, 0); slices.Compare(after, lower) > 0 {
			lower = after
		}
	}
	if slices.Compare(lower, upper) >= 0 {
		return nil
	}
	return &pebble.IterOptions{LowerBound: lower, UpperBound: upper}
}

// Apply applies all of muts, in order, or none.
func (s *Store) Apply(ctx context.Context, muts ...storage.Mutation) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if len(muts) == 0 {
		return nil
	}
	if err := s.space.check(mutationsSize(muts)); err != nil {
		return err
	}
	return s.commit(ctx, &write{batch: s.db.NewBatch(), muts: cloneMutations(muts)})
}

// addMutations puts muts into the batch. The caller holds their stripes.
func (s *Store) addMutations(b *pebble.Batch, muts []storage.Mutation) error {
	// What this batch itself did to a record counts for a later Insert of it.
	var mine map[string]bool
	note := func(k []byte, there bool) {
		if mine == nil {
			mine = make(map[string]bool)
		}
		mine[string(k)] = there
	}
	inserts := slices.ContainsFunc(muts, func(m storage.Mutation) bool { return m.Op == storage.Insert })
	for i, m := range muts {
		k, err := recordKey(m.Table, m.Key)
		if err != nil {
			return err
		}
		switch m.Op {
		case storage.Put:
			err = b.Set(k, m.Value, nil)
		case storage.Insert:
			there, known := mine[string(k)]
			if !known {
				if there, err = s.exists(k, muts[:i]); err != nil {
					return err
				}
			}
			if there {
				return fmt.Errorf("table %s: record %q: %w", m.Table, m.Key, storage.ErrExists)
			}
			err = b.Set(k, m.Value, nil)
		case storage.Delete:
			err = b.Delete(k, nil)
		case storage.DeletePrefix:
			err = b.DeleteRange(k, prefixEnd(k), nil)
			for key := range mine {
				if len(key) >= len(k) && key[:len(k)] == string(k) {
					mine[key] = false
				}
			}
		default:
			err = fmt.Errorf("storage: unknown operation %d", m.Op)
		}
		if err != nil {
			return err
		}
		if inserts && m.Op != storage.DeletePrefix {
			note(k, m.Op != storage.Delete)
		}
	}
	return nil
}

// exists reports whether the record is stored, seen after the deletions in before.
func (s *Store) exists(key []byte, before []storage.Mutation) (bool, error) {
	for _, m := range before {
		if m.Op != storage.DeletePrefix {
			continue
		}
		k, err := recordKey(m.Table, m.Key)
		if err != nil {
			return false, err
		}
		if len(key) >= len(k) && string(key[:len(k)]) == string(k) {
			return false, nil
		}
	}
	return s.view(key, func([]byte) error { return nil })
}

// view shows a key's value to look, which may not keep it, and reports whether there is one.
func (s *Store) view(key []byte, look func(value []byte) error) (found bool, err error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, unavailable(err)
	}
	return true, errors.Join(look(v), closer.Close())
}

// owned copies v; the copy of an empty value is not nil, which would mean "no record".
func owned(v []byte) []byte { return append(make([]byte, 0, len(v)), v...) }

func unavailable(err error) error { return fmt.Errorf("%w: %w", storage.ErrUnavailable, err) }

func mutationsSize(muts []storage.Mutation) int {
	n := 0
	for _, m := range muts {
		n += len(m.Table) + len(m.Key) + len(m.Value)
	}
	return n
}

func first(it *pebble.Iterator, reverse bool) bool {
	if reverse {
		return it.Last()
	}
	return it.First()
}

func next(it *pebble.Iterator, reverse bool) bool {
	if reverse {
		return it.Prev()
	}
	return it.Next()
}
