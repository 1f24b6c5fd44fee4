package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rookery-im/rookery/group"
)

// A NewGroup is a group to create. Fields left empty take what the type has by default.
type NewGroup struct {
	Type            group.Type
	Name            string
	ID              group.ID // empty: the server makes one
	Introduction    string
	Notification    string
	FaceURL         string
	MaxMembers      int
	ApplyJoinOption group.JoinOption
	Members         []group.Account
}

type accountJSON struct {
	Account group.Account `json:"Member_Account"`
}

func accountList(accounts []group.Account) []accountJSON {
	list := make([]accountJSON, len(accounts))
	for i, a := range accounts {
		list[i] = accountJSON{a}
	}
	return list
}

type groupJSON struct {
	GroupID group.ID `json:"GroupId"`
}

// CreateGroup creates a group whose owner is the account, and returns its id.
func (c *Client) CreateGroup(ctx context.Context, g NewGroup) (group.ID, error) {
	var resp groupJSON
	err := c.Call(ctx, "create_group", struct {
		Type            string
		Name            string
		GroupID         group.ID         `json:"GroupId,omitempty"`
		Introduction    string           `json:",omitempty"`
		Notification    string           `json:",omitempty"`
		FaceURL         string           `json:"FaceUrl,omitempty"`
		MaxMembers      int              `json:"MaxMemberCount,omitempty"`
		ApplyJoinOption group.JoinOption `json:",omitempty"`
		Members         []accountJSON    `json:"MemberList,omitempty"`
	}{g.Type.String(), g.Name, g.ID, g.Introduction, g.Notification, g.FaceURL, g.MaxMembers, g.ApplyJoinOption, accountList(g.Members)}, &resp)
	return resp.GroupID, err
}

// DestroyGroup dissolves a group.
func (c *Client) DestroyGroup(ctx context.Context, id group.ID) error {
	return c.Call(ctx, "destroy_group", groupJSON{id}, nil)
}

// GroupInfo is a group's data.
type GroupInfo struct {
	ID              group.ID `json:"GroupId"`
	Type            string
	Name            string
	Introduction    string
	Notification    string
	FaceURL         string        `json:"FaceUrl"`
	Owner           group.Account `json:"Owner_Account"`
	CreateTime      int64         // Unix seconds
	LastMsgTime     int64         // Unix seconds
	NextSeq         group.Seq     `json:"NextMsgSeq"`
	Members         int           `json:"MemberNum"`
	MaxMembers      int           `json:"MaxMemberNum"`
	ApplyJoinOption group.JoinOption
	MuteAll         string        `json:"MuteAllMember"` // On or Off
	Custom          []group.Field `json:"AppDefinedData"`
}

// GroupInfo returns the data of a group without its members.
func (c *Client) GroupInfo(ctx context.Context, id group.ID) (GroupInfo, error) {
	var resp struct {
		Groups []struct {
			GroupInfo
			ErrorCode int
			ErrorInfo string
		} `json:"GroupInfo"`
	}
	type filter struct {
		Base []string `json:"GroupBaseInfoFilter"`
	}
	err := c.Call(ctx, "get_group_info", struct {
		IDs    []group.ID `json:"GroupIdList"`
		Filter filter     `json:"ResponseFilter"`
	}{[]group.ID{id}, filter{[]string{
		"Type", "Name", "Introduction", "Notification", "FaceUrl", "Owner_Account", "CreateTime", "LastMsgTime", "NextMsgSeq",
		"MemberNum", "MaxMemberNum", "ApplyJoinOption", "MuteAllMember",
	}}}, &resp)
	if err != nil {
		return GroupInfo{}, err
	}
	if len(resp.Groups) != 1 {
		return GroupInfo{}, fmt.Errorf("client: get_group_info: %d groups instead of 1", len(resp.Groups))
	}
	if g := resp.Groups[0]; g.ErrorCode != 0 {
		return GroupInfo{}, &Error{Code: g.ErrorCode, Info: g.ErrorInfo}
	}
	return resp.Groups[0].GroupInfo, nil
}

// A GroupChange is what ModifyGroup changes; empty fields stay as they are.
type GroupChange struct {
	Name            string           `json:",omitempty"`
	Introduction    string           `json:",omitempty"`
	Notification    string           `json:",omitempty"`
	FaceURL         string           `json:"FaceUrl,omitempty"`
	MaxMembers      int              `json:"MaxMemberNum,omitempty"`
	ApplyJoinOption group.JoinOption `json:",omitempty"`
	MuteAll         string           `json:"MuteAllMember,omitempty"`  // On: only owner and admins may send; Off
	Custom          []group.Field    `json:"AppDefinedData,omitempty"` // an empty Value deletes the key
}

// ModifyGroup changes a group's data.
func (c *Client) ModifyGroup(ctx context.Context, id group.ID, change GroupChange) error {
	return c.Call(ctx, "modify_group_base_info", struct {
		groupJSON
		GroupChange
	}{groupJSON{id}, change}, nil)
}

// ChangeOwner makes a member the owner.
func (c *Client) ChangeOwner(ctx context.Context, id group.ID, owner group.Account) error {
	return c.Call(ctx, "change_group_owner", struct {
		groupJSON
		Owner group.Account `json:"NewOwner_Account"`
	}{groupJSON{id}, owner}, nil)
}

// Join asks to become a member. It reports whether the account is one now; otherwise somebody
// has to agree.
func (c *Client) Join(ctx context.Context, id group.ID, why string) (member bool, err error) {
	var resp struct{ JoinedStatus string }
	err = c.Call(ctx, "apply_join_group", struct {
		groupJSON
		ApplyMsg string `json:",omitempty"`
	}{groupJSON{id}, why}, &resp)
	return err == nil && resp.JoinedStatus != "WaitAdminApproval", err
}

// A JoinRequest is somebody's wish to become a member.
type JoinRequest struct {
	Group     group.ID      `json:"GroupId"`
	Applicant group.Account `json:"Requester_Account"`
	Message   string        `json:"ApplyMsg"`
}

// JoinRequests returns the oldest open requests to join groups that the account is owner or
// admin of, at most 100.
func (c *Client) JoinRequests(ctx context.Context) ([]JoinRequest, error) {
	var resp struct{ PendencyList []JoinRequest }
	err := c.Call(ctx, "get_pendency", struct{ Limit int }{100}, &resp)
	return resp.PendencyList, err
}

// AnswerJoin lets an applicant in, or not.
func (c *Client) AnswerJoin(ctx context.Context, r JoinRequest, agree bool, message string) error {
	answer := "Reject"
	if agree {
		answer = "Agree"
	}
	return c.Call(ctx, "handle_apply_join_group", struct {
		groupJSON
		Applicant   group.Account `json:"Applicant_Account"`
		HandleMsg   string
		ApprovalMsg string `json:",omitempty"`
	}{groupJSON{r.Group}, r.Applicant, answer, message}, nil)
}

// Quit leaves a group.
func (c *Client) Quit(ctx context.Context, id group.ID) error {
	return c.Call(ctx, "quit_group", groupJSON{id}, nil)
}

// A Member is a member of a group.
type Member struct {
	Account      group.Account `json:"Member_Account"`
	Role         string        // Owner, Admin or Member
	JoinTime     int64         // Unix seconds
	ReadSeq      group.Seq     `json:"MsgSeq"`
	NameCard     string
	LastSendTime int64         `json:"LastSendMsgTime"` // Unix seconds; 0: never
	MuteUntil    int64         // Unix seconds; 0: not muted
	Custom       []group.Field `json:"AppMemberDefinedData"`
}

// Members returns limit members from the one with the number offset on, by the time they
// joined, and how many there are in all.
func (c *Client) Members(ctx context.Context, id group.ID, offset, limit int) (members []Member, total int, err error) {
	var resp struct {
		MemberNum  int
		MemberList []Member
	}
	err = c.Call(ctx, "get_group_member_info", struct {
		groupJSON
		Limit, Offset int
	}{groupJSON{id}, limit, offset}, &resp)
	return resp.MemberList, resp.MemberNum, err
}

// AddMembers adds accounts to a group. The error tells whether the request was taken; who could
// not be added is returned.
func (c *Client) AddMembers(ctx context.Context, id group.ID, accounts ...group.Account) (failed []group.Account, err error) {
	var resp struct {
		MemberList []struct {
			accountJSON
			Result int
		}
	}
	err = c.Call(ctx, "add_group_member", struct {
		groupJSON
		MemberList []accountJSON
	}{groupJSON{id}, accountList(accounts)}, &resp)
	for _, m := range resp.MemberList {
		if m.Result == 0 {
			failed = append(failed, m.Account)
		}
	}
	return failed, err
}

// RemoveMembers removes accounts from a group. Who is no member counts as removed.
func (c *Client) RemoveMembers(ctx context.Context, id group.ID, reason string, accounts ...group.Account) error {
	return c.Call(ctx, "delete_group_member", struct {
		groupJSON
		Accounts []group.Account `json:"MemberToDel_Account"`
		Reason   string          `json:",omitempty"`
	}{groupJSON{id}, accounts, reason}, nil)
}

// memberChange is modify_group_member_info.
type memberChange struct {
	groupJSON
	accountJSON
	Role     string `json:",omitempty"`
	MsgFlag  string `json:",omitempty"`
	NameCard string `json:",omitempty"`
}

// SetRole makes a member an admin or an ordinary member.
func (c *Client) SetRole(ctx context.Context, id group.ID, a group.Account, role group.Role) error {
	return c.Call(ctx, "modify_group_member_info", memberChange{groupJSON: groupJSON{id}, accountJSON: accountJSON{a}, Role: role.String()}, nil)
}

// SetNameCard sets the name by which the group sees the account. It can be replaced, but not
// taken away: the empty name is an error.
func (c *Client) SetNameCard(ctx context.Context, id group.ID, name string) error {
	if name == "" {
		return errors.New("client: SetNameCard: the name is empty")
	}
	return c.Call(ctx, "modify_group_member_info", memberChange{groupJSON: groupJSON{id}, accountJSON: accountJSON{c.cfg.Account}, NameCard: name}, nil)
}

// SetReceiveOption says what the account wants of a group's messages.
func (c *Client) SetReceiveOption(ctx context.Context, id group.ID, option group.ReceiveOption) error {
	if option.String() == "" { // the server would take it for no change
		return fmt.Errorf("client: SetReceiveOption: %d is not an option to choose", option)
	}
	change := memberChange{groupJSON: groupJSON{id}, accountJSON: accountJSON{c.cfg.Account}, MsgFlag: option.String()}
	if err := c.Call(ctx, "modify_group_member_info", change, nil); err != nil {
		return err
	}
	c.update(ctx, id, func(r *room) { r.receive(option) })
	return nil
}

// Mute keeps members from sending for a time, in whole seconds; 0 lifts the mute.
func (c *Client) Mute(ctx context.Context, id group.ID, d time.Duration, accounts ...group.Account) error {
	return c.Call(ctx, "forbid_send_msg", struct {
		groupJSON
		Accounts []group.Account `json:"Members_Account"`
		MuteTime int64
	}{groupJSON{id}, accounts, int64(d / time.Second)}, nil)
}

// A Muted member may not send.
type Muted struct {
	Account group.Account `json:"Member_Account"`
	Until   int64         `json:"MutedUntil"` // Unix seconds
}

// MutedMembers returns who is muted in a group.
func (c *Client) MutedMembers(ctx context.Context, id group.ID) ([]Muted, error) {
	var resp struct{ MutedAccountList []Muted }
	err := c.Call(ctx, "get_group_muted_account", groupJSON{id}, &resp)
	return resp.MutedAccountList, err
}
