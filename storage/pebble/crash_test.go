package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// powerLosses is how many power losses TestPowerLoss injects.
const powerLosses = 10_000

// TestPowerLoss cuts the power at a random acknowledgement, again and again: what is left of the
// disk is what was fsynced, and a random part of what was not. A store that opens on it must have all that was
// acknowledged, no hole, and no message without the mutation that was written with it.
func TestPowerLoss(t *testing.T) {
	if raceEnabled && losePowerWithoutRace(t) {
		losePower(t, 200) // under the detector too, but that is ten times as slow
		return
	}
	losePower(t, powerLosses)
}

// losePowerWithoutRace runs TestPowerLoss in full in a test binary without the race detector, and
// reports whether it could.
func losePowerWithoutRace(t *testing.T) bool {
	tool, err := exec.LookPath("go")
	if err != nil {
		return false
	}
	out, err := exec.CommandContext(t.Context(), tool, "test", "-race=false", "-count=1", "-v", "-run=^TestPowerLoss$", ".").CombinedOutput()
	if want := fmt.Sprintf("%d power losses", powerLosses); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("without the race detector: %v; want %s\n%s", err, want, out)
	}
	t.Logf("%s", out)
	return true
}

func losePower(t *testing.T, want int64) {
	seed := rand.Uint64()
	start := time.Now()
	var losses, acknowledged atomic.Int64
	var wg sync.WaitGroup
	for worker := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(worker)))
			for !t.Failed() {
				l := newLife(rng, vfs.NewCrashableMem())
				// A disk lives through several losses, so that recovery too is cut short.
				for range 10 {
					if losses.Add(1) > want {
						losses.Add(-1)
						acknowledged.Add(int64(l.acks))
						return
					}
					if err := l.live(t.Context(), SyncAlways); err != nil {
						t.Errorf("seed %d, worker %d: %v", seed, worker, err)
						return
					}
				}
				acknowledged.Add(int64(l.acks))
			}
		})
	}
	wg.Wait()
	t.Logf("%d power losses, %d acknowledgements, seed %d, %v", losses.Load(), acknowledged.Load(), seed, time.Since(start).Round(time.Millisecond))
	if losses.Load() != want && !t.Failed() {
		t.Errorf("%d power losses were injected; want %d", losses.Load(), want)
	}
	if acknowledged.Load() < want {
		t.Errorf("only %d appends were acknowledged: the test does not test much", acknowledged.Load())
	}
}

// TestPowerLossIsSeen leaves the fsync out, and expects the same checks to miss what was acknowledged.
func TestPowerLossIsSeen(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	const tries = 50
	for range tries {
		l := newLife(rng, vfs.NewCrashableMem())
		for range 2 {
			if l.live(t.Context(), SyncInterval) != nil {
				found++
				break
			}
		}
	}
	if found < tries*9/10 {
		t.Errorf("without fsync %d of %d lives lost something acknowledged; want nearly all", found, tries)
	}
}

// A life is one disk with what it must have.
type life struct {
	rng  *rand.Rand
	fs   *vfs.MemFS
	acks int

	mu   sync.Mutex
	logs map[group.Key]*lifeLog
	// inserted are the records whose Insert was acknowledged.
	inserted map[string]string
}

// A lifeLog is one group's log as its writer knows it.
type lifeLog struct {
	acked   []group.MsgID // by SEQ-1
	unclear []group.MsgID // of the append that was under way, after acked
}

func newLife(rng *rand.Rand, fs *vfs.MemFS) *life {
	return &life{rng: rng, fs: fs, logs: make(map[group.Key]*lifeLog), inserted: make(map[string]string)}
}

// live opens the store, checks it, writes from a few groups at once, and cuts the power at a random acknowledgement.
func (l *life) live(ctx context.Context, sync string) error {
	s, err := Open(Config{
		Dir: "db", FS: l.fs, Sync: sync, SyncInterval: time.Hour, CacheBytes: 1 << 20, MemTableBytes: 256 << 10, MaxOpenFiles: 100,
		OnFatal: func(err error) { panic(err) },
	})
	if err != nil {
		return fmt.Errorf("open after %d acknowledgements: %w", l.acks, err)
	}
	defer s.Close()
	if err := l.check(ctx, s); err != nil {
		return err
	}
	return l.write(ctx, s)
}

func (l *life) write(ctx context.Context, s *Store) error {
	const writers = 3
	last := 1 + l.rng.IntN(5) // the acknowledgement at which the power goes
	percent := l.rng.IntN(3) * 40
	crashRNG := rand.New(rand.NewPCG(l.rng.Uint64(), l.rng.Uint64()))
	var wg sync.WaitGroup
	var crashed bool
	var next *vfs.MemFS
	acks := 0
	errs := make([]error, writers)
	// acknowledge notes a result that the writer was told, unless the power is gone: then nobody was told.
	acknowledge := func(note func()) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if crashed {
			return false
		}
		note()
		acks++
		l.acks++
		if acks < last {
			return true
		}
		crashed = true
		next = l.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: crashRNG})
		return false
	}
	for w := range writers {
		rng := rand.New(rand.NewPCG(l.rng.Uint64(), uint64(w)))
		wg.Go(func() { errs[w] = l.writer(ctx, s, w, rng, acknowledge) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	l.fs = next
	return nil
}

// writer appends to its group, with a mutation in every batch, until the power goes.
func (l *life) writer(ctx context.Context, s *Store, w int, rng *rand.Rand, acknowledge func(func()) bool) error {
	key := storagetest.Key(group.ID(strconv.Itoa(w)))
	l.mu.Lock()
	log := l.logs[key]
	if log == nil {
		log = &lifeLog{}
		l.logs[key] = log
	}
	tail := group.Seq(len(log.acked))
	l.mu.Unlock()
	for {
		b := storagetest.NewBatch(key, tail, 1+rng.IntN(3))
		ids := make([]group.MsgID, len(b.Messages))
		for i, m := range b.Messages {
			if rng.IntN(50) == 0 {
				m.Body = make([]byte, 40_000) // more than a block of the log
			}
			ids[i] = m.ID
		}
		tail += group.Seq(len(ids))
		b.Mutations = []storage.Mutation{
			{Op: storage.Put, Table: "reads", Key: string(key.ID), Value: binary.BigEndian.AppendUint64(nil, uint64(tail))},
			{Op: storage.Insert, Table: "lives", Key: fmt.Sprintf("%x", ids[0]), Value: []byte("x")},
		}
		l.mu.Lock()
		log.unclear = ids
		l.mu.Unlock()
		if err := s.Append(ctx, b); err != nil {
			return fmt.Errorf("append to group %s: %w", key.ID, err)
		}
		if !acknowledge(func() { log.acked, log.unclear = append(log.acked, ids...), nil }) {
			return nil
		}
		name := fmt.Sprintf("%d-%d", w, tail)
		if err := s.Apply(ctx, storage.Mutation{Op: storage.Insert, Table: "settings", Key: name, Value: []byte(name)}); err != nil {
			return fmt.Errorf("insert %s: %w", name, err)
		}
		if !acknowledge(func() { l.inserted[name] = name }) {
			return nil
		}
	}
}

// check compares the store with what was acknowledged, and takes over what else is there.
func (l *life) check(ctx context.Context, s *Store) error {
	for key, log := range l.logs {
		stored, err := l.stored(ctx, s, key)
		if err != nil {
			return err
		}
		n := len(log.acked)
		switch rest := len(stored) - n; {
		case rest < 0 || !slices.Equal(stored[:n], log.acked):
			return fmt.Errorf("group %s: %d messages are stored, %d were acknowledged; or others stand there", key.ID, len(stored), n)
		case rest > 0 && !slices.Equal(stored[n:], log.unclear):
			return fmt.Errorf("group %s: %d messages after the acknowledged ones; the batch under way had %d", key.ID, rest, len(log.unclear))
		}
		log.acked, log.unclear = stored, nil
		if err := checkMutations(ctx, s, key, stored); err != nil {
			return err
		}
	}
	for name := range l.inserted {
		if v, err := s.Get(ctx, "settings", name); err != nil || string(v) != name {
			return fmt.Errorf("record %s = %q, %w; want what was acknowledged", name, v, err)
		}
	}
	return nil
}

func (l *life) stored(ctx context.Context, s *Store, key group.Key) (ids []group.MsgID, err error) {
	for m, err := range s.Range(ctx, key, 0, 1<<40) {
		if err != nil {
			return nil, err
		}
		if m.Seq != group.Seq(len(ids))+1 {
			return nil, fmt.Errorf("group %s: SEQ %d at place %d", key.ID, m.Seq, len(ids)+1)
		}
		ids = append(ids, m.ID)
	}
	h, err := s.Head(ctx, key)
	if err != nil {
		return nil, err
	}
	if h.Tail != group.Seq(len(ids)) {
		return nil, fmt.Errorf("group %s: the head says %d, the log ends at %d", key.ID, h.Tail, len(ids))
	}
	return ids, nil
}

// checkMutations checks that the group's last batch brought its mutations with it.
func checkMutations(ctx context.Context, s *Store, key group.Key, stored []group.MsgID) error {
	if len(stored) == 0 {
		return nil
	}
	v, err := s.Get(ctx, "reads", string(key.ID))
	if err != nil {
		return err
	}
	if read := int(binary.BigEndian.Uint64(v)); read != len(stored) {
		return fmt.Errorf("group %s: the log ends at %d, the mutation that came with its end says %d", key.ID, len(stored), read)
	}
	return nil
}
