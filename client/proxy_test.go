package client_test

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A proxy forwards connections to a server and spoils them on request.
type proxy struct {
	addr    string
	lis     net.Listener
	running sync.WaitGroup

	mu     sync.Mutex
	target string
	conns  map[net.Conn]bool
	delay  time.Duration // of each chunk
	thaw   chan struct{} // while it is open nothing is forwarded
	cuts   int
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: lis.Addr().String(), lis: lis, target: target, conns: make(map[net.Conn]bool), thaw: make(chan struct{})}
	close(p.thaw)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		lis.Close()
		p.unfreeze()
		p.cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		down, err := p.lis.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.conns[down] = true
		p.mu.Unlock()
		p.running.Go(func() {
			defer p.drop(down)
			up, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[up] = true
			p.mu.Unlock()
			var both sync.WaitGroup
			both.Go(func() { p.forward(up, down) })
			both.Go(func() { p.forward(down, up) })
			both.Wait()
		})
	}
}

func (p *proxy) forward(to, from net.Conn) {
	defer p.drop(to)
	defer p.drop(from)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		delay, thaw := p.delay, p.thaw
		p.mu.Unlock()
		<-thaw
		if delay > 0 {
			time.Sleep(delay) // the network, not a wait for something
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	p.cuts++
}

// freeze makes a black hole of the proxy: connections are taken and stay, and nothing comes through.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.thaw:
		p.thaw = make(chan struct{})
	default: // frozen already
	}
}

func (p *proxy) unfreeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.thaw:
	default:
		close(p.thaw)
	}
}

// bypass lets new connections through a black hole that keeps what it has until release.
func (p *proxy) bypass() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.thaw
	p.thaw = make(chan struct{})
	close(p.thaw)
	return func() { close(kept) }
}

func (p *proxy) slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

func (p *proxy) redirect(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}
