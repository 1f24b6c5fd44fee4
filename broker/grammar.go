package broker

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A grammar looks at each packet that a client sends before mochi does, which reads much that
// MQTT forbids and cannot read some that MQTT allows.
type grammar struct {
	max     int    // bytes of the largest packet; 0: nothing is looked at
	version byte   // of MQTT; 0 until CONNECT was read
	expiry  uint32 // the session expiry interval that CONNECT asked for
	parting byte   // the reason code of DISCONNECT
	fault   *fault // of the packet at which the stream has ended for us
}

// A fault is why a packet is no packet of MQTT.
type fault struct {
	code   byte // the reason code of MQTT 5
	reason string
	form   byte // in which CONNACK is due, as a protocol level; 0: none, the connection is closed without a word
}

func malformed(reason string) *fault { return &fault{code: codeMalformed, reason: reason} }

func protocolError(reason string) *fault { return &fault{code: codeProtocolError, reason: reason} }

var errShort = malformed("the packet ends too early")

// start looks at a fixed header: first is its first byte, size that of the whole packet.
func (g *grammar) start(first byte, size int) *fault {
	kind, flags := first>>4, first&0x0F
	switch {
	case size > g.max: // [MQTT-3.2.2-15]
		return &fault{code: codeTooLarge, reason: "the packet is larger than the server's Maximum Packet Size"}
	case g.version == 0 && kind != packets.Connect: // [MQTT-3.1.0-1]
		return protocolError("the first packet must be CONNECT")
	}
	want := byte(0)
	switch kind {
	case packets.Publish:
		qos := flags >> 1 & 3
		if qos == 3 || qos == 0 && flags&8 != 0 { // [MQTT-3.3.1-4], [MQTT-3.3.1-2]
			return malformed("a PUBLISH has QoS 3, or DUP at QoS 0")
		}
		return nil
	case packets.Pubrel, packets.Subscribe, packets.Unsubscribe:
		want = 2
	case packets.Connect:
		if g.version != 0 { // [MQTT-3.1.0-2]
			return protocolError("a second CONNECT")
		}
	case packets.Puback, packets.Pubrec, packets.Pubcomp, packets.Pingreq, packets.Disconnect:
	case packets.Auth:
		if g.version == 5 { // [MQTT-4.12.0-7]
			return protocolError("extended authentication is not offered")
		}
		return malformed("no such packet type")
	case packets.Reserved:
		return malformed("no such packet type")
	default:
		return protocolError("only servers send packets of this type")
	}
	if flags != want { // [MQTT-2.1.3-1]
		return malformed("reserved flags of the fixed header")
	}
	return nil
}

// body looks at what follows the fixed header. Of a PUBLISH it may be the beginning; then the
// fault is errShort if more of it is needed.
func (g *grammar) body(first byte, body []byte) *fault {
	f := &fields{rest: body}
	switch kind := first >> 4; kind {
	case packets.Connect:
		return g.connect(f)
	case packets.Publish:
		return g.publish(f, first>>1&3)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		if err := f.identifier(); err != nil {
			return err
		}
		if g.version == 5 && len(f.rest) > 0 {
			f.byte()
			if len(f.rest) > 0 {
				f.properties(inAck)
			}
		}
		return f.end()
	case packets.Subscribe:
		return g.subscribe(f)
	case packets.Unsubscribe:
		return g.unsubscribe(f)
	case packets.Disconnect:
		return g.disconnect(f)
	}
	return f.end() // PINGREQ
}

func (g *grammar) connect(f *fields) *fault {
	name, level := f.binary(), f.byte()
	switch {
	case f.fault != nil:
		return f.fault
	case string(name) == "MQTT" && (level == 4 || level == 5):
	default:
		return unsupported(string(name), level, *f)
	}
	method := g.connectFields(f, level)
	err := f.end()
	switch {
	case err == nil && method:
		err = &fault{code: codeBadAuthMethod, reason: "extended authentication is not offered"} // [MQTT-4.12.0-1]
	case err == nil:
		g.version = level
		return nil
	}
	if level == 5 { // before MQTT 5 there is no CONNACK then [MQTT-3.1.4-1]
		err = &fault{err.code, err.reason, level}
	}
	return err
}

// unsupported refuses a protocol. Of a level that is yet to come nobody knows which form of
// CONNACK its client reads: it is the one that CONNECT is in.
func unsupported(name string, level byte, rest fields) *fault {
	no := &fault{code: codeUnsupportedProtocol, reason: "MQTT 3.1.1 and 5 are spoken here"}
	switch {
	case name == "MQTT" && level < 4 || name == "MQIsdp": // [MQTT-3.1.2-2]
		no.form = 4
	case name == "MQTT":
		no.form = 5
		if (&grammar{}).connectFields(&rest, 4); rest.end() == nil {
			no.form = 4
		}
	case level == 5:
		no.form = 5
	}
	return no
}

// connectFields looks at CONNECT from its flags on, and reports whether it names an
// authentication method.
func (g *grammar) connectFields(f *fields, level byte) (method bool) {
	flags := f.byte()
	f.bytes(2) // keep alive
	will, qos, retain := flags&0x04 != 0, flags>>3&3, flags&0x20 != 0
	user, password := flags&0x80 != 0, flags&0x40 != 0
	switch {
	case flags&1 != 0: // [MQTT-3.1.2-3]
		f.no(malformed("the reserved flag of CONNECT is set"))
	case qos == 3 || !will && (qos != 0 || retain): // [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13]
		f.no(malformed("the will flags contradict each other"))
	case level < 5 && password && !user: // [MQTT-3.1.2-22] of MQTT 3.1.1
		f.no(malformed("a password without a user name"))
	}
	if level == 5 {
		p := f.properties(inConnect)
		method, g.expiry = p.has(propAuthMethod), p.expiry
		if p.has(propAuthData) && !method {
			f.no(protocolError("authentication data without a method"))
		}
	}
	f.text() // client identifier
	if will {
		if level == 5 {
			f.properties(inWill)
		}
		f.text()
		f.binary()
	}
	if user {
		f.text()
	}
	if password {
		f.binary()
	}
	return method
}

func (g *grammar) publish(f *fields, qos byte) *fault {
	f.text()
	if qos > 0 {
		if err := f.identifier(); err != nil { // [MQTT-2.2.1-3]
			return err
		}
	}
	if g.version == 5 {
		f.properties(inPublish)
	}
	return f.fault
}

func (g *grammar) subscribe(f *fields) *fault {
	if err := f.identifier(); err != nil {
		return err
	}
	if g.version == 5 {
		f.properties(inSubscribe)
	}
	n := 0
	for ; len(f.rest) > 0 && f.fault == nil; n++ {
		filter, options := f.text(), f.byte()
		switch {
		case f.fault != nil:
		case g.version < 5:
			if options > 2 { // [MQTT-3.8.3-4] of MQTT 3.1.1
				return malformed("reserved bits of a QoS")
			}
		case options&0xC0 != 0: // [MQTT-3.8.3-5]
			return malformed("reserved bits of the subscription options")
		case options&3 == 3 || options>>4&3 == 3:
			return protocolError("a subscription has QoS 3 or Retain Handling 3")
		case options&4 != 0 && bytes.HasPrefix(filter, []byte("$share/")): // [MQTT-3.8.3-4]
			return protocolError("No Local on a shared subscription")
		}
	}
	if n == 0 && f.fault == nil { // [MQTT-3.8.3-2]
		return protocolError("a SUBSCRIBE needs a packet identifier and a topic filter")
	}
	return f.fault
}

func (g *grammar) unsubscribe(f *fields) *fault {
	if err := f.identifier(); err != nil {
		return err
	}
	if g.version == 5 {
		f.properties(inUnsubscribe)
	}
	n := 0
	for ; len(f.rest) > 0 && f.fault == nil; n++ {
		f.text()
	}
	if n == 0 && f.fault == nil { // [MQTT-3.10.3-2]
		return protocolError("an UNSUBSCRIBE needs a packet identifier and a topic filter")
	}
	return f.fault
}

func (g *grammar) disconnect(f *fields) *fault {
	code := codeSuccess
	if g.version == 5 && len(f.rest) > 0 {
		code = f.byte()
		if len(f.rest) > 0 {
			if p := f.properties(inDisconnect); p.expiry > 0 && g.expiry == 0 {
				f.no(protocolError("a session that was to end with the connection cannot be prolonged"))
			}
		}
	}
	g.parting = code
	return f.end()
}

// fields reads the fields of a packet. After the first fault it reads nothing but zeros.
type fields struct {
	rest  []byte
	fault *fault
}

func (f *fields) no(why *fault) {
	if f.fault == nil {
		f.fault = why
	}
	f.rest = nil
}

// end is for a packet that must be over.
func (f *fields) end() *fault {
	if len(f.rest) > 0 {
		f.no(malformed("the packet is longer than its fields"))
	}
	return f.fault
}

func (f *fields) bytes(n int) []byte {
	if len(f.rest) < n {
		f.no(errShort)
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) uint16() uint16 {
	if b := f.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (f *fields) uint32() uint32 {
	if b := f.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) binary() []byte { return f.bytes(int(f.uint16())) }

// text reads a UTF-8 string ([MQTT-1.5.4-1], [MQTT-1.5.4-2]).
func (f *fields) text() []byte {
	b := f.binary()
	if !utf8.Valid(b) || slices.Contains(b, 0) {
		f.no(malformed("a string is not UTF-8 or has a NUL"))
	}
	return b
}

// identifier reads a packet identifier, which is never 0.
func (f *fields) identifier() *fault {
	if f.uint16() == 0 {
		f.no(protocolError("a packet identifier is 0"))
	}
	return f.fault
}

// length reads a variable byte integer in its one encoding ([MQTT-1.5.5-1]).
func (f *fields) length() int {
	n := 0
	for i := range 4 {
		b := f.byte()
		n |= int(b&0x7F) << (7 * i)
		if b&0x80 == 0 {
			if i > 0 && b == 0 {
				break
			}
			return n
		}
	}
	f.no(malformed("a variable byte integer"))
	return 0
}

// Where a client may use a property.
const (
	inConnect uint8 = 1 << iota
	inWill
	inPublish
	inAck
	inSubscribe
	inUnsubscribe
	inDisconnect
)

// The properties that we know by name.
const (
	propPayloadFormat = 0x01
	propSubID         = 0x0B
	propExpiry        = 0x11
	propAuthMethod    = 0x15
	propAuthData      = 0x16
	propProblemInfo   = 0x17
	propResponseInfo  = 0x19
	propReceiveMax    = 0x21
	propMaxPacket     = 0x27
)

// clientProperties is what clients may send: the type of the value, and where.
var clientProperties = [...]struct{ kind, in uint8 }{
	propPayloadFormat: {kindByte, inPublish | inWill},
	0x02:              {kindFour, inPublish | inWill}, // message expiry interval
	0x03:              {kindText, inPublish | inWill}, // content type
	0x08:              {kindText, inPublish | inWill}, // response topic
	propCorrData:      {kindBinary, inPublish | inWill},
	propSubID:         {kindLength, inSubscribe},
	propExpiry:        {kindFour, inConnect | inDisconnect},
	propAuthMethod:    {kindText, inConnect},
	propAuthData:      {kindBinary, inConnect},
	propProblemInfo:   {kindByte, inConnect},
	0x18:              {kindFour, inWill}, // will delay interval
	propResponseInfo:  {kindByte, inConnect},
	propReason:        {kindText, inAck | inDisconnect},
	propReceiveMax:    {kindTwo, inConnect},
	0x22:              {kindTwo, inConnect}, // topic alias maximum
	0x23:              {kindTwo, inPublish}, // topic alias
	propUser:          {kindPair, 0xFF},
	propMaxPacket:     {kindFour, inConnect},
}

const (
	kindByte = iota + 1
	kindTwo
	kindFour
	kindLength
	kindText
	kindBinary
	kindPair
)

// seenProperties is which properties a packet has.
type seenProperties struct {
	ids    uint64
	expiry uint32
}

func (p seenProperties) has(id byte) bool { return p.ids&(1<<id) != 0 }

// properties reads the properties of a packet, with their length.
func (f *fields) properties(in uint8) (p seenProperties) {
	all := f.bytes(f.length())
	if len(all) == 0 {
		return p
	}
	inner := fields{rest: all}
	for len(inner.rest) > 0 {
		id := inner.byte()
		switch {
		case id == propSubID && in == inPublish: // [MQTT-3.3.4-6]
			inner.no(protocolError("a PUBLISH from a client has no subscription identifier"))
		case int(id) >= len(clientProperties) || clientProperties[id].in&in == 0:
			inner.no(malformed("a property that has no place in this packet"))
		case p.has(id) && id != propUser:
			inner.no(protocolError("a property stands twice"))
		}
		if inner.fault != nil {
			break
		}
		p.ids |= 1 << id
		n, bounded := inner.value(clientProperties[id].kind)
		switch id {
		case propExpiry:
			p.expiry = n
		case propReceiveMax, propMaxPacket, propSubID:
			if n == 0 && bounded {
				inner.no(protocolError("Receive Maximum, Maximum Packet Size and Subscription Identifier are never 0"))
			}
		case propPayloadFormat, propProblemInfo, propResponseInfo:
			if n > 1 {
				inner.no(protocolError("a property that is 0 or 1 has another value"))
			}
		}
	}
	switch {
	case inner.fault == errShort:
		f.no(malformed("a property is longer than the properties"))
	case inner.fault != nil:
		f.no(inner.fault)
	}
	return p
}

// value reads a property's value, and returns it if it is a number.
func (f *fields) value(kind uint8) (n uint32, number bool) {
	switch kind {
	case kindByte:
		n = uint32(f.byte())
	case kindTwo:
		n = uint32(f.uint16())
	case kindFour:
		n = f.uint32()
	case kindLength:
		n = uint32(f.length())
	case kindPair:
		f.text()
		f.text()
	case kindText:
		f.text()
	default:
		f.binary()
	}
	return n, f.fault == nil && kind <= kindLength
}

// appendConnack appends the CONNACK that tells a fault of CONNECT, in the form of a protocol level.
func (e *fault) appendConnack(b []byte) []byte {
	switch e.form {
	case 4:
		return append(b, typeConnack<<4, 2, 0, returnCode(e.code))
	case 5:
		reason := strconv.Itoa(codeBadLogin) + " " + e.reason // as every refusal of a login
		n := 3 + len(reason)
		b = append(b, typeConnack<<4)
		b = appendLength(b, 2+lengthOf(n)+n)
		b = append(b, 0, e.code)
		b = appendLength(b, n)
		b = append(b, propReason)
		return appendString(b, reason)
	}
	return b
}
