package broker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	pahopackets "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
)

// certificate makes a certificate for loopback and the pool that trusts it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, pool
}

// everyDoor serves all four transports; dial connects to one of them.
func everyDoor(t *testing.T) (s *server, dial func(name string) (net.Conn, error)) {
	conf, pool := certificate(t)
	const loopback = "127.0.0.1:0"
	s = serve(t, serverOptions{cfg: Config{
		TCPAddr: loopback, TLSAddr: loopback, WSAddr: loopback, WSSAddr: loopback, TLS: conf,
		WSOrigins: []string{"https://chat.example.com"}, ConnectDeadline: 2 * time.Second,
	}})
	trust := &tls.Config{RootCAs: pool}
	return s, func(name string) (net.Conn, error) {
		addr := s.b.Addr(name).String()
		d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: trust}
		switch name {
		case "tls":
			return tls.Dial("tcp", addr, trust)
		case "ws", "wss":
			ws, resp, err := d.Dial(name+"://"+addr+"/mqtt", http.Header{"Origin": {"https://chat.example.com"}})
			if err != nil {
				return nil, err
			}
			_ = resp.Body.Close()
			return &webSocketConn{Conn: ws.NetConn(), ws: ws}, nil
		}
		return net.Dial("tcp", addr)
	}
}

func TestTransports(t *testing.T) {
	s, dial := everyDoor(t)
	for _, name := range []string{"tcp", "tls", "ws", "wss"} {
		t.Run(name, func(t *testing.T) {
			nc, err := dial(name)
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(t, nc)
			if ack := c.connect(connectPacket(t, 5, "bob", name)); ack.ReasonCode != 0 {
				t.Fatalf("CONNACK 0x%02X", ack.ReasonCode)
			}
			c.mustSubscribe(1, "groups/+")
			for i := range 20 { // each read of the server may end anywhere in the stream
				text := fmt.Sprint(name, i)
				s.send("g1", "alice", text)
				c.wantText(text)
			}
			s.b.Kick("bob", name, 0x98, "kicked")
			if last := c.wantEnd(); last.ReasonCode != 0x98 {
				t.Errorf("DISCONNECT 0x%02X, want 0x98", last.ReasonCode)
			}
		})
	}
}

func TestWebSocketRefusals(t *testing.T) {
	s, _ := everyDoor(t)
	addr := s.b.Addr("ws").String()
	for _, c := range []struct {
		name, path, protocol, origin string
		status                       int
	}{
		{"path", "/other", "mqtt", "", http.StatusNotFound},
		{"subprotocol", "/mqtt", "chat", "", http.StatusBadRequest},
		{"no subprotocol", "/mqtt", "", "", http.StatusBadRequest},
		{"origin", "/mqtt", "mqtt", "https://evil.example.com", http.StatusForbidden},
	} {
		d := websocket.Dialer{}
		if c.protocol != "" {
			d.Subprotocols = []string{c.protocol}
		}
		h := http.Header{}
		if c.origin != "" {
			h.Set("Origin", c.origin)
		}
		ws, resp, err := d.Dial("ws://"+addr+c.path, h)
		if resp != nil {
			_ = resp.Body.Close()
		}
		if err == nil {
			_ = ws.Close()
			t.Errorf("%s: let in", c.name)
			continue
		}
		if resp == nil || resp.StatusCode != c.status {
			t.Errorf("%s: %v, %v; want status %d", c.name, resp, err, c.status)
		}
	}
	// A text message is not MQTT.
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	ws, resp, err := d.Dial("ws://"+addr+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	defer ws.Close()
	if err := ws.WriteMessage(websocket.TextMessage, []byte{0x10}); err != nil {
		t.Fatal(err)
	}
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseUnsupportedData) {
		t.Errorf("a text message was answered with %v", err)
	}
}

// One WebSocket message may carry any number of packets, and a packet any number of frames; at
// the end WebSocket's own goodbye is said.
func TestWebSocketFrames(t *testing.T) {
	s, dial := everyDoor(t)
	nc, err := dial("ws")
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, nc)
	c.connect(connectPacket(t, 5, "alice", "ws"))
	pings := bytes.Repeat([]byte{0xC0, 0}, s.b.cfg.MaxPacketSize)
	go func() { _, _ = nc.Write(pings) }()
	for range s.b.cfg.MaxPacketSize {
		c.want(packets.Pingresp)
	}
	ws := nc.(*webSocketConn).ws
	w, err := ws.NextWriter(websocket.BinaryMessage)
	if err != nil {
		t.Fatal(err)
	}
	long := c.encode(publishPacket(1, 1, "groups/g1", strings.Repeat("x", 8000))) // more than a frame has
	if _, err := w.Write(long[:5000]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.raw(long[5000:])
	if ack := c.want(packets.Puback); ack.ReasonCode != 0 {
		t.Errorf("PUBACK 0x%02X", ack.ReasonCode)
	}
	c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	if _, _, err := ws.NextReader(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("DISCONNECT was answered with %v", err)
	}
}

// Silence ends a connection within the deadline, whatever it was to become.
func TestEveryDoorHasTheConnectDeadline(t *testing.T) {
	s, dial := everyDoor(t)
	var waiting []net.Conn
	for _, name := range []string{"tcp", "tls", "ws", "wss"} {
		plain, err := net.Dial("tcp", s.b.Addr(name).String())
		if err != nil {
			t.Fatal(err)
		}
		ready, err := dial(name)
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, plain, ready)
	}
	for i, nc := range waiting {
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		_, err := io.Copy(io.Discard, onlyReader{nc})
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Errorf("connection %d was left open", i)
		}
		_ = nc.Close()
	}
}

type onlyReader struct{ io.Reader }

// The client library that our own SDK is built on.
func TestPaho(t *testing.T) {
	s, dial := everyDoor(t)
	for _, name := range []string{"tcp", "wss"} {
		t.Run(name, func(t *testing.T) {
			nc, err := dial(name)
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan *paho.Publish, 8)
			c := paho.NewClient(paho.ClientConfig{
				Conn: pahopackets.NewThreadSafeConn(nc),
				OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
					got <- r.Packet
					return true, nil
				}},
			})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cp := &paho.Connect{ClientID: name, Username: "alice", UsernameFlag: true, Password: []byte(sigOf(t, "alice")), PasswordFlag: true, KeepAlive: 30, CleanStart: true}
			ack, err := c.Connect(ctx, cp)
			if err != nil || !ack.Properties.WildcardSubAvailable || ack.Properties.SharedSubAvailable {
				t.Fatalf("Connect = %+v, %v", ack, err)
			}
			if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "groups/+", QoS: 1}}}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "#", QoS: 1}}}); err == nil {
				t.Error("subscribed to everything")
			}
			for _, qos := range []byte{1, 2} {
				resp, err := c.Publish(ctx, &paho.Publish{Topic: "groups/g1", QoS: qos, Payload: []byte("hello")})
				if err != nil {
					t.Fatalf("Publish at QoS %d: %v", qos, err)
				}
				// At QoS 2 they come with PUBREC, and the library returns PUBCOMP.
				if u := resp.Properties.User; qos == 1 && (u.Get("MsgSeq") == "" || u.Get("MsgTime") == "") {
					t.Errorf("PUBACK has the properties %v", u)
				}
				select {
				case p := <-got:
					if e := decodeEvent(t, p.Payload); e.text() != "hello" {
						t.Errorf("received %s", p.Payload)
					}
				case <-ctx.Done():
					t.Fatal("nothing received")
				}
			}
			resp, err := c.Publish(ctx, &paho.Publish{Topic: "groups/nowhere", QoS: 1, Payload: []byte("hello")})
			if err == nil || resp.ReasonCode != 0x87 {
				t.Errorf("Publish to no group = %+v, %v", resp, err)
			}
			if err := c.Disconnect(&paho.Disconnect{}); err != nil {
				t.Errorf("Disconnect: %v", err)
			}
		})
	}
	s.stop()
}

// Ten thousand come and go, well and badly, and leave nothing.
func TestChurn(t *testing.T) {
	const rounds, together = 500, 20
	s := serve(t, serverOptions{})
	churn := func(n int) {
		for i := range n {
			t.Run("", func(t *testing.T) { // which forgets its clients
				s := *s
				s.t = t
				clients := make([]*client, together)
				for j := range clients {
					clients[j] = s.login(byte(4+j%2), "bob", fmt.Sprint(i, j%8)).mustSubscribe(1, "groups/+", "groups/g1")
				}
				for j, c := range clients {
					switch j % 4 {
					case 0:
						c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
					case 1:
						_, _ = c.nc.Write([]byte{0x32, 9}) // half a packet
					}
					_ = c.nc.Close()
				}
			})
		}
		for deadline := time.Now().Add(patience); s.b.metrics.connections.Load() > 0; {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections are left", s.b.metrics.connections.Load())
			}
			time.Sleep(time.Millisecond)
		}
	}
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	churn(10)
	goroutines, heap := measure()
	churn(rounds)
	if g, h := measure(); g > goroutines+2 || h > heap+heap/4+1<<20 {
		t.Errorf("%d goroutines and %d bytes at first, %d and %d after %d connections", goroutines, heap, g, h, rounds*together)
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.limits.mu.Lock()
	defer s.b.limits.mu.Unlock()
	if len(s.b.conns) > 0 || s.b.server.Clients.Len() > 0 || s.b.metrics.sessions.Load() != 0 || s.b.limits.total != 0 || s.b.limits.waiting != 0 {
		t.Errorf("left: %d connections, %d clients of mochi, %d sessions, limits %d/%d", len(s.b.conns), s.b.server.Clients.Len(), s.b.metrics.sessions.Load(), s.b.limits.total, s.b.limits.waiting)
	}
}
