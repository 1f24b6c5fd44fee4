package pebble

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// watchedFS stands between Pebble and the file system, because Pebble can survive neither a
// failed fsync nor a failed write to its log, and we can do something about both: a full disk is
// waited out, everything else ends the store before anybody is told that his write is safe.
type watchedFS struct {
	vfs.FS
	space *space
	// fail stops the store and does not return.
	fail func(error)
	// synced is told how long an fsync of the log took.
	synced func(time.Duration)
}

// Create makes a file and watches it.
func (w *watchedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return w.open(name, func() (vfs.File, error) { return w.FS.Create(name, category) })
}

// OpenReadWrite opens a file and watches it.
func (w *watchedFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return w.open(name, func() (vfs.File, error) { return w.FS.OpenReadWrite(name, category, opts...) })
}

// ReuseForWrite renames a file that is not needed any more and watches it.
func (w *watchedFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return w.open(newname, func() (vfs.File, error) { return w.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenDir opens a folder, whose fsync is watched.
func (w *watchedFS) OpenDir(name string) (vfs.File, error) {
	f, err := w.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &watchedFile{File: f, fs: w, name: name}, nil
}

// Link links a file.
func (w *watchedFS) Link(oldname, newname string) error {
	return w.space.hold(newname, func() error { return w.FS.Link(oldname, newname) })
}

// Rename renames a file.
func (w *watchedFS) Rename(oldname, newname string) error {
	return w.space.hold(newname, func() error { return w.FS.Rename(oldname, newname) })
}

// MkdirAll makes a folder.
func (w *watchedFS) MkdirAll(dir string, perm os.FileMode) error {
	return w.space.hold(dir, func() error { return w.FS.MkdirAll(dir, perm) })
}

// Unwrap returns the watched file system.
func (w *watchedFS) Unwrap() vfs.FS { return w.FS }

func (w *watchedFS) open(name string, open func() (vfs.File, error)) (f vfs.File, err error) {
	err = w.space.hold(name, func() error {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, w.fatal(name, "open", err)
	}
	return &watchedFile{File: f, fs: w, name: name}, nil
}

// fatal stops the store if the file is one that Pebble can't do without, and returns err.
func (w *watchedFS) fatal(name, what string, err error) error {
	if err != nil && w.space.opened() && essential(name) {
		w.fail(fmt.Errorf("%s %s: %w", what, path.Base(name), err))
	}
	return err
}

type watchedFile struct {
	vfs.File
	fs   *watchedFS
	name string
}

// Write writes p whole, waiting for space if it must.
func (f *watchedFile) Write(p []byte) (n int, err error) {
	err = f.fs.space.hold(f.name, func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, f.fs.fatal(f.name, "write", err)
}

// WriteAt writes p whole, waiting for space if it must.
func (f *watchedFile) WriteAt(p []byte, offset int64) (n int, err error) {
	err = f.fs.space.hold(f.name, func() error {
		m, err := f.File.WriteAt(p[n:], offset+int64(n))
		n += m
		return err
	})
	return n, f.fs.fatal(f.name, "write", err)
}

// Preallocate asks for room ahead. It is only for speed: that there is none is not an error yet.
func (f *watchedFile) Preallocate(offset, length int64) error {
	if err := f.File.Preallocate(offset, length); !isFull(err) {
		return err
	}
	return nil
}

// Sync makes the file durable or stops the store.
func (f *watchedFile) Sync() error { return f.sync(f.File.Sync) }

// SyncData makes the file's content durable or stops the store.
func (f *watchedFile) SyncData() error { return f.sync(f.File.SyncData) }

// SyncTo starts to make the file durable.
func (f *watchedFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *watchedFile) sync(sync func() error) error {
	start := time.Now()
	err := sync()
	if err != nil && f.fs.space.opened() {
		f.fs.fail(fmt.Errorf("fsync %s: %w", path.Base(f.name), err))
	}
	if err == nil && strings.HasSuffix(f.name, ".log") {
		f.fs.synced(time.Since(start))
	}
	return err
}

// essential reports whether the store depends on every write to the file: the log and the list of tables. A
// table that can't be written Pebble throws away and writes again.
func essential(name string) bool {
	return !strings.HasSuffix(name, ".sst") && !strings.HasSuffix(name, ".blob")
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
