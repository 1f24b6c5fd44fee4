package dispatch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/push/pushtest"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/pebble"
)

// hugeVariable sets the size of TestHugeGroup's group; make push-soak takes 100,000.
const hugeVariable = "ROOKERY_TEST_PUSH_MEMBERS"

func hugeMembers(t *testing.T) int {
	text := os.Getenv(hugeVariable)
	if text == "" {
		return 1000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 100 {
		t.Fatalf("%s=%q is not a number of members", hugeVariable, text)
	}
	return n
}

// outbox is what the command line wires.
type outbox struct{ d *Dispatcher }

func (o outbox) Stored(g *group.Group, m *group.Message, d *hooks.Draft) []storage.Mutation {
	if mut, ok := o.d.Job(g, m); ok && d != nil {
		return []storage.Mutation{mut}
	}
	return nil
}

func (outbox) Online(*group.Group, *group.Message, *hooks.Draft) []storage.Mutation { return nil }
func (outbox) Happened(*group.Group, string, any) []storage.Mutation                { return nil }
func (outbox) Refused(*group.Group, *hooks.Draft, *group.Error) []storage.Mutation  { return nil }
func (o outbox) Committed(key group.Key)                                            { o.d.Committed(key.ID) }

// TestHugeGroup pushes one message to a large group, three devices a member, at three strict
// vendors, with connections that are cut at random. The worker is killed in the middle, and
// another one goes on from the store: no device is missed, and only those whose call was under
// way, or whose answer was cut off, are pushed to twice. It reports the rate, the memory, and how long
// messages to the large and to a small group took until they were acknowledged.
func TestHugeGroup(t *testing.T) {
	size := hugeMembers(t)
	dir := t.TempDir()
	open := func() *pebble.Store {
		t.Helper()
		s, err := pebble.Open(pebble.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	store := open()
	apple, huawei, xiaomi := hugeFakes(t)
	apps := func() []App {
		return []App{{Provider: must(push.NewAPNs(push.APNsConfig{
			Name: "ios", BundleID: apple.BundleID, BaseURL: apple.URL, Key: push.NewSecret(apple.Key), KeyID: apple.KeyID, TeamID: apple.TeamID,
			HTTP: push.HTTPConfig{RootCAs: apple.RootCAs()},
		}))}, {Provider: must(push.NewHuawei(push.HuaweiConfig{
			Name: "huawei", AppID: huawei.AppID, AppSecret: push.NewSecret(huawei.AppSecret), BaseURL: huawei.URL, TokenURL: huawei.TokenURL,
			HTTP: push.HTTPConfig{RootCAs: huawei.RootCAs()},
		}))}, {Provider: must(push.NewXiaomi(push.XiaomiConfig{
			Name: "xiaomi", AppSecret: push.NewSecret(xiaomi.AppSecret), Package: xiaomi.Package, BaseURL: xiaomi.URL, ChannelID: "1",
			HTTP: push.HTTPConfig{RootCAs: xiaomi.RootCAs()},
		}))}}
	}
	cfg := Config{Exclusive: true, Apps: apps(), Grace: time.Millisecond}
	w := &world{t: t, store: store, cfg: cfg, here: &connected{m: map[group.Account][]string{}}, logs: nil, tails: map[group.ID]group.Seq{}}
	quietLog := slog.New(slog.DiscardHandler)
	d := must(New(store, cfg, nil, nil, quietLog))
	w.addGroup(testGroup("huge", group.Community), append(names(size), &group.Member{Account: "ann", Role: group.Owner})...)
	w.addGroup(testGroup("small", group.Community), append(names(10), &group.Member{Account: "ann", Role: group.Owner})...)
	w.apply(storage.Accounts.Put(storage.AccountKey("ann"), &group.Profile{Account: "ann", Nick: "Ann"}))
	hugeDevices(w, size)

	small, large := ackTimes(t, store, d)
	t.Logf("acknowledged after %v in a group of 10 members, %v in one of %d (median): ratio %.2f",
		small, large, size, float64(large)/float64(small))
	w.apply(storage.PushJobs.DeletePrefix(""))

	pipeline := hooks.New(store, hooks.Config{}, quietLog)
	pipeline.UseOutbox(outbox{d})
	dying := &mortal{Store: store, after: 1 << 30, died: make(chan struct{})}
	d.store = dying
	debug.FreeOSMemory()
	peak := newPeak()
	stop := w.run(d)
	start := time.Now()
	sendThrough(t, pipeline, "huge")
	total := func() int { return apple.Stats().Accepted + huawei.Stats().Accepted + xiaomi.Stats().Accepted }
	waitFor(t, func() bool { return total() > size })
	dying.mu.Lock()
	dying.dead = true // as kill -9: nothing is written any more
	dying.mu.Unlock()
	stop()
	atDeath := total()
	d.Close()
	if err := errors.Join(pipeline.Close(t.Context()), store.Close()); err != nil {
		t.Fatal(err)
	}

	store = open()
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	cfg.Apps = apps()
	pending := make(map[string]bool) // tokens whose end was not recorded
	for row, err := range storage.PushTasks.Scan(t.Context(), store, storage.Span{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range row.Value.Targets {
			pending[hugeToken(to.Device, to.Account)] = true
		}
	}
	d = must(New(store, cfg, nil, nil, quietLog))
	defer d.Close()
	w.store, w.d = store, d
	stop = w.run(d)
	waitFor(t, func() bool {
		return w.rows(storage.PushJobs.Name) == 0 && w.rows(storage.PushTasks.Name) == 0
	})
	took := time.Since(start)
	stop()
	t.Logf("%d devices in %v, killed after %d: %.0f/s; peak heap %d MiB, peak RSS %d MiB (fakes included)", 3*size, took.Round(time.Millisecond), atDeath,
		float64(3*size)/took.Seconds(), peak.stop()>>20, peakRSS()>>20)
	lost, under := 0, 0
	for _, fake := range []*pushtest.Server{apple.Server, huawei.Server, xiaomi.Server} {
		counts := fake.Counts()
		if len(counts) != size {
			t.Errorf("%d of %d devices were reached", len(counts), size)
		}
		for token, n := range counts {
			switch {
			case n > 1 && pending[token]:
				under += n - 1
			case n > 1:
				lost += n - 1
			}
		}
		// A connection that is cut may take a push's body with it.
		v := slices.DeleteFunc(fake.Violations(), func(s string) bool { return s == "PayloadEmpty" && fake == apple.Server })
		if len(v) > 0 {
			t.Errorf("the vendor would have refused: %q", v)
		}
	}
	cut := apple.Stats().Conns
	t.Logf("pushed to twice: %d devices that were in a call at the death, %d after a cut connection (of %d)", under, lost, cut)
	if most := 1024 + 2*2000; under > most {
		t.Errorf("%d devices were in a call, at most %d may be", under, most)
	}
	if most := 300 * cut; lost > most { // streams of a connection
		t.Errorf("%d devices were pushed to twice without a reason", lost-most)
	}
	w.wantQueueEmpty()
}

// TestMemory: what the worker needs does not grow with the group.
func TestMemory(t *testing.T) {
	size := hugeMembers(t)
	store, err := pebble.Open(pebble.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	var reached atomic.Int64
	var cfg Config
	for name, kind := range map[string]push.Vendor{"ios": push.VendorAPNs, "huawei": push.VendorHuawei, "xiaomi": push.VendorXiaomi} {
		cfg.Apps = append(cfg.Apps, App{Provider: &counter{vendor{name: name, kind: kind, batch: 1000}, &reached}})
	}
	w := newWorld(t, store, cfg)
	w.addGroup(testGroup("huge", group.Community), names(size)...)
	hugeDevices(w, size)
	debug.FreeOSMemory()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := newPeak()
	stop := w.run(w.d)
	start := time.Now()
	w.send(message("huge", "ann", "hello"))
	waitFor(t, func() bool { return w.rows(storage.PushJobs.Name) == 0 && w.rows(storage.PushTasks.Name) == 0 })
	took := time.Since(start)
	stop()
	most := int64(peak.stop()) - int64(before.HeapAlloc)
	t.Logf("%d devices in %v; the heap grew by %d MiB at most, store included", 3*size, took.Round(time.Millisecond), most>>20)
	if n := reached.Load(); n != int64(3*size) {
		t.Errorf("%d of %d devices were reached", n, 3*size)
	}
	if most > 128<<20 {
		t.Errorf("the heap grew by %d MiB", most>>20)
	}
}

// A counter is a vendor that keeps nothing.
type counter struct {
	vendor
	n *atomic.Int64
}

func (c *counter) Send(_ context.Context, _ *push.Notification, devices []push.Device) []push.Result {
	c.n.Add(int64(len(devices)))
	return slices.Repeat([]push.Result{{Outcome: push.Accepted}}, len(devices))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func hugeFakes(t *testing.T) (*pushtest.APNs, *pushtest.Huawei, *pushtest.Xiaomi) {
	t.Helper()
	o := pushtest.Options{Latency: 20 * time.Millisecond}
	apple, huawei, xiaomi := must(pushtest.NewAPNs(o)), must(pushtest.NewHuawei(o)), must(pushtest.NewXiaomi(o))
	apple.Set(func(o *pushtest.Options) { o.KillEvery = 20_000 })
	t.Cleanup(apple.Close)
	t.Cleanup(huawei.Close)
	t.Cleanup(xiaomi.Close)
	return apple, huawei, xiaomi
}

// hugeDevices registers three devices of each member, written at once.
func hugeDevices(w *world, size int) {
	now := time.Now().UnixNano()
	var muts []storage.Mutation
	for i, m := range names(size) {
		n := strconv.Itoa(i)
		muts = append(muts, storage.PushUsers.Put(storage.AccountKey(m.Account), &storage.PushUser{Devices: []storage.PushDevice{
			{Device: "phone", App: "ios", Token: "ok-a" + n, Registered: now},
			{Device: "second", App: "huawei", Token: "ok-h" + n, Registered: now},
			{Device: "third", App: "xiaomi", Token: "ok-x" + n, Registered: now},
		}}))
		if len(muts) == 5000 {
			w.apply(muts...)
			muts = nil
		}
	}
	w.apply(muts...)
}

// hugeToken is the token of one of these devices.
func hugeToken(device string, a group.Account) string {
	n := strings.TrimLeft(strings.TrimPrefix(string(a), "user"), "0")
	return "ok-" + map[string]string{"phone": "a", "second": "h", "third": "x"}[device] + cmp.Or(n, "0")
}

func sendThrough(t *testing.T, p *hooks.Pipeline, id group.ID) time.Duration {
	t.Helper()
	start := time.Now()
	out := p.Send(t.Context(), &hooks.Draft{Group: id, From: "ann", Priority: group.Normal, Body: group.TextBody("hello")})
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	return time.Since(start)
}

// ackTimes returns the medians of the times that a message takes in a small and in the huge
// group, sent in turn.
func ackTimes(t *testing.T, store storage.Store, d *Dispatcher) (small, large time.Duration) {
	p := hooks.New(store, hooks.Config{}, slog.New(slog.DiscardHandler))
	p.UseOutbox(outbox{d})
	defer func() {
		if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	sendThrough(t, p, "small")
	sendThrough(t, p, "huge")
	var a, b []time.Duration
	for range 150 {
		a = append(a, sendThrough(t, p, "small"))
		b = append(b, sendThrough(t, p, "huge"))
	}
	slices.Sort(a)
	slices.Sort(b)
	return a[len(a)/2], b[len(b)/2]
}

// waitFor asks until it is so; go test's own deadline ends what never comes.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !so() {
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatal("the test was ended")
		}
	}
}

// A peak samples the heap.
type peak struct {
	done chan struct{}
	max  chan uint64
}

func newPeak() *peak {
	p := &peak{make(chan struct{}), make(chan uint64)}
	go func() {
		var most uint64
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			case <-p.done:
				p.max <- most
				return
			}
		}
	}()
	return p
}

func (p *peak) stop() uint64 {
	close(p.done)
	return <-p.max
}

// peakRSS is the most memory that the process ever had, in bytes; 0 where the system does not say.
func peakRSS() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(line + " 0")[0])
	if err != nil {
		return 0
	}
	return kib << 10
}
