package callback

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/rookery-im/rookery/group"
)

// turns bounds what is under way for each group. A group takes memory only while it has a call.
type turns struct {
	each int64

	mu   sync.Mutex
	busy map[group.ID]*groupTurns
}

type groupTurns struct {
	*semaphore.Weighted
	users int // who hold or want a turn
}

// take waits for a turn, or, with wait false, tries. The turn is given back by calling free.
func (t *turns) take(ctx context.Context, id group.ID, wait bool) (free func(), ok bool) {
	t.mu.Lock()
	if t.busy == nil {
		t.busy = make(map[group.ID]*groupTurns)
	}
	g := t.busy[id]
	if g == nil {
		g = &groupTurns{Weighted: semaphore.NewWeighted(t.each)}
		t.busy[id] = g
	}
	g.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if g.users--; g.users == 0 {
			delete(t.busy, id)
		}
	}
	if !acquire(ctx, g.Weighted, wait) {
		leave()
		return nil, false
	}
	return func() { g.Release(1); leave() }, true
}

func acquire(ctx context.Context, s *semaphore.Weighted, wait bool) bool {
	if !wait {
		return s.TryAcquire(1)
	}
	return s.Acquire(ctx, 1) == nil
}
