package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/usersig"
)

// A double of Rookery: the commands that runs use, over HTTP and MQTT, in front of bare mochi.
type double struct {
	mqtt.HookBase
	t        *testing.T
	verifier *usersig.Verifier
	mu       sync.Mutex
	accounts map[string]bool            // guarded by mu
	groups   map[string]map[string]bool // guarded by mu: members
	randoms  map[string]bool            // guarded by mu: of the messages
	requests map[string]bool            // guarded by mu: client and packet identifier
	longest  int                        // guarded by mu: the longest list in a call
	fail     string                     // the command that is answered with an error
	gets     atomic.Int64               // of /healthz
}

// startDouble returns the double and the options that reach it.
func startDouble(t *testing.T) (*double, Options) {
	t.Helper()
	app := usersig.App{ID: 1400000001, Secret: "a secret"}
	d := &double{
		t: t, verifier: usersig.NewVerifier(app),
		accounts: make(map[string]bool), groups: make(map[string]map[string]bool), randoms: make(map[string]bool),
		requests: make(map[string]bool),
	}
	h := httptest.NewServer(d)
	t.Cleanup(h.Close)
	server, at, err := startMochi(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	if err := server.AddHook(d, nil); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, secretFile), []byte(app.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return d, Options{
		Broker: at.String(), Duration: 200 * time.Millisecond, Warmup: 20 * time.Millisecond, Threads: 1,
		Rookery: Rookery{HTTP: strings.TrimPrefix(h.URL, "http://"), DataDir: dir},
	}
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		d.mu.Lock()
		defer d.mu.Unlock()
		_, _ = fmt.Fprintf(w, "# HELP x\nrookery_storage_reads_total{kind=\"group\"} %d\nother_total 3\n", len(d.groups)*7)
		return
	}
	if r.Method == http.MethodGet && r.URL.Path == "/healthz" {
		d.gets.Add(1)
		_, _ = io.WriteString(w, `{"status":"ok"}`)
		return
	}
	q := r.URL.Query()
	_, err := d.verifier.Verify(usersig.Request{UserSig: q.Get("usersig"), Identifier: q.Get("identifier")}, time.Now())
	var request struct {
		AccountList []struct{ UserID string }
		GroupID     string `json:"GroupId"`
		Random      uint32
		MemberList  []struct {
			Account string `json:"Member_Account"`
		}
		MsgBody []any
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		d.t.Errorf("%s: %v", r.URL.Path, err)
	}
	reply := map[string]any{"ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": ""}
	command := strings.TrimPrefix(r.URL.Path, "/v4/")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.longest = max(d.longest, len(request.AccountList), len(request.MemberList))
	members := d.groups[request.GroupID]
	switch {
	case err != nil || q.Get("identifier") != "administrator" || q.Get("sdkappid") != "1400000001" || q.Get("contenttype") != "json":
		reply = map[string]any{"ActionStatus": "FAIL", "ErrorCode": 60010, "ErrorInfo": fmt.Sprint("not an admin: ", err)}
	case command == d.fail:
		reply = map[string]any{"ActionStatus": "FAIL", "ErrorCode": 10002, "ErrorInfo": "told to fail"}
	case command == "im_open_login_svc/multiaccount_import":
		for _, a := range request.AccountList {
			d.accounts[a.UserID] = true
		}
	case command == "group_open_http_svc/create_group":
		d.groups[request.GroupID] = make(map[string]bool)
	case command == "group_open_http_svc/add_group_member" && members != nil:
		var list []map[string]any
		for _, m := range request.MemberList {
			result := 0
			if d.accounts[m.Account] && !members[m.Account] {
				members[m.Account], result = true, 1
			}
			list = append(list, map[string]any{"Member_Account": m.Account, "Result": result})
		}
		reply["MemberList"] = list
	case command == "group_open_http_svc/send_group_msg" && members != nil && len(request.MsgBody) == 1:
		d.randoms[fmt.Sprint(request.GroupID, request.Random)] = true
		reply["MsgSeq"] = len(d.randoms)
	default:
		reply = map[string]any{"ActionStatus": "FAIL", "ErrorCode": 10004, "ErrorInfo": "bad " + command}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(reply); err != nil {
		d.t.Error(err)
	}
}

func (*double) ID() string { return "double" }

func (*double) Provides(b byte) bool { return b == mqtt.OnConnect || b == mqtt.OnPublished }

func (d *double) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	_, err := d.verifier.Verify(usersig.Request{UserSig: string(pk.Connect.Password), Identifier: string(pk.Connect.Username)}, time.Now())
	if err != nil {
		d.t.Errorf("login of %s: %v", pk.Connect.Username, err)
	}
	return nil
}

// OnPublished answers requests; sync takes three pages.
func (d *double) OnPublished(cl *mqtt.Client, pk packets.Packet) {
	command, ok := strings.CutPrefix(pk.TopicName, "rpc/")
	if !ok {
		return
	}
	var request struct {
		Cursor  string
		GroupID string `json:"GroupId"`
	}
	if err := json.Unmarshal(pk.Payload, &request); err != nil {
		d.t.Errorf("rpc/%s: %v", command, err)
	}
	d.mu.Lock()
	if id := cl.ID + fmt.Sprint(pk.PacketID); pk.PacketID == 0 || d.requests[id] {
		d.t.Errorf("rpc/%s: packet identifier %d, again or none", command, pk.PacketID)
	} else if len(d.requests) < 60_000 { // before identifiers may come again
		d.requests[id] = true
	}
	member := d.groups[request.GroupID][string(cl.Properties.Username)]
	d.mu.Unlock()
	reply := `{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}`
	switch {
	case command == d.fail, command == "group_msg_get" && !member:
		reply = `{"ActionStatus":"FAIL","ErrorCode":10007,"ErrorInfo":"told to fail"}`
	case command == "sync" && len(request.Cursor) < 2:
		reply = fmt.Sprintf(`{"ActionStatus":"OK","ErrorCode":0,"Cursor":%q}`, request.Cursor+"x")
	}
	err := cl.WritePacket(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish},
		TopicName:   "users/" + string(cl.Properties.Username) + "/rpc", Payload: []byte(reply),
	})
	if err != nil { // the run is over for this client
		d.t.Log(err)
	}
}

func TestTrafficMakesGroupsAndMembersFirst(t *testing.T) {
	d, o := startDouble(t)
	res, err := RunTraffic(t.Context(), o, Traffic{
		Scenario: "groups", Groups: 2, Members: 320, Senders: 1, Size: 100, Outstanding: 1, Wait: WaitDelivery, MaxInFlight: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.accounts) != 642 || len(d.groups) != 2 || d.longest != membersPerCall {
		t.Errorf("%d accounts, %d groups, at most %d in a call; want 642, 2 and %d", len(d.accounts), len(d.groups), d.longest, membersPerCall)
	}
	for id, members := range d.groups {
		if len(members) != 321 {
			t.Errorf("%s has %d members, want 321", id, len(members))
		}
	}
	if res.Total.Delivered == 0 || res.Lost != 0 {
		t.Errorf("delivered %d, lost %d", res.Total.Delivered, res.Lost)
	}
}

func TestAFailedSetUpNamesTheCommandAndNoSecret(t *testing.T) {
	d, o := startDouble(t)
	d.fail = "group_open_http_svc/create_group"
	_, err := RunTraffic(t.Context(), o, Traffic{Groups: 1, Members: 1, Senders: 1, Size: 100, Outstanding: 1, Wait: WaitDelivery, MaxInFlight: 1})
	if err == nil || !strings.Contains(err.Error(), "create_group: error 10002: told to fail") {
		t.Errorf("RunTraffic = %v, want the command and its error", err)
	}
	o.Rookery.HTTP = "127.0.0.1:1"
	_, err = RunRest(t.Context(), o, Rest{Connections: 1, Groups: 1, Size: 1})
	if err == nil || strings.Contains(err.Error(), "usersig") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("RunRest with nobody listening = %v, want connection refused and no UserSig", err)
	}
}

func TestLoginReadsEveryPage(t *testing.T) {
	d, o := startDouble(t)
	prepared := false
	res, err := RunLogin(t.Context(), o, Login{
		Users: 30, Groups: 4, Members: 10, Messages: 2, Subscribe: true,
		Prepared: func(context.Context) (int, error) { prepared = true; return os.Getpid(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	joined := 0
	for _, members := range d.groups {
		joined += len(members)
	}
	if len(d.groups) != 12 || joined != 120 || len(d.randoms) != 24 || !prepared {
		t.Errorf("%d groups, %d members in all, %d messages, prepared %v; want 12, 120, 24", len(d.groups), joined, len(d.randoms), prepared)
	}
	if res.Latencies["call"].Count != 30 || res.Figures["seconds"] <= 0 || res.Total.CallErrors != 0 {
		t.Errorf("latencies %+v, figures %v, %v", res.Latencies["call"], res.Figures, res.Problems)
	}
	if _, ok := res.Figures[`rookery_storage_reads_total{kind="group"} per group`]; !ok {
		t.Errorf("figures lack the store's reads: %v", res.Figures)
	}
}

func TestLoginTellsWhoFailed(t *testing.T) {
	d, o := startDouble(t)
	d.fail = "sync"
	res, err := RunLogin(t.Context(), o, Login{Users: 3, Groups: 1, Members: 3})
	if err != nil {
		t.Fatal(err)
	}
	if res.Total.CallErrors != 3 || res.Problems["sync: error 10007: told to fail"] != 3 {
		t.Errorf("%d errors, %v; want three of sync", res.Total.CallErrors, res.Problems)
	}
}

func TestHistoryAndRestCountAnswers(t *testing.T) {
	runs := map[string]func(o Options) (*Result, error){
		"history": func(o Options) (*Result, error) {
			return RunHistory(t.Context(), o, History{Clients: 6, Groups: 2, Messages: 3, Page: 20})
		},
		"rest": func(o Options) (*Result, error) {
			return RunRest(t.Context(), o, Rest{Connections: 5, Groups: 2, Size: 100})
		},
	}
	for name, run := range runs {
		t.Run(name, func(t *testing.T) {
			d, o := startDouble(t)
			res, err := run(o)
			if err != nil {
				t.Fatal(err)
			}
			if res.Total.Calls == 0 || res.Latencies["call"].Count == 0 || res.Total.CallErrors != 0 || len(res.Problems) > 0 {
				t.Errorf("%d calls, %+v, %v", res.Total.Calls, res.Latencies["call"], res.Problems)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if name == "rest" && int64(len(d.randoms)) != res.Total.Calls {
				t.Errorf("%d different messages in %d calls", len(d.randoms), res.Total.Calls)
			}
		})
		t.Run(name+" refused", func(t *testing.T) {
			d, o := startDouble(t)
			d.fail = "group_msg_get"
			if name == "rest" {
				d.fail = "group_open_http_svc/send_group_msg"
			}
			if name == "history" {
				run = func(o Options) (*Result, error) {
					return RunHistory(t.Context(), o, History{Clients: 1, Groups: 1, Messages: 1, Page: 1})
				}
			}
			res, err := run(o)
			if err != nil {
				t.Fatal(err)
			}
			if res.Total.CallErrors == 0 || res.Total.CallErrors != res.Total.Calls {
				t.Errorf("%d errors in %d calls, all should fail", res.Total.CallErrors, res.Total.Calls)
			}
		})
	}
}

func TestRestGetsAPath(t *testing.T) {
	d, o := startDouble(t)
	res, err := RunRest(t.Context(), o, Rest{Connections: 5, Groups: 1, Size: 1, Get: "/healthz"})
	if err != nil {
		t.Fatal(err)
	}
	if n := res.Total.Calls; n == 0 || n > d.gets.Load() || res.Total.CallErrors != 0 || len(res.Problems) > 0 || len(d.randoms) > 0 {
		t.Errorf("%d calls, %d of them gets, %d messages, %v", n, d.gets.Load(), len(d.randoms), res.Problems)
	}
}

// On a timetable a call counts from when it was due.
func TestRestKeepsATimetable(t *testing.T) {
	d, o := startDouble(t)
	res, err := RunRest(t.Context(), o, Rest{Connections: 5, Groups: 2, Size: 100, Rate: 100})
	if err != nil {
		t.Fatal(err)
	}
	// 100 a second in 0.2 s of which every call is answered, however late.
	if n := res.Latencies["call"].Count; n < 19 || n > 21 || res.Total.CallErrors != 0 || len(res.Problems) > 0 {
		t.Errorf("%d calls were due in the measured part, %v; want 20", n, res.Problems)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if int64(len(d.randoms)) != res.Total.Calls {
		t.Errorf("%d different messages in %d calls", len(d.randoms), res.Total.Calls)
	}
}

func TestSplitResponse(t *testing.T) {
	const whole = "HTTP/1.1 200 OK\r\nX: y\r\ncontent-length: 3\r\n\r\nabc"
	for n := range len(whole) {
		if _, used, err := splitResponse([]byte(whole[:n])); used != 0 || err != nil {
			t.Fatalf("splitResponse of the first %d bytes = %d, %v; want 0", n, used, err)
		}
	}
	body, used, err := splitResponse([]byte(whole + "HTTP"))
	if string(body) != "abc" || used != len(whole) || err != nil {
		t.Errorf("splitResponse = %q, %d, %v", body, used, err)
	}
	for name, text := range map[string]string{
		"another status": "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
		"chunked":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a bad length":   "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	} {
		if _, _, err := splitResponse([]byte(text)); !errors.Is(err, errBadResponse) {
			t.Errorf("%s: %v, want errBadResponse", name, err)
		}
	}
}

func FuzzSplitResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		body, used, err := splitResponse(b)
		if err != nil && !errors.Is(err, errBadResponse) || used > len(b) || used > 0 && !bytes.HasSuffix(b[:used], body) {
			t.Errorf("splitResponse = %q, %d, %v", body, used, err)
		}
	})
}
