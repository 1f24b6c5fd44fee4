package bench

import (
	"fmt"
	"math/bits"
	"sync/atomic"
)

// A sender publishes into one group. Its fields belong to its loop, but for the atomic ones, which the loops of the
// receivers touch as well.
type sender struct {
	receiver // for its own copies
	session  *session
	index    int
	version  byte

	packet          []byte // a whole PUBLISH, filled in anew for every message
	idAt, payloadAt int
	seq             uint32
	limit           int // messages under way, acknowledged or not
	stopAt          int64
	finished        atomic.Bool
	started         bool
	queued          bool // waits in loop.ready

	ids  []uint16      // free packet identifiers, taken from the front
	sent []sentMessage // by packet identifier - 1

	// closed loop
	underWay atomic.Int64
	slots    []slot // by sequence modulo their number, where members confirm; else nil
	lastDone atomic.Int64
	wakeup   atomic.Bool // another loop has asked for work

	// open loop
	from     int64
	interval float64 // nanoseconds between two messages; zero in a closed loop
	due      int64   // messages that were due up to now
	timed    bool    // a timer is set
	starved  bool    // waits for an acknowledgement
}

// A sentMessage is one that is not acknowledged yet; its due is zero when there is none.
type sentMessage struct {
	due int64
	seq uint32
}

// A slot follows one message until everybody has it.
type slot struct {
	seq  atomic.Uint32
	left atomic.Int32
}

// maxBacklog is how many bytes a sender leaves unwritten before it waits for the broker to read.
const maxBacklog = 256 << 10

func newSender(r *trafficRun, group int) *sender {
	return &sender{receiver: *newReceiver(r, group), index: len(r.senders)}
}

// prepare encodes the packet that every message of this sender is.
func (s *sender) prepare(topic string) {
	payload := newPayload(s.run.run, s.index, s.run.Size)
	s.packet = appendPublish(nil, s.version, s.run.QoS, 1, topic, payload)
	s.payloadAt = len(s.packet) - len(payload)
	s.idAt = s.payloadAt - 2
	if s.version == mqtt5 {
		s.idAt--
	}
}

// start begins to send at an instant; index spreads open-loop senders over the time between two messages.
func (s *sender) start(at int64, index int) {
	if s.started || s.session.phase != phaseOpen {
		s.finished.Store(true)
		return
	}
	s.started = true
	s.stopAt = s.run.window.to
	s.lastDone.Store(at)
	s.limit = s.run.Outstanding
	if s.run.Rate > 0 {
		s.interval = 1e9 * float64(s.run.Senders) / s.run.Rate
		s.from = at + int64(s.interval*float64(index)/float64(len(s.run.senders)))
		s.limit = s.run.MaxInFlight
	} else if s.run.Wait == WaitDelivery && s.run.readers > 0 {
		s.slots = make([]slot, 4<<bits.Len(uint(s.limit-1)))
	}
	s.limit = min(s.limit, s.session.inFlight)
	if s.run.QoS > 0 {
		for id := range s.limit {
			s.ids = append(s.ids, uint16(id+1))
		}
		s.sent = make([]sentMessage, s.limit)
	}
	l := s.session.conn.loop
	if s.slots != nil {
		l.ticks = append(l.ticks, s.abandon)
	}
	if s.interval == 0 {
		l.at(at, s)
		return
	}
	s.setTimer(l)
}

// work sends what may be sent now, in one write.
func (s *sender) work(l *loop) {
	s.queued = false
	s.wakeup.Store(false)
	c := s.session.conn
	if c.fd < 0 || !s.started {
		s.finished.Store(true)
		return
	}
	l.burst = l.burst[:0]
	if s.interval > 0 {
		s.sendDue(l)
	} else {
		s.sendFree(l)
	}
	if len(l.burst) > 0 {
		s.session.wroteAt = l.now()
		c.write(l.burst)
	}
}

// sendFree fills the closed loop's window.
func (s *sender) sendFree(l *loop) {
	now := l.now()
	if now >= s.stopAt {
		s.finished.Store(true)
		return
	}
	for s.underWay.Load() < int64(s.limit) && s.mayUseSlot() && s.mayUseID() {
		s.underWay.Add(1)
		s.send(l, now)
	}
}

// mayUseSlot tells whether the slot of the next message is not in use by one that is much older.
func (s *sender) mayUseSlot() bool {
	return s.slots == nil || s.slots[int(s.seq+1)&(len(s.slots)-1)].seq.Load() == 0
}

func (s *sender) mayUseID() bool { return s.run.QoS == 0 || len(s.ids) > 0 }

// sendDue sends what is due by now and sets a timer for the rest.
func (s *sender) sendDue(l *loop) {
	now := l.now()
	for {
		due := s.dueAt(s.due)
		if due >= s.stopAt {
			s.finished.Store(true)
			return
		}
		if due > now {
			s.setTimer(l)
			return
		}
		if !s.mayUseID() {
			s.starved = true // an acknowledgement goes on from here
			return
		}
		if len(s.session.conn.out)+len(l.burst) > maxBacklog {
			s.retry(l, now)
			return
		}
		s.due++
		s.send(l, due)
	}
}

func (s *sender) dueAt(n int64) int64 { return s.from + int64(s.interval*float64(n)) }

// setTimer has the sender work when the next message is due.
func (s *sender) setTimer(l *loop) { s.workAt(l, s.dueAt(s.due)) }

// retry looks again in a millisecond whether the broker reads.
func (s *sender) retry(l *loop, now int64) { s.workAt(l, now+1_000_000) }

func (s *sender) workAt(l *loop, when int64) {
	if !s.timed {
		s.timed = true
		l.at(when, senderTimer{s})
	}
}

// senderTimer is the one timer of a sender.
type senderTimer struct{ *sender }

func (t senderTimer) work(l *loop) {
	t.timed = false
	t.sender.work(l)
}

// send appends the next message to the loop's burst.
func (s *sender) send(l *loop, due int64) {
	s.seq++
	stamp{sender: s.index, seq: s.seq, due: due}.put(s.packet[s.payloadAt:])
	if s.run.QoS > 0 {
		id := s.ids[0]
		s.ids = s.ids[1:]
		s.sent[id-1] = sentMessage{due: due, seq: s.seq}
		s.packet[s.idAt], s.packet[s.idAt+1] = byte(id>>8), byte(id)
	}
	if s.slots != nil {
		sl := &s.slots[int(s.seq)&(len(s.slots)-1)]
		left := s.run.readers
		if s.run.QoS > 0 {
			left++ // its acknowledgement
		}
		sl.left.Store(int32(left))
		sl.seq.Store(s.seq)
	}
	m := l.meter
	m.published.Add(1)
	m.expected.Add(int64(s.run.readers))
	l.burst = append(l.burst, s.packet...)
}

func (s *sender) opened(*session) {}

func (s *sender) delivered(own *session, p *publishPacket) {
	st, ok := s.take(own, p)
	if ok && st.sender == s.index {
		s.done(own.conn.loop)
	}
}

func (s *sender) acknowledged(own *session, id uint16, code byte, reason string) {
	l := own.conn.loop
	if id == 0 || int(id) > len(s.sent) || s.sent[id-1].due == 0 {
		l.meter.problem(fmt.Errorf("PUBACK for packet identifier %d, which is not under way", id))
		return
	}
	sent := s.sent[id-1]
	s.sent[id-1] = sentMessage{}
	s.ids = append(s.ids, id)
	if code >= 0x80 {
		l.meter.refused.Add(1)
		l.meter.problem(fmt.Errorf("PUBACK 0x%02X %s", code, reason))
		l.meter.expected.Add(-int64(s.run.readers))
		s.forget(l, sent.seq)
		return
	}
	l.meter.acked.Add(1)
	l.meter.ack.record(sent.due, l.readAt)
	switch {
	case s.interval > 0:
		if s.starved {
			s.starved = false
			s.ask(l)
		}
	case s.slots != nil:
		s.confirm(l, sent.seq)
	case s.run.Wait == WaitOwn:
		s.ask(l) // for the packet identifier; its own copy counts
	default:
		s.done(l)
	}
}

// forget takes a refused message out of the closed loop.
func (s *sender) forget(l *loop, seq uint32) {
	if s.slots != nil && !s.slots[int(seq)&(len(s.slots)-1)].seq.CompareAndSwap(seq, 0) {
		return
	}
	if s.interval == 0 {
		s.done(l)
	} else {
		s.ask(l)
	}
}

// arrived is called on the loop of a receiver that got a message.
func (s *sender) arrived(l *loop, seq uint32) {
	if s.slots != nil {
		s.confirm(l, seq)
	}
}

func (s *sender) confirm(l *loop, seq uint32) {
	sl := &s.slots[int(seq)&(len(s.slots)-1)]
	if sl.seq.Load() != seq || sl.left.Add(-1) != 0 {
		return
	}
	sl.seq.Store(0)
	s.done(l)
}

// done counts a message of the closed loop as through; l is the loop that noticed.
func (s *sender) done(l *loop) {
	s.underWay.Add(-1)
	s.lastDone.Store(l.readAt)
	s.ask(l)
}

// ask has the sender look again for what it may send, after what l is reading now.
func (s *sender) ask(l *loop) {
	own := s.session.conn.loop
	if own == l {
		if !s.queued {
			s.queued = true
			l.soon(s)
		}
		return
	}
	if s.wakeup.CompareAndSwap(false, true) {
		own.post(func() { s.work(own) })
	}
}

// abandon gives up on messages that nobody has completed for too long, so that a broker that loses one does not end
// the run.
func (s *sender) abandon(now int64) {
	if s.underWay.Load() == 0 || now-s.lastDone.Load() < int64(s.run.LostAfter) {
		return
	}
	l := s.session.conn.loop
	for i := range s.slots {
		if s.slots[i].seq.Swap(0) != 0 {
			l.meter.abandoned.Add(1)
			s.underWay.Add(-1)
		}
	}
	s.lastDone.Store(now)
	s.ask(l)
}

// giveUp counts what was due and has not been sent.
func (s *sender) giveUp() {
	if s.interval > 0 && s.started && !s.finished.Load() {
		for s.dueAt(s.due) < s.stopAt {
			s.due++
			s.session.conn.loop.meter.unsent.Add(1)
		}
	}
	s.finished.Store(true)
}

func (s *sender) lost(*session, error) { s.finished.Store(true) }
