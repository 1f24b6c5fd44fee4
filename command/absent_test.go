package command_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// TestAbsentDevices: who has lost a mobile device's connection counts as reachable by push, also
// after a restart, until it logs out, is kicked, or seven days are over.
func TestAbsentDevices(t *testing.T) {
	w := newWorld(t, command.Config{})
	var absent *command.Absent
	restart := func() {
		absent = command.NewAbsent(w.store, slog.New(slog.DiscardHandler))
		w.table = command.New(command.Env{Store: w.store, Pipeline: w.pipeline, Online: w.online, Absent: absent}, command.Config{SDKAppID: 1400000001, Admins: []group.Account{"administrator"}})
	}
	restart()
	stored := func() { // what it knows, as at a stop
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := absent.Run(ctx); err != nil {
			t.Error(err)
		}
	}
	for _, a := range []string{"alice", "bob", "carol", "dave"} {
		w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"`+a+`"}`)
	}
	want := func(when string, statuses ...string) { // of alice, bob, carol and dave
		t.Helper()
		var a struct {
			Results []struct {
				Status string
				Detail []struct{ Platform, Status string }
			} `json:"QueryResult"`
		}
		raw := w.call(t, "", "openim/query_online_status", `{"To_Account":["alice","bob","carol","dave"],"IsNeedDetail":1}`)
		if err := json.Unmarshal(raw, &a); err != nil || len(a.Results) != len(statuses) {
			t.Fatalf("%s: answer %s, %v", when, raw, err)
		}
		for i, r := range a.Results {
			got := r.Status
			for _, d := range r.Detail {
				got += " " + d.Platform + ":" + d.Status
			}
			if got != statuses[i] {
				t.Errorf("%s: account %d is %q, want %q", when, i, got, statuses[i])
			}
		}
	}
	old := &storage.Absentee{Devices: []storage.AbsentDevice{{Device: "phone", Platform: "Android", Since: time.Now().Add(-8 * 24 * time.Hour).Unix()}}}
	if err := w.store.Apply(t.Context(), storage.Absentees.Put(storage.AccountKey("dave"), old)); err != nil {
		t.Fatal(err)
	}
	absent.Lost("alice", "phone", "iOS")
	absent.Lost("alice", "tablet", "Android")
	absent.Lost("bob", "browser", "Web")
	absent.Lost("carol", "phone", "iPad")
	const both, none, one = "PushOnline Android:PushOnline iPhone:PushOnline", "Offline", "PushOnline iPad:PushOnline"
	want("at once", both, none, one, none)
	stored()
	want("stored", both, none, one, none)
	restart()
	want("after a restart", both, none, one, none)
	absent.Seen("alice", "tablet", "Android")
	w.accepted(t, "", "im_open_login_svc/kick", `{"UserID":"carol"}`)
	want("seen and kicked", "PushOnline iPhone:PushOnline", none, none, none)
	stored()
	w.online.devices = map[group.Account][]command.Device{"alice": {{Platform: "Web", Online: true}}}
	want("stored again", "Online Web:Online iPhone:PushOnline", none, none, none)
	if row, err := storage.Absentees.Find(t.Context(), w.store, storage.AccountKey("carol")); err != nil || row != nil {
		t.Errorf("stored of carol: %v, %v; want nothing", row, err)
	}
}
