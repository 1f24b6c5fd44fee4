package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The values of Config.Sync.
const (
	SyncAlways   = "always"
	SyncInterval = "interval"
)

// Config says how the store is kept. Only Dir is needed.
type Config struct {
	// Dir is the store's folder. It is made if it is missing.
	Dir string
	// Sync is SyncAlways (empty means the same: fsync before a write returns) or SyncInterval.
	Sync string
	// SyncInterval is the time between fsyncs with Sync "interval". Zero means 100 ms.
	SyncInterval time.Duration
	// CacheBytes bounds the cache of blocks read from disk. Zero means 64 MiB.
	CacheBytes int64
	// GroupBytes bounds the cache of groups' records and last messages. Zero means 32 MiB.
	GroupBytes int64
	// MemTableBytes bounds each table of fresh writes in memory, of which there are up to four.
	// Zero means 16 MiB.
	MemTableBytes int64
	// MaxOpenFiles bounds the table files that are kept open. Zero means 512.
	MaxOpenFiles int
	// ReserveBytes is the free disk space below which writes are refused. Zero means no reserve:
	// only a full disk stops them.
	ReserveBytes int64
	// FS is the file system. Nil means the operating system's.
	FS vfs.FS
	// Logger gets the store's life-cycle and troubles. Nil means none.
	Logger *slog.Logger
	// OnFatal is called once, with the reason, when the store can't promise durability any more: a
	// failed fsync, or damage to its files. It may be called from any goroutine and should not
	// return; if it does, every call from then on is refused with storage.ErrUnavailable, and what the store holds (goroutines, files, the lock) stays held. Nil
	// means: one line to standard error, and exit code 1.
	OnFatal func(error)
}

// Validate reports every bad field.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("storage: the folder is not set"))
	}
	if c.Sync != "" && c.Sync != SyncAlways && c.Sync != SyncInterval {
		errs = append(errs, fmt.Errorf("storage.sync: %q is neither %q nor %q", c.Sync, SyncAlways, SyncInterval))
	}
	if c.SyncInterval < 0 {
		errs = append(errs, fmt.Errorf("storage.sync_interval: %v is negative", c.SyncInterval))
	}
	for _, f := range []struct {
		key string
		n   int64
	}{
		{"storage.free_space_reserve", c.ReserveBytes},
		{"storage.pebble.cache_size", c.CacheBytes},
		{"storage.pebble.group_cache_size", c.GroupBytes},
		{"storage.pebble.memtable_size", c.MemTableBytes},
		{"storage.pebble.max_open_files", int64(c.MaxOpenFiles)},
	} {
		if f.n < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", f.key, f.n))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Sync == "" {
		c.Sync = SyncAlways
	}
	if c.SyncInterval == 0 {
		c.SyncInterval = 100 * time.Millisecond
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	if c.GroupBytes == 0 {
		c.GroupBytes = 32 << 20
	}
	if c.MemTableBytes == 0 {
		c.MemTableBytes = 16 << 20
	}
	if c.MaxOpenFiles == 0 {
		c.MaxOpenFiles = 512
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnFatal == nil {
		c.OnFatal = exit
	}
	return c
}

// exit ends the process: a supervisor starts it again, and the log on disk says what is true.
func exit(err error) {
	fmt.Fprintf(os.Stderr, "rookery: the store can't go on: %v\n", err)
	os.Exit(1)
}
