package hooks

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A state is what a lane knows of its group while it is active. It can be dropped at any
// moment and loaded again.
type state struct {
	group   *group.Group // nil: there is no such group. Never changed in place: callbacks read it.
	head    storage.Head
	senders map[group.Account]*sender
	dups    duplicates
	recent  []release // of the last second, when loaded

	uncounted *storage.UncountedSet // nil: none. Never changed in place.

	roomNext, roomEnd group.Seq // SEQs of a type that stores no messages: next and last reserved
}

// A sender is what the lane keeps of an account that sends (or is asked about) in the group.
type sender struct {
	member     *group.Member // nil: not a member
	mutedUntil int64         // Unix seconds; 0: not muted
}

type release struct {
	at       int64 // Unix nanoseconds
	priority group.Priority
}

// load reads the group. An absent group gives a state without one, and no error.
func (l *lane) load(ctx context.Context) error {
	p := l.p
	g, err := storage.FindGroup(ctx, p.store, l.id)
	if err != nil {
		return err
	}
	st := &state{group: g, senders: make(map[group.Account]*sender), dups: newDuplicates()}
	if g != nil {
		if st.head, err = p.store.Head(ctx, g.Key()); err != nil {
			return err
		}
		if g.Type.Rules().StoresMessages {
			if st.uncounted, err = storage.Uncounted.Find(ctx, p.store, storage.GroupRecordKey(g.Key())); err != nil {
				return err
			}
		}
		now := time.Now()
		if err := st.loadRecent(ctx, p, now); err != nil {
			return err
		}
		if !g.Type.Rules().StoresMembers {
			if err := l.recount(ctx, g); err != nil {
				return err
			}
		} else if counter, ok := p.store.(storage.Counter); ok {
			if err := mend(ctx, p.store, counter, g); err != nil {
				return err
			}
		}
		if !g.Type.Rules().StoresMessages {
			r, err := storage.Rooms.Find(ctx, p.store, storage.GroupRecordKey(g.Key()))
			if err != nil {
				return err
			}
			if r != nil {
				st.roomEnd = r.To
			}
			st.roomNext = st.roomEnd + 1
		}
		if l.flow != nil {
			st.restore(l.flow, p.nanos())
		}
	}
	l.st = st
	l.loads++
	return nil
}

// recount makes the member count of a live room what it is: its record is not written when
// somebody comes or goes.
func (l *lane) recount(ctx context.Context, g *group.Group) error {
	g.MemberCount = 0
	for _, err := range l.p.store.Scan(ctx, storage.Members.Name, storage.Span{Prefix: storage.GroupPrefix(g.Key())}) {
		if err != nil {
			return err
		}
		g.MemberCount++
	}
	for _, m := range l.room {
		if m.Role == group.OrdinaryMember {
			g.MemberCount++
		}
	}
	return nil
}

// mend corrects what a crash in the middle of a change has left in the record of a group: its
// member count, and an owner who never became a member. The next change writes it.
func mend(ctx context.Context, store storage.Store, counter storage.Counter, g *group.Group) error {
	n, err := counter.Count(ctx, storage.Members.Name, storage.GroupPrefix(g.Key()))
	if err != nil || n == g.MemberCount {
		return err
	}
	g.MemberCount = n
	if g.Owner == "" {
		return nil
	}
	owner, err := storage.Members.Find(ctx, store, storage.MemberKey(g.Key(), g.Owner))
	if owner == nil && err == nil {
		g.Owner = ""
	}
	return err
}

// loadRecent reads the messages that may still be sent again, newest first.
func (st *state) loadRecent(ctx context.Context, p *Pipeline, now time.Time) error {
	if st.head.Tail == 0 || now.Sub(time.Unix(st.head.Time, 0)) > p.cfg.DuplicateWindow+time.Second {
		return nil
	}
	var found []*group.Message
	for m, err := range p.store.RangeDown(ctx, st.group.Key(), 1, st.head.Tail+1) {
		if err != nil {
			return fmt.Errorf("recent messages: %w", err)
		}
		if now.Sub(time.Unix(m.Time, 0)) > p.cfg.DuplicateWindow || len(found) >= p.cfg.DuplicateEntries {
			break
		}
		found = append(found, m)
	}
	for _, m := range slices.Backward(found) {

		if key, ok := m.DuplicateKey(); ok {
			st.dups.add(key, Outcome{Seq: m.Seq, Time: m.Time, ID: m.ID}, time.Unix(m.Time, 0), p.cfg.DuplicateWindow, p.cfg.DuplicateEntries)
		}
		if m.Released > p.nanos()-int64(window) {
			st.recent = append(st.recent, release{m.Released, m.Priority})
		}
	}
	return nil
}

// restore counts the releases of the last second, so that a restart opens no second window.
func (st *state) restore(f *flow, now int64) {
	f.restore(now, st.recent)
	st.recent = nil
}

// knows reports whether prefetch would find nothing to read.
func (l *lane) knows(items []item) bool {
	if l.st == nil {
		return false
	}
	for _, it := range items {
		if it.sub == nil || l.st.group == nil {
			continue
		}
		from := it.sub.draft.From
		if _, known := l.p.profiles.find(from); !known || l.st.senders[from] == nil {
			return false
		}
	}
	return true
}

// prefetch reads the senders in items that are not known yet, all at once.
func (l *lane) prefetch(ctx context.Context, items []item) error {
	if l.st.group == nil {
		return nil
	}
	var missing []group.Account
	for _, it := range items {
		if it.sub == nil {
			continue
		}
		from := it.sub.draft.From
		if l.st.senders[from] == nil {
			missing = append(missing, from)
		}
		if _, err := l.p.profiles.get(ctx, from); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return l.fetch(ctx, slices.Compact(missing))
}

// fetch reads memberships and mutes.
func (l *lane) fetch(ctx context.Context, accounts []group.Account) error {
	st := l.st
	key := st.group.Key()
	keys := make([]string, len(accounts))
	for i, a := range accounts {
		keys[i] = storage.MemberKey(key, a)
	}
	members, err := storage.Members.GetMany(ctx, l.p.store, keys)
	if err != nil {
		return err
	}
	mutes, err := storage.Mutes.GetMany(ctx, l.p.store, keys)
	if err != nil {
		return err
	}
	if len(st.senders) > l.p.cfg.CachedSenders {
		drop := len(st.senders) / 2
		for a := range st.senders {
			if drop == 0 {
				break
			}
			delete(st.senders, a)
			drop--
		}
	}
	for i, a := range accounts {
		s := &sender{member: members[i]}
		if s.member == nil {
			s.member = l.room[a]
		}
		if mutes[i] != nil {
			s.mutedUntil = mutes[i].Until
		}
		st.senders[a] = s
	}
	return nil
}

// person returns what the lane needs of the sender of a message: its part in the group and its
// profile. Nearly always both are known.
func (l *lane) person(a group.Account) (*sender, *group.Profile, error) {
	snd := l.st.senders[a]
	profile, known := l.p.profiles.find(a)
	if snd != nil && known {
		return snd, profile, nil
	}
	ctx, cancel := l.storeContext()
	defer cancel()
	snd, err := l.sender(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	profile, err = l.p.profiles.get(ctx, a)
	return snd, profile, err
}

// sender returns what is known of a, reading it if need be.
func (l *lane) sender(ctx context.Context, a group.Account) (*sender, error) {
	if s := l.st.senders[a]; s != nil {
		return s, nil
	}
	if l.st.group == nil {
		return &sender{}, nil
	}
	if err := l.fetch(ctx, []group.Account{a}); err != nil {
		return nil, err
	}
	return l.st.senders[a], nil
}

// reserve hands out the next SEQ of a room, which is never stored. It writes once per block.
func (l *lane) reserve() (group.Seq, error) {
	const block = 4096
	st := l.st
	if st.roomNext > st.roomEnd {
		end := st.roomNext + block - 1
		ctx, cancel := l.storeContext()
		defer cancel()
		err := l.p.store.Apply(ctx, storage.Rooms.Put(storage.GroupRecordKey(st.group.Key()), &storage.Reserved{To: end}))
		if err != nil {
			return 0, err
		}
		st.roomEnd = end
	}
	st.roomNext++
	return st.roomNext - 1, nil
}
