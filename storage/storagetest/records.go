package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

var recordChecks = []check{
	{"Records/Basics", checkRecordBasics},
	{"Records/Order", checkApplyOrder},
	{"Records/Exists", checkExists},
	{"Records/DeletePrefix", checkDeletePrefix},
	{"Records/GetMany", checkGetMany},
	{"Records/GetAll", checkGetAll},
	{"Records/Shared", checkShared},
	{"Records/Scan", checkScan},
	{"Records/ScanKeys", checkScanKeys},
	{"Records/Ownership", checkRecordOwnership},
	{"Records/Canceled", checkRecordsCanceled},
	{"Records/Large", checkLargeRecord},
	{"Records/Schema", checkSchema},
}

func checkRecordBasics(t *testing.T, s storage.Store) {
	wantNone(t, s, "groups", "k")
	mustApply(t, s, put("groups", "k", "1"))
	wantValue(t, s, "groups", "k", "1")
	wantNone(t, s, "lives", "k")
	wantNone(t, s, "groups", "K")
	mustApply(t, s, put("groups", "k", "2"))
	wantValue(t, s, "groups", "k", "2")
	mustApply(t, s, put("groups", "empty", ""))
	wantValue(t, s, "groups", "empty", "")
	for range 2 {
		mustApply(t, s, remove("groups", "k"))
		wantNone(t, s, "groups", "k")
	}
	mustApply(t, s)
	if err := s.Health(t.Context()); err != nil {
		t.Errorf("Health = %v; want nil", err)
	}
}

func checkApplyOrder(t *testing.T, s storage.Store) {
	mustApply(t, s, put("groups", "a", "1"), put("groups", "a", "2"))
	wantValue(t, s, "groups", "a", "2")
	mustApply(t, s, put("groups", "a", "3"), remove("groups", "a"))
	wantNone(t, s, "groups", "a")
	mustApply(t, s, put("groups", "p:1", "x"), put("groups", "p:2", "x"))
	mustApply(t, s, removePrefix("groups", "p:"), put("groups", "p:2", "y"))
	wantNone(t, s, "groups", "p:1")
	wantValue(t, s, "groups", "p:2", "y")
	mustApply(t, s, put("groups", "p:3", "z"), removePrefix("groups", "p:"))
	wantNone(t, s, "groups", "p:2")
	wantNone(t, s, "groups", "p:3")
	mustApply(t, s, insert("groups", "i", "1"))
	mustApply(t, s, remove("groups", "i"), insert("groups", "i", "2"))
	wantValue(t, s, "groups", "i", "2")
}

func checkExists(t *testing.T, s storage.Store) {
	mustApply(t, s, insert("groups", "a", "1"))
	for range 2 {
		if err := s.Apply(t.Context(), insert("groups", "a", "2")); !errors.Is(err, storage.ErrExists) {
			t.Errorf("Apply of a second Insert = %v; want ErrExists", err)
		}
		wantValue(t, s, "groups", "a", "1")
	}
	mustApply(t, s, insert("lives", "a", "3"))
	err := s.Apply(t.Context(), put("groups", "before", "x"), insert("groups", "a", "4"), put("groups", "after", "x"))
	if !errors.Is(err, storage.ErrExists) {
		t.Errorf("Apply with an Insert of a record that exists = %v; want ErrExists", err)
	}
	wantNone(t, s, "groups", "after")
	wantValue(t, s, "groups", "a", "1")
	mustApply(t, s, put("groups", "a", "5"))
	mustApply(t, s, remove("groups", "a"))
	mustApply(t, s, insert("groups", "a", "6"))
	wantValue(t, s, "groups", "a", "6")
	if err := s.Apply(t.Context(), insert("groups", "twice", "1"), insert("groups", "twice", "2")); !errors.Is(err, storage.ErrExists) {
		t.Errorf("Apply of the same Insert twice = %v; want ErrExists", err)
	}
}

func checkDeletePrefix(t *testing.T, s storage.Store) {
	keys := []string{"a", "a:", "a:1", "a:1:x", "a:2", "a;", "ab", "b", "", "~", "a%3A1"}
	fill := func() {
		for _, key := range keys {
			if key != "" {
				mustApply(t, s, put("members", key, "v"))
			}
			mustApply(t, s, put("mutes", "x"+key, "v"))
		}
	}
	for _, prefix := range []string{"a:", "a", "a:1", "~", "none", ""} {
		fill()
		mustApply(t, s, removePrefix("members", prefix))
		for _, key := range keys {
			switch {
			case key == "":
			case strings.HasPrefix(key, prefix):
				wantNone(t, s, "members", key)
			default:
				wantValue(t, s, "members", key, "v")
			}
			wantValue(t, s, "mutes", "x"+key, "v")
		}
	}
}

func checkGetMany(t *testing.T, s storage.Store) {
	for i := range 50 {
		mustApply(t, s, put("groups", fmt.Sprint("k", i), fmt.Sprint("v", i)))
	}
	mustApply(t, s, put("groups", "empty", ""), put("lives", "only", "x"))
	keys := []string{"k7", "none", "k3", "k7", "empty", "k49", "only", "k0"}
	values, err := s.GetMany(t.Context(), "groups", keys)
	if err != nil || len(values) != len(keys) {
		t.Fatalf("GetMany = %q, %v; want %d values", values, err, len(keys))
	}
	for i, want := range []any{"v7", nil, "v3", "v7", "", "v49", nil, "v0"} {
		if want == nil {
			if values[i] != nil {
				t.Errorf("GetMany()[%d] = %q; want nil", i, values[i])
			}
		} else if values[i] == nil || string(values[i]) != want {
			t.Errorf("GetMany()[%d] = %q (nil: %t); want %q", i, values[i], values[i] == nil, want)
		}
	}
	if values, err := s.GetMany(t.Context(), "groups", nil); err != nil || len(values) != 0 {
		t.Errorf("GetMany of nothing = %q, %v; want nothing", values, err)
	}
}

// checkGetAll asks several tables at once, some of which have records under the same keys.
func checkGetAll(t *testing.T, s storage.Store) {
	tables := append([]string{"lives", "trash"}, storage.LoginTables...)
	for _, table := range tables {
		for i := range 8 {
			mustApply(t, s, put(table, fmt.Sprint("k", i), fmt.Sprint(table, i)))
		}
	}
	mustApply(t, s, put("members", "empty", ""), remove("reads", "k3"), removePrefix("sends", "k4"), put("views", "k5", "new"))
	var refs []storage.Ref
	var want []string
	for _, i := range rand.Perm(9 * len(tables)) {
		table, key := tables[i%len(tables)], fmt.Sprint("k", i/len(tables))
		refs = append(refs, storage.Ref{Table: table, Key: key})
		switch {
		case key == "k8", table == "reads" && key == "k3", table == "sends" && key == "k4":
			want = append(want, "none")
		case table == "views" && key == "k5":
			want = append(want, "new")
		default:
			want = append(want, table+key[1:])
		}
	}
	refs = append(refs, storage.Ref{Table: "members", Key: "empty"}, refs[0])
	want = append(want, "", want[0])
	values, err := s.GetAll(t.Context(), refs)
	if err != nil || len(values) != len(refs) {
		t.Fatalf("GetAll = %d values, %v; want %d", len(values), err, len(refs))
	}
	for i, v := range values {
		if got := string(v); v == nil && want[i] != "none" || v != nil && got != want[i] {
			t.Errorf("GetAll()[%d], %v = %q (nil: %t); want %q", i, refs[i], v, v == nil, want[i])
		}
	}
	if values, err := s.GetAll(t.Context(), nil); err != nil || len(values) != 0 {
		t.Errorf("GetAll of nothing = %q, %v; want nothing", values, err)
	}
	clear(values[len(values)-1])
	if again, err := s.GetAll(t.Context(), refs); err != nil || string(again[0]) != want[0] && want[0] != "none" {
		t.Errorf("GetAll after its answer was changed = %q, %v; want %q", again[0], err, want[0])
	}
}

// askShared reads the names of groups as those who share the records do; "" for none.
func askShared(t *testing.T, s storage.Store, ids ...string) (names []string) {
	t.Helper()
	var q storage.Query
	found := storage.Groups.AskShared(&q, ids)
	whether := storage.Groups.AskWhether(&q, ids)
	own := storage.Groups.Ask(&q, ids)
	if err := q.Run(t.Context(), s); err != nil {
		t.Fatalf("Run = %v; want nil", err)
	}
	for i, g := range found {
		if whether[i] != (g != nil) || (own[i] == nil) != (g == nil) || g != nil && own[i].Name != g.Name {
			t.Errorf("group %s: shared %+v, there: %t, own %+v", ids[i], g, whether[i], own[i])
		}
		if g == nil {
			names = append(names, "")
		} else {
			names = append(names, g.Name)
		}
	}
	return names
}

// checkShared changes records that many share by every way of writing.
func checkShared(t *testing.T, s storage.Store) {
	ids := []string{"a", "b", "a:1", "a", "none"}
	want := func(what string, names ...string) {
		t.Helper()
		for range 2 { // the second answer may be a remembered one
			if got := askShared(t, s, ids...); !slices.Equal(got, names) {
				t.Errorf("%s: %q; want %q", what, got, names)
			}
		}
	}
	record := func(id, name string) storage.Mutation {
		return storage.Groups.Put(id, &group.Group{ID: group.ID(id), Name: name})
	}
	want("empty", "", "", "", "", "")
	mustApply(t, s, storage.Groups.Insert("a", &group.Group{Name: "1"}), record("a:1", "x"))
	want("inserted", "1", "", "x", "1", "")
	mustApply(t, s, record("a", "2"), record("b", "3"))
	want("put", "2", "3", "x", "2", "")
	b := NewBatch(Key("g"), 0, 2)
	b.Mutations = []storage.Mutation{record("a", "4")}
	mustAppend(t, s, b)
	want("put by Append", "4", "3", "x", "4", "")
	if err := s.Replace(t.Context(), Key("g"), b.Messages[:1], record("b", "5")); err != nil {
		t.Fatal(err)
	}
	want("put by Replace", "4", "5", "x", "4", "")
	mustApply(t, s, storage.Groups.Delete("b"))
	want("deleted", "4", "", "x", "4", "")
	mustApply(t, s, storage.Groups.DeletePrefix("a:"))
	want("deleted by prefix", "4", "", "", "4", "")
	if err := s.Apply(t.Context(), storage.Groups.Insert("a", &group.Group{Name: "6"})); !errors.Is(err, storage.ErrExists) {
		t.Errorf("Apply of an Insert = %v; want ErrExists", err)
	}
	want("refused", "4", "", "", "4", "")
}

// checkScan compares every kind of span with a sorted slice.
func checkScan(t *testing.T, s storage.Store) {
	var keys []string
	for _, a := range []string{"a", "a b", "a%3A", "ab", "b", "~"} {
		for _, b := range []string{"", ":0", ":1", ":10", ":2", ":~"} {
			keys = append(keys, a+b)
		}
	}
	slices.Sort(keys)
	for _, i := range rand.Perm(len(keys)) {
		mustApply(t, s, put("members", keys[i], "v"+keys[i]), put("mutes", "x", "y"))
	}
	for _, prefix := range []string{"", "a", "a:", "a:1", "ab:", "b:10", "none", "~"} {
		for _, after := range []string{"", "a", "a:", "a:1", "a:10", "a:11", "ab", "b:2", "~:~", "~~", "A"} {
			for _, limit := range []int{0, 1, 3, 100} {
				for _, reverse := range []bool{false, true} {
					span := storage.Span{Prefix: prefix, After: after, Limit: limit, Reverse: reverse}
					got := collect(t, s.Scan(t.Context(), "members", span))
					checkRecords(t, span, got, inSpan(keys, span))
				}
			}
		}
	}
	if got := collect(t, s.Scan(t.Context(), "lives", storage.Span{})); len(got) != 0 {
		t.Errorf("Scan of an empty table: %d records; want none", len(got))
	}
	n := 0
	for _, err := range s.Scan(t.Context(), "members", storage.Span{}) {
		if n++; n == 2 || err != nil {
			break
		}
	}
	if n != 2 {
		t.Errorf("Scan stopped after two: %d records", n)
	}
}

func checkRecords(t *testing.T, span storage.Span, got []storage.Record, want []string) {
	t.Helper()
	var keys []string
	for _, r := range got {
		keys = append(keys, r.Key)
		if string(r.Value) != "v"+r.Key {
			t.Errorf("Scan(%+v): record %q has value %q", span, r.Key, r.Value)
		}
	}
	if !slices.Equal(keys, want) {
		t.Errorf("Scan(%+v) = %q; want %q", span, keys, want)
	}
}

func inSpan(sorted []string, span storage.Span) (in []string) {
	keys := slices.Clone(sorted)
	if span.Reverse {
		slices.Reverse(keys)
	}
	for _, key := range keys {
		after := span.After == "" || (!span.Reverse && key > span.After) || (span.Reverse && key < span.After)
		if strings.HasPrefix(key, span.Prefix) && after && (span.Limit == 0 || len(in) < span.Limit) {
			in = append(in, key)
		}
	}
	return in
}

// checkScanKeys scans records whose keys' parts have the characters that separate parts.
func checkScanKeys(t *testing.T, s storage.Store) {
	parts := []string{"a", "a:", "a:b", "b", "%", ":", "a%3A", " ", "#", "/", "$x", "x.y"}
	for _, p := range parts {
		for _, q := range parts {
			mustApply(t, s, put("joined", storage.Key(p, q), p+"|"+q))
		}
	}
	for _, p := range parts {
		got := collect(t, s.Scan(t.Context(), "joined", storage.Span{Prefix: storage.Prefix(p)}))
		if len(got) != len(parts) {
			t.Errorf("Scan of %q: %d records; want %d", p, len(got), len(parts))
		}
		for _, r := range got {
			k, err := storage.SplitKey(r.Key)
			if err != nil || len(k) != 2 || k[0] != p || string(r.Value) != k[0]+"|"+k[1] {
				t.Errorf("Scan of %q: record %q (%q, %v) = %q", p, r.Key, k, err, r.Value)
			}
		}
	}
}

func checkRecordOwnership(t *testing.T, s storage.Store) {
	value := []byte("value")
	mustApply(t, s, storage.Mutation{Op: storage.Put, Table: "groups", Key: "k", Value: value})
	clear(value)
	wantValue(t, s, "groups", "k", "value")
	got, err := s.Get(t.Context(), "groups", "k")
	if err != nil {
		t.Fatal(err)
	}
	clear(got)
	for r, err := range s.Scan(t.Context(), "groups", storage.Span{}) {
		if err != nil {
			t.Fatal(err)
		}
		clear(r.Value)
	}
	many, err := s.GetMany(t.Context(), "groups", []string{"k"})
	if err != nil {
		t.Fatal(err)
	}
	clear(many[0])
	wantValue(t, s, "groups", "k", "value")
}

func checkRecordsCanceled(t *testing.T, s storage.Store) {
	mustApply(t, s, put("groups", "k", "v"))
	ctx := canceled(t)
	_, getErr := s.Get(ctx, "groups", "k")
	_, manyErr := s.GetMany(ctx, "groups", []string{"k"})
	_, allErr := s.GetAll(ctx, []storage.Ref{{Table: "groups", Key: "k"}})
	var scanErr error
	for _, scanErr = range s.Scan(ctx, "groups", storage.Span{}) {
		break
	}
	for name, err := range map[string]error{
		"Get": getErr, "GetMany": manyErr, "GetAll": allErr, "Scan": scanErr, "Apply": s.Apply(ctx, put("groups", "k", "w")), "Health": s.Health(ctx),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a canceled context = %v; want context.Canceled", name, err)
		}
	}
	wantValue(t, s, "groups", "k", "v")
}

func checkLargeRecord(t *testing.T, s storage.Store) {
	value := strings.Repeat("0123456789abcdef", 1<<16)
	mustApply(t, s, put("settings", "large", value), put("settings", "small", "x"))
	wantValue(t, s, "settings", "large", value)
}

func checkSchema(t *testing.T, s storage.Store) {
	for range 2 {
		if err := storage.CheckSchema(t.Context(), s); err != nil {
			t.Fatalf("CheckSchema = %v; want nil", err)
		}
	}
	mustApply(t, s, storage.Settings.Put("schema", &storage.Setting{Value: storage.Num(storage.SchemaVersion + 1)}))
	if err := storage.CheckSchema(t.Context(), s); err == nil {
		t.Error("CheckSchema of a newer schema = nil; want a *SchemaError")
	} else if _, ok := errors.AsType[*storage.SchemaError](err); !ok {
		t.Errorf("CheckSchema of a newer schema = %v; want a *SchemaError", err)
	}
}
