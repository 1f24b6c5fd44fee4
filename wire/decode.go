package wire

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// Unmarshal decodes data, one JSON object, into the struct that dst points to. Members
// that dst does not know are ignored; fields whose member is absent or not given keep their
// value. Of several names of one field the canonical one wins, then the aliases in their
// order; of a repeated member the last.
//
// The error is a *SyntaxError if data is no JSON object, else a *FieldError for the first
// value that can't be taken, else one for a required member that is absent, or a *TypeError
// if dst is unsuitable. After an error dst may be partly filled. Unmarshal keeps no
// reference to data.
func Unmarshal(data []byte, dst any) error {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return &TypeError{fmt.Sprintf("%T", dst), "want a pointer to a struct that is not nil"}
	}
	v = v.Elem()
	sh, err := shapeOf(v.Type())
	if err != nil {
		return err
	}
	if !utf8.Valid(data) {
		return &SyntaxError{Offset: validPrefix(data), Reason: "invalid UTF-8"}
	}
	d := decoder{scanner{data: data}}
	if d.peek() != '{' {
		return d.fail("want an object")
	}
	if err = d.object(sh.object, v); err == nil {
		if d.peek(); d.pos < len(data) {
			err = d.fail("text after the object")
		}
	}
	if err != nil {
		return syntaxFirst(data, err)
	}
	return nil
}

// syntaxFirst prefers the syntax error that follows a field's error: text that is no JSON
// is called that, wherever it breaks.
func syntaxFirst(data []byte, err error) error {
	if _, ok := errors.AsType[*SyntaxError](err); ok {
		return err
	}
	if syntax := checkDocument(data); syntax != nil {
		return syntax
	}
	return err
}

func validPrefix(data []byte) int {
	n := 0
	for n < len(data) {
		r, size := utf8.DecodeRune(data[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// MaxElements is how many elements a list or map may have that is decoded into a Go slice
// or map, many times what any command takes: a body of "null,null,…" must not grow to a
// multiple of its size in memory. A json.RawMessage has no such limit.
const MaxElements = 10_000

func tooMany() error {
	return &FieldError{Want: "at most " + strconv.Itoa(MaxElements) + " elements", Got: "more", Kind: KindRange}
}

type decoder struct{ scanner }

// object decodes the object at pos into the struct v.
func (d *decoder) object(o *object, v reflect.Value) error {
	if err := d.enter(); err != nil {
		return err
	}
	var room [48]uint8
	ranks := room[:] // by field; 0: not given so far
	if len(o.fields) > len(room) {
		ranks = make([]uint8, len(o.fields))
	}
	for first := true; ; first = false {
		more, err := d.next(first, '}')
		if err != nil {
			return err
		}
		if !more {
			return o.missing(ranks)
		}
		d.peek()
		name, err := d.stringBytes()
		if err != nil {
			return err
		}
		e, known := o.find(name) // before name's bytes are used again
		if err := d.expect(':'); err != nil {
			return err
		}
		if !known {
			err = d.skip()
		} else {
			err = d.member(&o.fields[e.field], e.rank, &ranks[e.field], v)
		}
		if err != nil {
			return under(e.name, err)
		}
	}
}

func (o *object) missing(ranks []uint8) error {
	for _, i := range o.required {
		if ranks[i] == 0 {
			f := &o.fields[i]
			return &FieldError{Path: f.name, Want: f.shape.want, Got: "nothing", Kind: KindRequired}
		}
	}
	return nil
}

// member decodes a value that came under a name of the given rank; *had is the rank that the
// field's present value came under.
func (d *decoder) member(f *field, rank uint8, had *uint8, in reflect.Value) error {
	v := f.in(in)
	if *had != 0 {
		return d.memberAgain(f, rank, had, v)
	}
	given, err := d.field(f, v)
	if given {
		*had = rank
	}
	return err
}

// memberAgain decodes a further value for a field: a repeated member, or its name of the
// other generation. The loser's type is checked too, so that the order never matters.
func (d *decoder) memberAgain(f *field, rank uint8, had *uint8, v reflect.Value) error {
	other := reflect.New(v.Type()).Elem()
	given, err := d.field(f, other)
	if err != nil || !given {
		return err
	}
	// Under different names a zero that means "not given" loses to any value. (A pointer is
	// never blank here: where zero is a command, it counts.)
	if rank != *had {
		switch oldZero, newZero := blank(v), blank(other); {
		case newZero && !oldZero:
			return nil
		case oldZero && !newZero:
			rank = min(rank, *had)
			*had = rank
		}
	}
	if rank <= *had {
		*had = rank
		v.Set(other)
	}
	return nil
}

// blank reports whether v is zero or an empty list.
func blank(v reflect.Value) bool {
	if k := v.Kind(); k == reflect.Slice || k == reflect.Map {
		return v.Len() == 0
	}
	return v.IsZero()
}

// field decodes the next value into v and reports whether it was given.
func (d *decoder) field(f *field, v reflect.Value) (given bool, err error) {
	c := d.peek()
	if c == 'n' {
		return false, d.literal("null")
	}
	start, depth := d.pos, d.depth
	if f.shape.form == formRaw && f.rawType != "" && f.rawType != jsonType(c) {
		err = d.mismatch(f.rawType, KindType)
	} else {
		err = d.value(f.shape, f.flags, v)
	}
	if err == nil {
		return true, nil
	}
	if _, ok := errors.AsType[*FieldError](err); !ok || f.flags&flagRequired != 0 {
		return false, err
	}
	// A value of another type, but perhaps one that means "not given". Only its first bytes
	// are looked at: reading it again on every level would cost depth times size.
	if n := nothingLen(d.data[start:], f.flags); n > 0 {
		d.pos, d.depth = start+n, depth
		return false, nil
	}
	return false, err
}

// nothingLen returns the length of the value that text starts with if that means "not
// given", else 0.
func nothingLen(text []byte, fl flags) int {
	switch text[0] {
	case '0':
		if numberLen(text) == 1 && fl&flagAccount == 0 {
			return 1
		}
	case '"':
		if len(text) > 1 && text[1] == '"' {
			return 2
		}
	case '[':
		s := scanner{data: text, pos: 1}
		if s.peek() == ']' {
			return s.pos + 1
		}
	}
	return 0
}

// mismatch passes the next value, which is not what is wanted.
func (d *decoder) mismatch(want string, kind Kind) error {
	got := jsonType(d.peek())
	if err := d.skip(); err != nil {
		return err
	}
	return &FieldError{Want: want, Got: got, Kind: kind}
}

// value decodes the next value, which is not null, into v.
func (d *decoder) value(sh *shape, fl flags, v reflect.Value) error {
	if sh.decodes != methodNone {
		return d.custom(sh, v)
	}
	c := d.peek()
	switch sh.form {
	case formString:
		return d.text(sh, fl, c, v)
	case formInt, formUint:
		return d.integer(sh, c, v)
	case formBool:
		return d.bool(sh, c, v)
	case formFloat:
		return d.float(sh, c, v)
	case formNumber:
		lit, got, err := d.numeral(c)
		if err == nil && lit == nil {
			err = &FieldError{Want: sh.want, Got: got, Kind: KindType}
		}
		v.SetString(string(lit))
		return err
	case formRaw:
		text, spaced, err := d.raw()
		if err != nil {
			return err
		}
		if spaced {
			v.SetBytes(appendCompact(make([]byte, 0, len(text)), text))
		} else {
			v.SetBytes(bytes.Clone(text))
		}
		return nil
	case formPointer:
		to := reflect.New(sh.elem.typ)
		if err := d.value(sh.elem, fl, to.Elem()); err != nil {
			return err
		}
		v.Set(to)
		return nil
	case formSlice:
		return d.slice(sh, fl, c, v)
	case formObject:
		if c != '{' {
			return d.mismatch(sh.want, KindType)
		}
		return d.object(sh.object, v)
	case formMap:
		return d.mapping(sh, fl, c, v)
	default:
		return d.any(v)
	}
}

func (d *decoder) text(sh *shape, fl flags, c byte, v reflect.Value) error {
	if c != '"' {
		switch {
		case fl&flagAccount != 0:
			return d.mismatch(sh.want, KindAccount)
		case fl&flagText != 0 && (c == '-' || '0' <= c && c <= '9'):
			lit, err := d.number()
			v.SetString(string(lit))
			return err
		}
		return d.mismatch(sh.want, KindType)
	}
	b, err := d.stringBytes()
	if err != nil {
		return err
	}
	v.SetString(string(b))
	return nil
}

// numeral passes a number, or a string that holds just one, and returns the literal. For
// another value it returns nil and the JSON type; that value has been passed too.
func (d *decoder) numeral(c byte) (lit []byte, got string, err error) {
	switch {
	case c == '-' || '0' <= c && c <= '9':
		lit, err = d.number()
		return lit, "number", err
	case c == '"':
		lit, err = d.stringBytes()
		if err == nil && (len(lit) == 0 || numberLen(lit) != len(lit)) {
			lit = nil
		}
		return lit, "string", err
	}
	return nil, jsonType(c), d.skip()
}

func (d *decoder) integer(sh *shape, c byte, v reflect.Value) error {
	lit, got, err := d.numeral(c)
	if err != nil {
		return err
	}
	switch {
	case c == 't':
		lit = []byte("1")
	case c == 'f':
		lit = []byte("0")
	case lit == nil:
		return &FieldError{Want: sh.want, Got: got, Kind: KindType}
	}
	bits := sh.typ.Bits()
	if sh.form == formInt {
		var n int64
		if n, err = signed(lit, bits); err == nil {
			v.SetInt(n)
		}
	} else {
		var n uint64
		if n, err = unsigned(lit, bits); err == nil {
			v.SetUint(n)
		}
	}
	switch {
	case errors.Is(err, errNotInteger):
		return &FieldError{Want: sh.want, Got: "fraction", Kind: KindType}
	case err != nil:
		return &FieldError{Want: sh.want, Got: got, Kind: KindRange}
	}
	return nil
}

func (d *decoder) bool(sh *shape, c byte, v reflect.Value) error {
	lit, got, err := d.numeral(c)
	if err != nil {
		return err
	}
	switch {
	case c == 't' || string(lit) == "1":
		v.SetBool(true)
	case c == 'f' || string(lit) == "0":
		v.SetBool(false)
	default:
		return &FieldError{Want: sh.want, Got: got, Kind: KindType}
	}
	return nil
}

func (d *decoder) float(sh *shape, c byte, v reflect.Value) error {
	lit, got, err := d.numeral(c)
	if err != nil {
		return err
	}
	if lit == nil {
		return &FieldError{Want: sh.want, Got: got, Kind: KindType}
	}
	x, err := strconv.ParseFloat(string(lit), sh.typ.Bits())
	if err != nil {
		return &FieldError{Want: sh.want, Got: got, Kind: KindRange}
	}
	v.SetFloat(x)
	return nil
}

func (d *decoder) slice(sh *shape, fl flags, c byte, v reflect.Value) error {
	if c != '[' {
		if fl&flagAccount != 0 {
			return d.mismatch(sh.want, KindAccount)
		}
		return d.mismatch(sh.want, KindType)
	}
	if err := d.enter(); err != nil {
		return err
	}
	list := reflect.MakeSlice(sh.typ, 0, 0)
	if d.peek() != ']' {
		list = reflect.MakeSlice(sh.typ, 0, 4)
	}
	// An addressable header lets the list grow in place.
	v.Set(list)
	for i := 0; ; i++ {
		more, err := d.next(i == 0, ']')
		if err != nil || !more {
			return err
		}
		if i == MaxElements {
			return tooMany()
		}
		if i == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(i + 1)
		v.Index(i).SetZero() // Grow does not promise zeros
		if err := d.element(sh.elem, fl, v.Index(i)); err != nil {
			return underIndex(i, err)
		}
	}
}

// element decodes a value inside an array or map, where null stands for the zero value.
func (d *decoder) element(sh *shape, fl flags, v reflect.Value) error {
	if d.peek() == 'n' && fl&flagAccount == 0 {
		return d.literal("null")
	}
	return d.value(sh, fl, v)
}

func (d *decoder) mapping(sh *shape, fl flags, c byte, v reflect.Value) error {
	if c != '{' {
		return d.mismatch(sh.want, KindType)
	}
	if err := d.enter(); err != nil {
		return err
	}
	m := reflect.MakeMap(sh.typ)
	for first := true; ; first = false {
		more, err := d.next(first, '}')
		if err != nil {
			return err
		}
		if !more {
			v.Set(m)
			return nil
		}
		if m.Len() == MaxElements {
			return tooMany()
		}
		d.peek()
		name, err := d.stringBytes()
		if err != nil {
			return err
		}
		key := reflect.New(sh.typ.Key()).Elem()
		key.SetString(string(name))
		if err := d.expect(':'); err != nil {
			return err
		}
		value := reflect.New(sh.elem.typ).Elem()
		if err := d.element(sh.elem, fl, value); err != nil {
			return under("*", err) // the client's own key may be long or secret
		}
		m.SetMapIndex(key, value)
	}
}

// any decodes as encoding/json does, but keeps a number as a json.Number.
func (d *decoder) any(v reflect.Value) error {
	text, _, err := d.raw()
	if err != nil {
		return err
	}
	var value any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return &FieldError{Want: "any value", Got: jsonType(text[0]), Kind: KindValue, Err: err}
	}
	if value != nil {
		v.Set(reflect.ValueOf(value))
	}
	return nil
}

func (d *decoder) custom(sh *shape, v reflect.Value) error {
	text, _, err := d.raw()
	if err != nil {
		return err
	}
	got := jsonType(text[0])
	if sh.decodes == methodJSON {
		err = v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(text)
	} else {
		if got != "string" {
			return &FieldError{Want: "string", Got: got, Kind: KindType}
		}
		value := text[1 : len(text)-1]
		if bytes.IndexByte(value, '\\') >= 0 {
			value = unescape(nil, value)
		}
		err = v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(value)
	}
	if err != nil {
		return &FieldError{Want: sh.want, Got: got, Kind: KindValue, Err: err}
	}
	return nil
}
