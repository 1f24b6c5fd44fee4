package command_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
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
