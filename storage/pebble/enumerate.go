package pebble

import (
	"context"
	"iter"
	"math/rand/v2"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

var _ storage.Enumerator = (*Store)(nil)

// Logs yields the key of every log, in the order of the ids and incarnations.
func (s *Store) Logs(ctx context.Context) iter.Seq2[group.Key, error] {
	return func(yield func(group.Key, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(group.Key{}, err)
			return
		}
		space := []byte{headSpace}
		it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: space, UpperBound: prefixEnd(space)})
		if err != nil {
			yield(group.Key{}, unavailable(err))
			return
		}
		defer it.Close()
		for valid := it.First(); valid; valid = it.Next() {
			key, _, err := cutGroup(it.Key()[1:])
			if err == nil {
				err = ctx.Err()
			}
			if !yield(key, err) || err != nil {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(group.Key{}, unavailable(err))
		}
	}
}

// Tables returns the names of the tables that have records, looking at one record of each.
func (s *Store) Tables(ctx context.Context) ([]string, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	space := []byte{recordSpace}
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: space, UpperBound: prefixEnd(space)})
	if err != nil {
		return nil, unavailable(err)
	}
	defer it.Close()
	var tables []string
	for valid := it.First(); valid; {
		key := it.Key()[1:]
		table := string(key[:max(0, slices.Index(key, 0))])
		prefix, err := recordPrefix(table)
		if err != nil {
			return nil, err
		}
		tables = append(tables, table)
		valid = it.SeekGE(prefixEnd(prefix))
	}
	if err := it.Error(); err != nil {
		return nil, unavailable(err)
	}
	return tables, nil
}

// Advance raises the end of a log.
func (s *Store) Advance(ctx context.Context, key group.Key, to storage.Head) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.changeLog(ctx, key, nil, true, func(batch *pebble.Batch, h head) (head, error) {
		if to.Tail < h.Tail || to.Epoch < h.Epoch || to.Time < h.Time {
			return h, &storage.TailError{Key: key, Want: to.Tail, Head: h.Head}
		}
		if h.generation == 0 {
			h.generation = rand.Uint64() | 1
		}
		// The next message starts a run of its own: between it and the last one may be a hole.
		if err := h.endRun(batch, key, h.Tail+1); err != nil {
			return h, err
		}
		if hourOf(to.Time) != hourOf(h.Time) { // messages of this hour may follow, and then it must be in the index
			if err := batch.Set(hourKey(hourOf(to.Time), key), indexValue(h.generation, to.Tail+1), nil); err != nil {
				return h, err
			}
		}
		h.Tail, h.Epoch, h.Time, h.First = to.Tail, to.Epoch, to.Time, max(h.First, to.First)
		return h, batch.Set(headKey(key), h.encode(), nil)
	})
}
