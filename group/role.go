package group

// A Role is a member's standing in one group. The zero Role is no member at all.
type Role uint8

// The roles, by rising authority.
const (
	NotMember Role = iota
	OrdinaryMember
	Admin
	Owner
)

var roleNames = [...]string{NotMember: "NotMember", OrdinaryMember: "Member", Admin: "Admin", Owner: "Owner"}

// String returns the wire's name.
func (r Role) String() string {
	if int(r) >= len(roleNames) {
		return "NotMember"
	}
	return roleNames[r]
}

// ParseRole reads the wire's name.
func ParseRole(s string) (Role, bool) {
	for r, name := range roleNames {
		if s == name {
			return Role(r), true
		}
	}
	return NotMember, false
}

// A ReceiveOption says what a member wants of a group's messages. Zero: the type's default.
type ReceiveOption uint8

// The receive options.
const (
	DefaultReceive          ReceiveOption = iota
	AcceptAndNotify                       // online messages and offline push
	AcceptNotNotify                       // online messages, no push
	Discard                               // neither; history still has them
	AcceptNotNotifyUnlessAt               // as AcceptNotNotify, but a mention pushes
	DiscardUnlessAt                       // as Discard, but a mention comes through and pushes
)

var receiveNames = [...]string{
	DefaultReceive:          "",
	AcceptAndNotify:         "AcceptAndNotify",
	AcceptNotNotify:         "AcceptNotNotify",
	Discard:                 "Discard",
	AcceptNotNotifyUnlessAt: "AcceptNotNotifyExceptAt",
	DiscardUnlessAt:         "NotReceiveMsgExceptAt",
}

// String returns the wire's name; empty for the default.
func (o ReceiveOption) String() string {
	if int(o) >= len(receiveNames) {
		return ""
	}
	return receiveNames[o]
}

// ParseReceiveOption reads the wire's name. The empty name is no option.
func ParseReceiveOption(s string) (ReceiveOption, bool) {
	for o, name := range receiveNames {
		if o != 0 && s == name {
			return ReceiveOption(o), true
		}
	}
	return DefaultReceive, false
}

// Delivers reports whether an online member with the option is sent a message that does or
// does not mention it.
func (o ReceiveOption) Delivers(mentioned bool) bool {
	switch o {
	case Discard:
		return false
	case DiscardUnlessAt:
		return mentioned
	}
	return true
}

// Pushes reports whether an offline member with the option gets a push.
func (o ReceiveOption) Pushes(mentioned bool) bool {
	switch o {
	case AcceptAndNotify:
		return true
	case AcceptNotNotifyUnlessAt, DiscardUnlessAt:
		return mentioned
	}
	return false
}

// A JoinOption says who lets people in. Empty: the type's default.
type JoinOption string

// The join options; DisableApply and DisableInvite are the closed ends of the two questions.
const (
	FreeAccess     JoinOption = "FreeAccess"
	NeedPermission JoinOption = "NeedPermission"
	DisableApply   JoinOption = "DisableApply"
	DisableInvite  JoinOption = "DisableInvite"
)
