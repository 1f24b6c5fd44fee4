package client_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-im/rookery/client"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/internal/invariant"
)

var (
	chaosFor  = flag.Duration("client.chaos", 6*time.Second, "how long TestChaos spoils connections")
	chaosSeed = flag.Uint64("client.seed", 0, "seed of TestChaos' faults; 0: a random one")
)

const (
	chaosClients = 20
	chaosSenders = 10 // of the clients
	chaosGroups  = 4
)

// TestChaos lets 20 clients, of which 10 send, talk over connections that are cut, slowed down and
// swallowed by black holes. In the end each client was shown exactly what is stored, in order, and
// everything that Send has confirmed is stored.
func TestChaos(t *testing.T) {
	if *chaosSeed == 0 {
		*chaosSeed = rand.Uint64()
	}
	t.Logf("%v, -client.seed %d", *chaosFor, *chaosSeed)
	n := start(t)
	var accounts []group.Account
	for i := range chaosClients {
		accounts = append(accounts, group.Account(fmt.Sprintf("u%d", i)))
	}
	log := new(invariant.Log)
	var groups []group.ID
	for i := range chaosGroups {
		id := group.ID(fmt.Sprintf("g%d", i))
		groups = append(groups, id)
		makeGroup(t, n, id, accounts...)
		for _, a := range accounts {
			log.Add(invariant.Event{Kind: invariant.Joined, Group: id, Account: a})
		}
	}
	clients := make([]*chaosClient, chaosClients)
	for i, a := range accounts {
		clients[i] = newChaosClient(t, i, a, n.MQTT, log)
	}

	sending, stop := context.WithTimeout(t.Context(), *chaosFor)
	defer stop()
	var all sync.WaitGroup
	all.Go(func() { spoil(sending, rand.New(rand.NewPCG(*chaosSeed, 0)), clients) })
	for i, c := range clients[:chaosSenders] {
		all.Go(func() { c.talk(t, sending, rand.New(rand.NewPCG(*chaosSeed, uint64(i)+1)), groups, log) })
	}
	all.Wait()
	for _, c := range clients {
		c.proxy.unfreeze()
		c.proxy.slow(0)
	}

	judge, _ := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: accounts[0], Device: "judge"})
	content := make(invariant.Content)
	stored := 0
	for _, id := range groups {
		for m, err := range judge.Messages(t.Context(), id, 0) {
			if err != nil {
				t.Fatal(err)
			}
			content[id] = append(content[id], invariant.Stored{
				Seq: m.Seq, Message: keyOf(&m), Priority: m.Priority, Time: m.Time.Unix(), System: m.Tip,
			})
			stored++
		}
	}
	refreshes := 0
	for _, c := range clients {
		for _, id := range groups {
			c.until(t, fmt.Sprintf("%s: the last message of %s", c.account, id), func() bool {
				shown := c.seqs(id)
				return len(content[id]) == 0 || len(shown) > 0 && shown[len(shown)-1] >= content[id][len(content[id])-1].Seq
			})
		}
		c.mu.Lock()
		refreshes += c.refresh
		if gaps := eventsOf[client.Gap](c.recorder); len(gaps) > 0 {
			t.Errorf("%s: gaps: %+v", c.account, gaps)
		}
		for _, id := range groups {
			var view []invariant.MessageKey
			for i := range c.shown {
				if c.shown[i].Group == id {
					view = append(view, keyOf(&c.shown[i]))
				}
			}
			var want []invariant.MessageKey
			var seqs []group.Seq
			for _, s := range content[id] {
				want, seqs = append(want, s.Message), append(seqs, s.Seq)
			}
			if !slices.Equal(view, want) || !equal(c.seqs(id), seqs) {
				t.Errorf("%s: the view of %s differs from what is stored: %d messages shown, %d stored", c.account, id, len(view), len(want))
			}
		}
		c.mu.Unlock()
	}
	for _, v := range invariant.Check(log.Events(), content) {
		t.Error(v)
	}
	var acked, unknown int64
	var cuts int
	for _, c := range clients {
		acked += c.acked.Load()
		unknown += c.unknown.Load()
		cuts += c.proxy.cuts
	}
	t.Logf("%d stored, %d confirmed, %d of unknown outcome, %d cuts, %d synchronisations of %d clients", stored, acked, unknown, cuts, refreshes, len(clients))
	if acked == 0 || refreshes <= 2*len(clients) {
		t.Error("nothing was put to the test")
	}
}

func keyOf(m *client.Message) invariant.MessageKey {
	return invariant.MessageKey{From: m.From, Random: m.Random, Body: m.Text()}
}

type chaosClient struct {
	*client.Client
	*recorder
	account        group.Account
	proxy          *proxy
	acked, unknown atomic.Int64
}

func newChaosClient(t *testing.T, conn int, a group.Account, server string, log *invariant.Log) *chaosClient {
	c := &chaosClient{recorder: new(recorder), account: a, proxy: newProxy(t, server)}
	cfg := c.config(client.Config{
		Server: "mqtt://" + c.proxy.addr, Account: a, UserSig: sign(a), Device: "chaos",
		KeepAlive: time.Second, ConnectTimeout: 2 * time.Second, RequestTimeout: 2 * time.Second, BackoffMin: 20 * time.Millisecond, BackoffMax: 500 * time.Millisecond,
		CatchUp: math.MaxInt32, // a fast machine stores more than 1,000 in a group while a client is cut off
	})
	record := cfg.OnNewMessage
	cfg.OnNewMessage = func(sdk *client.Client, m client.Message) {
		log.Add(invariant.Event{Kind: invariant.Delivered, Group: m.Group, Account: a, Conn: conn, Seq: m.Seq, Message: keyOf(&m), Priority: m.Priority})
		record(sdk, m)
	}
	sdk, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sdk.Close)
	c.Client = sdk
	c.until(t, "OnRefresh", func() bool { return c.refresh > 0 })
	return c
}

// talk sends until ctx ends, and then waits for the outcome of the last message.
func (c *chaosClient) talk(t *testing.T, ctx context.Context, random *rand.Rand, groups []group.ID, log *invariant.Log) {
	for i := 0; ctx.Err() == nil; i++ {
		id := groups[random.IntN(len(groups))]
		draft := &client.Draft{Body: []client.Element{client.Text(fmt.Sprintf("%s %d", c.account, i))}, Random: random.Uint32() | 1}
		e := invariant.Event{
			Kind: invariant.Sent, Group: id, Account: c.account, Priority: group.Normal,
			Message: invariant.MessageKey{From: c.account, Random: draft.Random, Body: fmt.Sprintf("%s %d", c.account, i)},
		}
		log.Add(e)
		patience := time.Minute
		if random.IntN(20) == 0 { // some give up: that must lose nothing else
			patience = time.Duration(random.IntN(100)) * time.Millisecond
		}
		sendCtx, cancel := context.WithTimeout(t.Context(), patience)
		receipt, err := c.Send(sendCtx, id, draft)
		cancel()
		if err != nil {
			c.unknown.Add(1)
			if patience == time.Minute {
				t.Errorf("%s: Send: %v", c.account, err)
			}
			continue
		}
		if receipt.Seq == 0 {
			t.Errorf("%s: Send returned no SEQ", c.account)
		}
		c.acked.Add(1)
		e.Kind, e.Seq = invariant.Acked, receipt.Seq
		log.Add(e)
	}
}

// spoil spoils connections until ctx ends.
func spoil(ctx context.Context, random *rand.Rand, clients []*chaosClient) {
	var healing sync.WaitGroup
	defer healing.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(random.IntN(100)) * time.Millisecond):
		}
		p := clients[random.IntN(len(clients))].proxy
		d := time.Duration(random.IntN(3000)) * time.Millisecond
		switch random.IntN(4) {
		case 0, 1:
			p.cut()
		case 2:
			p.freeze()
			healing.Go(func() {
				wait(ctx, d)
				p.unfreeze()
			})
		case 3:
			p.slow(time.Duration(random.IntN(100)) * time.Millisecond)
			healing.Go(func() {
				wait(ctx, d)
				p.slow(0)
			})
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
