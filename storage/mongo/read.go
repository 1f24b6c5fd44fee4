package mongo

import (
	"context"
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rookery-im/rookery/group"
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

// Latest returns the newest message of each group that keep accepts, among its newest depth.
// Most groups end with such a message; the rest is read in one more query for each 1,000
// groups or 20,000 messages.
func (s *Store) Latest(ctx context.Context, keys []group.Key, depth int, keep func(*group.Message) bool) ([]*group.Message, error) {
	heads, err := s.Heads(ctx, keys)
	if err != nil {
		return nil, err
	}
	latest := make([]*group.Message, len(keys))
	places := make(map[group.Key][]int, len(keys))
	var ends []string
	for i, key := range keys {
		if places[key] = append(places[key], i); len(places[key]) == 1 && heads[i].Tail > 0 && depth > 0 {
			ends = append(ends, messageID(headID(key), heads[i].Tail))
		}
	}
	take := func(found []*group.Message) {
		for _, m := range found {
			for _, i := range places[m.Key()] {
				if latest[i] == nil && !expired(m) && (keep == nil || keep(m)) {
					latest[i] = m
				}
			}
		}
	}
	for len(ends) > 0 {
		n := min(len(ends), maxKeys)
		found, err := s.messagePage(ctx, idFilter(ends[:n]), true, n)
		if err != nil {
			return nil, err
		}
		ends = ends[n:]
		take(found)
	}
	var ranges bson.A
	messages := 0
	ask := func() error {
		if len(ranges) == 0 {
			return nil
		}
		found, err := s.messagePage(ctx, bson.D{{Key: "$or", Value: ranges}}, true, messages)
		ranges, messages = nil, 0
		take(found)
		return err
	}
	for i, key := range keys {
		from, to := max(heads[i].First, heads[i].Tail-group.Seq(depth)+1, 1), heads[i].Tail
		if latest[i] != nil || places[key][0] != i || from >= to {
			continue
		}
		if n := int(to - from); len(ranges) == headsChunk || len(ranges) > 0 && messages+n > maxAhead {
			if err := ask(); err != nil {
				return nil, err
			}
		}
		ranges = append(ranges, rangeFilter(headID(key), from, to))
		messages += int(to - from)
	}
	return latest, ask()
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
