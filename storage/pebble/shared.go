package pebble

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

const sharedShards = 64

// shared keeps what the members of a group all read when they log in: the group's records,
// decoded, and the message at the end of its log. Each is read from the database once for
// all who ask at the same moment, and kept until a write changes it or room is needed.
//
// A write forgets what it changes after it has become visible and before its caller is
// answered. An entry that was being loaded meanwhile is forgotten with it: who waits for it
// had asked before the write ended, and nobody else gets it.
type shared struct {
	seed   maphash.Seed
	limit  int // bytes in a shard
	shards [sharedShards]sharedShard
	stats  *stats
}

type sharedShard struct {
	mu      sync.Mutex
	entries map[string]*sharedEntry
	bytes   int
}

// A sharedEntry is one record or message. Only who made it fills it; value and err are read
// after done is closed.
type sharedEntry struct {
	done    chan struct{}
	value   any // nil: there is none
	err     error
	version uint64 // of a message: its SEQ
	size    int    // counted in the shard; 0 while it is being loaded
}

func (c *shared) init(limit int64, st *stats) {
	c.seed, c.limit, c.stats = maphash.MakeSeed(), int(limit/sharedShards), st
	for i := range c.shards {
		c.shards[i].entries = make(map[string]*sharedEntry)
	}
}

func (c *shared) shard(key string) *sharedShard {
	return &c.shards[maphash.String(c.seed, key)%sharedShards]
}

// entry returns what there is under key. If it is the caller's own it must fill it, whatever happens.
func (c *shared) entry(key string, version uint64) (e *sharedEntry, own bool) {
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entries[key]; e != nil {
		if e.version == version {
			return e, false
		}
		sh.remove(key, e)
	}
	e = &sharedEntry{done: make(chan struct{}), version: version}
	sh.entries[key] = e
	return e, true
}

// fill ends the loading of an entry of the caller's own.
func (c *shared) fill(key string, e *sharedEntry, value any, size int, err error) {
	e.value, e.err = value, err
	close(e.done)
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.entries[key] != e {
		return // forgotten meanwhile
	}
	if err != nil || size > c.limit {
		delete(sh.entries, key)
		return
	}
	e.size = size
	sh.bytes += size
	// The order of a map is as good as random, and random eviction is enough: what it costs is one read.
	for other, o := range sh.entries {
		if sh.bytes <= c.limit {
			break
		}
		if o.size > 0 && o != e {
			sh.remove(other, o)
		}
	}
}

// remove takes an entry out; sh.mu is held.
func (sh *sharedShard) remove(key string, e *sharedEntry) {
	sh.bytes -= e.size
	delete(sh.entries, key)
}

func (c *shared) forget(key string) {
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entries[key]; e != nil {
		sh.remove(key, e)
	}
}

func (c *shared) forgetPrefix(prefix string) {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		for key, e := range sh.entries {
			if strings.HasPrefix(key, prefix) {
				sh.remove(key, e)
			}
		}
		sh.mu.Unlock()
	}
}

// size returns the bytes that the entries take, about.
func (c *shared) size() int {
	n := 0
	for i := range c.shards {
		c.shards[i].mu.Lock()
		n += c.shards[i].bytes
		c.shards[i].mu.Unlock()
	}
	return n
}

// changed forgets what a write has changed.
func (c *shared) changed(w *write) {
	if w.log != nil {
		c.forget(string(messagePrefix(*w.log)))
	}
	for _, m := range w.muts {
		if !slices.Contains(storage.GroupTables, m.Table) {
			continue
		}
		key, err := recordKey(m.Table, m.Key)
		switch {
		case err != nil: // it was refused
		case m.Op == storage.DeletePrefix:
			c.forgetPrefix(string(key))
		default:
			c.forget(string(key))
		}
	}
}

// errNotLoaded tells who waits for an entry that its loader has left.
var errNotLoaded = errors.New("storage: not loaded")

// A load is an entry that one call fills.
type load struct {
	at    int
	key   string
	entry *sharedEntry
}

// abandon fills those of loads that are not filled yet, so that nobody waits for them.
func (c *shared) abandon(loads []load) {
	for _, l := range loads {
		select {
		case <-l.entry.done:
		default:
			c.fill(l.key, l.entry, nil, 0, errNotLoaded)
		}
	}
}

// recordOverhead is about what a decoded record takes beside what it was decoded from.
const recordOverhead = 256

// Shared returns what decode makes of the values of refs. It implements storage.Sharer.
func (s *Store) Shared(ctx context.Context, refs []storage.Ref, decode func(i int, value []byte) (any, error)) ([]any, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	values := make([]any, len(refs))
	var mine, others []load
	defer func() { s.shared.abandon(mine) }()
	for i, r := range refs {
		key, err := recordKey(r.Table, r.Key)
		if err != nil {
			return nil, err
		}
		l := load{at: i, key: string(key)}
		var own bool
		if l.entry, own = s.shared.entry(l.key, 0); own {
			mine = append(mine, l)
		} else {
			others = append(others, l)
		}
	}
	if len(refs) > 0 {
		s.stats.shared(refs[0].Table, len(others), len(mine))
	}
	if err := s.loadRecords(ctx, refs, decode, mine, values); err != nil {
		return nil, err
	}
	var again []load
	for _, l := range others {
		select {
		case <-l.entry.done:
		default:
			select {
			case <-l.entry.done:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if values[l.at] = l.entry.value; l.entry.err != nil {
			again = append(again, load{at: l.at, key: l.key, entry: &sharedEntry{done: make(chan struct{})}})
		}
	}
	return values, s.loadRecords(ctx, refs, decode, again, values)
}

// loadRecords reads and fills loads, and puts their values in place.
func (s *Store) loadRecords(ctx context.Context, refs []storage.Ref, decode func(i int, value []byte) (any, error), loads []load, values []any) error {
	if len(loads) == 0 {
		return nil
	}
	missing := make([]storage.Ref, len(loads))
	for i, l := range loads {
		missing[i] = refs[l.at]
	}
	raw, err := s.GetAll(ctx, missing)
	if err != nil {
		return err
	}
	for i, l := range loads {
		if raw[i] != nil {
			if values[l.at], err = decode(l.at, raw[i]); err != nil {
				return err
			}
		}
		s.shared.fill(l.key, l.entry, values[l.at], len(l.key)+3*len(raw[i])+recordOverhead, nil)
	}
	return nil
}

// lastMessage returns the message at the end of a log, nil if it has expired. It is shared.
func (s *Store) lastMessage(ctx context.Context, key group.Key, tail group.Seq) (*group.Message, error) {
	if tail == 0 {
		return nil, nil
	}
	place := string(messagePrefix(key))
	e, own := s.shared.entry(place, uint64(tail))
	if !own {
		s.stats.shared(lastMessages, 1, 0)
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if e.err != nil {
			return s.messageAt(ctx, key, tail)
		}
		if m, _ := e.value.(*group.Message); m != nil && !expired(m) {
			return m, nil
		}
		return nil, nil
	}
	s.stats.shared(lastMessages, 0, 1)
	defer s.shared.abandon([]load{{key: place, entry: e}})
	m, err := s.messageAt(ctx, key, tail)
	if err != nil {
		return nil, err
	}
	size := len(place) + 2*recordOverhead
	if m == nil {
		s.shared.fill(place, e, nil, size, nil)
		return nil, nil
	}
	s.shared.fill(place, e, m, size+len(m.Body)+len(m.CloudCustomData)+len(m.OfflinePush), nil)
	return m, nil
}

// messageAt returns one message, or nil if there is none.
func (s *Store) messageAt(ctx context.Context, key group.Key, seq group.Seq) (*group.Message, error) {
	var found *group.Message
	for m, err := range s.Range(ctx, key, seq, seq+1) {
		if err != nil {
			return nil, err
		}
		found = m
	}
	return found, nil
}
