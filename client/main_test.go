package client_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rookery-im/rookery/client"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/internal/crash"
	"github.com/rookery-im/rookery/usersig"
)

// folder is where the program under test is built, once and when it is first needed: what fuzzes
// needs none.
var (
	folder string
	build  = sync.OnceValues(func() (program string, err error) {
		program = filepath.Join(folder, "rookery")
		if out, err := exec.Command("go", "build", "-o", program, "../cmd/rookery").CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return program, nil
	})
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if folder, err = os.MkdirTemp("", "rookery-client"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(folder) }()
		code := m.Run()
		if err := goleak.Find(goleak.IgnoreTopFunction("os/exec.(*Cmd).watchCtx"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
			goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop")); err != nil && code == 0 {
			fmt.Println(err)
			return 1
		}
		return code
	}())
}

// start runs a server for the test.
func start(t *testing.T) *crash.Node {
	t.Helper()
	return startIn(t, filepath.Join(t.TempDir(), "data"))
}

func startIn(t *testing.T, dir string) *crash.Node {
	t.Helper()
	n := run(t, dir)
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// run runs a server that the test ends by itself.
func run(t *testing.T, dir string) *crash.Node {
	t.Helper()
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	n, err := crash.Start(context.Background(), program, dir, "ROOKERY_FLOW_MESSAGES_PER_SECOND=0")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// call makes a REST call that must succeed.
func call(t *testing.T, n *crash.Node, command string, in any) {
	t.Helper()
	if err := n.Call(t.Context(), command, in, nil); err != nil {
		t.Fatal(err)
	}
}

type object = map[string]any

// makeGroup makes a Public group of accounts, the first of which owns it, that says nothing of its own.
func makeGroup(t *testing.T, n *crash.Node, id group.ID, accounts ...group.Account) {
	t.Helper()
	var members, list []object
	for _, a := range accounts {
		list = append(list, object{"UserID": a})
	}
	call(t, n, "im_open_login_svc/multiaccount_import", object{"AccountList": list})
	for _, a := range accounts[1:] {
		members = append(members, object{"Member_Account": a})
	}
	call(t, n, "group_open_http_svc/create_group", object{
		"Type": "Public", "GroupId": id, "Name": "group " + string(id), "Owner_Account": accounts[0], "MemberList": members,
	})
}

// tail returns the highest SEQ of a group.
func tail(t *testing.T, c *client.Client, id group.ID) group.Seq {
	t.Helper()
	info, err := c.GroupInfo(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return info.NextSeq - 1
}

// sign is a UserSigSource.
func sign(a group.Account) client.UserSigSource {
	return func(context.Context) (string, error) {
		return usersig.Generate(crash.App, string(a), time.Now(), time.Hour, nil)
	}
}

// A recorder notes what the handlers are called with.
type recorder struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced with each call
	calls   []string      // in order: "message g 7", "refresh", "event client.Connected"
	shown   []client.Message
	events  []client.Event
	refresh int
}

func (r *recorder) note(what string, change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, what)
	change()
	if r.changed != nil {
		close(r.changed)
	}
	r.changed = make(chan struct{})
}

func (r *recorder) config(cfg client.Config) client.Config {
	cfg.OnNewMessage = func(_ *client.Client, m client.Message) {
		r.note(fmt.Sprintf("message %s %d", m.Group, m.Seq), func() { r.shown = append(r.shown, m) })
	}
	cfg.OnRefresh = func(*client.Client) { r.note("refresh", func() { r.refresh++ }) }
	cfg.OnEvent = func(_ *client.Client, ev client.Event) {
		r.note(fmt.Sprintf("event %T", ev), func() { r.events = append(r.events, ev) })
	}
	return cfg
}

// until waits until cond, which is called with the recorder locked, is true.
func (r *recorder) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		r.mu.Lock()
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		ok, changed := cond(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("%s has not happened; calls: %q", what, last(r.calls, 20))
		}
	}
}

func last(s []string, n int) []string { return s[max(0, len(s)-n):] }

// seqs returns the SEQs of a group in the order in which they were shown. r is locked by until.
func (r *recorder) seqs(id group.ID) []group.Seq {
	var out []group.Seq
	for _, m := range r.shown {
		if m.Group == id {
			out = append(out, m.Seq)
		}
	}
	return out
}

// events of one type. r is locked by until.
func eventsOf[E client.Event](r *recorder) []E {
	var out []E
	for _, ev := range r.events {
		if e, ok := ev.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

// dial logs in and waits until the client is synchronised.
func dial(t *testing.T, cfg client.Config) (*client.Client, *recorder) {
	t.Helper()
	r := new(recorder)
	if cfg.UserSig == nil {
		cfg.UserSig = sign(cfg.Account)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, r.config(cfg))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	r.until(t, "OnRefresh", func() bool { return r.refresh > 0 })
	return c, r
}

// send sends a text and returns its SEQ.
func send(t *testing.T, c *client.Client, id group.ID, text string) group.Seq {
	t.Helper()
	receipt, err := c.Send(t.Context(), id, &client.Draft{Body: []client.Element{client.Text(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return receipt.Seq
}

func ascending(from, to group.Seq) []group.Seq {
	out := []group.Seq{}
	for s := from; s <= to; s++ {
		out = append(out, s)
	}
	return out
}

// equal says whether two lists of SEQs are the same.
func equal(a, b []group.Seq) bool { return slices.Equal(a, b) }

// timeout returns a context that ends soon.
func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}
