package hooks

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// Config bounds the pipeline. The zero value works.
type Config struct {
	// LaneLen bounds the messages and changes waiting in one group; past it Submit answers
	// ErrOverloaded. Zero means 8,192.
	LaneLen int
	// Pending bounds what waits in all groups together; past it Submit answers
	// ErrOverloaded. Zero means 262,144.
	Pending int
	// BatchLen and BatchBytes bound what is written at once. Zero means 1,024 messages, 4 MiB.
	BatchLen   int
	BatchBytes int
	// StoreTimeout is how long a message waits for the store before its sender is told to
	// try again. Zero means 10 s.
	StoreTimeout time.Duration
	// BodyLimit bounds MsgBody and CloudCustomData together, in bytes. Zero means 12,000.
	BodyLimit int
	// DuplicateWindow is how long a message is recognised when it is sent again. Zero means 5 minutes.
	DuplicateWindow time.Duration
	// DuplicateEntries bounds what one group remembers for that; past it the oldest is
	// forgotten early. Zero means 65,536.
	DuplicateEntries int
	// CachedSenders bounds the senders whose membership one group keeps in memory. Zero means 4,096.
	CachedSenders int
	// IdleLanes bounds the groups that are kept in memory though nothing happens in them;
	// past it the longest idle are forgotten. Zero means 100,000.
	IdleLanes int
	// Retention says how long messages of a type are kept. Nil, or an answer of 0, means 7 days.
	Retention func(group.Type) time.Duration
	// Limits gives the frequency limits of a group; it is asked for each message and may
	// answer differently from one to the next. Nil means no limits.
	Limits func(*group.Group) Limits
	// ExemptAdmins exempts what app admins send (Draft.ByAdmin) from Limits.
	ExemptAdmins bool
	// UserRate and AddressRate bound what one user, and one IP address, may submit, in messages
	// a second to all groups together; more is refused with CodeFrequencyLimit before anything
	// else is asked. What app admins send is not counted. Zero means no bound.
	UserRate    int
	AddressRate int
	// CountLoopback has addresses of this machine counted like others.
	CountLoopback bool
	// CheckOfflinePush says what is wrong with an OfflinePushInfo; it is called with one that is
	// there, and its error's text is told to the sender. Nil means that none is looked at.
	CheckOfflinePush func(json.RawMessage) error
	// Admins are the app's administrators: they send everywhere and are never muted.
	Admins []group.Account
	// UserCustom names the custom profile items (Tag_Profile_Custom_…) that are shown with
	// each message of a sender, MemberCustom the custom fields of its membership.
	UserCustom   []string
	MemberCustom []string
	// RetryUpdate bounds how long Update waits for its place in the lane. Zero means 10 s.
	UpdateTimeout time.Duration
	// Epoch is stamped on what the lanes write. Zero means 1.
	Epoch int64
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.LaneLen, 8192)
	set(&c.Pending, 1<<18)
	set(&c.BatchLen, 1024)
	set(&c.BatchBytes, 4<<20)
	set(&c.BodyLimit, 12_000)
	set(&c.DuplicateEntries, 1<<16)
	set(&c.CachedSenders, 4096)
	set(&c.IdleLanes, 100_000)
	for _, d := range []*time.Duration{&c.StoreTimeout, &c.UpdateTimeout} {
		if *d <= 0 {
			*d = 10 * time.Second
		}
	}
	if c.DuplicateWindow <= 0 {
		c.DuplicateWindow = 5 * time.Minute
	}
	if c.Epoch <= 0 {
		c.Epoch = 1
	}
	return c
}

// DefaultRetention is how long messages are kept unless configured otherwise.
const DefaultRetention = 7 * 24 * time.Hour

func (c *Config) retention(t group.Type) time.Duration {
	if c.Retention != nil {
		if d := c.Retention(t); d > 0 {
			return d
		}
	}
	return DefaultRetention
}

// A Pipeline owns the lanes of the groups. All methods may be called from any goroutine.
type Pipeline struct {
	cfg     Config
	store   storage.Store
	log     *slog.Logger
	metrics *Metrics
	admins  map[group.Account]bool
	began   time.Time
	rates   atomic.Pointer[rates]

	// Set before the first Submit, by the Use… methods.
	deliver Deliverer
	before  BeforeSend
	outbox  []Outbox

	profiles *profileCache
	refusals storeRefusals

	shards  [256]shard
	seed    maphash.Seed
	pending atomic.Int64
	closed  atomic.Bool
	running sync.WaitGroup // lanes that are awake, and callbacks
}

type shard struct {
	mu    sync.Mutex
	lanes map[group.ID]*lane
}

// New returns a pipeline over store. Call the Use… methods before the first Submit.
func New(store storage.Store, cfg Config, log *slog.Logger) *Pipeline {
	p := &Pipeline{
		cfg: cfg.withDefaults(), store: store, log: log, metrics: newMetrics(), seed: maphash.MakeSeed(),
		admins: make(map[group.Account]bool), began: time.Now(),
	}
	p.SetRates(cfg.UserRate, cfg.AddressRate)
	for _, a := range cfg.Admins {
		p.admins[a] = true
	}
	for i := range p.shards {
		p.shards[i].lanes = make(map[group.ID]*lane)
	}
	p.profiles = newProfileCache(store, p.admins)
	return p
}

// UseDeliverer sets who takes what the lanes deliver.
func (p *Pipeline) UseDeliverer(d Deliverer) { p.deliver = d }

// UseBeforeSend sets who is asked before a message is stored.
func (p *Pipeline) UseBeforeSend(b BeforeSend) { p.before = b }

// UseOutbox adds one that makes records of what happened.
func (p *Pipeline) UseOutbox(o Outbox) { p.outbox = append(p.outbox, o) }

// hears reports whether an outbox wants to be told of refused messages. Those that are wrong by
// themselves go through their group's lane for that alone.
func (p *Pipeline) hears() bool {
	return slices.ContainsFunc(p.outbox, func(o Outbox) bool {
		h, ok := o.(interface{ HearsRefusals() bool })
		return ok && h.HearsRefusals()
	})
}

// SetRates changes Config.UserRate and AddressRate; who is over the rate now begins anew.
func (p *Pipeline) SetRates(user, address int) {
	if have := p.rates.Load(); have == nil || have.user != user || have.address != address {
		p.rates.Store(newRates(user, address, p.cfg.CountLoopback))
	}
}

// IsAdmin reports whether a is one of the app's administrators.
func (p *Pipeline) IsAdmin(a group.Account) bool { return p.admins[a] }

// Profile returns the account's profile as the lanes see it, or nil if there is none: an
// account that is missing, or an administrator's that was never made. It is shared: do not
// change it.
func (p *Pipeline) Profile(ctx context.Context, a group.Account) (*group.Profile, error) {
	return p.profiles.get(ctx, a)
}

// ProfileChanged makes the lanes read a's profile (and global mute) again. Whoever writes
// storage.Accounts calls it after the write.
func (p *Pipeline) ProfileChanged(a group.Account) { p.profiles.forget(a) }

// Submit hands in a message and returns at once. done is called exactly once, from another
// goroutine or, for what can be refused at sight, from this one; it must not block. The order
// of one sender's messages of one priority is the order in which Submit was called for them.
// Submit keeps d; the caller must not change it any more.
func (p *Pipeline) Submit(d *Draft, done func(Outcome)) {
	s := &submission{draft: d, done: done, at: time.Now()}
	if d.ID == (group.MsgID{}) {
		d.ID = newMsgID()
	}
	if err := p.validate(d); err != nil {
		refusal, is := asRefusal(err)
		if !is || !p.hears() || !d.Group.Valid() || !d.From.Valid() {
			if is {
				p.left("message refused", d, refusal.Code, refusal.Info)
			}
			p.finish(s, Outcome{Err: err})
			return
		}
		s.invalid = refusal // the lane refuses it, and notes it for those who are told of what was not sent
	}
	if err := p.rates.Load().refuse(d, s.at); err != nil {
		p.left("message refused", d, err.Code, err.Info)
		p.finish(s, Outcome{Err: err})
		return
	}
	s.hash = group.HashBody(d.Body)
	s.key, s.keyed = group.NewDuplicateKey(d.From, d.Random, d.HasRandom, d.Again, s.hash)
	if p.pending.Add(1) > int64(p.cfg.Pending) {
		p.pending.Add(-1)
		p.finish(s, Outcome{Err: ErrOverloaded})
		return
	}
	s.counted = true
	p.enqueue(d.Group, item{sub: s})
}

// Send submits d and waits for its outcome. If ctx ends first the outcome is unknown: Err is
// ErrUnavailable, and sending again with the same Random is safe.
func (p *Pipeline) Send(ctx context.Context, d *Draft) Outcome {
	out := make(chan Outcome, 1)
	p.Submit(d, func(o Outcome) { out <- o })
	select {
	case o := <-out:
		return o
	case <-ctx.Done():
		return Outcome{Err: fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))}
	}
}

// Update runs fn in the lane of the group id. When it returns nil, the change is durable, was
// handed to delivery, and holds for every message stamped from then on. An error of fn is
// returned as it is, and nothing happened. If Retry reports true for the error, or ctx ends,
// the outcome is unknown.
func (p *Pipeline) Update(ctx context.Context, id group.ID, fn func(*Tx) error) error {
	if !id.Valid() {
		return group.Errorf(group.CodeBadGroupID, "group id %.60q is not valid", string(id))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.UpdateTimeout, ErrUnavailable)
	defer cancel()
	u := &update{ctx: ctx, fn: fn, done: make(chan error, 1)}
	if p.pending.Add(1) > int64(p.cfg.Pending) {
		p.pending.Add(-1)
		return ErrOverloaded
	}
	defer p.pending.Add(-1)
	p.enqueue(id, item{upd: u})
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// Group returns the group as its lane sees it, without waiting behind its messages: the
// current record, or nil if there is none.
func (p *Pipeline) Group(ctx context.Context, id group.ID) (*group.Group, error) {
	return storage.FindGroup(ctx, p.store, id)
}

// Close refuses what comes from now on with ErrClosed, lets the lanes finish what they have,
// and returns when all have, or with ctx's error.
func (p *Pipeline) Close(ctx context.Context) error {
	p.closed.Store(true)
	for i := range p.shards { // who held a lane's lock when closed was set gets in; nobody after this does
		sh := &p.shards[i]
		sh.mu.Lock()
		for _, l := range sh.lanes {
			l.mu.Lock()
			l.mu.Unlock() //nolint:staticcheck // passing through is the point
		}
		sh.mu.Unlock()
	}
	done := make(chan struct{})
	go func() { p.running.Wait(); close(done) }()
	select {
	case <-done:
		p.stopTimers()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hooks: %d messages are still waiting: %w", p.pending.Load(), context.Cause(ctx))
	}
}

// nanos is the time by which the flows count, in Unix nanoseconds. It does not jump when
// the machine's clock is set.
func (p *Pipeline) nanos() int64 { return p.began.UnixNano() + int64(time.Since(p.began)) }

// left logs why a message is not stored.
func (p *Pipeline) left(what string, d *Draft, code int, reason string) {
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug(what, "group", string(d.Group), "account", string(d.From), "msgid", d.ID.String(), "code", code, "reason", reason) //nolint:sloglint // one of three constants
	}
}

func (p *Pipeline) shard(id group.ID) *shard {
	return &p.shards[maphash.String(p.seed, string(id))%uint64(len(p.shards))]
}

// makeRoom forgets the longest idle of a few lanes if the shard is full; sh.mu is held.
func (sh *shard) makeRoom(most int) {
	if len(sh.lanes) < max(most, 1) {
		return
	}
	var oldest *lane
	looked := 0
	for _, l := range sh.lanes {
		if looked++; looked > 16 {
			break
		}
		l.mu.Lock()
		if !l.awake && len(l.room) == 0 && (oldest == nil || l.used.Before(oldest.used)) {
			oldest = l
		}
		l.mu.Unlock()
	}
	if oldest == nil {
		return
	}
	oldest.mu.Lock()
	defer oldest.mu.Unlock()
	if !oldest.awake {
		oldest.forget(sh)
	}
}

// stopTimers ends the timers of sleeping lanes.
func (p *Pipeline) stopTimers() {
	for i := range p.shards {
		sh := &p.shards[i]
		sh.mu.Lock()
		for _, l := range sh.lanes {
			l.mu.Lock()
			if l.expiry != nil {
				l.expiry.Stop()
			}
			l.mu.Unlock()
		}
		sh.mu.Unlock()
	}
}

// enqueue puts it into the group's lane and starts the lane if it sleeps.
func (p *Pipeline) enqueue(id group.ID, it item) {
	sh := p.shard(id)
	for {
		sh.mu.Lock()
		l := sh.lanes[id]
		if l == nil {
			if p.closed.Load() {
				sh.mu.Unlock()
				it.fail(p, ErrClosed)
				return
			}
			sh.makeRoom(p.cfg.IdleLanes / len(p.shards))
			l = newLane(p, id)
			sh.lanes[id] = l
		}
		sh.mu.Unlock()
		switch l.push(it) {
		case pushed:
			return
		case pushFull:
			it.fail(p, ErrOverloaded)
			return
		case pushClosed:
			it.fail(p, ErrClosed)
			return
		case pushDead: // it was forgotten since: look again
		}
	}
}

// finish tells the sender.
func (p *Pipeline) finish(s *submission, o Outcome) {
	if s.counted {
		p.pending.Add(-1)
		s.counted = false
	}
	p.metrics.outcome(s, o)
	s.done(o)
	for _, again := range s.again {
		o.Duplicate = o.Err == nil
		p.finish(again, o)
	}
	s.again = nil
}

// A submission is a draft on its way.
type submission struct {
	draft   *Draft
	done    func(Outcome)
	at      time.Time
	hash    group.BodyHash // of the body as it was sent
	key     group.DuplicateKey
	keyed   bool         // key marks a repeatable message
	counted bool         // in Pipeline.pending
	invalid *group.Error // why it is refused whatever the group

	again []*submission // the same message, sent again while this one was on its way

	flow     flowItem
	released int64          // Unix nanoseconds; 0: exempt
	requeued int            // how often a conflict sent it back to be stamped anew
	load     int            // the lane's count when it was found to be new
	message  *group.Message // once stamped
}

// An update is a change waiting for its turn.
type update struct {
	ctx  context.Context
	fn   func(*Tx) error // may run again after a conflict
	done chan error

	requeued int
}

// An item is one thing in a lane's inbox; one field is set.
type item struct {
	sub     *submission
	upd     *update
	judged  *judged  // a before-callback has answered
	written *written // an append has ended
}

func (it item) fail(p *Pipeline, err error) {
	switch {
	case it.sub != nil:
		p.finish(it.sub, Outcome{Err: err})
	case it.upd != nil:
		it.upd.done <- err
	}
}
