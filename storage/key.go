package storage

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rookery-im/rookery/group"
)

// Key joins the parts of a record's key. '%', ':' and everything outside 0x20–0x7E in a part
// is percent-encoded, so that no part can reach into its neighbour and no group's range can
// lie inside another's.
func Key(parts ...string) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(':')
		}
		escape(&b, p)
	}
	return b.String()
}

// Prefix is the prefix of all keys that start with the given parts and have more.
func Prefix(parts ...string) string {
	if len(parts) == 0 {
		return ""
	}
	return Key(parts...) + ":"
}

// SplitKey takes a key apart again.
func SplitKey(key string) ([]string, error) {
	parts := strings.Split(key, ":")
	for i, p := range parts {
		var b strings.Builder
		for j := 0; j < len(p); j++ {
			if p[j] != '%' {
				b.WriteByte(p[j])
				continue
			}
			if j+2 >= len(p) {
				return nil, fmt.Errorf("storage: key %q: cut escape", key)
			}
			c, err := strconv.ParseUint(p[j+1:j+3], 16, 8)
			if err != nil {
				return nil, fmt.Errorf("storage: key %q: %w", key, err)
			}
			b.WriteByte(byte(c))
			j += 2
		}
		parts[i] = b.String()
	}
	return parts, nil
}

// GroupParts are the two parts by which a group's records start: its id and its incarnation.
func GroupParts(k group.Key) (id, incarnation string) {
	return string(k.ID), Num(int64(k.Incarnation))
}

// GroupRecordKey is the key of a record that belongs to one life of a group.
func GroupRecordKey(k group.Key, parts ...string) string {
	id, inc := GroupParts(k)
	return Key(append([]string{id, inc}, parts...)...)
}

// GroupPrefix is the prefix of all records of a table that belong to one life of a group (and
// start with the given further parts).
func GroupPrefix(k group.Key, parts ...string) string {
	id, inc := GroupParts(k)
	return Prefix(append([]string{id, inc}, parts...)...)
}

// Num formats a number so that the order of the text is the order of the numbers (not
// negative: 16 hex digits).
func Num(n int64) string { return fmt.Sprintf("%016x", uint64(n)) }

// ParseNum reads what Num wrote.
func ParseNum(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	return int64(n), err
}

func escape(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7E || c == '%' || c == ':' {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
}
