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
// groups, whose rows were read before, does not show.
func (e *env) missedEvents(ctx context.Context, a group.Account, since int64, rows []*storage.JoinedGroup) ([]json.RawMessage, error) {
	events, err := e.departures(ctx, a, since, rows)
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
// oldest first. rows are what its index of groups has.
func (e *env) departures(ctx context.Context, a group.Account, since int64, rows []*storage.JoinedGroup) ([]json.RawMessage, error) {
	in, dead, err := e.sortRows(ctx, a, rows)
	if err != nil {
		return nil, err
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

// sortRows tells the groups that a is in from those that were destroyed and are not yet removed;
// the janitor makes departures of them.
func (e *env) sortRows(ctx context.Context, a group.Account, rows []*storage.JoinedGroup) (in map[group.ID]bool, dead []*storage.Trashed, err error) {
	names, keys, mine := make([]string, len(rows)), make([]string, len(rows)), make([]string, len(rows))
	for i, row := range rows {
		names[i], keys[i], mine[i] = storage.GroupKey(row.ID), storage.GroupRecordKey(row.Key()), storage.MemberKey(row.Key(), a)
	}
	var q storage.Query
	groups, members := storage.Groups.AskShared(&q, names), storage.Members.AskWhether(&q, mine)
	if err := q.Run(ctx, e.store); err != nil {
		return nil, nil, err
	}
	in = make(map[group.ID]bool, len(rows))
	var gone []string
	for i, row := range rows {
		switch {
		case !members[i]:
		case groups[i] != nil && groups[i].Incarnation == row.Incarnation:
			in[row.ID] = true
		default:
			gone = append(gone, keys[i])
		}
	}
	trash, err := storage.Trash.GetMany(ctx, e.store, gone)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range trash {
		if t != nil {
			dead = append(dead, t)
		}
	}
	return in, dead, nil
}
