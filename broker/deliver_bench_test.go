package broker

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
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

// What does a delivery cost through the flusher, with a write to /dev/null as the system call,
// and what through a goroutine of the connection, without one? ns/delivery is that.
func BenchmarkDeliver(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	raw, err := null.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	for _, members := range []int{100, 1000, 10000} {
		for _, qos := range []byte{0, 1} {
			for _, batch := range []int{1, 16} {
				b.Run(fmt.Sprintf("flusher/members=%d/qos=%d/batch=%d", members, qos, batch), func(b *testing.B) {
					benchmarkDeliver(b, raw, members, qos, batch)
				})
				b.Run(fmt.Sprintf("goroutines/members=%d/qos=%d/batch=%d", members, qos, batch), func(b *testing.B) {
					benchmarkDeliver(b, nil, members, qos, batch)
				})
			}
		}
	}
}

func benchmarkDeliver(b *testing.B, raw syscall.RawConn, members int, qos byte, batch int) {
	br, err := New(Config{}, storagetest.NewMemory(), usersig.NewVerifier(testApp), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	key := group.Key{ID: "g1", Incarnation: 1}
	var bytes atomic.Int64
	conns := make([]*conn, members)
	for i := range conns {
		u := &user{account: group.Account(fmt.Sprint("user", i))}
		c := &conn{b: br, nc: sink{bytes: &bytes}, raw: raw, version: 4}
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
		for br.metrics.sentBytes.Load() < total || raw == nil && bytes.Load() < total {
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

// What does it cost to read a topic name?
func BenchmarkParseName(b *testing.B) {
	for _, name := range []string{"groups/bench-0a1b2c3d-17", "groups/@TGS%23_2J4SZEAEL", "rpc/sync"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseName(name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What does it cost to encode a message, once for all its receivers?
func BenchmarkAppendMessage(b *testing.B) {
	m := &group.Message{Group: "g1", Seq: 7, Time: 1, From: "alice", Body: group.TextBody(strings.Repeat("x", 200)), Sender: group.Sender{Nick: "Alice", Role: "Member"}}
	buf := appendMessage(nil, m)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = appendMessage(buf[:0], m)
	}
}

// What does it cost to take PUBACKs out of what a client sends?
func BenchmarkScanPubacks(b *testing.B) {
	var in []byte
	for id := range byte(64) {
		in = append(in, pubackByte, 2, 0, id+1)
	}
	p := make([]byte, len(in))
	var f framer
	acked := 0
	b.ReportAllocs()
	for b.Loop() {
		copy(p, in)
		f.scan(p, true, func(uint16) { acked++ })
	}
	if acked == 0 {
		b.Fatal("no PUBACK was found")
	}
}
