// Package testserver gives tests a MongoDB server: a real one if ROOKERY_TEST_MONGO_URI names
// it, else a process of the module storage/mongo/mongotest. Only tests may import it.
//
// ROOKERY_TEST_POSTGRES_URL makes that process keep its data in PostgreSQL instead of files.
package testserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Real reports whether the tests run on a real replica set, and logs its answer: without one,
// what rests on majority, elections, atomic updates or TTL is not shown.
func Real(tb testing.TB) bool {
	real := os.Getenv("ROOKERY_TEST_MONGO_URI") != ""
	tb.Logf("ROOKERY_TEST_MONGO_URI is set: %v", real)
	return real
}

// shared is the server that most tests of a process use. It ends, and removes its files, when
// the process does, since nobody holds its standard input then.
var shared = sync.OnceValues(func() (*Server, error) {
	dir, err := os.MkdirTemp("", "mongotest")
	if err != nil {
		return nil, err
	}
	return start(context.Background(), dir, "127.0.0.1:0", "-remove")
})

// URI returns the URI of the server that the tests of this process share.
func URI(tb testing.TB) string {
	tb.Helper()
	if uri := os.Getenv("ROOKERY_TEST_MONGO_URI"); uri != "" {
		return uri
	}
	s, err := shared()
	if err != nil {
		tb.Fatal(err)
	}
	return s.URI
}

var databases atomic.Int64

// Database returns a name for a database that nothing else uses.
func Database(tb testing.TB) string {
	tb.Helper()
	return fmt.Sprintf("rookery_test_%d_%d", os.Getpid(), databases.Add(1))
}

// A Server is a server process of the test's own, which it may kill.
type Server struct {
	URI string

	dir   string
	pid   int
	stdin io.Closer
	cmd   *exec.Cmd
}

// Start starts a server on a folder. It is stopped when the test ends.
func Start(tb testing.TB, dir string) *Server {
	tb.Helper()
	s, err := start(context.Background(), dir, "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Stop() })
	return s
}

// Restart starts a server that was killed or stopped again, at the same address.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	address, _, _ := strings.Cut(strings.TrimPrefix(s.URI, "mongodb://"), "/")
	again, err := start(context.Background(), s.dir, address)
	if err != nil {
		tb.Fatal(err)
	}
	*s = *again
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	_ = syscall.Kill(s.pid, syscall.SIGKILL) // it is our own child's child, and it has ended if this fails
	_ = s.cmd.Wait()
}

// Signal sends a signal to the server, SIGSTOP for one.
func (s *Server) Signal(sig syscall.Signal) error { return syscall.Kill(s.pid, sig) }

// Stop ends the server. It may have ended before.
func (s *Server) Stop() {
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
}

func start(ctx context.Context, dir, listen string, flags ...string) (*Server, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/rookery-im/rookery").Output()
	if err != nil {
		return nil, fmt.Errorf("where is the module: %w", err)
	}
	args := append([]string{"run", ".", "-listen", listen}, flags...)
	if postgres := os.Getenv("ROOKERY_TEST_POSTGRES_URL"); postgres != "" {
		args = append(args, "-postgres", postgres)
	} else {
		args = append(args, "-dir", dir)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(strings.TrimSpace(string(out)), "storage", "mongo", "mongotest")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	pid, uri, ok := strings.Cut(strings.TrimSpace(line), " ")
	s := &Server{URI: uri, dir: dir, stdin: stdin, cmd: cmd}
	if err == nil {
		s.pid, err = strconv.Atoi(pid)
	}
	if err != nil || !ok {
		_ = stdin.Close()
		return nil, fmt.Errorf("mongotest: first line %q: %w; it ended: %w; it said: %s", line, err, cmd.Wait(), &stderr)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }() // ends with the process
	return s, nil
}
