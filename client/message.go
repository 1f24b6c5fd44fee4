package client

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rookery-im/rookery/group"
)

// A Message is one that members of a group see.
type Message struct {
	Group group.ID
	// Seq is the message's place in its group. Zero: it is not stored (online only).
	Seq      group.Seq
	Time     time.Time // of the server, in whole seconds; order is Seq, not Time
	From     group.Account
	Random   uint32
	Priority group.Priority
	Body     []Element
	// CloudCustomData is opaque to the server.
	CloudCustomData string
	Mentions        []group.Mention
	Sender          Sender

	Tip         bool // a notice of the server, such as "alice joined": TIMGroupTipElem
	Recalled    bool // what stays of a recalled message: no Body
	Missing     bool // deleted, or older than the history: no Body
	Modified    bool
	NeedReceipt bool // the sender asks for Client.ConfirmRead
	NoUnread    bool
	To          []group.Account // the only receivers of a directed message
}

// An Element is a part of a message's body.
type Element struct {
	Type    string          `json:"MsgType"`
	Content json.RawMessage `json:"MsgContent"`
}

// A Sender is what members know of who sent a message, as it was then.
type Sender struct {
	Nick, FaceURL, NameCard string
	Role                    string // Owner, Admin or Member
}

// Text returns the text elements, joined.
func (m Message) Text() string {
	var text strings.Builder
	for _, e := range m.Body {
		var content struct{ Text string }
		if e.Type == textElement && json.Unmarshal(e.Content, &content) == nil {
			text.WriteString(content.Text)
		}
	}
	return text.String()
}

const textElement = "TIMTextElem"

// Text returns a text element.
func Text(text string) Element {
	content, _ := json.Marshal(struct{ Text string }{text}) // a string always encodes
	return Element{textElement, content}
}

// Custom returns an element whose data is for other clients of the app to understand.
func Custom(data, desc, ext string) Element {
	content, _ := json.Marshal(struct{ Data, Desc, Ext string }{data, desc, ext})
	return Element{"TIMCustomElem", content}
}

// messageJSON is a message on the wire, with the names of live messages and of history.
type messageJSON struct {
	Event           string
	GroupID         group.ID        `json:"GroupId"`
	Seq             group.Seq       `json:"MsgSeq"`
	Time            int64           `json:"MsgTime"`
	TimeStamp       int64           `json:"MsgTimeStamp"`
	From            group.Account   `json:"From_Account"`
	Priority        json.RawMessage `json:"MsgPriority"`
	Random          uint32          `json:"Random"`
	MsgRandom       uint32          `json:"MsgRandom"`
	Body            []Element       `json:"MsgBody"`
	CloudCustomData string
	Mentions        []mentionJSON `json:"GroupAtInfo"`
	Sender          *Sender
	Nick            string `json:"From_AccountNick"`
	FaceURL         string `json:"From_AccountHeadurl"`
	Extra           struct {
		NameCard string `json:"MsgGroupFromCardName"`
		Role     string
	} `json:"MsgFrom_AccountExtraInfo"`
	Place    int             `json:"IsPlaceMsg"`
	System   int             `json:"IsSystemMsg"`
	Modified int             `json:"MsgModifiedFlag"`
	Receipt  int             `json:"NeedReadReceipt"`
	Control  []string        `json:"SendMsgControl"`
	To       []group.Account `json:"To_Account"`
}

type mentionJSON struct {
	All     int           `json:"GroupAtAllFlag"`
	Account group.Account `json:"GroupAt_Account,omitempty"`
}

func (j *messageJSON) message(id group.ID) (Message, error) {
	priority, err := parsePriority(j.Priority)
	if err != nil {
		return Message{}, err
	}
	m := Message{
		Group: cmp.Or(j.GroupID, id), Seq: j.Seq, Time: time.Unix(cmp.Or(j.Time, j.TimeStamp), 0), From: j.From,
		Random: cmp.Or(j.Random, j.MsgRandom), Priority: priority, Body: j.Body, CloudCustomData: j.CloudCustomData,
		Tip: j.Event == "Tip" || j.System > 0 || j.From == group.SystemAccount, Recalled: j.Place == 2, Missing: j.Place == 1,
		Modified: j.Modified > 0, NeedReceipt: j.Receipt > 0, NoUnread: slices.Contains(j.Control, "NoUnread"), To: j.To,
	}
	if j.Sender != nil {
		m.Sender = *j.Sender
	} else {
		m.Sender = Sender{Nick: j.Nick, FaceURL: j.FaceURL, NameCard: j.Extra.NameCard, Role: j.Extra.Role}
	}
	for _, at := range j.Mentions {
		m.Mentions = append(m.Mentions, group.Mention{All: at.All > 0, Account: at.Account})
	}
	if m.Group == "" || m.Seq < 0 {
		return Message{}, fmt.Errorf("client: a message without a group, or with a MsgSeq of %d", m.Seq)
	}
	return m, nil
}

// parsePriority reads a priority by its name, as in live messages, or by its number, as in history.
func parsePriority(raw json.RawMessage) (group.Priority, error) {
	var name string
	if json.Unmarshal(raw, &name) == nil || len(raw) == 0 {
		if p, ok := group.ParsePriority(name); ok {
			return p, nil
		}
	} else if n, err := strconv.Atoi(string(raw)); err == nil {
		switch {
		case n == 0:
			return group.Normal, nil
		case n > 0 && n <= group.Priorities:
			return group.Priority(n), nil
		}
	}
	return 0, fmt.Errorf("client: %.20q is no MsgPriority", raw)
}
