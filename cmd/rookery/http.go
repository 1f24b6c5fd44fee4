package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/rookery-im/rookery/configs"
)

// httpHandler serves what operators watch.
func (n *node) httpHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := n.store.Health(r.Context()); err != nil {
			n.log.Warn("not ready", "err", err)
			answer(w, http.StatusServiceUnavailable, "the store does not take writes")
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	if n.cfg.Metrics.Enabled {
		mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics, promhttp.HandlerOpts{
			ErrorLog:            slog.NewLogLogger(n.log.Handler(), slog.LevelError),
			MaxRequestsInFlight: 4, // gathering takes memory, and more than a few scrapers there are not
		}))
	}
	if n.cfg.HTTP.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "{\"status\":%q}\n", text) // the client may have gone
}

// An httpDoor serves HTTP on one listener.
type httpDoor struct {
	server *http.Server
	ln     net.Listener
	tls    bool
	drain  time.Duration
}

func newHTTPDoor(cfg *configs.Config, handler http.Handler, ln net.Listener, cert *tls.Config, log *slog.Logger) *httpDoor {
	return &httpDoor{
		server: &http.Server{
			Handler:           handler,
			TLSConfig:         cert,
			ReadHeaderTimeout: cfg.HTTP.ReadHeaderTimeout,
			ReadTimeout:       cfg.HTTP.ReadTimeout,
			WriteTimeout:      cfg.HTTP.WriteTimeout,
			IdleTimeout:       cfg.HTTP.IdleTimeout,
			MaxHeaderBytes:    int(cfg.HTTP.HeaderSize),
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // mostly what clients do wrong
		},
		ln:    netutil.LimitListener(ln, cfg.HTTP.Connections),
		tls:   cert != nil,
		drain: cfg.App.ShutdownTimeout / 2, // the rest is for what the doors lean on
	}
}

// run serves until ctx ends, then lets the requests under way finish within the drain time;
// those that do not are cut off.
func (d *httpDoor) run(ctx context.Context) error {
	// Requests outlive the end of ctx: what has begun is finished.
	d.server.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.drain)
		defer cancel()
		if d.server.Shutdown(ctx) != nil {
			_ = d.server.Close() // the connections are what is wrong with it
		}
	})
	serve := d.server.Serve
	if d.tls {
		serve = func(ln net.Listener) error { return d.server.ServeTLS(ln, "", "") }
	}
	err := serve(d.ln)
	if stop() { // it ended by itself
		return err
	}
	<-drained
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
