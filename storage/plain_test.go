package storage

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/rookery-im/rookery/group"
)

// FuzzPlain compares what the plain decoders take with encoding/json.
func FuzzPlain(f *testing.F) {
	for _, v := range []any{
		JoinedGroup{},
		JoinedGroup{ID: "g1", Incarnation: 1, Type: group.Public, JoinTime: 1669000000, JoinSeq: 3, Receive: 2, Role: 300 % 256},
		group.Member{},
		group.Member{Account: "alice", Role: 2, JoinTime: -1, JoinSeq: 1 << 40, Receive: 1, NameCard: "Al"},
		group.Member{Account: "b", NameCard: "ü\"", Custom: []group.Field{{Key: "k", Value: "v"}}},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{
		``, `{`, `{}`, `{}x`, `{"id":"a"`, `{"id":"a",}`, `{"id":1}`, `{"inc":"1"}`, `{"ID":"a"}`, `{"id":"a","id":"b"}`, `{"role":256}`, `{"role":-1}`, `{"role":-0}`, `{"role":"1"}`,
		`{"inc":01}`, `{"inc":-0}`, `{"inc":-}`, `{"inc":1.5}`, `{"inc":1e3}`, `{"inc":9223372036854775808}`, `{"inc":null}`, `{"id":"\u0041"}`, `{"id":"é"}`, `{"x":1}`,
		` {"id":"a"}`, `{"id" :"a"}`, `{"id":""}`, `{"acct":"","card":""}`, `{"custom":[]}`, `{"inc":1]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for table, fresh := range map[string]func() any{"joined": func() any { return new(JoinedGroup) }, "members": func() any { return new(group.Member) }} {
			got, want := fresh(), fresh()
			if !plainDecoders[table](b, got) {
				continue
			}
			if err := json.Unmarshal(b, want); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %q = %+v; encoding/json: %+v, %v", table, b, got, want, err)
			}
		}
	})
}

// TestPlainTakesWhatWeWrite sees to it that the plain decoders are of use.
func TestPlainTakesWhatWeWrite(t *testing.T) {
	joined := Joined.Put("k", &JoinedGroup{ID: "g1", Incarnation: 1, Type: group.Public, JoinTime: 1669000000, JoinSeq: 3, Receive: 2, Role: 1})
	member := Members.Put("k", &group.Member{Account: "alice", Role: 2, JoinTime: 1669000000, JoinSeq: 3, Receive: 1, NameCard: "Al"})
	if !plainDecoders[Joined.Name](joined.Value, new(JoinedGroup)) || !plainDecoders[Members.Name](member.Value, new(group.Member)) {
		t.Errorf("%s or %s is left to encoding/json", joined.Value, member.Value)
	}
}

func BenchmarkDecodeJoined(b *testing.B) {
	value := Joined.Put("k", &JoinedGroup{ID: "group1", Incarnation: 1, Type: group.Public, JoinTime: 1669000000, JoinSeq: 3, Role: 1}).Value
	for b.Loop() {
		if _, err := Joined.decode("k", value); err != nil {
			b.Fatal(err)
		}
	}
}
