package hooks

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rookery-im/rookery/group"
)

// rates bounds what one user and one address submit, so that one flooder does not eat the
// budget of a group.
type rates struct {
	user, address int // as configured

	users, addresses *limiters // nil: no bound
	loopback         bool      // counts
}

func newRates(user, address int, loopback bool) *rates {
	return &rates{user, address, newLimiters(user), newLimiters(address), loopback}
}

// refuse counts d and says why it may not be sent, or nil.
func (r *rates) refuse(d *Draft, now time.Time) *group.Error {
	if d.ByAdmin {
		return nil
	}
	if r.users != nil && !r.users.allow(string(d.From), now) {
		return group.Errorf(group.CodeFrequencyLimit, "%s sends more than %d messages a second", d.From, r.users.perSecond)
	}
	if r.addresses != nil && d.Origin.IP != "" && (r.loopback || !loopback(d.Origin.IP)) && !r.addresses.allow(d.Origin.IP, now) {
		return group.Errorf(group.CodeFrequencyLimit, "more than %d messages a second come from this address", r.addresses.perSecond)
	}
	return nil
}

func loopback(ip string) bool {
	a, err := netip.ParseAddr(ip)
	return err == nil && a.Unmap().IsLoopback()
}

// maxLimiters bounds the names that limiters tells apart.
const maxLimiters = 1 << 16

// limiters gives every name the same number of messages a second, in one burst or spread.
type limiters struct {
	perSecond int

	mu   sync.Mutex
	busy map[string]*rate.Limiter
}

func newLimiters(perSecond int) *limiters {
	if perSecond <= 0 {
		return nil
	}
	return &limiters{perSecond: perSecond, busy: make(map[string]*rate.Limiter)}
}

func (l *limiters) allow(name string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	lim := l.busy[name]
	if lim == nil {
		if len(l.busy) >= maxLimiters {
			l.makeRoom(now)
		}
		lim = rate.NewLimiter(rate.Limit(l.perSecond), l.perSecond)
		l.busy[name] = lim
	}
	return lim.AllowN(now, 1)
}

// makeRoom forgets who has been quiet for a second, which changes nothing for them. If more
// than half are busy it forgets some of these: they gain one burst.
func (l *limiters) makeRoom(now time.Time) {
	for name, lim := range l.busy {
		if lim.TokensAt(now) >= float64(l.perSecond) {
			delete(l.busy, name)
		}
	}
	for name := range l.busy {
		if len(l.busy) <= maxLimiters/2 {
			break
		}
		delete(l.busy, name)
	}
}
