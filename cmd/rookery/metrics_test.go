package main

import (
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/storage/mongo/testserver"
	"github.com/rookery-im/rookery/usersig"
)

// A metric is a row of the table in docs/operations.md, without its meaning.
type metric struct{ kind, labels string }

// TestMetricsArePublished wants the table of docs/operations.md to be what a node with every part
// exports, on either store: name, type and labels.
func TestMetricsArePublished(t *testing.T) {
	listed := map[string]metric{}
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(rookery_[a-z_]+)` \\| (\\w+) \\| ([^|]*) \\| [^|]{10,} \\|$").FindAllStringSubmatch(string(text), -1) {
		if _, twice := listed[row[1]]; twice {
			t.Errorf("%s is listed twice", row[1])
		}
		listed[row[1]] = metric{row[2], strings.ReplaceAll(row[3], "`", "")}
	}
	exported := map[string]metric{}
	for _, driver := range []string{"pebble", "mongo"} {
		for name, m := range metricsOf(t, driver) {
			exported[name] = m
			if l, ok := listed[name]; !ok {
				t.Errorf("docs/operations.md does not list %s, %s with labels %q", name, m.kind, m.labels)
			} else if l != m {
				t.Errorf("docs/operations.md lists %s as %v; it is %v", name, l, m)
			}
		}
	}
	for name := range listed {
		if _, ok := exported[name]; !ok {
			t.Errorf("docs/operations.md lists %s, which does not exist", name)
		}
	}
	for _, name := range regexp.MustCompile(`rookery_[a-z]+_[a-z_]+`).FindAllString(string(text), -1) {
		if _, ok := exported[strings.TrimSuffix(name, "_bucket")]; !ok {
			t.Errorf("docs/operations.md names %s, which does not exist", name)
		}
	}
}

// metricsOf returns the metrics of a node whose parts are all there. What has no value yet has its
// type by its name, and this holds the others to that rule, too.
func metricsOf(t *testing.T, driver string) map[string]metric {
	t.Helper()
	cfg := configs.Default()
	cfg.App.DataDir = t.TempDir()
	cfg.MQTT.Addr, cfg.WS.Addr, cfg.HTTP.Addr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Callbacks.URL = "http://127.0.0.1:1"
	cfg.Push.Xiaomi = []configs.PushXiaomi{{Package: "com.example", AppSecret: "secret"}}
	if cfg.Storage.Driver = driver; driver == "mongo" {
		cfg.Storage.Mongo.URI, cfg.Storage.Mongo.Database = configs.Secret(testserver.URI(t)), testserver.Database(t)
	}
	n, err := newNode(t.Context(), cfg, usersig.App{ID: cfg.App.SDKAppID, Secret: "a secret of sixteen"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		n.metrics.Describe(descs)
	}()
	metrics := map[string]metric{}
	for desc := range descs {
		m := regexp.MustCompile(`fqName: "(rookery_\w+)".*variableLabels: \{(.*)\}\}$`).FindStringSubmatch(desc.String())
		if m == nil {
			continue // Go's or the process's
		}
		kind := "gauge"
		switch {
		case strings.HasSuffix(m[1], "_total"):
			kind = "counter"
		case strings.HasSuffix(m[1], "_seconds"), strings.HasSuffix(m[1], "batch_messages"), strings.HasSuffix(m[1], "_documents"):
			kind = "histogram"
		}
		metrics[m[1]] = metric{kind, strings.ReplaceAll(m[2], ",", ", ")}
	}
	families, err := n.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "rookery_") {
			continue
		}
		if m, ok := metrics[f.GetName()]; !ok || m.kind != strings.ToLower(f.GetType().String()) {
			t.Errorf("%s is a %s; described as %v", f.GetName(), f.GetType(), m)
		}
	}
	return metrics
}
