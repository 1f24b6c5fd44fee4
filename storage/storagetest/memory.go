package storagetest

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// Memory is a store that keeps everything in memory and passes the suite: for tests of what
// builds on a store, and under testing/synctest, where no file may be touched.
type Memory struct {
	mu     sync.Mutex
	logs   map[group.Key]*memoryLog
	tables map[string]map[string][]byte
	fault  func(method string) error
	closed bool
}

type memoryLog struct {
	head storage.Head
	msgs map[group.Seq]*group.Message
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{logs: make(map[group.Key]*memoryLog), tables: make(map[string]map[string][]byte)}
}

// Fail makes every method ask fault first: what it returns for the method's name is the answer.
func (s *Memory) Fail(fault func(method string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// enter begins a method; after a nil error s.mu is held.
func (s *Memory) enter(ctx context.Context, method string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(method); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return storage.ErrClosed
	}
	return nil
}

// Append implements storage.MessageLog.
func (s *Memory) Append(ctx context.Context, b *storage.Batch) error {
	if err := s.enter(ctx, "Append"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	l := s.logs[b.Key]
	if l == nil {
		l = &memoryLog{msgs: make(map[group.Seq]*group.Message)}
	}
	if l.head.Tail != b.Tail || b.Epoch < l.head.Epoch {
		return &storage.TailError{Key: b.Key, Want: b.Tail, Head: l.head}
	}
	if err := storage.CheckBatch(b); err != nil {
		return err
	}
	if err := s.apply(b.Mutations); err != nil {
		return err
	}
	for _, m := range b.Messages {
		l.msgs[m.Seq] = clone(m)
		l.head.Tail, l.head.Time = m.Seq, m.Time
	}
	if len(b.Messages) > 0 {
		l.head.Epoch = b.Epoch
		s.logs[b.Key] = l
	}
	return nil
}

// Head implements storage.MessageLog.
func (s *Memory) Head(ctx context.Context, key group.Key) (storage.Head, error) {
	if err := s.enter(ctx, "Head"); err != nil {
		return storage.Head{}, err
	}
	defer s.mu.Unlock()
	if l := s.logs[key]; l != nil {
		return l.head, nil
	}
	return storage.Head{}, nil
}

// Heads implements storage.MessageLog.
func (s *Memory) Heads(ctx context.Context, keys []group.Key) ([]storage.Head, error) {
	out := make([]storage.Head, len(keys))
	for i, k := range keys {
		h, err := s.Head(ctx, k)
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// Range implements storage.MessageLog.
func (s *Memory) Range(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return s.yield(ctx, key, from, to, false)
}

// RangeDown implements storage.MessageLog.
func (s *Memory) RangeDown(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error] {
	return s.yield(ctx, key, from, to, true)
}

func (s *Memory) yield(ctx context.Context, key group.Key, from, to group.Seq, down bool) iter.Seq2[*group.Message, error] {
	return func(yield func(*group.Message, error) bool) {
		if err := s.enter(ctx, "Range"); err != nil {
			yield(nil, err)
			return
		}
		found := s.live(key, from, to)
		s.mu.Unlock()
		if down {
			slices.Reverse(found)
		}
		for _, m := range found {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if !yield(clone(m), nil) {
				return
			}
		}
	}
}

// live returns what has not expired, ascending; s.mu is held.
func (s *Memory) live(key group.Key, from, to group.Seq) []*group.Message {
	l := s.logs[key]
	if l == nil {
		return nil
	}
	now := time.Now().Unix()
	var found []*group.Message
	for seq, m := range l.msgs {
		if seq >= from && seq < to && (m.Expires == 0 || m.Expires > now) {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b *group.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return found
}

// Ends implements storage.MessageLog.
func (s *Memory) Ends(ctx context.Context, keys []group.Key) ([]storage.End, error) {
	out := make([]storage.End, len(keys))
	for i, k := range keys {
		h, err := s.Head(ctx, k)
		if err != nil {
			return nil, err
		}
		out[i] = storage.End{Key: k, Head: h}
		for m, err := range s.Range(ctx, k, h.Tail, h.Tail+1) {
			if err != nil {
				return nil, err
			}
			out[i].Last = m
		}
	}
	return out, nil
}

// Latest implements storage.MessageLog.
func (s *Memory) Latest(ctx context.Context, ends []storage.End, depth int, keep func(*group.Message) bool) ([]*group.Message, error) {
	out := make([]*group.Message, len(ends))
	for i, end := range ends {
		tail := end.Head.Tail
		for m, err := range s.RangeDown(ctx, end.Key, max(1, tail-group.Seq(depth)+1), tail+1) {
			if err != nil {
				return nil, err
			}
			if keep == nil || keep(m) {
				out[i] = m
				break
			}
		}
	}
	return out, nil
}

// Replace implements storage.MessageLog.
func (s *Memory) Replace(ctx context.Context, key group.Key, msgs []*group.Message, muts ...storage.Mutation) error {
	if err := s.enter(ctx, "Replace"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if err := s.apply(muts); err != nil {
		return err
	}
	if l := s.logs[key]; l != nil {
		for _, m := range msgs {
			if _, ok := l.msgs[m.Seq]; ok {
				l.msgs[m.Seq] = clone(m)
			}
		}
	}
	return nil
}

// Hour implements storage.MessageLog.
func (s *Memory) Hour(ctx context.Context, from int64) iter.Seq2[*group.Message, error] {
	return func(yield func(*group.Message, error) bool) {
		if err := s.enter(ctx, "Hour"); err != nil {
			yield(nil, err)
			return
		}
		var found []*group.Message
		keys := slices.SortedFunc(maps.Keys(s.logs), func(a, b group.Key) int {
			return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Incarnation, b.Incarnation))
		})
		for _, k := range keys {
			for _, m := range s.live(k, 0, 1<<62) {
				if m.Time >= from && m.Time < from+3600 {
					found = append(found, m)
				}
			}
		}
		s.mu.Unlock()
		for _, m := range found {
			if !yield(clone(m), nil) {
				return
			}
		}
	}
}

// clone copies m whole: a store keeps nothing of its caller's, and gives nothing of its own away.
func clone(m *group.Message) *group.Message {
	c, err := storage.DecodeMessage(storage.EncodeMessage(nil, m))
	if err != nil {
		panic(err) // the codec refuses what it wrote
	}
	return c
}

// Drop implements storage.MessageLog.
func (s *Memory) Drop(ctx context.Context, key group.Key) error {
	if err := s.enter(ctx, "Drop"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	delete(s.logs, key)
	return nil
}

// Sweep implements storage.MessageLog.
func (s *Memory) Sweep(ctx context.Context, now int64) (bool, error) {
	if err := s.enter(ctx, "Sweep"); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	for _, l := range s.logs {
		maps.DeleteFunc(l.msgs, func(_ group.Seq, m *group.Message) bool { return m.Expires > 0 && m.Expires <= now })
	}
	return false, nil
}

// Get implements storage.Records.
func (s *Memory) Get(ctx context.Context, table, key string) ([]byte, error) {
	if err := s.enter(ctx, "Get"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	v, ok := s.tables[table][key]
	if !ok {
		return nil, storage.ErrNotFound
	}
	return slices.Clone(v), nil
}

// GetMany implements storage.Records.
func (s *Memory) GetMany(ctx context.Context, table string, keys []string) ([][]byte, error) {
	if err := s.enter(ctx, "GetMany"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = slices.Clone(s.tables[table][k])
	}
	return out, nil
}

// GetAll implements storage.Records.
func (s *Memory) GetAll(ctx context.Context, refs []storage.Ref) ([][]byte, error) {
	if err := s.enter(ctx, "GetAll"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := make([][]byte, len(refs))
	for i, r := range refs {
		out[i] = slices.Clone(s.tables[r.Table][r.Key])
	}
	return out, nil
}

// Scan implements storage.Records.
func (s *Memory) Scan(ctx context.Context, table string, span storage.Span) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		if err := s.enter(ctx, "Scan"); err != nil {
			yield(storage.Record{}, err)
			return
		}
		var found []storage.Record
		for k, v := range s.tables[table] {
			if !strings.HasPrefix(k, span.Prefix) || span.After != "" && (!span.Reverse && k <= span.After || span.Reverse && k >= span.After) {
				continue
			}
			found = append(found, storage.Record{Key: k, Value: slices.Clone(v)})
		}
		s.mu.Unlock()
		slices.SortFunc(found, func(a, b storage.Record) int { return cmp.Compare(a.Key, b.Key) })
		if span.Reverse {
			slices.Reverse(found)
		}
		for i, r := range found {
			if span.Limit > 0 && i == span.Limit || !yield(r, nil) {
				return
			}
		}
	}
}

// Apply implements storage.Records.
func (s *Memory) Apply(ctx context.Context, muts ...storage.Mutation) error {
	if err := s.enter(ctx, "Apply"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	return s.apply(muts)
}

// apply applies all or, if an Insert meets a record, none; s.mu is held.
func (s *Memory) apply(muts []storage.Mutation) error {
	changed := make(map[string]map[string][]byte)
	for _, m := range muts {
		t := changed[m.Table]
		if t == nil {
			if t = maps.Clone(s.tables[m.Table]); t == nil {
				t = make(map[string][]byte)
			}
			changed[m.Table] = t
		}
		switch m.Op {
		case storage.Insert:
			if _, ok := t[m.Key]; ok {
				return storage.ErrExists
			}
			t[m.Key] = owned(m.Value)
		case storage.Put:
			t[m.Key] = owned(m.Value)
		case storage.Delete:
			delete(t, m.Key)
		case storage.DeletePrefix:
			maps.DeleteFunc(t, func(k string, _ []byte) bool { return strings.HasPrefix(k, m.Key) })
		}
	}
	maps.Copy(s.tables, changed)
	return nil
}

// owned copies v; the copy of an empty value is not nil, which would mean "no record".
func owned(v []byte) []byte { return append(make([]byte, 0, len(v)), v...) }

// Health implements storage.Store.
func (s *Memory) Health(ctx context.Context) error {
	if err := s.enter(ctx, "Health"); err != nil {
		return err
	}
	s.mu.Unlock()
	return nil
}

// Close implements storage.Store.
func (s *Memory) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
