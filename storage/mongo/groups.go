package mongo

import (
	"context"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

const (
	// maxIdleGroups bounds the groups whose heads are remembered while nobody writes to them.
	maxIdleGroups = 65536
	// maxHeadAge is how long a remembered head counts without having been confirmed by a write.
	maxHeadAge = 10 * time.Minute
)

// groups gives each log its exclusion and remembers its head. A group's entry is there while
// somebody uses it or its head is remembered.
type groups struct {
	mu sync.Mutex
	m  map[group.Key]*groupState
}

// A groupState is one group's entry.
type groupState struct {
	// sem has room for one: whoever has put its token in may write to the log. It is held until
	// the outcome of the write is known or can't be known, also when the caller has left.
	sem  chan struct{}
	refs int // guarded by groups.mu; with 0 the entry may be dropped
	// left is true while a write is under way whose caller has left; guarded by groups.mu.
	left bool

	// What follows belongs to the holder of sem.

	head  storage.Head
	known time.Time // when head was true; zero: it is not known
}

// acquire returns the group's entry, which stays until release.
func (g *groups) acquire(k group.Key) *groupState {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := g.m[k]
	if st == nil {
		if g.m == nil {
			g.m = make(map[group.Key]*groupState)
		}
		st = &groupState{sem: make(chan struct{}, 1)}
		g.m[k] = st
	}
	st.refs++
	return st
}

func (g *groups) release(k group.Key, st *groupState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if st.refs--; st.refs > 0 || len(g.m) <= maxIdleGroups {
		return
	}
	// The order of a map is as good as random, and random eviction is enough: it costs one read.
	for other, o := range g.m {
		if o.refs == 0 {
			delete(g.m, other)
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
	case <-ctx.Done():
		g.release(k, st)
		return nil, ctx.Err()
	}
}

func (g *groups) unlock(k group.Key, st *groupState) {
	g.mu.Lock()
	st.left = false
	g.mu.Unlock()
	<-st.sem
	g.release(k, st)
}

// leave notes that the caller of the write under way has left.
func (g *groups) leave(st *groupState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	st.left = true
}

// settle waits while a write of the group is under way whose caller has left.
func (g *groups) settle(ctx context.Context, k group.Key) error {
	g.mu.Lock()
	st := g.m[k]
	waits := st != nil && st.left
	g.mu.Unlock()
	if !waits {
		return nil
	}
	st, err := g.lock(ctx, k)
	if err == nil {
		g.unlock(k, st)
	}
	return err
}
