package hooks

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A Tx is a change of one group, made in its lane: no message is being stored while it runs,
// and what it reads is the truth. Nothing happens before the function that got it returns nil;
// then everything is written at once, and after that everything is delivered, in the order of
// the calls. A Tx is used by that function alone and must not be kept.
//
// The function must not wait for anything but the store: the group's messages wait for it.
type Tx struct {
	ctx  context.Context
	lane *lane
	now  time.Time

	group     *group.Group
	created   bool
	destroyed bool
	saved     bool
	members   map[group.Account]*group.Member // nil value: removed
	unstored  []group.Account                 // those among them who had a row
	mutes     map[group.Account]int64
	muts      []storage.Mutation
	replaced  []*group.Message
	beside    []storage.Mutation // written with them
	items     []txItem
}

// A txItem is something to deliver, or a message that first needs its SEQ.
type txItem struct {
	delivery Delivery
	stored   bool // delivery.Message gets a SEQ and is stored
	callback string
	body     any
}

// Context returns the context of the Update.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Now returns the instant of the change; everything in it carries the same.
func (tx *Tx) Now() time.Time { return tx.now }

// Store returns the store, for reading what the Tx has no method for.
func (tx *Tx) Store() storage.Store { return tx.lane.p.store }

// Group returns the group as it is now, changes of this Tx included, or nil if there is
// none. It is a copy: change it, then call Save.
func (tx *Tx) Group() *group.Group {
	if tx.destroyed {
		return nil
	}
	return tx.group
}

// Exists returns the group or the refusal that there is none.
func (tx *Tx) Exists() (*group.Group, error) {
	if g := tx.Group(); g != nil {
		return g, nil
	}
	return nil, group.Errorf(group.CodeNoGroup, "group %q does not exist", tx.lane.id)
}

// Head returns the end of the group's log before this Tx.
func (tx *Tx) Head() storage.Head { return tx.lane.st.head }

// Uncounted returns which SEQs do not count as unread, before this Tx; it may be nil. It is
// shared: do not change it.
func (tx *Tx) Uncounted() *storage.UncountedSet { return tx.lane.st.uncounted }

// Create makes the group; g.ID must be the lane's. It fills in the incarnation.
func (tx *Tx) Create(g *group.Group) error {
	if have := tx.Group(); have != nil {
		if g.Owner != "" && have.Owner == g.Owner {
			return group.Errorf(group.CodeGroupIDYours, "you have a group %q already", g.ID)
		}
		return group.Errorf(group.CodeGroupIDTaken, "group id %q is in use", g.ID)
	}
	life, err := storage.Lives.Find(tx.ctx, tx.Store(), storage.GroupKey(g.ID))
	if err != nil {
		return err
	}
	g.Incarnation = 1
	if life != nil {
		g.Incarnation = life.Incarnation + 1
	}
	g.InfoSeq, g.InfoTime = 1, g.CreateTime
	tx.group, tx.created, tx.saved = g, true, true
	return nil
}

// Save keeps the changes that were made to Group.
func (tx *Tx) Save() {
	tx.group.InfoSeq++
	tx.group.InfoTime = tx.now.Unix()
	tx.saved = true
}

// Destroy removes the group with everything in it. Its records in other tables are
// removed in the background.
func (tx *Tx) Destroy() {
	tx.destroyed = true
	tx.items = append(tx.items, txItem{delivery: Delivery{Gone: true}})
}

// Member returns a's membership as it is now, or nil. It is a copy.
func (tx *Tx) Member(a group.Account) (*group.Member, error) {
	if m, ok := tx.members[a]; ok {
		if m == nil {
			return nil, nil
		}
		return m.Clone(), nil
	}
	if tx.group == nil || tx.created {
		return nil, nil
	}
	s, err := tx.lane.sender(tx.ctx, a)
	if err != nil || s.member == nil {
		return nil, err
	}
	return s.member.Clone(), nil
}

// RoomMember returns the membership that a has in a group whose type stores no members, or
// nil; unlike Member it never reads the store, so that it is for long lists. It is shared: do
// not change it. Members whose roles are stored are not found here before they come in.
func (tx *Tx) RoomMember(a group.Account) *group.Member { return tx.lane.room[a] }

// PutMember adds a member or changes one. A new member's JoinTime and JoinSeq are filled in if
// its JoinTime is zero, and the group's count follows.
func (tx *Tx) PutMember(m *group.Member) error {
	had, err := tx.Member(m.Account)
	if err != nil {
		return err
	}
	m = m.Clone()
	if had == nil {
		if m.JoinTime == 0 {
			m.JoinTime, m.JoinSeq = tx.now.Unix(), tx.nextTail()
		}
		tx.group.MemberCount++
		tx.saved = tx.saved || !tx.fleeting(m)
	}
	if had != nil && had.Role > group.OrdinaryMember && m.Role == group.OrdinaryMember && !tx.group.Type.Rules().StoresMembers {
		// A room keeps its owner and admins only: who is neither any more has no row.
		tx.Write(storage.Members.Delete(storage.MemberKey(tx.group.Key(), m.Account)), storage.Joined.Delete(storage.JoinedKey(m.Account, tx.group.ID)))
	}
	tx.setMember(m.Account, m)
	tx.items = append(tx.items, txItem{delivery: Delivery{Member: &MemberChange{
		Account: m.Account, Joined: true, Receive: tx.group.ReceiveOf(m), Role: m.Role, Since: m.JoinSeq,
		Fleeting: tx.fleeting(m),
	}}})
	return nil
}

// fleeting reports whether m's membership is kept in the lane's memory alone.
func (tx *Tx) fleeting(m *group.Member) bool {
	return m.Role == group.OrdinaryMember && !tx.group.Type.Rules().StoresMembers
}

// RemoveMember ends a's membership; it reports whether there was one.
func (tx *Tx) RemoveMember(a group.Account) (bool, error) {
	had, err := tx.Member(a)
	if err != nil || had == nil {
		return false, err
	}
	tx.group.MemberCount--
	if !tx.fleeting(had) {
		tx.saved = true
		tx.unstored = append(tx.unstored, a)
	}
	tx.setMember(a, nil)
	tx.items = append(tx.items, txItem{delivery: Delivery{Member: &MemberChange{Account: a}}})
	return true, nil
}

// MutedUntil returns the end of a's mute in this group, in Unix seconds; 0 if it has none.
func (tx *Tx) MutedUntil(a group.Account) (int64, error) {
	if until, ok := tx.mutes[a]; ok {
		return until, nil
	}
	s, err := tx.lane.sender(tx.ctx, a)
	if err != nil || s.mutedUntil <= tx.now.Unix() {
		return 0, err
	}
	return s.mutedUntil, nil
}

// SetMute keeps a from sending until then (Unix seconds; group.Forever: no end; 0: lifted).
// Members and others can be muted; a mute survives leaving and joining again.
func (tx *Tx) SetMute(a group.Account, until int64) {
	if tx.mutes == nil {
		tx.mutes = make(map[group.Account]int64)
	}
	tx.mutes[a] = until
}

// Tip posts a tip as the type's policy for its kind says: stored with a SEQ, sent to those
// online, or not at all. content is the TIMGroupTipElem's MsgContent.
func (tx *Tx) Tip(policy group.TipPolicy, content any) error {
	if policy == group.NoTip {
		return nil
	}
	body, err := json.Marshal([]any{struct {
		MsgType    string
		MsgContent any
	}{"TIMGroupTipElem", content}})
	if err != nil {
		return err
	}
	m := &group.Message{From: group.SystemAccount, Priority: group.Normal, Flags: group.System | group.NoUnread, Body: body, Hash: group.HashBody(body)}
	tx.Post(m, policy == group.TipStored)
	return nil
}

// Post adds a message that is exempt from hooks and flow control: a tip, or an import. Its
// place and what the lane knows (group, SEQ, expiry, an absent Time) are filled in.
func (tx *Tx) Post(m *group.Message, stored bool) {
	tx.items = append(tx.items, txItem{delivery: Delivery{Message: m}, stored: stored})
}

// Replace writes a new version of a stored message: a tombstone or a modified one.
func (tx *Tx) Replace(m *group.Message) { tx.replaced = append(tx.replaced, m) }

// ReplaceWith adds records that are written at once with the new versions of messages. (What
// Write adds follows them.)
func (tx *Tx) ReplaceWith(muts ...storage.Mutation) { tx.beside = append(tx.beside, muts...) }

// Event tells the group's online members (or those in e.To).
func (tx *Tx) Event(e Event) {
	tx.items = append(tx.items, txItem{delivery: Delivery{Event: &e}})
}

// Notice tells one account.
func (tx *Tx) Notice(n Notice) {
	tx.items = append(tx.items, txItem{delivery: Delivery{Notice: &n}})
}

// Callback reports an event to the app by an after-callback.
func (tx *Tx) Callback(name string, body any) {
	tx.items = append(tx.items, txItem{callback: name, body: body})
}

// Write adds records to what becomes durable with the change.
func (tx *Tx) Write(muts ...storage.Mutation) { tx.muts = append(tx.muts, muts...) }

func (tx *Tx) setMember(a group.Account, m *group.Member) {
	if tx.members == nil {
		tx.members = make(map[group.Account]*group.Member)
	}
	tx.members[a] = m
}

// nextTail is the tail as it will be after the messages posted so far.
func (tx *Tx) nextTail() group.Seq {
	var tail group.Seq
	if !tx.created {
		tail = tx.lane.st.head.Tail
	}
	for _, it := range tx.items {
		if it.stored {
			tail++
		}
	}
	return tail
}

// mutations returns the records of the change, in an order in which a prefix does no harm:
// the group first (an Insert when it is new, so that only one creator wins), then
// memberships, then the rest.
func (tx *Tx) mutations() []storage.Mutation {
	if tx.group == nil {
		return tx.muts
	}
	var out []storage.Mutation
	key := tx.group.Key()
	row := storage.GroupKey(key.ID)
	switch {
	case tx.destroyed:
		out = append(out, storage.Lives.Put(row, &storage.Life{Incarnation: key.Incarnation}), storage.Groups.Delete(row))
		return append(out, tx.muts...)
	case tx.created:
		out = append(out, storage.Groups.Insert(row, tx.group), storage.Lives.Put(row, &storage.Life{Incarnation: key.Incarnation}))
	}
	// A table after the other, so that a store which writes run by run needs few of them; the
	// index before what it points to, and gone after it.
	var joined, members, gone, unjoined []storage.Mutation
	for a, m := range tx.members {
		switch mk, jk := storage.MemberKey(key, a), storage.JoinedKey(a, key.ID); {
		case m == nil && !tx.group.Type.Rules().StoresMembers && !slices.Contains(tx.unstored, a):
			// It was never stored.
		case m == nil:
			gone = append(gone, storage.Members.Delete(mk))
			unjoined = append(unjoined, storage.Joined.Delete(jk))
		case m.Role == group.OrdinaryMember && !tx.group.Type.Rules().StoresMembers:
			// The lane alone knows a room's ordinary members.
		default:
			joined = append(joined, storage.Joined.Put(jk, &storage.JoinedGroup{
				ID: key.ID, Incarnation: key.Incarnation, Type: tx.group.Type,
				JoinTime: m.JoinTime, JoinSeq: m.JoinSeq, Receive: m.Receive, Role: m.Role,
			}))
			members = append(members, storage.Members.Put(mk, m))
		}
	}
	out = slices.Concat(out, joined, members, gone, unjoined)
	for a, until := range tx.mutes {
		if mk := storage.MemberKey(key, a); until == 0 {
			out = append(out, storage.Mutes.Delete(mk))
		} else {
			out = append(out, storage.Mutes.Put(mk, &storage.Mute{Until: until}))
		}
	}
	if tx.saved && !tx.created {
		out = append(out, storage.Groups.Put(row, tx.group))
	}
	return append(out, tx.muts...)
}
