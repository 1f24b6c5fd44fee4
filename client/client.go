package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"

	"github.com/rookery-im/rookery/group"
)

// A Client is one device of one account. All methods may be called concurrently, and from handlers
// unless they say otherwise.
type Client struct {
	cfg        Config
	queue      *queue
	replyTopic string
	requests   chan struct{} // a token for each request under way
	running    sync.WaitGroup
	manager    *autopaho.ConnectionManager

	ended <-chan struct{} // closed when the client is closed or logged out
	why   func() error    // why it has ended; nil before
	end   context.CancelCauseFunc

	lastRequest atomic.Uint64
	attempts    atomic.Int64 // to connect, since the last synchronisation

	saving sync.Mutex // held while a position is changed and saved; before mu
	mu     sync.Mutex
	// guarded by mu
	link     *link
	changed  chan struct{} // closed and replaced when link changes
	refused  error         // the last attempt to connect
	expired  bool          // it was refused because the UserSig has expired
	loggedIn bool          // once, at least
	strays   int           // attempts to connect without an answer, which may reach the server late
	upSince  time.Time     // of link
	replies  map[uint64]chan []byte
	rooms    map[group.ID]*room
}

// A link is one connection, from its login to its end.
type link struct {
	manager    *autopaho.ConnectionManager
	down       chan struct{} // closed at its end
	subscribed bool          // the engine's
}

func (l *link) up() bool {
	select {
	case <-l.down:
		return false
	default:
		return true
	}
}

// errNotSent says that a packet has not left.
var errNotSent = errors.New("client: not sent")

// publish sends p. A response may come with an error: it is the server's refusal.
func (l *link) publish(ctx context.Context, p *paho.Publish) (*paho.PublishResponse, error) {
	if !l.up() {
		return nil, errors.Join(errNotSent, errLinkDown)
	}
	ack, err := l.manager.Publish(ctx, p)
	if ack == nil && (errors.Is(err, autopaho.ConnectionDownError) || errors.Is(err, session.ErrNoConnection)) {
		err = errors.Join(errNotSent, err)
	}
	return ack, err
}

// Dial logs in and returns when the server has let the client in; the handlers may be called
// from then on, also before Dial returns. ctx bounds the login alone. While the server can't be
// reached Dial tries on until ctx ends; that the server refuses the account or its UserSig is an
// *Error.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	positions, err := cfg.Store.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: load positions: %w", err)
	}
	life, end := context.WithCancelCause(context.WithoutCancel(ctx)) // the client outlives the login
	c := &Client{
		cfg: cfg, queue: newQueue(cfg.QueueLen, cfg.QueueBytes), replyTopic: "users/" + escape(string(cfg.Account)) + "/rpc",
		requests: make(chan struct{}, cfg.Requests),
		ended:    life.Done(), why: func() error { return context.Cause(life) }, end: end,
		changed: make(chan struct{}), replies: make(map[uint64]chan []byte), rooms: make(map[group.ID]*room),
	}
	for id, p := range positions {
		c.rooms[id] = &room{Conversation: Conversation{Group: id, ReadSeq: p.Read}, pos: p, known: true}
	}
	if err := c.connect(life); err != nil {
		end(ErrClosed)
		return nil, err
	}
	c.running.Go(func() { c.run(life) })
	if _, err := c.waitLink(ctx); err != nil {
		c.mu.Lock()
		refused := c.refused
		c.mu.Unlock()
		if !refusedBy(err) && refused != nil {
			err = fmt.Errorf("%w: %w", err, refused)
		}
		c.Close()
		return nil, fmt.Errorf("client: dial: %w", err)
	}
	return c, nil
}

// Close logs out and returns when everything the client has started has ended. It must not be
// called from a handler, for which it would wait.
func (c *Client) Close() {
	c.end(ErrClosed)
	<-c.manager.Done()
	c.running.Wait()
}

// Done returns a channel that is closed when the client has ended; Err says why.
func (c *Client) Done() <-chan struct{} { return c.ended }

// Err returns nil while the client is in use, then ErrClosed or an error that wraps ErrKicked.
func (c *Client) Err() error { return c.why() }

// Account returns whose client it is.
func (c *Client) Account() group.Account { return c.cfg.Account }

// waitLink returns the connection when there is one.
func (c *Client) waitLink(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		l, changed := c.link, c.changed
		c.mu.Unlock()
		if err := c.Err(); err != nil {
			return nil, err
		}
		if l != nil && l.up() {
			return l, nil
		}
		select {
		case <-changed:
		case <-c.ended:
			return nil, c.Err()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (c *Client) setLink(l *link) {
	c.mu.Lock()
	old := c.link
	c.link = l
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	if old != nil {
		close(old.down)
	}
}

// jitter returns a random time below most.
func jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}
