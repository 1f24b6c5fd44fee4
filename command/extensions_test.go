package command_test

import (
	"fmt"
	"testing"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// TestExtensionLimit fills a message with extensions: deleted ones take no room, and those that
// are remembered for their locks are bounded too.
func TestExtensionLimit(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g"}`)
	w.accepted(t, "", g+"send_group_msg", `{"GroupId":"g","Random":1,"SupportMessageExtension":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`)
	row := storage.GroupRecordKey(group.Key{ID: "g", Incarnation: 1}, storage.Num(1))
	set := &storage.ExtensionSet{Values: map[string]storage.Extension{}}
	add := func(name string, n int, deleted bool) {
		for i := range n {
			set.Seq++
			set.Values[fmt.Sprintf("%s%d", name, i)] = storage.Extension{Seq: 1, At: set.Seq, Deleted: deleted}
		}
	}
	add("gone", 300, true)
	add("k", 299, false)
	if err := w.store.Apply(t.Context(), storage.Extensions.Put(row, set)); err != nil {
		t.Fatal(err)
	}
	const path = "openim_msg_ext_http_svc/group_set_key_values"
	w.accepted(t, "", path, `{"GroupId":"g","MsgSeq":1,"OperateType":1,"ExtensionList":[{"Key":"last"}]}`)
	if a := w.must(t, "", path, `{"GroupId":"g","MsgSeq":1,"OperateType":1,"ExtensionList":[{"Key":"more"}]}`); a.ErrorCode != group.CodeBadParameter {
		t.Errorf("the 301st extension: %+v", a)
	}
	w.accepted(t, "", path, `{"GroupId":"g","MsgSeq":1,"OperateType":2,"ExtensionList":[{"Key":"k0"}]}`)
	w.accepted(t, "", path, `{"GroupId":"g","MsgSeq":1,"OperateType":1,"ExtensionList":[{"Key":"more"}]}`)
	set, err := storage.Extensions.Find(t.Context(), w.store, row)
	if err != nil {
		t.Fatal(err)
	}
	_, oldest := set.Values["gone0"]
	if _, latest := set.Values["k0"]; len(set.Values) != 600 || oldest || !latest {
		t.Errorf("%d extensions are kept, the oldest deleted one: %t, the latest: %t; want 600, without the oldest", len(set.Values), oldest, latest)
	}
}

// TestExtensionsOfUnseenMessages lets members change extensions of messages that they may not
// read: they learn neither that the message takes any nor, by a wrong lock, what there is.
func TestExtensionsOfUnseenMessages(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob", "late")
	w.make(t, group.Public, "g", "alice", "bob")
	const path = "openim_msg_ext_http_svc/group_set_key_values"
	extensible := `,"SupportMessageExtension":1`
	w.say(t, "alice", "g", "before late has joined", extensible)
	w.say(t, "alice", "g", "for alice alone", extensible+`,"To_Account":["alice"]`)
	w.say(t, "alice", "g", "before too", extensible)
	w.accepted(t, "", g+"add_group_member", `{"GroupId":"g","Silence":1,"MemberList":[{"Member_Account":"late"}]}`)
	set := func(as string, seq int) int {
		a := w.must(t, as, "group_set_key_values", fmt.Sprintf(`{"GroupId":"g","MsgSeq":%d,"OperateType":1,"ExtensionList":[{"Key":"k","Value":"theirs","Seq":9}]}`, seq))
		return a.ErrorCode
	}
	for seq := 1; seq <= 3; seq++ {
		w.accepted(t, "", path, fmt.Sprintf(`{"GroupId":"g","MsgSeq":%d,"OperateType":1,"ExtensionList":[{"Key":"k","Value":"secret"}]}`, seq))
	}
	const noMessage = 23004
	if got := set("bob", 1); got != 0 {
		t.Errorf("bob, who may read message 1, is told %d", got)
	}
	w.accepted(t, "", g+"clear_group_msg", `{"GroupId":"g","MsgSeq":1}`)
	for _, x := range []struct {
		as  string
		seq int
	}{{"late", 1}, {"late", 3}, {"bob", 1}, {"bob", 2}} {
		if got := set(x.as, x.seq); got != noMessage {
			t.Errorf("%s, who may not read message %d, is told %d; want %d", x.as, x.seq, got, noMessage)
		}
	}
}
