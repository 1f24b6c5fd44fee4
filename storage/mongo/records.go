package mongo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// opReplace is the step by which Replace changes the content of messages.
const opReplace storage.Op = 255

// A step is a run of mutations of one kind in one collection. A write's steps are taken one
// after another, so that a crash leaves a prefix of its mutations; steps of different writes
// share round trips.
type step struct {
	collection string
	op         storage.Op
	records    []record
}

type record struct {
	id    string
	value []byte
}

// A recordDoc is a record as it is stored.
type recordDoc struct {
	ID    string `bson:"_id"`
	Value []byte `bson:"v"`
}

// newWrite returns a write of muts, whose values it copies.
func newWrite(key group.Key, muts []storage.Mutation) (*write, error) {
	w := &write{key: key, count: len(muts)}
	for _, m := range muts {
		p, err := placeOf(m.Table)
		if err != nil {
			return nil, err
		}
		id, err := p.id(m.Key)
		if err != nil {
			return nil, err
		}
		if m.Op > storage.DeletePrefix {
			return nil, fmt.Errorf("storage: unknown operation %d", m.Op)
		}
		if len(m.Value) > maxDocument-len(m.Key) {
			return nil, fmt.Errorf("storage: table %s: a value of %d bytes is more than a document holds", m.Table, len(m.Value))
		}
		w.size += len(id) + len(m.Value)
		if n := len(w.steps); n == 0 || w.steps[n-1].collection != p.collection || w.steps[n-1].op != m.Op {
			w.steps = append(w.steps, step{collection: p.collection, op: m.Op})
		}
		last := &w.steps[len(w.steps)-1]
		last.records = append(last.records, record{id, append([]byte{}, m.Value...)})
	}
	return w, nil
}

// committerFor keeps what takes many round trips away from the messages, which take one or two.
func (s *Store) committerFor(w *write) *committer {
	if len(w.docs) > 0 && len(w.steps) <= 1 {
		return s.appends
	}
	return s.changes
}

// send takes a gathered batch through its steps, all writes together, and then inserts the
// messages of those that got so far.
func (s *Store) send(batch []*write) {
	var withMessages []*write
	for waiting := batch; len(waiting) > 0; {
		var more []*write
		var calls []func()
		for key, ws := range s.nextSteps(waiting) {
			calls = append(calls, func() { s.takeStep(key.collection, key.op, ws) })
		}
		s.parallel(calls...)
		for _, w := range waiting {
			switch {
			case w.next < 0: // it failed, and is finished
			case w.next < len(w.steps):
				more = append(more, w)
			case len(w.docs) > 0:
				withMessages = append(withMessages, w)
			default:
				w.finish(nil)
			}
		}
		waiting = more
	}
	s.insertMessages(withMessages)
}

type stepKind struct {
	collection string
	op         storage.Op
}

// nextSteps groups writes by what their next step does, and where.
func (s *Store) nextSteps(ws []*write) map[stepKind][]*write {
	kinds := make(map[stepKind][]*write)
	for _, w := range ws {
		if w.next < len(w.steps) {
			k := stepKind{w.steps[w.next].collection, w.steps[w.next].op}
			kinds[k] = append(kinds[k], w)
		}
	}
	return kinds
}

// takeStep takes the next step of each of ws, which are of one kind, and moves it on or
// finishes it with an error.
func (s *Store) takeStep(collection string, op storage.Op, ws []*write) {
	c := s.db.Collection(collection)
	if op == storage.Insert {
		s.takeInserts(c, ws)
		return
	}
	err := s.change(c, ws)
	_, refused := errors.AsType[mongo.BulkWriteException](err)
	for _, w := range ws {
		if refused && len(ws) > 1 {
			// All of these can be done twice. Each alone shows whose trouble it was.
			w.end(s.change(c, []*write{w}))
		} else {
			w.end(err)
		}
	}
}

// end moves w on after a step, or finishes it with the step's error.
func (w *write) end(err error) {
	if err == nil {
		w.next++
		return
	}
	w.next = -1
	w.finish(err)
}

// maxUpdates bounds the updates of one command.
const maxUpdates = 1000

// change sends the next step of ws, in order.
func (s *Store) change(c *mongo.Collection, ws []*write) error {
	var models []mongo.WriteModel
	for _, w := range ws {
		st := w.steps[w.next]
		for _, r := range st.records {
			models = append(models, s.model(st.op, r))
		}
	}
	for some := range slices.Chunk(models, maxUpdates) {
		if err := s.bulkWrite(c, some); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

func (s *Store) bulkWrite(c *mongo.Collection, models []mongo.WriteModel) error {
	ctx, cancel := s.deadline(context.Background())
	defer cancel()
	_, err := c.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(true))
	for range maxResolves {
		if !mongo.IsDuplicateKeyError(err) {
			break
		}
		// Two upserts of one key met. The record is there now.
		_, err = c.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(true))
	}
	return err
}

func (s *Store) model(op storage.Op, r record) mongo.WriteModel {
	switch op {
	case storage.Put:
		return s.update(r.id, bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: r.value}}}}, true)
	case storage.Delete:
		if s.many {
			return mongo.NewDeleteManyModel().SetFilter(idFilter([]string{r.id}))
		}
		return mongo.NewDeleteOneModel().SetFilter(idFilter([]string{r.id}))
	case storage.DeletePrefix:
		return mongo.NewDeleteManyModel().SetFilter(prefixFilter(r.id))
	default: // opReplace
		return s.update(r.id, bson.D{{Key: "$set", Value: bson.D{{Key: "m", Value: bson.Raw(r.value)}}}}, false)
	}
}

// update returns the update of the document with an _id.
func (s *Store) update(id string, update bson.D, upsert bool) mongo.WriteModel {
	if s.many {
		return mongo.NewUpdateManyModel().SetFilter(idFilter([]string{id})).SetUpdate(update).SetUpsert(upsert)
	}
	return mongo.NewUpdateOneModel().SetFilter(idFilter([]string{id})).SetUpdate(update).SetUpsert(upsert)
}

// takeInserts takes the inserts of ws. Those of one record share a round trip; a longer row
// has its own, since it must stop where it fails.
func (s *Store) takeInserts(c *mongo.Collection, ws []*write) {
	var singles []*write
	var calls []func()
	for _, w := range ws {
		if len(w.steps[w.next].records) == 1 {
			singles = append(singles, w)
		} else {
			calls = append(calls, func() { s.insertRecords(c, []*write{w}) })
		}
	}
	if len(singles) > 0 {
		calls = append(calls, func() { s.insertRecords(c, singles) })
	}
	s.parallel(calls...)
}

// insertRecords inserts the records of one write, or one record of each of many.
func (s *Store) insertRecords(c *mongo.Collection, ws []*write) {
	var docs []bson.Raw
	for _, w := range ws {
		for _, r := range w.steps[w.next].records {
			raw, err := bson.Marshal(recordDoc{r.id, r.value})
			if err != nil { // a string and bytes: it can't happen
				panic(err)
			}
			docs = append(docs, raw)
		}
	}
	failed, err := s.insert(c, docs, len(ws) == 1)
	if len(ws) == 1 {
		for _, e := range failed {
			err = e
		}
		ws[0].end(recordError(c, err))
		return
	}
	for i, w := range ws {
		if e := failed[i]; e != nil {
			w.end(recordError(c, e))
		} else {
			w.end(err)
		}
	}
}

func recordError(c *mongo.Collection, err error) error {
	if mongo.IsDuplicateKeyError(err) {
		return fmt.Errorf("collection %s: %w", c.Name(), storage.ErrExists)
	}
	return unavailable(err)
}

// Apply applies muts in order; a crash, or an Insert that meets a record, leaves a prefix.
func (s *Store) Apply(ctx context.Context, muts ...storage.Mutation) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	w, err := newWrite(group.Key{}, muts)
	if err != nil || len(muts) == 0 {
		return err
	}
	w.finish = func(error) {}
	return s.commit(ctx, s.changes, w, func() {})
}

// Get returns the record's value, or ErrNotFound.
func (s *Store) Get(ctx context.Context, table, key string) ([]byte, error) {
	values, err := s.GetMany(ctx, table, []string{key})
	if err != nil {
		return nil, err
	}
	if values[0] == nil {
		return nil, fmt.Errorf("table %s: record %q: %w", table, key, storage.ErrNotFound)
	}
	return values[0], nil
}

// maxKeys bounds the _ids that one query asks for.
const maxKeys = 20000

// GetMany returns the values of keys in their order, nil where there is none, in one round
// trip for each 20,000 keys or 16 MiB.
func (s *Store) GetMany(ctx context.Context, table string, keys []string) ([][]byte, error) {
	refs := make([]storage.Ref, len(keys))
	for i, key := range keys {
		refs[i] = storage.Ref{Table: table, Key: key}
	}
	return s.GetAll(ctx, refs)
}

// GetAll is GetMany for records of several tables, with its round trips for each collection.
func (s *Store) GetAll(ctx context.Context, refs []storage.Ref) ([][]byte, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	values := make([][]byte, len(refs))
	places := make(map[string]map[string][]int) // by collection and _id
	for i, r := range refs {
		p, err := placeOf(r.Table)
		if err != nil {
			return nil, err
		}
		id, err := p.id(r.Key)
		if err != nil {
			return nil, err
		}
		if places[p.collection] == nil {
			places[p.collection] = make(map[string][]int, len(refs))
		}
		places[p.collection][id] = append(places[p.collection][id], i)
	}
	for collection, ids := range places {
		for chunk := range slices.Chunk(slices.Sorted(maps.Keys(ids)), maxKeys) {
			found, err := s.findRecords(ctx, collection, idFilter(chunk), false, len(chunk))
			if err != nil {
				return nil, err
			}
			for _, d := range found {
				for _, i := range ids[d.ID] {
					values[i] = bytes.Clone(d.Value)
				}
			}
		}
	}
	return values, nil
}

// idFilter selects documents by their _ids. One _id is asked for by equality, which every
// server finds without looking at others.
func idFilter(ids []string) bson.D {
	if len(ids) == 1 {
		return bson.D{{Key: "_id", Value: ids[0]}}
	}
	return bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}
}

// pageLen is how many documents one find of a scan asks for.
const pageLen = 1000

// Scan yields the records of a span. Each page is a query of its own with its own deadline:
// no cursor is kept on the server while the caller works.
func (s *Store) Scan(ctx context.Context, table string, span storage.Span) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		p, err := placeOf(table)
		prefix, err1 := p.id(span.Prefix)
		after, err2 := p.id(span.After)
		if err = errors.Join(s.ready(ctx), err, err1, err2); err != nil {
			yield(storage.Record{}, err)
			return
		}
		if span.After == "" {
			after = ""
		}
		for n := 0; span.Limit == 0 || n < span.Limit; {
			want := pageLen
			if span.Limit > 0 {
				want = min(want, span.Limit-n)
			}
			found, err := s.findRecords(ctx, p.collection, spanFilter(prefix, after, span.Reverse), span.Reverse, want)
			if err != nil {
				yield(storage.Record{}, err)
				return
			}
			for _, d := range found {
				if !yield(storage.Record{Key: d.ID[len(p.prefix):], Value: d.Value}, nil) {
					return
				}
			}
			if len(found) < want {
				return
			}
			n += len(found)
			after = found[len(found)-1].ID
		}
	}
}

// Count implements storage.Counter. The server counts: a large group costs no more round trips.
func (s *Store) Count(ctx context.Context, table, prefix string) (int, error) {
	p, err := placeOf(table)
	first, err1 := p.id(prefix)
	if err = errors.Join(s.ready(ctx), err, err1); err != nil {
		return 0, err
	}
	call, cancel := s.deadline(ctx)
	defer cancel()
	n, err := s.db.Collection(p.collection).CountDocuments(call, prefixFilter(first))
	if err != nil && ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return int(n), unavailable(err)
}

func prefixFilter(prefix string) bson.D { return spanFilter(prefix, "", false) }

func spanFilter(prefix, after string, reverse bool) bson.D {
	var bounds bson.D
	if prefix != "" {
		bounds = append(bounds, bson.E{Key: "$gte", Value: prefix})
		if end := prefixEnd(prefix); end != "" {
			bounds = append(bounds, bson.E{Key: "$lt", Value: end})
		}
	}
	if after != "" {
		// One operator may stand only once: the narrower bound counts.
		op, out := "$gt", "$gte"
		if reverse {
			op, out = "$lt", "$lt"
		}
		narrower := true
		for i, b := range bounds {
			if b.Key != out {
				continue
			}
			if v := b.Value.(string); (reverse && v <= after) || (!reverse && v > after) {
				narrower = false
			} else {
				bounds = slices.Delete(bounds, i, i+1)
			}
			break
		}
		if narrower {
			bounds = append(bounds, bson.E{Key: op, Value: after})
		}
	}
	if len(bounds) == 0 {
		return bson.D{}
	}
	return bson.D{{Key: "_id", Value: bounds}}
}

func (s *Store) findRecords(ctx context.Context, collection string, filter bson.D, reverse bool, limit int) ([]recordDoc, error) {
	raws, err := s.find(ctx, s.db.Collection(collection), filter, reverse, limit, nil)
	if err != nil {
		return nil, err
	}
	found := make([]recordDoc, len(raws))
	for i, raw := range raws {
		if err := bson.Unmarshal(raw, &found[i]); err != nil {
			return nil, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
		}
		if found[i].Value == nil {
			found[i].Value = []byte{} // nil would mean that there is none
		}
	}
	return found, nil
}
