package command

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerRecall() {
	e := t.env
	register(t, Command{Service: groupService, Name: "group_msg_recall", Audience: Everyone, Changes: true, Doc: "Recalls messages: their content disappears, their places stay."}, e.recall)
	register(t, Command{Service: groupService, Name: "delete_group_msg_by_sender", Changes: true, Doc: "Marks one sender's messages among the newest 1,000 as recalled, silently."}, e.deleteBySender)
	register(t, Command{Service: groupService, Name: "clear_group_msg", Changes: true, Doc: "Keeps members from reading messages up to a MsgSeq; app admins still can."}, e.clearMessages)
	register(t, Command{Service: openimService, Name: "modify_group_msg", Changes: true, Doc: "Replaces the body or the custom data of a message."}, e.modifyMessage)
}

type seqItem struct {
	Seq group.Seq `json:"MsgSeq" wire:"required"`
}

type recallRequest struct {
	GroupID group.ID  `json:"GroupId" wire:"required"`
	Seqs    []seqItem `json:"MsgSeqList" wire:"required" doc:"At most 10."`
	Reason  string    `json:"Reason" wire:"text" doc:"At most 100 bytes; shown to members."`
	TopicID string    `json:"TopicId" doc:"Topics are not offered."`
}

type recallResult struct {
	Seq  group.Seq `json:"MsgSeq"`
	Code int       `json:"RetCode" doc:"0 recalled; 10007 not permitted; 10030 no such message; 10031 too old; 10032 cannot be recalled."`
}

type recallResponse struct {
	Results []recallResult `json:"RecallRetList"`
}

const maxRecalled = 10

// recallEvent is what members are told of a recalled message.
type recallEvent struct {
	Seq     group.Seq     `json:"MsgSeq"`
	Time    int64         `json:"MsgTime"`
	Random  uint32        `json:"Random"`
	Revoker group.Account `json:"Revoker_Account"`
	Reason  string        `json:"Reason,omitempty"`
	Change  int64         `json:"ChangeSeq,omitempty"`
}

// afterRecall is the body of Group.CallbackAfterRecallMsg.
type afterRecall struct {
	callback
	Operator group.Account `json:"Operator_Account"`
	Seqs     []seqItem     `json:"MsgSeqList"`
}

func (e *env) recall(ctx context.Context, call *Call, r *recallRequest) (*recallResponse, error) {
	switch {
	case len(r.Seqs) == 0 || len(r.Seqs) > maxRecalled:
		return nil, badParameter("MsgSeqList has %d entries, 1 to %d are allowed", len(r.Seqs), maxRecalled)
	case len(r.Reason) > maxReasonLen:
		return nil, badParameter("Reason has %d bytes, at most %d are allowed", len(r.Reason), maxReasonLen)
	}
	resp := &recallResponse{}
	err := e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		if !g.Type.Rules().Recallable {
			return group.Errorf(group.CodeTypeWithoutRecall, "groups of type %s have no recall", g.Type)
		}
		by, err := roleIn(tx, call)
		if err != nil {
			return err
		}
		if by == group.NotMember {
			return notPermitted("only members may recall messages")
		}
		s := &stage{Tx: tx, e: e, call: call}
		var done []seqItem
		resp.Results = nil
		seen := make(map[group.Seq]bool)
		for _, item := range r.Seqs {
			code, again := 0, seen[item.Seq]
			if !again {
				var recalled bool
				if code, recalled, err = e.recallOne(s, item.Seq, by, r.Reason); err != nil {
					return err
				}
				if recalled {
					done = append(done, item)
				}
				seen[item.Seq] = code == 0
			}
			resp.Results = append(resp.Results, recallResult{item.Seq, code})
		}
		if len(done) > 0 {
			body := afterRecall{callback: s.head("Group.CallbackAfterRecallMsg"), Operator: call.Caller, Seqs: done}
			s.Callback(body.Command, body)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// recallOne recalls one message and returns its code; done says that it was not recalled before.
func (e *env) recallOne(s *stage, seq group.Seq, by group.Role, reason string) (code int, done bool, err error) {
	g := s.Group()
	if !g.Type.Rules().StoresMessages { // nothing is kept: those who are there are told
		if !g.Type.Allows(group.RecallOthers, by, group.OrdinaryMember) {
			return group.CodeNotPermitted, false, nil
		}
		s.Event(hooks.Event{Name: "Recall", Body: recallEvent{Seq: seq, Revoker: s.call.Caller, Reason: reason}})
		return 0, true, nil
	}
	m, err := messageAt(s.Context(), s.Store(), g.Key(), seq)
	switch {
	case err != nil:
		return 0, false, err
	case m == nil, m.State == group.Deleted:
		return group.CodeNoMessage, false, nil
	case m.Has(group.System), m.Has(group.Unrecallable):
		return group.CodeCannotRecall, false, nil
	}
	if code, err := e.mayRecall(s, m, by); code != 0 || err != nil || m.State == group.Recalled {
		return code, false, err
	}
	s.Replace(m.Tombstone(group.Recalled, s.call.Caller, reason))
	body := recallEvent{Seq: seq, Time: m.Time, Random: m.Random, Revoker: s.call.Caller, Reason: reason}
	if body.Change, err = s.changed(m, "Recall", body); err != nil {
		return 0, false, err
	}
	s.Event(eventOf(g, m, "Recall", body))
	return 0, true, nil
}

// mayRecall returns the code that refuses the caller to recall m, or 0.
func (e *env) mayRecall(s *stage, m *group.Message, by group.Role) (int, error) {
	if by == group.AppAdmin {
		return 0, nil
	}
	if m.From == s.call.Caller {
		if by < group.Admin && s.Now().Unix()-m.Time > int64(e.cfg.RecallWindow.Seconds()) {
			return group.CodeRecallTooLate, nil
		}
		return 0, nil
	}
	if !m.VisibleTo(s.call.Caller) {
		return group.CodeNoMessage, nil
	}
	sender, err := s.Member(m.From)
	if err != nil {
		return 0, err
	}
	role := group.NotMember
	if sender != nil {
		role = sender.Role
	}
	if !s.Group().Type.Allows(group.RecallOthers, by, role) {
		return group.CodeNotPermitted, nil
	}
	return 0, nil
}

// eventOf makes the event that tells those who may read m of a change to it.
func eventOf(g *group.Group, m *group.Message, name string, body any) hooks.Event {
	e := hooks.Event{Name: name, To: audience(m), Body: body}
	if !g.SeesHistoryBeforeJoin() {
		e.Of = m.Seq
	}
	return e
}

// audience is who is told about a change of m: everybody (nil), or those who could see it.
func audience(m *group.Message) []group.Account {
	if len(m.To) == 0 {
		return nil
	}
	return append([]group.Account{m.From}, m.To...)
}

// messageAt returns the message with the SEQ, a tombstone too, or nil.
func messageAt(ctx context.Context, store storage.Store, key group.Key, seq group.Seq) (*group.Message, error) {
	if seq <= 0 {
		return nil, nil
	}
	for m, err := range store.Range(ctx, key, seq, seq+1) {
		return m, err
	}
	return nil, nil
}

type deleteBySenderRequest struct {
	GroupID group.ID      `json:"GroupId" wire:"required"`
	Sender  group.Account `json:"Sender_Account" wire:"required,account"`
	TopicID string        `json:"TopicId" doc:"Topics are not offered."`
}

// maxDeletedBack is how many of the newest messages delete_group_msg_by_sender looks at.
const maxDeletedBack = 1000

func (e *env) deleteBySender(ctx context.Context, call *Call, r *deleteBySenderRequest) (*ok, error) {
	if r.Sender == "" {
		return nil, badParameter("Sender_Account is empty")
	}
	return nil, e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		if !g.Type.Rules().StoresMessages {
			return nil
		}
		tail := tx.Head().Tail
		for m, err := range tx.Store().RangeDown(tx.Context(), g.Key(), max(1, tail-maxDeletedBack+1), tail+1) {
			if err != nil {
				return err
			}
			if m.From == r.Sender && m.State == group.Live && !m.Has(group.System) {
				tx.Replace(m.Tombstone(group.Recalled, call.Caller, ""))
			}
		}
		return nil
	})
}

type clearRequest struct {
	GroupID group.ID  `json:"GroupId" wire:"required"`
	Seq     group.Seq `json:"MsgSeq" doc:"Up to and with this one; not given: all."`
}

func (e *env) clearMessages(ctx context.Context, _ *Call, r *clearRequest) (*ok, error) {
	if r.Seq < 0 {
		return nil, badParameter("MsgSeq is negative")
	}
	return nil, e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		tail := tx.Head().Tail
		switch {
		case g.Type == group.AVChatRoom:
			return group.Errorf(group.CodeNoDeletionInRoom, "groups of type %s keep no messages", g.Type)
		case g.Type == group.Community:
			return notPermitted("messages of communities can't be cleared")
		case r.Seq > tail:
			return group.Errorf(group.CodeRangeTooLarge, "the group's last MsgSeq is %d", tail)
		}
		to := r.Seq
		if to == 0 {
			to = tail
		}
		if to <= g.ClearedTo {
			return group.Errorf(group.CodeNothingToDelete, "there is nothing to clear")
		}
		g.ClearedTo = to
		tx.Save()
		return nil
	})
}

type modifyRequest struct {
	GroupID group.ID        `json:"GroupId" wire:"required"`
	Seq     group.Seq       `json:"MsgSeq" wire:"required"`
	Body    json.RawMessage `json:"MsgBody" doc:"The new elements."`
	Cloud   string          `json:"CloudCustomData" wire:"text"`
	TopicID string          `json:"TopicId" doc:"Topics are not offered."`
}

// The codes of the openim service.
const (
	codeNoSuchMessage = 20001
	codeBodyMalformed = 90002
	codeBodyNoArray   = 90007
)

// modifyEvent is what members are told of a modified message.
type modifyEvent struct {
	Seq      group.Seq       `json:"MsgSeq"`
	Time     int64           `json:"MsgTime"`
	From     group.Account   `json:"From_Account"`
	Random   uint32          `json:"Random"`
	Body     json.RawMessage `json:"MsgBody,omitempty"`
	Cloud    string          `json:"CloudCustomData,omitempty"`
	Modified int             `json:"MsgModifiedFlag"`
	Version  int64           `json:"MsgVersion"`
	Change   int64           `json:"ChangeSeq,omitempty"`
}

func (e *env) modifyMessage(ctx context.Context, call *Call, r *modifyRequest) (*ok, error) {
	body, err := e.newBody(r)
	if err != nil {
		return nil, err
	}
	return nil, e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		if !g.Type.Rules().StoresMessages {
			return notPermitted("groups of type %s keep no messages", g.Type)
		}
		old, err := messageAt(tx.Context(), tx.Store(), g.Key(), r.Seq)
		if err != nil {
			return err
		}
		if old == nil || old.State != group.Live || old.Has(group.System) {
			return group.Errorf(codeNoSuchMessage, "there is no message %d to modify", r.Seq)
		}
		m := *old
		if body != nil {
			m.Body = body
		}
		if r.Cloud != "" {
			m.CloudCustomData = r.Cloud
		}
		if len(m.Body)+len(m.CloudCustomData) > e.cfg.BodyLimit {
			return group.Errorf(group.CodeMessageTooLong, "the message would have more than %d bytes", e.cfg.BodyLimit)
		}
		m.Flags |= group.Modified
		m.Version++
		tx.Replace(&m)
		told := modifyEvent{Seq: m.Seq, Time: m.Time, From: m.From, Random: m.Random, Modified: 1, Version: m.Version}
		s := &stage{Tx: tx, e: e, call: call}
		if told.Change, err = s.changed(&m, "Modify", told); err != nil { // who was away pulls the content
			return err
		}
		told.Body, told.Cloud = m.Body, m.CloudCustomData
		tx.Event(eventOf(g, &m, "Modify", told))
		return nil
	})
}

// newBody validates the body of modify_group_msg, nil if none is given, in the codes of its service.
func (e *env) newBody(r *modifyRequest) (json.RawMessage, error) {
	switch string(r.Body) {
	case "", "[]", `""`, "0": // not given
		if r.Cloud == "" {
			return nil, group.Errorf(codeBodyMalformed, "MsgBody and CloudCustomData are both missing")
		}
		return nil, nil
	}
	if r.Body[0] != '[' {
		return nil, group.Errorf(codeBodyNoArray, "MsgBody is not an array")
	}
	body, err := group.ParseBody(r.Body, e.cfg.BodyLimit)
	if err != nil {
		if errors.Is(err, &group.Error{Code: group.CodeBadParameter}) {
			err = group.Errorf(codeBodyMalformed, "%s", err.Info)
		}
		return nil, err
	}
	return body.Raw, nil
}
