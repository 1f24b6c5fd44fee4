package mongo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A headDoc is the end of a log as it is stored. It lags behind the messages and is never
// ahead of them: a log's tail is the higher of its head's and its last message's. Its fields
// only grow, so it does not matter who writes it, or how late.
type headDoc struct {
	ID    string    `bson:"_id"`
	Tail  group.Seq `bson:"s"`
	Epoch int64     `bson:"e"`
	Time  int64     `bson:"t"`
	First group.Seq `bson:"f"`
}

func (d *headDoc) head() storage.Head {
	return storage.Head{Tail: d.Tail, Epoch: d.Epoch, Time: d.Time, First: d.First}
}

// heads writes the heads of the logs that got messages, all of an interval in one round trip.
type heads struct {
	write func(map[string]storage.Head) error

	mu     sync.Mutex
	dirty  map[string]storage.Head
	flying map[string]storage.Head // being written
	// writing is held while heads are written, so that a log that is dropped does not come back.
	writing sync.Mutex
}

// note puts a log's head down for writing.
func (h *heads) note(id string, head storage.Head) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dirty == nil {
		h.dirty = make(map[string]storage.Head)
	}
	h.dirty[id] = higher(h.dirty[id], head)
}

// flush writes what was noted.
func (h *heads) flush() error {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	dirty := h.dirty
	h.dirty, h.flying = nil, dirty
	h.mu.Unlock()
	if len(dirty) == 0 {
		return nil
	}
	err := h.write(dirty)
	h.mu.Lock()
	h.flying = nil
	h.mu.Unlock()
	if err != nil {
		for id, head := range dirty {
			h.note(id, head)
		}
	}
	return err
}

// noted returns what this process knows of logs and may not have written yet.
func (h *heads) noted(ids []string) map[string]storage.Head {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := make(map[string]storage.Head)
	for _, heads := range []map[string]storage.Head{h.dirty, h.flying} {
		if len(heads) == 0 {
			continue
		}
		for _, id := range ids {
			if head, ok := heads[id]; ok {
				known[id] = higher(known[id], head)
			}
		}
	}
	return known
}

// raise writes heads now, with what was noted.
func (h *heads) raise(heads map[string]storage.Head) error {
	for id, head := range heads {
		h.note(id, head)
	}
	return h.flush()
}

// drop runs remove while no heads are written, and forgets the log's.
func (h *heads) drop(ctx context.Context, id string, remove func() error) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	h.mu.Lock()
	delete(h.dirty, id)
	h.mu.Unlock()
	return remove()
}

func higher(a, b storage.Head) storage.Head {
	return storage.Head{Tail: max(a.Tail, b.Tail), Epoch: max(a.Epoch, b.Epoch), Time: max(a.Time, b.Time), First: max(a.First, b.First)}
}

// writeHeads raises the stored heads to at least the given ones.
func (s *Store) writeHeads(m map[string]storage.Head) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(m)), maxUpdates) {
		models := make([]mongo.WriteModel, len(ids))
		for i, id := range ids {
			h := m[id]
			models[i] = s.update(id, bson.D{{Key: "$max", Value: bson.D{
				{Key: "s", Value: int64(h.Tail)}, {Key: "e", Value: h.Epoch}, {Key: "t", Value: h.Time}, {Key: "f", Value: int64(h.First)},
			}}}, true)
		}
		ctx, cancel := s.deadline(context.Background())
		_, err := s.headDocs.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
		cancel()
		if err != nil {
			return unavailable(err)
		}
	}
	return nil
}

// keepHeads writes the heads at every interval, until the store is closed.
func (s *Store) keepHeads() {
	ticker := time.NewTicker(s.cfg.HeadInterval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-s.closing:
			return
		case <-ticker.C:
		}
		err := s.heads.flush()
		if err != nil && !failing {
			s.cfg.Logger.Warn("heads not written, tried again", "err", err)
		}
		failing = err != nil
	}
}

// Head returns the end of the group's log. After an append whose caller has left, it waits for the outcome.
func (s *Store) Head(ctx context.Context, key group.Key) (storage.Head, error) {
	if err := s.ready(ctx); err != nil {
		return storage.Head{}, err
	}
	if err := s.groups.settle(ctx, key); err != nil {
		return storage.Head{}, err
	}
	return s.readHead(ctx, key)
}

// readHead reads a log's head and its last message, in this order: a message that arrives in
// between counts, and one that expires in between is in the head that was written before it.
func (s *Store) readHead(ctx context.Context, key group.Key) (storage.Head, error) {
	id := headID(key)
	docs, err := s.storedHeads(ctx, []string{id})
	if err != nil {
		return storage.Head{}, err
	}
	h := docs[id]
	tops, err := s.find(ctx, s.messages, logFilter(id), true, 1, topFields)
	if err != nil || len(tops) == 0 {
		return h, err
	}
	_, top, err := parseTop(tops[0])
	if err != nil {
		return storage.Head{}, err
	}
	return s.raise(id, h, top), nil
}

// raise returns the higher of a log's stored head and its last message, and notes a head that
// lags: its writer may have ended before it wrote it.
func (s *Store) raise(id string, stored, top storage.Head) storage.Head {
	h := higher(stored, top)
	h.First = max(h.First, 1)
	if top.Tail > stored.Tail {
		s.heads.note(id, h)
	}
	return h
}

// topFields are what of a message a head needs.
var topFields = bson.D{{Key: "e", Value: 1}, {Key: "t", Value: 1}}

// parseTop reads the head that a message stands for.
func parseTop(raw bson.Raw) (id string, h storage.Head, err error) {
	var d messageDoc
	if err := bson.Unmarshal(raw, &d); err != nil {
		return "", h, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	id, seq, err := splitMessageID(d.ID)
	return id, storage.Head{Tail: seq, Epoch: d.Epoch, Time: d.Time}, err
}

// storedHeads returns the stored heads of logs, or what this process will store.
func (s *Store) storedHeads(ctx context.Context, ids []string) (map[string]storage.Head, error) {
	stored := s.heads.noted(ids) // first: what is written in between is found
	raws, err := s.find(ctx, s.headDocs, idFilter(ids), false, len(ids), nil)
	if err != nil {
		return nil, err
	}
	for _, raw := range raws {
		var d headDoc
		if err := bson.Unmarshal(raw, &d); err != nil {
			return nil, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
		}
		stored[d.ID] = higher(stored[d.ID], d.head())
	}
	return stored, nil
}

const (
	// headsChunk is how many logs one query asks for.
	headsChunk = 1000
	// maxAhead bounds the messages that one query for heads may meet above the stored heads. A
	// log that has more, which takes a writer that never wrote its head, is asked for alone.
	maxAhead = 20000
)

// Heads returns the heads of many groups in two round trips for each 1,000 of them, and one more
// for those whose heads lag behind.
func (s *Store) Heads(ctx context.Context, keys []group.Key) ([]storage.Head, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	out := make([]storage.Head, 0, len(keys))
	for chunk := range slices.Chunk(keys, headsChunk) {
		ids := headIDs(chunk)
		heads, err := s.headsOf(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			out = append(out, heads[id])
		}
	}
	return out, nil
}

func headIDs(keys []group.Key) []string {
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = headID(key)
	}
	return ids
}

// headsOf looks for messages right above the stored heads. There are no holes in a log, so a
// head with nothing there is its end: that the message there expired before the head was
// written, while later ones are left, would take a head that lags for the retention time,
// and Sweep looks after all heads each hour.
func (s *Store) headsOf(ctx context.Context, ids []string) (map[string]storage.Head, error) {
	heads, err := s.storedHeads(ctx, ids)
	if err != nil {
		return nil, err
	}
	places := make([]string, len(ids))
	for i, id := range ids {
		places[i] = messageID(id, heads[id].Tail+1)
	}
	above, err := s.find(ctx, s.messages, idFilter(places), false, len(places), topFields)
	if err != nil {
		return nil, err
	}
	lagging := make([]string, len(above))
	for i, raw := range above {
		if lagging[i], _, err = parseTop(raw); err != nil {
			return nil, err
		}
	}
	return heads, s.readAhead(ctx, lagging, heads)
}

// readAhead raises the heads of the logs ids to what the messages above them say.
func (s *Store) readAhead(ctx context.Context, ids []string, heads map[string]storage.Head) error {
	if len(ids) == 0 {
		return nil
	}
	ranges := make(bson.A, len(ids))
	for i, id := range ids {
		ranges[i] = rangeFilter(id, heads[id].Tail+1, 0)
	}
	ahead, err := s.find(ctx, s.messages, bson.D{{Key: "$or", Value: ranges}}, true, maxAhead, topFields)
	if err != nil {
		return err
	}
	tops := make(map[string]storage.Head)
	for _, raw := range ahead {
		id, top, err := parseTop(raw)
		if err != nil {
			return err
		}
		tops[id] = higher(tops[id], top)
	}
	for _, id := range ids {
		if top, found := tops[id]; found {
			heads[id] = s.raise(id, heads[id], top)
			continue
		}
		if len(ahead) < maxAhead {
			continue
		}
		key, err := splitHeadID(id) // what was cut off may be this one's
		if err == nil {
			heads[id], err = s.readHead(ctx, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
