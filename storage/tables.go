package storage

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/rookery-im/rookery/group"
)

// The tables. A key's parts are listed in order; {group} stands for two parts, the id and the
// incarnation (GroupRecordKey). Who writes: "lane" means only through the group's lane, so
// that there is one writer.
var (
	// Accounts: {account}. Profile and kick time. Written by the account commands and the first login.
	Accounts = Table[group.Profile]{"accounts"}
	// Absentees: {account}. The account's mobile devices that have lost their connection. Written by command.Absent.
	Absentees = Table[Absentee]{"absentees"}
	// Groups: {id}. The current life of a group id. Lane.
	Groups = Table[group.Group]{"groups"}
	// Lives: {id}. The last incarnation that the id had; outlives the group. Lane.
	Lives = Table[Life]{"lives"}
	// Members: {group}{account}. The truth about membership. Lane.
	Members = Table[group.Member]{"members"}
	// Joined: {account}{id}. The groups of a user, an index of Members written with it; a
	// reader checks the incarnation against Groups and the membership against Members. Lane.
	Joined = Table[JoinedGroup]{"joined"}
	// Mutes: {group}{account}. Survives leaving and rejoining. Lane.
	Mutes = Table[Mute]{"mutes"}
	// Reads: {group}{account}. How far a member has read, as reported. Read reports move it forward only.
	Reads = Table[ReadMark]{"reads"}
	// Sends: {group}{account}. A member's last message: sending reads, too (see ReadSeq). Lane.
	Sends = Table[SendMark]{"sends"}
	// Uncounted: {group}. Which SEQs do not count as unread, all in one record. Lane.
	Uncounted = Table[UncountedSet]{"uncounted"}
	// Changes: {group}. The latest changes of messages that were stored already, all in one record. Lane.
	Changes = Table[ChangeSet]{"changes"}
	// Departures: {account}{id}. How the account's last membership in the group ended; removed by
	// the janitor when it is old. Lane and janitor.
	Departures = Table[Departure]{"departures"}
	// Rooms: {group}. The end of the block of SEQs that is reserved for a group type that stores no messages. Lane.
	Rooms = Table[Reserved]{"rooms"}
	// Trash: {group}. Lives of groups that were destroyed and whose records are yet to be removed. Lane; removed by the janitor.
	Trash = Table[Trashed]{"trash"}
	// Attributes: {group}. The group's attributes, all in one record. Lane.
	Attributes = Table[AttributeSet]{"attributes"}
	// Counters: {group}. The group's counters, all in one record. Lane.
	Counters = Table[CounterSet]{"counters"}
	// Extensions: {group}{seq}. The key-value extensions of one message. Lane.
	Extensions = Table[ExtensionSet]{"extensions"}
	// Receipts: {group}{seq}{account}. Who has confirmed to have read a message. Lane.
	Receipts = Table[Receipt]{"receipts"}
	// Pendencies: {group}{account}. Open requests to join. Lane.
	Pendencies = Table[Pendency]{"pendencies"}
	// Invitations: {account}{id}. Invitations that wait for the account's consent. Lane.
	Invitations = Table[Invitation]{"invitations"}
	// Bans: {group}{account}. Who may not come back before when. Lane.
	Bans = Table[Ban]{"bans"}
	// Marks: {group}{account}. The marks of members of live rooms. Lane.
	Marks = Table[MarkSet]{"marks"}
	// Views: {group}{account}. What a member removed from its own view of the history. Lane.
	Views = Table[View]{"views"}
	// Contacts: {account}{id}. Conversations that an account deleted from its recent contacts.
	Contacts = Table[DeletedContact]{"contacts"}
	// Sessions: {account}{device}. What MQTT keeps for a client that is away. Written by the
	// connection that holds the session.
	Sessions = Table[Session]{"sessions"}
	// SessionMarks: {account}{device}{id}. How far a session has come in a group; written with Sessions.
	SessionMarks = Table[SessionMark]{"sessionmarks"}
	// Days: {YYYYMMDD}. What was counted on that day.
	Days = Table[Day]{"days"}
	// Callbacks: {kind}{name}{number}. After-callbacks that are to be sent, in one queue for each
	// group (kind "group") and each account (kind "state"); written with what they tell of.
	Callbacks = Table[Callback]{"callbacks"}
	// DeadCallbacks: {number}. Those that were given up.
	DeadCallbacks = Table[Callback]{"deadcallbacks"}
	// Settings: {name}. Of the whole installation: schema version, secrets' fingerprints, job states.
	Settings = Table[Setting]{"settings"}
)

// GroupTables are the tables of which a group has one record that all members read when they log in.
var GroupTables = []string{Groups.Name, Uncounted.Name, Changes.Name}

// LoginTables are the tables of which a login reads many records at once.
var LoginTables = []string{Groups.Name, Uncounted.Name, Changes.Name, Members.Name, Reads.Name, Sends.Name, Views.Name}

// An AttributeSet holds a group's attributes.
type AttributeSet struct {
	Seq    int64             `json:"seq"` // grows with each change
	Values map[string]string `json:"v,omitempty"`
	// Recent bounds how often the attributes change: the instants of the last changes, ascending,
	// in Unix milliseconds.
	Recent []int64 `json:"r,omitempty"`
}

// A CounterSet holds a group's counters.
type CounterSet struct {
	Values map[string]int64 `json:"v,omitempty"`
}

// An ExtensionSet holds the extensions of one message.
type ExtensionSet struct {
	Seq      int64                `json:"seq"`              // grows with each change
	ClearSeq int64                `json:"clear,omitzero"`   // Seq of the last clearing
	Values   map[string]Extension `json:"v,omitempty"`      // by key
	Minute   int64                `json:"minute,omitzero"`  // Unix time / 60
	Changes  int                  `json:"changes,omitzero"` // in that minute
}

// An Extension is one value of an ExtensionSet. It stays when it is deleted, without a value, so
// that its lock goes on.
type Extension struct {
	Value   string `json:"v,omitzero"`
	Seq     int64  `json:"s"` // the optimistic lock: how often it was changed
	At      int64  `json:"at"`
	Deleted bool   `json:"gone,omitzero"`
}

// A Receipt is one member's confirmation.
type Receipt struct {
	Time int64 `json:"t"` // Unix seconds
}

// A Pendency is somebody's open request to join.
type Pendency struct {
	At      int64  `json:"at"` // Unix microseconds; also names the request
	Message string `json:"msg,omitzero"`
	Field   string `json:"field,omitzero"`
}

// An Invitation asks an account into a group; a reader checks the incarnation against Groups.
type Invitation struct {
	ID          group.ID          `json:"id"`
	Incarnation group.Incarnation `json:"inc"`
	By          group.Account     `json:"by"`
	At          int64             `json:"at"` // Unix microseconds; also names the invitation
}

// A Ban keeps an account out of a group.
type Ban struct {
	Until       int64  `json:"until"` // Unix seconds; group.Forever: no end
	Description string `json:"why,omitzero"`
}

// A MarkSet holds the marks of one member of a live room.
type MarkSet struct {
	Marks []int64 `json:"m"`
}

// A View is what a member removed from its own history.
type View struct {
	ClearedTo group.Seq   `json:"to,omitzero"`
	Hidden    []group.Seq `json:"h,omitempty"` // ascending, all above ClearedTo
}

// A DeletedContact hides a conversation until it has a message after Seq.
type DeletedContact struct {
	Incarnation group.Incarnation `json:"inc"`
	Seq         group.Seq         `json:"seq"`
}

// An Absentee is an account with devices that have lost their connection without logging out.
type Absentee struct {
	Devices []AbsentDevice `json:"d"`
}

// An AbsentDevice is one of them.
type AbsentDevice struct {
	Device   string `json:"dev"` // the client identifier
	Platform string `json:"os"`
	Since    int64  `json:"t"` // Unix seconds
}

// A Day holds one day's counts by their names on the wire. Names holds what is known of those
// that count different names, such as users; only who counts can read it.
type Day struct {
	Counts map[string]int64  `json:"c,omitempty"`
	Names  map[string][]byte `json:"n,omitempty"`
}

// A Trashed is a destroyed group's life that still has records and messages.
type Trashed struct {
	ID          group.ID          `json:"id"`
	Incarnation group.Incarnation `json:"inc"`
	Time        int64             `json:"time"`          // Unix seconds of the destruction
	Gone        Departure         `json:"gone,omitzero"` // of each member
}

// A Life is the last incarnation that a group id had.
type Life struct {
	Incarnation group.Incarnation `json:"inc"`
}

// JoinedGroup is a row of the Joined index.
type JoinedGroup struct {
	ID          group.ID            `json:"id"`
	Incarnation group.Incarnation   `json:"inc"`
	Type        group.Type          `json:"type"`
	JoinTime    int64               `json:"jtime"`         // Unix seconds
	JoinSeq     group.Seq           `json:"jseq,omitzero"` // see group.Member
	Receive     group.ReceiveOption `json:"recv,omitzero"` // see group.Member
	Role        group.Role          `json:"role,omitzero"` //
}

// Key returns the key of the group's life.
func (j *JoinedGroup) Key() group.Key { return group.Key{ID: j.ID, Incarnation: j.Incarnation} }

// A Mute keeps one account from sending to one group.
type Mute struct {
	Until int64 `json:"until"` // Unix seconds; group.Forever: no end
}

// A ReadMark says how far a member has read a group.
type ReadMark struct {
	Seq group.Seq `json:"seq"`
	// SentBefore makes ReadSeq ignore a SendMark at or below it: the unread number was set by hand.
	SentBefore group.Seq `json:"sent,omitzero"`
}

// A SendMark is a member's last message in a group.
type SendMark struct {
	Seq  group.Seq `json:"seq"`
	Time int64     `json:"time"` // Unix seconds
}

// ReadSeq returns how far a member has read: what it reported or what it sent, whichever is
// later. Either may be nil.
func ReadSeq(r *ReadMark, s *SendMark) group.Seq {
	var seq, ignore group.Seq
	if r != nil {
		seq, ignore = r.Seq, r.SentBefore
	}
	if s != nil && s.Seq > ignore {
		seq = max(seq, s.Seq)
	}
	return seq
}

// Reserved is the end of a block of SEQs that are handed out without being stored.
type Reserved struct {
	To group.Seq `json:"to"` // SEQs up to it may have been used
}

// A Callback is an after-callback that is to be sent, or was given up.
type Callback struct {
	Command  string          `json:"cmd"`
	Body     json.RawMessage `json:"body"`
	IP       string          `json:"ip,omitzero"`
	Platform string          `json:"os,omitzero"`
	Time     int64           `json:"time"` // Unix milliseconds; when it happened

	// The message that it tells of, if that is stored: a record without its message is of a
	// write that did not happen.
	Group       group.ID          `json:"group,omitzero"`
	Incarnation group.Incarnation `json:"inc,omitzero"`
	Seq         group.Seq         `json:"seq,omitzero"`
	ID          group.MsgID       `json:"id,omitzero"`

	Key string `json:"key,omitzero"` // dead: its key in Callbacks
	Why string `json:"why,omitzero"` // dead: why it was given up
}

// A Setting is a named value of the installation.
type Setting struct {
	Value string `json:"v"`
}

// AccountKey is the key of an account's row in Accounts.
func AccountKey(a group.Account) string { return Key(string(a)) }

// GroupKey is the key of a group's row in Groups and Lives.
func GroupKey(id group.ID) string { return Key(string(id)) }

// MemberKey is the key of a member's row in Members, Mutes and Reads.
func MemberKey(k group.Key, a group.Account) string { return GroupRecordKey(k, string(a)) }

// JoinedKey is the key of a row in Joined.
func JoinedKey(a group.Account, id group.ID) string { return Key(string(a), string(id)) }

// FindGroup returns the current life of the group, or nil if there is none.
func FindGroup(ctx context.Context, r Records, id group.ID) (*group.Group, error) {
	return Groups.Find(ctx, r, GroupKey(id))
}

// FindMember returns a's membership in the group's life k, or nil.
func FindMember(ctx context.Context, r Records, k group.Key, a group.Account) (*group.Member, error) {
	return Members.Find(ctx, r, MemberKey(k, a))
}

// JoinedGroups returns the groups that a is a member of, ordered by id. Rows of groups that
// were destroyed are left out.
func JoinedGroups(ctx context.Context, r Records, a group.Account) ([]*JoinedGroup, error) {
	var rows []*JoinedGroup
	var groupKeys, memberKeys []string
	for row, err := range Joined.Scan(ctx, r, Span{Prefix: Prefix(string(a))}) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, row.Value)
		groupKeys = append(groupKeys, GroupKey(row.Value.ID))
		memberKeys = append(memberKeys, MemberKey(row.Value.Key(), a))
	}
	var q Query
	groups, members := Groups.AskShared(&q, groupKeys), Members.AskWhether(&q, memberKeys)
	if err := q.Run(ctx, r); err != nil {
		return nil, err
	}
	out := rows[:0]
	for i, row := range rows {
		if groups[i] != nil && groups[i].Incarnation == row.Incarnation && members[i] {
			out = append(out, row)
		}
	}
	return out, nil
}

// SchemaVersion is the version of the key space and of the records. A store refuses to open
// data of a newer one.
const SchemaVersion = 1

// CheckSchema writes the schema version into an empty store, and refuses a newer one.
func CheckSchema(ctx context.Context, s Records) error {
	const key = "schema"
	v, err := Settings.Get(ctx, s, key)
	if errors.Is(err, ErrNotFound) {
		err = s.Apply(ctx, Settings.Insert(key, &Setting{Value: Num(SchemaVersion)}))
		if errors.Is(err, ErrExists) { // another process was first
			return CheckSchema(ctx, s)
		}
		return err
	}
	if err != nil {
		return err
	}
	n, err := ParseNum(v.Value)
	if err != nil {
		return err
	}
	if n > SchemaVersion {
		return &SchemaError{Found: n}
	}
	return nil
}

// A SchemaError refuses data that a newer Rookery wrote.
type SchemaError struct{ Found int64 }

func (e *SchemaError) Error() string {
	return "storage: the data has schema version " + Num(e.Found) + ", newer than this program's " + Num(SchemaVersion) + ": run a newer rookery"
}
