package mongo

import (
	"errors"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/mongo/testserver"
)

// openTemp opens a store on an empty database, which is dropped when the test ends.
func openTemp(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.URI == "" {
		cfg.URI = testserver.URI(t)
	}
	if cfg.Database == "" {
		cfg.Database = testserver.Database(t)
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.closed.Load() {
			ctx, cancel := s.deadline(t.Context())
			defer cancel()
			_ = s.db.Drop(ctx) // the server is thrown away, too
		}
		if err := s.Close(); err != nil && !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Close = %v", err)
		}
	})
	return s
}

// batch returns a batch of n messages after tail, whose MsgIDs are made of name and SEQ.
func batch(key group.Key, tail group.Seq, n int, name byte) *storage.Batch {
	b := &storage.Batch{Key: key, Tail: tail, Epoch: 1}
	for i := range n {
		seq := tail + 1 + group.Seq(i)
		m := &group.Message{
			Group: key.ID, Incarnation: key.Incarnation, Seq: seq, Time: time.Now().Unix(), From: "alice",
			Body: []byte(`[{"MsgType":"TIMTextElem"}]`), Epoch: 1,
		}
		m.ID = group.MsgID{name, byte(seq >> 8), byte(seq)}
		b.Messages = append(b.Messages, m)
	}
	return b
}

func TestReopen(t *testing.T) {
	cfg := Config{URI: testserver.URI(t), Database: testserver.Database(t)}
	s := openTemp(t, cfg)
	key := group.Key{ID: "g", Incarnation: 1}
	b := batch(key, 0, 2, 'a')
	b.Mutations = []storage.Mutation{{Op: storage.Insert, Table: "reads", Key: "k", Value: []byte("v")}}
	if err := s.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTemp(t, cfg)
	head, err := s.Head(t.Context(), key)
	if want := (storage.Head{Tail: 2, Epoch: 1, Time: b.Messages[1].Time, First: 1}); err != nil || head != want {
		t.Errorf("Head = %+v, %v; want %+v", head, err, want)
	}
	stored, err := s.storedHeads(t.Context(), []string{headID(key)})
	if err != nil || stored[headID(key)].Tail != 2 {
		t.Errorf("stored head %+v, %v; want that Close wrote it", stored, err)
	}
}

// TestCount counts the records of one group, not those of others or of other tables.
func TestCount(t *testing.T) {
	s := openTemp(t, Config{})
	key, other := group.Key{ID: "g", Incarnation: 1}, group.Key{ID: "g", Incarnation: 2}
	muts := []storage.Mutation{
		storage.Members.Put(storage.MemberKey(other, "alice"), &group.Member{Account: "alice"}),
		storage.Mutes.Put(storage.MemberKey(key, "alice"), &storage.Mute{Until: 1}),
	}
	for n, a := range []group.Account{"", "alice", "bob", "carol", "dan", "eve", "frank"} {
		if a != "" {
			muts = append(muts, storage.Members.Put(storage.MemberKey(key, a), &group.Member{Account: a}))
		}
		if err := s.Apply(t.Context(), muts...); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Count(t.Context(), storage.Members.Name, storage.GroupPrefix(key)); err != nil || got != n {
			t.Errorf("Count = %d, %v; want %d", got, err, n)
		}
	}
}
