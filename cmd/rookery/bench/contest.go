package bench

import (
	"context"
	"slices"
	"time"
)

// A contest is one figure, or several of one kind of load, measured on several servers in turn.
type contest struct {
	name, about string
	contestants []contestant
	figures     []figure
}

// A contestant is a server under one load.
type contestant struct {
	label string
	kind  string // of the server; empty for none
	run   func(ctx context.Context, t *trial) (*Result, error)
}

// A trial is one run of a contestant.
type trial struct {
	Options
	server   *server // nil where the contestant needs none
	binaries binaries
	dir      string
}

// A figure is a number of a result, with what Rookery's should be.
type figure struct {
	what    string
	unit    string
	of      func(*Result) float64
	against string // a label: the figure is Rookery's median divided by that one's
	// atMost and atLeast are the target; zero is none.
	atMost, atLeast float64
}

func cpuPerMillion(r *Result) float64 {
	if r.Process == nil {
		return 0
	}
	return r.Process.CPUPerMillion
}

func rate(name string) func(*Result) float64 {
	return func(r *Result) float64 { return r.Rates[name] }
}

func p50(name string) func(*Result) float64 {
	return func(r *Result) float64 { return r.Latencies[name].P50 }
}

func p99(name string) func(*Result) float64 {
	return func(r *Result) float64 { return r.Latencies[name].P99 }
}

func found(name string) func(*Result) float64 {
	return func(r *Result) float64 { return r.Figures[name] }
}

// lostShare is the share of what should have been delivered that never came, or was never sent.
func lostShare(r *Result) float64 {
	due := r.Total.Expected + r.Total.Unsent
	if due == 0 {
		return 0
	}
	return float64(r.Lost+r.Total.Unsent) / float64(due)
}

// traffic makes contestants that all get the same messages.
func traffic(t Traffic, kinds ...string) []contestant {
	var all []contestant
	for _, kind := range kinds {
		all = append(all, trafficAs(kind, kind, t))
	}
	return all
}

func trafficAs(label, kind string, t Traffic) contestant {
	t.MaxInFlight = max(t.MaxInFlight, 1024)
	t.Outstanding = max(t.Outstanding, 1)
	if t.Wait == "" {
		t.Wait = WaitDelivery
	}
	return contestant{label: label, kind: kind, run: func(ctx context.Context, tr *trial) (*Result, error) {
		return RunTraffic(ctx, tr.Options, t)
	}}
}

func storeAs(label string, k Store) contestant {
	return contestant{label: label, run: func(ctx context.Context, tr *trial) (*Result, error) {
		k.Dir = tr.dir
		return RunStore(ctx, tr.Options, k)
	}}
}

const disk = "disk"

// emptyHandler is the contestant that does nothing with a request.
const emptyHandler = "empty handler"

func restAs(label string, k Rest) contestant {
	return contestant{label: label, kind: kindRookery, run: func(ctx context.Context, tr *trial) (*Result, error) {
		return RunRest(ctx, tr.Options, k)
	}}
}

// contests are the figures that Rookery promises, in the order of docs/performance.md.
func contests() []contest {
	everybody := []string{kindRookery, kindMosquitto, kindMochi}
	fanout := func(qos byte, members, outstanding int) Traffic {
		return Traffic{Scenario: "fanout", Groups: 1, Members: members, Senders: 1, QoS: qos, Size: 200, Outstanding: outstanding}
	}
	cpu := func(against string, atMost float64) figure {
		return figure{what: "CPU per delivery", unit: "s/million", of: cpuPerMillion, against: against, atMost: atMost}
	}
	versusBoth := func(atMost float64) []figure {
		return []figure{
			cpu(kindMosquitto, atMost), cpu(kindMochi, 0),
			{what: "deliveries", unit: "/s", of: rate("delivered")},
		}
	}
	steady := Traffic{Scenario: "fanout", Groups: 1, Members: 500, Senders: 1, QoS: 1, Size: 128, Rate: 40}
	besideStalled := steady
	besideStalled.Stalled = 1
	steadyFigures := []figure{
		{what: "delivery p99", unit: "ms", of: p99("delivery"), atMost: 15},
		cpu("", 17),
		{what: "share lost", of: lostShare},
	}
	ingest := Traffic{Scenario: "ingest", Groups: 1000, Senders: 1, QoS: 1, Size: 200, Outstanding: 64, Wait: WaitAck}
	oneGroup := Traffic{Scenario: "ingest", Groups: 1, Senders: 64, QoS: 1, Size: 200, Outstanding: 1, Wait: WaitAck}
	send := Rest{Connections: 64, Groups: 64, Size: 200}
	alone := Traffic{Scenario: "ingest", Groups: 1, Senders: 1, QoS: 1, Size: 200, Outstanding: 1, Wait: WaitAck}

	return []contest{
		{"fanout-burst-qos0", "1 to 1,000, 200 B, 16 outstanding, QoS 0", traffic(fanout(0, 1000, 16), everybody...), versusBoth(0.10)},
		{"fanout-burst-qos1", "1 to 1,000, 200 B, 16 outstanding, QoS 1", traffic(fanout(1, 1000, 16), everybody...), versusBoth(0.15)},
		{"fanout-single-qos0", "1 to 1,000, 200 B, one message at a time, QoS 0", traffic(fanout(0, 1000, 1), everybody...), versusBoth(0.70)},
		{"fanout-single-qos1", "1 to 1,000, 200 B, one message at a time, QoS 1", traffic(fanout(1, 1000, 1), everybody...), versusBoth(1.1)},
		{
			"fanout-10000", "1 to 10,000 in bursts of 16, QoS 0, against 1 to 1,000",
			[]contestant{trafficAs(kindRookery, kindRookery, fanout(0, 10_000, 16)), trafficAs("1000 members", kindRookery, fanout(0, 1000, 16))},
			[]figure{cpu("1000 members", 1.3), {what: "deliveries", unit: "/s", of: rate("delivered")}},
		},
		{
			"groups", "50 groups of 20 members, each 40 messages/s, QoS 1",
			traffic(Traffic{Scenario: "groups", Groups: 50, Members: 20, Senders: 1, QoS: 1, Size: 200, Rate: 40}, kindRookery, kindMosquitto),
			[]figure{
				{what: "acknowledged", unit: "/s", of: rate("acknowledged"), atLeast: 1980},
				{what: "delivery p99", unit: "ms", of: p99("delivery"), atMost: 50},
				cpu(kindMosquitto, 0.8),
				{what: "share lost", of: lostShare},
			},
		},
		{
			"ingest-groups", "1,000 groups, 64 messages outstanding in each, stored and acknowledged, against Pebble alone",
			[]contestant{trafficAs(kindRookery, kindRookery, ingest), storeAs(disk, Store{Writers: 1000, Size: 300})},
			[]figure{
				{what: "acknowledged", unit: "/s", of: rate("acknowledged"), atLeast: 25_000},
				{what: "acknowledged per commit of Pebble", of: ackedOrCommitted, against: disk, atLeast: 0.5},
			},
		},
		{
			"ingest-one-group", "64 senders into one group, one message outstanding each",
			traffic(oneGroup, kindRookery),
			[]figure{{what: "acknowledged", unit: "/s", of: rate("acknowledged"), atLeast: 10_000}},
		},
		{
			"ack-latency", "one sender, one message at a time: PUBACK of a stored message, against one fsync",
			[]contestant{trafficAs(kindRookery, kindRookery, alone), storeAs(disk, Store{Writers: 1, Size: 300})},
			[]figure{
				{what: "acknowledgement p50", unit: "ms", of: ackOrFsync},
				{what: "acknowledgement per fsync", of: ackOrFsync, against: disk, atMost: 1.5},
			},
		},
		{
			"closed-500", "1 to 500, 128 B, 8 outstanding, QoS 1",
			traffic(Traffic{Scenario: "fanout", Groups: 1, Members: 500, Senders: 1, QoS: 1, Size: 128, Outstanding: 8}, everybody...),
			[]figure{{what: "deliveries", unit: "/s", of: rate("delivered"), atLeast: 100_000}, cpu("", 10)},
		},
		{"rate-500", "1 to 500, 128 B, 40 messages/s, QoS 1", traffic(steady, kindRookery, kindMosquitto), steadyFigures},
		{"rate-500-stalled", "the same beside a member that never reads", traffic(besideStalled, kindRookery), steadyFigures},
		{
			"idle", "10,000 connections",
			[]contestant{idleAs(kindRookery), idleAs(kindMosquitto), idleAs(kindMochi)},
			[]figure{
				{what: "memory per connection", unit: "bytes", of: found(bytesPerConnection), atMost: 32 << 10},
				{what: "connects", unit: "/s", of: rate("calls"), atLeast: 3000},
			},
		},
		{
			"login", "5,000 users of 100 groups each log in after a restart",
			[]contestant{{kindRookery, kindRookery, loginAfterRestart}},
			[]figure{{what: "whole storm", unit: "s", of: found("seconds"), atMost: 20}},
		},
		{
			"rest", "send_group_msg on 64 connections, against /healthz of the same server",
			[]contestant{restAs(kindRookery, send), restAs(emptyHandler, Rest{Connections: 64, Groups: 1, Size: 1, Get: "/healthz"})},
			[]figure{
				{what: "answered", unit: "/s", of: rate("calls"), atLeast: 5000},
				{what: "answered", of: rate("calls"), against: emptyHandler, atLeast: 0.5},
				{what: "call p99", unit: "ms", of: p99("call")},
				{what: "CPU per call", unit: "s/million", of: cpuPerMillion, against: emptyHandler},
			},
		},
		{
			"rest-1000", "send_group_msg 1,000 times a second, into 100 groups",
			[]contestant{restAs(kindRookery, Rest{Connections: 100, Groups: 100, Size: 200, Rate: 1000})},
			[]figure{
				{what: "answered", unit: "/s", of: rate("calls"), atLeast: 990},
				{what: "call p99", unit: "ms", of: p99("call"), atMost: 50},
				{what: "CPU per call", unit: "s/million", of: cpuPerMillion},
			},
		},
		{
			"grow-members", "bursts of 16, 200 B, QoS 0, to 1,000 members and to others",
			growth(fanout(0, 1000, 16), load{"10 members", fanout(0, 10, 16)}, load{"100 members", fanout(0, 100, 16)}, load{"10,000 members", fanout(0, 10_000, 16)}),
			[]figure{cpu("", 0), {what: "deliveries", unit: "/s", of: rate("delivered")}},
		},
		{
			"grow-groups", "50 groups of 20 members, QoS 0, one message at a time in each, and other numbers of groups",
			growth(manyGroups(50), load{"1 group", manyGroups(1)}, load{"10 groups", manyGroups(10)}, load{"500 groups", manyGroups(500)}),
			[]figure{cpu("", 0), {what: "deliveries", unit: "/s", of: rate("delivered")}},
		},
		{
			"grow-size", "bursts of 16 to 1,000 members, QoS 0, of 200 B and of other sizes",
			growth(fanout(0, 1000, 16), load{"2,000 B", sized(fanout(0, 1000, 16), 2000)}, load{"8,000 B", sized(fanout(0, 1000, 16), 8000)}),
			[]figure{cpu("", 0), {what: "deliveries", unit: "/s", of: rate("delivered")}},
		},
		{
			"grow-connections", "10,000 idle connections and other numbers",
			[]contestant{idleOf(kindRookery, kindRookery, 10_000), idleOf("1,000 connections", kindRookery, 1000), idleOf("5,000 connections", kindRookery, 5000)},
			[]figure{{what: "memory per connection", unit: "bytes", of: found(bytesPerConnection)}},
		},
	}
}

// A load is one of several that a server is put under.
type load struct {
	label   string
	traffic Traffic
}

// growth makes contestants of Rookery alone, under base and under other loads.
func growth(base Traffic, others ...load) []contestant {
	all := []contestant{trafficAs(kindRookery, kindRookery, base)}
	for _, o := range others {
		all = append(all, trafficAs(o.label, kindRookery, o.traffic))
	}
	return all
}

func manyGroups(n int) Traffic {
	return Traffic{Scenario: "groups", Groups: n, Members: 20, Senders: 1, QoS: 0, Size: 200, Outstanding: 1}
}

func sized(t Traffic, size int) Traffic {
	t.Size = size
	return t
}

func ackedOrCommitted(r *Result) float64 { return r.Rates["acknowledged"] + r.Rates["commits"] }

func ackOrFsync(r *Result) float64 { return p50("acknowledgement")(r) + p50("fsync")(r) }

func idleAs(kind string) contestant { return idleOf(kind, kind, 10_000) }

func idleOf(label, kind string, connections int) contestant {
	return contestant{label: label, kind: kind, run: func(ctx context.Context, tr *trial) (*Result, error) {
		return RunConnect(ctx, tr.Options, Connect{Scenario: "idle", Connections: connections, Hold: true, Settle: 3 * time.Second})
	}}
}

func loginAfterRestart(ctx context.Context, tr *trial) (*Result, error) {
	return RunLogin(ctx, tr.Options, Login{
		Users: 5000, Groups: 100, Members: 100, Messages: 1, Subscribe: true,
		Prepared: func(ctx context.Context) (int, error) {
			if err := tr.server.restart(ctx, tr.binaries); err != nil {
				return 0, err
			}
			return tr.server.cmd.Process.Pid, nil
		},
	})
}

// median of values, which must not be empty.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	half := len(v) / 2
	if len(v)%2 == 1 {
		return v[half]
	}
	return (v[half-1] + v[half]) / 2
}
