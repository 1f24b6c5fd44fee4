package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rookery-im/rookery/group"
)

const (
	syncPage = 500
	// maxSyncPages bounds what a server can make us read; it is far above the groups of one account.
	maxSyncPages = 1000

	contactGroup = 2 // Type of a conversation that is a group
)

type syncRequest struct {
	Limit  int
	Cursor string
	Since  int64 `json:",omitempty"`
}

type syncResponse struct {
	Groups []syncGroup
	Cursor string
	Time   int64             `json:"ServerTime"`
	Events []json.RawMessage // of the inbox
}

type syncGroup struct {
	GroupID  group.ID `json:"GroupId"`
	Type     string
	Name     string
	Next     group.Seq `json:"NextMsgSeq"`
	Read     group.Seq `json:"ReadSeq"`
	Unread   int       `json:"UnreadMsgNum"`
	First    group.Seq `json:"FirstMsgSeq"` // the lowest that the account may read
	MsgFlag  string
	Role     string
	JoinTime int64
	Last     *messageJSON `json:"LastMsg"`
	Change   int64        `json:"ChangeSeq"`
	Lost     int64        `json:"LostChangeSeq"`
	Changes  []eventJSON
}

func (g *syncGroup) tail() group.Seq { return max(0, g.Next-1) }

type contactsRequest struct {
	TimeStamp, TopTimeStamp   int64
	StartIndex, TopStartIndex int
	AssistFlags               int
}

type contactsResponse struct {
	Items []struct {
		Type    int
		GroupID group.ID     `json:"GroupId"`
		Last    *messageJSON `json:"LastMsg"`
	} `json:"SessionItem"`
	Complete                  int `json:"CompleteFlag"`
	TimeStamp, TopTimeStamp   int64
	StartIndex, TopStartIndex int
}

// callOver makes a request over one connection, without a place among the app's own requests:
// the engine must not wait for them.
func (c *Client) callOver(ctx context.Context, l *link, command string, req, resp any) error {
	body, err := marshal(command, req)
	if err != nil {
		return err
	}
	return c.request(ctx, l, command, body, resp)
}

// synchronise subscribes and shows what is new. Live messages wait in the queue meanwhile, so
// none falls between what is pulled and what is delivered. After an error it can be called again:
// it goes on where it was.
func (e *engine) synchronise(ctx context.Context, l *link) error {
	if err := e.subscribe(ctx, l); err != nil {
		return err
	}
	all, err := e.joined(ctx, l)
	if err != nil {
		return err
	}
	groups := all.Groups
	recent, err := e.recent(ctx, l)
	if err != nil {
		return err
	}
	if err := e.inbox(ctx, all.Events); err != nil {
		return err
	}
	if err := e.forgetOthers(ctx, l, groups); err != nil {
		return err
	}
	fresh := make(map[group.ID]*syncGroup)
	for i := range groups {
		if g := &groups[i]; e.learn(ctx, g) {
			fresh[g.GroupID] = g
		}
	}
	for _, m := range slices.Backward(recent) { // the latest comes last, as if it were live
		if g := fresh[m.Group]; g != nil {
			e.showLatest(ctx, g, m)
		}
	}
	for _, g := range slices.Backward(groups) {
		if fresh[g.GroupID] != nil {
			e.update(ctx, g.GroupID, func(r *room) {
				r.pos.Shown, r.pos.Changed, r.known = max(r.pos.Shown, g.tail()), max(r.pos.Changed, g.Change), true
			})
			continue
		}
		if err := e.changes(ctx, l, &g); err != nil {
			return err
		}
		if err := e.catchUp(ctx, l, &g); err != nil {
			return err
		}
	}
	e.since = all.Time
	return nil
}

func (e *engine) subscribe(ctx context.Context, l *link) error {
	if l.subscribed {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.RequestTimeout, errTimeout)
	defer cancel()
	_, err := l.manager.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: "groups/+", QoS: 1},
		{Topic: "users/" + escape(string(e.cfg.Account)), QoS: 1},
	}})
	if err != nil {
		return fmt.Errorf("client: subscribe: %w", err)
	}
	l.subscribed = true
	return nil
}

// joined returns the groups that the account is in, as the server lists them: that with the latest
// message first.
func (e *engine) joined(ctx context.Context, l *link) (all syncResponse, err error) {
	at := make(map[group.ID]int)
	req := syncRequest{Limit: syncPage, Since: e.missedSince()}
	for range maxSyncPages {
		var page syncResponse
		if err := e.callOver(ctx, l, "sync", req, &page); err != nil {
			return all, fmt.Errorf("client: sync: %w", err)
		}
		if req.Cursor == "" {
			all.Time, all.Events = page.Time, page.Events
		}
		for _, g := range page.Groups {
			if i, again := at[g.GroupID]; again { // something has happened in it meanwhile
				all.Groups[i] = g
				continue
			}
			at[g.GroupID] = len(all.Groups)
			all.Groups = append(all.Groups, g)
		}
		if page.Cursor == "" {
			return all, nil
		}
		req.Cursor = page.Cursor
	}
	return all, errors.New("client: sync does not come to an end")
}

// everything asks sync for all that it still knows.
const everything = 1

// missedSince returns since when the server is to tell what has changed; 0: nothing is new to
// somebody who knows nothing.
func (e *engine) missedSince() int64 {
	if e.since > 0 {
		return e.since
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.rooms {
		if r.known {
			return everything
		}
	}
	return 0
}

// inbox tells what the inbox was told while the client was away.
func (e *engine) inbox(ctx context.Context, events []json.RawMessage) error {
	for _, raw := range events {
		var j eventJSON
		if err := json.Unmarshal(raw, &j); err != nil {
			return fmt.Errorf("client: sync: %w", err)
		}
		if j.GroupID == "" {
			if e.since > 0 { // a program that has just begun knows no older profile
				e.cfg.OnEvent(e.Client, j.inboxEvent(raw))
			}
			continue
		}
		if _, known := e.Conversation(j.GroupID); known {
			e.forget(ctx, j.GroupID)
			e.cfg.OnEvent(e.Client, j.inboxEvent(raw))
		}
	}
	return nil
}

// changes tells what has happened to messages of a group that were shown already.
func (e *engine) changes(ctx context.Context, l *link, g *syncGroup) error {
	var pos Position
	e.update(ctx, g.GroupID, func(r *room) { pos = r.pos })
	if g.Lost > pos.Changed {
		e.cfg.OnEvent(e.Client, ChangesMissed{g.GroupID})
	}
	for i := range g.Changes {
		j := &g.Changes[i]
		if j.Change <= pos.Changed || j.Seq > pos.Shown {
			continue
		}
		told := true
		if j.Event == "Modify" {
			var err error
			if told, err = e.modification(ctx, l, g.GroupID, j); err != nil {
				return err
			}
		}
		if told {
			e.cfg.OnEvent(e.Client, j.groupEvent(nil))
		}
		e.update(ctx, g.GroupID, func(r *room) { r.pos.Changed = max(r.pos.Changed, j.Change) })
	}
	e.update(ctx, g.GroupID, func(r *room) { r.pos.Changed = max(r.pos.Changed, g.Change) })
	return nil
}

// modification fills in the content of a message that was modified; found is false if it is there
// no more.
func (e *engine) modification(ctx context.Context, l *link, id group.ID, j *eventJSON) (found bool, err error) {
	call := func(ctx context.Context, command string, req, resp any) error {
		return e.callOver(ctx, l, command, req, resp)
	}
	page, err := pull(ctx, call, id, j.Seq, j.Seq)
	switch {
	case refusedBy(err, group.CodeNotPermitted, group.CodeNoHistory, group.CodeNoGroup, group.CodeBadGroupID):
		return false, nil // we are out of it, as the inbox will say
	case err != nil || len(page) == 0:
		return false, err
	}
	m := page[0]
	j.From, j.Body, j.Cloud = m.From, m.Body, m.CloudCustomData
	return !m.Recalled && !m.Missing, nil
}

// recent returns the latest messages of the recent conversations, the newest first.
func (e *engine) recent(ctx context.Context, l *link) ([]Message, error) {
	var messages []Message
	req := contactsRequest{}
	for range maxSyncPages {
		var page contactsResponse
		if err := e.callOver(ctx, l, "recentcontact_get_list", req, &page); err != nil {
			return nil, fmt.Errorf("client: recent contacts: %w", err)
		}
		for _, it := range page.Items {
			if it.Type != contactGroup {
				continue
			}
			m := Message{Group: it.GroupID}
			if it.Last != nil {
				var err error
				if m, err = it.Last.message(it.GroupID); err != nil {
					return nil, err
				}
			}
			messages = append(messages, m)
		}
		if page.Complete != 0 || len(page.Items) == 0 {
			return messages, nil
		}
		req = contactsRequest{page.TimeStamp, page.TopTimeStamp, page.StartIndex, page.TopStartIndex, 0}
	}
	return nil, errors.New("client: the recent contacts do not come to an end")
}

// forgetOthers drops the groups that the account is not in any more.
func (e *engine) forgetOthers(ctx context.Context, l *link, groups []syncGroup) error {
	in := make(map[group.ID]bool, len(groups))
	for i := range groups {
		in[groups[i].GroupID] = true
	}
	for _, v := range e.Conversations() {
		still := in[v.Group]
		if t, ok := group.ParseType(v.Type); !still && ok && t == group.AVChatRoom { // not listed, but we may be in it
			var err error
			if still, err = e.inRoom(ctx, l, v.Group); err != nil {
				return err
			}
		}
		if !still {
			e.forget(ctx, v.Group)
		}
	}
	return nil
}

// inRoom asks whether the account is still in a live room: for a while without a connection it is.
func (e *engine) inRoom(ctx context.Context, l *link, id group.ID) (bool, error) {
	err := e.callOver(ctx, l, "get_group_self_member_info", groupJSON{id}, nil)
	if refusedBy(err, group.CodeNotPermitted, group.CodeNoGroup, group.CodeBadGroupID) {
		return false, nil
	}
	return err == nil, err
}

// learn takes over what the server says of a group. It reports whether there is no
// position to go on from: the group is new to us, or is another one of the same id.
func (e *engine) learn(ctx context.Context, g *syncGroup) (fresh bool) {
	e.update(ctx, g.GroupID, func(r *room) {
		if r.pos.Joined != 0 && r.pos.Joined != g.JoinTime || r.pos.Shown > g.tail() {
			*r = room{pos: Position{Joined: g.JoinTime}}
		}
		r.pos.Joined, r.pos.Read = g.JoinTime, g.Read
		last := r.Last
		r.Conversation = Conversation{
			Group: g.GroupID, Type: g.Type, Name: g.Name, LastSeq: g.tail(), ReadSeq: g.Read, Unread: g.Unread,
			Joined: time.Unix(g.JoinTime, 0), Last: last,
		}
		r.unread, r.counted, r.live = g.Unread, g.tail(), nil
		r.Receive, _ = group.ParseReceiveOption(g.MsgFlag)
		r.Role, _ = group.ParseRole(g.Role)
		if g.Last != nil {
			if m, err := g.Last.message(g.GroupID); err == nil {
				r.Last = &m
			}
		}
		fresh = !r.known
	})
	return fresh
}

// showLatest shows the latest message of a group that is new to us. One that is newer than
// what sync knew comes live.
func (e *engine) showLatest(ctx context.Context, g *syncGroup, m Message) {
	if (m.Seq == 0 || m.Seq > g.tail()) && g.Last != nil {
		last, err := g.Last.message(g.GroupID)
		if err != nil {
			return
		}
		m = last
	}
	shown := false
	e.update(ctx, g.GroupID, func(r *room) { shown = m.Seq <= r.pos.Shown })
	if m.Seq == 0 || m.Seq > g.tail() || shown || m.Recalled || m.Missing {
		return
	}
	e.show(ctx, m, false)
}

// catchUp shows what was missed of a group that we know.
func (e *engine) catchUp(ctx context.Context, l *link, g *syncGroup) error {
	var from group.Seq
	quiet := false
	e.update(ctx, g.GroupID, func(r *room) {
		if quiet = !r.repaired(); quiet {
			r.pos.Shown = max(r.pos.Shown, g.tail())
		}
		r.pos.Shown = max(r.pos.Shown, min(g.First-1, g.tail())) // what is before was never for us
		from = r.pos.Shown + 1
	})
	to := g.tail()
	if missing := int64(to-from) + 1; missing > int64(e.cfg.CatchUp) {
		last := to - group.Seq(e.cfg.CatchUp)
		e.skip(ctx, g.GroupID, from, last)
		from = last + 1
	}
	return e.repair(ctx, l, g.GroupID, from, to, false)
}
