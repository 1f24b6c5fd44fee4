package broker

import (
	"encoding/binary"
	"strings"
	"unicode"
)

// The packet types and reason codes that we write ourselves.
const (
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubcomp    = 7
	typeSuback     = 9
	typeUnsuback   = 11
	typeDisconnect = 14
)

// Reason codes of MQTT 5.
const (
	codeSuccess             byte = 0x00
	codeNoSubscription      byte = 0x11
	codeUnspecified         byte = 0x80
	codeMalformed           byte = 0x81
	codeProtocolError       byte = 0x82
	codeImplementation      byte = 0x83
	codeUnsupportedProtocol byte = 0x84
	codeBadClientID         byte = 0x85
	codeBadUserOrPassword   byte = 0x86
	codeNotAuthorized       byte = 0x87
	codeUnavailable         byte = 0x88
	codeShuttingDown        byte = 0x8B
	codeBadAuthMethod       byte = 0x8C
	codeKeepAlive           byte = 0x8D
	codeTakenOver           byte = 0x8E
	codeBadFilter           byte = 0x8F
	codeBadTopic            byte = 0x90
	codeUnknownPacketID     byte = 0x92
	codeReceiveMaximum      byte = 0x93
	codeBadAlias            byte = 0x94
	codeTooLarge            byte = 0x95
	codeQuota               byte = 0x97
	codeAdministrative      byte = 0x98
	codeBadPayload          byte = 0x99
	codeNoRetain            byte = 0x9A
	codeNoShared            byte = 0x9E
	codeNoSubID             byte = 0xA1
)

const (
	maxPacketID  = 65535
	propReason   = 0x1F
	propUser     = 0x26
	propCorrData = 0x09
	// maxReason bounds a Reason String: it repeats what the client sent.
	maxReason = 512
)

// appendLength appends a variable byte integer.
func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// lengthOf is the size of n as a variable byte integer.
func lengthOf(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// appendPublish appends a PUBLISH at QoS 0 or 1 and returns the offset of its packet
// identifier, 0 at QoS 0. props are the encoded properties of MQTT 5 without their length.
func appendPublish(b []byte, v5 bool, qos byte, topic string, props, payload []byte) ([]byte, int) {
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	if v5 {
		n += lengthOf(len(props)) + len(props)
	}
	b = append(b, typePublish<<4|qos<<1)
	b = appendLength(b, n)
	b = appendString(b, topic)
	id := 0
	if qos > 0 {
		id = len(b)
		b = append(b, 0, 0)
	}
	if v5 {
		b = appendLength(b, len(props))
		b = append(b, props...)
	}
	return append(b, payload...), id
}

// A pair is a user property.
type pair struct{ key, value string }

// appendAck appends a PUBACK, PUBREC or PUBCOMP. Before MQTT 5 it has no code. Reason and
// user properties are left out for a client that asked for none ([MQTT-3.1.2-29]) or whose
// maximum packet size they would exceed ([MQTT-3.4.2-2], [MQTT-3.4.2-3]).
func (c *conn) appendAck(b []byte, kind byte, id uint16, code byte, reason string, user ...pair) []byte {
	b = append(b, kind<<4)
	n := 0
	if c.version == 5 && !c.terse {
		if reason != "" {
			reason = clip(reason)
			n += 3 + len(reason)
		}
		for _, p := range user {
			n += 5 + len(p.key) + len(p.value)
		}
		if c.maxPacket > 0 && n+8 > c.maxPacket {
			n = 0
		}
	}
	switch {
	case c.version < 5 || code == codeSuccess && n == 0:
		b = append(b, 2)
		return binary.BigEndian.AppendUint16(b, id)
	case n == 0:
		b = append(b, 3)
		b = binary.BigEndian.AppendUint16(b, id)
		return append(b, code)
	}
	b = appendLength(b, 3+lengthOf(n)+n)
	b = binary.BigEndian.AppendUint16(b, id)
	b = append(b, code)
	b = appendLength(b, n)
	if reason != "" {
		b = append(b, propReason)
		b = appendString(b, reason)
	}
	for _, p := range user {
		b = append(b, propUser)
		b = appendString(b, p.key)
		b = appendString(b, p.value)
	}
	return b
}

// appendCodes appends a SUBACK or UNSUBACK; an UNSUBACK before MQTT 5 has no codes.
func (c *conn) appendCodes(b []byte, kind byte, id uint16, codes []byte, reason string) []byte {
	b = append(b, kind<<4)
	if c.version < 5 {
		if kind == typeUnsuback {
			codes = nil
		}
		b = appendLength(b, 2+len(codes))
		b = binary.BigEndian.AppendUint16(b, id)
		return append(b, codes...)
	}
	n := 0
	if reason != "" && !c.terse {
		reason = clip(reason)
		n = 3 + len(reason)
	}
	if c.maxPacket > 0 && n+len(codes)+8 > c.maxPacket {
		n = 0
	}
	b = appendLength(b, 2+lengthOf(n)+n+len(codes))
	b = binary.BigEndian.AppendUint16(b, id)
	b = appendLength(b, n)
	if n > 0 {
		b = append(b, propReason)
		b = appendString(b, reason)
	}
	return append(b, codes...)
}

// appendDisconnect appends a DISCONNECT with a reason; only MQTT 5 has it from the server. The
// reason is left out where it would not fit, and the packet too, for a client that takes none of
// that size ([MQTT-3.14.2-3], [MQTT-3.1.2-24]).
func (c *conn) appendDisconnect(b []byte, code byte, reason string) []byte {
	reason = clip(reason)
	n := 3 + len(reason)
	switch {
	case c.maxPacket > 0 && c.maxPacket < 4:
		return b
	case c.maxPacket > 0 && c.maxPacket < n+8:
		return append(b, typeDisconnect<<4, 2, code, 0)
	}
	b = append(b, typeDisconnect<<4)
	b = appendLength(b, 1+lengthOf(n)+n)
	b = append(b, code)
	b = appendLength(b, n)
	b = append(b, propReason)
	return appendString(b, reason)
}

// clip bounds a Reason String and keeps it one that MQTT takes: UTF-8 without control characters,
// which the app's own text may have.
func clip(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		s = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, s)
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxReason {
		return s
	}
	i := maxReason
	for i > 0 && s[i]&0xC0 == 0x80 { // not within a rune
		i--
	}
	return s[:i]
}
