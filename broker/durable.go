package broker

import (
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A durable is what outlives a connection: the session that MQTT keeps for a client identifier
// of a user. Messages are not queued in it: it remembers, for each group, the SEQ up to which
// the client has acknowledged everything, and what came later is read from history.
//
// What is remembered is written with a delay: after a crash the client is sent messages
// again that it had acknowledged, but none is left out.
//
// Its fields are guarded by the mutex of the connection that holds it, except those that say
// otherwise.
type durable struct {
	account group.Account // fixed
	device  string        // fixed
	saving  sync.Mutex    // held while it is written; taken before the connection's

	expiry       time.Duration // how long it is kept after the end of the connection
	row          bool          // it has a row in the store
	changed      bool          // the row, or a mark, is not what is here
	saved        time.Time     // when it was written last, by this connection
	unremembered bool          // the subscriptions are not what the row has
	present      bool          // it was there at login; fixed
	groups       map[group.ID]*progress
	removed      []string // keys of marks to delete

	restored *storage.Session // subscriptions that begin with CONNACK; then nil
	flights  []flight         // the deliveries that wait for their PUBACK, the oldest first
}

// A progress is how far a session has come in one group.
type progress struct {
	inc    group.Incarnation
	queued group.Seq // the last message that was put into the connection's queue, or done
	done   group.Seq // everything up to it is acknowledged, or not for this session
	stored group.Seq // done as it is in the store; -1: no mark there

	behind bool      // what was missed is still being read from history
	missed group.Seq // the last live message that was left to that
	late   []flown   // what has no SEQ and came meanwhile
}

// A flight is a delivery that waits for its PUBACK.
type flight struct {
	p   *progress
	seq group.Seq
}

// A flown is one packet of shared frames.
type flown struct {
	f *frames
	i uint32
}

// maxLate bounds the events of one group that wait for its history; more push out the oldest.
const maxLate = 100

// of returns the progress in a group's present life, beginning after since.
func (d *durable) of(key group.Key, since group.Seq) *progress {
	p := d.groups[key.ID]
	if p == nil || p.inc != key.Incarnation {
		p = &progress{inc: key.Incarnation, queued: since, done: since, stored: -1}
		d.groups[key.ID] = p
		d.changed = true
	}
	return p
}

// forget removes a group: the user left it, or the subscription ended.
func (d *durable) forget(id group.ID) {
	p := d.groups[id]
	if p == nil {
		return
	}
	if p.stored >= 0 {
		d.removed = append(d.removed, storage.SessionMarkKey(d.account, d.device, id))
	}
	delete(d.groups, id)
	d.changed = true
}

// prune forgets groups to which s has no subscription that outlives it.
func (d *durable) prune(s *session) {
	for id := range d.groups {
		if s.to(id).qos() == 0 {
			d.forget(id)
		}
	}
}

// sent notes that the next delivery carries the message seq of the group of r.
func (d *durable) sent(r *room, seq group.Seq) {
	fl := flight{}
	if r != nil && seq > 0 {
		fl = flight{d.groups[r.key.ID], seq}
	}
	d.flights = append(d.flights, fl)
}

// acknowledged notes that all deliveries but the last so many were acknowledged.
func (d *durable) acknowledged(left uint64) {
	n := len(d.flights) - int(left)
	for _, fl := range d.flights[:n] {
		if fl.p != nil && fl.seq > fl.p.done {
			fl.p.done = fl.seq
			d.changed = true
		}
	}
	d.flights = d.flights[n:]
	if len(d.flights) == 0 {
		d.flights = nil
	}
}

// record returns the session's row; held says that a connection has it.
func (d *durable) record(s *session, now time.Time, held bool) *storage.Session {
	if d.restored != nil { // it has not begun yet
		r := *d.restored
		r.Expiry, r.Seen, r.Held = int64(d.expiry/time.Second), now.Unix(), held
		return &r
	}
	r := &storage.Session{Expiry: int64(d.expiry / time.Second), Seen: now.Unix(), Held: held, All: uint8(s.all), Inbox: uint8(s.inbox)}
	for id, sub := range s.groups {
		if r.Groups == nil {
			r.Groups = make(map[group.ID]uint8)
		}
		r.Groups[id] = uint8(sub)
	}
	for below, sub := range s.replies {
		if r.Replies == nil {
			r.Replies = make(map[string]uint8)
		}
		r.Replies[below] = uint8(sub)
	}
	return r
}

// begin puts the subscriptions of a session that was there before into force.
func (d *durable) begin(s *session) {
	r := d.restored
	d.restored = nil
	s.all, s.inbox = subscription(r.All), subscription(r.Inbox)
	if len(r.Groups) > 0 {
		s.groups = make(map[group.ID]subscription, len(r.Groups))
		for id, sub := range r.Groups {
			s.groups[id] = subscription(sub)
		}
	}
	if len(r.Replies) > 0 {
		s.replies = make(map[string]subscription, len(r.Replies))
		for below, sub := range r.Replies {
			s.replies[below] = subscription(sub)
		}
	}
}

// changes returns what is to be written of the session, and notes it as written.
func (d *durable) changes(s *session, now time.Time) []storage.Mutation {
	d.changed, d.unremembered, d.row, d.saved = false, false, true, now
	muts := []storage.Mutation{storage.Sessions.Put(storage.SessionKey(d.account, d.device), d.record(s, now, s.conn.state == connOpen))}
	for _, key := range d.removed {
		muts = append(muts, storage.SessionMarks.Delete(key))
	}
	d.removed = nil
	for id, p := range d.groups {
		if p.done == p.stored {
			continue
		}
		p.stored = p.done
		muts = append(muts, storage.SessionMarks.Put(storage.SessionMarkKey(d.account, d.device, id),
			&storage.SessionMark{ID: id, Incarnation: p.inc, Seq: p.done}))
	}
	return muts
}

// unsaved notes that the last changes may not be in the store.
func (d *durable) unsaved() {
	d.changed, d.unremembered = true, true
	for _, p := range d.groups {
		p.stored = -1
	}
}

// deletions returns what ends a session in the store.
func deletions(a group.Account, device string) []storage.Mutation {
	return []storage.Mutation{
		storage.Sessions.Delete(storage.SessionKey(a, device)), storage.SessionMarks.DeletePrefix(storage.SessionMarkPrefix(a, device)),
	}
}
