package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A measurement is what the counters and processes did between the ends of a window.
type measurement struct {
	seconds      float64
	counts       tally
	target, self processUse
	others       float64 // CPU seconds of all other processes
}

// A reading is what the measured process, this process and the whole machine have consumed up to an instant.
type reading struct {
	target, self usage
	machine      time.Duration
}

// processUse is what a process consumed in the measured time. CPU is user and system time of all threads.
type processUse struct {
	PID        int     `json:"pid,omitzero"`
	CPUSeconds float64 `json:"cpu_seconds"`
	RSSBefore  int64   `json:"rss_before"` // bytes
	RSSAfter   int64   `json:"rss_after"`
	// CPUPerMillion is CPU seconds per million of what the scenario counts: deliveries, messages, connections or calls.
	CPUPerMillion float64 `json:"cpu_seconds_per_million"`
}

// watch waits for the window to pass and shows on the way how it goes.
func (s *stage) watch(ctx context.Context, w window) (measurement, error) {
	var m measurement
	if err := s.showUntil(ctx, w.from, w); err != nil {
		return m, err
	}
	if s.Measuring != nil {
		s.Measuring(time.Duration(w.to - w.from))
	}
	from := s.now()
	counts := s.tally()
	before, err := s.read()
	if err != nil {
		return m, err
	}
	if err := s.showUntil(ctx, w.to, w); err != nil {
		return m, err
	}
	return s.since(from, counts, before)
}

// since measures from a start that the caller has noted.
func (s *stage) since(from int64, counts tally, before reading) (measurement, error) {
	m := measurement{counts: s.tally().plus(counts, -1), seconds: float64(s.now()-from) / 1e9}
	after, err := s.read()
	if err != nil {
		return m, err
	}
	m.target, m.self = use(before.target, after.target), use(before.self, after.self)
	m.target.PID = s.PID
	m.others = max((after.machine-before.machine).Seconds()-m.target.CPUSeconds-m.self.CPUSeconds, 0)
	return m, nil
}

func use(from, to usage) processUse {
	return processUse{CPUSeconds: (to.cpu - from.cpu).Seconds(), RSSBefore: from.rss, RSSAfter: to.rss}
}

func (s *stage) read() (r reading, err error) {
	if s.PID != 0 {
		if r.target, err = processUsage(s.PID); err != nil {
			return r, fmt.Errorf("the measured process: %w", err)
		}
	}
	if r.self, err = processUsage(os.Getpid()); err != nil {
		return r, err
	}
	r.machine, err = machineBusy()
	return r, err
}

// showUntil waits for an instant and writes the progress line every second.
func (s *stage) showUntil(ctx context.Context, until int64, w window) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	end := time.NewTimer(time.Duration(until - s.now()))
	defer end.Stop()
	before, at := s.tally(), s.now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return nil
		case <-t.C:
		}
		if s.Progress == nil {
			continue
		}
		now := s.now()
		counts := s.tally()
		what := "warming up"
		if now >= w.from {
			what = fmt.Sprintf("%2.0f of %.0f s", float64(now-w.from)/1e9, float64(w.to-w.from)/1e9)
		}
		s.line("%s  %s%s", what, counts.plus(before, -1).rates(float64(now-at)/1e9), s.lastPoint(ctx))
		before, at = counts, now
	}
}

// rates writes the growth of the counters as rates.
func (t tally) rates(seconds float64) string {
	text := ""
	add := func(n int64, what string) {
		if n > 0 {
			text += fmt.Sprintf("%s/s %s  ", short(float64(n)/seconds), what)
		}
	}
	add(t.Published, "published")
	add(t.Acked, "acknowledged")
	add(t.Delivered, "delivered")
	add(t.Calls, "done")
	add(t.Refused, "refused")
	add(t.Disconnects, "disconnects")
	return text
}

// lastPoint describes the latency in the last interval of the series that is over.
func (s *stage) lastPoint(ctx context.Context) string {
	var sum *hdrhistogram.Histogram
	err := s.each(ctx, func(l *loop) {
		for _, r := range []*recorder{l.meter.delivery, l.meter.ack, l.meter.call} {
			if r == nil || len(r.points) < 2 || r.points[len(r.points)-2] == nil {
				continue
			}
			if sum == nil {
				sum = hdrhistogram.New(1, longestLatency, 2)
			}
			sum.Merge(r.points[len(r.points)-2])
			return // the first kind that there is: deliveries before acknowledgements
		}
	})
	if err != nil || sum == nil {
		return ""
	}
	return fmt.Sprintf("p50 %.2f ms  p99 %.2f ms", millis(sum.ValueAtQuantile(50)), millis(sum.ValueAtQuantile(99)))
}

func millis(us int64) float64 { return float64(us) / 1000 }

// short writes a number with three digits and a k or M.
func short(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.3gM", n/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.3gk", n/1e3)
	}
	return fmt.Sprintf("%.3g", n)
}

// note tells on the progress line what is being done.
func (s *stage) note(format string, args ...any) {
	if s.Progress != nil {
		s.line(format, args...)
	}
}

// line writes over the progress line.
func (s *stage) line(format string, args ...any) {
	_, _ = fmt.Fprintf(s.Progress, "\r\x1b[K"+format, args...) // a lost line of progress is no error
}
