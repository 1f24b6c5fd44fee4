package push

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// HTTPConfig bounds a provider's calls. The zero value works.
type HTTPConfig struct {
	// Timeout bounds one call, connecting included. Zero means 10 s.
	Timeout time.Duration
	// Concurrency bounds the calls under way at once; further ones wait. Zero means 32.
	Concurrency int
	// RootCAs are trusted to sign the vendor's certificate. Nil means the system's.
	RootCAs *x509.CertPool
}

func (c HTTPConfig) timeout() time.Duration { return cmp.Or(c.Timeout, 10*time.Second) }
func (c HTTPConfig) concurrency() int       { return cmp.Or(c.Concurrency, 32) }

func (c HTTPConfig) validate() error {
	var errs []error
	if c.Timeout < 0 {
		errs = append(errs, errors.New("timeout is negative"))
	}
	if c.Concurrency < 0 {
		errs = append(errs, errors.New("concurrency is negative"))
	}
	return errors.Join(errs...)
}

// ParseRootCAs reads certificates in PEM for HTTPConfig.RootCAs.
func ParseRootCAs(pemText string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(pemText)) {
		return nil, errors.New("push: no certificate in the root CAs")
	}
	return pool, nil
}

// maxAnswer bounds what is read of an answer: a thousand tokens with their IDs.
const maxAnswer = 1 << 20

// maxRetryAfter bounds what a vendor's Retry-After can ask for.
const maxRetryAfter = 24 * time.Hour

// app is what all vendors but APNs have in common.
type app struct {
	name    string
	vendor  Vendor
	http    *http.Client
	timeout time.Duration
	calls   chan struct{} // a slot per call under way
	secrets []string      // never to be seen in an error
	// receipts is zero for vendors that send none.
	receipts ReceiptConfig
}

func newApp(name string, vendor Vendor, c HTTPConfig, secrets ...Secret) app {
	texts := make([]string, 0, 2*len(secrets))
	for _, s := range secrets {
		texts = append(texts, s.Reveal())
	}
	return app{
		name: name, vendor: vendor, timeout: c.timeout(), secrets: texts,
		calls: make(chan struct{}, c.concurrency()),
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
				TLSClientConfig:       &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout:   10 * time.Second,
				ForceAttemptHTTP2:     true,
				MaxIdleConnsPerHost:   c.concurrency(),
				IdleConnTimeout:       90 * time.Second,
				ResponseHeaderTimeout: c.timeout(),
			},
			// A redirect would carry the credentials to a place nobody configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Name returns the provider app's name in the configuration.
func (a *app) Name() string { return a.name }

// Vendor returns the vendor.
func (a *app) Vendor() Vendor { return a.vendor }

// Close gives back idle connections.
func (a *app) Close() { a.http.CloseIdleConnections() }

// call is one request to a vendor; all are POSTs.
type call struct {
	url    string
	header []string // name, value, name, value, …
	body   []byte
}

const (
	jsonType = "application/json; charset=UTF-8"
	formType = "application/x-www-form-urlencoded; charset=UTF-8"
)

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes one call. The error is free of secrets except for those in the body's texts,
// which never are in a transport error.
func (a *app) do(ctx context.Context, c call) (answer, error) {
	select {
	case a.calls <- struct{}{}:
		defer func() { <-a.calls }()
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(c.body))
	if err != nil {
		return answer{}, a.transportError(err)
	}
	for pair := range slices.Chunk(c.header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return answer{}, a.transportError(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, a.transportError(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// transportError takes the URL, which may hold a device token, out of err.
func (a *app) transportError(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return &transportError{text: redact("push: "+a.name+": "+err.Error(), a.secrets), err: err}
}

// transportError is a network fault. It unwraps to nothing but the context's errors: what a
// logger finds by unwrapping would not be redacted.
type transportError struct {
	text string
	err  error
}

func (e *transportError) Error() string { return e.text }

func (e *transportError) Is(target error) bool {
	return (target == context.Canceled || target == context.DeadlineExceeded) && errors.Is(e.err, target)
}

// redact replaces each secret in s, plain or as URLs and forms write it.
func redact(s string, secrets []string) string {
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		s = strings.ReplaceAll(s, secret, "[redacted]")
		if escaped := url.QueryEscape(secret); escaped != secret {
			s = strings.ReplaceAll(s, escaped, "[redacted]")
		}
	}
	return s
}

// What is kept of a vendor's own words, in characters: of a text, and of a code or an ID.
const (
	maxVendorText = 200
	maxVendorWord = 128
)

// vendorError is what a vendor said, with the secrets and the call's tokens taken out.
func (a *app) vendorError(code, text string, devices []Device, more ...string) error {
	secrets := slices.Concat(a.secrets, more, tokenTexts(devices))
	return fmt.Errorf("push: %s: vendor code %s: %q", a.name,
		clean(code, maxVendorWord, secrets), clean(text, maxVendorText, secrets))
}

// clean takes the secrets out of a vendor's words and bounds them in characters.
func clean(text string, limit int, secrets []string) string {
	// Half a token would not be found, so what a first cut may have split goes too.
	cut := len(text) > 8*maxToken
	if cut {
		text = text[:8*maxToken]
	}
	text = redact(text, secrets)
	if cut {
		text = text[:max(len(text)-maxToken, 0)]
	}
	return cutRunes(strings.ToValidUTF8(text, "?"), limit)
}

// retryAfter reads a Retry-After header: seconds or an HTTP date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(min(max(n, 0), seconds(maxRetryAfter))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// httpOutcome is the outcome of an answer whose code says nothing.
func httpOutcome(status int) Outcome {
	switch {
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		return Throttled
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		return AuthRejected
	case status >= 500, status < 300:
		// A success that can't be read: whether it was sent is unknown.
		return Retryable
	}
	return PayloadRejected
}

// looseText is a text or a number in a vendor's answer: vendors change their minds about
// which. Any other JSON value is kept as it is written.
type looseText string

func (t *looseText) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*t = looseText(s)
		return nil
	}
	if string(b) != "null" {
		*t = looseText(b)
	}
	return nil
}

// each gives every device the same result.
func each(devices []Device, r Result) []Result {
	return slices.Repeat([]Result{r}, len(devices))
}

// unsent is the result of a call that failed on its way.
func unsent(devices []Device, started time.Time, err error) []Result {
	return each(devices, Result{Outcome: Retryable, AsOf: started, Err: err})
}

// form encodes pairs (name, value, …) in their order, leaving out empty values.
func form(pairs ...string) []byte {
	var b strings.Builder
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(pair[0]))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(pair[1]))
	}
	return []byte(b.String())
}
