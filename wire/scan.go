package wire

import (
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may be nested; the body itself is the first.
const MaxDepth = 64

// A scanner walks over JSON text that is known to be valid UTF-8.
type scanner struct {
	data   []byte
	pos    int
	depth  int
	spaced bool   // white space was passed since the flag was last cleared
	buf    []byte // the latest string that had escapes
}

func (s *scanner) fail(reason string) error {
	if s.pos >= len(s.data) {
		reason = "unexpected end"
	}
	return &SyntaxError{Offset: min(s.pos, len(s.data)), Reason: reason}
}

// peek passes white space and returns the byte after it, 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
			s.spaced = true
		default:
			return c
		}
	}
	return 0
}

// expect passes white space and then the byte c.
func (s *scanner) expect(c byte) error {
	if s.peek() != c || s.pos >= len(s.data) {
		return s.fail("want '" + string(rune(c)) + "'")
	}
	s.pos++
	return nil
}

func (s *scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.fail("unknown word")
	}
	s.pos += len(word)
	return nil
}

// enter passes the bracket that opens an object or array.
func (s *scanner) enter() error {
	if s.depth == MaxDepth {
		return s.fail("nested too deep")
	}
	s.depth++
	s.pos++
	return nil
}

// next is called after the opening bracket (first) and after every element. It reports
// whether there is another one, and passes the comma before it or else the bracket end.
func (s *scanner) next(first bool, end byte) (bool, error) {
	c := s.peek()
	switch {
	case c == end:
		s.pos++
		s.depth--
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.pos++
		return true, nil
	}
	return false, s.fail("want ',' or '" + string(rune(end)) + "'")
}

// plain holds the bytes that stand for themselves inside a string.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return t
}()

// passString passes a string and returns the text between the quotes and whether it has escapes.
func (s *scanner) passString() (text []byte, escaped bool, err error) {
	if s.pos >= len(s.data) || s.data[s.pos] != '"' {
		return nil, false, s.fail("want a string")
	}
	s.pos++
	start := s.pos
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case plain[c]:
			s.pos++
		case c == '"':
			text = s.data[start:s.pos]
			s.pos++
			return text, escaped, nil
		case c == '\\':
			escaped = true
			if err := s.passEscape(); err != nil {
				return nil, false, err
			}
		default:
			return nil, false, s.fail("control character in a string")
		}
	}
	return nil, false, s.fail("")
}

func (s *scanner) passEscape() error {
	s.pos++
	if s.pos >= len(s.data) {
		return s.fail("")
	}
	switch s.data[s.pos] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return nil
	case 'u':
		s.pos++
		for range 4 {
			if s.pos >= len(s.data) || hexDigit(s.data[s.pos]) < 0 {
				return s.fail("bad \\u escape")
			}
			s.pos++
		}
		return nil
	}
	return s.fail("unknown escape")
}

// stringBytes passes a string and returns its value, valid until the next call.
func (s *scanner) stringBytes() ([]byte, error) {
	text, escaped, err := s.passString()
	if err != nil || !escaped {
		return text, err
	}
	s.buf = unescape(s.buf[:0], text)
	return s.buf, nil
}

func hexDigit(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return rune(c-'A') + 10
	}
	return -1
}

// unit reads the four digits after a \u that passEscape has seen.
func unit(text []byte) rune {
	return hexDigit(text[0])<<12 | hexDigit(text[1])<<8 | hexDigit(text[2])<<4 | hexDigit(text[3])
}

// unescape appends the value of text, which passString accepted. Half a surrogate pair
// becomes U+FFFD, as in encoding/json.
func unescape(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		i += 2
		switch c = text[i-1]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := unit(text[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if len(text)-i >= 6 && text[i] == '\\' && text[i+1] == 'u' {
					pair = utf16.DecodeRune(r, unit(text[i+2:]))
				}
				if r = pair; pair != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// number passes a number and returns its literal.
func (s *scanner) number() ([]byte, error) {
	n := numberLen(s.data[s.pos:])
	if n == 0 {
		return nil, s.fail("bad number")
	}
	lit := s.data[s.pos : s.pos+n]
	s.pos += n
	return lit, nil
}

// skip passes any value, checking its syntax.
func (s *scanner) skip() error {
	switch c := s.peek(); c {
	case '"':
		_, _, err := s.passString()
		return err
	case '{':
		return s.skipObject()
	case '[':
		return s.skipArray()
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		if c == '-' || '0' <= c && c <= '9' {
			_, err := s.number()
			return err
		}
		return s.fail("want a value")
	}
}

func (s *scanner) skipObject() error {
	if err := s.enter(); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.next(first, '}')
		if err != nil || !more {
			return err
		}
		s.peek()
		if _, _, err := s.passString(); err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := s.skip(); err != nil {
			return err
		}
	}
}

func (s *scanner) skipArray() error {
	if err := s.enter(); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.next(first, ']')
		if err != nil || !more {
			return err
		}
		if err := s.skip(); err != nil {
			return err
		}
	}
}

// raw passes any value and returns its text, and whether that has white space to remove.
func (s *scanner) raw() (text []byte, spaced bool, err error) {
	s.peek()
	start := s.pos
	s.spaced = false
	if err := s.skip(); err != nil {
		return nil, false, err
	}
	return s.data[start:s.pos], s.spaced, nil
}

// checkDocument checks that data is one JSON value and nothing else.
func checkDocument(data []byte) error {
	s := scanner{data: data}
	if err := s.skip(); err != nil {
		return err
	}
	if s.peek(); s.pos < len(data) {
		return s.fail("text after the value")
	}
	return nil
}

// appendCompact appends text, a valid JSON value, without the white space outside of strings.
func appendCompact(dst, text []byte) []byte {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\n', '\r':
		case '"':
			start := i
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			dst = append(dst, text[start:i+1]...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// jsonType names the type of a value by its first byte.
func jsonType(c byte) string {
	switch c {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}
