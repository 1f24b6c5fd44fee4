package broker

import (
	"unicode/utf8"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
)

// appendMessage appends a message as its receivers get it.
func appendMessage(b []byte, m *group.Message) []byte { return command.AppendMessage(b, m) }

// appendJSONString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD, as in
// encoding/json, whose encoder would cost an allocation for each string.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(b, s[from:i]...)
			b = append(b, "\uFFFD"...)
			from = i + n
		}
		i += n
	}
	return append(append(b, s[from:]...), '"')
}
