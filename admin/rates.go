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
	limiters map[rateKey]*rate.Limiter
}

type rateKey struct {
	caller  group.Account
	command string
}

func newRates(perSecond int) *rates {
	return &rates{perSecond: perSecond, limiters: make(map[rateKey]*rate.Limiter)}
}

// allow reports whether the call is within the rate, and counts it.
func (r *rates) allow(caller group.Account, command string, now time.Time) bool {
	if r.perSecond <= 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := rateKey{caller, command}
	l := r.limiters[k]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(r.perSecond), r.perSecond)
		r.limiters[k] = l
	}
	return l.AllowN(now, 1)
}
