package mongo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage/mongo/testserver"
)

// TestServerKilled kills the server under load and starts it again, 20 times: what was
// acknowledged is stored, at its SEQ, and there is no hole.
func TestServerKilled(t *testing.T) {
	const kills, writers = 20, 8
	server := testserver.Start(t, t.TempDir())
	cfg := Config{URI: server.URI, Database: testserver.Database(t), Timeout: 3 * time.Second, ConnectTimeout: time.Second}
	s := openTemp(t, cfg)
	// The collections are there before the first kill: FerretDB does not survive one while it makes them.
	appendAll(t, s, []group.Key{{ID: "warm", Incarnation: 1}}, 0, 1, false)
	if err := s.heads.flush(); err != nil {
		t.Fatal(err)
	}
	until := make(chan struct{})
	errs := make(chan error, writers)
	var wg sync.WaitGroup
	ws := make([]*writer, writers)
	appended := make(chan struct{}, 1)
	var begun sync.WaitGroup
	for i := range ws {
		key := group.Key{ID: group.ID(fmt.Sprintf("g%d", i)), Incarnation: 1}
		begun.Add(1)
		begin := sync.OnceFunc(begun.Done)
		ws[i] = &writer{s: s, key: key, name: byte(i), acked: make(map[group.MsgID]group.Seq), appended: func() {
			begin()
			select {
			case appended <- struct{}{}:
			default:
			}
		}}
		wg.Go(func() { errs <- ws[i].run(t.Context(), until) })
	}
	for range kills {
		select { // a kill counts only under load
		case <-appended:
		case <-time.After(time.Minute):
			t.Fatal("nothing is appended any more")
		}
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond) // where the kill hits is chance
		server.Kill()
		select {
		case <-appended: // before the kill
		default:
		}
		server.Restart(t)
	}
	begun.Wait()
	close(until)
	wg.Wait()
	for range ws {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	acked := 0
	for _, w := range ws {
		if err := checkLog(t, s, w.key, w); err != nil {
			t.Errorf("group %s: %v", w.key.ID, err)
		}
		acked += len(w.acked)
	}
	t.Logf("%d kills, %d messages acknowledged", kills, acked)
	if acked == 0 {
		t.Error("nothing was acknowledged")
	}
}

// checkLog checks that SEQs are 1, 2, 3, …, that no message is there twice, and that what the
// writers were told is true.
func checkLog(t *testing.T, s *Store, key group.Key, writers ...*writer) error {
	stored := make(map[group.MsgID]group.Seq)
	want := group.Seq(1)
	for m, err := range s.Range(t.Context(), key, 1, 1<<40) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Seq != want {
			return fmt.Errorf("SEQ %d where %d belongs", m.Seq, want)
		}
		if at, twice := stored[m.ID]; twice {
			return fmt.Errorf("MsgID %x at SEQ %d and %d", m.ID, at, m.Seq)
		}
		stored[m.ID] = m.Seq
		want++
	}
	for _, w := range writers {
		for id, seq := range w.acked {
			if stored[id] != seq {
				return fmt.Errorf("MsgID %x was acknowledged at SEQ %d and is stored at %d", id, seq, stored[id])
			}
		}
	}
	if len(stored) == 0 {
		return errors.New("nothing is stored")
	}
	return nil
}
