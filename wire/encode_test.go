package wire

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"
)

type answer struct {
	ActionStatus string `json:"ActionStatus"`
	ErrorCode    int    `json:"ErrorCode"`
}

type memberRecord struct {
	Account  string `json:"Member_Account" alias:"Account" wire:"always" doc:"Who it is."`
	Muted    uint32 `json:"MuteUntil" also:"ShutUpUntil"`
	NameCard string `json:"NameCard,omitempty"`
}

type infoAnswer struct {
	answer

	Next    int64             `json:"Next" wire:"int32"`
	Pages   []uint64          `json:"Pages,omitempty" wire:"int32"`
	All     string            `json:"MuteAllMember,omitempty" also:"ShutUpAllMember,MutedAll"`
	Members []memberRecord    `json:"MemberList" also:"Members"`
	Body    json.RawMessage   `json:"MsgBody"`
	Place   float64           `json:"Place,omitzero"`
	Since   time.Time         `json:"Since,omitzero"`
	Unread  *int64            `json:"Unread"`
	Attrs   map[string]string `json:"Attrs"`
	Any     any               `json:"Any"`
	Upper   upper             `json:"Upper,omitempty"`
	Role    role              `json:"Role,omitempty"`
	Lit     json.Number       `json:"Lit,omitempty"`
	Seqs    []*int64          `json:"Seqs,omitempty"`
	On      bool              `json:"On,omitempty"`
}

func TestMarshal(t *testing.T) {
	const head = `{"ActionStatus":"","ErrorCode":0,"Next":0,`
	const lists = `"MemberList":[],"Members":[],"MsgBody":[]`
	tests := map[string]struct {
		in   infoAnswer
		want string
	}{
		"zero": {infoAnswer{}, head + lists + `}`},
		"both generations": {
			infoAnswer{answer: answer{"OK", 7}, All: "On", Members: []memberRecord{{"a", math.MaxUint32, ""}, {"b", 0, "B"}}},
			`{"ActionStatus":"OK","ErrorCode":7,"Next":0,"MuteAllMember":"On","ShutUpAllMember":"On","MutedAll":"On",` +
				`"MemberList":[{"Member_Account":"a","MuteUntil":4294967295,"ShutUpUntil":4294967295},{"Member_Account":"b","MuteUntil":0,"ShutUpUntil":0,"NameCard":"B"}],` +
				`"Members":[{"Member_Account":"a","MuteUntil":4294967295,"ShutUpUntil":4294967295},{"Member_Account":"b","MuteUntil":0,"ShutUpUntil":0,"NameCard":"B"}],"MsgBody":[]}`,
		},
		"zero behind a pointer": {infoAnswer{Unread: new(int64(0))}, head + lists + `,"Unread":0}`},
		"maps":                  {infoAnswer{Attrs: map[string]string{"b": "2", "a": "1"}}, head + lists + `,"Attrs":{"a":"1","b":"2"}}`},
		"empty map":             {infoAnswer{Attrs: map[string]string{}}, head + lists + `,"Attrs":{}}`},
		"nil in lists and maps": {
			infoAnswer{Seqs: []*int64{nil, new(int64(1)), nil, new(int64(2)), nil}, Any: map[string]any{"a": nil, "b": []string(nil), "c": map[string]int(nil)}},
			head + lists + `,"Any":{"b":[]},"Seqs":[1,2]}`,
		},
		"int32 limits":        {infoAnswer{Next: math.MinInt32, Pages: []uint64{math.MaxInt32}}, `{"ActionStatus":"","ErrorCode":0,"Next":-2147483648,"Pages":[2147483647],` + lists + `}`},
		"raw":                 {infoAnswer{Body: json.RawMessage(" [ {\"a b\" :\n1.0} ] ")}, head + `"MemberList":[],"Members":[],"MsgBody":[{"a b":1.0}]}`},
		"raw null":            {infoAnswer{Body: json.RawMessage(`null`)}, head + `"MemberList":[],"Members":[]}`},
		"no escapes for HTML": {infoAnswer{All: `<a href="x">&</a>`}, head + `"MuteAllMember":"<a href=\"x\">&</a>","ShutUpAllMember":"<a href=\"x\">&</a>","MutedAll":"<a href=\"x\">&</a>",` + lists + `}`},
		"own methods":         {infoAnswer{Upper: "ABC", Role: 2, Lit: "1.50", On: true, Since: time.Unix(0, 0).UTC()}, head + lists + `,"Since":"1970-01-01T00:00:00Z","Upper":"abc","Role":"role2","Lit":1.50,"On":true}`},
		"float":               {infoAnswer{Place: 1e-7}, head + lists + `,"Place":1e-7}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, v := range []any{tt.in, &tt.in} {
				got, err := Marshal(v)
				if err != nil || string(got) != tt.want || !json.Valid(got) {
					t.Errorf("Marshal(%T) = %v\n got %s\nwant %s", v, err, got, tt.want)
				}
			}
		})
	}
}

// What needs no rule of ours comes out byte for byte as from encoding/json.
func TestMarshalLikeEncodingJSON(t *testing.T) {
	for _, v := range []any{
		"", "a\"\\\b\f\n\r\t\x00\x1f\x7f/é😀\u2028\u2029", "\ufffd",
		0.0, 1.5, -1e20, 1e21, 2.5e-9, 1e-10, float32(1e-7), 123456789.125, math.MaxInt64, int64(math.MinInt64), uint64(math.MaxUint64), true,
		[]int{1, 2},
		map[string]int{"b": 1, "a": 2},
		struct{ A, B string }{"x", "y"},
		time.Unix(1, 5),
	} {
		got, err := Marshal(v)
		want, wantErr := json.Marshal(v)
		if err != nil || wantErr != nil || string(got) != string(want) {
			t.Errorf("Marshal(%#v) = %s, %v; want %s, %v", v, got, err, want, wantErr)
		}
	}
	if got, err := Marshal("a\xffb"); err != nil || string(got) != `"a\ufffdb"` {
		t.Errorf("invalid UTF-8: %s, %v", got, err)
	}
}

func TestMarshalError(t *testing.T) {
	type loop struct{ Next *loop }
	endless := &loop{}
	endless.Next = endless
	tests := map[string]struct {
		in   any
		want string
	}{
		"nil":               {nil, "wire: type nil: nothing to encode"},
		"nil pointer":       {(*answer)(nil), "wire: type *wire.answer: nil: nothing to encode"},
		"needs 33 bits":     {infoAnswer{Next: math.MaxInt32 + 1}, "wire: Next is out of range: want integer of 32 bits, signed"},
		"needs 33 bits too": {infoAnswer{Next: math.MinInt32 - 1}, "wire: Next is out of range: want integer of 32 bits, signed"},
		"in a list":         {infoAnswer{Pages: []uint64{1, 1 << 31}}, "wire: Pages[1] is out of range: want integer of 32 bits, signed"},
		"not a number":      {struct{ F float64 }{math.NaN()}, "wire: F is out of range: want finite number"},
		"bad raw":           {infoAnswer{Body: json.RawMessage(`[1`)}, "wire: bad JSON at byte 2: unexpected end"},
		"two in raw":        {infoAnswer{Body: json.RawMessage(`[1] 2`)}, "wire: bad JSON at byte 4: text after the value"},
		"raw not UTF-8":     {infoAnswer{Body: json.RawMessage("[\"\xff\"]")}, "wire: bad JSON at byte 2: invalid UTF-8"},
		"endless":           {endless, "wire: type *wire.loop: nested too deep, or without end"},
		"channel in any":    {infoAnswer{Any: make(chan int)}, "wire: type chan int: not supported"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Append([]byte("x"), tt.in)
			if err == nil || err.Error() != tt.want || string(got) != "x" {
				t.Errorf("Append = %s, %v; want x, %s", got, err, tt.want)
			}
		})
	}
}

func TestPick(t *testing.T) {
	all := `{"Member_Account":"a","MuteUntil":7,"ShutUpUntil":7,"NameCard":"A"}`
	tests := map[string]struct {
		names []string
		want  string
	}{
		"none":               {nil, all},
		"empty":              {[]string{}, all},
		"unknown":            {[]string{"x"}, `{"Member_Account":"a"}`},
		"new name":           {[]string{"MuteUntil"}, `{"Member_Account":"a","MuteUntil":7,"ShutUpUntil":7}`},
		"old name":           {[]string{"ShutUpUntil"}, `{"Member_Account":"a","MuteUntil":7,"ShutUpUntil":7}`},
		"old name, in small": {[]string{"shutupuntil"}, `{"Member_Account":"a","MuteUntil":7,"ShutUpUntil":7}`},
		"alias":              {[]string{"Account", "NameCard"}, `{"Member_Account":"a","NameCard":"A"}`},
		"twice, any order":   {[]string{"NameCard", "MuteUntil", "NameCard"}, all},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := memberRecord{"a", 7, "A"}
			for _, v := range []any{m, &m} {
				got, err := Pick(v, tt.names)
				if err != nil || string(got) != tt.want {
					t.Errorf("Pick(%T, %q) = %s, %v; want %s", v, tt.names, got, err, tt.want)
				}
			}
		})
	}
	for name, v := range map[string]any{"nil": nil, "nil pointer": (*memberRecord)(nil), "no struct": 7} {
		if got, err := Pick(v, nil); err == nil {
			t.Errorf("Pick(%s) = %s, want an error", name, got)
		}
	}
}

func TestFilterWrongType(t *testing.T) {
	f, err := NewFilter(reflect.TypeFor[memberRecord](), []string{"MuteUntil"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Append([]byte("x"), answer{})
	if _, ok := errors.AsType[*TypeError](err); !ok || string(got) != "x" {
		t.Errorf("Append = %s, %v; want x and a *TypeError", got, err)
	}
}

func TestFields(t *testing.T) {
	type tree struct {
		Account string            `json:"From_Account" wire:"required,account" doc:"The sender."`
		Value   string            `json:"Value" wire:"text"`
		Mute    *int64            `json:"MuteTime" alias:"ShutUpTime,ShutUpUntil" also:"ShutUpTime"`
		Next    int64             `json:"Next,omitempty" wire:"int32"`
		Random  uint32            `json:"Random"`
		Body    json.RawMessage   `json:"MsgBody" type:"array"`
		Raw     json.RawMessage   `json:"Raw"`
		Kids    []tree            `json:"Kids"`
		Members []*memberRecord   `json:"Members"`
		Attrs   map[string]string `json:"Attrs"`
		Role    role              `json:"Role"`
		Upper   upper             `json:"Upper"`
		Place   float64           `json:"Place"`
		On      bool              `json:"On"`
	}
	record := TypeDoc{JSON: "object", Go: "memberRecord", Fields: []FieldDoc{
		{Name: "Member_Account", Aliases: []string{"Account"}, Always: true, Doc: "Who it is.", Type: TypeDoc{JSON: "string"}},
		{Name: "MuteUntil", Also: []string{"ShutUpUntil"}, Type: TypeDoc{JSON: "integer", Format: "uint32"}},
		{Name: "NameCard", Omittable: true, Type: TypeDoc{JSON: "string"}},
	}}
	want := []FieldDoc{
		{Name: "From_Account", Doc: "The sender.", Required: true, Account: true, Type: TypeDoc{JSON: "string"}},
		{Name: "Value", Number: true, Type: TypeDoc{JSON: "string"}},
		{Name: "MuteTime", Aliases: []string{"ShutUpTime", "ShutUpUntil"}, Also: []string{"ShutUpTime"}, Omittable: true, ZeroIsValue: true, Type: TypeDoc{JSON: "integer", Format: "int64"}},
		{Name: "Next", Omittable: true, Type: TypeDoc{JSON: "integer", Format: "int32"}},
		{Name: "Random", Type: TypeDoc{JSON: "integer", Format: "uint32"}},
		{Name: "MsgBody", Type: TypeDoc{JSON: "array"}},
		{Name: "Raw"},
		{Name: "Kids", Type: TypeDoc{JSON: "array", Elem: &TypeDoc{JSON: "object", Go: "tree", Recursive: true}}},
		{Name: "Members", Type: TypeDoc{JSON: "array", Elem: &record}},
		{Name: "Attrs", Omittable: true, Type: TypeDoc{JSON: "object", Elem: &TypeDoc{JSON: "string"}}},
		{Name: "Role", Type: TypeDoc{JSON: "string"}},
		{Name: "Upper"},
		{Name: "Place", Type: TypeDoc{JSON: "number"}},
		{Name: "On", Type: TypeDoc{JSON: "boolean"}},
	}
	got := Fields(reflect.TypeFor[*tree]())
	if len(got) != len(want) {
		t.Fatalf("Fields has %d members, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("Fields[%d]\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
	if got := Fields(reflect.TypeFor[chan int]()); got != nil {
		t.Errorf("Fields(chan int) = %v, want nil", got)
	}
}
