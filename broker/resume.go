package broker

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

const (
	// maxReplays is how many sessions read history at the same moment.
	maxReplays = 32
	// replayChunk and replayBytes bound what is read at a time.
	replayChunk = 100
	replayBytes = 128 << 10
)

// resume puts a session into force again whose CONNACK has been written; conn.mu is held. What
// it missed comes group by group, each before the group's live messages.
func (b *Broker) resume(s *session) {
	s.durable.begin(s)
	b.launch(func() {
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		if err := b.catchUp(ctx, s); err != nil && b.ctx.Err() == nil {
			// Its groups would wait for ever: the client comes back and begins again.
			b.log.Warn("history not read for a session that resumes", "account", string(s.account()), "client", s.device, "err", err)
			s.conn.end(endProtocol, codeImplementation, "history cannot be read now, try again")
		}
	})
}

// A replay is a group that a session has to catch up with.
type replay struct {
	key    group.Key
	tail   group.Seq // when the session began again
	first  group.Seq // the lowest SEQ that the member may read
	hidden []group.Seq
}

func (b *Broker) catchUp(ctx context.Context, s *session) error {
	s.conn.mu.Lock()
	var list []replay
	for id, p := range s.durable.groups {
		if p.behind {
			list = append(list, replay{key: group.Key{ID: id, Incarnation: p.inc}})
		}
	}
	s.conn.mu.Unlock()
	slices.SortFunc(list, func(a, b replay) int { return cmp.Compare(a.key.ID, b.key.ID) })
	if err := b.prepareReplays(ctx, s, list); err != nil {
		return err
	}
	for _, r := range list {
		if err := b.catchUpGroup(ctx, s, &r); err != nil {
			return err
		}
	}
	return nil
}

// prepareReplays reads where the groups end and what of them the user may see, in three round trips.
func (b *Broker) prepareReplays(ctx context.Context, s *session, list []replay) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.StoreTimeout)
	defer cancel()
	keys := make([]group.Key, len(list))
	names, views := make([]string, len(list)), make([]string, len(list))
	for i, r := range list {
		keys[i], names[i], views[i] = r.key, storage.GroupKey(r.key.ID), storage.MemberKey(r.key, s.account())
	}
	heads, err := b.history.Heads(ctx, keys)
	if err != nil {
		return err
	}
	groups, err := storage.Groups.GetMany(ctx, b.store, names)
	if err != nil {
		return err
	}
	seen, err := storage.Views.GetMany(ctx, b.store, views)
	if err != nil {
		return err
	}
	for i := range list {
		r := &list[i]
		r.tail = heads[i].Tail
		if groups[i] != nil && groups[i].Incarnation == r.key.Incarnation {
			r.first = groups[i].ClearedTo + 1
		}
		if seen[i] != nil {
			r.first, r.hidden = max(r.first, seen[i].ClearedTo+1), seen[i].Hidden
		}
	}
	return nil
}

// catchUpGroup queues what the session has missed of a group and then lets its live messages
// through. It returns when that is done, or there is nobody to do it for.
func (b *Broker) catchUpGroup(ctx context.Context, s *session, r *replay) error {
	c := s.conn
	from := max(r.first, r.tail-group.Seq(b.cfg.ReplayLimit)+1)
	for {
		c.mu.Lock()
		p := s.durable.groups[r.key.ID]
		if p == nil || p.inc != r.key.Incarnation || c.state != connOpen {
			c.mu.Unlock()
			return nil
		}
		from = max(from, p.queued+1)
		to := max(r.tail, p.missed) + 1
		c.mu.Unlock()
		chunk, next, err := b.readChunk(ctx, r.key, from, to)
		if err != nil {
			return err
		}
		if b.queueChunk(s, r, chunk, next) {
			return nil
		}
		if err := c.waitForRoom(ctx); err != nil {
			return err
		}
		from = next
	}
}

// readChunk reads some messages of [from, to) and returns where to go on.
func (b *Broker) readChunk(ctx context.Context, key group.Key, from, to group.Seq) (chunk []*group.Message, next group.Seq, err error) {
	if from >= to {
		return nil, from, nil
	}
	select {
	case b.replays <- struct{}{}:
		defer func() { <-b.replays }()
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.StoreTimeout)
	defer cancel()
	size := 0
	for m, err := range b.history.Range(ctx, key, from, to) {
		if err != nil {
			return nil, 0, err
		}
		chunk = append(chunk, m)
		if size += len(m.Body) + len(m.CloudCustomData); len(chunk) == replayChunk || size > replayBytes {
			return chunk, m.Seq + 1, nil
		}
	}
	return chunk, to, nil
}

// queueChunk queues what of the messages before next the session is to see. It reports true when
// the group has no more to wait for, or is not the user's any more.
func (b *Broker) queueChunk(s *session, r *replay, chunk []*group.Message, next group.Seq) (over bool) {
	c := s.conn
	rm := b.registry.room(r.key)
	if rm == nil {
		return true
	}
	rm.mu.Lock() // as in a live delivery: the member can't leave meanwhile
	defer rm.mu.Unlock()
	i := rm.find(s.user)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := s.durable.groups[r.key.ID]
	if i < 0 || p == nil || p.inc != r.key.Incarnation || c.state != connOpen {
		return true
	}
	sub := s.to(r.key.ID)
	pub := published{room: rm, topic: groupTopicName(r.key.ID)}
	for _, m := range chunk {
		_, hidden := slices.BinarySearch(r.hidden, m.Seq)
		if m.Seq > p.queued && m.Seq >= r.first && !hidden && m.State == group.Live && m.VisibleTo(s.account()) && s.wants(thing{message: m}, rm.members[i], sub) {
			pub.payloads = append(pub.payloads, appendMessage(nil, m))
			pub.seqs = append(pub.seqs, m.Seq)
		}
	}
	if n := len(pub.payloads); n > 0 && sub != 0 {
		c.put(pub.frames(c.version == 5, sub.qos()), 0, uint32(n))
	}
	p.queued = max(p.queued, next-1)
	if p.queued < max(r.tail, p.missed) {
		return false
	}
	p.behind = false
	for _, l := range p.late {
		c.put(l.f, l.i, l.i+1)
	}
	p.late = nil
	return true
}

// waitForRoom returns when the connection's queue is short enough for more history, or the
// connection is over.
func (c *conn) waitForRoom(ctx context.Context) error {
	c.mu.Lock()
	if c.queued <= c.b.cfg.SlowConsumerBytes/4 {
		c.mu.Unlock()
		return nil
	}
	if c.room == nil {
		c.room = make(chan struct{})
	}
	room := c.room
	c.mu.Unlock()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// due reports whether the session is to be written: something has changed, or it has not
// shown a sign of life for long. conn.mu is held.
func (d *durable) due(now time.Time) bool {
	return d.changed || d.row && now.Sub(d.saved) > max(d.expiry/4, saveInterval)
}
