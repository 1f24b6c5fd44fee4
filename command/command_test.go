package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

type answer struct {
	ActionStatus string
	ErrorCode    int
	ErrorInfo    string
}

// must calls a command and returns its code; the answer must be an object whose members agree.
func (w *world) must(t testing.TB, as, path, body string) answer {
	t.Helper()
	raw := w.call(t, as, path, body)
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil || (a.ActionStatus == "OK") != (a.ErrorCode == 0) {
		t.Fatalf("%s %s: answer %s, %v", path, body, raw, err)
	}
	return a
}

// accepted is must for calls that can't be refused.
func (w *world) accepted(t testing.TB, as, path, body string) {
	t.Helper()
	if a := w.must(t, as, path, body); a.ErrorCode != 0 {
		t.Fatalf("%s %s: %+v", path, body, a)
	}
}

const g = "group_open_http_svc/"

// TestAuthority tries each operation in each type of group with each role, as a user and as an
// app admin, and compares what happens with group.Type.Allows.
func TestAuthority(t *testing.T) {
	// The targets of operations on members are ordinary members: x1, x2, …, a fresh one each time.
	operations := []struct {
		name      string
		operation group.Operation
		body      string // %[1]q the group, %[2]q the target
		command   string
	}{
		{"edit info", group.EditInfo, `{"GroupId":%[1]q,"Introduction":"new for %[2]s"}`, "modify_group_base_info"},
		{"edit settings", group.EditSettings, `{"GroupId":%[1]q,"AppDefinedData":[{"Key":"k","Value":%[2]q}]}`, "modify_group_base_info"},
		{"invite", group.Invite, `{"GroupId":%[1]q,"MemberList":[{"Member_Account":%[2]q}]}`, "add_group_member"},
		{"remove", group.Remove, `{"GroupId":%[1]q,"MemberToDel_Account":[%[2]q]}`, "delete_group_member"},
		{"mute", group.Mute, `{"GroupId":%[1]q,"Members_Account":[%[2]q],"MuteTime":5}`, "forbid_send_msg"},
		{"mute by member info", group.Mute, `{"GroupId":%[1]q,"Member_Account":%[2]q,"MuteTime":5}`, "modify_group_member_info"},
		{"set admin", group.SetAdmin, `{"GroupId":%[1]q,"Member_Account":%[2]q,"Role":"Admin"}`, "modify_group_member_info"},
		{"edit member", group.EditMember, `{"GroupId":%[1]q,"Member_Account":%[2]q,"NameCard":"c"}`, "modify_group_member_info"},
		{"dismiss", group.Dismiss, `{"GroupId":%[1]q}`, "destroy_group"},
		{"change owner", group.ChangeOwner, `{"GroupId":%[1]q,"NewOwner_Account":%[2]q}`, "change_group_owner"},
	}
	callers := []struct {
		name string
		role group.Role
	}{{"outsider", group.NotMember}, {"member", group.OrdinaryMember}, {"admin", group.Admin}, {"owner", group.Owner}, {"", group.AppAdmin}}

	for _, typ := range group.Types {
		t.Run(typ.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, command.Config{})
			for _, a := range []string{"outsider", "member", "admin", "owner"} {
				w.accepted(t, "", "im_open_login_svc/account_import", fmt.Sprintf(`{"UserID":%q}`, a))
			}
			n := 0
			for _, op := range operations {
				for _, caller := range callers {
					if caller.role == group.Admin && !typ.Rules().HasAdmins {
						continue
					}
					n++
					id, target := fmt.Sprintf("g%d", n), fmt.Sprintf("x%d", n)
					if typ == group.Community {
						id = group.CommunityIDPrefix + id
					}
					w.accepted(t, "", "im_open_login_svc/account_import", fmt.Sprintf(`{"UserID":%q}`, target))
					w.makeGroup(t, typ, id, target, op.operation != group.Invite)
					want := typ.Allows(op.operation, caller.role, group.OrdinaryMember)
					if op.command == "modify_group_member_info" && !typ.Rules().StoresMembers {
						want = false // a room keeps nothing of its ordinary members; forbid_send_msg is for it
					}
					w.try(t, op.name, op.command, caller.name, fmt.Sprintf(op.body, id, target), want)
				}
			}
		})
	}
}

// try calls a command of groups, as an app admin ("") or a user, and checks whether it is
// refused; then it must have changed nothing.
func (w *world) try(t *testing.T, what, name, as, body string, want bool) {
	t.Helper()
	before := w.dump(t)
	if as == "" {
		name = g + name
	}
	got := w.must(t, as, name, body)
	if (got.ErrorCode == 0) != want {
		t.Errorf("%s by %q: %+v, want allowed: %t", what, as, got, want)
	}
	if got.ErrorCode != 0 && !slices.Contains([]int{group.CodeNotPermitted, group.CodeBadParameter}, got.ErrorCode) {
		t.Errorf("%s by %q: %+v, want code %d", what, as, got, group.CodeNotPermitted)
	}
	if after := w.dump(t); got.ErrorCode != 0 && after != before {
		t.Errorf("%s by %q was refused and changed something", what, as)
	}
}

// makeGroup makes a group with an owner, an admin if the type has them, and a member.
func (w *world) makeGroup(t testing.TB, typ group.Type, id, target string, inside bool) {
	t.Helper()
	var members []string
	if typ.Rules().StoresMembers {
		members = append(members, `{"Member_Account":"member"}`)
		if typ.Rules().HasAdmins {
			members = append(members, `{"Member_Account":"admin","Role":"Admin"}`)
		}
		if inside {
			members = append(members, fmt.Sprintf(`{"Member_Account":%q}`, target))
		}
	}
	w.accepted(t, "", g+"create_group", fmt.Sprintf(`{"Type":%q,"Name":"n","GroupId":%q,"Owner_Account":"owner","MemberList":[%s]}`, typ, id, strings.Join(members, ",")))
	if typ == group.AVChatRoom {
		w.accepted(t, "", "group_open_avchatroom_http_svc/modify_admin", fmt.Sprintf(`{"GroupId":%q,"CommandType":1,"Admin_Account":["admin"]}`, id))
	}
}

// tables are those whose records a refused command must leave alone.
var tables = []string{
	storage.Accounts.Name, storage.Groups.Name, storage.Lives.Name, storage.Members.Name, storage.Joined.Name, storage.Mutes.Name,
	storage.Reads.Name, storage.Sends.Name, storage.Trash.Name, storage.Attributes.Name, storage.Counters.Name, storage.Extensions.Name,
	storage.Receipts.Name, storage.Pendencies.Name, storage.Bans.Name, storage.Marks.Name, storage.Views.Name, storage.Contacts.Name, storage.Uncounted.Name, storage.Invitations.Name,
	storage.Changes.Name, storage.Departures.Name,
}

// dump is all that is stored, as text.
func (w *world) dump(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, table := range tables {
		for r, err := range w.store.Scan(t.Context(), table, storage.Span{}) {
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %s %s\n", table, r.Key, r.Value)
		}
	}
	for row, err := range storage.Groups.Scan(t.Context(), w.store, storage.Span{}) {
		if err != nil {
			t.Fatal(err)
		}
		head, err := w.store.Head(t.Context(), row.Value.Key())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %+v\n", row.Key, head)
	}
	return b.String()
}

// TestJanitor looks for anything that is left of a destroyed group, beside the new one of its id.
func TestJanitor(t *testing.T) {
	w := newWorld(t, command.Config{})
	for _, a := range []string{"member", "admin", "owner", "x"} {
		w.accepted(t, "", "im_open_login_svc/account_import", fmt.Sprintf(`{"UserID":%q}`, a))
	}
	w.makeGroup(t, group.Public, "g", "x", true)
	w.accepted(t, "", g+"send_group_msg", `{"GroupId":"g","Random":1,"From_Account":"x","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}],"NeedReadReceipt":1,"SupportMessageExtension":1}`)
	w.accepted(t, "member", "group_msg_receipt", `{"GroupId":"g","MsgSeqList":[{"MsgSeq":1}]}`)
	w.accepted(t, "member", "group_set_key_values", `{"GroupId":"g","MsgSeq":1,"OperateType":1,"ExtensionList":[{"Key":"k","Value":"v"}]}`)
	w.accepted(t, "", g+"set_group_attr", `{"GroupId":"g","GroupAttr":[{"key":"k","value":"v"}]}`)
	w.accepted(t, "", g+"update_group_counter", `{"GroupId":"g","GroupCounter":[{"Key":"k","Value":1}]}`)
	w.accepted(t, "", g+"forbid_send_msg", `{"GroupId":"g","Members_Account":["x"],"MuteTime":500}`)
	w.accepted(t, "", g+"set_unread_msg_num", `{"GroupId":"g","Member_Account":"x","UnreadMsgNum":1}`)
	w.accepted(t, "x", "recentcontact_delete", `{"Type":2,"ToGroupid":"g","ClearRamble":1}`)
	old := group.Key{ID: "g", Incarnation: 1}
	before := strings.Count(w.dump(t), storage.GroupRecordKey(old))
	w.accepted(t, "", g+"destroy_group", `{"GroupId":"g"}`)
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g","Owner_Account":"owner"}`)
	if err := w.janitor.Sweep(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.Trash.Get(t.Context(), w.store, storage.GroupRecordKey(old)); err != nil {
		t.Fatalf("after a sweep within the grace: %v", err)
	}
	if err := w.janitor.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	after := w.dump(t)
	if n := strings.Count(after, storage.GroupRecordKey(old)); n != 0 || before < 10 {
		t.Errorf("%d records of the destroyed group are left of %d:\n%s", n, before, after)
	}
	if head, err := w.store.Head(t.Context(), old); err != nil || head != (storage.Head{}) {
		t.Errorf("the destroyed group's log ends at %+v, %v", head, err)
	}
	for a, want := range map[group.Account]bool{"owner": true, "x": false} {
		_, err := storage.Joined.Get(t.Context(), w.store, storage.JoinedKey(a, "g"))
		if has := err == nil; has != want || err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s is indexed in the new group: %t (%v), want %t", a, has, err, want)
		}
	}
}

// FuzzCommands sends bytes to every command: the answer is always an envelope, never internal,
// and a refusal changes nothing.
func FuzzCommands(f *testing.F) {
	w := newWorld(f, command.Config{})
	for _, a := range []string{"alice", "bob"} {
		w.accepted(f, "", "im_open_login_svc/account_import", fmt.Sprintf(`{"UserID":%q}`, a))
	}
	w.accepted(f, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g","Owner_Account":"alice"}`)
	var commands []*command.Command
	for c := range w.table.Commands() {
		commands = append(commands, c)
	}
	for _, body := range []string{
		`{}`, `[]`, `null`, `{"GroupId":"g"}`, `{"GroupId":"g","MsgSeqList":[{"MsgSeq":1}],"Random":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}]}`,
		`{"GroupId":"g","MemberList":[{"Member_Account":"bob"}],"Type":"Public","Name":"n","Owner_Account":"alice"}`,
		`{"GroupId":"g","Members_Account":["bob"],"MuteTime":18446744073709551616,"Duration":-1}`, `{"UserID":"\ud800","Identifier":null}`,
		`{"GroupIdList":["g","g",7],"ResponseFilter":[]}`, strings.Repeat(`{"ResponseFilter":`, 200),
	} {
		for i := range commands {
			f.Add(uint8(i), body)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		c := commands[int(which)%len(commands)]
		before := w.dump(t)
		for _, as := range []string{"", "alice"} {
			path := c.Path()
			if as != "" {
				path = strings.ReplaceAll(path, "/", "_")
			}
			a := w.must(t, as, path, body)
			if a.ErrorInfo == "internal error" {
				t.Errorf("%s %q: %+v", path, body, a)
			}
			if a.ErrorCode == 0 {
				return // it may have changed something
			}
			if after := w.dump(t); after != before {
				t.Errorf("%s %q was refused (%+v) and changed something", path, body, a)
			}
		}
	})
}

// TestAudit wants a line for each change that an app admin asks for, made or refused, and none
// for what only reads or what users do.
func TestAudit(t *testing.T) {
	w := newWorld(t, command.Config{})
	var lines bytes.Buffer
	audit := slog.New(slog.NewTextHandler(&lines, nil))
	w.table = command.New(command.Env{Store: w.store, Pipeline: w.pipeline, Audit: audit}, command.Config{Admins: []group.Account{"administrator"}})
	w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"alice"}`)
	w.must(t, "", g+"destroy_group", `{"GroupId":"nowhere"}`)
	w.accepted(t, "", "im_open_login_svc/account_check", `{"CheckItem":[{"UserID":"alice"}]}`)
	w.accepted(t, "alice", "create_group", `{"Type":"Public","Name":"n","GroupId":"g"}`)
	got := strings.Split(strings.TrimSpace(lines.String()), "\n")
	want := []string{
		`account=administrator ip=127.0.0.1 platform=RESTAPI client="" command=im_open_login_svc/account_import group="" code=0 `,
		`account=administrator ip=127.0.0.1 platform=RESTAPI client="" command=group_open_http_svc/destroy_group group=nowhere code=10010 `,
	}
	if len(got) != len(want) {
		t.Fatalf("audit log:\n%s", lines.String())
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("line %d: %s\nwant %s", i+1, got[i], want[i])
		}
	}
}

func TestAllowedCommands(t *testing.T) {
	w := newWorld(t, command.Config{SDKAppID: 1, Admins: []group.Account{"administrator", "report"}, Allowed: map[group.Account][]string{
		"report": {"group_open_http_svc/get_group_*", "account_check", "openim/querystate", "get_nothing"},
	}})
	w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"alice"}`)
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g1"}`)
	as := func(account group.Account, path, body string) int {
		service, name, _ := strings.Cut(path, "/")
		var a answer
		call := &command.Call{Caller: account, Admin: true}
		if err := json.Unmarshal(w.table.Call(t.Context(), call, service, name, []byte(body)), &a); err != nil {
			t.Fatal(err)
		}
		return a.ErrorCode
	}
	for path, body := range map[string]string{
		g + "get_group_info":              `{"GroupIdList":["g1"]}`,
		g + "get_group_member_info":       `{"GroupId":"g1"}`,
		"im_open_login_svc/account_check": `{"CheckItem":[{"UserID":"alice"}]}`,
		"openim/query_online_status":      `{"To_Account":["alice"]}`, // allowed by its other name
	} {
		if code := as("report", path, body); code != 0 {
			t.Errorf("report may call %s and got %d", path, code)
		}
	}
	before := w.dump(t)
	for path, body := range map[string]string{
		g + "destroy_group":                `{"GroupId":"g1"}`,
		g + "modify_group_base_info":       `{"GroupId":"g1","Name":"other"}`,
		"im_open_login_svc/account_import": `{"UserID":"bob"}`,
	} {
		if code := as("report", path, body); code != command.CodeCommandDisabled {
			t.Errorf("report may not call %s and got %d", path, code)
		}
	}
	var rpc answer
	if err := json.Unmarshal(w.table.RPC(t.Context(), &command.Call{Caller: "report", Admin: true}, "destroy_group", []byte(`{"GroupId":"g1"}`)), &rpc); err != nil || rpc.ErrorCode != command.CodeCommandDisabled {
		t.Errorf("over MQTT: %+v, %v", rpc, err)
	}
	if after := w.dump(t); after != before {
		t.Error("a refused command changed something")
	}
	if code := as("administrator", g+"destroy_group", `{"GroupId":"g1"}`); code != 0 {
		t.Errorf("the unbounded admin got %d", code)
	}
	if got := w.table.Unmatched(); !slices.Equal(got, []string{"get_nothing"}) {
		t.Errorf("Unmatched() = %q, want get_nothing alone", got)
	}
}

// TestRoomsPerUser fills an account's live rooms: it may not join another one, but any other group.
func TestRoomsPerUser(t *testing.T) {
	w := newWorld(t, command.Config{RoomsPerUser: 2})
	w.people(t, "bob", "zoe")
	w.accepted(t, "", g+"create_group", `{"Type":"AVChatRoom","Name":"n","GroupId":"room"}`)
	w.accepted(t, "", g+"create_group", `{"Type":"ChatRoom","Name":"n","GroupId":"meeting"}`)
	w.online.rooms = map[group.Account][]group.Key{"bob": {{ID: "r1"}}, "zoe": {{ID: "r1"}, {ID: "r2"}}}
	join := func(as, id string, code int) {
		t.Helper()
		if a := w.must(t, as, "apply_join_group", fmt.Sprintf(`{"GroupId":%q}`, id)); a.ErrorCode != code {
			t.Errorf("%s joins %s: %+v, want code %d", as, id, a, code)
		}
	}
	before := w.dump(t)
	join("zoe", "room", group.CodeTooManyGroups)
	if after := w.dump(t); after != before {
		t.Errorf("a refusal has changed something:\n%s\nwas\n%s", after, before)
	}
	join("zoe", "meeting", 0)
	join("bob", "room", 0)
	join("bob", "room", 0) // in it already
	registry := prometheus.NewRegistry()
	registry.MustRegister(w.table)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	refusals := -1.0
	for _, f := range families {
		if f.GetName() == "rookery_command_room_limit_refusals_total" {
			refusals = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if refusals != 1 {
		t.Errorf("%g refusals were counted, want 1", refusals)
	}
}

// TestRoomMembersNewestFirst has a user come into a live room in which another one is already,
// of whom the lane does not know since when.
func TestRoomMembersNewestFirst(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.accepted(t, "", g+"create_group", `{"Type":"AVChatRoom","Name":"n","GroupId":"room"}`)
	w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"zoe"}`)
	began := time.Now().Unix()
	w.accepted(t, "zoe", "apply_join_group", `{"GroupId":"room"}`)
	w.online.groups = map[group.ID][]group.Account{"room": {"bob", "zoe"}}
	var got struct {
		MemberList []struct {
			Account  string `json:"Member_Account"`
			JoinTime int64
		}
	}
	if err := json.Unmarshal(w.call(t, "", "group_open_avchatroom_http_svc/get_members", `{"GroupId":"room"}`), &got); err != nil {
		t.Fatal(err)
	}
	m := got.MemberList
	if len(m) != 2 || m[0].Account != "zoe" || m[0].JoinTime < began || m[0].JoinTime > time.Now().Unix() || m[1].Account != "bob" || m[1].JoinTime != 0 {
		t.Errorf("get_members = %+v, want zoe, who came after %d, then bob", m, began)
	}
}

// TestCustomFieldsNone is a configuration that has no custom fields.
func TestCustomFieldsNone(t *testing.T) {
	w := newWorld(t, command.Config{CustomFields: -1, MemberFields: -1})
	if a := w.must(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g1","AppDefinedData":[{"Key":"k","Value":"v"}]}`); a.ErrorCode != group.CodeBadParameter {
		t.Errorf("a custom field of a group: %+v", a)
	}
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g1","AppDefinedData":[]}`)
}

// toldOfAccounts is an app that hears what happens to accounts.
type toldOfAccounts struct{ said, committed []string }

func (a *toldOfAccounts) AccountHappened(account group.Account, name string, body any, from hooks.Origin) []storage.Mutation {
	a.said = append(a.said, fmt.Sprintf("%s %s %s %s", account, name, compact(body), from.IP))
	return []storage.Mutation{storage.Settings.Put("told", &storage.Setting{Value: name})}
}

func (a *toldOfAccounts) AccountCommitted(account group.Account) {
	a.committed = append(a.committed, string(account))
}

func TestPortraitSetCallback(t *testing.T) {
	w := newWorld(t, command.Config{})
	app := &toldOfAccounts{}
	table := command.New(command.Env{Store: w.store, Pipeline: w.pipeline, Online: w.online, After: app}, command.Config{SDKAppID: 1, Admins: []group.Account{"administrator"}})
	w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"alice"}`)
	call := &command.Call{Caller: "administrator", Admin: true, IP: "127.0.0.1"}
	table.Call(t.Context(), call, "profile", "portrait_set", []byte(`{"From_Account":"alice","ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"A"}]}`))
	table.Call(t.Context(), call, "profile", "portrait_set", []byte(`{"From_Account":"nobody","ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"A"}]}`))
	table.Call(t.Context(), call, "profile", "portrait_set", []byte(`{"From_Account":"alice","ProfileItem":[{"Tag":"Tag_Profile_IM_Wrong","Value":"A"}]}`))
	want := []string{`alice Profile.CallbackPortraitSet {"Operator_Account":"administrator","From_Account":"alice","ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"A"}]} 127.0.0.1`}
	if !slices.Equal(app.said, want) || !slices.Equal(app.committed, []string{"alice"}) {
		t.Errorf("the app was told %q, committed %q; want %q", app.said, app.committed, want)
	}
	if s, err := storage.Settings.Find(t.Context(), w.store, "told"); err != nil || s == nil {
		t.Errorf("what tells the app was not written: %v, %v", s, err)
	}
}

// full is a store on a disk that is nearly full.
type full struct{ storage.Store }

func (full) Apply(context.Context, ...storage.Mutation) error { return storage.ErrReadOnly }
func (full) Append(context.Context, *storage.Batch) error     { return storage.ErrReadOnly }

// TestReadOnlyStore checks that a caller is told that nothing was changed, and not that the outcome is unknown.
func TestReadOnlyStore(t *testing.T) {
	store := full{storagetest.NewMemory()}
	log := slog.New(slog.DiscardHandler)
	admins := []group.Account{"administrator"}
	pipeline := hooks.New(store, hooks.Config{Admins: admins}, log)
	table := command.New(command.Env{Store: store, Pipeline: pipeline, Log: log}, command.Config{Admins: admins})
	got := string(table.Call(t.Context(), &command.Call{Caller: "administrator", Admin: true}, "im_open_login_svc", "account_import", []byte(`{"UserID":"alice"}`)))
	want := `{"ActionStatus":"FAIL","ErrorCode":70500,"ErrorInfo":"the store takes no writes now, nothing was changed: try again later"}`
	if got != want {
		t.Errorf("account_import = %s, want %s", got, want)
	}
	memory := newWorld(t, command.Config{})
	memory.people(t, "alice")
	memory.make(t, group.Public, "g", "alice")
	store.Store = memory.store
	pipeline = hooks.New(store, hooks.Config{Admins: admins}, log)
	table = command.New(command.Env{Store: store, Pipeline: pipeline, Log: log}, command.Config{Admins: admins})
	want = `{"ActionStatus":"FAIL","ErrorCode":10002,"ErrorInfo":"the store takes no writes now: try again later"}`
	for name, body := range map[string]string{
		"send_group_msg":  `{"GroupId":"g","Random":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`,
		"forbid_send_msg": `{"GroupId":"g","Members_Account":["alice"],"MuteTime":60}`,
	} {
		if got := string(table.Call(t.Context(), &command.Call{Caller: "administrator", Admin: true}, "group_open_http_svc", name, []byte(body))); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
}
