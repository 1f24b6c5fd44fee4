package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-im/rookery/group"
)

const (
	// maxSweptRuns bounds what one Sweep removes: each run is one range deletion, however many
	// messages it has.
	maxSweptRuns = 512
	// maxSweptHours bounds the old entries of the hour index that one Sweep looks at.
	maxSweptHours = 2048
)

// sweeper keeps sweeps apart from each other, and where the last one stopped.
type sweeper struct {
	mu     sync.Mutex
	cursor []byte // in the hour index; nil: from the start
}

// Sweep removes the runs whose hour of expiry is over at now, and entries of the hour index
// that have no message left. Groups that are being written to are left for a later call.
func (s *Store) Sweep(ctx context.Context, now int64) (more bool, err error) {
	if err := s.ready(ctx); err != nil {
		return false, err
	}
	if err := s.space.checkFull(); err != nil {
		return false, err
	}
	s.sweeper.mu.Lock()
	defer s.sweeper.mu.Unlock()
	more, err = s.sweepRuns(ctx, now)
	if err != nil {
		return false, err
	}
	return more, s.sweepHours(ctx, now)
}

// A run is a stretch of messages of one group that expire in the same hour.
type run struct {
	entry      []byte // its key
	key        group.Key
	generation uint64
	start, end group.Seq // end 0: it is the group's last
}

func (s *Store) sweepRuns(ctx context.Context, now int64) (more bool, err error) {
	runs, err := s.expiredRuns(ctx, now)
	if err != nil || len(runs) == 0 {
		return false, err
	}
	more = len(runs) == maxSweptRuns
	batch := s.db.NewBatch()
	held := make(map[group.Key]*groupState)
	heads := make(map[group.Key]head)
	unlock := func() {
		for key, st := range held {
			s.groups.unlock(key, st)
		}
	}
	for _, r := range runs {
		if held[r.key] == nil {
			st, ok := s.groups.tryLock(r.key)
			if !ok {
				continue
			}
			held[r.key] = st
			if heads[r.key], err = s.load(r.key, st); err != nil {
				break
			}
		}
		h := heads[r.key]
		if err = sweepRun(batch, r, &h); err != nil {
			break
		}
		heads[r.key] = h
	}
	if err != nil || batch.Empty() {
		unlock()
		return more && err == nil, errors.Join(err, batch.Close())
	}
	return more, s.commit(ctx, &write{batch: batch, finished: func(err error) {
		for key, st := range held {
			s.groups.update(key, st, func(st *groupState) {
				if err == nil {
					st.head = heads[key]
				}
			})
		}
		unlock()
	}})
}

// expiredRuns returns the oldest runs whose hour is over at now.
func (s *Store) expiredRuns(ctx context.Context, now int64) ([]run, error) {
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{
		LowerBound: []byte{expirySpace},
		UpperBound: binary.BigEndian.AppendUint64([]byte{expirySpace}, hourOf(now)),
	})
	if err != nil {
		return nil, unavailable(err)
	}
	defer it.Close()
	var runs []run
	for valid := it.First(); valid && len(runs) < maxSweptRuns; valid = it.Next() {
		r, err := parseRun(it)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	if err := it.Error(); err != nil {
		return nil, unavailable(err)
	}
	return runs, nil
}

func parseRun(it *pebble.Iterator) (r run, err error) {
	r.entry = owned(it.Key())
	_, rest, err := cutHour(r.entry)
	if err != nil {
		return r, err
	}
	r.key, rest, err = cutGroup(rest)
	if err != nil {
		return r, err
	}
	if len(rest) == 8 {
		r.start = group.Seq(binary.BigEndian.Uint64(rest))
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return r, unavailable(err)
	}
	r.generation, r.end, err = parseIndexValue(v)
	return r, err
}

// sweepRun puts a run's removal into the batch and moves its group's head on.
func sweepRun(batch *pebble.Batch, r run, h *head) error {
	if err := batch.Delete(r.entry, nil); err != nil {
		return err
	}
	if r.generation != h.generation {
		return nil // of a log that was dropped
	}
	end := r.end
	if end == 0 {
		end = h.Tail + 1
	}
	lower, upper := messageBounds(r.key, r.start, end)
	if err := batch.DeleteRange(lower, upper, nil); err != nil {
		return err
	}
	if r.start == h.runStart {
		h.expiryHour, h.runStart = 0, 0 // the next message starts a run of its own
	}
	if r.start <= h.First {
		h.First = max(h.First, end)
	}
	return batch.Set(headKey(r.key), h.encode(), nil)
}

// sweepHours looks at the next stretch of old hours and removes the entries that lead to no message.
func (s *Store) sweepHours(ctx context.Context, now int64) error {
	lower := []byte{hourSpace}
	if s.sweeper.cursor != nil {
		lower = s.sweeper.cursor
	}
	upper := binary.BigEndian.AppendUint64([]byte{hourSpace}, hourOf(now))
	if string(lower) >= string(upper) {
		s.sweeper.cursor = nil
		return nil
	}
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return unavailable(err)
	}
	defer it.Close()
	batch := s.db.NewBatch()
	s.sweeper.cursor = nil // wraps around, unless there is more than one call may look at
	looked := 0
	for valid := it.First(); valid; valid = it.Next() {
		if looked++; looked > maxSweptHours {
			s.sweeper.cursor = owned(it.Key())
			break
		}
		empty, err := s.hourIsEmpty(ctx, it)
		if err == nil && empty {
			err = batch.Delete(it.Key(), nil)
		}
		if err != nil {
			return errors.Join(err, batch.Close())
		}
	}
	if err := it.Error(); err != nil {
		return errors.Join(unavailable(err), batch.Close())
	}
	if batch.Empty() {
		return batch.Close()
	}
	return s.commit(ctx, &write{batch: batch})
}

// hourIsEmpty reports whether nothing is left of the hour whose entry the iterator is at.
func (s *Store) hourIsEmpty(ctx context.Context, it *pebble.Iterator) (bool, error) {
	hour, _, err := cutHour(it.Key())
	if err != nil {
		return false, err
	}
	e, err := parseHourEntry(it)
	if err != nil {
		return false, err
	}
	h, err := s.readHead(e.key)
	if err != nil || h.generation != e.generation {
		return err == nil, err
	}
	if hour == hourOf(h.Time) {
		return false, nil // the next message may be of that hour, and would not enter it again
	}
	for m, err := range s.Range(ctx, e.key, max(e.start, h.First), math.MaxInt64) {
		return err == nil && hourOf(m.Time) > hour, err
	}
	return true, nil
}
