package pebble

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// eventuallyHealthy waits for the store to take writes again.
func eventuallyHealthy(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.Health(ctx) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("Health = %v; want nil", s.Health(t.Context()))
		}
	}
}

func TestOpenOnFullDisk(t *testing.T) {
	fs := vfs.NewMem()
	free := func(bytes uint64) {
		fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: bytes, TotalBytes: 1 << 40})
	}
	free(1 << 30)
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	key := storagetest.Key("g")
	if err := s.Append(t.Context(), storagetest.NewBatch(key, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What fits beside the logs would not fit with them.
	for _, bytes := range []uint64{0, openBytes} {
		free(bytes)
		if s, err := Open(Config{Dir: "db", FS: fs}); !errors.Is(err, storage.ErrReadOnly) {
			if err == nil {
				err = s.Close()
			}
			t.Fatalf("Open with %d bytes free = %v; want ErrReadOnly", bytes, err)
		}
	}
	free(1 << 30)
	if n := length(t, openTemp(t, Config{Dir: "db", FS: fs}), key); n != 1 {
		t.Errorf("%d messages when there is space again; want 1", n)
	}
}

func TestNewStoreBelowReserve(t *testing.T) {
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 50 << 20, TotalBytes: 1 << 40})
	s, err := Open(Config{Dir: "db", FS: fs, ReserveBytes: 100 << 20})
	if err == nil {
		err = s.Close()
	}
	if !errors.Is(err, storage.ErrReadOnly) || !strings.Contains(err.Error(), "storage.free_space_reserve") {
		t.Errorf("Open = %v; want ErrReadOnly and the key that bounds it", err)
	}
}

func TestReserve(t *testing.T) {
	fs := vfs.NewMem()
	free := func(bytes uint64) {
		fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: bytes, TotalBytes: 1 << 40})
	}
	free(200 << 20)
	s := openTemp(t, Config{Dir: "db", FS: fs, ReserveBytes: 100 << 20})
	key := storagetest.Key("g")
	b := storagetest.NewBatch(key, 0, 1)
	if err := s.Append(t.Context(), b); err != nil {
		t.Fatalf("Append above the reserve = %v; want nil", err)
	}
	free(99 << 20)
	s.space.looked = time.Time{} // a second has passed
	for name, err := range map[string]error{
		"Append":  s.Append(t.Context(), storagetest.NewBatch(key, 1, 1)),
		"Apply":   s.Apply(t.Context(), storage.Mutation{Table: "reads", Key: "k"}),
		"Replace": s.Replace(t.Context(), key, b.Messages),
		"Health":  s.Health(t.Context()),
	} {
		if !errors.Is(err, storage.ErrReadOnly) {
			t.Errorf("%s below the reserve = %v; want ErrReadOnly", name, err)
		}
	}
	if n := length(t, s, key); n != 1 {
		t.Errorf("%d messages below the reserve; want 1", n)
	}
	if _, err := s.Sweep(t.Context(), storagetest.Epoch0); err != nil {
		t.Errorf("Sweep below the reserve = %v; want nil", err)
	}
	if err := s.Drop(t.Context(), storagetest.Key("h")); err != nil {
		t.Errorf("Drop below the reserve = %v; want nil", err)
	}
	free(101 << 20)
	eventuallyHealthy(t, s)
	if err := s.Append(t.Context(), storagetest.NewBatch(key, 1, 1)); err != nil {
		t.Errorf("Append above the reserve again = %v; want nil", err)
	}
	// A batch that would reach into the reserve is refused before it is written.
	big := storagetest.NewBatch(key, 2, 1)
	big.Messages[0].Body = bytes.Repeat([]byte("x"), 3<<20)
	if err := s.Append(t.Context(), big); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("Append of a batch that the reserve has no room for = %v; want ErrReadOnly", err)
	}
}

// A disk can be filled up, and be given room again.
type disk struct {
	cfg        Config
	fill, free func()
}

// TestFullDisk fills the disk under the store, which must lose nothing that it acknowledged and go on when there is room.
func TestFullDisk(t *testing.T) {
	t.Run("injected", func(t *testing.T) { fullDisk(t, injectedDisk()) })
	t.Run("tmpfs", func(t *testing.T) {
		d, err := tmpfs(t)
		if err != nil {
			// Without the right to mount, a file-size limit of our own stands in for the real thing.
			t.Logf("no tmpfs (%v): on an injected limit instead", err)
			d = injectedDisk()
		}
		fullDisk(t, d)
	})
}

// injectedDisk is a disk on which nothing can be written while it is full.
func injectedDisk() disk {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpFilePreallocate, errorfs.OpReuseForWrite:
			if full.Load() {
				return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
			}
		}
		return nil
	}))
	return disk{
		cfg:  Config{Dir: "db", FS: fs, MemTableBytes: 1 << 20},
		fill: func() { full.Store(true) }, free: func() { full.Store(false) },
	}
}

// tmpfs is a real file system of 16 MiB.
func tmpfs(t *testing.T) (disk, error) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		return disk{}, err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	return disk{
		cfg: Config{Dir: filepath.Join(dir, "db"), MemTableBytes: 1 << 20},
		fill: func() {
			f, err := os.Create(ballast)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("filling the disk: %v; want ENOSPC", err)
			}
		},
		free: func() {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		},
	}, nil
}

func fullDisk(t *testing.T, d disk) {
	s := openTemp(t, d.cfg)
	key := storagetest.Key("g")
	tail := group.Seq(0)
	appendOne := func() error {
		b := storagetest.NewBatch(key, tail, 1)
		b.Messages[0].Body = bytes.Repeat([]byte("x"), 20_000)
		err := s.Append(t.Context(), b)
		if err == nil {
			tail++
		}
		return err
	}
	for range 2 {
		if err := appendOne(); err != nil {
			t.Fatalf("Append with room = %v; want nil", err)
		}
		d.fill()
		var err error
		for range 2000 { // the log may have room that was set aside for it
			if err = appendOne(); err != nil {
				break
			}
		}
		if !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, storage.ErrReadOnly) {
			t.Fatalf("Append to a full disk = %v; want ErrUnavailable or ErrReadOnly", err)
		}
		if err := s.Apply(t.Context(), storage.Mutation{Table: "reads", Key: "k"}); !errors.Is(err, storage.ErrReadOnly) {
			t.Errorf("Apply to a full disk = %v; want ErrReadOnly", err)
		}
		if err := s.Health(t.Context()); !errors.Is(err, storage.ErrReadOnly) {
			t.Errorf("Health of a full disk = %v; want ErrReadOnly", err)
		}
		seen := 0
		for _, err := range s.Range(t.Context(), key, 0, 1<<40) {
			if seen++; err != nil {
				t.Fatal(err)
			}
		}
		if seen != int(tail) {
			t.Errorf("%d messages are shown while the disk is full; %d were acknowledged", seen, tail)
		}
		d.free()
		eventuallyHealthy(t, s)
		h, err := s.Head(t.Context(), key) // waits for the outcome of what was held back
		if err != nil || h.Tail < tail || h.Tail > tail+1 {
			t.Fatalf("Head with room again = %+v, %v; want tail %d or one more", h, err, tail)
		}
		tail = h.Tail
		if n := length(t, s, key); n != int(tail) {
			t.Errorf("%d messages with room again; want %d", n, tail)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close = %v; want nil", err)
	}
	s = openTemp(t, d.cfg)
	if n := length(t, s, key); n != int(tail) {
		t.Errorf("%d messages after a restart; want %d", n, tail)
	}
}

// TestCloseFullDisk closes the store while a write is held back.
func TestCloseFullDisk(t *testing.T) {
	if inChild(t) {
		return
	}
	d := injectedDisk()
	s, err := Open(d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.fill()
	if err := s.Append(t.Context(), storagetest.NewBatch(workloadKey, 0, 1)); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Append to a full disk = %v; want ErrUnavailable", err)
	}
	if err := s.Close(); err == nil {
		t.Error("Close with a write held back = nil; want an error")
	}
}
