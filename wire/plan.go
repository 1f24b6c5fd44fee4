package wire

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// A form is how a Go type appears in JSON.
type form uint8

const (
	formString form = iota + 1
	formBool
	formInt
	formUint
	formFloat
	formNumber // json.Number
	formSlice
	formObject
	formMap
	formPointer
	formRaw
	formAny
	formCustom // only the type's own methods know
)

// A method says which of its own methods a type is decoded or encoded with.
type method uint8

const (
	methodNone method = iota
	methodJSON
	methodText
)

// A shape is the plan for one Go type. It is immutable once published.
type shape struct {
	typ     reflect.Type
	form    form
	decodes method
	encodes method
	elem    *shape  // of formSlice, formMap, formPointer
	object  *object // of formObject
	want    string  // for errors
}

// An object is the plan for a struct.
type object struct {
	fields   []field
	exact    map[string]entry
	folded   map[string]entry // by fold(name)
	required []int            // into fields
}

// An entry leads from an accepted name to its field.
type entry struct {
	name  string
	field int
	rank  uint8 // from 1; the lowest that is present wins
}

type flags uint8

const (
	flagRequired flags = 1 << iota
	flagAccount
	flagText
	flagInt32
	flagAlways
	flagOmitEmpty
	flagOmitZero
)

var flagNames = map[string]flags{
	"required": flagRequired, "account": flagAccount, "text": flagText, "int32": flagInt32, "always": flagAlways,
}

type field struct {
	name    string
	aliases []string
	also    []string
	rawType string // from the tag type
	doc     string
	flags   flags
	index   []int
	shape   *shape
	prefix  string   // `"Name":`
	repeats []string // `"Also":`
}

// in returns the field of the struct v.
func (f *field) in(v reflect.Value) reflect.Value {
	if len(f.index) == 1 {
		return v.Field(f.index[0])
	}
	return v.FieldByIndex(f.index)
}

var (
	typeRaw             = reflect.TypeFor[json.RawMessage]()
	typeNumber          = reflect.TypeFor[json.Number]()
	typeJSONMarshaler   = reflect.TypeFor[json.Marshaler]()
	typeJSONUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	typeTextMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	typeTextUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// shapes holds *shape by reflect.Type. It grows with the program's types, not with input.
var shapes sync.Map

// shapeOf returns the plan for t. Only the first call for a type does more than a lookup.
func shapeOf(t reflect.Type) (*shape, error) {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape), nil
	}
	s, err := (&planner{open: map[reflect.Type]*shape{}}).shape(t)
	if err != nil {
		return nil, err
	}
	known, _ := shapes.LoadOrStore(t, s)
	return known.(*shape), nil
}

// A planner builds the plan for one type and all that it holds; open makes cycles end.
type planner struct{ open map[reflect.Type]*shape }

func (p *planner) shape(t reflect.Type) (*shape, error) {
	if s, ok := p.open[t]; ok {
		return s, nil
	}
	s := &shape{typ: t}
	p.open[t] = s
	if t == typeRaw {
		s.form, s.want = formRaw, "any value"
		return s, nil
	}
	if t.Kind() != reflect.Pointer {
		s.decodes = methodOf(t, typeJSONUnmarshaler, typeTextUnmarshaler)
		s.encodes = methodOf(t, typeJSONMarshaler, typeTextMarshaler)
	}
	err := p.fill(s)
	if err != nil && s.decodes != methodNone && s.encodes != methodNone {
		s.form, err = formCustom, nil
	}
	if err != nil {
		delete(p.open, t) // half filled: who asks again must get the error again
		return nil, err
	}
	if s.decodes != methodNone || s.want == "" {
		s.want = t.String()
	}
	return s, nil
}

func methodOf(t, asJSON, asText reflect.Type) method {
	switch p := reflect.PointerTo(t); {
	case p.Implements(asJSON):
		return methodJSON
	case p.Implements(asText):
		return methodText
	}
	return methodNone
}

func (p *planner) fill(s *shape) (err error) {
	t := s.typ
	switch t.Kind() {
	case reflect.String:
		s.form, s.want = formString, "string"
		if t == typeNumber {
			s.form, s.want = formNumber, "number"
		}
	case reflect.Bool:
		s.form, s.want = formBool, "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.form, s.want = formInt, integerOf(t.Bits(), "signed")
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.form, s.want = formUint, integerOf(t.Bits(), "unsigned")
	case reflect.Float32, reflect.Float64:
		s.form, s.want = formFloat, "number"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return &TypeError{t.String(), "bytes must be a json.RawMessage"}
		}
		s.form, s.want = formSlice, "array"
		s.elem, err = p.shape(t.Elem())
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return &TypeError{t.String(), "a map's keys must be strings"}
		}
		s.form, s.want = formMap, "object"
		s.elem, err = p.shape(t.Elem())
	case reflect.Pointer:
		s.form = formPointer
		if s.elem, err = p.shape(t.Elem()); err == nil {
			s.want = s.elem.want
		}
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return &TypeError{t.String(), "an interface with methods can't be decoded"}
		}
		s.form, s.want = formAny, "any value"
	case reflect.Struct:
		s.form, s.want = formObject, "object"
		s.object, err = p.object(t)
	default:
		return &TypeError{t.String(), "not supported"}
	}
	return err
}

func integerOf(bits int, sign string) string {
	return "integer of " + strconv.Itoa(bits) + " bits, " + sign
}

func (p *planner) object(t reflect.Type) (*object, error) {
	o := &object{exact: map[string]entry{}, folded: map[string]entry{}}
	if err := p.collect(o, t, nil); err != nil {
		return nil, err
	}
	for i := range o.fields {
		if err := o.accept(t, i); err != nil {
			return nil, err
		}
	}
	written := map[string]bool{}
	for _, f := range o.fields {
		for _, name := range append([]string{f.name}, f.also...) {
			if written[name] {
				return nil, &TypeError{t.String(), "two fields are written as " + name}
			}
			written[name] = true
		}
	}
	return o, nil
}

// collect appends the fields of t, which stands at index in the outer struct. As in Go, a
// field hides those of its name that an embedded struct brings.
func (p *planner) collect(o *object, t reflect.Type, index []int) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(slices.Clone(index), i)
		tag, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if sf.Tag.Get("json") == "-" {
			continue
		}
		if sf.Anonymous && tag == "" {
			if sf.Type.Kind() != reflect.Struct {
				return &TypeError{t.String(), "embeds " + sf.Type.String() + ", which is no struct"}
			}
			if err := p.collect(o, sf.Type, at); err != nil {
				return err
			}
			continue
		}
		if !sf.IsExported() {
			continue
		}
		f, err := p.field(sf, tag, options)
		if err != nil {
			return err
		}
		f.index = at
		same := slices.IndexFunc(o.fields, func(g field) bool { return g.name == f.name })
		switch {
		case same < 0:
			o.fields = append(o.fields, f)
		case len(at) == len(o.fields[same].index):
			return &TypeError{t.String(), "two fields are called " + f.name}
		case len(at) < len(o.fields[same].index):
			o.fields[same] = f
		}
	}
	return nil
}

func (p *planner) field(sf reflect.StructField, tag, options string) (f field, err error) {
	f = field{
		name: tag, aliases: list(sf.Tag.Get("alias")), also: list(sf.Tag.Get("also")),
		rawType: sf.Tag.Get("type"), doc: sf.Tag.Get("doc"),
	}
	if f.name == "" {
		f.name = sf.Name
	}
	for _, option := range list(options) {
		switch option {
		case "omitempty":
			f.flags |= flagOmitEmpty
		case "omitzero":
			f.flags |= flagOmitZero
		default:
			return f, &TypeError{sf.Type.String(), "json option " + option + " of " + sf.Name + " is not supported"}
		}
	}
	for _, option := range list(sf.Tag.Get("wire")) {
		if flagNames[option] == 0 {
			return f, &TypeError{sf.Type.String(), "unknown wire option " + option + " of " + sf.Name}
		}
		f.flags |= flagNames[option]
	}
	if f.shape, err = p.shape(sf.Type); err != nil {
		return f, err
	}
	if leaf := leafKind(sf.Type); f.flags&(flagAccount|flagText) != 0 && leaf != reflect.String {
		return f, &TypeError{sf.Type.String(), "wire options account and text of " + sf.Name + " are for strings"}
	}
	if f.rawType != "" && (sf.Type != typeRaw || !slices.Contains([]string{"array", "object", "string"}, f.rawType)) {
		return f, &TypeError{sf.Type.String(), "type of " + sf.Name + " is array, object or string, for a json.RawMessage"}
	}
	f.prefix = string(appendString(nil, f.name)) + ":"
	for _, name := range f.also {
		f.repeats = append(f.repeats, string(appendString(nil, name))+":")
	}
	return f, nil
}

// leafKind returns the kind of what a field holds after pointers and lists.
func leafKind(t reflect.Type) reflect.Kind {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t.Kind()
}

// maxAliases keeps a rank within a byte.
const maxAliases = 100

// accept enters the names of field i of t.
func (o *object) accept(t reflect.Type, i int) error {
	f := &o.fields[i]
	if f.flags&flagRequired != 0 {
		o.required = append(o.required, i)
	}
	if len(f.aliases) > maxAliases {
		return &TypeError{t.String(), "too many aliases of " + f.name}
	}
	for j, name := range append([]string{f.name}, f.aliases...) {
		if _, taken := o.exact[name]; taken {
			return &TypeError{t.String(), "two fields are read from " + name}
		}
		o.exact[name] = entry{name: name, field: i, rank: uint8(2*j + 1)}
		key := string(fold(nil, []byte(name)))
		if e, taken := o.folded[key]; !taken || e.rank > uint8(2*j+2) {
			o.folded[key] = entry{name: name, field: i, rank: uint8(2*j + 2)}
		}
	}
	return nil
}

// find returns the field that a member's name means: exactly, else without regard to case.
func (o *object) find(name []byte) (entry, bool) {
	if e, ok := o.exact[string(name)]; ok {
		return e, true
	}
	var room [64]byte
	e, ok := o.folded[string(fold(room[:0], name))]
	return e, ok
}

// fold appends name so that two names that differ in case only become the same.
func fold(dst, name []byte) []byte {
	for i := 0; i < len(name); {
		if c := name[i]; c < utf8.RuneSelf {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(name[i:])
		dst = utf8.AppendRune(dst, smallest(r))
		i += n
	}
	return dst
}

// smallest returns the first of the runes that differ from r in case only.
func smallest(r rune) rune {
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			return next
		}
		r = next
	}
}

// list splits a tag at its commas.
func list(tag string) []string {
	if tag == "" {
		return nil
	}
	return strings.Split(tag, ",")
}
