package pebble

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// Append writes b at the end of its group's log, all or none.
func (s *Store) Append(ctx context.Context, b *storage.Batch) error {
	size := 0
	err := s.append(ctx, b, &size)
	s.stats.appended(len(b.Messages), size, err)
	return err
}

func (s *Store) append(ctx context.Context, b *storage.Batch, size *int) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := storage.CheckBatch(b); err != nil {
		return err
	}
	return s.changeLog(ctx, b.Key, b.Mutations, true, func(batch *pebble.Batch, h head) (head, error) {
		if b.Tail != h.Tail || b.Epoch < h.Epoch {
			return h, &storage.TailError{Key: b.Key, Want: b.Tail, Head: h.Head}
		}
		if len(b.Messages) > 0 && b.Messages[0].Time < h.Time {
			return h, fmt.Errorf("storage: group %s: SEQ %d: time %d runs back behind %d",
				b.Key.ID, b.Messages[0].Seq, b.Messages[0].Time, h.Time)
		}
		h, err := addMessages(batch, b, h)
		*size = batch.Len()
		return h, err
	})
}

// addMessages puts b's messages, their index entries and the new head into the batch.
func addMessages(batch *pebble.Batch, b *storage.Batch, h head) (head, error) {
	if len(b.Messages) == 0 {
		return h, nil
	}
	if h.generation == 0 {
		h.generation = rand.Uint64() | 1
	}
	prefix := messagePrefix(b.Key)
	var value []byte
	for _, m := range b.Messages {
		value = storage.EncodeMessage(value[:0], m)
		err := batch.Set(appendSeq(prefix, m.Seq), value, nil)
		if h.Tail == 0 || hourOf(m.Time) != hourOf(h.Time) {
			err = errors.Join(err, batch.Set(hourKey(hourOf(m.Time), b.Key), indexValue(h.generation, m.Seq), nil))
		}
		err = errors.Join(err, h.addToRun(batch, b.Key, m))
		if err != nil {
			return h, err
		}
		h.Tail, h.Time = m.Seq, m.Time
	}
	if h.First == 0 {
		h.First = b.Messages[0].Seq
	}
	h.Epoch = b.Epoch
	return h, batch.Set(headKey(b.Key), h.encode(), nil)
}

// addToRun starts a new run if m does not expire in the hour of the group's last one.
func (h *head) addToRun(batch *pebble.Batch, k group.Key, m *group.Message) error {
	if m.Expires == 0 {
		return h.endRun(batch, k, m.Seq)
	}
	hour := hourOf(m.Expires)
	if h.runStart != 0 && h.expiryHour == hour {
		return nil
	}
	if err := h.endRun(batch, k, m.Seq); err != nil {
		return err
	}
	h.expiryHour, h.runStart = hour, m.Seq
	return batch.Set(expiryKey(hour, k, m.Seq), indexValue(h.generation, 0), nil)
}

// endRun notes where the group's last run ends.
func (h *head) endRun(batch *pebble.Batch, k group.Key, end group.Seq) error {
	if h.runStart == 0 {
		return nil
	}
	key := expiryKey(h.expiryHour, k, h.runStart)
	h.expiryHour, h.runStart = 0, 0
	return batch.Set(key, indexValue(h.generation, end), nil)
}

// Replace writes new versions of stored messages, and muts with them. Time and Expires of a
// message stay what they were when it was appended: the indexes rest on them.
func (s *Store) Replace(ctx context.Context, key group.Key, msgs []*group.Message, muts ...storage.Mutation) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	for _, m := range msgs {
		if m.Key() != key {
			return fmt.Errorf("storage: replace in group %s/%d: SEQ %d belongs to another group", key.ID, key.Incarnation, m.Seq)
		}
	}
	return s.changeLog(ctx, key, muts, true, func(batch *pebble.Batch, h head) (head, error) {
		prefix := messagePrefix(key)
		for _, m := range msgs {
			k := appendSeq(prefix, m.Seq)
			stored, err := s.storedMessage(k)
			if err != nil {
				return h, err
			}
			if stored == nil {
				continue
			}
			if err := batch.Set(k, storage.EncodeMessage(nil, m), nil); err != nil {
				return h, err
			}
		}
		return h, nil
	})
}

// storedMessage returns the message under a key, or nil if there is none that has not expired.
func (s *Store) storedMessage(key []byte) (*group.Message, error) {
	var m *group.Message
	_, err := s.view(key, func(v []byte) (err error) {
		m, err = storage.DecodeMessage(v)
		return err
	})
	if err != nil || m == nil || expired(m) {
		return nil, err
	}
	return m, nil
}

// Drop removes a log. Its index entries lose their meaning with its generation, and Sweep
// removes them.
func (s *Store) Drop(ctx context.Context, key group.Key) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := s.space.checkFull(); err != nil {
		return err
	}
	return s.changeLog(ctx, key, nil, false, func(batch *pebble.Batch, _ head) (head, error) {
		prefix := messagePrefix(key)
		err := errors.Join(batch.DeleteRange(prefix, prefixEnd(prefix), nil), batch.Delete(headKey(key), nil))
		return head{}, err
	})
}

// changeLog runs change while nobody else writes to key's log, and makes what it puts into the
// batch durable together with muts. change returns the log's new head.
func (s *Store) changeLog(ctx context.Context, key group.Key, muts []storage.Mutation, grows bool,
	change func(*pebble.Batch, head) (head, error),
) error {
	st, err := s.groups.lock(ctx, key)
	if err != nil {
		return err
	}
	batch := s.db.NewBatch()
	h, err := s.load(key, st)
	if err == nil {
		h, err = change(batch, h)
	}
	if err == nil && grows {
		err = s.space.check(batch.Len() + mutationsSize(muts))
	}
	if err != nil || (batch.Empty() && len(muts) == 0) {
		s.groups.unlock(key, st)
		return errors.Join(err, batch.Close())
	}
	s.groups.update(key, st, func(st *groupState) { st.writing = true })
	return s.commit(ctx, &write{
		batch: batch,
		muts:  cloneMutations(muts),
		log:   &key,
		finished: func(err error) {
			s.groups.update(key, st, func(st *groupState) {
				if s.failed.Load() != nil {
					return // what is durable now, only the next process can tell
				}
				st.writing, st.unclear = false, false
				if err == nil {
					st.head = h
				}
			})
			s.groups.unlock(key, st)
		},
		abandoned: func() {
			s.groups.update(key, st, func(st *groupState) { st.unclear = st.writing })
		},
	})
}

// load returns the durable head of a log whose lock the caller holds.
func (s *Store) load(key group.Key, st *groupState) (head, error) {
	if h, ok := s.groups.durableHead(key); ok {
		return h, nil
	}
	h, err := s.readHead(key)
	if err != nil {
		return head{}, err
	}
	s.groups.update(key, st, func(st *groupState) { st.known, st.head = true, h })
	return h, nil
}

// readHead returns the head as the database has it, the zero head for no log.
func (s *Store) readHead(key group.Key) (head, error) {
	var h head
	_, err := s.view(headKey(key), func(v []byte) (err error) {
		h, err = decodeHead(v)
		return err
	})
	return h, err
}

// cloneMutations copies what the caller gets back when the call returns, which may be before
// the write has gone through.
func cloneMutations(muts []storage.Mutation) []storage.Mutation {
	muts = slices.Clone(muts)
	for i := range muts {
		muts[i].Value = slices.Clone(muts[i].Value)
	}
	return muts
}
