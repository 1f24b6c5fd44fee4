package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// What a closed loop waits for before a message counts as done and the next one goes out.
const (
	WaitDelivery = "delivery" // every member has it (and the sender its acknowledgement)
	WaitOwn      = "own"      // the sender has its own copy, for which it subscribes as well
	WaitAck      = "ack"      // the sender has its acknowledgement; needs QoS 1
)

// Traffic describes messages into groups. Fan-out, many groups and ingest are all this with other numbers.
type Traffic struct {
	Scenario string // only named in the report
	Groups   int
	Members  int // of each group, all subscribed
	Senders  int // of each group; they subscribe only where they wait for their own copy
	Stalled  int // further members of each group that subscribe and then never read
	QoS      byte
	Size     int // bytes of the payload

	// Rate is messages a second into each group, all its senders together, sent when they are due (open loop).
	// With zero each sender keeps Outstanding messages under way (closed loop).
	Rate        float64
	Outstanding int
	Wait        string
	// MaxInFlight bounds the unacknowledged messages of an open-loop sender.
	MaxInFlight int
}

func (t Traffic) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if t.Groups < 1 || t.Senders < 1 {
		bad("--groups and --senders take at least 1")
	}
	if t.Members < 0 || t.Stalled < 0 {
		bad("--members and --stalled: not negative")
	}
	if t.Groups > 0 && t.Senders > maxSenders/t.Groups {
		bad("%d senders in each of %d groups: at most %d in all", t.Senders, t.Groups, maxSenders)
	}
	if t.QoS > 1 {
		bad("--qos: %d is neither 0 nor 1", t.QoS)
	}
	if t.Size < stampSize || t.Size > maxFrame/2 {
		bad("--size: %d is not between %d (the stamp) and %d", t.Size, stampSize, maxFrame/2)
	}
	if t.Rate < 0 || math.IsNaN(t.Rate) || math.IsInf(t.Rate, 0) {
		bad("--rate: %v is not a rate", t.Rate)
	}
	if t.MaxInFlight < 1 || t.MaxInFlight > 65535 || t.Outstanding < 1 || t.Outstanding > 65535 {
		bad("--outstanding and --max-in-flight take 1 to 65535")
	}
	switch t.Wait {
	case WaitAck:
		if t.QoS == 0 && t.Rate == 0 {
			bad("--wait ack needs --qos 1")
		}
	case WaitDelivery:
		if t.Members == 0 && t.QoS == 0 && t.Rate == 0 {
			bad("--wait delivery needs members or --qos 1")
		}
	case WaitOwn:
	default:
		bad("--wait: %q is none of %s, %s, %s", t.Wait, WaitDelivery, WaitOwn, WaitAck)
	}
	return errors.Join(errs...)
}

// subscribingSenders tells whether senders receive what they send.
func (t Traffic) subscribingSenders() bool { return t.Wait == WaitOwn && t.Rate == 0 }

// connections is how many the run opens.
func (t Traffic) connections() int { return t.Groups * (t.Members + t.Senders + t.Stalled) }

// a trafficRun is the state that senders and receivers of one run share.
type trafficRun struct {
	*stage
	Traffic
	window  window
	senders []*sender
	// readers is how many connections get each message of a group.
	readers int
}

// RunTraffic connects everybody, lets the senders send for the warm-up and the measured time, waits for what is still
// under way, and reports.
func RunTraffic(ctx context.Context, o Options, t Traffic) (*Result, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	st, ctx, err := newStage(ctx, o, t.connections())
	if err != nil {
		return nil, err
	}
	defer st.close()
	r := &trafficRun{stage: st, Traffic: t, readers: t.Members}
	if t.subscribingSenders() {
		r.readers += t.Senders
	}
	sessions, err := r.cast(ctx)
	if err != nil {
		return nil, err
	}
	st.note("connecting %d clients", len(sessions))
	if err := st.opener().open(ctx, sessions, st.Parallel); err != nil {
		return nil, err
	}
	if err := keepAlives(ctx, st.engine, sessions); err != nil {
		return nil, err
	}
	return r.measure(ctx, sessions)
}

// cast makes the sessions and, with Rookery, the accounts, groups and members behind them.
func (r *trafficRun) cast(ctx context.Context) ([]*session, error) {
	var sessions []*session
	var users []string
	plans := make([]groupPlan, r.Groups)
	add := func(plan *groupPlan, who role, filters ...string) (*session, error) {
		user := r.user(len(users))
		users = append(users, user)
		plan.members = append(plan.members, user)
		s, err := r.session(user, who, r.QoS, filters...)
		sessions = append(sessions, s)
		return s, err
	}
	for g := range plans {
		plans[g].id = r.groupID(g)
		if r.rookery != nil {
			plans[g].id = r.rookery.idFor(plans[g].id, r.Members+r.Stalled+r.Senders)
		}
		topic := topicOf(plans[g].id)
		for range r.Members {
			if _, err := add(&plans[g], newReceiver(r, g), topic); err != nil {
				return nil, err
			}
		}
		for range r.Stalled {
			if _, err := add(&plans[g], stalled{}, topic); err != nil {
				return nil, err
			}
		}
		for range r.Senders {
			s := newSender(r, g)
			var filters []string
			if r.subscribingSenders() {
				filters = append(filters, topic)
			}
			var err error
			if s.session, err = add(&plans[g], s, filters...); err != nil {
				return nil, err
			}
			s.version = s.session.connect.Version
			s.prepare(topic)
			r.senders = append(r.senders, s)
		}
	}
	if r.rookery != nil {
		r.note("making %d accounts and %d groups", len(users), len(plans))
		if err := r.rookery.setUp(ctx, users, plans); err != nil {
			return nil, err
		}
	}
	return sessions, nil
}

// settle is the pause between the last subscription and the first message.
const settle = 200 * time.Millisecond

// drainLimit bounds the wait for what is still under way after the measured time.
const drainLimit = 10 * time.Second

func (r *trafficRun) measure(ctx context.Context, sessions []*session) (*Result, error) {
	start := r.now() + int64(settle)
	r.window = newWindow(start+int64(r.Warmup), r.Duration)
	err := r.each(ctx, func(l *loop) {
		l.meter.delivery, l.meter.ack = newRecorder(r.window), newRecorder(r.window)
	})
	if err != nil {
		return nil, err
	}
	for i, s := range r.senders {
		s.session.conn.loop.post(func() { s.start(start, i) })
	}
	m, err := r.watch(ctx, r.window)
	if err != nil {
		return nil, err
	}
	if err := r.drain(ctx); err != nil {
		return nil, err
	}
	for _, s := range r.senders {
		if err := s.session.conn.loop.call(ctx, s.giveUp); err != nil {
			return nil, err
		}
	}
	res, err := r.report(ctx, m)
	if err != nil {
		return nil, err
	}
	res.Scenario, res.Connections = r.Scenario, len(sessions)
	res.Settings = r.settings()
	return res, nil
}

// drain waits until all that was sent has arrived, or until nothing has arrived for a second.
func (r *trafficRun) drain(ctx context.Context) error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	end := time.Now().Add(drainLimit)
	var last int64
	changed := time.Now()
	for {
		t := r.tally()
		pending := t.Expected - t.Delivered
		if r.QoS > 0 {
			pending += t.Published - t.Acked - t.Refused
		}
		if pending <= 0 && r.allSent() {
			return nil
		}
		now := time.Now()
		if progress := t.Delivered + t.Acked; progress != last {
			last, changed = progress, now
		}
		if now.After(end) || now.Sub(changed) > time.Second {
			return nil // the report says what is missing
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *trafficRun) allSent() bool {
	for _, s := range r.senders {
		if !s.finished.Load() {
			return false
		}
	}
	return true
}

func (r *trafficRun) settings() map[string]any {
	m := map[string]any{
		"groups": r.Groups, "members": r.Members, "senders": r.Senders, "qos": r.QoS, "size": r.Size, "mqtt5": r.MQTT5,
		"duration": r.Duration.String(),
	}
	if r.Stalled > 0 {
		m["stalled"] = r.Stalled
	}
	if r.Rate > 0 {
		m["rate"] = r.Rate
	} else {
		m["outstanding"], m["wait"] = r.Outstanding, r.Wait
	}
	return m
}

// stalled is a member that subscribes and then never reads.
type stalled struct{ bystander }

func (stalled) opened(s *session) { s.conn.deaf = true }
