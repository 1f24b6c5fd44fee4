package hooks

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
)

// Limits are a group's frequency limits, in messages in any window of one second.
type Limits struct {
	// PerSecond bounds all messages together. Zero or less: no limit at all.
	PerSecond int
	// PerPriority bounds one priority each, by Priority-1. Zero or less, or more than
	// PerSecond: PerSecond.
	PerPriority [group.Priorities]int
}

// window is the span in which messages are counted, and the longest that one waits.
const window = time.Second

// A flow decides when the messages of one group may go: at most Limits.PerSecond in any
// window of one second, the most urgent first, and who waits a second without finding a slot
// is restricted. It is pure: the caller brings the time, in Unix nanoseconds, and it does
// nothing by itself. It is not safe for concurrent use.
type flow struct {
	limits  Limits
	rand    *rand.Rand
	last    int64                     // the latest instant that was seen: time does not run backwards here
	all     slots                     // releases of the last second
	each    [group.Priorities]slots   // the same by priority
	paced   int64                     // the latest release below High
	waiting [group.Priorities]waiters // in arrival order
	count   int                       // in all of waiting
}

// A flowItem is a submission's place in a flow.
type flowItem struct {
	key     uint64 // the bucket's largest is evicted when it overflows
	arrived int64
}

// slots are release instants, ascending; those that have left the window are cut off lazily.
type slots []int64

// waiters is one priority's bucket.
type waiters []*submission

func newFlow(l Limits, r *rand.Rand) *flow { return &flow{limits: l, rand: r} }

// setLimits changes the limits; what waits is judged by the new ones.
func (f *flow) setLimits(l Limits) { f.limits = l }

// restore counts releases that were stored earlier, of which some may be counted already.
// Another clock stamped them: what it says of the future counts as now, so that a clock that
// was put back closes the group for a second and not for the difference.
func (f *flow) restore(now int64, stored []release) {
	for i := range stored {
		stored[i].at = min(stored[i].at, now)
	}
	for i, r := range stored {
		same, sameEach := 0, 0 // how many of the same instant have come so far, this one included
		for _, o := range stored[:i+1] {
			if o.at == r.at {
				same++
				if o.priority == r.priority {
					sameEach++
				}
			}
		}
		if f.all.countOf(r.at) < same {
			f.all.add(r.at)
		}
		if f.each[r.priority-1].countOf(r.at) < sameEach {
			f.each[r.priority-1].add(r.at)
		}
		if r.priority > group.High {
			f.paced = max(f.paced, r.at)
		}
	}
}

// arrive takes s in. If it may go at once, release is called for it, before arrive returns;
// else it waits, and who is evicted for it (perhaps s itself) is given to restrict.
func (f *flow) arrive(now int64, s *submission, release, restrict func(*submission)) {
	now = f.clock(now)
	p := s.draft.Priority
	s.flow = flowItem{key: f.rand.Uint64(), arrived: now}
	if f.count == 0 && f.room(now, p) {
		f.take(now, s, release)
		return
	}
	b := &f.waiting[p-1]
	*b = append(*b, s)
	f.count++
	if len(*b) > f.limit(p) {
		f.advance(now, release, restrict) // whoever is due does not compete for a place
	}
	if len(*b) > f.limit(p) { // no more can go within a second, and a longer queue would favour its oldest
		worst := 0
		for i, w := range *b {
			if w.flow.key > (*b)[worst].flow.key {
				worst = i
			}
		}
		evicted := (*b)[worst]
		f.remove(p, worst)
		restrict(evicted)
	}
}

// advance lets go what may go now and restricts who has waited in vain. It returns the
// instant at which it has to be called again, or math.MaxInt64 if nothing waits.
func (f *flow) advance(now int64, release, restrict func(*submission)) (next int64) {
	now = f.clock(now)
	for f.count > 0 {
		p, late := f.choose(now)
		if p == 0 {
			break
		}
		s := f.waiting[p-1][0]
		f.remove(p, 0)
		if late {
			restrict(s)
		} else {
			f.take(now, s, release)
		}
	}
	return f.next(now)
}

// drain restricts nobody and lets everybody go: the limits were switched off.
func (f *flow) drain(now int64, release func(*submission)) {
	for p := range f.waiting {
		for _, s := range f.waiting[p] {
			s.released = 0
			release(s)
		}
		f.waiting[p] = nil
	}
	f.count = 0
}

// giveBack returns the slot of a message that was refused after its release.
func (f *flow) giveBack(at int64, p group.Priority) {
	f.all.remove(at)
	f.each[p-1].remove(at)
}

// choose picks the waiter that is decided now: the most urgent that may go or, if nobody may,
// one whose second is over (late). No priority (0): everybody has to wait on.
func (f *flow) choose(now int64) (p group.Priority, late bool) {
	for p := group.High; p <= group.Lowest; p++ {
		if len(f.waiting[p-1]) == 0 || !f.room(now, p) {
			continue
		}
		if p == group.High || now-f.paced >= f.pace() || f.over(now, p) && f.spare(now, p) {
			return p, false
		}
	}
	for p := group.High; p <= group.Lowest; p++ {
		if len(f.waiting[p-1]) > 0 && f.over(now, p) {
			return p, true
		}
	}
	return 0, false
}

// over reports whether the second of p's first waiter is over.
func (f *flow) over(now int64, p group.Priority) bool {
	return now-f.waiting[p-1][0].flow.arrived >= int64(window)
}

// spare reports whether a slot would be left for p if all who are more urgent took theirs now,
// as they would have without pacing: so that pacing neither costs p its slot nor gives it theirs.
func (f *flow) spare(now int64, p group.Priority) bool {
	left := f.all.room(now, f.limits.PerSecond)
	for q := group.High; q < p; q++ {
		left -= min(len(f.waiting[q-1]), f.each[q-1].room(now, f.limit(q)))
	}
	return left > 0
}

// next is when somebody can be decided, if nothing else happens before.
func (f *flow) next(now int64) int64 {
	next := int64(math.MaxInt64)
	for i, b := range f.waiting {
		if len(b) == 0 {
			continue
		}
		p := group.Priority(i + 1)
		at := max(f.all.free(f.limits.PerSecond), f.each[i].free(f.limit(p)))
		if p > group.High {
			at = max(at, f.paced+f.pace())
		}
		next = min(next, max(at, now+1), b[0].flow.arrived+int64(window))
	}
	return next
}

func (f *flow) take(now int64, s *submission, release func(*submission)) {
	p := s.draft.Priority
	f.all.add(now)
	f.each[p-1].add(now)
	if p > group.High {
		f.paced = now
	}
	s.released = now
	release(s)
}

func (f *flow) remove(p group.Priority, i int) {
	b := &f.waiting[p-1]
	*b = slices.Delete(*b, i, i+1)
	f.count--
}

// room reports whether both windows have a slot for p.
func (f *flow) room(now int64, p group.Priority) bool {
	return f.all.free(f.limits.PerSecond) <= now && f.each[p-1].free(f.limit(p)) <= now
}

func (f *flow) limit(p group.Priority) int {
	if l := f.limits.PerPriority[p-1]; l > 0 {
		return min(l, f.limits.PerSecond)
	}
	return f.limits.PerSecond
}

// pace is the least distance of two releases below High while anything waits.
func (f *flow) pace() int64 { return int64(window) / int64(max(f.limits.PerSecond, 1)) }

func (f *flow) clock(now int64) int64 {
	f.last = max(f.last, now)
	cut := f.last - int64(window)
	f.all.cut(cut)
	for i := range f.each {
		f.each[i].cut(cut)
	}
	return f.last
}

// quiet reports whether the flow remembers and holds nothing.
func (f *flow) quiet() bool { return f.count == 0 }

// free is the instant from which a window of n has a slot; what lies in the past means now.
func (s slots) free(n int) int64 {
	if len(s) < n {
		return math.MinInt64
	}
	return s[len(s)-n] + int64(window)
}

// room is how many slots a window of n has at the instant.
func (s slots) room(now int64, n int) int {
	for i := len(s) - 1; i >= 0 && s[i] > now-int64(window); i-- {
		n--
	}
	return max(n, 0)
}

func (s slots) countOf(at int64) (n int) {
	for _, have := range s {
		if have == at {
			n++
		}
	}
	return n
}

func (s *slots) add(at int64) {
	i := len(*s)
	for i > 0 && (*s)[i-1] > at {
		i--
	}
	*s = slices.Insert(*s, i, at)
}

func (s *slots) remove(at int64) {
	for i := range slices.Backward(*s) {
		if (*s)[i] == at {
			*s = slices.Delete(*s, i, i+1)
			return
		}
	}
}

// cut forgets what is at or before the instant, all at once and not one by one.
func (s *slots) cut(to int64) {
	n := 0
	for n < len(*s) && (*s)[n] <= to {
		n++
	}
	if n == len(*s) {
		*s = (*s)[:0]
	} else if n > 64 || n > len(*s)/2 {
		*s = slices.Delete(*s, 0, n)
	}
}
