package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
)

// Presence says who is connected. Its method may be called from any goroutine and returns at once.
type Presence interface {
	// Connected returns the client identifiers under which the account is connected now.
	Connected(a group.Account) []string
}

// A Reporter is told what became of pushes, for the app's own server. Report does not block
// and keeps no reference to events.
type Reporter interface{ Report(events []Event) }

// A Stage is how far a push has come, as the app's server is told.
type Stage int

// The stages: the vendor has taken the push, or refused it; then what its receipts tell.
const (
	StageSent    Stage = 1
	StageArrived Stage = 2
	StageClicked Stage = 3
)

// An Event is the end of one push to one device, or what a receipt tells of it later.
type Event struct {
	Time   time.Time
	Stage  Stage
	Vendor push.Vendor
	From   group.Account // empty where a receipt had no room for it
	To     group.Account
	Group  group.ID
	Seq    group.Seq
	Random uint32
	Sent   int64  // of the message, Unix seconds
	PushID string // the vendor's ID of it; empty: none
	// Outcome is Accepted, or why not; Code is the vendor's own.
	Outcome push.Outcome
	Code    string
}

// An App is a provider app and the apps that it speaks for.
type App struct {
	Provider push.Provider
	// ID is the bundle ID or package name, by which a client may name the provider app.
	ID string
}

// Config bounds a dispatcher. The zero value works, but sends nothing.
type Config struct {
	Apps []App
	// Texts are the words and templates of a push without a text of its own.
	Texts push.Texts
	// Deadline is how old a message may be when it is pushed. Zero means 10 minutes.
	Deadline time.Duration
	// QueueEntries bounds the jobs and devices that wait; see the package comment for what
	// happens past it. Zero means 1,000,000.
	QueueEntries int
	// CollapseAfter is how many messages of a group are pushed one by one within
	// CollapseInterval; of those that come faster only the newest is pushed, once in an
	// interval, and takes the place of the older ones on the device. Messages that mention
	// somebody, are directed or High are always pushed by themselves. Zero means 10; negative: never collapse.
	CollapseAfter int
	// CollapseInterval is explained above. Zero means 10 s.
	CollapseInterval time.Duration
	// DevicesPerUser bounds the registrations of an account; past it the oldest goes. Zero means 10.
	DevicesPerUser int
	// TokenBytes bounds a device token. Zero means 256.
	TokenBytes int
	// PageSize is how many members are looked at before the progress is written. Zero means 1,000.
	PageSize int
	// Sends bounds the calls of Provider.Send under way, or not recorded yet, for each provider
	// app. Zero means 256.
	Sends int
	// Devices bounds the devices in them together: what may be pushed to twice when the process
	// dies. Two of the vendor's batches always fit. Zero means 1,024.
	Devices int
	// Backoff spaces the tries of one push.
	Backoff push.Backoff
	// Gate and Removal are explained where they are declared.
	Gate    push.GateConfig
	Removal push.RemovalConfig
	// Poll is how often the queue is looked through for what no call of Committed has told of:
	// the jobs of other nodes. Zero means 1 s.
	Poll time.Duration
	// Exclusive says that no other process uses the store, so that no leases are needed.
	Exclusive bool
	// Name tells the workers of one store apart; needed unless Exclusive.
	Name string
	// Lease is how long a worker that went silent keeps its part of the queue. Zero means 30 s.
	Lease time.Duration
	// Grace is how long calls under way may take to end when Run has to. Zero means 5 s.
	Grace time.Duration
}

func (c Config) withDefaults() Config {
	c.Deadline = cmp.Or(c.Deadline, 10*time.Minute)
	c.QueueEntries = cmp.Or(c.QueueEntries, 1_000_000)
	c.CollapseAfter = cmp.Or(c.CollapseAfter, 10)
	c.CollapseInterval = cmp.Or(c.CollapseInterval, 10*time.Second)
	c.DevicesPerUser = cmp.Or(c.DevicesPerUser, 10)
	c.TokenBytes = cmp.Or(c.TokenBytes, 256)
	c.PageSize = cmp.Or(c.PageSize, 1000)
	c.Sends = cmp.Or(c.Sends, 256)
	c.Devices = cmp.Or(c.Devices, 1024)
	c.Poll = cmp.Or(c.Poll, time.Second)
	c.Lease = cmp.Or(c.Lease, 30*time.Second)
	c.Grace = cmp.Or(c.Grace, 5*time.Second)
	return c
}

// partitions is how many parts the queue has. It is part of the stored keys.
const partitions = 16

// A Dispatcher is the push worker of one process, and the register of device tokens. All
// methods may be called from any goroutine.
type Dispatcher struct {
	cfg      Config
	store    storage.Store
	presence Presence
	reporter Reporter
	log      *slog.Logger
	metrics  *metrics

	lines  []*line // by name
	byName map[string]*line
	parts  [partitions]*partition
	slots  chan struct{} // of pages being looked at

	notes  noteCache
	unread unreadCache
	queued atomic.Int64 // jobs and devices that wait, as far as this process knows
	evict  sync.Mutex

	records  chan record
	receipts receipts
	locks    [256]sync.Mutex // of accounts and of tokens being registered, by hash; several are taken in order
}

// New returns a dispatcher over store. presence nil means that nobody is connected, reporter
// nil that nobody is told. The error names provider apps that can't live together.
func New(store storage.Store, cfg Config, presence Presence, reporter Reporter, log *slog.Logger) (*Dispatcher, error) {
	d := &Dispatcher{
		cfg: cfg.withDefaults(), store: store, presence: presence, reporter: reporter, log: log,
		byName: make(map[string]*line), slots: make(chan struct{}, 2), records: make(chan record, 256),
	}
	if presence == nil {
		d.presence = nobody{}
	}
	if log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.receipts.slots = make(chan struct{}, receiptSlots)
	d.metrics = newMetrics(d)
	d.notes.entries = make(map[noteKey]*note)
	d.unread.entries = make(map[group.Account]unreadEntry)
	var errs []error
	for _, app := range d.cfg.Apps {
		name := app.Provider.Name()
		switch {
		case name == "":
			errs = append(errs, fmt.Errorf("push: a provider app of %s has no name", app.Provider.Vendor()))
		case d.byName[name] != nil:
			errs = append(errs, fmt.Errorf("push: two provider apps are called %s", name))
		default:
			l := newLine(d, app)
			d.lines = append(d.lines, l)
			d.byName[name] = l
		}
	}
	if !d.cfg.Exclusive && d.cfg.Name == "" {
		errs = append(errs, errors.New("push: a worker that shares its store needs a name"))
	}
	slices.SortFunc(d.lines, func(a, b *line) int { return cmp.Compare(a.name, b.name) })
	for i := range d.parts {
		d.parts[i] = &partition{d: d, number: i, wake: make(chan struct{}, 1), busy: make(map[group.Key]*busyGroup)}
	}
	return d, errors.Join(errs...)
}

// Run works until ctx has ended; then it lets the calls under way end, at most for Config.Grace.
func (d *Dispatcher) Run(ctx context.Context) error {
	// What is under way outlives ctx for a while: its answers are worth recording.
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := time.NewTimer(d.cfg.Grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-late.Done():
		}
	})()
	var recorder, workers sync.WaitGroup
	closing := make(chan struct{})
	recorder.Go(func() { d.keepRecords(late, closing) })
	for _, l := range d.lines {
		workers.Go(func() { l.run(ctx, late) })
	}
	for _, p := range d.parts {
		workers.Go(func() { p.run(ctx) })
	}
	workers.Go(func() { d.keepLeases(ctx) })
	workers.Wait()
	close(closing)
	recorder.Wait()
	if !d.cfg.Exclusive {
		d.giveUpLeases(late)
	}
	cancel()
	return nil
}

// Close gives back the vendors' idle connections. Call it after Run.
func (d *Dispatcher) Close() {
	for _, l := range d.lines {
		l.provider.Close()
	}
}

// CheckCredentials asks every vendor whether it knows the credentials, and logs those that it
// does not: a wrong one is no reason not to serve.
func (d *Dispatcher) CheckCredentials(ctx context.Context) {
	var wg sync.WaitGroup
	for _, l := range d.lines {
		wg.Go(func() {
			if err := l.provider.Check(ctx); err != nil {
				d.log.Warn("push credentials not confirmed", "provider", l.name, "vendor", string(l.provider.Vendor()), "err", err)
				return
			}
			d.log.Info("push credentials confirmed", "provider", l.name, "vendor", string(l.provider.Vendor()))
		})
	}
	wg.Wait()
}

// Job returns the record that is to be written with m, and whether there is to be one. It
// looks at m alone and does nothing per member; the lane calls it.
func (d *Dispatcher) Job(g *group.Group, m *group.Message) (storage.Mutation, bool) {
	if len(d.lines) == 0 || !pushable(g, m) {
		return storage.Mutation{}, false
	}
	high := m.Priority == group.High
	if n := d.queued.Load(); n > 2*int64(d.cfg.QueueEntries) && !high {
		// The worker can't even drop as fast as this comes in.
		d.metrics.dropped.WithLabelValues(dropOverflow).Inc()
		return storage.Mutation{}, false
	}
	j := &storage.PushJob{
		Group: m.Group, Incarnation: m.Incarnation, Seq: m.Seq, ID: m.ID.String(), Time: m.Time,
		High: high, Alone: high || len(m.Mentions) > 0 || len(m.To) > 0,
	}
	return storage.PushJobs.Put(jobKey(partOf(m.Group), j), j), true
}

// Committed wakes the worker up: a job of the group is durable now.
func (d *Dispatcher) Committed(id group.ID) {
	if len(d.lines) > 0 {
		wake(d.parts[partOf(id)].wake)
	}
}

// wake makes sure that whoever waits on c looks again.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// partOf returns the partition of a group.
func partOf(id group.ID) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return int(h.Sum32() % partitions)
}

func partName(part int) string { return fmt.Sprintf("%02x", part) }

func jobKey(part int, j *storage.PushJob) string {
	id, inc := storage.GroupParts(j.Key())
	return storage.Key(partName(part), storage.Num(j.Time), id, inc, storage.Num(int64(j.Seq)))
}

// taskKey is the key of the n-th task of a page of j for one provider app.
func taskKey(part int, app string, j *storage.PushJob, n int) string {
	return taskPagePrefix(part, app, j) + storage.Num(int64(n))
}

// taskPagePrefix is what the keys of the tasks of j's next page start with.
func taskPagePrefix(part int, app string, j *storage.PushJob) string {
	id, inc := storage.GroupParts(j.Key())
	return storage.Prefix(partName(part), app, storage.Num(j.Time), id, inc, storage.Num(int64(j.Seq)), storage.Num(int64(j.Page)))
}

// nobody is Presence without a broker.
type nobody struct{}

func (nobody) Connected(group.Account) []string { return nil }
