package bench

import "encoding/binary"

// Protocol levels as CONNECT carries them.
const (
	mqtt311 = 4
	mqtt5   = 5
)

// Packet types of the control packets that a client sends or receives.
const (
	typeConnect    = 1
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typeSubscribe  = 8
	typeSuback     = 9
	typePingreq    = 12
	typePingresp   = 13
	typeDisconnect = 14
)

var (
	pingreq    = []byte{typePingreq << 4, 0}
	disconnect = []byte{typeDisconnect << 4, 0}
)

// connectPacket is what a run says about itself in CONNECT. The session is always a clean one.
type connectPacket struct {
	Version            byte // mqtt311 or mqtt5
	ClientID           string
	Username, Password string // both absent when Username is empty
	KeepAlive          uint16 // seconds; zero switches it off
	ReceiveMaximum     uint16 // MQTT 5 only; zero leaves the property out, which means 65535
}

func appendConnect(b []byte, p connectPacket) []byte {
	var props []byte
	if p.ReceiveMaximum > 0 {
		props = append(props, propReceiveMaximum)
		props = binary.BigEndian.AppendUint16(props, p.ReceiveMaximum)
	}
	flags := byte(0x02) // clean session or clean start
	size := 10 + 2 + len(p.ClientID)
	if p.Version == mqtt5 {
		size += varintLen(len(props)) + len(props)
	}
	if p.Username != "" {
		flags |= 0xC0
		size += 2 + len(p.Username) + 2 + len(p.Password)
	}
	b = appendHeader(b, typeConnect<<4, size)
	b = appendString(b, "MQTT")
	b = append(b, p.Version, flags)
	b = binary.BigEndian.AppendUint16(b, p.KeepAlive)
	if p.Version == mqtt5 {
		b = appendVarint(b, len(props))
		b = append(b, props...)
	}
	b = appendString(b, p.ClientID)
	if p.Username != "" {
		b = appendString(b, p.Username)
		b = appendString(b, p.Password)
	}
	return b
}

func appendSubscribe(b []byte, version byte, id uint16, qos byte, filters ...string) []byte {
	size := 2
	if version == mqtt5 {
		size++ // no properties
	}
	for _, f := range filters {
		size += 2 + len(f) + 1
	}
	b = appendHeader(b, typeSubscribe<<4|2, size)
	b = binary.BigEndian.AppendUint16(b, id)
	if version == mqtt5 {
		b = append(b, 0)
	}
	for _, f := range filters {
		b = append(appendString(b, f), qos)
	}
	return b
}

// appendPublish appends a PUBLISH without properties. The packet identifier is left out at QoS 0.
func appendPublish(b []byte, version byte, qos byte, id uint16, topic string, payload []byte) []byte {
	size := 2 + len(topic) + len(payload)
	if qos > 0 {
		size += 2
	}
	if version == mqtt5 {
		size++
	}
	b = appendHeader(b, typePublish<<4|qos<<1, size)
	b = appendString(b, topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if version == mqtt5 {
		b = append(b, 0)
	}
	return append(b, payload...)
}

// appendPuback acknowledges with success; the short form serves both versions [MQTT-3.4.2-1].
func appendPuback(b []byte, id uint16) []byte {
	return append(b, typePuback<<4, 2, byte(id>>8), byte(id))
}

func appendHeader(b []byte, first byte, remaining int) []byte {
	return appendVarint(append(b, first), remaining)
}

func appendVarint(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func varintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}
