package broker

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The model is the set of identifiers that were sent and not acknowledged.
func TestWindowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{1, 2, 63, 64, 65, 300, 32767}).Draw(t, "size")
		start := rapid.SampledFrom([]uint64{0, 65530, 65535 * 3}).Draw(t, "start")
		w := window{size: uint64(size), oldest: start, next: start}
		var sent []uint16 // in order; those acknowledged behind an unacknowledged one are 0
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				if w.open() != (len(sent) < size) {
					t.Fatalf("open() = %v with %d of %d sent", w.open(), len(sent), size)
				}
				if !w.open() {
					return
				}
				id := w.take()
				if id == 0 {
					t.Fatal("identifier 0")
				}
				for _, s := range sent {
					if s == id {
						t.Fatalf("identifier %d is taken twice", id)
					}
				}
				sent = append(sent, id)
			},
			"ack": func(t *rapid.T) {
				if len(sent) == 0 {
					return
				}
				i := rapid.IntRange(0, len(sent)-1).Draw(t, "place")
				if moved := w.ack(sent[i]); moved != (i == 0 && sent[i] != 0) {
					t.Fatalf("ack(%d) at place %d moved: %v", sent[i], i, moved)
				}
				sent[i] = 0
				for len(sent) > 0 && sent[0] == 0 {
					sent = sent[1:]
				}
			},
			"stray": func(t *rapid.T) {
				id := rapid.Uint16().Draw(t, "id")
				if slices.Contains(sent, id) {
					return
				}
				before := w.next - w.oldest
				if moved := w.ack(id); moved || w.next-w.oldest != before {
					t.Fatalf("a stray ack(%d) moved the window", id)
				}
			},
		})
	})
}
