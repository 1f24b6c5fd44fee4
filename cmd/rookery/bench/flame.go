package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// cpuProfile has a Go server that serves /debug/pprof at address (host:port) profile itself.
func cpuProfile(ctx context.Context, address string, d time.Duration) (*profile.Profile, error) {
	ctx, cancel := context.WithTimeout(ctx, d+30*time.Second)
	defer cancel()
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", address, max(1, int(d.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return profile.Parse(resp.Body)
}

// errIdle says that a server did nothing while it was profiled.
var errIdle = errors.New("the profile has no samples")

// A flame is a function as called by the ones above it.
type flame struct {
	name    string
	value   int64 // of the samples in it and in what it calls
	callees map[string]*flame
}

func (f *flame) callee(name string) *flame {
	c := f.callees[name]
	if c == nil {
		if f.callees == nil {
			f.callees = make(map[string]*flame)
		}
		c = &flame{name: name}
		f.callees[name] = c
	}
	return c
}

// flamesOf adds up the samples of a profile by their stacks.
func flamesOf(p *profile.Profile) (*flame, error) {
	kind := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "cpu" })
	if kind < 0 {
		return nil, errors.New("the profile is not one of CPU time")
	}
	root := &flame{name: "all"}
	for _, s := range p.Sample {
		f := root
		f.value += s.Value[kind]
		for _, at := range slices.Backward(s.Location) {
			for _, line := range slices.Backward(at.Line) { // what was inlined comes first
				f = f.callee(line.Function.Name)
				f.value += s.Value[kind]
			}
		}
	}
	if root.value == 0 {
		return nil, errIdle
	}
	return root, nil
}

const (
	flameWidth  = 1200
	flameHeight = 16
	// flameLeast is the narrowest that is drawn, in pixels.
	flameLeast = 0.5
	// flameChar is about how wide a character is.
	flameChar = 6.2
)

// writeSVG draws root, callers above what they call; the width is CPU time, and a tooltip gives
// the whole name and the share.
func (f *flame) writeSVG(w io.Writer, title string) error {
	var b strings.Builder
	height := (f.depth(float64(flameWidth)/float64(f.value))+1)*flameHeight + 40
	_, _ = fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="monospace" font-size="10">`+"\n"+
		`<rect width="100%%" height="100%%" fill="#fff"/>`+"\n"+`<text x="4" y="20" font-size="14">%s</text>`+"\n", flameWidth, height, html.EscapeString(title))
	f.draw(&b, 0, 32, float64(flameWidth)/float64(f.value), f.value)
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// depth is how many rows f needs at scale pixels for a unit of value.
func (f *flame) depth(scale float64) int {
	deepest := 0
	for _, c := range f.callees {
		if float64(c.value)*scale >= flameLeast {
			deepest = max(deepest, 1+c.depth(scale))
		}
	}
	return deepest
}

func (f *flame) draw(b *strings.Builder, x float64, y int, scale float64, all int64) {
	width := float64(f.value) * scale
	_, _ = fmt.Fprintf(b, `<g><title>%s %.1f %%</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" stroke="#fff" stroke-width="0.5"/>`,
		html.EscapeString(f.name), float64(f.value)/float64(all)*100, x, y, width, flameHeight, flameColour(f.name))
	if room := int((width - 4) / flameChar); room >= 3 {
		name := f.name[strings.LastIndexByte(f.name, '/')+1:]
		_, _ = fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`, x+2, y+flameHeight-4, html.EscapeString(name[:min(len(name), room)]))
	}
	b.WriteString("</g>\n")
	for _, c := range slices.SortedFunc(maps.Values(f.callees), func(a, b *flame) int { return cmp.Compare(a.name, b.name) }) {
		if w := float64(c.value) * scale; w >= flameLeast {
			c.draw(b, x, y+flameHeight, scale, all)
			x += w
		}
	}
}

// flameColour tells our own code, the libraries that carry it, the system calls and the runtime apart.
func flameColour(function string) string {
	for _, c := range []struct{ prefix, colour string }{
		{"github.com/rookery-im/", "#f4a259"},
		{"github.com/mochi-mqtt/", "#8cb369"},
		{"github.com/cockroachdb/", "#5b8e7d"},
		{"syscall.", "#bc4b51"},
		{"internal/runtime/syscall", "#bc4b51"},
		{"runtime.", "#cccccc"},
		{"internal/runtime/", "#cccccc"},
	} {
		if strings.HasPrefix(function, c.prefix) {
			return c.colour
		}
	}
	return "#f4e285"
}
