package broker

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
)

// leave connects as alice with a delayed will and a session that is kept, and breaks the connection.
func (s *server) leave(device string, delay, expiry uint32, payload string) {
	s.t.Helper()
	pk := connectPacket(s.t, 5, "alice", device)
	pk.Connect.Clean = false
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = expiry, expiry > 0
	pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "groups/g1", []byte(payload)
	pk.Connect.WillProperties.WillDelayInterval = delay
	c := s.dial()
	if ack := c.connect(pk); ack.ReasonCode != 0 {
		s.t.Fatalf("CONNACK 0x%02X %s", ack.ReasonCode, ack.Properties.ReasonString)
	}
	_ = c.nc.Close()
	waitFor(s.t, "the connection to end", func() bool { return s.b.metrics.connections.Load() == 1 }) // the healthy one's
}

func TestDelayedWills(t *testing.T) {
	config := withSessions
	config.SessionsPerUser = 2
	for _, c := range []struct {
		name string
		run  func(*server, *healthy)
	}{
		{"waits, and is not sent when the session goes on", func(s *server, h *healthy) {
			s.leave("phone", 600, 600, "gone")
			h.check()
			s.bye(s.comeBack(5, "alice", "phone", true), "alice")
		}},
		{"is sent when a clean start ends the session", func(s *server, h *healthy) {
			s.leave("phone", 600, 600, "gone")
			h.check()
			s.login(5, "alice", "phone")
			h.wantText("gone")
		}},
		{"is sent when the session is given up for another", func(s *server, h *healthy) {
			s.leave("phone", 600, 600, "gone")
			h.check()
			s.bye(s.comeBack(5, "alice", "tablet", false), "alice")
			h.check()
			s.bye(s.comeBack(5, "alice", "laptop", false), "alice")
			h.wantText("gone")
		}},
		{"is sent after its delay", func(s *server, h *healthy) {
			s.leave("phone", 1, 600, "gone")
			h.wantText("gone")
			s.bye(s.comeBack(5, "alice", "phone", true), "alice")
		}},
		{"is sent at the end of the session", func(s *server, h *healthy) {
			s.leave("phone", 600, 1, "gone")
			h.wantText("gone")
		}},
		{"is sent at once when no session is kept", func(s *server, h *healthy) {
			s.leave("phone", 600, 0, "gone")
			h.wantText("gone")
		}},
		{"is not the business of another device or user", func(s *server, h *healthy) {
			s.leave("phone", 600, 600, "gone")
			s.login(5, "alice", "tablet")
			s.login(5, "carol", "phone")
			h.check()
		}},
		{"is sent before the broker stops", func(s *server, h *healthy) {
			s.leave("phone", 600, 600, "gone")
			h.check()
			key := s.key("g1")
			s.stop() // takes the connections from the fan-out, maybe before it
			var last string
			for m, err := range s.store.Range(s.t.Context(), key, 1, group.Seq(h.n+2)) {
				if err != nil {
					s.t.Fatal(err)
				}
				last = string(m.Body)
			}
			if !strings.Contains(last, "gone") {
				s.t.Errorf("the last stored message is %s", last)
			}
		}},
		{"is taken away by DISCONNECT", func(s *server, h *healthy) {
			pk := connectPacket(s.t, 5, "alice", "phone")
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "groups/g1", []byte("gone")
			pk.Connect.WillProperties.WillDelayInterval = 600
			c := s.dial()
			c.connect(pk)
			s.bye(c, "alice")
			s.login(5, "alice", "phone")
			h.check()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, serverOptions{cfg: config})
			h := s.healthy("bob")
			c.run(s, h)
			if !strings.Contains(c.name, "stops") {
				h.check() // and nothing else came
			}
		})
	}
}

// What waits is bounded; beyond it wills are sent at once.
func TestDelayedWillsAreBounded(t *testing.T) {
	s := serve(t, serverOptions{cfg: withSessions})
	h := s.healthy("bob")
	s.b.wills.mu.Lock()
	s.b.wills.bytes = maxWillBytes - 300
	s.b.wills.mu.Unlock()
	for i, sent := range []bool{false, true} {
		text := fmt.Sprint("gone ", i)
		s.leave(fmt.Sprint(i), 600, 600, text)
		if sent {
			h.wantText(text)
		}
		h.check()
	}
}

// A will that was replaced with its connection is that of the session's old connection.
func TestWillOfATakenOverConnection(t *testing.T) {
	s := serve(t, serverOptions{cfg: withSessions})
	h := s.healthy("bob")
	for _, tt := range []struct {
		delay uint32
		clean bool
		sent  bool
	}{{0, false, true}, {600, false, false}, {600, true, true}} {
		pk := connectPacket(t, 5, "alice", "phone")
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "groups/g1", []byte("taken over")
		pk.Connect.WillProperties.WillDelayInterval = tt.delay
		old := s.dial()
		old.connect(pk)
		next := connectPacket(t, 5, "alice", "phone")
		next.Connect.Clean = tt.clean
		next.Properties.SessionExpiryInterval, next.Properties.SessionExpiryIntervalFlag = 600, true
		c := s.dial()
		if ack := c.connect(next); ack.ReasonCode != 0 || ack.SessionPresent == tt.clean {
			t.Fatalf("CONNACK 0x%02X, session present %t", ack.ReasonCode, ack.SessionPresent)
		}
		if last := old.wantEnd(); last.ReasonCode != packets.ErrSessionTakenOver.Code {
			t.Errorf("DISCONNECT 0x%02X", last.ReasonCode)
		}
		if tt.sent {
			h.wantText("taken over")
		}
		s.bye(c, "alice")
		h.check()
	}
}

// A client that takes no packet of CONNACK's size was never connected: it leaves no will.
func TestWillWithoutConnack(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	pk := connectPacket(t, 5, "alice", "phone")
	pk.Properties.MaximumPacketSize = 10
	pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "groups/g1", []byte("I was never there")
	c := s.dial()
	c.version = 5
	c.write(pk)
	if got, err := io.ReadAll(c.r); len(got) > 0 || err != nil { // nothing may come before CONNACK
		t.Errorf("answered with % x, %v", got, err)
	}
	waitFor(t, "the connection to end", func() bool { return s.b.metrics.connections.Load() == 1 })
	h.check()
}
