package broker

import (
	"context"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

// A registry knows who is online and in which groups they are. Users are loaded when their
// first connection logs in and forgotten with their last; a room exists while somebody who is
// online is a member. The lanes keep it in step through MemberChanges.
type registry struct {
	seed  maphash.Seed
	users [64]userShard
	rooms [64]roomShard

	// A group that is destroyed while memberships are being loaded must not come back
	// through a row that was read before. Loads that apply their rows hold gone for
	// reading, so that they see all that ended before or are seen by what ends after.
	gone struct {
		sync.RWMutex
		keys map[group.Key]struct{}
	}
	loading atomic.Int64
}

type userShard struct {
	sync.Mutex
	byAccount map[group.Account]*user
	lapsing   map[group.Account]*lapse
}

type roomShard struct {
	sync.Mutex
	byKey map[group.Key]*room
}

// A user is an account with at least one connection.
type user struct {
	account group.Account
	holders int // logins and sessions; guarded by the shard

	loaded  chan struct{} // closed when the memberships are there, or could not be loaded
	loadErr error         // valid once loaded is closed

	sessions atomic.Pointer[[]*session] // replaced, never changed; written with mu held

	mu      sync.Mutex
	rooms   []*room
	returns map[group.Key]uint64   // while loading: fleeting memberships that have not lapsed
	touched map[group.Key]struct{} // while loading: keys whose change has overtaken the load
	offline bool                   // the last holder left
}

// A room is a group's online members. Members are few words each: there can be millions.
type room struct {
	key group.Key

	mu      sync.Mutex
	members []member
	index   *places // where a user is; kept only while the room is large
	dead    bool    // it was empty and is not in the registry any more

	line line // guarded by flusher.mu
}

// A member is one online member of a room: since<<8 | fleetingBit | receive option.
type member struct {
	u    *user
	meta uint64
}

func newMember(u *user, since group.Seq, r group.ReceiveOption) member {
	return member{u, uint64(since)<<8 | uint64(r)}
}

// fleetingBit marks a membership that is in no row: see hooks.MemberChange.
const fleetingBit = 0x80

func changedMember(u *user, c *hooks.MemberChange) member {
	m := newMember(u, c.Since, c.Receive)
	if c.Fleeting {
		m.meta |= fleetingBit
	}
	return m
}

func (m member) since() group.Seq             { return group.Seq(m.meta >> 8) }
func (m member) receive() group.ReceiveOption { return group.ReceiveOption(m.meta & 0x7F) }
func (m member) fleeting() bool               { return m.meta&fleetingBit != 0 }

// indexFrom is the size from which a room has an index: below it a scan is as fast.
const indexFrom = 512

func newRegistry() *registry {
	r := &registry{seed: maphash.MakeSeed()}
	for i := range r.users {
		r.users[i].byAccount = make(map[group.Account]*user)
		r.users[i].lapsing = make(map[group.Account]*lapse)
		r.rooms[i].byKey = make(map[group.Key]*room)
	}
	r.gone.keys = make(map[group.Key]struct{})
	return r
}

func (r *registry) userShard(a group.Account) *userShard {
	return &r.users[maphash.String(r.seed, string(a))%uint64(len(r.users))]
}

func (r *registry) roomShard(k group.Key) *roomShard {
	return &r.rooms[maphash.Comparable(r.seed, k)%uint64(len(r.rooms))]
}

// user returns an account that is online, or nil.
func (r *registry) user(a group.Account) *user {
	sh := r.userShard(a)
	sh.Lock()
	defer sh.Unlock()
	return sh.byAccount[a]
}

// room returns a group that has members online, or nil.
func (r *registry) room(k group.Key) *room {
	sh := r.roomShard(k)
	sh.Lock()
	defer sh.Unlock()
	return sh.byKey[k]
}

// hold returns the account with its memberships loaded, for a connection that logs in. Each
// hold is followed by one release. Of many connections of one account the first loads.
func (r *registry) hold(ctx context.Context, store storage.Records, a group.Account) (*user, error) {
	sh := r.userShard(a)
	sh.Lock()
	u := sh.byAccount[a]
	first := u == nil
	if first {
		u = &user{account: a, loaded: make(chan struct{}), touched: make(map[group.Key]struct{})}
		u.sessions.Store(&[]*session{})
		if l := sh.lapsing[a]; l != nil {
			u.returns = l.rooms
			delete(sh.lapsing, a)
		}
		sh.byAccount[a] = u
	}
	u.holders++
	sh.Unlock()
	if first {
		u.loadErr = r.load(ctx, store, u)
		close(u.loaded)
	}
	select {
	case <-u.loaded:
		if u.loadErr == nil {
			return u, nil
		}
		err := u.loadErr
		r.release(u)
		return nil, err
	case <-ctx.Done():
		r.release(u)
		return nil, context.Cause(ctx)
	}
}

// release gives a hold back. With the last one the user is forgotten.
func (r *registry) release(u *user) {
	sh := r.userShard(u.account)
	sh.Lock()
	u.holders--
	last := u.holders == 0
	if !last {
		sh.Unlock()
		return
	}
	// Under the shard's lock: a change either finds the user, or what lapses of it.
	defer sh.Unlock()
	if sh.byAccount[u.account] == u {
		delete(sh.byAccount, u.account)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.offline = true
	stay := u.returns // the load has failed
	for _, rm := range u.rooms {
		rm.mu.Lock()
		if i := rm.find(u); i >= 0 && rm.members[i].fleeting() {
			if stay == nil {
				stay = make(map[group.Key]uint64)
			}
			stay[rm.key] = rm.members[i].meta
		}
		rm.mu.Unlock()
		r.remove(rm, u)
	}
	u.rooms = nil
	if len(stay) > 0 {
		sh.lapsing[u.account] = &lapse{at: time.Now(), rooms: stay}
	}
}

// A lapse is a user who went offline with fleeting memberships: they end unless it comes back soon.
type lapse struct {
	at    time.Time
	rooms map[group.Key]uint64 // to member.meta
}

// lapsed takes out the memberships of those who went offline before the given instant.
func (r *registry) lapsed(before time.Time) map[group.Account]*lapse {
	var out map[group.Account]*lapse
	for i := range r.users {
		sh := &r.users[i]
		sh.Lock()
		for a, l := range sh.lapsing {
			if !l.at.After(before) {
				if out == nil {
					out = make(map[group.Account]*lapse)
				}
				out[a] = l
				delete(sh.lapsing, a)
			}
		}
		sh.Unlock()
	}
	return out
}

// fleeting returns where the memberships of an account are that are in no row.
func (r *registry) fleeting(a group.Account) []group.Key {
	sh := r.userShard(a)
	sh.Lock()
	defer sh.Unlock()
	u := sh.byAccount[a]
	if u == nil {
		if l := sh.lapsing[a]; l != nil {
			return slices.Collect(maps.Keys(l.rooms))
		}
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	keys := slices.Collect(maps.Keys(u.returns))
	for _, rm := range u.rooms {
		rm.mu.Lock()
		if i := rm.find(u); i >= 0 && rm.members[i].fleeting() {
			keys = append(keys, rm.key)
		}
		rm.mu.Unlock()
	}
	return keys
}

// changeAway takes the change of a member who is not online. The shard is locked.
func (sh *userShard) changeAway(key group.Key, c *hooks.MemberChange) {
	l := sh.lapsing[c.Account]
	if c.Joined && c.Fleeting {
		if l == nil {
			l = &lapse{at: time.Now(), rooms: make(map[group.Key]uint64)}
			sh.lapsing[c.Account] = l
		}
		l.rooms[key] = changedMember(nil, c).meta
		return
	}
	if l != nil {
		if delete(l.rooms, key); len(l.rooms) == 0 {
			delete(sh.lapsing, c.Account)
		}
	}
}

// load reads the memberships of u. The user is in the registry already: a change that is
// delivered from now on marks its key as touched, and then what was read does not count.
func (r *registry) load(ctx context.Context, store storage.Records, u *user) error {
	r.loading.Add(1)
	defer r.loading.Add(-1)
	rows, err := storage.JoinedGroups(ctx, store, u.account)

	r.gone.RLock()
	defer r.gone.RUnlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	if err == nil {
		u.rooms = slices.Grow(u.rooms, len(rows))
		for _, row := range rows {
			key := row.Key()
			if _, late := u.touched[key]; late {
				continue
			}
			if _, gone := r.gone.keys[key]; gone {
				continue
			}
			receive := row.Receive
			if receive == group.DefaultReceive {
				receive = row.Type.Rules().DefaultReceive
			}
			u.rooms = append(u.rooms, r.put(key, newMember(u, row.JoinSeq, receive)))
			delete(u.returns, key)
		}
		for key, meta := range u.returns {
			_, late := u.touched[key]
			if _, gone := r.gone.keys[key]; !late && !gone {
				u.rooms = append(u.rooms, r.put(key, member{u, meta}))
			}
		}
		u.returns = nil
	}
	u.touched = nil
	return err
}

// change takes a member's change from the group's stream.
func (r *registry) change(key group.Key, c *hooks.MemberChange) {
	sh := r.userShard(c.Account)
	sh.Lock()
	u := sh.byAccount[c.Account]
	if u == nil {
		sh.changeAway(key, c)
		sh.Unlock()
		return
	}
	u.mu.Lock() // before the shard is left: the user can't go offline in between
	defer u.mu.Unlock()
	sh.Unlock()
	if u.touched != nil {
		u.touched[key] = struct{}{}
	}
	i := slices.IndexFunc(u.rooms, func(rm *room) bool { return rm.key == key })
	switch {
	case c.Joined:
		rm := r.put(key, changedMember(u, c))
		if i < 0 {
			u.rooms = append(u.rooms, rm)
		}
	case i >= 0:
		rm := u.rooms[i]
		u.rooms = slices.Delete(u.rooms, i, i+1)
		r.remove(rm, u)
		for _, s := range *u.sessions.Load() {
			s.conn.drop(rm)
			s.left(key.ID)
		}
	}
}

// end removes a destroyed group with all its members.
func (r *registry) end(key group.Key) {
	r.gone.Lock()
	if r.loading.Load() == 0 {
		clear(r.gone.keys)
	} else {
		r.gone.keys[key] = struct{}{}
	}
	r.gone.Unlock()
	for i := range r.users {
		sh := &r.users[i]
		sh.Lock()
		for _, l := range sh.lapsing {
			delete(l.rooms, key)
		}
		sh.Unlock()
	}
	rm := r.room(key)
	if rm == nil {
		return
	}
	rm.mu.Lock()
	members := slices.Clone(rm.members)
	rm.mu.Unlock()
	for _, m := range members {
		r.change(key, &hooks.MemberChange{Account: m.u.account})
	}
}

// put adds a member to a room, or replaces what the room knows of it, and returns the room.
func (r *registry) put(key group.Key, m member) *room {
	sh := r.roomShard(key)
	for {
		sh.Lock()
		rm := sh.byKey[key]
		if rm == nil {
			rm = &room{key: key}
			sh.byKey[key] = rm
		}
		sh.Unlock()
		if rm.put(m) {
			return rm
		}
	}
}

// remove takes a member out of a room, and the room out of the registry if it was the last.
func (r *registry) remove(rm *room, u *user) {
	if !rm.remove(u) {
		return
	}
	sh := r.roomShard(rm.key)
	sh.Lock()
	if sh.byKey[rm.key] == rm {
		delete(sh.byKey, rm.key)
	}
	sh.Unlock()
}

// put reports false if the room is dead: then there is another one, or will be.
func (rm *room) put(m member) bool {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.dead {
		return false
	}
	if i := rm.find(m.u); i >= 0 {
		rm.members[i] = m
		return true
	}
	n := len(rm.members)
	if n == cap(rm.members) {
		rm.members = grown(rm.members)
	}
	rm.members = append(rm.members, m)
	switch {
	case rm.index != nil:
		rm.index.put(m.u, n, rm.members)
	case n >= indexFrom:
		rm.index = new(places)
		rm.index.rebuild(rm.members)
	}
	return true
}

// grown copies members to where there is room for some more: not for twice as many, since
// memberships are the most there is of anything here.
func grown(members []member) []member {
	n := len(members)
	more := n/8 + 1
	if n >= indexFrom {
		more = n / 32
	}
	return append(make([]member, 0, n+more), members...)
}

// remove reports whether the room is dead now.
func (rm *room) remove(u *user) bool {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	i := rm.find(u)
	if i < 0 {
		return rm.dead
	}
	last := len(rm.members) - 1
	moved := rm.members[last]
	if rm.index != nil {
		rm.index.remove(u, rm.members)
		if moved.u != u {
			rm.index.move(moved.u, i, rm.members)
		}
	}
	rm.members[i], rm.members[last] = moved, member{}
	rm.members = rm.members[:last]
	if last < indexFrom/4 {
		rm.index = nil
	}
	if c := cap(rm.members); c >= indexFrom/4 && last <= c/4 {
		rm.members = grown(rm.members)
		if rm.index != nil {
			rm.index.rebuild(rm.members)
		}
	}
	rm.dead = last == 0
	return rm.dead
}

// find returns u's place in members, or -1. mu is held.
func (rm *room) find(u *user) int {
	if rm.index != nil {
		return rm.index.find(u, rm.members)
	}
	return slices.IndexFunc(rm.members, func(m member) bool { return m.u == u })
}

// inGroup reports whether u is a member of the group's present life.
func (u *user) inGroup(id group.ID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.ContainsFunc(u.rooms, func(rm *room) bool { return rm.key.ID == id })
}
