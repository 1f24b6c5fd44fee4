package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A Broker is the MQTT door. All methods may be called from any goroutine, but Use before Run.
type Broker struct {
	cfg       Config
	log       *slog.Logger
	store     storage.Records
	history   history // nil: sessions end with their connections
	durables  durables
	wills     delayedWills
	replays   chan struct{} // a token for each session that reads history now
	verifier  verifier
	submitter submitter
	rpc       RPC
	onState   func(StateChange)
	onLapse   func(ctx context.Context, a group.Account, key group.Key)

	server   *mqtt.Server
	registry *registry
	limits   *limits
	metrics  *metrics
	flusher  *flusher
	serial   atomic.Uint64 // of logins
	started  int64         // Unix seconds

	// ctx ends when nothing may be begun any more: at the end of Run's drain.
	ctx  context.Context
	stop context.CancelFunc

	doors   []door
	running sync.WaitGroup // connections, accept loops, requests

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool // no connection may begin

	pending  atomic.Int64 // submissions without an outcome
	draining atomic.Bool
	allDone  chan struct{} // has one when draining and nothing is pending
}

// New returns a broker that reads accounts and memberships from store and checks passwords
// with v. Nothing runs before Run.
func New(cfg Config, store storage.Records, v verifier, log *slog.Logger) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Broker{
		cfg: cfg.withDefaults(), log: log, store: store, verifier: v, started: time.Now().Unix(),
		registry: newRegistry(), metrics: newMetrics(), conns: make(map[*conn]struct{}), allDone: make(chan struct{}, 1),
	}
	if h, ok := store.(history); ok && b.cfg.SessionExpiry > 0 {
		b.history = h
	}
	b.durables.held = make(map[deviceKey]*hold)
	b.wills.of = make(map[deviceKey]*delayedWill)
	b.replays = make(chan struct{}, maxReplays)
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.flusher = newFlusher(b.metrics)
	b.limits = newLimits(&b.cfg)
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClientWritesPending = 1 // nothing goes through mochi's queues
	caps.MaximumPacketSize = uint32(b.cfg.MaxPacketSize)
	caps.ReceiveMaximum = uint16(b.cfg.ReceiveMaximum)
	caps.MaximumInflight = 1
	caps.MaximumSessionExpiryInterval = 0
	caps.MaximumMessageExpiryInterval = 0
	caps.TopicAliasMaximum = 0
	caps.RetainAvailable, caps.SharedSubAvailable, caps.SubIDAvailable = 0, 0, 0
	caps.MinimumProtocolVersion = 4
	caps.Compatibilities.NoInheritedPropertiesOnAck = true
	// The server is never served: that would start its tickers, which walk all clients each
	// second. Our listeners give it their connections.
	b.server = mqtt.New(&mqtt.Options{
		Capabilities:            caps,
		ClientNetReadBufferSize: 1 << 10,
		SysTopicResendInterval:  int64(time.Hour / time.Second),
		Logger:                  slog.New(slog.DiscardHandler), // it logs whole packets
	})
	if err := b.server.AddHook(&adapter{b: b}, nil); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return b, nil
}

// Use tells the broker where messages go, who answers requests (nil: nobody) and who is told
// of logins and logouts (nil: nobody). The last is called in the connection's goroutine and
// must not block.
func (b *Broker) Use(s submitter, rpc RPC, onState func(StateChange)) {
	b.submitter, b.rpc, b.onState = s, rpc, onState
}

// UseLapse names who is told that an account has been offline for Config.RoomGrace and is to
// lose a membership that is kept in memory alone (nil: nobody). It is called by several
// goroutines. Call it before Run.
func (b *Broker) UseLapse(f func(ctx context.Context, a group.Account, key group.Key)) { b.onLapse = f }

// lapses ends memberships of those who have been away for too long, until the broker stops.
func (b *Broker) lapses() {
	tick := time.NewTicker(b.cfg.RoomGrace / 20)
	defer tick.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case now := <-tick.C:
			var running sync.WaitGroup
			slots := make(chan struct{}, lapsesAtOnce)
			for a, l := range b.registry.lapsed(now.Add(-b.cfg.RoomGrace)) {
				for key := range l.rooms {
					slots <- struct{}{}
					running.Go(func() {
						defer func() { <-slots }()
						b.onLapse(b.ctx, a, key)
					})
				}
			}
			running.Wait()
		}
	}
}

// lapsesAtOnce is how many memberships end at the same moment.
const lapsesAtOnce = 16

// Run serves clients until ctx ends, then stops in order: no new connection and no new
// publish, the outcomes of those under way are told, MQTT 5 clients get DISCONNECT 0x8B, and
// everything is closed. It takes no longer than DrainTimeout and a few seconds, and returns
// when all that it has started has ended. The pipeline must run on until then.
func (b *Broker) Run(ctx context.Context) error {
	if b.submitter == nil {
		return errors.New("broker: Use was not called")
	}
	if err := b.Listen(); err != nil {
		return err
	}
	failed := make(chan error, len(b.doors))
	for _, d := range b.doors {
		b.running.Go(func() {
			if d.name == "ws" || d.name == "wss" {
				if err := b.serveWebSocket(d); err != nil {
					failed <- fmt.Errorf("broker: %s: %w", d.name, err)
				}
				return
			}
			b.accept(d, func(nc net.Conn) { b.take(d, nc) })
		})
	}
	if b.onLapse != nil {
		b.running.Go(b.lapses)
	}
	if b.history != nil {
		b.running.Go(b.keepSessions)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	b.shutdown()
	return err
}

func (b *Broker) shutdown() {
	b.closeDoors()
	b.endDelays()
	b.draining.Store(true)
	if b.pending.Load() > 0 {
		select {
		case <-b.allDone:
		case <-time.After(b.cfg.DrainTimeout):
			b.log.Warn("stopping with publishes that have no outcome yet", "pending", b.pending.Load())
		}
	}
	b.mu.Lock()
	b.closed = true
	open := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		open = append(open, c)
	}
	b.mu.Unlock()
	b.stop()
	for _, c := range open {
		c.end(endShutdown, codeShuttingDown, "server shutting down")
	}
	b.running.Wait()
}

// drained says that nothing is pending any more.
func (b *Broker) drained() {
	select {
	case b.allDone <- struct{}{}:
	default:
	}
}

// track notes a connection, so that shutdown finds it. It reports false once that has begun.
func (b *Broker) track(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.conns[c] = struct{}{}
	return true
}

func (b *Broker) untrack(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}

// launch runs f in a goroutine that Run waits for. It reports false if it is too late for that.
func (b *Broker) launch(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.running.Go(f)
	return true
}
