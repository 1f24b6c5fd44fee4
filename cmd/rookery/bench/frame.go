package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errMalformed is what every decoder here answers to bytes that are not the packet they should be.
var errMalformed = errors.New("malformed MQTT packet")

// A frame is one control packet as it lies in the read buffer: valid until the next read.
type frame struct {
	first byte // packet type and flags
	body  []byte
}

func (f frame) kind() byte { return f.first >> 4 }

// splitFrame cuts the first control packet off b. It returns n = 0 when b holds only the beginning of one.
func splitFrame(b []byte) (f frame, n int, err error) {
	if len(b) < 2 {
		return frame{}, 0, nil
	}
	size, used, err := varint(b[1:])
	if err != nil || used == 0 {
		return frame{}, 0, err
	}
	end := 1 + used + size
	if end > len(b) {
		return frame{}, 0, nil
	}
	return frame{first: b[0], body: b[1+used : end]}, end, nil
}

// varint reads a variable byte integer. It returns used = 0 when b ends too early.
func varint(b []byte) (value, used int, err error) {
	for i := range b {
		value |= int(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			return value, i + 1, nil
		}
		if i == 3 {
			return 0, 0, fmt.Errorf("%w: a length of more than four bytes", errMalformed)
		}
	}
	return 0, 0, nil
}

// publishPacket is a received PUBLISH; its slices lie in the read buffer.
type publishPacket struct {
	QoS     byte
	DUP     bool
	ID      uint16 // zero at QoS 0
	Topic   []byte
	Payload []byte
}

func parsePublish(version byte, f frame) (publishPacket, error) {
	p := publishPacket{QoS: f.first >> 1 & 3, DUP: f.first&8 != 0}
	r := reader{b: f.body}
	p.Topic = r.field()
	if p.QoS > 0 {
		p.ID = r.uint16()
	}
	if version == mqtt5 {
		r.take(r.varint())
	}
	if r.bad || p.QoS == 3 || p.QoS > 0 && p.ID == 0 {
		return publishPacket{}, fmt.Errorf("%w: PUBLISH", errMalformed)
	}
	p.Payload = r.b
	return p, nil
}

// connack is the broker's answer to CONNECT. Absent properties are zero.
type connack struct {
	Code            byte
	Reason          string
	ReceiveMaximum  uint16
	ServerKeepAlive uint16
	keepAliveGiven  bool // a Server Keep Alive of zero switches it off
}

// MQTT 5 property identifiers that are acted upon.
const (
	propServerKeepAlive = 0x13
	propReasonString    = 0x1F
	propReceiveMaximum  = 0x21
)

func parseConnack(version byte, f frame) (connack, error) {
	r := reader{b: f.body}
	r.byte() // session present: never, as the session is clean
	a := connack{Code: r.byte()}
	if version == mqtt5 && len(r.b) > 0 {
		r.properties(func(id byte, value uint32, text []byte) {
			switch id {
			case propServerKeepAlive:
				a.ServerKeepAlive, a.keepAliveGiven = uint16(value), true
			case propReceiveMaximum:
				a.ReceiveMaximum = uint16(value)
			case propReasonString:
				a.Reason = string(text)
			}
		})
	}
	if r.bad || len(r.b) > 0 {
		return connack{}, fmt.Errorf("%w: CONNACK", errMalformed)
	}
	return a, nil
}

// parseSuback returns the packet identifier and one code for each filter.
func parseSuback(version byte, f frame) (id uint16, codes []byte, err error) {
	r := reader{b: f.body}
	id = r.uint16()
	if version == mqtt5 {
		r.take(r.varint())
	}
	if r.bad || len(r.b) == 0 {
		return 0, nil, fmt.Errorf("%w: SUBACK", errMalformed)
	}
	return id, r.b, nil
}

// parsePuback returns the packet identifier and the reason code, which is success when it is left out. It does not
// allocate unless there is a reason string.
func parsePuback(version byte, f frame) (id uint16, code byte, reason string, err error) {
	r := reader{b: f.body}
	id = r.uint16()
	if version == mqtt5 && len(r.b) > 0 {
		code, reason = r.reason()
	}
	if r.bad || id == 0 || len(r.b) > 0 {
		return 0, 0, "", fmt.Errorf("%w: PUBACK", errMalformed)
	}
	return id, code, reason, nil
}

// parseDisconnect returns why an MQTT 5 broker ends the connection.
func parseDisconnect(f frame) (code byte, reason string, err error) {
	r := reader{b: f.body}
	if len(r.b) > 0 {
		code, reason = r.reason()
	}
	if r.bad || len(r.b) > 0 {
		return 0, "", fmt.Errorf("%w: DISCONNECT", errMalformed)
	}
	return code, reason, nil
}

// A reader takes fields off the front of a packet body. After a field that is not there, bad stays set and every
// further field is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) field() []byte { return r.take(int(r.uint16())) }

func (r *reader) varint() int {
	value, used, err := varint(r.b)
	if err != nil || used == 0 {
		r.bad = true
		return 0
	}
	r.take(used)
	return value
}

// reason reads a reason code and, when properties follow, the reason string among them.
func (r *reader) reason() (code byte, text string) {
	code = r.byte()
	if len(r.b) > 0 {
		r.properties(func(id byte, _ uint32, value []byte) {
			if id == propReasonString {
				text = string(value)
			}
		})
	}
	return code, text
}

// properties reads a property block and calls visit with each property's number or text.
func (r *reader) properties(visit func(id byte, value uint32, text []byte)) {
	block := reader{b: r.take(r.varint())}
	for !r.bad && len(block.b) > 0 {
		id := block.byte()
		var value uint32
		var text []byte
		switch id {
		case 0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A:
			value = uint32(block.byte())
		case 0x13, 0x21, 0x22, 0x23:
			value = uint32(block.uint16())
		case 0x02, 0x11, 0x18, 0x27:
			value = uint32(block.uint16())<<16 | uint32(block.uint16())
		case 0x0B:
			value = uint32(block.varint())
		case 0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F:
			text = block.field()
		case 0x26: // user property: name and value
			block.field()
			block.field()
		default:
			block.bad = true
		}
		if block.bad {
			r.bad = true
			return
		}
		visit(id, value, text)
	}
}
