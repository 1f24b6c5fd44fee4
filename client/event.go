package client

import (
	"encoding/json"

	"github.com/rookery-im/rookery/group"
)

// An Event is what OnEvent is told of; its type says what has happened.
type Event interface{ event() }

// Recalled: a message was recalled; its content is not to be shown any more.
type Recalled struct {
	Group  group.ID
	Seq    group.Seq
	By     group.Account
	Reason string
}

// Modified: a message has a new body or new custom data.
type Modified struct {
	Group           group.ID
	Seq             group.Seq
	From            group.Account
	Body            []Element
	CloudCustomData string
}

// ChangesMissed: more messages of the group were recalled or edited while the client was away
// than the server lists. What the app keeps of the group may be out of date; [Client.Messages]
// has it as it is.
type ChangesMissed struct{ Group group.ID }

// Confirmed: members have confirmed to have read messages of this account.
type Confirmed struct {
	Group    group.ID
	Receipts []Receipts
}

// ReadElsewhere: the account has read up to Seq on another device.
type ReadElsewhere struct {
	Group group.ID
	Seq   group.Seq
}

// A Notice is an event of the account's inbox: SystemNotification, Joined, Left, Dismissed,
// ProfileChanged, SendFailed and what later servers add.
type Notice struct {
	Name       string
	Group      group.ID // empty if it is not about one
	ReportType int      // which system notice it is
	Operator   group.Account
	Content    string // of a custom notification
	Body       json.RawMessage
}

// A GroupEvent is an event of a group that this version of the client has no type for.
type GroupEvent struct {
	Name  string
	Group group.ID
	Body  json.RawMessage
}

// Gap: messages that were to be shown are not, since history does not give them, or because
// there were more than Config.CatchUp. [Client.Messages] may still find some.
type Gap struct {
	Group    group.ID
	From, To group.Seq // both included
}

// Connected: the client has logged in. OnRefresh follows when it is synchronised.
type Connected struct{}

// Disconnected: the connection was lost; the client reconnects.
type Disconnected struct{}

// Refused: an attempt to connect has failed; the client tries again.
type Refused struct{ Err error }

// Kicked: the server has logged the client out. It is the last event; see ErrKicked.
type Kicked struct{ Reason string }

func (Recalled) event()      {}
func (Modified) event()      {}
func (ChangesMissed) event() {}
func (Confirmed) event()     {}
func (ReadElsewhere) event() {}
func (Notice) event()        {}
func (GroupEvent) event()    {}
func (Gap) event()           {}
func (Connected) event()     {}
func (Disconnected) event()  {}
func (Refused) event()       {}
func (Kicked) event()        {}

// eventJSON is any event on the wire, with the members of all that the client understands.
type eventJSON struct {
	Event    string
	GroupID  group.ID      `json:"GroupId"`
	Seq      group.Seq     `json:"MsgSeq"`
	Revoker  group.Account `json:"Revoker_Account"`
	Reason   string
	From     group.Account `json:"From_Account"`
	Body     []Element     `json:"MsgBody"`
	Cloud    string        `json:"CloudCustomData"`
	Change   int64         `json:"ChangeSeq"`
	Receipts []Receipts    `json:"GroupMsgReceiptList"`
	readState
	ReportType int
	Operator   group.Account `json:"Operator_Account"`
	Content    string        `json:"UserDefinedField"`
	MsgFlag    string
	Role       string
	Time       int64 `json:"MsgTime"`
	GroupInfo  struct{ GroupName, GroupType string }
}

// groupEvent returns what an event on a group's topic says.
func (j *eventJSON) groupEvent(raw []byte) Event {
	switch j.Event {
	case "Recall":
		return Recalled{j.GroupID, j.Seq, j.Revoker, j.Reason}
	case "Modify":
		return Modified{j.GroupID, j.Seq, j.From, j.Body, j.Cloud}
	case "Read":
		return Confirmed{j.GroupID, j.Receipts}
	}
	return GroupEvent{j.Event, j.GroupID, raw}
}

// inboxEvent returns what an event of the inbox says.
func (j *eventJSON) inboxEvent(raw []byte) Event {
	if j.Event == "ReadSync" {
		return ReadElsewhere{j.GroupID, j.Read}
	}
	return Notice{j.Event, j.GroupID, j.ReportType, j.Operator, j.Content, raw}
}
