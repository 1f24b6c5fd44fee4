package mongo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rookery-im/rookery/storage"
)

const (
	// maxSwept bounds the messages that one Sweep removes.
	maxSwept = 2000
	// maxCovered bounds the logs whose heads one Sweep looks after.
	maxCovered = 256
	// coveredID is the document of the collection "meta" that says up to which hour all heads are
	// known to be no lower than the messages.
	coveredID = "covered"
)

// sweeper keeps sweeps apart from each other, and where the last one stopped.
type sweeper struct {
	mu      sync.Mutex
	hour    int64  // whose messages are being looked at
	after   string // the _id behind which the search goes on
	started bool
}

// Sweep sees to it that messages leave heads behind that are no lower than they were, and
// removes expired messages if the server does not.
//
// Heads are written within HeadInterval of a message by whoever wrote it. If that process
// ended before, the next reader of the log writes its head; and for logs that nobody reads,
// Sweep looks through the groups of each hour once, after it is over.
func (s *Store) Sweep(ctx context.Context, now int64) (more bool, err error) {
	if err := s.ready(ctx); err != nil {
		return false, err
	}
	s.sweeper.mu.Lock()
	defer s.sweeper.mu.Unlock()
	if s.ttl {
		return s.coverHours(ctx, now)
	}
	return s.removeExpired(ctx, now)
}

// removeExpired removes some expired messages, and before that raises their logs' heads.
func (s *Store) removeExpired(ctx context.Context, now int64) (more bool, err error) {
	call, cancel := s.deadline(ctx)
	defer cancel()
	filter := bson.D{{Key: "x", Value: bson.D{{Key: "$lte", Value: bson.DateTime(now * 1000)}}}}
	cursor, err := s.messages.Find(call, filter, options.Find().SetSort(bson.D{{Key: "x", Value: 1}}).SetLimit(maxSwept).SetBatchSize(maxSwept+1).SetProjection(topFields))
	var found []bson.Raw
	if err == nil {
		err = cursor.All(call, &found)
	}
	if err != nil || len(found) == 0 {
		return false, unavailable(err)
	}
	ids := make([]string, len(found))
	tops := make(map[string]storage.Head)
	for i, raw := range found {
		id, top, err := parseTop(raw)
		if err != nil {
			return false, err
		}
		ids[i] = raw.Lookup("_id").StringValue()
		top.First = 1
		tops[id] = higher(tops[id], top)
	}
	if err := s.heads.raise(tops); err != nil {
		return false, err
	}
	if _, err := s.messages.DeleteMany(call, idFilter(ids)); err != nil {
		return false, unavailable(err)
	}
	return len(found) == maxSwept, s.raiseFirsts(ctx, slices.Collect(maps.Keys(tops)))
}

// raiseFirsts notes the lowest SEQ that is left in each log.
func (s *Store) raiseFirsts(ctx context.Context, ids []string) error {
	firsts := make(map[string]storage.Head, len(ids))
	stored, err := s.storedHeads(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		left, err := s.find(ctx, s.messages, logFilter(id), false, 1, topFields)
		if err != nil {
			return err
		}
		h := storage.Head{First: stored[id].Tail + 1}
		if len(left) > 0 {
			_, lowest, err := parseTop(left[0])
			if err != nil {
				return err
			}
			h.First = lowest.Tail
		}
		firsts[id] = h
	}
	return s.heads.raise(firsts)
}

// coverHours looks through the logs that got messages in the hours that are over, and raises
// their heads. It stops after maxCovered logs.
func (s *Store) coverHours(ctx context.Context, now int64) (more bool, err error) {
	sw := &s.sweeper
	last := hourOf(now) - 1
	if !sw.started {
		covered, err := s.coveredHour(ctx)
		if err != nil {
			return false, err
		}
		sw.hour, sw.after, sw.started = covered+1, "", true
	}
	for range maxCovered {
		if sw.hour > last {
			return false, nil
		}
		filter := bson.D{{Key: "h", Value: sw.hour}, {Key: "_id", Value: bson.D{{Key: "$gt", Value: sw.after}}}}
		found, err := s.find(ctx, s.messages, filter, false, 1, topFields)
		if err != nil {
			return false, err
		}
		if len(found) == 0 {
			if err := s.nextHour(ctx, last); err != nil {
				return false, err
			}
			continue
		}
		id, _, err := parseTop(found[0])
		if err != nil {
			return false, err
		}
		key, err := splitHeadID(id)
		if err != nil {
			return false, err
		}
		if _, err := s.readHead(ctx, key); err != nil { // notes a head that lags
			return false, err
		}
		sw.after = logEnd(id)
	}
	return true, nil
}

// nextHour goes on to the next hour that has messages, after the heads of this one are written.
func (s *Store) nextHour(ctx context.Context, last int64) error {
	sw := &s.sweeper
	if err := s.heads.flush(); err != nil {
		return err
	}
	call, cancel := s.deadline(ctx)
	defer cancel()
	_, err := s.meta.UpdateOne(call, bson.D{{Key: "_id", Value: coveredID}},
		bson.D{{Key: "$max", Value: bson.D{{Key: "h", Value: sw.hour}}}}, options.UpdateOne().SetUpsert(true))
	if err != nil {
		return unavailable(err)
	}
	next, err := s.hourAfter(ctx, sw.hour)
	if err != nil {
		return err
	}
	sw.hour, sw.after = min(next, last+1), ""
	return nil
}

// coveredHour returns the hour up to which heads were looked after.
func (s *Store) coveredHour(ctx context.Context) (int64, error) {
	docs, err := s.find(ctx, s.meta, idFilter([]string{coveredID}), false, 1, nil)
	if err != nil {
		return 0, err
	}
	if len(docs) == 1 {
		h, ok := docs[0].Lookup("h").AsInt64OK()
		if !ok {
			return 0, fmt.Errorf("%w: collection %s: document %s", storage.ErrCorrupt, metaName, coveredID)
		}
		return h, nil
	}
	first, err := s.hourAfter(ctx, -1<<40)
	return first - 1, err
}

// hourAfter returns the first hour after the given one that has messages, or one in the far future.
func (s *Store) hourAfter(ctx context.Context, hour int64) (int64, error) {
	call, cancel := s.deadline(ctx)
	defer cancel()
	cursor, err := s.messages.Find(call, bson.D{{Key: "h", Value: bson.D{{Key: "$gt", Value: hour}}}},
		options.Find().SetSort(bson.D{{Key: "h", Value: 1}, {Key: "_id", Value: 1}}).SetLimit(1).SetBatchSize(2).SetProjection(bson.D{{Key: "h", Value: 1}}))
	var found []bson.Raw
	if err == nil {
		err = cursor.All(call, &found)
	}
	if err != nil || len(found) == 0 {
		return 1 << 40, unavailable(err)
	}
	return found[0].Lookup("h").AsInt64(), nil
}
