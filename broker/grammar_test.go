package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// packet adds the remaining length.
func packet(first byte, body string) []byte {
	return append(appendLength([]byte{first}, len(body)), body...)
}

// A packet that MQTT forbids ends its connection: in MQTT 5 with the reason code, before it
// without a word. Nothing of it, and nothing after it, is acted upon.
func TestForbiddenPackets(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	const topic, filter = "\x00\x09groups/g1", "\x00\x08groups/+"
	for _, c := range []struct {
		name  string
		bytes []byte
		code  byte // MQTT 5; 0: this is none of MQTT 5
		old   bool // MQTT 3.1.1 forbids the same bytes
	}{
		{"type 0", packet(0x00, ""), 0x81, true},
		{"AUTH", packet(0xF0, ""), 0x82, true},
		{"from a server: CONNACK", packet(0x20, "\x00\x00"), 0x82, true},
		{"from a server: SUBACK", packet(0x90, "\x00\x01\x00"), 0x82, true},
		{"from a server: UNSUBACK", packet(0xB0, "\x00\x01"), 0x82, true},
		{"from a server: PINGRESP", packet(0xD0, ""), 0x82, true},
		{"remaining length of five bytes", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, 0x81, true},
		{"larger than the maximum", []byte{0x30, 0xFD, 0xFF, 0x0F}, 0x95, true}, // 256 KiB and a byte

		{"PINGREQ with flags", packet(0xC1, ""), 0x81, true},
		{"PINGREQ with a body", packet(0xC0, "\x00"), 0x81, true},
		{"DISCONNECT with flags", packet(0xE1, ""), 0x81, true},
		{"DISCONNECT with a body before MQTT 5", packet(0xE0, "\x00"), 0, true},
		{"DISCONNECT with more than its fields", packet(0xE0, "\x00\x00\x00"), 0x81, true},
		{"DISCONNECT that prolongs the session", packet(0xE0, "\x00\x05\x11\x00\x00\x00\x09"), 0x82, true},
		{"PUBACK with flags", packet(0x42, "\x00\x01"), 0x81, true},
		{"PUBACK without an identifier", packet(0x40, "\x00"), 0x81, true},
		{"PUBACK with a code before MQTT 5", packet(0x40, "\x00\x01\x00"), 0, true},
		{"PUBACK with a wrong property", packet(0x40, "\x00\x01\x00\x03\x21\x00\x01"), 0x81, true},
		{"PUBREL without flags", packet(0x60, "\x00\x01"), 0x81, true},
		{"PUBREL with identifier 0", packet(0x62, "\x00\x00"), 0x82, true},
		{"PUBREL that is too short", packet(0x62, "\x00"), 0x81, true},

		{"SUBSCRIBE without flags", packet(0x80, "\x00\x01\x00"+filter+"\x00"), 0x81, true},
		{"SUBSCRIBE with identifier 0", packet(0x82, "\x00\x00\x00"+filter+"\x00"), 0x82, true},
		{"SUBSCRIBE without a filter", packet(0x82, "\x00\x01\x00"), 0x82, true},
		{"SUBSCRIBE with QoS 3", packet(0x82, "\x00\x01\x00"+filter+"\x03"), 0x82, true},
		{"SUBSCRIBE with QoS 3 before MQTT 5", packet(0x82, "\x00\x01"+filter+"\x03"), 0, true},
		{"SUBSCRIBE with No Local before MQTT 5", packet(0x82, "\x00\x01"+filter+"\x04"), 0, true},
		{"SUBSCRIBE with reserved bit 6", packet(0x82, "\x00\x01\x00"+filter+"\x40"), 0x81, true},
		{"SUBSCRIBE with reserved bit 7", packet(0x82, "\x00\x01\x00"+filter+"\x80"), 0x81, true},
		{"SUBSCRIBE with Retain Handling 3", packet(0x82, "\x00\x01\x00"+filter+"\x30"), 0x82, true},
		{"SUBSCRIBE whose second filter is wrong", packet(0x82, "\x00\x01\x00"+filter+"\x00"+filter+"\x40"), 0x81, true},
		{"SUBSCRIBE with No Local on a shared subscription", packet(0x82, "\x00\x01\x00\x00\x0A$share/a/b\x04"), 0x82, true},
		{"SUBSCRIBE with subscription identifier 0", packet(0x82, "\x00\x01\x02\x0B\x00"+filter+"\x00"), 0x82, true},
		{"SUBSCRIBE with two subscription identifiers", packet(0x82, "\x00\x01\x04\x0B\x01\x0B\x02"+filter+"\x00"), 0x82, true},
		{"SUBSCRIBE cut before the options", packet(0x82, "\x00\x01\x00"+filter), 0x81, true},
		{"SUBSCRIBE with a NUL", packet(0x82, "\x00\x01\x00\x00\x01\x00\x00"), 0x81, true},
		{"SUBSCRIBE that is not UTF-8", packet(0x82, "\x00\x01\x00\x00\x01\xFF\x00"), 0x81, true},
		{"UNSUBSCRIBE without flags", packet(0xA0, "\x00\x01\x00"+filter), 0x81, true},
		{"UNSUBSCRIBE with identifier 0", packet(0xA2, "\x00\x00\x00"+filter), 0x82, true},
		{"UNSUBSCRIBE without a filter", packet(0xA2, "\x00\x01\x00"), 0x82, true},
		{"UNSUBSCRIBE without a filter before MQTT 5", packet(0xA2, "\x00\x01"), 0, true},

		{"PUBLISH with QoS 3", packet(0x36, topic+"\x00\x01\x00x"), 0x81, true},
		{"PUBLISH with DUP at QoS 0", packet(0x38, topic+"\x00x"), 0x81, true},
		{"PUBLISH with identifier 0", packet(0x32, topic+"\x00\x00\x00x"), 0x82, true},
		{"PUBLISH without a topic", packet(0x32, "\x00\x00\x00\x01\x00x"), 0x82, true},
		{"PUBLISH with a NUL in its topic", packet(0x32, "\x00\x03a\x00b\x00\x01\x00x"), 0x81, true},
		{"PUBLISH with a topic that is not UTF-8", packet(0x32, "\x00\x02\xC3\x28\x00\x01\x00x"), 0x81, true},
		{"PUBLISH that is too short", packet(0x32, "\x00\x09group"), 0x81, true},
		{"PUBLISH with RETAIN", packet(0x33, topic+"\x00\x01\x00x"), 0x9A, false},
		{"PUBLISH with a topic alias", packet(0x32, topic+"\x00\x01\x03\x23\x00\x01x"), 0x94, false},
		{"PUBLISH with a subscription identifier", packet(0x32, topic+"\x00\x01\x02\x0B\x01x"), 0x82, false},
		{"PUBLISH with a property twice", packet(0x32, topic+"\x00\x01\x04\x01\x01\x01\x01x"), 0x82, false},
		{"PUBLISH with a payload format of 2", packet(0x32, topic+"\x00\x01\x02\x01\x02x"), 0x82, false},
		{"PUBLISH with an unknown property", packet(0x32, topic+"\x00\x01\x02\x7E\x02x"), 0x81, false},
		{"PUBLISH with a property of CONNECT", packet(0x32, topic+"\x00\x01\x03\x21\x00\x02x"), 0x81, false},
		{"PUBLISH whose last property is cut", packet(0x32, topic+"\x00\x01\x02\x02\x00xxx"), 0x81, false},
		{"PUBLISH whose properties are cut", packet(0x32, topic+"\x00\x01\x7F\x26"), 0x81, false},
		{"PUBLISH with a length of properties in two bytes for one", packet(0x32, topic+"\x00\x01\x80\x00x"), 0x81, false},
	} {
		for _, version := range []byte{4, 5} {
			if version == 5 && c.code == 0 || version == 4 && !c.old {
				continue
			}
			t.Run(fmt.Sprintf("%s/version=%d", c.name, version), func(t *testing.T) {
				cl := s.login(version, "alice", "phone")
				after := publishPacket(1, 9, "groups/g1", "after the fault")
				cl.raw(slices.Concat(packet(0xC0, ""), c.bytes, cl.encode(after)))
				cl.want(packets.Pingresp) // what came before is served
				for {
					pk, err := cl.read()
					switch {
					case err != nil:
						if version == 5 {
							t.Errorf("ended with %v, want DISCONNECT 0x%02X", err, c.code)
						} else if !errors.Is(err, io.EOF) {
							t.Errorf("ended with %v", err)
						}
						return
					case version == 5 && pk.FixedHeader.Type == packets.Disconnect:
						if pk.ReasonCode != c.code || pk.Properties.ReasonString == "" {
							t.Errorf("DISCONNECT 0x%02X %q, want 0x%02X", pk.ReasonCode, pk.Properties.ReasonString, c.code)
						}
						return
					default:
						t.Errorf("answered with %s", packets.PacketNames[pk.FixedHeader.Type])
					}
				}
			})
		}
	}
	h.check() // and nothing was published
}

// A CONNECT that is not one of MQTT gets the CONNACK that its version has for it, or none.
func TestForbiddenConnects(t *testing.T) {
	s := serve(t, serverOptions{})
	user, id := "\x00\x05alice", "\x00\x05phone"
	password := string(appendString(nil, sigOf(t, "alice")))
	will := "\x00\x09groups/g1\x00\x01x"
	connect := func(level, flags byte, props, rest string) []byte {
		b := append([]byte("\x00\x04MQTT"), level, flags, 0, 60)
		if level >= 5 {
			b = append(appendLength(b, len(props)), props...)
		}
		return packet(0x10, string(b)+rest)
	}
	const good = 0xC2
	three := []byte{0x20, 2, 0, 1} // unacceptable protocol version
	for _, c := range []struct {
		name  string
		bytes []byte
		code  byte   // of the CONNACK of MQTT 5
		exact []byte // instead: all that is answered
	}{
		{"reserved flag/5", connect(5, good|1, "", id+user+password), 0x81, nil},
		{"reserved flag/4", connect(4, good|1, "", id+user+password), 0, nil},
		{"will QoS without a will/5", connect(5, good|8, "", id+user+password), 0x81, nil},
		{"will QoS without a will/4", connect(4, good|8, "", id+user+password), 0, nil},
		{"will retain without a will/5", connect(5, good|32, "", id+user+password), 0x81, nil},
		{"will QoS 3/5", connect(5, good|4|24, "", id+"\x00"+will+user+password), 0x81, nil},
		{"will QoS 3/4", connect(4, good|4|24, "", id+will+user+password), 0, nil},
		{"password without a user name/4", connect(4, 0x42, "", id+password), 0, nil},
		{"no password where the flag has one/5", connect(5, good, "", id+user), 0x81, nil},
		{"no password where the flag has one/4", connect(4, good, "", id+user), 0, nil},
		{"longer than its fields/5", connect(5, good, "", id+user+password+"x"), 0x81, nil},
		{"longer than its fields/4", connect(4, good, "", id+user+password+"x"), 0, nil},
		{"client identifier with a NUL/5", connect(5, good, "", "\x00\x01\x00"+user+password), 0x81, nil},
		{"client identifier with a NUL/4", connect(4, good, "", "\x00\x01\x00"+user+password), 0, nil},
		{"user name that is not UTF-8/4", connect(4, good, "", id+"\x00\x01\xFF"+password), 0, nil},
		{"no client identifier without clean session/4", connect(4, good&^2, "", "\x00\x00"+user+password), 0, []byte{0x20, 2, 0, 2}},

		{"Receive Maximum 0", connect(5, good, "\x21\x00\x00", id+user+password), 0x82, nil},
		{"Maximum Packet Size 0", connect(5, good, "\x27\x00\x00\x00\x00", id+user+password), 0x82, nil},
		{"Request Problem Information 2", connect(5, good, "\x17\x02", id+user+password), 0x82, nil},
		{"a property twice", connect(5, good, "\x21\x00\x01\x21\x00\x01", id+user+password), 0x82, nil},
		{"a property of PUBLISH", connect(5, good, "\x23\x00\x01", id+user+password), 0x81, nil},
		{"a property of CONNECT for the will", connect(5, good|4, "", id+"\x03\x21\x00\x01"+will+user+password), 0x81, nil},
		{"authentication data without a method", connect(5, good, "\x16\x00\x01x", id+user+password), 0x82, nil},
		{"authentication method", connect(5, good, "\x15\x00\x01x", id+user+password), 0x8C, nil},
		{"a property that is cut", connect(5, good, "\x21\x00", id+user+password), 0x81, nil},

		{"level 9 in the form of MQTT 3.1.1", packet(0x10, "\x00\x04MQTT\x09\xC2\x00\x3C"+id+user+password), 0, three},
		{"level 9 in the form of MQTT 5", connect(9, good, "\x21\x00\x01", id+user+password), 0x84, nil},
		{"level 3", packet(0x10, "\x00\x04MQTT\x03\xC2\x00\x3C"+id+user+password), 0, three},
		{"MQTT 3.1", packet(0x10, "\x00\x06MQIsdp\x03\xC2\x00\x3C"+id+user+password), 0, three},
		{"another name/5", packet(0x10, "\x00\x04mqtt\x05\xC2\x00\x3C\x00"+id+user+password), 0x84, nil},
		{"another name/4", packet(0x10, "\x00\x04mqtt\x04\xC2\x00\x3C"+id+user+password), 0, nil},
		{"PINGREQ first", packet(0xC0, ""), 0, nil},
		{"PUBLISH first", packet(0x30, "\x00\x09groups/g1x"), 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := s.dial()
			cl.raw(c.bytes)
			if c.code == 0 {
				got, err := io.ReadAll(cl.r)
				if !bytes.Equal(got, c.exact) || err != nil {
					t.Errorf("answered with % x, %v; want % x", got, err, c.exact)
				}
				return
			}
			cl.version = 5
			if ack := cl.want(packets.Connack); ack.ReasonCode != c.code || ack.SessionPresent || !strings.HasPrefix(ack.Properties.ReasonString, "70402 ") {
				t.Errorf("CONNACK 0x%02X %q, want 0x%02X", ack.ReasonCode, ack.Properties.ReasonString, c.code)
			}
			cl.wantEnd()
		})
	}
	if n := len(s.b.Online("alice")); n != 0 {
		t.Errorf("%d connections of alice are online", n)
	}
}

// What MQTT allows is let in, also where mochi would not.
func TestUnusualPackets(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	pk := connectPacket(t, 5, "alice", "phone")
	pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillQos = true, "groups/g1", 2 // with an empty payload
	pk.Properties.User = []packets.UserProperty{{Key: "a", Val: "1"}, {Key: "a", Val: "2"}}
	c := s.dial()
	if ack := c.connect(pk); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK 0x%02X %s", ack.ReasonCode, ack.Properties.ReasonString)
	}
	// Each optional property once, those without a value too, in reads that end anywhere.
	const topic = "\x00\x09groups/g1"
	props := "\x01\x01" + "\x02\x00\x00\x00\x00" + "\x03\x00\x00" + "\x08\x00\x00" + "\x09\x00\x00" + "\x26\x00\x00\x00\x00" + "\x26\x00\x00\x00\x00"
	all := packet(0x32, topic+"\x00\x01"+string(appendLength(nil, len(props)))+props+"every property")
	for _, b := range all {
		c.raw([]byte{b})
	}
	if ack := c.want(packets.Puback); ack.ReasonCode != 0 {
		t.Errorf("PUBACK 0x%02X %s", ack.ReasonCode, ack.Properties.ReasonString)
	}
	h.wantText("every property")
	long := strings.Repeat("v", 9000) // more than is read at a time
	user := "\x26\x00\x01k" + string(appendString(nil, long))
	c.raw(packet(0x32, topic+"\x00\x02"+string(appendLength(nil, len(user)))+user+"long property"))
	if ack := c.want(packets.Puback); ack.ReasonCode != 0 {
		t.Errorf("PUBACK 0x%02X %s", ack.ReasonCode, ack.Properties.ReasonString)
	}
	h.wantText("long property")
	c.raw(packet(0x82, "\x00\x03\x00\x00\x08groups/+\x2D")) // QoS 1, No Local, Retain As Published, Retain Handling 2
	if ack := c.want(packets.Suback); !bytes.Equal(ack.ReasonCodes, []byte{1}) {
		t.Errorf("SUBACK % x, want 01", ack.ReasonCodes)
	}
	// A PUBLISH of MQTT 3.1.1 could not know that nothing is retained.
	old := s.login(4, "alice", "tablet")
	old.raw(packet(0x33, topic+"\x00\x01retained"))
	old.want(packets.Puback)
	h.wantText("retained")
	h.check()
}

// DISCONNECT may end with its code: 0x04 asks for the will.
func TestDisconnectWithoutProperties(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	for _, tt := range []struct {
		bytes []byte
		sent  bool
	}{{packet(0xE0, ""), false}, {packet(0xE0, "\x00"), false}, {packet(0xE0, "\x04"), true}, {packet(0xE0, "\x04\x00"), true}} {
		pk := connectPacket(t, 5, "alice", "phone")
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "groups/g1", []byte("I am gone")
		c := s.dial()
		c.connect(pk)
		c.raw(tt.bytes)
		if last := c.wantEnd(); last.ReasonCode != 0 {
			t.Errorf("% x: DISCONNECT 0x%02X", tt.bytes, last.ReasonCode)
		}
		if tt.sent {
			h.wantText("I am gone")
		}
	}
	h.check()
}

// However a stream is cut into reads, the same packets pass, the same fault is found, and what
// has passed is no trouble for mochi.
func FuzzGrammar(f *testing.F) {
	f.Add(packet(0x82, "\x00\x01\x00\x00\x08groups/+\x01"), uint8(0), true)
	f.Add(packet(0x82, "\x00\x01\x00\x00\x00"), uint8(3), true)
	f.Add(packet(0x32, "\x00\x09groups/g1\x00\x01\x05\x26\x00\x00\x00\x00x"), uint8(1), true)
	f.Add(append(packet(0x40, "\x00\x01"), packet(0xE0, "\x04")...), uint8(2), false)
	f.Add(packet(0x40, "\x00\x01\x00\x03\x21\x00\x01"), uint8(9), true)
	f.Add(packet(0xA2, "\x00\x01\x00\x00\x01a"), uint8(5), true)
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8, five bool) {
		version := byte(4)
		if five {
			version = 5
		}
		// Of a packet that is incomplete more or less may be seen yet.
		if all, broken := split(stream); !broken && len(all) > 0 && !complete(all[len(all)-1]) {
			stream = stream[:len(stream)-len(all[len(all)-1])]
		}
		run := func(size int) (passed []byte, n uint64, fault *fault) {
			fr := framer{grammar: grammar{max: 1 << 16, version: version}}
			for rest := stream; len(rest) > 0; {
				chunk := slices.Clone(rest[:min(len(rest), size)])
				rest = rest[len(chunk):]
				passed = append(passed, chunk[:fr.scan(chunk, false, nil)]...)
			}
			return passed, fr.packets, fr.grammar.fault
		}
		passed, n, fault := run(len(stream) + 1)
		_, n2, fault2 := run(int(cut) + 1)
		if n != n2 || (fault == nil) != (fault2 == nil) || fault != nil && *fault != *fault2 {
			t.Errorf("%x: %d packets and %v in one read; %d and %v in reads of %d", stream, n, fault, n2, fault2, cut+1)
		}
		whole, _ := split(passed)
		for i, p := range whole {
			if uint64(i) == n { // the one with the fault, or an incomplete one
				if fault != nil && complete(p) {
					t.Errorf("%x: a packet with a fault (%v) has passed whole", stream, fault)
				}
				break
			}
			if err := mochiReads(p, version); err != nil {
				t.Errorf("%x passed, and mochi says %v", p, err)
			}
		}
	})
}

// complete reports whether p has all that its length says.
func complete(p []byte) bool {
	n, bu, err := packets.DecodeLength(bytes.NewReader(p[1:]))
	return err == nil && len(p) == 1+bu+n
}

// mochiReads decodes a client's packet as mochi does.
func mochiReads(p []byte, version byte) error {
	pk := packets.Packet{ProtocolVersion: version}
	if err := pk.FixedHeader.Decode(p[0]); err != nil {
		return err
	}
	n, bu, err := packets.DecodeLength(bytes.NewReader(p[1:]))
	if err != nil {
		return err
	}
	pk.FixedHeader.Remaining = n
	body := p[1+bu:]
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return pk.PublishDecode(body)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		return pk.PubackDecode(body)
	case packets.Subscribe:
		return pk.SubscribeDecode(body)
	case packets.Unsubscribe:
		return pk.UnsubscribeDecode(body)
	case packets.Disconnect:
		return pk.DisconnectDecode(body)
	}
	return nil
}
