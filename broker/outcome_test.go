package broker

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// A script is a pipeline that answers what the test wants, when it wants.
type script struct {
	mu      sync.Mutex
	outcome func(*hooks.Draft) hooks.Outcome
	hold    bool
	drafts  []*hooks.Draft
	held    []func()
	came    chan struct{}
}

func newScript(outcome func(*hooks.Draft) hooks.Outcome) *script {
	return &script{outcome: outcome, came: make(chan struct{}, 1<<16)}
}

func (s *script) Submit(d *hooks.Draft, done func(hooks.Outcome)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drafts = append(s.drafts, d)
	s.came <- struct{}{}
	answer := func() { done(s.outcome(d)) }
	if s.hold {
		s.held = append(s.held, answer)
		return
	}
	go answer()
}

// release answers what was held.
func (s *script) release() {
	s.mu.Lock()
	held := s.held
	s.held, s.hold = nil, false
	s.mu.Unlock()
	for _, answer := range held {
		answer()
	}
}

func stored(*hooks.Draft) hooks.Outcome { return hooks.Outcome{Seq: 42, Time: 1669000000} }

func TestOutcomes(t *testing.T) {
	refused := &group.Error{Code: group.CodeMuted, Info: "you are muted"}
	malformed := &group.Error{Code: group.CodeMessageTooLong, Info: "too long"}
	tooFast := &group.Error{Code: group.CodeTooFrequent, Info: "slower"}
	for _, o := range []struct {
		name      string
		outcome   hooks.Outcome
		code      byte
		seq, time string
		reason    string // MQTT 5
		failed    int    // SendFailed where there is no reason code
		closes    bool   // MQTT 3.1.1
	}{
		{name: "stored", outcome: hooks.Outcome{Seq: 42, Time: 1669000000}, seq: "42", time: "1669000000"},
		{name: "not roaming", outcome: hooks.Outcome{Time: 1669000000}, time: "1669000000"},
		{name: "restricted", outcome: hooks.Outcome{Restricted: true}},
		{name: "dropped", outcome: hooks.Outcome{Dropped: true}},
		{name: "duplicate", outcome: hooks.Outcome{Seq: 7, Time: 1, Duplicate: true}, seq: "7", time: "1"},
		{name: "refused", outcome: hooks.Outcome{Err: refused}, code: 0x87, reason: "10017 you are muted", failed: 10017},
		{name: "malformed", outcome: hooks.Outcome{Err: malformed}, code: 0x99, reason: "80002 too long", failed: 80002},
		{name: "too fast", outcome: hooks.Outcome{Err: tooFast}, code: 0x97, reason: "10006 slower", failed: 10006},
		{name: "storage down", outcome: hooks.Outcome{Err: hooks.ErrUnavailable}, code: 0x83, reason: "10002 the message was not stored, retry", failed: 10002, closes: true},
		{name: "overloaded", outcome: hooks.Outcome{Err: hooks.ErrOverloaded}, code: 0x83, reason: "10002 the message was not stored, retry", failed: 10002, closes: true},
		{name: "unknown error", outcome: hooks.Outcome{Err: errors.New("secret")}, code: 0x83, reason: "10002 internal error", failed: 10002},
	} {
		for _, version := range []byte{4, 5} {
			for _, qos := range []byte{0, 1, 2} {
				t.Run(fmt.Sprintf("%s/version=%d/qos=%d", o.name, version, qos), func(t *testing.T) {
					s := serve(t, serverOptions{submit: newScript(func(*hooks.Draft) hooks.Outcome { return o.outcome })})
					inbox := s.login(4, "alice", "inbox").mustSubscribe(0, "users/alice")
					c := s.login(version, "alice", "phone")
					pk := publishPacket(qos, 0, "groups/g1", "hi")
					if qos > 0 {
						pk.PacketID = 5
					}
					c.write(pk)
					if qos > 0 && version < 5 && o.closes {
						c.wantEnd()
						return
					}
					if qos > 0 {
						ack := c.want([]byte{1: packets.Puback, 2: packets.Pubrec}[qos])
						if ack.PacketID != 5 {
							t.Errorf("acknowledged %d, want 5", ack.PacketID)
						}
						if version == 5 && (ack.ReasonCode != o.code || ack.Properties.ReasonString != o.reason ||
							userProperty(ack, "MsgSeq") != o.seq || userProperty(ack, "MsgTime") != o.time) {
							t.Errorf("acknowledged with 0x%02X %q %v, want 0x%02X %q MsgSeq %q MsgTime %q", ack.ReasonCode, ack.Properties.ReasonString, ack.Properties.User, o.code, o.reason, o.seq, o.time)
						}
						if qos == 2 && (version < 5 || o.code < 0x80) {
							c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: 5})
							if comp := c.want(packets.Pubcomp); comp.ReasonCode != 0 {
								t.Errorf("PUBCOMP with 0x%02X", comp.ReasonCode)
							}
						}
					}
					if o.failed != 0 && (qos == 0 || version < 5) {
						if e := inbox.receive(); e.Event != "SendFailed" || e.ErrorCode != o.failed || e.GroupID != "g1" {
							t.Errorf("the inbox got %+v, want SendFailed %d", e, o.failed)
						}
					}
					c.ping()
					inbox.ping() // and nothing else came
				})
			}
		}
	}
}

func TestPublishRefusals(t *testing.T) {
	for _, c := range []struct {
		topic, reason string
		code          byte
	}{
		{"groups/+", "wildcards", 0x90},
		{"groups/a#b", "groups/a%23b", 0x90},
		{"groups/a b", "groups/a%20b", 0x90},
		{"groups/", "valid", 0x90},
		{"$SYS/broker/version", "groups/{GroupId}", 0x90},
		{"other", "groups/{GroupId}", 0x90},
		{"users/bob", "receiving", 0x87},
		{"users/alice/rpc", "receiving", 0x87},
		{"rpc/sync", "", 0x00}, // refused by its reply
		{"groups/nowhere", "10010", 0x87},
	} {
		for _, version := range []byte{4, 5} {
			t.Run(fmt.Sprintf("%s/version=%d", c.topic, version), func(t *testing.T) {
				s := serve(t, serverOptions{})
				alice := s.login(version, "alice", "phone").mustSubscribe(0, "users/alice")
				alice.write(publishPacket(1, 1, c.topic, "x"))
				ack := alice.want(packets.Puback)
				if version == 5 && (ack.ReasonCode != c.code || !strings.Contains(ack.Properties.ReasonString, c.reason)) {
					t.Errorf("PUBACK 0x%02X %q, want 0x%02X with %q", ack.ReasonCode, ack.Properties.ReasonString, c.code, c.reason)
				}
				if c.code == 0 {
					if e := alice.receive(); e.ErrorCode == 0 {
						t.Errorf("reply %+v, want an error", e)
					}
				} else if version < 5 {
					if e := alice.receive(); e.Event != "SendFailed" || e.ErrorCode == 0 {
						t.Errorf("the inbox got %+v, want SendFailed", e)
					}
				}
				alice.ping()
			})
		}
	}
}

// While outcomes are pending, everything else is served, and the order of arrival is kept.
func TestPendingPublishesHoldUpNothing(t *testing.T) {
	sc := newScript(stored)
	sc.hold = true
	s := serve(t, serverOptions{submit: sc})
	c := s.login(5, "alice", "phone")
	for i := range 20 {
		c.write(publishPacket(1, uint16(i+1), "groups/g1", fmt.Sprint(i)))
	}
	c.ping()
	c.mustSubscribe(1, "groups/+")
	for i, d := range sc.drafts {
		if want := string(group.TextBody(fmt.Sprint(i))); string(d.Body) != want {
			t.Errorf("submission %d has the body %s, want %s", i, d.Body, want)
		}
	}
	sc.release()
	for range 20 {
		c.want(packets.Puback)
	}
}

func TestReceiveMaximum(t *testing.T) {
	t.Run("version=5", func(t *testing.T) {
		sc := newScript(stored)
		sc.hold = true
		s := serve(t, serverOptions{cfg: Config{ReceiveMaximum: 4}, submit: sc})
		c := s.dial()
		if ack := c.connect(connectPacket(t, 5, "alice", "phone")); ack.Properties.ReceiveMaximum != 4 {
			t.Errorf("CONNACK announces Receive Maximum %d, want 4", ack.Properties.ReceiveMaximum)
		}
		for i := range 4 {
			c.write(publishPacket(1, uint16(i+1), "groups/g1", "x"))
		}
		c.ping()
		c.write(publishPacket(0, 0, "groups/g1", "QoS 0 does not count"))
		c.write(publishPacket(1, 5, "groups/g1", "one too many"))
		defer sc.release()
		if last := c.wantEnd(); last.ReasonCode != 0x93 {
			t.Errorf("DISCONNECT 0x%02X, want 0x93", last.ReasonCode)
		}
	})
	t.Run("version=4", func(t *testing.T) {
		sc := newScript(stored)
		sc.hold = true
		s := serve(t, serverOptions{cfg: Config{ReceiveMaximum: 4}, submit: sc})
		c := s.login(4, "alice", "phone")
		for i := range 9 {
			c.write(publishPacket(1, uint16(i+1), "groups/g1", "x"))
		}
		for range 4 {
			<-sc.came
		}
		if n := len(sc.came); n != 0 {
			t.Errorf("%d submissions beyond the limit", n)
		}
		sc.release()
		for range 9 {
			c.want(packets.Puback)
		}
	})
}

// A client that wants no Reason Strings and user properties gets none [MQTT-3.1.2-29].
func TestRequestProblemInformation(t *testing.T) {
	s := serve(t, serverOptions{})
	c := s.dial()
	pk := connectPacket(t, 5, "alice", "phone")
	pk.Properties.RequestProblemInfoFlag, pk.Properties.RequestProblemInfo = true, 0
	c.connect(pk)
	if ack := c.publish("groups/g1", "x"); ack.ReasonCode != 0 || len(ack.Properties.User) > 0 {
		t.Errorf("PUBACK 0x%02X %v, want 0x00 alone", ack.ReasonCode, ack.Properties.User)
	}
	if ack := c.publish("groups/g 1", "x"); ack.ReasonCode != 0x90 || ack.Properties.ReasonString != "" {
		t.Errorf("PUBACK 0x%02X %q, want 0x90 alone", ack.ReasonCode, ack.Properties.ReasonString)
	}
}

// A DUP of the same packet is the same message, after a new connection too; without DUP an
// equal message is another one.
func TestRetransmission(t *testing.T) {
	s := serve(t, serverOptions{})
	seq := func(dup bool) string {
		c := s.login(5, "alice", "phone")
		pk := publishPacket(1, 7, "groups/g1", "hi")
		pk.FixedHeader.Dup = dup
		c.write(pk)
		return userProperty(c.want(packets.Puback), "MsgSeq")
	}
	for i, c := range []struct {
		dup  bool
		want string
	}{{false, "1"}, {true, "1"}, {false, "2"}, {true, "2"}} {
		if got := seq(c.dup); got != c.want {
			t.Errorf("publish %d, DUP %v: MsgSeq %s, want %s", i, c.dup, got, c.want)
		}
	}
}

// A sender over its own rate is told so by the code, not only by the text.
func TestReasonOfTooMany(t *testing.T) {
	for _, code := range []int{group.CodeFrequencyLimit, group.CodeTooFrequent} {
		if got := reasonOf(code); got != codeQuota {
			t.Errorf("%d: 0x%02X, want 0x%02X", code, got, codeQuota)
		}
	}
}
