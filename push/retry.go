package push

import (
	"cmp"
	"math/rand/v2"
	"time"
)

// A Backoff spaces the tries of one push: full jitter, that is a random wait between nothing
// and a ceiling that doubles. The zero value works.
type Backoff struct {
	// Base is the first ceiling. Zero means 1 s.
	Base time.Duration
	// Cap bounds the ceiling. Zero means 5 min.
	Cap time.Duration
	// Attempts bounds the tries, the first one included. Zero means 6.
	Attempts int
	// Rand returns a number in [0, 1). Nil means math/rand/v2's; tests set it.
	Rand func() float64
}

// Next returns how long to wait before the next try after the given number of tries (1 after
// the first). atLeast, a vendor's Retry-After, is the lower bound. It returns false where no
// try is left or the next one would not come before the deadline.
func (b Backoff) Next(tries int, atLeast time.Duration, now, deadline time.Time) (time.Duration, bool) {
	if tries >= cmp.Or(b.Attempts, 6) {
		return 0, false
	}
	limit := cmp.Or(b.Cap, 5*time.Minute)
	ceiling := cmp.Or(b.Base, time.Second)
	for range tries - 1 {
		if ceiling *= 2; ceiling >= limit {
			break
		}
	}
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	wait := max(time.Duration(random()*float64(min(ceiling, limit))), atLeast)
	return wait, now.Add(wait).Before(deadline)
}
