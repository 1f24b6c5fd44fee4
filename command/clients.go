package command

import (
	"context"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// registerClients registers requests that the vendor's own clients make. sync answers most of
// it at once.
func (t *Table) registerClients() {
	e := t.env
	register(t, Command{Service: groupService, Name: "get_group_self_member_info", Audience: Users, Doc: "Returns the caller's own membership in a group."}, e.getSelf)
	register(t, Command{Service: groupService, Name: "get_group_public_info", Audience: Everyone, Doc: "Returns groups without their members; of groups that may be joined, to everybody."}, e.getPublic)
	register(t, Command{Service: openimService, Name: "read_all_unread_msg", Audience: Users, Changes: true, Doc: "Says how far the caller has read several groups."}, e.readGroups)
}

type selfResponse struct {
	GroupID group.ID      `json:"GroupId"`
	Account group.Account `json:"Member_Account"`
	selfRecord
}

func (e *env) getSelf(ctx context.Context, call *Call, r *groupRequest) (*selfResponse, error) {
	g, err := e.group(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	m, err := e.member(ctx, g, call.Caller)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, notPermitted("not a member of the group")
	}
	states, err := e.memberStates(ctx, g, []*group.Member{m})
	if err != nil {
		return nil, err
	}
	return &selfResponse{g.ID, m.Account, selfOf(e.memberOut(g, m, states[0], nowUnix()))}, nil
}

type publicRequest struct {
	GroupIDs []group.ID    `json:"GroupIdList" wire:"required" doc:"At most 50."`
	Filter   *publicFilter `json:"ResponseFilter"`
}

type publicFilter struct {
	Group       []string `json:"GroupBaseInfoFilter" alias:"GroupBasePublicInfoFilter" doc:"Fields of groups; empty: all."`
	GroupCustom []string `json:"AppDefinedDataFilter_Group" doc:"Keys of the groups' custom fields."`
}

func (e *env) getPublic(ctx context.Context, call *Call, r *publicRequest) (*getGroupInfoResponse, error) {
	var want responseFilter
	if r.Filter != nil {
		want.Group, want.GroupCustom = r.Filter.Group, r.Filter.GroupCustom
	}
	return e.groupInfo(ctx, call, r.GroupIDs, want, false)
}

type readGroupsRequest struct {
	Groups []readGroup `json:"GroupReadInfo" doc:"At most 100. Groups that the caller is not in are left out."`
	C2C    int         `json:"C2CReadAllMsg" doc:"There are no one-to-one messages."`
}

type readGroup struct {
	GroupID group.ID  `json:"GroupId" wire:"required"`
	Seq     group.Seq `json:"MsgSeq" wire:"required" doc:"The highest MsgSeq that was read; it moves forward only."`
}

const maxReadGroups = 100

func (e *env) readGroups(ctx context.Context, call *Call, r *readGroupsRequest) (*ok, error) {
	if len(r.Groups) > maxReadGroups {
		return nil, group.Errorf(codesOf(openimService).parameter, "GroupReadInfo has %d entries, at most %d are allowed", len(r.Groups), maxReadGroups)
	}
	keys := make([]string, len(r.Groups))
	for i, g := range r.Groups {
		keys[i] = storage.JoinedKey(call.Caller, g.GroupID)
	}
	joined, err := storage.Joined.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	for i, g := range r.Groups {
		if joined[i] == nil {
			continue
		}
		_, err := e.reportRead(ctx, call, &readRequest{GroupID: g.GroupID, Seq: g.Seq})
		if refused(err) { // it is over, or the caller's membership is
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}
