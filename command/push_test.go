package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// recorder is a command.Push that notes what it is asked to do.
type recorder struct{ did []string }

func (r *recorder) note(format string, args ...any) error {
	r.did = append(r.did, fmt.Sprintf(format, args...))
	return nil
}

func (r *recorder) SetToken(_ context.Context, a group.Account, t command.PushToken) error {
	return r.note("token %s %+v", a, t)
}

func (r *recorder) DeleteToken(_ context.Context, a group.Account, device string) error {
	return r.note("delete %s %s", a, device)
}

func (r *recorder) Forget(_ context.Context, a group.Account) error { return r.note("forget %s", a) }

func (r *recorder) SetBadge(_ context.Context, a group.Account, device string, badge *int, background *bool) error {
	text := ""
	if badge != nil {
		text += fmt.Sprint(" badge ", *badge)
	}
	if background != nil {
		text += fmt.Sprint(" background ", *background)
	}
	return r.note("%s %s%s", a, device, text)
}

func (r *recorder) Options(context.Context, group.Account) (command.PushOptions, []command.PushDevice, error) {
	return command.PushOptions{Disabled: true, Quiet: true, From: 22*60 + 5, To: 7 * 60, Offset: -60}, []command.PushDevice{{Device: "d"}}, nil
}

func (r *recorder) SetOptions(_ context.Context, a group.Account, o command.PushOptions) error {
	return r.note("options %s %+v", a, o)
}

func (r *recorder) Test(_ context.Context, t command.PushTest) (json.RawMessage, error) {
	return json.RawMessage(`{"x":1}`), r.note("test %s %s %s %v", t.Account, t.Group, t.Info, t.Send)
}

// TestPushCommands: what reaches the register of devices, and for whom; and what is refused.
func TestPushCommands(t *testing.T) {
	rec := new(recorder)
	cfg := command.Config{SDKAppID: 1400000001, Admins: []group.Account{"administrator"}}
	w := newWorld(t, cfg)
	w.table = command.New(command.Env{Store: w.store, Pipeline: w.pipeline, Online: w.online, Push: rec}, cfg)
	w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"bob"}`)
	admin := &command.Call{Caller: "administrator", Admin: true}
	user := &command.Call{Caller: "ann", Device: "anns"}
	for _, c := range []struct {
		call          *command.Call
		name, body    string
		code          int
		did, answered string
	}{
		{user, "set_push_token", `{"Token":"t","Vendor":"apns"}`, 0, "token ann {Device:anns Vendor:apns App: Token:t VoIPToken:}", ""},
		{user, "set_push_token", `{"Token":"t","From_Account":"bob","Device":"x"}`, 0, "token ann {Device:x Vendor: App: Token:t VoIPToken:}", ""},
		{admin, "set_push_token", `{"Token":"t","From_Account":"bob","Device":"x","App":"a","VoIPToken":"v"}`, 0, "token bob {Device:x Vendor: App:a Token:t VoIPToken:v}", ""},
		{user, "set_push_token", `{}`, 90001, "", ""},
		{admin, "set_push_token", `{"Token":"t"}`, 90001, "", ""},
		{admin, "set_push_token", `{"Token":"t","From_Account":"nobody"}`, 70107, "", ""},
		{user, "delete_push_token", `{}`, 0, "delete ann anns", ""},
		{admin, "delete_push_token", `{"From_Account":"bob"}`, 90001, "", ""},
		{user, "set_badge", `{"Badge":0,"Background":1}`, 0, "ann anns badge 0 background true", ""},
		{user, "set_badge", `{}`, 0, "ann anns", ""},
		{user, "set_badge", `{"Badge":-1}`, 90001, "", ""},
		{user, "set_push_options", `{"Disabled":1}`, 0, "options ann {Disabled:true Quiet:false From:0 To:0 Offset:0}", ""},
		{user, "set_push_options", `{"QuietFrom":"22:05","QuietTo":"07:00","UTCOffset":480}`, 0, "options ann {Disabled:false Quiet:true From:1325 To:420 Offset:480}", ""},
		{user, "set_push_options", `{"QuietFrom":"24:00","QuietTo":"07:00"}`, 90001, "", ""},
		{user, "set_push_options", `{"QuietFrom":"22:00"}`, 90001, "", ""},
		{user, "set_push_options", `{"QuietFrom":"22:00","QuietTo":"07:00","UTCOffset":900}`, 90001, "", ""},
		{user, "get_push_options", `{}`, 0, "", `"Disabled":1,"QuietFrom":"22:05","QuietTo":"07:00","UTCOffset":-60,"Devices":[{"Device":"d"`},
		{admin, "push_test", `{"To_Account":"bob","GroupId":"g","OfflinePushInfo":{"Title":"x"},"Send":1}`, 0, `test bob g {"Title":"x"} true`, `"Report":{"x":1}`},
		{user, "push_test", `{"To_Account":"bob"}`, 90009, "", ""},
	} {
		rec.did = nil
		answer := string(w.table.Call(t.Context(), c.call, "openim", c.name, []byte(c.body)))
		if !strings.Contains(answer, fmt.Sprintf(`"ErrorCode":%d,`, c.code)) || !strings.Contains(answer, c.answered) || strings.Join(rec.did, "; ") != c.did {
			t.Errorf("%s %s by %s: %s, did %q; want code %d, %q, %q", c.name, c.body, c.call.Caller, answer, rec.did, c.code, c.answered, c.did)
		}
	}
	rec.did = nil
	w.accepted(t, "", "im_open_login_svc/kick", `{"UserID":"bob"}`)
	if strings.Join(rec.did, "") != "forget bob" {
		t.Errorf("a kick did %q", rec.did)
	}
	without := newWorld(t, command.Config{})
	if answer := string(without.table.Call(t.Context(), user, "openim", "set_push_token", []byte(`{"Token":"t"}`))); !strings.Contains(answer, `"ErrorCode":10026`) {
		t.Errorf("without push: %s", answer)
	}
}

// TestPushOnline: an account that is not connected is reachable by push while a device of it
// is registered, for seven days after the registration.
func TestPushOnline(t *testing.T) {
	cfg := command.Config{Admins: []group.Account{"administrator"}}
	w := newWorld(t, cfg)
	w.table = command.New(command.Env{Store: w.store, Pipeline: w.pipeline, Online: w.online, Push: new(recorder)}, cfg)
	for account, age := range map[string]time.Duration{"new": time.Hour, "old": 8 * 24 * time.Hour, "none": -1} {
		w.accepted(t, "", "im_open_login_svc/account_import", fmt.Sprintf(`{"UserID":%q}`, account))
		if age < 0 {
			continue
		}
		user := &storage.PushUser{Devices: []storage.PushDevice{{Device: "phone", Registered: time.Now().Add(-age).UnixNano()}}}
		if err := w.store.Apply(t.Context(), storage.PushUsers.Put(storage.AccountKey(group.Account(account)), user)); err != nil {
			t.Fatal(err)
		}
	}
	admin := &command.Call{Caller: "administrator", Admin: true}
	answer := string(w.table.Call(t.Context(), admin, "openim", "query_online_status", []byte(`{"To_Account":["new","old","none"]}`)))
	for account, want := range map[string]string{"new": "PushOnline", "old": "Offline", "none": "Offline"} {
		if !strings.Contains(answer, fmt.Sprintf(`{"To_Account":%q,"Status":%q`, account, want)) {
			t.Errorf("%s: want %s for %s", answer, want, account)
		}
	}
}
