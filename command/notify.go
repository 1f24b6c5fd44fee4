package command

import (
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

// The report types of system notices that single users get.
const (
	reportJoinRequest  = 1
	reportJoinAccepted = 2
	reportJoinRefused  = 3
	reportRemoved      = 4
	reportDissolved    = 5
	reportCreated      = 6
	reportAdded        = 7
	reportLeft         = 8
	reportAdminSet     = 9
	reportAdminUnset   = 10
	reportReceive      = 20
	reportBanned       = 21
	reportCustom       = 255
)

// The operations that tips tell.
const (
	tipJoined     = 1
	tipLeft       = 2
	tipRemoved    = 3
	tipAdminSet   = 4
	tipAdminUnset = 5
	tipInfo       = 6
	tipMember     = 7
	tipBanned     = 10
	tipUnbanned   = 11
)

// groupInfo names the group in tips and notices.
type groupInfo struct {
	GroupID   group.ID `json:"GroupId"`
	GroupName string   `json:"GroupName"`
	GroupType string   `json:"GroupType"`
}

// extraInfo shows an account in tips.
type extraInfo struct {
	UserID   group.Account `json:"UserId"`
	NickName string        `json:"NickName"`
	ImageURL string        `json:"ImageUrl"`
}

// A tip is the content of a TIMGroupTipElem.
type tip struct {
	OpType         int             `json:"OpType"`
	Operator       group.Account   `json:"Operator_Account"`
	List           []group.Account `json:"List_Account,omitempty"`
	MemberNum      int             `json:"MemberNum,omitempty"`
	Reason         string          `json:"Reason,omitempty"`
	GroupInfo      groupInfo       `json:"GroupInfo"`
	NewInfo        *tipNewInfo     `json:"MsgGroupNewInfo,omitempty"`
	Members        []tipMute       `json:"MsgMemberInfo,omitempty"`
	OperatorInfo   extraInfo       `json:"MsgOperatorMemberExtraInfo"`
	MemberInfo     []extraInfo     `json:"MsgMemberExtraInfo,omitempty"`
	BanDuration    int64           `json:"BanDuration,omitempty"`
	BanDescription string          `json:"BanDescription,omitempty"`
}

// tipNewInfo holds what changed of a group.
type tipNewInfo struct {
	Name         *string        `json:"GroupName,omitempty"`
	Introduction *string        `json:"GroupIntroduction,omitempty"`
	Notification *string        `json:"GroupNotification,omitempty"`
	FaceURL      *string        `json:"GroupFaceUrl,omitempty"`
	Owner        *group.Account `json:"Owner_Account,omitempty"`
	ApplyJoin    string         `json:"GroupApplyJoinOption,omitempty"`
	Custom       []group.Field  `json:"MsgAppDefinedData,omitempty"`
	MuteAll      string         `json:"ShutupAll,omitempty"`
}

// A tipMute tells for how long a member is muted, in seconds; 0: no longer.
type tipMute struct {
	Account group.Account `json:"User_Account"`
	Seconds int64         `json:"ShutupTime"`
}

// A notice is the body of what an inbox gets about a group.
type notice struct {
	ReportType int           `json:"ReportType"`
	GroupID    group.ID      `json:"GroupId"`
	GroupInfo  groupInfo     `json:"GroupInfo"`
	Operator   group.Account `json:"Operator_Account"`
	MsgTime    int64         `json:"MsgTime"`
	Reason     string        `json:"RemarkInfo,omitempty"`
	Content    string        `json:"UserDefinedField,omitempty"`
	MsgKey     int64         `json:"MsgKey,omitempty"`
	Token      string        `json:"Authentication,omitempty"` // names the request, as MsgKey does
	ApplyMsg   string        `json:"ApplyMsg,omitempty"`
	Role       string        `json:"Role,omitempty"`
	MsgFlag    string        `json:"MsgFlag,omitempty"`
	Duration   int64         `json:"BanDuration,omitempty"`
}

// A stage is a Tx with what tips, notices and callbacks of one call have in common.
type stage struct {
	*hooks.Tx
	e     *env
	call  *Call
	shown map[group.Account]*group.Profile // for tips; who is not in it is shown by its UserID alone

	changes *storage.ChangeSet // see changed; nil: not read yet
}

func (s *stage) info() groupInfo {
	g := s.Group()
	return groupInfo{g.ID, g.Name, s.e.typeName(g.Type)}
}

func (s *stage) extra(a group.Account) extraInfo {
	x := extraInfo{UserID: a}
	if p := s.shown[a]; p != nil {
		x.NickName, x.ImageURL = p.Nick, p.FaceURL
	}
	return x
}

// tip posts t with the group, the operator and the accounts of List filled in.
func (s *stage) tip(policy group.TipPolicy, t tip) error {
	t.Operator, t.GroupInfo, t.OperatorInfo = s.call.Caller, s.info(), s.extra(s.call.Caller)
	for _, a := range t.List {
		t.MemberInfo = append(t.MemberInfo, s.extra(a))
	}
	return s.Tip(policy, t)
}

// notice tells one account.
func (s *stage) notice(to group.Account, event string, n notice) {
	n.GroupID, n.GroupInfo, n.Operator, n.MsgTime = s.Group().ID, s.info(), s.call.Caller, s.Now().Unix()
	s.Notice(hooks.Notice{To: to, Event: event, Body: n})
}

// A callback is what all bodies of group callbacks start with.
type callback struct {
	Command   string   `json:"CallbackCommand"`
	GroupID   group.ID `json:"GroupId,omitempty"`
	Type      string   `json:"Type,omitempty"`
	EventTime int64    `json:"EventTime"` // Unix milliseconds

	origin hooks.Origin
}

// CallbackOrigin returns where the operation came from, for the callback's URL.
func (c callback) CallbackOrigin() hooks.Origin { return c.origin }

// head returns the start of a callback's body; callbacks always carry the old type names.
func (s *stage) head(name string) callback {
	g := s.Group()
	return callback{Command: name, GroupID: g.ID, Type: g.Type.OldName(), EventTime: s.Now().UnixMilli(), origin: s.call.origin()}
}

// A memberItem is an entry of a callback's list of members.
type memberItem struct {
	Account group.Account `json:"Member_Account"`
}

func memberItems(accounts []group.Account) []memberItem {
	out := make([]memberItem, len(accounts))
	for i, a := range accounts {
		out[i] = memberItem{a}
	}
	return out
}

// callbackHead is the start of a before-callback's body.
func (e *env) callbackHead(name string, g *group.Group, call *Call) callback {
	return callback{Command: name, GroupID: g.ID, Type: g.Type.OldName(), EventTime: time.Now().UnixMilli(), origin: call.origin()}
}
