package bench

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// bareMochi starts a broker for one test and returns its address.
func bareMochi(t *testing.T) string {
	t.Helper()
	server, at, err := startMochi(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return at.String()
}

func shortRun(t *testing.T) Options {
	return Options{Broker: bareMochi(t), PID: os.Getpid(), Duration: 300 * time.Millisecond, Warmup: 50 * time.Millisecond}
}

// Runs against a broker that loses nothing must count every message on every connection, once.
func TestTrafficCountsEveryDelivery(t *testing.T) {
	base := Traffic{Scenario: "test", Groups: 1, Members: 7, Senders: 1, Size: 100, Outstanding: 4, Wait: WaitDelivery, MaxInFlight: 100}
	for name, change := range map[string]func(o *Options, tr *Traffic){
		"QoS 0, all members confirm": func(*Options, *Traffic) {},
		"QoS 1, all members confirm": func(_ *Options, tr *Traffic) { tr.QoS = 1 },
		"QoS 1 with MQTT 5":          func(o *Options, tr *Traffic) { o.MQTT5, tr.QoS, tr.Senders = true, 1, 3 },
		"own copy":                   func(_ *Options, tr *Traffic) { tr.Wait, tr.Senders, tr.Groups = WaitOwn, 2, 3 },
		"own copy, QoS 1":            func(_ *Options, tr *Traffic) { tr.Wait, tr.QoS = WaitOwn, 1 },
		"acknowledgement":            func(_ *Options, tr *Traffic) { tr.Wait, tr.QoS, tr.Members = WaitAck, 1, 0 },
		"two loops":                  func(o *Options, tr *Traffic) { o.Threads, tr.QoS, tr.Senders = 2, 1, 2 },
		"open loop, QoS 0":           func(_ *Options, tr *Traffic) { tr.Rate, tr.Groups = 200, 3 },
		"open loop, QoS 1":           func(_ *Options, tr *Traffic) { tr.Rate, tr.QoS, tr.Senders = 200, 1, 2 },
		"a stalled member":           func(_ *Options, tr *Traffic) { tr.Stalled = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			o, tr := shortRun(t), base
			change(&o, &tr)
			res, err := RunTraffic(t.Context(), o, tr)
			if err != nil {
				t.Fatal(err)
			}
			readers := int64(tr.Members)
			if tr.Wait == WaitOwn {
				readers += int64(tr.Senders)
			}
			n := res.Total
			if n.Published == 0 || n.Delivered != n.Published*readers || n.Expected != n.Delivered || res.Lost != 0 {
				t.Errorf("published %d, delivered %d, expected %d, lost %d; want %d deliveries of each", n.Published, n.Delivered, n.Expected, res.Lost, readers)
			}
			if tr.QoS > 0 && n.Acked != n.Published {
				t.Errorf("acknowledged %d of %d", n.Acked, n.Published)
			}
			if n.Missed+n.Repeated+n.Other+n.Refused+n.Abandoned+n.Unsent+n.Disconnects != 0 || len(res.Problems) > 0 {
				t.Errorf("troubles: %+v, %v", n, res.Problems)
			}
			if readers > 0 && (res.Latencies["delivery"].Count == 0 || res.Latencies["delivery"].P50 <= 0) {
				t.Errorf("latency of deliveries: %+v", res.Latencies["delivery"])
			}
			if tr.Rate > 0 {
				// All that was due within the measured part counts, late or not.
				want := tr.Rate * float64(tr.Groups) * o.Duration.Seconds() * float64(readers)
				if got := float64(res.Latencies["delivery"].Count); got < want-float64(readers*int64(tr.Groups*tr.Senders)) || got > want+float64(readers*int64(tr.Groups*tr.Senders)) {
					t.Errorf("%v latencies recorded, want %v", got, want)
				}
			}
		})
	}
}

func TestResultIsWrittenInEveryForm(t *testing.T) {
	o := shortRun(t)
	res, err := RunTraffic(t.Context(), o, Traffic{Scenario: "fanout", Groups: 1, Members: 3, Senders: 1, QoS: 1, Size: 60, Outstanding: 2, Wait: WaitDelivery, MaxInFlight: 1})
	if err != nil {
		t.Fatal(err)
	}
	res.Broker = "a < b & c"
	var table, text, drawing bytes.Buffer
	if err := errors.Join(res.WriteTable(&table), res.WriteJSON(&text), res.WriteSVG(&drawing)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fanout on a < b & c: 4 connections", "delivered", "acknowledgement", "p99.9", "measured"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	var back Result
	if err := json.Unmarshal(text.Bytes(), &back); err != nil || back.Total != res.Total || back.Process == nil {
		t.Errorf("read back %+v, %v; want %+v", back.Total, err, res.Total)
	}
	curves := 0
	for d := xml.NewDecoder(&drawing); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the drawing is not XML: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			curves++
		}
	}
	if curves != 8 {
		t.Errorf("the drawing has %d curves, want 4 for each of 2 kinds", curves)
	}
}

func TestTrafficRefusesWhatCannotRun(t *testing.T) {
	good := Traffic{Groups: 1, Members: 1, Senders: 1, Size: 100, Outstanding: 1, Wait: WaitDelivery, MaxInFlight: 1}
	for name, test := range map[string]struct {
		change func(*Traffic)
		want   string
	}{
		"no room for the stamp":   {func(tr *Traffic) { tr.Size = stampSize - 1 }, "--size"},
		"QoS 2":                   {func(tr *Traffic) { tr.QoS = 2 }, "--qos"},
		"ack without one":         {func(tr *Traffic) { tr.Wait = WaitAck }, "--wait ack"},
		"nobody confirms":         {func(tr *Traffic) { tr.Members = 0 }, "--wait delivery"},
		"unknown wait":            {func(tr *Traffic) { tr.Wait = "luck" }, `"luck"`},
		"no groups":               {func(tr *Traffic) { tr.Groups = 0 }, "--groups"},
		"more than six digits":    {func(tr *Traffic) { tr.Groups, tr.Senders = 1001, 1000 }, "1000000"},
		"more than 65535 at once": {func(tr *Traffic) { tr.Outstanding = 65536 }, "--outstanding"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := good
			test.change(&tr)
			if _, err := RunTraffic(t.Context(), Options{Broker: "127.0.0.1:1"}, tr); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("RunTraffic = %v, want an error that names %s", err, test.want)
			}
		})
	}
	if _, err := RunTraffic(t.Context(), Options{Broker: "127.0.0.1:1"}, good); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("RunTraffic without a broker = %v, want connection refused", err)
	}
}

// A message that was due before the broker let it be sent is late by all of the wait.
func TestLatencyCountsFromWhenTheMessageWasDue(t *testing.T) {
	w := newWindow(1_000_000_000, time.Second)
	r := newRecorder(w)
	r.record(w.from+5_000_000, w.from+8_000_000)     // 3 ms
	r.record(w.to-1_000_000, w.to+499_000_000)       // due inside, came 500 ms later
	r.record(w.from-300_000_000, w.from+300_000_000) // due while warming up
	if got := latency(r.all); got.Count != 2 || got.P50 < 3 || got.P50 > 3.01 || got.Max < 499.5 || got.Max > 500.5 {
		t.Errorf("latency = %+v; want two, 3 ms and 500 ms", got)
	}
	points := r.series()
	if got := points[0].Rate + points[1].Rate; len(points) != 2 || got != 2/0.25 {
		t.Errorf("series = %+v; want what arrived inside, one in each of two intervals of 250 ms", points)
	}
}

func TestProcessUsage(t *testing.T) {
	before, err := processUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 60*time.Millisecond; {
	}
	after, err := processUsage(os.Getpid())
	if err != nil || after.cpu <= before.cpu || after.rss < 1<<20 || after.rss > 64<<30 {
		t.Errorf("after 60 ms of work: %+v then %+v, %v", before, after, err)
	}
	if _, err := processUsage(1 << 30); err == nil {
		t.Error("a process that does not exist was measured")
	}
}
