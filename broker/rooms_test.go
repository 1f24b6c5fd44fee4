package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// TestRoomMembership follows an ordinary member of a live room, whose membership nothing stores,
// through going and coming.
func TestRoomMembership(t *testing.T) {
	s := serve(t, serverOptions{})
	s.create("r", group.AVChatRoom, "alice")
	s.create("r2", group.AVChatRoom, "alice")
	s.join("r", "bob")
	key := s.key("r")
	// Joined while offline: it holds for the grace, too.
	bob := s.login(5, "bob", "phone").mustSubscribe(1, "groups/+")
	s.send("r", "alice", "one")
	bob.wantText("one")
	s.join("r2", "bob")
	rooms := func(when string, want int) {
		t.Helper()
		if n := len(s.b.RoomsOf("bob")); n != want {
			t.Errorf("%s bob is in %d rooms, want %d", when, n, want)
		}
	}
	rooms("online", 2)
	_ = bob.nc.Close()
	waitFor(t, "bob to be offline", func() bool { return len(s.b.Online("bob")) == 0 })
	rooms("offline", 2)
	if n := s.b.OnlineInGroup(key); n != 0 {
		t.Errorf("%d are online in the room", n)
	}
	// Within the grace it is in again; of what was removed meanwhile it is not.
	s.remove("r2", "bob")
	rooms("removed", 1)
	s.create("g", group.Public, "alice", "bob")
	bob = s.login(5, "bob", "phone").mustSubscribe(1, "groups/+")
	s.send("r2", "alice", "secret")
	s.send("r", "alice", "two")
	bob.wantText("two")
	rooms("back, and in a group with a row", 1)
	if keys := s.b.RoomsOf("bob"); len(keys) != 1 || keys[0] != key {
		t.Errorf("bob is in %v, want %v", keys, key)
	}
	if keys := s.b.RoomsOf("alice"); len(keys) != 0 {
		t.Errorf("the owner is in %v", keys)
	}
	// A room that was destroyed meanwhile does not come back.
	_ = bob.nc.Close()
	waitFor(t, "bob to be offline", func() bool { return len(s.b.Online("bob")) == 0 })
	s.update("r", func(tx *hooks.Tx) error { tx.Destroy(); return nil })
	s.create("r", group.AVChatRoom, "alice")
	bob = s.login(5, "bob", "phone").mustSubscribe(1, "groups/+")
	s.send("r", "alice", "secret")
	bob.nothing()
	if left := s.b.registry.lapsed(time.Now()); len(left) != 0 {
		t.Errorf("bob is online and %v lapses", left)
	}
}

func TestRoomLapse(t *testing.T) {
	lapsed := make(chan string, 10)
	s := serve(t, serverOptions{cfg: Config{RoomGrace: 50 * time.Millisecond}, onLapse: func(_ context.Context, a group.Account, key group.Key) {
		lapsed <- fmt.Sprint(a, " ", key.ID)
	}})
	s.create("r", group.AVChatRoom, "alice")
	s.join("r", "bob")
	select { // joined, and never seen online
	case got := <-lapsed:
		if got != "bob r" {
			t.Errorf("%s lapsed", got)
		}
	case <-time.After(patience):
		t.Fatal("nothing lapsed")
	}
	s.remove("r", "bob")
	bob := s.login(4, "bob", "phone").mustSubscribe(0, "groups/+")
	s.join("r", "bob")
	s.send("r", "alice", "one")
	bob.wantText("one")
	_ = bob.nc.Close()
	select {
	case <-lapsed:
	case <-time.After(patience):
		t.Fatal("nothing lapsed")
	}
	s.login(4, "bob", "phone").mustSubscribe(0, "groups/+").nothing()
	s.send("r", "alice", "two")
	if n := s.b.OnlineInGroup(s.key("r")); n != 0 {
		t.Errorf("%d are online in the room after it lapsed", n)
	}
}
