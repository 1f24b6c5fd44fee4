package broker

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/rookery-im/rookery/group"
)

// A session is a connection that has logged in.
type session struct {
	conn     *conn
	user     *user
	device   string // the client identifier, scoped by the account
	platform string
	ip       string
	since    time.Time
	expires  time.Time // of the UserSig
	created  bool      // this login has created the account
	will     *will     // published if the connection ends without DISCONNECT

	// What the session has subscribed to; guarded by conn.mu.
	all     subscription // groups/+
	inbox   subscription // users/{UserID}
	replies map[string]subscription
	groups  map[group.ID]subscription

	// Publishes that were submitted and have no outcome yet.
	pending   atomic.Int32 // that pause the reader when they are too many
	unacked   atomic.Int32 // that an MQTT 5 client counts against our Receive Maximum
	waiting   atomic.Bool  // the reader waits for pending to fall
	resumed   chan struct{}
	exactly   map[uint16]exactlyOnce // QoS 2, by packet identifier; guarded by conn.mu
	rpc       atomic.Int32           // requests under way
	durable   *durable               // nil: the session ends with the connection; set before login is over
	granted   time.Duration          // the session expiry that CONNACK tells; set with durable
	detached  bool                   // guarded by user.mu
	outdone   bool                   // another login has displaced it; guarded by user.mu until the end
	displaced []string               // platforms of the sessions that this login has displaced
	loggedOut []string               // client identifiers of those of them that are other devices
}

func (s *session) account() group.Account { return s.user.account }

// A subscription is what was granted for one topic filter; zero is none.
type subscription uint8

const (
	subscribed subscription = 1 << iota
	atLeastOnce
	noLocal
)

func newSubscription(qos byte, local bool) subscription {
	sub := subscribed
	if qos > 0 {
		sub |= atLeastOnce
	}
	if !local {
		sub |= noLocal
	}
	return sub
}

func (s subscription) qos() byte {
	if s&atLeastOnce != 0 {
		return 1
	}
	return 0
}

// and merges overlapping subscriptions: one delivery at the higher QoS, and its own messages
// are kept from it only if both say so.
func (s subscription) and(t subscription) subscription {
	if s == 0 || t == 0 {
		return s | t
	}
	return (s|t)&^noLocal | s&t&noLocal
}

// to returns what the session has subscribed to of a group. conn.mu is held.
func (s *session) to(id group.ID) subscription {
	if len(s.groups) == 0 {
		return s.all
	}
	return s.all.and(s.groups[id])
}

// resume wakes the reader if it waits for outcomes, or for the end.
func (s *session) resume() {
	select {
	case s.resumed <- struct{}{}:
	default:
	}
}

// attach makes s one of its user's sessions and ends those that it displaces: the one with
// the same client identifier, the oldest in its way by the login policy, and the oldest over
// the limit.
func (s *session) attach(policy LoginPolicy, limit int) {
	u := s.user
	u.mu.Lock()
	defer u.mu.Unlock()
	displace := func(o *session, cause endCause, code byte, reason string) {
		o.detached, o.outdone = true, true
		s.displaced = append(s.displaced, o.platform)
		if cause == endKicked {
			s.loggedOut = append(s.loggedOut, o.device)
		}
		o.conn.end(cause, code, reason) // still locked: of several who log in at once, all but the last have ended when it is let in
	}
	kept := make([]*session, 0, len(*u.sessions.Load())+1)
	for _, o := range *u.sessions.Load() { // oldest first
		switch {
		case o.device == s.device:
			displace(o, endTakenOver, codeTakenOver, "another connection has taken the session over")
		case policy.excludes(o.platform, s.platform):
			displace(o, endKicked, codeAdministrative, "another device of this user has logged in")
		default:
			kept = append(kept, o)
		}
	}
	for len(kept) >= limit {
		displace(kept[0], endKicked, codeAdministrative, "too many devices of this user: the oldest was logged out")
		kept = kept[1:]
	}
	kept = append(slices.Clip(kept), s)
	u.sessions.Store(&kept)
}

// detach ends the session's part in deliveries.
func (s *session) detach() {
	u := s.user
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.detached {
		return
	}
	s.detached = true
	kept := slices.DeleteFunc(slices.Clone(*u.sessions.Load()), func(o *session) bool { return o == s })
	u.sessions.Store(&kept)
}

// deviceKind is what the login policies tell apart.
func deviceKind(platform string) string {
	switch platform {
	case "Web":
		return "web"
	case "Windows", "Mac", "Linux", "PC", "macOS":
		return "desktop"
	}
	return "mobile"
}

// excludes reports whether a device on platform a may not stay when one on b logs in.
func (p LoginPolicy) excludes(a, b string) bool {
	ka, kb := deviceKind(a), deviceKind(b)
	switch p {
	case SingleDevice:
		return true
	case DualDevices:
		return (ka == "web") == (kb == "web")
	case TripleDevices:
		return ka == kb
	}
	return false
}
