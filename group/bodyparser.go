package group

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// A bodyParser reads JSON once, from front to back, and writes its canonical form as it goes.
// Methods that return false have met something that is no JSON; so has everything that leaves
// bad set.
type bodyParser struct {
	in     []byte
	i      int
	depth  int
	bad    bool
	out    []byte
	quoted []byte // the last key, as it stands between and with its quotes
	text   []byte // the quoted string that shows the element in a push
}

// A place names what an error is about: an element's content or one of its images.
type place struct {
	n     int // of the element
	image int // from 1; 0: the content itself
}

func (w place) String() string {
	s := "MsgBody[" + strconv.Itoa(w.n) + "].MsgContent"
	if w.image > 0 {
		s += ".ImageInfoArray[" + strconv.Itoa(w.image-1) + "]"
	}
	return s
}

func (p *bodyParser) syntax() *Error {
	return Errorf(CodeBadJSON, "MsgBody is no JSON, or nested too deep, at byte %d", p.i)
}

// orSyntax refuses a value that is not what it should be, or is no JSON at all.
func (p *bodyParser) orSyntax(format string, args ...any) *Error {
	if !p.skip() {
		return p.syntax()
	}
	return Errorf(CodeBadParameter, format, args...)
}

// peek skips white space and returns the next byte, 0 at the end.
func (p *bodyParser) peek() byte {
	for p.i < len(p.in) {
		switch c := p.in[p.i]; c {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return c
		}
	}
	return 0
}

// open enters an array or object, copying its first byte, and reports whether there is
// something in it; if not, it is closed already, except for an object of an element, whose
// end the caller writes.
func (p *bodyParser) open(first, last byte) bool {
	if p.peek() != first || p.depth == MaxBodyDepth {
		p.bad = true
		return false
	}
	p.depth++
	p.i++
	p.out = append(p.out, first)
	if p.peek() == last {
		p.i++
		p.depth--
		if last == ']' {
			p.out = append(p.out, last)
		}
		return false
	}
	return true
}

// nextItem reports whether the array goes on.
func (p *bodyParser) nextItem() bool {
	if p.end(']') {
		p.out = append(p.out, ']')
		return false
	}
	if !p.bad {
		p.out = append(p.out, ',')
	}
	return !p.bad
}

// nextMember reports whether the object goes on. It writes nothing.
func (p *bodyParser) nextMember() bool { return !p.end('}') && !p.bad }

// end consumes the comma or the end after an item.
func (p *bodyParser) end(last byte) bool {
	if p.bad {
		return false
	}
	switch p.peek() {
	case ',':
		p.i++
		return false
	case last:
		p.i++
		p.depth--
		return true
	}
	p.bad = true
	return false
}

// key reads a member's name and the colon; quoted is its canonical quoted form. The name is
// good until the next key is read.
func (p *bodyParser) key() ([]byte, bool) {
	if p.peek() != '"' {
		p.bad = true
		return nil, false
	}
	start := len(p.out)
	if !p.copyString() {
		return nil, false
	}
	p.quoted = append(p.quoted[:0], p.out[start:]...)
	p.out = p.out[:start]
	if p.peek() != ':' {
		p.bad = true
		return nil, false
	}
	p.i++
	if bytes.IndexByte(p.quoted, '\\') >= 0 {
		return []byte(unquote(p.quoted)), true
	}
	return p.quoted[1 : len(p.quoted)-1], true
}

// stringValue reads a string without writing it.
func (p *bodyParser) stringValue() (string, bool) {
	start := len(p.out)
	if !p.copyString() {
		return "", false
	}
	s := unquote(p.out[start:])
	p.out = p.out[:start]
	return s, true
}

// skip reads a value without writing it.
func (p *bodyParser) skip() bool {
	start := len(p.out)
	ok := p.copyValue()
	p.out = p.out[:start]
	return ok
}

// skipAll reads a value and reports whether it is JSON and all that there is.
func (p *bodyParser) skipAll() bool {
	ok := p.skip()
	p.peek()
	return ok && p.i == len(p.in)
}

// copyValue writes any value without its white space.
func (p *bodyParser) copyValue() bool {
	switch c := p.peek(); c {
	case '"':
		return p.copyString()
	case '{':
		more := p.open('{', '}')
		for first := true; more; first = false {
			if !first {
				p.out = append(p.out, ',')
			}
			if _, ok := p.key(); !ok {
				return false
			}
			p.out = append(append(p.out, p.quoted...), ':')
			if !p.copyValue() {
				return false
			}
			more = p.nextMember()
		}
		p.out = append(p.out, '}')
	case '[':
		for more := p.open('[', ']'); more; more = p.nextItem() {
			if !p.copyValue() {
				return false
			}
		}
	case 't':
		return p.copyLiteral("true")
	case 'f':
		return p.copyLiteral("false")
	case 'n':
		return p.copyLiteral("null")
	default:
		n := numberLen(p.in[p.i:])
		if n == 0 {
			p.bad = true
			return false
		}
		p.out = append(p.out, p.in[p.i:p.i+n]...)
		p.i += n
	}
	return !p.bad
}

func (p *bodyParser) copyLiteral(s string) bool {
	if !bytes.HasPrefix(p.in[p.i:], []byte(s)) {
		p.bad = true
		return false
	}
	p.i += len(s)
	p.out = append(p.out, s...)
	return true
}

// copyString writes the string that comes next with its quotes. It must be UTF-8; half of a
// surrogate pair becomes U+FFFD, since strict receivers refuse it.
func (p *bodyParser) copyString() bool {
	from := p.i
	i := p.i + 1
	for i < len(p.in) {
		c := p.in[i]
		switch {
		case c == '"':
			i++
			p.out = append(p.out, p.in[from:i]...)
			p.i = i
			return true
		case c == '\\':
			n, lone := escapeLen(p.in[i:])
			if n == 0 {
				p.i, p.bad = i, true
				return false
			}
			if lone {
				p.out = append(append(p.out, p.in[from:i]...), `\ufffd`...)
				from = i + n
			}
			i += n
		case c < 0x20:
			p.i, p.bad = i, true
			return false
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(p.in[i:])
			if r == utf8.RuneError && n <= 1 {
				p.i, p.bad = i, true
				return false
			}
			i += n
		}
	}
	p.i, p.bad = i, true
	return false
}

// escapeLen returns the length of the escape that b starts with (of both, for a surrogate
// pair), 0 if there is none, and whether it is half of a surrogate pair.
func escapeLen(b []byte) (n int, lone bool) {
	if len(b) < 2 {
		return 0, false
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, false
	case 'u':
		r, ok := hex4(b)
		switch {
		case !ok:
			return 0, false
		case r < 0xD800 || r > 0xDFFF:
			return 6, false
		case r < 0xDC00:
			if low, ok := hex4(b[6:]); ok && low >= 0xDC00 && low <= 0xDFFF {
				return 12, false
			}
		}
		return 6, true
	}
	return 0, false
}

// hex4 reads \uXXXX.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// numberLen returns the length of the JSON number that b starts with, 0 if there is none.
func numberLen(b []byte) int {
	digits := func(i int) int {
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i
	}
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	if i = digits(i); i == start || b[start] == '0' && i > start+1 {
		return 0
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		if i = digits(start); i == start {
			return 0
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		if i = digits(start); i == start {
			return 0
		}
	}
	return i
}

// unquote returns what a valid quoted string says.
func unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // it was checked when it was read
	return s
}

// object parses an object whose members are partly known, and returns which of these it has.
// An empty array stands for an empty object.
func (p *bodyParser) object(known []member, at place) (seen uint32, _ *Error) {
	if p.peek() == '[' {
		ahead := *p
		if ahead.out = nil; !ahead.open('[', ']') && !ahead.bad {
			p.i = ahead.i
			p.out = append(p.out, "{}"...)
			return 0, nil
		}
	}
	if p.peek() != '{' {
		return 0, p.orSyntax("%v is not an object", at)
	}
	first := true
	for more := p.open('{', '}'); more; more = p.nextMember() {
		key, ok := p.key()
		if !ok {
			return 0, p.syntax()
		}
		start := len(p.out)
		if !first {
			p.out = append(p.out, ',')
		}
		which := find(known, key)
		given := true
		if which < 0 {
			p.out = append(append(p.out, p.quoted...), ':')
			ok = p.copyValue()
		} else {
			if seen&(1<<which) != 0 {
				return 0, Errorf(CodeBadParameter, "%v has two %s", at, known[which].name)
			}
			p.out = append(append(append(p.out, '"'), known[which].name...), '"', ':')
			var err *Error
			if given, err = p.member(known[which], at); err != nil {
				return 0, err
			}
			ok = !p.bad
			if given {
				seen |= 1 << which
			}
		}
		if !ok {
			return 0, p.syntax()
		}
		if !given {
			p.out = p.out[:start]
			continue
		}
		first = false
	}
	if p.bad {
		return 0, p.syntax()
	}
	p.out = append(p.out, '}')
	return seen, nil
}

// find returns the index of the member that key means, or -1: exactly, else whatever its case.
func find(known []member, key []byte) int {
	for i := range known {
		if known[i].name == string(key) {
			return i
		}
	}
	for i := range known {
		if bytes.EqualFold([]byte(known[i].name), key) {
			return i
		}
	}
	return -1
}

// member parses the value of a known member; given is false if it stands for no value.
func (p *bodyParser) member(m member, at place) (given bool, _ *Error) {
	start := len(p.out)
	c := p.peek()
	wrong := func(want string) *Error { return p.orSyntax("%v.%s is not %s", at, m.name, want) }
	switch m.kind {
	case anyString, shownString:
		if c != '"' {
			if p.zero() {
				return false, nil
			}
			return false, wrong("a string")
		}
		if !p.copyString() {
			return false, p.syntax()
		}
		if quoted := p.out[start:]; m.kind == shownString && len(quoted) > 2 {
			p.text = slices.Clip(quoted)
		}
		return true, nil
	case float, integer, natural, fileSize, relayCount, flag2:
		return p.number(m, at)
	case anyArray:
		if c != '[' {
			if p.zero() {
				return false, nil
			}
			return false, wrong("an array")
		}
		if !p.copyValue() {
			return false, p.syntax()
		}
		return true, nil
	}
	// stringList, images
	if c != '[' {
		if p.zero() {
			return false, nil
		}
		return false, wrong("an array")
	}
	n := 0
	for more := p.open('[', ']'); more; more = p.nextItem() {
		n++
		switch {
		case m.kind == stringList && p.peek() != '"':
			return false, wrong("an array of strings")
		case m.kind == stringList:
			if !p.copyString() {
				return false, p.syntax()
			}
		case n > MaxImageVariants:
			return false, Errorf(CodeBadParameter, "%v.%s has more than %d entries", at, m.name, MaxImageVariants)
		default:
			if _, err := p.object(imageMembers, place{at.n, n}); err != nil {
				return false, err
			}
		}
	}
	if p.bad {
		return false, p.syntax()
	}
	return true, nil
}

// zero consumes null, "", 0 or [], and reports whether it was there.
func (p *bodyParser) zero() bool {
	for _, s := range [...]string{"null", `""`, "0", "[]"} {
		if !bytes.HasPrefix(p.in[p.i:], []byte(s)) {
			continue
		}
		switch rest := p.in[p.i+len(s):]; {
		case len(rest) == 0:
			return false // the object around it is cut
		case bytes.IndexByte([]byte(",]} \t\r\n"), rest[0]) >= 0:
			p.i += len(s)
			return true
		}
	}
	return false
}

// number parses a number, which may also come as a string, and writes it as a number.
func (p *bodyParser) number(m member, at place) (given bool, _ *Error) {
	var lit []byte
	switch c := p.peek(); {
	case c == '"':
		s, ok := p.stringValue()
		if !ok {
			return false, p.syntax()
		}
		if s == "" {
			return false, nil
		}
		if lit = []byte(s); numberLen(lit) != len(lit) {
			return false, Errorf(CodeBadParameter, "%v.%s is not a number", at, m.name)
		}
	case c == '-' || '0' <= c && c <= '9':
		n := numberLen(p.in[p.i:])
		if n == 0 {
			p.bad = true
			return false, p.syntax()
		}
		lit = p.in[p.i : p.i+n]
		p.i += n
	case p.zero():
		return false, nil
	default:
		return false, p.orSyntax("%v.%s is not a number", at, m.name)
	}
	if m.kind == float {
		if x, err := strconv.ParseFloat(string(lit), 64); err != nil || math.IsInf(x, 0) {
			return false, Errorf(CodeBadParameter, "%v.%s is out of range", at, m.name)
		}
		p.out = append(p.out, lit...)
		return true, nil
	}
	n, ok := wholeNumber(lit)
	if !ok {
		return false, Errorf(CodeBadParameter, "%v.%s is not an integer", at, m.name)
	}
	low, high := m.kind.limits()
	if n < low || n > high || m.kind == flag2 && n == 1 {
		return false, Errorf(CodeBadParameter, "%v.%s is out of range", at, m.name)
	}
	p.out = strconv.AppendInt(p.out, n, 10)
	return true, nil
}

// wholeNumber reads an integer that may be written with a fraction of zero or an exponent.
func wholeNumber(lit []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(lit), 10, 64); err == nil {
		return n, true
	}
	x, err := strconv.ParseFloat(string(lit), 64)
	if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
		return 0, false
	}
	return int64(x), true
}
