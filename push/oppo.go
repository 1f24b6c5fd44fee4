package push

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An OPPOConfig is an app of OPPO Push and what its notifications look like by default.
type OPPOConfig struct {
	// Name is the provider app's name.
	Name                 string
	AppKey, MasterSecret Secret
	// BaseURL serves devices in China. Empty means https://api.push.oppomobile.com.
	BaseURL string
	// GlobalURL serves the others. Empty means https://api-intl.push.oppomobile.com.
	GlobalURL string

	// ChannelID and Category (IM, …) where the sender names none.
	ChannelID, Category string
	// NotifyLevel is 1 bar, 2 and lock screen, 16 and banner and sound; it needs a category.
	// Zero means OPPO's own.
	NotifyLevel int
	// ClickActivity is the class of the page to open on a tap. Empty opens the app.
	ClickActivity string
	// TimeToLive where the message has none, at most 10 days. Zero means 24 h.
	TimeToLive time.Duration
	// Receipts has the vendor report what became of pushes.
	Receipts ReceiptConfig
	HTTP     HTTPConfig
}

const (
	oppoBatch     = 1000
	oppoMaxTitle  = 50
	oppoMaxText   = 50
	oppoMaxLong   = 128
	oppoMaxSub    = 10
	oppoMaxParams = 4000 // characters
	oppoMaxURL    = 200
	oppoMaxParam  = 100
)

// OPPO is OPPO Push, for OnePlus and realme too.
type OPPO struct {
	app
	config        OPPOConfig
	china, abroad *oppoSite
}

// oppoSite is one of OPPO's two installations, with its own access token.
type oppoSite struct {
	url    string
	tokens tokenSource
}

// NewOPPO returns a provider; the error names every wrong field.
func NewOPPO(c OPPOConfig) (*OPPO, error) {
	var errs []error
	if c.AppKey.IsZero() || c.MasterSecret.IsZero() {
		errs = append(errs, errors.New("needs an app key and a master secret"))
	}
	switch c.NotifyLevel {
	case 0, 1, 2, 16:
	default:
		errs = append(errs, errors.New("notify level is none of 1, 2, 16"))
	}
	errs = append(errs, c.HTTP.validate(), c.Receipts.validate(c.Name, oppoMaxURL))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("push: oppo %s: %w", c.Name, err)
	}
	o := &OPPO{app: newApp(c.Name, VendorOPPO, c.HTTP, c.AppKey, c.MasterSecret).withReceipts(c.Receipts), config: c}
	o.china = o.site(cmp.Or(c.BaseURL, "https://api.push.oppomobile.com"))
	o.abroad = o.site(cmp.Or(c.GlobalURL, "https://api-intl.push.oppomobile.com"))
	return o, nil
}

func (o *OPPO) site(base string) *oppoSite {
	s := &oppoSite{url: base}
	s.tokens = tokenSource{timeout: o.timeout, fetch: func(ctx context.Context) (accessToken, error) { return o.login(ctx, base) }}
	return s
}

// oppoInChina tells by the registration ID where a device is served.
func oppoInChina(id string) bool {
	parts := strings.Split(id, "_")
	return len(parts) == 1 || parts[0] == "CN" || len(parts) == 3 && parts[1] == "CN"
}

func oppoSign(appKey, timestamp, masterSecret string) string {
	sum := sha256.Sum256([]byte(appKey + timestamp + masterSecret))
	return hex.EncodeToString(sum[:])
}

func (o *OPPO) login(ctx context.Context, base string) (accessToken, error) {
	now := time.Now()
	timestamp := strconv.FormatInt(now.UnixMilli(), 10)
	key := o.config.AppKey.Reveal()
	ans, err := o.do(ctx, call{
		url: base + "/server/v1/auth", header: []string{"Content-Type", formType},
		body: form("app_key", key, "timestamp", timestamp, "sign", oppoSign(key, timestamp, o.config.MasterSecret.Reveal())),
	})
	if err != nil {
		return accessToken{}, err
	}
	var got struct {
		Code    looseText `json:"code"`
		Message looseText `json:"message"`
		Data    struct {
			AuthToken string `json:"auth_token"`
		} `json:"data"`
	}
	// An answer that can't be read has no token, and its HTTP status decides.
	_ = json.Unmarshal(ans.body, &got)
	if ans.status == http.StatusOK && got.Data.AuthToken != "" {
		return accessToken{value: got.Data.AuthToken, renewAt: now.Add(12 * time.Hour)}, nil
	}
	outcome := loginStatus(ans.status)
	if known, ok := oppoCodes[string(got.Code)]; ok && !known.Final() {
		outcome = known
	}
	if outcome == AuthExpired {
		outcome = AuthRejected // there is no older login to blame
	}
	return accessToken{}, o.loginFailed(ans, cmp.Or(string(got.Code), strconv.Itoa(ans.status)), string(got.Message), outcome)
}

// BatchSize is 1000.
func (o *OPPO) BatchSize() int { return oppoBatch }

// QuotaClass is the category: OPPO limits content and marketing.
func (o *OPPO) QuotaClass(n *Notification) string { return o.category(n) }

func (o *OPPO) category(n *Notification) string {
	return cmp.Or(n.info().AndroidInfo.OPPOCategory, o.config.Category)
}

// Send pushes n to devices, a thousand a call, each at the site that serves it.
func (o *OPPO) Send(ctx context.Context, n *Notification, devices []Device) []Result {
	results := make([]Result, len(devices))
	var parts [2][]Device
	var places [2][]int
	for i, d := range devices {
		at := 0
		if !oppoInChina(d.Token.Reveal()) {
			at = 1
		}
		parts[at], places[at] = append(parts[at], d), append(places[at], i)
	}
	for at, site := range []*oppoSite{o.china, o.abroad} {
		got := sendBatches(ctx, parts[at], oppoBatch, o.config.HTTP.concurrency(), func(ctx context.Context, part []Device) []Result {
			return sendSplitting(ctx, part, func(ctx context.Context, part []Device) []Result { return o.sendPart(ctx, site, n, part) })
		})
		for i, r := range got {
			results[places[at][i]] = r
		}
	}
	return results
}

func (o *OPPO) sendPart(ctx context.Context, site *oppoSite, n *Notification, part []Device) []Result {
	results := o.post(ctx, site, n, part, true)
	if results[0].Code == oppoBadLevel && o.level(n) != 0 {
		// The category is not allowed this loudness: better quiet than not at all.
		return o.post(ctx, site, n, part, false)
	}
	return results
}

func (o *OPPO) post(ctx context.Context, site *oppoSite, n *Notification, part []Device, level bool) []Result {
	return site.tokens.sendAuthorized(ctx, part, func(access string) []Result {
		started := time.Now()
		ans, err := o.do(ctx, o.call(site, access, n, part, level))
		if err != nil {
			return unsent(part, started, err)
		}
		return o.results(ans, access, part, started)
	})
}

// Check logs in at the site for China, and abroad only where that has been configured.
func (o *OPPO) Check(ctx context.Context) error {
	if err := o.china.tokens.check(ctx, o.name); err != nil || o.config.GlobalURL == "" {
		return err
	}
	return o.abroad.tokens.check(ctx, o.name)
}

// Preview returns the call for one device.
func (o *OPPO) Preview(n *Notification, d Device) (Preview, error) {
	site := o.china
	if !oppoInChina(d.Token.Reveal()) {
		site = o.abroad
	}
	return o.preview(o.call(site, "-", n, []Device{{Token: NewToken(previewToken)}}, true), nil)
}

func (o *OPPO) call(site *oppoSite, access string, n *Notification, part []Device, level bool) call {
	c := call{header: []string{"Content-Type", formType, "auth_token", access}}
	notification := o.notification(n, level)
	if len(part) == 1 {
		c.url = site.url + "/server/v1/message/notification/unicast"
		c.body = form("auth_token", access, "message", marshalText(o.message(notification, n, part[0])))
		return c
	}
	messages := make([]oppoMessage, len(part))
	for i, d := range part {
		messages[i] = o.message(notification, n, d)
	}
	c.url = site.url + "/server/v1/message/notification/unicast_batch"
	c.body = form("auth_token", access, "messages", marshalText(messages))
	return c
}

type oppoMessage struct {
	TargetType   int         `json:"target_type"` // 2: registration ID
	TargetValue  string      `json:"target_value"`
	Notification oppoDisplay `json:"notification"`
}

// message is what a device is sent. Each has a callback parameter of its own.
func (o *OPPO) message(display oppoDisplay, n *Notification, d Device) oppoMessage {
	if param := o.receiptParam(n, oppoMaxParam, []Device{d}); param != "" {
		display.CallBackURL, display.CallBackParam = o.receiptURL(), param
	}
	return oppoMessage{2, d.Token.Reveal(), display}
}

type oppoDisplay struct {
	AppMessageID  string `json:"app_message_id"`
	Style         int    `json:"style"`
	Title         string `json:"title"`
	SubTitle      string `json:"sub_title,omitempty"`
	Content       string `json:"content"`
	ClickType     int    `json:"click_action_type"`
	ClickActivity string `json:"click_action_activity,omitempty"`
	Parameters    string `json:"action_parameters"`
	OffLine       bool   `json:"off_line"`
	OffLineTTL    int64  `json:"off_line_ttl"`
	ChannelID     string `json:"channel_id,omitempty"`
	Category      string `json:"category,omitempty"`
	NotifyLevel   int    `json:"notify_level,omitempty"`
	NotifyID      int32  `json:"notify_id"`
	TemplateID    string `json:"private_msg_template_id,omitempty"`
	TemplateTitle string `json:"private_title_parameters,omitempty"`
	TemplateText  string `json:"private_content_parameters,omitempty"`
	CallBackURL   string `json:"call_back_url,omitempty"`
	CallBackParam string `json:"call_back_parameter,omitempty"`
}

func (o *OPPO) level(n *Notification) int {
	if o.category(n) == "" {
		return 0
	}
	return cmp.Or(n.info().AndroidInfo.OPPONotifyLevel, o.config.NotifyLevel)
}

func (o *OPPO) notification(n *Notification, level bool) oppoDisplay {
	info := n.info()
	a := &info.AndroidInfo
	d := oppoDisplay{
		AppMessageID: boundedID(n.MessageID, 64), Style: 1,
		Title: cutRunes(nonBlank(n.Title, n.Group, n.From), oppoMaxTitle), SubTitle: cutRunes(info.ApnsInfo.SubTitle, oppoMaxSub),
		Content: cutRunes(nonBlank(n.Text), oppoMaxText), OffLine: true,
		OffLineTTL: seconds(n.timeToLive(cmp.Or(o.config.TimeToLive, 24*time.Hour), time.Second, 10*24*time.Hour)),
		ChannelID:  cmp.Or(a.OPPOChannelID, o.config.ChannelID), Category: o.category(n), NotifyID: n.replaceID(),
		Parameters: marshalText(n.appData(n.Ext)),
	}
	if a.PushStyle == 1 {
		d.Style, d.Content = 2, cutRunes(nonBlank(n.Text), oppoMaxLong)
	}
	if utf8.RuneCountInString(d.Parameters) > oppoMaxParams {
		d.Parameters = marshalText(n.appData(""))
	}
	if level {
		d.NotifyLevel = o.level(n)
	}
	if o.config.ClickActivity != "" {
		d.ClickType, d.ClickActivity = 4, o.config.ClickActivity
	}
	if a.OPPOPrivateMsgTemplateID != "" {
		d.TemplateID = a.OPPOPrivateMsgTemplateID
		d.TemplateTitle, d.TemplateText = compactJSON(a.OPPOPrivateTitleParameters), compactJSON(a.OPPOPrivateContentParameters)
	}
	return d
}

var oppoKinds = receiptCodes(map[ReceiptKind]string{
	ReceiptArrived:     "push_arrive",
	ReceiptClicked:     "push_click",
	ReceiptDead:        "regid_invalid", // uninstalled, or 30 days offline
	ReceiptUndelivered: "user_daily_limit",
})

// Receipts reads a request of OPPO.
func (o *OPPO) Receipts(_ http.Header, body []byte) ([]Receipt, error) {
	return o.receiptsByMessage(body, "data", oppoKinds, "")
}

// compactJSON returns an object as text, "" where there is none.
func compactJSON(raw json.RawMessage) string {
	var b bytes.Buffer
	if string(raw) == "null" || json.Compact(&b, raw) != nil {
		return ""
	}
	return b.String()
}

// oppoBadLevel is a category or notify_level that OPPO has not granted.
const oppoBadLevel = "67"

var oppoCodes = newCodeTable(map[Outcome]string{
	Accepted:       "0 32", // 32: our own retry had gone through before
	TokenInvalid:   "10000",
	AuthExpired:    "11 29",
	Throttled:      "-2 13 55",
	Retryable:      "-1",
	QuotaExhausted: "33 42",
	PayloadRejected: "12 18 20 21 22 23 24 25 31 40 41 51 69 " +
		"34",
	AuthRejected: "19 " + // the timestamp: our clock is wrong
		"14 15 16 17 26 27 28 30 59 " + oppoBadLevel,
})

func (o *OPPO) results(ans answer, access string, part []Device, started time.Time) []Result {
	type item struct {
		MessageID    string    `json:"messageId"`
		MessageIDOld string    `json:"message_id"`
		Registration string    `json:"registrationId"`
		ErrorCode    looseText `json:"errorCode"`
	}
	var got struct {
		Code    looseText       `json:"code"`
		Message looseText       `json:"message"`
		Data    json.RawMessage `json:"data"`
	}
	r := Result{AsOf: started, RetryAfter: retryAfter(ans.header, started)}
	if json.Unmarshal(ans.body, &got) == nil {
		r.Code = string(got.Code)
	}
	r.Outcome = oppoCodes.outcome(r.Code, ans.status)
	r.Code = cmp.Or(r.Code, strconv.Itoa(ans.status))
	if r.Outcome != Accepted {
		r.Err = o.vendorError(r.Code, string(got.Message), part, access)
		return each(part, unnamedDead(r, part))
	}
	var items []item
	if len(part) == 1 {
		items = make([]item, 1)
		_ = json.Unmarshal(got.Data, &items[0]) // another shape has no ID for us
		items[0].Registration = cmp.Or(items[0].Registration, part[0].Token.Reveal())
	} else {
		_ = json.Unmarshal(got.Data, &items)
	}
	byToken := make(map[string]item, len(items))
	for _, it := range items {
		byToken[it.Registration] = it
	}
	results := each(part, r)
	for i, d := range part {
		it := byToken[d.Token.Reveal()]
		results[i].VendorID = cmp.Or(it.MessageID, it.MessageIDOld)
		if it.ErrorCode != "" && it.ErrorCode != "0" {
			results[i].Code = string(it.ErrorCode)
			results[i].Outcome = oppoCodes.outcome(string(it.ErrorCode), ans.status)
		}
	}
	return results
}
