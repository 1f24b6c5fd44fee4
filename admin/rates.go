package admin

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rookery-im/rookery/group"
)

// rates bounds how often each admin calls each command. Admins are configured and commands are
// a table, so that the map is bounded by their product: both are checked before.
type rates struct {
	perSecond int // 0: off

	mu       sync.Mutex
	limiters map[rateKey]*limiter
}

// A limiter is one admin's rate of one command, with its calls in the current second.
type limiter struct {
	*rate.Limiter
	second int64
	calls  int
	told   bool // that they are too many
}

type rateKey struct {
	caller  group.Account
	command string
}

func newRates(perSecond int) *rates {
	return &rates{perSecond: perSecond, limiters: make(map[rateKey]*limiter)}
}

// allow reports whether the call is within the rate, and counts it. The first in a second that
// is not says as the how many-th call in that second; otherwise over is 0.
func (r *rates) allow(caller group.Account, command string, now time.Time) (ok bool, over int) {
	if r.perSecond <= 0 {
		return true, 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := rateKey{caller, command}
	l := r.limiters[k]
	if l == nil {
		l = &limiter{Limiter: rate.NewLimiter(rate.Limit(r.perSecond), r.perSecond)}
		r.limiters[k] = l
	}
	if l.second != now.Unix() {
		l.second, l.calls, l.told = now.Unix(), 0, false
	}
	l.calls++
	if l.AllowN(now, 1) {
		return true, 0
	}
	if !l.told {
		l.told, over = true, l.calls
	}
	return false, over
}
