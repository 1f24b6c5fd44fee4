package command

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

func (t *Table) registerMembers() {
	e := t.env
	register(t, Command{Service: groupService, Name: "add_group_member", Audience: Everyone, Changes: true, Doc: "Adds members to a group."}, e.addMembers)
	register(t, Command{Service: groupService, Name: "delete_group_member", Audience: Everyone, Changes: true, Doc: "Removes members from a group."}, e.deleteMembers)
	register(t, Command{Service: groupService, Name: "get_group_member_info", Audience: Everyone, Doc: "Returns a group's members in pages, by join time, then UserID."}, e.getMembers)
}

type accountItem struct {
	Account group.Account `json:"Member_Account" wire:"required,account"`
}

type addMembersRequest struct {
	GroupID group.ID      `json:"GroupId" wire:"required"`
	Silence int           `json:"Silence" doc:"1: no notices."`
	Members []accountItem `json:"MemberList" wire:"required" doc:"At most 300."`
}

// The results of adding one member.
const (
	addFailed = iota
	added
	addedBefore
	addWaits
)

type addResult struct {
	Account group.Account `json:"Member_Account"`
	Result  int           `json:"Result" doc:"0 failed, 1 added, 2 was a member already, 3 waits for consent."`
}

type addMembersResponse struct {
	Members []addResult `json:"MemberList"`
}

const maxAdded = 300

// beforeInvite is the body of Group.CallbackBeforeInviteJoinGroup.
type beforeInvite struct {
	callback
	Operator group.Account `json:"Operator_Account"`
	Members  []memberItem  `json:"DestinationMembers"`
}

// afterJoin is the body of Group.CallbackAfterNewMemberJoin.
type afterJoin struct {
	callback
	JoinType string        `json:"JoinType"`
	Operator group.Account `json:"Operator_Account"`
	Members  []memberItem  `json:"NewMemberList"`
}

func (e *env) addMembers(ctx context.Context, call *Call, r *addMembersRequest) (*addMembersResponse, error) {
	if len(r.Members) > maxAdded {
		return nil, tooMany(len(r.Members), maxAdded)
	}
	if len(r.Members) == 0 {
		return nil, badParameter("MemberList is empty")
	}
	accounts := make([]group.Account, len(r.Members))
	for i, m := range r.Members {
		accounts[i] = m.Account
	}
	accounts = distinct(accounts)
	g, err := e.group(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	if !g.Type.Rules().StoresMembers {
		return nil, notPermitted("members can't be added to groups of type %s", g.Type)
	}
	can, err := e.candidates(ctx, accounts)
	if err != nil {
		return nil, err
	}
	none := len(can) == 0
	if !none {
		if err := e.askBeforeInvite(ctx, call, g, can); err != nil {
			return nil, err
		}
	}
	var results map[group.Account]int
	full := false
	err = e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		s := &stage{Tx: tx, e: e, call: call, shown: can}
		var err error
		results, full, err = e.invite(s, accounts, can, r.Silence != 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := e.dropDeleted(ctx, call, r.GroupID, accounts, results); err != nil {
		return nil, err
	}
	resp := &addMembersResponse{}
	some := false
	for _, a := range accounts {
		resp.Members = append(resp.Members, addResult{a, results[a]})
		some = some || results[a] != addFailed
	}
	switch {
	case some:
		return resp, nil
	case none:
		return nil, e.whyNone(ctx, accounts)
	case full:
		return nil, group.Errorf(group.CodeGroupFull, "the group is full")
	}
	return resp, nil
}

// dropDeleted takes out again those whose accounts were deleted while they were added: a
// deletion looks for groups once more when the account has gone, so that one of both finds it.
func (e *env) dropDeleted(ctx context.Context, call *Call, id group.ID, accounts []group.Account, results map[group.Account]int) error {
	profiles, err := e.profiles(ctx, accounts)
	if err != nil {
		return err
	}
	for i, a := range accounts {
		if profiles[i] != nil || results[a] == addFailed {
			continue
		}
		if err := e.update(ctx, id, func(tx *hooks.Tx, _ *group.Group) error { return e.leave(&stage{Tx: tx, e: e, call: call}, a) }); err != nil && !isNoGroup(err) {
			return err
		}
		results[a] = addFailed
	}
	return nil
}

// whyNone says why none of the accounts may join: none exists, or those that do are in too
// many groups.
func (e *env) whyNone(ctx context.Context, accounts []group.Account) error {
	profiles, err := e.profiles(ctx, accounts)
	if err != nil {
		return err
	}
	for _, p := range profiles {
		if p != nil {
			return group.Errorf(group.CodeTooManyGroups, "in %d groups already", e.cfg.GroupsPerUser)
		}
	}
	return group.Errorf(group.CodeNoAccount, "none of the accounts exists")
}

// candidates returns the profiles of those accounts that exist and may join another group.
func (e *env) candidates(ctx context.Context, accounts []group.Account) (map[group.Account]*group.Profile, error) {
	profiles, err := e.profiles(ctx, accounts)
	if err != nil {
		return nil, err
	}
	can := make(map[group.Account]*group.Profile, len(accounts))
	for i, a := range accounts {
		if profiles[i] == nil {
			continue
		}
		full, err := e.inTooManyGroups(ctx, a)
		if err != nil {
			return nil, err
		}
		if !full {
			can[a] = profiles[i]
		}
	}
	return can, nil
}

// askBeforeInvite takes out of can those whom the app refuses.
func (e *env) askBeforeInvite(ctx context.Context, call *Call, g *group.Group, can map[group.Account]*group.Profile) error {
	if e.before == nil {
		return nil
	}
	body := beforeInvite{callback: e.callbackHead("Group.CallbackBeforeInviteJoinGroup", g, call), Operator: call.Caller}
	for a := range can {
		body.Members = append(body.Members, memberItem{a})
	}
	slices.SortFunc(body.Members, func(a, b memberItem) int { return strings.Compare(string(a.Account), string(b.Account)) })
	raw, refusal := e.before.Before(ctx, body.Command, body, call.origin())
	if refusal != nil {
		return refusal
	}
	var answer struct {
		Refused []group.Account `json:"RefusedMembers_Account"`
	}
	if len(raw) > 0 && json.Unmarshal(raw, &answer) == nil {
		for _, a := range answer.Refused {
			delete(can, a)
		}
	}
	return nil
}

// invite adds those who can, as far as there is room, and tells everybody. Accounts that are
// not in the result failed.
func (e *env) invite(s *stage, accounts []group.Account, can map[group.Account]*group.Profile, silent bool) (results map[group.Account]int, full bool, err error) {
	g := s.Group()
	by, err := roleIn(s.Tx, s.call)
	if err != nil {
		return nil, false, err
	}
	if err := mayInvite(g, by); err != nil {
		return nil, false, err
	}
	most := e.maxMembers(g)
	results = make(map[group.Account]int)
	var joined []group.Account
	for _, a := range accounts {
		m, err := s.Member(a)
		switch {
		case err != nil:
			return nil, false, err
		case m != nil:
			results[a] = addedBefore
		case can[a] == nil:
		case most > 0 && g.MemberCount >= most:
			full = true
		case asksConsent(g, by):
			waits, err := e.offer(s, a)
			if err != nil {
				return nil, false, err
			}
			if waits {
				results[a] = addWaits
			}
		default:
			if err := s.PutMember(&group.Member{Account: a, Role: group.OrdinaryMember}); err != nil {
				return nil, false, err
			}
			results[a] = added
			joined = append(joined, a)
		}
	}
	full = full || most > 0 && g.MemberCount >= most && len(joined) > 0
	return results, full, e.tellJoined(s, joined, "Invited", silent, full)
}

// mayInvite refuses those who may not add members: by default by type and role, otherwise by
// what the group says.
func mayInvite(g *group.Group, by group.Role) error {
	if by == group.AppAdmin || g.InviteJoin == "" {
		return allowed(g, group.Invite, by, 0)
	}
	switch {
	case by == group.NotMember:
		return notPermitted("only members may add members")
	case g.InviteJoin == group.FreeAccess, g.InviteJoin == group.NeedPermission:
		return nil
	}
	return notPermitted("the group does not let its members add members")
}

// tellJoined tells the group, the new members and the app who joined.
func (e *env) tellJoined(s *stage, joined []group.Account, how string, silent, full bool) error {
	g := s.Group()
	if len(joined) > 0 {
		if !silent {
			if err := s.tip(g.Type.Rules().JoinTip, tip{OpType: tipJoined, List: joined, MemberNum: g.MemberCount}); err != nil {
				return err
			}
			if !g.Type.Rules().NeedsActivation || g.Activated {
				for _, a := range joined {
					s.notice(a, "Joined", notice{ReportType: reportAdded, Role: group.OrdinaryMember.String()})
				}
			}
		}
		body := afterJoin{callback: s.head("Group.CallbackAfterNewMemberJoin"), JoinType: how, Operator: s.call.Caller, Members: memberItems(joined)}
		s.Callback(body.Command, body)
	}
	if full {
		body := s.head("Group.CallbackAfterGroupFull")
		s.Callback(body.Command, body)
	}
	return nil
}

type deleteMembersRequest struct {
	GroupID  group.ID        `json:"GroupId" wire:"required"`
	Accounts []group.Account `json:"MemberToDel_Account" wire:"required,account" doc:"At most 500."`
	Silence  int             `json:"Silence" doc:"1: nobody but the removed is told."`
	Reason   string          `json:"Reason" wire:"text" doc:"Shown to members."`
}

const (
	maxRemoved   = 500
	maxReasonLen = 100 // bytes
)

// afterExit is the body of Group.CallbackAfterMemberExit.
type afterExit struct {
	callback
	ExitType string        `json:"ExitType"`
	Operator group.Account `json:"Operator_Account"`
	Members  []memberItem  `json:"ExitMemberList"`
}

func (e *env) deleteMembers(ctx context.Context, call *Call, r *deleteMembersRequest) (*ok, error) {
	switch {
	case len(r.Accounts) > maxRemoved:
		return nil, tooMany(len(r.Accounts), maxRemoved)
	case len(r.Accounts) == 0:
		return nil, badParameter("MemberToDel_Account is empty")
	}
	accounts := distinct(r.Accounts)
	return nil, e.act(ctx, call, r.GroupID, accounts, func(s *stage, g *group.Group, by group.Role) error {
		if !g.Type.Rules().Removable {
			return badParameter("members can't be removed from groups of type %s: ban or mute them", g.Type)
		}
		if err := allowed(g, group.Remove, by, group.OrdinaryMember); err != nil {
			return err
		}
		var gone []group.Account
		for _, a := range accounts {
			m, err := s.Member(a)
			if err != nil {
				return err
			}
			if m == nil {
				continue
			}
			if m.Role == group.Owner {
				return notPermitted("the owner can't be removed")
			}
			if err := allowed(g, group.Remove, by, m.Role); err != nil {
				return err
			}
			told := notice{ReportType: reportRemoved, Reason: r.Reason}
			s.notice(a, "Left", told)
			if err := s.departed(a, "Left", told); err != nil {
				return err
			}
			if _, err := s.RemoveMember(a); err != nil {
				return err
			}
			gone = append(gone, a)
		}
		if len(gone) == 0 {
			return nil
		}
		if r.Silence == 0 {
			if err := s.tip(g.Type.Rules().JoinTip, tip{OpType: tipRemoved, List: gone, MemberNum: g.MemberCount, Reason: r.Reason}); err != nil {
				return err
			}
		}
		body := afterExit{callback: s.head("Group.CallbackAfterMemberExit"), ExitType: "Kicked", Operator: call.Caller, Members: memberItems(gone)}
		s.Callback(body.Command, body)
		return nil
	})
}

// shown returns the profiles of accounts, for tips.
func (e *env) shown(ctx context.Context, accounts []group.Account) (map[group.Account]*group.Profile, error) {
	profiles, err := e.profiles(ctx, accounts)
	if err != nil {
		return nil, err
	}
	out := make(map[group.Account]*group.Profile, len(accounts))
	for i, a := range accounts {
		if profiles[i] != nil {
			out[a] = profiles[i]
		}
	}
	return out, nil
}

type getMembersRequest struct {
	GroupID group.ID `json:"GroupId" wire:"required"`
	Filter  []string `json:"MemberInfoFilter" doc:"Fields of members; empty: all."`
	Roles   []string `json:"MemberRoleFilter" doc:"Only members with these roles: Owner, Admin, Member."`
	Custom  []string `json:"AppDefinedDataFilter_GroupMember" doc:"Keys of custom fields; empty: all."`
	Limit   int      `json:"Limit" doc:"At most 6,000 (Community: 100); not given: all (Community: 100)."`
	Offset  int      `json:"Offset" doc:"Not for communities."`
	Next    string   `json:"Next" doc:"Communities: the Next of the answer before; empty first."`
}

type getMembersResponse struct {
	MemberNum int               `json:"MemberNum" doc:"All members of the group, whatever the filter says."`
	Members   []json.RawMessage `json:"MemberList" doc:"Members (see Records)."`
	Next      *string           `json:"Next" doc:"Communities only; empty at the end."`
}

const (
	maxMemberPage    = 6000
	maxCommunityPage = 100
)

func (e *env) getMembers(ctx context.Context, call *Call, r *getMembersRequest) (*getMembersResponse, error) {
	g, _, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	if !g.Type.Rules().StoresMembers {
		return nil, notPermitted("groups of type %s have no list of members", g.Type)
	}
	community := g.Type == group.Community
	most := maxMemberPage
	if community {
		most = maxCommunityPage
	}
	if r.Limit < 0 || r.Limit > most || r.Offset < 0 {
		return nil, badParameter("Limit must be at most %d, Offset not negative", most)
	}
	roles, err := rolesNamed(r.Roles)
	if err != nil {
		return nil, err
	}
	filter, err := newFilter(memberRecordType, "AppMemberDefinedData", r.Filter, r.Custom)
	if err != nil {
		return nil, err
	}
	members, err := e.members(ctx, g)
	if err != nil {
		return nil, err
	}
	if len(roles) > 0 {
		members = slices.DeleteFunc(members, func(m *group.Member) bool { return !slices.Contains(roles, m.Role) })
	}
	resp := &getMembersResponse{MemberNum: g.MemberCount}
	page, next, err := memberPage(members, r, community)
	if err != nil {
		return nil, err
	}
	if community {
		resp.Next = &next
	}
	if len(page) > e.cfg.AnswerSize/bytesPerMember {
		return nil, group.Errorf(group.CodeAnswerTooLarge, "the answer would have %d members: page through them", len(page))
	}
	resp.Members, err = e.membersOut(ctx, g, page, filter)
	return resp, err
}

func rolesNamed(names []string) ([]group.Role, error) {
	var roles []group.Role
	for _, name := range names {
		role, known := group.ParseRole(name)
		if !known || role == group.NotMember {
			return nil, badParameter("MemberRoleFilter: a role is Owner, Admin or Member")
		}
		roles = append(roles, role)
	}
	return roles, nil
}

// memberPage cuts the page out that r asks for. A community's cursor names the last member of
// the page before, so that joins and exits do not shift the pages.
func memberPage(members []*group.Member, r *getMembersRequest, community bool) (page []*group.Member, next string, err error) {
	from := r.Offset
	limit := r.Limit
	if community {
		from = 0
		if limit == 0 {
			limit = maxCommunityPage
		}
		if r.Next != "" {
			joined, account, ok := strings.Cut(r.Next, "-")
			at, err := strconv.ParseInt(joined, 10, 64)
			if !ok || err != nil {
				return nil, "", badParameter("Next is not what an answer gave")
			}
			from, _ = slices.BinarySearchFunc(members, 0, func(m *group.Member, _ int) int {
				if m.JoinTime < at || m.JoinTime == at && string(m.Account) <= account {
					return -1
				}
				return 1
			})
		}
	}
	from = min(from, len(members))
	to := len(members)
	if limit > 0 {
		to = min(from+limit, to)
	}
	page = members[from:to]
	if community && to < len(members) {
		last := page[len(page)-1]
		next = fmt.Sprintf("%d-%s", last.JoinTime, last.Account)
	}
	return page, next, nil
}
