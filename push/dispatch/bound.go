package dispatch

import (
	"cmp"
	"context"
	"slices"

	"github.com/rookery-im/rookery/storage"
)

// evictScan is how many of the oldest tasks of each line and partition are looked at, when
// some have to go.
const evictScan = 256

// An evictable task may be dropped to make room.
type evictable struct {
	line *line
	part *partition
	key  string
	row  *storage.PushTask
}

// makeRoom drops waiting tasks until n more devices fit into the queue: the oldest that are
// not of High messages first, then the oldest of all. It drops a bit more than is needed, so
// that a full queue does not pay for the search with every page. Tasks that are being sent stay.
func (d *Dispatcher) makeRoom(ctx context.Context, n int) {
	if d.queued.Load()+int64(n) <= int64(d.cfg.QueueEntries) {
		return
	}
	d.evict.Lock()
	defer d.evict.Unlock()
	need := int(d.queued.Load()) + n - d.cfg.QueueEntries
	if need <= 0 {
		return
	}
	need += d.cfg.QueueEntries / 100
	list, err := d.oldest(ctx)
	if err != nil {
		d.log.Warn("push queue is full and can't be read", "err", err)
		return
	}
	var muts []storage.Mutation
	var dropped []evictable
	freed := 0
	for _, e := range list {
		if freed >= need {
			break
		}
		if e.line.claim(e) {
			muts = append(muts, storage.PushTasks.Delete(e.key))
			freed += len(e.row.Targets)
			dropped = append(dropped, e)
		}
	}
	if err := d.store.Apply(ctx, muts...); err != nil {
		for _, l := range d.lines {
			l.lookAgain() // what was claimed is in the store still
		}
		d.log.Warn("push queue is full and can't be cut", "err", err)
		return
	}
	for _, e := range dropped {
		e.part.addTargets(-len(e.row.Targets))
	}
	d.metrics.dropped.WithLabelValues(dropOverflow).Add(float64(freed))
}

// oldest returns the oldest tasks of all lines, those of High messages last.
func (d *Dispatcher) oldest(ctx context.Context) ([]evictable, error) {
	var list []evictable
	for _, p := range d.parts {
		if !p.held() {
			continue
		}
		for _, l := range d.lines {
			span := storage.Span{Prefix: storage.Prefix(partName(p.number), l.name), Limit: evictScan}
			for row, err := range storage.PushTasks.Scan(ctx, d.store, span) {
				if err != nil {
					return nil, err
				}
				list = append(list, evictable{l, p, row.Key, row.Value})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b evictable) int {
		if a.row.High != b.row.High {
			if a.row.High {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.row.Time, b.row.Time)
	})
	return list, nil
}

// claim takes a task away from the line, unless it is being sent or recorded.
func (l *line) claim(e evictable) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tasks[e.key]
	if t == nil { // only in the store; refill may have read it already
		if l.gone != nil {
			l.gone[e.key] = true
		}
		return true
	}
	if t.index < 0 {
		return false
	}
	l.drop(t)
	return true
}
