// Package wireproxy stands between a MongoDB client and a server in tests, knows the commands
// that pass, and makes trouble at chosen ones: what a network and a server in trouble do, and
// what no test server does when it is asked to.
package wireproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// An Action is what becomes of a command.
type Action int

// The actions.
const (
	Pass      Action = iota
	Cut              // the connection is cut, and the server never sees the command
	LoseReply        // the server sees the command, and the connection is cut instead of the reply
	BlackHole        // the server sees the command, and the reply never comes; the connection stays open
	Swallow          // the server never sees the command, and no reply ever comes
	Late             // the connection is cut at once, and the server sees the command when Release is called
	AfterLate        // as Pass, but the server sees the commands that Late has kept before
)

// A Fault decides about a command. It is called by many goroutines.
type Fault func(command string, collection string) Action

// A Proxy is a listener that passes commands on to a server.
type Proxy struct {
	// URI is the server's, by way of the proxy.
	URI string

	server   string
	listener net.Listener

	mu       sync.Mutex
	fault    Fault
	injected map[Action]int
	conns    map[net.Conn]bool
	late     [][]byte // commands that wait for Release
	down     bool
	running  sync.WaitGroup
}

// Start starts a proxy for the server at uri, which has one host. It ends with the test.
func Start(tb testing.TB, uri string) *Proxy {
	tb.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{server: u.Host, listener: l, injected: make(map[Action]int), conns: make(map[net.Conn]bool)}
	u.Host = l.Addr().String()
	q := u.Query()
	q.Set("directConnection", "true")     // else the client would find the members of a set behind the proxy
	q.Set("serverMonitoringMode", "poll") // commands and replies must take turns
	u.RawQuery = q.Encode()
	p.URI = u.String()
	p.running.Go(p.accept)
	tb.Cleanup(func() {
		l.Close()
		p.CutAll()
		p.running.Wait()
	})
	return p
}

// Set makes fault decide from now on; nil: everything passes.
func (p *Proxy) Set(fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

// Injected returns how often an action other than Pass was taken.
func (p *Proxy) Injected(a Action) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.injected[a]
}

// Down refuses connections, and cuts those that there are; with false they are taken again.
func (p *Proxy) Down(down bool) {
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	if down {
		p.CutAll()
	}
}

// CutAll cuts all connections.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Release sends the commands that Late has kept to the server, each on a connection of its own,
// and returns how many there were when the server has answered them all.
func (p *Proxy) Release() (int, error) {
	p.mu.Lock()
	late := p.late
	p.late = nil
	p.mu.Unlock()
	for _, message := range late {
		if err := p.sendAlone(message); err != nil {
			return 0, err
		}
	}
	return len(late), nil
}

func (p *Proxy) sendAlone(message []byte) error {
	c, err := p.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(message); err != nil {
		return err
	}
	_, err = readMessage(c)
	return err
}

func (p *Proxy) dial() (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	return d.DialContext(context.Background(), "tcp", p.server)
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.add(c) {
			c.Close()
			continue
		}
		p.running.Go(func() {
			defer p.remove(c)
			server, err := p.dial()
			if err != nil {
				return
			}
			if !p.add(server) {
				server.Close()
				return
			}
			defer p.remove(server)
			p.serve(c, server)
		})
	}
}

func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.down {
		p.conns[c] = true
	}
	return !p.down
}

func (p *Proxy) remove(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.Close()
}

// serve passes commands and replies, which take turns on a connection, until either side ends.
func (p *Proxy) serve(client, server net.Conn) {
	for {
		message, err := readMessage(client)
		if err != nil {
			return
		}
		action := p.decide(message)
		if action == Cut {
			return
		}
		if action == Late {
			p.mu.Lock()
			p.late = append(p.late, message)
			p.mu.Unlock()
			return
		}
		if action == AfterLate {
			if _, err := p.Release(); err != nil {
				return
			}
			action = Pass
		}
		if action != Swallow {
			if _, err := server.Write(message); err != nil {
				return
			}
			reply, err := readMessage(server)
			if err != nil || action == LoseReply {
				return
			}
			if action == Pass {
				if _, err := client.Write(reply); err != nil {
					return
				}
				continue
			}
		}
		_, _ = io.Copy(io.Discard, client) // until the client gives up
		return
	}
}

func (p *Proxy) decide(message []byte) Action {
	command, collection, err := parse(message)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil || err != nil {
		return Pass
	}
	a := p.fault(command, collection)
	if a != Pass {
		p.injected[a]++
	}
	return a
}

const (
	headerLen  = 16
	opMsg      = 2013
	maxMessage = 64 << 20
)

func readMessage(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n < headerLen || n > maxMessage {
		return nil, fmt.Errorf("wireproxy: a message of %d bytes", n)
	}
	message := make([]byte, n)
	copy(message, length[:])
	_, err := io.ReadFull(r, message[4:])
	return message, err
}

var errNoCommand = errors.New("wireproxy: not a command")

// parse returns the name of the command in an OP_MSG and the collection that it names.
func parse(message []byte) (command, collection string, err error) {
	if len(message) < headerLen+5 || binary.LittleEndian.Uint32(message[12:]) != opMsg {
		return "", "", errNoCommand
	}
	for sections := message[headerLen+4:]; len(sections) > 5; {
		size := int(binary.LittleEndian.Uint32(sections[1:]))
		if size < 4 || size > len(sections)-1 {
			return "", "", errNoCommand
		}
		if sections[0] == 0 { // the body; the other kind is a row of documents
			first, err := bson.Raw(sections[1 : 1+size]).IndexErr(0)
			if err != nil {
				return "", "", err
			}
			name, _ := first.Value().StringValueOK()
			return first.Key(), name, nil
		}
		sections = sections[1+size:]
	}
	return "", "", errNoCommand
}
