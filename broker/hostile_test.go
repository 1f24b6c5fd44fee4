package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// healthy is a member that subscribes to everything at QoS 1 and acknowledges; check proves
// that it still gets messages, in order and without delay by others.
type healthy struct {
	*client
	s *server
	n int
}

func (s *server) healthy(a string) *healthy {
	s.t.Helper()
	return &healthy{client: s.login(5, a, "healthy").mustSubscribe(1, "groups/+"), s: s}
}

func (h *healthy) check() {
	h.t.Helper()
	for range 10 {
		h.n++
		text := fmt.Sprint("healthy ", h.n)
		h.s.send("g1", "alice", text)
		h.wantText(text)
	}
}

func TestTruncatedSubscribe(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	for _, account := range []string{"mallory", ""} {
		c := s.dial()
		c.version = 5
		if account != "" {
			c = s.login(5, account, "phone")
		}
		c.raw([]byte{0x82, 5, 0, 1, 0, 0, 0}) // a filter of no bytes, and no options byte
		last := c.wantEnd()
		if account != "" && last.ReasonCode != 0x81 {
			t.Errorf("DISCONNECT 0x%02X, want 0x81", last.ReasonCode)
		}
	}
	h.check()
	if n := len(s.b.Online("mallory")); n != 0 {
		t.Errorf("%d connections of mallory are left", n)
	}
}

// A subscriber that never reads, at either QoS, is disconnected at its bound and holds up nobody.
func TestSubscriberThatNeverReads(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		t.Run(fmt.Sprint("qos=", qos), func(t *testing.T) {
			s := serve(t, serverOptions{cfg: Config{SlowConsumerBytes: 64 << 10}})
			h := s.healthy("bob")
			s.join("g1", "carol")
			slow := s.dial()
			if tcp, ok := slow.nc.(*net.TCPConn); ok {
				_ = tcp.SetReadBuffer(4 << 10)
			}
			slow.connect(connectPacket(t, 5, "carol", "phone"))
			slow.mustSubscribe(qos, "groups/+")
			text := strings.Repeat("x", 8000)
			for len(s.b.Online("carol")) > 0 { // the kernel's buffers fill before ours does
				for range 10 {
					s.send("g1", "alice", text)
					h.wantText(text)
				}
			}
			h.check()
			if n := s.b.metrics.slow.Load(); n != 1 {
				t.Errorf("%d slow consumers counted, want 1", n)
			}
		})
	}
}

// A client that acknowledges nothing gets as many as its Receive Maximum, and the rest when
// it does acknowledge.
func TestClientsReceiveMaximum(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	s.join("g1", "carol")
	c := s.dial()
	pk := connectPacket(t, 5, "carol", "phone")
	pk.Properties.ReceiveMaximum = 5
	c.connect(pk)
	c.mustSubscribe(1, "groups/+")
	for round := range 3 {
		const burst = 10
		for i := range burst {
			text := fmt.Sprintf("%d/%d", round, i)
			s.send("g1", "alice", text)
			h.wantText(text)
		}
		var waiting []uint16
		for i := range burst {
			if len(waiting) == 5 {
				// Nothing more may come: not before the answer to a ping, nor written along with it.
				c.ping()
				c.ping()
				for _, id := range waiting {
					c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
				}
				waiting = nil
			}
			pk := c.want(packets.Publish)
			waiting = append(waiting, pk.PacketID)
			if got, want := decodeEvent(t, pk.Payload).text(), fmt.Sprintf("%d/%d", round, i); got != want {
				t.Fatalf("received %s, want %s", got, want)
			}
		}
		for _, id := range waiting {
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
		}
	}
}

// Of a client that never acknowledges, no more than the bound is kept; it is told why.
func TestClientThatNeverAcknowledges(t *testing.T) {
	s := serve(t, serverOptions{cfg: Config{SlowConsumerBytes: 64 << 10}})
	h := s.healthy("bob")
	s.join("g1", "carol")
	c := s.dial()
	pk := connectPacket(t, 5, "carol", "phone")
	pk.Properties.ReceiveMaximum = 2
	c.connect(pk)
	c.mustSubscribe(1, "groups/+")
	text := strings.Repeat("x", 8000)
	for range 20 {
		s.send("g1", "alice", text)
		h.wantText(text)
	}
	if last := c.wantEnd(); last.ReasonCode != 0x97 {
		t.Errorf("DISCONNECT 0x%02X, want 0x97", last.ReasonCode)
	}
	h.check()
}

func TestDescriptorLimit(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	limited := old
	limited.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limited); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	}()
	// One descriptor is kept for the client's end: the server finds none for its own.
	var fill []int
	for {
		fd, err := syscall.Dup(0)
		if err != nil {
			break
		}
		fill = append(fill, fd)
	}
	free := func(n int) {
		for _, fd := range fill[:n] {
			_ = syscall.Close(fd)
		}
		fill = fill[n:]
	}
	defer func() { free(len(fill)) }()
	free(1)
	addr := s.b.Addr("tcp").(*net.TCPAddr)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); s.b.metrics.acceptErrors.Load() < 3; { // it tries on
		if time.Now().After(deadline) {
			t.Fatal("the listener met no error")
		}
		h.check()
	}
	free(20)
	c := s.login(5, "carol", "phone") // the listener has recovered
	c.ping()
	_ = syscall.Close(fd)
	h.check()
}

func TestConnectionsThatDoNotConnect(t *testing.T) {
	s := serve(t, serverOptions{cfg: Config{ConnectDeadline: 300 * time.Millisecond}})
	h := s.healthy("bob")
	half := func(c *client) []byte {
		c.version = 5
		b := c.encode(connectPacket(t, 5, "carol", "phone"))
		return b[:len(b)/2]
	}
	begun := time.Now()
	silent, cut, trickle := s.dial(), s.dial(), s.dial()
	cut.raw(half(cut))
	var wg sync.WaitGroup
	wg.Go(func() { // a byte now and then does not extend the deadline
		for _, b := range half(trickle) {
			if _, err := trickle.nc.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	for _, c := range []*client{silent, cut, trickle} {
		c.wantEnd()
	}
	if d := time.Since(begun); d < 250*time.Millisecond {
		t.Errorf("ended after %v, before the deadline", d)
	}
	wg.Wait()
	h.check()
}

// What has not logged in does not hold up the end either.
func TestShutdownWithHalfConnections(t *testing.T) {
	s := serve(t, serverOptions{})
	var clients []*client
	for range 3 {
		clients = append(clients, s.dial())
	}
	clients[1].raw([]byte{0x10})
	clients[2].raw([]byte{0x10, 100, 0, 4, 'M'})
	five, four := s.login(5, "alice", "a"), s.login(4, "bob", "b")
	begun := time.Now()
	s.stop()
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("stopping took %v", d)
	}
	if last := five.wantEnd(); last.ReasonCode != 0x8B {
		t.Errorf("DISCONNECT 0x%02X, want 0x8B", last.ReasonCode)
	}
	if last := four.wantEnd(); last.FixedHeader.Type != 0 {
		t.Errorf("an MQTT 3.1.1 client got DISCONNECT")
	}
	for _, c := range clients {
		c.wantEnd()
	}
}

// What was submitted before the end is acknowledged before the connection goes.
func TestShutdownFinishesPendingPublishes(t *testing.T) {
	sc := newScript(stored)
	sc.hold = true
	s := serve(t, serverOptions{submit: sc})
	c := s.login(5, "alice", "phone")
	for i := range 5 {
		c.write(publishPacket(1, uint16(i+1), "groups/g1", "x"))
		<-sc.came
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.stop()
	}()
	for deadline := time.Now().Add(patience); !s.b.draining.Load() && time.Now().Before(deadline); {
		c.ping() // served on meanwhile
	}
	sc.release()
	for range 5 {
		if ack := c.want(packets.Puback); ack.ReasonCode != 0 {
			t.Errorf("PUBACK 0x%02X", ack.ReasonCode)
		}
	}
	if last := c.wantEnd(); last.ReasonCode != 0x8B {
		t.Errorf("DISCONNECT 0x%02X, want 0x8B", last.ReasonCode)
	}
	<-stopped
}

func TestTopicAliases(t *testing.T) {
	s := serve(t, serverOptions{})
	s.join("g1", "carol")
	h := s.healthy("bob")
	c := s.login(5, "carol", "phone")
	pk := publishPacket(1, 1, "groups/g1", "x")
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 1, true
	c.write(pk)
	if last := c.wantEnd(); last.ReasonCode != 0x94 {
		t.Errorf("DISCONNECT 0x%02X, want 0x94", last.ReasonCode)
	}
	// After the removal neither the alias nor the topic leads into the group.
	s.remove("g1", "carol")
	c = s.login(5, "carol", "phone")
	alias := publishPacket(1, 2, "", "x")
	alias.Properties.TopicAlias, alias.Properties.TopicAliasFlag = 1, true
	c.write(alias)
	if last := c.wantEnd(); last.ReasonCode != 0x94 {
		t.Errorf("DISCONNECT 0x%02X, want 0x94", last.ReasonCode)
	}
	if ack := s.login(5, "carol", "phone").publish("groups/g1", "x"); ack.ReasonCode != 0x87 {
		t.Errorf("PUBACK 0x%02X, want 0x87", ack.ReasonCode)
	}
	h.check()
}

// The client's packet identifiers and ours are two things [MQTT-2.2.1].
func TestPacketIdentifiersThatCollide(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("version=", version), func(t *testing.T) {
			s := serve(t, serverOptions{})
			c := s.login(version, "bob", "phone").mustSubscribe(1, "groups/+")
			s.send("g1", "alice", "first")
			s.send("g1", "alice", "second")
			first, second := c.want(packets.Publish), c.want(packets.Publish)
			for _, ours := range []packets.Packet{first, second} { // all three kinds with an identifier of ours
				c.write(publishPacket(1, ours.PacketID, "groups/g1", "mine"))
				seen := 0
				for range 2 { // the echo comes in any order with the acknowledgement
					pk, err := c.read()
					if err != nil {
						t.Fatal(err)
					}
					if pk.FixedHeader.Type == packets.Puback && pk.PacketID == ours.PacketID {
						seen++
					}
				}
				if seen != 1 {
					t.Error("no PUBACK for a PUBLISH whose identifier one of ours has")
				}
				c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: ours.PacketID, Filters: packets.Subscriptions{{Filter: "users/bob", Qos: 1}}})
				if ack := c.want(packets.Suback); !bytes.Equal(ack.ReasonCodes, []byte{1}) {
					t.Errorf("SUBACK % x, want 01", ack.ReasonCodes)
				}
			}
			s.send("g1", "alice", "third")
			c.wantText("third")
		})
	}
}

func TestClientIdentifierInline(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	for range 3 {
		c := s.login(5, "mallory", "inline")
		c.ping()
	}
	h.check()
}

// A length header of 256 MB costs nothing, before login and after.
func TestHugeLengthHeader(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	for _, loggedIn := range []bool{false, true} {
		for range 20 {
			c := s.dial()
			if loggedIn {
				c = s.login(5, "carol", "phone")
			}
			first := packets.Connect << 4
			if loggedIn {
				first = packets.Publish << 4
			}
			c.raw([]byte{first, 0xFF, 0xFF, 0xFF, 0x7F})
			if last := c.wantEnd(); loggedIn && last.ReasonCode != 0x95 {
				t.Errorf("DISCONNECT 0x%02X, want 0x95", last.ReasonCode)
			}
		}
	}
	h.check()
}

// Bytes without sense end their own connection and nothing else.
func TestGarbage(t *testing.T) {
	s := serve(t, serverOptions{})
	h := s.healthy("bob")
	garbage := [][]byte{
		{0x00, 0},
		{0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		{0xF0, 0},
		{0x82, 0},
		{0xA2, 2, 0, 0},
		{0x32, 2, 0, 5},
		{0x36, 0},
		{0x62, 1, 0},
		{0x30, 3, 0, 1, 0xFF},
		{0x30, 2, 0, 0},
		{0x40, 1, 0},
		{0x40, 0},
		{0xE0, 1, 0xFF},
		{0x10, 0},
		{0x20, 2, 0, 0},
		{0x90, 3, 0, 1, 0},
		{0x82, 6, 0, 1, 1, 0x0B, 0, 1},
		{0x32, 7, 0, 1, 'x', 0, 0, 0, 0},
	}
	for _, g := range garbage {
		for _, version := range []byte{4, 5} {
			c := s.login(version, "carol", "phone")
			c.raw(g)
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
			c.wantEnd()
		}
	}
	h.check()
}

// A will to a foreign group goes the way of every message: refused. To one's own group it is sent.
func TestWills(t *testing.T) {
	for _, c := range []struct {
		name    string
		account string
		end     func(*client)
		sent    bool
	}{
		{"connection breaks", "alice", func(c *client) { _ = c.nc.Close() }, true},
		{"normal end", "alice", func(c *client) { c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}) }, false},
		{"end with will", "alice", func(c *client) {
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: 4})
		}, true},
		{"broken protocol", "alice", func(c *client) { c.raw([]byte{0x00, 0}) }, true},
		{"foreign group", "mallory", func(c *client) { _ = c.nc.Close() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ended := make(chan StateChange, 8)
			s := serve(t, serverOptions{onState: func(ch StateChange) {
				if ch.Action != StateLogin {
					ended <- ch
				}
			}})
			h := s.healthy("bob")
			pk := connectPacket(t, 5, c.account, "phone")
			pk.Connect.WillFlag, pk.Connect.WillQos, pk.Connect.WillTopic, pk.Connect.WillPayload = true, 1, "groups/g1", []byte("I am gone")
			pk.Connect.WillProperties.WillDelayInterval = 600
			cl := s.dial()
			if ack := cl.connect(pk); ack.ReasonCode != 0 {
				t.Fatalf("CONNACK 0x%02X %s", ack.ReasonCode, ack.Properties.ReasonString)
			}
			c.end(cl)
			<-ended
			if c.sent {
				if e := h.wantText("I am gone"); e.FromAccount != c.account {
					t.Errorf("the will is from %s", e.FromAccount)
				}
			}
			h.check() // and nothing else came
		})
	}
}

// Bob can take nothing that is alice's: not her session, not what waits for her, not her will.
func TestSameClientIdentifierOfAnotherUser(t *testing.T) {
	s := serve(t, serverOptions{})
	pk := connectPacket(t, 5, "alice", "phone")
	pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "groups/g1", []byte("alice's will")
	alice := s.dial()
	alice.connect(pk)
	alice.mustSubscribe(1, "groups/+", "users/alice")
	s.create("secret", group.Public, "alice", "carol")
	h := s.healthy("bob")
	for _, device := range []string{"phone", "alice/phone", "../alice/phone", "alice"} {
		c := s.login(5, "bob", device).mustSubscribe(1, "groups/+")
		s.send("secret", "carol", "for alice")
		alice.wantText("for alice")
		c.ping()
		c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		c.wantEnd()
	}
	s.b.Notify(hooks.Notice{To: "alice", Event: "ProfileChanged"})
	if e := alice.receive(); e.Event != "ProfileChanged" {
		t.Errorf("alice got %+v", e)
	}
	h.check()
	for range h.n { // her session has lived on through all of it
		alice.receive()
	}
	if n := len(s.b.Online("alice")); n != 1 {
		t.Errorf("alice has %d connections, want 1", n)
	}
}

func TestConnectionLimits(t *testing.T) {
	closed := func(t *testing.T, c *client) bool {
		t.Helper()
		c.version = 5
		_, _ = c.nc.Write(c.encode(connectPacket(t, 5, "alice", "")))
		pk, err := c.read()
		if err == nil && pk.FixedHeader.Type == packets.Connack {
			return false
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("ended with %v", err)
		}
		return true
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want []bool // closed at once, by login
	}{
		{"total", Config{Connections: 2}, []bool{false, false, true}},
		{"per address, loopback free", Config{ConnectionsPerAddress: 2}, []bool{false, false, false}},
		{"per address", Config{ConnectionsPerAddress: 2, CountLoopback: true}, []bool{false, false, true}},
		{"rate", Config{ConnectsPerAddress: 1, ConnectBurstPerAddress: 2, CountLoopback: true}, []bool{false, false, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, serverOptions{cfg: c.cfg})
			var got []bool
			for range c.want {
				got = append(got, closed(t, s.dial()))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("closed: %v, want %v", got, c.want)
			}
		})
	}
	t.Run("unauthenticated", func(t *testing.T) {
		s := serve(t, serverOptions{cfg: Config{Unauthenticated: 2}})
		one, two := s.dial(), s.dial()
		if c := s.dial(); !closed(t, c) {
			t.Error("a third connection without login was let in")
		}
		if closed(t, one) || closed(t, two) {
			t.Error("one of the two was closed")
		}
		if closed(t, s.dial()) {
			t.Error("there was room again")
		}
	})
	t.Run("given back", func(t *testing.T) {
		s := serve(t, serverOptions{cfg: Config{Connections: 1, ConnectionsPerAddress: 1, CountLoopback: true}})
		for range 50 {
			c := s.login(5, "alice", "phone")
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
			c.wantEnd()
			for deadline := time.Now().Add(patience); s.b.metrics.connections.Load() > 0 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond) // the server's end of it follows the client's
			}
		}
	})
}

// A client that takes only small packets is told why it goes in one that fits, or in none.
func TestDisconnectFitsTheClient(t *testing.T) {
	s := serve(t, serverOptions{})
	for _, tt := range []struct {
		size   uint32
		code   byte
		reason bool
	}{{0, 0x82, true}, {64, 0x82, false}, {80, 0x82, true}} {
		t.Run(fmt.Sprint("size=", tt.size), func(t *testing.T) {
			c := s.dial()
			pk := connectPacket(t, 5, "bob", "phone")
			pk.Properties.MaximumPacketSize = tt.size
			c.connect(pk)
			c.raw([]byte{0x82, 3, 0, 1, 0}) // no topic filter
			last := c.wantEnd()
			if last.ReasonCode != tt.code {
				t.Errorf("DISCONNECT 0x%02X, want 0x%02X", last.ReasonCode, tt.code)
			}
			if got := last.Properties.ReasonString != ""; got != tt.reason {
				t.Errorf("Reason String %q, want one: %t", last.Properties.ReasonString, tt.reason)
			}
		})
	}
	for size, want := range map[int]string{1: "", 3: "", 4: "\xe0\x02\x82\x00", 70: "\xe0\x02\x82\x00"} {
		c := &conn{version: 5, maxPacket: size}
		if got := c.appendDisconnect(nil, 0x82, strings.Repeat("x", 60)); string(got) != want {
			t.Errorf("size %d: % x, want % x", size, got, want)
		}
	}
}
