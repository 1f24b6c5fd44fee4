package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/rookery-im/rookery/client"
)

func TestWebSocket(t *testing.T) {
	n := start(t)
	makeGroup(t, n, "c", "alice")
	c, r := dial(t, client.Config{Server: "ws://" + n.WS + "/mqtt", Account: "alice"})
	seq := send(t, c, "c", "over WebSocket")
	r.until(t, "the message", func() bool { return slices.Contains(r.seqs("c"), seq) })
}

func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeOn(t, lis)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	_, r := dial(t, client.Config{Server: "mqtts://" + f.addr, Account: "bob", TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}})
	f.deliver(t, 1)
	r.until(t, "the message", func() bool { return slices.Contains(r.seqs("g"), 1) })
	untrusting, err := client.Dial(timeout(t), client.Config{Server: "mqtts://" + f.addr, Account: "bob", UserSig: sign("bob")})
	if err == nil {
		untrusting.Close()
		t.Error("a certificate of nobody was trusted")
	}
}

// TestLateConnect delivers an attempt to connect after the one that followed it: it takes the
// connection over, and the client must not believe that another device did.
func TestLateConnect(t *testing.T) {
	n := start(t)
	makeGroup(t, n, "c", "alice")
	p := newProxy(t, n.MQTT)
	c, r := dial(t, client.Config{
		Server: "mqtt://" + p.addr, Account: "alice", Device: "phone", ConnectTimeout: 100 * time.Millisecond, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond,
	})
	p.freeze()
	p.cut()
	r.until(t, "a failed attempt", func() bool { return len(eventsOf[client.Refused](r)) > 0 })
	release := p.bypass()
	send(t, c, "c", "over the next attempt")
	release()
	r.until(t, "the end of that connection", func() bool { return len(eventsOf[client.Disconnected](r)) > 1 || len(eventsOf[client.Kicked](r)) > 0 })
	seq := send(t, c, "c", "still here")
	r.until(t, "the message", func() bool { return slices.Contains(r.seqs("c"), seq) })
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}
