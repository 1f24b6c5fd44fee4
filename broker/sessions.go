package broker

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// history is the part of a store that sessions catch up from.
type history interface {
	Heads(ctx context.Context, keys []group.Key) ([]storage.Head, error)
	Range(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error]
}

const (
	// saveInterval is how long an acknowledgement may be known to memory alone: after a crash
	// these messages are sent again.
	saveInterval = 5 * time.Second
	// sweepInterval is how often sessions that have expired are removed.
	sweepInterval = time.Hour
	// sweepChunk is how many sessions are looked at at a time.
	sweepChunk = 500
	// saves is how many sessions are written at once.
	saves = 16
)

// durables knows which connection holds which session, so that there is one at a time.
type durables struct {
	mu   sync.Mutex
	held map[deviceKey]*hold
}

type deviceKey struct {
	account group.Account
	device  string
}

// A hold is a connection's claim on the session of its client identifier.
type hold struct {
	conn     *conn
	platform string
	session  *session      // once the login is over; guarded by durables.mu
	free     chan struct{} // closed at the end of the claim
}

// acquire claims the session of a client identifier, after whoever has it was ended and has
// written what there is to write. It returns the platforms of those.
func (ds *durables) acquire(ctx context.Context, key deviceKey, c *conn, platform string) (displaced []string, err error) {
	for {
		ds.mu.Lock()
		had := ds.held[key]
		if had == nil {
			ds.held[key] = &hold{conn: c, platform: platform, free: make(chan struct{})}
			ds.mu.Unlock()
			return displaced, nil
		}
		ds.mu.Unlock()
		displaced = append(displaced, had.platform)
		had.conn.end(endTakenOver, codeTakenOver, "another connection has taken the session over")
		select {
		case <-had.free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// establish makes a claim known to those who write sessions.
func (ds *durables) establish(key deviceKey, s *session) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.held[key].session = s
}

func (ds *durables) release(key deviceKey) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	close(ds.held[key].free)
	delete(ds.held, key)
}

func (ds *durables) has(key deviceKey) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.held[key] != nil
}

// sessions returns those that are connected.
func (ds *durables) sessions() []*session {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	out := make([]*session, 0, len(ds.held))
	for _, h := range ds.held {
		if h.session != nil {
			out = append(out, h.session)
		}
	}
	return out
}

// openSession gives s the session that MQTT keeps for its client identifier, if it wants one.
func (b *Broker) openSession(ctx context.Context, s *session, pk *packets.Packet) *refusal {
	if b.history == nil {
		return nil
	}
	clean, expiry := pk.Connect.Clean, time.Duration(0)
	switch {
	case pk.ProtocolVersion == 5:
		expiry = min(time.Duration(pk.Properties.SessionExpiryInterval)*time.Second, b.cfg.SessionExpiry)
	case !clean:
		expiry = b.cfg.SessionExpiry
	}
	key := deviceKey{s.account(), s.device}
	displaced, err := b.durables.acquire(ctx, key, s.conn, s.platform)
	if err != nil {
		return refuse(codeUnavailable, 3, codeLoginTimeout, "the connection that has this client identifier does not end, try again")
	}
	s.displaced = displaced
	d, err := b.loadSession(ctx, s, clean, expiry)
	if err != nil {
		b.durables.release(key)
		b.log.Warn("session not loaded", "account", string(s.account()), "client", s.device, "err", err)
		return refuse(codeUnavailable, 3, codeLoginTimeout, "the store does not answer, try again")
	}
	b.resumed(key, d != nil && d.present)
	if d == nil {
		b.durables.release(key)
		return nil
	}
	s.durable, s.granted = d, expiry
	b.durables.establish(key, s)
	return nil
}

// loadSession returns the session that goes on or begins, or nil if there is none to be kept.
func (b *Broker) loadSession(ctx context.Context, s *session, clean bool, expiry time.Duration) (*durable, error) {
	a, now := s.account(), time.Now().Unix()
	row, err := storage.Sessions.Find(ctx, b.store, storage.SessionKey(a, s.device))
	if err != nil {
		return nil, err
	}
	if row != nil && (clean || row.Expired(now, b.started)) {
		if err := b.store.Apply(ctx, deletions(a, s.device)...); err != nil {
			return nil, err
		}
		row = nil
	}
	d := &durable{account: a, device: s.device, expiry: expiry, groups: make(map[group.ID]*progress), changed: true}
	switch {
	case row != nil:
		d.row, d.present, d.restored = true, true, row
		return d, b.loadMarks(ctx, s, d)
	case expiry == 0:
		return nil, nil
	}
	room, err := b.makeRoom(ctx, a)
	if err != nil || !room {
		return nil, err
	}
	// Before CONNACK grants it: a client that finds no session after a crash gives up what it had
	// sent and not seen acknowledged, although it may have subscribed to nothing.
	if err := b.store.Apply(ctx, storage.Sessions.Put(storage.SessionKey(a, s.device), d.record(s, time.Unix(now, 0), true))); err != nil {
		return nil, err
	}
	d.row, d.changed, d.saved = true, false, time.Unix(now, 0)
	return d, nil
}

// loadMarks reads how far a session had come. A group that the user joined since begins with
// its membership; one that it left, or left and joined again, shows nothing from before.
func (b *Broker) loadMarks(ctx context.Context, s *session, d *durable) error {
	marks := make(map[group.ID]*storage.SessionMark)
	for row, err := range storage.SessionMarks.Scan(ctx, b.store, storage.Span{Prefix: storage.SessionMarkPrefix(d.account, d.device)}) {
		if err != nil {
			return err
		}
		marks[row.Value.ID] = row.Value
	}
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	for _, rm := range s.user.rooms {
		id := rm.key.ID
		if subscription(d.restored.All).qos() == 0 && subscription(d.restored.Groups[id]).qos() == 0 {
			continue
		}
		rm.mu.Lock()
		i := rm.find(s.user)
		var since group.Seq
		if i >= 0 {
			since = rm.members[i].since()
		}
		rm.mu.Unlock()
		p := &progress{inc: rm.key.Incarnation, done: since, stored: -1, behind: true}
		if m := marks[id]; m != nil {
			p.stored = 0 // whatever it says, there is one
			if m.Incarnation == p.inc && m.Seq >= since {
				p.done, p.stored = m.Seq, m.Seq
			}
		}
		p.queued = p.done
		d.groups[id] = p
	}
	for id := range marks {
		if d.groups[id] == nil {
			d.removed = append(d.removed, storage.SessionMarkKey(d.account, d.device, id))
		}
	}
	return nil
}

// makeRoom ends the session of the account that was unused longest if it has as many as it
// may. It reports false if all of them are connected.
func (b *Broker) makeRoom(ctx context.Context, a group.Account) (bool, error) {
	n := 0
	oldest, oldestSeen := "", int64(0)
	for row, err := range storage.Sessions.Scan(ctx, b.store, storage.Span{Prefix: storage.Prefix(string(a))}) {
		if err != nil {
			return false, err
		}
		n++
		parts, err := storage.SplitKey(row.Key)
		if err != nil {
			return false, err
		}
		device := parts[len(parts)-1]
		if seen := row.Value.Seen; !b.durables.has(deviceKey{a, device}) && (oldest == "" || seen < oldestSeen) {
			oldest, oldestSeen = device, seen
		}
	}
	if n < b.cfg.SessionsPerUser {
		return true, nil
	}
	if oldest == "" {
		return false, nil
	}
	if err := b.store.Apply(ctx, deletions(a, oldest)...); err != nil {
		return false, err
	}
	b.resumed(deviceKey{a, oldest}, false)
	return true, nil
}

// closeSession lets go of the session when its connection has ended.
func (b *Broker) closeSession(s *session) {
	d := s.durable
	if d == nil {
		return
	}
	// The connection's own context has ended; this must not be lost with it.
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.StoreTimeout)
	defer cancel()
	if err := b.saveSession(ctx, s); err != nil {
		b.log.Warn("session not saved: its client is sent messages again", "account", string(d.account), "client", d.device, "err", err)
	}
	b.durables.release(deviceKey{d.account, d.device})
}

// saveSession writes what has changed of a session. After the end of a connection whose session
// is not to outlive it, it removes the session.
func (b *Broker) saveSession(ctx context.Context, s *session) error {
	c, d := s.conn, s.durable
	d.saving.Lock() // one after the other, so that none overtakes
	defer d.saving.Unlock()
	c.mu.Lock()
	var muts []storage.Mutation
	if c.state != connOpen && d.expiry == 0 {
		if d.row {
			muts = deletions(d.account, d.device)
		}
	} else {
		muts = d.changes(s, time.Now())
	}
	c.mu.Unlock()
	err := b.store.Apply(ctx, muts...)
	if err != nil {
		c.mu.Lock()
		d.unsaved()
		c.mu.Unlock()
	}
	return err
}

// keepSessions writes the sessions' progress and removes those that have expired, until the
// broker stops.
func (b *Broker) keepSessions() {
	save, sweep := time.NewTicker(saveInterval), time.NewTicker(sweepInterval)
	defer save.Stop()
	defer sweep.Stop()
	for {
		b.sweepSessions(b.ctx, time.Now().Unix())
	wait:
		for {
			select {
			case <-b.ctx.Done():
				return
			case <-sweep.C:
				break wait
			case <-save.C:
				b.saveSessions()
			}
		}
	}
}

// saveSessions writes what has changed, several sessions at a time so that they share an fsync.
func (b *Broker) saveSessions() {
	var running sync.WaitGroup
	slots := make(chan struct{}, saves)
	for _, s := range b.durables.sessions() {
		s.conn.mu.Lock()
		due := s.durable.due(time.Now())
		s.conn.mu.Unlock()
		if !due {
			continue
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(b.ctx, b.cfg.StoreTimeout)
			defer cancel()
			if err := b.saveSession(ctx, s); err != nil && b.ctx.Err() == nil {
				b.log.Warn("session not saved, trying again", "account", string(s.account()), "client", s.device, "err", err)
			}
		})
	}
	running.Wait()
}

// sweepSessions removes sessions that have expired.
func (b *Broker) sweepSessions(ctx context.Context, now int64) {
	after := ""
	for {
		n := 0
		var muts []storage.Mutation
		for row, err := range storage.Sessions.Scan(ctx, b.store, storage.Span{After: after, Limit: sweepChunk}) {
			if err != nil {
				if ctx.Err() == nil {
					b.log.Warn("sessions not swept", "err", err)
				}
				return
			}
			n, after = n+1, row.Key
			parts, err := storage.SplitKey(row.Key)
			if err != nil || len(parts) != 2 || !row.Value.Expired(now, b.started) {
				continue
			}
			a, device := group.Account(parts[0]), parts[1]
			if !b.durables.has(deviceKey{a, device}) {
				muts = append(muts, deletions(a, device)...)
			}
		}
		if len(muts) > 0 {
			if err := b.store.Apply(ctx, muts...); err != nil {
				b.log.Warn("expired sessions not removed", "err", err)
				return
			}
		}
		if n < sweepChunk {
			return
		}
	}
}

// changeExpiry takes the interval of a DISCONNECT.
func (s *session) changeExpiry(seconds uint32) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if d := s.durable; d != nil && d.expiry > 0 { // 0 can't be made more [MQTT-3.14.2-2]
		d.expiry = min(time.Duration(seconds)*time.Second, s.conn.b.cfg.SessionExpiry)
		d.changed = true
	}
}

// left forgets a group that the user is not in any more.
func (s *session) left(id group.ID) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.durable != nil {
		s.durable.forget(id)
	}
}

// bases returns, for the groups that t covers and that the session knows nothing of, where they
// end now: what comes later is the session's to deliver.
func (s *session) bases(t topic) (map[group.Key]group.Seq, error) {
	c, d := s.conn, s.durable
	var keys []group.Key
	s.user.mu.Lock()
	c.mu.Lock()
	for _, rm := range s.user.rooms {
		if p := d.groups[rm.key.ID]; (t.kind == allGroups || t.group == rm.key.ID) && (p == nil || p.inc != rm.key.Incarnation) {
			keys = append(keys, rm.key)
		}
	}
	c.mu.Unlock()
	s.user.mu.Unlock()
	if len(keys) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(c.b.ctx, c.b.cfg.StoreTimeout)
	defer cancel()
	heads, err := c.b.history.Heads(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make(map[group.Key]group.Seq, len(keys))
	for i, key := range keys {
		out[key] = heads[i].Tail
	}
	return out, nil
}

// remember makes the subscriptions durable before they are acknowledged.
func (s *session) remember() error {
	b := s.conn.b
	ctx, cancel := context.WithTimeout(b.ctx, b.cfg.StoreTimeout)
	defer cancel()
	if err := b.saveSession(ctx, s); err != nil {
		b.log.Warn("subscriptions not saved", "account", string(s.account()), "client", s.device, "err", err)
		return s.violation(codeImplementation, "the session cannot be stored now, try again")
	}
	return nil
}
