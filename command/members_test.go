package command_test

import (
	"strings"
	"testing"

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
