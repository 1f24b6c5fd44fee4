package group

// AppAdmin stands for an app admin where a role is asked for: it has the owner's rights in
// every group without being a member, and a few more. No Member has it.
const AppAdmin = Owner + 1

// An Operation is something that a caller wants to do in a group.
type Operation uint8

// The operations. Those marked with a target depend on the role of the member they are done to.
const (
	EditInfo       Operation = iota // name, introduction, notification, face
	EditSettings                    // all other data of the group, mute-all among it
	Invite                          // add members
	Remove                          // remove a member: target
	Mute                            // mute and unmute a member: target
	SetAdmin                        // make somebody an admin, or no longer: target
	EditMember                      // name card and custom fields of another: target
	RecallOthers                    // recall another's message: target is its sender's role now
	ChangeOwner                     // hand the group over
	Dismiss                         // dissolve it
	HandleRequests                  // answer requests to join
	Quit                            // leave
	ImportInto                      // import_group, import_group_member, import_group_msg
	Operations                      // how many there are
)

var operationNames = [...]string{
	"edit info", "edit settings", "invite", "remove", "mute", "set admin", "edit member", "recall others", "change owner", "dismiss",
	"handle requests", "quit", "import",
}

// String returns a name for messages and tests.
func (o Operation) String() string {
	if int(o) >= len(operationNames) {
		return "unknown"
	}
	return operationNames[o]
}

// Allows reports whether one with the role by may do o in a group of type t, to a member with
// the role target where the operation has one (otherwise target is ignored). Whether by and
// target really have these roles is the caller's to know.
func (t Type) Allows(o Operation, by, target Role) bool {
	r := t.Rules()
	if r.Name == "" || by == NotMember {
		return false
	}
	switch o {
	case EditInfo:
		return r.AnyMemberEdits || by >= Owner || by == Admin && r.AdminsEdit
	case EditSettings:
		return by >= Owner || by == Admin && r.AdminsEdit
	case Invite:
		return r.StoresMembers && (r.MembersInvite || by == AppAdmin)
	case Remove:
		return r.Removable && outranks(by, target)
	case Mute:
		return r.Mutable && (r.AdminsMute || by >= Owner) && outranks(by, target)
	case SetAdmin:
		return r.HasAdmins && by >= Owner && target < Owner
	case EditMember:
		return r.StoresMembers && outranks(by, target)
	case RecallOthers:
		return r.Recallable && outranks(by, target)
	case ChangeOwner:
		return r.OwnerChangeable && by >= Owner
	case Dismiss:
		return by == AppAdmin || by == Owner && r.OwnerDismisses
	case HandleRequests:
		return r.Joinable && by >= Admin
	case Quit:
		return by < Owner || by == Owner && r.OwnerMayLeave
	case ImportInto:
		return r.Importable && by == AppAdmin
	}
	return false
}

// outranks: admins act on ordinary members and strangers, owners on everybody but themselves,
// app admins on everybody.
func outranks(by, target Role) bool {
	return by == AppAdmin || by >= Admin && by > target
}
