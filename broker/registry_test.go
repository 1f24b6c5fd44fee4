package broker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// A gate is a store whose GetAll lets the test in after the rows were read and before the
// reader gets them.
type gate struct {
	*storagetest.Memory
	read func()
	err  error
}

func (g *gate) Scan(ctx context.Context, table string, s storage.Span) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		var rows []storage.Record
		for r, err := range g.Memory.Scan(ctx, table, s) {
			if err != nil {
				yield(r, err)
				return
			}
			rows = append(rows, r)
		}
		if g.err != nil {
			yield(storage.Record{}, g.err)
			return
		}
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// GetMany is the last read of a load.
func (g *gate) GetAll(ctx context.Context, refs []storage.Ref) ([][]byte, error) {
	rows, err := g.Memory.GetAll(ctx, refs)
	if g.read != nil && slices.ContainsFunc(refs, func(r storage.Ref) bool { return r.Table == storage.Members.Name }) {
		g.read()
	}
	return rows, err
}

func newGate(t *testing.T, groups ...group.ID) *gate {
	t.Helper()
	g := &gate{Memory: storagetest.NewMemory()}
	for _, id := range groups {
		gr := &group.Group{ID: id, Incarnation: 1, Type: group.Public}
		err := g.Apply(t.Context(),
			storage.Groups.Put(storage.GroupKey(id), gr),
			storage.Members.Put(storage.MemberKey(gr.Key(), "bob"), &group.Member{Account: "bob", Role: group.OrdinaryMember}),
			storage.Joined.Put(storage.JoinedKey("bob", id), &storage.JoinedGroup{ID: id, Incarnation: 1, Type: group.Public, JoinSeq: 5}))
		if err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func keyOf(id group.ID) group.Key { return group.Key{ID: id, Incarnation: 1} }

// What is delivered while the memberships are being read wins over what was read.
func TestChangesOvertakeTheLoad(t *testing.T) {
	for _, c := range []struct {
		name  string
		event func(*registry)
		want  bool // bob is in g1 afterwards
	}{
		{"nothing", func(*registry) {}, true},
		{"removed", func(r *registry) { r.change(keyOf("g1"), &hooks.MemberChange{Account: "bob"}) }, false},
		{"removed and back", func(r *registry) {
			r.change(keyOf("g1"), &hooks.MemberChange{Account: "bob"})
			r.change(keyOf("g1"), &hooks.MemberChange{Account: "bob", Joined: true, Since: 9, Receive: group.AcceptAndNotify})
		}, true},
		{"destroyed", func(r *registry) { r.end(keyOf("g1")) }, false},
		{"somebody else removed", func(r *registry) { r.change(keyOf("g1"), &hooks.MemberChange{Account: "carol"}) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, g := newRegistry(), newGate(t, "g1", "g2")
			g.read = func() { c.event(r) }
			u, err := r.hold(t.Context(), g, "bob")
			if err != nil {
				t.Fatal(err)
			}
			if u.inGroup("g1") != c.want || (r.room(keyOf("g1")) != nil) != c.want {
				t.Errorf("in g1: %v, room %v; want %v", u.inGroup("g1"), r.room(keyOf("g1")), c.want)
			}
			if !u.inGroup("g2") {
				t.Error("not in g2")
			}
			if c.want {
				since := group.Seq(5)
				if c.name == "removed and back" {
					since = 9
				}
				if m := r.room(keyOf("g1")).members[0]; m.since() != since || m.receive() != group.AcceptAndNotify {
					t.Errorf("since %d, receive %v; want %d, AcceptAndNotify", m.since(), m.receive(), since)
				}
			}
			r.release(u)
			if r.user("bob") != nil || r.room(keyOf("g1")) != nil || r.room(keyOf("g2")) != nil {
				t.Error("something is left after the last release")
			}
		})
	}
}

func TestLoadsOnceAndRecovers(t *testing.T) {
	r, g := newRegistry(), newGate(t, "g1")
	loads := 0
	begun, goOn := make(chan struct{}), make(chan struct{})
	g.read = func() {
		loads++
		close(begun)
		<-goOn
	}
	var wg sync.WaitGroup
	hold := func() {
		if _, err := r.hold(t.Context(), g, "bob"); err != nil {
			t.Error(err)
		}
	}
	wg.Go(hold)
	<-begun
	for range 10 {
		wg.Go(hold)
	}
	close(goOn)
	wg.Wait()
	if loads != 1 {
		t.Errorf("%d loads for 11 logins, want 1", loads)
	}
	u := r.user("bob")
	for range 11 {
		r.release(u)
	}

	g.read, g.err = nil, errors.New("down")
	if _, err := r.hold(t.Context(), g, "bob"); !errors.Is(err, g.err) {
		t.Errorf("hold = %v, want %v", err, g.err)
	}
	if r.user("bob") != nil {
		t.Error("a user that could not be loaded is left")
	}
	g.err = nil
	if _, err := r.hold(t.Context(), g, "bob"); err != nil {
		t.Errorf("the store is back, but hold = %v", err)
	}
}

// A room is a set of users with what is known of each.
func TestRoomModel(t *testing.T) {
	users := make([]*user, 3*indexFrom)
	for i := range users {
		users[i] = &user{account: group.Account(fmt.Sprint(i))}
	}
	rapid.Check(t, func(t *rapid.T) {
		rm := &room{}
		model := make(map[*user]uint64)
		check := func() {
			if len(rm.members) != len(model) || rm.index != nil && rm.index.used != len(model) {
				t.Fatalf("%d members, %d in the index; want %d", len(rm.members), rm.index, len(model))
			}
			for i, m := range rm.members {
				if model[m.u] != m.meta || rm.find(m.u) != i {
					t.Fatalf("member %s: %d found at %d, want %d at %d", m.u.account, m.meta, rm.find(m.u), model[m.u], i)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				from, n := rapid.IntRange(0, len(users)-1).Draw(t, "from"), rapid.SampledFrom([]int{1, 3, 600}).Draw(t, "n")
				seq := rapid.Int64Range(0, 1<<40).Draw(t, "since")
				for i := range n {
					m := newMember(users[(from+i)%len(users)], group.Seq(seq), group.AcceptNotNotify)
					if !rm.put(m) {
						rm = &room{}
						clear(model)
						rm.put(m)
					}
					model[m.u] = m.meta
				}
				check()
			},
			"remove": func(t *rapid.T) {
				from, n := rapid.IntRange(0, len(users)-1).Draw(t, "from"), rapid.SampledFrom([]int{1, 3, 600}).Draw(t, "n")
				for i := range n {
					u := users[(from+i)%len(users)]
					_, was := model[u]
					delete(model, u)
					if dead := rm.remove(u); was && dead != (len(model) == 0) {
						t.Fatalf("dead: %v with %d members", dead, len(model))
					}
				}
				check()
			},
		})
	})
}

// Logins, logouts, joins, removals and deliveries at once: at the end nothing is left over.
func TestRegistryUnderConcurrency(t *testing.T) {
	r, g := newRegistry(), newGate(t, "g0", "g1", "g2")
	var wg sync.WaitGroup
	for i := range 3 {
		key := keyOf(group.ID(fmt.Sprint("g", i)))
		wg.Go(func() { // the group's lane
			for n := range 300 {
				r.change(key, &hooks.MemberChange{Account: "bob", Joined: n%2 == 0})
			}
			r.change(key, &hooks.MemberChange{Account: "bob", Joined: i != 2})
			if i == 2 {
				r.end(key)
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 100 {
				u, err := r.hold(t.Context(), g, "bob")
				if err != nil {
					t.Error(err)
					return
				}
				r.release(u)
			}
		})
	}
	wg.Wait()
	for i := range r.users {
		if len(r.users[i].byAccount) > 0 || len(r.rooms[i].byKey) > 0 {
			t.Errorf("left: %v, %v", r.users[i].byAccount, r.rooms[i].byKey)
		}
	}
}

// TestMembershipMemory wants a membership of somebody online to take less than 32 bytes, in
// groups of every size that has many.
func TestMembershipMemory(t *testing.T) {
	const users, each, most = 4000, 100, 32
	for _, size := range []int{100, 400, 1000, 2000, users} {
		r := newRegistry()
		online := make([]*user, users)
		for i := range online {
			online[i] = &user{account: group.Account(fmt.Sprint(i))}
		}
		keys := make([]group.Key, users*each/size)
		for i := range keys {
			keys[i] = group.Key{ID: group.ID(fmt.Sprint("g", i)), Incarnation: 1}
		}
		before := heap()
		for i, u := range online {
			u.rooms = make([]*room, 0, each) // as load does
			for j := range each {
				u.rooms = append(u.rooms, r.put(keys[(i+j*users)/size], newMember(u, 1, group.AcceptAndNotify)))
			}
		}
		if per := float64(heap()-before) / (users * each); per >= most {
			t.Errorf("groups of %d: %.1f bytes a membership, want less than %d", size, per, most)
		} else {
			t.Logf("groups of %d: %.1f bytes a membership", size, per)
		}
		runtime.KeepAlive(r)
		runtime.KeepAlive(online)
		runtime.KeepAlive(keys)
	}
}

// heap returns how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one found dead is swept now
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
