package main

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-im/rookery/internal/crash"
)

// A screen collects what a chat prints and tells when something has appeared.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed *sync.Cond
}

func newScreen() *screen {
	s := new(screen)
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
	return s.text.Write(p)
}

func (s *screen) until(t *testing.T, text string) {
	t.Helper()
	late := false
	defer time.AfterFunc(20*time.Second, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.changed.Broadcast()
	}).Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !strings.Contains(s.text.String(), text) {
		if late {
			t.Fatalf("%q has not appeared:\n%s", text, &s.text)
		}
		s.changed.Wait()
	}
}

// TestChat lets two people talk.
func TestChat(t *testing.T) {
	program := filepath.Join(t.TempDir(), "rookery")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/rookery").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	n, err := crash.Start(t.Context(), program, filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	var people sync.WaitGroup
	sit := func(user string) (say func(string), see *screen) {
		see = newScreen()
		in, keyboard := io.Pipe()
		people.Go(func() {
			if err := run(t.Context(), []string{"-server", "mqtt://" + n.MQTT, "-user", user, "-sig", crash.UserSig(user)}, in, see); err != nil {
				t.Errorf("%s: %v", user, err)
			}
		})
		return func(line string) {
			if _, err := io.WriteString(keyboard, line+"\n"); err != nil {
				t.Error(err)
			}
		}, see
	}
	aliceSays, aliceSees := sit("alice")
	bobSays, bobSees := sit("bob")
	for _, see := range []*screen{aliceSees, bobSees} {
		see.until(t, "* your groups:") // what happens before is told by this list, and by no event
	}
	aliceSays("/create birds")
	aliceSees.until(t, "* birds: Joined")
	bobSays("/join birds")
	bobSees.until(t, "* birds: Joined")
	aliceSays("hello, bob")
	bobSees.until(t, "alice: hello, bob")
	bobSays("hello yourself")
	aliceSees.until(t, "bob: hello yourself")
	bobSees.until(t, "bob: hello yourself") // which is read by having been sent
	bobSays("/fly")
	bobSees.until(t, "! /fly: no such command")
	bobSays("/groups")
	bobSees.until(t, "*   birds (birds): 0 unread")
	aliceSays("/history 1")
	aliceSays("/quit")
	bobSays("/quit")
	people.Wait()
	if got := strings.Count(aliceSees.text.String(), "bob: hello yourself"); got != 2 {
		t.Errorf("alice saw bob's message %d times, want 2: live and with /history", got)
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}
