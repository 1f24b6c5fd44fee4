package command

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerMessages() {
	e := t.env
	register(t, Command{Service: groupService, Name: "send_group_msg", Audience: Everyone, Changes: true, Doc: "Sends a message to a group."}, e.sendMessage)
	register(t, Command{Service: groupService, Name: "group_msg_get_simple", Aliases: []string{"group_msg_get"}, Audience: Everyone, Doc: "Returns stored messages, newest first."}, e.getHistory)
}

type mention struct {
	All     int           `json:"GroupAtAllFlag" doc:"1: everybody; 0: the account."`
	Account group.Account `json:"GroupAt_Account" wire:"account"`
}

type sendRequest struct {
	GroupID     group.ID        `json:"GroupId" wire:"required"`
	Random      *uint32         `json:"Random" wire:"required" doc:"The same Random, sender and body within five minutes are one message."`
	Body        json.RawMessage `json:"MsgBody" wire:"required" type:"array" doc:"The message's elements."`
	From        group.Account   `json:"From_Account" wire:"account" doc:"The sender that members see; not given: the calling admin. For users: always the caller."`
	Priority    string          `json:"MsgPriority" doc:"High, Normal, Low or Lowest."`
	OfflinePush json.RawMessage `json:"OfflinePushInfo" type:"object"`
	Forbid      []string        `json:"ForbidCallbackControl" doc:"ForbidBeforeSendMsgCallback, ForbidAfterSendMsgCallback."`
	OnlineOnly  int             `json:"OnlineOnlyFlag" alias:"MsgOnlineOnlyFlag" doc:"1: for those online, not stored."`
	Control     []string        `json:"SendMsgControl" doc:"NoUnread, NoLastMsg, WithMuteNotifications."`
	Cloud       string          `json:"CloudCustomData" wire:"text"`
	Extensions  int             `json:"SupportMessageExtension" doc:"1: extensions may be attached."`
	To          []group.Account `json:"To_Account" wire:"account" doc:"Only these members get it; at most 50."`
	Mentions    []mention       `json:"GroupAtInfo" doc:"At most 30."`
	NeedReceipt int             `json:"NeedReadReceipt"`
	TopicID     string          `json:"TopicId" doc:"Topics are not offered."`
}

type sendResponse struct {
	Time   int64     `json:"MsgTime" doc:"Unix seconds."`
	Seq    group.Seq `json:"MsgSeq" doc:"0: the message was not stored. In a live room: its number there, which is not stored either."`
	Reason string    `json:"MsgDropReason,omitempty" doc:"MsgFreqCtrl: dropped by frequency control."`
}

func (e *env) sendMessage(ctx context.Context, call *Call, r *sendRequest) (*sendResponse, error) {
	d := e.draft(call, r)
	out := e.pipeline.Send(ctx, d)
	if out.Err != nil {
		return nil, out.Err
	}
	resp := &sendResponse{Time: out.Time, Seq: max(out.Seq, out.RoomSeq)}
	if out.Restricted {
		resp.Reason = "MsgFreqCtrl"
	}
	if resp.Time == 0 { // it is nowhere; the answer has the server's time all the same
		resp.Time = nowUnix()
	}
	return resp, nil
}

// draft turns a request into what the pipeline takes, or what it refuses.
func (e *env) draft(call *Call, r *sendRequest) *hooks.Draft {
	d := &hooks.Draft{
		Group: r.GroupID, From: call.Caller, Operator: call.Caller, ByAdmin: call.Admin, Origin: call.origin(), Body: r.Body,
		CloudCustomData: r.Cloud, OfflinePush: r.OfflinePush, To: r.To,
	}
	if r.Random != nil {
		d.Random, d.HasRandom = *r.Random, true
	}
	if call.Admin && r.From != "" {
		d.From = r.From
	}
	var known bool
	if d.Priority, known = group.ParsePriority(r.Priority); !known {
		d.Invalid = badParameter("MsgPriority must be High, Normal, Low or Lowest")
		return d
	}
	if d.Flags, d.Invalid = flagsOf(r); d.Invalid != nil {
		return d
	}
	if !call.Admin {
		d.Flags &^= group.ForbidBefore | group.ForbidAfter
	}
	if len(r.Mentions) > group.MaxMentions {
		d.Invalid = group.Errorf(group.CodeTooManyMentions, "%d mentions, at most %d are allowed", len(r.Mentions), group.MaxMentions)
		return d
	}
	for _, m := range r.Mentions {
		if m.All == 0 && m.Account == "" {
			d.Invalid = badParameter("GroupAtInfo: an entry names nobody")
			return d
		}
		d.Mentions = append(d.Mentions, group.Mention{All: m.All != 0, Account: m.Account})
	}
	return d
}

// flagsOf collects what is on or off in a request.
func flagsOf(r *sendRequest) (group.Flags, *group.Error) {
	var f group.Flags
	set := func(on bool, flag group.Flags) {
		if on {
			f |= flag
		}
	}
	set(r.OnlineOnly > 0, group.OnlineOnly)
	set(r.Extensions > 0, group.Extensions)
	set(r.NeedReceipt > 0, group.NeedReceipt)
	for _, name := range r.Control {
		switch name {
		case "NoUnread":
			f |= group.NoUnread
		case "NoLastMsg":
			f |= group.NoLastMsg
		case "WithMuteNotifications":
			f |= group.MuteNotifications
		default:
			return 0, badParameter("SendMsgControl must be of NoUnread, NoLastMsg, WithMuteNotifications")
		}
	}
	for _, name := range r.Forbid {
		switch name {
		case "ForbidBeforeSendMsgCallback":
			f |= group.ForbidBefore
		case "ForbidAfterSendMsgCallback":
			f |= group.ForbidAfter
		default:
			return 0, badParameter("ForbidCallbackControl must be of ForbidBeforeSendMsgCallback, ForbidAfterSendMsgCallback")
		}
	}
	return f, nil
}

type historyRequest struct {
	GroupID      group.ID `json:"GroupId" wire:"required"`
	Number       int      `json:"ReqMsgNumber" wire:"required" doc:"How many; more than 20 are cut."`
	Seq          int64    `json:"ReqMsgSeq" doc:"The highest MsgSeq wanted; not given: the newest."`
	Ascending    int      `json:"Ascending" doc:"1: ReqMsgSeq is the lowest MsgSeq wanted, and the answer ascends from it."`
	WithRecalled int      `json:"WithRecalledMsg" doc:"1: recalled messages too, without their content."`
	TopicID      string   `json:"TopicId" doc:"Topics are not offered."`
}

// A historyMessage is a stored message on the wire.
type historyMessage struct {
	From      group.Account   `json:"From_Account"`
	Place     int             `json:"IsPlaceMsg" doc:"0 normal; 1 deleted, expired or not stored; 2 recalled."`
	Body      json.RawMessage `json:"MsgBody"`
	Priority  int             `json:"MsgPriority" doc:"1 High … 4 Lowest."`
	Random    uint32          `json:"MsgRandom"`
	Seq       group.Seq       `json:"MsgSeq"`
	Time      int64           `json:"MsgTimeStamp" doc:"Unix seconds."`
	Cloud     string          `json:"CloudCustomData,omitempty"`
	System    int             `json:"IsSystemMsg,omitempty" doc:"1: a tip."`
	Nick      string          `json:"From_AccountNick,omitempty"`
	FaceURL   string          `json:"From_AccountHeadurl,omitempty"`
	Extra     *senderExtra    `json:"MsgFrom_AccountExtraInfo"`
	Control   []string        `json:"SendMsgControl,omitempty"`
	Mentions  []mention       `json:"GroupAtInfo,omitempty"`
	Receipt   int             `json:"NeedReadReceipt,omitempty"`
	Modified  int             `json:"MsgModifiedFlag,omitempty"`
	Version   int64           `json:"MsgVersion,omitempty"`
	Extension int             `json:"SupportMessageExtension,omitempty"`
	Revoker   group.Account   `json:"Revoker_Account,omitempty"`
	Reason    string          `json:"RevokeReason,omitempty"`
	To        []group.Account `json:"To_Account,omitempty"`
}

type senderExtra struct {
	NameCard     string  `json:"MsgGroupFromCardName,omitempty"`
	Nick         string  `json:"MsgGroupFromNickName,omitempty"`
	Role         string  `json:"Role,omitempty"`
	UserCustom   []field `json:"UserCustom,omitempty"`
	MemberCustom []field `json:"MemberCustom,omitempty"`
}

func messageOut(m *group.Message) historyMessage {
	h := historyMessage{
		From: m.From, Body: m.Body, Priority: int(m.Priority), Random: m.Random, Seq: m.Seq, Time: m.Time, Cloud: m.CloudCustomData,
		Nick: m.Sender.Nick, FaceURL: m.Sender.FaceURL, Version: m.Version, Revoker: m.Revoker, Reason: m.Reason, To: m.To,
	}
	if s := m.Sender; s.NameCard != "" || s.Role != "" || len(s.UserCustom)+len(s.MemberCustom) > 0 {
		h.Extra = &senderExtra{NameCard: s.NameCard, Nick: s.Nick, Role: s.Role, UserCustom: fieldsOut(s.UserCustom), MemberCustom: fieldsOut(s.MemberCustom)}
	}
	switch m.State {
	case group.Recalled:
		h.Place = 2
	case group.Deleted:
		h.Place = 1
	}
	h.System, h.Receipt = bit(m.Has(group.System)), bit(m.Has(group.NeedReceipt))
	h.Modified, h.Extension = bit(m.Has(group.Modified)), bit(m.Has(group.Extensions))
	for _, c := range []struct {
		flag group.Flags
		name string
	}{{group.NoUnread, "NoUnread"}, {group.NoLastMsg, "NoLastMsg"}, {group.MuteNotifications, "WithMuteNotifications"}} {
		if m.Has(c.flag) && !m.Has(group.System) {
			h.Control = append(h.Control, c.name)
		}
	}
	for _, a := range m.Mentions {
		h.Mentions = append(h.Mentions, mention{bit(a.All), a.Account})
	}
	return h
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// placeholder stands for a message that expired or was never stored.
func placeholder(seq group.Seq) historyMessage {
	return historyMessage{Place: 1, Seq: seq, Priority: int(group.Normal)}
}

type historyResponse struct {
	GroupID  group.ID         `json:"GroupId"`
	Finished int              `json:"IsFinished" doc:"1 all that was asked for; 0 cut, also after 1,000 MsgSeqs of which too few are to be seen: the last entry is then a placeholder; 2 cut, and all in the range had expired."`
	Messages []historyMessage `json:"RspMsgList" doc:"Newest first; with Ascending the oldest."`
	Next     group.Seq        `json:"NextReqMsgSeq,omitempty" doc:"With Ascending: the ReqMsgSeq of the next page. The end is where it is above the group's last MsgSeq."`
}

const (
	maxHistoryPage = 20
	// maxHistoryScan bounds how far a call looks for messages beyond those that it leaves out.
	// Where it stops, the page ends with a placeholder.
	maxHistoryScan = 1000
)

func (e *env) getHistory(ctx context.Context, call *Call, r *historyRequest) (*historyResponse, error) {
	if r.Number <= 0 {
		return nil, badParameter("ReqMsgNumber must be 1 to %d", maxHistoryPage)
	}
	if r.Seq < 0 {
		return nil, badParameter("ReqMsgSeq is negative")
	}
	g, m, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	if !g.Type.Rules().StoresMessages {
		return nil, notPermitted("groups of type %s have no history", g.Type)
	}
	head, err := e.store.Head(ctx, g.Key())
	if err != nil {
		return nil, err
	}
	top := head.Tail
	if r.Seq > 0 {
		top = min(top, group.Seq(r.Seq))
	}
	page := historyPage{
		want: min(r.Number, maxHistoryPage), withRecalled: r.WithRecalled > 0, room: e.cfg.AnswerSize - answerRoom,
		next: top, low: max(1, top-maxHistoryScan+1),
	}
	first := group.Seq(1) // the lowest that the caller may see
	if r.Ascending > 0 {
		page.low = max(1, group.Seq(r.Seq))
	}
	if m != nil {
		page.reader = call.Caller
		view, err := storage.Views.Find(ctx, e.store, storage.MemberKey(g.Key(), m.Account))
		if err != nil {
			return nil, err
		}
		first = firstVisible(g, m)
		if view != nil {
			first = max(first, view.ClearedTo+1)
			page.hidden = view.Hidden
		}
		page.low = max(page.low, first)
	}
	if r.Ascending > 0 {
		return e.historyUp(ctx, g, page, head.Tail, r.Number)
	}
	if err := page.fill(ctx, e, g); err != nil {
		return nil, err
	}
	page.last = page.next < first
	if page.next < page.low && page.low > first {
		page.endScan()
	}
	return &historyResponse{GroupID: g.ID, Finished: page.finished(r.Number), Messages: page.messages}, nil
}

// historyUp answers with the window of so many SEQs from the lowest wanted. A window whose
// messages are too large for one answer is halved: none may be missing in the middle.
func (e *env) historyUp(ctx context.Context, g *group.Group, p historyPage, tail group.Seq, asked int) (*historyResponse, error) {
	cut := false
	for {
		page := p
		page.next = min(tail, page.low+group.Seq(page.want)-1)
		top := page.next
		if err := page.fill(ctx, e, g); err != nil {
			return nil, err
		}
		if page.cut && p.want > 1 {
			p.want, cut = p.want/2, true
			continue
		}
		page.cut, page.last = page.cut || cut, top == tail
		slices.Reverse(page.messages)
		return &historyResponse{GroupID: g.ID, Finished: page.finished(asked), Messages: page.messages, Next: max(page.low, top+1)}, nil
	}
}

// firstVisible is the lowest SEQ that a member may read.
func firstVisible(g *group.Group, m *group.Member) group.Seq {
	first := g.ClearedTo + 1
	if !g.SeesHistoryBeforeJoin() {
		first = max(first, m.JoinSeq+1)
	}
	return first
}

// answerRoom is kept free in a history answer for what is not messages.
const answerRoom = 4096

// A historyPage gathers one page, from next downwards to low.
type historyPage struct {
	want         int
	withRecalled bool
	room         int           // bytes
	reader       group.Account // empty: an app admin, who sees everything
	next, low    group.Seq
	hidden       []group.Seq // ascending: what the reader removed from its view

	messages []historyMessage
	cut      bool
	real     bool // some are not placeholders for what expired
	last     bool // nothing is left beyond this page
}

var errPageFull = errors.New("page full")

func (p *historyPage) fill(ctx context.Context, e *env, g *group.Group) error {
	if p.low <= p.next {
		for m, err := range e.store.RangeDown(ctx, g.Key(), p.low, p.next+1) {
			if err != nil {
				return err
			}
			if p.gap(m.Seq) != nil || p.take(m) != nil {
				return nil
			}
		}
	}
	_ = p.gap(p.low - 1)
	return nil
}

// gap adds placeholders for the SEQs from next down to, but without, seq.
func (p *historyPage) gap(seq group.Seq) error {
	for ; p.next > seq; p.next-- {
		if len(p.messages) == p.want {
			return errPageFull
		}
		p.messages = append(p.messages, placeholder(p.next))
	}
	return nil
}

// take adds the message next, if it is to be seen.
func (p *historyPage) take(m *group.Message) error {
	if len(p.messages) == p.want {
		return errPageFull
	}
	p.next = m.Seq - 1
	if m.State == group.Recalled && !p.withRecalled || p.reader != "" && !m.VisibleTo(p.reader) {
		return nil
	}
	if _, hidden := slices.BinarySearch(p.hidden, m.Seq); hidden {
		return nil
	}
	if p.room -= len(m.Body) + len(m.CloudCustomData) + 512; p.room < 0 && len(p.messages) > 0 {
		p.cut = true
		return errPageFull
	}
	p.real = true
	p.messages = append(p.messages, messageOut(m))
	return nil
}

// endScan ends a page that is not full because too many messages in a row are left out. Clients
// go on below the last entry, and take an empty page, or IsFinished 1, for the end.
func (p *historyPage) endScan() {
	if len(p.messages) == p.want {
		return
	}
	if n := len(p.messages); n == 0 || p.messages[n-1].Seq != p.low {
		p.messages = append(p.messages, placeholder(p.low))
	}
	p.cut, p.real = true, true
}

// finished is the answer's IsFinished. Who asks for more than a page holds and gets all there is
// was not cut: clients go on until they are told so, at the end from the newest message again.
func (p *historyPage) finished(asked int) int {
	switch {
	case !p.cut && (asked <= maxHistoryPage || p.last):
		return 1
	case !p.real && len(p.messages) > 0:
		return 2
	}
	return 0
}
