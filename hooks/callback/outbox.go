package callback

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

// An Outbox keeps after-callbacks as records that become durable with what they tell of, and
// sends them. It is the hooks.Outbox of a pipeline; Run sends.
type Outbox struct {
	client  *Client
	cfg     Config
	store   storage.Store
	log     *slog.Logger
	metrics *Metrics

	number atomic.Int64 // of the latest record
	dead   atomic.Int64 // records in storage.DeadCallbacks
	states chan stateRecord

	mu      sync.Mutex // guards the rest
	entries int64      // in all queues
	bytes   int64
	queues  map[string]*queue
	ready   []*queue
	wake    chan struct{} // holds a token when ready has got something
	try     *time.Timer   // of tryLater
	ended   bool
}

// OpenOutbox returns the outbox over store, with what an earlier run left in it.
func OpenOutbox(ctx context.Context, client *Client, store storage.Store) (*Outbox, error) {
	o := &Outbox{
		client: client, cfg: client.cfg, store: store, log: client.log, metrics: client.metrics,
		states: make(chan stateRecord, 4096),
		queues: make(map[string]*queue), wake: make(chan struct{}, 1),
	}
	last := time.Now().UnixNano() // above all that a run before this one has given out
	for rec, err := range store.Scan(ctx, storage.Callbacks.Name, storage.Span{}) {
		if err != nil {
			return nil, fmt.Errorf("callbacks to send: %w", err)
		}
		prefix, n, err := splitNumber(rec.Key)
		if err != nil {
			return nil, err
		}
		last = max(last, n)
		o.expect(prefix, int64(len(rec.Value)))
	}
	for rec, err := range store.Scan(ctx, storage.DeadCallbacks.Name, storage.Span{}) {
		if err != nil {
			return nil, fmt.Errorf("dead callbacks: %w", err)
		}
		n, err := storage.ParseNum(rec.Key)
		if err != nil {
			return nil, fmt.Errorf("dead callback %q: %w", rec.Key, err)
		}
		last = max(last, n)
		o.dead.Add(1)
	}
	o.number.Store(last)
	o.metrics.dead.Set(float64(o.dead.Load()))
	for _, q := range o.queues {
		o.schedule(q)
	}
	client.opens.Store(new(o.tryLater))
	client.closes.Store(new(o.RetryNow))
	return o, nil
}

// groupQueue is the prefix of the records of a group: one queue for all its lives.
func groupQueue(id group.ID) string { return storage.Prefix("group", string(id)) }

// refusedQueue is the prefix of what is told of a group's refused messages: they keep nobody
// waiting, so a flood of them does not delay what has happened.
func refusedQueue(id group.ID) string { return storage.Prefix("refused", string(id)) }

func accountQueue(a group.Account) string { return storage.Prefix("state", string(a)) }

// splitNumber takes a record's key apart into its queue and its number.
func splitNumber(key string) (queue string, n int64, err error) {
	i := strings.LastIndexByte(key, ':') + 1
	if n, err = storage.ParseNum(key[i:]); err != nil {
		return "", 0, fmt.Errorf("callback to send %q: %w", key, err)
	}
	return key[:i], n, nil
}

// Stored implements hooks.Outbox.
func (o *Outbox) Stored(g *group.Group, m *group.Message, d *hooks.Draft) []storage.Mutation {
	return o.afterSend(g, m, d, storage.Callback{Group: m.Group, Incarnation: m.Incarnation, Seq: m.Seq, ID: m.ID})
}

// Online implements hooks.Outbox.
func (o *Outbox) Online(g *group.Group, m *group.Message, d *hooks.Draft) []storage.Mutation {
	return o.afterSend(g, m, d, storage.Callback{})
}

func (o *Outbox) afterSend(g *group.Group, m *group.Message, d *hooks.Draft, rec storage.Callback) []storage.Mutation {
	if d == nil || m.Flags.Any(group.ForbidAfter|group.System|group.Imported) || !o.client.sends(afterSend) {
		return nil
	}
	now := time.Now()
	body, err := json.Marshal(newMessage(afterSend, g, d, now).sent(m))
	if err != nil {
		o.log.Error("callback body", "group", string(g.ID), "err", err)
		return nil
	}
	rec.Command, rec.Body, rec.Time = afterSend, body, now.UnixMilli()
	return o.record(groupQueue(g.ID), &rec, d.Origin)
}

// HearsRefusals says that Refused wants to know of every refusal.
func (o *Outbox) HearsRefusals() bool { return o.client.sends(sendException) }

const (
	// maxRefusedBody bounds the body of a refused message that the app is shown, in bytes: one
	// may have been refused because it is too long.
	maxRefusedBody = 64 << 10
	// maxRefused bounds the refusals of one group that wait to be told. More are forgotten, as
	// all are that come while the outbox is half full: a flood leaves room for what has happened.
	maxRefused = 1000
)

// Refused implements hooks.Outbox.
func (o *Outbox) Refused(g *group.Group, d *hooks.Draft, refusal *group.Error) []storage.Mutation {
	if !o.client.sends(sendException) {
		return nil
	}
	queue := refusedQueue(d.Group)
	if !o.roomForRefusal(queue) {
		o.metrics.deaths.WithLabelValues("refusals").Inc()
		return nil
	}
	now := time.Now()
	m := newMessage(sendException, g, d, now)
	m.ErrorCode, m.ErrorInfo = refusal.Code, refusal.Info
	if len(m.Body) > maxRefusedBody || !json.Valid(m.Body) {
		m.Body = json.RawMessage("[]")
	}
	if len(m.CloudCustomData) > maxRefusedBody {
		m.CloudCustomData = ""
	}
	body, err := json.Marshal(m)
	if err != nil {
		o.log.Error("callback body", "group", string(d.Group), "err", err)
		return nil
	}
	return o.record(queue, &storage.Callback{Command: sendException, Body: body, Time: now.UnixMilli()}, d.Origin)
}

// Happened implements hooks.Outbox. A body may have a method CallbackOrigin() hooks.Origin
// that says where the operation came from.
func (o *Outbox) Happened(g *group.Group, name string, body any) []storage.Mutation {
	if !o.client.sends(name) {
		return nil
	}
	now := time.Now()
	full, _, err := complete(name, g, body, now)
	if err != nil {
		o.log.Error("callback body", "group", string(g.ID), "command", name, "err", err)
		return nil
	}
	var from hooks.Origin
	if b, ok := body.(interface{ CallbackOrigin() hooks.Origin }); ok {
		from = b.CallbackOrigin()
	}
	return o.record(groupQueue(g.ID), &storage.Callback{Command: name, Body: full, Time: now.UnixMilli()}, from)
}

// Committed implements hooks.Outbox.
func (o *Outbox) Committed(key group.Key) {
	o.written(groupQueue(key.ID))
	o.written(refusedQueue(key.ID))
}

// AccountHappened is Happened for what concerns an account and no group: the mutations are to
// be written with the change, and AccountCommitted is called afterwards, whatever came of it.
func (o *Outbox) AccountHappened(a group.Account, name string, body any, from hooks.Origin) []storage.Mutation {
	if !o.client.sends(name) {
		return nil
	}
	now := time.Now()
	full, _, err := complete(name, nil, body, now)
	if err != nil {
		o.log.Error("callback body", "account", string(a), "command", name, "err", err)
		return nil
	}
	return o.record(accountQueue(a), &storage.Callback{Command: name, Body: full, Time: now.UnixMilli()}, from)
}

// AccountCommitted says that what AccountHappened returned was written, or may have been.
func (o *Outbox) AccountCommitted(a group.Account) { o.written(accountQueue(a)) }

// record returns the mutation that queues c, or what is left of it if there is no room.
func (o *Outbox) record(queue string, c *storage.Callback, from hooks.Origin) []storage.Mutation {
	switch {
	case c.Command == memberState, c.Command == offlinePush: // nobody's doing: their URLs have neither
	case from.Platform == "":
		c.IP, c.Platform = from.IP, "Unknown"
	default:
		c.IP, c.Platform = from.IP, from.Platform
	}
	n := storage.Num(o.number.Add(1))
	mut := storage.Callbacks.Put(queue+n, c)
	if !o.expectWithin(queue, int64(len(mut.Value))) {
		return o.giveUp(queue+n, c, "full")
	}
	return []storage.Mutation{mut}
}

// giveUp returns the mutation that keeps a dead callback to be looked at; none if too many are kept.
func (o *Outbox) giveUp(key string, c *storage.Callback, why string) []storage.Mutation {
	o.metrics.deaths.WithLabelValues(why).Inc()
	if o.dead.Load() >= o.cfg.DeadEntries {
		return nil
	}
	o.metrics.dead.Set(float64(o.dead.Add(1)))
	c.Key, c.Why = key, why
	return []storage.Mutation{storage.DeadCallbacks.Put(key[strings.LastIndexByte(key, ':')+1:], c)}
}

// A StateChange tells that a device of an account came or went.
type StateChange struct {
	Account  group.Account
	Action   string // Login, Logout, Disconnect
	Reason   string // Register; Unregister; LinkClose or TimeOut
	Platform string
	IP       string
	At       time.Time
	Kicked   []string // platforms of the devices that a login has displaced
}

type stateRecord struct {
	queue string
	muts  []storage.Mutation
}

// StateChanged queues a State.StateChange. It does not block; it becomes durable soon after.
func (o *Outbox) StateChanged(s StateChange) {
	if !o.client.sends(stateChange) {
		return
	}
	type device struct{ Platform string }
	type info struct {
		Action  string
		Account group.Account `json:"To_Account"`
		Reason  string
	}
	body := struct {
		CallbackCommand string
		EventTime       int64
		Info            info
		Kicked          []device `json:"KickedDevice,omitempty"`
	}{CallbackCommand: stateChange, EventTime: s.At.UnixMilli(), Info: info{s.Action, s.Account, s.Reason}}
	for _, k := range s.Kicked {
		body.Kicked = append(body.Kicked, device{platformName(k)})
	}
	raw, err := json.Marshal(body)
	if err != nil {
		o.log.Error("callback body", "account", string(s.Account), "err", err)
		return
	}
	if platformName(s.Platform) == "iOS" { // so spelled in this callback's parameter alone
		s.Platform = "IOS"
	}
	queue := accountQueue(s.Account)
	rec := &storage.Callback{Command: stateChange, Body: raw, Time: s.At.UnixMilli()}
	o.queueState(queue, rec, hooks.Origin{IP: s.IP, Platform: s.Platform})
}

// OverLimit queues an Alert.RequestOverLimit: so many calls of a command came in a second. It
// does not block; it becomes durable soon after.
func (o *Outbox) OverLimit(service, command string, calls, limit int, from hooks.Origin) {
	if !o.client.sends(overLimit) {
		return
	}
	now := time.Now()
	raw, err := json.Marshal(struct {
		CallbackCommand string
		Command         string
		EventTime       int64
		Limit           int
		Request         int
		ServiceName     string
	}{overLimit, command, now.UnixMilli(), limit, calls, service})
	if err != nil {
		o.log.Error("callback body", "command", overLimit, "err", err)
		return
	}
	o.queueState(storage.Prefix("alert"), &storage.Callback{Command: overLimit, Body: raw, Time: now.UnixMilli()}, from)
}

// queueState hands a record that belongs to no group's write to writeStates.
func (o *Outbox) queueState(queue string, rec *storage.Callback, from hooks.Origin) {
	muts := o.record(queue, rec, from)
	if len(muts) == 0 {
		return
	}
	select {
	case o.states <- stateRecord{queue, muts}:
	default: // the store does not keep up
		o.metrics.deaths.WithLabelValues("overload").Inc()
		o.forget(queue, 1, int64(len(muts[0].Value)))
	}
}

// writeStates makes state changes durable, as many at once as there are.
func (o *Outbox) writeStates(ctx context.Context) {
	for {
		var first stateRecord
		select {
		case first = <-o.states:
		case <-ctx.Done():
			select {
			case first = <-o.states: // what came before the end is written
			default:
				return
			}
		}
		batch := []stateRecord{first}
		for len(batch) < 256 && len(o.states) > 0 {
			batch = append(batch, <-o.states)
		}
		var muts []storage.Mutation
		for _, r := range batch {
			muts = append(muts, r.muts...)
		}
		wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		err := o.store.Apply(wctx, muts...)
		cancel()
		if err != nil {
			o.log.Warn("state callbacks not written", "entries", len(muts), "err", err)
			o.metrics.deaths.WithLabelValues("store").Add(float64(len(muts)))
			for _, r := range batch {
				o.forget(r.queue, 1, int64(len(r.muts[0].Value)))
			}
			continue
		}
		for _, r := range batch {
			o.written(r.queue)
		}
	}
}
