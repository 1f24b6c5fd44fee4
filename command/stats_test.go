package command_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

func TestAppInfo(t *testing.T) {
	w := newWorld(t, command.Config{})
	log := slog.New(slog.DiscardHandler)
	stats := command.NewStats(w.store, log)
	admins := []group.Account{"administrator"}
	pipeline := hooks.New(w.store, hooks.Config{Admins: admins}, log)
	t.Cleanup(func() { _ = pipeline.Close(context.WithoutCancel(t.Context())) })
	pipeline.UseOutbox(stats)
	w.table = command.New(command.Env{Store: w.store, Pipeline: pipeline, Stats: stats}, command.Config{SDKAppID: 1400000001, Admins: admins})
	for _, a := range []string{"alice", "bob", "carol"} {
		w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"`+a+`"}`)
	}
	w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"alice","Nick":"again"}`)
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g","Owner_Account":"alice"}`)
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"h"}`)
	w.accepted(t, "", g+"destroy_group", `{"GroupId":"h"}`)
	w.accepted(t, "", g+"add_group_member", `{"GroupId":"g","MemberList":[{"Member_Account":"bob"},{"Member_Account":"carol"}]}`)
	w.accepted(t, "", g+"delete_group_member", `{"GroupId":"g","MemberToDel_Account":["bob"]}`)
	w.accepted(t, "", g+"send_group_msg", `{"GroupId":"g","Random":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`)
	stats.Login(true)  // alice
	stats.Login(false) // her other device
	stats.Login(true)  // bob
	stats.Logout()
	stats.Login(true) // carol

	for range 2 { // asking changes nothing
		var a struct{ Result []map[string]string }
		raw := w.call(t, "", "openconfigsvr/getappinfo", `{}`)
		if err := json.Unmarshal(raw, &a); err != nil || len(a.Result) == 0 {
			t.Fatalf("answer %s, %v", raw, err)
		}
		for name, want := range map[string]string{
			"AppId": "1400000001", "RegistUserNumOneDay": "3", "RegistUserNumTotal": "3", "GroupNewGroupNum": "2", "GroupDestroyGroupNum": "1",
			"GroupAllGroupNum": "1", "GroupJoinGroupTimes": "2", "GroupQuitGroupTimes": "1", "GroupUpMsgNum": "1", "UpMsgNum": "1",
			"LoginTimes": "4", "MaxOnlineNum": "2",
		} {
			if got := a.Result[0][name]; got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
	}
	var a struct{ Result []map[string]string }
	raw := w.call(t, "", "openconfigsvr/getappinfo", `{"RequestField":["LoginTimes"]}`)
	if err := json.Unmarshal(raw, &a); err != nil || len(a.Result) != 1 || len(a.Result[0]) != 2 || a.Result[0]["LoginTimes"] != "4" {
		t.Errorf("answer %s, %v; want Date and LoginTimes", raw, err)
	}
}
