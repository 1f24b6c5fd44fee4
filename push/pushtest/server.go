// Package pushtest has a fake of every push vendor, as strict as the vendor where it matters:
// TLS (APNs: HTTP/2 only), signatures and access tokens, required fields, limits, tokens per
// call, quotas and rates.
//
// A fake answers by how the device token starts, so that a test needs no side channel:
//
//	ok-…        accepted
//	dead-…      the vendor's "this token is dead"
//	foreign-…   a token of another app or environment
//	busy-…      the vendor's throttle answer
//	dev429-…    too many pushes to this device
//	quota-…     the day's quota is used up
//	word-…      sensitive content
//	5xx-N-…     fails N times with 500, then accepts
//	slow-…      answers after 3 s
//	hang-…      never answers
//	drop-…      takes the push, then cuts the connection; drop-N-… does so N times
//	html-…      502 with a page
//	code-X-…    the vendor's code X (APNs: status and reason, code-403-Forbidden-…)
//	value-X-…   code X for this device only, where the vendor has such codes
//
// Any other token is dead. A fake keeps what it accepted, counts calls, and notes what a
// vendor would have refused (Violations). Its switches (latency, killed connections, expired
// access tokens, …) may be turned while it serves.
package pushtest

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Push is what a fake accepted for one device.
type Push struct {
	At     time.Time
	Path   string
	Header http.Header
	// Body is the whole call's, shared by all devices of the call.
	Body []byte
}

// keepPushes bounds the pushes remembered per device.
const keepPushes = 8

// maxViolations bounds the violations remembered.
const maxViolations = 100

// Options are a fake's limits. The zero value has none.
type Options struct {
	// Latency is added to every push answer.
	Latency time.Duration
	// Streams is SETTINGS_MAX_CONCURRENT_STREAMS of the APNs fake. Zero means 1000.
	Streams int
	// Quota is how many pushes are accepted before the day's quota is used up (Chinese
	// vendors). Zero means no end.
	Quota int
	// Rate is how many push calls a second are served before the throttle answer. Zero means
	// no limit.
	Rate int
	// KillEvery cuts a connection at random, on average once in so many push calls, after the
	// push was taken. Zero means never.
	KillEvery int
	// Old answers in the older of two spellings, where a vendor is known for two.
	Old bool
	// Listen is the address to listen on. Empty means a free port on loopback.
	Listen string
}

// A Server is what the fakes have in common. Its methods may be called by several goroutines
// at once.
type Server struct {
	// URL is the base URL, https.
	URL string

	http *httptest.Server

	mu         sync.Mutex
	options    Options
	pushes     map[string][]*Push
	counts     map[string]int
	total      int
	fails      map[string]int // by token, for 5xx-N- and drop-N-
	calls      int
	logins     int
	active     int
	maxActive  int
	second     int64
	thisSecond int
	maxSecond  int
	violations []string
	access     map[string]time.Time // issued access tokens and when they end
	issued     int
	failLogins int // the HTTP status that logins get, 0 for none
	conns      map[net.Conn]bool
	opened     int
	done       chan struct{}
	closing    sync.Once
}

type connKey struct{}

func start(o Options, handler http.Handler, configure func(*httptest.Server)) (*Server, error) {
	s := &Server{
		options: o, pushes: make(map[string][]*Push), counts: make(map[string]int), fails: make(map[string]int),
		access: make(map[string]time.Time), conns: make(map[net.Conn]bool), done: make(chan struct{}),
	}
	s.http = httptest.NewUnstartedServer(handler)
	if o.Listen != "" {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", o.Listen)
		if err != nil {
			return nil, err
		}
		_ = s.http.Listener.Close() // the free port that httptest took
		s.http.Listener = l
	}
	s.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	configure(s.http)
	s.http.Config.ConnState = func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.conns[c] = true
			s.opened++
		case http.StateClosed, http.StateHijacked:
			delete(s.conns, c)
		}
	}
	s.http.Config.ErrorLog = discardLog
	s.http.StartTLS()
	s.URL = s.http.URL
	return s, nil
}

// RootCAs trusts the fake's certificate.
func (s *Server) RootCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.http.Certificate())
	return pool
}

// Certificate is the fake's own, which also signs it.
func (s *Server) Certificate() *x509.Certificate { return s.http.Certificate() }

// Close cuts all connections and ends the fake. It may be called again.
func (s *Server) Close() {
	s.closing.Do(func() {
		close(s.done)
		s.KillConnections()
		s.http.Close()
	})
}

// KillConnections cuts every connection and returns how many there were.
func (s *Server) KillConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close() // the point is that it is gone
	}
	return len(s.conns)
}

// Set changes the options; Streams and Listen are fixed at the start.
func (s *Server) Set(change func(*Options)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.options)
}

// ExpireTokens makes every access token stale.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
}

// FailLogins answers logins with an HTTP status; 0 ends it.
func (s *Server) FailLogins(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLogins = status
}

// Pushes returns the last pushes that were accepted for a device, the newest last.
func (s *Server) Pushes(token string) []*Push {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Push(nil), s.pushes[token]...)
}

// Count returns how many pushes were accepted for a device.
func (s *Server) Count(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[token]
}

// Counts returns a copy of all devices' counts.
func (s *Server) Counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// Stats is what a fake has counted.
type Stats struct {
	// Accepted pushes, push calls, and login calls.
	Accepted, Calls, Logins int
	// MaxConcurrent is the most push calls under way at once, MaxPerSecond the most that
	// began in one second of the clock.
	MaxConcurrent, MaxPerSecond int
	// Conns is how many connections there have been.
	Conns int
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{s.total, s.calls, s.logins, s.maxActive, s.maxSecond, s.opened}
}

// Violations returns what clients did that the vendor would not have taken.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.violations...)
}

func (s *Server) violate(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.violations) < maxViolations {
		s.violations = append(s.violations, fmt.Sprintf(format, args...))
	}
}

// issue makes an access token that is good for d.
func (s *Server) issue(d time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued++
	token := "access-" + strconv.Itoa(s.issued) + "-" + strconv.FormatUint(rand.Uint64(), 36) + "/x+y="
	s.access[token] = time.Now().Add(d)
	return token
}

func (s *Server) valid(access string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.access[access])
}

// login counts a login call and reports whether it has been answered already.
func (s *Server) login(w http.ResponseWriter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins++
	if s.failLogins == 0 {
		return false
	}
	http.Error(w, "login is out of order", s.failLogins)
	return true
}

// begin counts a push call. Call end when it is over; throttled reports a rate above the limit.
func (s *Server) begin() (end func(), throttled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.active++
	s.maxActive = max(s.maxActive, s.active)
	if now := time.Now().Unix(); now != s.second {
		s.second, s.thisSecond = now, 0
	}
	s.thisSecond++
	s.maxSecond = max(s.maxSecond, s.thisSecond)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.active--
	}, s.options.Rate > 0 && s.thisSecond > s.options.Rate
}

// overQuota reports whether n more pushes would exceed the quota.
func (s *Server) overQuota(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.options.Quota > 0 && s.total+n > s.options.Quota
}

func (s *Server) old() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.options.Old
}

// accept remembers a push for the tokens.
func (s *Server) accept(r *http.Request, body []byte, tokens ...string) {
	p := &Push{At: time.Now(), Path: r.URL.Path, Header: r.Header.Clone(), Body: body}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tokens {
		kept := append(s.pushes[t], p)
		if len(kept) > keepPushes {
			kept = kept[1:]
		}
		s.pushes[t] = kept
		s.counts[t]++
		s.total++
	}
}

// behaviour is what a token asks for.
type behaviour struct {
	kind string // ok, dead, …, code, value
	n    int    // of 5xx-N- and drop-N-
	code string // of code-X- and value-X-
}

func parseBehaviour(token string) behaviour {
	// OPPO's registration IDs begin with where the device is.
	token = strings.TrimPrefix(strings.TrimPrefix(token, "CN_"), "US_")
	kind, rest, ok := strings.Cut(token, "-")
	if !ok {
		return behaviour{kind: "dead"}
	}
	b := behaviour{kind: kind}
	arg, _, more := strings.Cut(rest, "-")
	switch kind {
	case "ok", "foreign", "busy", "dev429", "quota", "word", "slow", "hang", "html":
	case "5xx", "drop":
		if n, err := strconv.Atoi(arg); err == nil && more {
			b.n = n
		}
	case "code", "value":
		b.code = arg
		if arg == "" && more { // a negative code: code--1-…
			next, _, _ := strings.Cut(strings.TrimPrefix(rest, "-"), "-")
			b.code = "-" + next
		}
	default:
		b.kind = "dead"
	}
	return b
}

// again counts a failure of the token and reports whether fewer than n came before.
func (s *Server) again(token string, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails[token] >= n {
		return false
	}
	s.fails[token]++
	return true
}

// interfere does what concerns the whole call: waiting, failing, and cutting the connection.
// It returns true when the call has been answered, or never will be. A cut happens in
// finish, after the push was taken.
func (s *Server) interfere(w http.ResponseWriter, r *http.Request, tokens []string) bool {
	s.mu.Lock()
	latency := s.options.Latency
	s.mu.Unlock()
	for _, t := range tokens {
		switch b := parseBehaviour(t); b.kind {
		case "slow":
			latency = max(latency, 3*time.Second)
		case "hang":
			latency = time.Hour
		case "html":
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html><body>502 Bad Gateway for "+t+"</body></html>")
			return true
		case "5xx":
			if s.again(t, b.n) {
				http.Error(w, "internal error about "+t, http.StatusInternalServerError)
				return true
			}
		}
	}
	if latency > 0 {
		timer := time.NewTimer(latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return true
		case <-s.done:
			return true
		}
	}
	return false
}

// finish cuts the connection where a token or KillEvery asks for it; the push was taken.
func (s *Server) finish(r *http.Request, tokens []string) {
	s.mu.Lock()
	every := s.options.KillEvery
	s.mu.Unlock()
	cut := every > 0 && rand.IntN(every) == 0
	for _, t := range tokens {
		if b := parseBehaviour(t); b.kind == "drop" && (b.n == 0 || s.again(t, b.n)) {
			cut = true
		}
	}
	if cut {
		if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			_ = c.Close() // the point is that it is gone
		}
		panic(http.ErrAbortHandler)
	}
}
