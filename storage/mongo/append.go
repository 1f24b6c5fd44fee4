package mongo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// Append writes b's mutations, and then its messages at the end of the group's log.
func (s *Store) Append(ctx context.Context, b *storage.Batch) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := storage.CheckBatch(b); err != nil {
		return err
	}
	w, err := newWrite(b.Key, b.Mutations)
	if err != nil {
		return err
	}
	head := headID(b.Key)
	for _, m := range b.Messages {
		raw, err := encodeMessage(head, m, b.Epoch)
		if err != nil {
			return err
		}
		w.docs = append(w.docs, raw)
		w.ids = append(w.ids, bytes.Clone(m.ID[:]))
		w.size += len(raw)
		w.count++
	}
	st, err := s.groups.lock(ctx, b.Key)
	if err != nil {
		return err
	}
	if err := s.checkPosition(ctx, st, b); err != nil {
		s.groups.unlock(b.Key, st)
		return err
	}
	if w.count == 0 {
		s.groups.unlock(b.Key, st)
		return nil
	}
	after := st.head
	if n := len(b.Messages); n > 0 {
		last := b.Messages[n-1]
		after.Tail, after.Time, after.Epoch = last.Seq, last.Time, b.Epoch
		after.First = max(after.First, 1)
	}
	w.finish = func(err error) {
		switch {
		case err == nil:
			st.head, st.known = after, time.Now()
			if len(w.docs) > 0 {
				s.heads.note(head, after)
			}
		case errors.Is(err, errNotSent) || errors.Is(err, storage.ErrExists): // the log is as it was
		default:
			st.known = time.Time{}
		}
		s.groups.unlock(b.Key, st)
	}
	return s.commit(ctx, s.committerFor(w), w, func() { s.groups.leave(st) })
}

// checkPosition refuses a batch that does not continue the log. It rests on the remembered
// head where that is fresh; that another process has written since, the insert itself shows,
// but only if there is one.
func (s *Store) checkPosition(ctx context.Context, st *groupState, b *storage.Batch) error {
	fresh := false
	for {
		if len(b.Messages) == 0 || time.Since(st.known) > maxHeadAge {
			if err := s.reload(ctx, st, b.Key); err != nil {
				return err
			}
			fresh = true
		}
		h := st.head
		switch {
		case b.Tail == h.Tail && b.Epoch >= h.Epoch:
			if len(b.Messages) > 0 && b.Messages[0].Time < h.Time {
				return fmt.Errorf("storage: group %s: SEQ %d: time %d runs back behind %d", b.Key.ID, b.Messages[0].Seq, b.Messages[0].Time, h.Time)
			}
			return nil
		case fresh:
			return &storage.TailError{Key: b.Key, Want: b.Tail, Head: h}
		}
		st.known = time.Time{} // another process may have written
	}
}

// reload reads the group's head; the caller holds its lock.
func (s *Store) reload(ctx context.Context, st *groupState, key group.Key) error {
	st.known = time.Time{}
	now := time.Now()
	h, err := s.readHead(ctx, key)
	if err != nil {
		return err
	}
	st.head, st.known = h, now
	return nil
}

// insertMessages writes the messages of ws, at most one write of a group, and finishes each.
// Groups with one message share an unordered insert. Groups with more share an ordered one,
// each group's messages in a row: it stops at the first error, so nothing of a group can be
// stored behind a hole, and the groups after the one that failed go again.
func (s *Store) insertMessages(ws []*write) {
	var singles, rows []*write
	for _, w := range ws {
		if len(w.docs) == 1 {
			singles = append(singles, w)
		} else {
			rows = append(rows, w)
		}
	}
	s.parallel(
		func() { s.insertSingles(singles) },
		func() {
			for len(rows) > 0 {
				rows = s.insertRows(rows)
			}
		})
}

func (s *Store) insertSingles(ws []*write) {
	if len(ws) == 0 {
		return
	}
	failed, err := s.insert(s.messages, documents(ws), false)
	for i, w := range ws {
		switch {
		case failed[i] != nil:
			s.refused(w, failed[i])
		default:
			w.finish(err)
		}
	}
}

// insertRows returns the writes that were not tried.
func (s *Store) insertRows(ws []*write) (rest []*write) {
	failed, err := s.insert(s.messages, documents(ws), true)
	at := 0
	for i, w := range ws {
		for range w.docs {
			if e := failed[at]; e != nil {
				s.refused(w, e)
				if err == nil {
					return ws[i+1:]
				}
				for _, w := range ws[i+1:] {
					w.finish(err)
				}
				return nil
			}
			at++
		}
		w.finish(err)
	}
	return nil
}

func documents(ws []*write) []bson.Raw {
	var docs []bson.Raw
	for _, w := range ws {
		docs = append(docs, w.docs...)
	}
	return docs
}

// insert inserts docs and returns the documents that were refused, by their index. err is for
// all others: not nil means that nobody knows what became of them.
func (s *Store) insert(c *mongo.Collection, docs []bson.Raw, ordered bool) (failed map[int]error, err error) {
	ctx, cancel := s.deadline(context.Background())
	defer cancel()
	s.metrics.documents.Observe(float64(len(docs)))
	_, err = c.InsertMany(ctx, docs, options.InsertMany().SetOrdered(ordered))
	return s.writeErrors(err)
}

// writeErrors takes the answer to a bulk write apart.
func (s *Store) writeErrors(err error) (failed map[int]error, unclear error) {
	if err == nil {
		return nil, nil
	}
	bulk, ok := errors.AsType[mongo.BulkWriteException](err)
	if !ok {
		s.metrics.unclear.Inc()
		return nil, unavailable(err)
	}
	if bulk.WriteConcernError != nil {
		s.metrics.unclear.Inc()
		unclear = unavailable(bulk.WriteConcernError)
	} else if len(bulk.WriteErrors) == 0 {
		unclear = unavailable(err)
	}
	failed = make(map[int]error, len(bulk.WriteErrors))
	for _, e := range bulk.WriteErrors {
		failed[e.Index] = e
	}
	return failed, unclear
}

// refused goes on after one of w's messages was refused.
func (s *Store) refused(w *write, err error) {
	if !mongo.IsDuplicateKeyError(err) {
		w.finish(writeRefused(err))
		return
	}
	s.metrics.duplicates.Inc()
	if positionUnchecked || s.cfg.uncheckedPosition {
		w.finish(nil)
		return
	}
	s.running.Go(func() { w.finish(s.resolve(w)) })
}

// maxResolves bounds how often a write looks at its place and goes on.
const maxResolves = 4

// resolve answers a duplicate key: somebody has written at w's place. An earlier attempt of
// our own that arrived late, which the MsgIDs tell, counts, and what is missing behind it is
// written; anything else belongs to another owner.
func (s *Store) resolve(w *write) error {
	ctx, cancel := s.deadline(context.Background())
	defer cancel()
	for range maxResolves {
		stored, ours, err := s.storedIDs(ctx, w)
		if err != nil {
			return err
		}
		if !ours {
			s.metrics.conflicts.Inc()
			h, err := s.readHead(ctx, w.key)
			if err != nil {
				return err
			}
			_, first, err := splitMessageID(w.docs[0].Lookup("_id").StringValue())
			if err != nil {
				return err
			}
			return &storage.TailError{Key: w.key, Want: first - 1, Head: h}
		}
		if stored == len(w.docs) {
			return nil
		}
		failed, err := s.insert(s.messages, w.docs[stored:], true)
		if err != nil {
			return err
		}
		if len(failed) == 0 {
			return nil
		}
		for _, e := range failed {
			if !mongo.IsDuplicateKeyError(e) {
				return unavailable(e)
			}
		}
	}
	return fmt.Errorf("%w: group %s: the log does not stand still", storage.ErrUnavailable, w.key.ID)
}

// storedIDs reports how many of w's messages are stored, from the first on, and whether all
// that is stored at their places is theirs.
func (s *Store) storedIDs(ctx context.Context, w *write) (stored int, ours bool, err error) {
	first, last := w.docs[0].Lookup("_id"), w.docs[len(w.docs)-1].Lookup("_id")
	cursor, err := s.messages.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: first}, {Key: "$lte", Value: last}}}},
		options.Find().SetSort(byID).SetProjection(bson.D{{Key: "m.id", Value: 1}}))
	if err != nil {
		return 0, false, unavailable(err)
	}
	var found []bson.Raw
	if err := cursor.All(ctx, &found); err != nil {
		return 0, false, unavailable(err)
	}
	for i, raw := range found {
		_, id, ok := raw.Lookup("m", "id").BinaryOK()
		if !ok || !bytes.Equal(id, w.ids[i]) || !raw.Lookup("_id").Equal(w.docs[i].Lookup("_id")) {
			return i, false, nil
		}
	}
	return len(found), true, nil
}

// Replace writes new versions of stored messages, after muts. What was decided when a message
// was appended, its Time and Expires, stays as it was.
func (s *Store) Replace(ctx context.Context, key group.Key, msgs []*group.Message, muts ...storage.Mutation) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	w, err := newWrite(key, muts)
	if err != nil {
		return err
	}
	head := headID(key)
	replace := step{collection: messagesName, op: opReplace}
	for _, m := range msgs {
		if m.Key() != key {
			return fmt.Errorf("storage: replace in group %s/%d: SEQ %d belongs to another group", key.ID, key.Incarnation, m.Seq)
		}
		raw, err := bson.Marshal(newContent(m))
		if err != nil {
			return err
		}
		replace.records = append(replace.records, record{messageID(head, m.Seq), raw})
		w.size += len(raw)
		w.count++
	}
	if len(replace.records) > 0 {
		w.steps = append(w.steps, replace)
	}
	if w.count == 0 {
		return nil
	}
	st, err := s.groups.lock(ctx, key)
	if err != nil {
		return err
	}
	w.finish = func(error) { s.groups.unlock(key, st) }
	return s.commit(ctx, s.changes, w, func() { s.groups.leave(st) })
}

// Drop removes a log: its messages, and then its head.
func (s *Store) Drop(ctx context.Context, key group.Key) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	st, err := s.groups.lock(ctx, key)
	if err != nil {
		return err
	}
	defer s.groups.unlock(key, st)
	st.known = time.Time{}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	return s.heads.drop(ctx, headID(key), func() error {
		if _, err := s.messages.DeleteMany(ctx, logFilter(headID(key))); err != nil {
			return unavailable(err)
		}
		_, err := s.headDocs.DeleteOne(ctx, bson.D{{Key: "_id", Value: headID(key)}})
		return unavailable(err)
	})
}
