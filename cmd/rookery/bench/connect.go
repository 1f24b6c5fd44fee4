package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Connect describes clients that only connect.
type Connect struct {
	Scenario    string // only named in the report
	Connections int
	Churn       bool // every client leaves as soon as it is connected
	// Hold is whether the connections stay open, idle, for the measured time.
	Hold bool
	// Subscribe is a topic filter that every client subscribes to, as part of connecting; empty for none.
	Subscribe string
	// Settle is how long the broker is left alone before its memory is read.
	Settle time.Duration
}

// bytesPerConnection names the growth of the measured process for each connection that stays.
const bytesPerConnection = "bytes per connection"

// openEnded is the window of a run that ends by itself.
func openEnded(from int64) window {
	return window{from: from, to: from + int64(time.Hour), interval: int64(250 * time.Millisecond)}
}

// RunConnect opens the connections as fast as Options.Parallel allows and reports the rate, how long each took from
// dialling to its CONNACK (and SUBACK), and what a connection costs the measured process.
func RunConnect(ctx context.Context, o Options, c Connect) (*Result, error) {
	if c.Connections < 1 || c.Settle < 0 || c.Churn && c.Hold {
		return nil, errors.New("--connections takes at least 1, --settle is not negative, and clients that leave cannot be held")
	}
	st, ctx, err := newStage(ctx, o, c.Connections)
	if err != nil {
		return nil, err
	}
	defer st.close()
	sessions, err := st.bystanders(ctx, c)
	if err != nil {
		return nil, err
	}
	before, err := st.read()
	if err != nil {
		return nil, err
	}
	from := st.now()
	if err := st.each(ctx, func(l *loop) { l.meter.call = newRecorder(openEnded(from)) }); err != nil {
		return nil, err
	}
	st.note("connecting %d clients", len(sessions))
	op := st.opener()
	op.record = true
	if c.Churn {
		op.end = (*session).end
	}
	if err := op.open(ctx, sessions, st.Parallel); err != nil {
		return nil, err
	}
	m, err := st.since(from, tally{}, before)
	if err != nil {
		return nil, err
	}
	res, err := st.report(ctx, m)
	if err != nil {
		return nil, err
	}
	res.Scenario, res.Connections = c.Scenario, c.Connections
	res.Settings = map[string]any{"parallel": st.Parallel, "mqtt5": st.MQTT5, "churn": c.Churn}
	if c.Subscribe != "" {
		res.Settings["subscribe"] = c.Subscribe
	}
	if n := op.failures.Load(); n > 0 && c.Hold {
		return nil, fmt.Errorf("%d of %d connections failed, the first: %w", n, c.Connections, *op.first.Load())
	}
	if c.Churn {
		return res, nil
	}
	if err := keepAlives(ctx, st.engine, sessions); err != nil {
		return nil, err
	}
	if err := st.hold(ctx, c, res); err != nil {
		return nil, err
	}
	return res, nil
}

// bystanders makes the sessions and, with Rookery, their accounts.
func (s *stage) bystanders(ctx context.Context, c Connect) ([]*session, error) {
	sessions := make([]*session, c.Connections)
	users := make([]string, c.Connections)
	var filters []string
	if c.Subscribe != "" {
		filters = []string{c.Subscribe}
	}
	for i := range sessions {
		users[i] = s.user(i)
		var err error
		if sessions[i], err = s.session(users[i], nil, 1, filters...); err != nil {
			return nil, err
		}
	}
	if s.rookery != nil {
		s.note("making %d accounts", len(users))
		return sessions, s.rookery.setUp(ctx, users, nil)
	}
	return sessions, nil
}

// hold leaves the connections idle, then adds what one costs to the result.
func (s *stage) hold(ctx context.Context, c Connect, res *Result) error {
	from := s.now() + int64(c.Settle)
	s.note("settling for %s", c.Settle)
	w := newWindow(from, time.Millisecond)
	if c.Hold {
		w = newWindow(from, s.Duration)
	}
	m, err := s.watch(ctx, w)
	if err != nil {
		return err
	}
	counts := s.tally()
	res.Total, res.Problems = counts, s.problems()
	if res.Process == nil {
		return nil
	}
	res.Process.RSSAfter = m.target.RSSAfter
	res.Figures = map[string]float64{
		bytesPerConnection: float64(m.target.RSSAfter-res.Process.RSSBefore) / float64(c.Connections),
	}
	if c.Hold {
		res.Figures["CPU % while idle"] = m.target.CPUSeconds / m.seconds * 100
	}
	return nil
}
