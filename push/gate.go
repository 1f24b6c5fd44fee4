package push

import (
	"cmp"
	"sync"
	"time"
)

// A GateReason says why a Gate is closed.
type GateReason string

// The reasons.
const (
	GateOpen GateReason = ""
	// GateThrottled: the vendor asked for a pause.
	GateThrottled GateReason = "throttled"
	// GateQuota: the day's quota of the class is used up.
	GateQuota GateReason = "quota"
	// GateAuth: the vendor refused the credentials. Somebody has to act.
	GateAuth GateReason = "auth"
	// GateFailing: nothing but faults came back.
	GateFailing GateReason = "failing"
)

// A GateConfig sets a Gate's times. The zero value works.
type GateConfig struct {
	// Pause is how long Throttled closes the gate where the vendor does not say. Zero means 60 s.
	Pause time.Duration
	// Failures is how many calls in a row must fail (Retryable) to open the breaker. Zero
	// means 20.
	Failures int
	// OpenFor is the breaker's first wait after failures, AuthOpenFor the one after refused
	// credentials. Each failed trial doubles the wait, up to MaxOpen. Zero means 5 s, 60 s
	// and 5 min.
	OpenFor, AuthOpenFor, MaxOpen time.Duration
	// TrialTimeout is when a trial that was never reported counts as failed, so that its
	// place is given to another. Zero means 30 s.
	TrialTimeout time.Duration
}

// maxQuotaClasses bounds the classes a Gate tells apart; a further one closes it for all.
const maxQuotaClasses = 64

// A Gate holds back the sends of one provider app: while the vendor wants a pause, while a day
// quota is used up, and, as a circuit breaker, while credentials are refused or nothing comes
// back. Ask Admit before every call and tell Observe what came of it. The methods take the
// time, never wait, and may be called by several goroutines at once.
type Gate struct {
	config GateConfig

	mu       sync.Mutex
	paused   time.Time            // Throttled, until then
	quotas   map[string]time.Time // by class, until then
	allQuota time.Time

	failures  int // calls in a row
	broken    GateReason
	openUntil time.Time
	openFor   time.Duration // the last wait, doubled by a failed trial
	trial     time.Time     // when the trial under way is given up; zero for none
}

// NewGate returns an open gate.
func NewGate(c GateConfig) *Gate {
	c.Pause = cmp.Or(c.Pause, time.Minute)
	c.Failures = cmp.Or(c.Failures, 20)
	c.OpenFor = cmp.Or(c.OpenFor, 5*time.Second)
	c.AuthOpenFor = cmp.Or(c.AuthOpenFor, time.Minute)
	c.MaxOpen = cmp.Or(c.MaxOpen, 5*time.Minute)
	c.TrialTimeout = cmp.Or(c.TrialTimeout, 30*time.Second)
	return &Gate{config: c, quotas: make(map[string]time.Time)}
}

// Admit reports whether a call of the quota class may be made now: GateOpen, or why not and
// how long to wait before asking again. After the breaker's wait one call at a time is
// admitted as a trial; it must be observed.
func (g *Gate) Admit(now time.Time, class string) (GateReason, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.paused.Sub(now); wait > 0 {
		return GateThrottled, wait
	}
	if wait := max(g.quotas[class].Sub(now), g.allQuota.Sub(now)); wait > 0 {
		return GateQuota, wait
	}
	if g.broken == GateOpen {
		return GateOpen, 0
	}
	if wait := max(g.openUntil.Sub(now), g.trial.Sub(now)); wait > 0 {
		return g.broken, wait
	}
	g.trial = now.Add(g.config.TrialTimeout)
	return GateOpen, 0
}

// Observe takes the results of one admitted call. It returns the reason when the gate closes
// by this call, for an alarm, and GateOpen otherwise.
func (g *Gate) Observe(now time.Time, class string, results []Result) GateReason {
	var throttled, quota, refused, failed, answered bool
	var pause time.Duration
	for _, r := range results {
		switch r.Outcome {
		case Throttled:
			throttled = true
			pause = max(pause, cmp.Or(r.RetryAfter, g.config.Pause))
		case QuotaExhausted:
			quota = true
		case AuthRejected, AuthExpired:
			refused = true
		case Retryable:
			failed = true
		default:
			answered = true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	closed := GateOpen
	if throttled {
		if !g.paused.After(now) {
			closed = GateThrottled
		}
		if until := now.Add(pause); until.After(g.paused) {
			g.paused = until
		}
	}
	if quota {
		g.exhaust(now, class)
		closed = GateQuota
	}
	switch {
	case refused:
		if g.trip(now, GateAuth, g.config.AuthOpenFor) {
			closed = GateAuth
		}
	case answered || throttled || quota:
		// The vendor is there and knows us, whatever it thinks of these pushes.
		g.failures, g.broken, g.openFor, g.trial = 0, GateOpen, 0, time.Time{}
	case failed:
		if g.failures++; g.failures >= g.config.Failures || g.broken != GateOpen {
			if g.trip(now, cmp.Or(g.broken, GateFailing), g.config.OpenFor) {
				closed = GateFailing
			}
		}
	}
	return closed
}

// trip opens the breaker. It reports whether it was closed before. Late answers to calls from
// before it opened don't make the wait longer; only a failed trial does.
func (g *Gate) trip(now time.Time, reason GateReason, first time.Duration) bool {
	was := g.broken
	if was != GateOpen && g.trial.IsZero() {
		if reason == GateAuth {
			g.broken = reason
		}
		return false
	}
	if was == GateOpen {
		g.openFor = first
	} else {
		g.openFor = min(2*g.openFor, g.config.MaxOpen)
	}
	g.broken, g.openUntil, g.trial = reason, now.Add(g.openFor), time.Time{}
	return was == GateOpen
}

func (g *Gate) exhaust(now time.Time, class string) {
	until := nextChinaMidnight(now)
	if _, known := g.quotas[class]; !known && len(g.quotas) >= maxQuotaClasses {
		for c, t := range g.quotas {
			if !t.After(now) {
				delete(g.quotas, c)
			}
		}
		if len(g.quotas) >= maxQuotaClasses {
			g.allQuota = until
			return
		}
	}
	g.quotas[class] = until
}

// State returns what Admit would say, without taking a trial's place.
func (g *Gate) State(now time.Time, class string) GateReason {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.paused.After(now):
		return GateThrottled
	case g.quotas[class].After(now), g.allQuota.After(now):
		return GateQuota
	}
	return g.broken
}
