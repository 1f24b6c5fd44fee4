package pebble

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-im/rookery/storage"
)

// Store is a storage.Store in one folder. All methods may be called from any goroutine.
type Store struct {
	cfg     Config
	lock    *pebble.Lock
	db      *pebble.DB
	space   *space
	fs      *watchedFS
	groups  groups
	stripes stripes
	sweeper sweeper
	stats   stats
	shared  shared

	closed atomic.Bool
	failed atomic.Pointer[failure] // set once, then OnFatal is called
	gone   chan struct{}           // closed when failed is set

	writes  sync.WaitGroup // batches on their way to the log
	syncing sync.WaitGroup // the interval syncer
	stop    chan struct{}  // ends the interval syncer
	unsaved atomic.Bool    // Sync "interval": something was written since the last fsync
}

var (
	_ storage.Store  = (*Store)(nil)
	_ storage.Sharer = (*Store)(nil)
)

// A failure is why the store stopped for good.
type failure struct{ err error }

// ErrInUse says that another process has the store open.
var ErrInUse = errors.New("the folder is in use by another process")

// Exists reports whether there is a store in the folder.
func Exists(dir string) (bool, error) {
	desc, err := pebble.Peek(dir, vfs.Default)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("storage: look into %s: %w", dir, err)
	}
	return desc.Exists, nil
}

// Open opens the store in cfg.Dir, which it makes if it has to, and refuses the data of a newer
// Rookery. A folder that another process has open is an error.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Store{cfg: cfg, stop: make(chan struct{}), gone: make(chan struct{})}
	s.groups.init()
	s.stripes.seed = maphash.MakeSeed()
	s.stats.init()
	s.shared.init(cfg.GroupBytes, &s.stats)
	s.space = newSpace(cfg)
	s.fs = &watchedFS{FS: cfg.FS, space: s.space, fail: s.halt, synced: s.stats.synced}
	if err := s.openDB(); err != nil {
		return nil, fmt.Errorf("storage: open %s: %w", cfg.Dir, err)
	}
	s.space.open()
	s.stats.attach(s.db, s.space, &s.shared)
	if err := storage.CheckSchema(context.Background(), s); err != nil {
		if errors.Is(err, storage.ErrReadOnly) { // a new store, whose schema is its first record
			err = fmt.Errorf("open %s: %w: less is free than storage.free_space_reserve, %d bytes", cfg.Dir, err, cfg.ReserveBytes)
		}
		return nil, errors.Join(err, s.Close())
	}
	if cfg.Sync == SyncInterval {
		s.syncing.Go(s.syncRegularly)
	}
	return s, nil
}

func (s *Store) openDB() error {
	if err := s.cfg.FS.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	lock, err := pebble.LockDirectory(s.cfg.Dir, s.cfg.FS)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	s.lock = lock
	if err := s.roomToOpen(); err != nil {
		return errors.Join(err, lock.Close())
	}
	err = guard(func() (err error) {
		s.db, err = pebble.Open(s.cfg.Dir, s.options())
		return err
	})
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	return nil
}

// roomToOpen returns an error if the disk is too full to open the store: Pebble writes its logs
// out as tables then, and where these do not fit it tries again without end.
func (s *Store) roomToOpen() error {
	usage, err := s.cfg.FS.GetDiskUsage(s.cfg.Dir)
	if err != nil {
		return nil //nolint:nilerr // a file system that cannot tell is taken to have room
	}
	names, err := s.cfg.FS.List(s.cfg.Dir)
	if err != nil {
		return err
	}
	needed := int64(openBytes)
	for _, name := range names {
		if filepath.Ext(name) != ".log" {
			continue
		}
		info, err := s.cfg.FS.Stat(s.cfg.FS.PathJoin(s.cfg.Dir, name))
		if err != nil {
			return err
		}
		needed += info.Size()
	}
	if usage.AvailBytes < uint64(needed) {
		return fmt.Errorf("%w: the disk has %d bytes free, %d are needed to start", storage.ErrReadOnly, usage.AvailBytes, needed)
	}
	return nil
}

// options tunes Pebble for one server that starts fast and stays small: heads, records and
// recent messages come from the cache, a group's history is one range.
func (s *Store) options() *pebble.Options {
	o := &pebble.Options{
		FS:                 s.fs,
		Lock:               s.lock,
		Logger:             pebbleLogger{s},
		EventListener:      s.events(),
		FormatMajorVersion: pebble.FormatTableFormatV6,
		CacheSize:          s.cfg.CacheBytes,
		MaxOpenFiles:       s.cfg.MaxOpenFiles,
		// What a restart replays; they start small and double.
		MemTableSize:                uint64(s.cfg.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		// Far above the threshold: a burst is to cost read amplification for a while, not a stall
		// of everybody's acknowledgements.
		L0StopWritesThreshold: 32,
		LBaseMaxBytes:         64 << 20,
		CompactionConcurrencyRange: func() (lower, upper int) {
			return 1, 2
		},
		// With Sync "interval" the log is written out in steps, not in one burst.
		WALBytesPerSync: 512 << 10,
		BytesPerSync:    512 << 10,
		// Swept messages give their space back soon, without waiting for the memtable to fill.
		FlushDelayDeleteRange: 10 * time.Second,
	}
	// Heads and records are read one by one: a Bloom filter saves the levels that don't have them.
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	if s.cfg.FS == vfs.Default {
		o.WithFSDefaults() // reports a slow disk
	}
	return o
}

// Close waits for writes under way, fsyncs and releases everything. Writes that a full disk
// holds back fail. After a failure there is nothing that could be closed: Pebble is in the middle of something.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return storage.ErrClosed
	}
	close(s.stop)
	s.stats.detach()
	s.space.close()
	idle := make(chan struct{})
	go func() {
		s.syncing.Wait()
		s.writes.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-s.gone:
		return s.failure()
	}
	closed := make(chan error, 1)
	go func() { closed <- s.closeDB() }()
	select {
	case err := <-closed:
		return err
	case <-s.gone:
		return s.failure()
	}
}

func (s *Store) closeDB() error {
	var err error
	if s.cfg.Sync == SyncInterval {
		err = s.syncLog()
	}
	return errors.Join(err, guard(s.db.Close), s.lock.Close())
}

// Health returns nil, ErrReadOnly below the reserve or with a full disk, ErrUnavailable after a
// failure, and ErrClosed.
func (s *Store) Health(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.space.check(0)
}

// ready says whether an operation may start.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return storage.ErrClosed
	}
	return s.failure()
}

// failure returns why the store stopped for good, or nil.
func (s *Store) failure() error {
	if f := s.failed.Load(); f != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, f.err)
	}
	return nil
}

// fail stops the store for good. The first reason counts.
func (s *Store) fail(err error) {
	if !s.failed.CompareAndSwap(nil, &failure{err}) {
		return
	}
	s.cfg.Logger.Error("store failed", "err", err)
	if !s.closed.Load() { // Close tells its caller itself
		s.cfg.OnFatal(err)
	}
	close(s.gone)
	s.space.close()
}

// halt stops the store for good from inside Pebble, and never returns: it is in no state to go on,
// what it would do next is to answer as if nothing had happened, or to crash.
func (s *Store) halt(err error) {
	s.fail(err)
	select {}
}

// syncRegularly fsyncs the log with Sync "interval".
func (s *Store) syncRegularly() {
	tick := time.NewTicker(s.cfg.SyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if s.unsaved.Swap(false) {
				if err := s.syncLog(); err != nil {
					s.fail(fmt.Errorf("fsync of the log: %w", err))
					return
				}
			}
		case <-s.stop:
			return
		}
	}
}

// syncLog waits until all that was written before is durable.
func (s *Store) syncLog() error {
	return guard(func() error { return s.db.LogData(nil, pebble.Sync) })
}

// guard turns a panic of Pebble into an error: it panics when it can't write to its log.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if e, ok := p.(error); ok {
				err = e
			} else {
				err = fmt.Errorf("%v", p)
			}
		}
	}()
	return f()
}
