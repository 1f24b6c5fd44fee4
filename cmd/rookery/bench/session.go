package bench

import (
	"errors"
	"fmt"
	"time"
)

// A role is what a session does once it is connected and subscribed. All calls come from the session's loop; p and
// its slices are valid during the call.
type role interface {
	opened(s *session)
	delivered(s *session, p *publishPacket)
	acknowledged(s *session, id uint16, code byte, reason string)
	lost(s *session, err error)
}

// A bystander is a role that only stays connected.
type bystander struct{}

func (bystander) opened(*session)                             {}
func (bystander) delivered(*session, *publishPacket)          {}
func (bystander) acknowledged(*session, uint16, byte, string) {}
func (bystander) lost(*session, error)                        {}

type phase int8

const (
	phaseNew phase = iota
	phaseConnecting
	phaseSubscribing
	phaseOpen
	phaseClosed
)

// A session is one MQTT client.
type session struct {
	connect connectPacket
	filters []string // subscribed before the session counts as open
	qos     byte     // of the subscriptions
	role    role
	opener  *opener

	conn      *conn
	phase     phase
	inFlight  int // the broker's Receive Maximum: how many publishes it takes unacknowledged
	keepAlive time.Duration
	lastID    uint16 // of the last request
	wroteAt   int64
	dialledAt int64
}

func (s *session) meter() *meter { return s.conn.loop.meter }

func (s *session) write(b []byte) {
	s.conn.write(b)
}

func (s *session) connected(c *conn) {
	s.write(appendConnect(nil, s.connect))
}

func (s *session) closed(_ *conn, err error) {
	before := s.phase
	s.phase = phaseClosed
	if before < phaseOpen {
		s.opener.failed(s, err)
		return
	}
	m := s.meter()
	m.disconnects.Add(1)
	m.problem(err)
	s.role.lost(s, err)
}

// end closes the connection in good order.
func (s *session) end() {
	if s.conn != nil && s.conn.fd >= 0 {
		s.write(disconnect)
		s.conn.drop()
	}
	s.phase = phaseClosed
}

func (s *session) consume(c *conn, b []byte) (int, error) {
	l := c.loop
	l.acks = l.acks[:0]
	used := 0
	for {
		f, n, err := splitFrame(b[used:])
		if err != nil || n == 0 {
			s.write(l.acks)
			return used, err
		}
		used += n
		if err := s.packet(l, f); err != nil {
			s.write(l.acks)
			return used, err
		}
		if c.fd < 0 {
			return used, nil
		}
	}
}

func (s *session) packet(l *loop, f frame) error {
	switch f.kind() {
	case typePublish:
		p, err := parsePublish(s.connect.Version, f)
		if err != nil {
			return err
		}
		switch p.QoS {
		case 1:
			l.acks = appendPuback(l.acks, p.ID)
		case 2:
			return errors.New("the broker delivers at QoS 2, which nobody asked for")
		}
		s.role.delivered(s, &p)
	case typePuback:
		id, code, reason, err := parsePuback(s.connect.Version, f)
		if err != nil {
			return err
		}
		s.role.acknowledged(s, id, code, reason)
	case typeConnack:
		return s.connack(f)
	case typeSuback:
		return s.suback(f)
	case typePingresp:
	case typeDisconnect:
		code, reason, err := parseDisconnect(f)
		if err != nil {
			return err
		}
		return fmt.Errorf("the broker sent DISCONNECT 0x%02X %s", code, reason)
	default:
		return fmt.Errorf("%w: unexpected packet type %d", errMalformed, f.kind())
	}
	return nil
}

func (s *session) connack(f frame) error {
	a, err := parseConnack(s.connect.Version, f)
	if err != nil {
		return err
	}
	if a.Code != 0 {
		return fmt.Errorf("connection refused with 0x%02X %s", a.Code, a.Reason)
	}
	if s.phase != phaseConnecting {
		return fmt.Errorf("%w: a second CONNACK", errMalformed)
	}
	s.inFlight = 65535
	if a.ReceiveMaximum > 0 {
		s.inFlight = int(a.ReceiveMaximum)
	}
	keepAlive := s.connect.KeepAlive
	if a.keepAliveGiven {
		keepAlive = a.ServerKeepAlive
	}
	s.keepAlive = time.Duration(keepAlive) * time.Second
	s.wroteAt = s.conn.loop.now()
	if len(s.filters) == 0 {
		s.open()
		return nil
	}
	s.phase = phaseSubscribing
	s.write(appendSubscribe(nil, s.connect.Version, 1, s.qos, s.filters...))
	return nil
}

func (s *session) suback(f frame) error {
	_, codes, err := parseSuback(s.connect.Version, f)
	if err != nil {
		return err
	}
	for i, code := range codes {
		if code > 2 {
			return fmt.Errorf("subscription to %s refused with 0x%02X", s.filters[min(i, len(s.filters)-1)], code)
		}
	}
	s.open()
	return nil
}

func (s *session) open() {
	s.phase = phaseOpen
	s.role.opened(s)
	s.opener.opened(s)
}

// request calls a command of Rookery. The reply may overtake the acknowledgement, so every request has a packet
// identifier of its own.
func (s *session) request(command string, body []byte) {
	s.lastID = s.lastID%65535 + 1
	s.write(appendPublish(nil, s.connect.Version, 1, s.lastID, "rpc/"+command, body))
}

// ping keeps the session alive: a loop calls it on every tick.
func (s *session) ping(now int64) {
	if s.phase == phaseOpen && s.keepAlive > 0 && now-s.wroteAt > int64(s.keepAlive)/2 {
		s.wroteAt = now
		s.write(pingreq)
	}
}
