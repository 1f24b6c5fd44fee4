package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// upper has its own JSON form; its method has a pointer as receiver.
type upper string

func (u *upper) UnmarshalJSON(b []byte) error {
	if string(b) == `"no"` {
		return errors.New("no such thing")
	}
	*u = upper(strings.ToUpper(strings.Trim(string(b), `"`)))
	return nil
}

func (u *upper) MarshalJSON() ([]byte, error) {
	return json.Marshal(strings.ToLower(string(*u)))
}

// role has a text form.
type role int

func (r *role) UnmarshalText(b []byte) error {
	switch string(b) {
	case "Owner":
		*r = 1
	case "a\"b":
		*r = 2
	default:
		return errors.New("unknown role")
	}
	return nil
}

func (r role) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "role%d", int(r)), nil }

type common struct {
	TopicID string `json:"TopicId"`
}

type entryRequest struct {
	Account string `json:"Member_Account" wire:"account"`
	Role    string `json:"Role"`
	Unread  *int64 `json:"UnreadMsgNum"`
}

type request struct {
	common

	Group   string                     `json:"GroupId"`
	Mute    *int64                     `json:"MuteTime" alias:"ShutUpTime,ShutUpUntil"`
	Filter  string                     `json:"GroupType" alias:"Type"`
	Count   int64                      `json:"Count" alias:"Num"`
	Random  uint32                     `json:"Random"`
	Small   int8                       `json:"Small"`
	Flag    bool                       `json:"Flag"`
	Place   float64                    `json:"Longitude"`
	Value   string                     `json:"Value" wire:"text"`
	From    string                     `json:"From_Account" wire:"account"`
	To      []string                   `json:"To_Account" wire:"account"`
	Seqs    []int64                    `json:"Seqs"`
	Names   []string                   `json:"Names"`
	List    []entryRequest             `json:"MemberList"`
	Push    *entryRequest              `json:"OfflinePushInfo"`
	Nested  entryRequest               `json:"Nested"`
	Body    json.RawMessage            `json:"MsgBody" type:"array"`
	Raw     json.RawMessage            `json:"Raw"`
	Extra   map[string]string          `json:"Extra"`
	RawMap  map[string]json.RawMessage `json:"RawMap"`
	Any     any                        `json:"Any"`
	Upper   upper                      `json:"Upper"`
	Role    role                       `json:"Role"`
	Lit     json.Number                `json:"Lit"`
	Hidden  string                     `json:"-"`
	private string                     //nolint:unused // that it is there and left alone is the point
}

func TestUnmarshal(t *testing.T) {
	tests := map[string]struct {
		in   string
		want request
	}{
		"empty object":               {`{}`, request{}},
		"white space":                {" \t\r\n{ } \n", request{}},
		"plain":                      {`{"GroupId":"g1","Random":4294967295,"Small":-128,"Flag":true,"Longitude":-1.5e1}`, request{Group: "g1", Random: 4294967295, Small: -128, Flag: true, Place: -15}},
		"embedded":                   {`{"TopicId":"t"}`, request{common: common{"t"}}},
		"unknown members":            {`{"x":{"y":[1,{"z":null}]},"GroupId":"g","ClientSeq":1e999}`, request{Group: "g"}},
		"escapes":                    {`{"GroupId":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83d!\ud83d\u0041"}`, request{Group: "\"\\/\b\f\n\r\té😀\ufffd!\ufffdA"}},
		"escaped name":               {`{"\u0047roupId":"g"}`, request{Group: "g"}},
		"second generation":          {`{"ShutUpTime":60}`, request{Mute: new(int64(60))}},
		"third alias":                {`{"ShutUpUntil":61}`, request{Mute: new(int64(61))}},
		"zero is a command":          {`{"ShutUpTime":0}`, request{Mute: new(int64(0))}},
		"canonical first":            {`{"MuteTime":1,"ShutUpTime":2}`, request{Mute: new(int64(1))}},
		"canonical last":             {`{"ShutUpTime":2,"MuteTime":1}`, request{Mute: new(int64(1))}},
		"canonical zero command":     {`{"ShutUpTime":2,"MuteTime":0}`, request{Mute: new(int64(0))}},
		"aliases in their order":     {`{"ShutUpUntil":3,"ShutUpTime":2}`, request{Mute: new(int64(2))}},
		"canonical null":             {`{"MuteTime":null,"ShutUpTime":2}`, request{Mute: new(int64(2))}},
		"canonical not given":        {`{"GroupType":"","Type":"Public"}`, request{Filter: "Public"}},
		"canonical not given, last":  {`{"Type":"Public","GroupType":""}`, request{Filter: "Public"}},
		"all three, zeros":           {`{"Num":7,"Count":0,"count":0}`, request{Count: 7}},
		"other case":                 {`{"groupid":"g","MUTETIME":5}`, request{Group: "g", Mute: new(int64(5))}},
		"other case of an alias":     {`{"shutuptime":5}`, request{Mute: new(int64(5))}},
		"exact before other case":    {`{"GroupId":"a","groupid":"b"}`, request{Group: "a"}},
		"canonical before alias":     {`{"ShutUpTime":2,"mutetime":1}`, request{Mute: new(int64(1))}},
		"repeated":                   {`{"GroupId":"a","GroupId":"b"}`, request{Group: "b"}},
		"repeated zero":              {`{"Count":5,"Count":0}`, request{Count: 0}},
		"repeated null":              {`{"Count":5,"Count":null}`, request{Count: 5}},
		"repeated list":              {`{"Seqs":[1,2,3],"Seqs":[4]}`, request{Seqs: []int64{4}}},
		"repeated struct":            {`{"Nested":{"Role":"a"},"Nested":{"Member_Account":"b"}}`, request{Nested: entryRequest{Account: "b"}}},
		"null everywhere":            {`{"GroupId":null,"MuteTime":null,"Random":null,"Flag":null,"Longitude":null,"Value":null,"From_Account":null,"To_Account":null,"MemberList":null,"OfflinePushInfo":null,"Nested":null,"MsgBody":null,"Raw":null,"Extra":null,"Any":null,"Upper":null,"Role":null,"Lit":null}`, request{}},
		"empty string everywhere":    {`{"GroupId":"","MuteTime":"","Random":"","Flag":"","Longitude":"","Value":"","From_Account":"","To_Account":"","MemberList":"","OfflinePushInfo":"","Nested":"","MsgBody":"","Extra":"","Role":"","Lit":""}`, request{}},
		"zero everywhere":            {`{"GroupId":0,"Random":0,"Flag":0,"Longitude":0,"Names":0,"MemberList":0,"OfflinePushInfo":0,"Nested":0,"MsgBody":0,"Extra":0,"Role":0}`, request{}},
		"empty list everywhere":      {`{"GroupId":[],"MuteTime":[ ],"Random":[],"Flag":[],"Longitude":[],"Value":[],"From_Account":[],"OfflinePushInfo":[],"Nested":[],"Extra":[],"Role":[]}`, request{}},
		"empty lists":                {`{"To_Account":[],"Names":[ ],"MemberList":[],"MsgBody":[ ]}`, request{To: []string{}, Names: []string{}, List: []entryRequest{}, Body: json.RawMessage(`[]`)}},
		"numeric strings":            {`{"Count":"-12","Random":"4294967295","MuteTime":"0","Longitude":"1.5","Flag":"1","Seqs":["1",2]}`, request{Count: -12, Random: 4294967295, Mute: new(int64(0)), Place: 1.5, Flag: true, Seqs: []int64{1, 2}}},
		"integral numbers":           {`{"Count":3.0,"Random":1e3,"Small":0.12E+2,"Seqs":[1200e-2,-0,0e9999999999999999999,9223372036854775807,"3.0",-9.2e18]}`, request{Count: 3, Random: 1000, Small: 12, Seqs: []int64{12, 0, 0, 9223372036854775807, 3, -9200000000000000000}}},
		"booleans as integers":       {`{"Count":true,"Random":false,"Flag":1}`, request{Count: 1, Flag: true}},
		"text":                       {`{"Value":"a"}`, request{Value: "a"}},
		"number as text":             {`{"Value":1.50e2}`, request{Value: "1.50e2"}},
		"objects":                    {`{"MemberList":[{"Member_Account":"a","x":1},{"member_account":"b","UnreadMsgNum":0},null]}`, request{List: []entryRequest{{Account: "a"}, {Account: "b", Unread: new(int64(0))}, {}}}},
		"five strings":               {`{"To_Account":["a","b","c","d","e"]}`, request{To: []string{"a", "b", "c", "d", "e"}}},
		"pointer to struct":          {`{"OfflinePushInfo":{}}`, request{Push: &entryRequest{}}},
		"raw kept":                   {`{"MsgBody":[{"MsgType":"TIMTextElem","a":1.0e0}]}`, request{Body: json.RawMessage(`[{"MsgType":"TIMTextElem","a":1.0e0}]`)}},
		"raw compact":                {"{ \"MsgBody\" : [ { \"T\\\" \" : \" a\\\\\" } ,\n\t2 ] , \"Raw\":\"x\"}", request{Body: json.RawMessage(`[{"T\" ":" a\\"},2]`), Raw: json.RawMessage(`"x"`)}},
		"maps":                       {`{"Extra":{"a":"b","c":null},"RawMap":{"k":[1, 2]}}`, request{Extra: map[string]string{"a": "b", "c": ""}, RawMap: map[string]json.RawMessage{"k": json.RawMessage(`[1,2]`)}}},
		"any":                        {`{"Any":{"a":[1.0,"x"]},"Lit":1.0}`, request{Any: map[string]any{"a": []any{json.Number("1.0"), "x"}}, Lit: "1.0"}},
		"own methods":                {`{"Upper":"abc","Role":"Owner"}`, request{Upper: "ABC", Role: 1}},
		"own text method, escaped":   {`{"Role":"a\"b"}`, request{Role: 2}},
		"hidden and private ignored": {`{"Hidden":"x","-":"x","private":"x"}`, request{}},
		"deepest":                    {`{"x":` + nest(MaxDepth-1) + `}`, request{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got request
			if err := Unmarshal([]byte(tt.in), &got); err != nil {
				t.Fatalf("Unmarshal(%s) = %v", tt.in, err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Unmarshal(%s)\n got %+v\nwant %+v", tt.in, got, tt.want)
			}
		})
	}
}

func TestUnmarshalMaxElements(t *testing.T) {
	nulls := "[null" + strings.Repeat(",null", MaxElements-1) + "]"
	var got request
	if err := Unmarshal([]byte(`{"Names":`+nulls+`}`), &got); err != nil || len(got.Names) != MaxElements {
		t.Errorf("%d elements, %v; want %d", len(got.Names), err, MaxElements)
	}
	var b strings.Builder
	for i := range MaxElements + 1 {
		fmt.Fprintf(&b, `,"%d":""`, i)
	}
	err := Unmarshal([]byte(`{"Extra":{`+b.String()[1:]+`}}`), &got)
	if e, ok := errors.AsType[*FieldError](err); !ok || e.Path != "Extra" || e.Kind != KindRange {
		t.Errorf("map of %d: %v, want out of range", MaxElements+1, err)
	}
}

func nest(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestUnmarshalKeepsDefaults(t *testing.T) {
	got := request{Count: 9, Group: "old", Names: []string{"n"}, Nested: entryRequest{Role: "Member"}}
	err := Unmarshal([]byte(`{"Count":null,"Random":3,"Nested":{"Member_Account":"a"}}`), &got)
	want := request{Count: 9, Group: "old", Names: []string{"n"}, Random: 3, Nested: entryRequest{Account: "a", Role: "Member"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// Names that differ in case only may belong to two fields.
func TestUnmarshalCaseCollision(t *testing.T) {
	type pair struct {
		A int `json:"First" alias:"key"`
		B int `json:"Key"`
	}
	for in, want := range map[string]pair{
		`{"key":1}`:           {A: 1},
		`{"Key":1}`:           {B: 1},
		`{"KEY":1}`:           {B: 1},
		`{"key":1,"Key":2}`:   {A: 1, B: 2},
		`{"FIRST":1,"kEY":2}`: {A: 1, B: 2},
	} {
		var got pair
		if err := Unmarshal([]byte(in), &got); err != nil || got != want {
			t.Errorf("Unmarshal(%s) = %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestUnmarshalKeepsNoReference(t *testing.T) {
	data := []byte(`{"GroupId":"g1","MsgBody":[1]}`)
	var got request
	if err := Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	clear(data)
	if got.Group != "g1" || string(got.Body) != "[1]" {
		t.Errorf("after the input changed: %q, %q", got.Group, got.Body)
	}
}

func TestUnmarshalSyntaxError(t *testing.T) {
	tests := map[string]struct {
		in     string
		offset int
	}{
		"empty":                {``, 0},
		"white space only":     {"  ", 2},
		"null":                 {`null`, 0},
		"array":                {`[{}]`, 0},
		"string":               {`"{}"`, 0},
		"byte order mark":      {"\ufeff{}", 0},
		"unclosed":             {`{"GroupId":"g"`, 14},
		"unclosed string":      {`{"GroupId":"g`, 13},
		"second document":      {`{} {}`, 3},
		"trailing garbage":     {`{}x`, 2},
		"trailing NUL":         {"{}\x00", 2},
		"trailing comma":       {`{"a":1,}`, 7},
		"trailing list comma":  {`{"a":[1,]}`, 8},
		"no colon":             {`{"a" 1}`, 5},
		"no comma":             {`{"a":1 "b":2}`, 7},
		"bare name":            {`{a:1}`, 1},
		"single quotes":        {`{'a':1}`, 1},
		"leading zero":         {`{"a":01}`, 6},
		"bare fraction":        {`{"a":.5}`, 5},
		"no fraction":          {`{"a":1.}`, 5},
		"no exponent":          {`{"Count":1e}`, 9},
		"plus":                 {`{"Count":+1}`, 9},
		"NaN":                  {`{"a":NaN}`, 5},
		"half a word":          {`{"Flag":tru}`, 8},
		"bad escape":           {`{"a":"\x"}`, 7},
		"bad unicode escape":   {`{"GroupId":"\u12g4"}`, 16},
		"newline in a string":  {"{\"a\":\"\n\"}", 6},
		"invalid UTF-8":        {"{\"GroupId\":\"a\xff\"}", 13},
		"invalid UTF-8 in raw": {"{\"MsgBody\":[\"\xc3\x28\"]}", 13},
		"too deep":             {`{"x":` + nest(MaxDepth) + `}`, 5 + MaxDepth - 1},
		"too deep, raw":        {`{"Raw":` + nest(100_000) + `}`, 7 + MaxDepth - 1},
		"only opened":          {strings.Repeat(`{"Nested":`, 100_000), 640},
		"after a field error":  {`{"Count":"x",]`, 13},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := Unmarshal([]byte(tt.in), &request{})
			got, ok := errors.AsType[*SyntaxError](err)
			if !ok || got.Offset != tt.offset || got.Reason == "" {
				t.Errorf("Unmarshal(%.40q) = %v; want a *SyntaxError at %d", tt.in, err, tt.offset)
			}
		})
	}
}

func TestUnmarshalFieldError(t *testing.T) {
	tests := map[string]struct {
		in   string
		path string
		got  string
		kind Kind
	}{
		"string for integer":      {`{"Count":"x"}`, "Count", "string", KindType},
		"padded numeric string":   {`{"Count":" 1"}`, "Count", "string", KindType},
		"object for integer":      {`{"Count":{}}`, "Count", "object", KindType},
		"list for integer":        {`{"Count":[0]}`, "Count", "array", KindType},
		"fraction":                {`{"Count":1.5}`, "Count", "fraction", KindType},
		"tiny fraction":           {`{"Count":1e-999999999999999999999}`, "Count", "fraction", KindType},
		"name as sent":            {`{"shutuptime":"x"}`, "ShutUpTime", "string", KindType},
		"number for string":       {`{"GroupId":5}`, "GroupId", "number", KindType},
		"boolean for string":      {`{"GroupId":true}`, "GroupId", "boolean", KindType},
		"boolean for text":        {`{"Value":true}`, "Value", "boolean", KindType},
		"two for boolean":         {`{"Flag":2}`, "Flag", "number", KindType},
		"object for list":         {`{"Names":{}}`, "Names", "object", KindType},
		"string for list":         {`{"Names":"a"}`, "Names", "string", KindType},
		"list for object":         {`{"OfflinePushInfo":[1]}`, "OfflinePushInfo", "array", KindType},
		"object for raw array":    {`{"MsgBody":{}}`, "MsgBody", "object", KindType},
		"list for map":            {`{"Extra":[1]}`, "Extra", "array", KindType},
		"in a map":                {`{"Extra":{"secret":1}}`, "Extra.*", "number", KindType},
		"string for float":        {`{"Longitude":"east"}`, "Longitude", "string", KindType},
		"too large, unsigned":     {`{"Random":4294967296}`, "Random", "number", KindRange},
		"too large, string":       {`{"Random":"4294967296"}`, "Random", "string", KindRange},
		"negative, unsigned":      {`{"Random":-1}`, "Random", "number", KindRange},
		"too large, signed":       {`{"Small":128}`, "Small", "number", KindRange},
		"too small, signed":       {`{"Small":-129}`, "Small", "number", KindRange},
		"past 64 bits":            {`{"Count":9223372036854775808}`, "Count", "number", KindRange},
		"far past 64 bits":        {`{"Count":1` + strings.Repeat("0", 5000) + `}`, "Count", "number", KindRange},
		"huge exponent":           {`{"Count":1e999999999999999999999}`, "Count", "number", KindRange},
		"exponent 30":             {`{"Count":1e30}`, "Count", "number", KindRange},
		"huge float":              {`{"Longitude":1e999}`, "Longitude", "number", KindRange},
		"nested":                  {`{"MemberList":[{},{"Role":1}]}`, "MemberList[1].Role", "number", KindType},
		"nested pointer":          {`{"MemberList":[{},{"UnreadMsgNum":"x"}]}`, "MemberList[1].UnreadMsgNum", "string", KindType},
		"element":                 {`{"Seqs":[1,2,"x"]}`, "Seqs[2]", "string", KindType},
		"empty element":           {`{"Seqs":[""]}`, "Seqs[0]", "string", KindType},
		"account number":          {`{"From_Account":17}`, "From_Account", "number", KindAccount},
		"account zero":            {`{"From_Account":0}`, "From_Account", "number", KindAccount},
		"account object":          {`{"From_Account":{}}`, "From_Account", "object", KindAccount},
		"account in a list":       {`{"To_Account":["a",7]}`, "To_Account[1]", "number", KindAccount},
		"account null in a list":  {`{"To_Account":[null]}`, "To_Account[0]", "null", KindAccount},
		"account list is string":  {`{"To_Account":"a"}`, "To_Account", "string", KindAccount},
		"account nested":          {`{"MemberList":[{"Member_Account":7}]}`, "MemberList[0].Member_Account", "number", KindAccount},
		"own method":              {`{"Upper":"no"}`, "Upper", "string", KindValue},
		"own text method":         {`{"Role":"King"}`, "Role", "string", KindValue},
		"own text method, number": {`{"Role":1}`, "Role", "number", KindType},
		"the loser is checked":    {`{"MuteTime":1,"ShutUpTime":"x"}`, "ShutUpTime", "string", KindType},
		"too many elements":       {`{"Names":[null` + strings.Repeat(",null", MaxElements) + `]}`, "Names", "more", KindRange},
		"fraction for string":     {`{"GroupId":0.5}`, "GroupId", "number", KindType},
		"first of several":        {`{"Small":1000,"Count":"x"}`, "Small", "number", KindRange},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := Unmarshal([]byte(tt.in), &request{})
			got, ok := errors.AsType[*FieldError](err)
			if !ok || got.Path != tt.path || got.Got != tt.got || got.Kind != tt.kind || got.Want == "" {
				t.Fatalf("Unmarshal(%.60s) = %#v; want path %s, got %s, kind %v", tt.in, err, tt.path, tt.got, tt.kind)
			}
			if !strings.Contains(err.Error(), tt.path) || (got.Kind == KindValue) != (got.Unwrap() != nil) {
				t.Errorf("message %q, cause %v", err, got.Unwrap())
			}
		})
	}
}

func TestUnmarshalRequired(t *testing.T) {
	type member struct {
		Account string `json:"Member_Account" wire:"required,account"`
	}
	type request struct {
		Group  string          `json:"GroupId" wire:"required"`
		Cursor string          `json:"Cursor" wire:"required"`
		Mute   *int64          `json:"MuteTime" alias:"ShutUpTime" wire:"required"`
		List   []member        `json:"MemberList"`
		Body   json.RawMessage `json:"MsgBody" wire:"required" type:"array"`
	}
	tests := map[string]struct {
		in   string
		path string
		kind Kind // 0: accepted
	}{
		"all there":          {`{"GroupId":"g","Cursor":"","ShutUpTime":0,"MsgBody":[]}`, "", 0},
		"first absent":       {`{}`, "GroupId", KindRequired},
		"second absent":      {`{"GroupId":"g","ShutUpTime":0,"MsgBody":[]}`, "Cursor", KindRequired},
		"null":               {`{"GroupId":"g","Cursor":null,"ShutUpTime":0,"MsgBody":[]}`, "Cursor", KindRequired},
		"nested":             {`{"GroupId":"g","Cursor":"","MuteTime":0,"MsgBody":[],"MemberList":[{"Member_Account":"a"},{}]}`, "MemberList[1].Member_Account", KindRequired},
		"empty string":       {`{"GroupId":"g","Cursor":"","ShutUpTime":"","MsgBody":[]}`, "ShutUpTime", KindType},
		"zero":               {`{"GroupId":0,"Cursor":"","ShutUpTime":0,"MsgBody":[]}`, "GroupId", KindType},
		"body is a string":   {`{"GroupId":"g","Cursor":"","ShutUpTime":0,"MsgBody":""}`, "MsgBody", KindType},
		"other errors first": {`{"Cursor":1}`, "Cursor", KindType},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := Unmarshal([]byte(tt.in), &request{})
			got, ok := errors.AsType[*FieldError](err)
			if !ok {
				if err != nil || tt.kind != 0 {
					t.Errorf("Unmarshal(%s) = %v; want %v of %s", tt.in, err, tt.kind, tt.path)
				}
				return
			}
			if got.Path != tt.path || got.Kind != tt.kind {
				t.Errorf("Unmarshal(%s) = %v (%v); want %v of %s", tt.in, err, got.Kind, tt.kind, tt.path)
			}
		})
	}
}

func TestTypeError(t *testing.T) {
	tests := map[string]any{
		"nil":           nil,
		"not a pointer": request{},
		"nil pointer":   (*request)(nil),
		"not a struct":  new(int),
		"channel":       &struct{ C chan int }{},
		"bytes":         &struct{ B []byte }{},
		"integer keys":  &struct{ M map[int]string }{},
		"option": &struct {
			A string `wire:"acount"`
		}{},
		"json option": &struct {
			A int `json:"a,string"`
		}{},
		"account integer": &struct {
			A int `wire:"account"`
		}{},
		"name is an alias": &struct {
			A int `alias:"B"`
			B int
		}{},
		"embedded pointer": &struct{ *common }{},
		"type of a string": &struct {
			A string `type:"array"`
		}{},
		"written twice": &struct {
			A int `also:"B"`
			B int
		}{},
	}
	for name, dst := range tests {
		t.Run(name, func(t *testing.T) {
			for range 2 { // a failure must not be cached as a success
				if _, ok := errors.AsType[*TypeError](Unmarshal([]byte(`{}`), dst)); !ok {
					t.Errorf("Unmarshal into %T did not give a *TypeError", dst)
				}
			}
		})
	}
}

func TestUnmarshalConcurrently(t *testing.T) {
	type tree struct { // of this test alone, so that the plan is built here
		Name string `json:"Name"`
		Kids []tree `json:"Kids"`
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var got tree
			err := Unmarshal([]byte(`{"Name":"a","Kids":[{"Name":"b","Kids":[{"Name":"c"}]}]}`), &got)
			if err != nil || got.Kids[0].Kids[0].Name != "c" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	wg.Wait()
}
