package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// Nobody who is not, or no longer, a member receives anything of a group, whatever he tries.
func TestLeakAttempts(t *testing.T) {
	filters := []string{
		"groups/secret", "groups/+", "#", "+/secret", "groups/#", "groups/+/#", "+/+", "groups/secret/#", "groups/secre%74", "groups/%73ecret",
		"groups/secret/", "/groups/secret", "$share/x/groups/secret", "$SHARE/x/groups/+", "$share/x/#", "$SYS/#", "$queue/groups/secret",
		"users/alice", "users/+", "users/#", "users/alice/#", "users/alice/rpc", "users/mallory/../alice", "users/%61lice", "rpc/#", "rpc/sync", "",
	}
	allowed := []string{"groups/+", "users/mallory/../alice"} // and they must deliver nothing: the second is below mallory's own
	for _, c := range []struct {
		name string
		was  bool // a member that has subscribed before it was removed
	}{{"never a member", false}, {"removed", true}} {
		for _, version := range []byte{4, 5} {
			t.Run(fmt.Sprintf("%s/version=%d", c.name, version), func(t *testing.T) {
				s := serve(t, serverOptions{rpc: func(context.Context, Caller, string, []byte) []byte { return []byte(`{"ErrorCode":0}`) }})
				s.create("secret", group.Public, "alice", "bob")
				m := s.login(version, "mallory", "phone")
				if c.was {
					s.join("secret", "mallory")
					m.mustSubscribe(1, "groups/secret", "groups/+")
					s.send("secret", "alice", "while a member")
					m.wantText("while a member")
					s.remove("secret", "mallory")
				}
				for _, qos := range []byte{0, 1, 2} {
					for i, code := range m.subscribe(qos, filters...) {
						if ok := slices.Contains(allowed, filters[i]); ok != (code < 0x80) {
							t.Errorf("SUBSCRIBE to %q: 0x%02X", filters[i], code)
						}
					}
				}
				s.send("secret", "alice", "a secret")
				s.pipeline.Submit(&hooks.Draft{Group: "secret", From: "alice", Operator: "alice", Body: group.TextBody("to bob"), To: []group.Account{"bob", "mallory"}}, func(hooks.Outcome) {})
				s.b.Notify(hooks.Notice{To: "alice", Event: "SystemNotification", Body: map[string]string{"s": "a secret"}})
				s.update("secret", func(tx *hooks.Tx) error {
					tx.Event(hooks.Event{Name: "Recall", Body: map[string]int{"MsgSeq": 1}})
					tx.Event(hooks.Event{Name: "Read", To: []group.Account{"mallory"}})
					return nil
				})
				// Requests for somebody else's replies are refused, and the answer is mallory's alone.
				if version == 5 {
					pk := publishPacket(1, 99, "rpc/sync", "{}")
					pk.Properties.ResponseTopic = "users/alice/rpc"
					m.write(pk)
					if ack := m.want(packets.Puback); ack.ReasonCode != 0x90 {
						t.Errorf("PUBACK 0x%02X, want 0x90", ack.ReasonCode)
					}
					if pk := m.want(packets.Publish); pk.TopicName != "users/mallory/rpc" {
						t.Errorf("answered on %s", pk.TopicName)
					}
				}
				m.ping() // nothing came before this answer

				again := s.login(version, "mallory", "phone").mustSubscribe(1, "groups/+") // nor after a new login
				s.send("secret", "alice", "another secret")
				again.ping()
			})
		}
	}
}

// What waits for a member who leaves is dropped; what is of other groups stays.
func TestLeavingDropsWhatWaits(t *testing.T) {
	s := serve(t, serverOptions{})
	s.create("g2", group.Public, "alice", "bob")
	c := s.dial()
	pk := connectPacket(t, 5, "bob", "phone")
	pk.Properties.ReceiveMaximum = 1
	c.connect(pk)
	c.mustSubscribe(1, "groups/+")
	for i := range 5 {
		s.send("g1", "alice", fmt.Sprint("one ", i))
		s.send("g2", "alice", fmt.Sprint("two ", i))
	}
	first := c.want(packets.Publish)
	if got := decodeEvent(t, first.Payload).text(); got != "one 0" {
		t.Fatalf("received %s first", got)
	}
	s.remove("g1", "bob")
	c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: first.PacketID})
	for i := range 5 {
		c.wantText(fmt.Sprint("two ", i))
	}
	c.ping()
	if n := s.b.metrics.queued.Load(); n != 0 {
		t.Errorf("%d bytes are counted as waiting", n)
	}
}

func TestMembershipFollowsTheGroup(t *testing.T) {
	s := serve(t, serverOptions{})
	c := s.login(5, "carol", "phone").mustSubscribe(1, "groups/+")
	s.send("g1", "alice", "before")
	s.join("g1", "carol")
	s.send("g1", "alice", "joined")
	if e := c.wantText("joined"); e.MsgSeq != 2 {
		t.Errorf("MsgSeq %d, want 2", e.MsgSeq)
	}
	if codes := c.subscribe(1, "groups/g1"); codes[0] != 1 {
		t.Errorf("SUBACK % x, want 01", codes)
	}
	s.send("g1", "alice", "once in spite of two subscriptions")
	c.wantText("once in spite of two subscriptions")
	s.remove("g1", "carol")
	s.send("g1", "alice", "without carol")
	s.join("g1", "carol")
	s.send("g1", "alice", "back")
	c.wantText("back")

	key := s.key("g1")
	if n := s.b.OnlineInGroup(key); n != 1 {
		t.Errorf("%d members are online, want 1", n)
	}
	if got := slices.Collect(s.b.AccountsInGroup(key)); !slices.Equal(got, []group.Account{"carol"}) {
		t.Errorf("online: %v", got)
	}
	s.update("g1", func(tx *hooks.Tx) error {
		tx.Destroy()
		return nil
	})
	if n := s.b.OnlineInGroup(key); n != 0 {
		t.Errorf("%d members of a destroyed group are online", n)
	}
	s.create("g1", group.Public, "alice", "bob") // another life
	s.send("g1", "alice", "not for carol")
	c.ping()
}

func TestSubscriptions(t *testing.T) {
	s := serve(t, serverOptions{cfg: Config{Subscriptions: 2}})
	s.create("g2", group.Public, "alice", "bob")
	s.create("g3", group.Public, "alice", "bob")
	c := s.login(5, "bob", "phone")
	if codes := c.subscribe(2, "groups/g1", "groups/g2", "groups/g3", "groups/+", "users/bob", "groups/nope", "groups/g 1", "$share/a/groups/g1"); !slices.Equal(codes, []byte{1, 1, 0x97, 1, 1, 0x87, 0x8F, 0x9E}) {
		t.Errorf("SUBACK % x", codes)
	}
	unsubscribe := func(want []byte, filters ...string) {
		t.Helper()
		pk := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: c.nextID()}
		for _, f := range filters {
			pk.Filters = append(pk.Filters, packets.Subscription{Filter: f})
		}
		c.write(pk)
		if ack := c.want(packets.Unsuback); !slices.Equal(ack.ReasonCodes, want) {
			t.Errorf("UNSUBACK % x, want % x", ack.ReasonCodes, want)
		}
	}
	unsubscribe([]byte{0, 0x11, 0x11, 0x8F}, "groups/+", "groups/+", "groups/g3", "groups/g 1")
	s.send("g3", "alice", "not subscribed")
	s.send("g2", "alice", "subscribed")
	c.wantText("subscribed")
	unsubscribe([]byte{0, 0, 0}, "groups/g1", "groups/g2", "users/bob")
	s.send("g2", "alice", "no more")
	c.ping()
}

func TestSubscriptionIdentifiersAreRefused(t *testing.T) {
	s := serve(t, serverOptions{})
	c := s.login(5, "bob", "phone")
	pk := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "groups/+"}}}
	pk.Properties.SubscriptionIdentifier = []int{7}
	c.write(pk)
	if ack := c.want(packets.Suback); !slices.Equal(ack.ReasonCodes, []byte{0xA1}) {
		t.Errorf("SUBACK % x, want a1", ack.ReasonCodes)
	}
}

func TestNoLocal(t *testing.T) {
	s := serve(t, serverOptions{})
	login := func(device string, noLocal bool) *client {
		c := s.login(5, "bob", device)
		c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: c.nextID(), Filters: packets.Subscriptions{{Filter: "groups/+", NoLocal: noLocal}}})
		c.want(packets.Suback)
		return c
	}
	quiet, loud, tablet := login("quiet", true), login("loud", false), login("tablet", true)
	quiet.publish("groups/g1", "from quiet")
	loud.wantText("from quiet")
	tablet.wantText("from quiet") // the same user, another client
	quiet.ping()
	s.send("g1", "bob", "from nowhere")
	for _, c := range []*client{quiet, loud, tablet} {
		c.wantText("from nowhere")
	}
}

func TestReceiveOptions(t *testing.T) {
	s := serve(t, serverOptions{})
	c := s.login(5, "bob", "phone").mustSubscribe(0, "groups/+")
	set := func(r group.ReceiveOption) {
		s.update("g1", func(tx *hooks.Tx) error {
			return tx.PutMember(&group.Member{Account: "bob", Role: group.OrdinaryMember, Receive: r})
		})
	}
	send := func(text string, at ...group.Mention) {
		o := s.pipeline.Send(t.Context(), &hooks.Draft{Group: "g1", From: "alice", Operator: "alice", Body: group.TextBody(text), Mentions: at})
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	set(group.Discard)
	send("discarded")
	send("discarded", group.Mention{Account: "bob"})
	set(group.DiscardUnlessAt)
	send("discarded")
	send("to bob", group.Mention{Account: "bob"})
	c.wantText("to bob")
	send("to all", group.Mention{All: true})
	c.wantText("to all")
	send("to alice", group.Mention{Account: "alice"})
	set(group.AcceptNotNotify)
	send("accepted")
	c.wantText("accepted")
	set(group.Discard)
	c = s.login(5, "bob", "phone").mustSubscribe(0, "groups/+") // loaded from the store
	send("discarded")
	c.ping()
}

func TestDirectedMessagesAndNotices(t *testing.T) {
	s := serve(t, serverOptions{})
	s.join("g1", "carol")
	alice := s.login(5, "alice", "phone").mustSubscribe(1, "groups/+", "users/alice")
	tv := s.login(5, "alice", "tv").mustSubscribe(1, "groups/+", "users/alice")
	bob := s.login(5, "bob", "phone").mustSubscribe(1, "groups/+")
	carol := s.login(5, "carol", "phone").mustSubscribe(1, "groups/+")
	ack := s.login(5, "alice", "sender").publish("groups/g1", `{"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"psst"}}],"To_Account":["bob"]}`)
	if ack.ReasonCode != 0 {
		t.Fatalf("PUBACK 0x%02X %s", ack.ReasonCode, ack.Properties.ReasonString)
	}
	bob.wantText("psst")
	alice.wantText("psst")
	tv.wantText("psst")
	carol.ping()

	s.b.Notify(hooks.Notice{To: "alice", Event: "ReadSync", Body: map[string]int{"ReadSeq": 1}, ExceptDevice: "tv"})
	if e := alice.receive(); e.Event != "ReadSync" {
		t.Errorf("alice got %+v", e)
	}
	tv.ping()
	bob.ping() // has not subscribed to an inbox
}

// A packet larger than the client takes is not sent [MQTT-3.1.2-24]; the others are.
func TestClientsMaximumPacketSize(t *testing.T) {
	s := serve(t, serverOptions{})
	c := s.dial()
	pk := connectPacket(t, 5, "bob", "phone")
	pk.Properties.MaximumPacketSize = 1000
	c.connect(pk)
	c.mustSubscribe(1, "groups/+")
	s.send("g1", "alice", "small")
	s.send("g1", "alice", strings.Repeat("x", 2000))
	s.send("g1", "alice", "small again")
	c.wantText("small")
	if e := c.wantText("small again"); e.MsgSeq != 3 {
		t.Errorf("MsgSeq %d, want 3", e.MsgSeq)
	}
}

// Many senders, many groups, members that come and go: everybody sees each group in order and
// without a hole while he is a member.
func TestOrderUnderLoad(t *testing.T) {
	const groups, senders, messages = 4, 4, 50
	s := serve(t, serverOptions{})
	for g := range groups {
		s.create(group.ID(fmt.Sprint("load", g)), group.Meeting, "alice", "bob", "carol")
	}
	var readers sync.WaitGroup
	for i, a := range []string{"bob", "carol", "bob"} {
		c := s.login([]byte{4, 5, 5}[i], a, fmt.Sprint("reader ", i)).mustSubscribe(byte(i&1), "groups/+")
		readers.Go(func() {
			next := make(map[string]int64)
			for range groups * senders * messages {
				pk, err := c.read()
				if err != nil || pk.FixedHeader.Type != packets.Publish {
					t.Errorf("%s: %v, packet type %d", a, err, pk.FixedHeader.Type)
					return
				}
				if pk.FixedHeader.Qos == 1 {
					_, _ = c.nc.Write([]byte{0x40, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
				}
				e := decodeEvent(t, pk.Payload)
				if next[e.GroupID]++; e.MsgSeq != next[e.GroupID] {
					t.Errorf("%s: %s has MsgSeq %d, want %d", a, e.GroupID, e.MsgSeq, next[e.GroupID])
					return
				}
			}
		})
	}
	var sending sync.WaitGroup
	for i := range senders {
		c := s.login(5, "alice", fmt.Sprint("sender ", i))
		sending.Go(func() {
			for n := range groups * messages {
				_, _ = c.nc.Write(c.encode(publishPacket(1, uint16(n+1), fmt.Sprint("groups/load", n%groups), "x")))
				if pk, err := c.read(); err != nil || pk.FixedHeader.Type != packets.Puback || pk.ReasonCode != 0 {
					t.Errorf("publish: %v, packet %+v", err, pk.ReasonCode)
					return
				}
			}
		})
	}
	sending.Wait()
	readers.Wait()
}

// A member who logs in while messages from before its joining are on their way does not get them.
func TestMessagesFromBeforeJoining(t *testing.T) {
	s := serve(t, serverOptions{})
	for range 3 {
		s.send("g1", "alice", "before")
	}
	s.join("g1", "carol")
	c := s.login(5, "carol", "phone").mustSubscribe(1, "groups/+")
	var late []hooks.Delivery
	for seq := range group.Seq(5) {
		late = append(late, hooks.Delivery{Message: &group.Message{Group: "g1", Seq: seq + 1, Time: 1, From: "alice", Body: group.TextBody("late")}})
	}
	s.b.Deliver(s.key("g1"), late)
	tail, err := s.store.Head(t.Context(), s.key("g1"))
	if err != nil {
		t.Fatal(err)
	}
	for seq := int64(tail.Tail) + 1; seq <= 5; seq++ {
		if e := c.wantText("late"); e.MsgSeq != seq {
			t.Errorf("MsgSeq %d, want %d", e.MsgSeq, seq)
		}
	}
	c.ping()
}

// Changes of a message are told to those who may read it: not to a member who has joined after
// it, on a connection or in a kept session, unless the event is for everybody.
func TestChangesOfMessagesFromBeforeJoining(t *testing.T) {
	s := serve(t, serverOptions{})
	kept := connectPacket(t, 4, "carol", "tablet")
	kept.Connect.Clean = false
	clients := []*client{s.login(5, "carol", "phone"), s.dial()}
	clients[1].connect(kept)
	for _, c := range clients {
		c.mustSubscribe(1, "groups/+")
	}
	s.send("g1", "alice", "before")
	s.join("g1", "carol")
	s.send("g1", "alice", "since")
	for _, c := range clients {
		c.wantText("since")
	}
	modify := func(of group.Seq, text string) {
		s.update("g1", func(tx *hooks.Tx) error {
			tx.Event(hooks.Event{Name: "Modify", Of: of, Body: map[string]any{"MsgBody": group.TextBody(text)}})
			tx.Event(hooks.Event{Name: "Modify", Of: of, To: []group.Account{"carol"}, Body: map[string]any{"MsgBody": group.TextBody(text + " to carol")}})
			return nil
		})
	}
	modify(1, "before, modified")
	modify(2, "since, modified")
	modify(0, "for everybody")
	for _, c := range clients {
		for _, text := range []string{"since, modified", "for everybody"} {
			for _, want := range []string{text, text + " to carol"} {
				if got := c.receive(); got.Event != "Modify" || got.text() != want {
					t.Errorf("received %s %q, want %q", got.Event, got.text(), want)
				}
			}
		}
		c.ping()
	}
}
