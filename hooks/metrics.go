package hooks

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/group"
)

// Metrics are the pipeline's figures. It is a prometheus.Collector.
type Metrics struct {
	outcomes   *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	restricted *prometheus.CounterVec
	batch      prometheus.Histogram
	latency    prometheus.Histogram
	lanes      prometheus.Gauge
	waiting    prometheus.Gauge
	pendingFn  prometheus.GaugeFunc
	conflicts  prometheus.Counter
	unclear    prometheus.Counter
}

func newMetrics() *Metrics {
	return &Metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_hooks_messages_total", Help: "Messages by what became of them.",
		}, []string{"outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_hooks_refusals_total", Help: "Refused messages by error code (the app's own codes as \"app\").",
		}, []string{"code"}),
		restricted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_hooks_restricted_total", Help: "Messages that frequency control left out, by priority.",
		}, []string{"priority"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rookery_hooks_batch_messages", Help: "Messages in one append.", Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rookery_hooks_append_seconds", Help: "Time of one append, durable.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		lanes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rookery_hooks_lanes", Help: "Groups kept in memory.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rookery_hooks_flow_waiting_messages", Help: "Messages that wait for frequency control.",
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rookery_hooks_append_conflicts_total", Help: "Appends that found a log written by somebody else.",
		}),
		unclear: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rookery_hooks_append_unclear_total", Help: "Appends whose outcome had to be read from the store.",
		}),
	}
}

// Metrics returns the pipeline's figures, to be registered once.
func (p *Pipeline) Metrics() prometheus.Collector {
	p.metrics.pendingFn = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rookery_hooks_pending_messages", Help: "Messages and changes that wait in all lanes.",
	}, func() float64 { return float64(p.pending.Load()) })
	return p.metrics
}

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
	return []prometheus.Collector{m.outcomes, m.refusals, m.restricted, m.batch, m.latency, m.lanes, m.waiting, m.pendingFn, m.conflicts, m.unclear}
}

func (m *Metrics) outcome(s *submission, o Outcome) {
	switch {
	case o.Err != nil:
		e, refused := asRefusal(o.Err)
		if !refused {
			m.outcomes.WithLabelValues("retry").Inc()
			return
		}
		m.outcomes.WithLabelValues("refused").Inc()
		code := "app"
		if e.Code < group.CodeAppFirst || e.Code > group.CodeAppLast {
			code = strconv.Itoa(e.Code)
		}
		m.refusals.WithLabelValues(code).Inc()
	case o.Duplicate:
		m.outcomes.WithLabelValues("duplicate").Inc()
	case o.Restricted:
		m.outcomes.WithLabelValues("restricted").Inc()
		m.restricted.WithLabelValues(s.draft.Priority.String()).Inc()
	case o.Dropped:
		m.outcomes.WithLabelValues("dropped").Inc()
	default:
		m.outcomes.WithLabelValues("accepted").Inc()
	}
}
