package command

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// TestCensusCounts adds each name twice, in two parts that are stored and put together.
func TestCensusCounts(t *testing.T) {
	for _, n := range []int{0, 1, 2, exactNames, exactNames + 1, 20_000, 60_000, 400_000} {
		var parts [2]census
		for i := range n {
			h := hashName(fmt.Sprint("user", i))
			parts[i%2].add(h)
			parts[(i+i/2)%2].add(h) // half of them in both
		}
		for _, into := range []int{0, 1} {
			sum := readCensus(parts[into].bytes())
			sum.merge(readCensus(parts[1-into].bytes()))
			got, within := sum.count(), 0.0
			if n > exactNames {
				within = 0.02 * float64(n)
			}
			if math.Abs(float64(got)-float64(n)) > within {
				t.Errorf("%d names: counted %d", n, got)
			}
			if size := len(sum.bytes()); size > 1+registers {
				t.Errorf("%d names take %d bytes", n, size)
			}
			if again := readCensus(sum.bytes()); again.count() != got {
				t.Errorf("%d names: %d once read again, %d before", n, again.count(), got)
			}
		}
	}
}

func TestCensusReadsAnything(t *testing.T) {
	for _, b := range [][]byte{nil, {0}, {1}, {2, 3}, {0, 1, 2, 3}, slices.Repeat([]byte{1}, registers)} {
		if n := readCensus(b).count(); n != 0 {
			t.Errorf("%d bytes that begin with %x count %d", len(b), b[:min(len(b), 1)], n)
		}
	}
}
