package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/rookery-im/rookery/broker"
	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/hooks/callback"
	"github.com/rookery-im/rookery/push/dispatch"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/usersig"
)

// A node is one running server: the parts, wired. Doors let requests in and stop first; workers
// are what the doors lean on, or what runs in the background, and stop after them; what was
// opened is closed last, in reverse order.
type node struct {
	cfg     *configs.Config
	limits  atomic.Pointer[configs.Config] // what relimit has set: its limits of messages count, and nothing else of it
	app     usersig.App
	cert    atomic.Pointer[tls.Certificate] // what the listeners show; nil: none is configured
	log     *slog.Logger
	metrics *prometheus.Registry
	addrs   addresses

	doors   []part
	workers []part
	closers []closer

	store    storage.Store
	pipeline *hooks.Pipeline
	userSigs *usersig.Verifier
	broker   *broker.Broker
	exports  *command.Exporter
	stats    *command.Stats
	absent   *command.Absent
	commands *command.Table

	callbacks *callback.Client // nil: the app is not asked
	outbox    *callback.Outbox // nil: nor told

	push       *dispatch.Dispatcher // nil: no provider app is configured
	apnsPushes atomic.Int64         // that Apple has taken
}

// A part runs until its context has ended and so has everything that it started.
type part struct {
	name string
	run  func(context.Context) error
}

// A closer's context ends when the time for stopping is over.
type closer struct {
	name  string
	close func(context.Context) error
}

// newNode opens everything, listeners included, and runs nothing yet. After an error nothing is open.
func newNode(ctx context.Context, cfg *configs.Config, app usersig.App, log *slog.Logger) (_ *node, err error) {
	n := &node{cfg: cfg, app: app, log: log, metrics: prometheus.NewRegistry(), addrs: addresses{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close(ctx))
		}
	}()
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cert, err := loadCertificate(cfg.TLS)
	if err != nil {
		return nil, err
	}
	cert = n.show(cert)
	for _, open := range []func(context.Context, *tls.Config) error{
		n.openStore,
		n.openPipeline,
		n.openCallbacks,
		n.openBroker,
		n.openPush,
		n.openCommands,
		n.openAdmin,
	} {
		if err := open(ctx, cert); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *node) openStore(ctx context.Context, _ *tls.Config) error {
	store, err := openStore(ctx, n.cfg, n.log)
	if err != nil {
		return err
	}
	n.store = store
	n.metrics.MustRegister(store.Metrics())
	n.onClose("store", func(context.Context) error { return store.Close() })
	n.work("sweeper", (&sweeper{store: store, every: n.cfg.Roaming.SweepInterval, log: n.log}).run)
	return nil
}

func (n *node) openPipeline(context.Context, *tls.Config) error {
	cfg := pipelineConfig(n.cfg)
	cfg.Limits = func(g *group.Group) hooks.Limits { return limitsOf(n.limits.Load(), g) }
	n.limits.Store(n.cfg)
	n.pipeline = hooks.New(n.store, cfg, n.log)
	n.metrics.MustRegister(n.pipeline.Metrics())
	n.onClose("pipeline", n.pipeline.Close)
	return nil
}

// relimit makes the limits of messages in cfg count from now on.
func (n *node) relimit(cfg *configs.Config) {
	n.limits.Store(cfg)
	n.pipeline.SetRates(cfg.Flow.UserMessagesPerSecond, cfg.Flow.AddressMessagesPerSecond)
	n.log.Info("limits of messages read again")
}

// show makes the certificate what the listeners show from now on, and returns their configuration,
// nil for nil.
func (n *node) show(cert *tls.Config) *tls.Config {
	if cert == nil {
		return nil
	}
	n.cert.Store(&cert.Certificates[0])
	return &tls.Config{
		MinVersion:     cert.MinVersion,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.cert.Load(), nil },
	}
}

// recertify reads the certificate again, if the listeners have one.
func (n *node) recertify(cfg configs.TLS) {
	if n.cert.Load() == nil || cfg.CertFile == "" {
		return
	}
	cert, err := loadCertificate(cfg)
	if err != nil {
		n.log.Error("certificate not read again", "err", err)
		return
	}
	n.show(cert)
	n.log.Info("certificate read again", "file", cfg.CertFile, "expires", cert.Certificates[0].Leaf.NotAfter.UTC())
}

// reload reads the configuration again at each SIGHUP. What is wrong with it is logged, and the
// limits and the certificate stay as they are.
func (n *node) reload(ctx context.Context, signals <-chan os.Signal, load func() (*configs.Config, error)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
		}
		cfg, err := load()
		if err != nil {
			n.log.Error("configuration not read again", "err", err)
			continue
		}
		n.relimit(cfg)
		n.recertify(cfg.TLS)
	}
}

// listen opens an address and makes it known. The listener is closed with the node, if its
// door has not closed it before.
func (n *node) listen(ctx context.Context, name, key, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, listenError(key, addr, err)
	}
	n.addrs[name] = ln.Addr().String()
	n.onClose(name+" listener", func(context.Context) error {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return ln, nil
}

// listenError names the key whose address can't be listened on.
func listenError(key, addr string, err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		err = e.Err // without the address, which is named already
	}
	return fmt.Errorf("%s: listen on %s: %w", key, addr, err)
}

func (n *node) door(name string, run func(context.Context) error) {
	n.doors = append(n.doors, part{name, run})
}

func (n *node) work(name string, run func(context.Context) error) {
	n.workers = append(n.workers, part{name, run})
}

func (n *node) onClose(name string, fn func(context.Context) error) {
	n.closers = append(n.closers, closer{name, fn})
}

// closeGrace is what closing may take beyond app.shutdown_timeout.
const closeGrace = time.Second

// run starts the parts, calls ready, and returns when ctx has ended, or a part failed, and
// everything is closed; or when stopping takes too long: then the process must end, and what
// is durable stays so.
func (n *node) run(ctx context.Context, ready func(context.Context) error) error {
	stopping := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- n.runAll(ctx, stopping, ready) }()
	select {
	case err := <-done:
		return err
	case <-stopping:
	}
	limit := n.cfg.App.ShutdownTimeout + closeGrace
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("stop: not finished after %v, giving up", limit)
	}
}

// runAll closes stopping when the first part has to stop.
func (n *node) runAll(ctx context.Context, stopping chan struct{}, ready func(context.Context) error) (err error) {
	started := time.Now()
	stop := sync.OnceValue(func() time.Time { close(stopping); return time.Now() })

	// The workers outlive the doors: what a door has let in is finished with their help.
	workCtx, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	workers, workCtx := errgroup.WithContext(workCtx)
	doors, doorCtx := errgroup.WithContext(ctx)
	defer context.AfterFunc(doorCtx, func() { stop() })()
	for _, p := range n.workers {
		workers.Go(p.named(workCtx))
	}
	for _, p := range n.doors {
		doors.Go(p.named(doorCtx))
	}
	doors.Go(func() error { // holds the doors open, and closes them when a worker fails
		if doorCtx.Err() == nil { // else a signal came while we opened
			if err := ready(doorCtx); err != nil {
				return err
			}
			n.log.Info("ready", "dur", time.Since(started))
		}
		select {
		case <-doorCtx.Done():
			n.log.Info("stopping", "cause", context.Cause(ctx))
			return nil
		case <-workCtx.Done():
			return errWorker
		}
	})
	err = doors.Wait()
	stoppedAt := stop()
	stopWork()
	if werr := workers.Wait(); errors.Is(err, errWorker) {
		err = werr
	} else {
		err = errors.Join(err, werr)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), stoppedAt.Add(n.cfg.App.ShutdownTimeout))
	defer cancel()
	err = errors.Join(err, n.close(ctx))
	n.log.Info("stopped", "dur", time.Since(stoppedAt))
	return err
}

var errWorker = errors.New("a background part ended")

func (p part) named(ctx context.Context) func() error {
	return func() error {
		if err := p.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		return nil
	}
}

// close closes what was opened, the last first.
func (n *node) close(ctx context.Context) error {
	var errs []error
	for _, c := range slices.Backward(n.closers) {
		if err := c.close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	n.closers = nil
	return errors.Join(errs...)
}

// loadCertificate returns nil if no certificate is configured.
func loadCertificate(cfg configs.TLS) (*tls.Config, error) {
	if cfg.CertFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file, tls.key_file: %w", err)
	}
	version := uint16(tls.VersionTLS12)
	if cfg.MinVersion == "1.3" {
		version = tls.VersionTLS13
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version}, nil
}

// storeDir is the embedded store's folder in the data folder.
func storeDir(cfg *configs.Config) string { return filepath.Join(cfg.App.DataDir, "store") }
