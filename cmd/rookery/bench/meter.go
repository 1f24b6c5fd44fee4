package bench

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are recorded in microseconds up to two minutes; what took longer counts as two minutes.
const longestLatency = int64(2 * time.Minute / time.Microsecond)

// A window is the measured part of a run, after warming up, in Unix nanoseconds.
type window struct {
	from, to int64
	interval int64 // the width of a point of the series
}

func newWindow(from int64, d time.Duration) window {
	return window{from: from, to: from + int64(d), interval: max(int64(250*time.Millisecond), int64(d)/60)}
}

func (w window) has(at int64) bool { return at >= w.from && at < w.to }

// A recorder keeps latencies of one kind on one loop.
type recorder struct {
	window window
	all    *hdrhistogram.Histogram
	points []*hdrhistogram.Histogram // by interval of the arrival
}

func newRecorder(w window) *recorder {
	return &recorder{window: w, all: hdrhistogram.New(1, longestLatency, 3)}
}

// record takes an event that was due at due and happened at now. The latency counts when it was due within the
// window, even if it arrived later, so that what a broker held back is not left out.
func (r *recorder) record(due, now int64) {
	us := min(max((now-due+500)/1000, 1), longestLatency)
	if r.window.has(due) {
		_ = r.all.RecordValue(us) // in range
	}
	if !r.window.has(now) {
		return
	}
	i := int((now - r.window.from) / r.window.interval)
	for len(r.points) <= i {
		r.points = append(r.points, nil)
	}
	if r.points[i] == nil {
		r.points[i] = hdrhistogram.New(1, longestLatency, 2)
	}
	_ = r.points[i].RecordValue(us)
}

// merge adds what other has to r. Neither may be recording.
func (r *recorder) merge(other *recorder) {
	r.all.Merge(other.all)
	for i, h := range other.points {
		for len(r.points) <= i {
			r.points = append(r.points, nil)
		}
		switch {
		case h == nil:
		case r.points[i] == nil:
			r.points[i] = hdrhistogram.Import(h.Export())
		default:
			r.points[i].Merge(h)
		}
	}
}

// A meter counts what happens on one loop. The counters may be read at any time; the recorders belong to the loop.
type meter struct {
	published, acked, refused      atomic.Int64
	delivered, expected            atomic.Int64
	missed, repeated, other        atomic.Int64
	disconnects, abandoned, unsent atomic.Int64
	calls, callErrors              atomic.Int64

	delivery, ack, call *recorder

	mu       sync.Mutex
	problems map[string]int // guarded by mu
}

// maxProblems bounds how many different complaints a run keeps.
const maxProblems = 16

// problem keeps an error for the report.
func (m *meter) problem(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problems == nil {
		m.problems = make(map[string]int)
	}
	text := err.Error()
	if _, known := m.problems[text]; !known && len(m.problems) >= maxProblems {
		text = "other"
	}
	m.problems[text]++
}

// A tally is a meter's counters at one instant, or their growth between two.
type tally struct {
	Published   int64 `json:"published"`
	Acked       int64 `json:"acknowledged"`
	Refused     int64 `json:"refused"`
	Delivered   int64 `json:"delivered"`
	Expected    int64 `json:"expected"`
	Missed      int64 `json:"missed"`      // gaps seen by receivers
	Repeated    int64 `json:"repeated"`    // deliveries seen before, or out of order
	Other       int64 `json:"other"`       // deliveries that are not of this run
	Disconnects int64 `json:"disconnects"` // connections that the broker ended
	Abandoned   int64 `json:"abandoned"`   // messages whose completion nobody waits for any longer
	Unsent      int64 `json:"unsent"`      // messages that were due and could not be sent
	Calls       int64 `json:"calls"`
	CallErrors  int64 `json:"call_errors"`
}

func (m *meter) tally() tally {
	return tally{
		Published: m.published.Load(), Acked: m.acked.Load(), Refused: m.refused.Load(),
		Delivered: m.delivered.Load(), Expected: m.expected.Load(),
		Missed: m.missed.Load(), Repeated: m.repeated.Load(), Other: m.other.Load(),
		Disconnects: m.disconnects.Load(), Abandoned: m.abandoned.Load(), Unsent: m.unsent.Load(),
		Calls: m.calls.Load(), CallErrors: m.callErrors.Load(),
	}
}

func (t tally) plus(o tally, sign int64) tally {
	return tally{
		Published: t.Published + sign*o.Published, Acked: t.Acked + sign*o.Acked, Refused: t.Refused + sign*o.Refused,
		Delivered: t.Delivered + sign*o.Delivered, Expected: t.Expected + sign*o.Expected,
		Missed: t.Missed + sign*o.Missed, Repeated: t.Repeated + sign*o.Repeated, Other: t.Other + sign*o.Other,
		Disconnects: t.Disconnects + sign*o.Disconnects, Abandoned: t.Abandoned + sign*o.Abandoned, Unsent: t.Unsent + sign*o.Unsent,
		Calls: t.Calls + sign*o.Calls, CallErrors: t.CallErrors + sign*o.CallErrors,
	}
}
