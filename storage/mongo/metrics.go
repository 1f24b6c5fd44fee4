package mongo

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/event"
)

// metrics counts what goes to the server. It is a prometheus.Collector.
type metrics struct {
	calls      *prometheus.CounterVec
	errors     *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	documents  prometheus.Histogram
	unclear    prometheus.Counter
	duplicates prometheus.Counter
	conflicts  prometheus.Counter
}

func newMetrics() *metrics {
	const prefix = "rookery_storage_mongo_"
	command := []string{"command"}
	return &metrics{
		calls:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "calls_total", Help: "Commands that were sent to the server."}, command),
		errors:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "call_errors_total", Help: "Commands that failed as a whole."}, command),
		seconds:    prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "call_seconds", Help: "Time until the answer to a command.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, command),
		documents:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + "insert_documents", Help: "Documents in one insert.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		unclear:    prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "unclear_writes_total", Help: "Inserts after which nobody knew what had been written."}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "duplicate_keys_total", Help: "Messages whose place was taken, by ourselves or by others."}),
		conflicts:  prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "conflicts_total", Help: "Messages whose place another owner of the group had taken."}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.calls, m.errors, m.seconds, m.documents, m.unclear, m.duplicates, m.conflicts}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
}

// Metrics returns the store's collector; it may be registered before and collected after the
// store's life.
func (s *Store) Metrics() prometheus.Collector { return s.metrics }

// labelled are the commands with a label of their own.
var labelled = []string{"insert", "update", "delete", "find", "getMore", "ping", "createIndexes"}

func label(command string) string {
	if slices.Contains(labelled, command) {
		return command
	}
	return "other"
}

// monitor counts commands and passes them on to next, which may be nil.
func (m *metrics) monitor(next *event.CommandMonitor) *event.CommandMonitor {
	if next == nil {
		next = &event.CommandMonitor{}
	}
	return &event.CommandMonitor{
		Started: func(ctx context.Context, e *event.CommandStartedEvent) {
			m.calls.WithLabelValues(label(e.CommandName)).Inc()
			if next.Started != nil {
				next.Started(ctx, e)
			}
		},
		Succeeded: func(ctx context.Context, e *event.CommandSucceededEvent) {
			m.seconds.WithLabelValues(label(e.CommandName)).Observe(e.Duration.Seconds())
			if next.Succeeded != nil {
				next.Succeeded(ctx, e)
			}
		},
		Failed: func(ctx context.Context, e *event.CommandFailedEvent) {
			m.seconds.WithLabelValues(label(e.CommandName)).Observe(e.Duration.Seconds())
			m.errors.WithLabelValues(label(e.CommandName)).Inc()
			if next.Failed != nil {
				next.Failed(ctx, e)
			}
		},
	}
}
