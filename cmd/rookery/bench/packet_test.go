package bench

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

var versions = map[string]byte{"3.1.1": mqtt311, "5": mqtt5}

// whole cuts b, which must be one packet, into what mochi's decoders take.
func whole(t *testing.T, b []byte, version byte) (packets.Packet, []byte) {
	t.Helper()
	f, n, err := splitFrame(b)
	if err != nil || n != len(b) {
		t.Fatalf("splitFrame(% x) = %d, %v; want the whole packet", b, n, err)
	}
	pk := packets.Packet{ProtocolVersion: version}
	if err := pk.FixedHeader.Decode(f.first); err != nil {
		t.Fatalf("fixed header %02x: %v", f.first, err)
	}
	pk.FixedHeader.Remaining = len(f.body)
	return pk, f.body
}

// What is encoded here is read by somebody else's decoder.
func TestOthersDecodeWhatWeEncode(t *testing.T) {
	for name, version := range versions {
		t.Run(name+"/CONNECT", func(t *testing.T) {
			want := connectPacket{Version: version, ClientID: "c1", Username: "alice", Password: "secret", KeepAlive: 300, ReceiveMaximum: 7}
			pk, body := whole(t, appendConnect(nil, want), version)
			if err := pk.ConnectDecode(body); err != nil {
				t.Fatal(err)
			}
			if code := pk.ConnectValidate(); code != packets.CodeSuccess {
				t.Errorf("ConnectValidate = %v", code)
			}
			c := pk.Connect
			if c.ClientIdentifier != "c1" || string(c.Username) != "alice" || string(c.Password) != "secret" || c.Keepalive != 300 || !c.Clean {
				t.Errorf("decoded %+v, want %+v", c, want)
			}
			if version == mqtt5 && pk.Properties.ReceiveMaximum != 7 {
				t.Errorf("Receive Maximum = %d, want 7", pk.Properties.ReceiveMaximum)
			}
		})
		t.Run(name+"/CONNECT anonymous", func(t *testing.T) {
			pk, body := whole(t, appendConnect(nil, connectPacket{Version: version, ClientID: "c1"}), version)
			if err := pk.ConnectDecode(body); err != nil || pk.Connect.UsernameFlag || pk.Connect.PasswordFlag {
				t.Errorf("decoded %+v, %v; want no username", pk.Connect, err)
			}
		})
		t.Run(name+"/SUBSCRIBE", func(t *testing.T) {
			pk, body := whole(t, appendSubscribe(nil, version, 513, 1, "groups/a", "groups/+"), version)
			if err := pk.SubscribeDecode(body); err != nil {
				t.Fatal(err)
			}
			if pk.PacketID != 513 || len(pk.Filters) != 2 || pk.Filters[1].Filter != "groups/+" || pk.Filters[1].Qos != 1 {
				t.Errorf("decoded id %d, filters %+v", pk.PacketID, pk.Filters)
			}
		})
		for qos := range byte(2) {
			t.Run(name+"/PUBLISH", func(t *testing.T) {
				payload := strings.Repeat("x", 300) // a length of two bytes
				pk, body := whole(t, appendPublish(nil, version, qos, 258, "groups/a", []byte(payload)), version)
				if err := pk.PublishDecode(body); err != nil {
					t.Fatal(err)
				}
				if pk.TopicName != "groups/a" || string(pk.Payload) != payload || pk.FixedHeader.Qos != qos || qos > 0 && pk.PacketID != 258 {
					t.Errorf("decoded %+v", pk)
				}
			})
		}
		t.Run(name+"/PUBACK", func(t *testing.T) {
			pk, body := whole(t, appendPuback(nil, 258), version)
			if err := pk.PubackDecode(body); err != nil || pk.PacketID != 258 || pk.ReasonCode != 0 {
				t.Errorf("decoded id %d, code %d, %v", pk.PacketID, pk.ReasonCode, err)
			}
		})
	}
}

// And what somebody else encodes is decoded here.
func TestWeDecodeWhatOthersEncode(t *testing.T) {
	properties := packets.Properties{
		ReasonString: "17 no", ReceiveMaximum: 256, ServerKeepAlive: 0, ServerKeepAliveFlag: true, MaximumQos: 1, MaximumQosFlag: true,
		User: []packets.UserProperty{{Key: "MsgSeq", Val: "9"}}, SessionExpiryInterval: 7, SessionExpiryIntervalFlag: true,
	}
	encode := func(t *testing.T, pk packets.Packet, f func(*packets.Packet, *bytes.Buffer) error) frame {
		t.Helper()
		pk.Mods.AllowResponseInfo = true
		var buf bytes.Buffer
		if err := f(&pk, &buf); err != nil {
			t.Fatal(err)
		}
		got, n, err := splitFrame(buf.Bytes())
		if err != nil || n != buf.Len() {
			t.Fatalf("splitFrame = %d, %v; want %d", n, err, buf.Len())
		}
		return got
	}
	for name, version := range versions {
		header := func(kind, qos byte) packets.FixedHeader { return packets.FixedHeader{Type: kind, Qos: qos} }
		t.Run(name+"/CONNACK", func(t *testing.T) {
			f := encode(t, packets.Packet{ProtocolVersion: version, FixedHeader: header(packets.Connack, 0), ReasonCode: 5, Properties: properties}, (*packets.Packet).ConnackEncode)
			got, err := parseConnack(version, f)
			want := connack{Code: 5}
			if version == mqtt5 {
				want = connack{Code: 5, Reason: "17 no", ReceiveMaximum: 256, keepAliveGiven: true}
			}
			if err != nil || got != want {
				t.Errorf("parseConnack = %+v, %v; want %+v", got, err, want)
			}
		})
		t.Run(name+"/PUBLISH", func(t *testing.T) {
			pk := packets.Packet{ProtocolVersion: version, FixedHeader: header(packets.Publish, 1), PacketID: 258, TopicName: "groups/a", Payload: []byte("hello"), Properties: packets.Properties{User: properties.User, MessageExpiryInterval: 9}}
			got, err := parsePublish(version, encode(t, pk, (*packets.Packet).PublishEncode))
			if err != nil || got.QoS != 1 || got.ID != 258 || string(got.Topic) != "groups/a" || string(got.Payload) != "hello" {
				t.Errorf("parsePublish = %+v, %v", got, err)
			}
		})
		t.Run(name+"/SUBACK", func(t *testing.T) {
			pk := packets.Packet{ProtocolVersion: version, FixedHeader: header(packets.Suback, 0), PacketID: 3, ReasonCodes: []byte{1, 0x80}}
			id, codes, err := parseSuback(version, encode(t, pk, (*packets.Packet).SubackEncode))
			if err != nil || id != 3 || !bytes.Equal(codes, []byte{1, 0x80}) {
				t.Errorf("parseSuback = %d, % x, %v", id, codes, err)
			}
		})
		t.Run(name+"/PUBACK", func(t *testing.T) {
			pk := packets.Packet{ProtocolVersion: version, FixedHeader: header(packets.Puback, 0), PacketID: 258, ReasonCode: 0x87, Properties: properties}
			id, code, reason, err := parsePuback(version, encode(t, pk, (*packets.Packet).PubackEncode))
			wantCode, wantReason := byte(0), ""
			if version == mqtt5 {
				wantCode, wantReason = 0x87, "17 no"
			}
			if err != nil || id != 258 || code != wantCode || reason != wantReason {
				t.Errorf("parsePuback = %d, %#x, %q, %v", id, code, reason, err)
			}
		})
	}
	t.Run("DISCONNECT", func(t *testing.T) {
		pk := packets.Packet{ProtocolVersion: mqtt5, FixedHeader: header14(), ReasonCode: 0x8B, Properties: properties}
		code, reason, err := parseDisconnect(encode(t, pk, (*packets.Packet).DisconnectEncode))
		if err != nil || code != 0x8B || reason != "17 no" {
			t.Errorf("parseDisconnect = %#x, %q, %v", code, reason, err)
		}
	})
}

func header14() packets.FixedHeader { return packets.FixedHeader{Type: packets.Disconnect} }

func TestSplitFrameWaitsForTheRest(t *testing.T) {
	packet := appendPublish(nil, mqtt5, 1, 7, "groups/a", bytes.Repeat([]byte("y"), 200))
	for n := range packet {
		if _, used, err := splitFrame(packet[:n]); used != 0 || err != nil {
			t.Fatalf("splitFrame of the first %d of %d bytes = %d, %v; want 0", n, len(packet), used, err)
		}
	}
	if _, _, err := splitFrame([]byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}); !errors.Is(err, errMalformed) {
		t.Errorf("a length of five bytes: %v, want errMalformed", err)
	}
}

func TestMalformedPacketsAreRefused(t *testing.T) {
	for name, f := range map[string]frame{
		"PUBLISH without a topic":           {first: 0x30, body: []byte{0}},
		"PUBLISH with half a topic":         {first: 0x30, body: []byte{0, 9, 'a'}},
		"PUBLISH at QoS 3":                  {first: 0x36, body: []byte{0, 1, 'a', 0, 1, 0}},
		"PUBLISH with packet identifier 0":  {first: 0x32, body: []byte{0, 1, 'a', 0, 0, 0}},
		"PUBLISH with too long properties":  {first: 0x30, body: []byte{0, 1, 'a', 9, 1}},
		"CONNACK of one byte":               {first: 0x20, body: []byte{0}},
		"CONNACK with an unknown property":  {first: 0x20, body: []byte{0, 0, 2, 0x7F, 0}},
		"CONNACK with bytes behind":         {first: 0x20, body: []byte{0, 0, 0, 1}},
		"SUBACK without codes":              {first: 0x90, body: []byte{0, 1, 0}},
		"PUBACK of one byte":                {first: 0x40, body: []byte{1}},
		"PUBACK with packet identifier 0":   {first: 0x40, body: []byte{0, 0}},
		"PUBACK with half a user property":  {first: 0x40, body: []byte{0, 1, 0, 4, 0x26, 0, 1, 'a'}},
		"DISCONNECT with cut reason string": {first: 0xE0, body: []byte{0, 3, 0x1F, 0, 5}},
	} {
		if err := parseAny(mqtt5, f); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v, want errMalformed", name, err)
		}
	}
}

// parseAny decodes f as what its header says.
func parseAny(version byte, f frame) (err error) {
	switch f.kind() {
	case typePublish:
		_, err = parsePublish(version, f)
	case typeConnack:
		_, err = parseConnack(version, f)
	case typeSuback:
		_, _, err = parseSuback(version, f)
	case typePuback:
		_, _, _, err = parsePuback(version, f)
	case typeDisconnect:
		_, _, err = parseDisconnect(f)
	}
	return err
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x32, 9, 0, 1, 'a', 0, 7, 0, 'x', 'y', 'z'}, true)
	f.Add([]byte{0x20, 6, 0, 0, 3, 0x21, 0, 9}, true)
	f.Add([]byte{0x90, 3, 0, 1, 1}, false)
	f.Add([]byte{0x40, 2, 0, 1, 0xE0, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, five bool) {
		version := byte(mqtt311)
		if five {
			version = mqtt5
		}
		for len(b) > 0 {
			fr, n, err := splitFrame(b)
			if err != nil && !errors.Is(err, errMalformed) {
				t.Fatalf("splitFrame: %v, want errMalformed", err)
			}
			if n == 0 {
				return
			}
			if n > len(b) || n < 2+len(fr.body) {
				t.Fatalf("splitFrame used %d of %d bytes for a body of %d", n, len(b), len(fr.body))
			}
			if err := parseAny(version, fr); err != nil && !errors.Is(err, errMalformed) {
				t.Fatalf("packet type %d: %v, want errMalformed", fr.kind(), err)
			}
			b = b[n:]
		}
	})
}
