package command_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

// TestKickTellsSecondsApart: a UserSig that was made in the second of the kick, before it, is
// refused, and one that is made as soon as the kick has answered is not.
func TestKickTellsSecondsApart(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"alice"}`)
	before := time.Now().Unix()
	w.accepted(t, "", "im_open_login_svc/kick", `{"UserID":"alice"}`)
	after := time.Now().Unix()
	p, err := storage.Accounts.Get(t.Context(), w.store, storage.AccountKey("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if before >= p.ValidSig || after < p.ValidSig {
		t.Errorf("UserSigs count from %d on; the kick began at %d and answered at %d", p.ValidSig, before, after)
	}
}

func TestAccountRefusals(t *testing.T) {
	w := newWorld(t, command.Config{})
	for _, test := range []struct {
		path, body string
		code       int
	}{
		{"im_open_login_svc/account_import", `{"UserID":"@TIM#SYSTEM"}`, 70402},
		{"im_open_login_svc/account_import", `{"UserID":"@TLS#NOT_FOUND"}`, 70402},
		{"profile/portrait_set", `{"ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"x"}]}`, 40001},
		{"recentcontact/get_list", `{"TimeStamp":0}`, 50002},
		{"recentcontact/delete", `{"Type":2,"ToGroupid":"g"}`, 50002},
	} {
		if a := w.must(t, "", test.path, test.body); a.ErrorCode != test.code {
			t.Errorf("%s %s: %+v, want %d", test.path, test.body, a, test.code)
		}
	}
}

// TestStatusNamesPlatforms: what clients say of themselves is shown by the status's own names.
func TestStatusNamesPlatforms(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"alice"}`)
	w.online.devices = map[group.Account][]command.Device{
		"alice": {{Platform: "iOS", Online: true}, {Platform: "Windows", Online: true}, {Platform: "PC", Online: true}, {Platform: "Web", Online: true}},
	}
	answer := string(w.call(t, "", "openim/query_online_status", `{"To_Account":["alice"],"IsNeedDetail":1}`))
	const want = `"Detail":[{"Platform":"PC","Status":"Online"},{"Platform":"Web","Status":"Online"},{"Platform":"iPhone","Status":"Online"}]`
	if !strings.Contains(answer, want) {
		t.Errorf("answer %s, want %s", answer, want)
	}
}

// meanwhile is an app that does something else while it is asked, and a store that does while
// an account is removed.
type meanwhile struct {
	storage.Store
	asked, removing func()
}

func (m *meanwhile) Before(context.Context, string, any, hooks.Origin) (json.RawMessage, *group.Error) {
	m.asked()
	return nil, nil
}

func (m *meanwhile) Apply(ctx context.Context, muts ...storage.Mutation) error {
	if slices.ContainsFunc(muts, func(u storage.Mutation) bool { return u.Table == storage.Accounts.Name && u.Op == storage.Delete }) {
		m.removing()
	}
	return m.Store.Apply(ctx, muts...)
}

// TestDeletedWhileAdded deletes an account while it is added to groups, and adds it to one while
// it is deleted: who gets the name afterwards is in none of them.
func TestDeletedWhileAdded(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob")
	w.make(t, group.Public, "g", "alice")
	const accounts = "im_open_login_svc/"
	between := &meanwhile{Store: w.store, asked: func() {}, removing: func() {}}
	cfg := command.Config{SDKAppID: 1400000001, Admins: []group.Account{"administrator"}}
	w.table = command.New(command.Env{Store: between, Pipeline: w.pipeline, Online: w.online, Before: between, Log: slog.New(slog.DiscardHandler)}, cfg)
	remove := func() { w.accepted(t, "", accounts+"account_delete", `{"DeleteItem":[{"UserID":"bob"}]}`) }
	add := func() {
		w.accepted(t, "", g+"add_group_member", `{"GroupId":"g","Silence":1,"MemberList":[{"Member_Account":"bob"}]}`)
	}
	again := func(what string) {
		t.Helper()
		w.accepted(t, "", accounts+"account_import", `{"UserID":"bob"}`)
		var joined struct{ TotalCount int }
		if err := json.Unmarshal(w.call(t, "bob", "get_joined_group_list", `{}`), &joined); err != nil || joined.TotalCount != 0 {
			t.Errorf("%s: the new bob is in %d groups, %v; want none", what, joined.TotalCount, err)
		}
	}
	between.asked = remove
	if a := string(w.call(t, "", g+"add_group_member", `{"GroupId":"g","MemberList":[{"Member_Account":"bob"}]}`)); !strings.Contains(a, `{"Member_Account":"bob","Result":0}`) {
		t.Errorf("deleted while it is added: %s", a)
	}
	again("deleted while it is added")
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"new","Owner_Account":"alice","MemberList":[{"Member_Account":"bob"}]}`)
	again("deleted while a group is made with it")
	between.asked = func() {}
	between.removing = add
	remove()
	again("added while it is deleted")
}
