package pebble

import (
	"errors"
	"testing"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

func openTemp(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.OnFatal == nil {
		cfg.OnFatal = func(err error) { t.Errorf("the store failed: %v", err) }
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Close = %v", err)
		}
	})
	return s
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := openTemp(t, Config{Dir: dir})
	key := group.Key{ID: "g", Incarnation: 1}
	b := &storage.Batch{
		Key: key,
		Messages: []*group.Message{
			{Group: "g", Incarnation: 1, Seq: 1, Time: 1000, From: "alice", Body: []byte(`[]`)},
			{Group: "g", Incarnation: 1, Seq: 2, Time: 1001, From: "bob"},
		},
		Mutations: []storage.Mutation{{Op: storage.Insert, Table: "reads", Key: "k", Value: []byte("v")}},
	}
	if err := s.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTemp(t, Config{Dir: dir})
	head, err := s.Head(t.Context(), key)
	if err != nil || head.Tail != 2 || head.Time != 1001 {
		t.Errorf("Head = %+v, %v; want tail 2, time 1001", head, err)
	}
	var from []group.Account
	for m, err := range s.Range(t.Context(), key, 1, 10) {
		if err != nil {
			t.Fatal(err)
		}
		from = append(from, m.From)
	}
	if len(from) != 2 || from[0] != "alice" || from[1] != "bob" {
		t.Errorf("Range: senders %v; want alice, bob", from)
	}
	if v, err := s.Get(t.Context(), "reads", "k"); err != nil || string(v) != "v" {
		t.Errorf("Get = %q, %v; want v", v, err)
	}
	err = s.Append(t.Context(), b)
	if te, ok := errors.AsType[*storage.TailError](err); !ok || te.Head.Tail != 2 {
		t.Errorf("the same Append again = %v; want a TailError with tail 2", err)
	}
}
