package dispatch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
)

// TestRefillMeetsTheEndOfATask: a task that ends while the store is read must not come back
// from what was read before its end.
func TestRefillMeetsTheEndOfATask(t *testing.T) {
	w := newWorld(t, memory(), Config{}, android("v"))
	l, p := w.d.byName["v"], w.d.parts[0]
	row := &storage.PushTask{Group: "g", Targets: []storage.PushTarget{{Account: "a", Device: "d"}}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add("key", p, row)
	l.gone = make(map[string]bool) // as refill does before it reads
	l.drop(l.tasks["key"])
	if l.add("key", p, row); l.tasks["key"] != nil {
		t.Error("a task that has ended is sent again")
	}
	l.gone = nil
	l.coming["other"] = true // as a page that is being written has it
	if l.add("other", p, row); l.tasks["other"] != nil {
		t.Error("a task is sent from the store and then once more when it is offered")
	}
	if l.targets != 0 || len(l.ready) != 0 {
		t.Errorf("%d devices and %d tasks are counted, want none", l.targets, len(l.ready))
	}
}

// TestWindow: tasks that find no room in memory are sent from the store later.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		v.batch = 1
		w := newWorld(t, memory(), Config{Sends: 16, Devices: 16, PageSize: 100}, v)
		w.d.byName["v"].window = 64
		v.answer = func(context.Context, *push.Notification, string) push.Result {
			time.Sleep(10 * time.Millisecond)
			return push.Result{Outcome: push.Accepted}
		}
		const size = 500
		members := names(size)
		w.addGroup(testGroup("g", group.Public), members...)
		for _, m := range members {
			w.register(m.Account, "phone", "v", "t-"+string(m.Account))
		}
		defer w.run(w.d)()
		w.send(message("g", "ann", "hello"))
		time.Sleep(time.Minute)
		counts := v.counts()
		twice := 0
		for _, n := range counts {
			twice += n - 1
		}
		if len(counts) != size || twice != 0 {
			t.Errorf("%d of %d devices were reached, %d of them twice", len(counts), size, twice)
		}
		w.wantQueueEmpty()
	})
}

// TestTriesAreKept: a restart does not begin the tries anew.
func TestTriesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		v.answer = func(context.Context, *push.Notification, string) push.Result {
			return push.Result{Outcome: push.Retryable, AsOf: time.Now()}
		}
		w := newWorld(t, memory(), Config{Gate: push.GateConfig{Failures: 1000}, Backoff: push.Backoff{Attempts: 4}}, v)
		w.addGroup(testGroup("g", group.Public), names(2)...)
		w.register("user000001", "phone", "v", "t1")
		w.send(message("g", "user000000", "hello"))
		for range 8 { // each life is long enough for one try or two
			w.d = w.dispatcher(w.cfg)
			stop := w.run(w.d)
			time.Sleep(500 * time.Millisecond)
			stop()
		}
		w.d = w.dispatcher(w.cfg)
		stop := w.run(w.d)
		time.Sleep(time.Minute)
		stop()
		if n := len(v.texts()); n != 4 {
			t.Errorf("%d tries, want 4", n)
		}
		w.wantQueueEmpty()
	})
}

// TestNothingLeaks has every outcome logged at the lowest level, and looks for tokens in logs,
// metrics and reports.
func TestNothingLeaks(t *testing.T) {
	const mark = "NOBODYMAYSEETHIS"
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		v := ios("v")
		next := push.Outcome(1)
		v.answer = func(context.Context, *push.Notification, string) push.Result {
			defer func() { next++ }()
			return push.Result{Outcome: next, Code: "code", AsOf: time.Now().Add(time.Hour), Err: fmt.Errorf("refused")}
		}
		v.batch = 1
		w := newWorld(t, memory(), Config{Sends: 1, CollapseAfter: -1}, v)
		members := names(14)
		w.addGroup(testGroup("g", group.Public), members...)
		for _, m := range members {
			if err := w.d.SetToken(t.Context(), m.Account, Registration{Device: "phone", App: "v", Token: mark + string(m.Account), VoIPToken: mark}); err != nil {
				t.Fatal(err)
			}
		}
		stop := w.run(w.d)
		for range 20 {
			w.send(message("g", "ann", mark+" is a body"))
			time.Sleep(time.Minute)
		}
		report, err := w.d.Explain(t.Context(), Trial{Account: members[13].Account, Group: "g", Text: "text", Send: true})
		if err != nil {
			t.Fatal(err)
		}
		js, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		stop()
		reg := prometheus.NewRegistry()
		reg.MustRegister(w.d)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.d.SetToken(t.Context(), "ann", Registration{Device: "d", App: "none", Token: mark}); err != nil {
			out.WriteString(err.Error())
		}
		user, err := w.d.User(t.Context(), members[13].Account)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\n%s\n%v\n%v", w.logs, js, families, len(user.Devices))
	})
	for _, want := range []string{"push provider paused", "dead push token removed", "rookery_push_sends_total", `"TokenFingerprint"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q was not written: the test shows less than it should", want)
		}
	}
	if at := strings.Index(out.String(), mark); at >= 0 {
		t.Errorf("a token or a body shows: …%s…", out.String()[max(at-200, 0):min(at+100, out.Len())])
	}
}
