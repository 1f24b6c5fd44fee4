package bench

import (
	"strings"
	"testing"
	"time"
)

func TestConnectCountsEveryClient(t *testing.T) {
	for name, c := range map[string]Connect{
		"stay":      {Scenario: "connect", Connections: 40},
		"leave":     {Scenario: "connect", Connections: 40, Churn: true},
		"subscribe": {Scenario: "connect", Connections: 40, Subscribe: "groups/+"},
		"hold":      {Scenario: "idle", Connections: 40, Hold: true, Settle: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			o := shortRun(t)
			o.Parallel = 8
			res, err := RunConnect(t.Context(), o, c)
			if err != nil {
				t.Fatal(err)
			}
			if res.Counts.Calls != 40 || res.Latencies["call"].Count != 40 || res.Rates["calls"] <= 0 {
				t.Errorf("%d connects, %d latencies, %v/s; want 40", res.Counts.Calls, res.Latencies["call"].Count, res.Rates["calls"])
			}
			if res.Total.Disconnects+res.Total.CallErrors != 0 || len(res.Problems) > 0 {
				t.Errorf("troubles: %+v, %v", res.Total, res.Problems)
			}
			if _, measured := res.Figures[bytesPerConnection]; measured == c.Churn {
				t.Errorf("figures: %v; want the bytes of connections that stay", res.Figures)
			}
		})
	}
}

func TestConnectTellsWhatFailed(t *testing.T) {
	o := Options{Broker: "127.0.0.1:1", Duration: time.Millisecond}
	if _, err := RunConnect(t.Context(), o, Connect{Connections: 3, Hold: true}); err == nil || !strings.Contains(err.Error(), "3 of 3 connections failed") {
		t.Errorf("RunConnect with nobody listening = %v", err)
	}
	o.Broker = bareMochi(t)
	_, err := RunConnect(t.Context(), o, Connect{Connections: 2, Hold: true, Subscribe: "#/bad"})
	if err == nil || !strings.Contains(err.Error(), "subscription to #/bad refused") && !strings.Contains(err.Error(), "closed by the broker") {
		t.Errorf("RunConnect with a bad filter = %v", err)
	}
}
