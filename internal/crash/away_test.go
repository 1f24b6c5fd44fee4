package crash

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/internal/invariant"
	"github.com/rookery-im/rookery/storage/mongo/testserver"
	"github.com/rookery-im/rookery/storage/mongo/wireproxy"
)

// soon bounds what must happen by itself; nothing is expected to take as long.
const soon = 30 * time.Second

// TestDatabaseAway is what clients see while MongoDB is away, or takes every command and never
// answers: publishes wait, and are answered with 0x83 or a closed connection if it takes too
// long; calls get an error; readiness says no; and all of it ends by itself.
func TestDatabaseAway(t *testing.T) {
	name := testserver.Database(t)
	p := wireproxy.Start(t, testserver.URI(t))
	n, err := Start(t.Context(), program, t.TempDir(), append(database{p.URI, name}.env(),
		"ROOKERY_PIPELINE_STORE_WAIT=3s", "ROOKERY_STORAGE_MONGO_TIMEOUT=1s", "ROOKERY_STORAGE_MONGO_CONNECT_TIMEOUT=500ms")...)
	if err != nil {
		t.Fatal(err)
	}
	a := &away{node: n, log: new(invariant.Log), random: make(map[string]uint32)}
	for _, user := range []string{"alice", "bob"} {
		a.call(t, "im_open_login_svc/account_import", map[string]any{"UserID": user})
	}
	a.call(t, "group_open_http_svc/create_group", map[string]any{"Type": "Public", "Name": "away", "GroupId": groupID(0), "MemberList": []map[string]any{
		{"Member_Account": "alice"}, {"Member_Account": "bob"},
	}})
	silent := func(string, string) wireproxy.Action { return wireproxy.BlackHole }
	for _, outage := range []struct {
		name         string
		begin, ended func()
	}{
		{"away", func() { p.Down(true) }, func() { p.Down(false) }},
		{"silent", func() { p.Set(silent) }, func() { p.Set(nil); p.CutAll() }},
	} {
		t.Run(outage.name, func(t *testing.T) {
			alice, bob := a.dial(t, 5, "alice"), a.dial(t, 4, "bob")
			a.acked(t, alice, a.next("alice"))
			a.acked(t, bob, a.next("bob"))

			outage.begin()
			ours, theirs := a.next("alice"), a.next("bob")
			a.send(t, alice, ours)
			a.send(t, bob, theirs)
			a.until(t, "two messages wait", func() bool { return strings.Contains(a.get(t, "/metrics"), "\nrookery_hooks_pending_messages 2\n") })
			a.until(t, "not ready", func() bool { return a.status(t, "/readyz") == http.StatusServiceUnavailable })
			if status := a.status(t, "/healthz"); status != http.StatusOK {
				t.Errorf("/healthz = %d; want 200: a restart would not help", status)
			}
			err := n.Call(t.Context(), "group_open_http_svc/group_msg_get_simple", map[string]any{"GroupId": groupID(0), "ReqMsgNumber": 1}, nil)
			if err == nil || !strings.Contains(err.Error(), "try again") {
				t.Errorf("history = %v; want an error that says to try again", err)
			}
			if ack, err := a.answer(alice); err != nil || ack.reason != 0x83 {
				t.Errorf("MQTT 5: PUBACK %+v, %v; want 0x83", ack, err)
			}
			if ack, err := a.answer(bob); err == nil {
				t.Errorf("MQTT 3.1.1: PUBACK %+v; want a closed connection", ack)
			}

			outage.ended()
			a.until(t, "ready", func() bool { return a.status(t, "/readyz") == http.StatusOK })
			a.acked(t, alice, ours)
			a.acked(t, a.dial(t, 4, "bob"), theirs)

			// An outage that is shorter than the wait is only a delay.
			outage.begin()
			ours = a.next("alice")
			a.send(t, alice, ours)
			a.until(t, "a message waits", func() bool { return strings.Contains(a.get(t, "/metrics"), "\nrookery_hooks_pending_messages 1\n") })
			outage.ended()
			if ack, err := a.answer(alice); err != nil || ack.reason != 0 {
				t.Errorf("PUBACK %+v, %v; want success after a short outage", ack, err)
			} else {
				a.note(t, ours, ack)
			}
		})
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
	content := read(t, database{testserver.URI(t), name}.open(t, ""), 1)
	for _, v := range invariant.Check(a.log.Events(), content) {
		t.Error(v)
	}
	if got, want := len(content[groupID(0)]), int(a.random["alice"]+a.random["bob"]); got != want {
		t.Errorf("%d messages are stored; want %d, each once", got, want)
	}
}

type away struct {
	node   *Node
	log    *invariant.Log
	random map[string]uint32 // of the last message, by sender
}

func (a *away) call(t *testing.T, command string, in any) {
	t.Helper()
	if err := a.node.Call(t.Context(), command, in, nil); err != nil {
		t.Fatal(err)
	}
}

// next returns a new message of the user.
func (a *away) next(user string) *message {
	a.random[user]++
	return &message{group: groupID(0), key: invariant.MessageKey{From: group.Account(user), Random: a.random[user], Body: fmt.Sprintf("%s-%d", user, a.random[user])}}
}

func (a *away) dial(t *testing.T, version byte, user string) *conn {
	t.Helper()
	c, err := dialVersion(t.Context(), version, a.node.MQTT, user, UserSig(user), "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it may have been closed by then
	return c
}

func (a *away) send(t *testing.T, c *conn, m *message) {
	t.Helper()
	a.log.Add(invariant.Event{Kind: invariant.Sent, Group: m.group, Message: m.key, Again: m.before})
	if err := c.publish(topic(m.group), uint16(m.key.Random), false, m.payload()); err != nil {
		t.Fatal(err)
	}
	m.before = true
}

// answer returns the next PUBACK.
func (a *away) answer(c *conn) (ack, error) {
	_ = c.SetReadDeadline(time.Now().Add(soon)) // a dead connection shows at the read
	for {
		kind, body, err := c.read()
		if err != nil {
			return ack{}, err
		}
		if kind>>4 == 4 {
			return parseAck(body)
		}
	}
}

// acked sends m and wants success.
func (a *away) acked(t *testing.T, c *conn, m *message) {
	t.Helper()
	a.send(t, c, m)
	ack, err := a.answer(c)
	if err != nil || ack.reason != 0 {
		t.Fatalf("%+v: PUBACK %+v, %v; want success", m.key, ack, err)
	}
	a.note(t, m, ack)
}

// note records a success; MQTT 3.1.1 has no place for the SEQ.
func (a *away) note(t *testing.T, m *message, ack ack) {
	t.Helper()
	e := invariant.Event{Kind: invariant.Acked, Group: m.group, Message: m.key}
	if text, ok := ack.props["MsgSeq"]; ok {
		seq, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Error(err)
		}
		e.Seq = group.Seq(seq)
	}
	a.log.Add(e)
}

func (a *away) until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !reached(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", soon, what)
		}
	}
}

func (a *away) get(t *testing.T, path string) string {
	t.Helper()
	_, body, err := a.node.Get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (a *away) status(t *testing.T, path string) int {
	t.Helper()
	status, _, err := a.node.Get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return status
}
