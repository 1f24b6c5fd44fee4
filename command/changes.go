package command

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerGroupChanges() {
	e := t.env
	register(t, Command{Service: groupService, Name: "modify_group_base_info", Audience: Everyone, Changes: true, Doc: "Changes a group's data."}, e.modifyGroup)
	register(t, Command{Service: groupService, Name: "modify_group_member_info", Audience: Everyone, Changes: true, Doc: "Changes a member's role, receive option, name card, custom fields or mute."}, e.modifyMember)
	register(t, Command{Service: groupService, Name: "forbid_send_msg", Audience: Everyone, Changes: true, Doc: "Mutes members, or lifts their mutes."}, e.mute)
	register(t, Command{Service: groupService, Name: "get_group_muted_account", Aliases: []string{"get_group_shutted_uin"}, Audience: Everyone, Doc: "Returns who is muted in a group."}, e.getMuted)
	register(t, Command{Service: groupService, Name: "change_group_owner", Audience: Everyone, Changes: true, Doc: "Makes a member the owner."}, e.changeOwner)
	register(t, Command{Service: groupService, Name: "get_appid_group_list", Rate: 1, Doc: "Returns all groups of the app, in pages."}, e.getAllGroups)
	register(t, Command{Service: groupService, Name: "get_role_in_group", Audience: Everyone, Doc: "Returns the roles of accounts in a group."}, e.getRoles)
	register(t, Command{Service: groupService, Name: "get_specified_group_member_info", Audience: Everyone, Doc: "Returns some members of a group, and whether they are online."}, e.getSomeMembers)
}

type modifyGroupRequest struct {
	GroupID      group.ID      `json:"GroupId" wire:"required"`
	Name         string        `json:"Name" wire:"text"`
	Introduction string        `json:"Introduction" wire:"text"`
	Notification string        `json:"Notification" wire:"text"`
	FaceURL      string        `json:"FaceUrl" wire:"text"`
	MaxMembers   int           `json:"MaxMemberNum" alias:"MaxMemberCount"`
	ApplyJoin    string        `json:"ApplyJoinOption" doc:"FreeAccess, NeedPermission or DisableApply."`
	InviteJoin   string        `json:"InviteJoinOption" doc:"FreeAccess; NeedPermission: whom an ordinary member invites has to agree; or DisableInvite."`
	MuteAll      string        `json:"MuteAllMember" alias:"ShutUpAllMember" doc:"On: only owner, admins and app admins may send; Off."`
	Custom       []field       `json:"AppDefinedData" doc:"Custom fields; an empty Value deletes the key."`
	From         group.Account `json:"From_Account" wire:"account" doc:"Who is shown to have done it; for users always the caller."`
	HistoryOnOff string        `json:"HistoryMsgBeforeJoin" doc:"On or Off: may members read what was sent before they joined?"`
}

// afterInfo is the body of Group.CallbackAfterGroupInfoChanged.
type afterInfo struct {
	callback
	Operator     group.Account `json:"Operator_Account"`
	Name         *string       `json:"Name,omitempty"`
	Introduction *string       `json:"Introduction,omitempty"`
	Notification *string       `json:"Notification,omitempty"`
	FaceURL      *string       `json:"FaceUrl,omitempty"`
}

// operator returns the call as if the named account had made it, where an admin may say so.
func (e *env) operator(ctx context.Context, call *Call, shown group.Account) (*Call, error) {
	if !call.Admin || shown == "" {
		return call, nil
	}
	found, err := e.exists(ctx, shown)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, group.Errorf(group.CodeBadOperator, "From_Account %.40q does not exist", shown)
	}
	as := *call
	as.Caller = shown
	return &as, nil
}

func (e *env) modifyGroup(ctx context.Context, call *Call, r *modifyGroupRequest) (*ok, error) {
	if r.MuteAll != "" && r.MuteAll != "On" && r.MuteAll != "Off" {
		return nil, badParameter("MuteAllMember must be On or Off")
	}
	call, err := e.operator(ctx, call, r.From)
	if err != nil {
		return nil, err
	}
	return nil, e.act(ctx, call, r.GroupID, nil, func(s *stage, g *group.Group, by group.Role) error {
		before := g.Clone()
		info, settings, err := e.applyChanges(g, r)
		if err != nil {
			return err
		}
		if settings {
			if err := allowed(before, group.EditSettings, by, 0); err != nil {
				return err
			}
		}
		if info || !settings { // who may change nothing is told so, even if nothing changes
			if err := allowed(before, group.EditInfo, by, 0); err != nil {
				return err
			}
		}
		if !info && !settings {
			return nil
		}
		s.Save()
		return e.tellChanges(s, before, g)
	})
}

// applyChanges changes g as r asks and reports whether it changed what members see first, and
// whether anything else.
func (e *env) applyChanges(g *group.Group, r *modifyGroupRequest) (info, settings bool, err error) {
	before := g.Clone()
	set := func(to *string, value string, changed *bool) {
		if value != "" && *to != value {
			*to, *changed = value, true
		}
	}
	set(&g.Name, r.Name, &info)
	set(&g.Introduction, r.Introduction, &info)
	set(&g.Notification, r.Notification, &info)
	set(&g.FaceURL, r.FaceURL, &info)
	if r.MaxMembers != 0 {
		g.MaxMembers = r.MaxMembers
	}
	if err := e.setJoinOptions(g, r.ApplyJoin, r.InviteJoin); err != nil {
		return false, false, err
	}
	if err := setHistory(g, r.HistoryOnOff); err != nil {
		return false, false, err
	}
	if r.MuteAll != "" {
		g.MuteAll = r.MuteAll == "On"
	}
	g.Custom = mergeFields(g.Custom, r.Custom)
	settings = g.MaxMembers != before.MaxMembers || g.ApplyJoin != before.ApplyJoin || g.InviteJoin != before.InviteJoin ||
		r.HistoryOnOff != "" && g.SeesHistoryBeforeJoin() != before.SeesHistoryBeforeJoin() || g.MuteAll != before.MuteAll || !slices.Equal(g.Custom, before.Custom)
	return info, settings, e.checkGroup(g)
}

// tellChanges tells members and the app what differs.
func (e *env) tellChanges(s *stage, before, g *group.Group) error {
	changed := func(old, now string) *string {
		if old == now {
			return nil
		}
		return &now
	}
	info := tipNewInfo{
		Name: changed(before.Name, g.Name), Introduction: changed(before.Introduction, g.Introduction),
		Notification: changed(before.Notification, g.Notification), FaceURL: changed(before.FaceURL, g.FaceURL),
	}
	named := info.Name != nil || info.Introduction != nil || info.Notification != nil || info.FaceURL != nil
	if !slices.Equal(g.Custom, before.Custom) {
		info.Custom = append([]group.Field{}, g.Custom...)
	}
	if named || info.Custom != nil {
		if err := s.tip(g.Type.Rules().InfoTip, tip{OpType: tipInfo, NewInfo: &info}); err != nil {
			return err
		}
	}
	var rules tipNewInfo
	if g.MuteAll != before.MuteAll {
		rules.MuteAll = onOff(g.MuteAll)
	}
	if g.ApplyJoin != before.ApplyJoin {
		rules.ApplyJoin = string(g.ApplyJoin)
	}
	if rules.MuteAll != "" || rules.ApplyJoin != "" {
		if err := s.tip(g.Type.Rules().MuteAllTip, tip{OpType: tipInfo, NewInfo: &rules}); err != nil {
			return err
		}
	}
	if named {
		body := afterInfo{
			callback: s.head("Group.CallbackAfterGroupInfoChanged"), Operator: s.call.Caller,
			Name: info.Name, Introduction: info.Introduction, Notification: info.Notification, FaceURL: info.FaceURL,
		}
		s.Callback(body.Command, body)
	}
	return nil
}

type modifyMemberRequest struct {
	GroupID  group.ID      `json:"GroupId" wire:"required"`
	Account  group.Account `json:"Member_Account" wire:"required,account"`
	Role     string        `json:"Role" doc:"Admin or Member."`
	MsgFlag  string        `json:"MsgFlag" doc:"AcceptAndNotify, AcceptNotNotify, Discard, AcceptNotNotifyExceptAt, NotReceiveMsgExceptAt."`
	NameCard string        `json:"NameCard" wire:"text"`
	Custom   []field       `json:"AppMemberDefinedData" doc:"Custom fields; an empty Value deletes the key."`
	MuteTime *int64        `json:"MuteTime" alias:"ShutUpTime" doc:"Seconds from now; 0: no longer; 4294967295: for ever."`
	// MuteOld is a duration too, under the name of the instant: a Go SDK sends it, and its zero
	// with every call.
	MuteOld int64 `json:"ShutUpUntil" doc:"Older clients' name of MuteTime, where 0 means nothing."`
}

// afterMember is the body of Group.CallbackAfterMemberFieldChanged.
type afterMember struct {
	callback
	Operator group.Account `json:"Operator_Account"`
	Modified group.Account `json:"Modified_Account"`
	Role     string        `json:"Role,omitempty"`
	NameCard string        `json:"NameCard,omitempty"`
}

// muteUntil returns when a mute of so many seconds ends, 0 for none.
func muteUntil(now time.Time, seconds int64) (int64, error) {
	switch {
	case seconds < 0 || seconds > group.Forever:
		return 0, badParameter("a mute has 0 to %d seconds", group.Forever)
	case seconds == 0:
		return 0, nil
	}
	return min(now.Unix()+seconds, group.Forever), nil
}

func (e *env) modifyMember(ctx context.Context, call *Call, r *modifyMemberRequest) (*ok, error) {
	receive, known := group.ParseReceiveOption(r.MsgFlag)
	switch {
	case r.MsgFlag != "" && !known:
		return nil, badParameter("MsgFlag is unknown")
	case r.Role != "" && r.Role != "Admin" && r.Role != "Member":
		return nil, badParameter("Role must be Admin or Member")
	case len(r.NameCard) > e.cfg.NameCardSize:
		return nil, badParameter("NameCard has %d bytes, at most %d are allowed", len(r.NameCard), e.cfg.NameCardSize)
	}
	if r.MuteTime == nil && r.MuteOld != 0 {
		r.MuteTime = &r.MuteOld
	}
	return nil, e.act(ctx, call, r.GroupID, []group.Account{r.Account}, func(s *stage, g *group.Group, by group.Role) error {
		if !g.Type.Rules().StoresMembers {
			return notPermitted("groups of type %s keep nothing of their members", g.Type)
		}
		m, err := s.Member(r.Account)
		if err != nil {
			return err
		}
		if m == nil {
			return notPermitted("%.40q is not a member of the group", r.Account)
		}
		c := memberChange{stage: s, by: by, before: m, now: m.Clone(), r: r}
		if receive != group.DefaultReceive {
			c.now.Receive = receive
		}
		if err := c.authorise(); err != nil {
			return err
		}
		return c.apply()
	})
}

// A memberChange is one modify_group_member_info in its lane.
type memberChange struct {
	*stage
	by          group.Role
	before, now *group.Member
	r           *modifyMemberRequest
}

// authorise refuses what the caller may not do to the member.
func (c *memberChange) authorise() error {
	g, target, self := c.Group(), c.before.Role, c.call.Caller == c.before.Account && !c.call.Admin
	if c.r.Role != "" {
		if target == group.Owner {
			return badParameter("the owner's role is changed by change_group_owner")
		}
		if err := allowed(g, group.SetAdmin, c.by, target); err != nil {
			return err
		}
	}
	if c.r.MuteTime != nil {
		if err := allowed(g, group.Mute, c.by, target); err != nil {
			return err
		}
	}
	if c.r.MsgFlag != "" && !self && c.by != group.AppAdmin {
		return notPermitted("only the member itself sets its receive option")
	}
	if (c.r.NameCard != "" || len(c.r.Custom) > 0) && !self {
		return allowed(g, group.EditMember, c.by, target)
	}
	return nil
}

// apply makes the change and tells everybody.
func (c *memberChange) apply() error {
	r, g := c.r, c.Group()
	switch r.Role {
	case "Admin":
		c.now.Role = group.Admin
	case "Member":
		c.now.Role = group.OrdinaryMember
	}
	if r.NameCard != "" {
		c.now.NameCard = r.NameCard
	}
	c.now.Custom = mergeFields(c.now.Custom, r.Custom)
	if err := checkFields("AppMemberDefinedData", c.now.Custom, c.e.cfg.MemberFields, c.e.cfg.MemberFieldSize, c.e.cfg.MemberKeys); err != nil {
		return err
	}
	if err := c.PutMember(c.now); err != nil {
		return err
	}
	if c.now.Receive != c.before.Receive {
		c.notice(c.now.Account, "SystemNotification", notice{ReportType: reportReceive, MsgFlag: g.ReceiveOf(c.now).String()})
	}
	if c.now.Role != c.before.Role {
		if err := c.e.tellRole(c.stage, c.now.Account, c.now.Role); err != nil {
			return err
		}
	}
	if r.MuteTime != nil {
		if err := c.e.muteOne(c.stage, []group.Account{c.now.Account}, *r.MuteTime); err != nil {
			return err
		}
	}
	body := afterMember{callback: c.head("Group.CallbackAfterMemberFieldChanged"), Operator: c.call.Caller, Modified: c.now.Account}
	if c.now.Role != c.before.Role {
		body.Role = c.now.Role.String()
	}
	if c.now.NameCard != c.before.NameCard {
		body.NameCard = c.now.NameCard
	}
	if body.Role != "" || body.NameCard != "" {
		c.Callback(body.Command, body)
	}
	return nil
}

// tellRole tells that a became an admin, or is one no longer.
func (e *env) tellRole(s *stage, a group.Account, role group.Role) error {
	op, report := tipAdminUnset, reportAdminUnset
	if role == group.Admin {
		op, report = tipAdminSet, reportAdminSet
	}
	s.notice(a, "SystemNotification", notice{ReportType: report, Role: role.String()})
	return s.tip(s.Group().Type.Rules().MemberTip, tip{OpType: op, List: []group.Account{a}})
}

// muteOne mutes accounts for so many seconds, and tells the group.
func (e *env) muteOne(s *stage, accounts []group.Account, seconds int64) error {
	until, err := muteUntil(s.Now(), seconds)
	if err != nil {
		return err
	}
	t := tip{OpType: tipMember}
	for _, a := range accounts {
		s.SetMute(a, until)
		t.Members = append(t.Members, tipMute{a, seconds})
	}
	return s.tip(s.Group().Type.Rules().MemberTip, t)
}

type muteRequest struct {
	GroupID  group.ID        `json:"GroupId" wire:"required"`
	Accounts []group.Account `json:"Members_Account" wire:"required,account" doc:"At most 500; members or not."`
	MuteTime *int64          `json:"MuteTime" alias:"ShutUpTime" wire:"required" doc:"Seconds from now; 0: no longer; 4294967295: for ever."`
	TopicID  string          `json:"TopicId" doc:"Topics are not offered."`
}

const maxMuted = 500

func (e *env) mute(ctx context.Context, call *Call, r *muteRequest) (*ok, error) {
	switch {
	case len(r.Accounts) > maxMuted:
		return nil, tooMany(len(r.Accounts), maxMuted)
	case len(r.Accounts) == 0:
		return nil, badParameter("Members_Account is empty")
	case r.MuteTime == nil:
		return nil, badParameter("MuteTime is missing")
	}
	accounts := distinct(r.Accounts)
	for _, a := range accounts {
		if !a.Valid() {
			return nil, badParameter("Members_Account has an entry that is no UserID")
		}
	}
	return nil, e.act(ctx, call, r.GroupID, nil, func(s *stage, g *group.Group, by group.Role) error {
		if err := allowed(g, group.Mute, by, group.OrdinaryMember); err != nil {
			return err
		}
		for _, a := range accounts {
			m, err := s.Member(a)
			if err != nil {
				return err
			}
			if m != nil {
				if err := allowed(g, group.Mute, by, m.Role); err != nil {
					return err
				}
			}
		}
		return e.muteOne(s, accounts, *r.MuteTime)
	})
}

type mutedRequest struct {
	GroupID group.ID `json:"GroupId" wire:"required"`
	TopicID string   `json:"TopicId" doc:"Topics are not offered."`
}

type mutedAccount struct {
	Account group.Account `json:"Member_Account"`
	Until   int64         `json:"MutedUntil" also:"ShuttedUntil" doc:"Unix seconds."`
}

type mutedResponse struct {
	GroupID  group.ID       `json:"GroupId"`
	Accounts []mutedAccount `json:"MutedAccountList" also:"ShuttedUinList"`
}

func (e *env) getMuted(ctx context.Context, call *Call, r *mutedRequest) (*mutedResponse, error) {
	g, _, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	resp := &mutedResponse{GroupID: g.ID}
	now := time.Now().Unix()
	for row, err := range storage.Mutes.Scan(ctx, e.store, storage.Span{Prefix: storage.GroupPrefix(g.Key())}) {
		if err != nil {
			return nil, err
		}
		if row.Value.Until <= now {
			continue
		}
		a, err := lastPart(row.Key)
		if err != nil {
			return nil, err
		}
		resp.Accounts = append(resp.Accounts, mutedAccount{group.Account(a), row.Value.Until})
	}
	return resp, nil
}

// lastPart returns the last part of a record's key.
func lastPart(key string) (string, error) {
	parts, err := storage.SplitKey(key)
	if err != nil {
		return "", err
	}
	return parts[len(parts)-1], nil
}

type changeOwnerRequest struct {
	GroupID  group.ID      `json:"GroupId" wire:"required"`
	NewOwner group.Account `json:"NewOwner_Account" wire:"required,account"`
	From     group.Account `json:"From_Account" wire:"account" doc:"Who is shown to have done it; for users always the caller."`
}

// afterOwner is the body of Group.CallbackAfterChangeGroupOwner.
type afterOwner struct {
	callback
	Operator group.Account `json:"Operator_Account"`
	Old      group.Account `json:"OldOwner_Account"`
	New      group.Account `json:"NewOwner_Account"`
}

func (e *env) changeOwner(ctx context.Context, call *Call, r *changeOwnerRequest) (*ok, error) {
	call, err := e.operator(ctx, call, r.From)
	if err != nil {
		return nil, err
	}
	return nil, e.act(ctx, call, r.GroupID, []group.Account{r.NewOwner}, func(s *stage, g *group.Group, by group.Role) error {
		if err := allowed(g, group.ChangeOwner, by, 0); err != nil {
			return err
		}
		next, err := s.Member(r.NewOwner)
		if err != nil {
			return err
		}
		if next == nil {
			return notPermitted("%.40q is not a member of the group", r.NewOwner)
		}
		if next.Role == group.Owner {
			return nil
		}
		old := g.Owner
		if old != "" {
			m, err := s.Member(old)
			if err != nil {
				return err
			}
			if m != nil {
				m.Role = group.OrdinaryMember
				if err := s.PutMember(m); err != nil {
					return err
				}
			}
		}
		next.Role = group.Owner
		if err := s.PutMember(next); err != nil {
			return err
		}
		g.Owner = r.NewOwner
		s.Save()
		if err := s.tip(g.Type.Rules().InfoTip, tip{OpType: tipInfo, NewInfo: &tipNewInfo{Owner: &r.NewOwner}}); err != nil {
			return err
		}
		body := afterOwner{callback: s.head("Group.CallbackAfterChangeGroupOwner"), Operator: call.Caller, Old: old, New: r.NewOwner}
		s.Callback(body.Command, body)
		return nil
	})
}

type allGroupsRequest struct {
	Limit int    `json:"Limit" doc:"At most 10,000, which is the default."`
	Next  int64  `json:"Next" doc:"0 first, then the Next of the answer before."`
	Type  string `json:"GroupType" alias:"Type"`
}

type allGroupsResponse struct {
	Total  int            `json:"TotalCount"`
	Groups []groupRequest `json:"GroupIdList"`
	Next   int64          `json:"Next" wire:"int32" doc:"0: the end."`
}

const maxAllGroups = 10_000

// getAllGroups pages by position: clients keep the cursor in 32 bits, so it can't name a group.
// Groups that are created or destroyed meanwhile may shift the pages.
func (e *env) getAllGroups(ctx context.Context, _ *Call, r *allGroupsRequest) (*allGroupsResponse, error) {
	if r.Limit < 0 || r.Limit > maxAllGroups || r.Next < 0 {
		return nil, badParameter("Limit must be at most %d, Next not negative", maxAllGroups)
	}
	if r.Limit == 0 {
		r.Limit = maxAllGroups
	}
	only, err := typeFilter(r.Type)
	if err != nil {
		return nil, err
	}
	resp := &allGroupsResponse{}
	for rec, err := range e.store.Scan(ctx, storage.Groups.Name, storage.Span{}) {
		if err != nil {
			return nil, err
		}
		if only != group.NoType {
			var g group.Group
			if err := json.Unmarshal(rec.Value, &g); err != nil {
				return nil, err
			}
			if g.Type != only {
				continue
			}
		}
		resp.Total++
		if int64(resp.Total) <= r.Next || len(resp.Groups) == r.Limit {
			continue
		}
		id, err := lastPart(rec.Key)
		if err != nil {
			return nil, err
		}
		resp.Groups = append(resp.Groups, groupRequest{group.ID(id)})
	}
	if end := r.Next + int64(len(resp.Groups)); end < int64(resp.Total) && len(resp.Groups) > 0 {
		resp.Next = end
	}
	return resp, nil
}

type rolesRequest struct {
	GroupID  group.ID        `json:"GroupId" wire:"required"`
	Accounts []group.Account `json:"User_Account" wire:"required,account" doc:"At most 500."`
}

type roleItem struct {
	Account group.Account `json:"Member_Account"`
	Role    string        `json:"Role"`
}

type rolesResponse struct {
	Accounts []roleItem `json:"UserIdList"`
}

const maxRoles = 500

func (e *env) getRoles(ctx context.Context, call *Call, r *rolesRequest) (*rolesResponse, error) {
	if len(r.Accounts) > maxRoles {
		return nil, tooMany(len(r.Accounts), maxRoles)
	}
	g, _, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	if !g.Type.Rules().StoresMembers {
		return nil, notPermitted("groups of type %s keep nothing of their members", g.Type)
	}
	members, err := e.someMembers(ctx, g, r.Accounts)
	if err != nil {
		return nil, err
	}
	resp := &rolesResponse{}
	for i, a := range r.Accounts {
		role := group.NotMember
		if members[i] != nil {
			role = members[i].Role
		}
		resp.Accounts = append(resp.Accounts, roleItem{a, role.String()})
	}
	return resp, nil
}

// someMembers returns the memberships of accounts, nil where there is none.
func (e *env) someMembers(ctx context.Context, g *group.Group, accounts []group.Account) ([]*group.Member, error) {
	keys := make([]string, len(accounts))
	for i, a := range accounts {
		keys[i] = storage.MemberKey(g.Key(), a)
	}
	return storage.Members.GetMany(ctx, e.store, keys)
}

type someMembersRequest struct {
	GroupID  group.ID        `json:"GroupId" wire:"required"`
	Accounts []group.Account `json:"Member_List_Account" wire:"required,account" doc:"At most 50."`
	Filter   []string        `json:"MemberInfoFilter" doc:"Fields of members; empty: all."`
	Custom   []string        `json:"AppDefinedDataFilter_GroupMember" doc:"Keys of custom fields; empty: all."`
}

type someMembersResponse struct {
	GroupID group.ID          `json:"GroupId"`
	Members []json.RawMessage `json:"MemberList" doc:"Members (see Records), with OnlineStatus."`
}

const maxSomeMembers = 50

func (e *env) getSomeMembers(ctx context.Context, call *Call, r *someMembersRequest) (*someMembersResponse, error) {
	if len(r.Accounts) > maxSomeMembers {
		return nil, tooMany(len(r.Accounts), maxSomeMembers)
	}
	g, _, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	filter, err := newFilter(memberRecordType, "AppMemberDefinedData", r.Filter, r.Custom)
	if err != nil {
		return nil, err
	}
	found, err := e.someMembers(ctx, g, distinct(r.Accounts))
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(m *group.Member) bool { return m == nil })
	states, err := e.memberStates(ctx, g, found)
	if err != nil {
		return nil, err
	}
	resp := &someMembersResponse{GroupID: g.ID}
	now := time.Now().Unix()
	for i, m := range found {
		record := e.memberOut(g, m, states[i], now)
		record.OnlineState = "Offline"
		if statusOf(e.online.Devices(m.Account)) == statusOnline {
			record.OnlineState = "Online"
		}
		raw, err := filter.member(record)
		if err != nil {
			return nil, err
		}
		resp.Members = append(resp.Members, raw)
	}
	return resp, nil
}
