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
