package command

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/wire"
)

// A field is a custom field on the wire: AppDefinedData, AppMemberDefinedData.
type field struct {
	Key   string `json:"Key" wire:"required"`
	Value string `json:"Value" wire:"text"`
}

func fieldsOut(fields []group.Field) []field {
	out := make([]field, len(fields))
	for i, f := range fields {
		out[i] = field{f.Key, f.Value}
	}
	return out
}

// mergeFields applies changes to have: an empty value deletes the key. It keeps the order.
func mergeFields(have []group.Field, changes []field) []group.Field {
	out := slices.Clone(have)
	for _, c := range changes {
		i := slices.IndexFunc(out, func(f group.Field) bool { return f.Key == c.Key })
		switch {
		case i >= 0 && c.Value == "":
			out = slices.Delete(out, i, i+1)
		case i >= 0:
			out[i].Value = c.Value
		case c.Value != "":
			out = append(out, group.Field{Key: c.Key, Value: c.Value})
		}
	}
	return out
}

// maxKeyLen is the longest key of a custom field, in bytes.
const maxKeyLen = 16

// checkFields refuses custom fields that are too many, too long or unknown.
func checkFields(name string, fields []group.Field, most, size int, known []string) error {
	if most = max(most, 0); len(fields) > most {
		return badParameter("%s: %d fields, at most %d are allowed", name, len(fields), most)
	}
	for _, f := range fields {
		switch {
		case !fieldKey(f.Key):
			return badParameter("%s: a key is 1 to %d letters, digits or _", name, maxKeyLen)
		case len(f.Value) > size:
			return badParameter("%s: the value of %s has %d bytes, at most %d are allowed", name, f.Key, len(f.Value), size)
		case len(known) > 0 && !slices.Contains(known, f.Key):
			return badParameter("%s: unknown key %s", name, f.Key)
		}
	}
	return nil
}

func fieldKey(s string) bool {
	if s == "" || len(s) > maxKeyLen {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// A groupRecord is a group on the wire.
type groupRecord struct {
	GroupID         group.ID      `json:"GroupId" wire:"always"`
	ErrorCode       *int          `json:"ErrorCode" wire:"always"`
	ErrorInfo       *string       `json:"ErrorInfo" wire:"always"`
	Type            string        `json:"Type"`
	Name            string        `json:"Name"`
	Introduction    string        `json:"Introduction"`
	Notification    string        `json:"Notification"`
	FaceURL         string        `json:"FaceUrl"`
	Owner           group.Account `json:"Owner_Account"`
	SDKAppID        int64         `json:"Appid"`
	CreateTime      int64         `json:"CreateTime"`
	InfoSeq         int64         `json:"InfoSeq"`
	LastInfoTime    int64         `json:"LastInfoTime"`
	LastMsgTime     int64         `json:"LastMsgTime"`
	NextMsgSeq      int64         `json:"NextMsgSeq"`
	MemberNum       int           `json:"MemberNum"`
	MaxMemberNum    int           `json:"MaxMemberNum"`
	ApplyJoinOption string        `json:"ApplyJoinOption"`
	InviteJoin      string        `json:"InviteJoinOption"`
	MuteAllMember   string        `json:"MuteAllMember" also:"ShutUpAllMember"`
	SupportTopic    int           `json:"SupportTopic"`
	TopicsNextSeq   *int64        `json:"GrossTopicNextMsgSeq" doc:"Communities only."`
	Custom          []field       `json:"AppDefinedData"`
}

var (
	groupRecordType  = reflect.TypeFor[groupRecord]()
	memberRecordType = reflect.TypeFor[memberRecord]()
	selfRecordType   = reflect.TypeFor[selfRecord]()

	historyMessageType = reflect.TypeFor[historyMessage]()
)

// A selfRecord is an account's own membership on the wire: a memberRecord without the account.
type selfRecord struct {
	Role      string  `json:"Role"`
	JoinTime  int64   `json:"JoinTime"`
	MsgSeq    int64   `json:"MsgSeq"`
	MsgFlag   string  `json:"MsgFlag"`
	LastSend  int64   `json:"LastSendMsgTime"`
	NameCard  string  `json:"NameCard"`
	MuteUntil int64   `json:"MuteUntil" also:"ShutUpUntil"`
	Custom    []field `json:"AppMemberDefinedData"`
}

// A memberRecord is a member on the wire.
type memberRecord struct {
	Account     group.Account `json:"Member_Account" alias:"Account" wire:"always"`
	Role        string        `json:"Role"`
	JoinTime    int64         `json:"JoinTime"`
	MsgSeq      int64         `json:"MsgSeq"`
	MsgFlag     string        `json:"MsgFlag"`
	LastSend    int64         `json:"LastSendMsgTime"`
	NameCard    string        `json:"NameCard"`
	MuteUntil   int64         `json:"MuteUntil" also:"ShutUpUntil"`
	Custom      []field       `json:"AppMemberDefinedData"`
	OnlineState string        `json:"OnlineStatus,omitempty"`
}

func (e *env) typeName(t group.Type) string {
	if e.cfg.NewTypeNames {
		return t.String()
	}
	return t.OldName()
}

// joinOptions returns the group's options with the type's defaults filled in.
func joinOptions(g *group.Group) (apply, invite group.JoinOption) {
	apply, invite = g.ApplyJoin, g.InviteJoin
	if apply == "" {
		apply = g.Type.Rules().ApplyDefault
	}
	if invite == "" {
		invite = group.DisableInvite
		if g.Type.Rules().MembersInvite {
			invite = group.FreeAccess
		}
	}
	return apply, invite
}

func (e *env) groupOut(g *group.Group, head storage.Head) *groupRecord {
	apply, invite := joinOptions(g)
	count := g.MemberCount
	if !g.Type.Rules().StoresMembers {
		_, online := e.online.InGroup(g.Key(), 1)
		count = max(count, online)
	}
	r := &groupRecord{
		GroupID: g.ID, Type: e.typeName(g.Type), Name: g.Name, Introduction: g.Introduction, Notification: g.Notification,
		FaceURL: g.FaceURL, Owner: g.Owner, SDKAppID: e.cfg.SDKAppID, CreateTime: g.CreateTime, InfoSeq: g.InfoSeq, LastInfoTime: g.InfoTime,
		LastMsgTime: head.Time, NextMsgSeq: int64(head.Tail) + 1, MemberNum: count, MaxMemberNum: e.maxMembers(g),
		ApplyJoinOption: string(apply), InviteJoin: string(invite), MuteAllMember: onOff(g.MuteAll), Custom: fieldsOut(g.Custom),
	}
	if g.Type == group.Community {
		r.TopicsNextSeq = new(int64(0))
	}
	return r
}

func onOff(b bool) string {
	if b {
		return "On"
	}
	return "Off"
}

// A memberState is what is kept of a member beside its membership.
type memberState struct {
	read *storage.ReadMark
	send *storage.SendMark
	mute *storage.Mute
}

// memberStates reads the states of members in three round trips.
func (e *env) memberStates(ctx context.Context, g *group.Group, members []*group.Member) ([]memberState, error) {
	keys := make([]string, len(members))
	for i, m := range members {
		keys[i] = storage.MemberKey(g.Key(), m.Account)
	}
	reads, err := storage.Reads.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	sends, err := storage.Sends.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	mutes, err := storage.Mutes.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	out := make([]memberState, len(members))
	for i := range members {
		out[i] = memberState{read: reads[i], send: sends[i], mute: mutes[i]}
	}
	return out, nil
}

func (e *env) memberOut(g *group.Group, m *group.Member, s memberState, now int64) *memberRecord {
	r := &memberRecord{
		Account: m.Account, Role: m.Role.String(), JoinTime: m.JoinTime, MsgFlag: g.ReceiveOf(m).String(),
		// What a member could not see when it joined is not unread.
		MsgSeq:   int64(max(storage.ReadSeq(s.read, s.send), readAtJoin(s.read, m))),
		NameCard: m.NameCard, Custom: fieldsOut(m.Custom),
	}
	if s.send != nil {
		r.LastSend = s.send.Time
	}
	if s.mute != nil && s.mute.Until > now {
		r.MuteUntil = s.mute.Until
	}
	return r
}

// readAtJoin is how far a member counts as having read by joining, unless its unread number
// was set by hand since.
func readAtJoin(r *storage.ReadMark, m *group.Member) group.Seq {
	if r != nil && r.SentBefore >= m.JoinSeq {
		return 0
	}
	return m.JoinSeq
}

// members returns the group's members by join time, then UserID.
func (e *env) members(ctx context.Context, g *group.Group) ([]*group.Member, error) {
	out := make([]*group.Member, 0, g.MemberCount)
	for row, err := range storage.Members.Scan(ctx, e.store, storage.Span{Prefix: storage.GroupPrefix(g.Key())}) {
		if err != nil {
			return nil, err
		}
		out = append(out, row.Value)
	}
	slices.SortFunc(out, func(a, b *group.Member) int {
		switch {
		case a.JoinTime != b.JoinTime:
			return int(min(1, max(-1, a.JoinTime-b.JoinTime)))
		case a.Account < b.Account:
			return -1
		}
		return 1
	})
	return out, nil
}

// only returns the fields whose keys are named; nil names keep all.
func only(fields []field, names []string) []field {
	if names == nil {
		return fields
	}
	return slices.DeleteFunc(fields, func(f field) bool { return !slices.Contains(names, f.Key) })
}

// A filter says which members of records are wanted.
type filter struct {
	filter *wire.Filter
	fields []string // of the custom fields; nil: all
}

// newFilter returns the filter for the record type t. Without names and custom keys everything
// passes; with custom keys alone, everything else and those.
func newFilter(t reflect.Type, custom string, names, keys []string) (filter, error) {
	f := filter{fields: keys}
	if len(keys) == 0 {
		f.fields = nil
	} else if len(names) > 0 {
		names = append(slices.Clone(names), custom)
	}
	var err error
	f.filter, err = wire.NewFilter(t, names)
	return f, err
}

func (f filter) group(r *groupRecord) (json.RawMessage, error) {
	r.Custom = only(r.Custom, f.fields)
	return f.filter.Append(nil, r)
}

func (f filter) member(r *memberRecord) (json.RawMessage, error) {
	r.Custom = only(r.Custom, f.fields)
	return f.filter.Append(nil, r)
}

func (f filter) self(r *memberRecord) (json.RawMessage, error) {
	record := selfOf(r)
	record.Custom = only(record.Custom, f.fields)
	return f.filter.Append(nil, &record)
}

func selfOf(r *memberRecord) selfRecord {
	return selfRecord{
		Role: r.Role, JoinTime: r.JoinTime, MsgSeq: r.MsgSeq, MsgFlag: r.MsgFlag, LastSend: r.LastSend, NameCard: r.NameCard,
		MuteUntil: r.MuteUntil, Custom: r.Custom,
	}
}

// withMember returns the JSON object obj with one more member, which is JSON too.
func withMember(obj json.RawMessage, name string, value []byte) json.RawMessage {
	obj = obj[:len(obj)-1]
	if len(obj) > 1 {
		obj = append(obj, ',')
	}
	obj = append(strconv.AppendQuote(obj, name), ':')
	return append(append(obj, value...), '}')
}

// array joins JSON values.
func array(items []json.RawMessage) []byte {
	out := []byte{'['}
	for i, it := range items {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, it...)
	}
	return append(out, ']')
}
