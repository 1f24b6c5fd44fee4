package mongo

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// commands counts what is sent, and keeps what is wrong with it.
type commands struct {
	mu    sync.Mutex
	count map[string]int
	wrong map[string]bool
}

func (c *commands) monitor() *event.CommandMonitor {
	c.count, c.wrong = make(map[string]int), make(map[string]bool)
	return &event.CommandMonitor{Started: func(ctx context.Context, e *event.CommandStartedEvent) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.count[e.CommandName]++
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > maxTimeout {
			c.wrong[e.CommandName+": no deadline within 10 s"] = true
		}
		switch e.CommandName {
		case "insert", "update", "delete":
			// The server gives up, too. (A find's deadline is the connection's: the driver sends none.)
			if ms, ok := e.Command.Lookup("maxTimeMS").AsInt64OK(); !ok || ms <= 0 || ms > maxTimeout.Milliseconds() {
				c.wrong[fmt.Sprintf("%s: maxTimeMS %d", e.CommandName, ms)] = true
			}
			w, _ := e.Command.Lookup("writeConcern", "w").StringValueOK()
			j, _ := e.Command.Lookup("writeConcern", "j").BooleanOK()
			if w != "majority" || !j {
				c.wrong[fmt.Sprintf("%s: write concern %v", e.CommandName, e.Command.Lookup("writeConcern"))] = true
			}
		case "find":
			if level, _ := e.Command.Lookup("readConcern", "level").StringValueOK(); level != "majority" {
				c.wrong[fmt.Sprintf("find: read concern %v", e.Command.Lookup("readConcern"))] = true
			}
			if _, ok := e.Command.Lookup("limit").AsInt64OK(); !ok {
				c.wrong["find: no limit: "+e.Command.String()] = true
			}
		}
	}}
}

// reset forgets the counts and returns their sum.
func (c *commands) reset(t *testing.T) int {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Log(c.count)
	sum := 0
	for _, n := range c.count {
		sum += n
	}
	clear(c.count)
	return sum
}

func TestEveryCommand(t *testing.T) {
	var c commands
	s := openTemp(t, Config{Monitor: c.monitor()})
	key := group.Key{ID: "g", Incarnation: 1}
	b := batch(key, 0, 3, 'a')
	b.Messages[0].Expires = 1
	b.Mutations = []storage.Mutation{{Table: "reads", Key: "k", Value: []byte("v")}}
	steps := []struct {
		name string
		run  func() error
	}{
		{"Append", func() error { return s.Append(t.Context(), b) }},
		{"Replace", func() error { return s.Replace(t.Context(), key, b.Messages[:1]) }},
		{"Apply", func() error {
			return s.Apply(t.Context(), storage.Mutation{Op: storage.Insert, Table: "reads", Key: "i"},
				storage.Mutation{Op: storage.Delete, Table: "reads", Key: "k"}, storage.Mutation{Op: storage.DeletePrefix, Table: "mutes", Key: "k"})
		}},
		{"Heads", func() error { _, err := s.Heads(t.Context(), []group.Key{key}); return err }},
		{"Ends", func() error { _, err := s.Ends(t.Context(), []group.Key{key}); return err }},
		{"Latest", func() error {
			_, err := s.Latest(t.Context(), []storage.End{{Key: key, Head: storage.Head{Tail: 3}}}, 5, nil)
			return err
		}},
		{"Hour", func() error {
			for _, err := range s.Hour(t.Context(), b.Messages[0].Time) {
				return err
			}
			return nil
		}},
		{"Scan", func() error {
			for _, err := range s.Scan(t.Context(), "reads", storage.Span{}) {
				return err
			}
			return nil
		}},
		{"Count", func() error { _, err := s.Count(t.Context(), "reads", ""); return err }},
		{"Sweep", func() error { _, err := s.Sweep(t.Context(), time.Now().Unix()); return err }},
		{"Health", func() error { return s.Health(t.Context()) }},
		{"Logs", func() error {
			for _, err := range s.Logs(t.Context()) {
				return err
			}
			return nil
		}},
		{"Drop", func() error { return s.Drop(t.Context(), key) }},
	}
	for _, step := range steps {
		if err := step.run(); err != nil {
			t.Errorf("%s = %v", step.name, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for what := range c.wrong {
		t.Error(what)
	}
	for _, name := range []string{"insert", "update", "delete", "find"} {
		if c.count[name] == 0 {
			t.Errorf("no %s was sent", name)
		}
	}
}

// TestRoundTrips counts them for 64 groups that each append one message after the other, with a
// record each as a lane writes it.
func TestRoundTrips(t *testing.T) {
	for name, mutations := range map[string]bool{"messages": false, "messages and records": true} {
		t.Run(name, func(t *testing.T) {
			var c commands
			s := openTemp(t, Config{Monitor: c.monitor()})
			const groups, each = 64, 32
			keys := make([]group.Key, groups)
			for i := range keys {
				keys[i] = group.Key{ID: group.ID(fmt.Sprintf("g%d", i)), Incarnation: 1}
			}
			// The lanes have read their groups.
			appendAll(t, s, keys, 0, 1, mutations)
			c.reset(t)
			appendAll(t, s, keys, 1, each, mutations)
			if n := c.reset(t); n*1000 > 40*groups*each {
				t.Errorf("%d round trips for %d messages; want at most 40 for 1,000", n, groups*each)
			}
		})
	}
}

// appendAll appends n messages to each group after the given tail, one by one, all groups at once.
func appendAll(t testing.TB, s *Store, keys []group.Key, tail group.Seq, n int, mutations bool) {
	var wg sync.WaitGroup
	for _, key := range keys {
		wg.Go(func() {
			for i := range n {
				b := batch(key, tail+group.Seq(i), 1, 'a')
				if mutations {
					b.Mutations = []storage.Mutation{{Table: "sends", Key: storage.GroupRecordKey(key, "alice"), Value: []byte(`{}`)}}
				}
				if err := s.Append(t.Context(), b); err != nil {
					t.Errorf("Append to %s after %d = %v", key.ID, b.Tail, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestEnds counts the round trips for the ends of 500 logs, of which some have messages that are
// in no head yet, and some end with a message that does not count.
func TestEnds(t *testing.T) {
	var c commands
	s := openTemp(t, Config{Monitor: c.monitor(), HeadInterval: time.Hour})
	other := openTemp(t, Config{Database: s.cfg.Database, HeadInterval: time.Hour})
	const groups = 500
	keys := make([]group.Key, groups)
	for i := range keys {
		keys[i] = group.Key{ID: group.ID(fmt.Sprintf("g%d", i)), Incarnation: 1}
	}
	appendAll(t, s, keys, 0, 1, false)
	if err := s.heads.flush(); err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, keys[100:], 1, 1, false)
	appendAll(t, other, keys[200:203], 2, 3, false) // another process, whose heads nobody knows
	c.reset(t)
	ends, err := s.Ends(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, end := range ends {
		want := group.Seq(2)
		switch {
		case i < 100:
			want = 1
		case i >= 200 && i < 203:
			want = 5
		}
		if end.Key != keys[i] || end.Head.Tail != want || end.Last == nil || end.Last.Seq != want {
			t.Fatalf("Ends()[%d] = %+v; want %v with tail %d", i, end, keys[i], want)
		}
	}
	if n := c.reset(t); n > 4 {
		t.Errorf("Ends took %d round trips with heads that lag; want at most 4", n)
	}
	if again, err := s.Ends(t.Context(), keys); err != nil || !reflect.DeepEqual(again, ends) {
		t.Errorf("Ends differ the second time: %v", err)
	}
	if n := c.reset(t); n > 2 {
		t.Errorf("Ends took %d round trips; want at most 2", n)
	}
	for _, last := range []group.Seq{5, 1} {
		latest, err := s.Latest(t.Context(), ends, 50, func(m *group.Message) bool { return m.Seq <= last })
		if err != nil || latest[0].Seq != 1 || latest[202].Seq != last {
			t.Fatalf("Latest up to %d = %v, %v", last, latest, err)
		}
		want := 0
		if last == 1 {
			want = 1
		}
		if n := c.reset(t); n != want {
			t.Errorf("Latest up to %d took %d round trips; want %d", last, n, want)
		}
	}
}

// plainInserts inserts the same documents as appendAll in a loop, into a collection with the same indexes.
func plainInserts(t testing.TB, s *Store, keys []group.Key, n *int, times int) {
	for range times {
		*n++
		var docs []bson.Raw
		for _, key := range keys {
			raw, err := encodeMessage(headID(key), batch(key, group.Seq(*n), 1, 'p').Messages[0], 1)
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, raw)
		}
		if _, err := s.db.Collection("plain").InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkThroughput compares the store with a plain loop of inserts of the same size on the
// same server, in turns so that the machine's other work hits both. The target is a ratio of 0.8;
// one iteration is too short to judge it, so it is reported and fails nothing.
func BenchmarkThroughput(b *testing.B) {
	s := openTemp(b, Config{})
	const groups, times = 64, 32
	keys := make([]group.Key, groups)
	for i := range keys {
		keys[i] = group.Key{ID: group.ID(fmt.Sprintf("g%d", i)), Incarnation: 1}
	}
	ctx, cancel := s.deadline(b.Context())
	defer cancel()
	for _, fields := range []bson.D{{{Key: "h", Value: 1}, {Key: "_id", Value: 1}}, {{Key: "x", Value: 1}}} {
		if _, err := s.db.Collection("plain").Indexes().CreateOne(ctx, mongo.IndexModel{Keys: fields}); err != nil {
			b.Fatal(err)
		}
	}
	n, tail := 0, group.Seq(times)
	appendAll(b, s, keys, 0, times, false) // both are warm
	plainInserts(b, s, keys, &n, times)
	var store, plain time.Duration
	for b.Loop() {
		began := time.Now()
		appendAll(b, s, keys, tail, times, false)
		between := time.Now()
		plainInserts(b, s, keys, &n, times)
		store += between.Sub(began)
		plain += time.Since(between)
		tail += times
	}
	b.ReportMetric(float64(b.N*groups*times)/store.Seconds(), "messages/s")
	b.ReportMetric(plain.Seconds()/store.Seconds(), "ratio")
}
