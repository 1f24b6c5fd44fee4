package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
)

// Rest describes send_group_msg over HTTP connections that are kept. Rookery only.
type Rest struct {
	Connections int // each has one request under way
	Groups      int // taken in turn
	Size        int // bytes of the text
	// Rate is how many calls a second are due in all, answered or not; 0: each connection calls as soon as it has its answer.
	Rate float64
	// Get, if not empty, is a path that is asked for by GET instead: what the HTTP server costs without the command.
	Get string
}

// firstRandom keeps Random at ten digits, so that every request has the same length.
const firstRandom = 1_000_000_000

// RunRest sends messages through the REST API, one after the other on every connection.
func RunRest(ctx context.Context, o Options, k Rest) (*Result, error) {
	if k.Connections < 1 || k.Groups < 1 || k.Size < 1 {
		return nil, errors.New("--connections, --groups and --size take at least 1")
	}
	if o.Broker == "" {
		o.Broker = o.Rookery.HTTP // nothing is sent over MQTT
	}
	st, ctx, err := newRookeryStage(ctx, o, k.Connections)
	if err != nil {
		return nil, err
	}
	defer st.close()
	to, err := resolve(ctx, o.Rookery.HTTP)
	if err != nil {
		return nil, err
	}
	plans := make([]groupPlan, k.Groups)
	for i := range plans {
		plans[i] = groupPlan{id: st.rookery.idFor(st.groupID(i), 1), members: []string{st.user(0)}}
	}
	if err := st.rookery.setUp(ctx, plans[0].members, plans); err != nil {
		return nil, err
	}
	posters := make([]*poster, k.Connections)
	for i := range posters {
		if k.Get != "" {
			posters[i] = newGetter(st.rookery, k.Get)
		} else if posters[i], err = newPoster(st.rookery, plans[i%len(plans)].id, k.Size, i); err != nil {
			return nil, err
		}
		if k.Rate > 0 {
			posters[i].interval = 1e9 * float64(k.Connections) / k.Rate
		}
	}
	var dialError error
	res, err := st.loopCalls(ctx, func(w window) {
		for i, p := range posters {
			p.window = w
			p.from = st.now() + int64(p.interval*float64(i)/float64(len(posters))) // spread over the time between two calls
			l := st.loops[i%len(st.loops)]
			if err := l.call(ctx, func() { _, dialError = l.dial(to, netip.Addr{}, p) }); err != nil || dialError != nil {
				st.stop(errors.Join(err, dialError))
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	res.Scenario, res.Connections = "rest", k.Connections
	res.Settings = map[string]any{"groups": k.Groups, "size": k.Size, "rate": k.Rate}
	if k.Get != "" {
		res.Settings = map[string]any{"get": k.Get, "rate": k.Rate}
	}
	return res, nil
}

// A poster sends the same command over and over on one HTTP/1.1 connection; only Random and the text change.
type poster struct {
	window           window
	request          []byte
	get              bool // the request is the same every time, and any body an answer
	randomAt, textAt int
	textSize         int
	random           uint32
	askedAt          int64   // or when the call was due
	interval         float64 // nanoseconds between two calls; zero in a closed loop
	from             int64   // when the first call is due
	calls            int64   // that were made
	conn             *conn
}

func newPoster(r *rookery, groupID string, size, index int) (*poster, error) {
	path, err := r.path("group_open_http_svc/send_group_msg")
	if err != nil {
		return nil, err
	}
	const randomName, textName = `"Random":`, `"Text":"`
	body := fmt.Appendf(nil, `{"GroupId":%q,%s%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{%s`, groupID, randomName, firstRandom, textName)
	textAt := len(body)
	body = append(append(body, noise[:size]...), `"}}]}`...)
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, r.HTTP, len(body))
	return &poster{
		request:  append(head, body...),
		randomAt: len(head) + bytes.Index(body, []byte(randomName)) + len(randomName),
		textAt:   len(head) + textAt, textSize: size,
		// Connections of one group must not repeat each other's Random.
		random: uint32(index) * 2654435761 % (math.MaxUint32 - firstRandom),
	}, nil
}

// newGetter returns a poster that asks for path.
func newGetter(r *rookery, path string) *poster {
	return &poster{get: true, request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, r.HTTP)}
}

func (p *poster) connected(c *conn) {
	p.conn = c
	p.next()
}

// next asks, now or when the next call is due.
func (p *poster) next() {
	l := p.conn.loop
	if p.interval == 0 {
		p.ask(l.now())
		return
	}
	due := p.dueAt()
	if due > l.now() {
		l.at(due, p)
		return
	}
	p.ask(due)
}

// dueAt is when the next call is due.
func (p *poster) dueAt() int64 { return p.from + int64(p.interval*float64(p.calls)) }

// work asks when a call is due.
func (p *poster) work(*loop) { p.ask(p.dueAt()) }

func (p *poster) ask(at int64) {
	p.calls++
	p.askedAt = at
	if at >= p.window.to {
		return
	}
	if !p.get {
		p.random = (p.random + 1) % (math.MaxUint32 - firstRandom)
		putDigits(p.request[p.randomAt:p.randomAt+10], uint64(firstRandom+p.random))
		fillPadding(p.request[p.textAt:p.textAt+p.textSize], p.random)
	}
	p.conn.write(p.request)
}

func (p *poster) consume(c *conn, b []byte) (int, error) {
	body, used, err := splitResponse(b)
	if err != nil || used == 0 {
		return 0, err
	}
	m := c.loop.meter
	m.calls.Add(1)
	m.call.record(p.askedAt, c.loop.readAt)
	if err := replyError(body); err != nil && !p.get {
		m.callErrors.Add(1)
		m.problem(fmt.Errorf("send_group_msg: %w", err))
	}
	if bytes.Contains(body, []byte(`"MsgDropReason":"M`)) {
		m.refused.Add(1) // by frequency control, with an answer that is no error
	}
	p.next()
	return used, nil
}

func (p *poster) closed(c *conn, err error) {
	c.loop.meter.disconnects.Add(1)
	c.loop.meter.problem(err)
}

var errBadResponse = errors.New("an HTTP response that is not as expected")

// splitResponse cuts the first HTTP response off b; used is 0 when b holds only its beginning. It takes responses
// with status 200 and a Content-Length, which is all that the API sends.
func splitResponse(b []byte) (body []byte, used int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return nil, 0, nil
	}
	status, rest, _ := bytes.Cut(b[:end], []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
		return nil, 0, fmt.Errorf("%w: %.40q", errBadResponse, status)
	}
	for line := range bytes.SplitSeq(rest, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 31)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: Content-Length %q", errBadResponse, value)
		}
		from := end + 4
		if len(b) < from+int(n) {
			return nil, 0, nil
		}
		return b[from : from+int(n)], from + int(n), nil
	}
	return nil, 0, fmt.Errorf("%w: no Content-Length", errBadResponse)
}
