package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Login storm is many users who connect and synchronise at the same moment. Rookery only.
type Login struct {
	Users     int
	Groups    int // that each user is in
	Members   int // of each group; with Users and Groups this gives the number of distinct groups
	Messages  int // sent into every group beforehand
	Subscribe bool
	// Prepared is called when accounts, groups and messages are there and before the first user connects; nil for
	// nothing. It may restart the server at the same addresses, and returns the process to measure.
	Prepared func(ctx context.Context) (pid int, err error)
}

func (l Login) validate() error {
	if l.Users < 1 || l.Groups < 1 || l.Members < 1 || l.Messages < 0 {
		return errors.New("--users, --groups and --members take at least 1, --messages at least 0")
	}
	if l.distinct() < l.Groups {
		return fmt.Errorf("%d users in groups of %d members make %d groups, fewer than the %d of each user", l.Users, l.Members, l.distinct(), l.Groups)
	}
	return nil
}

// distinct is how many groups there are in all.
func (l Login) distinct() int { return (l.Users*l.Groups + l.Members - 1) / l.Members }

// plans distributes the users over the groups: everybody is in l.Groups of them.
func (l Login) plans(s *stage) (users []string, plans []groupPlan) {
	plans = make([]groupPlan, l.distinct())
	for i := range plans {
		plans[i].id = s.rookery.idFor(s.groupID(i), l.Members)
	}
	for u := range l.Users {
		users = append(users, s.user(u))
		for k := range l.Groups {
			g := &plans[(u*l.Groups+k)%len(plans)]
			g.members = append(g.members, users[u])
		}
	}
	return users, plans
}

// RunLogin makes the users and groups, lets all users connect and call sync to the last page, and reports how long
// that took in all and for each.
func RunLogin(ctx context.Context, o Options, k Login) (*Result, error) {
	if err := k.validate(); err != nil {
		return nil, err
	}
	o.Threads = 1 // users finish on the loop that they connected on; counting them needs no lock while that is one
	st, ctx, err := newRookeryStage(ctx, o, k.Users)
	if err != nil {
		return nil, err
	}
	defer st.close()
	users, plans := k.plans(st)
	st.note("making %d accounts and %d groups", len(users), len(plans))
	if err := st.rookery.setUp(ctx, users, plans); err != nil {
		return nil, err
	}
	if err := st.rookery.fill(ctx, plans, k.Messages); err != nil {
		return nil, err
	}
	if k.Prepared != nil {
		if st.PID, err = k.Prepared(ctx); err != nil {
			return nil, err
		}
	}
	sessions := make([]*session, len(users))
	storm := &storm{left: len(users), done: make(chan struct{})}
	for i, u := range users {
		filters := []string{"users/" + u + "/rpc"}
		if k.Subscribe {
			filters = append(filters, "groups/+")
		}
		if sessions[i], err = st.session(u, &synchroniser{storm: storm}, 1, filters...); err != nil {
			return nil, err
		}
	}
	return storm.run(ctx, st, k, sessions)
}

// newRookeryStage is newStage for what only Rookery can do.
func newRookeryStage(ctx context.Context, o Options, connections int) (*stage, context.Context, error) {
	if o.Rookery.HTTP == "" {
		return nil, nil, errors.New("this scenario needs Rookery: --rookery-http")
	}
	return newStage(ctx, o, connections)
}

// A storm is a login storm while it lasts. Its users are all on one loop.
type storm struct {
	left int
	done chan struct{}
}

func (s *storm) run(ctx context.Context, st *stage, k Login, sessions []*session) (*Result, error) {
	before := st.rookery.storageCounters(ctx)
	used, err := st.read()
	if err != nil {
		return nil, err
	}
	from := st.now()
	if err := st.each(ctx, func(l *loop) { l.meter.call = newRecorder(openEnded(from)) }); err != nil {
		return nil, err
	}
	st.note("%d users log in", len(sessions))
	if err := st.opener().open(ctx, sessions, st.Parallel); err != nil {
		return nil, err
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(connectTimeout):
		return nil, fmt.Errorf("%d of %d users are not synchronised %s after the last had connected", s.left, len(sessions), connectTimeout)
	}
	m, err := st.since(from, tally{}, used)
	if err != nil {
		return nil, err
	}
	res, err := st.report(ctx, m)
	if err != nil {
		return nil, err
	}
	res.Scenario, res.Connections = "login", len(sessions)
	res.Settings = map[string]any{"users": k.Users, "groups": k.Groups, "distinct_groups": k.distinct(), "parallel": st.Parallel, "messages": k.Messages}
	res.Figures = map[string]float64{"seconds": m.seconds}
	for name, n := range st.rookery.storageCounters(ctx) {
		res.Figures[name+" per group"] = (n - before[name]) / float64(k.distinct())
	}
	return res, nil
}

// A synchroniser is a user who logs in: once connected it calls sync until it has every page.
type synchroniser struct {
	storm  *storm
	pages  int
	cursor string
}

func (y *synchroniser) opened(s *session) { y.ask(s) }

func (y *synchroniser) ask(s *session) {
	body, err := json.Marshal(map[string]string{"RequestId": strconv.Itoa(y.pages), "Cursor": y.cursor})
	if err != nil {
		panic(err) // a map of strings
	}
	s.request("sync", body)
}

// delivered takes the reply. The latency of a user is from dialling to its last page.
func (y *synchroniser) delivered(s *session, p *publishPacket) {
	if !bytes.HasSuffix(p.Topic, []byte("/rpc")) {
		s.meter().other.Add(1)
		return
	}
	var reply struct {
		envelope
		Cursor string
	}
	if err := json.Unmarshal(p.Payload, &reply); err != nil {
		s.conn.fail(fmt.Errorf("sync was answered with no JSON: %w", err))
		return
	}
	if err := reply.err(); err != nil {
		s.conn.fail(fmt.Errorf("sync: %w", err))
		return
	}
	y.pages++
	if y.cursor = reply.Cursor; y.cursor != "" {
		y.ask(s)
		return
	}
	m := s.meter()
	m.calls.Add(1)
	m.call.record(s.dialledAt, s.conn.loop.readAt)
	y.finished()
}

func (y *synchroniser) acknowledged(s *session, _ uint16, code byte, reason string) {
	if code >= 0x80 {
		s.conn.fail(fmt.Errorf("sync: PUBACK 0x%02X %s", code, reason))
	}
}

func (y *synchroniser) lost(s *session, _ error) {
	s.meter().callErrors.Add(1)
	y.finished()
}

func (y *synchroniser) finished() {
	if y.storm.left--; y.storm.left == 0 {
		close(y.storm.done)
	}
}

// fill sends messages into every group, as the administrator.
func (r *rookery) fill(ctx context.Context, plans []groupPlan, messages int) error {
	if messages == 0 {
		return nil
	}
	return inParallel(ctx, plans, func(ctx context.Context, g groupPlan) error {
		for range messages {
			if err := r.call(ctx, "group_open_http_svc/send_group_msg", textMessage(g.id, string(noise[:200])), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func textMessage(groupID, text string) map[string]any {
	return map[string]any{
		"GroupId": groupID, "Random": rand.Uint32(),
		"MsgBody": []any{map[string]any{"MsgType": "TIMTextElem", "MsgContent": map[string]string{"Text": text}}},
	}
}

// storageCounters reads the store's counters from /metrics. What cannot be read is missing from the result.
func (r *rookery) storageCounters(ctx context.Context) map[string]float64 {
	counters := make(map[string]float64)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.HTTP+"/metrics", nil)
	if err != nil {
		return counters
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return counters
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(http.MaxBytesReader(nil, resp.Body, maxFrame)); err != nil {
		return counters
	}
	for line := range strings.Lines(text.String()) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ := strings.Cut(series, "{")
		if n, err := strconv.ParseFloat(value, 64); err == nil && strings.HasPrefix(name, "rookery_storage_") && strings.HasSuffix(name, "_total") {
			counters[series] = n
		}
	}
	return counters
}

// History describes clients that pull stored messages. Rookery only.
type History struct {
	Clients  int
	Groups   int // every client is in one of them
	Messages int // stored in every group beforehand
	Page     int // messages asked for in a call
}

// RunHistory fills groups with messages and lets every client pull a page from anywhere in its group, one call after
// the other.
func RunHistory(ctx context.Context, o Options, h History) (*Result, error) {
	if h.Clients < 1 || h.Groups < 1 || h.Messages < 1 || h.Page < 1 || h.Groups > h.Clients {
		return nil, errors.New("--clients, --groups, --messages and --page take at least 1, and there are no more groups than clients")
	}
	st, ctx, err := newRookeryStage(ctx, o, h.Clients)
	if err != nil {
		return nil, err
	}
	defer st.close()
	plans := make([]groupPlan, h.Groups)
	sessions := make([]*session, h.Clients)
	users := make([]string, h.Clients)
	pullers := make([]*puller, h.Clients)
	for i := range plans {
		plans[i].id = st.rookery.idFor(st.groupID(i), h.Clients)
	}
	for i := range sessions {
		users[i] = st.user(i)
		g := &plans[i%len(plans)]
		g.members = append(g.members, users[i])
		pullers[i] = &puller{run: h, groupID: g.id}
		if sessions[i], err = st.session(users[i], pullers[i], 1, "users/"+users[i]+"/rpc"); err != nil {
			return nil, err
		}
	}
	st.note("making %d accounts and %d groups of %d messages", len(users), len(plans), h.Messages)
	if err := st.rookery.setUp(ctx, users, plans); err != nil {
		return nil, err
	}
	if err := st.rookery.fill(ctx, plans, h.Messages); err != nil {
		return nil, err
	}
	if err := st.opener().open(ctx, sessions, st.Parallel); err != nil {
		return nil, err
	}
	res, err := st.loopCalls(ctx, func(w window) {
		for i, p := range pullers {
			sessions[i].conn.loop.post(func() { p.start(sessions[i], w) })
		}
	})
	if err != nil {
		return nil, err
	}
	res.Scenario, res.Connections = "history", h.Clients
	res.Settings = map[string]any{"clients": h.Clients, "groups": h.Groups, "messages": h.Messages, "page": h.Page}
	return res, nil
}

// loopCalls measures callers that start calls every time the last one is answered, until the window ends.
func (s *stage) loopCalls(ctx context.Context, start func(w window)) (*Result, error) {
	w := newWindow(s.now()+int64(settle)+int64(s.Warmup), s.Duration)
	if err := s.each(ctx, func(l *loop) { l.meter.call = newRecorder(w) }); err != nil {
		return nil, err
	}
	start(w)
	m, err := s.watch(ctx, w)
	if err != nil {
		return nil, err
	}
	// What is under way began inside the window: a call that is slow must not be left out.
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return s.report(ctx, m)
}

// A puller calls group_msg_get in a closed loop.
type puller struct {
	bystander
	run     History
	groupID string
	window  window
	askedAt int64
}

func (p *puller) start(s *session, w window) {
	p.window = w
	p.ask(s)
}

func (p *puller) ask(s *session) {
	p.askedAt = s.conn.loop.now()
	if p.askedAt >= p.window.to || s.phase != phaseOpen {
		return
	}
	body := fmt.Appendf(nil, `{"GroupId":%q,"ReqMsgNumber":%d,"ReqMsgSeq":%d,"RequestId":"1"}`, p.groupID, p.run.Page, 1+rand.IntN(p.run.Messages))
	s.request("group_msg_get", body)
}

func (p *puller) delivered(s *session, packet *publishPacket) {
	m := s.meter()
	if !bytes.HasSuffix(packet.Topic, []byte("/rpc")) {
		m.other.Add(1)
		return
	}
	m.calls.Add(1)
	m.call.record(p.askedAt, s.conn.loop.readAt)
	if err := replyError(packet.Payload); err != nil {
		m.callErrors.Add(1)
		m.problem(fmt.Errorf("group_msg_get: %w", err))
	}
	p.ask(s)
}

func (p *puller) acknowledged(s *session, _ uint16, code byte, reason string) {
	if code >= 0x80 {
		s.meter().callErrors.Add(1)
		s.meter().problem(fmt.Errorf("group_msg_get: PUBACK 0x%02X %s", code, reason))
	}
}

// replyError returns the error of a reply of the API. The common success is told without decoding it.
func replyError(text []byte) error {
	if bytes.Contains(text, []byte(`"ErrorCode":0,`)) || bytes.Contains(text, []byte(`"ErrorCode":0}`)) {
		return nil
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("no JSON: %w", err)
	}
	return e.err()
}
