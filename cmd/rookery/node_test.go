package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/hooks/callback"
)

// A journal notes what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) closer(name string, err error) func(context.Context) error {
	return func(context.Context) error { j.note("close " + name); return err }
}

// until returns a part that takes a while to end after its context has.
func (j *journal) until(name string, lag time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(lag)
		j.note("end " + name)
		return nil
	}
}

func testNode() *node {
	return &node{cfg: configs.Default(), log: slog.New(slog.DiscardHandler), addrs: addresses{}}
}

func TestStopOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, j := testNode(), new(journal)
		n.onClose("store", j.closer("store", nil))
		n.onClose("pipeline", j.closer("pipeline", nil))
		n.work("sweeper", j.until("sweeper", 0))
		n.door("slow", j.until("slow", 2*time.Second))
		n.door("fast", j.until("fast", time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		err := n.run(ctx, func(context.Context) error { j.note("ready"); cancel(); return nil })
		want := []string{"ready", "end fast", "end slow", "end sweeper", "close pipeline", "close store"}
		if err != nil || !slices.Equal(j.lines, want) {
			t.Errorf("run = %v, %q; want nil, %q", err, j.lines, want)
		}
	})
}

func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	fail := func(context.Context) error { return broken }
	isReady := func(context.Context) error { return nil }
	for name, test := range map[string]struct {
		prepare func(*node)
		ready   func(context.Context) error
		want    string
	}{
		"door":   {func(n *node) { n.door("mqtt", fail) }, isReady, "mqtt: broken"},
		"worker": {func(n *node) { n.work("push", fail) }, isReady, "push: broken"},
		"ready":  {func(*node) {}, fail, "broken"},
		"close":  {func(n *node) { n.onClose("disk", fail); n.door("mqtt", fail) }, isReady, "mqtt: broken\nclose disk: broken"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, j := testNode(), new(journal)
				n.onClose("store", j.closer("store", nil))
				n.work("sweeper", j.until("sweeper", 0))
				n.door("http", j.until("http", 0))
				test.prepare(n)
				err := n.run(t.Context(), test.ready)
				if err == nil || err.Error() != test.want {
					t.Errorf("run = %v, want %s", err, test.want)
				}
				if slices.Sort(j.lines); !slices.Equal(j.lines, []string{"close store", "end http", "end sweeper"}) {
					t.Errorf("only these have ended: %q", j.lines)
				}
			})
		})
	}
}

// A part that does not stop does not keep the process.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testNode()
		released := make(chan struct{})
		n.onClose("disk", func(context.Context) error { <-released; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		err := n.run(ctx, func(context.Context) error { cancel(); return nil })
		if took := time.Since(start); err == nil || took != n.cfg.App.ShutdownTimeout+closeGrace || took >= 10*time.Second {
			t.Errorf("run = %v after %v, want an error after %v", err, took, n.cfg.App.ShutdownTimeout+closeGrace)
		}
		close(released)
	})
}

// What a closer gets is the rest of the time for stopping.
func TestClosersShareTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, j := testNode(), new(journal)
		var left time.Duration
		n.onClose("pipeline", func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return ctx.Err()
		})
		n.door("http", j.until("http", 3*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		err := n.run(ctx, func(context.Context) error { cancel(); return nil })
		if want := n.cfg.App.ShutdownTimeout - 3*time.Second; err != nil || left != want {
			t.Errorf("run = %v, %v left; want nil, %v", err, left, want)
		}
	})
}

func TestLimitsOf(t *testing.T) {
	cfg := configs.Default()
	cfg.Flow.LowPerSecond = 10
	cfg.Groups.Community.MessagesPerSecond = 100
	cfg.Groups.Meeting.MessagesPerSecond = 0
	for name, test := range map[string]struct {
		group group.Group
		want  hooks.Limits
	}{
		"flow":           {group.Group{Type: group.Public}, hooks.Limits{PerSecond: 40, PerPriority: [4]int{0, 0, 10, 0}}},
		"type":           {group.Group{Type: group.Community}, hooks.Limits{PerSecond: 100, PerPriority: [4]int{0, 0, 10, 0}}},
		"type off":       {group.Group{Type: group.Meeting}, hooks.Limits{PerSecond: 0, PerPriority: [4]int{0, 0, 10, 0}}},
		"group":          {group.Group{Type: group.Community, Limits: &group.Limits{PerSecond: 5, PerPriority: [4]int{-1, 3, -1, 0}}}, hooks.Limits{PerSecond: 5, PerPriority: [4]int{0, 3, 10, 0}}},
		"group off":      {group.Group{Type: group.Work, Limits: &group.Limits{PerSecond: 0, PerPriority: [4]int{-1, -1, -1, -1}}}, hooks.Limits{PerSecond: 0, PerPriority: [4]int{0, 0, 10, 0}}},
		"group's says -": {group.Group{Type: group.Work, Limits: &group.Limits{PerSecond: -1, PerPriority: [4]int{-1, -1, 0, -1}}}, hooks.Limits{PerSecond: 40}},
	} {
		if got := limitsOf(cfg, &test.group); got != test.want {
			t.Errorf("%s: limitsOf = %+v, want %+v", name, got, test.want)
		}
	}
}

func TestRetention(t *testing.T) {
	cfg := configs.Default()
	cfg.Groups.Work.Retention = time.Hour
	for _, typ := range group.Types {
		want := 168 * time.Hour
		if typ == group.Work {
			want = time.Hour
		}
		if got := retention(cfg, typ); got != want {
			t.Errorf("retention(%v) = %v, want %v", typ, got, want)
		}
	}
}

// A field that a part has and nobody fills from the configuration would silently keep the
// part's own default.
func TestEveryPartIsConfigured(t *testing.T) {
	cfg := configs.Default()
	fillZeros(reflect.ValueOf(cfg).Elem())
	cfg.Accounts.AutoCreate = false // the broker has its opposite
	for name, test := range map[string]struct {
		config any
		except []string // with what is not the operator's to say
	}{
		"hooks":   {pipelineConfig(cfg), []string{"Epoch"}},
		"pebble":  {pebbleConfig(cfg, slog.New(slog.DiscardHandler)), []string{"FS", "OnFatal"}},
		"broker":  {brokerConfig(cfg, &tls.Config{}), nil},
		"command": {commandConfig(cfg), nil},
		"admin":   {adminConfig(cfg), nil},
		"callback": {func() callback.Config {
			c, _ := callbackConfig(cfg) // the certificates that it names are not there
			return c
		}(), []string{"TLS", "Transport"}},
	} {
		v := reflect.ValueOf(test.config)
		for i := range v.NumField() {
			field := v.Type().Field(i).Name
			if v.Field(i).IsZero() != slices.Contains(test.except, field) {
				t.Errorf("%s.%s: zero is %v, want %v", name, field, v.Field(i).IsZero(), !v.Field(i).IsZero())
			}
		}
	}
}

// fillZeros gives every field below v that is zero another value.
func fillZeros(v reflect.Value) {
	switch {
	case v.Kind() == reflect.Struct:
		for _, field := range v.Fields() {
			fillZeros(field)
		}
	case !v.IsZero():
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(1)
	case v.Kind() == reflect.String:
		v.SetString("x")
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	}
}

// A store for the sweeper: it has work for a few calls, then fails once, then has none.
type sweptStore struct {
	calls []time.Duration
	start time.Time
}

func (s *sweptStore) Sweep(context.Context, int64) (bool, error) {
	s.calls = append(s.calls, time.Since(s.start))
	switch len(s.calls) {
	case 1, 2:
		return true, nil
	case 3:
		return false, errors.New("disk is slow")
	}
	return false, nil
}

func TestSweeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &sweptStore{start: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
		defer cancel()
		err := (&sweeper{store, 10 * time.Minute, slog.New(slog.DiscardHandler)}).run(ctx)
		want := []time.Duration{0, sweepPause, 2 * sweepPause, 2*sweepPause + 10*time.Minute, 2*sweepPause + 20*time.Minute}
		if err != nil || !slices.Equal(store.calls, want) {
			t.Errorf("run = %v, swept at %v; want nil, %v", err, store.calls, want)
		}
	})
}

func TestLogger(t *testing.T) {
	cfg := configs.Default()
	cfg.App.Secret = "hunter2"
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log := newLogger(configs.Log{Level: "warn", Format: format}, &out)
		log.Info("quiet")
		log.Warn("loud", "secret", cfg.App.Secret, "config", cfg, "err", &configs.Error{Key: "app.secret", Problem: "is short"})
		text := out.String()
		if strings.Contains(text, "quiet") || !strings.Contains(text, "loud") || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: log is %q, want one warning", format, text)
		}
		if strings.Contains(text, "hunter2") || !strings.Contains(text, "[hidden]") {
			t.Errorf("%s: the secret is not hidden: %s", format, text)
		}
		if isJSON := strings.HasPrefix(text, "{"); isJSON != (format == "json") {
			t.Errorf("%s: log is %q", format, text)
		}
	}
}

func TestQuote(t *testing.T) {
	for s, want := range map[string]string{
		"/usr/bin/rookery": "/usr/bin/rookery", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "~/x": "'~/x'", "a;b": "'a;b'",
	} {
		if got := quote(s); got != want {
			t.Errorf("quote(%q) = %s, want %s", s, got, want)
		}
	}
}
