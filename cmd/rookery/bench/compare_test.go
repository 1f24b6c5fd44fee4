package bench

import (
	"bytes"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

func TestJudgeComparesMedians(t *testing.T) {
	cpu := func(values ...float64) (all []*Result) {
		for _, v := range values {
			all = append(all, &Result{Process: &processUse{CPUPerMillion: v}})
		}
		return all
	}
	results := map[string][]*Result{kindRookery: cpu(1, 9, 2), kindMosquitto: cpu(10, 30), "idle": cpu(0)}
	for name, test := range map[string]struct {
		f     figure
		value float64
		met   bool
	}{
		"ratio, met":    {figure{of: cpuPerMillion, against: kindMosquitto, atMost: 0.1}, 0.1, true},
		"ratio, missed": {figure{of: cpuPerMillion, against: kindMosquitto, atMost: 0.09}, 0.1, false},
		"at least":      {figure{of: cpuPerMillion, atLeast: 2.5}, 2, false},
		"no target":     {figure{of: cpuPerMillion}, 2, true},
		"no divisor":    {figure{of: cpuPerMillion, against: "idle", atMost: 5}, 2, false},
	} {
		got := test.f.judge(results)
		if math.Abs(got.Value-test.value) > 1e-9 || got.Met != test.met {
			t.Errorf("%s: %v, met %v; want %v, %v", name, got.Value, got.Met, test.value, test.met)
		}
		if got.Lowest[kindRookery] != 1 || got.Highest[kindRookery] != 9 || got.Medians[kindMosquitto] != 20 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestContestsAreUnambiguous(t *testing.T) {
	names := make(map[string]bool)
	for _, c := range contests() {
		if names[c.name] || c.about == "" || len(c.figures) == 0 {
			t.Errorf("contest %q: a second one, or nothing to it", c.name)
		}
		names[c.name] = true
		labels := make(map[string]bool)
		for _, who := range c.contestants {
			labels[who.label] = true
		}
		if !labels[kindRookery] {
			t.Errorf("%s: Rookery does not take part", c.name)
		}
		for _, f := range c.figures {
			if f.against != "" && !labels[f.against] {
				t.Errorf("%s: %s is compared with %s, which does not take part", c.name, f.what, f.against)
			}
		}
	}
	if _, err := choose(contests(), []string{"rest", "luck"}); err == nil || !strings.Contains(err.Error(), `"luck"`) {
		t.Errorf("choose = %v, want an error that names what there is not", err)
	}
}

// This test binary plays the server that compare starts.
func TestMain(m *testing.M) {
	if name := os.Getenv("BENCH_TEST_SERVER"); name != "" {
		os.Exit(playServer(name))
	}
	os.Exit(m.Run())
}

func TestServersAreStartedAndStopped(t *testing.T) {
	t.Setenv("BENCH_TEST_SERVER", "mochi")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := binaries{self: self, rookery: self}
	s, err := startServer(t.Context(), b, kindMochi, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.stop() })
	pid, at := s.cmd.Process.Pid, s.mqtt
	if err := s.restart(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if s.cmd.Process.Pid == pid || s.mqtt != at {
		t.Errorf("after a restart: process %d at %s, before %d at %s", s.cmd.Process.Pid, s.mqtt, pid, at)
	}
	o := s.options(Options{Duration: 50 * time.Millisecond, Warmup: -1})
	res, err := RunTraffic(t.Context(), o, Traffic{Groups: 1, Members: 2, Senders: 1, Size: 100, Outstanding: 1, Wait: WaitDelivery, MaxInFlight: 1})
	if err != nil || res.Process == nil || res.Process.PID != s.cmd.Process.Pid || res.Process.RSSAfter == 0 {
		t.Fatalf("RunTraffic = %+v, %v; want the usage of process %d", res, err, s.cmd.Process.Pid)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if _, err := processUsage(s.cmd.Process.Pid); err == nil {
		t.Error("the server still runs after stop")
	}

	t.Setenv("BENCH_TEST_SERVER", "broken")
	if _, err := startServer(t.Context(), b, kindRookery, t.TempDir()); err == nil || !strings.Contains(err.Error(), "rookery ended at its start: cannot") {
		t.Errorf("startServer of a broken one = %v, want what it said", err)
	}
}

func TestComparisonIsWrittenWithVerdicts(t *testing.T) {
	r := func(cpu float64) []*Result {
		return []*Result{{Process: &processUse{CPUPerMillion: cpu}, Lost: int64(cpu)}}
	}
	results := map[string][]*Result{kindRookery: r(5), kindMosquitto: r(10)}
	f := figure{what: "CPU per delivery", unit: "s/million", of: cpuPerMillion, against: kindMosquitto, atMost: 0.1}
	c := Comparison{Machine: "this one", Rounds: 1, Contests: []ContestResult{{
		Name: "fanout", About: "1 to 2", Results: results, Figures: []FigureResult{f.judge(results)},
	}}}
	var table, text bytes.Buffer
	if err := c.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fanout: 1 to 2", "0.5× mosquitto", "target ≤ 0.1: MISSED", "rookery, round 1: ! 5 deliveries never came"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	if !strings.Contains(text.String(), `"met": false`) {
		t.Errorf("the JSON lacks the verdict:\n%s", &text)
	}
}
