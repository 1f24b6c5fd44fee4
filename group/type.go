package group

// A Type is a kind of group. Its rules are data: see Rules.
type Type uint8

// The types, under their newer names. The zero Type is none.
const (
	NoType     Type = iota
	Work            // by invitation only; "Private" on the wire
	Public          // join by request with approval
	Meeting         // join freely; "ChatRoom" on the wire
	AVChatRoom      // live room: unlimited, no stored members, no history
	Community       // up to 100,000 members
)

// Types lists every type.
var Types = []Type{Work, Public, Meeting, AVChatRoom, Community}

// String returns the newer name.
func (t Type) String() string { return t.Rules().Name }

// OldName returns the name that responses and callbacks carry.
func (t Type) OldName() string { return t.Rules().OldName }

// ParseType reads either generation's name.
func ParseType(s string) (Type, bool) {
	for _, t := range Types {
		if r := t.Rules(); s == r.Name || s == r.OldName {
			return t, true
		}
	}
	return NoType, false
}

// Rules returns what groups of type t allow. It is shared: do not change it.
func (t Type) Rules() *Rules {
	if int(t) >= len(rules) {
		return &rules[NoType]
	}
	return &rules[t]
}

// TipPolicy says what becomes of a kind of tip.
type TipPolicy uint8

// The tip policies.
const (
	NoTip     TipPolicy = iota
	TipSent             // to those online, without a SEQ
	TipStored           // like a message, with a SEQ
)

// Rules is one column of the table of group types.
type Rules struct {
	Name, OldName string

	HasAdmins         bool
	AnyMemberEdits    bool // any member may change name, introduction, notification and face
	AdminsEdit        bool // admins may change all group data
	Joinable          bool // found by exact id; may be applied to
	ApplyDefault      JoinOption
	MembersInvite     bool // any member may add others, effective at once
	OwnerMayLeave     bool
	Removable         bool // members can be removed
	Mutable           bool // members can be muted, by the owner and the app's admins
	AdminsMute        bool // admins may mute ordinary members
	OwnerDismisses    bool // the owner may dissolve it; the app's admins always may
	StoresMembers     bool
	DefaultMaxMembers int // 0: no limit
	CountsUnread      bool
	StoresMessages    bool
	HistoryBeforeJoin bool
	NeedsActivation   bool // invisible to all but the owner until its first message
	DefaultReceive    ReceiveOption
	Receipts          bool
	Importable        bool
	Counters          bool
	Recallable        bool
	OwnerChangeable   bool
	DirectedMessages  bool

	JoinTip    TipPolicy // joined, left, removed
	InfoTip    TipPolicy // name, notification, introduction, face, owner
	MuteAllTip TipPolicy // mute-all and join options
	MemberTip  TipPolicy // member mute, admin changes
}

var rules = [...]Rules{
	NoType: {},
	Work: {
		Name: "Work", OldName: "Private",
		AnyMemberEdits: true, ApplyDefault: DisableApply, MembersInvite: true, OwnerMayLeave: true,
		Removable: true, StoresMembers: true, DefaultMaxMembers: 6000, CountsUnread: true, StoresMessages: true,
		NeedsActivation: true, DefaultReceive: AcceptAndNotify, Receipts: true, Importable: true, Counters: true,
		Recallable: true, OwnerChangeable: true, DirectedMessages: true,
		JoinTip: TipStored, InfoTip: TipStored, MemberTip: TipStored,
	},
	Public: {
		Name: "Public", OldName: "Public",
		HasAdmins: true, AdminsEdit: true, Joinable: true, ApplyDefault: NeedPermission, Removable: true, Mutable: true, AdminsMute: true,
		OwnerDismisses: true, StoresMembers: true, DefaultMaxMembers: 6000, CountsUnread: true, StoresMessages: true,
		DefaultReceive: AcceptAndNotify, Receipts: true, Importable: true, Counters: true, Recallable: true,
		OwnerChangeable: true, DirectedMessages: true,
		JoinTip: TipStored, InfoTip: TipStored, MemberTip: TipStored,
	},
	Meeting: {
		Name: "Meeting", OldName: "ChatRoom",
		HasAdmins: true, AdminsEdit: true, Joinable: true, ApplyDefault: FreeAccess, Removable: true, Mutable: true, AdminsMute: true,
		OwnerDismisses: true, StoresMembers: true, DefaultMaxMembers: 6000, StoresMessages: true,
		DefaultReceive: AcceptNotNotify, Receipts: true, Importable: true, Counters: true, Recallable: true,
		OwnerChangeable: true, DirectedMessages: true,
		InfoTip: TipStored,
	},
	AVChatRoom: {
		Name: "AVChatRoom", OldName: "AVChatRoom",
		HasAdmins: true, Joinable: true, ApplyDefault: FreeAccess, Mutable: true, OwnerDismisses: true,
		DefaultReceive: AcceptNotNotify, Counters: true, Recallable: true,
		JoinTip: TipSent, InfoTip: TipSent,
	},
	Community: {
		Name: "Community", OldName: "Community",
		HasAdmins: true, AdminsEdit: true, Joinable: true, ApplyDefault: FreeAccess, MembersInvite: true, Removable: true,
		Mutable: true, AdminsMute: true, OwnerDismisses: true, StoresMembers: true, DefaultMaxMembers: 100_000, CountsUnread: true,
		StoresMessages: true, HistoryBeforeJoin: true, DefaultReceive: AcceptAndNotify, Importable: true, Recallable: true,
		OwnerChangeable: true,
		JoinTip:         TipStored, InfoTip: TipStored, MemberTip: TipStored,
	},
}

// MaxMembersOf returns the group's own limit or its type's; 0 means none.
func (g *Group) MaxMembersOf() int {
	if g.MaxMembers > 0 {
		return g.MaxMembers
	}
	return g.Type.Rules().DefaultMaxMembers
}

// ReceiveOf returns m's receive option in g, with the type's default filled in.
func (g *Group) ReceiveOf(m *Member) ReceiveOption {
	if m.Receive != DefaultReceive {
		return m.Receive
	}
	return g.Type.Rules().DefaultReceive
}
