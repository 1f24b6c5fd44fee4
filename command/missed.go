package command

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// syncOverlap is how far back a sync looks beyond its Since: a change is dated when it is made, and
// can be read a little later.
const syncOverlap = time.Minute

// changed notes a change of a stored message for members who are away, and returns its number.
func (s *stage) changed(m *group.Message, event string, body any) (int64, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	row := storage.GroupRecordKey(s.Group().Key())
	if s.changes == nil {
		if s.changes, err = storage.Changes.Find(s.Context(), s.Store(), row); err != nil {
			return 0, err
		}
	}
	s.changes = s.changes.With(storage.Change{
		Seq: m.Seq, At: s.Now().Unix(), Until: m.Expires, Event: event, Body: raw, To: audience(m),
	}, s.e.cfg.ChangesKept)
	s.ReplaceWith(storage.Changes.Put(row, s.changes))
	return s.changes.Last, nil
}

// departed notes how an account's membership ends, for its devices that are away; n is what the
// others are told.
func (s *stage) departed(a group.Account, event string, n notice) error {
	d, err := s.departure(event, n)
	if err == nil {
		s.Write(storage.Departures.Put(storage.JoinedKey(a, d.ID), d))
	}
	return err
}

func (s *stage) departure(event string, n notice) (*storage.Departure, error) {
	n.GroupID, n.GroupInfo, n.Operator, n.MsgTime = s.Group().ID, s.info(), s.call.Caller, s.Now().Unix()
	raw, err := json.Marshal(n)
	return &storage.Departure{ID: n.GroupID, Event: event, At: n.MsgTime, Body: raw}, err
}

// missedEvent is body as an event with its name, its group and its number (0: none).
func missedEvent(event string, id group.ID, number int64, body json.RawMessage) json.RawMessage {
	head, _ := json.Marshal(struct { // strings and a number
		Event  string
		ID     group.ID `json:"GroupId,omitempty"`
		Number int64    `json:"ChangeSeq,omitempty"`
	}{event, id, number})
	if len(body) <= 2 {
		return head
	}
	return slices.Concat(head[:len(head)-1], []byte{','}, body[1:])
}

// changesOf returns the changes of the groups in list, nil for those that have none.
func (e *env) changesOf(ctx context.Context, list []standing) ([]*storage.ChangeSet, error) {
	keys := make([]string, len(list))
	for i, s := range list {
		keys[i] = storage.GroupRecordKey(s.group.Key())
	}
	return storage.Changes.GetMany(ctx, e.store, keys)
}

// missed returns the events of changes since then (Unix seconds) of messages that t's member a
// may see, and the highest number of the changes that may be missing. What has no room in one
// answer is.
func (t *talk) missed(set *storage.ChangeSet, a group.Account, since, now int64) (events []json.RawMessage, lost int64) {
	lost = set.Lost
	room := maxSyncBytes
	for _, c := range slices.Backward(set.List) {
		_, hidden := slices.BinarySearch(t.hidden, c.Seq)
		if c.At < since || c.Until <= now || c.Seq < t.first || hidden || len(c.To) > 0 && !slices.Contains(c.To, a) {
			continue
		}
		event := missedEvent(c.Event, t.group.ID, c.N, c.Body)
		if room -= len(event); room < 0 {
			lost = c.N
			break
		}
		events = append(events, event)
	}
	slices.Reverse(events)
	return events, lost
}

// maxGone bounds the memberships that ended and that one answer tells of; the latest are told.
const maxGone = 100

// missedEvents returns what a's inbox was told since then (Unix seconds) that the state of its
// groups, all, does not show.
func (e *env) missedEvents(ctx context.Context, a group.Account, since int64, all []standing) ([]json.RawMessage, error) {
	events, err := e.departures(ctx, a, since, all)
	if err != nil {
		return nil, err
	}
	p, err := storage.Accounts.Find(ctx, e.store, storage.AccountKey(a))
	if err != nil || p == nil || p.Changed < since || p.Changed == 0 {
		return events, err
	}
	raw, err := json.Marshal(profileNotice{a, profileItems(p)})
	return append(events, missedEvent("ProfileChanged", "", 0, raw)), err
}

// departures returns the events of a's memberships that have ended since then (Unix seconds),
// oldest first. It is in the groups of all now.
func (e *env) departures(ctx context.Context, a group.Account, since int64, all []standing) ([]json.RawMessage, error) {
	in := make(map[group.ID]bool, len(all))
	for _, s := range all {
		in[s.group.ID] = true
	}
	var found []*storage.Departure
	note := func(d *storage.Departure) {
		if d.At >= since && !in[d.ID] && d.Event != "" {
			found = append(found, d)
		}
	}
	for row, err := range storage.Departures.Scan(ctx, e.store, storage.Span{Prefix: storage.Prefix(string(a))}) {
		if err != nil {
			return nil, err
		}
		note(row.Value)
	}
	dead, err := e.dismissed(ctx, a, in)
	if err != nil {
		return nil, err
	}
	for _, t := range dead {
		found = slices.DeleteFunc(found, func(d *storage.Departure) bool { return d.ID == t.ID && d.At <= t.Gone.At })
		note(&t.Gone)
	}
	slices.SortStableFunc(found, func(a, b *storage.Departure) int { return cmp.Compare(a.At, b.At) })
	var events []json.RawMessage
	for _, d := range found[max(0, len(found)-maxGone):] {
		events = append(events, missedEvent(d.Event, "", 0, d.Body))
	}
	return events, nil
}

// dismissed returns those of a's groups that were destroyed and are not yet removed; the janitor
// makes departures of them.
func (e *env) dismissed(ctx context.Context, a group.Account, in map[group.ID]bool) ([]*storage.Trashed, error) {
	var keys, members []string
	for row, err := range storage.Joined.Scan(ctx, e.store, storage.Span{Prefix: storage.Prefix(string(a))}) {
		if err != nil {
			return nil, err
		}
		if !in[row.Value.ID] {
			keys = append(keys, storage.GroupRecordKey(row.Value.Key()))
			members = append(members, storage.MemberKey(row.Value.Key(), a))
		}
	}
	trash, err := storage.Trash.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	was, err := storage.Members.GetMany(ctx, e.store, members)
	if err != nil {
		return nil, err
	}
	var out []*storage.Trashed
	for i, t := range trash {
		if t != nil && was[i] != nil {
			out = append(out, t)
		}
	}
	return out, nil
}
