package pebble

import (
	"context"
	"hash/maphash"
	"sync"

	"github.com/rookery-im/rookery/group"
)

const (
	groupShards = 64
	// maxIdleGroups bounds the groups of a shard whose heads are remembered while nobody writes
	// to them; 64 × 1,024 heads are about 10 MB.
	maxIdleGroups = 1024
)

// groups gives each log its exclusion and remembers its durable head. A group's entry is only
// there while somebody uses it or its head is remembered.
type groups struct {
	seed   maphash.Seed
	shards [groupShards]groupShard
}

type groupShard struct {
	mu sync.Mutex
	m  map[group.Key]*groupState
}

// groupState is one group's entry. The shard's mutex guards the fields, sem the log itself.
type groupState struct {
	// sem has room for one: whoever has put its token in may write to the log. It is held across
	// the fsync, but only this group's.
	sem  chan struct{}
	refs int // users of the entry; with 0 it may be dropped

	known bool // head is what is durably stored
	head  head
	// writing is true while a batch of the log is on its way, its messages maybe visible in the
	// database but not durable: readers stop at head.Tail.
	writing bool
	// unclear is true when that batch's writer was answered before its outcome was known.
	unclear bool
}

func (g *groups) init() {
	g.seed = maphash.MakeSeed()
	for i := range g.shards {
		g.shards[i].m = make(map[group.Key]*groupState)
	}
}

func (g *groups) shard(k group.Key) *groupShard {
	return &g.shards[maphash.Comparable(g.seed, k)%groupShards]
}

// acquire returns the group's entry, which stays until release.
func (g *groups) acquire(k group.Key) *groupState {
	sh := g.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	st := sh.m[k]
	if st == nil {
		st = &groupState{sem: make(chan struct{}, 1)}
		sh.m[k] = st
	}
	st.refs++
	return st
}

func (g *groups) release(k group.Key, st *groupState) {
	sh := g.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	st.refs--
	if st.refs > 0 {
		return
	}
	if !st.known {
		delete(sh.m, k)
		return
	}
	if len(sh.m) <= maxIdleGroups {
		return
	}
	// The order of a map is as good as random, and random eviction is enough: what it costs is one read.
	for other, o := range sh.m {
		if o.refs == 0 {
			delete(sh.m, other)
			return
		}
	}
}

// lock acquires the entry and the right to write to the log. unlock gives both back.
func (g *groups) lock(ctx context.Context, k group.Key) (*groupState, error) {
	st := g.acquire(k)
	select {
	case st.sem <- struct{}{}:
		return st, nil
	default:
	}
	select {
	case st.sem <- struct{}{}:
		return st, nil
	case <-ctx.Done():
		g.release(k, st)
		return nil, ctx.Err()
	}
}

// tryLock is lock for those who would rather come back later.
func (g *groups) tryLock(k group.Key) (*groupState, bool) {
	st := g.acquire(k)
	select {
	case st.sem <- struct{}{}:
		return st, true
	default:
		g.release(k, st)
		return nil, false
	}
}

func (g *groups) unlock(k group.Key, st *groupState) {
	<-st.sem
	g.release(k, st)
}

// durableHead returns the remembered head, if there is one that is clear.
func (g *groups) durableHead(k group.Key) (head, bool) {
	sh := g.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	st := sh.m[k]
	if st == nil || !st.known || st.unclear {
		return head{}, false
	}
	return st.head, true
}

// visible returns the highest SEQ that a reader may be shown.
func (g *groups) visible(k group.Key, to group.Seq) group.Seq {
	sh := g.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if st := sh.m[k]; st != nil && st.writing {
		return min(to, st.head.Tail+1)
	}
	return to
}

// update changes the entry's fields under its shard's mutex.
func (g *groups) update(k group.Key, st *groupState, change func(*groupState)) {
	sh := g.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	change(st)
}
