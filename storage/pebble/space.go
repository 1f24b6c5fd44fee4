package pebble

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-im/rookery/storage"
)

const (
	// spaceInterval is how old the last look at the free space may be.
	spaceInterval = time.Second
	// spaceLookBytes is how much may be written without another look.
	spaceLookBytes = 4 << 20
)

// space knows how full the disk is.
type space struct {
	dir     string
	reserve int64
	fs      vfs.FS

	mu      sync.Mutex
	looked  time.Time
	written int64 // since then
	free    uint64
	known   bool // free is
}

func newSpace(cfg Config, fail func(error)) *space {
	return &space{dir: cfg.Dir, reserve: cfg.ReserveBytes, fs: cfg.FS}
}

func (s *space) open()  {}
func (s *space) close() {}

// stalled returns a channel that is closed while a write is held back because the disk is full.
func (s *space) stalled() <-chan struct{} { return nil }

// check returns storage.ErrReadOnly if there is no room for bytes more.
func (s *space) check(bytes int) error {
	if s.reserve < 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written += int64(bytes)
	if now := time.Now(); s.written >= spaceLookBytes || now.Sub(s.looked) >= spaceInterval {
		s.looked, s.written = now, int64(bytes)
		usage, err := s.fs.GetDiskUsage(s.dir)
		s.known, s.free = err == nil, usage.AvailBytes
	}
	if s.known && int64(s.free)-s.written < s.reserve {
		return storage.ErrReadOnly
	}
	return nil
}
