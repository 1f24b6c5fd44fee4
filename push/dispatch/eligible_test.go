package dispatch

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// noon is a Saturday at 12:00 UTC.
var noon = time.Date(2026, 5, 2, 12, 0, 0, 0, time.UTC)

// an is a candidate that gets a push: bob's phone, about ann's message.
func anEligible() *candidate {
	m := message("g", "ann", "hi")
	m.Seq = 5
	return &candidate{
		group: testGroup("g", group.Public), message: m, account: "bob", member: &group.Member{Account: "bob", JoinSeq: 4},
		user: &storage.PushUser{}, now: noon, device: &storage.PushDevice{Device: "phone"}, known: true, connected: []string{"tablet"},
	}
}

func (c *candidate) pushed() bool {
	for l := range levels {
		if c.broken(l) != nil {
			return false
		}
	}
	return true
}

var eligibility = []struct {
	name   string
	change func(c *candidate)
	want   bool
}{
	{"as it is", func(*candidate) {}, true},
	{"custom option: notify", func(c *candidate) { c.member.Receive = group.AcceptAndNotify }, true},
	{"no notification", func(c *candidate) { c.member.Receive = group.AcceptNotNotify }, false},
	{"discard", func(c *candidate) { c.member.Receive = group.Discard }, false},
	{"except at, not mentioned", func(c *candidate) { c.member.Receive = group.AcceptNotNotifyUnlessAt }, false},
	{"except at, mentioned", func(c *candidate) {
		c.member.Receive, c.message.Mentions = group.AcceptNotNotifyUnlessAt, []group.Mention{{Account: "bob"}}
	}, true},
	{"except at, all mentioned", func(c *candidate) {
		c.member.Receive, c.message.Mentions = group.DiscardUnlessAt, []group.Mention{{All: true}}
	}, true},
	{"except at, another mentioned", func(c *candidate) {
		c.member.Receive, c.message.Mentions = group.DiscardUnlessAt, []group.Mention{{Account: "carol"}}
	}, false},
	{"discard, mentioned", func(c *candidate) {
		c.member.Receive, c.message.Mentions = group.Discard, []group.Mention{{Account: "bob"}}
	}, false},
	{"meeting by default", func(c *candidate) { c.group.Type = group.Meeting }, false},
	{"meeting, asked for", func(c *candidate) { c.group.Type, c.member.Receive = group.Meeting, group.AcceptAndNotify }, true},
	{"live room", func(c *candidate) { c.group.Type, c.member.Receive = group.AVChatRoom, group.AcceptAndNotify }, false},
	{"not stored", func(c *candidate) { c.message.Seq = 0 }, false},
	{"online only", func(c *candidate) { c.message.Flags = group.OnlineOnly }, false},
	{"tip", func(c *candidate) { c.message.Flags = group.System }, false},
	{"of the system", func(c *candidate) { c.message.From = group.SystemAccount }, false},
	{"imported", func(c *candidate) { c.message.Flags = group.Imported }, false},
	{"without alert", func(c *candidate) { c.message.Flags = group.MuteNotifications }, false},
	{"not unread", func(c *candidate) { c.message.Flags = group.NoUnread }, true},
	{"recalled", func(c *candidate) { c.message.State = group.Recalled }, false},
	{"PushFlag 1", func(c *candidate) { c.message.OfflinePush = json.RawMessage(`{"PushFlag":1}`) }, false},
	{"PushFlag 0", func(c *candidate) { c.message.OfflinePush = json.RawMessage(`{"PushFlag":0}`) }, true},
	{"PushFlag in a text", func(c *candidate) { c.message.OfflinePush = json.RawMessage(`{"Desc":"PushFlag\":1"}`) }, true},
	{"no member", func(c *candidate) { c.member = nil }, false},
	{"the sender", func(c *candidate) { c.message.From = "bob" }, false},
	{"directed to others", func(c *candidate) { c.message.To = []group.Account{"carol"} }, false},
	{"directed to the user", func(c *candidate) { c.message.To = []group.Account{"carol", "bob"} }, true},
	{"joined after it", func(c *candidate) { c.member.JoinSeq = 5 }, false},
	{"push off", func(c *candidate) { c.user.Disabled = true }, false},
	{"quiet", func(c *candidate) { c.user.Quiet = &storage.PushQuiet{From: 12 * 60, To: 13 * 60} }, false},
	{"quiet before", func(c *candidate) { c.user.Quiet = &storage.PushQuiet{From: 11 * 60, To: 12 * 60} }, true},
	{"quiet over midnight", func(c *candidate) { c.user.Quiet = &storage.PushQuiet{From: 22 * 60, To: 7 * 60} }, true},
	{"quiet over midnight, east", func(c *candidate) { c.user.Quiet = &storage.PushQuiet{From: 22 * 60, To: 7 * 60, Offset: 11 * 60} }, false},
	{"quiet all day", func(c *candidate) { c.user.Quiet = &storage.PushQuiet{From: 60, To: 60} }, false},
	{"unknown provider app", func(c *candidate) { c.known = false }, false},
	{"connected", func(c *candidate) { c.connected = []string{"tablet", "phone"} }, false},
	{"connected in the background", func(c *candidate) { c.connected, c.device.Background = []string{"phone"}, true }, true},
}

func TestEligibility(t *testing.T) {
	for _, test := range eligibility {
		c := anEligible()
		if test.change(c); c.pushed() != test.want {
			t.Errorf("%s: pushed %v, want %v", test.name, !test.want, test.want)
		}
	}
}

// TestEligibilityNeedsEachRule removes one rule after the other and wants the table to notice.
func TestEligibilityNeedsEachRule(t *testing.T) {
	for i := range rules {
		real := rules[i].ok
		rules[i].ok = func(*candidate) bool { return true }
		noticed := false
		for _, test := range eligibility {
			c := anEligible()
			if test.change(c); c.pushed() != test.want {
				noticed = true
			}
		}
		rules[i].ok = real
		if !noticed {
			t.Errorf("without the rule %q the table passes", rules[i].name)
		}
	}
}

func TestBadge(t *testing.T) {
	for _, c := range []struct {
		base         *int
		then, unread int
		want         int
	}{
		{nil, 0, 7, 7},
		{new(3), 10, 12, 5},
		{new(3), 10, 4, 3}, // read elsewhere since
		{new(0), 0, 0, 0},
	} {
		if got := badge(&storage.PushDevice{Badge: c.base, BadgeUnread: c.then}, c.unread); got != c.want {
			t.Errorf("badge(%v at %d, %d) = %d, want %d", c.base, c.then, c.unread, got, c.want)
		}
	}
}
