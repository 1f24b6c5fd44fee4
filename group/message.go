package group

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// A MsgID is unique per draft. It answers "was this write mine?" after an unclear answer of
// the store; a sender's Random never does.
type MsgID [16]byte

// String returns 32 hex digits.
func (id MsgID) String() string { return hex.EncodeToString(id[:]) }

// A BodyHash is the first half of the SHA-256 of a message's body as it was sent.
type BodyHash [16]byte

// HashBody returns the hash by which duplicates are recognised.
func HashBody(body []byte) BodyHash {
	sum := sha256.Sum256(body)
	return BodyHash(sum[:16])
}

// Priority orders messages under frequency control. The numbers are the wire's.
type Priority uint8

// The priorities, most urgent first. The zero Priority means "not given": Normal.
const (
	High Priority = iota + 1
	Normal
	Low
	Lowest
)

// Priorities is how many priorities there are.
const Priorities = 4

var priorityNames = [...]string{High: "High", Normal: "Normal", Low: "Low", Lowest: "Lowest"}

// String returns the wire's name.
func (p Priority) String() string {
	if p < High || p > Lowest {
		return "Normal"
	}
	return priorityNames[p]
}

// ParsePriority reads the wire's case-sensitive name. The empty name is Normal.
func ParsePriority(s string) (Priority, bool) {
	switch s {
	case "":
		return Normal, true
	case "High":
		return High, true
	case "Normal":
		return Normal, true
	case "Low":
		return Low, true
	case "Lowest":
		return Lowest, true
	}
	return 0, false
}

// Flags are a message's properties that are either on or off.
type Flags uint32

// The message flags.
const (
	OnlineOnly        Flags = 1 << iota // delivered to those online, not stored, no SEQ
	NoUnread                            // does not count as unread
	NoLastMsg                           // does not become the conversation's last message
	MuteNotifications                   // delivered without alert
	NeedReceipt                         // the sender wants read receipts
	Extensions                          // key-value extensions may be attached
	System                              // a tip: sent by the system, exempt from hooks and flow control
	ForbidBefore                        // no before-callback for this message
	ForbidAfter                         // no after-callback for this message
	Imported                            // written by import_group_msg: no callback, no push
	Modified                            // the body was changed after sending
	Unrecallable                        // kept for tips that may not be recalled
)

// State says what is left of a stored message.
type State uint8

// The states. A recalled or deleted message keeps its SEQ as a tombstone without a body.
const (
	Live State = iota
	Recalled
	Deleted
)

// Sender is what receivers are shown of a sender: taken when the message is stamped, and
// stored with it.
type Sender struct {
	Nick         string  `json:"Nick,omitempty"`
	FaceURL      string  `json:"FaceUrl,omitempty"`
	NameCard     string  `json:"NameCard,omitempty"`
	Role         string  `json:"Role,omitempty"`
	UserCustom   []Field `json:"UserCustom,omitempty"`
	MemberCustom []Field `json:"MemberCustom,omitempty"`
}

// A Mention names a member, or everybody.
type Mention struct {
	All     bool
	Account Account
}

// MaxMentions and MaxRecipients bound GroupAtInfo and To_Account.
const (
	MaxMentions   = 30
	MaxRecipients = 50
)

// A Retransmission recognises an MQTT PUBLISH that is sent again with DUP set: together with
// the sender's account and the body hash it is the key of a message without a Random.
type Retransmission struct {
	Client   string // the client identifier as the client chose it
	PacketID uint16 // 0: no retransmission key
}

// A Message is one message of a group, stored or on its way. Once stamped it is never
// changed: a recall or a modification makes a new one in its place.
type Message struct {
	Group       ID
	Incarnation Incarnation
	Seq         Seq   // 0: not stored
	Time        int64 // Unix seconds, server time; never runs backwards within a group
	Expires     int64 // Unix seconds; from then on nobody sees it. 0: never
	Released    int64 // Unix nanoseconds at which flow control let it go; 0: exempt
	Epoch       int64 // of the lane that stamped it

	ID        MsgID
	From      Account
	Random    uint32
	HasRandom bool
	Again     Retransmission
	Hash      BodyHash // of the body as it was sent, before any callback changed it

	Priority        Priority
	Flags           Flags
	State           State
	Body            json.RawMessage // a JSON array of elements; empty in a tombstone
	CloudCustomData string
	OfflinePush     json.RawMessage // OfflinePushInfo as given; empty: none
	Mentions        []Mention
	To              []Account // directed to these (and the sender) only; empty: everybody
	Sender          Sender

	Revoker Account // who recalled it
	Reason  string  // why it was recalled
	Version int64   // grows with each modification
}

// Key returns the key of the group's life that the message belongs to.
func (m *Message) Key() Key { return Key{ID: m.Group, Incarnation: m.Incarnation} }

// Has reports whether all of f are set.
func (m *Message) Has(f Flags) bool { return m.Flags&f == f }

// VisibleTo reports whether a may see the message at all, membership aside: directed
// messages are for their recipients and their sender.
func (m *Message) VisibleTo(a Account) bool {
	return len(m.To) == 0 || m.From == a || slices.Contains(m.To, a)
}

// Tombstone returns what stays of m after it was recalled or deleted: its place, its sender
// and all that recognises a duplicate, but no content.
func (m *Message) Tombstone(s State, revoker Account, reason string) *Message {
	t := *m
	t.State, t.Revoker, t.Reason = s, revoker, reason
	t.Body, t.CloudCustomData, t.OfflinePush, t.Mentions = nil, "", nil, nil
	return &t
}

// A DuplicateKey recognises a message that is sent again. Two messages of one sender with
// equal keys within the duplicate window are one message.
type DuplicateKey [16]byte

// DuplicateKey returns the message's key, and false if nothing marks it as repeatable (it
// has neither a Random nor a packet identifier).
func (m *Message) DuplicateKey() (DuplicateKey, bool) {
	return NewDuplicateKey(m.From, m.Random, m.HasRandom, m.Again, m.Hash)
}

// NewDuplicateKey returns the key of (from, random, hash) or, for a message without a
// Random, of (from, client identifier, packet identifier, hash).
func NewDuplicateKey(from Account, random uint32, hasRandom bool, again Retransmission, hash BodyHash) (DuplicateKey, bool) {
	var buf [256]byte
	b := buf[:0]
	switch {
	case hasRandom:
		b = append(b, 'r')
		b = binary.BigEndian.AppendUint32(b, random)
	case again.PacketID != 0:
		b = append(b, 'p')
		b = binary.BigEndian.AppendUint16(b, again.PacketID)
		b = binary.AppendUvarint(b, uint64(len(again.Client)))
		b = append(b, again.Client...)
	default:
		return DuplicateKey{}, false
	}
	b = append(b, hash[:]...)
	b = append(b, from...)
	sum := sha256.Sum256(b)
	return DuplicateKey(sum[:16]), true
}

// Any reports whether at least one of mask is set.
func (f Flags) Any(mask Flags) bool { return f&mask != 0 }
