package mongo

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// headID is the _id of a log's head: four hex digits of a hash of the group id, which spread
// the groups over the shards, the escaped id, and the incarnation.
func headID(k group.Key) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(k.ID)) // a hash takes everything
	sum := h.Sum32()
	return fmt.Sprintf("%04x:%s", uint16(sum^sum>>16), storage.GroupRecordKey(k))
}

// messageID is the _id of a message: its head's and the SEQ. A group's messages lie together,
// in the order of their SEQs.
func messageID(head string, seq group.Seq) string { return head + ":" + storage.Num(int64(seq)) }

// logEnd is above the _ids of all messages of a log: ';' comes after ':'.
func logEnd(head string) string { return head + ";" }

// splitHeadID reads what headID wrote.
func splitHeadID(id string) (group.Key, error) {
	parts, err := storage.SplitKey(id)
	if err == nil && len(parts) != 3 {
		err = fmt.Errorf("%d parts", len(parts))
	}
	var inc int64
	if err == nil {
		inc, err = storage.ParseNum(parts[2])
	}
	if err != nil {
		return group.Key{}, fmt.Errorf("%w: _id %q: %w", storage.ErrCorrupt, id, err)
	}
	return group.Key{ID: group.ID(parts[1]), Incarnation: group.Incarnation(inc)}, nil
}

// splitMessageID reads what messageID wrote.
func splitMessageID(id string) (head string, seq group.Seq, err error) {
	i := strings.LastIndexByte(id, ':')
	if i < 0 {
		return "", 0, fmt.Errorf("%w: _id %q", storage.ErrCorrupt, id)
	}
	n, err := storage.ParseNum(id[i+1:])
	if err != nil {
		return "", 0, fmt.Errorf("%w: _id %q: %w", storage.ErrCorrupt, id, err)
	}
	return id[:i], group.Seq(n), nil
}

const (
	// tablePrefix starts the names of the collections that hold the records of one table.
	tablePrefix = "t_"
	// standingsName is the collection of the tables that a login reads together, so that it
	// can read them in one round trip. A record's _id there starts with the table's name.
	standingsName = "standings"
)

// A place is where a table's records are.
type place struct {
	collection string
	prefix     string // of the records' _ids, before their keys
}

// placeOf returns where a table's records are. A byte that a collection's name had better not
// have is escaped.
func placeOf(table string) (place, error) {
	if slices.Contains(storage.LoginTables, table) {
		return place{standingsName, table + ":"}, nil
	}
	if table == "" || len(table) > 64 {
		return place{}, fmt.Errorf("storage: %q is not the name of a table", table)
	}
	var b strings.Builder
	b.WriteString(tablePrefix)
	for i := range len(table) {
		c := table[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return place{collection: b.String()}, nil
}

// id is the _id of the record under key.
func (p place) id(key string) (string, error) {
	if len(key) > 1000 || !utf8.ValidString(key) || strings.IndexByte(key, 0) >= 0 {
		return "", fmt.Errorf("storage: a key of %d bytes is too long or not text", len(key))
	}
	return p.prefix + key, nil
}

// tableOf returns the table that has a collection of its own.
func tableOf(collection string) (string, bool) {
	name, ok := strings.CutPrefix(collection, tablePrefix)
	if !ok {
		return "", false
	}
	parts, err := storage.SplitKey(name)
	return strings.Join(parts, ":"), err == nil
}

// prefixEnd is the first string above all that start with prefix, in the order of code points,
// which is that of their bytes; empty: there is none.
func prefixEnd(prefix string) string {
	for prefix != "" {
		r, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		if r == 0xD7FF {
			return prefix + "\uE000"
		}
		if r < utf8.MaxRune {
			return prefix + string(r+1)
		}
	}
	return ""
}
