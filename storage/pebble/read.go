package pebble

import (
	"context"
	"encoding/binary"
	"iter"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

func expired(m *group.Message) bool { return m.Expires != 0 && m.Expires <= time.Now().Unix() }

// Head returns the end of the group's log. While an append is on its way that is the end before it;
// after one whose outcome is unknown, Head waits for the outcome.
func (s *Store) Head(ctx context.Context, key group.Key) (storage.Head, error) {
	if err := s.ready(ctx); err != nil {
		return storage.Head{}, err
	}
	if h, ok := s.groups.durableHead(key); ok {
		return h.Head, nil
	}
	st, err := s.groups.lock(ctx, key)
	if err != nil {
		return storage.Head{}, err
	}
	defer s.groups.unlock(key, st)
	h, err := s.load(key, st)
	return h.Head, err
}

// Heads returns the heads of many groups, in the order of keys.
func (s *Store) Heads(ctx context.Context, keys []group.Key) ([]storage.Head, error) {
	heads := make([]storage.Head, len(keys))
	for i, key := range keys {
		h, err := s.Head(ctx, key)
		if err != nil {
			return nil, err
		}
		heads[i] = h
	}
	return heads, nil
}

// Range yields the messages with from <= SEQ < to that have not expired, ascending.
func (s *Store) Range(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return s.messages(ctx, key, from, to, false)
}

// RangeDown is Range in descending order.
func (s *Store) RangeDown(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return s.messages(ctx, key, from, to, true)
}

func (s *Store) messages(ctx context.Context, key group.Key, from, to group.Seq, reverse bool) iter.Seq2[*group.Message, error] {
	return func(yield func(*group.Message, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(nil, err)
			return
		}
		if from >= to {
			return
		}
		lower, upper := messageBounds(key, from, to)
		it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			yield(nil, unavailable(err))
			return
		}
		defer it.Close()
		// Asked after the iterator was made: a batch that it shows is either durable by now or still
		// on its way, and then its messages are left out.
		if durable := s.groups.visible(key, to); durable < to {
			if from >= durable {
				return
			}
			lower, upper = messageBounds(key, from, durable)
			it.SetBounds(lower, upper)
		}
		for valid := first(it, reverse); valid; valid = next(it, reverse) {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			m, err := decode(it)
			if err != nil {
				yield(nil, err)
				return
			}
			if !expired(m) && !yield(m, nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(nil, unavailable(err))
		}
	}
}

func decode(it *pebble.Iterator) (*group.Message, error) {
	v, err := it.ValueAndErr()
	if err != nil {
		return nil, unavailable(err)
	}
	return storage.DecodeMessage(v)
}

// Ends returns the heads of many groups with the messages at their tails.
func (s *Store) Ends(ctx context.Context, keys []group.Key) ([]storage.End, error) {
	ends := make([]storage.End, len(keys))
	for i, key := range keys {
		h, err := s.Head(ctx, key)
		if err != nil {
			return nil, err
		}
		ends[i] = storage.End{Key: key, Head: h}
		if ends[i].Last, err = s.lastMessage(ctx, key, h.Tail); err != nil {
			return nil, err
		}
	}
	return ends, nil
}

// Latest returns the newest message of each log that keep accepts, among its newest depth.
func (s *Store) Latest(ctx context.Context, ends []storage.End, depth int, keep func(*group.Message) bool) ([]*group.Message, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	latest := make([]*group.Message, len(ends))
	for i, end := range ends {
		if m := end.Last; m != nil && depth > 0 && !expired(m) && (keep == nil || keep(m)) {
			latest[i] = m
			continue
		}
		h := end.Head
		from := max(h.First, h.Tail-group.Seq(depth)+1, 1)
		for m, err := range s.RangeDown(ctx, end.Key, from, h.Tail) {
			if err != nil {
				return nil, err
			}
			if keep == nil || keep(m) {
				latest[i] = m
				break
			}
		}
	}
	return latest, nil
}

// Hour yields all messages whose Time is in [from, from+3600), grouped by group.
func (s *Store) Hour(ctx context.Context, from int64) iter.Seq2[*group.Message, error] {
	return func(yield func(*group.Message, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(nil, err)
			return
		}
		// A span that does not start with an hour touches two.
		first, last := hourOf(from), hourOf(from+secondsPerHour-1)
		for hour := first; hour <= last; hour++ {
			if !s.hour(ctx, hour, first, from, yield) {
				return
			}
		}
	}
}

// hour yields the messages of [from, from+3600) in the groups that have an entry for hour and, if
// that is the second one, none for first. It reports whether to go on.
func (s *Store) hour(ctx context.Context, hour, first uint64, from int64, yield func(*group.Message, error) bool) bool {
	for e, err := range s.hourEntries(ctx, hour) {
		if err == nil && hour != first {
			var before bool
			if before, err = s.hasHour(first, e.key, e.generation); before {
				continue // was done with the first hour
			}
		}
		if err != nil {
			yield(nil, err)
			return false
		}
		for m, err := range s.Range(ctx, e.key, e.start, math.MaxInt64) {
			if err != nil {
				yield(nil, err)
				return false
			}
			if m.Time >= from+secondsPerHour {
				break
			}
			if m.Time >= from && !yield(m, nil) {
				return false
			}
		}
	}
	return true
}

// An hourEntry says where a group's messages of one hour begin.
type hourEntry struct {
	key        group.Key
	generation uint64
	start      group.Seq
}

// hourEntries yields the entries of one hour that belong to logs that still exist.
func (s *Store) hourEntries(ctx context.Context, hour uint64) iter.Seq2[hourEntry, error] {
	return func(yield func(hourEntry, error) bool) {
		lower := binary.BigEndian.AppendUint64([]byte{hourSpace}, hour)
		it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: prefixEnd(lower)})
		if err != nil {
			yield(hourEntry{}, unavailable(err))
			return
		}
		defer it.Close()
		for valid := it.First(); valid; valid = it.Next() {
			e, err := parseHourEntry(it)
			var h head
			if err == nil {
				h, err = s.readHead(e.key)
			}
			if err == nil && h.generation != e.generation {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(hourEntry{}, unavailable(err))
		}
	}
}

func parseHourEntry(it *pebble.Iterator) (e hourEntry, err error) {
	_, rest, err := cutHour(it.Key())
	if err != nil {
		return e, err
	}
	if e.key, _, err = cutGroup(rest); err != nil {
		return e, err
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return e, unavailable(err)
	}
	e.generation, e.start, err = parseIndexValue(v)
	return e, err
}

func (s *Store) hasHour(hour uint64, key group.Key, generation uint64) (bool, error) {
	var g uint64
	found, err := s.view(hourKey(hour, key), func(v []byte) (err error) {
		g, _, err = parseIndexValue(v)
		return err
	})
	return found && g == generation, err
}
