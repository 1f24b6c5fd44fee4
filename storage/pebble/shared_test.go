package pebble

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// fillGroups makes groups with a name of some bytes and a message each.
func fillGroups(t *testing.T, s *Store, groups, bytes int) (keys []group.Key, names []string) {
	t.Helper()
	for i := range groups {
		key := storagetest.Key(group.ID(fmt.Sprintf("g%d", i)))
		b := storagetest.NewBatch(key, 0, 1)
		b.Mutations = []storage.Mutation{storage.Groups.Put(storage.GroupKey(key.ID), &group.Group{ID: key.ID, Name: strings.Repeat("n", bytes)})}
		if err := s.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		keys, names = append(keys, key), append(names, storage.GroupKey(key.ID))
	}
	return keys, names
}

// cacheCount returns what the store counted of the cache's hits or misses.
func cacheCount(t *testing.T, s *Store, what, of string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Metrics())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "rookery_storage_group_cache_"+what+"_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == of {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestLoginStorm has many members of the same groups log in at once after a restart: nothing is
// read twice.
func TestLoginStorm(t *testing.T) {
	const groups, members = 50, 40
	fs := vfs.NewMem()
	s := openTemp(t, Config{Dir: "db", FS: fs})
	keys, names := fillGroups(t, s, groups, 10)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTemp(t, Config{Dir: "db", FS: fs})
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range members {
		wg.Go(func() {
			<-start
			ends, err := s.Ends(t.Context(), keys)
			if err != nil {
				t.Error(err)
				return
			}
			var q storage.Query
			found, uncounted := storage.Groups.AskShared(&q, names), storage.Uncounted.AskShared(&q, names)
			if err := q.Run(t.Context(), s); err != nil {
				t.Error(err)
				return
			}
			for i, g := range found {
				if g == nil || g.ID != keys[i].ID || uncounted[i] != nil || ends[i].Last == nil || ends[i].Last.Group != g.ID {
					t.Errorf("group %d: %+v, %+v, %+v", i, g, uncounted[i], ends[i])
				}
			}
		})
	}
	close(start)
	wg.Wait()
	for _, of := range []string{"groups", "uncounted", lastMessages} {
		if misses := cacheCount(t, s, "misses", of); misses != groups {
			t.Errorf("%v reads of %s for %d groups; want one of each", misses, of, groups)
		}
		if hits := cacheCount(t, s, "hits", of); hits != groups*(members-1) {
			t.Errorf("%v of %s were shared; want %d", hits, of, groups*(members-1))
		}
	}
}

// TestSharedIsBounded reads more than the cache holds.
func TestSharedIsBounded(t *testing.T) {
	const limit = 256 << 10
	s := openTemp(t, Config{Dir: "db", FS: vfs.NewMem(), GroupBytes: limit})
	keys, names := fillGroups(t, s, 500, 500)
	for range 2 {
		for i := range keys {
			var q storage.Query
			found := storage.Groups.AskShared(&q, names[i:i+1])
			if err := q.Run(t.Context(), s); err != nil || found[0] == nil || found[0].ID != keys[i].ID {
				t.Fatalf("group %d: %+v, %v", i, found[0], err)
			}
			if ends, err := s.Ends(t.Context(), keys[i:i+1]); err != nil || ends[0].Last == nil {
				t.Fatalf("Ends(%v) = %+v, %v", keys[i], ends, err)
			}
			if n := s.shared.size(); n > limit {
				t.Fatalf("%d bytes are kept; want at most %d", n, limit)
			}
		}
	}
	if s.shared.size() < limit/2 {
		t.Errorf("%d bytes are kept; want most of %d", s.shared.size(), limit)
	}
	// What was evicted is no longer counted, nor what was changed.
	for i := range keys {
		s.shared.forget(string(messagePrefix(keys[i])))
	}
	s.shared.forgetPrefix("")
	if n := s.shared.size(); n != 0 {
		t.Errorf("%d bytes are counted of an empty cache", n)
	}
}

// TestSharedLoaderLeaves has the one who reads a record give up: who waits for it reads it instead.
func TestSharedLoaderLeaves(t *testing.T) {
	s := openTemp(t, Config{Dir: "db", FS: vfs.NewMem()})
	fillGroups(t, s, 1, 10)
	ref := []storage.Ref{{Table: "groups", Key: "g0"}}
	reading, leave := make(chan struct{}), make(chan struct{})
	gaveUp := errors.New("gave up")
	loader := make(chan error, 1)
	go func() {
		_, err := s.Shared(context.WithoutCancel(t.Context()), ref, func(int, []byte) (any, error) {
			close(reading)
			<-leave
			return nil, gaveUp
		})
		loader <- err
	}()
	<-reading
	waiter := make(chan []any, 1)
	go func() {
		values, err := s.Shared(context.WithoutCancel(t.Context()), ref, func(_ int, b []byte) (any, error) { return len(b), nil })
		if err != nil {
			t.Error(err)
		}
		waiter <- values
	}()
	close(leave)
	if err := <-loader; !errors.Is(err, gaveUp) {
		t.Errorf("Shared = %v; want what its decoder says", err)
	}
	if values := <-waiter; len(values) != 1 || values[0] == nil {
		t.Errorf("Shared = %v for one who waited; want the record", values)
	}
}
