package callback_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/hooks/callback"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// An app is the app's server without a network.
type app struct {
	mu    sync.Mutex
	fails func() error // nil: it answers
	says  *string      // nil: a JSON object
	got   []heard
}

type heard struct {
	Query   string
	Command string     `json:"CallbackCommand"`
	Group   group.ID   `json:"GroupId"`
	Seq     group.Seq  `json:"MsgSeq"`
	Code    int        `json:"ErrorCode"`
	Raw     string     `json:"-"`
	At      time.Time  `json:"-"`
	Body    rawMessage `json:"MsgBody"`
}

type rawMessage = json.RawMessage

func (a *app) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	fails := a.fails
	a.mu.Unlock()
	if fails != nil {
		if err := fails(); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h := heard{Query: r.URL.RawQuery, Raw: string(body), At: time.Now()}
	if err := json.Unmarshal(body, &h); err != nil {
		return nil, err
	}
	a.got = append(a.got, h)
	says := `{"ErrorCode":0}`
	if a.says != nil {
		says = *a.says
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(says))}, nil
}

func (a *app) heard() []heard {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

func (a *app) failing(fails func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fails = fails
}

var errDown = errors.New("connection refused")

func down() error { return errDown }

// A life is a pipeline with an outbox, from a start to a stop.
type life struct {
	*hooks.Pipeline
	outbox *callback.Outbox
	client *callback.Client
	stop   func()
}

func begin(t *testing.T, store storage.Store, a *app, cfg callback.Config) *life {
	t.Helper()
	cfg.URL, cfg.Transport = "http://app.example/hook", a
	l := &life{client: newClient(t, cfg)}
	var err error
	if l.outbox, err = callback.OpenOutbox(t.Context(), l.client, store); err != nil {
		t.Fatal(err)
	}
	l.Pipeline = hooks.New(store, hooks.Config{Admins: []group.Account{"administrator"}}, slog.New(slog.DiscardHandler))
	l.UseOutbox(l.outbox)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.outbox.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	l.stop = func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
		cancel()
		running.Wait()
	}
	return l
}

// found makes groups with member bob.
func (l *life) found(t *testing.T, store storage.Store, ids ...group.ID) {
	t.Helper()
	if err := store.Apply(t.Context(), storage.Accounts.Put(storage.AccountKey("bob"), &group.Profile{Account: "bob"})); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		err := l.Update(t.Context(), id, func(tx *hooks.Tx) error {
			return errors.Join(tx.Create(&group.Group{ID: id, Type: group.Public}), tx.PutMember(&group.Member{Account: "bob", Role: group.OrdinaryMember}))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (l *life) say(t *testing.T, id group.ID, text string) hooks.Outcome {
	t.Helper()
	d := theDraft()
	d.Group, d.HasRandom, d.Body = id, false, json.RawMessage(fmt.Sprintf(`[{"MsgType":"TIMTextElem","MsgContent":{"Text":%q}}]`, text))
	o := l.Send(context.Background(), d)
	if o.Err != nil {
		t.Fatalf("send to %s: %v", id, o.Err)
	}
	return o
}

// checkHeard reports SEQs of a group that the app never heard of, or heard of for the first
// time after a later one.
func checkHeard(got []heard, id group.ID, upTo group.Seq) (problems []string) {
	next := group.Seq(1)
	for _, h := range got {
		switch {
		case h.Group != id || h.Command != "Group.CallbackAfterSendMsg" || h.Seq < next:
		case h.Seq == next:
			next++
		default:
			problems = append(problems, fmt.Sprintf("%s: SEQ %d came when %d was next", id, h.Seq, next))
			next = h.Seq + 1
		}
	}
	if next != upTo+1 {
		problems = append(problems, fmt.Sprintf("%s: heard up to SEQ %d of %d", id, next-1, upTo))
	}
	return problems
}

func TestTheOrderCheckerSeesMistakes(t *testing.T) {
	h := func(seqs ...group.Seq) (got []heard) {
		for _, s := range seqs {
			got = append(got, heard{Group: "g", Seq: s, Command: "Group.CallbackAfterSendMsg"})
		}
		return got
	}
	for _, test := range []struct {
		got []heard
		ok  bool
	}{{h(1, 2, 3), true}, {h(1, 2, 1, 2, 3), true}, {h(1, 3, 2), false}, {h(1, 2), false}, {h(2, 3), false}} {
		if problems := checkHeard(test.got, "g", 3); (len(problems) == 0) != test.ok {
			t.Errorf("%v: %v", test.got, problems)
		}
	}
}

func TestAfterCallbacksArriveInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := storagetest.NewMemory(), new(app)
		l := begin(t, store, a, callback.Config{Retry: true})
		ids := []group.ID{"g1", "g2", "g:3%"}
		l.found(t, store, ids...)
		a.failing(func() error {
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			if rand.IntN(3) == 0 {
				return errDown
			}
			return nil
		})
		start := time.Now()
		for i := range 100 {
			for _, id := range ids {
				l.say(t, id, fmt.Sprint(i))
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the callbacks delayed the messages by %v", took)
		}
		time.Sleep(time.Hour)
		l.stop()
		got := a.heard()
		for _, id := range ids {
			for _, p := range checkHeard(got, id, 100) {
				t.Error(p)
			}
		}
		if len(got) != 300 {
			t.Errorf("%d callbacks arrived, want each once: nothing crashed", len(got))
		}
		if left, err := l.outbox.Waiting(t.Context(), 10); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// TestACrashRepeatsButLosesNothing stops the worker at a random moment, before what it has sent
// is taken out, while messages come in, and goes on in a new life; again and again.
func TestACrashRepeatsButLosesNothing(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			store, a := storagetest.NewMemory(), new(app)
			a.failing(func() error { time.Sleep(1500 * time.Microsecond); return nil })
			repeated, sent := false, group.Seq(0)
			for n := range 5 {
				l := begin(t, store, a, callback.Config{Retry: true})
				if n == 0 {
					l.found(t, store, "g1")
				}
				for range 100 {
					sent = l.say(t, "g1", "x").Seq
					time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
				}
				time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
				store.Fail(func(method string) error { // the process is gone: nothing is written any more
					if method == "Apply" {
						return storage.ErrUnavailable
					}
					return nil
				})
				l.stop()
				store.Fail(nil)
			}
			l := begin(t, store, a, callback.Config{Retry: true})
			time.Sleep(time.Minute)
			l.stop()
			got := a.heard()
			for _, p := range checkHeard(got, "g1", sent) {
				t.Errorf("seed %d: %s", seed, p)
			}
			repeated = len(got) > int(sent)
			if !repeated && seed == 0 {
				t.Error("no crash came between sending and taking out")
			}
		})
	}
}

func TestAnAppThatIsDownIsToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := storagetest.NewMemory(), new(app)
		a.failing(down)
		l := begin(t, store, a, callback.Config{Retry: true, BreakerFailures: 5, BreakerPause: 5 * time.Second})
		l.found(t, store, "g1", "g2")
		l.say(t, "g1", "a")
		l.say(t, "g2", "b")
		time.Sleep(3 * time.Hour)
		l.stop()
		if waiting, err := callback.Waiting(t.Context(), store, 10); err != nil || len(waiting) != 2 {
			t.Fatalf("waiting: %v, %v", waiting, err)
		}
		l = begin(t, store, a, callback.Config{Retry: true, BreakerFailures: 5, BreakerPause: 5 * time.Second})
		l.say(t, "g1", "c")
		time.Sleep(time.Hour)
		a.failing(nil)
		back := time.Now()
		time.Sleep(time.Hour)
		l.stop()
		got := a.heard()
		for _, p := range append(checkHeard(got, "g1", 2), checkHeard(got, "g2", 1)...) {
			t.Error(p)
		}
		if len(got) > 0 {
			if late := got[len(got)-1].At.Sub(back); late > 10*time.Second { // not the longest pause
				t.Errorf("the last arrived %v after the app was back", late)
			}
		}
	})
}

// TestAnyAnswerWillDoAfterwards is about apps that do what they are told of and answer nothing,
// or a word: they are told once, and their silence does not stop the asking.
func TestAnyAnswerWillDoAfterwards(t *testing.T) {
	for name, says := range map[string]string{
		"nothing": "", "a word": "success", "a page": "<html>", "a list": "[]", "another object": `{"code":"no"}`, "much": strings.Repeat("x", 10_000),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, a := storagetest.NewMemory(), &app{says: &says}
				l := begin(t, store, a, callback.Config{Retry: true, BreakerFailures: 1, BreakerPause: time.Hour, AnswerBytes: 1 << 10})
				l.found(t, store, "g1")
				for i := range 3 {
					l.say(t, "g1", fmt.Sprint(i))
				}
				time.Sleep(time.Minute)
				l.stop()
				got := a.heard()
				for _, p := range checkHeard(got, "g1", 3) {
					t.Error(p)
				}
				if len(got) != 3 {
					t.Errorf("told %d times of 3 messages", len(got))
				}
				if waiting, err := callback.Waiting(t.Context(), store, 10); err != nil || len(waiting) != 0 {
					t.Errorf("waiting: %v, %v", waiting, err)
				}
			})
		})
	}
}

func TestWhatIsTooOldOrTooMuchIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := storagetest.NewMemory(), new(app)
		a.failing(down)
		l := begin(t, store, a, callback.Config{Retry: true, RetryAge: time.Hour, Entries: 3, DeadEntries: 4})
		l.found(t, store, "g1")
		for i := range 5 {
			l.say(t, "g1", fmt.Sprint(i))
		}
		dead, err := l.outbox.Dead(t.Context(), 10)
		if err != nil || len(dead) != 2 || dead[0].Why != "full" {
			t.Fatalf("dead: %v, %v; want the last two", dead, err)
		}
		time.Sleep(2 * time.Hour)
		dead, err = l.outbox.Dead(t.Context(), 10)
		if err != nil || len(dead) != 4 || dead[0].Why != "age" || dead[0].Command != "Group.CallbackAfterSendMsg" || !strings.Contains(dead[0].Queue, "g1") {
			t.Fatalf("dead: %v, %v; want four, as many as are kept", dead, err)
		}
		a.failing(nil)
		if err := l.outbox.Drop(t.Context(), dead[1].Number); err != nil {
			t.Error(err)
		}
		if err := l.outbox.Drop(t.Context(), dead[1].Number); err == nil {
			t.Error("dropped twice")
		}
		if err := l.outbox.Retry(t.Context(), dead[0].Number); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		l.stop()
		if got := a.heard(); len(got) != 1 || got[0].Seq != 1 {
			t.Errorf("heard %v, want SEQ 1", got)
		}
		if err := callback.Retry(t.Context(), store, dead[2].Number); err != nil {
			t.Error(err)
		}
		l = begin(t, store, a, callback.Config{Retry: true})
		time.Sleep(time.Minute)
		l.stop()
		if got := a.heard(); len(got) != 2 {
			t.Errorf("heard %v, want the one that was put back at rest", got)
		}
		if left, err := callback.Dead(t.Context(), store, 10); err != nil || len(left) != 1 {
			t.Errorf("dead: %v, %v; want one", left, err)
		}
	})
}

// TestAFloodOfRefusalsDelaysNothing: the app answers, but slowly, while thousands of messages
// are refused; what has happened is told at once, and there is room for it.
func TestAFloodOfRefusalsDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := storagetest.NewMemory(), new(app)
		a.failing(func() error { time.Sleep(time.Second); return nil })
		l := begin(t, store, a, callback.Config{Retry: true, Entries: 3000})
		l.found(t, store, "g1", "g2", "g3")
		for _, id := range []group.ID{"g1", "g2", "g3"} {
			for range 2000 {
				d := theDraft()
				d.Group, d.From = id, "nobody"
				if o := l.Send(t.Context(), d); o.Err == nil {
					t.Fatal("who is no account may send")
				}
			}
		}
		sent := time.Now()
		l.say(t, "g1", "x")
		time.Sleep(time.Hour)
		l.stop()
		refused := make(map[group.ID]int)
		for _, h := range a.heard() {
			if h.Command == "Group.CallbackSendMsgException" {
				refused[h.Group]++
			} else if late := h.At.Sub(sent); late > 2*time.Second {
				t.Errorf("the message was told of after %v", late)
			}
		}
		if n := refused["g1"] + refused["g2"] + refused["g3"]; refused["g1"] != 1000 || n != 1500 || len(a.heard()) != n+1 {
			t.Errorf("told of %v refusals and %d callbacks in all; want 1000 of g1, 1500 of all and the message", refused, len(a.heard()))
		}
	})
}

func TestWithoutRetryEachIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := storagetest.NewMemory(), new(app)
		tries := 0
		a.failing(func() error {
			if tries++; tries <= 2 {
				return errDown
			}
			return nil
		})
		l := begin(t, store, a, callback.Config{})
		l.found(t, store, "g1")
		for i := range 4 {
			l.say(t, "g1", fmt.Sprint(i))
		}
		time.Sleep(time.Hour)
		l.stop()
		var seqs []group.Seq
		for _, h := range a.heard() {
			seqs = append(seqs, h.Seq)
		}
		if !slices.Equal(seqs, []group.Seq{3, 4}) || tries != 4 {
			t.Errorf("heard of %v in %d tries, want 3 and 4 in 4", seqs, tries)
		}
	})
}

func TestWhatTheAppIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := storagetest.NewMemory(), new(app)
		l := begin(t, store, a, callback.Config{Retry: true})
		l.UseBeforeSend(rewriter{})
		l.found(t, store, "g1")
		l.say(t, "g1", "x")
		silent := theDraft()
		silent.Flags = group.ForbidAfter | group.ForbidBefore
		if o := l.Send(t.Context(), silent); o.Err != nil {
			t.Error(o.Err)
		}
		foreign := theDraft()
		foreign.From = "carol"
		if o := l.Send(t.Context(), foreign); o.Err == nil {
			t.Error("who is no account may send")
		}
		nowhere := theDraft()
		nowhere.Group = "g2"
		long := theDraft()
		long.Body = json.RawMessage(`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"` + strings.Repeat("x", 100<<10) + `"}}]`)
		odd := theDraft()
		odd.Invalid = group.Errorf(group.CodeTooManyMentions, "31 mentions")
		for d, code := range map[*hooks.Draft]int{nowhere: group.CodeNoGroup, long: group.CodeMessageTooLong, odd: group.CodeTooManyMentions} {
			if e, _ := errors.AsType[*group.Error](l.Send(t.Context(), d).Err); e == nil || e.Code != code {
				t.Errorf("Send = %v, want %d", e, code)
			}
		}
		err := l.Update(t.Context(), "g1", func(tx *hooks.Tx) error {
			from := told{From: hooks.Origin{IP: "192.0.2.9", Platform: "RESTAPI"}}
			tx.Callback("Group.CallbackAfterGroupFull", from)
			tx.Callback("Group.CallbackOnMemberStateChange", from)
			return tx.Tip(group.TipStored, struct{}{})
		})
		if err != nil {
			t.Error(err)
		}
		l.outbox.StateChanged(callback.StateChange{
			Account: "bob", Action: "Login", Reason: "Register", Platform: "iOS", IP: "192.0.2.1", At: time.Now(), Kicked: []string{"Web", "PC"},
		})
		l.outbox.OverLimit("openim", "querystate", 201, 200, hooks.Origin{IP: "192.0.2.9", Platform: "RESTAPI"})
		l.outbox.Pushed([]callback.PushEvent{
			{Time: 5, Stage: 1, From: "bob", To: "ann", Platform: 1, Group: "g1", Seq: 1, Random: 7, Sent: 4},
			{Time: 5, Stage: 3, From: "bob", To: "ann", Platform: 2, Group: "g1", Seq: 2, Random: 8, Sent: 4},
			{Time: 5, Stage: 2, From: "bob", To: "ann", Platform: 1, Group: "g1", Seq: 1, Random: 7, Sent: 4},
		})
		time.Sleep(time.Minute)
		l.stop()
		now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		var got []string
		for _, h := range a.heard() {
			got = append(got, h.Query+" "+h.Raw)
		}
		slices.Sort(got)
		prefix := func(name, ip, os string) string {
			return "CallbackCommand=" + name + "&ClientIP=" + ip + "&OptPlatform=" + os + "&SdkAppid=1400000001&contenttype=json "
		}
		const said = `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`
		exception := func(code int, info, from, id, body, kind string) string {
			return prefix("Group.CallbackSendMsgException", "192.0.2.7", "iOS") +
				fmt.Sprintf(`{"CallbackCommand":"Group.CallbackSendMsgException","CloudCustomData":"cd","ErrorCode":%d,"ErrorInfo":"%s","EventTime":%d,"From_Account":%q,`+
					`"GroupId":%q,"MsgBody":%s,"MsgPriority":"High","OnlineOnlyFlag":0,"Operator_Account":"bob","Random":7%s}`, code, info, now.UnixMilli(), from, id, body, kind)
		}
		want := []string{
			prefix("Group.CallbackAfterGroupFull", "192.0.2.9", "RESTAPI") +
				fmt.Sprintf(`{"CallbackCommand":"Group.CallbackAfterGroupFull","EventTime":%d,"GroupId":"g1","Type":"Public"}`, now.UnixMilli()),
			prefix("Group.CallbackAfterSendMsg", "192.0.2.7", "iOS") +
				fmt.Sprintf(`{"CallbackCommand":"Group.CallbackAfterSendMsg","CloudCustomData":"cd","EventTime":%d,"From_Account":"bob","GroupId":"g1",`+
					`"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"rewritten"}}],"MsgPriority":"High","MsgSeq":1,"MsgTime":%d,"OnlineOnlyFlag":0,`+
					`"Operator_Account":"bob","Random":7,"Type":"Public"}`, now.UnixMilli(), now.Unix()),
			exception(10010, `group \"g2\" does not exist`, "bob", "g2", said, ""),
			exception(10019, `account \"carol\" does not exist`, "carol", "g1", said, `,"Type":"Public"`),
			exception(10053, "31 mentions", "bob", "g1", said, `,"Type":"Public"`),
			exception(80002, `MsgBody has 102452 bytes, more than 11998`, "bob", "g1", "[]", `,"Type":"Public"`),
			prefix("Alert.RequestOverLimit", "192.0.2.9", "RESTAPI") +
				fmt.Sprintf(`{"CallbackCommand":"Alert.RequestOverLimit","Command":"querystate","EventTime":%d,"Limit":200,"Request":201,"ServiceName":"openim"}`, now.UnixMilli()),
			prefix("State.StateChange", "192.0.2.1", "IOS") +
				fmt.Sprintf(`{"CallbackCommand":"State.StateChange","EventTime":%d,"Info":{"Action":"Login","To_Account":"bob","Reason":"Register"},"KickedDevice":[{"Platform":"Web"},{"Platform":"Windows"}]}`, now.UnixMilli()),
			"CallbackCommand=Group.CallbackOnMemberStateChange&SdkAppid=1400000001&contenttype=json " +
				fmt.Sprintf(`{"CallbackCommand":"Group.CallbackOnMemberStateChange","EventTime":%d,"GroupId":"g1","Type":"Public"}`, now.UnixMilli()),
			"CallbackCommand=Push.OfflinePush&SdkAppid=1400000001&contenttype=json " +
				`{"Events":[{"CallbackCommand":"Push.OfflinePush","EventType":2,"EventTime":5,"From_Account":"bob","To_Account":"ann","PushPlatform":1,"PushStage":1,` +
				`"GroupID":"g1","MsgSeq":1,"MsgRandom":7,"MsgTime":4,"ErrCode":0,"ErrInfo":""},` +
				`{"CallbackCommand":"Push.OfflinePush","EventType":2,"EventTime":5,"From_Account":"bob","To_Account":"ann","PushPlatform":1,"PushStage":2,` +
				`"GroupID":"g1","MsgSeq":1,"MsgRandom":7,"MsgTime":4,"ErrCode":0,"ErrInfo":""}]}`,
			"CallbackCommand=Push.OfflinePush&SdkAppid=1400000001&contenttype=json " +
				`{"Events":[{"CallbackCommand":"Push.OfflinePush","EventType":2,"EventTime":5,"From_Account":"bob","To_Account":"ann","PushPlatform":2,"PushStage":3,` +
				`"GroupID":"g1","MsgSeq":2,"MsgRandom":8,"MsgTime":4,"ErrCode":0,"ErrInfo":""}]}`,
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A told is the body of a callback that says where its operation came from.
type told struct {
	From hooks.Origin `json:"-"`
}

func (b told) CallbackOrigin() hooks.Origin { return b.From }

// A rewriter changes every message.
type rewriter struct{}

func (rewriter) Due(*group.Group, *hooks.Draft) bool { return true }

func (rewriter) BeforeSend(context.Context, *group.Group, *hooks.Draft) hooks.Verdict {
	return hooks.Verdict{Body: json.RawMessage(`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"rewritten"}}]`)}
}

// TestARecordWithoutItsMessageIsNotSent: a store that can't write both at once may keep the
// record of an append that failed.
func TestARecordWithoutItsMessageIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := storagetest.NewMemory(), new(app)
		l := begin(t, store, a, callback.Config{Retry: true})
		l.found(t, store, "g1")
		l.stop()
		ghost := &storage.Callback{Command: "Group.CallbackAfterSendMsg", Body: json.RawMessage(`{"MsgSeq":1}`), Time: time.Now().UnixMilli(), Group: "g1", Incarnation: 1, Seq: 1, ID: group.MsgID{1}}
		if err := store.Apply(t.Context(), storage.Callbacks.Put(storage.Key("group", "g1", storage.Num(5)), ghost)); err != nil {
			t.Fatal(err)
		}
		l = begin(t, store, a, callback.Config{Retry: true})
		l.say(t, "g1", "x")
		time.Sleep(10 * time.Minute)
		l.stop()
		got := a.heard()
		if len(got) != 1 || got[0].Group != "g1" {
			t.Errorf("heard %v, want the message that is there alone", got)
		}
	})
}
