package broker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

var withSessions = Config{SessionExpiry: time.Hour, ReplayLimit: 100}

// comeBack connects with a session that is to be kept, and checks Session Present.
func (s *server) comeBack(version byte, account, device string, present bool) *client {
	s.t.Helper()
	pk := connectPacket(s.t, version, account, device)
	pk.Connect.Clean = false
	if version == 5 {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
	}
	c := s.dial()
	ack := c.connect(pk)
	if ack.ReasonCode != 0 || ack.SessionPresent != present {
		s.t.Fatalf("CONNACK of %s/%s: code %d, session present %t; want 0, %t", account, device, ack.ReasonCode, ack.SessionPresent, present)
	}
	return c
}

// bye disconnects and waits until the server knows.
func (s *server) bye(c *client, account string) {
	s.t.Helper()
	c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.wantEnd()
	waitFor(s.t, "the session to end", func() bool {
		s.b.durables.mu.Lock()
		defer s.b.durables.mu.Unlock()
		for key := range s.b.durables.held {
			if string(key.account) == account {
				return false
			}
		}
		return true
	})
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (s *server) texts(id group.ID, from group.Account, first, last int) {
	s.t.Helper()
	for i := first; i <= last; i++ {
		s.send(id, from, fmt.Sprint(i))
	}
}

func (c *client) wantTexts(first, last int) {
	c.t.Helper()
	for i := first; i <= last; i++ {
		c.wantText(fmt.Sprint(i))
	}
}

// nothing checks that nothing is waiting to be received.
func (c *client) nothing() { c.t.Helper(); c.ping() }

func TestResume(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprintf("MQTT %d", version), func(t *testing.T) {
			s := serve(t, serverOptions{cfg: withSessions})
			c := s.comeBack(version, "bob", "phone", false)
			s.texts("g1", "alice", 1, 1) // from before the subscription
			c.mustSubscribe(1, "groups/+")
			s.texts("g1", "alice", 2, 3)
			c.wantTexts(2, 3)
			c.nothing()
			s.bye(c, "bob")
			s.texts("g1", "alice", 4, 8)
			c = s.comeBack(version, "bob", "phone", true)
			c.wantTexts(4, 8)
			s.texts("g1", "alice", 9, 9)
			c.wantTexts(9, 9)
			// What was not acknowledged comes again.
			s.texts("g1", "alice", 10, 10)
			c.want(packets.Publish)
			s.bye(c, "bob")
			c = s.comeBack(version, "bob", "phone", true)
			c.wantTexts(10, 10)
			c.nothing()
			// Another device knows nothing of it, nor does a clean start, which ends it.
			s.comeBack(version, "bob", "tablet", false).nothing()
			s.login(version, "bob", "phone").nothing()
			c.wantEnd()
			s.texts("g1", "alice", 11, 11)
			s.comeBack(version, "bob", "phone", false).nothing()
		})
	}
}

// A session goes on in another process that has the same store, whether or not the first one
// could say good-bye.
func TestResumeAfterRestart(t *testing.T) {
	s := serve(t, serverOptions{cfg: withSessions})
	c := s.comeBack(4, "bob", "phone", false).mustSubscribe(1, "groups/g1")
	s.texts("g1", "alice", 1, 2)
	c.wantTexts(1, 2)
	c.nothing()
	frozen := s.store // as a crash leaves it: nothing is written at the end
	crashed := map[string][]byte{}
	for _, table := range []string{storage.Sessions.Name, storage.SessionMarks.Name} {
		for r, err := range frozen.Scan(t.Context(), table, storage.Span{}) {
			if err != nil {
				t.Fatal(err)
			}
			crashed[table+" "+r.Key] = r.Value
		}
	}
	if len(crashed) != 2 {
		t.Fatalf("after SUBACK the store has %d records of the session, want a row and a mark", len(crashed))
	}
	s.stop()
	// After an orderly stop nothing is repeated.
	s = serve(t, serverOptions{cfg: withSessions, store: frozen})
	s.texts("g1", "alice", 3, 3)
	c = s.comeBack(4, "bob", "phone", true)
	c.wantTexts(3, 3)
	c.nothing()
	s.stop()
	// After a crash what was acknowledged since the last write is, and nothing is left out.
	var muts []storage.Mutation
	for _, table := range []string{storage.Sessions.Name, storage.SessionMarks.Name} {
		muts = append(muts, storage.Mutation{Op: storage.DeletePrefix, Table: table})
		for k, v := range crashed {
			if len(k) > len(table) && k[:len(table)+1] == table+" " {
				muts = append(muts, storage.Mutation{Op: storage.Put, Table: table, Key: k[len(table)+1:], Value: v})
			}
		}
	}
	if err := frozen.Apply(t.Context(), muts...); err != nil {
		t.Fatal(err)
	}
	s = serve(t, serverOptions{cfg: withSessions, store: frozen})
	s.comeBack(4, "bob", "phone", true).wantTexts(1, 3)
}

// A session is in the store when CONNACK grants it, so that a sender that subscribes to nothing
// finds it after a crash, and sends again what was not acknowledged.
func TestGrantedSessionOutlastsCrash(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprintf("MQTT %d", version), func(t *testing.T) {
			s := serve(t, serverOptions{cfg: withSessions})
			s.comeBack(version, "alice", "sensor", false)
			// The first server has not written anything at an end, as one that crashed.
			next := serve(t, serverOptions{cfg: withSessions, store: s.store})
			next.comeBack(version, "alice", "sensor", true)
		})
	}
}

// What is written of a session while it has a connection says when it was written, not when the
// session was left: after a crash its time is counted from the start of the next server.
func TestSessionTimeAfterCrash(t *testing.T) {
	s := serve(t, serverOptions{cfg: withSessions})
	s.comeBack(4, "alice", "sensor", false)
	key := storage.SessionKey("alice", "sensor")
	row, err := storage.Sessions.Get(t.Context(), s.store, key)
	if err != nil {
		t.Fatal(err)
	}
	row.Seen -= 2 * row.Expiry
	if err := s.store.Apply(t.Context(), storage.Sessions.Put(key, row)); err != nil {
		t.Fatal(err)
	}
	next := serve(t, serverOptions{cfg: withSessions, store: s.store})
	next.b.sweepSessions(t.Context(), time.Now().Unix())
	next.bye(next.comeBack(4, "alice", "sensor", true), "alice")
	if row, err = storage.Sessions.Get(t.Context(), s.store, key); err != nil || row.Held {
		t.Errorf("after DISCONNECT the row is %+v, %v: still held", row, err)
	}
}

func TestReplayLimit(t *testing.T) {
	s := serve(t, serverOptions{cfg: Config{SessionExpiry: time.Hour, ReplayLimit: 5}})
	s.create("g2", group.Public, "alice", "bob")
	c := s.comeBack(5, "bob", "phone", false).mustSubscribe(1, "groups/+")
	s.bye(c, "bob")
	s.texts("g1", "alice", 1, 12)
	s.texts("g2", "alice", 1, 2)
	c = s.comeBack(5, "bob", "phone", true)
	for i := 8; i <= 12; i++ {
		if e := c.wantText(fmt.Sprint(i)); e.MsgSeq != int64(i) {
			t.Fatalf("SEQ %d, want %d", e.MsgSeq, i)
		}
	}
	c.wantTexts(1, 2)
	c.nothing()
}

// Who is removed while away gets nothing of the group, not even what came before; who comes
// back into it only what came since.
func TestResumeAfterRemoval(t *testing.T) {
	s := serve(t, serverOptions{cfg: withSessions})
	for _, id := range []group.ID{"gone", "again", "new", "reborn"} {
		if id != "new" {
			s.create(id, group.Public, "alice", "bob")
		}
	}
	c := s.comeBack(5, "bob", "phone", false).mustSubscribe(1, "groups/+", "groups/gone")
	s.texts("reborn", "alice", 1, 3)
	c.wantTexts(1, 3)
	s.bye(c, "bob")
	for _, id := range []group.ID{"gone", "again", "reborn"} {
		s.send(id, "alice", "before")
	}
	s.remove("gone", "bob")
	s.remove("again", "bob")
	s.send("gone", "alice", "secret")
	s.send("again", "alice", "secret")
	s.join("again", "bob")
	s.send("again", "alice", "a1")
	s.create("new", group.Public, "alice")
	s.send("new", "alice", "secret")
	s.join("new", "bob")
	s.send("new", "alice", "n1")
	s.update("reborn", func(tx *hooks.Tx) error { tx.Destroy(); return nil })
	s.create("reborn", group.Public, "alice", "bob")
	s.send("reborn", "alice", "r1")
	c = s.comeBack(5, "bob", "phone", true)
	for _, want := range []string{"a1", "n1", "r1"} {
		c.wantText(want)
	}
	c.nothing()
	s.send("gone", "alice", "secret")
	c.nothing()
	// A removal while it is connected, too.
	s.remove("again", "bob")
	s.bye(c, "bob")
	s.send("again", "alice", "secret")
	s.comeBack(5, "bob", "phone", true).nothing()
}

// History in a resumed session obeys the receive option, the recipients, recalls, and the
// user's and the app's deletions.
func TestResumeLeavesOut(t *testing.T) {
	s := serve(t, serverOptions{cfg: withSessions})
	s.create("quiet", group.Public, "alice", "bob")
	s.update("quiet", func(tx *hooks.Tx) error {
		return tx.PutMember(&group.Member{Account: "bob", Role: group.OrdinaryMember, Receive: group.Discard})
	})
	c := s.comeBack(5, "bob", "phone", false).mustSubscribe(1, "groups/+")
	s.bye(c, "bob")
	s.send("quiet", "alice", "discarded")
	s.texts("g1", "alice", 1, 6)
	s.join("g1", "carol")
	if o := s.pipeline.Send(t.Context(), &hooks.Draft{Group: "g1", From: "alice", Operator: "alice", Body: group.TextBody("for carol"), To: []group.Account{"carol"}}); o.Err != nil {
		t.Fatal(o.Err)
	}
	key := s.key("g1")
	s.update("g1", func(tx *hooks.Tx) error {
		tx.Group().ClearedTo = 2
		tx.Save()
		tx.Write(storage.Views.Put(storage.MemberKey(key, "bob"), &storage.View{ClearedTo: 3, Hidden: []group.Seq{5}}))
		for m, err := range s.store.Range(t.Context(), key, 6, 7) {
			if err != nil {
				return err
			}
			tx.Replace(m.Tombstone(group.Recalled, "alice", ""))
		}
		return nil
	})
	c = s.comeBack(5, "bob", "phone", true)
	c.wantTexts(4, 4)
	c.nothing()
}

func TestSessionEnds(t *testing.T) {
	s := serve(t, serverOptions{cfg: Config{SessionExpiry: time.Hour, SessionsPerUser: 2}})
	rows := func() (n int) {
		for _, err := range s.store.Scan(t.Context(), storage.Sessions.Name, storage.Span{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		for _, err := range s.store.Scan(t.Context(), storage.SessionMarks.Name, storage.Span{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	// The longest expiry is ours, and CONNACK says so.
	pk := connectPacket(t, 5, "bob", "a")
	pk.Connect.Clean, pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = false, 1<<32-1, true
	c := s.dial()
	if ack := c.connect(pk); !ack.Properties.SessionExpiryIntervalFlag || ack.Properties.SessionExpiryInterval != 3600 {
		t.Errorf("CONNACK has session expiry %d", ack.Properties.SessionExpiryInterval)
	}
	c.mustSubscribe(1, "groups/+")
	if n := rows(); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
	// DISCONNECT with expiry 0 ends it.
	c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, Properties: packets.Properties{SessionExpiryIntervalFlag: true}})
	c.wantEnd()
	waitFor(t, "the session to end", func() bool { return rows() == 0 })

	// Past the limit the one that was unused longest ends.
	for _, device := range []string{"a", "b", "c"} {
		c := s.comeBack(5, "bob", device, false).mustSubscribe(1, "groups/+")
		s.bye(c, "bob")
		row, err := storage.Sessions.Get(t.Context(), s.store, storage.SessionKey("bob", device))
		if err != nil {
			t.Fatal(err)
		}
		row.Seen -= int64(10 - device[0]%10) // they would be of one second
		if err := s.store.Apply(t.Context(), storage.Sessions.Put(storage.SessionKey("bob", device), row)); err != nil {
			t.Fatal(err)
		}
	}
	if n := rows(); n != 4 {
		t.Errorf("%d records, want two sessions with a mark each", n)
	}
	c = s.comeBack(5, "bob", "c", true)
	s.b.sweepSessions(t.Context(), time.Now().Unix()+601)
	if n := rows(); n != 2 {
		t.Errorf("after the sweep %d records, want the connected session's 2", n)
	}
	s.bye(c, "bob")
	// One that has expired, but was not swept yet, is not there.
	row, err := storage.Sessions.Get(t.Context(), s.store, storage.SessionKey("bob", "c"))
	if err != nil {
		t.Fatal(err)
	}
	row.Seen -= 601
	if err := s.store.Apply(t.Context(), storage.Sessions.Put(storage.SessionKey("bob", "c"), row)); err != nil {
		t.Fatal(err)
	}
	s.comeBack(5, "bob", "c", false).nothing()
}

// TestResumeOrder cuts a connection again and again while messages pour in: on each connection
// the SEQs ascend without a gap, and together they are all there.
func TestResumeOrder(t *testing.T) {
	s := serve(t, serverOptions{cfg: Config{SessionExpiry: time.Hour, ReplayLimit: 100_000, SlowConsumerBytes: 64 << 10}})
	const total = 3000
	c := s.comeBack(4, "bob", "phone", false).mustSubscribe(1, "groups/+")
	var sending sync.WaitGroup
	ahead := make(chan struct{}, 2*total) // the sender stays a little ahead, so that messages come at every moment
	for range 150 {
		ahead <- struct{}{}
	}
	sending.Go(func() {
		for i := 1; i <= total; i++ {
			<-ahead
			s.send("g1", "alice", fmt.Sprint(i))
		}
	})
	reached := int64(0)
	for cuts := 0; reached < total; cuts++ {
		at := int64(0)
		for range 40 + 10*cuts {
			e := c.receive()
			if e.Event != "Message" {
				t.Fatalf("received %+v", e)
			}
			if at != 0 && e.MsgSeq != at+1 || at == 0 && e.MsgSeq > reached+1 {
				t.Fatalf("connection %d: SEQ %d after %d (acknowledged before: %d)", cuts, e.MsgSeq, at, reached)
			}
			at = e.MsgSeq
			for ; reached < at; reached++ {
				ahead <- struct{}{}
			}
			if reached == total {
				break
			}
		}
		if reached < total {
			_ = c.nc.Close()
			c = s.comeBack(4, "bob", "phone", true) // the old one may still be there
		}
	}
	sending.Wait()
	c.nothing()
}

// TestResumeWhileLive has messages come while history is read, and a delivery come late of what
// history has shown already.
func TestResumeWhileLive(t *testing.T) {
	s := serve(t, serverOptions{cfg: withSessions})
	s.create("g2", group.Public, "alice", "bob")
	c := s.comeBack(4, "bob", "phone", false).mustSubscribe(1, "groups/+")
	s.bye(c, "bob")
	s.texts("g1", "alice", 1, 3)
	s.texts("g2", "alice", 1, 2)
	key := s.key("g1")
	var reads atomic.Int32
	s.store.Fail(func(method string) error {
		if method != "Range" {
			return nil
		}
		switch reads.Add(1) {
		case 1: // of g1: its live messages, and events, wait behind its history
			s.texts("g1", "alice", 4, 5)
			s.b.Deliver(key, []hooks.Delivery{{Event: &hooks.Event{Name: "Recall", Body: map[string]int{"MsgSeq": 2}}}})
		case 2: // of g1 again, for those; while g2 waits for its turn
			s.texts("g2", "alice", 3, 3)
		}
		return nil
	})
	c = s.comeBack(4, "bob", "phone", true)
	c.wantTexts(1, 5)
	if e := c.receive(); e.Event != "Recall" {
		t.Fatalf("received %+v, want the event that came meanwhile", e)
	}
	c.wantTexts(1, 3)
	s.store.Fail(nil)
	for m, err := range s.store.Range(t.Context(), key, 4, 6) {
		if err != nil {
			t.Fatal(err)
		}
		s.b.Deliver(key, []hooks.Delivery{{Message: m}})
	}
	s.texts("g1", "alice", 6, 6)
	c.wantTexts(6, 6)
	c.nothing()
	if n := reads.Load(); n < 3 {
		t.Errorf("history was read %d times: nothing came in between", n)
	}
}

// A history that can't be read ends the connection: the client comes back, and nothing is lost.
func TestResumeWithoutHistory(t *testing.T) {
	s := serve(t, serverOptions{cfg: withSessions})
	c := s.comeBack(5, "bob", "phone", false).mustSubscribe(1, "groups/+")
	s.bye(c, "bob")
	s.texts("g1", "alice", 1, 3)
	s.store.Fail(func(method string) error {
		if method == "Range" {
			return storage.ErrUnavailable
		}
		return nil
	})
	c = s.comeBack(5, "bob", "phone", true)
	if pk := c.wantEnd(); pk.ReasonCode != codeImplementation {
		t.Errorf("DISCONNECT 0x%02X, want 0x%02X", pk.ReasonCode, codeImplementation)
	}
	s.store.Fail(nil)
	s.comeBack(5, "bob", "phone", true).wantTexts(1, 3)
}
