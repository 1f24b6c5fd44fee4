// Package group holds Rookery's domain: groups, members, messages, their limits, the table of
// what each type of group allows, and the error codes that callers see.
//
// It is pure data and rules: no I/O, no clock, no goroutine, and nothing but the standard
// library. Every other package speaks in these types; wire names live at the edges.
package group

import (
	"encoding/json"
	"math"
)

// An Account names a user within the app: 1 to 32 bytes of printable ASCII. The empty
// Account is nobody.
type Account string

// SystemAccount is the sender of tips and of system notices.
const SystemAccount Account = "@TIM#SYSTEM"

// MaxAccountLen is the longest UserID, in bytes.
const MaxAccountLen = 32

// Valid reports whether a is a well-formed UserID.
func (a Account) Valid() bool {
	return len(a) >= 1 && len(a) <= MaxAccountLen && printable(string(a))
}

// A Seq is a message's place in its group: 1, 2, 3, … without gaps among stored messages.
// Zero means "no place": the message was not stored.
type Seq int64

// An Incarnation tells the lives of one group id apart: 1 for the first group that was
// created under the id, 2 for the one created after that was destroyed. Zero: no such group.
type Incarnation int64

// Key names one life of a group. Everything that is kept for a group is kept under its Key,
// so that nothing of a destroyed group meets a later one of the same id.
type Key struct {
	ID          ID
	Incarnation Incarnation
}

// Forever is the end of a mute that does not end, in Unix seconds, as the wire has it.
const Forever int64 = math.MaxUint32

// Field is a custom field. Value is opaque to us.
type Field struct {
	Key   string `json:"Key"`
	Value string `json:"Value"`
}

// A Group is a group's record: what changes rarely. Counters that change with every message
// (the next SEQ, the time of the last message) are in the log's head, not here.
type Group struct {
	ID                ID              `json:"id"`
	Incarnation       Incarnation     `json:"inc"`
	Type              Type            `json:"type"`
	Name              string          `json:"name,omitzero"`
	Introduction      string          `json:"intro,omitzero"`
	Notification      string          `json:"notif,omitzero"`
	FaceURL           string          `json:"face,omitzero"`
	Owner             Account         `json:"owner,omitzero"`   // empty: the group has no owner
	Creator           Account         `json:"creator,omitzero"` // who created it; the answer to a taken id depends on it
	CreateTime        int64           `json:"ctime"`            // Unix seconds
	InfoSeq           int64           `json:"infoseq,omitzero"` // grows with every change of this record
	InfoTime          int64           `json:"infotime,omitzero"`
	MaxMembers        int             `json:"max,omitzero"`    // 0: the type's default
	MemberCount       int             `json:"count,omitzero"`  // members stored now
	ApplyJoin         JoinOption      `json:"apply,omitzero"`  // empty: the type's default
	InviteJoin        JoinOption      `json:"invite,omitzero"` // empty: the type's default
	MuteAll           bool            `json:"muteall,omitzero"`
	HistoryBeforeJoin *bool           `json:"before,omitempty"` // nil: the type's default
	Activated         bool            `json:"active,omitzero"`  // Work groups: a message was sent
	Custom            []Field         `json:"custom,omitempty"`
	Limits            *Limits         `json:"limits,omitempty"` // nil: the configured limits
	ClearedTo         Seq             `json:"cleared,omitzero"` // members see no message at or below it
	Extra             json.RawMessage `json:"extra,omitempty"`  // members of create_group that we keep but do not read
}

// Key returns the key of this life of the group.
func (g *Group) Key() Key { return Key{ID: g.ID, Incarnation: g.Incarnation} }

// Clone returns a copy that shares nothing mutable with g.
func (g *Group) Clone() *Group {
	c := *g
	c.Custom = append([]Field(nil), g.Custom...)
	if g.HistoryBeforeJoin != nil {
		c.HistoryBeforeJoin = new(*g.HistoryBeforeJoin)
	}
	if g.Limits != nil {
		l := *g.Limits
		c.Limits = &l
	}
	return &c
}

// SeesHistoryBeforeJoin reports whether a member may read messages from before it joined.
func (g *Group) SeesHistoryBeforeJoin() bool {
	if g.HistoryBeforeJoin != nil {
		return *g.HistoryBeforeJoin
	}
	return g.Type.Rules().HistoryBeforeJoin
}

// Limits override the configured frequency limits for one group, in messages per second.
// A negative field means "as configured"; zero switches that limit off.
type Limits struct {
	PerSecond   int    `json:"n"`
	PerPriority [4]int `json:"p"` // by Priority-1
}

// A Member is one account's membership in one group.
type Member struct {
	Account  Account       `json:"acct"`
	Role     Role          `json:"role"`
	JoinTime int64         `json:"jtime"`         // Unix seconds
	JoinSeq  Seq           `json:"jseq,omitzero"` // the group's last SEQ at joining; what came later is the member's to see
	Receive  ReceiveOption `json:"recv,omitzero"` // zero: the type's default
	NameCard string        `json:"card,omitzero"` //
	Custom   []Field       `json:"custom,omitempty"`
}

// Clone returns a copy that shares nothing mutable with m.
func (m *Member) Clone() *Member {
	c := *m
	c.Custom = append([]Field(nil), m.Custom...)
	return &c
}

// A Profile is what an account shows of itself. Tags maps the wire's Tag_Profile_… names to
// JSON values (a string or a number).
type Profile struct {
	Account  Account                    `json:"acct"`
	Nick     string                     `json:"nick,omitzero"`
	FaceURL  string                     `json:"face,omitzero"`
	Created  int64                      `json:"ctime"`          // Unix seconds
	Changed  int64                      `json:"mtime,omitzero"` // Unix seconds; when Nick, FaceURL or Tags were changed last
	Tags     map[string]json.RawMessage `json:"tags,omitempty"` // all other profile items
	ValidSig int64                      `json:"valid,omitzero"` // UserSigs issued before it (Unix seconds) are refused: the account was kicked
	// MutedUntil keeps the account from sending to any group (setnospeaking), C2CMutedUntil
	// from one-to-one messages. Unix seconds; Forever: no end.
	MutedUntil    int64 `json:"gmute,omitzero"`
	C2CMutedUntil int64 `json:"cmute,omitzero"`
}
