package push

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/certificate"
	"github.com/sideshow/apns2/token"
)

// An APNsConfig is an iOS app and its key or certificate.
type APNsConfig struct {
	// Name is the provider app's name.
	Name string
	// BundleID is the app's topic.
	BundleID string
	// Sandbox takes the development environment; a device token works in one of them only.
	Sandbox bool
	// BaseURL overrides Apple's host. Empty means the environment's.
	BaseURL string

	// Key is the text of the .p8 file, with its KeyID and TeamID (10 characters each). Leave
	// it unset to authenticate by certificate.
	Key           Secret
	KeyID, TeamID string
	// Certificate is the content of a .p12 file (or PEM with certificate and key).
	Certificate         Secret
	CertificatePassword Secret

	// Sound where the message names none. Empty means "default"; NoSound means silence.
	Sound string
	// Category of the notification's actions. Optional.
	Category string
	// TimeToLive where the message has none. Zero means 24 h.
	TimeToLive time.Duration
	// Connections is how many connections share the sends. Zero means 2.
	Connections int
	// HTTP.Concurrency bounds the pushes under way per connection; zero means 300 here.
	HTTP HTTPConfig
}

const (
	apnsMaxVoIP     = 5120
	apnsMaxCollapse = 64
	// apnsForceEvery is the least time between provider tokens made before their time: Apple
	// refuses a connection whose token changes more often.
	apnsForceEvery = 20 * time.Minute
)

// APNs is Apple's push service, over HTTP/2.
type APNs struct {
	config  APNsConfig
	baseURL string
	secrets []string
	key     *providerKey // nil with a certificate
	conns   []*apnsConn
	next    atomic.Uint64
}

// apnsConn is one connection and who may use it.
type apnsConn struct {
	client *apns2.Client
	calls  chan struct{} // a slot per push under way
	// A new connection carries one push until Apple has seen a good token. Until warm, a push
	// needs the probe slot.
	warm  atomic.Bool
	probe chan struct{}
}

// NewAPNs returns a provider; the error names every wrong field. It signs a token to prove
// that the key works, but connects to nothing.
func NewAPNs(c APNsConfig) (*APNs, error) {
	if c.HTTP.Concurrency == 0 {
		c.HTTP.Concurrency = 300
	}
	a := &APNs{config: c, baseURL: c.BaseURL}
	if a.baseURL == "" {
		a.baseURL = apns2.HostProduction
		if c.Sandbox {
			a.baseURL = apns2.HostDevelopment
		}
	}
	var errs []error
	if c.BundleID == "" {
		errs = append(errs, errors.New("bundle ID is empty"))
	}
	if u, err := url.Parse(a.baseURL); err != nil || u.Scheme != "https" || u.Host == "" {
		errs = append(errs, errors.New("base URL is not an https URL"))
	}
	if c.Connections < 0 {
		errs = append(errs, errors.New("connections is negative"))
	}
	errs = append(errs, c.HTTP.validate())
	tlsConfig := &tls.Config{RootCAs: c.HTTP.RootCAs, MinVersion: tls.VersionTLS12}
	switch {
	case c.Key.IsZero() == c.Certificate.IsZero():
		errs = append(errs, errors.New("needs either a key or a certificate"))
	case !c.Key.IsZero():
		key, err := newProviderKey(c)
		errs = append(errs, err)
		a.key = key
	default:
		cert, err := parseCertificate(c.Certificate.Reveal(), c.CertificatePassword.Reveal())
		errs = append(errs, err)
		tlsConfig.Certificates = []tls.Certificate{cert}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("push: apns %s: %w", c.Name, err)
	}
	a.secrets = []string{c.Key.Reveal(), c.Certificate.Reveal(), c.CertificatePassword.Reveal()}
	for range cmp.Or(c.Connections, 2) {
		a.conns = append(a.conns, a.newConn(tlsConfig))
	}
	return a, nil
}

func parseCertificate(text, password string) (tls.Certificate, error) {
	var cert tls.Certificate
	var err error
	if strings.HasPrefix(text, "-----BEGIN") {
		cert, err = certificate.FromPemBytes([]byte(text), password)
	} else {
		cert, err = certificate.FromP12Bytes([]byte(text), password)
	}
	if err != nil {
		return tls.Certificate{}, errors.New("certificate can't be read: wrong password, or neither PKCS#12 nor PEM")
	}
	return cert, nil
}

func (a *APNs) newConn(tlsConfig *tls.Config) *apnsConn {
	conn := &apnsConn{
		calls: make(chan struct{}, a.config.HTTP.concurrency()),
		probe: make(chan struct{}, 1),
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	var onlyHTTP2 http.Protocols
	onlyHTTP2.SetHTTP2(true)
	transport := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: tlsConfig.Clone(), // each transport adds to its own
		Protocols:       &onlyHTTP2,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn.warm.Store(false)
			return dialer.DialContext(ctx, network, addr)
		},
		TLSHandshakeTimeout: 10 * time.Second,
		// Wait for the connection, and for a free stream on it, rather than open connection
		// after connection, which looks like an attack to Apple.
		MaxConnsPerHost: 1,
		HTTP2: &http.HTTP2Config{
			StrictMaxConcurrentRequests: true,
			SendPingTimeout:             15 * time.Second,
			PingTimeout:                 5 * time.Second,
			WriteByteTimeout:            10 * time.Second,
		},
	}
	conn.client = &apns2.Client{Host: a.baseURL, HTTPClient: &http.Client{Transport: &apnsTransport{transport}}}
	if a.key != nil {
		conn.client.Token = &a.key.token
	}
	return conn
}

// apnsTransport bounds what is read of an answer, and keeps the parts of it that the client
// library drops.
type apnsTransport struct{ *http.Transport }

type apnsExchangeKey struct{}

// apnsExchange is filled in by the transport; the caller reads it after the call.
type apnsExchange struct {
	bearer     string
	status     int
	retryAfter time.Duration
}

func (t *apnsTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(apnsExchangeKey{}).(*apnsExchange)
	if x != nil {
		x.bearer = strings.TrimPrefix(req.Header.Get("authorization"), "bearer ")
	}
	resp, err := t.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if x != nil {
		x.status, x.retryAfter = resp.StatusCode, retryAfter(resp.Header, time.Now())
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, 64<<10), resp.Body}
	return resp, nil
}

// providerKey makes the JWT that all connections of the provider app share. The token renews
// itself after 50 minutes.
type providerKey struct {
	token  token.Token
	forced time.Time // guarded by token's lock
}

var tenCharacters = regexp.MustCompile(`^[0-9A-Za-z]{10}$`)

func newProviderKey(c APNsConfig) (*providerKey, error) {
	var errs []error
	if !tenCharacters.MatchString(c.KeyID) {
		errs = append(errs, errors.New("key ID does not have 10 characters"))
	}
	if !tenCharacters.MatchString(c.TeamID) {
		errs = append(errs, errors.New("team ID does not have 10 characters"))
	}
	key, err := parseECKey(c.Key.Reveal())
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p := &providerKey{token: token.Token{AuthKey: key, KeyID: c.KeyID, TeamID: c.TeamID}}
	if _, err := p.token.Generate(); err != nil {
		return nil, errors.New("the key does not sign")
	}
	return p, nil
}

// renew replaces the token that Apple called expired. It returns false where that token is
// the present one and the last forced renewal is too young.
func (p *providerKey) renew(stale string) bool {
	p.token.Lock()
	defer p.token.Unlock()
	if p.token.Bearer != stale {
		return true
	}
	if !p.forced.IsZero() && time.Since(p.forced) < apnsForceEvery {
		return false
	}
	if _, err := p.token.Generate(); err != nil {
		return false
	}
	p.forced = time.Now()
	return true
}

// Name returns the provider app's name in the configuration.
func (a *APNs) Name() string { return a.config.Name }

// Vendor returns VendorAPNs.
func (a *APNs) Vendor() Vendor { return VendorAPNs }

// BatchSize is a number of devices worth gathering: APNs takes one a call, Send runs many.
func (a *APNs) BatchSize() int { return 100 }

// QuotaClass is always the same: APNs has no day quota.
func (a *APNs) QuotaClass(*Notification) string { return "" }

// Close gives back idle connections.
func (a *APNs) Close() {
	for _, c := range a.conns {
		c.client.CloseIdleConnections()
	}
}

// Send pushes n to each device.
func (a *APNs) Send(ctx context.Context, n *Notification, devices []Device) []Result {
	return sendBatches(ctx, devices, 1, len(a.conns)*cap(a.conns[0].calls), func(ctx context.Context, one []Device) []Result {
		return []Result{a.send(ctx, n, one[0])}
	})
}

// Check pushes to a device token that can't exist: Apple calls the token bad only after it
// has taken the credentials.
func (a *APNs) Check(ctx context.Context) error {
	probe := Device{Token: NewToken(strings.Repeat("0", 64))}
	return checkError(a.config.Name, a.send(ctx, &Notification{Title: "check", Text: "check", MessageID: "check"}, probe))
}

// Preview returns the call for one device.
func (a *APNs) Preview(n *Notification, d Device) (Preview, error) {
	if !d.VoIPToken.IsZero() {
		d.VoIPToken = NewToken(previewToken)
	}
	d.Token = NewToken(previewToken)
	m, err := a.message(n, d, time.Now())
	if err != nil {
		return Preview{}, err
	}
	header := []string{
		"apns-topic", m.Topic, "apns-push-type", string(m.PushType), "apns-priority", strconv.Itoa(m.Priority),
		"apns-expiration", strconv.FormatInt(m.Expiration.Unix(), 10), "apns-collapse-id", m.CollapseID,
	}
	if a.key != nil {
		header = append(header, "authorization", "")
	}
	return previewCall(call{url: a.baseURL + "/3/device/" + m.DeviceToken, header: header, body: m.Payload.([]byte)}, nil)
}

var apnsToken = regexp.MustCompile(`^[0-9A-Za-z_-]{1,400}$`)

func (a *APNs) send(ctx context.Context, n *Notification, d Device) Result {
	started := time.Now()
	m, err := a.message(n, d, started)
	switch {
	case err != nil:
		return Result{Outcome: PayloadRejected, AsOf: started, Err: err}
	case !apnsToken.MatchString(m.DeviceToken): // it becomes part of a URL
		return Result{Outcome: TokenForeign, Code: "malformed", AsOf: started}
	}
	for try := 0; ; try++ {
		r, bearer := a.push(ctx, m, started)
		r.VoIP = m.PushType == apns2.PushTypeVOIP
		if r.Outcome != AuthExpired {
			return r
		}
		if try > 0 || a.key == nil || !a.key.renew(bearer) {
			r.Outcome = AuthRejected
			return r
		}
	}
}

// push makes one call and returns the bearer that went with it.
func (a *APNs) push(ctx context.Context, m *apns2.Notification, started time.Time) (Result, string) {
	ctx, cancel := context.WithTimeout(ctx, a.config.HTTP.timeout())
	defer cancel()
	conn := a.conns[a.next.Add(1)%uint64(len(a.conns))]
	leave, err := conn.enter(ctx)
	if err != nil {
		return Result{Outcome: Retryable, AsOf: started, Err: err}, ""
	}
	var x apnsExchange
	resp, err := conn.client.PushWithContext(context.WithValue(ctx, apnsExchangeKey{}, &x), m)
	leave(x.status)
	r := Result{AsOf: started, RetryAfter: x.retryAfter}
	if err != nil {
		r.Err = a.redacted(err, m.DeviceToken, x.bearer)
		r.Outcome = Retryable
		if x.status != 0 { // an answer came, but not one of Apple's
			r.Code = strconv.Itoa(x.status)
			r.Outcome = apnsOutcome(x.status, "")
		}
		return r, x.bearer
	}
	r.VendorID = resp.ApnsID
	if resp.StatusCode == http.StatusOK {
		r.Outcome, r.RetryAfter = Accepted, 0
		return r, x.bearer
	}
	r.Outcome, r.Code = apnsOutcome(resp.StatusCode, resp.Reason), cmp.Or(resp.Reason, strconv.Itoa(resp.StatusCode))
	if resp.StatusCode == http.StatusGone && !resp.Timestamp.IsZero() {
		r.AsOf = resp.Timestamp.Time
	}
	if resp.Reason == apns2.ReasonShutdown {
		conn.client.CloseIdleConnections()
	}
	r.Code = redact(r.Code, append([]string{m.DeviceToken, x.bearer}, a.secrets...))
	r.Err = fmt.Errorf("push: %s: status %d, reason %q", a.config.Name, resp.StatusCode, cutRunes(r.Code, maxVendorText))
	return r, x.bearer
}

// enter waits for a place on the connection. leave takes the answer's HTTP status, 0 for none.
func (c *apnsConn) enter(ctx context.Context) (leave func(status int), err error) {
	select {
	case c.calls <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	probing := false
	if !c.warm.Load() {
		select {
		case c.probe <- struct{}{}:
		case <-ctx.Done():
			<-c.calls
			return nil, ctx.Err()
		}
		if probing = !c.warm.Load(); !probing {
			<-c.probe
		}
	}
	return func(status int) {
		// Any answer but "who are you" shows that Apple took the token.
		c.warm.Store(status != 0 && status != http.StatusForbidden)
		if probing {
			<-c.probe
		}
		<-c.calls
	}, nil
}

// redacted takes the device token, which is in the URL of every transport error, out of err.
func (a *APNs) redacted(err error, secrets ...string) error {
	inner := err
	if e, ok := errors.AsType[*url.Error](err); ok {
		inner = e.Err
	}
	text := redact(redact(inner.Error(), secrets), a.secrets)
	return &transportError{text: "push: " + a.config.Name + ": " + text, err: inner}
}

type apnsAlert struct {
	Title    string `json:"title,omitempty"`
	Subtitle string `json:"subtitle,omitempty"`
	Body     string `json:"body,omitempty"`
}

type apnsBody struct {
	Alert             *apnsAlert `json:"alert,omitempty"`
	Badge             *int       `json:"badge,omitempty"`
	Sound             string     `json:"sound,omitempty"`
	ThreadID          string     `json:"thread-id,omitempty"`
	MutableContent    int        `json:"mutable-content,omitempty"`
	ContentAvailable  int        `json:"content-available,omitempty"`
	Category          string     `json:"category,omitempty"`
	InterruptionLevel string     `json:"interruption-level,omitempty"`
}

type apnsPayload struct {
	APS     apnsBody `json:"aps"`
	Ext     string   `json:"ext,omitempty"`
	Image   string   `json:"image,omitempty"`
	Routing routing  `json:"im"`
}

// message builds the push: an alert, a silent push (ContentAvailable) or a call (IsVoipPush).
func (a *APNs) message(n *Notification, d Device, now time.Time) (*apns2.Notification, error) {
	info := n.info()
	p := &info.ApnsInfo
	m := &apns2.Notification{
		DeviceToken: d.Token.Reveal(), Topic: a.config.BundleID, PushType: apns2.PushTypeAlert, Priority: apns2.PriorityHigh,
		CollapseID: boundedID(n.replaceKey(), apnsMaxCollapse),
		Expiration: now.Add(n.timeToLive(cmp.Or(a.config.TimeToLive, 24*time.Hour), time.Second, 30*24*time.Hour)),
	}
	body := apnsBody{
		ThreadID: cmp.Or(n.Group, n.From), Category: a.config.Category,
		InterruptionLevel: p.InterruptionLevel, MutableContent: p.MutableContent,
	}
	limit := maxBody
	switch {
	case p.IsVoipPush == 1 && !d.VoIPToken.IsZero():
		m.DeviceToken, m.Topic, m.PushType = d.VoIPToken.Reveal(), a.config.BundleID+".voip", apns2.PushTypeVOIP
		// A call that rings later is no call. The library sends no header for the zero time
		// and for 1970-01-01T00:00:00Z, and Apple takes any past moment as "try once".
		m.Expiration = time.Unix(1, 0)
		limit = apnsMaxVoIP
	case p.ContentAvailable == 1:
		m.PushType, m.Priority = apns2.PushTypeBackground, apns2.PriorityLow
		body = apnsBody{ContentAvailable: 1}
	}
	if m.PushType != apns2.PushTypeBackground {
		if p.BadgeMode == 0 {
			body.Badge = info.apnsBadge(d.Badge)
		}
		if p.Image != "" {
			body.MutableContent = 1 // only an extension can fetch it
		}
		if sound := cmp.Or(p.Sound, n.Sound, a.config.Sound, "default"); sound != NoSound {
			body.Sound = sound
		}
	}
	payload, err := fitBody(limit, n.Text, n.Ext, func(text, ext string) any {
		b := body
		if m.PushType != apns2.PushTypeBackground {
			b.Alert = &apnsAlert{Title: cmp.Or(p.Title, n.Title), Subtitle: p.SubTitle, Body: text}
		}
		return escaped{apnsPayload{APS: b, Ext: ext, Image: p.Image, Routing: n.routing()}}
	})
	m.Payload = payload
	return m, err
}

// escaped marshals with the escapes for HTML: the client library marshals the payload once
// more and adds them, so they have to be in what is measured.
type escaped struct{ v any }

func (e escaped) MarshalJSON() ([]byte, error) {
	return json.Marshal(e.v)
}

var apnsReasons = map[string]Outcome{
	apns2.ReasonBadDeviceToken:              TokenForeign,
	apns2.ReasonDeviceTokenNotForTopic:      TokenForeign,
	apns2.ReasonMissingDeviceToken:          PayloadRejected,
	apns2.ReasonBadPath:                     PayloadRejected,
	apns2.ReasonBadCollapseID:               PayloadRejected,
	apns2.ReasonBadExpirationDate:           PayloadRejected,
	apns2.ReasonBadMessageID:                PayloadRejected,
	apns2.ReasonBadPriority:                 PayloadRejected,
	apns2.ReasonDuplicateHeaders:            PayloadRejected,
	apns2.ReasonInvalidPushType:             PayloadRejected,
	apns2.ReasonPayloadEmpty:                PayloadRejected,
	apns2.ReasonMethodNotAllowed:            PayloadRejected,
	apns2.ReasonPayloadTooLarge:             PayloadRejected,
	apns2.ReasonBadTopic:                    AuthRejected,
	apns2.ReasonMissingTopic:                AuthRejected,
	apns2.ReasonTopicDisallowed:             AuthRejected,
	apns2.ReasonIdleTimeout:                 Retryable,
	apns2.ReasonExpiredProviderToken:        AuthExpired,
	apns2.ReasonInvalidProviderToken:        AuthRejected,
	apns2.ReasonMissingProviderToken:        AuthRejected,
	apns2.ReasonBadCertificate:              AuthRejected,
	apns2.ReasonBadCertificateEnvironment:   AuthRejected,
	"UnrelatedKeyIdInToken":                 AuthRejected,
	"BadEnvironmentKeyIdInToken":            AuthRejected,
	apns2.ReasonForbidden:                   AuthRejected,
	apns2.ReasonUnregistered:                TokenInvalid,
	apns2.ReasonExpiredToken:                TokenInvalid,
	apns2.ReasonTooManyRequests:             DeviceThrottled,
	apns2.ReasonTooManyProviderTokenUpdates: Throttled,
	apns2.ReasonInternalServerError:         Retryable,
	apns2.ReasonServiceUnavailable:          Throttled,
	apns2.ReasonShutdown:                    Retryable,
}

func apnsOutcome(status int, reason string) Outcome {
	if o, ok := apnsReasons[reason]; ok {
		return o
	}
	if status >= 500 || status < 300 {
		return Retryable
	}
	return PayloadRejected
}
