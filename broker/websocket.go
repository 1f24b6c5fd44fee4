package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// serveWebSocket serves a listener's HTTP until it is closed.
func (b *Broker) serveWebSocket(d door) error {
	up := websocket.Upgrader{
		HandshakeTimeout: b.cfg.ConnectDeadline,
		ReadBufferSize:   1 << 10,
		WriteBufferPool:  &webSocketBuffers,
		Subprotocols:     []string{"mqtt"}, // [MQTT-6.0.0-3]
		CheckOrigin: func(r *http.Request) bool {
			o := r.Header.Get("Origin")
			return o == "" || len(b.cfg.WSOrigins) == 0 || slices.Contains(b.cfg.WSOrigins, o)
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+b.cfg.WSPath, func(w http.ResponseWriter, r *http.Request) { b.upgrade(&up, w, r) })
	srv := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: b.cfg.ConnectDeadline,
		ReadTimeout:       b.cfg.ConnectDeadline,
		IdleTimeout:       b.cfg.ConnectDeadline,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return b.ctx },
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, admittedKey{}, admittedOf(nc))
		},
	}
	srv.SetKeepAlivesEnabled(false) // one request, and that one upgrades
	defer func() { _ = srv.Close() }()
	let := &admitting{Listener: d.ln, b: b, d: d, conns: make(chan net.Conn)}
	b.running.Go(let.run)
	ln := net.Listener(let)
	if d.name == "wss" {
		conf := b.cfg.TLS.Clone()
		conf.NextProtos = []string{"http/1.1"} // WebSocket needs to take the connection over
		ln = tls.NewListener(ln, conf)
	}
	if err := srv.Serve(ln); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// An admitting listener applies the limits before a byte is read, and survives errors of Accept.
type admitting struct {
	net.Listener
	b     *Broker
	d     door
	conns chan net.Conn
}

func (a *admitting) run() {
	defer close(a.conns)
	a.b.accept(a.d, func(nc net.Conn) {
		c := a.b.newConn(nc)
		if c == nil {
			_ = nc.Close()
			return
		}
		ad := &admitted{Conn: nc, c: c}
		select {
		case a.conns <- ad:
		case <-a.b.ctx.Done():
			_ = ad.Close()
		}
	})
}

// Accept returns the next connection that was let in.
func (a *admitting) Accept() (net.Conn, error) {
	nc, ok := <-a.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return nc, nil
}

// An admitted connection speaks HTTP; it is the upgraded one's, or is given back when it is closed.
type admitted struct {
	net.Conn
	c        *conn
	once     sync.Once
	upgraded bool
}

type admittedKey struct{}

func admittedOf(nc net.Conn) *admitted {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	a, _ := nc.(*admitted)
	return a
}

// Close gives the connection back if it never became one of MQTT.
func (a *admitted) Close() error {
	err := a.Conn.Close()
	if !a.upgraded {
		a.once.Do(func() { a.c.b.leave(a.c) })
	}
	return err
}

// SetReadDeadline keeps the HTTP server from undoing the deadline of CONNECT.
func (a *admitted) SetReadDeadline(t time.Time) error {
	if !a.upgraded && t.IsZero() {
		return nil
	}
	return a.Conn.SetReadDeadline(t)
}

// SetWriteDeadline ignores the WebSocket library, which takes the deadline away at each write.
func (a *admitted) SetWriteDeadline(t time.Time) error {
	if a.upgraded && t.IsZero() {
		return nil
	}
	return a.Conn.SetWriteDeadline(t)
}

// webSocketBuffers are shared by all connections: each needs one only while it writes.
var webSocketBuffers sync.Pool

func (b *Broker) upgrade(up *websocket.Upgrader, w http.ResponseWriter, r *http.Request) {
	a, _ := r.Context().Value(admittedKey{}).(*admitted)
	if !slices.Contains(websocket.Subprotocols(r), "mqtt") && websocket.IsWebSocketUpgrade(r) {
		http.Error(w, "the WebSocket subprotocol must be mqtt", http.StatusBadRequest)
		return
	}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // answered
	}
	a.upgraded = true
	a.c.nc = &webSocketConn{Conn: ws.NetConn(), ws: ws}
	// The upgrade has cleared the deadline; what is left of it starts anew.
	_ = ws.NetConn().SetDeadline(time.Now().Add(b.cfg.ConnectDeadline))
	if !b.launch(func() { b.serve(a.c) }) { // the HTTP server's goroutine, with its buffers, ends
		b.leave(a.c)
	}
}

// A webSocketConn is a stream of binary messages; where they begin and end means nothing
// [MQTT-6.0.0-2], so that one of them may be of any length.
type webSocketConn struct {
	net.Conn
	ws *websocket.Conn
	r  io.Reader
}

var errNotBinary = errors.New("broker: MQTT goes in binary WebSocket messages") // [MQTT-6.0.0-1]

func (w *webSocketConn) Read(p []byte) (int, error) {
	for {
		if w.r == nil {
			kind, r, err := w.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				_ = w.bye(websocket.CloseUnsupportedData)
				return 0, errNotBinary
			}
			w.r = r
		}
		n, err := w.r.Read(p)
		if errors.Is(err, io.EOF) {
			w.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (w *webSocketConn) Write(p []byte) (int, error) {
	if err := w.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite says goodbye as WebSocket has it.
func (w *webSocketConn) CloseWrite() error { return w.bye(websocket.CloseNormalClosure) }

// Close says it if nobody has yet.
func (w *webSocketConn) Close() error {
	_ = w.bye(websocket.CloseNormalClosure)
	return w.Conn.Close()
}

func (w *webSocketConn) bye(code int) error {
	return w.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(lingerTime))
}
