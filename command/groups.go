package command

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerGroups() {
	e := t.env
	register(t, Command{Service: groupService, Name: "create_group", Audience: Everyone, Changes: true, Doc: "Creates a group."}, e.createGroup)
	register(t, Command{Service: groupService, Name: "destroy_group", Audience: Everyone, Changes: true, Doc: "Dissolves a group."}, e.destroyGroup)
	register(t, Command{Service: groupService, Name: "get_group_info", Audience: Everyone, Doc: "Returns groups with their members."}, e.getGroupInfo)
	register(t, Command{Service: groupService, Name: "get_joined_group_list", Audience: Everyone, Doc: "Returns the groups that an account is in."}, e.getJoinedGroups)
}

// groupData is what create_group and import_group have in common.
type groupData struct {
	Type         string        `json:"Type" alias:"GroupType" wire:"required" doc:"Public, Work (Private), Meeting (ChatRoom), AVChatRoom or Community."`
	Name         string        `json:"Name" wire:"required,text"`
	GroupID      group.ID      `json:"GroupId" doc:"A chosen id; not given: the server makes one."`
	Owner        group.Account `json:"Owner_Account" wire:"account" doc:"Becomes the owner; not given: the group has none. For users: always the caller."`
	Introduction string        `json:"Introduction" wire:"text"`
	Notification string        `json:"Notification" wire:"text"`
	FaceURL      string        `json:"FaceUrl" wire:"text"`
	MaxMembers   int           `json:"MaxMemberCount" alias:"MaxMemberNum" doc:"The most members; not given: the type's limit."`
	ApplyJoin    string        `json:"ApplyJoinOption" doc:"FreeAccess, NeedPermission or DisableApply."`
	InviteJoin   string        `json:"InviteJoinOption" doc:"FreeAccess; NeedPermission: whom an ordinary member invites has to agree; or DisableInvite."`
	Custom       []field       `json:"AppDefinedData" doc:"Custom fields."`
	SupportTopic int           `json:"SupportTopic" doc:"Topics are not offered: only 0 is taken."`
	HistoryOnOff string        `json:"HistoryMsgBeforeJoin" doc:"On or Off: may members read what was sent before they joined?"`
}

type createGroupRequest struct {
	groupData
	Members []newMember `json:"MemberList" doc:"At most 100 members to begin with."`
}

type newMember struct {
	Account group.Account `json:"Member_Account" wire:"required,account"`
	Role    string        `json:"Role" doc:"Admin, or nothing."`
	Custom  []field       `json:"AppMemberDefinedData"`
}

type createGroupResponse struct {
	GroupID group.ID `json:"GroupId"`
	Type    string   `json:"Type,omitempty" doc:"Communities only."`
	Huge    *int     `json:"HugeGroupFlag" doc:"Communities only: 0, they keep their members."`
}

const maxFirstMembers = 100

func (e *env) createGroup(ctx context.Context, call *Call, r *createGroupRequest) (*createGroupResponse, error) {
	if !call.Admin {
		r.Owner = call.Caller
	}
	g, err := e.newGroup(&r.groupData, call)
	if err != nil {
		return nil, err
	}
	members, err := e.firstMembers(ctx, g, r)
	if err != nil {
		return nil, err
	}
	if err := e.askBeforeCreate(ctx, call, g, members); err != nil {
		return nil, err
	}
	g.CreateTime = time.Now().Unix()
	id, err := e.create(ctx, g, func(s *stage) error {
		s.call = call
		return e.fill(s, members)
	})
	if err != nil {
		return nil, err
	}
	accounts, results := make([]group.Account, len(members)), make(map[group.Account]int)
	for i, m := range members {
		accounts[i], results[m.Account] = m.Account, added
	}
	if err := e.dropDeleted(ctx, call, id, accounts, results); err != nil {
		return nil, err
	}
	resp := &createGroupResponse{GroupID: id}
	if g.Type == group.Community {
		resp.Type, resp.Huge = e.typeName(g.Type), new(0)
	}
	return resp, nil
}

// newGroup validates a new group's data. Its id is empty if the server is to make one.
func (e *env) newGroup(r *groupData, call *Call) (*group.Group, error) {
	t, known := group.ParseType(r.Type)
	if !known {
		return nil, badParameter("Type is unknown")
	}
	if r.GroupID != "" && !r.GroupID.ValidCustom(t) {
		return nil, group.Errorf(group.CodeBadGroupID, "GroupId must be 1 to %d bytes of printable ASCII and may not start with %s (Community: must start with %s)",
			group.MaxIDLen, group.ServerIDPrefix, group.CommunityIDPrefix)
	}
	if r.Name == "" {
		return nil, badParameter("Name is empty")
	}
	if r.Owner != "" && !r.Owner.Valid() {
		return nil, noAccount(r.Owner)
	}
	if r.SupportTopic != 0 {
		return nil, group.Errorf(codeNoTopics, "topics are not offered")
	}
	g := &group.Group{
		ID: r.GroupID, Type: t, Name: r.Name, Introduction: r.Introduction, Notification: r.Notification, FaceURL: r.FaceURL,
		Owner: r.Owner, Creator: call.Caller, MaxMembers: r.MaxMembers, Custom: mergeFields(nil, r.Custom),
	}
	if err := e.setJoinOptions(g, r.ApplyJoin, r.InviteJoin); err != nil {
		return nil, err
	}
	if err := setHistory(g, r.HistoryOnOff); err != nil {
		return nil, err
	}
	return g, e.checkGroup(g)
}

// setJoinOptions sets the given options. Work groups and communities keep their type's way in.
func (e *env) setJoinOptions(g *group.Group, apply, invite string) error {
	switch o := group.JoinOption(apply); o {
	case "":
	case group.FreeAccess, group.NeedPermission, group.DisableApply:
		if g.Type != group.Community && g.Type != group.Work {
			g.ApplyJoin = o
		}
	default:
		return badParameter("ApplyJoinOption must be FreeAccess, NeedPermission or DisableApply")
	}
	switch o := group.JoinOption(invite); o {
	case "":
	case group.FreeAccess, group.NeedPermission, group.DisableInvite:
		g.InviteJoin = o
	default:
		return badParameter("InviteJoinOption must be FreeAccess, NeedPermission or DisableInvite")
	}
	return nil
}

func setHistory(g *group.Group, value string) error {
	switch value {
	case "":
	case "On", "Off":
		g.HistoryBeforeJoin = new(value == "On")
	default:
		return badParameter("HistoryMsgBeforeJoin must be On or Off")
	}
	return nil
}

// checkGroup refuses data of a group that is too long or out of range.
func (e *env) checkGroup(g *group.Group) error {
	for _, f := range []struct {
		name, value string
		most        int
	}{
		{"Name", g.Name, e.cfg.NameSize},
		{"Introduction", g.Introduction, e.cfg.IntroductionSize},
		{"Notification", g.Notification, e.cfg.NotificationSize},
		{"FaceUrl", g.FaceURL, e.cfg.FaceURLSize},
	} {
		if len(f.value) > f.most {
			return badParameter("%s has %d bytes, at most %d are allowed", f.name, len(f.value), f.most)
		}
	}
	most := e.maxMembers(&group.Group{Type: g.Type})
	if g.MaxMembers < 0 || most > 0 && g.MaxMembers > most {
		return badParameter("the most members must be 1 to %d", most)
	}
	return checkFields("AppDefinedData", g.Custom, e.cfg.CustomFields, e.cfg.CustomFieldSize, e.cfg.CustomKeys)
}

// firstMembers returns the members that a new group starts with, the owner first.
func (e *env) firstMembers(ctx context.Context, g *group.Group, r *createGroupRequest) ([]*group.Member, error) {
	switch {
	case len(r.Members) > maxFirstMembers:
		return nil, tooMany(len(r.Members), maxFirstMembers)
	case len(r.Members) > 0 && !g.Type.Rules().StoresMembers:
		return nil, notPermitted("groups of type %s start without members", g.Type)
	}
	var members []*group.Member
	if g.Owner != "" {
		members = append(members, &group.Member{Account: g.Owner, Role: group.Owner})
	}
	seen := map[group.Account]bool{g.Owner: true}
	for _, n := range r.Members {
		m := &group.Member{Account: n.Account, Role: group.OrdinaryMember, Custom: mergeFields(nil, n.Custom)}
		switch n.Role {
		case "", "Member", "Owner": // the owner is who Owner_Account says
		case "Admin":
			if !g.Type.Rules().HasAdmins {
				return nil, notPermitted("groups of type %s have no admins", g.Type)
			}
			m.Role = group.Admin
		default:
			return nil, badParameter("Role of a member may only be Admin")
		}
		if err := checkFields("AppMemberDefinedData", m.Custom, e.cfg.MemberFields, e.cfg.MemberFieldSize, e.cfg.MemberKeys); err != nil {
			return nil, err
		}
		if !seen[n.Account] {
			seen[n.Account] = true
			members = append(members, m)
		}
	}
	if most := e.maxMembers(g); most > 0 && len(members) > most {
		return nil, group.Errorf(group.CodeTooManyMembers, "%d members, at most %d are allowed", len(members), most)
	}
	return members, e.mayJoin(ctx, members)
}

// mayJoin refuses accounts that do not exist or are in too many groups.
func (e *env) mayJoin(ctx context.Context, members []*group.Member) error {
	accounts := make([]group.Account, len(members))
	for i, m := range members {
		accounts[i] = m.Account
	}
	profiles, err := e.profiles(ctx, accounts)
	if err != nil {
		return err
	}
	for i, p := range profiles {
		if p == nil {
			return noAccount(accounts[i])
		}
		full, err := e.inTooManyGroups(ctx, accounts[i])
		if err != nil {
			return err
		}
		if full {
			return group.Errorf(group.CodeTooManyGroups, "%s is in %d groups already", accounts[i], e.cfg.GroupsPerUser)
		}
	}
	return nil
}

// inTooManyGroups reports whether the account may join no more groups.
func (e *env) inTooManyGroups(ctx context.Context, a group.Account) (bool, error) {
	n := 0
	for _, err := range e.store.Scan(ctx, storage.Joined.Name, storage.Span{Prefix: storage.Prefix(string(a)), Limit: e.cfg.GroupsPerUser}) {
		if err != nil {
			return false, err
		}
		n++
	}
	if n < e.cfg.GroupsPerUser {
		return false, nil
	}
	// Rows of destroyed groups may be among them: count again, with care.
	joined, err := storage.JoinedGroups(ctx, e.store, a)
	return len(joined) >= e.cfg.GroupsPerUser, err
}

// beforeCreate is the body of Group.CallbackBeforeCreateGroup.
type beforeCreate struct {
	callback
	Operator group.Account  `json:"Operator_Account"`
	Owner    group.Account  `json:"Owner_Account"`
	Name     string         `json:"Name"`
	Number   int            `json:"CreateGroupNum"`
	Same     int            `json:"CreatedNum"` // its older name
	Counts   map[string]int `json:"CreatedGroupNum"`
	Invite   string         `json:"InviteOption"`
	Members  []memberItem   `json:"MemberList"`
}

func (e *env) askBeforeCreate(ctx context.Context, call *Call, g *group.Group, members []*group.Member) error {
	if e.before == nil {
		return nil
	}
	counts := make(map[string]int)
	if g.Owner != "" {
		joined, err := storage.JoinedGroups(ctx, e.store, g.Owner)
		if err != nil {
			return err
		}
		for _, j := range joined {
			if j.Role == group.Owner {
				counts[j.Type.OldName()]++
			}
		}
	}
	number := counts[g.Type.OldName()]
	_, invite := joinOptions(g)
	body := beforeCreate{
		callback: callback{Command: "Group.CallbackBeforeCreateGroup", Type: g.Type.OldName(), EventTime: time.Now().UnixMilli(), origin: call.origin()},
		Operator: call.Caller, Owner: g.Owner, Name: g.Name, Number: number, Same: number, Counts: counts,
		Invite: string(invite), Members: []memberItem{},
	}
	for _, m := range members {
		body.Members = append(body.Members, memberItem{m.Account})
	}
	if _, refusal := e.before.Before(ctx, body.Command, body, call.origin()); refusal != nil {
		return refusal
	}
	return nil
}

// create makes the group in its lane, under a new id of ours if it has none.
func (e *env) create(ctx context.Context, g *group.Group, fill func(*stage) error) (group.ID, error) {
	ours := g.ID == ""
	for tries := 0; ; tries++ {
		g := g.Clone() // a lane keeps what it is given
		if ours {
			g.ID = newID(g.Type)
		}
		err := e.pipeline.Update(ctx, g.ID, func(tx *hooks.Tx) error {
			if err := tx.Create(g); err != nil {
				return err
			}
			return fill(&stage{Tx: tx, e: e})
		})
		if e, refused := errors.AsType[*group.Error](err); ours && tries < 3 && refused && (e.Code == group.CodeGroupIDTaken || e.Code == group.CodeGroupIDYours) {
			continue
		}
		return g.ID, err
	}
}

// newID makes a group id that nobody has: 80 random bits.
func newID(t group.Type) group.ID {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	id := base32.StdEncoding.EncodeToString(b[:])
	switch t {
	case group.AVChatRoom:
		return group.ID(group.ServerIDPrefix + "a" + id)
	case group.Community:
		return group.ID(group.CommunityIDPrefix + group.ServerIDPrefix + "c" + id)
	}
	return group.ID(group.ServerIDPrefix + "1" + id)
}

// afterCreate is the body of Group.CallbackAfterCreateGroup.
type afterCreate struct {
	callback
	Operator group.Account `json:"Operator_Account"`
	Owner    group.Account `json:"Owner_Account"`
	Name     string        `json:"Name"`
	Members  []memberItem  `json:"MemberList"`
	Custom   []group.Field `json:"UserDefinedDataList"`
}

// fill puts the first members into a new group and tells everybody.
func (e *env) fill(s *stage, members []*group.Member) error {
	for _, m := range members {
		if err := s.PutMember(m); err != nil {
			return err
		}
	}
	g := s.Group()
	body := afterCreate{
		callback: s.head("Group.CallbackAfterCreateGroup"), Operator: s.call.Caller, Owner: g.Owner, Name: g.Name,
		Members: []memberItem{}, Custom: append([]group.Field{}, g.Custom...),
	}
	for _, m := range members {
		body.Members = append(body.Members, memberItem{m.Account})
		switch {
		case m.Role == group.Owner:
			s.notice(m.Account, "Joined", notice{ReportType: reportCreated, Role: m.Role.String()})
		case !g.Type.Rules().NeedsActivation:
			s.notice(m.Account, "Joined", notice{ReportType: reportAdded, Role: m.Role.String()})
		}
	}
	s.Callback(body.Command, body)
	return nil
}

type groupRequest struct {
	GroupID group.ID `json:"GroupId" wire:"required"`
}

// afterDestroy is the body of Group.CallbackAfterGroupDestroyed.
type afterDestroy struct {
	callback
	Owner   group.Account `json:"Owner_Account"`
	Name    string        `json:"Name"`
	Members []memberItem  `json:"MemberList,omitempty"`
}

// destroyGroup removes the group's record in its lane; what else is kept for it goes into the
// trash, for the Janitor.
func (e *env) destroyGroup(ctx context.Context, call *Call, r *groupRequest) (*ok, error) {
	return nil, e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		by, err := roleIn(tx, call)
		if err != nil {
			return err
		}
		if err := allowed(g, group.Dismiss, by, 0); err != nil {
			return err
		}
		members, err := e.members(ctx, g)
		if err != nil {
			return err
		}
		s := &stage{Tx: tx, e: e, call: call}
		body := afterDestroy{callback: s.head("Group.CallbackAfterGroupDestroyed"), Owner: g.Owner, Name: g.Name}
		for _, m := range members {
			s.notice(m.Account, "Dismissed", notice{ReportType: reportDissolved})
			if g.Type != group.Community {
				body.Members = append(body.Members, memberItem{m.Account})
			}
		}
		if !g.Type.Rules().StoresMembers { // most are known by being there alone
			e.tellInside(s, body.Members)
		}
		s.Callback(body.Command, body)
		gone, err := s.departure("Dismissed", notice{ReportType: reportDissolved})
		if err != nil {
			return err
		}
		tx.Write(storage.Trash.Put(storage.GroupRecordKey(g.Key()), &storage.Trashed{ID: g.ID, Incarnation: g.Incarnation, Time: tx.Now().Unix(), Gone: *gone}))
		tx.Destroy()
		return nil
	})
}

// tellInside tells those who are online in a live room, but are none of its stored members,
// that it is dissolved.
func (e *env) tellInside(s *stage, stored []memberItem) {
	inside, _ := e.online.InGroup(s.Group().Key(), 0)
	for _, a := range inside {
		if !slices.Contains(stored, memberItem{a}) {
			s.notice(a, "Dismissed", notice{ReportType: reportDissolved})
		}
	}
}

type responseFilter struct {
	Group        []string `json:"GroupBaseInfoFilter" doc:"Fields of groups; empty: all."`
	Member       []string `json:"MemberInfoFilter" doc:"Fields of members; empty: all, unless only fields of groups are asked for."`
	GroupCustom  []string `json:"AppDefinedDataFilter_Group" doc:"Keys of the groups' custom fields."`
	MemberCustom []string `json:"AppDefinedDataFilter_GroupMember" doc:"Keys of the members' custom fields."`
	Self         []string `json:"SelfInfoFilter" doc:"Fields of the account's own membership."`
}

type getGroupInfoRequest struct {
	GroupIDs []group.ID      `json:"GroupIdList" wire:"required" doc:"At most 50."`
	Filter   *responseFilter `json:"ResponseFilter"`
}

type getGroupInfoResponse struct {
	Groups []json.RawMessage `json:"GroupInfo" doc:"Groups (see Records) in the order of the request, each with its own ErrorCode."`
}

const (
	maxGroupIDs = 50
	// maxListed is how many members a list without pages is built for: each takes at least
	// some 50 bytes of an answer.
	bytesPerMember = 50
)

func (e *env) getGroupInfo(ctx context.Context, call *Call, r *getGroupInfoRequest) (*getGroupInfoResponse, error) {
	var want responseFilter
	if r.Filter != nil {
		want = *r.Filter
	}
	withMembers := len(want.Member) > 0 || len(want.MemberCustom) > 0 || len(want.Group) == 0 && len(want.GroupCustom) == 0
	return e.groupInfo(ctx, call, r.GroupIDs, want, withMembers)
}

func (e *env) groupInfo(ctx context.Context, call *Call, ids []group.ID, want responseFilter, withMembers bool) (*getGroupInfoResponse, error) {
	if n := len(ids); n == 0 || n > maxGroupIDs {
		return nil, badParameter("GroupIdList has %d entries, 1 to %d are allowed", n, maxGroupIDs)
	}
	groups, err := newFilter(groupRecordType, "AppDefinedData", want.Group, want.GroupCustom)
	if err != nil {
		return nil, err
	}
	members, err := newFilter(memberRecordType, "AppMemberDefinedData", want.Member, want.MemberCustom)
	if err != nil {
		return nil, err
	}
	resp := &getGroupInfoResponse{}
	for _, id := range ids {
		one, err := e.oneGroupInfo(ctx, call, id, groups, members, withMembers)
		if refusal, ok := errors.AsType[*group.Error](err); ok && refusal.Code != group.CodeAnswerTooLarge {
			one, err = json.Marshal(struct {
				GroupID   group.ID `json:"GroupId"`
				ErrorCode int
				ErrorInfo string
			}{id, refusal.Code, refusal.Info})
		}
		if err != nil {
			return nil, err
		}
		resp.Groups = append(resp.Groups, one)
	}
	return resp, nil
}

func (e *env) oneGroupInfo(ctx context.Context, call *Call, id group.ID, groups, members filter, withMembers bool) (json.RawMessage, error) {
	g, err := e.group(ctx, id)
	if err != nil {
		return nil, err
	}
	role, _, err := e.memberRole(ctx, g, call)
	if err != nil {
		return nil, err
	}
	if role == group.NotMember {
		if !g.Type.Rules().Joinable {
			return nil, notPermitted("only members may see a group of type %s", g.Type)
		}
		withMembers = false
	}
	head, err := e.store.Head(ctx, g.Key())
	if err != nil {
		return nil, err
	}
	record := e.groupOut(g, head)
	record.ErrorCode, record.ErrorInfo = new(0), new("")
	out, err := groups.group(record)
	if err != nil || !withMembers {
		return out, err
	}
	list, err := e.memberList(ctx, g, members)
	if err != nil {
		return nil, err
	}
	return withMember(out, "MemberList", array(list)), nil
}

// memberList returns all members of a group, as the filter has them.
func (e *env) memberList(ctx context.Context, g *group.Group, f filter) ([]json.RawMessage, error) {
	if !g.Type.Rules().StoresMembers {
		return nil, nil
	}
	if g.MemberCount > e.cfg.AnswerSize/bytesPerMember {
		return nil, group.Errorf(group.CodeAnswerTooLarge, "group %q has %d members: page through them with get_group_member_info", g.ID, g.MemberCount)
	}
	all, err := e.members(ctx, g)
	if err != nil {
		return nil, err
	}
	return e.membersOut(ctx, g, all, f)
}

func (e *env) membersOut(ctx context.Context, g *group.Group, members []*group.Member, f filter) ([]json.RawMessage, error) {
	states, err := e.memberStates(ctx, g, members)
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	out := make([]json.RawMessage, len(members))
	for i, m := range members {
		if out[i], err = f.member(e.memberOut(g, m, states[i], now)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

type getJoinedRequest struct {
	Account      group.Account   `json:"Member_Account" wire:"account" doc:"Whose groups. For users: always the caller."`
	WithRooms    int             `json:"WithHugeGroups" doc:"1: live rooms too."`
	WithInactive int             `json:"WithNoActiveGroups" doc:"1: Work groups without a message too."`
	Limit        int             `json:"Limit" doc:"At most 5,000; not given: all."`
	Offset       int             `json:"Offset"`
	Type         string          `json:"GroupType" alias:"Type"`
	Filter       *responseFilter `json:"ResponseFilter"`
	SupportTopic int             `json:"SupportTopic"`
}

type getJoinedResponse struct {
	Total  int               `json:"TotalCount" doc:"All that match, not only this page."`
	Groups []json.RawMessage `json:"GroupIdList" doc:"The GroupId of each, and what ResponseFilter asks for."`
}

const maxJoinedPage = 5000

// oldBroadcast stands for BChatRoom, a type that only filters name: no group has it.
const oldBroadcast group.Type = math.MaxUint8

// typeFilter reads the type that a list of groups is narrowed to; NoType: it is not.
func typeFilter(name string) (group.Type, error) {
	switch t, known := group.ParseType(name); {
	case known, name == "":
		return t, nil
	case name == "BChatRoom":
		return oldBroadcast, nil
	}
	return group.NoType, badParameter("GroupType is unknown")
}

func (e *env) getJoinedGroups(ctx context.Context, call *Call, r *getJoinedRequest) (*getJoinedResponse, error) {
	if !call.Admin {
		r.Account = call.Caller
	}
	only, err := typeFilter(r.Type)
	if err != nil {
		return nil, err
	}
	if r.Limit < 0 || r.Limit > maxJoinedPage || r.Offset < 0 {
		return nil, badParameter("Limit must be at most %d, Offset not negative", maxJoinedPage)
	}
	if r.Account == "" {
		return nil, badParameter("Member_Account is missing")
	}
	found, err := e.exists(ctx, r.Account)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, noAccount(r.Account)
	}
	groups, members, err := e.joined(ctx, r.Account)
	if err != nil {
		return nil, err
	}
	if r.WithRooms != 0 || only == group.AVChatRoom {
		if groups, members, err = e.addRooms(ctx, r.Account, groups, members); err != nil {
			return nil, err
		}
	}
	kept := 0
	for i, g := range groups {
		switch rules := g.Type.Rules(); {
		case only != group.NoType && g.Type != only:
		case !rules.StoresMembers && r.WithRooms == 0 && only != g.Type:
		case rules.NeedsActivation && !g.Activated && r.WithInactive == 0 && members[i].Role != group.Owner:
		default:
			groups[kept], members[kept] = g, members[i]
			kept++
		}
	}
	groups, members = groups[:kept], members[:kept]
	from := min(r.Offset, kept)
	to := kept
	if r.Limit > 0 {
		to = min(from+r.Limit, kept)
	}
	resp := &getJoinedResponse{Total: kept}
	resp.Groups, err = e.joinedOut(ctx, groups[from:to], members[from:to], r.Filter)
	return resp, err
}

// addRooms adds the live rooms in which a is as an ordinary member, in their places by id.
func (e *env) addRooms(ctx context.Context, a group.Account, groups []*group.Group, members []*group.Member) ([]*group.Group, []*group.Member, error) {
	for _, key := range e.online.Rooms(a) {
		var room *group.Group
		var m *group.Member
		err := e.update(ctx, key.ID, func(tx *hooks.Tx, g *group.Group) (err error) {
			room = g
			m, err = tx.Member(a)
			return err
		})
		switch {
		case isNoGroup(err):
			continue
		case err != nil:
			return nil, nil, err
		case m == nil || room.Incarnation != key.Incarnation || m.Role > group.OrdinaryMember: // it changed meanwhile
			continue
		}
		at, _ := slices.BinarySearchFunc(groups, key.ID, func(g *group.Group, id group.ID) int { return strings.Compare(string(g.ID), string(id)) })
		groups, members = slices.Insert(groups, at, room), slices.Insert(members, at, m)
	}
	return groups, members, nil
}

// joined returns the groups of an account with its membership in each, ordered by id.
func (e *env) joined(ctx context.Context, a group.Account) ([]*group.Group, []*group.Member, error) {
	rows, err := storage.JoinedGroups(ctx, e.store, a)
	if err != nil {
		return nil, nil, err
	}
	groupKeys, memberKeys := make([]string, len(rows)), make([]string, len(rows))
	for i, j := range rows {
		groupKeys[i], memberKeys[i] = storage.GroupKey(j.ID), storage.MemberKey(j.Key(), a)
	}
	groups, err := storage.Groups.GetMany(ctx, e.store, groupKeys)
	if err != nil {
		return nil, nil, err
	}
	members, err := storage.Members.GetMany(ctx, e.store, memberKeys)
	if err != nil {
		return nil, nil, err
	}
	kept := 0
	for i := range rows { // what ended since the rows were read is left out
		if groups[i] != nil && groups[i].Incarnation == rows[i].Incarnation && members[i] != nil {
			groups[kept], members[kept] = groups[i], members[i]
			kept++
		}
	}
	return groups[:kept], members[:kept], nil
}

func (e *env) joinedOut(ctx context.Context, groups []*group.Group, members []*group.Member, want *responseFilter) ([]json.RawMessage, error) {
	out := make([]json.RawMessage, len(groups))
	if want == nil || len(want.Group)+len(want.Self)+len(want.GroupCustom)+len(want.MemberCustom) == 0 {
		for i, g := range groups {
			var err error
			if out[i], err = json.Marshal(groupRequest{g.ID}); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	names := want.Group
	if len(names) == 0 {
		names = []string{"GroupId"}
	}
	groupFilter, err := newFilter(groupRecordType, "AppDefinedData", names, want.GroupCustom)
	if err != nil {
		return nil, err
	}
	selfFilter, err := newFilter(selfRecordType, "AppMemberDefinedData", want.Self, want.MemberCustom)
	if err != nil {
		return nil, err
	}
	keys := make([]group.Key, len(groups))
	for i, g := range groups {
		keys[i] = g.Key()
	}
	heads, err := e.store.Heads(ctx, keys)
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	for i, g := range groups {
		if out[i], err = groupFilter.group(e.groupOut(g, heads[i])); err != nil {
			return nil, err
		}
		if len(want.Self)+len(want.MemberCustom) == 0 {
			continue
		}
		states, err := e.memberStates(ctx, g, members[i:i+1])
		if err != nil {
			return nil, err
		}
		self, err := selfFilter.self(e.memberOut(g, members[i], states[0], now))
		if err != nil {
			return nil, err
		}
		out[i] = withMember(out[i], "SelfInfo", self)
	}
	return out, nil
}
