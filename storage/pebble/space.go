package pebble

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-im/rookery/storage"
)

const (
	// spaceInterval is how old the last look at the free space may be; lowInterval, if there was
	// too little, so that writing resumes soon after there is enough.
	spaceInterval = time.Second
	lowInterval   = 100 * time.Millisecond
	// spaceLookBytes is how much may be written without another look.
	spaceLookBytes = 4 << 20
	// openBytes is what Open needs besides the logs that it writes out.
	openBytes = 1 << 20
	// holdPause is the time between two tries of a write that met a full disk.
	holdPause = 50 * time.Millisecond
)

// space knows how full the disk is, and waits out a full one.
type space struct {
	dir     string
	reserve int64
	fs      vfs.FS // not watched

	isOpen atomic.Bool
	closed chan struct{} // no write is held back any more
	once   sync.Once

	mu      sync.Mutex
	looked  time.Time
	written int64 // since then
	free    int64
	known   bool // free is
	refused bool // the last answer of check

	held  int           // writes that are held back
	stall chan struct{} // closed while held > 0
	full  time.Time     // the last write that met a full disk
}

func newSpace(cfg Config) *space {
	return &space{
		dir: cfg.Dir, reserve: cfg.ReserveBytes, fs: cfg.FS,
		closed: make(chan struct{}), stall: make(chan struct{}),
	}
}

// open starts the watch: before it, a full disk is an error of Open.
func (s *space) open() { s.isOpen.Store(true) }

func (s *space) opened() bool { return s.isOpen.Load() }

// close lets writes that are held back fail.
func (s *space) close() { s.once.Do(func() { close(s.closed) }) }

// stalled returns a channel that is closed while a write is held back because the disk is full.
func (s *space) stalled() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stall
}

// check returns storage.ErrReadOnly if there is no room for bytes more, or the disk is full.
func (s *space) check(bytes int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written += int64(bytes)
	s.look()
	s.refused = s.isFull() || s.reserve > 0 && s.known && s.free-s.written < s.reserve
	if s.refused {
		s.written -= int64(bytes)
		return storage.ErrReadOnly
	}
	return nil
}

// checkFull is check for writes that free space: they may use the reserve.
func (s *space) checkFull() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isFull() {
		return storage.ErrReadOnly
	}
	return nil
}

func (s *space) isFull() bool { return s.held > 0 || time.Since(s.full) < 2*holdPause }

// look asks for the free space if what is known may be out of date.
func (s *space) look() {
	interval := spaceInterval
	if s.refused {
		interval = lowInterval
	}
	if s.written < spaceLookBytes && time.Since(s.looked) < interval {
		return
	}
	usage, err := s.fs.GetDiskUsage(s.dir)
	s.looked, s.written = time.Now(), 0
	s.known, s.free = err == nil, int64(min(usage.AvailBytes, 1<<62))
}

// hold runs write until it does not meet a full disk. For a file that can be thrown away it waits
// a moment and gives up: that gives the space back which the file has taken.
func (s *space) hold(name string, write func() error) error {
	err := write()
	if !isFull(err) || !s.opened() {
		return err
	}
	if !essential(name) {
		s.note(0)
		s.pause()
		return err
	}
	s.note(1)
	defer s.note(-1)
	for isFull(err) && s.pause() {
		err = write()
	}
	return err
}

// note counts the writes that are held back.
func (s *space) note(more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if more >= 0 {
		s.full = time.Now()
	}
	was := s.held
	s.held += more
	switch {
	case was == 0 && s.held > 0:
		close(s.stall)
	case was > 0 && s.held == 0:
		s.stall = make(chan struct{})
	}
}

// pause waits before the next try, and reports whether there is to be one.
func (s *space) pause() bool {
	t := time.NewTimer(holdPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.closed:
		return false
	}
}

// freeBytes returns what the last look found.
func (s *space) freeBytes() (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, s.known
}
