package admin

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	refused, panics prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "rookery_admin_refused_total", Help: "Calls that were refused before they reached a command."}),
		panics:  prometheus.NewCounter(prometheus.CounterOpts{Name: "rookery_admin_panics_total", Help: "Calls that ended in a panic."}),
	}
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	s.metrics.refused.Describe(ch)
	s.metrics.panics.Describe(ch)
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	s.metrics.refused.Collect(ch)
	s.metrics.panics.Collect(ch)
}
