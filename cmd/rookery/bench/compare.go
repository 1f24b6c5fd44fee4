package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/google/pprof/profile"
)

// Compare describes a comparison: every contest, on all its servers in turn, several times.
type Compare struct {
	Only      []string // names of contests; empty means all
	Rounds    int
	Rookery   string // the binary; empty means this one
	Mosquitto string // the binary
	Dir       string // where data folders are made and removed again; empty means the system's for temporary files
	Flames    string // folder for a flame graph of Rookery's CPU time in each contest; empty means none
	Log       io.Writer
}

// A Comparison is what Compare found.
type Comparison struct {
	Started  time.Time       `json:"started"`
	Machine  string          `json:"machine"`
	Rounds   int             `json:"rounds"`
	Contests []ContestResult `json:"contests"`
}

// ContestResult holds the results of one contest, by contestant and round.
type ContestResult struct {
	Name    string               `json:"name"`
	About   string               `json:"about"`
	Figures []FigureResult       `json:"figures"`
	Results map[string][]*Result `json:"results"`
}

// A FigureResult compares medians.
type FigureResult struct {
	What    string             `json:"what"`
	Unit    string             `json:"unit,omitzero"`
	Medians map[string]float64 `json:"medians"`
	Lowest  map[string]float64 `json:"lowest"`
	Highest map[string]float64 `json:"highest"`
	Against string             `json:"against,omitzero"`
	Value   float64            `json:"value"` // Rookery's median, or its ratio to the one that it is compared with
	Target  string             `json:"target,omitzero"`
	Met     bool               `json:"met"` // true as well where there is no target
}

// RunCompare measures. A server that fails in a contest fails the whole: a comparison with gaps misleads.
func RunCompare(ctx context.Context, o Options, k Compare) (*Comparison, error) {
	if k.Rounds < 1 {
		return nil, errors.New("--rounds takes at least 1")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := binaries{rookery: k.Rookery, self: self, mosquitto: k.Mosquitto}
	if _, err := exec.LookPath(b.mosquitto); err != nil && b.mosquitto == kindMosquitto {
		b.mosquitto = "/usr/sbin/mosquitto" // where Debian has it, which is not in everybody's path
	}
	if b.rookery == "" {
		b.rookery = self
	}
	chosen, err := choose(contests(), k.Only)
	if err != nil {
		return nil, err
	}
	c := &Comparison{Started: time.Now(), Machine: machine(), Rounds: k.Rounds}
	for i, contest := range chosen {
		res := ContestResult{Name: contest.name, About: contest.about, Results: make(map[string][]*Result)}
		for round := range k.Rounds {
			for j := range contest.contestants {
				// Another one begins in every round, so that what drifts does not favour one of them.
				who := contest.contestants[(round+j)%len(contest.contestants)]
				_, _ = fmt.Fprintf(k.Log, "%d/%d %s, round %d/%d: %s\n", i+1, len(chosen), contest.name, round+1, k.Rounds, who.label)
				r, err := hold(ctx, o, k, b, who)
				if err != nil {
					return nil, fmt.Errorf("%s, round %d, %s: %w", contest.name, round+1, who.label, err)
				}
				res.Results[who.label] = append(res.Results[who.label], r)
			}
		}
		if k.Flames != "" {
			_, _ = fmt.Fprintf(k.Log, "%d/%d %s: flame graph\n", i+1, len(chosen), contest.name)
			if err := drawFlames(ctx, o, k, b, contest); err != nil {
				return nil, fmt.Errorf("%s, flame graph: %w", contest.name, err)
			}
		}
		for _, f := range contest.figures {
			res.Figures = append(res.Figures, f.judge(res.Results))
		}
		c.Contests = append(c.Contests, res)
	}
	return c, nil
}

func choose(all []contest, names []string) ([]contest, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []contest
	for _, name := range names {
		i := slices.IndexFunc(all, func(c contest) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--only: no contest is called %q; there are %s", name, strings.Join(contestNames(), ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func contestNames() []string {
	var names []string
	for _, c := range contests() {
		names = append(names, c.name)
	}
	return names
}

// drawFlames holds Rookery's part of a contest once more, with a profile that would disturb what is measured.
func drawFlames(ctx context.Context, o Options, k Compare, b binaries, c contest) error {
	i := slices.IndexFunc(c.contestants, func(who contestant) bool { return who.label == kindRookery && who.kind == kindRookery })
	if i < 0 {
		return nil
	}
	var profiled *profile.Profile
	var problem error
	var wg sync.WaitGroup
	who := c.contestants[i]
	run := who.run
	who.run = func(ctx context.Context, t *trial) (*Result, error) {
		address := t.server.http
		t.Measuring = func(d time.Duration) {
			wg.Go(func() { profiled, problem = cpuProfile(ctx, address, d) })
		}
		defer wg.Wait() // before the server is stopped
		return run(ctx, t)
	}
	b.env = append(b.env, "ROOKERY_HTTP_PPROF=true")
	if _, err := hold(ctx, o, k, b, who); err != nil {
		return err
	}
	if problem != nil || profiled == nil { // a contest that has no measured part of any length
		return problem
	}
	root, err := flamesOf(profiled)
	if errors.Is(err, errIdle) {
		return nil
	}
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(k.Flames, c.name+".svg"), func(w io.Writer) error { return root.writeSVG(w, c.name+": "+c.about) })
}

// hold runs one contestant on a server of its own.
func hold(ctx context.Context, o Options, k Compare, b binaries, who contestant) (res *Result, err error) {
	dir, err := os.MkdirTemp(k.Dir, "rookery-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := &trial{Options: o, binaries: b, dir: dir}
	if who.kind != "" {
		s, err := startServer(ctx, b, who.kind, dir)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.stop()) }()
		t.server, t.Options = s, s.options(o)
	}
	return who.run(ctx, t)
}

// judge compares the medians of one figure.
func (f figure) judge(results map[string][]*Result) FigureResult {
	r := FigureResult{
		What: f.what, Unit: f.unit, Against: f.against, Met: true,
		Medians: make(map[string]float64), Lowest: make(map[string]float64), Highest: make(map[string]float64),
	}
	for label, rounds := range results {
		var values []float64
		for _, res := range rounds {
			values = append(values, f.of(res))
		}
		r.Medians[label], r.Lowest[label], r.Highest[label] = median(values), slices.Min(values), slices.Max(values)
	}
	r.Value = r.Medians[kindRookery]
	if f.against != "" {
		// A divisor of zero gives an infinity or NaN, which meets no target and which JSON cannot hold.
		if r.Medians[f.against] == 0 {
			r.Target, r.Met = "nothing to compare with", false
			return r
		}
		r.Value /= r.Medians[f.against]
	}
	switch {
	case f.atMost > 0:
		r.Target, r.Met = fmt.Sprintf("≤ %g", f.atMost), r.Value <= f.atMost
	case f.atLeast > 0:
		r.Target, r.Met = fmt.Sprintf("≥ %g", f.atLeast), r.Value >= f.atLeast
	}
	return r
}

// machine describes where the figures come from.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s, %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// WriteJSON writes everything that was measured.
func (c *Comparison) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(c)
}

// WriteTable writes the medians, the ratios and what they should be.
func (c *Comparison) WriteTable(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s, medians of %d rounds (lowest–highest)\n", c.Machine, c.Rounds)
	for _, contest := range c.Contests {
		_, _ = fmt.Fprintf(w, "\n%s: %s\n", contest.Name, contest.About) // Flush reports a broken writer
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range contest.Figures {
			f.writeRow(t)
		}
		err = errors.Join(err, t.Flush(), contest.writeTroubles(w))
	}
	return err
}

// The lines of a Markdown file between which WriteMarkdown writes.
const (
	markdownBegin = "<!-- measured: begin -->"
	markdownEnd   = "<!-- measured: end -->"
)

// WriteMarkdown replaces what stands in a Markdown file between markdownBegin and markdownEnd by the tables.
func (c *Comparison) WriteMarkdown(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), markdownBegin+"\n")
	_, after, closed := strings.Cut(rest, markdownEnd)
	if !found || !closed {
		return fmt.Errorf("%s has no line %q, or none %q behind it", file, markdownBegin, markdownEnd)
	}
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%s, on %s: medians of %d rounds (lowest–highest).\n\n", c.Machine, c.Started.UTC().Format(time.DateOnly), c.Rounds)
	b.WriteString("| contest | figure | Rookery | target | all medians |\n|---|---|---|---|---|\n")
	for _, contest := range c.Contests {
		name := "`" + contest.Name + "`: " + contest.About
		for _, f := range contest.Figures {
			value, verdict, all := f.texts()
			_, _ = fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, f.What, value, verdict, all)
			name = ""
		}
	}
	var troubles strings.Builder
	for _, contest := range c.Contests {
		if err := contest.writeTroubles(&troubles); err != nil {
			return err
		}
	}
	if troubles.Len() > 0 {
		_, _ = fmt.Fprintf(&b, "\nWhat was noted in the rounds:\n\n```\n%s```\n", &troubles)
	}
	return os.WriteFile(file, []byte(before+markdownBegin+"\n"+b.String()+markdownEnd+after), 0o644)
}

func (f FigureResult) writeRow(w io.Writer) {
	value, verdict, all := f.texts()
	_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", f.What, value, verdict, all)
}

// texts returns the value, whether it meets the target, and the medians of all.
func (f FigureResult) texts() (value, verdict, medians string) {
	var all []string
	for _, label := range slices.Sorted(maps.Keys(f.Medians)) {
		if f.Medians[label] != 0 {
			all = append(all, fmt.Sprintf("%s %s (%s–%s)", label, digits4(f.Medians[label]), digits4(f.Lowest[label]), digits4(f.Highest[label])))
		}
	}
	if f.Target != "" {
		verdict = fmt.Sprintf("target %s: met", f.Target)
		if !f.Met {
			verdict = fmt.Sprintf("target %s: MISSED", f.Target)
		}
	}
	value = strings.TrimSpace(digits4(f.Value) + " " + f.Unit)
	if f.Against != "" {
		value = digits4(f.Value) + "× " + f.Against
	}
	return value, verdict, strings.Join(all, ", ")
}

func digits4(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4g", v)
}

// disturbed is how much of one processor others may use before a comparison says so.
const disturbed = 0.1

// writeTroubles says what went wrong in the rounds, by contestant.
func (c ContestResult) writeTroubles(w io.Writer) error {
	var errs []error
	for _, label := range slices.Sorted(maps.Keys(c.Results)) {
		for i, r := range c.Results[label] {
			var b strings.Builder
			errs = append(errs, r.writeTroubles(&b))
			if busy := r.OtherCPUSeconds / max(r.Seconds, 0.001); busy > disturbed {
				_, _ = fmt.Fprintf(&b, "! other processes used %.0f %% of a processor\n", busy*100)
			}
			for line := range strings.Lines(b.String()) {
				_, err := fmt.Fprintf(w, "  %s, round %d: %s", label, i+1, line)
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
