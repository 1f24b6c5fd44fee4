package push

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestBackoff(t *testing.T) {
	const most = 0.999999
	for _, c := range []struct {
		tries      int
		random     float64
		retryAfter time.Duration
		deadline   time.Duration
		wait       time.Duration
		ok         bool
	}{
		{1, most, 0, time.Hour, time.Second, true},
		{2, most, 0, time.Hour, 2 * time.Second, true},
		{5, most, 0, time.Hour, 16 * time.Second, true},
		{6, most, 0, time.Hour, 0, false}, // that was the last
		{1, 0, 0, time.Hour, 0, true},
		{1, 0.5, 0, time.Hour, 500 * time.Millisecond, true},
		{1, 0, 30 * time.Second, time.Hour, 30 * time.Second, true},
		{1, most, 30 * time.Second, 20 * time.Second, 30 * time.Second, false},
		{3, most, 0, 3 * time.Second, 4 * time.Second, false},
	} {
		b := Backoff{Rand: func() float64 { return c.random }}
		wait, ok := b.Next(c.tries, c.retryAfter, start, start.Add(c.deadline))
		if wait.Round(time.Millisecond) != c.wait || ok != c.ok {
			t.Errorf("Next(%d, %v) with %v left = %v, %v; want %v, %v", c.tries, c.retryAfter, c.deadline, wait, ok, c.wait, c.ok)
		}
	}
	b := Backoff{Attempts: 1 << 30, Rand: func() float64 { return most }}
	if wait, _ := b.Next(1<<20, 0, start, start.Add(time.Hour)); wait.Round(time.Second) != 5*time.Minute {
		t.Errorf("after very many tries: %v, want the cap", wait)
	}
}

// TestBackoffJitters: the waits are spread over the whole range.
func TestBackoffJitters(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b := Backoff{Rand: random.Float64}
	var low, high int
	for range 1000 {
		wait, ok := b.Next(4, 0, start, start.Add(time.Hour))
		if !ok || wait < 0 || wait > 8*time.Second {
			t.Fatalf("%v, %v", wait, ok)
		}
		if wait < 2*time.Second {
			low++
		}
		if wait > 6*time.Second {
			high++
		}
	}
	if low < 180 || high < 180 {
		t.Errorf("of 1000 waits up to 8 s %d are below 2 s and %d above 6 s", low, high)
	}
}

func wantAdmit(t *testing.T, g *Gate, after time.Duration, class string, reason GateReason, wait time.Duration) {
	t.Helper()
	if r, w := g.Admit(start.Add(after), class); r != reason || w != wait {
		t.Errorf("after %v: Admit(%s) = %q, %v; want %q, %v", after, class, r, w, reason, wait)
	}
}

func TestGatePauses(t *testing.T) {
	g := NewGate(GateConfig{})
	wantAdmit(t, g, 0, "", GateOpen, 0)
	if r := g.Observe(start, "", []Result{{Outcome: Throttled, RetryAfter: 10 * time.Second}}); r != GateThrottled {
		t.Errorf("Observe = %q, want throttled", r)
	}
	wantAdmit(t, g, time.Second, "x", GateThrottled, 9*time.Second)
	g.Observe(start.Add(time.Second), "", []Result{{Outcome: Throttled, RetryAfter: time.Second}}) // doesn't shorten
	wantAdmit(t, g, 5*time.Second, "", GateThrottled, 5*time.Second)
	wantAdmit(t, g, 10*time.Second, "", GateOpen, 0)
	g.Observe(start.Add(10*time.Second), "", []Result{{Outcome: Accepted}, {Outcome: Throttled}})
	wantAdmit(t, g, 11*time.Second, "", GateThrottled, 59*time.Second)
}

func TestGateQuota(t *testing.T) {
	g := NewGate(GateConfig{})
	// 12:00 in London is 20:00 in Shanghai.
	if r := g.Observe(start, "public", []Result{{Outcome: QuotaExhausted}}); r != GateQuota {
		t.Errorf("Observe = %q, want quota", r)
	}
	wantAdmit(t, g, 0, "public", GateQuota, 4*time.Hour)
	wantAdmit(t, g, 0, "private", GateOpen, 0)
	wantAdmit(t, g, 4*time.Hour-1, "public", GateQuota, 1)
	wantAdmit(t, g, 4*time.Hour, "public", GateOpen, 0)
	for i := range maxQuotaClasses {
		g.Observe(start, string(rune('A'+i)), []Result{{Outcome: QuotaExhausted}})
	}
	wantAdmit(t, g, 0, "never seen", GateQuota, 4*time.Hour)
	for at, want := range map[time.Time]time.Time{
		time.Date(2026, 12, 31, 15, 59, 59, 0, time.UTC): time.Date(2026, 12, 31, 16, 0, 0, 0, time.UTC),
		time.Date(2026, 12, 31, 16, 0, 0, 0, time.UTC):   time.Date(2027, 1, 1, 16, 0, 0, 0, time.UTC),
	} {
		if got := nextChinaMidnight(at); !got.Equal(want) {
			t.Errorf("nextChinaMidnight(%v) = %v, want %v", at, got, want)
		}
	}
}

func TestGateBreaksOnRefusal(t *testing.T) {
	g := NewGate(GateConfig{})
	refused, accepted := []Result{{Outcome: AuthRejected}}, []Result{{Outcome: Accepted}}
	if r := g.Observe(start, "", refused); r != GateAuth {
		t.Errorf("Observe = %q, want auth", r)
	}
	if r := g.Observe(start, "", refused); r != GateOpen {
		t.Errorf("second Observe = %q: one alarm is enough", r)
	}
	wantAdmit(t, g, 59*time.Second, "", GateAuth, time.Second)
	wantAdmit(t, g, 60*time.Second, "", GateOpen, 0)              // the trial
	wantAdmit(t, g, 60*time.Second, "", GateAuth, 30*time.Second) // one at a time
	g.Observe(start.Add(61*time.Second), "", refused)
	wantAdmit(t, g, 62*time.Second, "", GateAuth, 119*time.Second) // twice as long
	wantAdmit(t, g, 181*time.Second, "", GateOpen, 0)
	g.Observe(start.Add(182*time.Second), "", accepted)
	wantAdmit(t, g, 182*time.Second, "", GateOpen, 0)
	wantAdmit(t, g, 182*time.Second, "", GateOpen, 0)
	if s := g.State(start.Add(182*time.Second), ""); s != GateOpen {
		t.Errorf("State = %q", s)
	}
	// A trial that nobody reports gives its place to another.
	g.Observe(start.Add(200*time.Second), "", refused)
	wantAdmit(t, g, 260*time.Second, "", GateOpen, 0)
	wantAdmit(t, g, 290*time.Second, "", GateOpen, 0)
}

func TestGateBreaksOnFailures(t *testing.T) {
	g := NewGate(GateConfig{Failures: 3})
	failed := []Result{{Outcome: Retryable}, {Outcome: Retryable}}
	g.Observe(start, "", failed)
	g.Observe(start, "", failed)
	g.Observe(start, "", []Result{{Outcome: TokenInvalid}}) // an answer is an answer
	g.Observe(start, "", failed)
	g.Observe(start, "", failed)
	wantAdmit(t, g, 0, "", GateOpen, 0)
	if r := g.Observe(start, "", failed); r != GateFailing {
		t.Errorf("Observe = %q, want failing", r)
	}
	wantAdmit(t, g, 0, "", GateFailing, 5*time.Second)
	at := 5 * time.Second
	for _, wait := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		wantAdmit(t, g, at, "", GateOpen, 0)
		g.Observe(start.Add(at), "", failed)
		wantAdmit(t, g, at, "", GateFailing, wait*time.Second)
		at += wait * time.Second
	}
}

// TestGateModel: whatever happens, a closed gate says when to come back, and a healthy vendor
// opens it in the end.
func TestGateModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := NewGate(GateConfig{Failures: 3})
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			reason, wait := g.Admit(now, "c")
			if (reason == GateOpen) != (wait == 0) || wait < 0 || wait > 24*time.Hour {
				t.Fatalf("Admit = %q, %v", reason, wait)
			}
			if reason == GateOpen {
				g.Observe(now, "c", []Result{{Outcome: Outcome(rapid.IntRange(1, 12).Draw(t, "outcome"))}})
			}
			now = now.Add(time.Duration(rapid.IntRange(0, int(time.Hour)).Draw(t, "pause")))
		}
		for range 5 {
			reason, wait := g.Admit(now, "c")
			if reason == GateOpen {
				g.Observe(now, "c", []Result{{Outcome: Accepted}})
				if r, _ := g.Admit(now, "c"); r != GateOpen {
					t.Fatalf("closed (%s) after a success", r)
				}
				return
			}
			now = now.Add(wait)
		}
		t.Fatal("the gate never opens")
	})
}

func TestMayRemove(t *testing.T) {
	sent, other := NewToken("a"), NewToken("b")
	for _, c := range []struct {
		name       string
		r          Result
		stored     Token
		registered time.Time
		want       bool
	}{
		{"dead", Result{Outcome: TokenInvalid, AsOf: start}, sent, start.Add(-time.Hour), true},
		{"foreign", Result{Outcome: TokenForeign, AsOf: start}, sent, start.Add(-time.Hour), true},
		{"registered since", Result{Outcome: TokenInvalid, AsOf: start}, sent, start.Add(time.Second), false},
		{"registered then", Result{Outcome: TokenInvalid, AsOf: start}, sent, start, false},
		{"another token", Result{Outcome: TokenInvalid, AsOf: start}, other, start.Add(-time.Hour), false},
		{"no token", Result{Outcome: TokenInvalid, AsOf: start}, Token{}, start.Add(-time.Hour), false},
		{"undeliverable", Result{Outcome: Undeliverable, AsOf: start}, sent, start.Add(-time.Hour), false},
		{"refused", Result{Outcome: AuthRejected, AsOf: start}, sent, start.Add(-time.Hour), false},
	} {
		if got := MayRemove(c.r, sent, c.stored, c.registered); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func some(o Outcome, n int) []Result {
	list := make([]Result, n)
	for i := range list {
		list[i].Outcome = o
	}
	return list
}

func TestRemovalGuard(t *testing.T) {
	g := NewRemovalGuard(RemovalConfig{})
	check := func(after time.Duration, o Outcome, n int, want bool) {
		t.Helper()
		if got := g.Record(start.Add(after), some(o, n)); got != want {
			t.Errorf("after %v, %d %v: may remove = %v, want %v", after, n, o, got, want)
		}
	}
	check(0, TokenInvalid, 10, true) // too few to judge
	check(0, Accepted, 40, true)     // 10 of 50: not more than a fifth
	check(time.Second, Retryable, 500, true)
	check(time.Second, TokenForeign, 1, false) // 11 of 51
	check(2*time.Second, Accepted, 1000, false)
	if !g.Suspect() {
		t.Error("not suspect")
	}
	check(time.Minute, TokenInvalid, 1, false)
	check(6*time.Minute, Accepted, 49, false) // the old ones are out of sight, too few are in
	check(6*time.Minute, Accepted, 1, true)
	check(20*time.Minute, TokenInvalid, 1000, false) // a whole batch at once
	g.Clear()
	check(20*time.Minute, TokenInvalid, 1, true)
}

// TestRemovalGuardSlides: dead tokens spread thin over a day never add up.
func TestRemovalGuardSlides(t *testing.T) {
	g := NewRemovalGuard(RemovalConfig{})
	for i := range 24 * 60 {
		if !g.Record(start.Add(time.Duration(i)*time.Minute), some(TokenInvalid, 9)) {
			t.Fatalf("suspect after %d minutes", i)
		}
	}
}
