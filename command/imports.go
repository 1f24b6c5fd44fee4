package command

import (
	"cmp"
	"context"
	"encoding/json"
	"sort"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerImports() {
	e := t.env
	register(t, Command{Service: groupService, Name: "import_group", Changes: true, Doc: "Creates a group as it was elsewhere, telling nobody."}, e.importGroup)
	register(t, Command{Service: groupService, Name: "import_group_member", Changes: true, Doc: "Adds members as they were elsewhere, telling nobody."}, e.importMembers)
	register(t, Command{Service: groupService, Name: "import_group_msg", Changes: true, Doc: "Adds old messages, telling nobody; afterwards nothing is unread."}, e.importMessages)
}

type importGroupRequest struct {
	groupData
	CreateTime int64 `json:"CreateTime" doc:"Unix seconds; not given: now."`
}

const (
	importedMaxMembers   = 2000 // of a group that names none
	importedMostMembers  = 6000
	maxImportedMessages  = 20
	maxImportedMembers   = 300
	codeImportedTooLarge = group.CodeMessageTooLong
)

func (e *env) importGroup(ctx context.Context, call *Call, r *importGroupRequest) (*createGroupResponse, error) {
	g, err := e.newGroup(&r.groupData, call)
	if err != nil {
		return nil, err
	}
	if g.MaxMembers == 0 {
		g.MaxMembers = importedMaxMembers
		if most := e.maxMembers(&group.Group{Type: g.Type}); most > 0 {
			g.MaxMembers = min(most, importedMaxMembers)
		}
	}
	now := time.Now().Unix()
	switch {
	case !g.Type.Allows(group.ImportInto, group.AppAdmin, 0):
		return nil, notPermitted("groups of type %s can't be imported", g.Type)
	case g.MaxMembers > importedMostMembers:
		return nil, badParameter("MaxMemberCount must be at most %d", importedMostMembers)
	case r.CreateTime < 0 || r.CreateTime > now:
		return nil, badParameter("CreateTime lies in the future")
	}
	g.CreateTime = r.CreateTime
	if g.CreateTime == 0 {
		g.CreateTime = now
	}
	g.Activated = true
	if g.Owner != "" {
		if err := e.mayJoin(ctx, []*group.Member{{Account: g.Owner}}); err != nil {
			return nil, err
		}
	}
	id, err := e.create(ctx, g, func(s *stage) error {
		if g.Owner == "" {
			return nil
		}
		return s.PutMember(&group.Member{Account: g.Owner, Role: group.Owner, JoinTime: g.CreateTime})
	})
	if err != nil {
		return nil, err
	}
	if e.stats != nil {
		e.stats.add(statNewGroups, 1)
	}
	return &createGroupResponse{GroupID: id}, nil
}

type importedMember struct {
	Account  group.Account `json:"Member_Account" wire:"required,account"`
	Role     string        `json:"Role" doc:"Admin, or nothing."`
	JoinTime int64         `json:"JoinTime" doc:"Unix seconds, from the creation of the group on; not given: now. The member may read what came since."`
	Unread   *int64        `json:"UnreadMsgNum" doc:"Cut to the number of messages; the member may read these, too. Not given: 0."`
}

type importMembersRequest struct {
	GroupID group.ID         `json:"GroupId" wire:"required"`
	Members []importedMember `json:"MemberList" wire:"required" doc:"At most 300."`
}

func (e *env) importMembers(ctx context.Context, call *Call, r *importMembersRequest) (*addMembersResponse, error) {
	if n := len(r.Members); n > maxImportedMembers {
		return nil, tooMany(n, maxImportedMembers)
	}
	if len(r.Members) == 0 {
		return nil, badParameter("MemberList is empty")
	}
	accounts := make([]group.Account, len(r.Members))
	for i, m := range r.Members {
		accounts[i] = m.Account
	}
	can, err := e.candidates(ctx, distinct(accounts))
	if err != nil {
		return nil, err
	}
	resp := &addMembersResponse{}
	err = e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		if err := allowed(g, group.ImportInto, group.AppAdmin, 0); err != nil {
			return err
		}
		resp.Members = nil
		times := make(map[group.Seq]int64)
		for i := range r.Members {
			result, err := e.importMember(tx, &r.Members[i], can, times)
			if err != nil {
				return err
			}
			resp.Members = append(resp.Members, addResult{r.Members[i].Account, result})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	results := make(map[group.Account]int)
	for _, m := range resp.Members {
		results[m.Account] = max(results[m.Account], m.Result)
	}
	if err := e.dropDeleted(ctx, call, r.GroupID, distinct(accounts), results); err != nil {
		return nil, err
	}
	for i, m := range resp.Members {
		resp.Members[i].Result = min(m.Result, results[m.Account])
	}
	return resp, nil
}

// importMember adds one member; times is for seqBefore.
func (e *env) importMember(tx *hooks.Tx, r *importedMember, can map[group.Account]*group.Profile, times map[group.Seq]int64) (result int, err error) {
	g := tx.Group()
	had, err := tx.Member(r.Account)
	if err != nil {
		return 0, err
	}
	most := e.maxMembers(g)
	m := &group.Member{Account: r.Account, Role: group.OrdinaryMember, JoinTime: cmp.Or(r.JoinTime, tx.Now().Unix())}
	switch {
	case had != nil:
		return addedBefore, nil
	case can[r.Account] == nil, most > 0 && g.MemberCount >= most:
		return addFailed, nil
	case r.JoinTime != 0 && (r.JoinTime < g.CreateTime || r.JoinTime > tx.Now().Unix()):
		return addFailed, nil
	case r.Unread != nil && *r.Unread < 0:
		return addFailed, nil
	}
	switch r.Role {
	case "", "Member":
	case "Admin":
		if !g.Type.Rules().HasAdmins {
			return addFailed, nil
		}
		m.Role = group.Admin
	default:
		return addFailed, nil
	}
	unread := int64(0)
	if r.Unread != nil {
		unread = *r.Unread
	}
	// It sees what came since it joined, and what is unread.
	if m.JoinSeq, err = seqBefore(tx, r.JoinTime, times); err != nil {
		return 0, err
	}
	m.JoinSeq = min(m.JoinSeq, e.setUnread(tx, r.Account, unread).Seq)
	return added, tx.PutMember(m)
}

// seqBefore returns the group's last SEQ before an instant (Unix seconds; 0: now), as far as its
// messages are still stored: their times rise with their SEQs. times keeps what was read.
func seqBefore(tx *hooks.Tx, at int64, times map[group.Seq]int64) (group.Seq, error) {
	head := tx.Head()
	if at == 0 || at > head.Time {
		return head.Tail, nil
	}
	var failed error
	timeOf := func(seq group.Seq) int64 {
		t, known := times[seq]
		if known {
			return t
		}
		for m, err := range tx.Store().Range(tx.Context(), tx.Group().Key(), seq, seq+1) {
			if err != nil {
				failed = err
				break
			}
			t = m.Time // 0 of what has expired: long ago
		}
		times[seq] = t
		return t
	}
	first := max(head.First, 1)
	n := sort.Search(int(head.Tail-first)+1, func(i int) bool { return failed != nil || timeOf(first+group.Seq(i)) >= at })
	return first + group.Seq(n) - 1, failed
}

// setUnread moves the member's read SEQ so that n messages are unread, or as many as there are,
// and returns its mark. What has expired counts, as it does in the difference of SEQs that clients take.
func (e *env) setUnread(tx *hooks.Tx, a group.Account, n int64) *storage.ReadMark {
	tail := tx.Head().Tail
	mark := &storage.ReadMark{Seq: tx.Uncounted().ReadFor(n, tail), SentBefore: tail}
	tx.Write(storage.Reads.Put(storage.MemberKey(tx.Group().Key(), a), mark))
	return mark
}

type importedMessage struct {
	From   group.Account   `json:"From_Account" wire:"required,account"`
	Time   int64           `json:"SendTime" wire:"required" doc:"Unix seconds, neither before the group's CreateTime nor before its newest message."`
	Random *uint32         `json:"Random"`
	Body   json.RawMessage `json:"MsgBody" wire:"required" type:"array"`
	Cloud  string          `json:"CloudCustomData" wire:"text"`
}

type importMessagesRequest struct {
	GroupID  group.ID          `json:"GroupId" wire:"required"`
	Contact  int               `json:"RecentContactFlag" doc:"0: the messages do not show in recent contacts."`
	TopicID  string            `json:"TopicId" doc:"Topics are not offered."`
	Messages []importedMessage `json:"MsgList" wire:"required" doc:"At most 20, in ascending time."`
}

type importResult struct {
	Seq    group.Seq `json:"MsgSeq" doc:"0: not imported."`
	Time   int64     `json:"MsgTime"`
	Result int       `json:"Result" doc:"0 imported; 10004 bad time or body; 80002 too long."`
}

type importMessagesResponse struct {
	Results []importResult `json:"ImportMsgResult"`
}

func (e *env) importMessages(ctx context.Context, _ *Call, r *importMessagesRequest) (*importMessagesResponse, error) {
	if n := len(r.Messages); n == 0 || n > maxImportedMessages {
		return nil, badParameter("MsgList has %d entries, 1 to %d are allowed", n, maxImportedMessages)
	}
	drafts := make([]*group.Message, len(r.Messages))
	codes := make([]int, len(r.Messages))
	senders := make([]group.Account, len(r.Messages))
	for i, m := range r.Messages {
		senders[i] = m.From
		body, refusal := group.ParseBody(m.Body, e.cfg.BodyLimit-len(m.Cloud))
		switch {
		case refusal != nil && refusal.Code == codeImportedTooLarge, len(m.Cloud) >= e.cfg.BodyLimit:
			codes[i] = codeImportedTooLarge
		case refusal != nil, !m.From.Valid():
			codes[i] = group.CodeBadParameter
		default:
			drafts[i] = &group.Message{
				From: m.From, Time: m.Time, HasRandom: m.Random != nil, Priority: group.Normal, Flags: group.Imported, Body: body.Raw,
				Hash: group.HashBody(body.Raw), CloudCustomData: m.Cloud,
			}
			if m.Random != nil {
				drafts[i].Random = *m.Random
			}
			if r.Contact == 0 {
				drafts[i].Flags |= group.NoLastMsg
			}
		}
	}
	shown, err := e.shown(ctx, senders)
	if err != nil {
		return nil, err
	}
	resp := &importMessagesResponse{}
	var posted []*group.Message
	err = e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		if err := allowed(g, group.ImportInto, group.AppAdmin, 0); err != nil {
			return err
		}
		posted = make([]*group.Message, len(drafts))
		last := max(tx.Head().Time, g.CreateTime)
		for i, d := range drafts {
			if d == nil {
				continue
			}
			if d.Time < last || d.Time > tx.Now().Unix() {
				codes[i] = group.CodeBadParameter
				continue
			}
			m := *d
			if p := shown[m.From]; p != nil {
				m.Sender = group.Sender{Nick: p.Nick, FaceURL: p.FaceURL}
			}
			last = m.Time
			posted[i] = &m
			tx.Post(&m, true)
		}
		return e.readAll(tx, g, posted)
	})
	if err != nil {
		return nil, err
	}
	e.exportAgain(posted)
	for i, m := range posted {
		if m == nil {
			resp.Results = append(resp.Results, importResult{Result: codes[i]})
			continue
		}
		resp.Results = append(resp.Results, importResult{Seq: m.Seq, Time: m.Time})
	}
	return resp, nil
}

// exportAgain tells the exporter of messages in hours that it may be through with.
func (e *env) exportAgain(posted []*group.Message) {
	if e.exporter == nil {
		return
	}
	now := time.Now()
	for _, m := range posted {
		if m != nil {
			e.exporter.changed(m.Time, now)
		}
	}
}

// readAll moves every member's read SEQ to the end that the posted messages will make.
func (e *env) readAll(tx *hooks.Tx, g *group.Group, posted []*group.Message) error {
	tail := tx.Head().Tail
	for _, m := range posted {
		if m != nil {
			tail++
		}
	}
	if tail == tx.Head().Tail {
		return nil
	}
	for row, err := range storage.Members.Scan(tx.Context(), tx.Store(), storage.Span{Prefix: storage.GroupPrefix(g.Key())}) {
		if err != nil {
			return err
		}
		tx.Write(storage.Reads.Put(row.Key, &storage.ReadMark{Seq: tail}))
	}
	return nil
}
