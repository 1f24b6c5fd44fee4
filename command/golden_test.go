package command_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/pebble"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A world is a table over a store of its own, with ears for everything that comes out of it.
type world struct {
	table    *command.Table
	store    storage.Store
	pipeline *hooks.Pipeline
	online   *fakeOnline
	before   *fakeApp
	ears     *ears
	janitor  *command.Janitor
}

func newWorld(t testing.TB, cfg command.Config) *world {
	t.Helper()
	store, err := pebble.Open(pebble.Config{Dir: t.TempDir(), Sync: pebble.SyncInterval})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.SDKAppID == 0 {
		cfg.SDKAppID, cfg.Admins = 1400000001, []group.Account{"administrator"}
	}
	log := slog.New(slog.NewTextHandler(&testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w := &world{store: store, ears: &ears{}, online: &fakeOnline{}, before: &fakeApp{}}
	w.pipeline = hooks.New(store, hooks.Config{Admins: cfg.Admins, MemberCustom: []string{"title"}, UserCustom: []string{"Tag_Profile_Custom_Team"}}, log)
	w.pipeline.UseDeliverer(w.ears)
	w.pipeline.UseOutbox(w.ears)
	w.table = command.New(command.Env{Store: store, Pipeline: w.pipeline, Online: w.online, Before: w.before, Log: log}, cfg)
	w.janitor = command.NewJanitor(store, w.pipeline, 7*24*time.Hour, log)
	w.online.ears = w.ears
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := w.pipeline.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// call runs a command as an administrator ("") or as a user.
func (w *world) call(t testing.TB, as, path, body string) []byte {
	service, name, found := strings.Cut(path, "/")
	if as != "" {
		return w.table.RPC(t.Context(), &command.Call{Caller: group.Account(as), IP: "10.0.0.1", Platform: "Web", Device: "d1"}, path, []byte(body))
	}
	if !found {
		t.Fatalf("%q is no service/command", path)
	}
	return w.table.Call(t.Context(), &command.Call{Caller: "administrator", Admin: true, IP: "127.0.0.1", Platform: "RESTAPI"}, service, name, []byte(body))
}

type testWriter struct{ t testing.TB }

func (w *testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// ears hear what is delivered, and reported to the app, as lines of text.
type ears struct {
	mu    sync.Mutex
	lines []string
}

func (e *ears) say(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, fmt.Sprintf(format, args...))
}

func (e *ears) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	lines := e.lines
	e.lines = nil
	return lines
}

func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (e *ears) Deliver(key group.Key, batch []hooks.Delivery) {
	for _, d := range batch {
		switch {
		case d.Message != nil:
			m := d.Message
			e.say("  %s <- message seq=%d from=%s body=%s%s", key.ID, m.Seq, m.From, m.Body, toText(m.To))
		case d.Event != nil:
			of := ""
			if d.Event.Of > 0 {
				of = fmt.Sprintf(" to members from before %d", d.Event.Of)
			}
			e.say("  %s <- event %s %s%s%s", key.ID, d.Event.Name, compact(d.Event.Body), toText(d.Event.To), of)
		case d.Notice != nil:
			e.say("  inbox of %s <- %s %s", d.Notice.To, d.Notice.Event, compact(d.Notice.Body))
		case d.Gone:
			e.say("  %s is gone", key.ID)
		}
	}
}

func toText(to []group.Account) string {
	if len(to) == 0 {
		return ""
	}
	return fmt.Sprintf(" to=%v", to)
}

func (e *ears) Stored(_ *group.Group, _ *group.Message, _ *hooks.Draft) []storage.Mutation {
	return nil
}

func (e *ears) Online(_ *group.Group, _ *group.Message, _ *hooks.Draft) []storage.Mutation {
	return nil
}

func (e *ears) Happened(_ *group.Group, name string, body any) []storage.Mutation {
	e.say("  app <- %s %s", name, compact(body))
	return nil
}
func (e *ears) Refused(*group.Group, *hooks.Draft, *group.Error) []storage.Mutation { return nil }
func (e *ears) Committed(group.Key)                                                 {}

// fakeOnline is a broker of which tests say who is online.
type fakeOnline struct {
	ears    *ears
	mu      sync.Mutex
	devices map[group.Account][]command.Device
	groups  map[group.ID][]group.Account
	rooms   map[group.Account][]group.Key
}

func (f *fakeOnline) Devices(a group.Account) []command.Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.devices[a]
}

func (f *fakeOnline) InGroup(key group.Key, limit int) ([]group.Account, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.groups[key.ID]
	if limit > 0 && len(all) > limit {
		return slices.Clone(all[:limit]), len(all)
	}
	return slices.Clone(all), len(all)
}

func (f *fakeOnline) Rooms(a group.Account) []group.Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rooms[a]
}

func (f *fakeOnline) Kick(a group.Account, _ string) { f.ears.say("  %s is kicked", a) }

func (f *fakeOnline) Notify(n hooks.Notice) {
	f.ears.say("  inbox of %s <- %s %s", n.To, n.Event, compact(n.Body))
}

// fakeApp answers before-callbacks as a golden file says; it asks nobody otherwise.
type fakeApp struct {
	mu      sync.Mutex
	answers map[string]string
	ears    *ears
}

func (f *fakeApp) Before(_ context.Context, name string, body any, _ hooks.Origin) (json.RawMessage, *group.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer, due := f.answers[name]
	if !due {
		return nil, nil
	}
	f.ears.say("  app asked %s %s", name, compact(body))
	var head struct {
		ErrorCode int
		ErrorInfo string
	}
	if err := json.Unmarshal([]byte(answer), &head); err != nil {
		panic(err)
	}
	if head.ErrorCode != 0 {
		return nil, group.Errorf(group.CodeRefusedByApp, "%s", head.ErrorInfo)
	}
	return json.RawMessage(answer), nil
}

// TestGolden plays the files in testdata. A block is a command, "----", and what came of it:
//
//	service/command            called by an app admin; or
//	alice: command             called by alice, over MQTT
//	{…}                        the body
//	----
//	{…}                        the answer
//	  g1 <- message …          what was delivered and told to the app
//
// Other commands: "online ACCOUNT PLATFORM…", "inside GROUP ACCOUNT…", "app NAME {answer}",
// "sweep" (the janitor). "# …" is a comment. Instants near now are shown as <now>.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			play(t, file)
		})
	}
}

func play(t *testing.T, file string) {
	in, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, command.Config{})
	w.before.ears = w.ears
	w.before.answers = map[string]string{}
	var out bytes.Buffer
	for _, block := range blocks(t, in) {
		out.WriteString(block.comment)
		out.WriteString(block.command + "\n")
		if block.body != "" {
			out.WriteString(block.body + "\n")
		}
		result := w.do(t, block)
		out.WriteString("----\n")
		if result != "" {
			out.WriteString(normal(result) + "\n")
		}
		for _, line := range w.ears.take() {
			out.WriteString(normal(line) + "\n")
		}
		out.WriteString("\n")
	}
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, got := strings.Split(string(in), "\n"), strings.Split(out.String(), "\n")
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Fatalf("%s:%d:\n got %s\nwant %s", file, i+1, slices.Concat(got, make([]string, len(want)))[i], slices.Concat(want, make([]string, len(got)))[i])
		}
	}
}

type block struct{ comment, command, body string }

func blocks(t *testing.T, in []byte) []block {
	var all []block
	var b *block
	comment, answer := "", false
	lines := bufio.NewScanner(bytes.NewReader(in))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		switch line := lines.Text(); {
		case line == "":
			b, answer = nil, false
		case answer:
		case line == "----":
			answer = true
		case b == nil && strings.HasPrefix(line, "#"):
			comment += line + "\n"
		case b == nil:
			all = append(all, block{comment: comment, command: line})
			b, comment = &all[len(all)-1], ""
		case b.body == "":
			b.body = line
		default:
			b.body += "\n" + line
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func (w *world) do(t *testing.T, b block) string {
	word := strings.Fields(b.command)
	switch word[0] {
	case "online":
		var devices []command.Device
		for _, platform := range word[2:] {
			name, push := strings.CutSuffix(platform, "/push")
			devices = append(devices, command.Device{Platform: name, Online: !push})
		}
		w.online.mu.Lock()
		defer w.online.mu.Unlock()
		if w.online.devices == nil {
			w.online.devices = map[group.Account][]command.Device{}
		}
		w.online.devices[group.Account(word[1])] = devices
		return ""
	case "inside":
		w.online.mu.Lock()
		defer w.online.mu.Unlock()
		if w.online.groups == nil {
			w.online.groups = map[group.ID][]group.Account{}
		}
		for _, a := range word[2:] {
			w.online.groups[group.ID(word[1])] = append(w.online.groups[group.ID(word[1])], group.Account(a))
		}
		return ""
	case "app":
		w.before.mu.Lock()
		defer w.before.mu.Unlock()
		w.before.answers[word[1]] = strings.Join(word[2:], " ")
		return ""
	case "sweep":
		if err := w.janitor.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
			return err.Error()
		}
		return ""
	}
	if as, name, found := strings.Cut(b.command, ": "); found {
		return string(w.call(t, as, name, b.body))
	}
	return string(w.call(t, "", b.command, b.body))
}

var (
	numbers  = regexp.MustCompile(`\b1\d{9}(\d{3}){0,2}\b`)
	ourIDs   = regexp.MustCompile(`@TGS#(_@TGS#)?[1ac][A-Z2-7]{16}`)
	instants = regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	millis   = int64(1000)
	nearness = int64(3600)
)

// normal replaces what differs from run to run.
func normal(s string) string {
	now := time.Now().Unix()
	s = numbers.ReplaceAllStringFunc(s, func(lit string) string {
		n, _ := strconv.ParseInt(lit, 10, 64)
		name := "<now>"
		switch len(lit) {
		case 13:
			n, name = n/millis, "<now ms>"
		case 16:
			n, name = n/millis/millis, "<now µs>"
		}
		switch d := n - now; {
		case d > -60 && d < 5:
			return name
		case d >= 5 && d < nearness*48:
			return fmt.Sprintf("<now+%d>", (d+5)/10*10)
		}
		return lit
	})
	s = instants.ReplaceAllString(s, "<instant>")
	return ourIDs.ReplaceAllString(s, "<server's id>")
}
