package hooks_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func fixed(l hooks.Limits) func(*group.Group) hooks.Limits {
	return func(*group.Group) hooks.Limits { return l }
}

func (b *bench) mute(a group.Account, until int64) {
	b.t.Helper()
	if err := b.Update(b.t.Context(), "g1", func(tx *hooks.Tx) error { tx.SetMute(a, until); return nil }); err != nil {
		b.t.Fatal(err)
	}
}

// TestFlowThroughThePipeline sends at random for a minute, over a store that takes its time,
// and looks at what is stored.
func TestFlowThroughThePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 40
		b := newBench(t, hooks.Config{Limits: fixed(hooks.Limits{PerSecond: n, PerPriority: [4]int{0, 0, 30, 10}}), DuplicateEntries: 1 << 20, LaneLen: 1 << 20})
		r := rand.New(rand.NewPCG(1, 2))
		b.store.Fail(func(method string) error {
			if method == "Append" {
				time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
			}
			return nil
		})
		type sent struct {
			order   int
			outcome hooks.Outcome
		}
		var mu sync.Mutex
		outcomes := make(map[uint32]*sent)
		total := 0
		for range 600 {
			time.Sleep(time.Duration(r.ExpFloat64() * float64(100*time.Millisecond)))
			for range r.IntN(12) {
				total++
				random := uint32(total)
				d := draft([]group.Account{"alice", "bob"}[r.IntN(2)], random, "x")
				d.Priority = group.Priority(1 + r.IntN(4))
				b.Submit(d, func(o hooks.Outcome) {
					mu.Lock()
					defer mu.Unlock()
					if outcomes[random] != nil {
						t.Errorf("message %d ended twice", random)
					}
					outcomes[random] = &sent{int(random), o}
				})
			}
		}
		b.close()
		var stored []*group.Message
		for m, err := range b.store.Range(t.Context(), g1, 1, 1<<40) {
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, m)
		}
		if len(outcomes) != total || len(stored) < 1000 || len(stored) == total {
			t.Fatalf("%d of %d messages ended, %d are stored: nothing was restricted, or something is lost", len(outcomes), total, len(stored))
		}
		seconds := map[int64]int{}
		last := map[string]uint32{}
		for i, m := range stored {
			if i >= n && m.Released-stored[i-n].Released < int64(time.Second) {
				t.Errorf("SEQs %d to %d were released within %v", stored[i-n].Seq, m.Seq, time.Duration(m.Released-stored[i-n].Released))
			}
			if seconds[m.Time]++; seconds[m.Time] > n {
				t.Errorf("more than %d messages have time %d", n, m.Time)
			}
			key := fmt.Sprint(m.From, m.Priority)
			if last[key] > m.Random {
				t.Errorf("%s: message %d is stored after %d", key, m.Random, last[key])
			}
			last[key] = m.Random
			if o := outcomes[m.Random].outcome; o.Seq != m.Seq || o.Restricted || o.Err != nil {
				t.Errorf("SEQ %d was answered %+v", m.Seq, o)
			}
			delete(outcomes, m.Random)
		}
		for random, s := range outcomes {
			if o := s.outcome; !o.Restricted || o.Seq != 0 || o.Err != nil {
				t.Errorf("message %d is not stored and was answered %+v", random, o)
			}
		}
	})
}

// TestHighPassesAFlood measures the wait of a High under 100 times the limit of Low, with
// everything around it.
func TestHighPassesAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{Limits: fixed(hooks.Limits{PerSecond: 40})})
		var flood sync.WaitGroup
		flood.Go(func() {
			for i := range 20 * 400 { // ten at a time
				for k := range 10 {
					d := draft("bob", uint32(10*i+k+1), "like")
					d.Priority = group.Low
					b.Submit(d, func(hooks.Outcome) {})
				}
				time.Sleep(2500 * time.Microsecond)
			}
		})
		var waits []time.Duration
		time.Sleep(1037 * time.Millisecond)
		for i := range 18 {
			d := draft("alice", uint32(i+1), "gift")
			d.Priority = group.High
			start := time.Now()
			if o := b.Send(t.Context(), d); o.Err != nil || o.Restricted {
				t.Errorf("a High ended as %+v", o)
			}
			waits = append(waits, time.Since(start))
			time.Sleep(time.Second - time.Since(start) + 13*time.Millisecond)
		}
		flood.Wait()
		b.close()
		if worst := slices.Max(waits); worst > 50*time.Millisecond {
			t.Errorf("waits %v, want at most 50 ms", waits)
		}
	})
}

func TestARestrictedMessageStaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{Limits: fixed(hooks.Limits{PerSecond: 1})})
		defer b.close()
		var mu sync.Mutex
		restricted := map[uint32]bool{}
		for i := range 3 {
			random := uint32(i + 1)
			b.Submit(draft("bob", random, "x"), func(o hooks.Outcome) {
				mu.Lock()
				defer mu.Unlock()
				restricted[random] = o.Restricted
			})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		n := 0
		for random, was := range restricted {
			o := b.mustSend(draft("bob", random, "x"))
			if o.Restricted != was || !o.Duplicate {
				t.Errorf("message %d again: %+v, want restricted: %v", random, o, was)
			}
			if was {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d of 3 were restricted, want 1", n)
		}
	})
}

func TestExemptAdminsAreNotCounted(t *testing.T) {
	for _, exempt := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, hooks.Config{Limits: fixed(hooks.Limits{PerSecond: 1}), ExemptAdmins: exempt})
			defer b.close()
			start := time.Now()
			for i := range 3 {
				d := draft("administrator", uint32(i+1), "x")
				d.ByAdmin = true
				b.mustSend(d)
			}
			if at := time.Since(start); (at == 0) != exempt {
				t.Errorf("exempt %v: the third came after %v", exempt, at)
			}
		})
	}
}

// TestWhoWaitsIsToldWhenTheGroupGoes destroys a group while messages wait in its flow.
func TestWhoWaitsIsToldWhenTheGroupGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{Limits: fixed(hooks.Limits{PerSecond: 1})})
		defer b.close()
		b.mustSend(draft("bob", 1, "x"))
		var o *hooks.Outcome
		b.Submit(draft("bob", 2, "x"), func(got hooks.Outcome) { o = &got })
		if err := b.Update(t.Context(), "g1", func(tx *hooks.Tx) error { tx.Destroy(); return nil }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if o == nil {
			t.Fatal("the one that waited was never told")
		}
		if e, ok := errors.AsType[*group.Error](o.Err); !ok || e.Code != group.CodeNoGroup {
			t.Errorf("it was told %+v", o)
		}
	})
}

func TestLimitsChangeWhileMessagesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		limits := hooks.Limits{PerSecond: 1}
		b := newBench(t, hooks.Config{Limits: func(*group.Group) hooks.Limits { mu.Lock(); defer mu.Unlock(); return limits }})
		defer b.close()
		b.mustSend(draft("bob", 1, "x"))
		start := time.Now()
		done := make(chan time.Duration, 2)
		b.Submit(draft("bob", 2, "x"), func(hooks.Outcome) { done <- time.Since(start) })
		time.Sleep(300 * time.Millisecond)
		mu.Lock()
		limits.PerSecond = 0
		mu.Unlock()
		b.Submit(draft("bob", 3, "x"), func(hooks.Outcome) { done <- time.Since(start) })
		if first, second := <-done, <-done; first != 300*time.Millisecond || second != first {
			t.Errorf("after %v and %v, want both when the limit was switched off", first, second)
		}
	})
}

func TestRatesOfUsersAndAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{UserRate: 2, AddressRate: 3})
		defer b.close()
		from := func(a group.Account, ip string, random uint32) *hooks.Draft {
			d := draft(a, random, "x")
			d.Origin.IP = ip
			return d
		}
		b.mustSend(from("bob", "192.0.2.1", 1))
		b.mustSend(from("bob", "192.0.2.2", 2))
		b.wantCode(from("bob", "192.0.2.1", 3), group.CodeFrequencyLimit)
		b.mustSend(from("alice", "192.0.2.1", 4))
		b.mustSend(from("alice", "192.0.2.1", 5))
		admin := from("bob", "192.0.2.1", 6)
		admin.ByAdmin = true
		b.mustSend(admin)
		time.Sleep(time.Second)
		b.mustSend(from("bob", "192.0.2.3", 10))
		b.mustSend(from("alice", "192.0.2.3", 12))
		b.mustSend(from("alice", "192.0.2.3", 13))
		info := b.refusal(from("bob", "192.0.2.3", 14), group.CodeFrequencyLimit)
		if !strings.Contains(info, "address") {
			t.Errorf("refused with %q, want the address named", info)
		}
		time.Sleep(time.Second)
		for i := range 4 { // this machine is not counted
			b.mustSend(from([]group.Account{"alice", "bob"}[i%2], "127.0.0.1", uint32(20+i)))
		}
		b.wantCode(from("bob", "192.0.2.4", 30), group.CodeFrequencyLimit)
		b.SetRates(0, 0)
		b.mustSend(from("bob", "192.0.2.4", 31))
		b.SetRates(1, 0)
		b.mustSend(from("bob", "192.0.2.4", 32))
		b.SetRates(1, 0) // says nothing new
		b.wantCode(from("bob", "192.0.2.4", 33), group.CodeFrequencyLimit)
	})
}

// forms are the ways in which a draft can ask for something special; none of them gets a
// muted member through.
func forms() map[string]func(*hooks.Draft) {
	return map[string]func(*hooks.Draft){
		"plain":             func(*hooks.Draft) {},
		"by REST":           func(d *hooks.Draft) { d.ByAdmin, d.Operator = true, "administrator" },
		"online only":       func(d *hooks.Draft) { d.Flags = group.OnlineOnly },
		"no unread":         func(d *hooks.Draft) { d.Flags = group.NoUnread },
		"no callback":       func(d *hooks.Draft) { d.Flags = group.ForbidBefore | group.ForbidAfter },
		"High":              func(d *hooks.Draft) { d.Priority = group.High },
		"directed":          func(d *hooks.Draft) { d.To = []group.Account{"alice"} },
		"without Random":    func(d *hooks.Draft) { d.Random, d.HasRandom = 0, false },
		"sent again by DUP": func(d *hooks.Draft) { d.HasRandom, d.Repeated, d.Again.PacketID = false, true, 1 },
	}
}

func TestMutesHoldForEveryForm(t *testing.T) {
	for name, form := range forms() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, hooks.Config{})
				defer b.close()
				random := uint32(0)
				send := func(a group.Account) *hooks.Draft {
					random++
					d := draft(a, random, fmt.Sprint("m", random))
					form(d)
					return d
				}
				b.mustSend(send("bob"))
				until := time.Now().Unix() + 60
				b.mute("bob", until)
				if info := b.refusal(send("bob"), group.CodeMuted); !strings.Contains(info, fmt.Sprint(until)) {
					t.Errorf("%q does not tell the end", info)
				}
				for _, change := range []func(tx *hooks.Tx) error{ // leaves and comes back
					func(tx *hooks.Tx) error { _, err := tx.RemoveMember("bob"); return err },
					func(tx *hooks.Tx) error {
						return tx.PutMember(&group.Member{Account: "bob", Role: group.OrdinaryMember})
					},
				} {
					if err := b.Update(t.Context(), "g1", change); err != nil {
						t.Fatal(err)
					}
				}
				b.wantCode(send("bob"), group.CodeMuted)
				b.close() // and a restart does not help either
				b.start(hooks.Config{})
				time.Sleep(time.Until(time.Unix(until, 0)) - time.Nanosecond)
				b.wantCode(send("bob"), group.CodeMuted)
				time.Sleep(time.Nanosecond)
				b.mustSend(send("bob"))
				b.mute("bob", group.Forever)
				time.Sleep(365 * 24 * time.Hour)
				b.wantCode(send("bob"), group.CodeMuted)
				b.mute("bob", 0)
				b.mustSend(send("bob"))

				if err := b.Update(t.Context(), "g1", func(tx *hooks.Tx) error { tx.Group().MuteAll = true; tx.Save(); return nil }); err != nil {
					t.Fatal(err)
				}
				b.wantCode(send("bob"), group.CodeMuted)
				b.mustSend(send("alice"))
				b.mustSend(send("administrator"))
				global := &group.Profile{Account: "alice", MutedUntil: time.Now().Unix() + 5}
				if err := b.store.Apply(t.Context(), storage.Accounts.Put(storage.AccountKey("alice"), global)); err != nil {
					t.Fatal(err)
				}
				b.ProfileChanged("alice")
				b.wantCode(send("alice"), group.CodeMuted)
				time.Sleep(5 * time.Second)
				b.mustSend(send("alice"))
			})
		})
	}
}

// TestAMuteHoldsForWhatIsNotStamped mutes while messages wait in the flow and in the callback,
// and while their sender goes on: what is stored was stamped before the mute returned.
func TestAMuteHoldsForWhatIsNotStamped(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, hooks.Config{Limits: fixed(hooks.Limits{PerSecond: 30})})
			b.UseBeforeSend(slowApp{100 * time.Millisecond})
			r := rand.New(rand.NewPCG(seed, 0))
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range 200 {
					b.Submit(draft("bob", uint32(i+1), "x"), func(hooks.Outcome) {})
					time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
				}
			})
			time.Sleep(time.Duration(rand.New(rand.NewPCG(seed, 1)).IntN(1500)) * time.Millisecond)
			b.mute("bob", group.Forever)
			head, err := b.store.Head(t.Context(), g1)
			if err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			b.close()
			after, err := b.store.Head(t.Context(), g1)
			if err != nil || after.Tail != head.Tail {
				t.Errorf("seed %d: %d messages of a muted member were stored, %v", seed, after.Tail-head.Tail, err)
			}
		})
	}
}

// A slowApp allows every message after a while.
type slowApp struct{ takes time.Duration }

func (slowApp) Due(*group.Group, *hooks.Draft) bool { return true }

func (a slowApp) BeforeSend(_ context.Context, _ *group.Group, _ *hooks.Draft) hooks.Verdict {
	time.Sleep(a.takes)
	return hooks.Verdict{}
}

// TestCallbacksOfDifferentSendersOverlap: 64 senders and an app that takes 500 ms for each.
func TestCallbacksOfDifferentSendersOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{Limits: fixed(hooks.Limits{PerSecond: 1000})})
		b.UseBeforeSend(slowApp{500 * time.Millisecond})
		const senders, each = 64, 10
		start := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		type place struct {
			i   int
			seq group.Seq
		}
		seqs := make([][]place, senders)
		for k := range senders {
			a := group.Account(fmt.Sprint("sender", k))
			if err := b.store.Apply(t.Context(), storage.Accounts.Put(storage.AccountKey(a), &group.Profile{Account: a})); err != nil {
				t.Fatal(err)
			}
			for i := range each {
				wg.Add(1)
				d := draft(a, uint32(i+1), "x")
				d.ByAdmin = true
				b.Submit(d, func(o hooks.Outcome) {
					mu.Lock()
					defer mu.Unlock()
					seqs[k] = append(seqs[k], place{i, o.Seq})
					wg.Done()
				})
			}
		}
		wg.Wait()
		if took := time.Since(start); took != each*500*time.Millisecond { // 128 a second
			t.Errorf("%d messages took %v", senders*each, took)
		}
		for k, s := range seqs {
			if !slices.IsSortedFunc(s, func(a, b place) int { return cmp.Or(cmp.Compare(a.i, b.i), cmp.Compare(a.seq, b.seq)) }) {
				t.Errorf("sender %d: order %v", k, s)
			}
		}
		b.close()
	})
}

// TestAHighDoesNotWaitForItsSendersFlood: the app takes a second for each message, and bob has
// 30 Low ones on their way when something urgent comes up.
func TestAHighDoesNotWaitForItsSendersFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{})
		b.UseBeforeSend(slowApp{time.Second})
		var mu sync.Mutex
		var lows []group.Seq
		var told sync.WaitGroup
		for i := range 30 {
			d := draft("bob", uint32(i+1), "x")
			d.Priority = group.Low
			told.Add(1)
			b.Submit(d, func(o hooks.Outcome) {
				mu.Lock()
				defer mu.Unlock()
				lows = append(lows, o.Seq)
				told.Done()
			})
		}
		synctest.Wait()
		start := time.Now()
		urgent := draft("bob", 100, "now")
		urgent.Priority = group.High
		o := b.mustSend(urgent)
		if took := time.Since(start); took != time.Second || o.Seq > 2 {
			t.Errorf("the High was stored as %d after %v, want 1 or 2 after 1s", o.Seq, took)
		}
		told.Wait()
		b.close()
		if len(lows) != 30 || !slices.IsSorted(lows) {
			t.Errorf("the Low ones were stored as %v, want all 30 in their order", lows)
		}
	})
}

// A tally counts what the app would be asked and told.
type tally struct {
	mu     sync.Mutex
	asked  map[uint32]int
	stored map[uint32]int
	left   map[uint32]int
}

func newTally() *tally {
	return &tally{asked: map[uint32]int{}, stored: map[uint32]int{}, left: map[uint32]int{}}
}

func (c *tally) count(m map[uint32]int, d *hooks.Draft) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m[d.Random]++
}

func (c *tally) Due(*group.Group, *hooks.Draft) bool { return true }

func (c *tally) BeforeSend(_ context.Context, _ *group.Group, d *hooks.Draft) hooks.Verdict {
	c.count(c.asked, d)
	return hooks.Verdict{}
}

func (c *tally) Stored(_ *group.Group, _ *group.Message, d *hooks.Draft) []storage.Mutation {
	c.count(c.stored, d)
	return nil
}

func (c *tally) Online(*group.Group, *group.Message, *hooks.Draft) []storage.Mutation { return nil }

func (c *tally) Happened(*group.Group, string, any) []storage.Mutation { return nil }

func (c *tally) Refused(_ *group.Group, d *hooks.Draft, err *group.Error) []storage.Mutation {
	if err.Code == group.CodeFrequencyLimit {
		c.count(c.left, d)
	}
	return nil
}

func (c *tally) Committed(group.Key) {}

// TestARestrictedMessageWasAskedAboutAndIsNotTold has 200 messages compete for 40 places.
func TestARestrictedMessageWasAskedAboutAndIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{Limits: fixed(hooks.Limits{PerSecond: 40})})
		app := newTally()
		b.UseBeforeSend(app)
		b.UseOutbox(app)
		restricted := make(map[uint32]bool)
		var mu sync.Mutex
		var told sync.WaitGroup
		told.Add(200)
		for i := range 200 {
			random := uint32(i + 1)
			b.Submit(draft("bob", random, "x"), func(o hooks.Outcome) {
				mu.Lock()
				defer mu.Unlock()
				restricted[random] = o.Restricted
				told.Done()
			})
		}
		told.Wait()
		b.close()
		n := 0
		for random := uint32(1); random <= 200; random++ {
			stored, left := 1, 0
			if restricted[random] {
				stored, left = 0, 1
				n++
			}
			if app.asked[random] != 1 || app.stored[random] != stored || app.left[random] != left {
				t.Errorf("message %d (restricted: %v): asked %d times, told as stored %d times, as left out %d times",
					random, restricted[random], app.asked[random], app.stored[random], app.left[random])
			}
		}
		if n != 120 { // 40 at once, 40 a second later
			t.Errorf("%d of 200 were restricted, want 120", n)
		}
	})
}

func TestARestartOpensNoSecondWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := hooks.Config{Limits: fixed(hooks.Limits{PerSecond: 5})}
		b := newBench(t, cfg)
		for i := range 5 {
			b.mustSend(draft("bob", uint32(i+1), "x"))
		}
		time.Sleep(400 * time.Millisecond)
		b.close()
		b.start(cfg)
		start := time.Now()
		b.mustSend(draft("bob", 6, "x"))
		if waited := time.Since(start); waited != 600*time.Millisecond {
			t.Errorf("after a restart the next message waited %v, want 600ms", waited)
		}
		b.close()
	})
}

// TestClosingAsksNoMore stops while a sender's messages wait behind its callback: the one
// that is being asked about is finished, the others are to be sent again.
func TestClosingAsksNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{})
		b.UseBeforeSend(slowly(time.Second))
		var mu sync.Mutex
		stored, again := 0, 0
		for i := range 100 {
			b.Submit(draft("bob", uint32(i+1), "x"), func(o hooks.Outcome) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case o.Err == nil:
					stored++
				case hooks.Retry(o.Err):
					again++
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		b.close()
		if took := time.Since(start); stored != 1 || again != 99 || took != time.Second {
			t.Errorf("%d stored, %d to be sent again, closed after %v; want 1, 99, 1s", stored, again, took)
		}
	})
}

// slowly is a before-callback that takes its time and agrees.
type slowly time.Duration

func (slowly) Due(*group.Group, *hooks.Draft) bool { return true }

func (d slowly) BeforeSend(context.Context, *group.Group, *hooks.Draft) hooks.Verdict {
	time.Sleep(time.Duration(d))
	return hooks.Verdict{}
}

// TestTheLogSaysWhyAMessageDidNotPass: one line each, with the code and the message's id.
func TestTheLogSaysWhyAMessageDidNotPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{})
		b.close() // what it has made stays
		var log bytes.Buffer
		cfg := hooks.Config{UserRate: 1, Limits: fixed(hooks.Limits{PerSecond: 1})}
		p := hooks.New(b.store, cfg, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		p.UseBeforeSend(verdicts{})
		bad, foreign, dropped := draft("bob", 1, "x"), draft("nobody", 2, "x"), draft("alice", 3, "drop")
		bad.Body = json.RawMessage(`[]`)
		for _, d := range []*hooks.Draft{bad, foreign, dropped, draft("bob", 4, "x"), draft("bob", 5, "x")} {
			_ = p.Send(context.Background(), d)
		}
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
		for _, want := range []string{
			`msg="message refused" group=g1 account=bob msgid=` + bad.ID.String() + ` code=10004`,
			`msg="message refused" group=g1 account=nobody msgid=` + foreign.ID.String() + ` code=10019`,
			`msg="message dropped" group=g1 account=alice msgid=` + dropped.ID.String() + ` code=0`,
			`code=10023`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no line with %s in\n%s", want, log.String())
			}
		}
	})
}

// verdicts drops what says so.
type verdicts struct{}

func (verdicts) Due(*group.Group, *hooks.Draft) bool { return true }

func (verdicts) BeforeSend(_ context.Context, _ *group.Group, d *hooks.Draft) hooks.Verdict {
	return hooks.Verdict{Drop: strings.Contains(string(d.Body), "drop")}
}
