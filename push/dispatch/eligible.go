package dispatch

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A candidate is a device that a message may be pushed to. Rules look at the parts that are
// known at their level.
type candidate struct {
	group   *group.Group
	message *group.Message

	account group.Account
	member  *group.Member // nil: not a member

	user *storage.PushUser // nil: nothing is known of it
	now  time.Time

	device    *storage.PushDevice
	known     bool     // its provider app is configured
	connected []string // the account's client identifiers
}

// A level is what has to be known to apply a rule.
type level uint8

const (
	ofMessage level = iota
	ofMember
	ofUser
	ofDevice
	levels
)

// A rule keeps a push from being sent. Its name is what an operator is told.
type rule struct {
	level level
	name  string
	ok    func(c *candidate) bool
}

// noPush are the messages that are never pushed: what is not kept, what the system says, what
// is old news, and what the sender wants to be delivered without alert.
const noPush = group.OnlineOnly | group.System | group.Imported | group.MuteNotifications

var rules = []rule{
	{ofMessage, "the message is stored and has a place in its group", func(c *candidate) bool {
		return c.message.Seq > 0 && c.group.Type.Rules().StoresMessages
	}},
	{ofMessage, "the message is neither online-only, nor a tip, nor imported, nor sent without alert", func(c *candidate) bool {
		return !c.message.Flags.Any(noPush) && c.message.From != group.SystemAccount
	}},
	{ofMessage, "the message was not recalled or deleted", func(c *candidate) bool { return c.message.State == group.Live }},
	{ofMessage, "OfflinePushInfo.PushFlag is not 1", func(c *candidate) bool { return !pushFlag(c.message.OfflinePush) }},

	{ofMember, "the user is a member of the group", func(c *candidate) bool { return c.member != nil }},
	{ofMember, "the user is not the sender", func(c *candidate) bool { return c.account != c.message.From }},
	{ofMember, "the message is addressed to the user", func(c *candidate) bool { return c.message.VisibleTo(c.account) }},
	{ofMember, "the user joined before the message", func(c *candidate) bool {
		return c.member == nil || c.member.JoinSeq < c.message.Seq
	}},
	{ofMember, "the member's receive option lets the message notify", func(c *candidate) bool {
		return c.member == nil || c.group.ReceiveOf(c.member).Pushes(mentioned(c.message, c.account))
	}},

	{ofUser, "the user has not switched push off", func(c *candidate) bool { return c.user == nil || !c.user.Disabled }},
	{ofUser, "it is outside of the user's quiet hours", func(c *candidate) bool { return c.user == nil || !quiet(c.user.Quiet, c.now) }},

	{ofDevice, "the device's provider app is configured", func(c *candidate) bool { return c.known }},
	{ofDevice, "the device is not connected, or reported that it is in the background", func(c *candidate) bool {
		return c.device.Background || !slices.Contains(c.connected, c.device.Device)
	}},
}

// broken returns the first rule of the level that forbids the push, nil if none does.
func (c *candidate) broken(at level) *rule {
	for i := range rules {
		if rules[i].level == at && !rules[i].ok(c) {
			return &rules[i]
		}
	}
	return nil
}

// pushable reports whether anybody may get a push for m.
func pushable(g *group.Group, m *group.Message) bool {
	return (&candidate{group: g, message: m}).broken(ofMessage) == nil
}

// pushFlag reports whether an OfflinePushInfo asks for no push. Most messages do not name the
// flag, and cost no parsing.
func pushFlag(info json.RawMessage) bool {
	if !bytes.Contains(info, []byte("PushFlag")) {
		return false
	}
	var v struct{ PushFlag int }
	return json.Unmarshal(info, &v) == nil && v.PushFlag == 1
}

func mentioned(m *group.Message, a group.Account) bool {
	return slices.ContainsFunc(m.Mentions, func(at group.Mention) bool { return at.All || at.Account == a })
}

// quiet reports whether now is in the quiet hours q.
func quiet(q *storage.PushQuiet, now time.Time) bool {
	if q == nil {
		return false
	}
	t := now.UTC().Add(time.Duration(q.Offset) * time.Minute)
	minute := t.Hour()*60 + t.Minute()
	switch {
	case q.From < q.To:
		return q.From <= minute && minute < q.To
	case q.From > q.To:
		return minute >= q.From || minute < q.To
	}
	return true
}
