package dispatch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A vendor is a provider in memory.
type vendor struct {
	name  string
	kind  push.Vendor
	batch int
	// receiptSecret is empty where there are no receipts.
	receiptSecret string
	// answer says what becomes of a device; nil: accepted. It may wait.
	answer func(ctx context.Context, n *push.Notification, token string) push.Result

	mu    sync.Mutex
	calls []sent
}

type sent struct {
	at     time.Time
	note   push.Notification
	tokens []string
	badges []int // -1: none
}

func (v *vendor) Name() string                         { return v.name }
func (v *vendor) Vendor() push.Vendor                  { return v.kind }
func (v *vendor) BatchSize() int                       { return v.batch }
func (v *vendor) Check(context.Context) error          { return nil }
func (v *vendor) QuotaClass(*push.Notification) string { return "" }
func (v *vendor) Close()                               {}

func (v *vendor) Preview(n *push.Notification, _ push.Device) (push.Preview, error) {
	return push.Preview{Method: "POST", URL: "https://vendor/DEVICE-TOKEN", Body: n.Title + "|" + n.Text}, nil
}

func (v *vendor) Send(ctx context.Context, n *push.Notification, devices []push.Device) []push.Result {
	call := sent{at: time.Now(), note: *n}
	results := make([]push.Result, len(devices))
	for i, d := range devices {
		call.tokens = append(call.tokens, d.Token.Reveal())
		badge := -1
		if d.Badge != nil {
			badge = *d.Badge
		}
		call.badges = append(call.badges, badge)
		results[i] = push.Result{Outcome: push.Accepted, AsOf: time.Now()}
	}
	v.mu.Lock()
	v.calls = append(v.calls, call)
	v.mu.Unlock()
	if v.answer != nil {
		for i, d := range devices {
			results[i] = v.answer(ctx, n, d.Token.Reveal())
			push.ReportProgress(ctx, d.Token, results[i])
		}
	}
	return results
}

// sent returns the calls so far.
func (v *vendor) sent() []sent {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.calls)
}

// counts returns how often each token was pushed to.
func (v *vendor) counts() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[string]int)
	for _, c := range v.calls {
		for _, t := range c.tokens {
			out[t]++
		}
	}
	return out
}

// texts returns the texts that were pushed, in their order.
func (v *vendor) texts() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for _, c := range v.calls {
		out = append(out, c.note.Text)
	}
	return out
}

// connected is Presence from a map.
type connected struct {
	mu sync.Mutex
	m  map[group.Account][]string
}

func (c *connected) Connected(a group.Account) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[a]
}

func (c *connected) set(a group.Account, devices ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[a] = devices
}

// A world is a store with groups, members and devices, and a dispatcher over it.
type world struct {
	t     testing.TB
	store storage.Store
	cfg   Config
	here  *connected
	logs  *bytes.Buffer
	log   *slog.Logger // into logs, of all dispatchers: a handler's lock is its own
	d     *Dispatcher
	tails map[group.ID]group.Seq
}

func newWorld(t testing.TB, store storage.Store, cfg Config, providers ...push.Provider) *world {
	t.Helper()
	w := &world{t: t, store: store, cfg: cfg, here: &connected{m: make(map[group.Account][]string)}, logs: new(bytes.Buffer), tails: make(map[group.ID]group.Seq)}
	w.log = slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if cfg.Name == "" {
		w.cfg.Exclusive = true
	}
	for _, p := range providers {
		w.cfg.Apps = append(w.cfg.Apps, App{Provider: p, ID: "com.example." + p.Name()})
	}
	w.d = w.dispatcher(w.cfg)
	return w
}

func (w *world) dispatcher(cfg Config) *Dispatcher {
	w.t.Helper()
	d, err := New(w.store, cfg, w.here, nil, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// run starts the dispatcher; stop ends it and waits.
func (w *world) run(d *Dispatcher) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run = %v", err)
		}
	}
}

func (w *world) apply(muts ...storage.Mutation) {
	w.t.Helper()
	if err := w.store.Apply(w.t.Context(), muts...); err != nil {
		w.t.Fatal(err)
	}
}

func testGroup(id group.ID, typ group.Type) *group.Group {
	return &group.Group{ID: id, Incarnation: 1, Type: typ, Name: "Team"}
}

// addGroup makes a group with members.
func (w *world) addGroup(g *group.Group, members ...*group.Member) {
	w.t.Helper()
	muts := []storage.Mutation{storage.Groups.Put(storage.GroupKey(g.ID), g)}
	for _, m := range members {
		muts = append(muts, storage.Members.Put(storage.MemberKey(g.Key(), m.Account), m),
			storage.Joined.Put(storage.JoinedKey(m.Account, g.ID), &storage.JoinedGroup{ID: g.ID, Incarnation: g.Incarnation, Type: g.Type, JoinSeq: m.JoinSeq}))
		if len(muts) > 5000 {
			w.apply(muts...)
			muts = nil
		}
	}
	w.apply(muts...)
}

func names(n int) []*group.Member {
	out := make([]*group.Member, n)
	for i := range out {
		out[i] = &group.Member{Account: group.Account(fmt.Sprintf("user%06d", i)), Role: group.OrdinaryMember}
	}
	return out
}

func (w *world) register(a group.Account, device, app, token string) {
	w.t.Helper()
	if err := w.d.SetToken(w.t.Context(), a, Registration{Device: device, App: app, Token: token}); err != nil {
		w.t.Fatal(err)
	}
}

// message is a text message that is not stored yet.
func message(id group.ID, from group.Account, text string) *group.Message {
	return &group.Message{
		Group: id, Incarnation: 1, From: from, Priority: group.Normal, Body: group.TextBody(text), Sender: group.Sender{Nick: "Ann"},
	}
}

// store writes m as its lane does, with its job, and tells the dispatcher.
func (w *world) send(m *group.Message) *group.Message {
	w.t.Helper()
	g, err := storage.FindGroup(w.t.Context(), w.store, m.Group)
	if err != nil || g == nil {
		w.t.Fatal("no group", err)
	}
	tail := w.tails[m.Group]
	m.Seq, m.Time = tail+1, time.Now().Unix()
	m.Expires = m.Time + 1<<20
	m.ID = group.MsgID{0: byte(m.Seq), 1: byte(m.Seq >> 8), 15: 1}
	b := &storage.Batch{Key: g.Key(), Tail: tail, Epoch: 1, Messages: []*group.Message{m}}
	if mut, ok := w.d.Job(g, m); ok {
		b.Mutations = append(b.Mutations, mut)
	}
	if err := w.store.Append(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
	w.tails[m.Group] = m.Seq
	w.d.Committed(m.Group)
	return m
}

// rows counts the records of a table.
func (w *world) rows(table string) int {
	w.t.Helper()
	n := 0
	for _, err := range w.store.Scan(w.t.Context(), table, storage.Span{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

// wantQueueEmpty checks that nothing waits and that the count says so.
func (w *world) wantQueueEmpty() {
	w.t.Helper()
	if jobs, tasks := w.rows(storage.PushJobs.Name), w.rows(storage.PushTasks.Name); jobs != 0 || tasks != 0 {
		w.t.Errorf("%d jobs and %d tasks are left", jobs, tasks)
	}
	if n := w.d.queued.Load(); n != 0 {
		w.t.Errorf("the queue is counted as %d, want 0", n)
	}
}

// each is the count of one push for each of the tokens.
func each(tokens ...string) map[string]int {
	out := make(map[string]int)
	for _, t := range tokens {
		out[t] = 1
	}
	return out
}

func wantCounts(t testing.TB, v *vendor, want map[string]int) {
	t.Helper()
	if got := v.counts(); !maps.Equal(got, want) {
		t.Errorf("%s got %v, want %v", v.name, got, want)
	}
}

func wantTexts(t testing.TB, v *vendor, want ...string) {
	t.Helper()
	if got := v.texts(); !slices.Equal(got, want) {
		t.Errorf("%s was sent %q, want %q", v.name, got, want)
	}
}

func android(name string) *vendor { return &vendor{name: name, kind: push.VendorHuawei, batch: 100} }
func ios(name string) *vendor     { return &vendor{name: name, kind: push.VendorAPNs, batch: 100} }

func memory() storage.Store { return storagetest.NewMemory() }
