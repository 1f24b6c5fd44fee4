package command_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/pebble"
)

// TestLargeHistoryExport writes an hour with 100,000 messages of 1,000 bytes in ten groups: the
// file is one JSON document and valid by line, and the job's memory is not the hour's.
func TestLargeHistoryExport(t *testing.T) {
	const groups, each, text = 10, 10_000, 1000
	store, err := pebble.Open(pebble.Config{Dir: t.TempDir(), CacheBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	hour := time.Now().Add(-3 * time.Hour).Truncate(time.Hour)
	body := []byte(`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"` + strings.Repeat("x", text) + `"}}]`)
	for g := range groups {
		key := group.Key{ID: group.ID(fmt.Sprint("g", g)), Incarnation: 1}
		for tail := group.Seq(0); tail < each; tail += 1000 {
			b := &storage.Batch{Key: key, Tail: tail, Epoch: 1}
			for i := range group.Seq(1000) {
				b.Messages = append(b.Messages, &group.Message{
					Group: key.ID, Incarnation: 1, Seq: tail + 1 + i, Time: hour.Unix() + int64(tail+i)*3600/each, From: "alice", Priority: group.Normal, Body: body,
				})
			}
			if err := store.Append(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	x, err := command.NewExporter(store, command.ExportConfig{Dir: dir, SDKAppID: 1400000001, Key: []byte("k")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = x.Close() }()

	peak := watchHeap(t)
	if err := x.Export(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	grown := peak()

	label := hour.Format("2006010215")
	var zipped string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), label) && strings.HasSuffix(d.Name(), ".gz") {
			zipped = path
		}
		return err
	})
	if err != nil || zipped == "" {
		t.Fatalf("no file of hour %s in the folder: %v", label, err)
	}
	f, err := os.Open(zipped)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	checkExport(t, plain, label, groups*each)
	t.Logf("%d bytes; the heap grew by %d KiB at the most", len(plain), grown>>10)
	if grown > uint64(len(plain))/4 {
		t.Errorf("the heap grew by %d bytes for a file of %d", grown, len(plain))
	}
}

// watchHeap looks at the heap until the function that it returns is called, which tells by how
// much it grew at the most. Only what a collection found in use counts: how much garbage lies
// beside it depends on how busy the machine is.
func watchHeap(t *testing.T) (peak func() uint64) {
	t.Helper()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtime.GC()
	metrics.Read(live)
	before := live[0].Value.Uint64()
	most := before
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				metrics.Read(live)
				most = max(most, live[0].Value.Uint64())
			}
		}
	}()
	return func() uint64 { close(stop); <-stopped; return most - before }
}
