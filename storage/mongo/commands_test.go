package mongo

import (
	"context"
	"fmt"
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
		{"Latest", func() error { _, err := s.Latest(t.Context(), []group.Key{key}, 5, nil); return err }},
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

// TestLoginSync counts the round trips of what a login of a member of 500 groups reads.
func TestLoginSync(t *testing.T) {
	var c commands
	s := openTemp(t, Config{Monitor: c.monitor(), HeadInterval: time.Hour})
	const groups = 500
	keys := make([]group.Key, groups)
	var rows []string
	for i := range keys {
		keys[i] = group.Key{ID: group.ID(fmt.Sprintf("g%d", i)), Incarnation: 1}
		rows = append(rows, storage.GroupRecordKey(keys[i], "alice"))
	}
	// The messages of the last interval are not in the stored heads yet.
	appendAll(t, s, keys, 0, 1, true)
	if err := s.heads.flush(); err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, keys, 1, 1, true)
	c.reset(t)
	heads, err := s.Heads(t.Context(), keys)
	if err != nil || heads[groups-1].Tail != 2 {
		t.Fatalf("Heads = %v, %v; want tail 2", heads[groups-1], err)
	}
	if n := c.reset(t); n > 2 {
		t.Errorf("Heads took %d round trips; want at most 2", n)
	}
	keepFirst := func(m *group.Message) bool { return m.Seq == 1 }
	latest, err := s.Latest(t.Context(), keys, 3, keepFirst)
	if err != nil || latest[groups-1] == nil || latest[groups-1].Seq != 1 {
		t.Fatalf("Latest = %v, %v; want SEQ 1", latest[groups-1], err)
	}
	n := c.reset(t)
	if _, err := s.GetMany(t.Context(), "sends", rows); err != nil {
		t.Fatal(err)
	}
	if n += c.reset(t); n > 5 {
		t.Errorf("Latest and GetMany took %d round trips; want at most 5", n)
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
// same server, in turns so that the machine's other work hits both. It fails below 0.8.
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
	ratio := plain.Seconds() / store.Seconds()
	b.ReportMetric(float64(b.N*groups*times)/store.Seconds(), "messages/s")
	b.ReportMetric(ratio, "ratio")
	if ratio < 0.8 {
		b.Errorf("the store has %.2f of the throughput of plain inserts; want 0.8", ratio)
	}
}
