package command_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
)

// TestInvitations has an ordinary member invite into a group whose invitations need consent.
func TestInvitations(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob", "carol", "dave", "erin")
	w.make(t, group.Public, "g", "alice", "bob")
	w.accepted(t, "alice", "modify_group_base_info", `{"GroupId":"g","InviteJoinOption":"NeedPermission","MaxMemberNum":4}`)
	invite := func(as, whom string) int {
		t.Helper()
		var a struct {
			MemberList []struct{ Result int }
		}
		raw := w.call(t, as, "add_group_member", `{"GroupId":"g","MemberList":[{"Member_Account":"`+whom+`"}]}`)
		if err := json.Unmarshal(raw, &a); err != nil || len(a.MemberList) != 1 {
			t.Fatalf("%s", raw)
		}
		return a.MemberList[0].Result
	}
	heard := func(who, what string) {
		t.Helper()
		if lines := w.ears.take(); !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "inbox of "+who) && strings.Contains(l, what) }) {
			t.Errorf("%s did not get %s:\n%s", who, what, strings.Join(lines, "\n"))
		}
	}
	send := `{"GroupId":"g","Random":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}]}`

	w.ears.take()
	if got := invite("bob", "carol"); got != 3 {
		t.Errorf("bob invites carol: %d, want 3", got)
	}
	heard("carol", `"ReportType":12`)
	if a := w.must(t, "carol", "send_group_msg", send); a.ErrorCode != group.CodeNotPermitted {
		t.Errorf("carol sends before she has agreed: %+v", a)
	}
	if a := w.must(t, "dave", "handle_invite_join_group", `{"GroupId":"g","HandleMsg":"Agree"}`); a.ErrorCode != group.CodeAlreadyHandled {
		t.Errorf("dave accepts what he has not got: %+v", a)
	}
	if raw := string(w.call(t, "carol", "get_pendency", `{"Limit":10}`)); !strings.Contains(raw, `"GroupId":"g","Requester_Account":"bob","PendencyType":1`) {
		t.Errorf("carol's invitations: %s", raw)
	}
	w.accepted(t, "carol", "handle_invite_join_group", `{"GroupId":"g","HandleMsg":"Agree"}`)
	heard("bob", `"ReportType":13`)
	w.accepted(t, "carol", "send_group_msg", send)
	if a := w.must(t, "carol", "handle_invite_join_group", `{"GroupId":"g","HandleMsg":"Agree"}`); a.ErrorCode != group.CodeAlreadyHandled {
		t.Errorf("carol accepts twice: %+v", a)
	}
	invite("bob", "dave")
	w.ears.take()
	w.accepted(t, "dave", "handle_invite_join_group", `{"GroupId":"g","HandleMsg":"Reject"}`)
	heard("bob", `"ReportType":14`)
	// Admins need nobody's consent; and an invitation is no place.
	invite("bob", "erin")
	if got := invite("alice", "dave"); got != 1 {
		t.Errorf("alice adds dave: %d, want 1", got)
	}
	if a := w.must(t, "erin", "handle_invite_join_group", `{"GroupId":"g","HandleMsg":"Agree"}`); a.ErrorCode != group.CodeGroupFull {
		t.Errorf("erin accepts into a full group: %+v", a)
	}
	// The invitation is to this life of the group alone.
	w.accepted(t, "", g+"destroy_group", `{"GroupId":"g"}`)
	w.make(t, group.Public, "g", "alice")
	if a := w.must(t, "erin", "handle_invite_join_group", `{"GroupId":"g","HandleMsg":"Agree"}`); a.ErrorCode != group.CodeAlreadyHandled {
		t.Errorf("erin accepts into another group of the id: %+v", a)
	}
	if raw := string(w.call(t, "erin", "get_pendency", `{"Limit":10}`)); strings.Contains(raw, `"GroupId"`) {
		t.Errorf("erin's invitations: %s", raw)
	}
}

// TestRequestsOfUsers looks up every request that docs/protocol.md opens to users.
func TestRequestsOfUsers(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice")
	for name := range strings.FieldsSeq(`
		create_group destroy_group get_group_info get_joined_group_list get_group_member_info modify_group_base_info apply_join_group
		handle_apply_join_group handle_invite_join_group get_pendency quit_group add_group_member delete_group_member modify_group_member_info
		change_group_owner forbid_send_msg get_group_muted_account
		send_group_msg group_msg_get group_msg_get_simple group_msg_recall msg_read_report delete_group_ramble_msg_by_seq group_msg_receipt
		get_group_msg_receipt get_group_msg_receipt_detail
		get_group_self_member_info get_group_public_info read_all_unread_msg
		sync recentcontact_get_list recentcontact_delete portrait_get portrait_set get_usersig_info`) {
		if a := w.must(t, "alice", name, `{}`); a.ErrorCode == group.CodeUnknownCommand {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for c := range w.table.Commands() {
		a := w.must(t, "alice", c.Service+"_"+c.Name, `{}`)
		if open := a.ErrorCode != group.CodeUnknownCommand; open != (c.Audience != command.Admins) {
			t.Errorf("%s is open to users: %t", c.Path(), open)
		}
	}
}
