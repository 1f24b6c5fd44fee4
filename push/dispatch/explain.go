package dispatch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
)

// A Trial is a message to one account that nobody has sent.
type Trial struct {
	Account group.Account
	Group   group.ID // empty: membership and receive option are not looked at
	Text    string
	Info    json.RawMessage // an OfflinePushInfo
	Send    bool            // to the devices that would get it
}

// A Report says what would become of a push and why. It holds no device token.
type Report struct {
	Steps   []Step         `json:"Steps"`
	Devices []DeviceReport `json:"Devices"`
}

// A Step is one thing that has to be so for a push to go out.
type Step struct {
	What string `json:"What"`
	OK   bool   `json:"OK"`
	Info string `json:"Info,omitempty"`
}

// A DeviceReport is what would become of the push to one device.
type DeviceReport struct {
	Device      string        `json:"Device"`
	App         string        `json:"App"`
	Vendor      push.Vendor   `json:"Vendor,omitempty"`
	Fingerprint string        `json:"TokenFingerprint"`
	Steps       []Step        `json:"Steps"`
	Eligible    bool          `json:"Eligible"`
	Request     *push.Preview `json:"Request,omitempty"` // as it would go out, secrets blanked out
	Answer      *Answer       `json:"Answer,omitempty"`  // nil: it was not sent
}

// An Answer is what the vendor made of a trial.
type Answer struct {
	Outcome  string `json:"Outcome"`
	Code     string `json:"Code,omitempty"`
	VendorID string `json:"VendorId,omitempty"`
	Info     string `json:"Info,omitempty"`
	Millis   int64  `json:"Milliseconds"`
}

// trialSender sends trials; no account can have this name.
const trialSender = "push test"

// Explain applies the rules to a message to the account, one by one, and shows the calls that
// would be made. With t.Send it makes them, for the devices that are eligible; a token that the
// vendor calls dead stays. The error is a *group.Error for a trial that makes no sense.
func (d *Dispatcher) Explain(ctx context.Context, t Trial) (*Report, error) {
	if _, err := push.ParseOfflinePushInfo(t.Info); err != nil {
		return nil, group.Errorf(group.CodeBadParameter, "%v", err)
	}
	user, err := d.pushUser(ctx, t.Account)
	if err != nil {
		return nil, err
	}
	c := &candidate{account: t.Account, user: user, now: time.Now(), connected: d.presence.Connected(t.Account)}
	r := &Report{}
	c.message = &group.Message{
		Group: t.Group, Seq: 1, From: trialSender, Priority: group.Normal, Time: c.now.Unix(), ID: group.MsgID{15: 1},
		Body: group.TextBody(cmp.Or(t.Text, "This is a test.")), OfflinePush: t.Info,
	}
	fine := true
	if t.Group == "" {
		c.group = &group.Group{Type: group.Public}
		c.member = &group.Member{Account: t.Account}
		r.Steps = append(r.Steps, Step{"a group is named", true, "none: membership and receive option are not looked at"})
	} else {
		if c.group, err = storage.FindGroup(ctx, d.store, t.Group); err != nil {
			return nil, err
		}
		if c.group == nil {
			return nil, group.Errorf(group.CodeNoGroup, "there is no group %.60q", string(t.Group))
		}
		head, err := d.store.Head(ctx, c.group.Key())
		if err != nil {
			return nil, err
		}
		c.message.Seq = head.Tail + 1
		if c.member, err = storage.FindMember(ctx, d.store, c.group.Key(), t.Account); err != nil {
			return nil, err
		}
		r.Steps = append(r.Steps, Step{"a group is named", true, fmt.Sprintf("%s, of type %s", c.group.ID, c.group.Type)})
	}
	for _, l := range []level{ofMessage, ofMember, ofUser} {
		if t.Group != "" || l == ofUser || l == ofMessage {
			var ok bool
			r.Steps, ok = c.steps(r.Steps, l)
			fine = fine && ok
		}
	}
	note, _ := d.compose(c.group, c.message)
	r.Steps = append(r.Steps, Step{"there is something to show", note != nil, ""})
	r.Steps = append(r.Steps, Step{"the account has registered devices", len(user.Devices) > 0, fmt.Sprintf("%d", len(user.Devices))})
	if note == nil {
		return r, nil
	}
	note.Sent = 0 // its receipts are of no message
	for i := range user.Devices {
		r.Devices = append(r.Devices, d.explainDevice(ctx, c, &user.Devices[i], note, fine, t.Send))
	}
	return r, nil
}

// steps appends the rules of a level and reports whether all of them hold.
func (c *candidate) steps(list []Step, at level) ([]Step, bool) {
	fine := true
	for _, rule := range rules {
		if rule.level == at {
			s := Step{What: rule.name, OK: rule.ok(c)}
			if !s.OK {
				s.Info = c.why(at)
			}
			list, fine = append(list, s), fine && s.OK
		}
	}
	return list, fine
}

// why says what a broken rule of the level has looked at.
func (c *candidate) why(at level) string {
	switch {
	case at == ofMember && c.member == nil:
		return "not a member"
	case at == ofMember:
		return fmt.Sprintf("the option is %s, the member joined at SEQ %d", c.group.ReceiveOf(c.member), c.member.JoinSeq)
	case at == ofUser && c.user.Quiet != nil:
		q := c.user.Quiet
		return fmt.Sprintf("quiet from %02d:%02d to %02d:%02d at UTC%+d min; off: %v", q.From/60, q.From%60, q.To/60, q.To%60, q.Offset, c.user.Disabled)
	case at == ofDevice && c.known:
		return fmt.Sprintf("connected: %q", c.connected)
	}
	return ""
}

func (d *Dispatcher) explainDevice(ctx context.Context, c *candidate, dev *storage.PushDevice, n *push.Notification, fine, send bool) DeviceReport {
	l := d.byName[dev.App]
	c.device, c.known = dev, l != nil
	r := DeviceReport{Device: dev.Device, App: dev.App, Fingerprint: push.NewToken(dev.Token).Fingerprint()}
	var ok bool
	r.Steps, ok = c.steps(nil, ofDevice)
	r.Eligible = fine && ok
	if l == nil {
		return r
	}
	r.Vendor = l.provider.Vendor()
	state := l.gate.State(time.Now(), l.provider.QuotaClass(n))
	step := Step{What: "the provider app is not paused", OK: state == push.GateOpen}
	if !step.OK {
		step.Info = string(state)
	}
	r.Steps = append(r.Steps, step)
	devices, err := l.devicesOf(ctx, []address{{storage.PushTarget{Account: c.account, Device: dev.Device}, *dev}}, n, time.Now())
	if err != nil {
		r.Steps = append(r.Steps, Step{"the unread messages can be counted", false, err.Error()})
		return r
	}
	if b := devices[0].Badge; b != nil && c.group.Type.Rules().CountsUnread {
		devices[0].Badge = new(*b + 1) // the message would be unread, too
	}
	preview, err := l.provider.Preview(n, devices[0])
	if err != nil {
		r.Steps = append(r.Steps, Step{"the vendor's request can be made", false, err.Error()})
		return r
	}
	r.Request = &preview
	if !send || !r.Eligible {
		return r
	}
	start := time.Now()
	result := slices.Concat(l.provider.Send(ctx, n, devices), []push.Result{{}})[0]
	d.metrics.sends.WithLabelValues(l.name, result.Outcome.String()).Inc()
	r.Answer = &Answer{Outcome: result.Outcome.String(), Code: result.Code, VendorID: result.VendorID, Millis: time.Since(start).Milliseconds()}
	if result.Err != nil {
		r.Answer.Info = result.Err.Error()
	}
	return r
}

// Forget forgets all devices of the account: it was logged out everywhere.
func (d *Dispatcher) Forget(ctx context.Context, a group.Account) error {
	return d.change(ctx, a, func(u *storage.PushUser) (gone []storage.PushDevice, err error) {
		gone, u.Devices = u.Devices, nil
		return gone, nil
	})
}
