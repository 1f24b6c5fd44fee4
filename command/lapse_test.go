package command_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
)

// TestLapsed takes an offline member out of a live room and lets it come back.
func TestLapsed(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob")
	w.make(t, group.AVChatRoom, "r", "alice")
	w.accepted(t, "bob", "apply_join_group", `{"GroupId":"r"}`)
	before := w.dump(t)
	w.say(t, "bob", "r", "I am in", "")
	w.ears.take()
	key := group.Key{ID: "r", Incarnation: 1}
	heard := func(what string) bool {
		return slices.ContainsFunc(w.ears.take(), func(line string) bool {
			return strings.Contains(line, "OnMemberStateChange") && strings.Contains(line, `"EventType":"`+what+`"`)
		})
	}
	w.table.Lapsed(t.Context(), "bob", group.Key{ID: "r", Incarnation: 7}) // another life
	w.table.Lapsed(t.Context(), "alice", key)                              // the owner stays
	if heard("Offline") {
		t.Error("somebody left who was to stay")
	}
	w.table.Lapsed(t.Context(), "bob", key)
	if !heard("Offline") {
		t.Error("the app was not told that bob left")
	}
	if a := w.must(t, "bob", "send_group_msg", `{"GroupId":"r","Random":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}]}`); a.ErrorCode != group.CodeNotPermitted {
		t.Errorf("bob sends after it left: %+v", a)
	}
	w.accepted(t, "bob", "apply_join_group", `{"GroupId":"r"}`)
	if !heard("Online") {
		t.Error("the app was not told that bob is back")
	}
	w.say(t, "bob", "r", "I am in again", "")
	if strings.Contains(before, "members r:0000000000000001:bob") {
		t.Error("an ordinary member of a live room is stored")
	}
}
