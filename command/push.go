package command

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/rookery-im/rookery/group"
)

// Push keeps the device tokens of accounts and knows how pushes are sent. Its errors are
// *group.Error where it refuses.
type Push interface {
	SetToken(ctx context.Context, a group.Account, t PushToken) error
	// DeleteToken forgets the device's token: a logout. One that is not there is no error.
	DeleteToken(ctx context.Context, a group.Account, device string) error
	// Forget forgets all devices of the account.
	Forget(ctx context.Context, a group.Account) error
	// SetBadge takes what the device's icon shows; nil: as much as is unread. background, if
	// not nil, says whether it is pushed to although it is connected.
	SetBadge(ctx context.Context, a group.Account, device string, badge *int, background *bool) error
	Options(ctx context.Context, a group.Account) (PushOptions, []PushDevice, error)
	SetOptions(ctx context.Context, a group.Account, o PushOptions) error
	// Test says step by step what becomes of a push, and sends it if asked to. The answer is a JSON object.
	Test(ctx context.Context, t PushTest) (json.RawMessage, error)
}

// A PushToken is a device's registration.
type PushToken struct {
	Device, Vendor, App, Token, VoIPToken string
}

// A PushDevice is a registration as it is shown: without its token.
type PushDevice struct {
	Device      string `json:"Device"`
	App         string `json:"App" doc:"The provider app's name."`
	Fingerprint string `json:"TokenFingerprint" doc:"The first 8 hex digits of the token's SHA-256, as logs have it."`
	Registered  int64  `json:"RegisterTime" doc:"Unix seconds."`
	Background  int    `json:"Background"`
}

// PushOptions are an account's wishes. Quiet hours are minutes after midnight.
type PushOptions struct {
	Disabled bool
	Quiet    bool
	From, To int
	Offset   int // minutes east of UTC
}

// A PushTest asks what would become of a message to the account.
type PushTest struct {
	Account group.Account
	Group   group.ID // empty: none, and membership is not looked at
	Text    string
	Info    json.RawMessage // an OfflinePushInfo
	Send    bool
}

func (t *Table) registerPush() {
	e := t.env
	add := func(c Command) Command {
		c.Service, c.Changes = openimService, true
		return c
	}
	register(t, add(Command{Name: "set_push_token", Audience: Everyone, Doc: "Registers a device for offline push, in place of what it had registered before. A token leaves whoever had it."}), e.setPushToken)
	register(t, add(Command{Name: "delete_push_token", Audience: Everyone, Doc: "Forgets a device's push token: a logout."}), e.deletePushToken)
	register(t, add(Command{Name: "set_badge", Audience: Everyone, Doc: "Tells what the app's icon shows when the app goes to the background; later messages add to it."}), e.setBadge)
	register(t, add(Command{Name: "set_push_options", Audience: Everyone, Doc: "Switches offline push off or on, and sets the quiet hours."}), e.setPushOptions)
	register(t, Command{Service: openimService, Name: "get_push_options", Audience: Everyone, Doc: "Returns the options and the devices that are registered for offline push, without their tokens."}, e.getPushOptions)
	register(t, add(Command{Name: "push_test", Doc: "Says step by step what would become of a push to an account and why, with the exact calls to the vendors; sends it if asked to."}), e.pushTest)
}

// pushOf returns the account that a push command is about: the caller, or whom an admin names.
func (e *env) pushOf(ctx context.Context, call *Call, named group.Account) (group.Account, error) {
	switch {
	case e.push == nil:
		return "", group.Errorf(group.CodeCommandDisabled, "offline push is not configured")
	case !call.Admin:
		return call.Caller, nil
	case named == "":
		return "", &group.Error{Code: openimParameter, Info: "From_Account is missing"}
	}
	found, err := e.exists(ctx, named)
	if err == nil && !found {
		err = group.Errorf(codeAccountUnknown, infoNoAccount)
	}
	return named, err
}

// openimParameter is the code of a bad parameter in service openim.
const openimParameter = 90001

// pushDevice returns the device that a command means: the one it names, or the client itself.
func pushDevice(call *Call, named string) string {
	if named == "" && !call.Admin {
		return call.Device
	}
	return named
}

type pushTokenRequest struct {
	From   group.Account `json:"From_Account" wire:"account" doc:"For admins: whose device it is. For users: always the caller."`
	Device string        `json:"Device" doc:"The client identifier under which the device connects. Not given: the caller's own."`
	Vendor string        `json:"Vendor" doc:"apns, fcm, huawei, honor, xiaomi, oppo, vivo or meizu."`
	App    string        `json:"App" doc:"The provider app's name, or the bundle ID or package. May be left out where the vendor has one."`
	Token  string        `json:"Token" wire:"required,text" doc:"The device token. APNs: hex."`
	VoIP   string        `json:"VoIPToken" wire:"text" doc:"APNs: the token for calls."`
}

func (e *env) setPushToken(ctx context.Context, call *Call, r *pushTokenRequest) (*ok, error) {
	a, err := e.pushOf(ctx, call, r.From)
	if err != nil {
		return nil, err
	}
	return nil, e.push.SetToken(ctx, a, PushToken{pushDevice(call, r.Device), r.Vendor, r.App, r.Token, r.VoIP})
}

type pushDeviceRequest struct {
	From   group.Account `json:"From_Account" wire:"account" doc:"For admins: whose device it is. For users: always the caller."`
	Device string        `json:"Device" doc:"The client identifier. Not given: the caller's own."`
}

func (e *env) deletePushToken(ctx context.Context, call *Call, r *pushDeviceRequest) (*ok, error) {
	a, err := e.pushOf(ctx, call, r.From)
	if err != nil {
		return nil, err
	}
	device := pushDevice(call, r.Device)
	if device == "" {
		return nil, &group.Error{Code: openimParameter, Info: "Device is missing"}
	}
	return nil, e.push.DeleteToken(ctx, a, device)
}

type badgeRequest struct {
	From       group.Account `json:"From_Account" wire:"account" doc:"For admins: whose device it is. For users: always the caller."`
	Device     string        `json:"Device" doc:"The client identifier. Not given: the caller's own."`
	Badge      *int          `json:"Badge" doc:"What the icon shows now. Not given: as much as is unread."`
	Background *int          `json:"Background" doc:"1: push to the device although it is connected; 0: only while it is not."`
}

// maxBadge bounds what a device may report.
const maxBadge = 1_000_000

func (e *env) setBadge(ctx context.Context, call *Call, r *badgeRequest) (*ok, error) {
	a, err := e.pushOf(ctx, call, r.From)
	if err != nil {
		return nil, err
	}
	if r.Badge != nil && (*r.Badge < 0 || *r.Badge > maxBadge) {
		return nil, &group.Error{Code: openimParameter, Info: fmt.Sprintf("Badge is outside of 0 to %d", maxBadge)}
	}
	var background *bool
	if r.Background != nil {
		background = new(*r.Background != 0)
	}
	return nil, e.push.SetBadge(ctx, a, pushDevice(call, r.Device), r.Badge, background)
}

type pushOptionsRequest struct {
	From     group.Account `json:"From_Account" wire:"account" doc:"For admins: whose options they are. For users: always the caller."`
	Disabled int           `json:"Disabled" doc:"1: no offline push at all."`
	From24   string        `json:"QuietFrom" doc:"Begin of the quiet hours, like 22:00. Not given: none."`
	To24     string        `json:"QuietTo" doc:"Their end, like 07:30; the same as the begin: all day."`
	Offset   int           `json:"UTCOffset" doc:"The user's time zone in minutes east of UTC, -720 to 840."`
}

func (e *env) setPushOptions(ctx context.Context, call *Call, r *pushOptionsRequest) (*ok, error) {
	a, err := e.pushOf(ctx, call, r.From)
	if err != nil {
		return nil, err
	}
	o := PushOptions{Disabled: r.Disabled != 0, Quiet: r.From24 != "" || r.To24 != "", Offset: r.Offset}
	if o.Quiet {
		var fromOK, toOK bool
		o.From, fromOK = timeOfDay(r.From24)
		o.To, toOK = timeOfDay(r.To24)
		if !fromOK || !toOK || o.Offset < -720 || o.Offset > 840 {
			return nil, &group.Error{Code: openimParameter, Info: "QuietFrom and QuietTo must be times like 22:00, UTCOffset -720 to 840"}
		}
	}
	return nil, e.push.SetOptions(ctx, a, o)
}

// timeOfDay reads hours and minutes, as minutes after midnight.
func timeOfDay(s string) (minutes int, ok bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	for _, i := range []int{0, 1, 3, 4} {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	return h*60 + m, h < 24 && m < 60
}

type pushAccountRequest struct {
	From group.Account `json:"From_Account" wire:"account" doc:"For admins: whose options they are. For users: always the caller."`
}

type pushOptionsResponse struct {
	Disabled int          `json:"Disabled"`
	From     string       `json:"QuietFrom" doc:"Empty: no quiet hours."`
	To       string       `json:"QuietTo"`
	Offset   int          `json:"UTCOffset"`
	Devices  []PushDevice `json:"Devices"`
}

func (e *env) getPushOptions(ctx context.Context, call *Call, r *pushAccountRequest) (*pushOptionsResponse, error) {
	a, err := e.pushOf(ctx, call, r.From)
	if err != nil {
		return nil, err
	}
	o, devices, err := e.push.Options(ctx, a)
	if err != nil {
		return nil, err
	}
	resp := &pushOptionsResponse{Devices: devices}
	if o.Disabled {
		resp.Disabled = 1
	}
	if o.Quiet {
		resp.From, resp.To, resp.Offset = clock(o.From), clock(o.To), o.Offset
	}
	return resp, nil
}

func clock(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }

type pushTestRequest struct {
	To    group.Account   `json:"To_Account" wire:"required,account"`
	Group group.ID        `json:"GroupId" doc:"Not given: membership and receive option are not looked at."`
	Text  string          `json:"Text" doc:"Not given: a fixed one."`
	Info  json.RawMessage `json:"OfflinePushInfo" type:"object"`
	Send  int             `json:"Send" doc:"1: send it to the devices that would get it."`
}

type pushTestResponse struct {
	Report json.RawMessage `json:"Report" type:"object"`
}

func (e *env) pushTest(ctx context.Context, call *Call, r *pushTestRequest) (*pushTestResponse, error) {
	a, err := e.pushOf(ctx, call, r.To)
	if err != nil {
		return nil, err
	}
	report, err := e.push.Test(ctx, PushTest{Account: a, Group: r.Group, Text: r.Text, Info: r.Info, Send: r.Send != 0})
	if err != nil {
		return nil, err
	}
	return &pushTestResponse{Report: report}, nil
}

// forgetPush forgets the devices of an account that was logged out everywhere.
func (e *env) forgetPush(ctx context.Context, a group.Account) error {
	if e.push == nil {
		return nil
	}
	return e.push.Forget(ctx, a)
}
