// Package invariant says whether what clients saw and what is stored keep Rookery's promises.
//
// A test writes one Log of what its clients did and were told, reads the store's final
// content, and asks Check. Each rule is a function of its own, and each is proven by a bug
// planted at one of the pipeline's seams that the rule alone has to find (planted_test.go).
// Checking is linear in the number of events: SEQ gives the order.
package invariant

import (
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
)

// A Kind says what an Event is.
type Kind uint8

// The kinds of events.
const (
	Sent         Kind = iota // a client began to send a message
	Acked                    // its sender was told success; Seq 0: without a SEQ
	Refused                  // its sender was told a final refusal
	Delivered                // a connection got it
	Connected                // a connection of Account sees everything from here on
	Ended                    // a connection has ended: nothing is promised to it any more
	Joined                   // a membership was confirmed to whoever asked for it
	Leaving                  // a removal was asked for: from here on both outcomes are right
	Left                     // a removal was confirmed
	Muted                    // a mute was confirmed
	Unmuting                 // lifting a mute was asked for
	Pulled                   // a connection got the messages Seq…To from history
	CalledBefore             // the before-callback was asked about it
	CalledAfter              // the after-callback told of it
	Restricted               // it was left out by frequency control (the callback's witness, or REST's answer)
)

// A MessageKey is how clients and store agree on which message they speak of.
type MessageKey struct {
	From   group.Account
	Random uint32
	Body   string // its text; enough to tell two messages of one Random apart
}

// An Event is one line of the log. What a kind does not need is zero.
type Event struct {
	Kind     Kind
	At       time.Time // when it was noted; carries the monotonic clock
	Group    group.ID
	Account  group.Account
	Conn     int // of Connected, Ended, Delivered, Pulled: unique per connection
	Message  MessageKey
	Priority group.Priority
	Seq, To  group.Seq
	Again    bool // of Sent: the same message has been sent before
}

// A Log collects events from many goroutines.
type Log struct {
	mu     sync.Mutex
	events []Event
}

// Add notes e. If e.At is zero it is now.
func (l *Log) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.At.IsZero() {
		e.At = time.Now()
	}
	l.events = append(l.events, e)
}

// Events returns what was noted, in order. The slice is shared: read only, after the clients have stopped.
func (l *Log) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events
}

// A Stored message is a message as the store has it in the end.
type Stored struct {
	Seq      group.Seq
	Message  MessageKey
	Priority group.Priority
	Time     int64 // Unix seconds
	Released int64 // Unix nanoseconds; 0: exempt
	System   bool  // a tip: no client sent it
}

// Content is the store's final content, by group, SEQ ascending.
type Content map[group.ID][]Stored
