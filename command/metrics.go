package command

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/group"
)

// metrics counts the calls. Its labels are the table's paths and three results.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_command_calls_total", Help: "Calls of commands, by result: ok, refused, failed (our fault).",
		}, []string{"command", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rookery_command_call_seconds", Help: "Time that calls took.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"command"}),
	}
}

func (m *metrics) observe(c *Command, refusal *group.Error, took time.Duration) {
	result := "ok"
	switch {
	case refusal != nil && refusal.Code == c.codes.internal:
		result = "failed"
	case refusal != nil:
		result = "refused"
	}
	m.calls.WithLabelValues(c.Path(), result).Inc()
	m.seconds.WithLabelValues(c.Path()).Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (t *Table) Describe(ch chan<- *prometheus.Desc) {
	t.metrics.calls.Describe(ch)
	t.metrics.seconds.Describe(ch)
	t.env.fullOfRooms.Describe(ch)
}

// Collect implements prometheus.Collector.
func (t *Table) Collect(ch chan<- prometheus.Metric) {
	t.metrics.calls.Collect(ch)
	t.metrics.seconds.Collect(ch)
	t.env.fullOfRooms.Collect(ch)
}
