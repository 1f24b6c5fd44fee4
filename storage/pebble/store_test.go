package pebble

import (
	"errors"
	"fmt"
	"sync"
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

// TestInsertBesidePut has the two race for a record. In whatever order they come, the Put's value
// stays: an Insert that comes later finds a record and is refused.
func TestInsertBesidePut(t *testing.T) {
	s := openTemp(t, Config{Sync: SyncInterval})
	inserted, refused := 0, 0
	for i := range 3000 {
		key := fmt.Sprint(i)
		var wg sync.WaitGroup
		var insert, put error
		wg.Go(func() {
			insert = s.Apply(t.Context(), storage.Mutation{Op: storage.Insert, Table: "reads", Key: key, Value: []byte("inserted")})
		})
		wg.Go(func() {
			put = s.Apply(t.Context(), storage.Mutation{Op: storage.Put, Table: "reads", Key: key, Value: []byte("put")})
		})
		wg.Wait()
		switch {
		case insert == nil:
			inserted++
		case errors.Is(insert, storage.ErrExists):
			refused++
		default:
			t.Fatalf("Insert = %v", insert)
		}
		if have, err := s.Get(t.Context(), "reads", key); put != nil || err != nil || string(have) != "put" {
			t.Fatalf("round %d: Put = %v; the record is %q, %v; want the Put's", i, put, have, err)
		}
	}
	t.Logf("the Insert came first %d times, second %d times", inserted, refused)
}
