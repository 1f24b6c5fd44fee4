package broker

import (
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestConversation(t *testing.T) {
	for _, version := range []byte{4, 5} {
		for _, qos := range []byte{0, 1, 2} {
			t.Run(fmt.Sprintf("version=%d/qos=%d", version, qos), func(t *testing.T) {
				s := serve(t, serverOptions{})
				alice := s.login(version, "alice", "phone")
				bob := s.login(version, "bob", "phone").mustSubscribe(qos, "groups/+")
				carol := s.login(version, "carol", "phone").mustSubscribe(qos, "groups/+", "users/carol")

				ack := alice.publish("groups/g1", "hello")
				if version == 5 && (userProperty(ack, "MsgSeq") != "1" || userProperty(ack, "MsgTime") == "") {
					t.Errorf("PUBACK has the properties %v, want MsgSeq 1 and MsgTime", ack.Properties.User)
				}
				pk := bob.want(packets.Publish)
				if pk.TopicName != "groups/g1" || pk.FixedHeader.Qos != min(qos, 1) {
					t.Errorf("delivered on %s at QoS %d, want groups/g1 at %d", pk.TopicName, pk.FixedHeader.Qos, min(qos, 1))
				}
				e := decodeEvent(t, pk.Payload)
				if e.Event != "Message" || e.GroupID != "g1" || e.MsgSeq != 1 || e.FromAccount != "alice" || e.text() != "hello" {
					t.Errorf("received %+v", e)
				}
				carol.ping() // she is no member: nothing came before the answer
			})
		}
	}
}

func TestPublishQoS2(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprintf("version=%d", version), func(t *testing.T) {
			s := serve(t, serverOptions{})
			alice := s.login(version, "alice", "phone")
			bob := s.login(version, "bob", "phone").mustSubscribe(1, "groups/+")
			for range 2 { // the second is a repetition before PUBREL: told again, not sent again
				alice.write(publishPacket(2, 9, "groups/g1", "once"))
				if rec := alice.want(packets.Pubrec); rec.PacketID != 9 || rec.ReasonCode != 0 {
					t.Fatalf("PUBREC %d code 0x%02X", rec.PacketID, rec.ReasonCode)
				}
			}
			alice.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: 9})
			if comp := alice.want(packets.Pubcomp); comp.PacketID != 9 || comp.ReasonCode != 0 {
				t.Fatalf("PUBCOMP %d code 0x%02X", comp.PacketID, comp.ReasonCode)
			}
			bob.wantText("once")
			bob.ping()
		})
	}
}
