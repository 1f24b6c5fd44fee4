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
	// maxSyncPage is the most groups in a page. All that an account is in usually fit one: then
	// their records and last messages are read at once, in a handful of round trips.
	maxSyncPage = 500
	// maxSyncBytes bounds the last messages in a page; one that would be longer ends early.
	maxSyncBytes = 384 << 10
	// syncItemBytes is the most that a syncItem takes without its texts, messages and changes, and
	// the rest of the reply.
	syncItemBytes = 400
)

type syncRequest struct {
	Limit  int    `json:"Limit" doc:"At most 500, which is the default."`
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
	key  group.Key
	join int64 // Unix seconds
	time int64 // of the last message, or of joining
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
	rows, err := e.joinedRows(ctx, call.Caller)
	if err != nil {
		return nil, err
	}
	all := standings(rows)
	first := r.Cursor == ""
	if !first || len(all) > r.Limit { // else all come, and their ends are read with the rest
		if err := e.readTimes(ctx, all); err != nil {
			return nil, err
		}
	}
	page, at := syncPage(all, cur, first, r.Limit)
	talks, err := e.talks(ctx, call.Caller, page)
	if err != nil {
		return nil, err
	}
	if first && at == "" {
		for i := range talks {
			talks[i].time = max(talks[i].join, talks[i].head.Time)
		}
		slices.SortFunc(talks, func(a, b talk) int { return newestFirst(a.standing, b.standing) })
	}
	resp := &syncResponse{Groups: []syncItem{}, Cursor: at, Time: now}
	since := r.Since - int64(syncOverlap/time.Second)
	if r.Since > 0 && first {
		if resp.Events, err = e.missedEvents(ctx, call.Caller, since, rows); err != nil {
			return nil, err
		}
	}
	room := maxSyncBytes
	if call.MaxReply > 0 {
		room = min(room, call.MaxReply-2*syncItemBytes)
	}
	for _, ev := range resp.Events {
		room -= len(ev)
	}
	for i, t := range talks {
		item := syncItem{
			GroupID: t.group.ID, Type: e.typeName(t.group.Type), Name: t.group.Name, Next: t.head.Tail + 1, Read: t.read, Unread: t.unread,
			First: t.first, Receive: t.group.ReceiveOf(t.member).String(), Role: t.member.Role.String(), JoinTime: t.member.JoinTime,
			LastTime: t.head.Time,
		}
		if t.last != nil {
			item.Last = appendStored(nil, t.last)
		}
		if c := t.changes; c != nil {
			item.Change = c.Last
			if r.Since > 0 {
				item.Changes, item.Lost = t.missed(c, call.Caller, since, now)
			}
		}
		size := len(item.Last) + len(item.GroupID) + len(item.Name) + syncItemBytes
		for _, c := range item.Changes {
			size += len(c)
		}
		if room -= size; room < 0 && i > 0 {
			before := talks[i-1]
			resp.Cursor = syncCursor{Cut: cur.Cut, Time: before.time, ID: before.group.ID, Again: cur.Again}.String()
			break
		}
		resp.Groups = append(resp.Groups, item)
	}
	return resp, nil
}

// joinedRows returns the groups of an account as their index has them. Whether they are still there,
// and it is still a member, is for the reader to ask.
func (e *env) joinedRows(ctx context.Context, a group.Account) ([]*storage.JoinedGroup, error) {
	var rows []*storage.JoinedGroup
	for row, err := range storage.Joined.Scan(ctx, e.store, storage.Span{Prefix: storage.Prefix(string(a))}) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, row.Value)
	}
	return rows, nil
}

// standings returns those of the groups that have a history.
func standings(rows []*storage.JoinedGroup) []standing {
	var out []standing
	for _, row := range rows {
		if row.Type.Rules().StoresMessages {
			out = append(out, standing{key: row.Key(), join: row.JoinTime, time: row.JoinTime})
		}
	}
	return out
}

// readTimes reads when the last message of each of list was sent.
func (e *env) readTimes(ctx context.Context, list []standing) error {
	keys := make([]group.Key, len(list))
	for i, s := range list {
		keys[i] = s.key
	}
	heads, err := e.store.Heads(ctx, keys)
	for i, h := range heads {
		list[i].time = max(list[i].join, h.Time)
	}
	return err
}

// newestFirst is the order of a list of conversations.
func newestFirst(a, b standing) int {
	return cmp.Or(cmp.Compare(b.time, a.time), strings.Compare(string(a.key.ID), string(b.key.ID)))
}

// syncPage cuts a page out of all and returns the cursor of what follows, empty at the end.
func syncPage(all []standing, cur syncCursor, first bool, limit int) (page []standing, next string) {
	if !cur.Again {
		for _, s := range all {
			after := s.time < cur.Time || s.time == cur.Time && s.key.ID > cur.ID
			if first || s.time <= cur.Cut && after {
				page = append(page, s)
			}
		}
		slices.SortFunc(page, newestFirst)
		if len(page) > limit {
			last := page[limit-1]
			return page[:limit], syncCursor{Cut: cur.Cut, Time: last.time, ID: last.key.ID}.String()
		}
		if first { // all at once: nothing can have passed
			return page, ""
		}
		limit -= len(page)
		cur = syncCursor{Cut: cur.Cut, Again: true}
	}
	var again []standing
	for _, s := range all {
		if s.time >= cur.Cut && s.key.ID > cur.ID {
			again = append(again, s)
		}
	}
	slices.SortFunc(again, func(a, b standing) int { return strings.Compare(string(a.key.ID), string(b.key.ID)) })
	switch {
	case len(again) == 0:
		return page, ""
	case limit == 0 || len(page) > 0: // a page is of one order
		return page, cur.String()
	case len(again) > limit:
		cur.ID = again[limit-1].key.ID
		return again[:limit], cur.String()
	}
	return again, ""
}

// A talk is a group as a conversation of one member.
type talk struct {
	standing
	group   *group.Group
	member  *group.Member
	head    storage.Head
	read    group.Seq
	unread  int64
	changes *storage.ChangeSet // nil: none
	first   group.Seq          // the lowest SEQ that the member may read
	hidden  []group.Seq        // ascending: what the member removed from its view
	last    *group.Message
}

// talks reads what a member knows of its groups, as of one moment for each: in four round trips,
// or three when every group's last message counts as such. Groups that are no more, or that
// the account is not in, are left out.
func (e *env) talks(ctx context.Context, a group.Account, list []standing) ([]talk, error) {
	keys := make([]group.Key, len(list))
	names, rows, groups := make([]string, len(list)), make([]string, len(list)), make([]string, len(list))
	for i, s := range list {
		keys[i] = s.key
		names[i], rows[i], groups[i] = storage.GroupKey(s.key.ID), storage.MemberKey(s.key, a), storage.GroupRecordKey(s.key)
	}
	// The ends first: what is read after them speaks of all messages that they have.
	ends, err := e.store.Ends(ctx, keys)
	if err != nil {
		return nil, err
	}
	var q storage.Query
	found, uncounted, changes := storage.Groups.AskShared(&q, names), storage.Uncounted.AskShared(&q, groups), storage.Changes.AskShared(&q, groups)
	members, views := storage.Members.Ask(&q, rows), storage.Views.Ask(&q, rows)
	reads, sends := storage.Reads.Ask(&q, rows), storage.Sends.Ask(&q, rows)
	if err := q.Run(ctx, e.store); err != nil {
		return nil, err
	}
	out := make([]talk, 0, len(list))
	mine := ends[:0]
	for i, s := range list {
		g, m := found[i], members[i]
		if g == nil || m == nil || g.Incarnation != s.key.Incarnation || g.Type.Rules().NeedsActivation && !g.Activated && m.Role != group.Owner {
			continue
		}
		t := talk{standing: s, group: g, member: m, head: ends[i].Head, changes: changes[i], first: firstVisible(g, m)}
		if views[i] != nil {
			t.first, t.hidden = max(t.first, views[i].ClearedTo+1), views[i].Hidden
		}
		t.read = min(max(storage.ReadSeq(reads[i], sends[i]), readAtJoin(reads[i], m)), t.head.Tail)
		if g.Type.Rules().CountsUnread {
			t.unread = uncounted[i].Unread(t.read, t.head.Tail)
		}
		out = append(out, t)
		mine = append(mine, ends[i])
	}
	return out, e.readLast(ctx, a, out, mine)
}

// readLast reads the last message of each of talks, whose logs end at ends.
func (e *env) readLast(ctx context.Context, a group.Account, talks []talk, ends []storage.End) error {
	byKey := make(map[group.Key]*talk, len(talks))
	for i := range talks {
		byKey[talks[i].key] = &talks[i]
	}
	last, err := e.store.Latest(ctx, ends, maxLastDepth, func(m *group.Message) bool {
		t := byKey[m.Key()]
		_, hidden := slices.BinarySearch(t.hidden, m.Seq)
		return m.Seq >= t.first && !hidden && m.State != group.Deleted && !m.Has(group.NoLastMsg) && m.VisibleTo(a)
	})
	for i, m := range last {
		talks[i].last = m
	}
	return err
}
