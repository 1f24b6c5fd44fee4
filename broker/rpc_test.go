package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
)

// echo answers with what it was asked.
func echo(_ context.Context, c Caller, command string, body []byte) []byte {
	c.Expires = time.Time{} // of this very second
	out, _ := json.Marshal(map[string]any{"Command": command, "RequestId": string(body), "ErrorInfo": fmt.Sprint(c)})
	return out
}

func TestRPC(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("version=", version), func(t *testing.T) {
			s := serve(t, serverOptions{rpc: echo})
			c := s.login(version, "al ice", "phone")
			other := s.login(version, "al ice", "tv").mustSubscribe(1, "users/al%20ice", "users/al%20ice/rpc")
			ack := c.publish("rpc/sync", "7")
			if ack.ReasonCode != 0 {
				t.Errorf("PUBACK 0x%02X", ack.ReasonCode)
			}
			pk := c.want(packets.Publish) // it has subscribed to nothing
			if pk.TopicName != "users/al%20ice/rpc" || pk.FixedHeader.Qos != 1 {
				t.Errorf("reply on %s at QoS %d", pk.TopicName, pk.FixedHeader.Qos)
			}
			if e := decodeEvent(t, pk.Payload); e.Command != "sync" || string(e.RequestID) != `"7"` || e.ErrorInfo != "{al ice phone IoT 127.0.0.1 0001-01-01 00:00:00 +0000 UTC 0}" {
				t.Errorf("reply %s", pk.Payload)
			}
			other.ping() // the reply is the requesting connection's alone
		})
	}
}

func TestRPCResponseTopic(t *testing.T) {
	s := serve(t, serverOptions{rpc: echo})
	for _, c := range []struct {
		topic string
		ok    bool
	}{
		{"users/alice", true},
		{"users/alice/rpc", true},
		{"users/alice/a/b", true},
		{"users/bob", false},
		{"users/bob/rpc", false},
		{"groups/g1", false},
		{"rpc/x", false},
		{"$SYS/x", false},
		{"users/alic%65/x", false},
	} {
		cl := s.login(5, "alice", "phone")
		pk := publishPacket(1, 1, "rpc/sync", `{"RequestId":"r"}`)
		pk.Properties.ResponseTopic, pk.Properties.CorrelationData = c.topic, []byte("corr")
		cl.write(pk)
		ack, reply := cl.want(packets.Puback), cl.want(packets.Publish)
		if string(reply.Properties.CorrelationData) != "corr" {
			t.Errorf("%s: correlation data %q", c.topic, reply.Properties.CorrelationData)
		}
		if c.ok && (ack.ReasonCode != 0 || reply.TopicName != c.topic) {
			t.Errorf("%s: PUBACK 0x%02X, reply on %s", c.topic, ack.ReasonCode, reply.TopicName)
		}
		if e := decodeEvent(t, reply.Payload); !c.ok && (ack.ReasonCode != 0x90 || reply.TopicName != "users/alice/rpc" || e.ErrorCode != group.CodeBadParameter || e.Command != "sync" || string(e.RequestID) != `"r"`) {
			t.Errorf("%s: PUBACK 0x%02X, reply on %s: %s", c.topic, ack.ReasonCode, reply.TopicName, reply.Payload)
		}
	}
}

// Requests are bounded in number, and a command that panics or is slow costs itself alone.
func TestRPCBounds(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{}, 10)
	s := serve(t, serverOptions{
		cfg: Config{RPCPending: 2, RPCTimeout: 50 * time.Millisecond},
		rpc: func(ctx context.Context, c Caller, command string, body []byte) []byte {
			switch command {
			case "panic":
				panic("oh")
			case "wait":
				began <- struct{}{}
				<-release
			case "timeout":
				<-ctx.Done()
			}
			return echo(ctx, c, command, body)
		},
	})
	c := s.login(5, "alice", "phone")
	c.publish("rpc/wait", "1")
	c.publish("rpc/wait", "2")
	<-began
	<-began
	c.write(publishPacket(1, 3, "rpc/wait", `{"RequestId":3}`))
	if ack := c.want(packets.Puback); ack.ReasonCode != 0x97 {
		t.Errorf("PUBACK 0x%02X, want 0x97", ack.ReasonCode)
	}
	if e := c.receive(); e.ErrorCode != codeBusy || string(e.RequestID) != "3" {
		t.Errorf("reply %+v", e)
	}
	close(release)
	c.receive()
	c.receive()
	for _, command := range []string{"panic", "timeout", "sync"} {
		for { // the two have answered but may not have ended yet
			c.write(publishPacket(0, 0, "rpc/"+command, "{}"))
			e := c.receive()
			if e.ErrorCode == codeBusy {
				continue
			}
			if command == "panic" && (e.ErrorCode != group.CodeInternal || strings.Contains(e.ErrorInfo, "oh")) || command != "panic" && e.ErrorCode != 0 {
				t.Errorf("%s: reply %+v", command, e)
			}
			break
		}
	}
}

// TestRPCReplyTooLarge asks for more than the client takes in one packet: it is told so.
func TestRPCReplyTooLarge(t *testing.T) {
	s := serve(t, serverOptions{rpc: func(context.Context, Caller, string, []byte) []byte {
		return []byte(`{"ErrorCode":0,"Text":"` + strings.Repeat("x", 5000) + `"}`)
	}})
	pk := connectPacket(t, 5, "bob", "phone")
	pk.Properties.MaximumPacketSize = 1000
	c := s.dial()
	c.connect(pk)
	c.publish("rpc/sync", `{"RequestId":7}`)
	if e := c.receive(); e.ErrorCode != group.CodeAnswerTooLarge || e.Command != "sync" || string(e.RequestID) != "7" {
		t.Errorf("received %+v", e)
	}
}
