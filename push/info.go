package push

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxInfoBytes bounds an OfflinePushInfo's JSON text.
const MaxInfoBytes = 12 << 10

// maxInfoField bounds every short text field (names, categories, URLs) in bytes.
const maxInfoField = 1024

// NoSound, as ApnsInfo.Sound, asks for a notification without a sound.
const NoSound = "push.no_sound"

// An OfflinePushInfo is what a sender says about the push of a message, as Tencent IM's
// clients and REST callers write it. A zero field means "as the provider app is configured".
type OfflinePushInfo struct {
	// PushFlag 1 means no push.
	PushFlag int
	Title    string
	// Desc replaces the text that is made from the message's elements.
	Desc string
	Ext  string
	// BadgeAddNum (1–99) is added to the badge, BadgeSetNum (0–999) replaces it and wins.
	BadgeAddNum int
	BadgeSetNum *int
	AndroidInfo AndroidInfo
	ApnsInfo    ApnsInfo
}

// AndroidInfo is the part of an OfflinePushInfo for the Android vendors.
type AndroidInfo struct {
	// Sound is a file name without its suffix, of /res/raw. Some clients give its path.
	Sound string
	// PushStyle 1 shows long text.
	PushStyle int

	HuaWeiChannelID        string
	HuaWeiImportance       string // LOW or NORMAL
	HuaWeiCategory         string
	HuaWeiImage            string
	ExtAsHuaweiIntentParam int // 1: Ext is an extra of the intent, else a parameter of the action

	HonorImportance string // LOW or NORMAL
	HonorImage      string

	XiaoMiChannelID string

	OPPOChannelID                string
	OPPOCategory                 string
	OPPONotifyLevel              int    // 1, 2 or 16
	OPPOPrivateMsgTemplateID     string `json:"OPPOPrivateMsgTemplateId"`
	OPPOPrivateTitleParameters   json.RawMessage
	OPPOPrivateContentParameters json.RawMessage
	VIVOClassification           *int // 0 operational, 1 system
	VIVOCategory                 string
	VIVONotifyType               looseInt // 1 none, 2 ring, 3 vibrate, 4 both
	GoogleChannelID              string
	GoogleImage                  string
	GooglePriority               string // normal or high
	MeiZuNoticeMsgType           *int   // 0 public, 1 private
}

// ApnsInfo is the part of an OfflinePushInfo for APNs.
type ApnsInfo struct {
	// Sound is a file name with its suffix, or NoSound.
	Sound string
	// BadgeMode 1 leaves the badge as it is.
	BadgeMode         int
	Title             string
	SubTitle          string
	Image             string
	MutableContent    int
	InterruptionLevel string // passive, active, time-sensitive or critical
	ContentAvailable  int    // 1: a silent push
	IsVoipPush        int    // 1: a call, if the device gave a VoIP token
}

// sound returns the sound file's name without folder and suffix.
func (a *AndroidInfo) sound() string {
	name := a.Sound[strings.LastIndexByte(a.Sound, '/')+1:]
	name, _, _ = strings.Cut(name, ".")
	return name
}

// ErrBadInfo is what ParseOfflinePushInfo's errors are.
var ErrBadInfo = errors.New("malformed OfflinePushInfo")

// ParseOfflinePushInfo reads the JSON object that stands beside MsgBody. Unknown fields are
// ignored, integers may be in quotes, and null, "", 0 and [] stand for a field that is not given. Nothing, null and {} are no error: the first two give nil. The error wraps
// ErrBadInfo and names the first field that is wrong, never its value.
func ParseOfflinePushInfo(raw json.RawMessage) (*OfflinePushInfo, error) {
	if trimmed := bytes.TrimSpace(raw); len(trimmed) == 0 || bytes.Equal(trimmed, []byte("null")) {
		return nil, nil
	}
	if len(raw) > MaxInfoBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrBadInfo, len(raw), MaxInfoBytes)
	}
	var info OfflinePushInfo
	if err := json.Unmarshal(lenient(raw, reflect.TypeFor[OfflinePushInfo]()), &info); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, fmt.Errorf("%w: %s is not a %s", ErrBadInfo, cmp.Or(e.Field, "it"), jsonKind(e.Type.Kind().String()))
		}
		if e, ok := errors.AsType[*fieldError](err); ok {
			return nil, fmt.Errorf("%w: %s", ErrBadInfo, e.problem)
		}
		return nil, fmt.Errorf("%w: not JSON", ErrBadInfo) // the decoder's text quotes the input
	}
	info.dropBareImages()
	if err := info.validate(); err != nil {
		return nil, err
	}
	return &info, nil
}

func jsonKind(goKind string) string {
	switch {
	case strings.HasPrefix(goKind, "int"):
		return "number"
	case goKind == "struct":
		return "object"
	}
	return goKind
}

func (o *OfflinePushInfo) validate() error {
	var c infoCheck
	c.oneOf("PushFlag", o.PushFlag, 0, 1)
	c.within("BadgeAddNum", o.BadgeAddNum, 0, 99)
	if o.BadgeSetNum != nil {
		c.within("BadgeSetNum", *o.BadgeSetNum, 0, 999)
	}

	a := &o.AndroidInfo
	c.short("AndroidInfo.Sound", a.Sound)
	c.oneOf("AndroidInfo.PushStyle", a.PushStyle, 0, 1)
	c.short("AndroidInfo.HuaWeiChannelID", a.HuaWeiChannelID)
	c.word("AndroidInfo.HuaWeiImportance", a.HuaWeiImportance, "LOW", "NORMAL")
	c.short("AndroidInfo.HuaWeiCategory", a.HuaWeiCategory)
	c.https("AndroidInfo.HuaWeiImage", a.HuaWeiImage)
	c.oneOf("AndroidInfo.ExtAsHuaweiIntentParam", a.ExtAsHuaweiIntentParam, 0, 1)
	c.word("AndroidInfo.HonorImportance", a.HonorImportance, "LOW", "NORMAL")
	c.https("AndroidInfo.HonorImage", a.HonorImage)
	c.short("AndroidInfo.XiaoMiChannelID", a.XiaoMiChannelID)
	c.short("AndroidInfo.OPPOChannelID", a.OPPOChannelID)
	c.short("AndroidInfo.OPPOCategory", a.OPPOCategory)
	c.oneOf("AndroidInfo.OPPONotifyLevel", a.OPPONotifyLevel, 0, 1, 2, 16)
	c.short("AndroidInfo.OPPOPrivateMsgTemplateId", a.OPPOPrivateMsgTemplateID)
	c.object("AndroidInfo.OPPOPrivateTitleParameters", a.OPPOPrivateTitleParameters)
	c.object("AndroidInfo.OPPOPrivateContentParameters", a.OPPOPrivateContentParameters)
	if a.VIVOClassification != nil {
		c.oneOf("AndroidInfo.VIVOClassification", *a.VIVOClassification, 0, 1)
	}
	c.short("AndroidInfo.VIVOCategory", a.VIVOCategory)
	c.within("AndroidInfo.VIVONotifyType", int(a.VIVONotifyType), 0, 4)
	c.short("AndroidInfo.GoogleChannelID", a.GoogleChannelID)
	c.web("AndroidInfo.GoogleImage", a.GoogleImage)
	c.word("AndroidInfo.GooglePriority", a.GooglePriority, "normal", "high")
	if a.MeiZuNoticeMsgType != nil {
		c.oneOf("AndroidInfo.MeiZuNoticeMsgType", *a.MeiZuNoticeMsgType, 0, 1)
	}

	p := &o.ApnsInfo
	c.short("ApnsInfo.Sound", p.Sound)
	c.oneOf("ApnsInfo.BadgeMode", p.BadgeMode, 0, 1)
	c.web("ApnsInfo.Image", p.Image)
	c.oneOf("ApnsInfo.MutableContent", p.MutableContent, 0, 1)
	c.word("ApnsInfo.InterruptionLevel", p.InterruptionLevel, "passive", "active", "time-sensitive", "critical")
	c.oneOf("ApnsInfo.ContentAvailable", p.ContentAvailable, 0, 1)
	c.oneOf("ApnsInfo.IsVoipPush", p.IsVoipPush, 0, 1)
	return c.err
}

// infoCheck keeps the first problem.
type infoCheck struct{ err error }

func (c *infoCheck) fail(field, problem string) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s %s", ErrBadInfo, field, problem)
	}
}

func (c *infoCheck) oneOf(field string, v int, allowed ...int) {
	if !slices.Contains(allowed, v) {
		c.fail(field, fmt.Sprintf("is none of %v", allowed))
	}
}

func (c *infoCheck) within(field string, v, low, high int) {
	if v < low || v > high {
		c.fail(field, fmt.Sprintf("is outside %d…%d", low, high))
	}
}

// word accepts the empty text too: clients send every field, unset ones empty.
func (c *infoCheck) word(field, v string, allowed ...string) {
	if v != "" && !slices.Contains(allowed, v) {
		c.fail(field, "is none of "+strings.Join(allowed, ", "))
	}
}

func (c *infoCheck) short(field, v string) {
	if len(v) > maxInfoField {
		c.fail(field, fmt.Sprintf("has more than %d bytes", maxInfoField))
	}
	if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == utf8.RuneError }) {
		c.fail(field, "has control characters")
	}
}

func (c *infoCheck) https(field, v string) { c.url(field, v, "https") }

// web takes http, too: not every vendor asks for TLS.
func (c *infoCheck) web(field, v string) { c.url(field, v, "https", "http") }

func (c *infoCheck) url(field, v string, schemes ...string) {
	c.short(field, v)
	if v == "" {
		return
	}
	if u, err := url.Parse(v); err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" {
		c.fail(field, "is not an "+schemes[0]+" URL")
	}
}

func (c *infoCheck) object(field string, v json.RawMessage) {
	if len(v) == 0 || string(v) == "null" {
		return
	}
	if v[0] != '{' {
		c.fail(field, "is not an object")
	}
}

// looseInt reads a number or a number in quotes.
type looseInt int

type fieldError struct{ problem string }

func (e *fieldError) Error() string { return e.problem }

func (n *looseInt) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "" || text == "null" {
		*n = 0
		return nil
	}
	v, err := strconv.Atoi(text)
	if err != nil {
		return &fieldError{"AndroidInfo.VIVONotifyType is not a number"}
	}
	*n = looseInt(v)
	return nil
}
