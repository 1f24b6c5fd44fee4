package broker

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

var _ hooks.Deliverer = (*Broker)(nil)

// Deliver fans a batch out to the group's online members. It is hooks.Deliverer: called by
// one goroutine per group at a time, it blocks on no client. When it returns, a member who
// left in the batch has nothing of the group in its queues.
func (b *Broker) Deliver(key group.Key, batch []hooks.Delivery) {
	run := run{b: b, key: key}
	for i := range batch {
		switch d := &batch[i]; {
		case d.Message != nil && len(d.Message.To) > 0:
			run.flush()
			run.things = append(run.things, thing{message: d.Message})
			run.sendTo(append(slices.Clone(d.Message.To), d.Message.From))
		case d.Message != nil:
			run.things = append(run.things, thing{message: d.Message})
		case d.Event != nil && d.Event.To != nil:
			run.flush()
			run.things = append(run.things, thing{event: d.Event})
			run.sendTo(d.Event.To)
		case d.Event != nil:
			run.things = append(run.things, thing{event: d.Event})
		case d.Member != nil:
			run.flush()
			b.registry.change(key, d.Member)
		case d.Notice != nil:
			run.flush() // an account's inbox and its groups keep their order too
			b.Notify(*d.Notice)
		case d.Gone:
			run.flush()
			b.registry.end(key)
		}
	}
	run.flush()
}

// A thing is what one frame carries: a message or an event.
type thing struct {
	message *group.Message
	event   *hooks.Event
}

// of is the SEQ that only those see who were members then; 0: all receivers see the thing.
func (t thing) of() group.Seq {
	if t.message != nil {
		return t.message.Seq
	}
	return t.event.Of
}

// A run is consecutive things of one group with the same receivers; it is encoded once.
type run struct {
	b      *Broker
	key    group.Key
	things []thing
	pub    *published
	lowest group.Seq // that a thing is of, if any is
	woken  []*conn   // have something to be written, and the flusher does not know yet
}

// flush sends the run to all members.
func (r *run) flush() {
	if len(r.things) == 0 {
		return
	}
	if rm := r.b.registry.room(r.key); rm != nil {
		rm.mu.Lock()
		r.prepare(rm)
		for _, m := range rm.members {
			r.send(m)
		}
		rm.mu.Unlock()
		r.wake(rm)
	}
	r.things, r.pub = nil, nil
}

// sendTo sends the run to those accounts that are members.
func (r *run) sendTo(accounts []group.Account) {
	if rm := r.b.registry.room(r.key); rm != nil {
		slices.Sort(accounts)
		for _, a := range slices.Compact(accounts) {
			u := r.b.registry.user(a)
			if u == nil {
				continue
			}
			rm.mu.Lock()
			if i := rm.find(u); i >= 0 {
				r.prepare(rm)
				r.send(rm.members[i])
			}
			rm.mu.Unlock()
		}
		r.wake(rm)
	}
	r.things, r.pub = nil, nil
}

// prepare is done once the run has a possible receiver.
func (r *run) prepare(rm *room) {
	if r.pub != nil {
		return
	}
	r.pub = &published{room: rm, topic: groupTopicName(r.key.ID)}
	r.lowest = 0
	for _, t := range r.things {
		if seq := t.of(); seq > 0 && (r.lowest == 0 || seq < r.lowest) {
			r.lowest = seq
		}
	}
}

// frames encodes the run if nobody has needed it in this form yet.
func (r *run) frames(v5 bool, qos byte) *frames {
	if r.pub.payloads == nil {
		r.pub.payloads = make([][]byte, len(r.things))
		r.pub.seqs = make([]group.Seq, len(r.things))
		for i, t := range r.things {
			if t.message != nil {
				r.pub.seqs[i] = t.message.Seq
				r.pub.payloads[i] = appendMessage(nil, t.message)
			} else {
				r.pub.payloads[i] = encodeEvent(t.event.Name, r.key.ID, t.event.Body)
			}
		}
	}
	return r.pub.frames(v5, qos)
}

// send queues the run for a member's sessions. The room is locked, so that the member can't
// leave meanwhile.
func (r *run) send(m member) {
	all := r.lowest == 0 || m.since() < r.lowest
	all = all && m.receive().Delivers(false)
	for _, s := range *m.u.sessions.Load() {
		c := s.conn
		c.mu.Lock()
		if sub := s.to(r.key.ID); sub != 0 && c.state == connOpen {
			f := r.frames(c.version == 5, sub.qos())
			if d := s.durable; d != nil && sub.qos() > 0 {
				r.sendDurable(s, d, m, sub, f)
			} else if all && sub&noLocal == 0 {
				c.enqueue(f, 0, uint32(len(r.things)))
			} else {
				r.sendSome(s, m, sub, f)
			}
			if c.due() {
				r.wakes(c)
			}
		}
		c.mu.Unlock()
	}
}

// sendSome queues what of the run the session is to see.
func (r *run) sendSome(s *session, m member, sub subscription, f *frames) {
	for i, t := range r.things {
		if s.wants(t, m, sub) {
			s.conn.enqueue(f, uint32(i), uint32(i)+1)
		}
	}
}

// sendDurable queues what of the run a session that outlives its connection is to see. What
// it has to see after its history is left to whoever reads that.
func (r *run) sendDurable(s *session, d *durable, m member, sub subscription, f *frames) {
	p := d.of(r.key, m.since())
	for i, t := range r.things {
		if !s.wants(t, m, sub) {
			continue
		}
		switch seq := f.seqs[i]; {
		case seq > 0 && p.behind:
			p.missed = max(p.missed, seq)
			continue
		case p.behind:
			if len(p.late) == maxLate {
				p.late = p.late[1:]
			}
			p.late = append(p.late, flown{f, uint32(i)})
			continue
		case seq > 0 && seq <= p.queued:
			continue
		case seq > 0:
			p.queued = seq
		}
		s.conn.enqueue(f, uint32(i), uint32(i)+1)
	}
}

// wakes has the connection written to: with TCP connections, together with others. Its lock is held.
func (r *run) wakes(c *conn) {
	if c.raw == nil {
		go c.flush(nil, nil)
		return
	}
	if r.woken = append(r.woken, c); len(r.woken) == sliceLen {
		r.wake(r.pub.room)
	}
}

// wake tells the flusher who has something to be written because of the room.
func (r *run) wake(rm *room) {
	if len(r.woken) > 0 {
		r.b.flusher.add(&rm.line, r.woken)
		r.woken = r.woken[:0]
	}
}

// wants reports whether a member's session is to see a thing of which it is a receiver.
func (s *session) wants(t thing, m member, sub subscription) bool {
	if seq := t.of(); seq > 0 && seq <= m.since() {
		return false
	}
	msg := t.message
	if msg == nil {
		return true
	}
	if !m.receive().Delivers(mentions(msg, m.u.account)) {
		return false
	}
	// [MQTT-3.8.3-3]: the same client identifier, which is scoped by the account.
	return sub&noLocal == 0 || msg.From != m.u.account || msg.Again.Client != s.device
}

func mentions(m *group.Message, a group.Account) bool {
	return slices.ContainsFunc(m.Mentions, func(at group.Mention) bool { return at.All || at.Account == a })
}

// Notify sends an event to the inbox of one account: to those of its sessions that have
// subscribed to it. It does not block.
func (b *Broker) Notify(n hooks.Notice) {
	u := b.registry.user(n.To)
	if u == nil {
		return
	}
	var pub *published
	for _, s := range *u.sessions.Load() {
		if n.ExceptDevice != "" && s.device == n.ExceptDevice {
			continue
		}
		s.conn.mu.Lock()
		if s.inbox != 0 {
			if pub == nil {
				pub = &published{topic: userTopicName(n.To), payloads: [][]byte{encodeEvent(n.Event, "", n.Body)}}
			}
			s.conn.put(pub.frames(s.conn.version == 5, s.inbox.qos()), 0, 1)
		}
		s.conn.mu.Unlock()
	}
}

// encodeEvent makes the JSON object of an event: its name, the group if there is one, and the
// members of body, which marshals to an object or null.
func encodeEvent(name string, id group.ID, body any) []byte {
	out := appendJSONString([]byte(`{"Event":`), name)
	members, err := json.Marshal(body)
	if err != nil || len(members) < 2 || members[0] != '{' {
		members = []byte("{}") // null, or a mistake of ours: the name alone still tells something
	}
	if id != "" && !bytes.Contains(members, []byte(`"GroupId":`)) {
		out = appendJSONString(append(out, `,"GroupId":`...), string(id))
	}
	if len(members) > 2 {
		out = append(out, ',')
	}
	return append(out, members[1:]...)
}
