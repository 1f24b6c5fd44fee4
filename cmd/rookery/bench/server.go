package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// The kinds of server that compare starts.
const (
	kindRookery   = "rookery"
	kindMosquitto = "mosquitto"
	kindMochi     = "mochi"
)

// mosquittoConfig removes the limits that would have it drop messages, and delays on small packets.
const mosquittoConfig = `listener %s 127.0.0.1
allow_anonymous true
persistence false
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
log_type error
`

// A server is a child process that is measured.
type server struct {
	kind    string
	cmd     *exec.Cmd
	dir     string // of its own, with its data
	mqtt    string // host:port
	http    string // host:port; Rookery only
	output  bytes.Buffer
	stopped chan struct{}
}

// binaries are the programs of the servers.
type binaries struct {
	rookery   string
	self      string
	mosquitto string
	env       []string // for Rookery, beside that of this process
}

// readyTimeout bounds the wait for a server to listen.
const readyTimeout = 20 * time.Second

// startServer starts a server in a folder of its own and waits until it can be used.
func startServer(ctx context.Context, b binaries, kind, dir string) (*server, error) {
	s := &server{kind: kind, dir: dir}
	return s, s.start(ctx, b, "127.0.0.1:0", "127.0.0.1:0")
}

// restart stops the server and starts it at the same addresses with the same data.
func (s *server) restart(ctx context.Context, b binaries) error {
	if err := s.stop(); err != nil {
		return err
	}
	return s.start(ctx, b, s.mqtt, s.http)
}

func (s *server) start(ctx context.Context, b binaries, mqtt, http string) error {
	ready := filepath.Join(s.dir, "ready.json")
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	switch s.kind {
	case kindRookery:
		s.cmd = exec.CommandContext(ctx, b.rookery, "serve", "--data-dir", s.data(), "--mqtt-addr", mqtt,
			"--ws-addr", "127.0.0.1:0", "--http-addr", http, "--ready-file", ready)
		s.cmd.Env = append(append(os.Environ(), "ROOKERY_FLOW_MESSAGES_PER_SECOND=0"), b.env...)
	case kindMochi:
		s.cmd = exec.CommandContext(ctx, b.self, "bench", "mochi-server", "--addr", mqtt, "--ready-file", ready)
	case kindMosquitto:
		// It cannot choose a port itself.
		address, err := freeAddress(ctx)
		if err != nil {
			return err
		}
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		conf := filepath.Join(s.dir, "mosquitto.conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, mosquittoConfig, port), 0o600); err != nil {
			return err
		}
		s.mqtt = address
		s.cmd = exec.CommandContext(ctx, b.mosquitto, "-c", conf)
	default:
		return fmt.Errorf("no such server: %q", s.kind)
	}
	s.output.Reset()
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	// When the run is interrupted the server gets the chance to stop in good order.
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 15 * time.Second
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.stopped = make(chan struct{})
	go func() {
		defer close(s.stopped)
		_ = s.cmd.Wait() // how it ended is of interest only while it should be running
	}()
	if err := s.wait(ctx, ready); err != nil {
		return errors.Join(err, s.stop())
	}
	return nil
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

// wait returns when the server listens.
func (s *server) wait(ctx context.Context, ready string) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	limit := time.After(readyTimeout)
	for {
		if ok, err := s.ready(ctx, ready); ok || err != nil {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.stopped:
			return fmt.Errorf("%s ended at its start: %s", s.kind, bytes.TrimSpace(s.output.Bytes()))
		case <-limit:
			return fmt.Errorf("%s does not listen after %s", s.kind, readyTimeout)
		}
	}
}

func (s *server) ready(ctx context.Context, file string) (bool, error) {
	if s.kind == kindMosquitto {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", s.mqtt)
		if err != nil {
			return false, nil // not yet
		}
		return true, c.Close()
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(text) == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var at struct{ MQTT, HTTP string }
	if err := json.Unmarshal(text, &at); err != nil {
		return false, fmt.Errorf("%s's ready file: %w", s.kind, err)
	}
	s.mqtt, s.http = at.MQTT, at.HTTP
	return true, nil
}

// stop ends the server and waits for it. Stopping twice is harmless.
func (s *server) stop() error {
	select {
	case <-s.stopped:
		return nil
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.stopped:
		return nil
	case <-time.After(15 * time.Second):
		_ = s.cmd.Process.Kill() // it has not stopped in time
		<-s.stopped
		return fmt.Errorf("%s did not stop within 15 s of SIGTERM", s.kind)
	}
}

// options are how a scenario reaches the server.
func (s *server) options(o Options) Options {
	o.Broker, o.Name, o.PID = s.mqtt, s.kind, s.cmd.Process.Pid
	if s.kind == kindRookery {
		o.Rookery.HTTP, o.Rookery.DataDir = s.http, s.data()
	}
	return o
}

// freeAddress is one on which nobody listens just now.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}
