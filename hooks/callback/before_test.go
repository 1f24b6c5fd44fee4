package callback_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/hooks/callback"
)

var (
	theGroup = &group.Group{ID: "g1", Incarnation: 1, Type: group.Work}
	origin   = hooks.Origin{IP: "192.0.2.7", Platform: "iOS"}
)

func theDraft() *hooks.Draft {
	return &hooks.Draft{
		Group: "g1", From: "bob", Operator: "bob", Random: 7, HasRandom: true, Priority: group.High, Origin: origin,
		Body: json.RawMessage(`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`), CloudCustomData: "cd",
	}
}

// serve starts an app's server and returns a client of it.
func serve(t *testing.T, cfg callback.Config, handler http.HandlerFunc) *callback.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	cfg.URL = server.URL + "/hook?key=1"
	return newClient(t, cfg)
}

func newClient(t *testing.T, cfg callback.Config) *callback.Client {
	t.Helper()
	cfg.SDKAppID = 1400000001
	c, err := callback.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestTheRequestIsWhatTheWireSays(t *testing.T) {
	var got *http.Request
	var body map[string]any
	c := serve(t, callback.Config{Token: "xxxyyy"}, func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, `{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}`)
	})
	before := time.Now().UnixMilli()
	if v := c.BeforeSend(t.Context(), theGroup, theDraft()); v.Refuse != nil || v.Drop || v.Body != nil || v.CloudCustomData != nil {
		t.Errorf("verdict %+v", v)
	}
	q := got.URL.Query()
	for name, want := range map[string]string{
		"key": "1", "SdkAppid": "1400000001", "CallbackCommand": "Group.CallbackBeforeSendMsg", "contenttype": "json",
		"ClientIP": "192.0.2.7", "OptPlatform": "iOS",
	} {
		if q.Get(name) != want {
			t.Errorf("parameter %s = %q, want %q", name, q.Get(name), want)
		}
	}
	sum := sha256.Sum256([]byte("xxxyyy" + q.Get("RequestTime")))
	if q.Get("Sign") != hex.EncodeToString(sum[:]) {
		t.Errorf("Sign = %q", q.Get("Sign"))
	}
	if got.Method != http.MethodPost || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s, Content-Type %q", got.Method, got.Header.Get("Content-Type"))
	}
	at, ok := body["EventTime"].(float64)
	if !ok || int64(at) < before || int64(at) > time.Now().UnixMilli() {
		t.Errorf("EventTime = %v", body["EventTime"])
	}
	delete(body, "EventTime")
	want := map[string]any{
		"CallbackCommand": "Group.CallbackBeforeSendMsg", "GroupId": "g1", "Type": "Private", "From_Account": "bob", "Operator_Account": "bob",
		"Random": 7.0, "OnlineOnlyFlag": 0.0, "MsgPriority": "High", "CloudCustomData": "cd",
		"MsgBody": []any{map[string]any{"MsgType": "TIMTextElem", "MsgContent": map[string]any{"Text": "hi"}}},
	}
	if fmt.Sprint(body) != fmt.Sprint(want) {
		t.Errorf("body %v\nwant %v", body, want)
	}
}

func TestAnswersAndTheirVerdicts(t *testing.T) {
	tests := []struct {
		answer string
		code   int // of the refusal; 0: none
		info   string
		drop   bool
		body   string
		data   string
	}{
		{answer: `{"ErrorCode":0}`},
		{answer: `{}`},
		{answer: ` {"ActionStatus":"FAIL","ErrorCode":0,"MsgBody":null} `},
		{answer: `{"ErrorCode":1}`, code: 10016, info: "refused by the app"},
		{answer: `{"ErrorCode":1,"ErrorInfo":"no"}`, code: 10016, info: "no"},
		{answer: `{"ErrorCode":2}`, drop: true},
		{answer: `{"ErrorCode":10100,"ErrorInfo":"bad word"}`, code: 10100, info: "bad word"},
		{answer: `{"ErrorCode":10200,"ErrorInfo":"x"}`, code: 10200, info: "x"},
		{answer: `{"ErrorCode":10201,"ErrorInfo":"x"}`, code: 10016, info: "x"},
		{answer: `{"ErrorCode":10099}`, code: 10016, info: "refused by the app"},
		{answer: `{"ErrorCode":"1","ErrorInfo":"from PHP"}`, code: 10016, info: "from PHP"},
		{answer: `{"ErrorCode":"0"}`},
		{answer: `{"ErrorCode":null}`},
		{answer: `{"ErrorCode":-1}`, code: 10016, info: "refused by the app"},
		{answer: `{"ErrorCode":0,"MsgBody":[{"MsgType":"TIMFaceElem"}],"CloudCustomData":""}`, body: `[{"MsgType":"TIMFaceElem"}]`, data: "set"},
		{answer: `{"ErrorCode":1,"ErrorInfo":"no","MsgBody":[]}`, code: 10016, info: "no"},
		{answer: `{"ErrorCode":0,"ErrorInfo":null,"MsgBody":[],"CloudCustomData":null}`},
		{answer: `{"ErrorCode":0,"MsgBody":[ ]}`},
		{answer: `{"ErrorCode":0,"MsgBody":""}`},
		{answer: `{"ErrorCode":1,"ErrorInfo":["too","rude"]}`, code: 10016, info: "refused by the app"},
		{answer: `{"ErrorCode":10101,"ErrorInfo":5}`, code: 10101},
		{answer: `{"ErrorCode":1,"ErrorInfo":"no","MsgBody":{},"CloudCustomData":{}}`, code: 10016, info: "no"},
		{answer: "\ufeff" + `{"ErrorCode":1,"ErrorInfo":"no"}`, code: 10016, info: "no"},
	}
	for _, test := range tests {
		c := serve(t, callback.Config{}, answer(test.answer))
		v := c.BeforeSend(t.Context(), theGroup, theDraft())
		code, info := 0, ""
		if v.Refuse != nil {
			code, info = v.Refuse.Code, v.Refuse.Info
		}
		if code != test.code || info != test.info || v.Drop != test.drop || string(v.Body) != test.body || (v.CloudCustomData != nil) != (test.data != "") {
			t.Errorf("%s: verdict %+v, refusal %d %q", test.answer, v, code, info)
		}
	}
}

// bad are servers that do not answer.
func bad() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"never":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"garbage": answer("<html>"),
		"a list":  answer(`[]`),
		"cut":     answer(`{"ErrorCode":0`),
		"a text":  answer(`{"ErrorCode":"no"}`),
		"no data": answer(`{"ErrorCode":0,"CloudCustomData":{}}`),
		"nothing": answer(""),
		"500":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"204":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"10 MB": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"ErrorCode":1,"ErrorInfo":"`+strings.Repeat("x", 10<<20)+`"}`)
		},
		"drips": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(10 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		},
	}
}

func TestAFailureIsJudgedByThePolicy(t *testing.T) {
	for name, handler := range bad() {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			count := func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				calls.Add(1)
				handler(w, r)
			}
			start := time.Now()
			allow := serve(t, callback.Config{Timeout: 200 * time.Millisecond}, count)
			if v := allow.BeforeSend(t.Context(), theGroup, theDraft()); v.Refuse != nil || v.Drop || v.Body != nil {
				t.Errorf("policy allow: %+v", v)
			}
			if raw, refusal := allow.Before(t.Context(), "Group.CallbackBeforeCreateGroup", struct{}{}, origin); raw != nil || refusal != nil {
				t.Errorf("policy allow: Before = %s, %v", raw, refusal)
			}
			refuse := serve(t, callback.Config{Timeout: 200 * time.Millisecond, FailPolicy: callback.Refuse}, count)
			if v := refuse.BeforeSend(t.Context(), theGroup, theDraft()); v.Refuse == nil || v.Refuse.Code != group.CodeCallbackFailed {
				t.Errorf("policy refuse: %+v", v)
			}
			if raw, refusal := refuse.Before(t.Context(), "Group.CallbackBeforeCreateGroup", struct{}{}, origin); raw != nil || refusal == nil || refusal.Code != group.CodeCallbackFailed {
				t.Errorf("policy refuse: Before = %s, %v", raw, refusal)
			}
			if n := calls.Load(); n != 4 {
				t.Errorf("%d requests for 4 calls", n)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestALateAnswerDoesNotCount(t *testing.T) {
	release := make(chan struct{})
	c := serve(t, callback.Config{Timeout: 50 * time.Millisecond}, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, `{"ErrorCode":1}`)
	})
	if v := c.BeforeSend(t.Context(), theGroup, theDraft()); v.Refuse != nil {
		t.Errorf("verdict %+v", v)
	}
	close(release)
}

func TestBeforeOtherThings(t *testing.T) {
	var got map[string]any
	c := serve(t, callback.Config{Commands: []string{"Group.CallbackBeforeInviteJoinGroup"}}, func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, `{"ErrorCode":0,"RefusedMembers_Account":["jared"]}`)
	})
	raw, refusal := c.Before(t.Context(), "Group.CallbackBeforeInviteJoinGroup", map[string]any{"GroupId": "g1"}, origin)
	var a struct {
		Refused []string `json:"RefusedMembers_Account"`
	}
	if err := json.Unmarshal(raw, &a); err != nil || refusal != nil || len(a.Refused) != 1 {
		t.Errorf("Before = %s, %v", raw, refusal)
	}
	if got["CallbackCommand"] != "Group.CallbackBeforeInviteJoinGroup" || got["EventTime"] == nil {
		t.Errorf("body %v", got)
	}
	got = nil
	if raw, refusal := c.Before(t.Context(), "Group.CallbackBeforeCreateGroup", struct{}{}, origin); raw != nil || refusal != nil || got != nil {
		t.Errorf("a command that is off: %s, %v, body %v", raw, refusal, got)
	}
	if c.Due(theGroup, theDraft()) {
		t.Error("messages are due though their command is off")
	}
	for text, code := range map[string]int{`{"ErrorCode":1}`: 10016, `{"ErrorCode":2}`: 10016, `{"ErrorCode":10150}`: 10150, `{"ErrorCode":9}`: 10016} {
		c := serve(t, callback.Config{}, answer(text))
		if _, refusal := c.Before(t.Context(), "Group.CallbackBeforeCreateGroup", struct{}{}, origin); refusal == nil || refusal.Code != code {
			t.Errorf("%s: %v, want %d", text, refusal, code)
		}
	}
}

// counted returns how many before-callbacks had the outcome.
func counted(t *testing.T, c *callback.Client, outcome string) (n float64) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c.Metrics())
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "rookery_callback_calls_total" && l.GetValue() == outcome {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

func TestBoundsAndWhatHappensAtThem(t *testing.T) {
	for _, test := range []struct {
		policy callback.Policy
		code   int
	}{{callback.Allow, 0}, {callback.Refuse, group.CodeCallbackFailed}, {callback.Wait, 0}} {
		t.Run(string(test.policy), func(t *testing.T) {
			asked := make(chan struct{}, 8)
			release := make(chan struct{})
			var under, most atomic.Int64
			c := serve(t, callback.Config{ConcurrencyPerGroup: 1, Overflow: test.policy, Timeout: time.Minute}, func(w http.ResponseWriter, _ *http.Request) {
				most.Store(max(most.Load(), under.Add(1)))
				asked <- struct{}{}
				<-release
				under.Add(-1)
				_, _ = io.WriteString(w, `{"ErrorCode":0}`)
			})
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() { c.BeforeSend(t.Context(), theGroup, theDraft()) })
			<-asked
			wg.Go(func() { // another group is not concerned
				c.BeforeSend(t.Context(), &group.Group{ID: "g2", Type: group.Work}, theDraft())
			})
			<-asked
			if test.policy == callback.Wait {
				wg.Go(func() {
					if v := c.BeforeSend(t.Context(), theGroup, theDraft()); v.Refuse != nil {
						t.Errorf("verdict %+v", v)
					}
				})
				close(release)
				<-asked
			} else {
				v := c.BeforeSend(t.Context(), theGroup, theDraft())
				if code := 0; v.Refuse != nil && v.Refuse.Code != test.code || v.Refuse == nil && test.code != code {
					t.Errorf("verdict %+v, want code %d", v, test.code)
				}
				close(release)
				if n := counted(t, c, "overflow"); n != 1 {
					t.Errorf("%v calls are counted as overflow, want 1", n)
				}
			}
			wg.Wait()
			if n := most.Load(); n > 2 {
				t.Errorf("%d calls at once", n)
			}
		})
	}
}

// busy answers one call after the other, each in its time.
type busy struct {
	takes time.Duration
	calls atomic.Int64
}

func (b *busy) RoundTrip(r *http.Request) (*http.Response, error) {
	b.calls.Add(1)
	select {
	case <-time.After(b.takes):
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"ErrorCode":1}`))}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// TestABusyServerIsNotADeadOne: who has waited for a turn has half of the time left for the
// exchange, or is not asked about. Otherwise most calls would end too early and open the breaker.
func TestABusyServerIsNotADeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &busy{takes: 900 * time.Millisecond}
		c := newClient(t, callback.Config{URL: "http://app.example", Transport: server, ConcurrencyPerGroup: 1, BreakerFailures: 1})
		start := time.Now()
		var wg sync.WaitGroup
		var refused atomic.Int64
		for range 5 {
			wg.Go(func() {
				if v := c.BeforeSend(t.Context(), theGroup, theDraft()); v.Refuse != nil {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if n, took := server.calls.Load(), time.Since(start); n != 2 || refused.Load() != 2 || took != 1800*time.Millisecond {
			t.Errorf("%d calls, %d refusals in %v, want 2, 2 in 1.8s", n, refused.Load(), took)
		}
		if over, late := counted(t, c, "overflow"), counted(t, c, "timeout"); over != 3 || late != 0 {
			t.Errorf("%v counted as overflow, %v as timeout; want 3 and 0", over, late)
		}
	})
}

// TestADeadServerCostsNothing lets the server fail, sees the breaker open, and the server return.
func TestADeadServerCostsNothing(t *testing.T) {
	var calls atomic.Int64
	var healthy atomic.Bool
	c := serve(t, callback.Config{BreakerFailures: 3, BreakerPause: 20 * time.Millisecond, FailPolicy: callback.Refuse}, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		if !healthy.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, `{"ErrorCode":0}`)
	})
	asked := func() bool {
		before := calls.Load()
		c.BeforeSend(t.Context(), theGroup, theDraft())
		return calls.Load() > before
	}
	for i := range 3 {
		if !asked() {
			t.Errorf("call %d was not made", i)
		}
	}
	if asked() {
		t.Error("a call was made though three had failed")
	}
	for range 2 { // a try that fails opens it again
		for !asked() {
		}
		if asked() {
			t.Error("a call was made right after the try")
		}
	}
	healthy.Store(true)
	for {
		if v := c.BeforeSend(t.Context(), theGroup, theDraft()); v.Refuse == nil {
			break
		}
	}
	if first, second := asked(), asked(); !first || !second {
		t.Error("calls are not made though the server is back")
	}
}

func TestMutualTLSAndHTTP2(t *testing.T) {
	var proto string
	var peers int
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto, peers = r.Proto, len(r.TLS.PeerCertificates)
		_, _ = io.WriteString(w, `{"ErrorCode":1}`)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	cfg := callback.Config{URL: server.URL, TLS: &tls.Config{RootCAs: roots, Certificates: server.TLS.Certificates}}
	if v := newClient(t, cfg).BeforeSend(t.Context(), theGroup, theDraft()); v.Refuse == nil || proto != "HTTP/2.0" || peers != 1 {
		t.Errorf("verdict %+v by %s with %d client certificates", v, proto, peers)
	}
	cfg.TLS = &tls.Config{RootCAs: roots}
	cfg.FailPolicy = callback.Refuse
	if v := newClient(t, cfg).BeforeSend(t.Context(), theGroup, theDraft()); v.Refuse == nil || v.Refuse.Code != group.CodeCallbackFailed {
		t.Errorf("without a certificate: %+v", v)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var conns atomic.Int64
	server := httptest.NewUnstartedServer(answer(`{"ErrorCode":0}`))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := newClient(t, callback.Config{URL: server.URL})
	for range 20 {
		c.BeforeSend(t.Context(), theGroup, theDraft())
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 calls after each other", n)
	}
}
