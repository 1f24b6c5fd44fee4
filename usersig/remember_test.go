package usersig_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/usersig"
)

// TestMemory checks that what was verified once is judged as before: it expires, and good for one
// request it is not good for another.
func TestMemory(t *testing.T) {
	app := usersig.App{ID: 1400000001, Secret: "s"}
	start := time.Unix(1_700_000_000, 0)
	sign := func(user string) usersig.Request {
		sig, err := usersig.Generate(app, user, start, time.Minute, nil)
		if err != nil {
			t.Fatal(err)
		}
		return usersig.Request{SDKAppID: app.ID, Identifier: user, UserSig: sig}
	}
	m := usersig.NewMemory(usersig.NewVerifier(app), 2)
	check := func(name string, r usersig.Request, at time.Time, code int) {
		t.Helper()
		got := 0
		claims, err := m.Verify(r, at)
		if e, ok := errors.AsType[*usersig.Error](err); ok {
			got = e.Code
		}
		if got != code || err == nil && (claims.Identifier != r.Identifier || !claims.IssuedAt.Equal(start)) {
			t.Errorf("%s: %v, %v; want code %d", name, claims, err, code)
		}
	}
	alice := sign("alice")
	other := alice
	other.Identifier = "bob"
	altered := alice
	altered.UserSig = strings.Replace(alice.UserSig, alice.UserSig[40:42], "AA", 1)
	foreign := alice
	foreign.SDKAppID = 7
	for range 2 { // the second time from memory
		check("good", alice, start, 0)
		check("in its last second", alice, start.Add(time.Minute), 0)
		check("another's", other, start, usersig.CodeIdentifierMismatch)
		check("another app's", foreign, start, usersig.CodeSDKAppIDMismatch)
		if _, err := m.Verify(altered, start); err == nil {
			t.Error("an altered UserSig was taken")
		}
	}
	for i := range 5 {
		check("one of many", sign(fmt.Sprint("user", i)), start, 0)
	}
	check("forgotten and verified again", alice, start, 0)
	check("expired", alice, start.Add(time.Minute+time.Second), usersig.CodeExpired)
	check("expired, again", alice, start.Add(time.Minute+time.Second), usersig.CodeExpired)
}
