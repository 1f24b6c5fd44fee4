package storagetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

var timeChecks = []check{
	{"Time/Expiry", checkExpiry},
	{"Time/AllExpired", checkAllExpired},
	{"Time/MixedExpiry", checkMixedExpiry},
	{"Time/Sweep", checkSweep},
	{"Time/SweepMany", checkSweepMany},
	{"Time/Hour", checkHour},
	{"Time/HourEdges", checkHourEdges},
}

// sweep calls Sweep until nothing is left.
func sweep(t *testing.T, s storage.Store, now int64) {
	t.Helper()
	for range 1000 {
		more, err := s.Sweep(t.Context(), now)
		if err != nil {
			t.Fatalf("Sweep = %v; want nil", err)
		}
		if !more {
			return
		}
	}
	t.Fatal("Sweep finds no end")
}

// expiring returns a batch whose messages expire as given, in turn.
func expiring(key group.Key, tail group.Seq, expires ...int64) *storage.Batch {
	b := NewBatch(key, tail, len(expires))
	for i, m := range b.Messages {
		m.Expires = expires[i]
	}
	return b
}

func checkExpiry(t *testing.T, s storage.Store) {
	key := Key("g")
	past, future := time.Now().Unix()-1, time.Now().Unix()+100_000
	b := expiring(key, 0, past, past, future, future)
	mustAppend(t, s, b)
	live := b.Messages[2:]
	for range 2 { // unswept, and swept
		wantLog(t, s, key, live)
		wantMessages(t, "Hour", collect(t, s.Hour(t.Context(), Epoch0)), live)
		wantTail(t, s, key, 4)
		if err := s.Replace(t.Context(), key, []*group.Message{b.Messages[0].Tombstone(group.Recalled, "x", "")}); err != nil {
			t.Errorf("Replace of an expired message = %v; want nil", err)
		}
		sweep(t, s, time.Now().Unix())
	}
}

func checkAllExpired(t *testing.T, s storage.Store) {
	key := Key("g")
	past := time.Now().Unix() - 10_000
	mustAppend(t, s, expiring(key, 0, past, past, past))
	for range 2 {
		wantLog(t, s, key, nil)
		ends := mustEnds(t, s, key)
		if ends[0].Last != nil || ends[0].Head.Tail != 3 {
			t.Errorf("Ends of an expired log = %+v; want tail 3 without a message", ends[0])
		}
		latest, err := s.Latest(t.Context(), ends, 10, nil)
		if err != nil || latest[0] != nil {
			t.Errorf("Latest of an expired log = %v, %v; want nil", latest[0], err)
		}
		h, err := s.Head(t.Context(), key)
		if err != nil || h.Tail != 3 || h.Time != Epoch0+3 {
			t.Errorf("Head of an expired log = %+v, %v; want tail 3, time %d", h, err, Epoch0+3)
		}
		wantTailError(t, s.Append(t.Context(), NewBatch(key, 0, 1)), 0, storage.Head{Tail: 3})
		sweep(t, s, time.Now().Unix())
	}
	b := NewBatch(key, 3, 1)
	mustAppend(t, s, b)
	wantLog(t, s, key, b.Messages)
	if h, err := s.Head(t.Context(), key); err != nil || h.First > 4 {
		t.Errorf("Head = %+v, %v; want first at most 4", h, err)
	}
}

// checkMixedExpiry has retention changed under a running group: what comes later expires sooner.
func checkMixedExpiry(t *testing.T, s storage.Store) {
	key := Key("g")
	now := time.Now().Unix()
	past, future := now-50_000, now+50_000
	expires := []int64{future, past, past, 0, past, future, past}
	var live []*group.Message
	for i, e := range expires {
		b := expiring(key, group.Seq(i), e)
		mustAppend(t, s, b)
		if e == 0 || e > now {
			live = append(live, b.Messages...)
		}
	}
	wantLog(t, s, key, live)
	sweep(t, s, now)
	wantLog(t, s, key, live)
	wantTail(t, s, key, 7)
	wantMessages(t, "Hour", collect(t, s.Hour(t.Context(), Epoch0)), live)
	if h, err := s.Head(t.Context(), key); err != nil || h.First > 1 {
		t.Errorf("Head = %+v, %v; want first at most 1", h, err)
	}
}

func checkSweep(t *testing.T, s storage.Store) {
	now := time.Now().Unix()
	var kept [][]*group.Message
	keys := []group.Key{Key("a"), Key("a:"), Key("b")}
	for _, key := range keys {
		b := expiring(key, 0, now-90_000, now-50_000, now-4_000, now+90_000, 0)
		mustAppend(t, s, b)
		kept = append(kept, b.Messages[3:])
	}
	sweep(t, s, now-100_000) // before anything expired
	for range 2 {
		for i, key := range keys {
			wantLog(t, s, key, kept[i])
			wantTail(t, s, key, 5)
		}
		sweep(t, s, now)
	}
	for i, key := range keys {
		b := NewBatch(key, 5, 1)
		mustAppend(t, s, b)
		wantLog(t, s, key, append(slices.Clone(kept[i]), b.Messages...))
	}
}

// checkSweepMany has more expired groups than one call should take.
func checkSweepMany(t *testing.T, s storage.Store) {
	past := time.Now().Unix() - 90_000
	const n = 600
	for i := range n {
		mustAppend(t, s, expiring(Key(group.ID(fmt.Sprintf("g%d", i))), 0, past))
	}
	sweep(t, s, time.Now().Unix())
	for i := range n {
		wantTail(t, s, Key(group.ID(fmt.Sprintf("g%d", i))), 1)
	}
}

func checkHour(t *testing.T, s storage.Store) {
	stored := map[group.Key][]*group.Message{}
	at := func(id group.ID, times ...int64) {
		key := Key(id)
		b := NewBatch(key, group.Seq(len(stored[key])), len(times))
		for i, m := range b.Messages {
			m.Time = Epoch0 + times[i]
		}
		mustAppend(t, s, b)
		stored[key] = append(stored[key], b.Messages...)
	}
	at("a", 10, 20, 3599, 3600, 3700)
	at("a", 3800)
	at("b", 3600)
	at("c", 0, 7200, 90_000)
	at("a", 7199, 7200, 10_800)
	at("a", 10_800+10)
	at("b", 20_000)
	at("b", 20_001)
	at("d", 5399, 5400, 5401)
	for _, from := range []int64{-3600, 0, 3600, 7200, 10_800, 14_400, 18_000, 90_000 - 90_000%3600, 200_000, 1800, 5400, 20_001, 1, 3599} {
		got := map[group.Key][]*group.Message{}
		var order []group.Key
		for _, m := range collect(t, s.Hour(t.Context(), Epoch0+from)) {
			if len(got[m.Key()]) == 0 {
				order = append(order, m.Key())
			} else if order[len(order)-1] != m.Key() {
				t.Errorf("Hour(%d): group %s comes twice", from, m.Group)
			}
			got[m.Key()] = append(got[m.Key()], m)
		}
		for key, msgs := range stored {
			var want []*group.Message
			for _, m := range msgs {
				if m.Time >= Epoch0+from && m.Time < Epoch0+from+3600 {
					want = append(want, m)
				}
			}
			wantMessages(t, fmt.Sprintf("Hour(%d), group %s", from, key.ID), got[key], want)
		}
	}
}

// checkHourEdges changes what an hour holds after it was written.
func checkHourEdges(t *testing.T, s storage.Store) {
	now := time.Now().Unix()
	key := Key("g")
	b := expiring(key, 0, now-90_000, now+90_000)
	mustAppend(t, s, b)
	sweep(t, s, now)
	mustAppend(t, s, NewBatch(Key("h"), 0, 1))
	if err := s.Drop(t.Context(), Key("h")); err != nil {
		t.Fatal(err)
	}
	grave := b.Messages[1].Tombstone(group.Recalled, "x", "")
	if err := s.Replace(t.Context(), key, []*group.Message{grave}); err != nil {
		t.Fatal(err)
	}
	last := NewBatch(key, 2, 1) // of the same hour, after the sweep
	mustAppend(t, s, last)
	want := []*group.Message{grave, last.Messages[0]}
	wantMessages(t, "Hour", collect(t, s.Hour(t.Context(), Epoch0)), want)
	for m, err := range s.Hour(t.Context(), Epoch0) {
		if err != nil || m.Seq != 2 {
			t.Errorf("first of Hour = %v, %v; want SEQ 2", m, err)
		}
		break
	}
}
