package hooks

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rookery-im/rookery/group"
)

// A decider is a flow, or one with a mistake planted in it.
type decider interface {
	arrive(now int64, s *submission, release, restrict func(*submission))
	advance(now int64, release, restrict func(*submission)) int64
}

// An arrival is a message that comes to a simulated group.
type arrival struct {
	at       int64 // Unix nanoseconds, ascending
	priority group.Priority
	sender   group.Account
}

// A fate is what a flow made of an arrival.
type fate struct {
	arrival
	order    int   // of arrival
	release  int64 // 0: restricted
	decided  int64
	position int // among the releases
	came     int // how many were decided before it came
	step     int // its own place among the decisions
	seen     int // how many had come when it was decided
}

// epoch is when simulations begin; what is at 0 is not released.
const epoch = int64(1_700_000_000) * int64(time.Second)

// simulate plays arrivals to a flow that is called exactly when it asks to be.
func simulate(f decider, arrivals []arrival) (fates []*fate, problems []string) {
	of := make(map[*submission]*fate)
	now, released, step := int64(0), 0, 0
	decide := func(s *submission) *fate {
		x := of[s]
		if x.decided != 0 {
			problems = append(problems, fmt.Sprintf("message %d was decided twice", x.order))
		}
		step++
		x.decided, x.step, x.seen = now, step, len(fates)
		return x
	}
	release := func(s *submission) {
		x := decide(s)
		x.release, x.position = now, released
		released++
	}
	restrict := func(s *submission) { decide(s) }
	next := int64(math.MaxInt64)
	for i, a := range arrivals {
		for next < a.at {
			now = next
			next = f.advance(now, release, restrict)
		}
		now = a.at
		s := &submission{draft: &Draft{From: a.sender, Priority: a.priority}}
		x := &fate{arrival: a, order: i, came: step}
		of[s], fates = x, append(fates, x)
		f.arrive(now, s, release, restrict)
		next = f.advance(now, release, restrict)
	}
	for next != math.MaxInt64 && next < now+10*int64(window) { // a broken flow may ask for ever
		now = next
		next = f.advance(now, release, restrict)
	}
	return fates, problems
}

// checkFlow returns what is wrong with the fates under the limits.
func checkFlow(l Limits, fates []*fate) (problems []string) {
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	limit := func(p group.Priority) int { return newFlow(l, nil).limit(p) }
	var out []*fate
	for _, x := range fates {
		switch {
		case x.decided == 0:
			report("message %d was never decided", x.order)
		case x.decided > x.at+int64(window):
			report("message %d waited %v", x.order, time.Duration(x.decided-x.at))
		}
		if x.release != 0 {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b *fate) int { return cmp.Compare(a.position, b.position) })
	checkWindows(l.PerSecond, out, "all", report)
	for p := group.High; p <= group.Lowest; p++ {
		checkWindows(limit(p), of(p, out), p.String(), report)
	}
	last := make(map[string]*fate)
	for _, x := range out {
		key := fmt.Sprint(x.sender, x.priority)
		if before := last[key]; before != nil && before.order > x.order {
			report("message %d overtook %d of the same sender and priority", before.order, x.order)
		}
		last[key] = x
	}
	for _, low := range out {
		for _, x := range fates { // who waited when low was let go, and was more urgent
			if x.priority >= low.priority || x.order >= low.seen || x.step < low.step {
				continue
			}
			if x.order > low.order && x.priority != group.High || roomAt(low, of(x.priority, out), limit(x.priority)) <= 0 {
				continue
			}
			report("message %d (%v) was let go while %d (%v), which could have been, waited", low.order, low.priority, x.order, x.priority)
		}
	}
	highs := of(group.High, fates)
	for _, x := range fates {
		waited := x.decided - x.at
		if x.release == 0 && x.priority == group.High {
			rivals := 0
			for _, o := range highs {
				if o.at > x.at-int64(window) && o.at <= x.at+int64(window) {
					rivals++
				}
			}
			if rivals <= limit(group.High) {
				report("High %d was restricted among %d", x.order, rivals)
			}
		}
		if x.release == 0 && waited == int64(window) && leftFor(x, fates, out, l.PerSecond, limit(x.priority)) {
			report("message %d (%v) was restricted though a slot was left", x.order, x.priority)
		}
		if x.release != x.at && x.decided != 0 && len(waiting(x, fates)) == 0 && roomAt(&fate{release: x.at, position: math.MaxInt}, out, l.PerSecond) > 0 &&
			roomAt(&fate{release: x.at, position: math.MaxInt}, of(x.priority, out), limit(x.priority)) > 0 {
			report("message %d waited though nobody else did and there was room", x.order)
		}
	}
	return problems
}

func of(p group.Priority, fates []*fate) (some []*fate) {
	for _, x := range fates {
		if x.priority == p {
			some = append(some, x)
		}
	}
	return some
}

// checkWindows reports each window of a second with more than n releases.
func checkWindows(n int, out []*fate, of string, report func(string, ...any)) {
	for i := range out {
		if i > 0 && out[i].release < out[i-1].release {
			report("release %d of %s is before the one that precedes it", i, of)
		}
		if i+n < len(out) && out[i+n].release-out[i].release < int64(window) {
			report("%d releases of %s within %v", n+1, of, time.Duration(out[i+n].release-out[i].release))
		}
	}
}

// roomAt is how many of n slots were left by out just before x was let go.
func roomAt(x *fate, out []*fate, n int) int {
	for _, o := range out {
		if o.release > x.release-int64(window) && o.release <= x.release && o.position < x.position {
			n--
		}
	}
	return n
}

// waiting returns who waited when x came.
func waiting(x *fate, fates []*fate) (others []*fate) {
	for _, o := range fates[:x.order] {
		if o.step > x.came {
			others = append(others, o)
		}
	}
	return others
}

// leftFor reports whether a slot was left for x at its deadline, after all that happened at that
// instant and all who are more urgent.
func leftFor(x *fate, fates, out []*fate, n, own int) bool {
	end := &fate{release: x.decided, position: math.MaxInt}
	left := roomAt(end, out, n)
	for _, o := range fates {
		if o.priority < x.priority && o.at <= x.decided && o.decided >= x.decided && o.release != x.decided {
			left--
		}
	}
	return left > 0 && roomAt(end, of(x.priority, out), own) > 0
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func drawArrivals(t *rapid.T) []arrival {
	var arrivals []arrival
	at := epoch
	for range rapid.IntRange(1, 25).Draw(t, "bursts") {
		at += int64(rapid.SampledFrom([]time.Duration{0, 1, time.Millisecond, 40 * time.Millisecond, 300 * time.Millisecond, time.Second, 1500 * time.Millisecond}).Draw(t, "pause"))
		apart := int64(rapid.SampledFrom([]time.Duration{0, 1, 3 * time.Millisecond, 70 * time.Millisecond}).Draw(t, "apart"))
		p := group.Priority(rapid.IntRange(0, 4).Draw(t, "priority")) // 0: mixed
		for range rapid.IntRange(1, 12).Draw(t, "n") {
			a := arrival{at, p, rapid.SampledFrom([]group.Account{"a", "b"}).Draw(t, "sender")}
			if p == 0 {
				a.priority = group.Priority(rapid.IntRange(1, 4).Draw(t, "one"))
			}
			arrivals = append(arrivals, a)
			at += apart
		}
	}
	return arrivals
}

func TestFlowKeepsItsRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{PerSecond: rapid.IntRange(1, 8).Draw(t, "N")}
		for p := range l.PerPriority {
			l.PerPriority[p] = rapid.IntRange(0, 9).Draw(t, "limit")
		}
		f := newFlow(l, seeded(rapid.Uint64().Draw(t, "seed")))
		fates, problems := simulate(f, drawArrivals(t))
		for _, p := range append(problems, checkFlow(l, fates)...) {
			t.Error(p)
		}
		if len(f.all) > 2*l.PerSecond+64 || f.count != 0 {
			t.Errorf("the flow remembers %d releases and holds %d messages", len(f.all), f.count)
		}
	})
}

// The mistakes that checkFlow has to see.
type (
	losesOne struct { // forgets every seventh message
		*flow
		n int
	}
	lastFirst   struct{ *flow } // lets the latest arrival of a priority go first
	upsideDown  struct{ *flow } // takes Lowest for High
	impatient   struct{ *flow } // gives up after half a second
	overstrict  struct{ *flow } // makes everybody wait
	calendar    struct{ *flow } // counts per calendar second
	paceForever struct{ *flow } // paces even who is at its deadline
)

func (f *losesOne) arrive(now int64, s *submission, release, restrict func(*submission)) {
	if f.n++; f.n%7 != 0 {
		f.flow.arrive(now, s, release, restrict)
	}
}

func (f lastFirst) advance(now int64, release, restrict func(*submission)) int64 {
	for _, b := range f.waiting {
		slices.SortFunc(b, func(a, b *submission) int { return -cmp.Compare(a.flow.arrived, b.flow.arrived) })
	}
	next := f.flow.advance(now, release, restrict)
	if f.count > 0 {
		next = min(next, now+int64(10*time.Millisecond))
	}
	return next
}

func (f upsideDown) arrive(now int64, s *submission, release, restrict func(*submission)) {
	s.draft.Priority = group.Lowest + 1 - s.draft.Priority
	f.flow.arrive(now, s, release, restrict)
}

func (f impatient) advance(now int64, release, restrict func(*submission)) int64 {
	for _, b := range f.waiting {
		for _, s := range b {
			if now-s.flow.arrived < int64(window) && now-s.flow.arrived >= int64(window)/2 {
				s.flow.arrived = now - int64(window)
			}
		}
	}
	next := f.flow.advance(now, release, restrict)
	if f.count > 0 {
		next = min(next, now+int64(10*time.Millisecond))
	}
	return next
}

func (f overstrict) arrive(now int64, s *submission, _, restrict func(*submission)) {
	s.flow = flowItem{key: f.rand.Uint64(), arrived: now}
	b := &f.waiting[s.draft.Priority-1]
	*b = append(*b, s)
	f.count++
	if len(*b) > f.limits.PerSecond {
		f.remove(s.draft.Priority, len(*b)-1)
		restrict(s)
	}
}

func (f overstrict) advance(now int64, release, restrict func(*submission)) int64 {
	next := f.flow.advance(now-1, release, restrict) // too late by one
	return next + min(1, math.MaxInt64-next)
}

func (f calendar) arrive(now int64, s *submission, release, restrict func(*submission)) {
	f.newSecond(now)
	f.flow.arrive(now, s, release, restrict)
}

func (f calendar) advance(now int64, release, restrict func(*submission)) int64 {
	f.newSecond(now)
	return f.flow.advance(now, release, restrict)
}

func (f calendar) newSecond(now int64) {
	if now/int64(window) != f.last/int64(window) {
		f.all = nil
		f.each = [group.Priorities]slots{}
	}
}

func (f paceForever) advance(now int64, release, restrict func(*submission)) int64 {
	if now-f.paced < f.pace() {
		for i, b := range f.waiting[1:] {
			for len(b) > 0 && now-b[0].flow.arrived >= int64(window) {
				s := b[0]
				f.remove(group.Priority(i+2), 0)
				b = f.waiting[i+1]
				restrict(s)
			}
		}
	}
	return f.flow.advance(now, release, restrict)
}

func TestTheFlowCheckerSeesMistakes(t *testing.T) {
	l := Limits{PerSecond: 5, PerPriority: [4]int{0, 4, 3, 0}}
	mistakes := map[string]func(*flow) decider{
		"N+1":                    func(f *flow) decider { f.limits.PerSecond++; return f },
		"a priority's limit + 1": func(f *flow) decider { f.limits.PerPriority[2]++; return f },
		"a message lost":         func(f *flow) decider { return &losesOne{flow: f} },
		"last come first":        func(f *flow) decider { return lastFirst{f} },
		"Lowest before High":     func(f *flow) decider { return upsideDown{f} },
		"half a second":          func(f *flow) decider { return impatient{f} },
		"nobody at once":         func(f *flow) decider { return overstrict{f} },
		"calendar seconds":       func(f *flow) decider { return calendar{f} },
		"paced to death":         func(f *flow) decider { return paceForever{f} },
	}
	for name, plant := range mistakes {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				r := seeded(seed)
				var arrivals []arrival
				at := epoch
				for range 200 {
					at += int64(r.ExpFloat64() * float64(120*time.Millisecond))
					a := arrival{at, group.Priority(1 + r.IntN(4)), "a"}
					for range r.IntN(3) {
						arrivals = append(arrivals, a)
					}
				}
				fates, problems := simulate(plant(newFlow(l, r)), arrivals)
				for _, x := range fates {
					if name == "Lowest before High" { // as the sender meant it
						x.priority = arrivals[x.order].priority
					}
				}
				if problems = append(problems, checkFlow(l, fates)...); len(problems) > 0 {
					t.Logf("seed %d: %s", seed, problems[0])
					return
				}
			}
			t.Error("not seen")
		})
	}
}

// TestFlowChoosesUniformly has 100 messages of one priority compete for 40 places, 10,000 times.
func TestFlowChoosesUniformly(t *testing.T) {
	if x := spread(t, 10_000, func(*flow) {}); x > 161 { // the 99.99th percentile of chi-square with 99 degrees of freedom
		t.Errorf("chi-square %.1f", x)
	}
}

func TestTheUniformityCheckSeesAMistake(t *testing.T) {
	// A generator that favours early arrivals: its numbers tend to rise.
	if x := spread(t, 1000, func(f *flow) { f.rand = rand.New(&rising{}) }); x <= 161 {
		t.Errorf("chi-square %.1f: not seen", x)
	}
}

type rising struct{ n uint64 }

func (r *rising) Uint64() uint64 {
	r.n += 1 << 54
	return rand.Uint64()>>1 + r.n
}

// spread returns the chi-square of how often each of 100 competitors survives.
func spread(t *testing.T, runs int, plant func(*flow)) (chi float64) {
	t.Helper()
	const n, places = 100, 40
	var survived [n]int
	r := seeded(7)
	for range runs {
		f := newFlow(Limits{PerSecond: places}, r)
		plant(f)
		arrivals := make([]arrival, places+n)
		for i := range arrivals {
			arrivals[i] = arrival{epoch, group.Normal, "a"}
		}
		fates, _ := simulate(f, arrivals)
		for i, x := range fates[places:] {
			if x.release != 0 {
				survived[i]++
			}
		}
	}
	total := 0
	for _, k := range survived {
		expect := float64(runs) * places / n
		d := float64(k) - expect
		chi += d * d / (expect * (1 - float64(places)/n)) // drawn without putting back
		total += k
	}
	if total != runs*places {
		t.Errorf("%d survivors, want %d", total, runs*places)
	}
	return chi
}

// TestFlowLetsHighThroughAFlood plays 4,000 Low and one High a second for a minute.
func TestFlowLetsHighThroughAFlood(t *testing.T) {
	l := Limits{PerSecond: 40}
	f := newFlow(l, seeded(3))
	r := seeded(4)
	var arrivals []arrival
	for s := range 60 {
		for range 4000 {
			arrivals = append(arrivals, arrival{epoch + int64(s)*int64(window) + r.Int64N(int64(window)), group.Low, "flood"})
		}
		arrivals = append(arrivals, arrival{epoch + int64(s)*int64(window) + r.Int64N(int64(window)), group.High, "high"})
	}
	slices.SortFunc(arrivals, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	fates, problems := simulate(f, arrivals)
	if len(problems) > 0 {
		t.Error(problems)
	}
	var waits []time.Duration
	out := 0
	for _, x := range fates {
		if x.release != 0 {
			out++
		}
		if x.priority != group.High {
			continue
		}
		if x.release == 0 {
			t.Errorf("a High was restricted")
		}
		if x.at > epoch+int64(window) {
			waits = append(waits, time.Duration(x.release-x.at))
		}
	}
	slices.Sort(waits)
	if worst := waits[len(waits)-1]; worst > 50*time.Millisecond { // of 59: stricter than the 99th percentile
		t.Errorf("a High waited %v", worst)
	}
	if out < 60*40 {
		t.Errorf("%d messages in a minute, want %d or more", out, 60*40)
	}
	if f.count != 0 || cap(f.all) > 1024 {
		t.Errorf("the flow keeps %d waiters and room for %d releases", f.count, cap(f.all))
	}
}

func TestFlowLimitsChangeWhileMessagesWait(t *testing.T) {
	f := newFlow(Limits{PerSecond: 2}, seeded(1))
	var out []int64
	release := func(s *submission) { out = append(out, s.released-epoch) }
	restrict := func(*submission) { t.Error("restricted") }
	for range 4 {
		f.arrive(epoch, &submission{draft: &Draft{Priority: group.Normal}}, release, restrict)
	}
	f.setLimits(Limits{PerSecond: 3})
	f.advance(epoch+int64(window)/2, release, restrict)
	f.drain(epoch+int64(window)/2+1, release)
	if want := []int64{0, 0, int64(window) / 2, -epoch}; !slices.Equal(out, want) {
		t.Errorf("released at %v, want %v", out, want)
	}
}

func TestRestoredReleasesCount(t *testing.T) {
	f := newFlow(Limits{PerSecond: 3}, seeded(1))
	f.restore(epoch, []release{{epoch - int64(window)/2, group.High}, {epoch - 1, group.Low}, {epoch + int64(time.Hour), group.Low}})
	var out []int64
	let := func(s *submission) { out = append(out, s.released-epoch) }
	s := &submission{draft: &Draft{Priority: group.High}}
	f.arrive(epoch, s, let, func(*submission) { t.Error("restricted") })
	next := f.advance(epoch, let, nil)
	if next != epoch+int64(window)/2 || len(out) != 0 {
		t.Fatalf("released %v, next at %v; want it to wait half a second", out, time.Duration(next-epoch))
	}
	f.advance(next, let, nil)
	if len(out) != 1 {
		t.Error("not released when the oldest left the window")
	}
	f.restore(next, []release{{s.released, group.High}, {s.released, group.High}})
	if n := f.all.countOf(s.released); n != 2 {
		t.Errorf("a release that was counted and one that was not: %d, want 2", n)
	}
}
