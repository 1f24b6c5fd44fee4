package pebble

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// stats counts what the store does. It is a prometheus.Collector.
type stats struct {
	appends, appendErrors, messages, bytes prometheus.Counter
	fsync                                  prometheus.Histogram
	cacheHits, cacheMisses                 *prometheus.CounterVec

	mu     sync.Mutex
	db     *pebble.DB // nil before the store is open and after it is closed
	space  *space
	groups *shared
}

var (
	compactionsDesc = prometheus.NewDesc("rookery_storage_compactions_total", "Compactions that have finished.", nil, nil)
	compactingDesc  = prometheus.NewDesc("rookery_storage_compactions_running", "Compactions under way.", nil, nil)
	diskDesc        = prometheus.NewDesc("rookery_storage_disk_bytes", "Bytes that the store takes on disk.", nil, nil)
	freeDesc        = prometheus.NewDesc("rookery_storage_free_bytes", "Free bytes on the store's disk when it last looked.", nil, nil)
	readOnlyDesc    = prometheus.NewDesc("rookery_storage_read_only", "1 while writes are refused for want of space.", nil, nil)
	cacheDesc       = prometheus.NewDesc("rookery_storage_group_cache_bytes", "About what the cache of groups' records and last messages takes.", nil, nil)
	readAmpDesc     = prometheus.NewDesc("rookery_storage_read_amplification", "Tables that a read may have to look into.", nil, nil)
)

func (s *stats) init() {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	s.appends = counter("rookery_storage_appends_total", "Batches of messages that were written.")
	s.appendErrors = counter("rookery_storage_append_errors_total", "Batches of messages that were refused or failed.")
	s.messages = counter("rookery_storage_appended_messages_total", "Messages that were written.")
	s.bytes = counter("rookery_storage_appended_bytes_total", "Bytes of batches that were written, keys and index entries included.")
	of := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"of"})
	}
	s.cacheHits = of("rookery_storage_group_cache_hits_total", "Records and last messages of groups that were in memory, or on their way into it.")
	s.cacheMisses = of("rookery_storage_group_cache_misses_total", "Records and last messages of groups that were read from the database.")
	s.fsync = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "rookery_storage_fsync_seconds",
		Help:    "How long fsyncs of the log take.",
		Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16), // 50 µs to 1.6 s
	})
}

// attach lets the collector ask db and what is kept beside it, until detach.
func (s *stats) attach(db *pebble.DB, space *space, groups *shared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db, s.space, s.groups = db, space, groups
}

func (s *stats) detach() { s.attach(nil, nil, nil) }

// lastMessages is what the cache's messages are called beside the names of tables.
const lastMessages = "messages"

// shared counts what of one kind was asked of the cache.
func (s *stats) shared(of string, hits, misses int) {
	if hits > 0 {
		s.cacheHits.WithLabelValues(of).Add(float64(hits))
	}
	if misses > 0 {
		s.cacheMisses.WithLabelValues(of).Add(float64(misses))
	}
}

func (s *stats) synced(dur time.Duration) { s.fsync.Observe(dur.Seconds()) }

func (s *stats) appended(messages, bytes int, err error) {
	if err != nil {
		s.appendErrors.Inc()
		return
	}
	s.appends.Inc()
	s.messages.Add(float64(messages))
	s.bytes.Add(float64(bytes))
}

func (s *stats) own() []prometheus.Collector {
	return []prometheus.Collector{s.appends, s.appendErrors, s.messages, s.bytes, s.fsync, s.cacheHits, s.cacheMisses}
}

// Describe implements prometheus.Collector.
func (s *stats) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range s.own() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{compactionsDesc, compactingDesc, diskDesc, freeDesc, readOnlyDesc, readAmpDesc, cacheDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *stats) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.own() {
		c.Collect(ch)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	m := s.db.Metrics()
	ch <- prometheus.MustNewConstMetric(compactionsDesc, prometheus.CounterValue, float64(m.Compact.Count))
	gauge(compactingDesc, float64(m.Compact.NumInProgress))
	gauge(diskDesc, float64(m.DiskSpaceUsage()))
	gauge(readAmpDesc, float64(m.ReadAmp()))
	gauge(cacheDesc, float64(s.groups.size()))
	readOnly := 0.0
	if s.space.check(0) != nil {
		readOnly = 1
	}
	gauge(readOnlyDesc, readOnly)
	if free, ok := s.space.freeBytes(); ok {
		gauge(freeDesc, float64(free))
	}
}

// Metrics returns the store's collector; it may be registered before and collected after the
// store's life.
func (s *Store) Metrics() prometheus.Collector { return &s.stats }
