package client

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
)

// A Conversation is what the client knows of a group that the account is in. After OnRefresh it
// is what the server says; from then on it follows what the client is told.
type Conversation struct {
	Group   group.ID
	Type    string
	Name    string
	LastSeq group.Seq // the group's highest
	ReadSeq group.Seq // the highest that the account has read
	Unread  int
	Receive group.ReceiveOption
	Role    group.Role
	Joined  time.Time
	Last    *Message // the latest message; nil: none. It must not be changed
}

// A room is the client's state of one group.
type room struct {
	Conversation
	pos Position
	// known says that every message up to pos.Shown was shown or is not for us, so that the
	// next is pos.Shown+1.
	known     bool
	noHistory bool // there is nothing to repair gaps from

	// What is unread: what the server counted up to the SEQ counted, and live messages since, whose
	// SEQs ascend.
	unread  int
	counted group.Seq
	live    []group.Seq
}

// repaired reports whether gaps are repaired: messages that the member has asked not to get are none.
func (r *room) repaired() bool { return !r.noHistory && r.Receive.Delivers(false) }

// shown notes that m was shown.
func (r *room) shown(m *Message, me group.Account, live bool) {
	if m.Seq == 0 {
		return
	}
	r.pos.Shown = max(r.pos.Shown, m.Seq)
	r.LastSeq = max(r.LastSeq, m.Seq)
	if r.Last == nil || m.Seq > r.Last.Seq {
		last := *m
		r.Last = &last
	}
	switch {
	case !live: // counted by the server
	case m.From == me:
		r.read(m.Seq)
	case m.Tip, m.NoUnread, len(m.To) > 0, m.Seq <= r.ReadSeq, m.Seq <= r.counted, !r.counts():
	default:
		if r.live = append(r.live, m.Seq); len(r.live) > maxLive {
			old := len(r.live) / 2
			r.unread, r.counted = r.unread+old, r.live[old-1]
			r.live = slices.Clone(r.live[old:])
		}
		r.recount()
	}
}

// maxLive bounds the live messages that are kept apart.
const maxLive = 1024

func (r *room) recount() { r.Unread = r.unread + len(r.live) }

// counts reports whether the group's type counts unread messages.
func (r *room) counts() bool {
	t, ok := group.ParseType(r.Type)
	return !ok || t != group.Meeting && t != group.AVChatRoom
}

// read notes that the account has read up to seq.
func (r *room) read(seq group.Seq) {
	if seq <= r.ReadSeq {
		return
	}
	r.ReadSeq = seq
	r.pos.Read = seq
	r.unread = min(r.unread, int(max(0, r.counted-seq))) // at most: the server says how many
	r.live = after(r.live, seq)
	r.recount()
}

// after returns what is above seq of SEQs that ascend.
func after(seqs []group.Seq, seq group.Seq) []group.Seq {
	i, found := slices.BinarySearch(seqs, seq)
	if found {
		i++
	}
	return seqs[i:]
}

// readAs takes over what the server says of how far the account has read; set says that it was set
// by hand, perhaps back.
func (r *room) readAs(s *readState, set bool) {
	if s.Read < r.ReadSeq && !set || s.Next == 0 { // overtaken by a later one, or from an older server
		r.read(s.Read)
		return
	}
	r.ReadSeq, r.pos.Read = s.Read, s.Read
	if tail := s.Next - 1; tail >= r.counted {
		r.unread, r.counted = s.Unread, tail
		r.live = after(r.live, tail)
	}
	r.live = after(r.live, s.Read)
	r.recount()
}

// joined notes what the notice of a new membership says; the synchronisation says more.
func (r *room) joined(j *eventJSON) {
	r.Name, r.Type, r.Joined = j.GroupInfo.GroupName, j.GroupInfo.GroupType, time.Unix(j.Time, 0)
	r.Role, _ = group.ParseRole(j.Role)
}

func (r *room) receive(option group.ReceiveOption) {
	if option.Delivers(false) && !r.Receive.Delivers(false) {
		r.known = false // what was not delivered meanwhile is not wanted
	}
	r.Receive = option
}

func (r *room) recalled(seq group.Seq) {
	if r.Last != nil && r.Last.Seq == seq {
		last := *r.Last
		last.Recalled, last.Body, last.CloudCustomData = true, nil, ""
		r.Last = &last
	}
}

func (r *room) modified(seq group.Seq, body []Element, cloud string) {
	if r.Last != nil && r.Last.Seq == seq {
		last := *r.Last
		last.Modified, last.Body, last.CloudCustomData = true, body, cloud
		r.Last = &last
	}
}

// update changes a room, which is made if there is none, and saves its position if that has changed.
func (c *Client) update(ctx context.Context, id group.ID, change func(*room)) {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	r := c.rooms[id]
	if r == nil {
		r = &room{Conversation: Conversation{Group: id}}
		c.rooms[id] = r
	}
	before, known := r.pos, r.known
	change(r)
	after, save := r.pos, r.known && (r.pos != before || !known)
	c.mu.Unlock()
	if save {
		if err := c.cfg.Store.Save(ctx, id, after); err != nil {
			c.cfg.Log.Error("position not saved", "account", string(c.cfg.Account), "group", string(id), "err", err)
		}
	}
}

// forget drops a room.
func (c *Client) forget(ctx context.Context, id group.ID) {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	delete(c.rooms, id)
	c.mu.Unlock()
	if err := c.cfg.Store.Delete(ctx, id); err != nil {
		c.cfg.Log.Error("position not deleted", "account", string(c.cfg.Account), "group", string(id), "err", err)
	}
}

// Conversations returns the groups that the account is in, that with the latest message first.
func (c *Client) Conversations() []Conversation {
	c.mu.Lock()
	all := make([]Conversation, 0, len(c.rooms))
	for _, r := range c.rooms {
		all = append(all, r.Conversation)
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b Conversation) int {
		return cmp.Or(b.lastTime().Compare(a.lastTime()), cmp.Compare(a.Group, b.Group))
	})
	return all
}

// Conversation returns one of the groups that the account is in.
func (c *Client) Conversation(id group.ID) (Conversation, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[id]
	if r == nil {
		return Conversation{}, false
	}
	return r.Conversation, true
}

func (v *Conversation) lastTime() time.Time {
	if v.Last != nil {
		return v.Last.Time
	}
	return v.Joined
}
