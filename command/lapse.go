package command

import (
	"context"
	"sync"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// stateChange is the body of Group.CallbackOnMemberStateChange.
type stateChange struct {
	callback
	Event   string       `json:"EventType"` // Online, Offline
	Members []memberItem `json:"MemberList"`
}

func (e *env) tellMemberState(s *stage, event string, a group.Account) {
	body := stateChange{callback: s.head("Group.CallbackOnMemberStateChange"), Event: event, Members: memberItems([]group.Account{a})}
	s.Callback(body.Command, body)
}

// Lapsed takes an account that has been offline for too long out of a live room. The door that
// knows who is online calls it.
func (t *Table) Lapsed(ctx context.Context, a group.Account, key group.Key) {
	e := t.env
	err := e.update(ctx, key.ID, func(tx *hooks.Tx, g *group.Group) error {
		m, err := tx.Member(a)
		if err != nil || g.Incarnation != key.Incarnation || m == nil || m.Role > group.OrdinaryMember || g.Type.Rules().StoresMembers {
			return err
		}
		if _, err := tx.RemoveMember(a); err != nil {
			return err
		}
		s := &stage{Tx: tx, e: e, call: &Call{Caller: a}}
		e.tellMemberState(s, "Offline", a)
		return s.tip(g.Type.Rules().JoinTip, tip{OpType: tipLeft, List: []group.Account{a}, MemberNum: g.MemberCount})
	})
	switch {
	case err == nil:
		e.away.add(key, a)
	case !isNoGroup(err) && ctx.Err() == nil:
		e.log.Warn("offline member not taken out of its room", "account", string(a), "group", string(key.ID), "err", err)
	}
}

// maxAway bounds the accounts that are remembered as lapsed; past it others are forgotten, and
// the app is not told that they come back.
const maxAway = 10_000

// away remembers who has lapsed in which room, so that the app learns of their return.
type away struct {
	mu    sync.Mutex
	known map[lapsedMember]struct{}
}

type lapsedMember struct {
	key     group.Key
	account group.Account
}

func (w *away) add(key group.Key, a group.Account) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil {
		w.known = make(map[lapsedMember]struct{})
	}
	for m := range w.known {
		if len(w.known) < maxAway {
			break
		}
		delete(w.known, m)
	}
	w.known[lapsedMember{key, a}] = struct{}{}
}

// take reports whether the account has lapsed, and forgets it.
func (w *away) take(key group.Key, a group.Account) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := lapsedMember{key, a}
	_, was := w.known[m]
	delete(w.known, m)
	return was
}
