package invariant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// A plant is a bug at one of the pipeline's seams. The zero plant is none.
type plant struct {
	config  func(*hooks.Config)
	store   func(storage.Store) storage.Store
	deliver func(hooks.Deliverer) hooks.Deliverer
	outcome func(*run, *hooks.Draft, hooks.Outcome) hooks.Outcome
	restart func(*run)
}

const perSecond = 40

// TestEachRuleFindsItsPlantedBug runs the same conversation without a bug, and then with
// one bug after the other: the rule that is named must find it, and without a bug none may.
func TestEachRuleFindsItsPlantedBug(t *testing.T) {
	for _, c := range []struct {
		name  string
		rule  string // empty: nothing may be found
		plant plant
	}{
		{"no bug", "", plant{}},
		{"an append that is acknowledged and not there after a restart", "I1", plant{store: func(s storage.Store) storage.Store { return &unsynced{Store: s, at: 2} }}},
		{"a head that is forgotten when all messages have expired", "I4", plant{restart: func(r *run) {
			if err := r.store.Drop(context.Background(), key); err != nil {
				r.t.Error(err)
			}
		}}},
		{"a SEQ that is skipped", "I2", plant{store: func(s storage.Store) storage.Store { return &skipping{s} }}},
		{"duplicate suppression off", "I3", plant{config: func(c *hooks.Config) { c.DuplicateWindow = 1 }}},
		{"one sender's messages swapped", "I5", plant{store: func(s storage.Store) storage.Store { return &swapping{Store: s} }}},
		{"one delivery skipped", "I6", plant{deliver: func(d hooks.Deliverer) hooks.Deliverer { return &skippingOne{Deliverer: d} }}},
		{"a removal that delivery ignores", "I8", plant{deliver: func(d hooks.Deliverer) hooks.Deliverer { return keepingMembers{d} }}},
		{"mute ignored", "I9", plant{config: func(c *hooks.Config) { c.Admins = append(c.Admins, "bob") }}},
		{"a window of N+1", "I10", plant{config: func(c *hooks.Config) {
			c.Limits = func(*group.Group) hooks.Limits { return hooks.Limits{PerSecond: perSecond + 1} }
		}}},
		{"a restricted message that is stored all the same", "I12", plant{outcome: func(r *run, d *hooks.Draft, o hooks.Outcome) hooks.Outcome {
			if o.Restricted {
				again := *d
				r.unlimited.Send(context.Background(), &again)
			}
			return o
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				found := converse(t, c.plant)
				if c.rule == "" {
					for _, v := range found {
						t.Error(v)
					}
					return
				}
				if !slices.ContainsFunc(found, func(v Violation) bool { return v.Rule == c.rule }) {
					t.Errorf("%s did not find it; found %d others: %v", c.rule, len(found), found[:min(3, len(found))])
				}
			})
		})
	}
}

// TestRealTimeOrder proves I4 with a log by hand: a broker of two independent counters, one
// for odd and one for even SEQs, keeps every other rule.
func TestRealTimeOrder(t *testing.T) {
	m := func(from group.Account, random uint32) MessageKey {
		return MessageKey{From: from, Random: random, Body: "x"}
	}
	log := new(Log)
	for _, e := range []Event{
		{Kind: Sent, Message: m("a", 1)},
		{Kind: Acked, Message: m("a", 1), Seq: 1},
		{Kind: Sent, Message: m("a", 2)},
		{Kind: Acked, Message: m("a", 2), Seq: 3},
		{Kind: Sent, Message: m("b", 1)},
		{Kind: Acked, Message: m("b", 1), Seq: 2},
	} {
		e.Group = "g"
		log.Add(e)
	}
	content := Content{"g": {{Seq: 1, Message: m("a", 1)}, {Seq: 2, Message: m("b", 1)}, {Seq: 3, Message: m("a", 2)}}}
	found := Check(log.Events(), content)
	if len(found) != 1 || found[0].Rule != "I4" {
		t.Errorf("found %v, want I4 alone", found)
	}
}

// TestOnlineMembersGetEverything proves I7.
func TestOnlineMembersGetEverything(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	events := []Event{
		{Kind: Connected, At: at(0), Conn: 1, Account: "bob"},
		{Kind: Acked, At: at(1), Group: "g", Seq: 1},
		{Kind: Delivered, At: at(2), Group: "g", Conn: 1, Seq: 1},
		{Kind: Acked, At: at(3), Group: "g", Seq: 2},
		{Kind: Ended, At: at(20), Conn: 1},
	}
	found := Online(events, map[group.ID][]group.Account{"g": {"bob"}}, 10*time.Second)
	if len(found) != 1 || !strings.Contains(found[0].Text, "SEQ 2") {
		t.Errorf("found %v, want SEQ 2 alone", found)
	}
}

var key = group.Key{ID: "g", Incarnation: 1}

// A run is one conversation in the group g: alice, bob and carol send, everybody listens.
type run struct {
	t         *testing.T
	plant     plant
	store     storage.Store
	log       *Log
	clients   *clients
	pipeline  *hooks.Pipeline
	unlimited *hooks.Pipeline // for plants
}

func converse(t *testing.T, p plant) []Violation {
	r := &run{t: t, plant: p, store: storagetest.NewMemory(), log: new(Log)}
	if p.store != nil {
		r.store = p.store(r.store)
	}
	r.clients = &clients{log: r.log, members: make(map[group.Account]bool)}
	for _, a := range []group.Account{"alice", "bob", "carol"} {
		if err := r.store.Apply(context.Background(), storage.Accounts.Put(storage.AccountKey(a), &group.Profile{Account: a})); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	r.update(func(tx *hooks.Tx) error {
		err := tx.Create(&group.Group{ID: "g", Type: group.Public, CreateTime: 1})
		for _, a := range []group.Account{"alice", "bob", "carol"} {
			err = errors.Join(err, tx.PutMember(&group.Member{Account: a, Role: group.OrdinaryMember}))
			r.log.Add(Event{Kind: Joined, Group: "g", Account: a})
		}
		return err
	})
	r.burst("alice", 1, 10)
	r.again("alice", 3)
	r.burst("bob", 1, 60) // more than a second's worth

	r.update(func(tx *hooks.Tx) error { tx.SetMute("bob", group.Forever); return nil })
	r.log.Add(Event{Kind: Muted, Group: "g", Account: "bob"})
	r.burst("bob", 1000, 3)
	r.log.Add(Event{Kind: Unmuting, Group: "g", Account: "bob"})
	r.update(func(tx *hooks.Tx) error { tx.SetMute("bob", 0); return nil })

	r.stop()
	if p.restart != nil {
		p.restart(r)
	}
	r.start()
	r.burst("bob", 2000, 5)
	r.again("alice", 3)

	r.log.Add(Event{Kind: Leaving, Group: "g", Account: "carol"})
	r.update(func(tx *hooks.Tx) error { _, err := tx.RemoveMember("carol"); return err })
	r.log.Add(Event{Kind: Left, Group: "g", Account: "carol"})
	time.Sleep(2 * time.Second)
	r.burst("alice", 100, 200) // so many that some are restricted
	r.stop()

	content := r.content()
	return append(Check(r.log.Events(), content), Rate(content, perSecond)...)
}

func (r *run) start() {
	cfg := hooks.Config{Limits: func(*group.Group) hooks.Limits { return hooks.Limits{PerSecond: perSecond} }}
	if r.plant.config != nil {
		r.plant.config(&cfg)
	}
	var d hooks.Deliverer = r.clients
	if r.plant.deliver != nil {
		d = r.plant.deliver(d)
	}
	r.clients.conn += 10
	r.pipeline = hooks.New(r.store, cfg, slog.New(slog.DiscardHandler))
	r.pipeline.UseDeliverer(d)
	cfg.Limits = nil
	r.unlimited = hooks.New(r.store, cfg, slog.New(slog.DiscardHandler))
	r.unlimited.UseDeliverer(d)
}

func (r *run) stop() {
	if err := errors.Join(r.pipeline.Close(context.Background()), r.unlimited.Close(context.Background())); err != nil {
		r.t.Error(err)
	}
}

func (r *run) update(fn func(*hooks.Tx) error) {
	r.t.Helper()
	if err := r.pipeline.Update(context.Background(), "g", fn); err != nil {
		r.t.Fatal(err)
	}
}

// burst sends n messages at once and waits for all outcomes.
func (r *run) burst(from group.Account, random uint32, n int) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		r.submit(from, random+uint32(i), false, wg.Done)
	}
	wg.Wait()
}

// again sends a message once more that was sent before.
func (r *run) again(from group.Account, random uint32) {
	var wg sync.WaitGroup
	wg.Add(1)
	r.submit(from, random, true, wg.Done)
	wg.Wait()
}

func (r *run) submit(from group.Account, random uint32, again bool, done func()) {
	m := MessageKey{From: from, Random: random, Body: fmt.Sprint(from, random)}
	body, err := json.Marshal([]any{map[string]any{"MsgType": "TIMTextElem", "MsgContent": map[string]any{"Text": m.Body}}})
	if err != nil {
		r.t.Fatal(err)
	}
	d := &hooks.Draft{Group: "g", From: from, Operator: from, Random: random, HasRandom: true, Body: body}
	r.log.Add(Event{Kind: Sent, Group: "g", Message: m, Again: again})
	r.pipeline.Submit(d, func(o hooks.Outcome) {
		go func() { // a plant may submit again
			defer done()
			if r.plant.outcome != nil {
				o = r.plant.outcome(r, d, o)
			}
			switch {
			case o.Err != nil:
				r.log.Add(Event{Kind: Refused, Group: "g", Message: m})
			case o.Restricted:
				r.log.Add(Event{Kind: Restricted, Group: "g", Message: m})
			default:
				r.log.Add(Event{Kind: Acked, Group: "g", Message: m, Seq: o.Seq})
			}
		}()
	})
}

func (r *run) content() Content {
	content := make(Content)
	for m, err := range r.store.Range(context.Background(), key, 1, 1<<40) {
		if err != nil {
			r.t.Fatal(err)
		}
		content["g"] = append(content["g"], Stored{Seq: m.Seq, Message: messageKey(m), Released: m.Released, Time: m.Time})
	}
	return content
}

func messageKey(m *group.Message) MessageKey {
	var body []struct{ MsgContent struct{ Text string } }
	_ = json.Unmarshal(m.Body, &body) // a body that is none has no text
	k := MessageKey{From: m.From, Random: m.Random}
	if len(body) > 0 {
		k.Body = body[0].MsgContent.Text
	}
	return k
}

// clients is the group's members, each with one connection that sees everything at once.
type clients struct {
	log     *Log
	mu      sync.Mutex
	members map[group.Account]bool
	conn    int
}

func (c *clients) Deliver(_ group.Key, batch []hooks.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range batch {
		switch {
		case d.Member != nil:
			c.members[d.Member.Account] = d.Member.Joined
		case d.Message != nil:
			for i, a := range []group.Account{"alice", "bob", "carol"} {
				if c.members[a] {
					c.log.Add(Event{Kind: Delivered, Group: "g", Account: a, Conn: c.conn + i, Seq: d.Message.Seq, Message: messageKey(d.Message)})
				}
			}
		}
	}
}

// The planted stores and deliverers.

// unsynced says yes to its n-th append of messages and forgets it.
type unsynced struct {
	storage.Store
	at, n int
}

func (s *unsynced) Append(ctx context.Context, b *storage.Batch) error {
	if len(b.Messages) > 0 {
		if s.n++; s.n == s.at {
			return nil
		}
	}
	return s.Store.Append(ctx, b)
}

// skipping leaves out a SEQ: all messages after the fifth are one place too far.
type skipping struct{ storage.Store }

func (s *skipping) Range(ctx context.Context, k group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return func(yield func(*group.Message, error) bool) {
		for m, err := range s.Store.Range(ctx, k, from, to) {
			if err == nil && m.Seq > 5 {
				m.Seq++
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// swapping stores the first two neighbours of one sender in each other's place.
type swapping struct {
	storage.Store
	done bool
}

func (s *swapping) Append(ctx context.Context, b *storage.Batch) error {
	if m := b.Messages; !s.done && len(m) > 1 && m[0].From == m[1].From {
		s.done = true
		m[0].Seq, m[1].Seq = m[1].Seq, m[0].Seq // the acknowledgements read it from here
		m[0], m[1] = m[1], m[0]
	}
	return s.Store.Append(ctx, b)
}

// skippingOne keeps the fifth message to itself.
type skippingOne struct {
	hooks.Deliverer
	n int
}

func (d *skippingOne) Deliver(k group.Key, batch []hooks.Delivery) {
	d.Deliverer.Deliver(k, slices.DeleteFunc(slices.Clone(batch), func(it hooks.Delivery) bool {
		if it.Message != nil {
			d.n++
		}
		return it.Message != nil && d.n == 5
	}))
}

// keepingMembers never hears of a removal.
type keepingMembers struct{ hooks.Deliverer }

func (d keepingMembers) Deliver(k group.Key, batch []hooks.Delivery) {
	d.Deliverer.Deliver(k, slices.DeleteFunc(slices.Clone(batch), func(it hooks.Delivery) bool {
		return it.Member != nil && !it.Member.Joined
	}))
}
