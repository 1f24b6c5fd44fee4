package callback

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the figures of a Client and its Outbox. It is a prometheus.Collector.
type Metrics struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	breaker  prometheus.Gauge
	waiting  prometheus.Gauge
	underWay prometheus.Gauge
	entries  prometheus.Gauge
	bytes    prometheus.Gauge
	dead     prometheus.Gauge
	deaths   *prometheus.CounterVec
}

func newMetrics() *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "rookery_callback_" + name, Help: help})
	}
	return &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_callback_calls_total",
			Help: "Callbacks by moment (before, after) and outcome; breaker and overflow: not called.",
		}, []string{"moment", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rookery_callback_call_seconds", Help: "Time of one exchange, failures included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 13),
		}, []string{"moment"}),
		breaker:  gauge("breaker_state", "0: calls are made; 1: one tries whether the server is back; 2: none are made."),
		waiting:  gauge("waiting_calls", "Before-callbacks that wait for their turn."),
		underWay: gauge("calls", "Before-callbacks under way."),
		entries:  gauge("outbox_entries", "After-callbacks that are kept for sending."),
		bytes:    gauge("outbox_bytes", "The same in bytes."),
		dead:     gauge("dead_entries", "After-callbacks that were given up and are kept to be looked at."),
		deaths: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_callback_dead_total", Help: "After-callbacks that were given up, by reason.",
		}, []string{"reason"}),
	}
}

// Metrics returns the figures, to be registered once.
func (c *Client) Metrics() prometheus.Collector { return c.metrics }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.calls, m.duration, m.breaker, m.waiting, m.underWay, m.entries, m.bytes, m.dead, m.deaths}
}
