package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/admin"
	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage/pebble"
	"github.com/rookery-im/rookery/usersig"
)

const sdkAppID = 1400000001

var app = usersig.App{ID: sdkAppID, Secret: "0123456789abcdef"}

// newServer returns a door over a table with a store of its own.
func newServer(t *testing.T, cfg admin.Config, change func(*admin.Backend)) *admin.Server {
	t.Helper()
	store, err := pebble.Open(pebble.Config{Dir: t.TempDir(), Sync: pebble.SyncInterval})
	if err != nil {
		t.Fatal(err)
	}
	admins := []group.Account{"administrator"}
	pipeline := hooks.New(store, hooks.Config{Admins: admins}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := pipeline.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	table := command.New(command.Env{Store: store, Pipeline: pipeline}, command.Config{SDKAppID: sdkAppID, Admins: admins})
	registry := prometheus.NewRegistry()
	registry.MustRegister(table)
	back := admin.Backend{Table: table, UserSigs: usersig.NewVerifier(app), Metrics: registry}
	if change != nil {
		change(&back)
	}
	cfg.SDKAppID = sdkAppID
	s, err := admin.New(cfg, back)
	if err != nil {
		t.Fatal(err)
	}
	registry.MustRegister(s)
	return s
}

func sign(t *testing.T, user string, age time.Duration) string {
	t.Helper()
	sig, err := usersig.Generate(app, user, time.Now().Add(-age), time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// query is that of a good call; edits are pairs of a key and its value, "-" to leave it out.
func query(t *testing.T, edits ...string) string {
	q := url.Values{
		"sdkappid": {"1400000001"}, "identifier": {"administrator"}, "usersig": {sign(t, "administrator", 0)}, "random": {"99999999999"}, "contenttype": {"json"},
	}
	for i := 0; i < len(edits); i += 2 {
		if q.Set(edits[i], edits[i+1]); edits[i+1] == "-" {
			q.Del(edits[i])
		}
	}
	return q.Encode()
}

type answer struct {
	ActionStatus string
	ErrorCode    int
	ErrorInfo    string
}

func post(t *testing.T, h http.Handler, path, query, body string) answer {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, path+"?"+query, strings.NewReader(body))
	h.ServeHTTP(w, r.WithContext(t.Context()))
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("POST %s = %d, headers %v", path, w.Code, w.Header())
	}
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("POST %s: %q: %v", path, w.Body, err)
	}
	if (a.ActionStatus == "OK") != (a.ErrorCode == 0) {
		t.Errorf("POST %s: ActionStatus and ErrorCode disagree: %+v", path, a)
	}
	return a
}

func TestCall(t *testing.T) {
	s := newServer(t, admin.Config{BodySize: 1000}, func(b *admin.Backend) {
		b.Revoked = func(context.Context, group.Account) (int64, error) {
			return time.Now().Add(-30 * time.Minute).Unix(), nil
		}
	})
	const path = "/v4/im_open_login_svc/account_import"
	const body = `{"UserID":"alice"}`
	tests := map[string]struct {
		path, query, body string
		code              int
	}{
		"good":               {path, query(t), body, 0},
		"no random":          {path, query(t, "random", "-", "contenttype", "-"), body, 0},
		"bad query":          {path, "sdkappid=%zz", body, command.CodeBadURL},
		"no sdkappid":        {path, query(t, "sdkappid", "-"), body, command.CodeNoSDKAppID},
		"another sdkappid":   {path, query(t, "sdkappid", "1400000002"), body, command.CodeBadSDKAppID},
		"sdkappid no number": {path, query(t, "sdkappid", "x"), body, command.CodeBadSDKAppID},
		"no identifier":      {path, query(t, "identifier", "-"), body, command.CodeBadCaller},
		"no usersig":         {path, query(t, "usersig", "-"), body, usersig.CodeEmpty},
		"malformed usersig":  {path, query(t, "usersig", "xyz"), body, usersig.CodeMalformed},
		"another's usersig":  {path, query(t, "usersig", sign(t, "bob", 0)), body, usersig.CodeIdentifierMismatch},
		"expired usersig":    {path, query(t, "usersig", sign(t, "administrator", 2*time.Hour)), body, usersig.CodeExpired},
		"revoked usersig":    {path, query(t, "usersig", sign(t, "administrator", 45*time.Minute)), body, usersig.CodeExpired},
		"no admin":           {path, query(t, "identifier", "bob", "usersig", sign(t, "bob", 0)), body, command.CodeNotAdmin},
		"no body":            {path, query(t), "", command.CodeBadBody},
		"no JSON":            {path, query(t), "{", command.CodeBadBody},
		"large":              {path, query(t), `{"UserID":"alice","X":"` + strings.Repeat("x", 1000) + `"}`, group.CodeJSONTooLong},
		"unknown service":    {"/v4/x/y", query(t), body, command.CodeNoResource},
		"unknown command":    {"/v4/group_open_http_svc/y", query(t), body, group.CodeUnknownCommand},
		"unknown path":       {"/v4/x", query(t), body, command.CodeNoResource},
		"longer path":        {path + "/x", query(t), body, command.CodeNoResource},
		"two slashes":        {"/" + path, query(t), body, 0}, // of a base address that ends in one
		"a slash behind":     {path + "/", query(t), body, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := post(t, s, test.path, test.query, test.body); got.ErrorCode != test.code {
				t.Errorf("%+v, want code %d", got, test.code)
			}
		})
	}
	t.Run("GET", func(t *testing.T) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path+"?"+query(t), nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"ErrorCode":60009`) {
			t.Errorf("GET = %d %s", w.Code, w.Body)
		}
	})
	t.Run("OPTIONS", func(t *testing.T) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodOptions, path, nil))
		if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Methods") != "POST" {
			t.Errorf("OPTIONS = %d %v", w.Code, w.Header())
		}
	})
}

func TestAllowedIPs(t *testing.T) {
	for allowed, code := range map[string]int{"192.0.2.1": 0, "192.0.2.0/24": 0, "10.0.0.0/8": command.CodeIPRefused} { // httptest calls from 192.0.2.1
		s := newServer(t, admin.Config{AllowedIPs: []string{allowed}}, nil)
		if got := post(t, s, "/v4/im_open_login_svc/account_import", query(t), `{"UserID":"alice"}`); got.ErrorCode != code {
			t.Errorf("allowed %s: %+v, want code %d", allowed, got, code)
		}
	}
	if _, err := admin.New(admin.Config{AllowedIPs: []string{"here"}}, admin.Backend{}); err == nil {
		t.Error("a bad address was accepted")
	}
}

func TestRatePerCommand(t *testing.T) {
	var told []string
	s := newServer(t, admin.Config{RatePerCommand: 2}, func(b *admin.Backend) {
		b.OverLimit = func(call *command.Call, c *command.Command, calls, limit int) {
			if calls < 1 || calls > 10 {
				t.Errorf("%d calls in a second, of 10", calls)
			}
			told = append(told, fmt.Sprintf("%s %s %d", call.Caller, c.Path(), limit))
		}
	})
	codes := map[int]int{}
	for range 10 {
		codes[post(t, s, "/v4/im_open_login_svc/account_import", query(t), `{"UserID":"alice"}`).ErrorCode]++
	}
	if codes[0] < 2 || codes[command.CodeRateOfCommand] == 0 {
		t.Errorf("10 calls at once: codes %v, want some of %d", codes, command.CodeRateOfCommand)
	}
	if len(told) == 0 || len(told) > codes[command.CodeRateOfCommand] || told[0] != "administrator im_open_login_svc/account_import 2" {
		t.Errorf("told of %v", told)
	}
	if got := post(t, s, "/v4/group_open_http_svc/get_group_info", query(t), `{"GroupIdList":["g"]}`); got.ErrorCode != 0 {
		t.Errorf("another command: %+v", got)
	}
}

// TestConcurrency fills the door with a call that hangs in the middle of its body.
func TestConcurrency(t *testing.T) {
	s := newServer(t, admin.Config{Concurrency: 1, Timeout: 200 * time.Millisecond}, nil)
	body, rest := io.Pipe()
	done := make(chan struct{})
	reading := make(chan struct{})
	go func() {
		defer close(done)
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/v4/im_open_login_svc/account_import?"+query(t), &told{body, reading})
		s.ServeHTTP(w, r)
	}()
	<-reading
	if got := post(t, s, "/v4/im_open_login_svc/account_import", query(t), `{"UserID":"alice"}`); got.ErrorCode != command.CodeTooManyRequests {
		t.Errorf("while the only slot is taken: %+v, want code %d", got, command.CodeTooManyRequests)
	}
	rest.CloseWithError(io.ErrUnexpectedEOF)
	<-done
	if got := post(t, s, "/v4/im_open_login_svc/account_import", query(t), `{"UserID":"alice"}`); got.ErrorCode != 0 {
		t.Errorf("afterwards: %+v", got)
	}
}

// TestReadTimeout calls a command that may take longer than a request may take to arrive: its
// body may not.
func TestReadTimeout(t *testing.T) {
	s := newServer(t, admin.Config{Timeout: time.Hour, ReadTimeout: time.Minute}, nil)
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v4/im_open_login_svc/account_import?"+query(t), strings.NewReader(`{"UserID":"alice"}`)))
	if latest := time.Now().Add(time.Minute); w.read.IsZero() || w.read.After(latest) {
		t.Errorf("the body may arrive until %v, want until %v at the latest", w.read, latest)
	}
}

// deadlines keeps the last deadline for reading.
type deadlines struct {
	*httptest.ResponseRecorder
	read time.Time
}

func (w *deadlines) SetReadDeadline(t time.Time) error {
	w.read = t
	return nil
}

// told reports the first Read.
type told struct {
	io.Reader
	reading chan struct{}
}

func (r *told) Read(b []byte) (int, error) {
	if r.reading != nil {
		close(r.reading)
		r.reading = nil
	}
	return r.Reader.Read(b)
}

func TestNeighbours(t *testing.T) {
	var notReady error
	s := newServer(t, admin.Config{}, func(b *admin.Backend) {
		b.Ready = func(context.Context) error { return notReady }
	})
	post(t, s, "/v4/im_open_login_svc/account_import", query(t), `{"UserID":"alice"}`)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, _ := get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz = %d", code)
	}
	if code, _ := get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz = %d", code)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodHead, path, nil))
		if w.Code != http.StatusOK {
			t.Errorf("HEAD %s = %d; want 200", path, w.Code)
		}
	}
	for path, want := range map[string]string{"/openapi.json": `"/v4/group_open_http_svc/create_group"`, "/docs": "<h1>Rookery REST API</h1>"} {
		if code, body := get(path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s = %d %.200s", path, code, body)
		}
	}
	notReady = io.ErrUnexpectedEOF
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || strings.Contains(body, "EOF") {
		t.Errorf("/readyz = %d %q", code, body)
	}
	if code, body := get("/metrics"); code != http.StatusOK || !strings.Contains(body, `rookery_command_calls_total{command="im_open_login_svc/account_import",result="ok"} 1`) {
		t.Errorf("/metrics = %d %s", code, body)
	}
	if code, _ := get("/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("/debug/pprof/ = %d without being asked for", code)
	}
	s = newServer(t, admin.Config{Pprof: true}, nil)
	if code, _ := get("/debug/pprof/goroutine"); code != http.StatusOK {
		t.Errorf("/debug/pprof/goroutine = %d", code)
	}
}

func TestRun(t *testing.T) {
	s := newServer(t, admin.Config{}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l, nil) }()
	resp, err := http.Post("http://"+l.Addr().String()+"/v4/im_open_login_svc/account_import?"+query(t), "", strings.NewReader(`{"UserID":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil || !strings.Contains(string(body), `"ErrorCode":0`) {
		t.Errorf("answer %s, %v", body, err)
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
}

// TestSendsAllFirst has clients that read nothing before they have sent a body that nobody wants:
// they find the answer, and may go on with the connection.
func TestSendsAllFirst(t *testing.T) {
	s := newServer(t, admin.Config{}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l, nil) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	}()
	const path = "/v4/im_open_login_svc/account_import?"
	large := `{"UserID":"alice","X":"` + strings.Repeat("x", 10<<20) + `"}`
	for _, test := range []struct {
		name, target, header, body string
		code                       int
	}{
		{"large", path + query(t), fmt.Sprintf("Content-Length: %d", len(large)), large, group.CodeJSONTooLong},
		{"large, in chunks", path + query(t), "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(large), large), group.CodeJSONTooLong},
		{"large, of a stranger", path + query(t, "usersig", "x"), fmt.Sprintf("Content-Length: %d", len(large)), large, usersig.CodeMalformed},
		{"large, to nowhere", "/v4/x?" + query(t), fmt.Sprintf("Content-Length: %d", len(large)), large, command.CodeNoResource},
		{"large, on request", path + query(t), fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d", len(large)), "", group.CodeJSONTooLong},
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(conn)
		if _, err := io.WriteString(conn, "POST "+test.target+" HTTP/1.1\r\nHost: x\r\n"+test.header+"\r\n\r\n"+test.body); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if code := readCode(t, in); code != test.code {
			t.Errorf("%s: code %d, want %d", test.name, code, test.code)
		}
		if test.body != "" {
			if _, err := io.WriteString(conn, "POST "+path+query(t)+" HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n"+`{"UserID":"alice"}`); err != nil {
				t.Errorf("after %s: %v", test.name, err)
			}
			if code := readCode(t, in); code != 0 {
				t.Errorf("after %s: code %d", test.name, code)
			}
		}
		_ = conn.Close()
	}
}

// readCode reads a response and returns the ErrorCode of its body.
func readCode(t *testing.T, in *bufio.Reader) int {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&a), resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return a.ErrorCode
}

func TestDownload(t *testing.T) {
	var exporter *command.Exporter
	s := newServer(t, admin.Config{}, func(b *admin.Backend) {
		store, err := pebble.Open(pebble.Config{Dir: t.TempDir(), Sync: pebble.SyncInterval})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		if exporter, err = command.NewExporter(store, command.ExportConfig{Dir: t.TempDir(), Key: []byte("k")}, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = exporter.Close() })
		b.Exports = exporter
	})
	for path, want := range map[string]int{
		"/download/2026010100.gz":                            http.StatusForbidden,
		"/download/2026010100.gz?expires=9999999999&sign=00": http.StatusForbidden,
		"/download/..%2f..%2fetc%2fpasswd?expires=1&sign=":   http.StatusNotFound,
		"/download/": http.StatusNotFound,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			if w.Code != want {
				t.Errorf("%s %s = %d %s, want %d", method, path, w.Code, w.Body, want)
			}
		}
	}
}

// TestReceipts: vendors get what Backend.Receipts answers, and where it answers nothing, what
// anybody gets who asks for what is not there.
func TestReceipts(t *testing.T) {
	ask := func(s *admin.Server, method, path string) string {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("body")))
		return fmt.Sprint(w.Code, w.Header(), w.Body)
	}
	s := newServer(t, admin.Config{AllowedIPs: []string{"203.0.113.1"}}, func(b *admin.Backend) {
		b.Receipts = func(w http.ResponseWriter, r *http.Request, app, secret string) bool {
			if secret != "good" {
				return false
			}
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprint(w, app, " ", string(body), " ", err)
			return true
		}
	})
	if got := ask(s, "POST", "/push/receipts/xiaomi/good"); !strings.HasPrefix(got, "200 ") || !strings.HasSuffix(got, "xiaomi body <nil>") {
		t.Errorf("receipts are answered with %s", got)
	}
	nothing := ask(s, "POST", "/nothing")
	without := newServer(t, admin.Config{}, nil)
	for _, got := range []string{
		ask(s, "POST", "/push/receipts/xiaomi/bad"), ask(s, "POST", "/push/receipts/xiaomi/good/"), ask(s, "POST", "/push/receipts/xiaomi"),
		ask(s, "GET", "/push/receipts/xiaomi/good"), ask(without, "POST", "/push/receipts/xiaomi/good"),
	} {
		if got != nothing {
			t.Errorf("got %s, want what any unknown path gets: %s", got, nothing)
		}
	}
}
