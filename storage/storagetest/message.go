package storagetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// Epoch0 is the Time of the message with SEQ 0, had there been one: the start of an hour in
// November 2023.
const Epoch0 = 1_700_002_800

// Never is an Expires that no test lives to see.
const Never = 4_102_444_800

// Key returns the key of the first life of a group.
func Key(id group.ID) group.Key { return group.Key{ID: id, Incarnation: 1} }

// NewMessage returns a text message for key at seq, a second after the one before it, with a
// MsgID of its own.
func NewMessage(key group.Key, seq group.Seq) *group.Message {
	body := fmt.Appendf(nil, `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"message %d"}}]`, seq)
	m := &group.Message{
		Group: key.ID, Incarnation: key.Incarnation, Seq: seq, Time: Epoch0 + int64(seq), Expires: Never,
		From: "alice", Random: rand.Uint32(), HasRandom: true, Hash: group.HashBody(body),
		Priority: group.Normal, Body: body,
	}
	binary.LittleEndian.PutUint64(m.ID[:], rand.Uint64())
	binary.LittleEndian.PutUint64(m.ID[8:], rand.Uint64())
	return m
}

// FullMessage returns a message in which no field is zero.
func FullMessage(key group.Key, seq group.Seq) *group.Message {
	m := NewMessage(key, seq)
	m.Released = m.Time*1e9 + 123_456_789
	m.Epoch = 7
	m.Again = group.Retransmission{Client: "phone/1", PacketID: 65535}
	m.Priority = group.Lowest
	m.Flags = group.NoUnread | group.Unrecallable
	m.State = group.Recalled
	m.CloudCustomData = "cloud \x00 \u00e9 \U0001F600"
	m.OfflinePush = []byte(`{"Title":"hi"}`)
	m.Mentions = []group.Mention{{Account: "bob"}, {All: true}}
	m.To = []group.Account{"carol", "dave"}
	m.Sender = group.Sender{
		Nick: "Al", FaceURL: "http://face", NameCard: "Card", Role: "Admin",
		UserCustom:   []group.Field{{Key: "k.$", Value: "v"}, {Key: "", Value: ""}},
		MemberCustom: []group.Field{{Key: "m", Value: "w"}},
	}
	m.Revoker, m.Reason, m.Version = "bob", "a mistake", 3
	return m
}

// NewBatch returns a batch of n new messages after tail.
func NewBatch(key group.Key, tail group.Seq, n int) *storage.Batch {
	b := &storage.Batch{Key: key, Tail: tail}
	for i := range n {
		b.Messages = append(b.Messages, NewMessage(key, tail+1+group.Seq(i)))
	}
	return b
}
