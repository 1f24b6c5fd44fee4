package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
)

// progressEvery is how long an answered push of a task may stay unrecorded because others of the
// same task have no answer yet.
const progressEvery = 50 * time.Millisecond

// A progress writes down which devices of a task are through while others still wait for the
// vendor: of one slow answer in a hundred the other ninety-nine would else be pushed to again
// after the process died.
type progress struct {
	line  *line
	task  *task
	found []address

	mu      sync.Mutex
	through map[push.Token]bool
	timer   *time.Timer // of the next write; nil: nothing is new
	stopped bool
}

// follow returns the context for sending the task's devices. Call stop when that is over and
// before the task's end is recorded.
func (l *line) follow(ctx context.Context, t *task, found []address) (following context.Context, stop func()) {
	p := &progress{line: l, task: t, found: found, through: make(map[push.Token]bool, len(found))}
	return push.WithProgress(ctx, p.answered), p.stop
}

func (p *progress) answered(token push.Token, r push.Result) {
	if !r.Outcome.Final() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.through[token] = true
	if p.timer == nil && !p.stopped {
		p.timer = time.AfterFunc(progressEvery, p.write)
	}
}

func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

// write has the devices recorded that are left.
func (p *progress) write() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	if p.stopped || !p.task.part.held() { // the end is recorded by itself; another worker has the task
		return
	}
	rest := *p.task.row
	rest.Targets = nil
	for _, a := range p.found {
		if !p.through[push.NewToken(a.device.Token)] {
			rest.Targets = append(rest.Targets, a.target)
		}
	}
	if len(rest.Targets) == 0 {
		return
	}
	select {
	case p.line.d.records <- record{storage.PushTasks.Put(p.task.key, &rest), func(bool) {}}:
	default: // the store is behind
		p.timer = time.AfterFunc(progressEvery, p.write)
	}
}
