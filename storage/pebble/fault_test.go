package pebble

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// oneFault fails the n-th operation on the file system, counted from 0.
type oneFault struct {
	n     int64
	err   error
	calls atomic.Int64
	fired atomic.Pointer[errorfs.Op]
}

func (f *oneFault) String() string { return "oneFault" }

// MaybeError implements errorfs.Injector.
func (f *oneFault) MaybeError(op errorfs.Op) error {
	if f.calls.Add(1)-1 != f.n {
		return nil
	}
	f.fired.Store(&op)
	return f.err
}

// TestEveryFault fails every operation on the file system in turn: opening, writing, flushing, sweeping, closing.
// Whatever the store then answers, what it acknowledged is on the disk after a power loss,
// and after OnFatal it acknowledges nothing.
func TestEveryFault(t *testing.T) {
	if inChild(t) {
		return
	}
	fired, fatal := 0, 0
	for n := int64(0); ; n++ {
		mem := vfs.NewCrashableMem()
		fault := &oneFault{n: n, err: syscall.EIO}
		acked, wasFatal := workload(t, Config{Dir: "db", FS: errorfs.Wrap(mem, fault), CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
		if fault.fired.Load() == nil {
			if acked != workloadAppends || wasFatal {
				t.Errorf("without a fault: %d acknowledged, fatal %t", acked, wasFatal)
			}
			break
		}
		fired++
		if wasFatal {
			fatal++
		}
		s, err := Open(Config{Dir: "db", FS: mem.CrashClone(vfs.CrashCloneCfg{}), OnFatal: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatalf("fault %d (%+v): open afterwards: %v", n, *fault.fired.Load(), err)
		}
		if stored := length(t, s, workloadKey); stored < acked {
			t.Errorf("fault %d (%+v): %d messages are stored, %d were acknowledged", n, *fault.fired.Load(), stored, acked)
		}
		if err := s.Close(); err != nil {
			t.Errorf("fault %d: close afterwards: %v", n, err)
		}
	}
	t.Logf("%d faults, %d of them fatal", fired, fatal)
	if fired < 100 || fatal < 10 {
		t.Errorf("%d faults, %d fatal: the test does not test much", fired, fatal)
	}
}

// flush writes the memtable out, unless the store fails meanwhile.
func (s *Store) flush() error {
	done := make(chan error, 1)
	go func() { done <- guard(s.db.Flush) }()
	select {
	case err := <-done:
		return err
	case <-s.gone:
		return s.failure()
	}
}

const childVariable = "ROOKERY_TEST_CHILD"

// inChild runs the test in a process of its own, since a store that failed leaves its goroutines behind;
// it reports whether this is the parent, which has nothing more to do.
func inChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childVariable) != "" {
		return false
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	return true
}

const workloadAppends = 12

var workloadKey = storagetest.Key("g")

// workload opens a store, appends, and returns how many messages were acknowledged.
func workload(t *testing.T, cfg Config) (acked int, fatal bool) {
	t.Helper()
	var dead atomic.Int64
	cfg.OnFatal = func(error) { dead.Add(1) }
	s, err := Open(cfg)
	if err != nil {
		return 0, dead.Load() > 0
	}
	for i := range workloadAppends {
		b := storagetest.NewBatch(workloadKey, group.Seq(i), 1)
		b.Messages[0].Expires = storagetest.Never
		b.Mutations = []storage.Mutation{{Op: storage.Put, Table: "reads", Key: "k", Value: []byte{byte(i)}}}
		was := dead.Load() > 0
		if err := s.Append(t.Context(), b); err != nil {
			break // whoever is not sure stops: that is what a lane does
		}
		if was {
			t.Error("an append was acknowledged after OnFatal")
		}
		acked++
		if i%4 == 3 && s.failed.Load() == nil {
			_ = s.flush()
		}
	}
	if _, err := s.Sweep(t.Context(), storagetest.Epoch0); err != nil && !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Sweep = %v; want nil or ErrUnavailable", err)
	}
	_ = s.Close()
	if dead.Load() > 1 {
		t.Errorf("OnFatal was called %d times; want once", dead.Load())
	}
	return acked, dead.Load() > 0
}

// length returns how many messages the log has, which must be gapless and end where the head says.
func length(t *testing.T, s *Store, key group.Key) int {
	t.Helper()
	n := 0
	for m, err := range s.Range(t.Context(), key, 0, 1<<40) {
		if n++; err != nil || m.Seq != group.Seq(n) {
			t.Fatalf("message %d: %v, %v", n, m, err)
		}
	}
	if h, err := s.Head(t.Context(), key); err != nil || h.Tail != group.Seq(n) {
		t.Fatalf("Head = %+v, %v; the log ends at %d", h, err, n)
	}
	return n
}

// TestFailedSync fails an fsync of the log under several writers: none of the waiting is acknowledged.
func TestFailedSync(t *testing.T) {
	if inChild(t) {
		return
	}
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			return syscall.EIO
		}
		return nil
	}))
	var fatal atomic.Int64
	s, err := Open(Config{Dir: "db", FS: fs, OnFatal: func(err error) {
		if fatal.Add(1); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "fsync") {
			t.Errorf("OnFatal(%v); want a failed fsync", err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), storagetest.NewBatch(storagetest.Key("g"), 0, 1)); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	for i := range 3 {
		err := s.Append(t.Context(), storagetest.NewBatch(storagetest.Key("g"), 1, 1))
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("Append %d with a failing fsync = %v; want ErrUnavailable", i, err)
		}
		broken.Store(false) // once is enough: what comes later must not look as if all were well
	}
	if err := s.Apply(t.Context(), storage.Mutation{Table: "reads", Key: "k"}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Apply after a failed fsync = %v; want ErrUnavailable", err)
	}
	if err := s.Health(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Health after a failed fsync = %v; want ErrUnavailable", err)
	}
	if fatal.Load() != 1 {
		t.Errorf("OnFatal was called %d times; want once", fatal.Load())
	}
	_ = s.Close()
}

const exitVariable = "ROOKERY_TEST_FAILED_SYNC"

// TestFatalExit sees what the process does by default: one line, exit code 1.
func TestFatalExit(t *testing.T) {
	if os.Getenv(exitVariable) != "" {
		failSyncAndExit(t.Context())
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFatalExit$")
	cmd.Env = append(os.Environ(), exitVariable+"=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err := cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 {
		t.Errorf("the process ended with %v; want exit code 1", err)
	}
	if out := stderr.String(); strings.Count(out, "\n") != 1 || !strings.Contains(out, "fsync") || !strings.Contains(out, "input/output error") {
		t.Errorf("stderr: %q; want one line about the fsync", out)
	}
}

func failSyncAndExit(ctx context.Context) {
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			return syscall.EIO
		}
		return nil
	}))
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	broken.Store(true)
	if err := s.Append(ctx, storagetest.NewBatch(storagetest.Key("g"), 0, 1)); err == nil {
		os.Exit(3) // the append was acknowledged
	}
	select {} // another goroutine ends the process
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	openTemp(t, Config{Dir: dir})
	s, err := Open(Config{Dir: dir})
	if err == nil {
		s.Close()
		t.Fatal("a second Open of the folder = nil; want an error")
	}
	if !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second Open of the folder: %q; want it to say that %s is in use", err, dir)
	}
}

func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	s := openTemp(t, Config{Dir: dir})
	newer := storage.Settings.Put("schema", &storage.Setting{Value: storage.Num(storage.SchemaVersion + 1)})
	if err := s.Apply(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{Dir: dir})
	if e, ok := errors.AsType[*storage.SchemaError](err); !ok || e.Found != storage.SchemaVersion+1 {
		t.Errorf("Open of newer data = %v; want a *SchemaError", err)
	}
}

func TestValidate(t *testing.T) {
	err := Config{Sync: "never", SyncInterval: -1, CacheBytes: -1, MemTableBytes: -1, MaxOpenFiles: -1, ReserveBytes: -1}.Validate()
	for _, want := range []string{"folder", "storage.sync:", "storage.sync_interval:", "cache_size", "memtable_size", "max_open_files", "free_space_reserve"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v; want it to name %s", err, want)
		}
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("Open without a folder = nil; want an error")
	}
}

func TestClosed(t *testing.T) {
	s := openTemp(t, Config{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, headErr := s.Head(t.Context(), workloadKey)
	_, getErr := s.Get(t.Context(), "reads", "k")
	errs := []error{headErr, getErr, s.Append(t.Context(), storagetest.NewBatch(workloadKey, 0, 1)), s.Health(t.Context()), s.Close()}
	if i := slices.IndexFunc(errs, func(err error) bool { return !errors.Is(err, storage.ErrClosed) }); i >= 0 {
		t.Errorf("call %d after Close = %v; want ErrClosed", i, errs[i])
	}
}

// TestHiddenUntilDurable holds an fsync back: nobody is shown the message that waits for it.
func TestHiddenUntilDurable(t *testing.T) {
	var slow atomic.Bool
	waiting, release := make(chan struct{}), make(chan struct{})
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && slow.CompareAndSwap(true, false) {
			close(waiting)
			<-release
		}
		return nil
	}))
	s := openTemp(t, Config{Dir: "db", FS: fs})
	goOn := sync.OnceFunc(func() { close(release) })
	t.Cleanup(goOn) // else a failure would leave Close waiting
	key := storagetest.Key("g")
	if err := s.Append(t.Context(), storagetest.NewBatch(key, 0, 2)); err != nil {
		t.Fatal(err)
	}
	slow.Store(true)
	ctx, leave := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() { answered <- s.Append(ctx, storagetest.NewBatch(key, 2, 1)) }()
	<-waiting
	if n := length(t, s, key); n != 2 {
		t.Errorf("%d messages are shown during the fsync of the third; want 2", n)
	}
	ends, err := s.Ends(t.Context(), []group.Key{key})
	if err != nil || ends[0].Head.Tail != 2 || ends[0].Last == nil || ends[0].Last.Seq != 2 {
		t.Errorf("Ends during the fsync = %+v, %v; want SEQ 2", ends, err)
	}
	// Its writer leaves; from then on the end of the log is unknown, and nobody is told a wrong one.
	leave()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("Append whose context ended = %v; want context.Canceled", err)
	}
	short, cancel := context.WithCancel(t.Context())
	head := make(chan error, 1)
	go func() {
		_, err := s.Head(short, key)
		head <- err
	}()
	cancel()
	if err := <-head; !errors.Is(err, context.Canceled) {
		t.Errorf("Head with an outcome unknown = %v; want it to wait until its context ends", err)
	}
	goOn()
	if h, err := s.Head(t.Context(), key); err != nil || h.Tail != 3 {
		t.Errorf("Head after the fsync = %+v, %v; want tail 3", h, err)
	}
	if n := length(t, s, key); n != 3 {
		t.Errorf("%d messages after the fsync; want 3", n)
	}
}
