package storagetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// RunEnumerator checks the contract of storage.Enumerator on the empty stores that open
// returns, one a subtest.
func RunEnumerator(t *testing.T, open func(t *testing.T) storage.Enumerator) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s storage.Enumerator)
	}{
		{"Logs", checkLogs}, {"Tables", checkTables}, {"Advance", checkAdvance}, {"AdvanceRefused", checkAdvanceRefused},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

func wantLogs(t *testing.T, s storage.Enumerator, want ...group.Key) {
	t.Helper()
	got := map[group.Key]bool{}
	for key, err := range s.Logs(t.Context()) {
		if err != nil {
			t.Fatalf("Logs: %v", err)
		}
		if got[key] {
			t.Errorf("Logs: %v twice", key)
		}
		got[key] = true
	}
	for _, key := range want {
		if !got[key] {
			t.Errorf("Logs = %v; want %v among them", got, key)
		}
	}
	if len(got) != len(want) {
		t.Errorf("Logs = %v; want %v", got, want)
	}
}

func checkLogs(t *testing.T, s storage.Enumerator) {
	wantLogs(t, s)
	keys := []group.Key{Key("a"), Key("a:"), Key("ab"), {ID: "a", Incarnation: 2}}
	for _, key := range keys {
		mustAppend(t, s, NewBatch(key, 0, 2))
	}
	wantLogs(t, s, keys...)
	gone := Key("expired")
	past := time.Now().Unix() - 90_000
	mustAppend(t, s, expiring(gone, 0, past))
	sweep(t, s, time.Now().Unix())
	wantLogs(t, s, append(keys, gone)...)
	if err := s.Drop(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	wantLogs(t, s, keys...)
}

func checkTables(t *testing.T, s storage.Enumerator) {
	names := []string{"one", "one_more", "two"}
	for _, name := range names {
		mustApply(t, s, storage.Mutation{Table: name, Key: "k1", Value: []byte("v")}, storage.Mutation{Table: name, Key: "k2", Value: []byte("v")})
	}
	got, err := s.Tables(t.Context())
	if err != nil || !slices.IsSorted(got) {
		t.Fatalf("Tables = %v, %v; want them sorted", got, err)
	}
	for _, name := range names {
		if !slices.Contains(got, name) {
			t.Errorf("Tables = %v; want %s among them", got, name)
		}
	}
}

// checkAdvance builds a log with messages at 3, 4 and 7 that ended at 9.
func checkAdvance(t *testing.T, s storage.Enumerator) {
	key := Key("g")
	advance := func(h storage.Head) {
		t.Helper()
		if err := s.Advance(t.Context(), key, h); err != nil {
			t.Fatalf("Advance(%+v) = %v", h, err)
		}
		if got, err := s.Head(t.Context(), key); err != nil || got.Tail != h.Tail || got.Epoch != h.Epoch || got.Time != h.Time {
			t.Fatalf("Head = %+v, %v after Advance(%+v)", got, err, h)
		}
	}
	advance(storage.Head{Tail: 2})
	first := NewBatch(key, 2, 2)
	mustAppend(t, s, first)
	h, err := s.Head(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	h.Tail = 6
	advance(h)
	second := NewBatch(key, 6, 1)
	mustAppend(t, s, second)
	stored := append(slices.Clone(first.Messages), second.Messages...)
	wantLog(t, s, key, stored)
	later := second.Messages[0].Time + 7200
	advance(storage.Head{Tail: 9, Epoch: second.Epoch + 3, Time: later})
	err = s.Append(t.Context(), NewBatch(key, 7, 1))
	wantTailError(t, err, 7, storage.Head{Tail: 9, Epoch: second.Epoch + 3})
	third := NewBatch(key, 9, 1)
	third.Epoch, third.Messages[0].Time = second.Epoch+3, later+1
	mustAppend(t, s, third)
	wantLog(t, s, key, append(stored, third.Messages...))
	wantMessages(t, "Hour", collect(t, s.Hour(t.Context(), later-later%3600)), third.Messages)
	wantLogs(t, s, key)
}

func checkAdvanceRefused(t *testing.T, s storage.Enumerator) {
	key := Key("g")
	mustAppend(t, s, NewBatch(key, 0, 3))
	h, err := s.Head(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	lower := h
	lower.Tail--
	if _, ok := errors.AsType[*storage.TailError](s.Advance(t.Context(), key, lower)); !ok {
		t.Error("Advance below the tail was not refused with a *TailError")
	}
	wantTail(t, s, key, 3)
}
