package command

import (
	"context"
	"errors"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerInvitations() {
	e := t.env
	register(t, Command{Service: groupService, Name: "handle_invite_join_group", Audience: Users, Changes: true, Doc: "Accepts or declines an invitation of the caller."}, e.handleInvite)
}

const (
	reportInvited        = 12
	reportInviteAccepted = 13
	reportInviteDeclined = 14

	// maxInvitations bounds the invitations of one account that wait for its consent.
	maxInvitations = 100
)

// asksConsent reports whether whom by invites has to agree first: in groups whose option is
// NeedPermission, unless an admin invites.
func asksConsent(g *group.Group, by group.Role) bool {
	return g.InviteJoin == group.NeedPermission && by == group.OrdinaryMember
}

// offer notes that a is invited and tells it. It reports false if too many invitations of a wait already.
func (e *env) offer(s *stage, a group.Account) (bool, error) {
	g := s.Group()
	open, err := e.invitations(s.Context(), a)
	if err != nil {
		return false, err
	}
	n := 0
	for _, o := range open {
		if o.group != nil && o.ID != g.ID {
			n++
		}
	}
	if n >= maxInvitations {
		return false, nil
	}
	for _, o := range open {
		if o.group == nil { // its group is gone
			s.Write(storage.Invitations.Delete(storage.JoinedKey(a, o.ID)))
		}
	}
	at := s.Now().UnixMicro()
	s.Write(storage.Invitations.Put(storage.JoinedKey(a, g.ID), &storage.Invitation{ID: g.ID, Incarnation: g.Incarnation, By: s.call.Caller, At: at}))
	s.notice(a, "SystemNotification", notice{ReportType: reportInvited, MsgKey: at})
	return true, nil
}

type openInvitation struct {
	*storage.Invitation
	group *group.Group // nil: that life of the group is over
}

func (e *env) invitations(ctx context.Context, a group.Account) ([]openInvitation, error) {
	var out []openInvitation
	var names []string
	for row, err := range storage.Invitations.Scan(ctx, e.store, storage.Span{Prefix: storage.Prefix(string(a))}) {
		if err != nil {
			return nil, err
		}
		out = append(out, openInvitation{Invitation: row.Value})
		names = append(names, storage.GroupKey(row.Value.ID))
	}
	groups, err := storage.Groups.GetMany(ctx, e.store, names)
	if err != nil {
		return nil, err
	}
	for i, g := range groups {
		if g != nil && g.Incarnation == out[i].Incarnation {
			out[i].group = g
		}
	}
	return out, nil
}

type handleInviteRequest struct {
	GroupID group.ID `json:"GroupId" wire:"required"`
	Answer  string   `json:"HandleMsg" wire:"required" doc:"Agree or Reject."`
	Message string   `json:"ApprovalMsg" wire:"text" doc:"At most 300 bytes; shown to who has invited."`
}

func (e *env) handleInvite(ctx context.Context, call *Call, r *handleInviteRequest) (*ok, error) {
	if err := checkAnswer(r.Answer, r.Message); err != nil {
		return nil, err
	}
	can, err := e.candidates(ctx, []group.Account{call.Caller})
	if err != nil {
		return nil, err
	}
	full := errors.New("full")
	err = e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		row := storage.JoinedKey(call.Caller, g.ID)
		asked, err := storage.Invitations.Find(tx.Context(), tx.Store(), row)
		if err != nil {
			return err
		}
		m, err := tx.Member(call.Caller)
		if err != nil {
			return err
		}
		if asked == nil || asked.Incarnation != g.Incarnation || m != nil {
			return group.Errorf(group.CodeAlreadyHandled, "there is no such invitation, or it was answered already")
		}
		s := &stage{Tx: tx, e: e, call: call, shown: can}
		if r.Answer == "Reject" {
			tx.Write(storage.Invitations.Delete(row))
			s.notice(asked.By, "SystemNotification", notice{ReportType: reportInviteDeclined, Reason: r.Message, MsgKey: asked.At})
			return nil
		}
		if can[call.Caller] == nil {
			return group.Errorf(group.CodeTooManyGroups, "%s is in too many groups", call.Caller)
		}
		if most := e.maxMembers(g); most > 0 && g.MemberCount >= most {
			return full
		}
		if err := tx.PutMember(&group.Member{Account: call.Caller, Role: group.OrdinaryMember}); err != nil {
			return err
		}
		tx.Write(storage.Invitations.Delete(row))
		s.notice(asked.By, "SystemNotification", notice{ReportType: reportInviteAccepted, Reason: r.Message, MsgKey: asked.At})
		inviter := *call
		inviter.Caller = asked.By
		most := e.maxMembers(g)
		return e.tellJoined(&stage{Tx: tx, e: e, call: &inviter, shown: can}, []group.Account{call.Caller}, "Invited", false, most > 0 && g.MemberCount >= most)
	})
	if errors.Is(err, full) {
		err = group.Errorf(group.CodeGroupFull, "the group is full")
	}
	return nil, err
}
