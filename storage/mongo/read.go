package mongo

import (
	"context"
	"iter"
	"maps"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

var (
	byID     = bson.D{{Key: "_id", Value: 1}}
	byIDDown = bson.D{{Key: "_id", Value: -1}}
)

// find runs the store's one shape of query: a range of _ids or some of them, in their order, a
// bounded number. The whole answer is read under one deadline.
func (s *Store) find(ctx context.Context, c *mongo.Collection, filter bson.D, down bool, limit int, fields bson.D) ([]bson.Raw, error) {
	call, cancel := s.deadline(ctx)
	defer cancel()
	// With room for one more the server knows at once that nothing comes behind the limit.
	opts := options.Find().SetSort(byID).SetLimit(int64(limit)).SetBatchSize(int32(limit + 1))
	if down {
		opts.SetSort(byIDDown)
	}
	if fields != nil {
		opts.SetProjection(fields)
	}
	if limit == 0 { // an empty $in
		return nil, nil
	}
	var found []bson.Raw
	cursor, err := c.Find(call, filter, opts)
	if err == nil {
		err = cursor.All(call, &found)
	}
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return found, unavailable(err)
}

// logFilter selects all messages of a log.
func logFilter(head string) bson.D {
	return bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: head + ":"}, {Key: "$lt", Value: logEnd(head)}}}}
}

// rangeFilter selects the messages of a log with from <= SEQ < to; to 0 means all from from on.
func rangeFilter(head string, from, to group.Seq) bson.D {
	if to == from+1 {
		return bson.D{{Key: "_id", Value: messageID(head, from)}}
	}
	end := logEnd(head)
	if to != 0 {
		end = messageID(head, to)
	}
	return bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: messageID(head, from)}, {Key: "$lt", Value: end}}}}
}

// Range yields the messages with from <= SEQ < to that have not expired, ascending.
func (s *Store) Range(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return s.messagesOf(ctx, key, from, to, false)
}

// RangeDown is Range in descending order.
func (s *Store) RangeDown(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return s.messagesOf(ctx, key, from, to, true)
}

func (s *Store) messagesOf(ctx context.Context, key group.Key, from, to group.Seq, down bool) iter.Seq2[*group.Message, error] {
	return func(yield func(*group.Message, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(nil, err)
			return
		}
		head := headID(key)
		from, to := max(from, 1), max(to, 1)
		for page := firstPage; from < to; page = pageLen {
			m, err := s.messagePage(ctx, rangeFilter(head, from, to), down, page)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, m := range m {
				if err := ctx.Err(); err != nil {
					yield(nil, err)
					return
				}
				if !expired(m) && !yield(m, nil) {
					return
				}
			}
			if len(m) < page {
				return
			}
			if last := m[len(m)-1].Seq; down {
				to = last
			} else {
				from = last + 1
			}
		}
	}
}

// firstPage is how many messages the first query of a range asks for: most readers want a few.
const firstPage = 128

// messagePage returns the next messages, expired ones among them.
func (s *Store) messagePage(ctx context.Context, filter bson.D, down bool, limit int) ([]*group.Message, error) {
	raws, err := s.find(ctx, s.messages, filter, down, limit, nil)
	if err != nil {
		return nil, err
	}
	msgs := make([]*group.Message, len(raws))
	for i, raw := range raws {
		if msgs[i], err = decodeMessage(raw); err != nil {
			return nil, err
		}
	}
	return msgs, nil
}

// Ends returns the heads of many groups with the messages at their tails, in two round trips
// for each 1,000 of them, and two more for those whose heads lag behind.
func (s *Store) Ends(ctx context.Context, keys []group.Key) ([]storage.End, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	out := make([]storage.End, 0, len(keys))
	for chunk := range slices.Chunk(keys, headsChunk) {
		ends, err := s.endsOf(ctx, chunk)
		if err != nil {
			return nil, err
		}
		out = append(out, ends...)
	}
	return out, nil
}

func (s *Store) endsOf(ctx context.Context, keys []group.Key) ([]storage.End, error) {
	ids := headIDs(keys)
	heads, err := s.storedHeads(ctx, ids)
	if err != nil {
		return nil, err
	}
	// With each tail the place above it: whether there is something says whether the head lags.
	places := make([]string, 0, 2*len(ids))
	for _, id := range ids {
		if tail := heads[id].Tail; tail > 0 {
			places = append(places, messageID(id, tail))
		}
		places = append(places, messageID(id, heads[id].Tail+1))
	}
	last, err := s.messagesAt(ctx, places)
	if err != nil {
		return nil, err
	}
	var lagging, tails []string
	for _, id := range ids {
		if last[messageID(id, heads[id].Tail+1)] != nil {
			lagging = append(lagging, id)
		}
	}
	if len(lagging) > 0 {
		if err := s.readAhead(ctx, lagging, heads); err != nil {
			return nil, err
		}
		for _, id := range lagging {
			tails = append(tails, messageID(id, heads[id].Tail))
		}
		above, err := s.messagesAt(ctx, tails)
		if err != nil {
			return nil, err
		}
		maps.Copy(last, above)
	}
	ends := make([]storage.End, len(ids))
	for i, id := range ids {
		ends[i] = storage.End{Key: keys[i], Head: heads[id]}
		if m := last[messageID(id, heads[id].Tail)]; m != nil && !expired(m) {
			ends[i].Last = m
		}
	}
	return ends, nil
}

// messagesAt returns the messages with the given _ids.
func (s *Store) messagesAt(ctx context.Context, ids []string) (map[string]*group.Message, error) {
	found, err := s.messagePage(ctx, idFilter(ids), false, len(ids))
	if err != nil {
		return nil, err
	}
	at := make(map[string]*group.Message, len(found))
	for _, m := range found {
		at[messageID(headID(m.Key()), m.Seq)] = m
	}
	return at, nil
}

// Latest returns the newest message of each log that keep accepts, among its newest depth.
// Most logs end with such a message; the rest is read in one query for each 1,000 groups or
// 20,000 messages.
func (s *Store) Latest(ctx context.Context, ends []storage.End, depth int, keep func(*group.Message) bool) ([]*group.Message, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	latest := make([]*group.Message, len(ends))
	accepted := func(m *group.Message) bool { return !expired(m) && (keep == nil || keep(m)) }
	behind := make(map[group.Key][]int)
	var ranges bson.A
	messages := 0
	ask := func() error {
		if len(ranges) == 0 {
			return nil
		}
		found, err := s.messagePage(ctx, bson.D{{Key: "$or", Value: ranges}}, true, messages)
		for _, m := range found {
			for _, i := range behind[m.Key()] {
				if from, to := below(ends[i].Head, depth); latest[i] == nil && m.Seq >= from && m.Seq < to && accepted(m) {
					latest[i] = m
				}
			}
		}
		ranges, messages = nil, 0
		clear(behind)
		return err
	}
	for i, end := range ends {
		if end.Last != nil && depth > 0 && accepted(end.Last) {
			latest[i] = end.Last
			continue
		}
		from, to := below(end.Head, depth)
		if from >= to {
			continue
		}
		if n := int(to - from); len(ranges) == headsChunk || len(ranges) > 0 && messages+n > maxAhead {
			if err := ask(); err != nil {
				return nil, err
			}
		}
		behind[end.Key] = append(behind[end.Key], i)
		ranges = append(ranges, rangeFilter(headID(end.Key), from, to))
		messages += int(to - from)
	}
	return latest, ask()
}

// below returns the SEQs before the last one that are among the newest depth.
func below(h storage.Head, depth int) (from, to group.Seq) {
	return max(h.First, h.Tail-group.Seq(depth)+1, 1), h.Tail
}

// Hour yields all messages whose Time is in [from, from+3600), grouped by group.
func (s *Store) Hour(ctx context.Context, from int64) iter.Seq2[*group.Message, error] {
	return func(yield func(*group.Message, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(nil, err)
			return
		}
		hours := bson.D{{Key: "$in", Value: []int64{hourOf(from), hourOf(from + secondsPerHour - 1)}}}
		var hour any = hours
		if hourOf(from) == hourOf(from+secondsPerHour-1) {
			hour = hourOf(from)
		}
		after := ""
		for {
			filter := bson.D{{Key: "h", Value: hour}, {Key: "_id", Value: bson.D{{Key: "$gt", Value: after}}}}
			found, err := s.messagePage(ctx, filter, false, pageLen)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, m := range found {
				if m.Time >= from && m.Time-from < secondsPerHour && !expired(m) && !yield(m, nil) {
					return
				}
			}
			if len(found) < pageLen {
				return
			}
			last := found[len(found)-1]
			after = messageID(headID(last.Key()), last.Seq)
		}
	}
}
