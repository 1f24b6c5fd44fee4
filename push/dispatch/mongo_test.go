package dispatch

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/mongo"
	"github.com/rookery-im/rookery/storage/mongo/testserver"
)

// TestLeasesOnMongoDB: two workers, each with its own connection to one MongoDB, share the
// queue; one dies, and the other goes on with all of it. No message is pushed twice.
func TestLeasesOnMongoDB(t *testing.T) {
	server := testserver.Start(t, t.TempDir())
	name := testserver.Database(t)
	open := func() *mongo.Store {
		t.Helper()
		s, err := mongo.Open(t.Context(), mongo.Config{URI: server.URI, Database: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	const groups = 32
	a, b := android("v"), android("v")
	dying := &mortal{Store: open(), after: 1 << 30, died: make(chan struct{})}
	w := newWorld(t, dying, Config{Name: "a", Lease: 3 * time.Second, Poll: 50 * time.Millisecond, Grace: time.Millisecond}, a)
	stopA := w.run(w.d)
	w.store = open()
	second := w.cfg
	second.Name, second.Apps = "b", []App{{Provider: b}}
	w.d = w.dispatcher(second)
	for i := range groups {
		w.addGroup(testGroup(group.ID("g"+strconv.Itoa(i)), group.Public), names(2)...)
	}
	w.register("user000001", "phone", "v", "t1")
	first := w.d
	stopB := w.run(w.d)
	waitFor(t, func() bool { return heldBy(first) == partitions/2 })
	round := func(text string) {
		t.Helper()
		for i := range groups {
			w.send(message(group.ID("g"+strconv.Itoa(i)), "user000000", text+strconv.Itoa(i)))
		}
	}
	round("both ")
	waitFor(t, func() bool { return len(a.texts())+len(b.texts()) >= groups })
	if len(a.texts()) == 0 || len(b.texts()) == 0 {
		t.Errorf("%d and %d messages: one worker has nothing to do", len(a.texts()), len(b.texts()))
	}
	waitFor(t, func() bool { return w.rows(storage.PushTasks.Name) == 0 }) // what a sent is recorded
	dying.mu.Lock()
	dying.dead = true // as kill -9: it gives up no lease
	dying.mu.Unlock()
	round("b alone ")
	waitFor(t, func() bool { return len(a.texts())+len(b.texts()) >= 2*groups })
	waitFor(t, func() bool { return w.d.queued.Load() == 0 }) // what b sent is recorded, and the jobs are counted again
	stopA()
	stopB()
	if n := heldBy(first); n != partitions {
		t.Errorf("b holds %d partitions, want all", n)
	}
	got := append(a.texts(), b.texts()...)
	slices.Sort(got)
	if len(got) != 2*groups || len(slices.Compact(got)) != 2*groups {
		t.Errorf("%d messages were pushed, want %d different ones", len(got), 2*groups)
	}
	w.wantQueueEmpty()
}
