package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rookery-im/rookery/usersig"
)

// App is the identity that the nodes of the tests run under.
var App = usersig.App{ID: 1400000001, Secret: "0123456789abcdef0123456789abcdef"}

// A Node is a running rookery process.
type Node struct {
	cmd  *exec.Cmd
	out  *bytes.Buffer
	done chan struct{}
	err  error // of the process; valid after done

	MQTT, WS, HTTP string // its addresses
}

// Start runs the binary over a data folder and waits until it is ready. Env is added to the
// environment, of which other settings of Rookery are taken out.
func Start(ctx context.Context, binary, dataDir string, env ...string) (*Node, error) {
	ready := filepath.Join(dataDir, "..", "ready-"+strconv.FormatInt(readyFiles.Add(1), 10))
	n := &Node{out: new(bytes.Buffer), done: make(chan struct{})}
	n.cmd = exec.CommandContext(ctx, binary, "serve", "--data-dir", dataDir, "--ready-file", ready,
		"--mqtt-addr", "127.0.0.1:0", "--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--log-level", "warn")
	// The tests' own variables, such as ROOKERY_TEST_MONGO_URI, are no settings: the program refuses them.
	n.cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "ROOKERY_") })
	n.cmd.Env = append(append(n.cmd.Env, "ROOKERY_APP_SECRET="+App.Secret), env...)
	n.cmd.Stdout, n.cmd.Stderr = n.out, n.out
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { n.err = n.cmd.Wait(); close(n.done) }()
	for poll := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case <-n.done:
			poll.Stop()
			return nil, fmt.Errorf("rookery serve ended before it was ready: %w\n%s", n.err, n.out)
		case <-poll.C:
		}
		b, err := os.ReadFile(ready)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		poll.Stop()
		var addrs struct{ MQTT, WS, HTTP string }
		if err := errors.Join(err, json.Unmarshal(b, &addrs), os.Remove(ready)); err != nil {
			return nil, errors.Join(err, n.Kill())
		}
		n.MQTT, n.WS, n.HTTP = addrs.MQTT, addrs.WS, addrs.HTTP
		return n, nil
	}
}

var readyFiles atomic.Int64

// Pid returns the process id.
func (n *Node) Pid() int { return n.cmd.Process.Pid }

// Kill ends the process at once, as kill -9 does, and waits for its end.
func (n *Node) Kill() error { return n.end(syscall.SIGKILL) }

// Stop asks the process to end and returns how it ended; nil is exit code 0.
func (n *Node) Stop() error {
	if err := n.end(syscall.SIGTERM); err != nil {
		return err
	}
	if n.err != nil {
		return fmt.Errorf("rookery serve: %w\n%s", n.err, n.out)
	}
	return nil
}

func (n *Node) end(s os.Signal) error {
	select {
	case <-n.done:
		return fmt.Errorf("rookery serve ended by itself: %w\n%s", n.err, n.out)
	default:
	}
	if err := n.cmd.Process.Signal(s); err != nil {
		return err
	}
	select {
	case <-n.done:
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("rookery serve did not end on %v\n%s", s, n.out)
	}
}

// Log returns what the process has printed; call it after its end.
func (n *Node) Log() string { return n.out.String() }

// UserSig returns a password for the user.
func UserSig(user string) string {
	sig, err := usersig.Generate(App, user, time.Now(), 24*time.Hour, nil)
	if err != nil {
		panic(err) // the tests' own names
	}
	return sig
}

// Get fetches a page of the HTTP door.
func (n *Node) Get(ctx context.Context, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), errors.Join(err, res.Body.Close())
}

// Call makes a REST call as the admin and decodes the answer into out, if it is not nil. An
// answer other than ErrorCode 0 is an error.
func (n *Node) Call(ctx context.Context, command string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	q := url.Values{
		"sdkappid": {strconv.FormatInt(App.ID, 10)}, "identifier": {"administrator"}, "usersig": {UserSig("administrator")},
		"random": {"1"}, "contenttype": {"json"},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+n.HTTP+"/v4/"+command+"?"+q.Encode(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	var answer json.RawMessage
	err = errors.Join(json.NewDecoder(res.Body).Decode(&answer), res.Body.Close())
	var envelope struct {
		ErrorCode int
		ErrorInfo string
	}
	if err = errors.Join(err, json.Unmarshal(answer, &envelope)); err != nil {
		return fmt.Errorf("%s: HTTP %s: %w", command, res.Status, err)
	}
	if envelope.ErrorCode != 0 {
		return fmt.Errorf("%s: %d %s", command, envelope.ErrorCode, envelope.ErrorInfo)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
