package mongo

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// maxDocument is the largest message: the server's limit of 16 MiB, less room for what it adds.
const maxDocument = 16<<20 - 64<<10

const secondsPerHour = 3600

// A messageDoc is a message as it is stored. What is outside of Content never changes.
type messageDoc struct {
	ID      string         `bson:"_id"`
	Hour    int64          `bson:"h"`           // Time in whole hours
	Time    int64          `bson:"t"`           // Unix seconds
	Expires *bson.DateTime `bson:"x,omitempty"` // absent: never
	Epoch   int64          `bson:"e"`           // of the append
	Content content        `bson:"m"`
}

// content is what a recall or a modification replaces.
type content struct {
	ID              []byte     `bson:"id"`
	Hash            []byte     `bson:"hash"`
	From            text       `bson:"from"`
	Released        int64      `bson:"rel,omitempty"`
	Epoch           int64      `bson:"ep,omitempty"`
	Random          *int64     `bson:"rnd,omitempty"`
	Client          text       `bson:"cl,omitempty"`
	PacketID        int64      `bson:"pid,omitempty"`
	Priority        int64      `bson:"prio,omitempty"`
	Flags           int64      `bson:"fl,omitempty"`
	State           int64      `bson:"st,omitempty"`
	Body            []byte     `bson:"body,omitempty"`
	CloudCustomData text       `bson:"cloud,omitempty"`
	OfflinePush     []byte     `bson:"push,omitempty"`
	Mentions        []mention  `bson:"at,omitempty"`
	To              []text     `bson:"to,omitempty"`
	Nick            text       `bson:"nick,omitempty"`
	FaceURL         text       `bson:"face,omitempty"`
	NameCard        text       `bson:"card,omitempty"`
	Role            text       `bson:"role,omitempty"`
	UserCustom      []keyValue `bson:"uc,omitempty"`
	MemberCustom    []keyValue `bson:"mc,omitempty"`
	Revoker         text       `bson:"rev,omitempty"`
	Reason          text       `bson:"why,omitempty"`
	Version         int64      `bson:"ver,omitempty"`
}

type mention struct {
	All     bool `bson:"all,omitempty"`
	Account text `bson:"a,omitempty"`
}

// A keyValue is a custom field: its name is data, never the name of a field of ours.
type keyValue struct {
	Key   text `bson:"k"`
	Value text `bson:"v"`
}

// text is a BSON string, or, where the bytes are no UTF-8 text or hold a NUL that not every
// server keeps, a binary.
type text string

// MarshalBSONValue implements bson.ValueMarshaler.
func (t text) MarshalBSONValue() (byte, []byte, error) {
	var v any = string(t)
	if !utf8.ValidString(string(t)) || strings.IndexByte(string(t), 0) >= 0 {
		v = []byte(t)
	}
	typ, data, err := bson.MarshalValue(v)
	return byte(typ), data, err
}

// UnmarshalBSONValue implements bson.ValueUnmarshaler.
func (t *text) UnmarshalBSONValue(typ byte, data []byte) error {
	v := bson.RawValue{Type: bson.Type(typ), Value: data}
	if s, ok := v.StringValueOK(); ok {
		*t = text(s)
		return nil
	}
	if _, b, ok := v.BinaryOK(); ok {
		*t = text(b)
		return nil
	}
	return fmt.Errorf("%w: a %v where text belongs", storage.ErrCorrupt, bson.Type(typ))
}

// IsZero makes omitempty work.
func (t text) IsZero() bool { return t == "" }

// encodeMessage returns m's document as the append of the given epoch writes it.
func encodeMessage(head string, m *group.Message, epoch int64) (bson.Raw, error) {
	d := messageDoc{
		ID: messageID(head, m.Seq), Hour: hourOf(m.Time), Time: m.Time, Epoch: epoch, Content: newContent(m),
	}
	if m.Expires != 0 {
		d.Expires = new(bson.NewDateTimeFromTime(time.Unix(m.Expires, 0)))
	}
	raw, err := bson.Marshal(&d)
	if err != nil {
		return nil, fmt.Errorf("storage: group %s: SEQ %d: %w", m.Group, m.Seq, err)
	}
	if len(raw) > maxDocument {
		return nil, fmt.Errorf("storage: group %s: SEQ %d: %d bytes are more than a document holds", m.Group, m.Seq, len(raw))
	}
	return raw, nil
}

func newContent(m *group.Message) content {
	c := content{
		ID: m.ID[:], Hash: m.Hash[:], From: text(m.From), Released: m.Released, Epoch: m.Epoch,
		Client: text(m.Again.Client), PacketID: int64(m.Again.PacketID),
		Priority: int64(m.Priority), Flags: int64(m.Flags), State: int64(m.State),
		Body: m.Body, CloudCustomData: text(m.CloudCustomData), OfflinePush: m.OfflinePush,
		Nick: text(m.Sender.Nick), FaceURL: text(m.Sender.FaceURL), NameCard: text(m.Sender.NameCard), Role: text(m.Sender.Role),
		UserCustom: keyValues(m.Sender.UserCustom), MemberCustom: keyValues(m.Sender.MemberCustom),
		Revoker: text(m.Revoker), Reason: text(m.Reason), Version: m.Version,
	}
	if m.HasRandom {
		c.Random = new(int64(m.Random))
	}
	for _, a := range m.Mentions {
		c.Mentions = append(c.Mentions, mention{a.All, text(a.Account)})
	}
	for _, a := range m.To {
		c.To = append(c.To, text(a))
	}
	return c
}

// decodeMessage reads what encodeMessage wrote.
func decodeMessage(raw bson.Raw) (*group.Message, error) {
	var d messageDoc
	if err := bson.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	head, seq, err := splitMessageID(d.ID)
	if err != nil {
		return nil, err
	}
	key, err := splitHeadID(head)
	if err != nil {
		return nil, err
	}
	c := &d.Content
	m := &group.Message{
		Group: key.ID, Incarnation: key.Incarnation, Seq: seq, Time: d.Time,
		Released: c.Released, Epoch: c.Epoch, From: group.Account(c.From),
		Again:    group.Retransmission{Client: string(c.Client), PacketID: uint16(c.PacketID)},
		Priority: group.Priority(c.Priority), Flags: group.Flags(c.Flags), State: group.State(c.State),
		Body: orNil(c.Body), CloudCustomData: string(c.CloudCustomData), OfflinePush: orNil(c.OfflinePush),
		Sender: group.Sender{
			Nick: string(c.Nick), FaceURL: string(c.FaceURL), NameCard: string(c.NameCard), Role: string(c.Role),
			UserCustom: fields(c.UserCustom), MemberCustom: fields(c.MemberCustom),
		},
		Revoker: group.Account(c.Revoker), Reason: string(c.Reason), Version: c.Version,
	}
	if copy(m.ID[:], c.ID) != len(m.ID) || copy(m.Hash[:], c.Hash) != len(m.Hash) {
		return nil, fmt.Errorf("%w: _id %q: a mark is cut", storage.ErrCorrupt, d.ID)
	}
	if d.Expires != nil {
		m.Expires = d.Expires.Time().Unix()
	}
	if c.Random != nil {
		m.Random, m.HasRandom = uint32(*c.Random), true
	}
	for _, a := range c.Mentions {
		m.Mentions = append(m.Mentions, group.Mention{All: a.All, Account: group.Account(a.Account)})
	}
	for _, a := range c.To {
		m.To = append(m.To, group.Account(a))
	}
	return m, nil
}

func keyValues(fs []group.Field) []keyValue {
	var out []keyValue
	for _, f := range fs {
		out = append(out, keyValue{text(f.Key), text(f.Value)})
	}
	return out
}

func fields(kvs []keyValue) []group.Field {
	var out []group.Field
	for _, kv := range kvs {
		out = append(out, group.Field{Key: string(kv.Key), Value: string(kv.Value)})
	}
	return out
}

func orNil(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	return b
}

func expired(m *group.Message) bool { return m.Expires != 0 && m.Expires <= time.Now().Unix() }

// hourOf rounds down, also before 1970.
func hourOf(unix int64) int64 {
	h := unix / secondsPerHour
	if unix%secondsPerHour < 0 {
		h--
	}
	return h
}
