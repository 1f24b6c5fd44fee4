package callback

import (
	"sync"
	"time"
)

// A breakerState is what a breaker lets through. The numbers are the metric's.
type breakerState int

const (
	closed   breakerState = iota // every call
	halfOpen                     // one, which tries
	open                         // none
)

// A breaker keeps calls from a server that has failed several times in a row.
type breaker struct {
	failures int // that open it; 0: never
	pause    time.Duration
	changed  func(breakerState) // called without the lock, in no order: it asks for the state

	mu     sync.Mutex
	state  breakerState
	inARow int
	until  time.Time // open: when one call may try
}

// allow reports whether a call may be made; done has to follow.
func (b *breaker) allow() bool {
	b.mu.Lock()
	if b.state == open && !time.Now().Before(b.until) {
		b.state = halfOpen
		b.mu.Unlock()
		b.changed(halfOpen)
		return true
	}
	defer b.mu.Unlock()
	return b.state == closed
}

// done tells how an allowed call ended; undecided: nothing was learned about the server.
func (b *breaker) done(ok, undecided bool) {
	if b.failures <= 0 {
		return
	}
	b.mu.Lock()
	was := b.state
	switch {
	case undecided:
		if b.state == halfOpen {
			b.state, b.until = open, time.Now()
		}
	case ok:
		b.inARow = 0
		if b.state == halfOpen {
			b.state = closed
		}
	default:
		b.inARow++
		if b.state == halfOpen || b.state == closed && b.inARow >= b.failures {
			b.state, b.until = open, time.Now().Add(b.pause)
		}
	}
	is := b.state
	b.mu.Unlock()
	if is != was {
		b.changed(is)
	}
}
