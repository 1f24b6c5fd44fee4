package push

import (
	"cmp"
	"sync"
	"time"
)

// MayRemove reports whether r, the result of a push to the token sent, allows to remove the
// stored token: it is still the same text and was registered before the moment that r speaks
// of. A phone that registered again in between keeps its push.
func MayRemove(r Result, sent, stored Token, registered time.Time) bool {
	return r.Outcome.TokenDead() && !stored.IsZero() && sent == stored && registered.Before(r.AsOf)
}

// A RemovalConfig sets a RemovalGuard's limits. The zero value works.
type RemovalConfig struct {
	// Window is the time looked back upon. Zero means 5 min.
	Window time.Duration
	// MinSends is how many sends in the window are needed for a judgement. Zero means 50.
	MinSends int
	// Share of dead tokens above which removal stops. Zero means 0.2.
	Share float64
}

// windowParts is how finely a RemovalGuard's window slides.
const windowParts = 10

// A RemovalGuard stops the removal of tokens of one provider app when so many look dead that a
// swapped credential, or sandbox taken for production, is the likelier reason. It may be
// used by several goroutines at once.
type RemovalGuard struct {
	config RemovalConfig

	mu      sync.Mutex
	parts   [windowParts]sendCount // a ring over the window
	suspect bool
	since   time.Time // of suspect; sends before it don't clear it
}

type sendCount struct {
	number      int64 // of the part, counted from the epoch
	sends, dead int
}

// NewRemovalGuard returns a guard that suspects nothing.
func NewRemovalGuard(c RemovalConfig) *RemovalGuard {
	c.Window = cmp.Or(c.Window, 5*time.Minute)
	c.MinSends = cmp.Or(c.MinSends, 50)
	c.Share = cmp.Or(c.Share, 0.2)
	return &RemovalGuard{config: c}
}

// Record counts the results of a call and reports whether tokens may be removed for them. It
// must see a whole batch at once, before any of its tokens is removed. Results that say nothing
// about a token (faults, throttling) don't count. Once suspect, the guard stays so until a
// full judgement over newer sends is good, or Clear.
func (g *RemovalGuard) Record(now time.Time, results []Result) (mayRemove bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	number := now.UnixNano() / int64(g.config.Window/windowParts)
	part := &g.parts[number%windowParts]
	if part.number != number {
		*part = sendCount{number: number}
	}
	for _, r := range results {
		switch {
		case r.Outcome.TokenDead():
			part.dead++
			part.sends++
		case r.Outcome == Accepted, r.Outcome == Undeliverable, r.Outcome == DeviceThrottled:
			part.sends++
		}
	}
	var sends, dead int
	for _, p := range g.parts {
		if number-p.number < windowParts {
			sends, dead = sends+p.sends, dead+p.dead
		}
	}
	if sends < g.config.MinSends {
		return !g.suspect
	}
	bad := float64(dead) > g.config.Share*float64(sends)
	switch {
	case bad && !g.suspect:
		g.suspect, g.since = true, now
	case !bad && g.suspect && now.Sub(g.since) >= g.config.Window:
		g.suspect = false
	}
	return !g.suspect
}

// Suspect reports whether removal is stopped, for an alarm.
func (g *RemovalGuard) Suspect() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.suspect
}

// Clear forgets everything: an operator has found the reason.
func (g *RemovalGuard) Clear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.suspect, g.parts = false, [windowParts]sendCount{}
}
