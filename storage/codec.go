package storage

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rookery-im/rookery/group"
)

// ErrCorrupt says that stored bytes are not what EncodeMessage writes.
var ErrCorrupt = errors.New("storage: corrupt message")

// messageV1 is the first byte of an encoded message: the version of the layout. Layout 1 is
//
//	version  1 byte
//	has      uvarint, the has… bits: which optional parts follow
//	numbers  uvarint SEQ, incarnation; varint Time, Expires − Time (if hasExpires)
//	marks    MsgID 16 bytes, body hash 16 bytes
//	group    string
//	from     string
//	…        the optional parts, in the order of their bits
//
// A string or a byte slice is a uvarint length and its bytes, a list a uvarint count and its
// elements.
const messageV1 = 1

// The optional parts of an encoded message. New bits go to the end; a decoder that meets a
// bit it does not know refuses the message.
const (
	hasExpires = 1 << iota
	hasReleased
	hasEpoch
	hasRandom
	hasAgain
	hasPriority
	hasFlags
	hasState
	hasBody
	hasCloudCustomData
	hasOfflinePush
	hasMentions
	hasTo
	hasSender
	hasRevoker
	hasReason
	hasVersion
	hasEnd
)

// EncodeMessage appends the stored form of m to dst and returns the longer slice. Empty and
// nil slices are the same to it.
func EncodeMessage(dst []byte, m *group.Message) []byte {
	has := messageParts(m)
	dst = append(dst, messageV1)
	dst = binary.AppendUvarint(dst, has)
	dst = binary.AppendUvarint(dst, uint64(m.Seq))
	dst = binary.AppendUvarint(dst, uint64(m.Incarnation))
	dst = binary.AppendVarint(dst, m.Time)
	if has&hasExpires != 0 {
		dst = binary.AppendVarint(dst, m.Expires-m.Time)
	}
	dst = append(dst, m.ID[:]...)
	dst = append(dst, m.Hash[:]...)
	dst = appendText(dst, string(m.Group))
	dst = appendText(dst, string(m.From))
	if has&hasReleased != 0 {
		dst = binary.AppendVarint(dst, m.Released)
	}
	if has&hasEpoch != 0 {
		dst = binary.AppendVarint(dst, m.Epoch)
	}
	if has&hasRandom != 0 {
		dst = binary.BigEndian.AppendUint32(dst, m.Random)
	}
	if has&hasAgain != 0 {
		dst = binary.AppendUvarint(dst, uint64(m.Again.PacketID))
		dst = appendText(dst, m.Again.Client)
	}
	if has&hasPriority != 0 {
		dst = append(dst, byte(m.Priority))
	}
	if has&hasFlags != 0 {
		dst = binary.AppendUvarint(dst, uint64(m.Flags))
	}
	if has&hasState != 0 {
		dst = append(dst, byte(m.State))
	}
	if has&hasBody != 0 {
		dst = appendText(dst, m.Body)
	}
	if has&hasCloudCustomData != 0 {
		dst = appendText(dst, m.CloudCustomData)
	}
	if has&hasOfflinePush != 0 {
		dst = appendText(dst, m.OfflinePush)
	}
	if has&hasMentions != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(m.Mentions)))
		for _, mention := range m.Mentions {
			dst = appendBool(dst, mention.All)
			dst = appendText(dst, mention.Account)
		}
	}
	if has&hasTo != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(m.To)))
		for _, to := range m.To {
			dst = appendText(dst, to)
		}
	}
	if has&hasSender != 0 {
		dst = appendSender(dst, &m.Sender)
	}
	if has&hasRevoker != 0 {
		dst = appendText(dst, m.Revoker)
	}
	if has&hasReason != 0 {
		dst = appendText(dst, m.Reason)
	}
	if has&hasVersion != 0 {
		dst = binary.AppendVarint(dst, m.Version)
	}
	return dst
}

// DecodeMessage reads what EncodeMessage wrote. The message shares nothing with b. Bytes that
// EncodeMessage can't have written are refused with ErrCorrupt.
func DecodeMessage(b []byte) (*group.Message, error) {
	// One copy serves all strings of the message: they are kept and dropped together.
	r := reader{b: b, text: string(b)}
	if v := r.byte(); !r.bad && v != messageV1 {
		return nil, fmt.Errorf("%w: layout %d", ErrCorrupt, v)
	}
	has := r.uvarint()
	if has >= hasEnd {
		return nil, fmt.Errorf("%w: unknown parts %#x", ErrCorrupt, has)
	}
	m := new(group.Message)
	m.Seq = group.Seq(r.uvarint())
	m.Incarnation = group.Incarnation(r.uvarint())
	m.Time = r.varint()
	if has&hasExpires != 0 {
		m.Expires = m.Time + r.varint()
	}
	r.fixed(m.ID[:])
	r.fixed(m.Hash[:])
	m.Group = group.ID(r.string())
	m.From = group.Account(r.string())
	if has&hasReleased != 0 {
		m.Released = r.varint()
	}
	if has&hasEpoch != 0 {
		m.Epoch = r.varint()
	}
	if has&hasRandom != 0 {
		var random [4]byte
		r.fixed(random[:])
		m.Random, m.HasRandom = binary.BigEndian.Uint32(random[:]), true
	}
	if has&hasAgain != 0 {
		m.Again.PacketID = uint16(r.atMost(1<<16 - 1))
		m.Again.Client = r.string()
	}
	if has&hasPriority != 0 {
		m.Priority = group.Priority(r.byte())
	}
	if has&hasFlags != 0 {
		m.Flags = group.Flags(r.atMost(1<<32 - 1))
	}
	if has&hasState != 0 {
		m.State = group.State(r.byte())
	}
	if has&hasBody != 0 {
		m.Body = r.bytes()
	}
	if has&hasCloudCustomData != 0 {
		m.CloudCustomData = r.string()
	}
	if has&hasOfflinePush != 0 {
		m.OfflinePush = r.bytes()
	}
	if has&hasMentions != 0 {
		m.Mentions = make([]group.Mention, r.count())
		for i := range m.Mentions {
			m.Mentions[i] = group.Mention{All: r.bool(), Account: group.Account(r.string())}
		}
	}
	if has&hasTo != 0 {
		m.To = make([]group.Account, r.count())
		for i := range m.To {
			m.To[i] = group.Account(r.string())
		}
	}
	if has&hasSender != 0 {
		r.sender(&m.Sender)
	}
	if has&hasRevoker != 0 {
		m.Revoker = group.Account(r.string())
	}
	if has&hasReason != 0 {
		m.Reason = r.string()
	}
	if has&hasVersion != 0 {
		m.Version = r.varint()
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: cut short or too long", ErrCorrupt)
	}
	return m, nil
}

func messageParts(m *group.Message) uint64 {
	var has uint64
	set := func(bit uint64, there bool) {
		if there {
			has |= bit
		}
	}
	set(hasExpires, m.Expires != 0)
	set(hasReleased, m.Released != 0)
	set(hasEpoch, m.Epoch != 0)
	set(hasRandom, m.HasRandom)
	set(hasAgain, m.Again != group.Retransmission{})
	set(hasPriority, m.Priority != 0)
	set(hasFlags, m.Flags != 0)
	set(hasState, m.State != group.Live)
	set(hasBody, len(m.Body) > 0)
	set(hasCloudCustomData, m.CloudCustomData != "")
	set(hasOfflinePush, len(m.OfflinePush) > 0)
	set(hasMentions, len(m.Mentions) > 0)
	set(hasTo, len(m.To) > 0)
	set(hasSender, m.Sender.Nick != "" || m.Sender.FaceURL != "" || m.Sender.NameCard != "" ||
		m.Sender.Role != "" || len(m.Sender.UserCustom) > 0 || len(m.Sender.MemberCustom) > 0)
	set(hasRevoker, m.Revoker != "")
	set(hasReason, m.Reason != "")
	set(hasVersion, m.Version != 0)
	return has
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendSender(dst []byte, s *group.Sender) []byte {
	dst = appendText(dst, s.Nick)
	dst = appendText(dst, s.FaceURL)
	dst = appendText(dst, s.NameCard)
	dst = appendText(dst, s.Role)
	for _, fields := range [...][]group.Field{s.UserCustom, s.MemberCustom} {
		dst = binary.AppendUvarint(dst, uint64(len(fields)))
		for _, f := range fields {
			dst = appendText(dst, f.Key)
			dst = appendText(dst, f.Value)
		}
	}
	return dst
}

// A reader takes an encoded message apart. After the first bad part everything reads as zero.
type reader struct {
	b    []byte // what is left
	text string // all of it, for the strings
	bad  bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) bool() bool {
	c := r.byte()
	if c > 1 {
		r.fail()
	}
	return c == 1
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) atMost(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.fail()
		return 0
	}
	return v
}

// count reads the length of a list. An element takes a byte at least, so that a count can't
// ask for more memory than the message itself has.
func (r *reader) count() int { return int(r.atMost(uint64(len(r.b)))) }

func (r *reader) fixed(dst []byte) {
	if len(r.b) < len(dst) {
		r.fail()
		return
	}
	r.b = r.b[copy(dst, r.b):]
}

func (r *reader) string() string {
	n := r.count()
	at := len(r.text) - len(r.b)
	if r.bad || n > len(r.b) {
		r.fail()
		return ""
	}
	r.b = r.b[n:]
	return r.text[at : at+n]
}

func (r *reader) bytes() []byte { return []byte(r.string()) }

func (r *reader) sender(s *group.Sender) {
	s.Nick = r.string()
	s.FaceURL = r.string()
	s.NameCard = r.string()
	s.Role = r.string()
	for _, fields := range [...]*[]group.Field{&s.UserCustom, &s.MemberCustom} {
		n := r.count()
		if n == 0 {
			continue
		}
		*fields = make([]group.Field, n)
		for i := range *fields {
			(*fields)[i] = group.Field{Key: r.string(), Value: r.string()}
		}
	}
}
