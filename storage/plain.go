package storage

import "github.com/rookery-im/rookery/group"

// A login decodes two records for each of its groups, and encoding/json takes most of the time
// of that. The decoders here read what the tables write of them: one JSON object of
// known members, which are whole numbers and text without escapes. They refuse everything
// else, and then encoding/json has the word.

// plainDecoders are the tables' by their names. They fill v, a pointer to a record with its
// zero value, and report whether they could.
var plainDecoders = map[string]func(b []byte, v any) bool{
	"joined": func(b []byte, v any) bool {
		j, ok := v.(*JoinedGroup)
		return ok && plainObject(b, func(key, text []byte, n int64) bool { return j.plain(key, text, n) })
	},
	"members": func(b []byte, v any) bool {
		m, ok := v.(*group.Member)
		return ok && plainObject(b, func(key, text []byte, n int64) bool { return plainMember(m, key, text, n) })
	},
}

func (j *JoinedGroup) plain(key, text []byte, n int64) bool {
	switch string(key) {
	case "id":
		j.ID = group.ID(text)
		return text != nil
	case "inc":
		j.Incarnation = group.Incarnation(n)
	case "type":
		return text == nil && plainByte(&j.Type, n)
	case "jtime":
		j.JoinTime = n
	case "jseq":
		j.JoinSeq = group.Seq(n)
	case "recv":
		return text == nil && plainByte(&j.Receive, n)
	case "role":
		return text == nil && plainByte(&j.Role, n)
	default:
		return false
	}
	return text == nil
}

func plainMember(m *group.Member, key, text []byte, n int64) bool {
	switch string(key) {
	case "acct":
		m.Account = group.Account(text)
		return text != nil
	case "card":
		m.NameCard = string(text)
		return text != nil
	case "role":
		return text == nil && plainByte(&m.Role, n)
	case "jtime":
		m.JoinTime = n
	case "jseq":
		m.JoinSeq = group.Seq(n)
	case "recv":
		return text == nil && plainByte(&m.Receive, n)
	default:
		return false
	}
	return text == nil
}

func plainByte[T ~uint8](to *T, n int64) bool {
	*to = T(n)
	return n >= 0 && n <= 255
}

// plainObject calls take for the members of a JSON object, with text for a string and n, and a
// nil text, for a number. It reports false when the object is not plain, or take does.
func plainObject(b []byte, take func(key, text []byte, n int64) bool) bool {
	if len(b) < 2 || b[0] != '{' {
		return false
	}
	if b[1] == '}' {
		return len(b) == 2
	}
	for b = b[1:]; ; b = b[1:] { // past '{', or ','
		key, rest, ok := plainText(b)
		if !ok || len(rest) == 0 || rest[0] != ':' {
			return false
		}
		var text []byte
		var n int64
		if rest = rest[1:]; len(rest) > 0 && rest[0] == '"' {
			text, rest, ok = plainText(rest)
		} else {
			n, rest, ok = plainNumber(rest)
		}
		if !ok || len(rest) == 0 || !take(key, text, n) {
			return false
		}
		if rest[0] == '}' {
			return len(rest) == 1
		}
		if rest[0] != ',' {
			return false
		}
		b = rest
	}
}

// plainText cuts a string without escapes off b. It is not nil.
func plainText(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[1:i], b[i+1:], true
		case c < 0x20 || c > 0x7E || c == '\\':
			return nil, nil, false
		}
	}
	return nil, nil, false
}

// plainNumber cuts a whole number off b.
func plainNumber(b []byte) (n int64, rest []byte, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		n = 10*n + int64(b[i]-'0')
	}
	if i == 0 || i > 18 || i > 1 && b[0] == '0' {
		return 0, nil, false
	}
	if negative {
		n = -n
	}
	return n, b[i:], !negative || n != 0
}
