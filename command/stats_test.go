package command_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func TestAppInfo(t *testing.T) {
	w := newWorld(t, command.Config{})
	log := slog.New(slog.DiscardHandler)
	stats := command.NewStats(w.store, log)
	admins := []group.Account{"administrator"}
	pipeline := hooks.New(w.store, hooks.Config{Admins: admins}, log)
	t.Cleanup(func() { _ = pipeline.Close(context.WithoutCancel(t.Context())) })
	pipeline.UseOutbox(stats)
	var sent atomic.Int64
	sent.Store(100) // before anybody counted
	stats.Follow(command.Deliveries, sent.Load)
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
	w.accepted(t, "", g+"send_group_msg", `{"GroupId":"g","From_Account":"alice","Random":2,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`)
	w.accepted(t, "", g+"send_group_msg", `{"GroupId":"g","From_Account":"alice","Random":3,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`)
	stats.Login("alice", true, false)
	stats.Login("alice", false, false) // her other device
	stats.Login("bob", true, false)
	stats.Logout()
	stats.Login("dave", true, true)
	w.accepted(t, "", "im_open_login_svc/account_delete", `{"DeleteItem":[{"UserID":"carol"}]}`)
	sent.Add(5)

	for range 2 { // asking changes nothing
		var a struct{ Result []map[string]string }
		raw := w.call(t, "", "openconfigsvr/getappinfo", `{}`)
		if err := json.Unmarshal(raw, &a); err != nil || len(a.Result) == 0 {
			t.Fatalf("answer %s, %v", raw, err)
		}
		for name, want := range map[string]string{
			"AppId": "1400000001", "RegistUserNumOneDay": "4", "RegistUserNumTotal": "2", "GroupNewGroupNum": "2", "GroupDestroyGroupNum": "1",
			"GroupAllGroupNum": "1", "GroupJoinGroupTimes": "2", "GroupQuitGroupTimes": "2", "GroupUpMsgNum": "3", "UpMsgNum": "3",
			"LoginTimes": "4", "MaxOnlineNum": "2", "LoginUserNum": "3", "ActiveUserNum": "4", "SendMsgUserNum": "2", "GroupSendMsgUserNum": "2",
			"GroupSendMsgGroupNum": "1", "DownMsgNum": "5", "GroupDownMsgNum": "5", "APNSMsgNum": "0", "CallBackReq": "0", "C2CUpMsgNum": "0", "ChainIncrease": "0",
		} {
			if got := a.Result[0][name]; got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
	}
	if day, err := storage.Days.Get(t.Context(), w.store, storage.Key(time.Now().Format("20060102"))); err != nil || day.Counts["deleted"] != 1 {
		t.Errorf("stored of today: %+v, %v; want 1 account deleted", day, err)
	}
	var a struct{ Result []map[string]string }
	raw := w.call(t, "", "openconfigsvr/getappinfo", `{"RequestField":["LoginTimes"]}`)
	if err := json.Unmarshal(raw, &a); err != nil || len(a.Result) != 1 || len(a.Result[0]) != 2 || a.Result[0]["LoginTimes"] != "4" {
		t.Errorf("answer %s, %v; want Date and LoginTimes", raw, err)
	}
}

// TestAppInfoOfEarlierDays: there is an object for each day since the first, and what there was
// at the end of a day follows from what there is now.
func TestAppInfoOfEarlierDays(t *testing.T) {
	w := newWorld(t, command.Config{})
	stats := command.NewStats(w.store, slog.New(slog.DiscardHandler))
	w.table = command.New(command.Env{Store: w.store, Pipeline: w.pipeline, Stats: stats}, command.Config{SDKAppID: 1400000001, Admins: []group.Account{"administrator"}})
	ago := func(days int) string { return time.Now().AddDate(0, 0, -days).Format("20060102") }
	for days, counts := range map[int]map[string]int64{
		3:  {"RegistUserNumOneDay": 5, "GroupNewGroupNum": 2},
		1:  {"RegistUserNumOneDay": 1, "deleted": 3, "GroupDestroyGroupNum": 1},
		40: {"RegistUserNumOneDay": 7},
	} {
		if err := w.store.Apply(t.Context(), storage.Days.Put(storage.Key(ago(days)), &storage.Day{Counts: counts})); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{"alice", "bob", "carol"} {
		w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"`+a+`"}`)
	}
	stats.Login("alice", true, false)
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g"}`)
	var a struct{ Result []map[string]string }
	raw := w.call(t, "", "openconfigsvr/getappinfo", `{"RequestField":["RegistUserNumTotal","GroupAllGroupNum"]}`)
	if err := json.Unmarshal(raw, &a); err != nil || len(a.Result) != 30 { // something is known of 40 days ago
		t.Fatalf("answer %s, %v; want 30 days", raw, err)
	}
	for days, want := range [][2]string{{"3", "1"}, {"0", "1"}, {"2", "2"}, {"2", "2"}, {"0", "0"}} {
		d := a.Result[days]
		if d["Date"] != ago(days) || d["RegistUserNumTotal"] != want[0] || d["GroupAllGroupNum"] != want[1] {
			t.Errorf("%d days ago: %v, want %s with %v accounts and groups", days, d, ago(days), want)
		}
	}
}
