package broker

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage/storagetest"
	"github.com/rookery-im/rookery/usersig"
)

// A sink is the client's end without a client: it counts what is written to it.
type sink struct {
	net.Conn
	bytes *atomic.Int64
}

func (s sink) Write(p []byte) (int, error) {
	s.bytes.Add(int64(len(p)))
	return len(p), nil
}
func (sink) SetDeadline(time.Time) error      { return nil }
func (sink) SetReadDeadline(time.Time) error  { return nil }
func (sink) SetWriteDeadline(time.Time) error { return nil }

// What does a delivery cost apart from the system call that writes it? ns/delivery is that.
func BenchmarkDeliver(b *testing.B) {
	for _, members := range []int{100, 1000, 10000} {
		for _, qos := range []byte{0, 1} {
			for _, batch := range []int{1, 16} {
				b.Run(fmt.Sprintf("members=%d/qos=%d/batch=%d", members, qos, batch), func(b *testing.B) {
					benchmarkDeliver(b, members, qos, batch)
				})
			}
		}
	}
}

func benchmarkDeliver(b *testing.B, members int, qos byte, batch int) {
	br, err := New(Config{}, storagetest.NewMemory(), usersig.NewVerifier(testApp), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	key := group.Key{ID: "g1", Incarnation: 1}
	var bytes atomic.Int64
	conns := make([]*conn, members)
	for i := range conns {
		u := &user{account: group.Account(fmt.Sprint("user", i))}
		c := &conn{b: br, nc: sink{bytes: &bytes}, version: 4}
		c.window.size = 1 << 14
		s := &session{conn: c, user: u, all: newSubscription(qos, true)}
		c.session = s
		u.sessions.Store(&[]*session{s})
		br.registry.put(key, newMember(u, 0, group.AcceptAndNotify))
		conns[i] = c
	}
	items := make([]hooks.Delivery, batch)
	for i := range items {
		items[i].Message = &group.Message{Group: "g1", Seq: group.Seq(i + 1), Time: 1, From: "alice", Body: group.TextBody(strings.Repeat("x", 200))}
	}
	run := run{key: key, pub: &published{topic: "groups/g1"}}
	for _, d := range items {
		run.things = append(run.things, thing{message: d.Message})
	}
	want := int64(len(run.frames(false, qos).buf)) * int64(members)
	total := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		br.Deliver(key, items)
		total += want
		for bytes.Load() < total {
			time.Sleep(10 * time.Microsecond)
		}
		if qos > 0 {
			for _, c := range conns {
				c.mu.Lock()
				c.window.oldest = c.window.next
				clear(c.window.pending)
				c.mu.Unlock()
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members*batch), "ns/delivery")
}
