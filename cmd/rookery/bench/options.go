package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"time"
)

// Options are what every scenario needs to know.
type Options struct {
	Broker string // host:port of the MQTT listener
	Name   string // what the report calls the broker; the address when empty
	MQTT5  bool   // protocol version 5 instead of 3.1.1
	PID    int    // the process to measure; zero measures none

	// Username and Password are used by every connection when they are set. With Rookery each connection logs in as a
	// user of its own instead.
	Username, Password string
	Rookery            Rookery

	Duration time.Duration // of the measured part; zero means 10 s
	Warmup   time.Duration // before it; negative means none, zero 2 s
	Parallel int           // connections that are being opened at the same time; zero means 100
	Threads  int           // loops; zero means one for every two processors
	// KeepAlive is what CONNECT asks for; zero means 300 s.
	KeepAlive      time.Duration
	ReceiveMaximum int // announced with MQTT 5; zero announces none
	// LostAfter is how long a closed loop waits for a message before it goes on without it; zero means 5 s.
	LostAfter time.Duration

	// Measuring is called when the measured part begins, with its length; nil for nobody.
	Measuring func(time.Duration)

	// Progress gets a line that is written over every second; nil for none.
	Progress io.Writer
}

func (o *Options) setDefaults() {
	o.Name = cmp.Or(o.Name, o.Broker)
	o.Duration = cmp.Or(o.Duration, 10*time.Second)
	switch {
	case o.Warmup < 0:
		o.Warmup = 0
	case o.Warmup == 0:
		o.Warmup = 2 * time.Second
	}
	o.Parallel = cmp.Or(o.Parallel, 100)
	o.Threads = cmp.Or(o.Threads, max(runtime.NumCPU()/2, 1))
	o.KeepAlive = cmp.Or(o.KeepAlive, 300*time.Second)
	o.LostAfter = cmp.Or(o.LostAfter, 5*time.Second)
}

func (o *Options) validate() error {
	var errs []error
	for name, d := range map[string]time.Duration{"duration": o.Duration, "keep-alive": o.KeepAlive, "lost-after": o.LostAfter} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("--%s: %s is not positive", name, d))
		}
	}
	if o.KeepAlive > 65535*time.Second {
		errs = append(errs, fmt.Errorf("--keep-alive: %s is more than 65535 s", o.KeepAlive))
	}
	if o.Parallel < 1 || o.Threads < 1 {
		errs = append(errs, errors.New("--parallel and --threads take at least 1"))
	}
	if o.ReceiveMaximum < 0 || o.ReceiveMaximum > 65535 {
		errs = append(errs, fmt.Errorf("--receive-maximum: %d is not between 0 and 65535", o.ReceiveMaximum))
	}
	return errors.Join(errs...)
}

// A stage is what a scenario stands on: loops, the broker's address, and names that no other run has used.
type stage struct {
	Options
	*engine
	to      netip.AddrPort
	run     string // eight hex digits
	rookery *rookery
}

// newStage checks the options, opens up the descriptor limit for connections and starts the loops. The caller closes
// the stage's engine.
func newStage(ctx context.Context, o Options, connections int) (*stage, context.Context, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, nil, err
	}
	limit, err := raiseFileLimit()
	if err != nil {
		return nil, nil, err
	}
	const own = 64 // descriptors besides the connections
	if connections+own > limit {
		return nil, nil, fmt.Errorf("%d connections need a descriptor limit of %d, and the hard limit is %d (ulimit -Hn)", connections, connections+own, limit)
	}
	s := &stage{Options: o, run: fmt.Sprintf("%08x", rand.Uint32())}
	if s.to, err = resolve(ctx, o.Broker); err != nil {
		return nil, nil, err
	}
	if o.Rookery.HTTP != "" {
		if s.rookery, err = newRookery(o.Rookery); err != nil {
			return nil, nil, err
		}
	}
	if o.PID != 0 {
		if _, err := processUsage(o.PID); err != nil {
			return nil, nil, fmt.Errorf("--pid: %w", err)
		}
	}
	if s.engine, ctx, err = startEngine(ctx, o.Threads); err != nil {
		return nil, nil, err
	}
	return s, ctx, nil
}

// resolve finds the first address of host:port.
func resolve(ctx context.Context, address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(number)), nil
}

// user names the n-th user of the run.
func (s *stage) user(n int) string { return fmt.Sprintf("b%s-%d", s.run, n) }

// groupID names the n-th group of the run.
func (s *stage) groupID(n int) string { return fmt.Sprintf("bench-%s-%d", s.run, n) }

// session makes the session of a user; role may be nil for one that only stays connected.
func (s *stage) session(user string, r role, qos byte, filters ...string) (*session, error) {
	c := connectPacket{
		Version: mqtt311, ClientID: user, Username: s.Username, Password: s.Password,
		KeepAlive: uint16((s.KeepAlive + time.Second - 1) / time.Second), ReceiveMaximum: uint16(s.ReceiveMaximum),
	}
	if s.MQTT5 {
		c.Version = mqtt5
	}
	if s.rookery != nil {
		sig, err := s.rookery.sign(user)
		if err != nil {
			return nil, err
		}
		c.Username, c.Password = user, sig
	}
	if r == nil {
		r = bystander{}
	}
	return &session{connect: c, filters: filters, qos: qos, role: r}, nil
}

func (s *stage) opener() *opener { return &opener{engine: s.engine, to: s.to} }
