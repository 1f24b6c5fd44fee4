package mongo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/mongo/testserver"
	"github.com/rookery-im/rookery/storage/mongo/wireproxy"
)

// openProxied opens a store behind a proxy, with a second way to the database around it.
func openProxied(t *testing.T, cfg Config) (s, around *Store, p *wireproxy.Proxy) {
	t.Helper()
	p = wireproxy.Start(t, testserver.URI(t))
	cfg.Database = testserver.Database(t)
	around = openTemp(t, Config{Database: cfg.Database})
	cfg.URI = p.URI
	return openTemp(t, cfg), around, p
}

// once is a fault that hits the first command of a name that goes to a collection.
func once(command, collection string, a wireproxy.Action) wireproxy.Fault {
	var first sync.Once
	return func(c, coll string) wireproxy.Action {
		action := wireproxy.Pass
		if c == command && coll == collection {
			first.Do(func() { action = a })
		}
		return action
	}
}

func wantLog(t *testing.T, s *Store, key group.Key, want ...*storage.Batch) {
	t.Helper()
	var ids []group.MsgID
	for _, b := range want {
		for _, m := range b.Messages {
			ids = append(ids, m.ID)
		}
	}
	i := 0
	for m, err := range s.Range(t.Context(), key, 1, 1<<40) {
		if err != nil {
			t.Fatal(err)
		}
		if i >= len(ids) || m.Seq != group.Seq(i+1) || m.ID != ids[i] {
			t.Fatalf("place %d: SEQ %d, MsgID %x; want the messages %x at 1, 2, …", i, m.Seq, m.ID, ids)
		}
		i++
	}
	if i != len(ids) {
		t.Fatalf("%d messages are stored; want %d", i, len(ids))
	}
}

func TestLostReply(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("messages=%d", n), func(t *testing.T) {
			s, around, p := openProxied(t, Config{})
			key := group.Key{ID: "g", Incarnation: 1}
			b := batch(key, 0, n, 'a')
			p.Set(once("insert", messagesName, wireproxy.LoseReply))
			err := s.Append(t.Context(), b)
			if p.Injected(wireproxy.LoseReply) != 1 {
				t.Fatal("no reply was lost")
			}
			// The driver tries again by itself on a replica set, and then it is our own.
			if err != nil && !errors.Is(err, storage.ErrUnavailable) {
				t.Fatalf("Append = %v; want nil or ErrUnavailable", err)
			}
			h, err := s.Head(t.Context(), key)
			if err != nil || h.Tail != group.Seq(n) {
				t.Errorf("Head = %+v, %v; want tail %d", h, err, n)
			}
			next := batch(key, group.Seq(n), 1, 'b')
			if err := s.Append(t.Context(), next); err != nil {
				t.Errorf("next Append = %v", err)
			}
			wantLog(t, around, key, b, next)
		})
	}
}

// TestLateWriteOfOurs repeats an append whose first attempt arrives after it was given up, before
// the second one is sent: a duplicate key that is our own.
func TestLateWriteOfOurs(t *testing.T) {
	for _, arrived := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("arrived=%d", arrived), func(t *testing.T) {
			s, around, p := openProxied(t, Config{})
			key := group.Key{ID: "g", Incarnation: 1}
			p.Set(once("insert", messagesName, wireproxy.Late))
			part := batch(key, 0, arrived, 'a')
			if err := s.Append(t.Context(), part); !errors.Is(err, storage.ErrUnavailable) {
				t.Fatalf("Append = %v; want ErrUnavailable", err)
			}
			// The tail is still 0 when it is read, and the late write comes in between.
			p.Set(once("insert", messagesName, wireproxy.AfterLate))
			whole := batch(key, 0, 3, 'a')
			if err := s.Append(t.Context(), whole); err != nil {
				t.Errorf("second Append = %v; want nil: the messages there are its own", err)
			}
			wantLog(t, around, key, whole)
		})
	}
}

// TestLateWriteOfAnother gives up a batch, writes another one in its place, and then lets the
// first one arrive.
func TestLateWriteOfAnother(t *testing.T) {
	s, around, p := openProxied(t, Config{})
	key := group.Key{ID: "g", Incarnation: 1}
	p.Set(once("insert", messagesName, wireproxy.Late))
	if err := s.Append(t.Context(), batch(key, 0, 3, 'z')); !errors.Is(err, storage.ErrUnavailable) {
		t.Fatalf("Append = %v; want ErrUnavailable", err)
	}
	winner := batch(key, 0, 2, 'a')
	if err := s.Append(t.Context(), winner); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Release(); n != 1 || err != nil {
		t.Fatalf("Release = %d, %v; want one late write", n, err)
	}
	wantLog(t, around, key, winner)
}

func TestAnotherOwner(t *testing.T) {
	s, around, _ := openProxied(t, Config{})
	key := group.Key{ID: "g", Incarnation: 1}
	ours := batch(key, 0, 1, 'a')
	if err := s.Append(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	theirs := batch(key, 1, 2, 'b')
	if err := around.Append(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 5} {
		err := s.Append(t.Context(), batch(key, 1, n, 'c'))
		if e, ok := errors.AsType[*storage.TailError](err); !ok || e.Head.Tail != 3 {
			t.Errorf("Append of %d at a taken place = %v; want a *TailError with tail 3", n, err)
		}
	}
	wantLog(t, s, key, ours, theirs)
}

func TestSilentServer(t *testing.T) {
	for name, action := range map[string]wireproxy.Action{"black hole": wireproxy.BlackHole, "swallowed": wireproxy.Swallow} {
		t.Run(name, func(t *testing.T) {
			s, around, p := openProxied(t, Config{Timeout: 500 * time.Millisecond})
			key := group.Key{ID: "g", Incarnation: 1}
			first, second := batch(key, 0, 2, 'a'), batch(key, 2, 2, 'b')
			if err := s.Append(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			p.Set(func(command, _ string) wireproxy.Action {
				if command == "insert" {
					return action
				}
				return wireproxy.Pass
			})
			if err := s.Append(t.Context(), second); !errors.Is(err, storage.ErrUnavailable) {
				t.Fatalf("Append = %v; want ErrUnavailable", err)
			}
			if p.Injected(action) == 0 {
				t.Fatal("no fault was injected")
			}
			p.Set(nil)
			h, err := s.Head(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if h.Tail == 2 {
				if err := s.Append(t.Context(), second); err != nil {
					t.Fatal(err)
				}
			}
			wantLog(t, around, key, first, second)
		})
	}
}

// TestServerAway checks that reads and writes say so, that Health does, and that all comes back.
func TestServerAway(t *testing.T) {
	s, around, p := openProxied(t, Config{Timeout: time.Second, ConnectTimeout: 300 * time.Millisecond})
	key := group.Key{ID: "g", Incarnation: 1}
	first := batch(key, 0, 1, 'a')
	if err := s.Append(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	p.Down(true)
	if err := s.Append(t.Context(), batch(key, 1, 1, 'b')); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Append = %v; want ErrUnavailable", err)
	}
	if _, err := s.Head(t.Context(), key); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Head = %v; want ErrUnavailable", err)
	}
	if err := s.Health(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Health = %v; want ErrUnavailable", err)
	}
	p.Down(false)
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := s.Append(t.Context(), batch(key, 1, 1, 'b'))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Append = %v, 20 s after the server came back", err)
		}
	}
	wantLog(t, around, key, first, batch(key, 1, 1, 'b'))
}

func TestHealthAsksOnceASecond(t *testing.T) {
	s, _, p := openProxied(t, Config{})
	pings := 0
	p.Set(func(command, _ string) wireproxy.Action {
		if command == "ping" {
			pings++ // under the proxy's lock
		}
		return wireproxy.Pass
	})
	began := time.Now()
	for range 200 {
		if err := s.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	most := 1 + int(time.Since(began)/pingInterval)
	p.Set(nil) // takes the lock
	if pings == 0 || pings > most {
		t.Errorf("%d pings; want 1 to %d", pings, most)
	}
}

// A writer appends to one group as a lane does: after anything but success it reads the log.
type writer struct {
	s    *Store
	key  group.Key
	name byte

	n        int
	acked    map[group.MsgID]group.Seq
	appended func() // called after each success; nil: nobody is told
}

func (w *writer) next(tail group.Seq) *storage.Batch {
	b := batch(w.key, tail, 1+rand.IntN(3), w.name)
	for _, m := range b.Messages {
		w.n++
		m.ID = group.MsgID{w.name, byte(w.n >> 8), byte(w.n)}
		m.Time = 1_800_000_000 // no writer's clock runs ahead of another's
	}
	return b
}

// run appends until until is closed.
func (w *writer) run(ctx context.Context, until <-chan struct{}) error {
	var tail group.Seq
	for {
		select {
		case <-until:
			return nil
		default:
		}
		b := w.next(tail)
		err := w.s.Append(ctx, b)
		if err == nil {
			for _, m := range b.Messages {
				w.acked[m.ID] = m.Seq
			}
			if w.appended != nil {
				w.appended()
			}
			tail = b.Messages[len(b.Messages)-1].Seq
			continue
		}
		if _, ok := errors.AsType[*storage.TailError](err); !ok && !errors.Is(err, storage.ErrUnavailable) {
			return err
		}
		if h, err := w.s.Head(ctx, w.key); err == nil {
			tail = h.Tail
		}
	}
}

// twoWriters lets two stores that both believe to own a group write to it through faults, and
// returns what is wrong with the log in the end.
func twoWriters(t *testing.T, unchecked bool) error {
	cfg := Config{Timeout: 400 * time.Millisecond, uncheckedPosition: unchecked}
	a, around, p := openProxied(t, cfg)
	cfg.URI, cfg.Database = p.URI, a.cfg.Database
	b := openTemp(t, cfg)
	key := group.Key{ID: "g", Incarnation: 1}
	until := make(chan struct{})
	faulty := []wireproxy.Action{wireproxy.Cut, wireproxy.LoseReply, wireproxy.BlackHole, wireproxy.Swallow, wireproxy.Late}
	p.Set(func(command, collection string) wireproxy.Action {
		if command == "insert" && collection == messagesName && rand.IntN(6) == 0 {
			return faulty[rand.IntN(len(faulty))]
		}
		return wireproxy.Pass
	})
	writers := []*writer{{s: a, key: key, name: 'a'}, {s: b, key: key, name: 'b'}}
	errs := make(chan error, len(writers)+1)
	var wg sync.WaitGroup
	for _, w := range writers {
		w.acked = make(map[group.MsgID]group.Seq)
		wg.Go(func() { errs <- w.run(t.Context(), until) })
	}
	wg.Go(func() { // late writes arrive while both go on
		for {
			select {
			case <-until:
				errs <- nil
				return
			case <-time.After(50 * time.Millisecond):
				if _, err := p.Release(); err != nil {
					errs <- err
					return
				}
			}
		}
	})
	time.AfterFunc(6*time.Second, func() { close(until) })
	wg.Wait()
	for range len(writers) + 1 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	p.Set(nil)
	if _, err := p.Release(); err != nil {
		t.Fatal(err)
	}
	injected := 0
	for _, action := range faulty {
		injected += p.Injected(action)
	}
	if injected == 0 {
		t.Fatal("no fault was injected")
	}
	acked := len(writers[0].acked) + len(writers[1].acked)
	t.Logf("%d acknowledged; faults: %d cut, %d replies lost, %d black holes, %d swallowed, %d late", acked,
		p.Injected(wireproxy.Cut), p.Injected(wireproxy.LoseReply), p.Injected(wireproxy.BlackHole), p.Injected(wireproxy.Swallow), p.Injected(wireproxy.Late))
	if acked == 0 {
		t.Fatal("nothing was acknowledged")
	}
	return checkLog(t, around, key, writers...)
}

func TestTwoWriters(t *testing.T) {
	if err := twoWriters(t, false); err != nil {
		t.Error(err)
	}
}

// TestTwoWritersUnchecked shows that TestTwoWriters would find a store that takes a duplicate key for success.
func TestTwoWritersUnchecked(t *testing.T) {
	if err := twoWriters(t, true); err == nil {
		t.Error("nobody noticed that the position was not checked")
	}
}
