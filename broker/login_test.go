package broker

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/usersig"
)

func TestLoginRefusals(t *testing.T) {
	generate := func(app usersig.App, a string, issued time.Time) []byte {
		sig, err := usersig.Generate(app, a, issued, time.Hour, nil)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(sig)
	}
	now := time.Now()
	for _, c := range []struct {
		name   string
		change func(*packets.Packet)
		code   byte
		code3  byte
		reason string
	}{
		{"good", func(*packets.Packet) {}, 0, 0, ""},
		{"expired", func(pk *packets.Packet) { pk.Connect.Password = generate(testApp, "alice", now.Add(-2*time.Hour)) }, 0x87, 5, "70001 "},
		{"empty", func(pk *packets.Packet) { pk.Connect.PasswordFlag, pk.Connect.Password = false, nil }, 0x86, 4, "70002 "},
		{"no UserSig", func(pk *packets.Packet) { pk.Connect.Password = []byte("secret") }, 0x86, 4, "70003 "},
		{"other secret", func(pk *packets.Packet) {
			pk.Connect.Password = generate(usersig.App{ID: testApp.ID, Secret: "other"}, "alice", now)
		}, 0x86, 4, "70009 "},
		{"other user", func(pk *packets.Packet) { pk.Connect.Password = []byte(sigOf(t, "bob")) }, 0x86, 4, "70013 "},
		{"other app", func(pk *packets.Packet) {
			pk.Connect.Password = generate(usersig.App{ID: 7, Secret: testApp.Secret}, "alice", now)
		}, 0x86, 4, "70014 "},
		{"no user name", func(pk *packets.Packet) {
			pk.Connect.UsernameFlag, pk.Connect.Username = false, nil
			pk.Connect.PasswordFlag, pk.Connect.Password = false, nil
		}, 0x86, 4, "70402 "},
		{"long user name", func(pk *packets.Packet) { pk.Connect.Username = bytes.Repeat([]byte("a"), 33) }, 0x86, 4, "70402 "},
		{"long client identifier", func(pk *packets.Packet) { pk.Connect.ClientIdentifier = strings.Repeat("a", 200) }, 0x85, 2, "70402 "},
		{"will to an inbox", func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "users/bob", []byte("x")
		}, 0x90, 5, "10004 "},
		{"will to a misspelt group", func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "groups/g 1", []byte("x")
		}, 0x90, 5, "10004 "},
		{"retained will", func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillRetain, pk.Connect.WillTopic, pk.Connect.WillPayload = true, true, "groups/g1", []byte("x")
		}, 0x9A, 5, ""},
	} {
		for _, version := range []byte{4, 5} {
			t.Run(fmt.Sprintf("%s/version=%d", c.name, version), func(t *testing.T) {
				s := serve(t, serverOptions{})
				pk := connectPacket(t, version, "alice", "phone")
				c.change(pk)
				cl := s.dial()
				ack := cl.connect(pk)
				want := c.code3
				if version == 5 {
					want = c.code
				}
				if ack.ReasonCode != want || version == 5 && !strings.HasPrefix(ack.Properties.ReasonString, c.reason) {
					t.Errorf("CONNACK 0x%02X %q, want 0x%02X %q", ack.ReasonCode, ack.Properties.ReasonString, want, c.reason)
				}
				if want != 0 {
					cl.wantEnd()
				}
			})
		}
	}
}

func TestConnack(t *testing.T) {
	s := serve(t, serverOptions{cfg: Config{MaxPacketSize: 70000, ReceiveMaximum: 33, KeepAlive: 90 * time.Second}})
	c := s.dial()
	pk := connectPacket(t, 5, "alice", "")
	pk.Connect.Keepalive = 0
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
	ack := c.connect(pk)
	p := ack.Properties
	if ack.SessionPresent || !p.SessionExpiryIntervalFlag || p.SessionExpiryInterval != 0 {
		t.Errorf("session present %v, expiry %d (given %v); want false, 0", ack.SessionPresent, p.SessionExpiryInterval, p.SessionExpiryIntervalFlag)
	}
	if p.MaximumPacketSize != 70000 || p.ReceiveMaximum != 33 || !p.ServerKeepAliveFlag || p.ServerKeepAlive != 90 || p.TopicAliasMaximum != 0 {
		t.Errorf("limits %+v", p)
	}
	if !p.RetainAvailableFlag || p.RetainAvailable != 0 || !p.SharedSubAvailableFlag || p.SharedSubAvailable != 0 ||
		!p.SubIDAvailableFlag || p.SubIDAvailable != 0 || !p.WildcardSubAvailableFlag || p.WildcardSubAvailable != 1 {
		t.Errorf("availability %+v", p)
	}
	online := s.b.Online("alice")
	if p.AssignedClientID == "" || len(online) != 1 || online[0].Device != p.AssignedClientID {
		t.Errorf("assigned %q, online %+v", p.AssignedClientID, online)
	}
	// Asked for an expiry at CONNECT, a client may give another at DISCONNECT.
	d := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}
	d.Properties.SessionExpiryInterval, d.Properties.SessionExpiryIntervalFlag = 60, true
	c.write(d)
	if last := c.wantEnd(); last.ReasonCode != 0 {
		t.Errorf("answered with DISCONNECT 0x%02X", last.ReasonCode)
	}
}

func TestAccounts(t *testing.T) {
	find := func(s *server, a group.Account) *group.Profile {
		t.Helper()
		p, err := storage.Accounts.Find(t.Context(), s.store, storage.AccountKey(a))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	t.Run("created", func(t *testing.T) {
		s := serve(t, serverOptions{})
		s.login(4, "dave", "phone")
		if p := find(s, "dave"); p == nil || p.Account != "dave" || p.Created == 0 {
			t.Errorf("profile %+v", p)
		}
	})
	t.Run("not created", func(t *testing.T) {
		s := serve(t, serverOptions{cfg: Config{NoAutoCreate: true}})
		c := s.dial()
		if ack := c.connect(connectPacket(t, 5, "dave", "phone")); ack.ReasonCode != 0x87 || !strings.HasPrefix(ack.Properties.ReasonString, "70107 ") {
			t.Errorf("CONNACK 0x%02X %q", ack.ReasonCode, ack.Properties.ReasonString)
		}
		if p := find(s, "dave"); p != nil {
			t.Errorf("profile %+v", p)
		}
	})
	t.Run("kicked", func(t *testing.T) {
		s := serve(t, serverOptions{})
		profile := &group.Profile{Account: "dave", ValidSig: time.Now().Unix()}
		if err := s.store.Apply(t.Context(), storage.Accounts.Put(storage.AccountKey("dave"), profile)); err != nil {
			t.Fatal(err)
		}
		c := s.dial()
		if ack := c.connect(connectPacket(t, 5, "dave", "phone")); ack.ReasonCode != 0x87 || !strings.HasPrefix(ack.Properties.ReasonString, "70001 ") {
			t.Errorf("CONNACK 0x%02X %q", ack.ReasonCode, ack.Properties.ReasonString)
		}
	})
}

func TestTakeOver(t *testing.T) {
	s := serve(t, serverOptions{})
	first := s.login(5, "alice", "phone").mustSubscribe(1, "groups/+")
	other := s.login(5, "bob", "phone").mustSubscribe(1, "groups/+") // the same client identifier, another user
	second := s.login(5, "alice", "phone")
	if last := first.wantEnd(); last.ReasonCode != 0x8E {
		t.Errorf("DISCONNECT 0x%02X, want 0x8E", last.ReasonCode)
	}
	s.send("g1", "bob", "who is there?")
	other.wantText("who is there?")
	second.ping() // it has subscribed to nothing: alice's old session is gone
	if got := s.b.Online("alice"); len(got) != 1 {
		t.Errorf("alice's connections: %+v, want one", got)
	}
}

// However many connect at once under one client identifier, one stays, and it gets its messages.
func TestSimultaneousTakeOver(t *testing.T) {
	s := serve(t, serverOptions{})
	for round := range 40 {
		var wg sync.WaitGroup
		clients := make([]*client, 4)
		for i := range clients {
			clients[i] = s.dial()
			clients[i].version = 5
			hello := clients[i].encode(connectPacket(t, 5, "bob", "phone"))
			wg.Go(func() { _, _ = clients[i].nc.Write(hello) })
		}
		wg.Wait()
		for _, c := range clients {
			_, _ = c.read() // CONNACK, or the end if another one was faster: now all have logged in
		}
		alive := 0
		for _, c := range clients {
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "groups/+"}}})
			if pk, err := c.read(); err == nil && pk.FixedHeader.Type == packets.Suback {
				alive++
				text := fmt.Sprint("round ", round)
				s.send("g1", "alice", text)
				c.wantText(text)
			}
		}
		if n := len(s.b.Online("bob")); alive != 1 || n != 1 {
			t.Fatalf("round %d: %d answered, %d are online; want one", round, alive, n)
		}
	}
}

func TestLoginPolicies(t *testing.T) {
	for _, c := range []struct {
		policy LoginPolicy
		logins string // platforms in the order of their logins
		stay   string
	}{
		{AnyDevices, "iOS Android Web Web PC", "Android Web Web PC"}, // four are allowed: the oldest goes
		{SingleDevice, "iOS Web", "Web"},
		{DualDevices, "iOS Web Windows Web", "Windows Web"},
		{TripleDevices, "iOS Web Windows IoT", "Web Windows IoT"},
	} {
		t.Run(string(c.policy), func(t *testing.T) {
			var mu sync.Mutex
			var kicked, loggedOut []string
			s := serve(t, serverOptions{
				cfg: Config{LoginPolicy: c.policy, ConnectionsPerUser: 4},
				onState: func(ch StateChange) {
					mu.Lock()
					defer mu.Unlock()
					kicked = append(kicked, ch.Kicked...)
					loggedOut = append(loggedOut, ch.LoggedOut...)
				},
			})
			var clients []*client
			for i, platform := range strings.Fields(c.logins) {
				pk := connectPacket(t, 5, "alice", fmt.Sprint("device ", i))
				pk.Properties.User = []packets.UserProperty{{Key: "platform", Val: platform}}
				cl := s.dial()
				if ack := cl.connect(pk); ack.ReasonCode != 0 {
					t.Fatalf("login %d: 0x%02X", i, ack.ReasonCode)
				}
				clients = append(clients, cl)
			}
			var stay []string
			online := make(map[string]bool)
			for _, o := range s.b.Online("alice") {
				stay = append(stay, o.Platform)
				online[o.Device] = true
			}
			if got := strings.Join(stay, " "); got != c.stay {
				t.Errorf("online: %s, want %s", got, c.stay)
			}
			for i, cl := range clients {
				if online[fmt.Sprint("device ", i)] {
					cl.ping()
				} else if last := cl.wantEnd(); last.ReasonCode != 0x98 {
					t.Errorf("device %d: DISCONNECT 0x%02X, want 0x98", i, last.ReasonCode)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range clients {
				device := fmt.Sprint("device ", i)
				if got := slices.Contains(loggedOut, device); got == online[device] {
					t.Errorf("%s was logged out: %v, is online: %v", device, got, online[device])
				}
			}
			if len(kicked) != len(clients)-len(stay) {
				t.Errorf("kicked devices %v, want %d", kicked, len(clients)-len(stay))
			}
		})
	}
}

func TestKickAndStateChanges(t *testing.T) {
	changes := make(chan StateChange, 16)
	s := serve(t, serverOptions{onState: func(c StateChange) { changes <- c }})
	want := func(action Action, reason, device string, remaining int) {
		t.Helper()
		select {
		case c := <-changes:
			if c.Account != "alice" || c.Action != action || c.Reason != reason || c.Device != device || c.Remaining != remaining || c.At.IsZero() || c.IP != "127.0.0.1" {
				t.Errorf("state change %+v, want %s %s of %s with %d left", c, action, reason, device, remaining)
			}
		case <-time.After(patience):
			t.Fatalf("no state change %s %s", action, reason)
		}
	}
	phone := s.login(5, "alice", "phone")
	want(StateLogin, "Register", "phone", 1)
	tv := s.login(5, "alice", "tv")
	want(StateLogin, "Register", "tv", 2)
	car := s.login(5, "alice", "car")
	want(StateLogin, "Register", "car", 3)

	car.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	want(StateLogout, "Unregister", "car", 2)
	_ = tv.nc.Close()
	want(StateDisconnect, "LinkClose", "tv", 1)
	if n := s.b.Kick("alice", "tv", 0x98, "x"); n != 0 {
		t.Errorf("Kick(tv) ended %d, want none", n)
	}
	if n := s.b.Kick("alice", "", 0x98, "70000 kicked"); n != 1 {
		t.Errorf("Kick ended %d, want 1", n)
	}
	if last := phone.wantEnd(); last.ReasonCode != 0x98 || last.Properties.ReasonString != "70000 kicked" {
		t.Errorf("DISCONNECT 0x%02X %q", last.ReasonCode, last.Properties.ReasonString)
	}
	want(StateLogout, "Unregister", "phone", 0)
	if n := s.b.Kick("nobody", "", 0x98, ""); n != 0 {
		t.Errorf("Kick(nobody) ended %d", n)
	}
}
