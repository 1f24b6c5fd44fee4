package storagetest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

var logChecks = []check{
	{"Log/Empty", checkEmptyLog},
	{"Log/Range", checkRange},
	{"Log/AllFields", checkAllFields},
	{"Log/Tail", checkTail},
	{"Log/Repeat", checkRepeat},
	{"Log/Epoch", checkEpoch},
	{"Log/BadBatch", checkBadBatch},
	{"Log/Mutations", checkMutations},
	{"Log/MutationsOnly", checkMutationsOnly},
	{"Log/MutationExists", checkMutationExists},
	{"Log/IDs", checkIDs},
	{"Log/Heads", checkHeads},
	{"Log/Ends", checkEnds},
	{"Log/Latest", checkLatest},
	{"Log/Replace", checkReplace},
	{"Log/Drop", checkDrop},
	{"Log/Ownership", checkLogOwnership},
	{"Log/Canceled", checkLogCanceled},
	{"Log/LargeBatch", checkLargeBatch},
}

func checkEmptyLog(t *testing.T, s storage.Store) {
	key := Key("g")
	h, err := s.Head(t.Context(), key)
	if err != nil || h != (storage.Head{}) {
		t.Errorf("Head = %+v, %v; want the zero Head", h, err)
	}
	wantLog(t, s, key, nil)
	ends := mustEnds(t, s, key)
	if want := (storage.End{Key: key}); ends[0] != want {
		t.Errorf("Ends = %+v; want %+v", ends, want)
	}
	latest, err := s.Latest(t.Context(), ends, 10, nil)
	if err != nil || len(latest) != 1 || latest[0] != nil {
		t.Errorf("Latest = %v, %v; want one nil", latest, err)
	}
	if ends, err := s.Ends(t.Context(), nil); err != nil || len(ends) != 0 {
		t.Errorf("Ends of nothing = %v, %v; want nothing", ends, err)
	}
	if latest, err := s.Latest(t.Context(), nil, 10, nil); err != nil || len(latest) != 0 {
		t.Errorf("Latest of nothing = %v, %v; want nothing", latest, err)
	}
	if heads, err := s.Heads(t.Context(), nil); err != nil || len(heads) != 0 {
		t.Errorf("Heads of nothing = %v, %v; want nothing", heads, err)
	}
	if got := collect(t, s.Hour(t.Context(), Epoch0)); len(got) != 0 {
		t.Errorf("Hour: %d messages; want none", len(got))
	}
	if err := s.Replace(t.Context(), key, []*group.Message{NewMessage(key, 1)}); err != nil {
		t.Errorf("Replace in an empty log = %v; want nil", err)
	}
	if err := s.Drop(t.Context(), key); err != nil {
		t.Errorf("Drop of an empty log = %v; want nil", err)
	}
	if more, err := s.Sweep(t.Context(), Never); more || err != nil {
		t.Errorf("Sweep of an empty store = %t, %v; want false", more, err)
	}
	wantTail(t, s, key, 0)
	if err := s.Health(t.Context()); err != nil {
		t.Errorf("Health = %v; want nil", err)
	}
}

func checkRange(t *testing.T, s storage.Store) {
	key := Key("g")
	var msgs []*group.Message
	for _, n := range []int{1, 3, 1, 10} {
		b := NewBatch(key, group.Seq(len(msgs)), n)
		mustAppend(t, s, b)
		msgs = append(msgs, b.Messages...)
		wantTail(t, s, key, group.Seq(len(msgs)))
	}
	wantLog(t, s, key, msgs)
	for _, span := range []struct{ from, to group.Seq }{{1, 2}, {1, 16}, {3, 9}, {15, 16}, {15, 100}, {0, 3}, {-5, 4}, {16, 20}, {5, 5}, {7, 3}} {
		var want []*group.Message
		for _, m := range msgs {
			if span.from <= m.Seq && m.Seq < span.to {
				want = append(want, m)
			}
		}
		wantMessages(t, "Range", collect(t, s.Range(t.Context(), key, span.from, span.to)), want)
		wantMessages(t, "RangeDown", reversed(collect(t, s.RangeDown(t.Context(), key, span.from, span.to))), want)
	}
	var stopped []group.Seq
	for m, err := range s.Range(t.Context(), key, 1, 16) {
		if err != nil {
			t.Fatal(err)
		}
		if stopped = append(stopped, m.Seq); len(stopped) == 2 {
			break
		}
	}
	if !slices.Equal(stopped, []group.Seq{1, 2}) {
		t.Errorf("Range stopped after two: %v; want [1 2]", stopped)
	}
	h, err := s.Head(t.Context(), key)
	if err != nil || h.Time != msgs[14].Time || h.First > 1 {
		t.Errorf("Head = %+v, %v; want time %d and first at most 1", h, err, msgs[14].Time)
	}
}

func checkAllFields(t *testing.T, s storage.Store) {
	key := Key("g")
	bare := &group.Message{Group: key.ID, Incarnation: key.Incarnation, Seq: 1, Time: Epoch0, ID: group.MsgID{1}}
	full := FullMessage(key, 2)
	full.Epoch = 0
	online := NewMessage(key, 3)
	online.HasRandom, online.Random = false, 0
	online.Again = group.Retransmission{Client: "c", PacketID: 1}
	grave := NewMessage(key, 4).Tombstone(group.Deleted, "owner", "")
	b := &storage.Batch{Key: key, Messages: []*group.Message{bare, full, online, grave}}
	mustAppend(t, s, b)
	wantLog(t, s, key, b.Messages)
}

func checkTail(t *testing.T, s storage.Store) {
	key := Key("g")
	wantTailError(t, s.Append(t.Context(), NewBatch(key, 1, 1)), 1, storage.Head{})
	b := NewBatch(key, 0, 3)
	mustAppend(t, s, b)
	for _, tail := range []group.Seq{0, 1, 2, 4, 100} {
		wantTailError(t, s.Append(t.Context(), NewBatch(key, tail, 2)), tail, storage.Head{Tail: 3})
	}
	wantLog(t, s, key, b.Messages)
	wantTail(t, s, key, 3)
}

func checkRepeat(t *testing.T, s storage.Store) {
	key := Key("g")
	b := NewBatch(key, 0, 2)
	b.Mutations = []storage.Mutation{put("reads", "k", "v")}
	mustAppend(t, s, b)
	wantTailError(t, s.Append(t.Context(), b), 0, storage.Head{Tail: 2})
	wantLog(t, s, key, b.Messages)
	wantValue(t, s, "reads", "k", "v")
	mustAppend(t, s, NewBatch(key, 2, 1))
	wantTailError(t, s.Append(t.Context(), b), 0, storage.Head{Tail: 3})
}

func checkEpoch(t *testing.T, s storage.Store) {
	key := Key("g")
	at := func(tail group.Seq, epoch int64) *storage.Batch {
		b := NewBatch(key, tail, 1)
		b.Epoch = epoch
		b.Messages[0].Epoch = epoch
		return b
	}
	mustAppend(t, s, at(0, 5))
	wantTailError(t, s.Append(t.Context(), at(1, 4)), 1, storage.Head{Tail: 1, Epoch: 5})
	mustAppend(t, s, at(1, 5))
	mustAppend(t, s, at(2, 6))
	wantTailError(t, s.Append(t.Context(), at(3, 5)), 3, storage.Head{Tail: 3, Epoch: 6})
	wantTail(t, s, key, 3)
}

func checkBadBatch(t *testing.T, s storage.Store) {
	key := Key("g")
	first := NewBatch(key, 0, 2)
	mustAppend(t, s, first)
	hole := NewBatch(key, 2, 3)
	hole.Messages = slices.Delete(hole.Messages, 1, 2)
	late := NewBatch(key, 2, 1)
	late.Messages[0].Seq = 4
	foreign := NewBatch(Key("other"), 2, 1)
	foreign.Key = key
	life := NewBatch(group.Key{ID: "g", Incarnation: 2}, 2, 1)
	life.Key = key
	back := NewBatch(key, 2, 2)
	back.Messages[1].Time = back.Messages[0].Time - 1
	for name, b := range map[string]*storage.Batch{"hole": hole, "late": late, "foreign": foreign, "other life": life, "time runs back": back} {
		err := s.Append(t.Context(), b)
		if _, ok := errors.AsType[*storage.TailError](err); err == nil || ok {
			t.Errorf("%s: Append = %v; want an error that is no *TailError", name, err)
		}
	}
	wantLog(t, s, key, first.Messages)
	wantTail(t, s, Key("other"), 0)
}

func checkMutations(t *testing.T, s storage.Store) {
	key := Key("g")
	b := NewBatch(key, 0, 1)
	b.Mutations = []storage.Mutation{put("groups", "a", "1"), insert("groups", "b", "2"), put("lives", "a", "3")}
	mustAppend(t, s, b)
	wantValue(t, s, "groups", "a", "1")
	wantValue(t, s, "groups", "b", "2")
	wantValue(t, s, "lives", "a", "3")
	b = NewBatch(key, 1, 1)
	b.Mutations = []storage.Mutation{remove("groups", "a"), put("groups", "b", "4")}
	mustAppend(t, s, b)
	wantNone(t, s, "groups", "a")
	wantValue(t, s, "groups", "b", "4")
	wantTail(t, s, key, 2)
}

func checkMutationsOnly(t *testing.T, s storage.Store) {
	key := Key("g")
	mustAppend(t, s, &storage.Batch{Key: key, Mutations: []storage.Mutation{put("members", "a", "1")}})
	wantValue(t, s, "members", "a", "1")
	wantTail(t, s, key, 0)
	mustAppend(t, s, NewBatch(key, 0, 2))
	mustAppend(t, s, &storage.Batch{Key: key, Tail: 2, Mutations: []storage.Mutation{put("members", "a", "2")}})
	wantValue(t, s, "members", "a", "2")
	err := s.Append(t.Context(), &storage.Batch{Key: key, Tail: 1, Mutations: []storage.Mutation{put("members", "a", "3")}})
	wantTailError(t, err, 1, storage.Head{Tail: 2})
	mustAppend(t, s, &storage.Batch{Key: key, Tail: 2})
	wantTail(t, s, key, 2)
}

func checkMutationExists(t *testing.T, s storage.Store) {
	key := Key("g")
	mustApply(t, s, put("lives", "b", "old"))
	b := NewBatch(key, 0, 1)
	b.Mutations = []storage.Mutation{insert("lives", "b", "new"), put("lives", "c", "after")}
	if err := s.Append(t.Context(), b); !errors.Is(err, storage.ErrExists) {
		t.Errorf("Append with an Insert of a record that exists = %v; want ErrExists", err)
	}
	wantValue(t, s, "lives", "b", "old")
	wantNone(t, s, "lives", "c")
	wantLog(t, s, key, nil)
	mustAppend(t, s, NewBatch(key, 0, 1))
}

// checkIDs fills a log for ids of which one is the start of another, or has the characters that
// separate the parts of a key.
func checkIDs(t *testing.T, s storage.Store) {
	ids := []group.ID{
		"a", "a:", "a:b", "a:1", "ab", "a%", "a%3A", "a%253A", "a/", "a/b", "a#", "a +", "a ", " ", "%", ":", "::", "~",
		"@TGS#1", "@TGS#_1", "@TGS#_@TGS#1", "$a", "a.b", "A",
	}
	// 0x3a is ':' and 0x25 is '%' where a key holds the number as bytes.
	lives := []group.Incarnation{1, 2, 0x3a, 0x25, 0x3a3a, 1 << 32}
	logs := map[group.Key][]*group.Message{}
	for i, id := range ids {
		for j, life := range lives {
			key := group.Key{ID: id, Incarnation: life}
			b := NewBatch(key, 0, 1+(i+j)%3)
			mustAppend(t, s, b)
			logs[key] = b.Messages
		}
	}
	for key, msgs := range logs {
		wantLog(t, s, key, msgs)
		wantTail(t, s, key, group.Seq(len(msgs)))
	}
	if got := collect(t, s.Hour(t.Context(), Epoch0)); len(got) != total(logs) {
		t.Errorf("Hour: %d messages; want %d", len(got), total(logs))
	}
	dropped := group.Key{ID: "a", Incarnation: 1}
	if err := s.Drop(t.Context(), dropped); err != nil {
		t.Fatalf("Drop = %v; want nil", err)
	}
	logs[dropped] = nil
	for key, msgs := range logs {
		wantLog(t, s, key, msgs)
	}
}

func total(logs map[group.Key][]*group.Message) (n int) {
	for _, msgs := range logs {
		n += len(msgs)
	}
	return n
}

func checkHeads(t *testing.T, s storage.Store) {
	mustAppend(t, s, NewBatch(Key("a"), 0, 1))
	mustAppend(t, s, NewBatch(Key("b"), 0, 2))
	keys := []group.Key{Key("b"), Key("none"), Key("a"), Key("b")}
	heads, err := s.Heads(t.Context(), keys)
	if err != nil || len(heads) != len(keys) {
		t.Fatalf("Heads = %v, %v; want %d heads", heads, err, len(keys))
	}
	for i, want := range []group.Seq{2, 0, 1, 2} {
		if heads[i].Tail != want {
			t.Errorf("Heads()[%d].Tail = %d; want %d", i, heads[i].Tail, want)
		}
	}
}

func mustEnds(t *testing.T, s storage.Store, keys ...group.Key) []storage.End {
	t.Helper()
	ends, err := s.Ends(t.Context(), keys)
	if err != nil || len(ends) != len(keys) {
		t.Fatalf("Ends = %v, %v; want %d", ends, err, len(keys))
	}
	return ends
}

// checkEnds reads the ends of logs while they grow, and while what is at their tails changes.
func checkEnds(t *testing.T, s storage.Store) {
	again := group.Key{ID: "a", Incarnation: 2}
	last := map[group.Key]*group.Message{}
	keys := []group.Key{Key("b"), Key("none"), Key("a"), Key("b"), again, Key("ab")}
	check := func(what string) {
		t.Helper()
		for range 2 { // the second answer may be a remembered one
			for i, end := range mustEnds(t, s, keys...) {
				want := storage.End{Key: keys[i], Last: last[keys[i]]}
				if h, err := s.Head(t.Context(), keys[i]); err != nil || h != end.Head || end.Key != keys[i] {
					t.Errorf("%s: Ends()[%d] = %+v; want the head %+v, %v of %v", what, i, end, h, err, keys[i])
				}
				if !reflect.DeepEqual(end.Last, want.Last) {
					t.Errorf("%s: Ends()[%d].Last = %+v; want %+v", what, i, end.Last, want.Last)
				}
			}
		}
	}
	grow := func(key group.Key, tail group.Seq, n int) {
		b := NewBatch(key, tail, n)
		mustAppend(t, s, b)
		last[key] = b.Messages[n-1]
	}
	check("empty")
	grow(Key("a"), 0, 1)
	grow(Key("b"), 0, 5)
	grow(again, 0, 2)
	check("filled")
	grow(Key("a"), 1, 3)
	grow(Key("ab"), 0, 130)
	check("grown")
	last[Key("a")] = last[Key("a")].Tombstone(group.Recalled, "bob", "typo")
	if err := s.Replace(t.Context(), Key("a"), []*group.Message{last[Key("a")]}); err != nil {
		t.Fatal(err)
	}
	check("recalled")
	if err := s.Drop(t.Context(), Key("b")); err != nil {
		t.Fatal(err)
	}
	delete(last, Key("b"))
	check("dropped")
	grow(Key("b"), 0, 2)
	check("written again")
}

func checkLatest(t *testing.T, s storage.Store) {
	for id, n := range map[group.ID]int{"a": 1, "b": 5, "ab": 12} {
		mustAppend(t, s, NewBatch(Key(id), 0, n))
	}
	keys := []group.Key{Key("b"), Key("none"), Key("a"), Key("ab")}
	ends := mustEnds(t, s, keys...)
	mustAppend(t, s, NewBatch(Key("b"), 5, 2)) // behind the ends
	upTo := func(last group.Seq) func(*group.Message) bool {
		return func(m *group.Message) bool { return m.Seq <= last }
	}
	for _, c := range []struct {
		name  string
		depth int
		keep  func(*group.Message) bool
		want  []group.Seq // 0: nil
	}{
		{"any", 1, nil, []group.Seq{5, 0, 1, 12}},
		{"any, deep", 100, nil, []group.Seq{5, 0, 1, 12}},
		{"older", 100, upTo(4), []group.Seq{4, 0, 1, 4}},
		{"older, shallow", 5, upTo(4), []group.Seq{4, 0, 1, 0}},
		{"just deep enough", 9, upTo(4), []group.Seq{4, 0, 1, 4}},
		{"not deep enough", 8, upTo(4), []group.Seq{4, 0, 1, 0}},
		{"none", 100, upTo(0), []group.Seq{0, 0, 0, 0}},
	} {
		latest, err := s.Latest(t.Context(), ends, c.depth, c.keep)
		if err != nil || len(latest) != len(keys) {
			t.Fatalf("%s: Latest = %v, %v; want %d", c.name, latest, err, len(keys))
		}
		for i, m := range latest {
			var got group.Seq
			if m != nil {
				got = m.Seq
				if m.Key() != keys[i] {
					t.Errorf("%s: Latest()[%d] is of group %v; want %v", c.name, i, m.Key(), keys[i])
				}
			}
			if got != c.want[i] {
				t.Errorf("%s: Latest()[%d] = SEQ %d; want %d", c.name, i, got, c.want[i])
			}
		}
	}
}

func checkReplace(t *testing.T, s storage.Store) {
	key := Key("g")
	b := NewBatch(key, 0, 4)
	mustAppend(t, s, b)
	recalled := b.Messages[1].Tombstone(group.Recalled, "bob", "typo")
	edited := *b.Messages[2]
	edited.Body, edited.Version = []byte(`[]`), 1
	changed := []*group.Message{recalled, &edited, NewMessage(key, 9), NewMessage(key, 5)}
	if err := s.Replace(t.Context(), key, changed, put("settings", "k", "v")); err != nil {
		t.Fatalf("Replace = %v; want nil", err)
	}
	wantLog(t, s, key, []*group.Message{b.Messages[0], recalled, &edited, b.Messages[3]})
	wantValue(t, s, "settings", "k", "v")
	wantTail(t, s, key, 4)
	mustAppend(t, s, NewBatch(key, 4, 1))
	if err := s.Replace(t.Context(), key, nil, put("settings", "k", "w")); err != nil {
		t.Errorf("Replace of nothing with a mutation = %v; want nil", err)
	}
	wantValue(t, s, "settings", "k", "w")
	if err := s.Replace(t.Context(), Key("h"), []*group.Message{NewMessage(Key("h"), 1)}); err != nil {
		t.Errorf("Replace in another group = %v; want nil", err)
	}
	wantLog(t, s, Key("h"), nil)
}

func checkDrop(t *testing.T, s storage.Store) {
	key, next := Key("g"), group.Key{ID: "g", Incarnation: 2}
	past := time.Now().Unix() - 90_000
	mustAppend(t, s, expiring(key, 0, past, past, Never))
	kept := NewBatch(next, 0, 2)
	mustAppend(t, s, kept)
	for range 2 {
		if err := s.Drop(t.Context(), key); err != nil {
			t.Fatalf("Drop = %v; want nil", err)
		}
		wantTail(t, s, key, 0)
		wantLog(t, s, key, nil)
	}
	wantLog(t, s, next, kept.Messages)
	wantMessages(t, "Hour", collect(t, s.Hour(t.Context(), Epoch0)), kept.Messages)
	// What is written late under the old key starts over, and what was left of the old log does not touch it.
	again := NewBatch(key, 0, 2)
	mustAppend(t, s, again)
	sweep(t, s, time.Now().Unix())
	wantLog(t, s, key, again.Messages)
	wantTail(t, s, key, 2)
}

func checkLogOwnership(t *testing.T, s storage.Store) {
	key := Key("g")
	b := NewBatch(key, 0, 1)
	want := *b.Messages[0]
	want.Body = slices.Clone(want.Body)
	value := []byte("value")
	b.Mutations = []storage.Mutation{{Op: storage.Put, Table: "reads", Key: "k", Value: value}}
	mustAppend(t, s, b)
	clear(b.Messages[0].Body)
	clear(value)
	b.Messages[0].From = "mallory"
	wantLog(t, s, key, []*group.Message{&want})
	wantValue(t, s, "reads", "k", "value")
	for m, err := range s.Range(t.Context(), key, 1, 2) {
		if err != nil {
			t.Fatal(err)
		}
		clear(m.Body)
		m.From = "mallory"
	}
	wantLog(t, s, key, []*group.Message{&want})
}

func checkLogCanceled(t *testing.T, s storage.Store) {
	key := Key("g")
	b := NewBatch(key, 0, 2)
	mustAppend(t, s, b)
	ctx := canceled(t)
	first := func(rows func(func(*group.Message, error) bool)) error {
		for _, err := range rows {
			return err
		}
		return nil
	}
	_, headErr := s.Head(ctx, Key("other"))
	_, headsErr := s.Heads(ctx, []group.Key{key})
	_, endsErr := s.Ends(ctx, []group.Key{key})
	_, latestErr := s.Latest(ctx, []storage.End{{Key: key, Head: storage.Head{Tail: 2}}}, 1, nil)
	_, sweepErr := s.Sweep(ctx, Never)
	for name, err := range map[string]error{
		"Append": s.Append(ctx, NewBatch(key, 2, 1)), "Head": headErr, "Heads": headsErr, "Ends": endsErr, "Latest": latestErr,
		"Sweep": sweepErr, "Drop": s.Drop(ctx, key), "Replace": s.Replace(ctx, key, []*group.Message{NewMessage(key, 1)}),
		"Range": first(s.Range(ctx, key, 1, 3)), "RangeDown": first(s.RangeDown(ctx, key, 1, 3)), "Hour": first(s.Hour(ctx, Epoch0)),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a canceled context = %v; want context.Canceled", name, err)
		}
	}
	wantLog(t, s, key, b.Messages)
}

func checkLargeBatch(t *testing.T, s storage.Store) {
	key := Key("g")
	b := NewBatch(key, 0, 500)
	for i, m := range b.Messages {
		m.Body = slices.Repeat([]byte{'"'}, 1+i*24) // 3 MB in all
	}
	mustAppend(t, s, b)
	wantLog(t, s, key, b.Messages)
}
