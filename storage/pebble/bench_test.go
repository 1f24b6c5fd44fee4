package pebble

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// BenchmarkAppend asks how many single messages a second are acknowledged, each after its fsync, when
// so many groups write at once: groups must share fsyncs.
func BenchmarkAppend(b *testing.B) {
	for _, groups := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			s := openTemp(b, Config{})
			tails := make([]group.Seq, groups)
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for g := range groups {
				wg.Go(func() {
					key := storagetest.Key(group.ID(fmt.Sprint("group", g)))
					for left.Add(-1) >= 0 {
						if err := s.Append(b.Context(), storagetest.NewBatch(key, tails[g], 1)); err != nil {
							b.Error(err)
							return
						}
						tails[g]++
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkRange asks what reading a page of history costs.
func BenchmarkRange(b *testing.B) {
	s := openTemp(b, Config{})
	key := storagetest.Key("g")
	if err := s.Append(b.Context(), storagetest.NewBatch(key, 0, 1000)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range s.RangeDown(b.Context(), key, 900, 920) {
			if n++; err != nil {
				b.Fatal(err)
			}
		}
		if n != 20 {
			b.Fatalf("%d messages; want 20", n)
		}
	}
}

// BenchmarkOpen asks how long a start takes.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := Open(Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
