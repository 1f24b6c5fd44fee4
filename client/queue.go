package client

import "sync"

// An item is something for the handlers: a publish that has arrived, or an event of ours.
type item struct {
	link    *link
	inbox   bool
	payload []byte
	event   Event
}

// A queue holds what has arrived and waits for the engine. It never blocks who adds to it:
// that is the connection's reader, which must go on to find the replies that a handler waits for.
type queue struct {
	maxLen, maxBytes int
	wake             chan struct{} // capacity 1

	mu    sync.Mutex
	items []item
	bytes int
	link  *link // the newest connection
	lost  bool  // something did not fit since the last synchronisation began
}

func newQueue(maxLen, maxBytes int) *queue {
	return &queue{maxLen: maxLen, maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

func (q *queue) add(it item) {
	q.mu.Lock()
	if len(q.items) < q.maxLen && q.bytes+len(it.payload) <= q.maxBytes {
		q.items = append(q.items, it)
		q.bytes += len(it.payload)
	} else {
		q.lost = true
	}
	q.mu.Unlock()
	q.signal()
}

func (q *queue) connected(l *link) {
	q.mu.Lock()
	q.link = l
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next returns a connection that is to be synchronised, or else the next item. A
// synchronisation covers all that was lost before it begins.
func (q *queue) next(synced *link) (l *link, it item, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.link != nil && q.link.up() && (q.link != synced || q.lost && len(q.items) == 0) {
		q.lost = false
		return q.link, item{}, false
	}
	if len(q.items) == 0 {
		return nil, item{}, false
	}
	it = q.items[0]
	q.items[0] = item{}
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil
	}
	q.bytes -= len(it.payload)
	return nil, it, true
}
