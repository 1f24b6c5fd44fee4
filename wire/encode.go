package wire

import (
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Marshal encodes v like encoding/json, but without any null that v's types make: a nil list
// or json.RawMessage is [], and a nil pointer, map or interface is left out together with
// its name. Members are repeated under the names of the tag also. Nothing is escaped for
// HTML. Numbers tagged int32 that need more are a *FieldError.
func Marshal(v any) ([]byte, error) {
	return Append(make([]byte, 0, 256), v)
}

// Append is Marshal into dst. After an error it returns dst as it was.
func Append(dst []byte, v any) ([]byte, error) {
	value := reflect.ValueOf(v)
	if !value.IsValid() {
		return dst, &TypeError{"nil", "nothing to encode"}
	}
	sh, err := shapeOf(value.Type())
	if err != nil {
		return dst, err
	}
	e := encoder{buf: dst}
	written, err := e.value(sh, 0, value)
	if err == nil && !written {
		err = &TypeError{value.Type().String(), "nil: nothing to encode"}
	}
	if err != nil {
		return dst, err
	}
	return e.buf, nil
}

type encoder struct {
	buf   []byte
	depth int
}

// maxEncodeDepth ends what a cycle of pointers would make endless.
const maxEncodeDepth = 1000

// object encodes the struct v, or those of its fields for which keep holds if that is not nil.
func (e *encoder) object(o *object, v reflect.Value, keep []bool) error {
	e.buf = append(e.buf, '{')
	first := true
	for i := range o.fields {
		f := &o.fields[i]
		if keep != nil && !keep[i] {
			continue
		}
		fv := f.in(v)
		if f.omits(fv) {
			continue
		}
		start := len(e.buf)
		if !first {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(e.buf, f.prefix...)
		from := len(e.buf)
		written, err := e.value(f.shape, f.flags, fv)
		if err != nil {
			return under(f.name, err)
		}
		if !written {
			e.buf = e.buf[:start]
			continue
		}
		first = false
		to := len(e.buf)
		for _, prefix := range f.repeats {
			e.buf = append(append(e.buf, ','), prefix...)
			e.buf = append(e.buf, e.buf[from:to]...)
		}
	}
	e.buf = append(e.buf, '}')
	return nil
}

func (f *field) omits(v reflect.Value) bool {
	if f.flags&flagOmitEmpty != 0 {
		switch v.Kind() {
		case reflect.Slice, reflect.Map, reflect.String:
			if v.Len() == 0 {
				return true
			}
		case reflect.Struct: // never empty, as in encoding/json
		default:
			if v.IsZero() {
				return true
			}
		}
	}
	if f.flags&flagOmitZero != 0 {
		if z, ok := reflect.TypeAssert[interface{ IsZero() bool }](v); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
			return z.IsZero()
		}
		return v.IsZero()
	}
	return false
}

// value encodes v and reports whether there was something to encode; if not, buf is unchanged.
func (e *encoder) value(sh *shape, fl flags, v reflect.Value) (written bool, err error) {
	if e.depth == maxEncodeDepth {
		return false, &TypeError{sh.typ.String(), "nested too deep, or without end"}
	}
	e.depth++
	written, err = e.any(sh, fl, v)
	e.depth--
	return written, err
}

func (e *encoder) any(sh *shape, fl flags, v reflect.Value) (written bool, err error) {
	if sh.encodes != methodNone {
		return e.custom(sh, v)
	}
	switch sh.form {
	case formString:
		e.buf = appendString(e.buf, v.String())
	case formBool:
		e.buf = strconv.AppendBool(e.buf, v.Bool())
	case formInt:
		n := v.Int()
		if fl&flagInt32 != 0 && int64(int32(n)) != n {
			return false, &FieldError{Want: "integer of 32 bits, signed", Got: "number", Kind: KindRange}
		}
		e.buf = strconv.AppendInt(e.buf, n, 10)
	case formUint:
		n := v.Uint()
		if fl&flagInt32 != 0 && n > math.MaxInt32 {
			return false, &FieldError{Want: "integer of 32 bits, signed", Got: "number", Kind: KindRange}
		}
		e.buf = strconv.AppendUint(e.buf, n, 10)
	case formNumber:
		return e.raw([]byte(cmp.Or(v.String(), "0")))
	case formFloat:
		return e.float(sh, v)
	case formSlice:
		return true, e.slice(sh, fl, v)
	case formObject:
		return true, e.object(sh.object, v, nil)
	case formMap:
		return e.mapping(sh, fl, v)
	case formRaw:
		if v.Len() == 0 {
			e.buf = append(e.buf, "[]"...)
			return true, nil
		}
		return e.raw(v.Bytes())
	case formPointer, formAny:
		if v.IsNil() {
			return false, nil
		}
		elem := sh.elem
		if sh.form == formAny {
			if elem, err = shapeOf(v.Elem().Type()); err != nil {
				return false, err
			}
		}
		return e.value(elem, fl, v.Elem())
	default:
		return false, &TypeError{sh.typ.String(), "can only be decoded"}
	}
	return true, nil
}

func (e *encoder) float(sh *shape, v reflect.Value) (bool, error) {
	x := v.Float()
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return false, &FieldError{Want: "finite number", Got: "number", Kind: KindRange}
	}
	format := byte('f')
	if abs := math.Abs(x); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	e.buf = strconv.AppendFloat(e.buf, x, format, -1, sh.typ.Bits())
	if n := len(e.buf); format == 'e' && string(e.buf[n-4:n-1]) == "e-0" { // e-09 is e-9
		e.buf = append(e.buf[:n-2], e.buf[n-1])
	}
	return true, nil
}

func (e *encoder) slice(sh *shape, fl flags, v reflect.Value) error {
	e.buf = append(e.buf, '[')
	first := true
	for i := range v.Len() {
		start := len(e.buf)
		if !first {
			e.buf = append(e.buf, ',')
		}
		written, err := e.value(sh.elem, fl, v.Index(i))
		if err != nil {
			return underIndex(i, err)
		}
		if !written {
			e.buf = e.buf[:start]
			continue
		}
		first = false
	}
	e.buf = append(e.buf, ']')
	return nil
}

func (e *encoder) mapping(sh *shape, fl flags, v reflect.Value) (bool, error) {
	if v.IsNil() {
		return false, nil
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	e.buf = append(e.buf, '{')
	first := true
	for _, key := range keys {
		start := len(e.buf)
		if !first {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(appendString(e.buf, key.String()), ':')
		written, err := e.value(sh.elem, fl, v.MapIndex(key))
		if err != nil {
			return false, under("*", err)
		}
		if !written {
			e.buf = e.buf[:start]
			continue
		}
		first = false
	}
	e.buf = append(e.buf, '}')
	return true, nil
}

// raw appends JSON text that others made. A lone null is nothing.
func (e *encoder) raw(text []byte) (bool, error) {
	if !utf8.Valid(text) {
		return false, &SyntaxError{Offset: validPrefix(text), Reason: "invalid UTF-8"}
	}
	s := scanner{data: text}
	value, spaced, err := s.raw()
	if err == nil {
		if s.peek(); s.pos < len(text) {
			err = s.fail("text after the value")
		}
	}
	switch {
	case err != nil:
		return false, err
	case string(value) == "null":
		return false, nil
	case spaced:
		e.buf = appendCompact(e.buf, value)
	default:
		e.buf = append(e.buf, value...)
	}
	return true, nil
}

func (e *encoder) custom(sh *shape, v reflect.Value) (bool, error) {
	if !v.CanAddr() { // the method may have a pointer as its receiver
		to := reflect.New(sh.typ).Elem()
		to.Set(v)
		v = to
	}
	if v.Kind() == reflect.Interface && v.IsNil() {
		return false, nil
	}
	if sh.encodes == methodJSON {
		text, err := v.Addr().Interface().(json.Marshaler).MarshalJSON()
		if err != nil {
			return false, fmt.Errorf("wire: encode %s: %w", sh.typ, err)
		}
		return e.raw(text)
	}
	text, err := v.Addr().Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return false, fmt.Errorf("wire: encode %s: %w", sh.typ, err)
	}
	e.buf = appendString(e.buf, string(text))
	return true, nil
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string, for those who build an object by hand.
func AppendString(dst []byte, s string) []byte { return appendString(dst, s) }

// appendString appends s in quotes. U+2028 and U+2029 are escaped for readers that take JSON
// for JavaScript; what is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] && c < utf8.RuneSelf {
			i++
			continue
		}
		r, n := rune(c), 1
		if c >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(s[i:])
			if r != '\u2028' && r != '\u2029' && (r != utf8.RuneError || n > 1) {
				i += n
				continue
			}
		}
		dst = append(append(dst, s[start:i]...), '\\')
		switch r {
		case '"', '\\':
			dst = append(dst, c)
		case '\b':
			dst = append(dst, 'b')
		case '\f':
			dst = append(dst, 'f')
		case '\n':
			dst = append(dst, 'n')
		case '\r':
			dst = append(dst, 'r')
		case '\t':
			dst = append(dst, 't')
		default:
			dst = append(dst, 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
		}
		i += n
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}
