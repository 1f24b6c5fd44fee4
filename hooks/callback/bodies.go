package callback

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// A message is the body of the callbacks about one message. Its members are in alphabetical order.
type message struct {
	CallbackCommand string
	CloudCustomData string          `json:",omitempty"`
	ErrorCode       int             `json:",omitempty"` // SendMsgException
	ErrorInfo       string          `json:",omitempty"`
	EventTime       int64           // Unix milliseconds
	From            group.Account   `json:"From_Account"`
	Mentions        []mention       `json:"GroupAtInfo,omitempty"` // AfterSendMsg
	Group           group.ID        `json:"GroupId"`
	Body            json.RawMessage `json:"MsgBody"`
	Priority        string          `json:"MsgPriority"`
	Seq             *group.Seq      `json:"MsgSeq,omitempty"`  // AfterSendMsg
	Time            int64           `json:"MsgTime,omitempty"` // AfterSendMsg; Unix seconds
	OnlineOnly      int             `json:"OnlineOnlyFlag"`
	Operator        group.Account   `json:"Operator_Account"`
	Random          uint32
	Type            string `json:",omitempty"` // empty: there is no such group
}

type mention struct {
	Account group.Account `json:"GroupAt_Account,omitempty"`
	All     int           `json:"GroupAtAllFlag"`
}

// newMessage returns the body about d; g is nil if there is no such group.
func newMessage(name string, g *group.Group, d *hooks.Draft, now time.Time) *message {
	m := &message{
		CallbackCommand: name, EventTime: now.UnixMilli(), Group: d.Group,
		From: d.From, Operator: cmp.Or(d.Operator, d.From), Random: d.Random, Priority: d.Priority.String(),
		Body: d.Body, CloudCustomData: d.CloudCustomData,
	}
	if g != nil {
		m.Type = g.Type.OldName()
	}
	if d.Flags.Any(group.OnlineOnly) {
		m.OnlineOnly = 1
	}
	return m
}

// sent adds what a message has once it is stamped, as it was stored.
func (m *message) sent(s *group.Message) *message {
	m.Seq, m.Time, m.Body, m.CloudCustomData = &s.Seq, s.Time, s.Body, s.CloudCustomData
	for _, at := range s.Mentions {
		w := mention{Account: at.Account}
		if at.All {
			w.All = 1
		}
		m.Mentions = append(m.Mentions, w)
	}
	return m
}

// complete marshals body, which must be an object, and fills in the members that every
// callback of a group has, where it has none. It returns the group that body is about.
func complete(name string, g *group.Group, body any, now time.Time) ([]byte, group.ID, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, "", err
	}
	members := make(map[string]json.RawMessage)
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, "", fmt.Errorf("%s: not an object: %w", name, err)
	}
	fill := func(key string, v any) {
		if _, has := members[key]; !has && err == nil {
			members[key], err = json.Marshal(v)
		}
	}
	fill("CallbackCommand", name)
	fill("EventTime", now.UnixMilli())
	if g != nil {
		fill("GroupId", g.ID)
		fill("Type", g.Type.OldName())
	}
	if err != nil {
		return nil, "", err
	}
	var id group.ID
	if v, has := members["GroupId"]; has {
		if err := json.Unmarshal(v, &id); err != nil {
			return nil, "", fmt.Errorf("%s: GroupId: %w", name, err)
		}
	}
	raw, err = json.Marshal(members)
	return raw, id, err
}
