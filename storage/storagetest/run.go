package storagetest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A check is one clause of the contract, tried on an empty store.
type check struct {
	name string
	run  func(t *testing.T, s storage.Store)
}

// Run checks the whole contract on the empty stores that open returns, one a subtest. open
// sees to it that they are closed.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	for _, checks := range [][]check{logChecks, timeChecks, recordChecks, raceChecks} {
		for _, c := range checks {
			t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
		}
	}
}

func mustAppend(t *testing.T, s storage.Store, b *storage.Batch) {
	t.Helper()
	if err := s.Append(t.Context(), b); err != nil {
		t.Fatalf("Append of %d messages after SEQ %d = %v; want nil", len(b.Messages), b.Tail, err)
	}
}

func mustApply(t *testing.T, s storage.Store, muts ...storage.Mutation) {
	t.Helper()
	if err := s.Apply(t.Context(), muts...); err != nil {
		t.Fatalf("Apply(%v) = %v; want nil", muts, err)
	}
}

func wantTail(t *testing.T, s storage.Store, key group.Key, want group.Seq) {
	t.Helper()
	h, err := s.Head(t.Context(), key)
	if err != nil || h.Tail != want {
		t.Errorf("Head(%v) = %+v, %v; want tail %d", key, h, err, want)
	}
}

func wantTailError(t *testing.T, err error, want group.Seq, head storage.Head) {
	t.Helper()
	e, ok := errors.AsType[*storage.TailError](err)
	if !ok {
		t.Errorf("Append after SEQ %d = %v; want a *TailError", want, err)
		return
	}
	if e.Want != want || e.Head.Tail != head.Tail || e.Head.Epoch != head.Epoch {
		t.Errorf("TailError{Want: %d, Head: %+v}; want {%d, %+v}", e.Want, e.Head, want, head)
	}
}

// wantLog checks that the log is exactly msgs, in both directions.
func wantLog(t *testing.T, s storage.Store, key group.Key, msgs []*group.Message) {
	t.Helper()
	got := collect(t, s.Range(t.Context(), key, 0, 1<<40))
	wantMessages(t, "Range", got, msgs)
	down := collect(t, s.RangeDown(t.Context(), key, 0, 1<<40))
	wantMessages(t, "RangeDown", reversed(down), msgs)
}

func wantMessages(t *testing.T, what string, got, want []*group.Message) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: SEQs %v; want %v", what, seqs(got), seqs(want))
		return
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("%s: message %d:\n got %+v\nwant %+v", what, i, got[i], want[i])
		}
	}
}

func wantValue(t *testing.T, s storage.Store, table, key, want string) {
	t.Helper()
	if v, err := s.Get(t.Context(), table, key); err != nil || string(v) != want {
		t.Errorf("Get(%s, %q) = %q, %v; want %q", table, key, v, err, want)
	}
}

func wantNone(t *testing.T, s storage.Store, table, key string) {
	t.Helper()
	if v, err := s.Get(t.Context(), table, key); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get(%s, %q) = %q, %v; want ErrNotFound", table, key, v, err)
	}
}

func collect[T any](t *testing.T, rows func(func(T, error) bool)) []T {
	t.Helper()
	var all []T
	for row, err := range rows {
		if err != nil {
			t.Fatalf("row %d: %v", len(all), err)
		}
		all = append(all, row)
	}
	return all
}

func reversed(msgs []*group.Message) []*group.Message {
	out := make([]*group.Message, 0, len(msgs))
	for _, m := range slices.Backward(msgs) {
		out = append(out, m)
	}
	return out
}

func seqs(msgs []*group.Message) []group.Seq {
	out := make([]group.Seq, len(msgs))
	for i, m := range msgs {
		out[i] = m.Seq
	}
	return out
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func put(table, key, value string) storage.Mutation {
	return storage.Mutation{Op: storage.Put, Table: table, Key: key, Value: []byte(value)}
}

func insert(table, key, value string) storage.Mutation {
	return storage.Mutation{Op: storage.Insert, Table: table, Key: key, Value: []byte(value)}
}

func remove(table, key string) storage.Mutation {
	return storage.Mutation{Op: storage.Delete, Table: table, Key: key}
}

func removePrefix(table, prefix string) storage.Mutation {
	return storage.Mutation{Op: storage.DeletePrefix, Table: table, Key: prefix}
}
