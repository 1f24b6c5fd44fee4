package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
)

// TestReachesEveryDevice: a group of several pages, with members who have no, one or several
// devices, of several provider apps.
func TestReachesEveryDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := android("huawei"), ios("apns")
		w := newWorld(t, memory(), Config{PageSize: 10, Sends: 3}, a, b)
		a.batch = 4
		members := names(47)
		w.addGroup(testGroup("g", group.Public), members...)
		wantA, wantB := map[string]int{}, map[string]int{}
		for i, m := range members {
			for n := range i % 3 {
				app, token := "huawei", fmt.Sprintf("h%d-%d", i, n)
				want := wantA
				if n == 1 {
					app, want = "com.example.apns", wantB
				}
				w.register(m.Account, "device"+strconv.Itoa(n), app, token)
				if i != 1 && i != 2 { // the sender, and one who is connected
					want[token] = 1
				}
			}
		}
		w.here.set(members[2].Account, "device0", "device1")
		defer w.run(w.d)()
		w.send(message("g", members[1].Account, "hello"))
		time.Sleep(time.Second)
		wantCounts(t, a, wantA)
		wantCounts(t, b, wantB)
		w.wantQueueEmpty()
		n := a.sent()[0].note
		if n.Title != "Team" || n.Text != "Ann: hello" || n.Group != "g" || n.Seq != 1 || n.MessageID == "" || n.CollapseKey != "" {
			t.Errorf("the notification is %+v", n)
		}
	})
}

// TestDirected looks only at who is named.
func TestDirected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		w := newWorld(t, memory(), Config{}, v)
		w.addGroup(testGroup("g", group.Public), names(5)...)
		for i, m := range names(7) {
			w.register(m.Account, "phone", "v", "t"+strconv.Itoa(i))
		}
		defer w.run(w.d)()
		m := message("g", "user000000", "psst")
		m.To = []group.Account{"user000003", "user000006"} // the second one is no member
		w.send(m)
		time.Sleep(time.Second)
		wantCounts(t, v, each("t3"))
		w.wantQueueEmpty()
	})
}

func TestRecalledBeforeItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		w := newWorld(t, memory(), Config{}, v)
		w.addGroup(testGroup("g", group.Public), names(2)...)
		w.register("user000001", "phone", "v", "t1")
		m := w.send(message("g", "user000000", "oops"))
		if err := w.store.Replace(t.Context(), m.Key(), []*group.Message{m.Tombstone(group.Recalled, m.From, "")}); err != nil {
			t.Fatal(err)
		}
		defer w.run(w.d)()
		time.Sleep(time.Second)
		wantCounts(t, v, nil)
		w.wantQueueEmpty()
	})
}

// TestRetries: what may be tried again is, with growing pauses, and only where it failed.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		tries := map[string]int{}
		var mu sync.Mutex
		v.answer = func(_ context.Context, _ *push.Notification, token string) push.Result {
			mu.Lock()
			defer mu.Unlock()
			tries[token]++
			if token == "t1" && tries[token] < 4 {
				return push.Result{Outcome: push.Retryable, AsOf: time.Now()}
			}
			return push.Result{Outcome: push.Accepted}
		}
		w := newWorld(t, memory(), Config{Backoff: push.Backoff{Rand: func() float64 { return 0.999 }}}, v)
		w.addGroup(testGroup("g", group.Public), names(4)...)
		for i, m := range names(4) {
			w.register(m.Account, "phone", "v", "t"+strconv.Itoa(i))
		}
		defer w.run(w.d)()
		w.send(message("g", "user000000", "hello"))
		time.Sleep(time.Minute)
		wantCounts(t, v, map[string]int{"t1": 4, "t2": 1, "t3": 1})
		var waits []time.Duration
		for i := range v.sent()[1:] {
			waits = append(waits, v.sent()[i+1].at.Sub(v.sent()[i].at).Round(time.Second))
		}
		if want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}; !slices.Equal(waits, want) {
			t.Errorf("waits %v, want %v", waits, want)
		}
		w.wantQueueEmpty()
	})
}

// TestDeadline: a vendor that wants a pause is not asked before it is over, and what is older
// than the deadline by then is dropped.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		pause := time.Minute
		v.answer = func(_ context.Context, n *push.Notification, _ string) push.Result {
			if n.Text == "Ann: first" && len(v.texts()) == 1 {
				return push.Result{Outcome: push.Throttled, RetryAfter: pause}
			}
			if n.Text == "Ann: third" {
				return push.Result{Outcome: push.AuthRejected}
			}
			return push.Result{Outcome: push.Accepted}
		}
		w := newWorld(t, memory(), Config{}, v)
		w.addGroup(testGroup("g", group.Public), names(2)...)
		w.register("user000001", "phone", "v", "t1")
		defer w.run(w.d)()
		w.send(message("g", "user000000", "first"))
		time.Sleep(time.Second)
		w.send(message("g", "user000000", "second"))
		time.Sleep(50 * time.Second)
		wantTexts(t, v, "Ann: first")
		time.Sleep(20 * time.Second)
		got := v.texts()
		slices.Sort(got) // after the pause both are sent at once
		if want := []string{"Ann: first", "Ann: first", "Ann: second"}; !slices.Equal(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
		w.send(message("g", "user000000", "third"))
		time.Sleep(11 * time.Minute)
		if n := len(v.texts()); n < 5 || n > 12 {
			t.Errorf("credentials that are refused were tried %d times in ten minutes", n-3)
		}
		w.wantQueueEmpty()
	})
}

// TestDeadVendor: a vendor that never answers delays nobody but itself.
func TestDeadVendor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead, good := android("dead"), android("good")
		dead.answer = func(ctx context.Context, _ *push.Notification, _ string) push.Result {
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
			}
			return push.Result{Outcome: push.Retryable, Err: errors.New("timeout")}
		}
		dead.batch = 1
		w := newWorld(t, memory(), Config{PageSize: 50, Sends: 4}, dead, good)
		members := names(500)
		w.addGroup(testGroup("g", group.Public), members...)
		for _, m := range members {
			w.register(m.Account, "old", "dead", "d-"+string(m.Account))
			w.register(m.Account, "new", "good", "g-"+string(m.Account))
		}
		stop := w.run(w.d)
		start := time.Now()
		w.send(message("g", "ann", "hello"))
		time.Sleep(time.Second)
		if n := len(good.counts()); n != 500 {
			t.Errorf("%d of 500 devices of the good vendor were reached", n)
		}
		for _, c := range good.sent() {
			if took := c.at.Sub(start); took > 0 {
				t.Errorf("a push was delayed by %v", took)
			}
		}
		time.Sleep(12 * time.Minute)
		w.wantQueueEmpty()
		stop()
	})
}

// TestRefusedAsBuilt: a payload that the vendor refuses is one bug, however many devices it was
// for, and is logged once; refused credentials are an error, which an alarm can be set on.
func TestRefusedAsBuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		v.batch = 10
		v.answer = func(_ context.Context, n *push.Notification, _ string) push.Result {
			if strings.Contains(n.Text, "secret") {
				return push.Result{Outcome: push.AuthRejected, Code: "21301"}
			}
			return push.Result{Outcome: push.PayloadRejected, Code: "80300008"}
		}
		w := newWorld(t, memory(), Config{}, v)
		members := names(50)
		w.addGroup(testGroup("g", group.Public), members...)
		for _, m := range members {
			w.register(m.Account, "phone", "v", "t-"+string(m.Account))
		}
		stop := w.run(w.d)
		for _, text := range []string{"one", "two", "secret"} {
			w.send(message("g", "ann", text))
			time.Sleep(2 * time.Second)
		}
		stop()
		log := w.logs.String()
		if n := strings.Count(log, "push refused as it was built"); n != 2 || !strings.Contains(log, "code=80300008") {
			t.Errorf("refusals of two messages were logged %d times:\n%s", n, log)
		}
		if !strings.Contains(log, `level=ERROR msg="push provider paused" provider=v reason=auth code=21301`) {
			t.Errorf("nobody is told that the credentials were refused:\n%s", log)
		}
	})
}

// TestCollapse: of a busy group the first messages are pushed by themselves, then the newest
// once in an interval; mentions always.
func TestCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		w := newWorld(t, memory(), Config{CollapseAfter: 3}, v)
		w.addGroup(testGroup("g", group.Public), names(2)...)
		w.addGroup(testGroup("calm", group.Public), names(2)...)
		w.register("user000001", "phone", "v", "t1")
		defer w.run(w.d)()
		for i := range 24 { // two a second
			m := message("g", "user000000", strconv.Itoa(i))
			if i == 8 {
				m.Mentions = []group.Mention{{Account: "user000001"}}
			}
			w.send(m)
			if i == 10 {
				w.send(message("calm", "user000000", "calm"))
			}
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		texts := v.texts()
		if want := []string{"Ann: 0", "Ann: 1", "Ann: 2", "Ann: 8", "Ann: calm"}; !slices.Equal(texts[:5], want) {
			t.Errorf("sent %q, want it to begin with %q", texts, want)
		}
		if len(texts) != 7 || texts[6] != "Ann: 23" {
			t.Errorf("sent %q, want two more, the last of them the newest", texts)
		}
		for i, c := range v.sent() {
			if want := i >= 5; (c.note.CollapseKey == "g") != want {
				t.Errorf("%q: collapse key %q", c.note.Text, c.note.CollapseKey)
			}
		}
		w.wantQueueEmpty()
	})
}

// TestOverflow: a full queue drops the oldest that are not of High messages.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		var open atomic.Bool
		v.answer = func(context.Context, *push.Notification, string) push.Result {
			if !open.Load() {
				return push.Result{Outcome: push.Throttled, RetryAfter: 2 * time.Minute}
			}
			return push.Result{Outcome: push.Accepted}
		}
		w := newWorld(t, memory(), Config{QueueEntries: 100, CollapseAfter: -1}, v)
		members := names(21) // twenty devices a message
		w.addGroup(testGroup("g", group.Public), members...)
		for i, m := range members {
			w.register(m.Account, "phone", "v", "t"+strconv.Itoa(i))
		}
		defer w.run(w.d)()
		for i := range 8 {
			m := message("g", "user000000", strconv.Itoa(i))
			if i == 1 {
				m.Priority = group.High
			}
			w.send(m)
			time.Sleep(2 * time.Second)
			if n := w.d.queued.Load(); n > 100 {
				t.Errorf("%d in a queue for 100", n)
			}
		}
		open.Store(true)
		time.Sleep(5 * time.Minute)
		var got []string
		for text := range v.done() {
			got = append(got, text)
		}
		slices.Sort(got)
		if want := []string{"Ann: 1", "Ann: 5", "Ann: 6", "Ann: 7"}; !slices.Equal(got, want) {
			t.Errorf("pushed %q, want %q", got, want)
		}
		w.wantQueueEmpty()
	})
}

// done returns the texts that reached twenty devices after the vendor had opened.
func (v *vendor) done() map[string]bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[string]bool)
	for _, c := range v.calls[1:] { // the first was throttled
		if len(c.tokens) == 20 {
			out[c.note.Text] = true
		}
	}
	return out
}

// TestDeadTokens: a token that the vendor calls dead goes, unless the phone registered since.
func TestDeadTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		var w *world
		v.answer = func(_ context.Context, _ *push.Notification, token string) push.Result {
			asOf := time.Now()
			if token == "again" {
				time.Sleep(time.Millisecond)
				w.register("user000002", "phone", "v", "again")
			}
			return push.Result{Outcome: push.TokenInvalid, AsOf: asOf}
		}
		w = newWorld(t, memory(), Config{}, v)
		w.addGroup(testGroup("g", group.Public), names(3)...)
		w.register("user000001", "phone", "v", "dead")
		w.register("user000001", "tablet", "v", "dead2")
		w.register("user000002", "phone", "v", "again")
		time.Sleep(time.Second)
		defer w.run(w.d)()
		w.send(message("g", "user000000", "hello"))
		time.Sleep(time.Second)
		if n := w.rows(storage.PushUsers.Name); n != 1 {
			t.Errorf("%d users have devices, want 1", n)
		}
		if n := w.rows(storage.PushOwners.Name); n != 1 {
			t.Errorf("%d tokens have owners, want 1", n)
		}
		w.wantQueueEmpty()
	})
}

// TestMassRemoval: when nearly all tokens look dead, they stay.
func TestMassRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		v.answer = func(context.Context, *push.Notification, string) push.Result {
			return push.Result{Outcome: push.TokenForeign, AsOf: time.Now()}
		}
		w := newWorld(t, memory(), Config{}, v)
		members := names(200)
		w.addGroup(testGroup("g", group.Public), members...)
		for _, m := range members {
			w.register(m.Account, "phone", "v", "t-"+string(m.Account))
		}
		time.Sleep(time.Second)
		defer w.run(w.d)()
		w.send(message("g", "ann", "hello"))
		time.Sleep(time.Second)
		if n := w.rows(storage.PushUsers.Name); n != 200 {
			t.Errorf("%d of 200 users kept their token", n)
		}
	})
}

// TestBadges: the number of unread messages over all groups goes with an APNs push.
func TestBadges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, a := ios("ios"), android("android")
		w := newWorld(t, memory(), Config{CollapseAfter: -1}, v, a)
		w.addGroup(testGroup("g", group.Public), names(2)...)
		w.addGroup(testGroup("other", group.Public), names(2)...)
		w.register("user000001", "phone", "ios", "t1")
		w.register("user000001", "old", "android", "t2")
		for range 4 {
			w.send(message("other", "user000000", "unread"))
		}
		w.apply(storage.PushJobs.DeletePrefix("")) // about g alone
		w.d = w.dispatcher(w.cfg)
		defer w.run(w.d)()
		w.send(message("g", "user000000", "one"))
		time.Sleep(3 * time.Second)
		m := message("g", "user000000", "quiet")
		m.OfflinePush = json.RawMessage(`{"ApnsInfo":{"BadgeMode":1}}`)
		w.send(m)
		time.Sleep(3 * time.Second)
		if err := w.d.SetBadge(t.Context(), "user000001", "phone", new(1), nil); err != nil {
			t.Fatal(err)
		}
		w.send(message("g", "user000000", "three"))
		time.Sleep(3 * time.Second)
		if _, err := w.d.Explain(t.Context(), Trial{Account: "user000001", Group: "g", Send: true}); err != nil {
			t.Error(err)
		}
		var got []int
		for _, c := range v.sent() {
			got = append(got, c.badges...)
		}
		if want := []int{5, -1, 2, 3}; !slices.Equal(got, want) {
			t.Errorf("badges %v, want %v", got, want)
		}
		if a.sent()[0].badges[0] != -1 {
			t.Error("a vendor without badges was given one")
		}
	})
}

// A poisoned vendor fails for all devices of a call that one of them is in.
type poisoned struct {
	*vendor
	token string
	calls atomic.Int64
}

func (p *poisoned) Send(ctx context.Context, n *push.Notification, devices []push.Device) []push.Result {
	p.calls.Add(1)
	if slices.ContainsFunc(devices, func(d push.Device) bool { return d.Token.Reveal() == p.token }) {
		return slices.Repeat([]push.Result{{Outcome: push.Retryable, Code: "502"}}, len(devices))
	}
	return p.vendor.Send(ctx, n, devices)
}

// TestPoisonedBatch: a device over which the vendor fails costs the others of its call a few
// tries, and not their push.
func TestPoisonedBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &poisoned{vendor: android("v"), token: "t-user000333"}
		v.batch = 1000
		w := newWorld(t, memory(), Config{}, v)
		members := names(1000)
		w.addGroup(testGroup("g", group.Public), members...)
		for _, m := range members {
			w.register(m.Account, "phone", "v", "t-"+string(m.Account))
		}
		defer w.run(w.d)()
		w.send(message("g", "ann", "hello"))
		time.Sleep(5 * time.Minute)
		got := v.counts()
		if len(got) != 999 || got[v.token] != 0 {
			t.Errorf("%d devices were reached, want 999", len(got))
		}
		if n := v.calls.Load(); n > 2+4+16+16+1 {
			t.Errorf("it took %d calls", n)
		}
		w.wantQueueEmpty()
	})
}

// A mortal is a store whose process dies at the n-th write: that one and later ones fail.
type mortal struct {
	storage.Store
	mu    sync.Mutex
	after int
	wrote bool // the write that failed happened all the same
	dead  bool
	died  chan struct{}
}

func (s *mortal) Apply(ctx context.Context, muts ...storage.Mutation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return storage.ErrUnavailable
	}
	if s.after--; s.after < 0 {
		s.dead = true
		close(s.died)
		if s.wrote {
			_ = s.Store.Apply(ctx, muts...)
		}
		return storage.ErrUnavailable
	}
	return s.Store.Apply(ctx, muts...)
}

// TestRestart kills the worker at each of its writes and goes on with another one: no device
// is missed, and one is pushed to twice only if its call was under way.
func TestRestart(t *testing.T) {
	for _, wrote := range []bool{false, true} {
		for after := 0; ; after++ {
			fired := false
			synctest.Test(t, func(t *testing.T) { fired = restart(t, after, wrote) })
			if !fired {
				if after < 10 {
					t.Errorf("only %d writes: the test kills nothing", after)
				}
				break
			}
			if t.Failed() {
				t.Fatalf("killed at write %d, which happened: %v", after, wrote)
			}
		}
	}
}

func restart(t *testing.T, after int, wrote bool) (fired bool) {
	store := memory()
	v, u := android("v"), android("u")
	v.batch, u.batch = 4, 7
	slow := func(context.Context, *push.Notification, string) push.Result {
		time.Sleep(time.Millisecond)
		return push.Result{Outcome: push.Accepted}
	}
	v.answer, u.answer = slow, slow
	cfg := Config{PageSize: 10, Sends: 2, Grace: time.Millisecond}
	w := newWorld(t, store, cfg, v, u)
	members := names(40)
	w.addGroup(testGroup("g", group.Public), members...)
	for _, m := range members {
		w.register(m.Account, "phone", "v", "v-"+string(m.Account))
		w.register(m.Account, "tablet", "u", "u-"+string(m.Account))
	}
	w.send(message("g", "ann", "hello"))

	dying := &mortal{Store: store, after: after, wrote: wrote, died: make(chan struct{})}
	w.store = dying
	stop := w.run(w.dispatcher(w.cfg))
	select {
	case <-dying.died:
		fired = true
	case <-time.After(10 * time.Second):
	}
	stop()
	pending := make(map[string]bool) // what a worker that starts again has to send
	for row, err := range storage.PushTasks.Scan(t.Context(), store, storage.Span{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range row.Value.Targets {
			name := "v-"
			if to.Device == "tablet" {
				name = "u-"
			}
			pending[name+string(to.Account)] = true
		}
	}
	w.store = store
	w.d = w.dispatcher(w.cfg)
	defer w.run(w.d)()
	time.Sleep(10 * time.Second)
	for _, p := range []*vendor{v, u} {
		counts := p.counts()
		if len(counts) != 40 {
			t.Errorf("%d of 40 devices of %s were reached", len(counts), p.name)
		}
		for token, n := range counts {
			if n > 2 || n == 2 && !pending[token] {
				t.Errorf("%s was pushed to %d times; its end was recorded: %v", token, n, !pending[token])
			}
		}
	}
	w.wantQueueEmpty()
	return fired
}

// TestSlowAnswerAtDeath: the process dies while one device of a task waits for its answer. The
// others have been answered before; they are not pushed to again.
func TestSlowAnswerAtDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory()
		v := ios("v")
		slow := true
		v.answer = func(ctx context.Context, _ *push.Notification, token string) push.Result {
			switch {
			case token == "t-user000002":
				return push.Result{Outcome: push.Retryable}
			case token == "t-user000009" && slow:
				slow = false
				<-ctx.Done()
			}
			return push.Result{Outcome: push.Accepted}
		}
		dying := &mortal{Store: store, after: 1 << 30, died: make(chan struct{})}
		w := newWorld(t, dying, Config{Grace: time.Millisecond}, v)
		members := names(10)
		w.addGroup(testGroup("g", group.Public), members...)
		for _, m := range members {
			w.register(m.Account, "phone", "v", "t-"+string(m.Account))
		}
		stop := w.run(w.d)
		w.send(message("g", "ann", "hello"))
		time.Sleep(time.Second)
		dying.mu.Lock()
		dying.dead = true
		dying.mu.Unlock()
		stop()

		w.store = store
		w.d = w.dispatcher(w.cfg)
		defer w.run(w.d)()
		time.Sleep(time.Second)
		want := each("t-user000000", "t-user000001", "t-user000003", "t-user000004", "t-user000005", "t-user000006", "t-user000007", "t-user000008")
		want["t-user000002"], want["t-user000009"] = 2, 2 // was to be tried again; had no answer
		got := v.counts()
		got["t-user000002"] = min(got["t-user000002"], 2)
		if !maps.Equal(got, want) {
			t.Errorf("pushed to %v, want %v", got, want)
		}
	})
}

// TestStoreStallsBeforeDeath: while no end can be recorded, no more is sent than may be pushed to
// twice.
func TestStoreStallsBeforeDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := android("v")
		v.batch = 1
		dying := &mortal{Store: memory(), after: 1 << 30, died: make(chan struct{})}
		v.answer = func(context.Context, *push.Notification, string) push.Result {
			dying.mu.Lock()
			defer dying.mu.Unlock()
			dying.dead = true
			return push.Result{Outcome: push.Accepted}
		}
		w := newWorld(t, dying, Config{Grace: time.Millisecond, Devices: 10}, v)
		members := names(100)
		w.addGroup(testGroup("g", group.Public), members...)
		for _, m := range members {
			w.register(m.Account, "phone", "v", "t-"+string(m.Account))
		}
		stop := w.run(w.d)
		w.send(message("g", "ann", "hello"))
		time.Sleep(time.Minute)
		stop()
		if n := len(v.counts()); n != 10 {
			t.Errorf("%d devices were pushed to, want 10", n)
		}
	})
}

// A slipping store writes a message right after somebody has looked for it in vain.
type slipping struct {
	storage.Store
	slip func() // nil: it has happened
}

func (s *slipping) Range(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return func(yield func(*group.Message, error) bool) {
		if slip := s.slip; slip != nil {
			s.slip = nil
			slip()
			return
		}
		s.Store.Range(ctx, key, from, to)(yield)
	}
}

// TestMessageComesAfterItsJob: a store that can't write both at once writes the job first. The
// message comes while the worker looks for it, or some time later.
func TestMessageComesAfterItsJob(t *testing.T) {
	for _, later := range []time.Duration{0, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			v := android("v")
			store := &slipping{Store: memory()}
			w := newWorld(t, store, Config{}, v)
			w.addGroup(testGroup("g", group.Public), names(2)...)
			w.register("user000001", "phone", "v", "t1")
			m := message("g", "user000000", "hello")
			m.Seq, m.Time, m.Expires, m.ID = 1, time.Now().Unix(), time.Now().Unix()+1<<20, group.MsgID{0: 1, 15: 1}
			job, _ := w.d.Job(testGroup("g", group.Public), m)
			w.apply(job)
			send := func() {
				if err := store.Append(t.Context(), &storage.Batch{Key: m.Key(), Epoch: 1, Messages: []*group.Message{m}}); err != nil {
					t.Error(err)
				}
			}
			if later == 0 {
				store.slip = send
			}
			defer w.run(w.d)()
			time.Sleep(later)
			if later > 0 {
				send()
			}
			time.Sleep(5 * time.Second)
			wantTexts(t, v, "Ann: hello")
			w.wantQueueEmpty()
		})
	}
}

// TestSharedQueue: two workers share a queue, and one takes over what the other leaves.
func TestSharedQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := android("v"), android("v")
		w := newWorld(t, memory(), Config{Name: "a", Lease: 20 * time.Second}, a)
		second := w.cfg
		second.Name, second.Apps = "b", []App{{Provider: b}}
		other := w.dispatcher(second)
		for i := range 64 {
			w.addGroup(testGroup(group.ID("g"+strconv.Itoa(i)), group.Public), names(2)...)
		}
		w.register("user000001", "phone", "v", "t1")
		stopA, stopB := w.run(w.d), w.run(other)
		time.Sleep(30 * time.Second)
		if x, y := heldBy(w.d), heldBy(other); x != partitions/2 || y != partitions/2 {
			t.Errorf("the workers hold %d and %d partitions, want %d each", x, y, partitions/2)
		}
		round := func(name string) {
			t.Helper()
			for i := range 64 {
				w.send(message(group.ID("g"+strconv.Itoa(i)), "user000000", name+strconv.Itoa(i)))
			}
			time.Sleep(5 * time.Second)
		}
		round("both ")
		if len(a.texts()) == 0 || len(b.texts()) == 0 {
			t.Errorf("%d and %d messages: one worker has nothing to do", len(a.texts()), len(b.texts()))
		}
		stopA() // gives its leases up
		time.Sleep(30 * time.Second)
		round("b alone ")
		stopB()
		got := append(a.texts(), b.texts()...)
		slices.Sort(got)
		if len(got) != 128 || len(slices.Compact(got)) != 128 {
			t.Errorf("%d messages were pushed, want 128 different ones", len(got))
		}
		w.d = w.dispatcher(w.cfg)
		w.wantQueueEmpty()
	})
}

// TestLeaseEnds: the partitions of a worker that went silent are taken over.
func TestLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory()
		a, b := android("v"), android("v")
		w := newWorld(t, store, Config{Name: "a", Lease: 20 * time.Second, Grace: time.Millisecond}, a)
		w.addGroup(testGroup("g", group.Public), names(2)...)
		w.register("user000001", "phone", "v", "t1")
		dying := &mortal{Store: store, after: 1000, died: make(chan struct{})}
		w.store = dying
		stopA := w.run(w.dispatcher(w.cfg))
		time.Sleep(7 * time.Second)
		dying.mu.Lock()
		dying.dead = true
		dying.mu.Unlock()
		w.store = store
		w.send(message("g", "user000000", "hello"))
		second := w.cfg
		second.Name, second.Apps = "b", []App{{Provider: b}}
		w.d = w.dispatcher(second)
		stopB := w.run(w.d)
		time.Sleep(10 * time.Second)
		if n := len(b.texts()); n != 0 {
			t.Errorf("%d pushes before the lease of the other worker ended", n)
		}
		time.Sleep(30 * time.Second)
		wantTexts(t, b, "Ann: hello")
		stopA()
		stopB()
	})
}

func heldBy(d *Dispatcher) int {
	n := 0
	for _, p := range d.parts {
		if p.held() {
			n++
		}
	}
	return n
}

// TestTokens: registrations, and how a token goes from one account to another.
func TestTokens(t *testing.T) {
	v, u := android("v"), ios("u")
	w := newWorld(t, memory(), Config{DevicesPerUser: 3}, v, u, ios("sandbox"))
	ctx := t.Context()
	tokens := func(a group.Account) []string {
		t.Helper()
		got, err := w.d.User(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, d := range got.Devices {
			out = append(out, d.Device+"="+d.Token)
		}
		return out
	}
	want := func(a group.Account, want ...string) {
		t.Helper()
		if got := tokens(a); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", a, got, want)
		}
	}
	w.register("ann", "phone", "v", "t1")
	w.register("ann", "pad", "u", "t2")
	want("ann", "phone=t1", "pad=t2")
	w.register("ann", "phone", "v", "t3") // a new token for the same device
	want("ann", "pad=t2", "phone=t3")
	w.register("bob", "his", "v", "t3") // the phone was sold
	want("ann", "pad=t2")
	want("bob", "his=t3")
	w.register("bob", "new", "v", "t3") // the app was installed anew
	want("bob", "new=t3")
	w.register("eve", "her", "sandbox", "t2") // one vendor's token, under another of its apps
	want("ann")
	want("eve", "her=t2")
	w.register("eve", "her", "u", "t2")
	for i := range 4 {
		w.register("carol", "d"+strconv.Itoa(i), "v", "c"+strconv.Itoa(i))
	}
	want("carol", "d1=c1", "d2=c2", "d3=c3")
	if err := w.d.DeleteToken(ctx, "carol", "d2"); err != nil {
		t.Fatal(err)
	}
	if err := w.d.DeleteToken(ctx, "carol", "never"); err != nil {
		t.Fatal(err)
	}
	want("carol", "d1=c1", "d3=c3")
	if n := w.rows(storage.PushOwners.Name); n != 4 { // t2, t3, c1, c3
		t.Errorf("%d tokens have owners, want 4", n)
	}
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		r    Registration
		code int
	}{
		{Registration{Device: "", App: "v", Token: "t"}, 90001},
		{Registration{Device: "d", App: "v"}, 22003},
		{Registration{Device: "d", App: "none", Token: "t"}, 22001},
		{Registration{Device: "d", Token: "t"}, 22001},
		{Registration{Device: "d", App: "v", Vendor: "apns", Token: "t"}, 22001},
		{Registration{Device: "d", Vendor: "apns", Token: "t"}, 22001}, // which of the two?
		{Registration{Device: "d", App: "v", Token: "a b"}, 22003},
		{Registration{Device: "d", App: "v", Token: long + "x"}, 22004},
		{Registration{Device: "d", App: "u", Token: "t", VoIPToken: long + "x"}, 22004},
	} {
		err := w.d.SetToken(ctx, "dan", c.r)
		if e, ok := errors.AsType[*group.Error](err); !ok || e.Code != c.code {
			t.Errorf("SetToken(%+v) = %v, want code %d", c.r, err, c.code)
		}
	}
	want("dan")
	if err := w.d.SetToken(ctx, "dan", Registration{Device: "d", Vendor: "Huawei", Token: long}); err != nil {
		t.Errorf("a vendor's only provider app must not be named: %v", err)
	}
}

// TestTokenRaces: whoever registers a token last has it, and nobody else.
func TestTokenRaces(t *testing.T) {
	v := android("v")
	w := newWorld(t, memory(), Config{}, v)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				if err := w.d.SetToken(t.Context(), group.Account("u"+strconv.Itoa(i)), Registration{Device: "d", App: "v", Token: "one"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := w.rows(storage.PushUsers.Name); n != 1 {
		t.Errorf("%d accounts have the token", n)
	}
}

// A counting store counts the reads.
type counting struct {
	storage.Store
	mu    sync.Mutex
	reads map[string]int
}

func (s *counting) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads[what]++
}

func (s *counting) GetMany(ctx context.Context, table string, keys []string) ([][]byte, error) {
	s.count("GetMany")
	return s.Store.GetMany(ctx, table, keys)
}

func (s *counting) Get(ctx context.Context, table, key string) ([]byte, error) {
	s.count("Get")
	return s.Store.Get(ctx, table, key)
}

func (s *counting) Heads(ctx context.Context, keys []group.Key) ([]storage.Head, error) {
	s.count("Heads")
	return s.Store.Heads(ctx, keys)
}

func TestUnread(t *testing.T) {
	store := &counting{Store: memory(), reads: make(map[string]int)}
	w := newWorld(t, store, Config{}, android("v"))
	for i := range 30 {
		id := group.ID("g" + strconv.Itoa(i))
		w.addGroup(testGroup(id, group.Public), &group.Member{Account: "ann"}, &group.Member{Account: "bob", JoinSeq: 1})
		w.send(message(id, "carol", "1"))
		w.send(message(id, "carol", "2"))
	}
	meeting := testGroup("m", group.Meeting)
	w.addGroup(meeting, &group.Member{Account: "ann"})
	w.send(message("m", "carol", "not counted"))
	key := func(id group.ID) group.Key { return group.Key{ID: id, Incarnation: 1} }
	w.apply(storage.Reads.Put(storage.MemberKey(key("g0"), "ann"), &storage.ReadMark{Seq: 1}),
		storage.Sends.Put(storage.MemberKey(key("g1"), "ann"), &storage.SendMark{Seq: 2}),
		storage.Reads.Put(storage.MemberKey(key("g0"), "bob"), &storage.ReadMark{Seq: 0, SentBefore: 2}), // set by hand
		storage.Members.Delete(storage.MemberKey(key("g2"), "ann")))                                      // left
	var tips *storage.UncountedSet
	w.apply(storage.Uncounted.Put(storage.GroupRecordKey(key("g4")), tips.With(2))) // a tip, or NoUnread
	gone := testGroup("g3", group.Public)
	gone.Incarnation = 2 // destroyed, and made anew
	w.apply(storage.Groups.Put(storage.GroupKey("g3"), gone))
	clear(store.reads)
	got, err := Unread(t.Context(), store, []group.Account{"ann", "nobody", "bob"})
	if want := []int{60 - 1 - 2 - 2 - 2 - 1, 0, 29 + 1 - 1}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Unread = %v, %v; want %v", got, err, want)
	}
	if want := map[string]int{"GetMany": 5, "Heads": 1}; !maps.Equal(store.reads, want) {
		t.Errorf("it took the reads %v, want %v", store.reads, want)
	}
}
