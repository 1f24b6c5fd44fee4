package command_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
)

// TestImportedLimit imports into a type that holds fewer members than an import's default.
func TestImportedLimit(t *testing.T) {
	w := newWorld(t, command.Config{MaxMembers: func(group.Type) int { return 200 }})
	w.accepted(t, "", g+"import_group", `{"Type":"Public","Name":"n","GroupId":"g"}`)
	if raw := string(w.call(t, "", g+"get_group_info", `{"GroupIdList":["g"]}`)); !strings.Contains(raw, `"MaxMemberNum":200`) {
		t.Errorf("imported: %s", raw)
	}
}

// TestWhyNobodyJoins wants the reason for which nobody of an invitation, or an applicant, got in.
func TestWhyNobodyJoins(t *testing.T) {
	w := newWorld(t, command.Config{GroupsPerUser: 1})
	w.people(t, "alice", "bob", "carol")
	w.make(t, group.Public, "g", "alice", "bob")
	w.make(t, group.Meeting, "other", "carol")
	add := func(as, id, whom string) int {
		t.Helper()
		path := "add_group_member"
		if as == "" {
			path = g + path
		}
		return w.must(t, as, path, `{"GroupId":"`+id+`","MemberList":[{"Member_Account":"`+whom+`"}]}`).ErrorCode
	}
	for _, c := range []struct {
		what, as, whom string
		want           int
	}{
		{"nobody", "", "nobody", group.CodeNoAccount},
		{"carol, who is in another group", "", "carol", group.CodeTooManyGroups},
		{"bob, who is a member and in as many groups as may be", "", "bob", 0},
		{"nobody, by bob, who may not invite", "bob", "nobody", group.CodeNotPermitted},
	} {
		if got := add(c.as, "g", c.whom); got != c.want {
			t.Errorf("adding %s: %d, want %d", c.what, got, c.want)
		}
	}
	if a := w.must(t, "alice", "apply_join_group", `{"GroupId":"other"}`); a.ErrorCode != group.CodeTooManyGroups {
		t.Errorf("alice applies to a second group: %+v", a)
	}
	if raw := string(w.call(t, "bob", "apply_join_group", `{"GroupId":"g"}`)); !strings.Contains(raw, `"JoinedStatus":"AlreadyInGroup"`) {
		t.Errorf("bob applies to the group that he is in: %s", raw)
	}
}

// TestAppIsAskedLast wants the app asked only about applications that may succeed.
func TestAppIsAskedLast(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.before.ears, w.before.answers = w.ears, map[string]string{"Group.CallbackBeforeApplyJoinGroup": `{"ErrorCode":0}`}
	w.people(t, "alice", "bob", "carol")
	w.make(t, group.Public, "g", "alice", "bob")
	w.make(t, group.Work, "w", "alice")
	asked := func(as, id string) bool {
		w.ears.take()
		w.call(t, as, "apply_join_group", `{"GroupId":"`+id+`"}`)
		return strings.Contains(strings.Join(w.ears.take(), "\n"), "app asked")
	}
	if asked("bob", "g") {
		t.Error("asked about a member")
	}
	if asked("carol", "w") {
		t.Error("asked about a Work group")
	}
	if !asked("carol", "g") {
		t.Error("not asked about carol")
	}
	w.accepted(t, "", g+"modify_group_base_info", `{"GroupId":"g","ApplyJoinOption":"DisableApply"}`)
	if asked("carol", "g") {
		t.Error("asked about a group that takes no requests")
	}
}

// TestImportedHistory imports members after messages: each reads what came since it joined, and
// what is unread.
func TestImportedHistory(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob", "carol", "dave", "erin", "frank")
	start := time.Now().Unix() - 10_000
	w.accepted(t, "", g+"import_group", fmt.Sprintf(`{"Type":"Public","Name":"n","GroupId":"g","Owner_Account":"alice","CreateTime":%d}`, start))
	for i := range 6 {
		w.accepted(t, "", g+"import_group_msg", fmt.Sprintf(
			`{"GroupId":"g","MsgList":[{"From_Account":"alice","SendTime":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}]}]}`, start+1000+int64(i)*100))
	}
	for _, c := range []struct {
		who, more string
		first     group.Seq
		unread    int64
	}{
		{"bob", fmt.Sprintf(`"JoinTime":%d,"UnreadMsgNum":3`, start), 1, 3},
		{"carol", fmt.Sprintf(`"JoinTime":%d`, start+1200), 3, 0}, // at the instant of the third
		{"dave", fmt.Sprintf(`"JoinTime":%d,"UnreadMsgNum":100`, start+1201), 1, 6},
		{"erin", `"UnreadMsgNum":2`, 5, 2},
		{"frank", `"JoinTime":0`, 7, 0},
	} {
		w.accepted(t, "", g+"import_group_member", `{"GroupId":"g","MemberList":[{"Member_Account":"`+c.who+`",`+c.more+`}]}`)
		pages := w.syncAll(t, c.who, 10, nil)
		if len(pages) != 1 || len(pages[0]) != 1 {
			t.Fatalf("%s is in %+v", c.who, pages)
		}
		if got := pages[0][0]; got.FirstMsgSeq != c.first || got.UnreadMsgNum != c.unread {
			t.Errorf("%s, imported with %s: first %d, unread %d; want %d, %d", c.who, c.more, got.FirstMsgSeq, got.UnreadMsgNum, c.first, c.unread)
		}
	}
}

// TestJoinedRooms lists the groups of an ordinary member of a live room, which nothing stores.
func TestJoinedRooms(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob")
	w.make(t, group.AVChatRoom, "b", "alice")
	w.make(t, group.AVChatRoom, "c", "alice")
	w.make(t, group.Public, "a", "alice", "bob")
	w.make(t, group.Public, "z", "alice", "bob")
	w.accepted(t, "bob", "apply_join_group", `{"GroupId":"b"}`)
	// He has left c, and n is gone.
	w.online.rooms = map[group.Account][]group.Key{"bob": {{ID: "n", Incarnation: 1}, {ID: "c", Incarnation: 1}, {ID: "b", Incarnation: 1}}}
	for body, want := range map[string]string{
		`{"WithHugeGroups":1}`: `"TotalCount":3,"GroupIdList":[{"GroupId":"a"},{"GroupId":"b"},{"GroupId":"z"}]`,
		`{"WithHugeGroups":1,"ResponseFilter":{"GroupBaseInfoFilter":["Type"],"SelfInfoFilter":["Role"]},"Limit":1,"Offset":1}`: `"TotalCount":3,"GroupIdList":[{"GroupId":"b","Type":"AVChatRoom","SelfInfo":{"Role":"Member"}}]`,
		`{"GroupType":"AVChatRoom"}`: `"TotalCount":1,"GroupIdList":[{"GroupId":"b"}]`,
		`{}`:                         `"TotalCount":2,"GroupIdList":[{"GroupId":"a"},{"GroupId":"z"}]`,
	} {
		if raw := string(w.call(t, "bob", "get_joined_group_list", body)); !strings.Contains(raw, want) {
			t.Errorf("%s: %s, want %s", body, raw, want)
		}
	}
}
