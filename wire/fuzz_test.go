package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// plainRequest has only what encoding/json decodes under the same rules.
type plainRequest struct {
	S    string
	I    int64
	U    uint32
	F    float64
	B    bool
	P    *int64
	L    []string
	O    plainInner
	Os   []plainInner
	M    map[string]int8
	Body json.RawMessage
}

type plainInner struct {
	S string
	N int16
	O *plainInner
}

func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{
		`{}`, ``, `{"S":"a\u00e9\ud83d\ude00","I":-12,"U":4294967295,"F":1.5e3,"B":true,"P":0}`,
		`{"L":["a",null],"O":{"S":"x","N":1,"O":{"O":null}},"Os":[{},{"N":-1}],"M":{"k":1},"Body":[ {"a" : 1} ]}`,
		`{"s":null,"I":"7","U":1e3,"L":[],"Body":null,"x":[[{}]]}`, `{"S":"a","S":"b"}`, "{\"S\":\"\xff\"}",
		`{"I":1e999999,"Body":"\\"}`, `{"ſ":"long s","O":{"ſ":"x"}}`, `{"I":0.1e1,"P":"","O":[],"Os":0}`, `[1]`, `{"U":-0}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkAnyRequest(t, data)
		var got, want plainRequest
		err := Unmarshal(data, &got)
		if err != nil {
			_, syntax := errors.AsType[*SyntaxError](err)
			if _, field := errors.AsType[*FieldError](err); !syntax && !field {
				t.Fatalf("Unmarshal(%q) = %v, of no documented type", data, err)
			}
			if syntax && json.Valid(data) && bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) && !beyond(data) {
				t.Fatalf("Unmarshal(%q) = %v, but it is JSON", data, err)
			}
		} else if !json.Valid(data) {
			t.Fatalf("Unmarshal accepted %q, which is no JSON", data)
		}
		if json.Unmarshal(data, &want) != nil || !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) || beyond(data) || repeats(data) {
			return
		}
		if want.Body != nil {
			if string(want.Body) == "null" { // "not given" here
				want.Body = nil
			} else {
				want.Body = appendCompact(nil, want.Body)
			}
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("Unmarshal(%q)\n got %+v, %v\nwant %+v", data, got, err, want)
		}
		checkRoundTrip(t, &got, &plainRequest{})
	})
}

// checkAnyRequest reads data by all the rules; what was accepted can be written as JSON.
func checkAnyRequest(t *testing.T, data []byte) {
	var got request
	if Unmarshal(data, &got) != nil {
		return
	}
	if text, err := Marshal(got); err != nil || !json.Valid(text) {
		t.Fatalf("Marshal of what came from %q = %s, %v", data, text, err)
	}
}

func checkRoundTrip(t *testing.T, v, again any) {
	first, err := Marshal(v)
	if err != nil || !json.Valid(first) {
		t.Fatalf("Marshal(%+v) = %s, %v", v, first, err)
	}
	if err := Unmarshal(first, again); err != nil {
		t.Fatalf("Unmarshal(%s) = %v", first, err)
	}
	second, err := Marshal(again)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("second Marshal = %v\n got %s\nwant %s", err, second, first)
	}
}

// beyond reports whether data is refused on purpose although it is JSON: it is nested too
// deep or not UTF-8.
func beyond(data []byte) bool {
	return validPrefix(data) < len(data) || walk(json.NewDecoder(bytes.NewReader(data)), func(_ []string, depth int) bool { return depth > MaxDepth })
}

// repeats reports whether an object has two members of the same name but for the case;
// encoding/json merges those.
func repeats(data []byte) bool {
	return walk(json.NewDecoder(bytes.NewReader(data)), func(names []string, _ int) bool {
		for _, name := range names[:max(len(names)-1, 0)] {
			if strings.EqualFold(name, names[len(names)-1]) {
				return true
			}
		}
		return false
	})
}

// walk calls found with the names of an object so far after each name, and at each bracket,
// until found holds.
func walk(dec *json.Decoder, found func(names []string, depth int) bool) bool {
	type level struct {
		names    []string
		isObject bool
		atValue  bool
	}
	var levels []level
	for {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if n := len(levels); n > 0 && levels[n-1].isObject {
			top := &levels[n-1]
			if top.atValue = !top.atValue; top.atValue {
				top.names = append(top.names, token.(string))
				if found(top.names, n) {
					return true
				}
				continue
			}
		}
		if d, ok := token.(json.Delim); ok {
			levels = append(levels, level{isObject: d == '{'})
			if found(nil, len(levels)) {
				return true
			}
		}
	}
}
