package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Config bounds what clients can take. Zero means the default where one is named; the
// addresses' zero means "do not listen", the connection limits' zero "no limit".
type Config struct {
	TCPAddr string // host:port; port 0 takes a free one
	TLSAddr string // MQTT over TLS
	WSAddr  string // MQTT over WebSocket
	WSSAddr string // MQTT over secure WebSocket

	TLS       *tls.Config // needed for TLSAddr and WSSAddr
	WSPath    string      // zero: /mqtt
	WSOrigins []string    // Origin headers that browsers may send; none: any, since a login needs a UserSig and never a cookie

	MaxPacketSize          int           // bytes of the largest packet from a client; zero: 256 KiB
	KeepAlive              time.Duration // the longest keep alive; a client that asks for more, or for none, gets this one; zero: 20 min
	ReceiveMaximum         int           // publishes of one connection that wait for their acknowledgement; zero: 256
	SendWindow             int           // deliveries to one connection that wait for its PUBACK, at most; zero: 1024
	Connections            int           // in all
	ConnectionsPerUser     int           // zero: 10
	ConnectionsPerAddress  int           // IPv6 addresses count by /64, here and below
	ConnectsPerAddress     int           // per second
	ConnectBurstPerAddress int           // zero: 200
	TrackedAddresses       int           // addresses whose rate is remembered; zero: 100,000
	CountLoopback          bool          // whether the limits per address hold for loopback
	Unauthenticated        int           // connections that have not logged in yet; zero: 5000
	ConnectDeadline        time.Duration // for TLS, WebSocket upgrade and CONNECT together; zero: 10 s
	SlowConsumerBytes      int           // that may wait to be written to one connection; zero: 1 MiB
	SlowConsumerTime       time.Duration // that a write may make no progress; zero: 30 s
	Subscriptions          int           // topic filters of one connection; zero: 1000
	RPCPending             int           // requests of one connection under way; zero: 16
	RPCTimeout             time.Duration // zero: 10 s
	DrainTimeout           time.Duration // how long Run waits for outcomes when it ends; zero: 5 s
	StoreTimeout           time.Duration // how long a login waits for the store; zero: 10 s

	// SessionExpiry is the longest that a session is kept for a client that is away, and how
	// long for an MQTT 3.1.1 client with clean session 0. Zero: sessions end with their connections.
	SessionExpiry   time.Duration
	SessionsPerUser int // kept; past it the one that was unused longest ends; zero: 10
	ReplayLimit     int // messages of a group that are sent when a session resumes: the newest; zero: 100

	// RoomGrace is how long a member of a live room may be offline without leaving it. Zero: 20 s.
	RoomGrace time.Duration

	// NoAutoCreate refuses users without an account instead of creating it.
	NoAutoCreate bool
	// LoginPolicy says which devices of a user may be online together; zero: any.
	LoginPolicy LoginPolicy
}

// LoginPolicy says which devices of a user may be online together. A device over the policy,
// or over Config.ConnectionsPerUser, is let in and the oldest of those in its way is
// disconnected: a user with a new phone must not be locked out by the lost one.
type LoginPolicy string

// The login policies.
const (
	AnyDevices    LoginPolicy = "any"    // all, up to ConnectionsPerUser
	SingleDevice  LoginPolicy = "single" // one
	DualDevices   LoginPolicy = "dual"   // one web, one other
	TripleDevices LoginPolicy = "triple" // one mobile (or embedded), one desktop, one web
)

func (c Config) withDefaults() Config {
	set(&c.WSPath, "/mqtt")
	set(&c.MaxPacketSize, 256<<10)
	set(&c.KeepAlive, 20*time.Minute)
	set(&c.ReceiveMaximum, 256)
	set(&c.SendWindow, 1024)
	set(&c.ConnectionsPerUser, 10)
	set(&c.ConnectBurstPerAddress, 200)
	set(&c.TrackedAddresses, 100_000)
	set(&c.Unauthenticated, 5000)
	set(&c.ConnectDeadline, 10*time.Second)
	set(&c.SlowConsumerBytes, 1<<20)
	set(&c.SlowConsumerTime, 30*time.Second)
	set(&c.Subscriptions, 1000)
	set(&c.RPCPending, 16)
	set(&c.RPCTimeout, 10*time.Second)
	set(&c.DrainTimeout, 5*time.Second)
	set(&c.StoreTimeout, 10*time.Second)
	set(&c.RoomGrace, 20*time.Second)
	set(&c.SessionsPerUser, 10)
	set(&c.ReplayLimit, 100)
	set(&c.LoginPolicy, AnyDevices)
	return c
}

func set[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value int
	}{
		{"MaxPacketSize", c.MaxPacketSize},
		{"ReceiveMaximum", c.ReceiveMaximum},
		{"SendWindow", c.SendWindow},
		{"Connections", c.Connections},
		{"ConnectionsPerUser", c.ConnectionsPerUser},
		{"ConnectionsPerAddress", c.ConnectionsPerAddress},
		{"ConnectsPerAddress", c.ConnectsPerAddress},
		{"ConnectBurstPerAddress", c.ConnectBurstPerAddress},
		{"TrackedAddresses", c.TrackedAddresses},
		{"Unauthenticated", c.Unauthenticated},
		{"SlowConsumerBytes", c.SlowConsumerBytes},
		{"Subscriptions", c.Subscriptions},
		{"RPCPending", c.RPCPending},
		{"SessionsPerUser", c.SessionsPerUser},
		{"ReplayLimit", c.ReplayLimit},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("broker: %s: %d is negative", f.name, f.value))
		}
	}
	if c.ReceiveMaximum > maxPacketID {
		errs = append(errs, fmt.Errorf("broker: ReceiveMaximum: %d is above %d", c.ReceiveMaximum, maxPacketID))
	}
	if c.SendWindow > maxPacketID/2 {
		errs = append(errs, fmt.Errorf("broker: SendWindow: %d is above %d", c.SendWindow, maxPacketID/2))
	}
	if (c.TLSAddr != "" || c.WSSAddr != "") && c.TLS == nil {
		errs = append(errs, errors.New("broker: TLSAddr and WSSAddr need a certificate"))
	}
	switch c.LoginPolicy {
	case "", AnyDevices, SingleDevice, DualDevices, TripleDevices:
	default:
		errs = append(errs, fmt.Errorf("broker: LoginPolicy: %q is unknown", string(c.LoginPolicy)))
	}
	return errors.Join(errs...)
}
