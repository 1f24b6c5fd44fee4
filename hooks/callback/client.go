package callback

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/rookery-im/rookery/hooks"
)

// A Client makes the calls. All methods may be called from any goroutine.
type Client struct {
	cfg     Config
	url     *url.URL
	http    *http.Client
	log     *slog.Logger
	metrics *Metrics
	breaker *breaker
	total   *semaphore.Weighted
	groups  turns
	opens   atomic.Pointer[func()] // called when the breaker opens
	closes  atomic.Pointer[func()] // called when it closes
	asked   atomic.Int64
	heard   atomic.Int64
}

// New returns a client of the app's server at cfg.URL.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	cfg = cfg.withDefaults()
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" {
		return nil, errors.New("callback: the URL is not one") // it may hold a secret
	}
	transport := cfg.Transport
	if transport == nil {
		conns := cfg.Concurrency + cfg.AfterConcurrency
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        cfg.TLS,
			ForceAttemptHTTP2:      true,
			MaxConnsPerHost:        conns,
			MaxIdleConns:           conns,
			MaxIdleConnsPerHost:    conns,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // what is read is what was sent: its bound is the answer's
		}
	}
	c := &Client{
		cfg: cfg, url: u, log: log, metrics: newMetrics(),
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		total:  semaphore.NewWeighted(int64(cfg.Concurrency)),
		groups: turns{each: int64(cfg.ConcurrencyPerGroup)},
	}
	c.breaker = &breaker{failures: cfg.BreakerFailures, pause: cfg.BreakerPause, changed: c.breakerChanged}
	return c, nil
}

// Close closes idle connections. Calls under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Requests returns how many calls were made, Answers how many of them were answered.
func (c *Client) Requests() int64 { return c.asked.Load() }

// Answers is described at Requests.
func (c *Client) Answers() int64 { return c.heard.Load() }

func (c *Client) breakerChanged(s breakerState) {
	c.metrics.breaker.Set(float64(s))
	var tell *func()
	switch s {
	case open:
		c.log.Warn("callback server fails, no calls for now", "dur", c.cfg.BreakerPause)
		tell = c.opens.Load()
	case closed:
		c.log.Info("callback server is back")
		tell = c.closes.Load()
	}
	if tell != nil {
		(*tell)()
	}
}

// sends reports whether callbacks of the name are switched on.
func (c *Client) sends(name string) bool {
	return len(c.cfg.Commands) == 0 || slices.Contains(c.cfg.Commands, name)
}

var (
	errOpen   = errors.New("callback: the server failed several times, no call is made")
	errAnswer = errors.New("callback: not an answer")
)

// An answer is what the app's server says.
type answer struct {
	Code            code            `json:"ErrorCode"`
	Info            info            `json:"ErrorInfo"`
	Body            json.RawMessage `json:"MsgBody"`
	CloudCustomData json.RawMessage `json:"CloudCustomData"`
}

// A code is a number that some servers write as a text: a refusal must not be taken for no answer.
type code int

// UnmarshalJSON implements json.Unmarshaler.
func (c *code) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	n, err := strconv.Atoi(strings.Trim(string(raw), `"`))
	*c = code(n)
	return err
}

// An info is a text. What is no text says nothing, but does not undo the code beside it.
type info string

// UnmarshalJSON implements json.Unmarshaler.
func (i *info) UnmarshalJSON(raw []byte) error {
	var s string
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
	}
	*i = info(s)
	return nil
}

// ask makes one exchange and returns the answer's JSON object. The error is errOpen if it
// was not tried, else ctx's or what was wrong; it holds no URL.
func (c *Client) ask(ctx context.Context, name string, body []byte, from hooks.Origin) (raw json.RawMessage, err error) {
	err = c.try(ctx, name, body, from, func(answer io.Reader) (err error) {
		raw, err = c.object(answer)
		return err
	})
	return raw, err
}

// tell makes one exchange of which only the status is looked at: apps answer what they are
// told of with any text, or none. The error is as that of ask.
func (c *Client) tell(ctx context.Context, name string, body []byte, from hooks.Origin) error {
	return c.try(ctx, name, body, from, func(answer io.Reader) error {
		_, err := io.Copy(io.Discard, io.LimitReader(answer, c.cfg.AnswerBytes))
		return err
	})
}

// try makes one exchange, unless the breaker is open, and lets read have the answer's body.
func (c *Client) try(ctx context.Context, name string, body []byte, from hooks.Origin, read func(io.Reader) error) error {
	if !c.breaker.allow() {
		return errOpen
	}
	c.asked.Add(1)
	err := c.exchange(ctx, name, body, from, read)
	if err == nil {
		c.heard.Add(1)
	}
	c.breaker.done(err == nil, errors.Is(context.Cause(ctx), context.Canceled))
	return err
}

func (c *Client) exchange(ctx context.Context, name string, body []byte, from hooks.Origin, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address(name, from, time.Now()), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, which is signed
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // a short one is read so that the connection is used again
		return fmt.Errorf("%w: HTTP status %d", errAnswer, resp.StatusCode)
	}
	return read(resp.Body)
}

// byteOrderMark is what some servers, above all files of scripts, put before their output.
const byteOrderMark = "\ufeff"

// object reads an answer that must be a JSON object.
func (c *Client) object(answer io.Reader) (json.RawMessage, error) {
	raw, err := io.ReadAll(io.LimitReader(answer, c.cfg.AnswerBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > c.cfg.AnswerBytes {
		return nil, fmt.Errorf("%w: longer than %d bytes", errAnswer, c.cfg.AnswerBytes)
	}
	raw = bytes.TrimSpace(bytes.TrimPrefix(raw, []byte(byteOrderMark)))
	if len(raw) == 0 || raw[0] != '{' || !json.Valid(raw) {
		return nil, fmt.Errorf("%w: not a JSON object", errAnswer)
	}
	return raw, nil
}

// address returns the URL of a call: what it says of itself goes behind what the operator wrote.
func (c *Client) address(name string, from hooks.Origin, now time.Time) string {
	q := url.Values{
		"SdkAppid":        {strconv.FormatInt(c.cfg.SDKAppID, 10)},
		"CallbackCommand": {name},
		"contenttype":     {"json"},
	}
	if from.IP != "" {
		q.Set("ClientIP", from.IP)
	}
	if from.Platform != "" {
		q.Set("OptPlatform", platformName(from.Platform))
	}
	if c.cfg.Token != "" {
		at := strconv.FormatInt(now.Unix(), 10)
		q.Set("RequestTime", at)
		q.Set("Sign", sign(c.cfg.Token, at))
	}
	u := *c.url
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += q.Encode()
	return u.String()
}

// platformName is the callbacks' name of a platform; a status calls the same ones otherwise.
func platformName(p string) string {
	switch p {
	case "PC":
		return "Windows"
	case "iPhone":
		return "iOS"
	}
	return p
}

func sign(token, requestTime string) string {
	sum := sha256.Sum256([]byte(token + requestTime))
	return hex.EncodeToString(sum[:])
}
