package hooks

import (
	"encoding/json"

	"github.com/rookery-im/rookery/group"
)

// A Deliverer takes what a lane has decided, in the lane's order: what comes later in a
// group's stream happened later. Deliver does not block on receivers and keeps a batch no
// longer than the call (messages are immutable and may be kept). It is called by one goroutine
// per group at a time.
type Deliverer interface {
	Deliver(key group.Key, batch []Delivery)
}

// A Delivery is one item of a group's stream; exactly one field is set.
type Delivery struct {
	// Message is a message, stored or online-only, or a tip (Flags has System). Receivers are
	// the online members, less those whose receive option leaves it out and, if To is set,
	// those who are not named.
	Message *group.Message
	// Event is for the group's online members (To nil) or some of them: Recall, Modify, Read.
	Event *Event
	// Member reports that an account joined, left, or changed what the registry keeps of it.
	Member *MemberChange
	// Notice is for one account's inbox, member or not.
	Notice *Notice
	// Gone reports that the group was destroyed: everybody is out.
	Gone bool
}

// An Event tells about known messages or about the group, without a SEQ of its own.
type Event struct {
	Name string // the "Event" member: Recall, Modify, Read, Tip, …
	Body any    // marshalled into the same JSON object; a struct or map of the other members
	To   []group.Account
	// Of is the message that it tells of, where members who have joined after a message may not
	// read it: they are not told. Zero: all receivers are.
	Of group.Seq
}

// A Notice goes to users/{UserID} of one account: to all of its devices, or to all but one.
type Notice struct {
	To           group.Account
	Event        string // SystemNotification, Joined, Left, Dismissed, ReadSync, SendFailed, Kicked, ProfileChanged
	Body         any
	ExceptDevice string // a client identifier; empty: all devices
}

// A MemberChange is one account's standing in the group from this point of the stream on.
type MemberChange struct {
	Account group.Account
	Joined  bool // false: left, for whatever reason
	Receive group.ReceiveOption
	Role    group.Role
	// Since is the SEQ after which messages are the member's to see live.
	Since group.Seq
	// Fleeting says that the membership is kept in memory alone: it ends when the account has
	// been offline for a while, and with the process.
	Fleeting bool
}

// Raw marshals an event's members for a Body that is built by hand.
type Raw = json.RawMessage
