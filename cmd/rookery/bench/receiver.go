package bench

// A receiver is a member of a group that counts what it gets.
type receiver struct {
	run  *trafficRun
	base int      // index of the first sender of its group
	last []uint32 // by sender of the group: the highest sequence received
}

func newReceiver(r *trafficRun, group int) *receiver {
	return &receiver{run: r, base: group * r.Senders, last: make([]uint32, r.Senders)}
}

func (*receiver) opened(*session)                             {}
func (*receiver) acknowledged(*session, uint16, byte, string) {}
func (*receiver) lost(*session, error)                        {}

func (r *receiver) delivered(s *session, p *publishPacket) {
	r.take(s, p)
}

// take counts a delivery and returns its stamp; it is false for one that does not count.
func (r *receiver) take(s *session, p *publishPacket) (stamp, bool) {
	m := s.meter()
	st, ok := findStamp(r.run.run, p.Payload)
	at := st.sender - r.base
	if !ok || at < 0 || at >= len(r.last) {
		m.other.Add(1)
		return stamp{}, false
	}
	switch last := r.last[at]; {
	case st.seq <= last:
		m.repeated.Add(1)
		return stamp{}, false
	case st.seq > last+1:
		m.missed.Add(int64(st.seq - last - 1))
	}
	r.last[at] = st.seq
	m.delivered.Add(1)
	m.delivery.record(st.due, s.conn.loop.readAt)
	r.run.senders[st.sender].arrived(s.conn.loop, st.seq)
	return st, true
}
