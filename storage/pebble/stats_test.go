package pebble

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// TestMetrics pins the names, which dashboards rely on.
func TestMetrics(t *testing.T) {
	s := openTemp(t, Config{})
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s.Metrics()); err != nil {
		t.Fatal(err)
	}
	key := storagetest.Key("g")
	if err := s.Append(t.Context(), storagetest.NewBatch(key, 0, 3)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Ends(t.Context(), []group.Key{key}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Append(t.Context(), storagetest.NewBatch(key, 0, 3)); err == nil {
		t.Fatal("a second Append at SEQ 1 = nil; want a *TailError")
	}
	values := gather(t, registry)
	want := []string{
		"appended_bytes_total", "appended_messages_total", "append_errors_total", "appends_total", "compactions_running",
		"compactions_total", "disk_bytes", "free_bytes", "fsync_seconds", "group_cache_bytes", "group_cache_hits_total", "group_cache_misses_total", "read_amplification", "read_only",
	}
	for i := range want {
		want[i] = "rookery_storage_" + want[i]
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(values)); !slices.Equal(got, want) {
		t.Errorf("metrics\n%s; want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for name, v := range map[string]float64{"appends_total": 1, "append_errors_total": 1, "appended_messages_total": 3, "group_cache_hits_total": 1, "group_cache_misses_total": 1, "read_only": 0} {
		if got := values["rookery_storage_"+name]; got != v {
			t.Errorf("%s = %v; want %v", name, got, v)
		}
	}
	for _, name := range []string{"appended_bytes_total", "fsync_seconds", "free_bytes", "group_cache_bytes"} {
		if values["rookery_storage_"+name] <= 0 {
			t.Errorf("%s = %v; want more than 0", name, values["rookery_storage_"+name])
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after := gather(t, registry); after["rookery_storage_appends_total"] != 1 {
		t.Errorf("appends_total after Close = %v; want 1", after["rookery_storage_appends_total"])
	}
}

// gather returns each metric's value, of a histogram the number of samples.
func gather(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		m := f.GetMetric()[0]
		values[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return values
}
