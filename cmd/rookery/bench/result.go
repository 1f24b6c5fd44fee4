package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Result is what one run of a scenario found. Times are milliseconds unless a name says otherwise.
type Result struct {
	Scenario    string         `json:"scenario"`
	Broker      string         `json:"broker"`
	Started     time.Time      `json:"started"`
	Settings    map[string]any `json:"settings"`
	Connections int            `json:"connections"`
	Seconds     float64        `json:"seconds"` // of the measured part
	// Counts are those of the measured part; Total those of the whole run, warm-up and the wait at the end included.
	Counts tally `json:"counts"`
	Total  tally `json:"total"`
	// Lost is how many deliveries of the whole run never came.
	Lost      int64              `json:"lost"`
	Rates     map[string]float64 `json:"per_second"`
	Latencies map[string]Latency `json:"latency_ms"` // "delivery", "acknowledgement", "call"
	Figures   map[string]float64 `json:"figures,omitzero"`
	Process   *processUse        `json:"process,omitzero"`
	Bench     processUse         `json:"bench"`
	// OtherCPUSeconds is what all other processes of the machine consumed meanwhile: on a busy machine a figure says little.
	OtherCPUSeconds float64            `json:"other_cpu_seconds"`
	Series          map[string][]Point `json:"series"`
	Problems        map[string]int     `json:"problems,omitzero"`
}

// Latency summarises a histogram, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
}

// A Point is one interval of a run.
type Point struct {
	Second float64 `json:"second"` // where the interval begins, from the beginning of the measured part
	Rate   float64 `json:"per_second"`
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

func latency(h *hdrhistogram.Histogram) Latency {
	q := func(p float64) float64 { return millis(h.ValueAtQuantile(p)) }
	return Latency{
		Count: h.TotalCount(), Mean: h.Mean() / 1000, P50: q(50), P90: q(90), P95: q(95), P99: q(99), P999: q(99.9), Max: millis(h.Max()),
	}
}

func (r *recorder) series() []Point {
	points := make([]Point, 0, len(r.points))
	for i, h := range r.points {
		from := int64(i) * r.window.interval
		width := min(r.window.interval, r.window.to-r.window.from-from)
		p := Point{Second: float64(from) / 1e9}
		if h != nil {
			p.Rate = float64(h.TotalCount()) / (float64(width) / 1e9)
			p.P50, p.P99, p.Max = millis(h.ValueAtQuantile(50)), millis(h.ValueAtQuantile(99)), millis(h.Max())
		}
		points = append(points, p)
	}
	return points
}

// report gathers what the loops recorded. Nothing may be under way that still counts.
func (s *stage) report(ctx context.Context, m measurement) (*Result, error) {
	total := s.tally()
	res := &Result{
		Broker: s.Name, Started: time.Unix(0, s.unix), Seconds: m.seconds, Counts: m.counts, Total: total, OtherCPUSeconds: m.others,
		Lost: max(total.Expected-total.Delivered, 0), Problems: s.problems(), Bench: m.self,
		Rates: make(map[string]float64), Latencies: make(map[string]Latency), Series: make(map[string][]Point),
	}
	for name, n := range map[string]int64{
		"published": m.counts.Published, "acknowledged": m.counts.Acked, "delivered": m.counts.Delivered, "calls": m.counts.Calls,
	} {
		if n > 0 {
			res.Rates[name] = float64(n) / m.seconds
		}
	}
	kinds := map[string]*recorder{}
	err := s.each(ctx, func(l *loop) {
		for name, r := range map[string]*recorder{"delivery": l.meter.delivery, "acknowledgement": l.meter.ack, "call": l.meter.call} {
			if r == nil || r.all.TotalCount() == 0 && len(r.points) == 0 {
				continue
			}
			if kinds[name] == nil {
				kinds[name] = newRecorder(r.window)
			}
			kinds[name].merge(r)
		}
	})
	if err != nil {
		return nil, err
	}
	for name, r := range kinds {
		res.Latencies[name] = latency(r.all)
		res.Series[name] = r.series()
	}
	if s.PID != 0 {
		res.Process = &m.target
	}
	res.perMillion(cmpFirst(m.counts.Delivered, m.counts.Acked, m.counts.Published, m.counts.Calls))
	return res, nil
}

// cmpFirst returns the first number that is not zero.
func cmpFirst(numbers ...int64) int64 {
	for _, n := range numbers {
		if n != 0 {
			return n
		}
	}
	return 0
}

// perMillion relates the CPU times to n events.
func (r *Result) perMillion(n int64) {
	if n == 0 {
		return
	}
	r.Bench.CPUPerMillion = r.Bench.CPUSeconds / float64(n) * 1e6
	if r.Process != nil {
		r.Process.CPUPerMillion = r.Process.CPUSeconds / float64(n) * 1e6
	}
}

// WriteJSON writes the result as one JSON object.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the result for people.
func (r *Result) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") } // Flush reports the error
	_, _ = fmt.Fprintf(w, "%s on %s: %d connections, %.1f s%s\n\n", r.Scenario, r.Broker, r.Connections, r.Seconds, r.settingsLine())
	for _, name := range slices.Sorted(maps.Keys(r.Rates)) {
		row(name, fmt.Sprintf("%.0f/s", r.Rates[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Figures)) {
		row(name, fmt.Sprintf("%.6g", r.Figures[name]))
	}
	row("")
	if len(r.Latencies) > 0 {
		row("latency, ms", "p50", "p90", "p99", "p99.9", "max", "mean", "count")
		for _, name := range slices.Sorted(maps.Keys(r.Latencies)) {
			l := r.Latencies[name]
			ms := func(v float64) string { return fmt.Sprintf("%.2f", v) }
			row(name, ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max), ms(l.Mean), fmt.Sprint(l.Count))
		}
		row("")
	}
	row("process", "CPU s", "CPU %", "CPU s per million", "RSS MB before", "after")
	line := func(name string, u processUse) {
		row(name, fmt.Sprintf("%.2f", u.CPUSeconds), fmt.Sprintf("%.0f", u.CPUSeconds/r.Seconds*100), fmt.Sprintf("%.3f", u.CPUPerMillion),
			fmt.Sprintf("%.1f", float64(u.RSSBefore)/1e6), fmt.Sprintf("%.1f", float64(u.RSSAfter)/1e6))
	}
	if r.Process != nil {
		line("measured", *r.Process)
	}
	line("bench", r.Bench)
	if r.OtherCPUSeconds > 0 {
		row("all others", fmt.Sprintf("%.2f", r.OtherCPUSeconds), fmt.Sprintf("%.0f", r.OtherCPUSeconds/r.Seconds*100))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return r.writeTroubles(w)
}

func (r *Result) settingsLine() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Settings)) {
		_, _ = fmt.Fprintf(&b, ", %s %v", name, r.Settings[name])
	}
	return b.String()
}

// writeTroubles says what did not go as it should have; nothing when all went well.
func (r *Result) writeTroubles(w io.Writer) error {
	troubles := []struct {
		n    int64
		what string
	}{
		{r.Lost, "deliveries never came"},
		{r.Total.Missed, "deliveries missing in a receiver's sequence"},
		{r.Total.Repeated, "deliveries repeated or out of order"},
		{r.Total.Other, "deliveries that are not of this run"},
		{r.Total.Refused, "messages refused"},
		{r.Total.Abandoned, "messages given up on by the closed loop"},
		{r.Total.Unsent, "messages due and never sent"},
		{r.Total.CallErrors, "failed calls"},
		{r.Total.Disconnects, "connections ended by the broker"},
	}
	var b strings.Builder
	for _, t := range troubles {
		if t.n > 0 {
			_, _ = fmt.Fprintf(&b, "! %d %s\n", t.n, t.what)
		}
	}
	for _, text := range slices.Sorted(maps.Keys(r.Problems)) {
		_, _ = fmt.Fprintf(&b, "! %d × %s\n", r.Problems[text], text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
