package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-im/rookery/usersig"
)

// TestCallbacksSurviveAKill has the app go away, kills the server while messages wait to be
// told of, looks at them with the tool, and sees them arrive in the next life, in order.
func TestCallbacksSurviveAKill(t *testing.T) {
	var down atomic.Bool
	var mu sync.Mutex
	var commands []string
	var seqs []int
	arrived := make(chan int, 100)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			CallbackCommand string
			MsgSeq          int
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.CallbackCommand != r.FormValue("CallbackCommand") {
			t.Errorf("callback %s: %v", r.URL, err)
		}
		after := strings.Contains(body.CallbackCommand, "After")
		if down.Load() && after {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		commands = append(commands, body.CallbackCommand)
		if body.MsgSeq > 0 {
			seqs = append(seqs, body.MsgSeq)
			arrived <- body.MsgSeq
		}
		_, _ = io.WriteString(w, `{"ErrorCode":0}`)
	}))
	defer app.Close()
	secret, data := "a secret of sixteen", filepath.Join(t.TempDir(), "data")
	env := []string{"ROOKERY_APP_SECRET=" + secret, "ROOKERY_CALLBACKS_URL=" + app.URL, "ROOKERY_CALLBACKS_RETRY_PAUSE_MIN=10ms"}
	var s *server
	ask := func(command, body string) { t.Helper(); rest(t, s, secret, command, body) }
	s = startServer(t, env, "--data-dir", data)
	ask("im_open_login_svc/account_import", `{"UserID":"bob"}`)
	ask("group_open_http_svc/create_group", `{"Type":"Public","GroupId":"g1","Name":"n","Owner_Account":"bob"}`)
	down.Store(true)
	const n = 20
	for i := range n {
		ask("group_open_http_svc/send_group_msg", fmt.Sprintf(`{"GroupId":"g1","From_Account":"bob","Random":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}]}`, i+1))
	}
	if err := s.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.Wait()

	out, err := rookery(t, env, "outbox", "list", "--waiting", "--data-dir", data).CombinedOutput()
	if err != nil || strings.Count(string(out), "Group.CallbackAfterSendMsg") != n {
		t.Errorf("outbox list: %v\n%s\nwant %d of Group.CallbackAfterSendMsg", err, out, n)
	}
	if out, err := rookery(t, env, "outbox", "drop", "--all", "--data-dir", data).CombinedOutput(); err != nil || string(out) != "0 callbacks\n" {
		t.Errorf("outbox drop: %v\n%s", err, out)
	}
	if out, err := rookery(t, env, "outbox", "retry", "17", "--data-dir", data).CombinedOutput(); err == nil {
		t.Errorf("outbox retry of what is not there: %s", out)
	}

	down.Store(false)
	s = startServer(t, env, "--data-dir", data)
	for seq := range arrived {
		if seq == n {
			break
		}
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
	mu.Lock()
	defer mu.Unlock()
	first := slices.Compact(slices.Clone(seqs))
	if len(first) != n || !slices.IsSorted(first) || first[0] != 1 {
		t.Errorf("SEQs arrived as %v", seqs)
	}
	for _, name := range []string{"Group.CallbackBeforeCreateGroup", "Group.CallbackAfterCreateGroup", "Group.CallbackBeforeSendMsg"} {
		if !slices.Contains(commands, name) {
			t.Errorf("the app heard %v, not %s", commands, name)
		}
	}
}

// rest makes a REST call as the administrator, which has to succeed.
func rest(t *testing.T, s *server, secret, command, body string) {
	t.Helper()
	sig, err := usersig.Generate(usersig.App{ID: 1400000001, Secret: secret}, "administrator", time.Now(), time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+s.addrs["http"]+"/v4/"+command+"?sdkappid=1400000001&identifier=administrator&contenttype=json&random=1&usersig="+url.QueryEscape(sig),
		"application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), `"ErrorCode":0`) {
		t.Fatalf("%s: %s %v", command, text, err)
	}
}
