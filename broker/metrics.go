package broker

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the broker does. What happens per message is plain atomics, read when
// Prometheus asks.
type metrics struct {
	connections  atomic.Int64
	sessions     atomic.Int64
	received     atomic.Int64
	sent         atomic.Int64
	sentBytes    atomic.Int64
	writes       atomic.Int64
	queued       atomic.Int64
	slow         atomic.Int64
	panics       atomic.Int64
	acceptErrors atomic.Int64
	refusedBy    [256]atomic.Int64 // by reason code
	turnedAway   *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rookery_broker_connections_turned_away_total",
		Help: "Connections that were closed at once, by the limit that they met.",
	}, []string{"limit"})}
}

// refused counts a reason code that a client was told, or would have been if its version of
// MQTT had one.
func (m *metrics) refused(code byte) {
	if code >= codeUnspecified {
		m.refusedBy[code].Add(1)
	}
}

// written counts writes.
func (m *metrics) written(writes, bytes, deliveries int) {
	m.writes.Add(int64(writes))
	m.sentBytes.Add(int64(bytes))
	m.sent.Add(int64(deliveries))
}

// refusalsDesc is of the one metric that is there only when it has something to say.
var refusalsDesc = prometheus.NewDesc("rookery_broker_refusals_total", "What clients were refused, by MQTT reason code.", []string{"code"}, nil)

// Describe is prometheus.Collector's; the metrics are described by being collected.
func (b *Broker) Describe(ch chan<- *prometheus.Desc) {
	ch <- refusalsDesc
	b.metrics.turnedAway.Describe(ch)
	prometheus.DescribeByCollect(b, ch)
}

// Collect makes the Broker a prometheus.Collector.
func (b *Broker) Collect(ch chan<- prometheus.Metric) {
	m := b.metrics
	one := func(kind prometheus.ValueType, name, help string, v int64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("rookery_broker_"+name, help, nil, nil), kind, float64(v))
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	one(gauge, "connections", "Open connections, logged in or not.", m.connections.Load())
	one(gauge, "sessions", "Connections that have logged in.", m.sessions.Load())
	one(gauge, "pending_publishes", "Publishes that have no outcome yet.", b.pending.Load())
	one(gauge, "queued_bytes", "Bytes of deliveries that wait to be written to clients.", m.queued.Load())
	one(counter, "messages_received_total", "Publishes from clients.", m.received.Load())
	one(counter, "messages_sent_total", "Deliveries to clients.", m.sent.Load())
	one(counter, "sent_bytes_total", "Bytes written to clients.", m.sentBytes.Load())
	one(counter, "writes_total", "Writes to clients; each takes what waited for the client.", m.writes.Load())
	one(counter, "slow_consumers_total", "Connections that were ended because their client did not keep up.", m.slow.Load())
	one(counter, "panics_total", "Packets that could not be handled and ended their connection.", m.panics.Load())
	one(counter, "accept_errors_total", "Errors of accepting connections.", m.acceptErrors.Load())
	for code := range m.refusedBy {
		if n := m.refusedBy[code].Load(); n > 0 {
			ch <- prometheus.MustNewConstMetric(refusalsDesc, counter, float64(n), fmt.Sprintf("0x%02X", code))
		}
	}
	m.turnedAway.Collect(ch)
}
