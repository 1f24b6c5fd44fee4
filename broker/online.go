package broker

import (
	"iter"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
)

// SessionInfo describes one connection of a user.
type SessionInfo struct {
	Device   string // the client identifier
	Platform string
	IP       string
	Since    time.Time
}

// Online returns the account's connections, the oldest first; none: it is not online here.
func (b *Broker) Online(a group.Account) []SessionInfo {
	u := b.registry.user(a)
	if u == nil {
		return nil
	}
	var out []SessionInfo
	for _, s := range *u.sessions.Load() {
		out = append(out, SessionInfo{s.device, s.platform, s.ip, s.since})
	}
	return out
}

// OnlineInGroup returns how many members of the group are online here.
func (b *Broker) OnlineInGroup(key group.Key) int {
	rm := b.registry.room(key)
	if rm == nil {
		return 0
	}
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return len(rm.members)
}

// AccountsInGroup yields the members of the group who were online when it was called.
func (b *Broker) AccountsInGroup(key group.Key) iter.Seq[group.Account] {
	var members []member
	if rm := b.registry.room(key); rm != nil {
		rm.mu.Lock()
		members = slices.Clone(rm.members)
		rm.mu.Unlock()
	}
	return func(yield func(group.Account) bool) {
		for _, m := range members {
			if !yield(m.u.account) {
				return
			}
		}
	}
}

// Sent returns how many deliveries have been written to clients.
func (b *Broker) Sent() int64 { return b.metrics.sent.Load() }

// InGroup returns the accounts that are online in the group, ordered, at most limit of them
// (0: all), and how many there are in all.
func (b *Broker) InGroup(key group.Key, limit int) (some []group.Account, all int) {
	some = slices.Sorted(b.AccountsInGroup(key))
	all = len(some)
	if limit > 0 && limit < all {
		some = some[:limit]
	}
	return some, all
}

// RoomsOf returns the groups in which the account has a membership that nothing stores, those that
// lapse unless it comes back soon included, in no order.
func (b *Broker) RoomsOf(a group.Account) []group.Key { return b.registry.fleeting(a) }

// Kick ends the account's connections, or the one with the client identifier device if that
// is not empty, with a reason code and Reason String for MQTT 5 clients. It returns how many
// it has ended.
func (b *Broker) Kick(a group.Account, device string, code byte, reason string) int {
	u := b.registry.user(a)
	if u == nil {
		return 0
	}
	n := 0
	for _, s := range *u.sessions.Load() {
		if device == "" || s.device == device {
			s.conn.end(endKicked, code, reason)
			n++
		}
	}
	return n
}

// An Action is what a StateChange is about; its names are State.StateChange's.
type Action string

// The actions.
const (
	StateLogin      Action = "Login"
	StateLogout     Action = "Logout"
	StateDisconnect Action = "Disconnect"
)

// A StateChange reports that a device of an account came or went.
type StateChange struct {
	Account   group.Account
	Action    Action
	Reason    string // Register; Unregister; LinkClose or TimeOut
	Device    string
	Platform  string
	IP        string
	At        time.Time
	Created   bool     // the login has created the account
	Remaining int      // connections of the account that stay, the one that came included
	Kicked    []string // platforms of the devices that a login has displaced
	LoggedOut []string // client identifiers of those of them that are other devices
}

func (b *Broker) stateChanged(s *session, action Action, reason string) {
	if b.onState == nil {
		return
	}
	b.onState(StateChange{
		Account: s.account(), Action: action, Reason: reason, Device: s.device, Platform: s.platform, IP: s.ip,
		At: time.Now(), Created: action == StateLogin && s.created, Remaining: len(*s.user.sessions.Load()), Kicked: s.displaced, LoggedOut: s.loggedOut,
	})
}

// sessionEnded reports the end of a session. One that a login has displaced is reported
// with that login alone.
func (b *Broker) sessionEnded(s *session) {
	switch s.conn.cause {
	case endTakenOver:
	case endClient:
		b.stateChanged(s, StateLogout, "Unregister")
	case endTimeout:
		b.stateChanged(s, StateDisconnect, "TimeOut")
	case endKicked:
		if !s.outdone {
			b.stateChanged(s, StateLogout, "Unregister")
		}
	default:
		b.stateChanged(s, StateDisconnect, "LinkClose")
	}
}
