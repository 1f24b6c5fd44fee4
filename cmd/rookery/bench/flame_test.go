package bench

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// TestFlames draws two stacks that share their root: widths are shares of the time, inlined
// functions stand below those that they were inlined into, and what is too narrow is left out.
func TestFlames(t *testing.T) {
	at := func(names ...string) *profile.Location {
		l := new(profile.Location)
		for _, name := range names {
			l.Line = append(l.Line, profile.Line{Function: &profile.Function{Name: name}})
		}
		return l
	}
	serve := at("example.com/x/broker.serve")
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples"}, {Type: "cpu"}},
		Sample: []*profile.Sample{
			{Value: []int64{1, 9000}, Location: []*profile.Location{at("inlined<T>", "write"), serve}},
			{Value: []int64{1, 2999}, Location: []*profile.Location{at("read"), serve}},
			{Value: []int64{1, 1}, Location: []*profile.Location{at("rare"), serve}},
		},
	}
	root, err := flamesOf(p)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := root.writeSVG(&b, "a & b"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range regexp.MustCompile(`<title>(.*?) [0-9.]+ %</title><rect x="([0-9.]+)" y="(\d+)" width="([0-9.]+)"`).FindAllStringSubmatch(b.String(), -1) {
		got = append(got, strings.Join(m[1:], " "))
	}
	want := []string{
		"all 0.0 32 1200.0", "example.com/x/broker.serve 0.0 48 1200.0", "read 0.0 64 299.9", "write 299.9 64 900.0", "inlined&lt;T&gt; 299.9 80 900.0",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("drawn:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.Contains(b.String(), ">a &amp; b<") || !strings.Contains(b.String(), ">broker.serve<") {
		t.Errorf("no title, or no short name in %s", b.String())
	}
	if _, err := flamesOf(&profile.Profile{SampleType: p.SampleType}); !errors.Is(err, errIdle) {
		t.Errorf("a profile without samples: %v, want errIdle", err)
	}
	p.SampleType[1].Type = "delay"
	if _, err := flamesOf(p); err == nil {
		t.Error("a profile of something else was drawn")
	}
}

func TestWriteMarkdown(t *testing.T) {
	c := &Comparison{Machine: "2 × test", Rounds: 3, Contests: []ContestResult{{
		Name: "fast", About: "as fast as can be",
		Figures: []FigureResult{{What: "rate", Unit: "/s", Value: 1234, Target: "≥ 2000", Medians: map[string]float64{kindRookery: 1234}}},
	}}}
	file := filepath.Join(t.TempDir(), "page.md")
	for range 2 { // the second time over what the first has written
		if _, err := os.Stat(file); err != nil {
			if err := os.WriteFile(file, []byte("# Page\n"+markdownBegin+"\nold\n"+markdownEnd+"\nrest\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.WriteMarkdown(file); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		begins, ends := strings.HasPrefix(string(text), "# Page\n"+markdownBegin+"\n2 × test, on "), strings.HasSuffix(string(text), markdownEnd+"\nrest\n")
		row := "| `fast`: as fast as can be | rate | 1234 /s | target ≥ 2000: MISSED | rookery 1234 (0–0) |\n"
		if !begins || !ends || !strings.Contains(string(text), row) || strings.Contains(string(text), "old") {
			t.Errorf("the page:\n%s", text)
		}
	}
	if err := os.WriteFile(file, []byte("nothing to replace\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteMarkdown(file); err == nil {
		t.Error("a page without the lines was written to")
	}
}
