package pebble

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// The first byte of every key.
const (
	headSpace    = 'h'
	messageSpace = 'm'
	expirySpace  = 'e'
	hourSpace    = 'x'
	recordSpace  = 't'
)

// secondsPerHour is the width of the time index.
const secondsPerHour = 3600

func appendGroup(b []byte, k group.Key) []byte {
	b = append(b, storage.Key(string(k.ID))...)
	b = append(b, 0)
	return binary.BigEndian.AppendUint64(b, uint64(k.Incarnation))
}

// cutGroup takes the group off the front of an index key.
func cutGroup(b []byte) (k group.Key, rest []byte, err error) {
	id, rest, ok := bytes.Cut(b, []byte{0})
	if !ok || len(rest) < 8 {
		return group.Key{}, nil, fmt.Errorf("%w: index key %q", storage.ErrCorrupt, b)
	}
	parts, err := storage.SplitKey(string(id))
	if err != nil {
		return group.Key{}, nil, err
	}
	k = group.Key{ID: group.ID(parts[0]), Incarnation: group.Incarnation(binary.BigEndian.Uint64(rest))}
	return k, rest[8:], nil
}

func headKey(k group.Key) []byte {
	return appendGroup(append(make([]byte, 0, 64), headSpace), k)
}

// messagePrefix is what the keys of all messages of one log start with.
func messagePrefix(k group.Key) []byte {
	return appendGroup(append(make([]byte, 0, 72), messageSpace), k)
}

// appendSeq makes a message's key out of its log's prefix. It never changes prefix.
func appendSeq(prefix []byte, seq group.Seq) []byte {
	key := append(make([]byte, 0, len(prefix)+8), prefix...)
	return binary.BigEndian.AppendUint64(key, uint64(seq))
}

// messageBounds are the keys of the messages with from <= SEQ < to.
func messageBounds(k group.Key, from, to group.Seq) (lower, upper []byte) {
	prefix := messagePrefix(k)
	return appendSeq(prefix, max(from, 0)), appendSeq(prefix, max(to, 0))
}

func hourOf(unix int64) uint64 { return uint64(max(unix, 0)) / secondsPerHour }

func hourKey(hour uint64, k group.Key) []byte {
	b := append(make([]byte, 0, 72), hourSpace)
	return appendGroup(binary.BigEndian.AppendUint64(b, hour), k)
}

func expiryKey(hour uint64, k group.Key, first group.Seq) []byte {
	b := append(make([]byte, 0, 80), expirySpace)
	b = appendGroup(binary.BigEndian.AppendUint64(b, hour), k)
	return binary.BigEndian.AppendUint64(b, uint64(first))
}

// cutHour takes the space and the hour off the front of an index key.
func cutHour(b []byte) (hour uint64, rest []byte, err error) {
	if len(b) < 9 {
		return 0, nil, fmt.Errorf("%w: index key %q", storage.ErrCorrupt, b)
	}
	return binary.BigEndian.Uint64(b[1:]), b[9:], nil
}

// indexValue is the value of a run or an hour.
func indexValue(generation uint64, seq group.Seq) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), generation)
	return binary.BigEndian.AppendUint64(b, uint64(seq))
}

func parseIndexValue(b []byte) (generation uint64, seq group.Seq, err error) {
	if len(b) != 16 {
		return 0, 0, fmt.Errorf("%w: index value %x", storage.ErrCorrupt, b)
	}
	return binary.BigEndian.Uint64(b), group.Seq(binary.BigEndian.Uint64(b[8:])), nil
}

func recordPrefix(table string) ([]byte, error) {
	if table == "" || strings.IndexByte(table, 0) >= 0 {
		return nil, fmt.Errorf("storage: bad table name %q", table)
	}
	b := append(make([]byte, 0, 64), recordSpace)
	b = append(b, table...)
	return append(b, 0), nil
}

func recordKey(table, key string) ([]byte, error) {
	b, err := recordPrefix(table)
	return append(b, key...), err
}

// prefixEnd is the first key above all keys that start with prefix.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// A head is what is kept of each log beside its messages.
type head struct {
	storage.Head
	// generation tells this log from one that was dropped under the same key.
	generation uint64
	// expiryHour and runStart are the group's last run: its messages from runStart on expire in that
	// hour. A runStart of 0 means that the last message never expires.
	expiryHour uint64
	runStart   group.Seq
}

// headV1 is the first byte of a stored head, followed by its numbers as varints.
const headV1 = 1

func (h *head) encode() []byte {
	b := append(make([]byte, 0, 48), headV1)
	b = binary.AppendUvarint(b, uint64(h.Tail))
	b = binary.AppendVarint(b, h.Epoch)
	b = binary.AppendVarint(b, h.Time)
	b = binary.AppendUvarint(b, uint64(h.First))
	b = binary.AppendUvarint(b, h.generation)
	b = binary.AppendUvarint(b, h.expiryHour)
	return binary.AppendUvarint(b, uint64(h.runStart))
}

func decodeHead(b []byte) (head, error) {
	var h head
	if len(b) == 0 || b[0] != headV1 {
		return h, fmt.Errorf("%w: head %x", storage.ErrCorrupt, b)
	}
	b = b[1:]
	bad := false
	take := func(v uint64, n int) uint64 {
		if n <= 0 {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	unsigned := func() uint64 { return take(binary.Uvarint(b)) }
	signed := func() int64 {
		v, n := binary.Varint(b)
		return int64(take(uint64(v), n))
	}
	h.Tail = group.Seq(unsigned())
	h.Epoch = signed()
	h.Time = signed()
	h.First = group.Seq(unsigned())
	h.generation = unsigned()
	h.expiryHour = unsigned()
	h.runStart = group.Seq(unsigned())
	if bad || len(b) > 0 {
		return head{}, fmt.Errorf("%w: head", storage.ErrCorrupt)
	}
	return h, nil
}
