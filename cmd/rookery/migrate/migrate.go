// Package migrate copies everything from one store to another, and compares the two.
//
// The copy can be stopped at any moment and started again: it goes on where each log ends in
// the target, and a record that is there already is written again. Nothing may write to either
// store meanwhile. The source is only read.
package migrate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

const (
	// batchMessages and batchBytes bound what is appended at once.
	batchMessages = 500
	batchBytes    = 4 << 20
	// batchRecords bounds the records that are written at once.
	batchRecords = 500
	// endOfLog is above every SEQ.
	endOfLog group.Seq = 1 << 62
)

// A Progress is told how far the work is.
type Progress interface {
	// Total says that n more steps are to be done; a step is a log or a table.
	Total(n int)
	// Step says that one is done.
	Step()
}

// Counts is what was copied or compared.
type Counts struct{ Logs, Messages, Tables, Records int }

func (c Counts) String() string {
	return fmt.Sprintf("%d groups, %d messages, %d tables, %d records", c.Logs, c.Messages, c.Tables, c.Records)
}

// Copy makes to hold all that from holds. Counts are what it wrote this time. Messages that
// have expired are left behind; the SEQs of a log go on where they were.
func Copy(ctx context.Context, from, to storage.Enumerator, p Progress) (Counts, error) {
	var c Counts
	keys, tables, err := contents(ctx, from)
	if err != nil {
		return c, err
	}
	p.Total(len(keys) + len(tables))
	for _, key := range keys {
		n, err := copyLog(ctx, from, to, key)
		c.Messages += n
		if err != nil {
			return c, fmt.Errorf("group %s/%d: %w", key.ID, key.Incarnation, err)
		}
		c.Logs++
		p.Step()
	}
	// The records come last: a target whose copy was stopped has no groups, and so serves nobody.
	for _, table := range tables {
		n, err := copyTable(ctx, from, to, table)
		c.Records += n
		if err != nil {
			return c, fmt.Errorf("table %s: %w", table, err)
		}
		c.Tables++
		p.Step()
	}
	return c, nil
}

// Empty reports whether the store holds nothing but what opening it writes.
func Empty(ctx context.Context, s storage.Enumerator) (bool, error) {
	for _, err := range s.Logs(ctx) {
		return false, err
	}
	tables, err := s.Tables(ctx)
	return len(tables) == 0 || len(tables) == 1 && tables[0] == storage.Settings.Name, err
}

func contents(ctx context.Context, s storage.Enumerator) (keys []group.Key, tables []string, err error) {
	for key, err := range s.Logs(ctx) {
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, key)
	}
	tables, err = s.Tables(ctx)
	return keys, tables, err
}

// copyLog copies the messages behind the target's end, and then the end itself. Where expired
// messages have left a hole, the target's end is raised over it.
func copyLog(ctx context.Context, from, to storage.Enumerator, key group.Key) (n int, err error) {
	source, err := from.Head(ctx, key)
	if err != nil {
		return 0, err
	}
	target, err := to.Head(ctx, key)
	if err != nil {
		return 0, err
	}
	if target.Tail > source.Tail {
		return 0, fmt.Errorf("the target's log ends at %d, behind the source's end at %d: it holds something else", target.Tail, source.Tail)
	}
	b := storage.Batch{Key: key, Tail: target.Tail, Epoch: target.Epoch}
	size := 0
	flush := func() error {
		if len(b.Messages) == 0 {
			return nil
		}
		if err := to.Append(ctx, &b); err != nil {
			return err
		}
		last := b.Messages[len(b.Messages)-1]
		n += len(b.Messages)
		target.Tail, target.Time, target.Epoch = last.Seq, last.Time, b.Epoch
		b.Tail, b.Messages, size = last.Seq, nil, 0
		return nil
	}
	for m, err := range from.Range(ctx, key, target.Tail+1, endOfLog) {
		if err != nil {
			return n, err
		}
		if m.Seq != b.Tail+group.Seq(len(b.Messages))+1 {
			if err := flush(); err != nil {
				return n, err
			}
			target.Tail = m.Seq - 1
			if err := to.Advance(ctx, key, target); err != nil {
				return n, err
			}
			b.Tail = target.Tail
		}
		b.Epoch = max(b.Epoch, m.Epoch)
		b.Messages = append(b.Messages, m)
		if size += len(m.Body) + len(m.CloudCustomData) + 256; len(b.Messages) == batchMessages || size >= batchBytes {
			if err := flush(); err != nil {
				return n, err
			}
		}
	}
	if err := flush(); err != nil {
		return n, err
	}
	if target.Tail == source.Tail && target.Epoch == source.Epoch && target.Time == source.Time {
		return n, nil
	}
	return n, to.Advance(ctx, key, source)
}

func copyTable(ctx context.Context, from, to storage.Enumerator, table string) (n int, err error) {
	var muts []storage.Mutation
	flush := func() error {
		err := to.Apply(ctx, muts...)
		if err == nil {
			n += len(muts)
		}
		muts = nil
		return err
	}
	for r, err := range from.Scan(ctx, table, storage.Span{}) {
		if err != nil {
			return n, err
		}
		muts = append(muts, storage.Mutation{Op: storage.Put, Table: table, Key: r.Key, Value: r.Value})
		if len(muts) == batchRecords {
			if err := flush(); err != nil {
				return n, err
			}
		}
	}
	return n, flush()
}

// Verify compares the counts and hashes of each group's messages, the ends of the logs, and the
// counts and hashes of each table, of what either store has. It reports all differences, at most maxDifferences of them.
func Verify(ctx context.Context, from, to storage.Enumerator, p Progress) (Counts, error) {
	var c Counts
	keys, tables, err := contents(ctx, from)
	if err != nil {
		return c, err
	}
	more, moreTables, err := contents(ctx, to)
	if err != nil {
		return c, err
	}
	keys, tables = union(keys, more), union(tables, moreTables)
	p.Total(len(keys) + len(tables))
	// A message that expires between the two readings is no difference.
	horizon := time.Now().Add(time.Hour).Unix()
	var differences []error
	for _, key := range keys {
		var sums [2]digest
		for i, s := range []storage.Enumerator{from, to} {
			if sums[i], err = logDigest(ctx, s, key, horizon); err != nil {
				return c, fmt.Errorf("group %s/%d: %w", key.ID, key.Incarnation, err)
			}
		}
		if sums[0] != sums[1] {
			differences = append(differences, fmt.Errorf("group %s/%d differs: %s in the source, %s in the target", key.ID, key.Incarnation, sums[0], sums[1]))
		}
		c.Logs++
		c.Messages += sums[0].n
		p.Step()
	}
	for _, table := range tables {
		var sums [2]digest
		for i, s := range []storage.Enumerator{from, to} {
			if sums[i], err = tableDigest(ctx, s, table); err != nil {
				return c, fmt.Errorf("table %s: %w", table, err)
			}
		}
		if sums[0] != sums[1] {
			differences = append(differences, fmt.Errorf("table %s differs: %s in the source, %s in the target", table, sums[0], sums[1]))
		}
		c.Tables++
		c.Records += sums[0].n
		p.Step()
	}
	if n := len(differences); n > maxDifferences {
		differences = append(differences[:maxDifferences], fmt.Errorf("and %d more", n-maxDifferences))
	}
	return c, errors.Join(differences...)
}

// union returns a, and behind it what only b has.
func union[T comparable](a, b []T) []T {
	had := make(map[T]bool, len(a))
	for _, v := range a {
		had[v] = true
	}
	for _, v := range b {
		if !had[v] {
			a = append(a, v)
		}
	}
	return a
}

const maxDifferences = 20

// A digest is what is compared of a log or a table.
type digest struct {
	n    int
	tail group.Seq
	sum  [sha256.Size]byte
}

func (d digest) String() string {
	return fmt.Sprintf("%d (end %d, hash %x…)", d.n, d.tail, d.sum[:4])
}

func logDigest(ctx context.Context, s storage.Enumerator, key group.Key, horizon int64) (digest, error) {
	h, err := s.Head(ctx, key)
	if err != nil {
		return digest{}, err
	}
	d := digest{tail: h.Tail}
	sum := sha256.New()
	write(sum, fmt.Append(nil, h.Tail, h.Epoch, h.Time))
	var buf []byte
	for m, err := range s.Range(ctx, key, 1, endOfLog) {
		if err != nil {
			return d, err
		}
		if m.Expires != 0 && m.Expires <= horizon {
			continue
		}
		d.n++
		buf = storage.EncodeMessage(buf[:0], m)
		write(sum, buf)
	}
	sum.Sum(d.sum[:0])
	return d, nil
}

func tableDigest(ctx context.Context, s storage.Enumerator, table string) (digest, error) {
	var d digest
	sum := sha256.New()
	for r, err := range s.Scan(ctx, table, storage.Span{}) {
		if err != nil {
			return d, err
		}
		d.n++
		write(sum, []byte(r.Key))
		write(sum, r.Value)
	}
	sum.Sum(d.sum[:0])
	return d, nil
}

// write adds b and its length, so that two neighbours can't pass for others.
func write(h hash.Hash, b []byte) {
	_, _ = h.Write(fmt.Appendf(nil, "%d:", len(b))) // a hash takes everything
	_, _ = h.Write(b)
}
