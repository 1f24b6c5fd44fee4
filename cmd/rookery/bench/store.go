package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/cockroachdb/pebble/v2"
)

// Store describes what is asked of the disk, as the measure for a server that stores before it acknowledges.
type Store struct {
	Dir     string // where files are made, and removed again; it should be on the server's disk
	Writers int    // that commit to Pebble at the same time
	Size    int    // bytes of a value and of a write
}

// RunStore measures, one after the other: how long one small write and its fsync take, and how many batches of one
// record Pebble commits a second with fsync and Writers writers (it joins what waits together into one fsync).
func RunStore(ctx context.Context, o Options, k Store) (res *Result, err error) {
	o.setDefaults()
	if k.Writers < 1 || k.Size < 1 || o.Duration <= 0 {
		return nil, errors.New("--writers and --size take at least 1, and --duration is positive")
	}
	dir, err := os.MkdirTemp(k.Dir, "rookery-bench-store-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	before, err := processUsage(os.Getpid())
	if err != nil {
		return nil, err
	}
	res = &Result{
		Scenario: "store", Broker: "Pebble in this process", Started: time.Now(), Seconds: o.Duration.Seconds(),
		Settings: map[string]any{"writers": k.Writers, "size": k.Size},
		Rates:    make(map[string]float64), Latencies: make(map[string]Latency),
	}
	if err := res.fsyncs(ctx, filepath.Join(dir, "file"), k.Size, min(o.Duration, 2*time.Second)); err != nil {
		return nil, err
	}
	if err := res.commits(ctx, filepath.Join(dir, "pebble"), k, o.Duration); err != nil {
		return nil, err
	}
	after, err := processUsage(os.Getpid())
	if err != nil {
		return nil, err
	}
	res.Bench = use(before, after)
	return res, nil
}

// fsyncs appends to a file and syncs it, again and again.
func (r *Result) fsyncs(ctx context.Context, name string, size int, d time.Duration) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	h := hdrhistogram.New(1, longestLatency, 3)
	begin := time.Now()
	for n := uint32(0); time.Since(begin) < d && ctx.Err() == nil; n++ {
		b := make([]byte, size)
		fillPadding(b, n)
		start := time.Now()
		if _, err := file.Write(b); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		_ = h.RecordValue(microseconds(time.Since(start))) // in range
	}
	r.Latencies["fsync"] = latency(h)
	return context.Cause(ctx)
}

func microseconds(d time.Duration) int64 { return min(max(d.Microseconds(), 1), longestLatency) }

// commits has writers commit batches of one record.
func (r *Result) commits(ctx context.Context, dir string, k Store, d time.Duration) (err error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}, MemTableSize: 64 << 20})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	all := hdrhistogram.New(1, longestLatency, 3)
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range k.Writers {
		wg.Go(func() {
			h, err := commitUntil(ctx, db, w, k.Size, begin.Add(d))
			mu.Lock()
			defer mu.Unlock()
			all.Merge(h)
			first = errors.Join(first, err)
		})
	}
	wg.Wait()
	seconds := time.Since(begin).Seconds()
	r.Latencies["commit"] = latency(all)
	r.Rates["commits"] = float64(all.TotalCount()) / seconds
	r.Rates["megabytes"] = r.Rates["commits"] * float64(k.Size) / 1e6
	return errors.Join(first, context.Cause(ctx))
}

func commitUntil(ctx context.Context, db *pebble.DB, writer, size int, end time.Time) (*hdrhistogram.Histogram, error) {
	h := hdrhistogram.New(1, longestLatency, 2)
	value := make([]byte, size)
	for n := uint32(0); time.Now().Before(end) && ctx.Err() == nil; n++ {
		fillPadding(value, uint32(writer)*31+n)
		key := fmt.Appendf(nil, "group-%06d/%010d", writer, n)
		start := time.Now()
		b := db.NewBatch()
		if err := b.Set(key, value, nil); err != nil {
			return h, err
		}
		if err := b.Commit(pebble.Sync); err != nil {
			return h, err
		}
		_ = h.RecordValue(microseconds(time.Since(start))) // in range
	}
	return h, nil
}

// silent keeps Pebble's chatter off the terminal; a fatal error ends the process as Pebble demands.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

func (silent) Fatalf(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, "rookery: "+format+"\n", args...)
	os.Exit(1)
}
