package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// receiveMaximum bounds what the server sends ahead of our acknowledgements.
const receiveMaximum = 256

const (
	// strayTime is how long after a login an attempt from before it may still arrive.
	strayTime = 30 * time.Second
	// maxStrays bounds how often we take a connection back before we believe in another device.
	maxStrays = 8
)

// The reason codes with which the server logs a device out for good.
const (
	reasonTakenOver      = 0x8E
	reasonAdministrative = 0x98
)

// connect starts to keep a connection up until life ends.
func (c *Client) connect(life context.Context) error {
	server, err := c.cfg.server()
	if err != nil {
		return err
	}
	c.manager, err = autopaho.NewConnection(life, autopaho.ClientConfig{
		ServerUrls:       []*url.URL{server},
		TlsCfg:           c.cfg.TLS,
		KeepAlive:        uint16(c.cfg.KeepAlive / time.Second),
		ConnectTimeout:   c.cfg.ConnectTimeout,
		ReconnectBackoff: func(int) time.Duration { return c.backoff() },
		ConnectPacketBuilder: func(p *paho.Connect, _ *url.URL) (*paho.Connect, error) {
			return c.connectPacket(life, p)
		},
		OnConnectionUp: func(m *autopaho.ConnectionManager, _ *paho.Connack) { c.linkUp(m) },
		OnConnectionDown: func() bool {
			c.linkDown()
			return life.Err() == nil
		},
		OnConnectError: c.connectFailed,
		ClientConfig: paho.ClientConfig{
			ClientID:          c.cfg.Device,
			Session:           &mqttSession{state.NewInMemory(), c.disconnected},
			PacketTimeout:     c.cfg.RequestTimeout,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){c.received},
		},
	})
	return err
}

// connectPacket fills in who we are, with a new UserSig. Every session starts clean: what was
// missed is pulled by SEQ.
func (c *Client) connectPacket(life context.Context, p *paho.Connect) (*paho.Connect, error) {
	ctx, cancel := context.WithTimeout(life, c.cfg.ConnectTimeout)
	defer cancel()
	sig, err := c.cfg.UserSig(ctx)
	if err != nil {
		return nil, fmt.Errorf("UserSig: %w", err)
	}
	most := uint16(receiveMaximum)
	p.CleanStart = true
	p.UsernameFlag, p.Username = true, string(c.cfg.Account)
	p.PasswordFlag, p.Password = true, []byte(sig)
	p.Properties = &paho.ConnectProperties{ReceiveMaximum: &most, RequestProblemInfo: true} // MsgSeq comes with acknowledgements
	if c.cfg.Platform != "" {
		p.Properties.User.Add("platform", c.cfg.Platform)
	}
	return p, nil
}

// backoff returns how long to wait before the next attempt to connect: nothing before the very
// first, then a random time below a limit that doubles. Only a synchronised connection ends a
// series: one that is let in and dropped again and again must not be retried at full speed.
func (c *Client) backoff() time.Duration {
	const maxDoublings = 20
	n := c.attempts.Add(1) - 1
	if n <= 0 {
		return 0
	}
	return jitter(min(c.cfg.BackoffMin<<min(n-1, maxDoublings), c.cfg.BackoffMax))
}

func (c *Client) linkUp(m *autopaho.ConnectionManager) {
	l := &link{manager: m, down: make(chan struct{})}
	c.mu.Lock()
	c.expired, c.loggedIn, c.upSince = false, true, time.Now()
	c.mu.Unlock()
	c.setLink(l)
	c.queue.connected(l)
}

func (c *Client) linkDown() {
	c.setLink(nil)
	c.queue.add(item{event: Disconnected{}})
}

// connectFailed is told of each attempt that has failed. Before the first login a refusal that
// another attempt would not change ends the client; later the source of UserSigs may recover.
func (c *Client) connectFailed(err error) {
	e := err
	_, answered := errors.AsType[*autopaho.ConnackError](err)
	dialing, ok := errors.AsType[*net.OpError](err)
	stray := !answered && (!ok || dialing.Op != "dial")
	if connack, ok := errors.AsType[*autopaho.ConnackError](err); ok {
		if refusal, ok := parseReason(connack.Reason); ok {
			e = refusal
		}
	}
	c.cfg.Log.Info("not connected", "account", string(c.cfg.Account), "err", e)
	c.mu.Lock()
	if stray {
		c.strays = min(c.strays+1, maxStrays)
	}
	twice := c.expired
	c.refused, c.expired = e, refusedBy(e, codeExpired)
	expired, first := c.expired, !c.loggedIn
	c.mu.Unlock()
	switch {
	case expired && !twice:
		c.attempts.Store(0) // with another UserSig, at once
	case first && refusedBy(e) && !refusedBy(e, codeLoginBusy):
		c.end(e)
	default:
		c.queue.add(item{event: Refused{e}})
	}
}

// mqttSession is paho's session, told first of the server's DISCONNECT: paho's own handler is
// called in its own time, perhaps after the next attempt to connect.
type mqttSession struct {
	*state.State
	disconnected func(*packets.Disconnect)
}

// ConnectionLost implements session.SessionManager.
func (s *mqttSession) ConnectionLost(p *packets.Disconnect) error {
	if p != nil {
		s.disconnected(p)
	}
	return s.State.ConnectionLost(p)
}

func (c *Client) disconnected(p *packets.Disconnect) {
	reason := ""
	if p.Properties != nil {
		reason = p.Properties.ReasonString
	}
	if p.ReasonCode == reasonTakenOver && !c.byStray() || p.ReasonCode == reasonAdministrative {
		c.end(&kickedError{reason})
	}
}

// byStray reports whether the connection may have been taken over by an earlier attempt of our
// own, which we had given up and which a slow network has delivered late. Each attempt can
// do so once.
func (c *Client) byStray() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.strays == 0 || time.Since(c.upSince) > strayTime {
		return false
	}
	c.strays--
	return true
}

// A kickedError is ErrKicked with the server's reason.
type kickedError struct{ reason string }

func (e *kickedError) Error() string { return ErrKicked.Error() + ": " + e.reason }
func (e *kickedError) Unwrap() error { return ErrKicked }
