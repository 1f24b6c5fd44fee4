package storagetest

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// broken is a store of which some methods are replaced by wrong ones.
type broken struct {
	*Memory
	append    func(ctx context.Context, b *storage.Batch) error
	head      func(ctx context.Context, key group.Key) (storage.Head, error)
	rang      func(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error]
	down      func(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error]
	ends      func(ctx context.Context, keys []group.Key) ([]storage.End, error)
	latest    func(ctx context.Context, ends []storage.End, depth int, keep func(*group.Message) bool) ([]*group.Message, error)
	replace   func(ctx context.Context, key group.Key, msgs []*group.Message, muts ...storage.Mutation) error
	hour      func(ctx context.Context, from int64) iter.Seq2[*group.Message, error]
	drop      func(ctx context.Context, key group.Key) error
	sweep     func(ctx context.Context, now int64) (bool, error)
	all       func(ctx context.Context, refs []storage.Ref) ([][]byte, error)
	many      func(ctx context.Context, table string, keys []string) ([][]byte, error)
	scan      func(ctx context.Context, table string, span storage.Span) iter.Seq2[storage.Record, error]
	applyMuts func(ctx context.Context, muts ...storage.Mutation) error
}

func (b *broken) Append(ctx context.Context, batch *storage.Batch) error {
	if b.append != nil {
		return b.append(ctx, batch)
	}
	return b.Memory.Append(ctx, batch)
}

func (b *broken) Head(ctx context.Context, key group.Key) (storage.Head, error) {
	if b.head != nil {
		return b.head(ctx, key)
	}
	return b.Memory.Head(ctx, key)
}

func (b *broken) Range(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	if b.rang != nil {
		return b.rang(ctx, key, from, to)
	}
	return b.Memory.Range(ctx, key, from, to)
}

func (b *broken) RangeDown(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	if b.down != nil {
		return b.down(ctx, key, from, to)
	}
	return b.Memory.RangeDown(ctx, key, from, to)
}

func (b *broken) Ends(ctx context.Context, keys []group.Key) ([]storage.End, error) {
	if b.ends != nil {
		return b.ends(ctx, keys)
	}
	return b.Memory.Ends(ctx, keys)
}

func (b *broken) Latest(ctx context.Context, ends []storage.End, depth int, keep func(*group.Message) bool) ([]*group.Message, error) {
	if b.latest != nil {
		return b.latest(ctx, ends, depth, keep)
	}
	return b.Memory.Latest(ctx, ends, depth, keep)
}

func (b *broken) Replace(ctx context.Context, key group.Key, msgs []*group.Message, muts ...storage.Mutation) error {
	if b.replace != nil {
		return b.replace(ctx, key, msgs, muts...)
	}
	return b.Memory.Replace(ctx, key, msgs, muts...)
}

func (b *broken) Hour(ctx context.Context, from int64) iter.Seq2[*group.Message, error] {
	if b.hour != nil {
		return b.hour(ctx, from)
	}
	return b.Memory.Hour(ctx, from)
}

func (b *broken) Drop(ctx context.Context, key group.Key) error {
	if b.drop != nil {
		return b.drop(ctx, key)
	}
	return b.Memory.Drop(ctx, key)
}

func (b *broken) Sweep(ctx context.Context, now int64) (bool, error) {
	if b.sweep != nil {
		return b.sweep(ctx, now)
	}
	return b.Memory.Sweep(ctx, now)
}

func (b *broken) GetMany(ctx context.Context, table string, keys []string) ([][]byte, error) {
	if b.many != nil {
		return b.many(ctx, table, keys)
	}
	return b.Memory.GetMany(ctx, table, keys)
}

func (b *broken) GetAll(ctx context.Context, refs []storage.Ref) ([][]byte, error) {
	if b.all != nil {
		return b.all(ctx, refs)
	}
	return b.Memory.GetAll(ctx, refs)
}

func (b *broken) Scan(ctx context.Context, table string, span storage.Span) iter.Seq2[storage.Record, error] {
	if b.scan != nil {
		return b.scan(ctx, table, span)
	}
	return b.Memory.Scan(ctx, table, span)
}

func (b *broken) Apply(ctx context.Context, muts ...storage.Mutation) error {
	if b.applyMuts != nil {
		return b.applyMuts(ctx, muts...)
	}
	return b.Memory.Apply(ctx, muts...)
}

// plants are the bugs, each with the check that has to find it (others may too).
var plants = []struct {
	name  string
	check string
	plant func(m *Memory, b *broken)
}{
	{"range includes its end", "Log/Range", func(m *Memory, b *broken) {
		b.rang = func(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
			return m.Range(ctx, key, from, to+1)
		}
	}},
	{"down is up", "Log/Range", func(m *Memory, b *broken) { b.down = m.Range }},
	{"identity is lost", "Log/AllFields", func(m *Memory, b *broken) {
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			for _, msg := range batch.Messages {
				defer func(v group.MsgID) { msg.ID = v }(msg.ID)
				msg.ID = group.MsgID{}
			}
			return m.Append(ctx, batch)
		}
	}},
	{"tail is not compared", "Log/Tail", func(m *Memory, b *broken) {
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			c := *batch
			if h, err := m.Head(ctx, batch.Key); err == nil && h.Tail < batch.Tail {
				m.mu.Lock()
				if l := m.logs[batch.Key]; l != nil {
					l.head.Tail = batch.Tail
				}
				m.mu.Unlock()
			}
			return m.Append(ctx, &c)
		}
	}},
	{"epoch is not compared", "Log/Epoch", func(m *Memory, b *broken) {
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			c := *batch
			c.Epoch = 0
			return m.Append(ctx, &c)
		}
	}},
	{"repeat answers success", "Log/Repeat", func(m *Memory, b *broken) {
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			err := m.Append(ctx, batch)
			if e, ok := errors.AsType[*storage.TailError](err); ok && e.Head.Tail > batch.Tail {
				return nil
			}
			return err
		}
	}},
	{"mutations are forgotten", "Log/Mutations", func(m *Memory, b *broken) {
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			c := *batch
			c.Mutations = nil
			return m.Append(ctx, &c)
		}
	}},
	{"messages without mutations", "Log/MutationExists", func(m *Memory, b *broken) {
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			c := *batch
			c.Mutations = nil
			return errors.Join(m.Append(ctx, &c), m.Apply(ctx, batch.Mutations...))
		}
	}},
	{"incarnations meet", "Log/IDs", func(m *Memory, b *broken) {
		b.rang = func(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
			key.Incarnation = 1
			return m.Range(ctx, key, from, to)
		}
	}},
	{"drop takes all lives", "Log/Drop", func(m *Memory, b *broken) {
		b.drop = func(ctx context.Context, key group.Key) error {
			for i := range group.Incarnation(3) {
				_ = m.Drop(ctx, group.Key{ID: key.ID, Incarnation: i})
			}
			return nil
		}
	}},
	{"drop keeps the head", "Log/Drop", func(m *Memory, b *broken) {
		b.drop = func(_ context.Context, key group.Key) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			if l := m.logs[key]; l != nil {
				clear(l.msgs)
			}
			return nil
		}
	}},
	{"depth is ignored", "Log/Latest", func(m *Memory, b *broken) {
		b.latest = func(ctx context.Context, ends []storage.End, depth int, keep func(*group.Message) bool) ([]*group.Message, error) {
			return m.Latest(ctx, ends, depth+1, keep)
		}
	}},
	{"ends without their messages", "Log/Ends", func(m *Memory, b *broken) {
		b.ends = func(ctx context.Context, keys []group.Key) ([]storage.End, error) {
			ends, err := m.Ends(ctx, keys)
			for i := range ends {
				ends[i].Last = nil
			}
			return ends, err
		}
	}},
	{"an end is remembered over a recall", "Log/Ends", func(m *Memory, b *broken) {
		seen := make(map[group.Key]storage.End)
		b.ends = func(ctx context.Context, keys []group.Key) ([]storage.End, error) {
			ends, err := m.Ends(ctx, keys)
			for i := range ends {
				if had, ok := seen[keys[i]]; ok && had.Head == ends[i].Head {
					ends[i] = had
				}
				seen[keys[i]] = ends[i]
			}
			return ends, err
		}
	}},
	{"the latest above the given end", "Log/Latest", func(m *Memory, b *broken) {
		b.latest = func(ctx context.Context, ends []storage.End, depth int, keep func(*group.Message) bool) ([]*group.Message, error) {
			var keys []group.Key
			for _, end := range ends {
				keys = append(keys, end.Key)
			}
			now, err := m.Ends(ctx, keys)
			if err != nil {
				return nil, err
			}
			return m.Latest(ctx, now, depth, keep)
		}
	}},
	{"replace makes messages", "Log/Replace", func(m *Memory, b *broken) {
		b.replace = func(ctx context.Context, key group.Key, msgs []*group.Message, muts ...storage.Mutation) error {
			m.mu.Lock()
			for _, msg := range msgs {
				if l := m.logs[key]; l != nil {
					l.msgs[msg.Seq] = msg
				}
			}
			m.mu.Unlock()
			return m.Replace(ctx, key, msgs, muts...)
		}
	}},
	{"batch is kept", "Log/Ownership", func(m *Memory, b *broken) {
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			err := m.Append(ctx, batch)
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, msg := range batch.Messages {
				if l := m.logs[batch.Key]; err == nil && l != nil {
					l.msgs[msg.Seq] = msg
				}
			}
			return err
		}
	}},
	{"context is ignored", "Log/Canceled", func(m *Memory, b *broken) {
		b.drop = func(ctx context.Context, key group.Key) error { return m.Drop(context.WithoutCancel(ctx), key) }
	}},
	{"expired is shown", "Time/Expiry", func(m *Memory, b *broken) {
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			for _, msg := range batch.Messages {
				if msg.Expires != 0 && msg.Expires < time.Now().Unix() {
					msg.Expires = 0
				}
			}
			return m.Append(ctx, batch)
		}
	}},
	{"tail is lost with the messages", "Time/AllExpired", func(m *Memory, b *broken) {
		b.head = func(ctx context.Context, key group.Key) (h storage.Head, err error) {
			for msg, err := range m.Range(ctx, key, 0, 1<<40) {
				if err != nil {
					return h, err
				}
				h = storage.Head{Tail: msg.Seq, Time: msg.Time}
			}
			return h, ctx.Err()
		}
	}},
	{"sweep takes too much", "Time/Sweep", func(m *Memory, b *broken) {
		b.sweep = func(ctx context.Context, now int64) (bool, error) { return m.Sweep(ctx, now+200_000) }
	}},
	{"sweep deletes up to the last expired", "Time/MixedExpiry", func(m *Memory, b *broken) {
		b.sweep = func(_ context.Context, now int64) (bool, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, l := range m.logs {
				var last group.Seq
				for seq, msg := range l.msgs {
					if msg.Expires != 0 && msg.Expires <= now {
						last = max(last, seq)
					}
				}
				for seq := range l.msgs {
					if seq <= last {
						delete(l.msgs, seq)
					}
				}
			}
			return false, nil
		}
	}},
	{"sweep never ends", "Time/SweepMany", func(m *Memory, b *broken) {
		b.sweep = func(ctx context.Context, now int64) (bool, error) {
			_, err := m.Sweep(ctx, now)
			return true, err
		}
	}},
	{"hour is rounded", "Time/Hour", func(m *Memory, b *broken) {
		b.hour = func(ctx context.Context, from int64) iter.Seq2[*group.Message, error] {
			return m.Hour(ctx, from-from%3600)
		}
	}},
	{"insert overwrites", "Records/Exists", func(m *Memory, b *broken) {
		b.applyMuts = func(ctx context.Context, muts ...storage.Mutation) error {
			muts = slices.Clone(muts)
			for i := range muts {
				if muts[i].Op == storage.Insert {
					muts[i].Op = storage.Put
				}
			}
			return m.Apply(ctx, muts...)
		}
	}},
	{"mutations run backwards", "Records/Order", func(m *Memory, b *broken) {
		b.applyMuts = func(ctx context.Context, muts ...storage.Mutation) error {
			muts = slices.Clone(muts)
			slices.Reverse(muts)
			return m.Apply(ctx, muts...)
		}
	}},
	{"prefix ends at a separator", "Records/DeletePrefix", func(m *Memory, b *broken) {
		b.applyMuts = func(ctx context.Context, muts ...storage.Mutation) error {
			muts = slices.Clone(muts)
			for i := range muts {
				if muts[i].Op == storage.DeletePrefix {
					muts[i].Key = strings.TrimSuffix(muts[i].Key, ":")
				}
			}
			return m.Apply(ctx, muts...)
		}
	}},
	{"all values of one table", "Records/GetAll", func(m *Memory, b *broken) {
		b.all = func(ctx context.Context, refs []storage.Ref) ([][]byte, error) {
			refs = slices.Clone(refs)
			for i := range refs {
				refs[i].Table = refs[0].Table
			}
			return m.GetAll(ctx, refs)
		}
	}},
	{"records are remembered over a write", "Records/Shared", func(m *Memory, b *broken) {
		seen := make(map[storage.Ref][]byte)
		b.all = func(ctx context.Context, refs []storage.Ref) ([][]byte, error) {
			values, err := m.GetAll(ctx, refs)
			for i, r := range refs {
				if had, ok := seen[r]; ok && i < 5 {
					values[i] = had
				}
				seen[r] = values[i]
			}
			return values, err
		}
	}},
	{"values in the store's order", "Records/GetMany", func(m *Memory, b *broken) {
		b.many = func(ctx context.Context, table string, keys []string) ([][]byte, error) {
			return m.GetMany(ctx, table, slices.Sorted(slices.Values(keys)))
		}
	}},
	{"after is included", "Records/Scan", func(m *Memory, b *broken) {
		b.scan = func(ctx context.Context, table string, span storage.Span) iter.Seq2[storage.Record, error] {
			if n := len(span.After); n > 0 && !span.Reverse {
				span.After = span.After[:n-1] + string(span.After[n-1]-1) + "\x7f"
			}
			return m.Scan(ctx, table, span)
		}
	}},
	{"keys are not escaped", "Records/ScanKeys", func(m *Memory, b *broken) {
		b.scan = func(ctx context.Context, table string, span storage.Span) iter.Seq2[storage.Record, error] {
			span.Prefix = strings.ReplaceAll(span.Prefix, "%3A", ":")
			return m.Scan(ctx, table, span)
		}
	}},
	{"look, then write", "Race/OneGroup", func(m *Memory, b *broken) {
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			h, err := m.Head(ctx, batch.Key)
			if err == nil && h.Tail != batch.Tail {
				return m.Append(ctx, batch)
			}
			time.Sleep(time.Millisecond) // the gap in which another writer comes
			m.mu.Lock()
			if l := m.logs[batch.Key]; l != nil {
				l.head.Tail = batch.Tail
			}
			m.mu.Unlock()
			return m.Append(ctx, batch)
		}
	}},
	{"insert looks, then writes", "Race/Insert", func(m *Memory, b *broken) {
		b.applyMuts = func(ctx context.Context, muts ...storage.Mutation) error {
			if len(muts) == 1 && muts[0].Op == storage.Insert {
				if _, err := m.Get(ctx, muts[0].Table, muts[0].Key); err == nil {
					return storage.ErrExists
				}
				time.Sleep(time.Millisecond)
				muts = slices.Clone(muts)
				muts[0].Op = storage.Put
			}
			return m.Apply(ctx, muts...)
		}
	}},
	{"head runs behind", "Race/Readers", func(m *Memory, b *broken) {
		var mu sync.Mutex
		old := map[group.Key]storage.Head{}
		b.append = func(ctx context.Context, batch *storage.Batch) error {
			h, _ := m.Head(ctx, batch.Key)
			mu.Lock()
			old[batch.Key] = h
			mu.Unlock()
			return m.Append(ctx, batch)
		}
		b.head = func(ctx context.Context, key group.Key) (storage.Head, error) {
			mu.Lock()
			defer mu.Unlock()
			return old[key], ctx.Err()
		}
	}},
}

const plantVariable = "ROOKERY_TEST_PLANT"

// TestPlanted breaks a good store in one way after the other, and sees the check that is there
// for it fail. The suite runs in a process of its own, since a failure there is a success here.
func TestPlanted(t *testing.T) {
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPlantedStore$/^"+strings.ReplaceAll(p.check, "/", "$/^")+"$", "-test.timeout=30s")
			cmd.Env = append(os.Environ(), plantVariable+"="+p.name)
			out, err := cmd.CombinedOutput()
			if _, ok := errors.AsType[*exec.ExitError](err); !ok || !bytes.Contains(out, []byte("--- FAIL: TestPlantedStore/"+p.check)) {
				t.Errorf("%s did not fail: %v\n%s", p.check, err, out)
			}
		})
	}
}

// TestPlantedStore is what TestPlanted starts. By itself it runs the suite on the unbroken wrapper.
func TestPlantedStore(t *testing.T) {
	name := os.Getenv(plantVariable)
	Run(t, func(*testing.T) storage.Store {
		m := NewMemory()
		b := &broken{Memory: m}
		for _, p := range plants {
			if p.name == name {
				p.plant(m, b)
			}
		}
		return b
	})
}

func TestFaulty(t *testing.T) {
	for _, after := range []bool{false, true} {
		n := int64(0)
		for ; ; n++ {
			mem := NewMemory()
			f := &Faulty{Store: mem, FailAt: n, After: after}
			var failed []string
			note := func(name string, err error) {
				if err != nil {
					failed = append(failed, name)
				}
			}
			key := Key("g")
			note("Append", f.Append(t.Context(), NewBatch(key, 0, 1)))
			_, err := f.Head(t.Context(), key)
			note("Head", err)
			for _, err := range f.Range(t.Context(), key, 1, 2) {
				note("Range", err)
			}
			note("Apply", f.Apply(t.Context(), put("groups", "k", "v")))
			if !f.Fired() {
				if len(failed) > 0 {
					t.Errorf("not fired, but %v failed", failed)
				}
				break
			}
			want := []string{"Append", "Head", "Range", "Apply"}[n]
			if len(failed) != 1 || failed[0] != want {
				t.Errorf("FailAt %d: %v failed; want %s", n, failed, want)
			}
			h, _ := mem.Head(t.Context(), key)
			if stored := h.Tail == 1; stored != (n != 0 || after) {
				t.Errorf("FailAt %d, After %t: stored %t", n, after, stored)
			}
		}
		if n != 4 {
			t.Errorf("%d calls could fail; want 4", n)
		}
	}
}
