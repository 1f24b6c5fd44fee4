package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/rookery-im/rookery/group"
)

// A UserSigSource returns a UserSig for the account. It is asked before every connection, so
// that one that has expired is never used twice; ctx ends with the attempt to connect.
type UserSigSource func(ctx context.Context) (string, error)

// Config says who the client is and how it behaves. Server, Account and UserSig are needed; the
// zero values of the others work.
type Config struct {
	// Server is the server's URL: mqtt://host:port, mqtts://host:port, ws://host:port/mqtt or
	// wss://host:port/mqtt.
	Server  string
	Account group.Account
	UserSig UserSigSource

	// Device is the client identifier: it names this device among the account's own. A second
	// connection with the same one ends the first. Empty: the server assigns one to each connection.
	Device string
	// Platform is told to the server: iOS, Android, Web, PC, … Empty: IoT.
	Platform string
	// TLS is used for mqtts and wss; nil: the system's roots.
	TLS *tls.Config

	// The handlers; see the package comment for their order. They get the client, since they may
	// be called before Dial has returned it.
	OnNewMessage func(*Client, Message)
	OnRefresh    func(*Client)
	OnEvent      func(*Client, Event)

	// Store keeps what was shown and read; nil: a new MemoryStore. It must be the account's own.
	Store Store
	// Log gets what the client copes with by itself; nil: nothing.
	Log *slog.Logger

	// KeepAlive is how long a dead connection can go unnoticed, about twice over; in whole
	// seconds. Zero: 30 s.
	KeepAlive time.Duration
	// ConnectTimeout bounds one attempt to connect. Zero: 10 s.
	ConnectTimeout time.Duration
	// RequestTimeout is how long the server may take to answer one attempt of a request or of
	// sending. Zero: 10 s.
	RequestTimeout time.Duration
	// BackoffMin and BackoffMax bound the wait before the n-th attempt to reconnect, which is
	// random between 0 and BackoffMin·2ⁿ⁻¹ or BackoffMax. Zero: 500 ms and 30 s.
	BackoffMin, BackoffMax time.Duration
	// RepairTimeout is how long a message may wait for what is missing before it while the
	// connection is up; then it is shown and OnEvent told of the Gap. Zero: 1 min.
	RepairTimeout time.Duration
	// QueueLen and QueueBytes bound what has arrived and waits for the handlers. Zero: 4096
	// and 8 MiB.
	QueueLen, QueueBytes int
	// CatchUp bounds how many messages of one group are shown after a login; of more only the
	// newest are, and OnEvent is told of the Gap. Zero: 1000.
	CatchUp int
	// Requests bounds the requests under way; more wait. The server takes 16. Zero: 8.
	Requests int
}

func (c Config) withDefaults() Config {
	c.Store = cmp.Or[Store](c.Store, new(MemoryStore))
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.KeepAlive = cmp.Or(c.KeepAlive, 30*time.Second)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 10*time.Second)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 10*time.Second)
	c.BackoffMin = cmp.Or(c.BackoffMin, 500*time.Millisecond)
	c.BackoffMax = cmp.Or(c.BackoffMax, 30*time.Second)
	c.RepairTimeout = cmp.Or(c.RepairTimeout, time.Minute)
	c.QueueLen = cmp.Or(c.QueueLen, 4096)
	c.QueueBytes = cmp.Or(c.QueueBytes, 8<<20)
	c.CatchUp = cmp.Or(c.CatchUp, 1000)
	c.Requests = cmp.Or(c.Requests, 8)
	if c.OnNewMessage == nil {
		c.OnNewMessage = func(*Client, Message) {}
	}
	if c.OnRefresh == nil {
		c.OnRefresh = func(*Client) {}
	}
	if c.OnEvent == nil {
		c.OnEvent = func(*Client, Event) {}
	}
	return c
}

// Validate reports every field that is missing or out of range.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("client: "+format, args...)) }
	if _, err := c.server(); err != nil {
		errs = append(errs, err)
	}
	if !c.Account.Valid() {
		bad("Account: %.40q is not a UserID of 1 to %d printable ASCII characters", string(c.Account), group.MaxAccountLen)
	}
	if c.UserSig == nil {
		bad("UserSig: missing")
	}
	if k := c.KeepAlive; k < 0 || k > 65535*time.Second || k%time.Second != 0 {
		bad("KeepAlive: %v is not a number of whole seconds up to 65535", k)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"ConnectTimeout", c.ConnectTimeout},
		{"RequestTimeout", c.RequestTimeout},
		{"BackoffMin", c.BackoffMin},
		{"BackoffMax", c.BackoffMax},
		{"RepairTimeout", c.RepairTimeout},
	} {
		if d.value < 0 {
			bad("%s: %v is negative", d.name, d.value)
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"QueueLen", c.QueueLen}, {"QueueBytes", c.QueueBytes}, {"CatchUp", c.CatchUp}, {"Requests", c.Requests}} {
		if n.value < 0 {
			bad("%s: %d is negative", n.name, n.value)
		}
	}
	return errors.Join(errs...)
}

func (c Config) server() (*url.URL, error) {
	u, err := url.Parse(c.Server)
	if err != nil {
		return nil, fmt.Errorf("client: Server: %w", err)
	}
	switch u.Scheme {
	case "mqtt", "mqtts", "ws", "wss":
	default:
		return nil, fmt.Errorf("client: Server: scheme %q is none of mqtt, mqtts, ws, wss", u.Scheme)
	}
	if u.Host == "" {
		return nil, errors.New("client: Server: the host is missing")
	}
	return u, nil
}
