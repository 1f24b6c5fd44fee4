package storagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

var raceChecks = []check{
	{"Race/OneGroup", checkRivals},
	{"Race/ManyGroups", checkManyGroups},
	{"Race/Insert", checkInsertRace},
	{"Race/Readers", checkReaders},
	{"Race/Shared", checkSharedRace},
}

// checkRivals has several writers who all believe that they own the group.
func checkRivals(t *testing.T, s storage.Store) {
	const writers, each = 4, 15
	key := Key("g")
	var mu sync.Mutex
	winners := map[group.Seq]group.MsgID{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for won := 0; won < each; {
				h, err := s.Head(t.Context(), key)
				if err != nil {
					t.Errorf("Head = %v; want nil", err)
					return
				}
				b := NewBatch(key, h.Tail, 1+w%2)
				ok, err := appendOnce(t.Context(), s, b)
				if err != nil {
					t.Errorf("Append = %v; want nil or a *TailError", err)
					return
				}
				if !ok {
					continue
				}
				won++
				mu.Lock()
				for _, m := range b.Messages {
					if _, taken := winners[m.Seq]; taken {
						t.Errorf("SEQ %d was won twice", m.Seq)
					}
					winners[m.Seq] = m.ID
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	msgs := collect(t, s.Range(t.Context(), key, 1, 1<<40))
	if len(msgs) != len(winners) {
		t.Errorf("%d messages are stored; %d were won", len(msgs), len(winners))
	}
	for i, m := range msgs {
		if m.Seq != group.Seq(i)+1 {
			t.Fatalf("SEQ %d stands at place %d", m.Seq, i+1)
		}
		if winners[m.Seq] != m.ID {
			t.Errorf("SEQ %d is not its winner's", m.Seq)
		}
	}
	wantTail(t, s, key, group.Seq(len(winners)))
}

// appendOnce appends as the contract tells a writer to, and reports whether the batch is in the log.
func appendOnce(ctx context.Context, s storage.Store, b *storage.Batch) (bool, error) {
	err := s.Append(ctx, b)
	if err == nil {
		return true, nil
	}
	if _, ok := errors.AsType[*storage.TailError](err); ok {
		return false, nil
	}
	if !errors.Is(err, storage.ErrUnavailable) {
		return false, err
	}
	for m, err := range s.Range(ctx, b.Key, b.Tail+1, b.Tail+2) {
		return err == nil && m.ID == b.Messages[0].ID, err
	}
	return false, nil
}

func checkManyGroups(t *testing.T, s storage.Store) {
	const groups, batches = 24, 8
	var wg sync.WaitGroup
	for i := range groups {
		wg.Go(func() {
			key := Key(group.ID(fmt.Sprint("g", i)))
			for n := range batches {
				b := NewBatch(key, group.Seq(2*n), 2)
				b.Mutations = []storage.Mutation{put("reads", fmt.Sprint(i), fmt.Sprint(2*n+2))}
				if err := s.Append(t.Context(), b); err != nil {
					t.Errorf("Append to group %d = %v; want nil", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range groups {
		key := Key(group.ID(fmt.Sprint("g", i)))
		msgs := collect(t, s.Range(t.Context(), key, 1, 1000))
		for j, m := range msgs {
			if m.Seq != group.Seq(j)+1 || m.Group != key.ID {
				t.Errorf("group %d: SEQ %d of group %s stands at place %d", i, m.Seq, m.Group, j+1)
			}
		}
		if len(msgs) != 2*batches {
			t.Errorf("group %d: %d messages; want %d", i, len(msgs), 2*batches)
		}
		wantValue(t, s, "reads", fmt.Sprint(i), fmt.Sprint(2*batches))
	}
}

func checkInsertRace(t *testing.T, s storage.Store) {
	for round := range 60 {
		key := fmt.Sprint("k", round)
		start := make(chan struct{})
		var mu sync.Mutex
		var winners []string
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				value := fmt.Sprint("w", w)
				<-start
				err := s.Apply(t.Context(), insert("lives", key, value))
				if err == nil {
					mu.Lock()
					winners = append(winners, value)
					mu.Unlock()
				} else if !errors.Is(err, storage.ErrExists) {
					t.Errorf("Insert = %v; want nil or ErrExists", err)
				}
			})
		}
		close(start)
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("round %d: %d inserts of one key won; want 1", round, len(winners))
		}
		wantValue(t, s, "lives", key, winners[0])
	}
}

// checkReaders reads while a writer appends: what a reader sees is gapless, and never shrinks.
func checkReaders(t *testing.T, s storage.Store) {
	key := Key("g")
	const n = 60
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			if err := s.Append(t.Context(), NewBatch(key, group.Seq(i), 1)); err != nil {
				t.Errorf("Append = %v; want nil", err)
				return
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			for last := group.Seq(0); last < n && !t.Failed(); {
				var seen group.Seq
				for m, err := range s.Range(t.Context(), key, 1, n+1) {
					if err != nil || m.Seq != seen+1 {
						t.Errorf("Range: %v, %v after SEQ %d", m, err, seen)
						return
					}
					seen = m.Seq
				}
				if seen < last {
					t.Errorf("Range ends at %d, after %d had been seen", seen, last)
				}
				last = seen
				if h, err := s.Head(t.Context(), key); err != nil || h.Tail < seen {
					t.Errorf("Head = %+v, %v; but SEQ %d was seen", h, err, seen)
				}
			}
		})
	}
	wg.Wait()
}

// checkSharedRace changes a record and the message at a log's end while others read both: whoever
// has written finds what it wrote, and nobody sees an older state after a newer one.
func checkSharedRace(t *testing.T, s storage.Store) {
	const writes, readers = 40, 3
	key := Key("g")
	read := func() (version int, err error) {
		var q storage.Query
		found := storage.Groups.AskShared(&q, []string{"g"})
		if err := q.Run(t.Context(), s); err != nil {
			return 0, err
		}
		ends, err := s.Ends(t.Context(), []group.Key{key})
		if err != nil {
			return 0, err
		}
		if last := ends[0].Last; last == nil || last.Seq != ends[0].Head.Tail {
			return 0, fmt.Errorf("Ends = %+v; want the message at the tail", ends[0])
		}
		if int64(ends[0].Head.Tail) < found[0].InfoSeq-1 { // the record may be seen before the message
			return 0, fmt.Errorf("tail %d after version %d", ends[0].Head.Tail, found[0].InfoSeq)
		}
		return int(found[0].InfoSeq), nil
	}
	write := func(version int) {
		b := NewBatch(key, group.Seq(version-1), 1)
		b.Mutations = []storage.Mutation{storage.Groups.Put("g", &group.Group{InfoSeq: int64(version)})}
		mustAppend(t, s, b)
	}
	write(1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for last := 0; ; {
				select {
				case <-stop:
					return
				default:
				}
				version, err := read()
				if err != nil || version < last {
					t.Errorf("version %d after %d, %v", version, last, err)
					return
				}
				last = version
			}
		})
	}
	for i := 2; i <= writes; i++ {
		write(i)
		if version, err := read(); err != nil || version != i {
			t.Errorf("version %d, %v after version %d was written", version, err, i)
		}
		ends, err := s.Ends(t.Context(), []group.Key{key})
		if err != nil || ends[0].Head.Tail != group.Seq(i) {
			t.Errorf("Ends = %+v, %v; want tail %d", ends, err, i)
		}
		recalled := ends[0].Last.Tombstone(group.Recalled, "bob", "typo")
		if err := s.Replace(t.Context(), key, []*group.Message{recalled}); err != nil {
			t.Fatal(err)
		}
		if ends, err = s.Ends(t.Context(), []group.Key{key}); err != nil || ends[0].Last.State != group.Recalled {
			t.Errorf("Ends = %+v, %v; want a recalled message", ends, err)
		}
	}
	close(stop)
	wg.Wait()
}
