package wire

import (
	"encoding/json"
	"reflect"
)

// A Filter encodes some members of one struct type, as ResponseFilter and MemberInfoFilter
// ask for. It may be used concurrently.
type Filter struct {
	shape *shape
	keep  []bool // by field; nil keeps all
}

// NewFilter returns the filter for the struct type t, or a pointer to it, that keeps the
// named members and those tagged always. A name may be of any generation (json, also or
// alias) and in any case; unknown ones are ignored. No names at all keep everything.
func NewFilter(t reflect.Type, names []string) (*Filter, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	sh, err := shapeOf(t)
	if err != nil {
		return nil, err
	}
	if sh.form != formObject {
		return nil, &TypeError{t.String(), "want a struct to filter"}
	}
	f := &Filter{shape: sh}
	if len(names) == 0 {
		return f, nil
	}
	f.keep = make([]bool, len(sh.object.fields))
	written := map[string]int{} // folded names that only Marshal knows
	for i, field := range sh.object.fields {
		f.keep[i] = field.flags&flagAlways != 0
		for _, name := range field.also {
			written[string(fold(nil, []byte(name)))] = i
		}
	}
	for _, name := range names {
		if e, ok := sh.object.find([]byte(name)); ok {
			f.keep[e.field] = true
		} else if i, ok := written[string(fold(nil, []byte(name)))]; ok {
			f.keep[i] = true
		}
	}
	return f, nil
}

// Append appends the kept members of v, of the filter's type or a pointer to it, as an
// object encoded as by Marshal. After an error it returns dst as it was.
func (f *Filter) Append(dst []byte, v any) ([]byte, error) {
	value := reflect.ValueOf(v)
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	if !value.IsValid() || value.Type() != f.shape.typ {
		return dst, &TypeError{f.shape.typ.String(), "the filter's type was expected"}
	}
	e := encoder{buf: dst}
	if err := e.object(f.shape.object, value, f.keep); err != nil {
		return dst, err
	}
	return e.buf, nil
}

// Pick encodes the named members of the struct v: NewFilter and Append at once.
func Pick(v any, names []string) (json.RawMessage, error) {
	t := reflect.TypeOf(v)
	if t == nil {
		return nil, &TypeError{"nil", "want a struct to filter"}
	}
	f, err := NewFilter(t, names)
	if err != nil {
		return nil, err
	}
	return f.Append(nil, v)
}
