package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/cmd/rookery/migrate"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/mongo/testserver"
	"github.com/rookery-im/rookery/storage/pebble"
	"github.com/rookery-im/rookery/storage/storagetest"
)

func TestMigrate(t *testing.T) {
	first := "pebble://" + t.TempDir()
	u, err := url.Parse(testserver.URI(t))
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + testserver.Database(t)
	middle, last := u.String(), "pebble://"+t.TempDir()
	fill(t, first)
	for _, hop := range [][2]string{{first, middle}, {middle, last}, {first, middle}} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"migrate", "--from", hop[0], "--to", hop[1]}, &stdout, &stderr); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
		if stderr.Len() > 0 {
			t.Errorf("without a terminal there is a bar: %q", stderr.String())
		}
		if !strings.Contains(stdout.String(), "equal: 5 groups, 620 messages, 2 tables, 701 records") {
			t.Errorf("output %q", stdout.String())
		}
	}
	// What came back is the same, and a change is noticed.
	if err := compare(t, first, last); err != nil {
		t.Error(err)
	}
	s := openPebble(t, last)
	if err := s.Apply(t.Context(), storage.Mutation{Table: "members", Key: "k7", Value: []byte("changed")}); err != nil {
		t.Fatal(err)
	}
	m := *storagetest.NewBatch(group.Key{ID: "g1", Incarnation: 1}, 9, 1).Messages[0]
	m.Body = []byte(`["changed"]`)
	if err := s.Replace(t.Context(), m.Key(), []*group.Message{&m}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	err = compare(t, first, last)
	if err == nil || !strings.Contains(err.Error(), "table members differs") || !strings.Contains(err.Error(), "group g1/1 differs") {
		t.Errorf("Verify = %v; want that group g1 and table members differ", err)
	}
}

// fill writes 4 groups with 155 messages each and a hole, one whose messages have expired, and 701 records.
func fill(t *testing.T, location string) {
	s := openPebble(t, location)
	defer s.Close()
	for i := range 4 {
		key := group.Key{ID: group.ID(fmt.Sprintf("g%d", i)), Incarnation: 1}
		head := storage.Head{Tail: 5}
		if err := s.Advance(t.Context(), key, head); err != nil {
			t.Fatal(err)
		}
		appendTo(t, s, storagetest.NewBatch(key, 5, 100))
		h, err := s.Head(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		h.Tail = 200
		if err := s.Advance(t.Context(), key, h); err != nil {
			t.Fatal(err)
		}
		appendTo(t, s, storagetest.NewBatch(key, 200, 55))
	}
	if err := s.Advance(t.Context(), group.Key{ID: "expired", Incarnation: 2}, storage.Head{Tail: 40, Epoch: 2, Time: time.Now().Unix()}); err != nil {
		t.Fatal(err)
	}
	for i := range 700 {
		if err := s.Apply(t.Context(), storage.Mutation{Table: "members", Key: fmt.Sprintf("k%d", i), Value: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func appendTo(t *testing.T, s storage.Store, b *storage.Batch) {
	t.Helper()
	if err := s.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func openPebble(t *testing.T, location string) *pebble.Store {
	t.Helper()
	s, err := pebble.Open(pebble.Config{Dir: strings.TrimPrefix(location, "pebble://")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type noProgress struct{}

func (noProgress) Total(int) {}
func (noProgress) Step()     {}

func compare(t *testing.T, from, to string) error {
	a, b := openPebble(t, from), openPebble(t, to)
	defer a.Close()
	defer b.Close()
	_, err := migrate.Verify(t.Context(), a, b, noProgress{})
	return err
}

// TestMigrateGoesOn stops a copy after each step that it takes, and starts it again.
func TestMigrateGoesOn(t *testing.T) {
	first, last := "pebble://"+t.TempDir(), "pebble://"+t.TempDir()
	fill(t, first)
	from, to := openPebble(t, first), openPebble(t, last)
	defer from.Close()
	defer to.Close()
	stops := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := migrate.Copy(ctx, from, to, &stopAfter{n: stops + 1, stop: cancel})
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		stops++
	}
	if stops < 5 {
		t.Errorf("stopped %d times; want 5 at least", stops)
	}
	if _, err := migrate.Verify(t.Context(), from, to, noProgress{}); err != nil {
		t.Error(err)
	}
}

// stopAfter calls stop at the n-th step.
type stopAfter struct {
	n    int
	stop func()
}

func (s *stopAfter) Total(int) {}

func (s *stopAfter) Step() {
	if s.n--; s.n == 0 {
		s.stop()
	}
}

func TestMigrateRefuses(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--from", "pebble:///a", "--to", "pebble:///a"},
		{"--from", "redis://user:secret@host/", "--to", "pebble:///a"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"migrate"}, args...), &stdout, &stderr); code != 1 || stdout.Len() > 0 {
			t.Errorf("migrate %v: exit code %d; want 1\n%s", args, code, stdout.String())
		}
		if strings.Contains(stderr.String(), "secret") {
			t.Errorf("migrate %v: the password is printed: %s", args, stderr.String())
		}
	}
}

// TestMigrateWhatIsNotThere names stores that do not exist: none is made, and nothing is equal to it.
func TestMigrateWhatIsNotThere(t *testing.T) {
	data := t.TempDir() // a data folder: the store is a folder in it
	there, elsewhere := "pebble://"+filepath.Join(data, "store"), filepath.Join(t.TempDir(), "store")
	fill(t, there)
	for _, args := range [][]string{
		{"--from", "pebble://" + elsewhere, "--to", there},
		{"--from", "pebble://" + data, "--to", there},
		{"--from", there, "--to", "pebble://" + elsewhere, "--verify-only"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"migrate"}, args...), &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "there is no store in") {
			t.Errorf("migrate %v: exit code %d\n%s%s", args, code, stdout.String(), stderr.String())
		}
	}
	if _, err := os.Stat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the store that was not there: %v", err)
	}
	openPebble(t, "pebble://"+elsewhere).Close()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"migrate", "--from", "pebble://" + elsewhere, "--to", there}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "--from: there is nothing") {
		t.Errorf("from an empty store: exit code %d\n%s%s", code, stdout.String(), stderr.String())
	}
}

// TestVerifyTarget has groups and tables in the target that the source does not have.
func TestVerifyTarget(t *testing.T) {
	first, last := "pebble://"+t.TempDir(), "pebble://"+t.TempDir()
	fill(t, last)
	s := openPebble(t, first)
	appendTo(t, s, storagetest.NewBatch(group.Key{ID: "g9", Incarnation: 1}, 0, 1))
	s.Close()
	err := compare(t, first, last)
	for _, want := range []string{"group g9/1 differs", "group g0/1 differs", "table members differs"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Verify = %v; want %q", err, want)
		}
	}
}
