package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/usersig"
)

// Config bounds the door. Zero values mean the defaults.
type Config struct {
	SDKAppID int64
	// BodySize bounds a request's body, in bytes. Zero means 1 MiB.
	BodySize int64
	// Concurrency bounds the calls under way; more wait, as long as Timeout. Zero means 256.
	Concurrency int
	// Timeout is how long a call may take, waiting included. Zero means 10 s.
	Timeout time.Duration
	// RatePerCommand bounds how often each admin may call each command, in calls per second. Zero: off.
	RatePerCommand int
	// AllowedIPs, if not empty, are the only addresses (or prefixes, 10.0.0.0/8) that may call the API.
	AllowedIPs []string

	// The time limits of a connection; zero means 5 s, 30 s, 1 min and 2 min.
	ReadHeaderTimeout, ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// HeaderSize bounds a request's header, in bytes. Zero means 32 KiB.
	HeaderSize int
	// Connections bounds the connections; more wait to be accepted. Zero means 2,000.
	Connections int
	// ShutdownTimeout is how long calls under way may take when Run ends. Zero means 5 s.
	ShutdownTimeout time.Duration
	// Pprof serves /debug/pprof.
	Pprof bool
}

func (c Config) withDefaults() Config {
	duration := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	duration(&c.Timeout, 10*time.Second)
	duration(&c.ReadHeaderTimeout, 5*time.Second)
	duration(&c.ReadTimeout, 30*time.Second)
	duration(&c.WriteTimeout, time.Minute)
	duration(&c.IdleTimeout, 2*time.Minute)
	duration(&c.ShutdownTimeout, 5*time.Second)
	if c.BodySize <= 0 {
		c.BodySize = 1 << 20
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 256
	}
	if c.HeaderSize <= 0 {
		c.HeaderSize = 32 << 10
	}
	if c.Connections <= 0 {
		c.Connections = 2000
	}
	return c
}

// A Backend is what the door leads to. Table and UserSigs are needed.
type Backend struct {
	Table    *command.Table
	UserSigs *usersig.Verifier
	// Revoked returns the Unix time before which UserSigs of the account are refused, because
	// it was kicked; 0: none. Nil: none ever.
	Revoked func(ctx context.Context, a group.Account) (int64, error)
	// OverLimit is told, at most once a second for each admin and command, that calls are refused
	// because there are more than Config.RatePerCommand. It does not block. Nil: nobody is told.
	OverLimit func(call *command.Call, c *command.Command, calls, limit int)
	// Ready reports why the server can't serve, or nil. Nil: always ready.
	Ready   func(ctx context.Context) error
	Metrics prometheus.Gatherer // nil: no /metrics
	Exports *command.Exporter   // nil: no files to download
	// Receipts answers what a push vendor posts to /push/receipts/{app}/{secret}. It returns false,
	// and has answered nothing, where that is to look like no resource. Nil: there is none.
	Receipts func(w http.ResponseWriter, r *http.Request, app, secret string) bool
	Log      *slog.Logger // nil: none
}

// rememberedUserSigs is how many good UserSigs a Server need not verify again. Only the app's
// administrators call, and a UserSig is good for hours.
const rememberedUserSigs = 1024

// A Server is the HTTP handler of the REST API and its neighbours. It may be used by any
// number of listeners.
type Server struct {
	cfg     Config
	back    Backend
	engine  *gin.Engine
	slots   chan struct{} // one token for each call under way
	rates   *rates
	allowed []*net.IPNet
	sigs    *usersig.Memory
	metrics *metrics

	openAPI, page []byte
}

// New returns the server; nothing runs before Run or the first request.
func New(cfg Config, back Backend) (*Server, error) {
	s := &Server{cfg: cfg.withDefaults(), back: back, metrics: newMetrics()}
	if s.back.Log == nil {
		s.back.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.allowed, err = networks(cfg.AllowedIPs); err != nil {
		return nil, err
	}
	s.slots = make(chan struct{}, s.cfg.Concurrency)
	s.rates = newRates(s.cfg.RatePerCommand)
	s.sigs = usersig.NewMemory(back.UserSigs, rememberedUserSigs)
	if s.openAPI, err = back.Table.OpenAPI(); err != nil {
		return nil, err
	}
	s.page = back.Table.HTML()
	s.engine = s.routes()
	return s, nil
}

func (s *Server) routes() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.HandleMethodNotAllowed = false
	r.RedirectTrailingSlash = false
	_ = r.SetTrustedProxies(nil) // nobody's X-Forwarded-For is believed
	r.Use(readRest, gin.CustomRecoveryWithWriter(io.Discard, s.recovered))
	r.POST("/v4/:service/:command", s.call)
	r.OPTIONS("/v4/*path", preflight)
	r.NoRoute(s.noRoute)
	for _, method := range []string{http.MethodGet, http.MethodHead} { // monitors and downloaders ask by HEAD, too
		r.Handle(method, "/healthz", func(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"status": "ok"}) })
		r.Handle(method, "/readyz", s.ready)
		if s.back.Metrics != nil {
			r.Handle(method, "/metrics", gin.WrapH(promhttp.HandlerFor(s.back.Metrics, promhttp.HandlerOpts{})))
		}
		r.Handle(method, "/openapi.json", func(c *gin.Context) { c.Data(http.StatusOK, "application/json", s.openAPI) })
		r.Handle(method, "/docs", func(c *gin.Context) { c.Data(http.StatusOK, "text/html; charset=utf-8", s.page) })
		if s.back.Exports != nil {
			r.Handle(method, command.ExportPath+":name", s.download)
		}
	}
	if s.back.Receipts != nil {
		r.POST("/push/receipts/:app/:secret", s.receipts)
	}
	if s.cfg.Pprof {
		r.GET("/debug/pprof/*name", profiles)
		r.POST("/debug/pprof/symbol", gin.WrapF(pprof.Symbol))
	}
	return r
}

// profiles serves /debug/pprof.
func profiles(c *gin.Context) {
	switch c.Param("name") {
	case "/cmdline":
		pprof.Cmdline(c.Writer, c.Request)
	case "/profile":
		pprof.Profile(c.Writer, c.Request)
	case "/symbol":
		pprof.Symbol(c.Writer, c.Request)
	case "/trace":
		pprof.Trace(c.Writer, c.Request)
	default:
		pprof.Index(c.Writer, c.Request)
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }

// Run serves l until ctx ends, by TLS if cert is not nil, then lets the calls under way finish. It
// closes l. It may run for several listeners, whose calls share the bounds and the figures.
func (s *Server) Run(ctx context.Context, l net.Listener, cert *tls.Config) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: s.cfg.ReadHeaderTimeout, ReadTimeout: s.cfg.ReadTimeout, WriteTimeout: s.cfg.WriteTimeout,
		IdleTimeout: s.cfg.IdleTimeout, MaxHeaderBytes: s.cfg.HeaderSize,
		ErrorLog: slog.NewLogLogger(s.back.Log.Handler(), slog.LevelDebug), // broken connections and handshakes of others
	}
	l = netutil.LimitListener(l, s.cfg.Connections)
	if cert != nil {
		l = tls.NewListener(l, cert)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownTimeout) // calls outlive the stop
	defer cancel()
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

func (s *Server) ready(c *gin.Context) {
	if s.back.Ready != nil {
		if err := s.back.Ready(c.Request.Context()); err != nil {
			s.back.Log.Warn("not ready", "err", err)
			c.JSON(http.StatusServiceUnavailable, gin.H{"status": "the store does not take writes"})
			return
		}
	}
	c.JSON(http.StatusOK, gin.H{"status": "ok"})
}

// receipts serves the vendors of push, who have no UserSig: their secret is in the address.
func (s *Server) receipts(c *gin.Context) {
	if !s.back.Receipts(c.Writer, c.Request, c.Param("app"), c.Param("secret")) {
		s.noRoute(c)
	}
}

// downloadTime is how long a download may take, instead of the listener's write timeout.
const downloadTime = time.Hour

// download serves an exported file to whoever has its signed address.
func (s *Server) download(c *gin.Context) {
	f, err := s.back.Exports.Open(c.Param("name"), c.Query("expires"), c.Query("sign"), time.Now())
	switch {
	case errors.Is(err, command.ErrExportRefused):
		c.String(http.StatusForbidden, "the address is not valid, or has expired\n")
		return
	case errors.Is(err, fs.ErrNotExist):
		c.String(http.StatusNotFound, "not found\n")
		return
	case err != nil:
		s.back.Log.Error("export not opened", "err", err)
		c.String(http.StatusInternalServerError, "internal error\n")
		return
	}
	defer func() { _ = f.Close() }()                                                        // it was only read
	_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(downloadTime)) // not all writers have one
	c.Header("Content-Type", "application/gzip")
	http.ServeContent(c.Writer, c.Request, "", time.Time{}, f)
}
