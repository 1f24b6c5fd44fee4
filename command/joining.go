package command

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerJoining() {
	e := t.env
	register(t, Command{Service: groupService, Name: "apply_join_group", Audience: Users, Changes: true, Doc: "Joins a group, or asks to."}, e.applyJoin)
	register(t, Command{Service: groupService, Name: "quit_group", Audience: Users, Changes: true, Doc: "Leaves a group."}, e.quit)
	register(t, Command{Service: groupService, Name: "handle_apply_join_group", Audience: Everyone, Changes: true, Doc: "Answers somebody's request to join."}, e.handleApply)
	register(t, Command{Service: groupService, Name: "get_pendency", Audience: Users, Doc: "Returns the open requests to join the groups that the caller is owner or admin of, and its own invitations."}, e.getPendency)
	register(t, Command{Service: groupService, Name: "msg_read_report", Audience: Users, Changes: true, Doc: "Says how far the caller has read a group."}, e.reportRead)
	register(t, Command{Service: groupService, Name: "delete_group_ramble_msg_by_seq", Audience: Users, Changes: true, Doc: "Removes messages from the caller's own view of the history."}, e.hideMessages)
}

const (
	maxApplyMsg   = 300  // bytes
	maxPendencies = 1000 // of a group
	maxPendPage   = 100
	maxHiddenCall = 30
	maxHidden     = 1000 // of a member and group

	joinedNow     = "JoinedSuccess"
	joinedWaits   = "WaitAdminApproval"
	joinedAlready = "AlreadyInGroup"
)

type applyRequest struct {
	GroupID group.ID `json:"GroupId" wire:"required"`
	Message string   `json:"ApplyMsg" wire:"text" doc:"At most 300 bytes; shown to those who decide."`
	Field   string   `json:"UserDefinedField" wire:"text" doc:"At most 300 bytes; passed on to them."`
}

type applyResponse struct {
	Status string `json:"JoinedStatus" doc:"JoinedSuccess, WaitAdminApproval or AlreadyInGroup."`
}

// beforeApply is the body of Group.CallbackBeforeApplyJoinGroup.
type beforeApply struct {
	callback
	Requestor group.Account `json:"Requestor_Account"`
}

func (e *env) applyJoin(ctx context.Context, call *Call, r *applyRequest) (*applyResponse, error) {
	if len(r.Message) > maxApplyMsg || len(r.Field) > maxApplyMsg {
		return nil, badParameter("ApplyMsg and UserDefinedField have at most %d bytes", maxApplyMsg)
	}
	g, err := e.group(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	switch m, err := e.member(ctx, g, call.Caller); {
	case err != nil:
		return nil, err
	case m != nil:
		return &applyResponse{joinedAlready}, nil
	}
	if err := mayApply(g); err != nil { // without asking the app
		return nil, err
	}
	if !g.Type.Rules().StoresMembers && len(e.online.Rooms(call.Caller)) >= e.cfg.RoomsPerUser {
		e.fullOfRooms.Inc()
		return nil, group.Errorf(group.CodeTooManyGroups, "%s is in %d live rooms already", call.Caller, e.cfg.RoomsPerUser)
	}
	can, err := e.candidates(ctx, []group.Account{call.Caller})
	if err != nil {
		return nil, err
	}
	if can[call.Caller] == nil {
		return nil, e.whyNone(ctx, []group.Account{call.Caller})
	}
	if e.before != nil {
		body := beforeApply{callback: e.callbackHead("Group.CallbackBeforeApplyJoinGroup", g, call), Requestor: call.Caller}
		if _, refusal := e.before.Before(ctx, body.Command, body, call.origin()); refusal != nil {
			return nil, refusal
		}
	}
	status, full := "", false
	err = e.update(ctx, r.GroupID, func(tx *hooks.Tx, _ *group.Group) error {
		var err error
		status, full, err = e.apply(&stage{Tx: tx, e: e, call: call, shown: can}, r)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case full:
		return nil, group.Errorf(group.CodeGroupFull, "the group is full")
	}
	return &applyResponse{status}, nil
}

// mayApply refuses those who want into a group that nobody may apply to.
func mayApply(g *group.Group) error {
	if !g.Type.Rules().Joinable {
		return notPermitted("groups of type %s are joined by invitation only", g.Type)
	}
	if option, _ := joinOptions(g); option == group.DisableApply {
		return notPermitted("the group takes no requests to join")
	}
	return nil
}

// apply lets the caller in, or notes that it wants to be; full says that there is no room, and
// that the app was told so.
func (e *env) apply(s *stage, r *applyRequest) (status string, full bool, err error) {
	g := s.Group()
	m, err := s.Member(s.call.Caller)
	switch {
	case err != nil:
		return "", false, err
	case m != nil:
		return joinedAlready, false, nil
	}
	if err := mayApply(g); err != nil {
		return "", false, err
	}
	ban, err := storage.Bans.Find(s.Context(), s.Store(), storage.MemberKey(g.Key(), s.call.Caller))
	if err != nil {
		return "", false, err
	}
	if ban != nil && ban.Until > s.Now().Unix() {
		return "", false, notPermitted("banned until %d", ban.Until)
	}
	if option, _ := joinOptions(g); option == group.NeedPermission {
		return joinedWaits, false, e.ask(s, r)
	}
	joined, err := e.join(s, s.call.Caller, notice{ReportType: reportJoinAccepted})
	return joinedNow, err == nil && !joined, err
}

// join lets a in, if there is room, and tells everybody; n is what its inbox gets.
func (e *env) join(s *stage, a group.Account, n notice) (joined bool, err error) {
	g := s.Group()
	most := e.maxMembers(g)
	if most > 0 && g.MemberCount >= most {
		body := s.head("Group.CallbackAfterGroupFull")
		s.Callback(body.Command, body)
		return false, nil
	}
	if err := s.PutMember(&group.Member{Account: a, Role: group.OrdinaryMember}); err != nil {
		return false, err
	}
	n.Role = group.OrdinaryMember.String()
	s.notice(a, "Joined", n)
	if err := s.tip(g.Type.Rules().JoinTip, tip{OpType: tipJoined, List: []group.Account{a}, MemberNum: g.MemberCount}); err != nil {
		return false, err
	}
	if e.away.take(g.Key(), a) {
		e.tellMemberState(s, "Online", a)
	}
	body := afterJoin{callback: s.head("Group.CallbackAfterNewMemberJoin"), JoinType: "Apply", Operator: s.call.Caller, Members: memberItems([]group.Account{a})}
	s.Callback(body.Command, body)
	if most > 0 && g.MemberCount >= most {
		full := s.head("Group.CallbackAfterGroupFull")
		s.Callback(full.Command, full)
	}
	return true, nil
}

// ask notes the caller's request and tells those who decide.
func (e *env) ask(s *stage, r *applyRequest) error {
	g := s.Group()
	open := 0
	for _, err := range s.Store().Scan(s.Context(), storage.Pendencies.Name, storage.Span{Prefix: storage.GroupPrefix(g.Key()), Limit: maxPendencies}) {
		if err != nil {
			return err
		}
		open++
	}
	if open == maxPendencies {
		return group.Errorf(group.CodeTooFrequent, "%d requests to join are open already", open)
	}
	at := s.Now().UnixMicro()
	s.Write(storage.Pendencies.Put(storage.MemberKey(g.Key(), s.call.Caller), &storage.Pendency{At: at, Message: r.Message, Field: r.Field}))
	members, err := e.members(s.Context(), g)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.Role >= group.Admin {
			s.notice(m.Account, "SystemNotification", notice{ReportType: reportJoinRequest, MsgKey: at, Token: strconv.FormatInt(at, 10), ApplyMsg: r.Message, Content: r.Field})
		}
	}
	return nil
}

type handleApplyRequest struct {
	GroupID   group.ID      `json:"GroupId" wire:"required"`
	Applicant group.Account `json:"Applicant_Account" wire:"required,account"`
	Answer    string        `json:"HandleMsg" wire:"required" doc:"Agree or Reject."`
	Message   string        `json:"ApprovalMsg" wire:"text" doc:"At most 300 bytes; shown to the applicant."`
}

// checkAnswer refuses what is no answer to a request or an invitation.
func checkAnswer(answer, message string) error {
	if answer != "Agree" && answer != "Reject" || len(message) > maxApplyMsg {
		return badParameter("HandleMsg must be Agree or Reject, ApprovalMsg has at most %d bytes", maxApplyMsg)
	}
	return nil
}

func (e *env) handleApply(ctx context.Context, call *Call, r *handleApplyRequest) (*ok, error) {
	if err := checkAnswer(r.Answer, r.Message); err != nil {
		return nil, err
	}
	can, err := e.candidates(ctx, []group.Account{r.Applicant, call.Caller})
	if err != nil {
		return nil, err
	}
	full := false
	err = e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		s := &stage{Tx: tx, e: e, call: call, shown: can}
		by, err := roleIn(tx, call)
		if err != nil {
			return err
		}
		if err := allowed(g, group.HandleRequests, by, 0); err != nil {
			return err
		}
		row := storage.MemberKey(g.Key(), r.Applicant)
		asked, err := storage.Pendencies.Find(tx.Context(), tx.Store(), row)
		if err != nil {
			return err
		}
		m, err := tx.Member(r.Applicant)
		if err != nil {
			return err
		}
		if asked == nil || m != nil {
			return group.Errorf(group.CodeAlreadyHandled, "there is no such request, or it was answered already")
		}
		if r.Answer == "Reject" {
			tx.Write(storage.Pendencies.Delete(row))
			s.notice(r.Applicant, "SystemNotification", notice{ReportType: reportJoinRefused, Reason: r.Message, MsgKey: asked.At})
			return nil
		}
		if can[r.Applicant] == nil {
			return group.Errorf(group.CodeTooManyGroups, "the applicant does not exist any more or is in too many groups")
		}
		joined, err := e.join(s, r.Applicant, notice{ReportType: reportJoinAccepted, Reason: r.Message, MsgKey: asked.At})
		if full = !joined; joined {
			tx.Write(storage.Pendencies.Delete(row))
		}
		return err
	})
	if err == nil && full {
		err = group.Errorf(group.CodeGroupFull, "the group is full")
	}
	return nil, err
}

type pendencyRequest struct {
	Start int64 `json:"StartTime" doc:"0 first, then the NextStartTime of the answer before."`
	Limit int   `json:"Limit" doc:"At most 100, which is the default."`
}

type pendencyItem struct {
	GroupID   group.ID      `json:"GroupId"`
	Applicant group.Account `json:"Requester_Account" doc:"Who wants to join, or who has invited."`
	Type      int           `json:"PendencyType" doc:"0: a request to join; 1: an invitation of the caller."`
	Time      int64         `json:"AddTime" doc:"Unix microseconds."`
	MsgKey    int64         `json:"MsgKey"`
	Message   string        `json:"ApplyMsg"`
	Field     string        `json:"UserDefinedField"`
}

type pendencyResponse struct {
	Items []pendencyItem `json:"PendencyList" doc:"The oldest first."`
	Next  int64          `json:"NextStartTime" doc:"0: the end."`
}

func (e *env) getPendency(ctx context.Context, call *Call, r *pendencyRequest) (*pendencyResponse, error) {
	if r.Limit < 0 || r.Limit > maxPendPage || r.Start < 0 {
		return nil, badParameter("Limit must be at most %d, StartTime not negative", maxPendPage)
	}
	if r.Limit == 0 {
		r.Limit = maxPendPage
	}
	groups, members, err := e.joined(ctx, call.Caller)
	if err != nil {
		return nil, err
	}
	var items []pendencyItem
	for i, g := range groups {
		if !g.Type.Allows(group.HandleRequests, members[i].Role, 0) {
			continue
		}
		for row, err := range storage.Pendencies.Scan(ctx, e.store, storage.Span{Prefix: storage.GroupPrefix(g.Key())}) {
			if err != nil {
				return nil, err
			}
			if row.Value.At <= r.Start {
				continue
			}
			a, err := lastPart(row.Key)
			if err != nil {
				return nil, err
			}
			items = append(items, pendencyItem{
				GroupID: g.ID, Applicant: group.Account(a), Time: row.Value.At, MsgKey: row.Value.At, Message: row.Value.Message, Field: row.Value.Field,
			})
		}
	}
	invited, err := e.invitations(ctx, call.Caller)
	if err != nil {
		return nil, err
	}
	for _, o := range invited {
		if o.group != nil && o.At > r.Start {
			items = append(items, pendencyItem{GroupID: o.ID, Applicant: o.By, Type: 1, Time: o.At, MsgKey: o.At})
		}
	}
	slices.SortFunc(items, func(a, b pendencyItem) int { return cmp.Compare(a.Time, b.Time) })
	resp := &pendencyResponse{Items: items}
	if len(items) > r.Limit {
		resp.Items = items[:r.Limit]
		resp.Next = resp.Items[r.Limit-1].Time
	}
	return resp, nil
}

func (e *env) quit(ctx context.Context, call *Call, r *groupRequest) (*ok, error) {
	shown, err := e.shown(ctx, []group.Account{call.Caller})
	if err != nil {
		return nil, err
	}
	return nil, e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		m, err := tx.Member(call.Caller)
		if err != nil {
			return err
		}
		switch {
		case m == nil:
			return notPermitted("not a member of the group")
		case !g.Type.Allows(group.Quit, m.Role, 0):
			return group.Errorf(group.CodeOwnerMayNotLeave, "the owner may not leave: hand the group over, or dissolve it")
		}
		s := &stage{Tx: tx, e: e, call: call, shown: shown}
		told := notice{ReportType: reportLeft}
		s.notice(call.Caller, "Left", told)
		if err := s.departed(call.Caller, "Left", told); err != nil {
			return err
		}
		return e.leave(s, call.Caller)
	})
}

type readRequest struct {
	GroupID group.ID  `json:"GroupId" wire:"required"`
	Seq     group.Seq `json:"MsgReadedSeq" wire:"required" doc:"The highest MsgSeq that was read; it moves forward only."`
	TopicID string    `json:"TopicId" doc:"Topics are not offered."`
}

// readState is how far a member has read. It is one cut: the numbers are as of the message
// before Next.
type readState struct {
	Read   group.Seq `json:"LastReadMsgSeq" doc:"How far the caller has read."`
	Unread int64     `json:"UnreadMsgNum" doc:"What is unread then, as sync counts it."`
	Next   group.Seq `json:"NextMsgSeq" doc:"The SEQ of the group's next message."`
}

// readSync tells an account's devices how far it has read.
type readSync struct {
	ReportType int      `json:"ReportType"`
	GroupID    group.ID `json:"GroupId"`
	readState
	Operator group.Account `json:"Operator_Account,omitempty"` // who has set it, perhaps back
}

const reportReadSync = 15

// stateOf returns how far m has read with the mark, which may be nil.
func stateOf(tx *hooks.Tx, m *group.Member, mark *storage.ReadMark) (readState, error) {
	g, tail := tx.Group(), tx.Head().Tail
	send, err := storage.Sends.Find(tx.Context(), tx.Store(), storage.MemberKey(g.Key(), m.Account))
	if err != nil {
		return readState{}, err
	}
	s := readState{Read: min(max(storage.ReadSeq(mark, send), readAtJoin(mark, m)), tail), Next: tail + 1}
	if g.Type.Rules().CountsUnread {
		s.Unread = tx.Uncounted().Unread(s.Read, tail)
	}
	return s, nil
}

func (e *env) reportRead(ctx context.Context, call *Call, r *readRequest) (*readState, error) {
	var state readState
	err := e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		m, err := tx.Member(call.Caller)
		switch {
		case err != nil:
			return err
		case m == nil:
			return notPermitted("not a member of the group")
		case !g.Type.Rules().StoresMessages:
			return nil
		}
		row := storage.MemberKey(g.Key(), call.Caller)
		mark, err := storage.Reads.Find(tx.Context(), tx.Store(), row)
		if err != nil {
			return err
		}
		if mark == nil {
			mark = &storage.ReadMark{}
		}
		seq := min(r.Seq, tx.Head().Tail)
		moved := seq > mark.Seq
		if moved {
			mark.Seq = seq
			tx.Write(storage.Reads.Put(row, mark))
		}
		if state, err = stateOf(tx, m, mark); err != nil || !moved {
			return err
		}
		tx.Notice(hooks.Notice{To: call.Caller, Event: "ReadSync", Body: readSync{reportReadSync, g.ID, state, ""}, ExceptDevice: call.Device})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &state, nil
}

type hideRequest struct {
	GroupID group.ID    `json:"GroupId" wire:"required"`
	Seqs    []group.Seq `json:"Seqs" wire:"required" doc:"At most 30."`
}

func (e *env) hideMessages(ctx context.Context, call *Call, r *hideRequest) (*ok, error) {
	if n := len(r.Seqs); n == 0 || n > maxHiddenCall {
		return nil, badParameter("Seqs has %d entries, 1 to %d are allowed", n, maxHiddenCall)
	}
	return nil, e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		m, err := tx.Member(call.Caller)
		if err != nil {
			return err
		}
		if m == nil {
			return notPermitted("not a member of the group")
		}
		row := storage.MemberKey(g.Key(), call.Caller)
		view, err := storage.Views.Find(tx.Context(), tx.Store(), row)
		if err != nil {
			return err
		}
		if view == nil {
			view = &storage.View{}
		}
		head := tx.Head()
		for _, seq := range r.Seqs {
			if seq > view.ClearedTo && seq <= head.Tail {
				view.Hidden = append(view.Hidden, seq)
			}
		}
		slices.Sort(view.Hidden)
		view.Hidden = slices.Compact(view.Hidden)
		view.Hidden = slices.DeleteFunc(view.Hidden, func(seq group.Seq) bool { return seq < head.First }) // no longer stored
		if len(view.Hidden) > maxHidden {
			return group.Errorf(group.CodeRangeTooLarge, "%d messages would be hidden, at most %d are allowed: clear the conversation", len(view.Hidden), maxHidden)
		}
		tx.Write(storage.Views.Put(row, view))
		return nil
	})
}
