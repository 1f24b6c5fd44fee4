package bench

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

// Sizes of a drawing, in pixels.
const (
	svgWidth    = 860
	panelHeight = 220
	panelLeft   = 70
	panelRight  = 20
	panelTop    = 34
	panelBottom = 26
)

// A curve is one line of a panel.
type curve struct {
	name, colour string
	at           func(Point) float64
}

// WriteSVG draws the rate and the latency over the measured time, two panels for each kind of event.
func (r *Result) WriteSVG(w io.Writer) error {
	kinds := slices.Sorted(maps.Keys(r.Series))
	var b strings.Builder
	height := 2*panelHeight*len(kinds) + 40
	svgOpen(&b, height)
	svgText(&b, panelLeft, 24, 15, "start", "#222", fmt.Sprintf("%s on %s: %d connections%s", r.Scenario, r.Broker, r.Connections, r.settingsLine()))
	y := 40
	for _, kind := range kinds {
		points := r.Series[kind]
		drawPanel(&b, y, fmt.Sprintf("%s: per second", kind), points, []curve{
			{"rate", "#1f77b4", func(p Point) float64 { return p.Rate }},
		})
		drawPanel(&b, y+panelHeight, fmt.Sprintf("%s: latency, ms", kind), points, []curve{
			{"max", "#bbb", func(p Point) float64 { return p.Max }},
			{"p99", "#d62728", func(p Point) float64 { return p.P99 }},
			{"p50", "#2ca02c", func(p Point) float64 { return p.P50 }},
		})
		y += 2 * panelHeight
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func svgOpen(b *strings.Builder, height int) {
	_, _ = fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif">`+"\n"+
		`<rect width="100%%" height="100%%" fill="#fff"/>`+"\n", svgWidth, height)
}

func svgText(b *strings.Builder, x, y, size int, anchor, colour, text string) {
	_, _ = fmt.Fprintf(b, `<text x="%d" y="%d" font-size="%d" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, size, anchor, colour, html.EscapeString(text))
}

// drawPanel draws curves over time with their axes, from y downwards.
func drawPanel(b *strings.Builder, y int, title string, points []Point, curves []curve) {
	top, bottom := y+panelTop, y+panelHeight-panelBottom
	right := svgWidth - panelRight
	svgText(b, panelLeft, y+20, 13, "start", "#222", title)
	highest, last := 0.0, 0.0
	for _, p := range points {
		last = max(last, p.Second)
		for _, c := range curves {
			highest = max(highest, c.at(p))
		}
	}
	highest, last = niceCeiling(highest), cmp.Or(last, 1)
	for i := range 5 {
		at := bottom - i*(bottom-top)/4
		_, _ = fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%[2]d" stroke="#e5e5e5"/>`+"\n", panelLeft, at, right)
		svgText(b, panelLeft-6, at+4, 11, "end", "#555", short(highest*float64(i)/4))
	}
	for i := range 6 {
		at := panelLeft + i*(right-panelLeft)/5
		svgText(b, at, bottom+16, 11, "middle", "#555", fmt.Sprintf("%.3g s", last*float64(i)/5))
	}
	for i, c := range curves {
		svgText(b, right-60*i, y+20, 12, "end", c.colour, c.name)
		var path strings.Builder
		for _, p := range points {
			px := panelLeft + p.Second/last*float64(right-panelLeft)
			py := float64(bottom) - c.at(p)/highest*float64(bottom-top)
			_, _ = fmt.Fprintf(&path, "%.1f,%.1f ", px, py)
		}
		_, _ = fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.6"/>`+"\n", strings.TrimSpace(path.String()), c.colour)
	}
}

// niceCeiling rounds up to 1, 2 or 5 times a power of ten.
func niceCeiling(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 5} {
		if v <= step*unit {
			return step * unit
		}
	}
	return 10 * unit
}
