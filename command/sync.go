package command

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerSync() {
	e := t.env
	register(t, Command{Service: groupService, Name: "sync", Audience: Users, Doc: "Returns where the caller's groups stand, in pages, the newest conversation first."}, e.sync)
	register(t, Command{Service: groupService, Name: "get_usersig_info", Audience: Users, Doc: "Returns who the caller is, and when its UserSig expires."}, e.sigInfo)
}

type sigInfoResponse struct {
	UserID   group.Account `json:"UserID"`
	SDKAppID int64         `json:"SDKAppID"`
	Expires  int64         `json:"ExpireTime" doc:"Unix seconds; 0: unknown. Connections outlive it; logins do not."`
	Time     int64         `json:"ServerTime" doc:"Unix seconds."`
}

func (e *env) sigInfo(_ context.Context, call *Call, _ *ok) (*sigInfoResponse, error) {
	return &sigInfoResponse{call.Caller, e.cfg.SDKAppID, call.SigExpires, time.Now().Unix()}, nil
}

const (
	maxSyncPage = 100
	// maxSyncBytes bounds the last messages in a page; one that would be longer ends early.
	maxSyncBytes = 256 << 10
)

type syncRequest struct {
	Limit  int    `json:"Limit" doc:"At most 100, which is the default."`
	Cursor string `json:"Cursor" doc:"Empty first, then the Cursor of the answer before."`
	Since  int64  `json:"Since" doc:"The ServerTime of an earlier sync: what has changed since then is told too. The same for all pages; 0: nothing is."`
}

// A syncItem is where one group stands for one member. It is one consistent cut: nothing in it
// is of a message after NextMsgSeq.
type syncItem struct {
	GroupID  group.ID        `json:"GroupId"`
	Type     string          `json:"Type"`
	Name     string          `json:"Name"`
	Next     group.Seq       `json:"NextMsgSeq" doc:"The SEQ of the group's next message."`
	Read     group.Seq       `json:"ReadSeq" doc:"How far the caller has read."`
	Unread   int64           `json:"UnreadMsgNum" doc:"Without messages that do not count: tips, NoUnread and directed ones."`
	First    group.Seq       `json:"FirstMsgSeq" doc:"The lowest SEQ that the caller may read."`
	Receive  string          `json:"MsgFlag" doc:"The receive option in force."`
	Role     string          `json:"Role"`
	JoinTime int64           `json:"JoinTime" doc:"Unix seconds."`
	LastTime int64           `json:"LastMsgTime" doc:"Unix seconds; 0: there was none."`
	Last     json.RawMessage `json:"LastMsg,omitempty" type:"object" doc:"The newest message that the caller may see and that counts as such; absent if there is none."`

	Change  int64             `json:"ChangeSeq" doc:"The number of the last recall or edit of a message; 0: there was none."`
	Lost    int64             `json:"LostChangeSeq,omitempty" doc:"With Since: changes up to this one may be missing in Changes, since there were too many."`
	Changes []json.RawMessage `json:"Changes,omitempty" doc:"With Since: the events Recall and Modify, a Modify without the content; oldest first, of a message the last one."`
}

type syncResponse struct {
	Groups []syncItem `json:"Groups" doc:"A group in which something happens meanwhile may come twice: the later one counts."`
	Cursor string     `json:"Cursor" doc:"Empty: the end."`
	Time   int64      `json:"ServerTime" doc:"Unix seconds; of the first page it is the next sync's Since."`

	Events []json.RawMessage `json:"Events,omitempty" doc:"With Since, on the first page: what the inbox was told of Left, Dismissed and ProfileChanged."`
}

// A syncCursor is where a page of sync ended. Pages go down by (Time, ID). A group that gets a
// message meanwhile moves up, past the place where it would have come; so those that have
// changed since the first page come again at the end, by ID.
type syncCursor struct {
	Cut   int64    `json:"c"` // Unix seconds of the first page
	Time  int64    `json:"t,omitzero"`
	ID    group.ID `json:"i,omitzero"`
	Again bool     `json:"a,omitzero"` // among those that have changed
}

func (c syncCursor) String() string {
	b, _ := json.Marshal(c) // numbers and a string
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseSyncCursor(s string) (c syncCursor, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil || c.Cut <= 0 {
		return c, badParameter("Cursor is not what an answer gave")
	}
	return c, nil
}

// A standing is a group of an account with what its place in the list depends on.
type standing struct {
	group  *group.Group
	member *group.Member
	head   storage.Head
	time   int64 // of the last message, or of joining
}

func (e *env) sync(ctx context.Context, call *Call, r *syncRequest) (*syncResponse, error) {
	if r.Limit < 0 || r.Limit > maxSyncPage {
		return nil, badParameter("Limit must be at most %d", maxSyncPage)
	}
	if r.Since < 0 {
		return nil, badParameter("Since is negative")
	}
	if r.Limit == 0 {
		r.Limit = maxSyncPage
	}
	now := time.Now().Unix()
	cur := syncCursor{Cut: now}
	if r.Cursor != "" {
		var err error
		if cur, err = parseSyncCursor(r.Cursor); err != nil {
			return nil, err
		}
	}
	all, err := e.standings(ctx, call.Caller)
	if err != nil {
		return nil, err
	}
	page, at := syncPage(all, cur, r.Cursor == "", r.Limit)
	if page, err = e.membersOnly(ctx, call.Caller, page); err != nil {
		return nil, err
	}
	talks, err := e.talks(ctx, call.Caller, page)
	if err != nil {
		return nil, err
	}
	changes, err := e.changesOf(ctx, page)
	if err != nil {
		return nil, err
	}
	resp := &syncResponse{Groups: []syncItem{}, Cursor: at, Time: now}
	since := r.Since - int64(syncOverlap/time.Second)
	if r.Since > 0 && r.Cursor == "" {
		if resp.Events, err = e.missedEvents(ctx, call.Caller, since, all); err != nil {
			return nil, err
		}
	}
	room := maxSyncBytes
	for i, t := range talks {
		item := syncItem{
			GroupID: t.group.ID, Type: e.typeName(t.group.Type), Name: t.group.Name, Next: t.head.Tail + 1, Read: t.read, Unread: t.unread,
			First: t.first, Receive: t.group.ReceiveOf(t.member).String(), Role: t.member.Role.String(), JoinTime: t.member.JoinTime,
			LastTime: t.head.Time,
		}
		if t.last != nil {
			item.Last = appendStored(nil, t.last)
		}
		if c := changes[i]; c != nil {
			item.Change = c.Last
			if r.Since > 0 {
				item.Changes, item.Lost = t.missed(c, call.Caller, since, now)
			}
		}
		size := len(item.Last) + 256
		for _, c := range item.Changes {
			size += len(c)
		}
		if room -= size; room < 0 && i > 0 {
			before := page[i-1]
			resp.Cursor = syncCursor{Cut: cur.Cut, Time: before.time, ID: before.group.ID, Again: cur.Again}.String()
			break
		}
		resp.Groups = append(resp.Groups, item)
	}
	return resp, nil
}

// standings returns the groups with history of an account as the index of joined groups has
// them. Whether it is still a member is for membersOnly to say.
func (e *env) standings(ctx context.Context, a group.Account) ([]standing, error) {
	var rows []*storage.JoinedGroup
	var names []string
	for row, err := range storage.Joined.Scan(ctx, e.store, storage.Span{Prefix: storage.Prefix(string(a))}) {
		if err != nil {
			return nil, err
		}
		if row.Value.Type.Rules().StoresMessages {
			rows = append(rows, row.Value)
			names = append(names, storage.GroupKey(row.Value.ID))
		}
	}
	groups, err := storage.Groups.GetMany(ctx, e.store, names)
	if err != nil {
		return nil, err
	}
	var out []standing
	var keys []group.Key
	for i, row := range rows {
		g := groups[i]
		if g == nil || g.Incarnation != row.Incarnation || g.Type.Rules().NeedsActivation && !g.Activated && row.Role != group.Owner {
			continue
		}
		out = append(out, standing{group: g, time: row.JoinTime})
		keys = append(keys, g.Key())
	}
	heads, err := e.store.Heads(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].head = heads[i]
		out[i].time = max(out[i].time, heads[i].Time)
	}
	return out, nil
}

// syncPage cuts a page out of all and returns the cursor of what follows, empty at the end.
func syncPage(all []standing, cur syncCursor, first bool, limit int) (page []standing, next string) {
	newest := func(a, b standing) int {
		return cmp.Or(cmp.Compare(b.time, a.time), strings.Compare(string(a.group.ID), string(b.group.ID)))
	}
	if !cur.Again {
		for _, s := range all {
			after := s.time < cur.Time || s.time == cur.Time && s.group.ID > cur.ID
			if first || s.time <= cur.Cut && after {
				page = append(page, s)
			}
		}
		slices.SortFunc(page, newest)
		if len(page) > limit {
			last := page[limit-1]
			return page[:limit], syncCursor{Cut: cur.Cut, Time: last.time, ID: last.group.ID}.String()
		}
		if first { // all at once: nothing can have passed
			return page, ""
		}
		limit -= len(page)
		cur = syncCursor{Cut: cur.Cut, Again: true}
	}
	var again []standing
	for _, s := range all {
		if s.time >= cur.Cut && s.group.ID > cur.ID {
			again = append(again, s)
		}
	}
	slices.SortFunc(again, func(a, b standing) int { return strings.Compare(string(a.group.ID), string(b.group.ID)) })
	switch {
	case len(again) == 0:
		return page, ""
	case limit == 0 || len(page) > 0: // a page is of one order
		return page, cur.String()
	case len(again) > limit:
		cur.ID = again[limit-1].group.ID
		return again[:limit], cur.String()
	}
	return again, ""
}

// membersOnly fills in the memberships and leaves out groups that the account is not in.
func (e *env) membersOnly(ctx context.Context, a group.Account, list []standing) ([]standing, error) {
	keys := make([]string, len(list))
	for i, s := range list {
		keys[i] = storage.MemberKey(s.group.Key(), a)
	}
	members, err := storage.Members.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	var out []standing
	for i, s := range list {
		if s.member = members[i]; s.member != nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// A talk is a group as a conversation of one member.
type talk struct {
	standing
	read   group.Seq
	unread int64
	first  group.Seq   // the lowest SEQ that the member may read
	hidden []group.Seq // ascending: what the member removed from its view
	last   *group.Message
}

// talks reads what members know of their groups, as of the heads in list, in a bounded number
// of round trips.
func (e *env) talks(ctx context.Context, a group.Account, list []standing) ([]talk, error) {
	rows := make([]string, len(list))
	groups := make([]string, len(list))
	keys := make([]group.Key, len(list))
	for i, s := range list {
		keys[i] = s.group.Key()
		rows[i], groups[i] = storage.MemberKey(keys[i], a), storage.GroupRecordKey(keys[i])
	}
	views, err := storage.Views.GetMany(ctx, e.store, rows)
	if err != nil {
		return nil, err
	}
	reads, err := storage.Reads.GetMany(ctx, e.store, rows)
	if err != nil {
		return nil, err
	}
	sends, err := storage.Sends.GetMany(ctx, e.store, rows)
	if err != nil {
		return nil, err
	}
	uncounted, err := storage.Uncounted.GetMany(ctx, e.store, groups)
	if err != nil {
		return nil, err
	}
	out := make([]talk, len(list))
	byKey := make(map[group.Key]*talk, len(list))
	for i, s := range list {
		t := &out[i]
		t.standing, t.first = s, firstVisible(s.group, s.member)
		if views[i] != nil {
			t.first, t.hidden = max(t.first, views[i].ClearedTo+1), views[i].Hidden
		}
		t.read = min(max(storage.ReadSeq(reads[i], sends[i]), readAtJoin(reads[i], s.member)), s.head.Tail)
		if s.group.Type.Rules().CountsUnread {
			t.unread = uncounted[i].Unread(t.read, s.head.Tail)
		}
		byKey[keys[i]] = t
	}
	last, err := e.store.Latest(ctx, keys, maxLastDepth, func(m *group.Message) bool {
		t := byKey[m.Key()]
		_, hidden := slices.BinarySearch(t.hidden, m.Seq)
		return m.Seq <= t.head.Tail && m.Seq >= t.first && !hidden && m.State != group.Deleted && !m.Has(group.NoLastMsg) && m.VisibleTo(a)
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].last = last[i]
	}
	return out, nil
}
