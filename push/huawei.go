package push

import (
	"cmp"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A HuaweiConfig is an app of Huawei Push Kit and what its notifications look like by default.
type HuaweiConfig struct {
	// Name is the provider app's name.
	Name string
	// API is v1 (Android, by app ID), v2 (Android, by project ID) or v3 (HarmonyOS, by
	// project ID with a key file). Empty means v1.
	API string
	// AppID and AppSecret are the OAuth client for v1 and v2, AppID the app in v1's URL.
	AppID     string
	AppSecret Secret
	// ProjectID is the project in v2's URL.
	ProjectID string
	// KeyFile is the text of the service account's JSON key file, for v3.
	KeyFile Secret
	// BaseURL of the push API. Empty means https://push-api.cloud.huawei.com.
	BaseURL string
	// TokenURL of the login. Empty means https://oauth-login.cloud.huawei.com/oauth2/v3/token.
	TokenURL string

	// ChannelID, Category (IM, …) and Importance (LOW, NORMAL) where the sender names none.
	ChannelID, Category, Importance string
	// LauncherClass is the activity whose icon carries the badge. Empty means no badge.
	LauncherClass string
	// Intent is an intent URI to open on a tap, and Action an intent action. Both empty means
	// that a tap opens the app.
	Intent, Action string
	// TimeToLive where the message has none, at most 15 days. Zero means 24 h.
	TimeToLive time.Duration
	// Receipts has the vendor report what became of pushes.
	Receipts ReceiptConfig
	HTTP     HTTPConfig
}

const (
	huaweiBatch  = 1000
	huaweiMaxTTL = 15 * 24 * time.Hour
	huaweiMaxTag = 64 // bytes of what comes back in receipts
)

// Huawei is Huawei Push Kit.
type Huawei struct {
	app
	config  HuaweiConfig
	key     *rsa.PrivateKey // v3
	account huaweiAccount   // v3
	tokens  tokenSource
	sendURL string
}

type huaweiAccount struct {
	ProjectID  string `json:"project_id"`
	KeyID      string `json:"key_id"`
	PrivateKey string `json:"private_key"`
	SubAccount string `json:"sub_account"`
}

// NewHuawei returns a provider; the error names every wrong field.
func NewHuawei(c HuaweiConfig) (*Huawei, error) {
	c.API = cmp.Or(c.API, "v1")
	c.TokenURL = cmp.Or(c.TokenURL, "https://oauth-login.cloud.huawei.com/oauth2/v3/token")
	h := &Huawei{config: c}
	var errs []error
	id := c.AppID
	switch c.API {
	case "v1", "v2":
		if c.AppID == "" || c.AppSecret.IsZero() {
			errs = append(errs, errors.New("needs an app ID and an app secret"))
		}
		if c.API == "v2" {
			id = c.ProjectID
		}
		h.tokens.fetch = h.login
	case "v3":
		if err := json.Unmarshal([]byte(c.KeyFile.Reveal()), &h.account); err != nil {
			errs = append(errs, errors.New("key file is not JSON"))
		}
		key, err := parseRSAKey(h.account.PrivateKey)
		if err != nil {
			errs = append(errs, fmt.Errorf("key file: %w", err))
		}
		h.key, id = key, h.account.ProjectID
		h.tokens.fetch = h.sign
	default:
		errs = append(errs, errors.New("API is none of v1, v2, v3"))
	}
	if id == "" {
		errs = append(errs, errors.New("the ID in the URL (v1: app, else project) is empty"))
	}
	errs = append(errs, checkImportance(c.Importance), c.HTTP.validate(), c.Receipts.validate(c.Name, 0))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("push: huawei %s: %w", c.Name, err)
	}
	h.app = newApp(c.Name, VendorHuawei, c.HTTP, c.AppSecret, c.KeyFile, NewSecret(h.account.PrivateKey)).withReceipts(c.Receipts)
	h.tokens.timeout = h.timeout
	h.sendURL = cmp.Or(c.BaseURL, "https://push-api.cloud.huawei.com") + "/" + c.API + "/" + url.PathEscape(id) + "/messages:send"
	return h, nil
}

func checkImportance(s string) error {
	if s != "" && s != "LOW" && s != "NORMAL" {
		return errors.New("importance is neither LOW nor NORMAL")
	}
	return nil
}

func (h *Huawei) login(ctx context.Context) (accessToken, error) {
	return h.oauth(ctx, h.config.TokenURL, form("grant_type", "client_credentials",
		"client_id", h.config.AppID, "client_secret", h.config.AppSecret.Reveal()))
}

// sign makes v3's access token: there it is a JWT of our own.
func (h *Huawei) sign(context.Context) (accessToken, error) {
	now := time.Now()
	jwt, err := signRSA(h.key, h.account.KeyID, true, map[string]any{
		"iss": h.account.SubAccount, "aud": h.config.TokenURL, "iat": now.Unix(), "exp": now.Unix() + 3600,
	})
	return accessToken{value: jwt, renewAt: now.Add(renewBefore(time.Hour))}, err
}

// BatchSize is 1000.
func (h *Huawei) BatchSize() int { return huaweiBatch }

// QuotaClass is the notification's category: Huawei limits marketing and grants the others.
func (h *Huawei) QuotaClass(n *Notification) string { return h.category(n) }

func (h *Huawei) category(n *Notification) string {
	return cmp.Or(n.info().AndroidInfo.HuaWeiCategory, h.config.Category)
}

// Send pushes n to devices, a thousand a call.
func (h *Huawei) Send(ctx context.Context, n *Notification, devices []Device) []Result {
	return sendBatches(ctx, devices, huaweiBatch, h.config.HTTP.concurrency(), func(ctx context.Context, part []Device) []Result {
		body, err := h.body(n, part)
		if err != nil {
			return each(part, Result{Outcome: PayloadRejected, AsOf: time.Now(), Err: err})
		}
		return h.tokens.sendAuthorized(ctx, part, func(access string) []Result {
			started := time.Now()
			ans, err := h.do(ctx, h.call(access, body))
			if err != nil {
				return unsent(part, started, err)
			}
			return h.results(ans, access, part, started)
		})
	})
}

// Check logs in. For v3, where the access token is made here, it proves the key only.
func (h *Huawei) Check(ctx context.Context) error { return h.tokens.check(ctx, h.name) }

// Preview returns the call for one device.
func (h *Huawei) Preview(n *Notification, _ Device) (Preview, error) {
	body, err := h.body(n, []Device{{Token: NewToken(previewToken)}})
	return h.preview(h.call("", body), err)
}

func (h *Huawei) call(access string, body []byte) call {
	c := call{url: h.sendURL, body: body, header: []string{"Authorization", "Bearer " + access, "Content-Type", jsonType}}
	if h.config.API == "v3" {
		c.header = append(c.header, "push-type", "0")
	}
	return c
}

type huaweiMessage struct {
	Data    string        `json:"data,omitempty"`
	Android huaweiAndroid `json:"android"`
}

type huaweiAndroid struct {
	CollapseKey  int           `json:"collapse_key,omitempty"`
	Category     string        `json:"category,omitempty"`
	TTL          string        `json:"ttl"`
	BITag        string        `json:"bi_tag,omitempty"`
	ReceiptID    string        `json:"receipt_id,omitempty"`
	Notification huaweiDisplay `json:"notification"`
}

type huaweiDisplay struct {
	Title          string       `json:"title"`
	Body           string       `json:"body"`
	Image          string       `json:"image,omitempty"`
	Sound          string       `json:"sound,omitempty"`
	DefaultSound   *bool        `json:"default_sound,omitempty"`
	ChannelID      string       `json:"channel_id,omitempty"`
	Importance     string       `json:"importance"`
	NotifyID       int32        `json:"notify_id"`
	Style          int          `json:"style,omitempty"`
	BigTitle       string       `json:"big_title,omitempty"`
	BigBody        string       `json:"big_body,omitempty"`
	Click          huaweiClick  `json:"click_action"`
	Badge          *huaweiBadge `json:"badge,omitempty"`
	ForegroundShow bool         `json:"foreground_show"`
}

type huaweiClick struct {
	Type   int    `json:"type"`
	Intent string `json:"intent,omitempty"`
	Action string `json:"action,omitempty"`
}

type huaweiBadge struct {
	Add   int    `json:"add_num,omitempty"`
	Set   *int   `json:"set_num,omitempty"`
	Class string `json:"class"`
}

// body is the message, at most 4096 bytes of it, and then the tokens.
func (h *Huawei) body(n *Notification, devices []Device) ([]byte, error) {
	if h.config.API == "v3" {
		return h.harmonyBody(n, devices)
	}
	info := n.info()
	a := &info.AndroidInfo
	android := huaweiAndroid{
		Category: h.category(n), BITag: h.tag(n, devices), ReceiptID: h.receiptID(),
		TTL: strconv.FormatInt(seconds(n.timeToLive(cmp.Or(h.config.TimeToLive, 24*time.Hour), time.Second, huaweiMaxTTL)), 10) + "s",
	}
	if n.CollapseKey != "" {
		android.CollapseKey = n.collapseSlot()
	}
	display := huaweiDisplay{
		Title: n.Title, Image: a.HuaWeiImage, NotifyID: n.replaceID(), ForegroundShow: true,
		ChannelID:  cmp.Or(a.HuaWeiChannelID, h.config.ChannelID),
		Importance: cmp.Or(a.HuaWeiImportance, h.config.Importance, "NORMAL"),
	}
	if sound := a.sound(); sound != "" {
		display.Sound, display.DefaultSound = "/raw/"+sound, new(false)
	}
	if add, set := n.androidBadge(); h.config.LauncherClass != "" && (add > 0 || set != nil) {
		display.Badge = &huaweiBadge{Add: add, Set: set, Class: h.config.LauncherClass}
	}
	message, err := fitBody(maxBody, n.Text, n.Ext, func(text, ext string) any {
		m := huaweiMessage{Android: android}
		d := display
		d.Body = text
		if a.PushStyle == 1 {
			d.Style, d.BigTitle, d.BigBody = 1, n.Title, text
		}
		data := n.appData(ext)
		switch {
		case h.config.Intent != "" && a.ExtAsHuaweiIntentParam == 1:
			d.Click = huaweiClick{Type: 1, Intent: intentWith(h.config.Intent, data)}
		case h.config.Intent != "":
			d.Click, m.Data = huaweiClick{Type: 1, Intent: h.config.Intent}, marshalText(data)
		case h.config.Action != "":
			d.Click, m.Data = huaweiClick{Type: 1, Action: h.config.Action}, marshalText(data)
		default:
			d.Click, m.Data = huaweiClick{Type: 3}, marshalText(data)
		}
		m.Android.Notification = d
		return m
	})
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(`{"validate_only":false,"message":`), withTokens(message, "token", tokenTexts(devices)), []byte("}")), nil
}

// tag is what Huawei and Honor send back with their receipts: the callback parameter, else an ID.
func (a *app) tag(n *Notification, devices []Device) string {
	return cmp.Or(a.receiptParam(n, huaweiMaxTag, devices), boundedID(n.MessageID, huaweiMaxTag))
}

// receiptID names the address that the console has for receipts; without one it has only one.
func (h *Huawei) receiptID() string {
	if h.receipts.Secret.IsZero() {
		return ""
	}
	return h.receipts.ID
}

// Receipts reads a request of Huawei.
func (h *Huawei) Receipts(header http.Header, body []byte) ([]Receipt, error) {
	if !h.receiptSigned(header, "X-HUAWEI-CALLBACK-ID") {
		return nil, ErrUnsigned
	}
	return h.huaweiReceiptsOf(body, huaweiReceipts)
}

// intentWith adds the app's data as extras to an intent URI (intent://…#Intent;…;end).
func intentWith(intent string, data appData) string {
	extras := "S.im=" + url.PathEscape(data.Routing) + ";"
	if data.Ext != "" {
		extras = "S.ext=" + url.PathEscape(data.Ext) + ";" + extras
	}
	if head, ok := strings.CutSuffix(intent, "end"); ok {
		return head + extras + "end"
	}
	return intent + "#Intent;" + extras + "end"
}

// withTokens adds a member to a JSON object: the object's own size is what is limited.
func withTokens(object []byte, name string, tokens any) []byte {
	return slices.Concat(object[:len(object)-1], []byte(`,"`+name+`":`+marshalText(tokens)+"}"))
}

type harmonyDisplay struct {
	Category       string        `json:"category,omitempty"`
	Title          string        `json:"title"`
	Body           string        `json:"body"`
	Click          harmonyClick  `json:"clickAction"`
	Badge          *harmonyBadge `json:"badge,omitempty"`
	Sound          string        `json:"sound,omitempty"`
	NotifyID       int32         `json:"notifyId"`
	Image          string        `json:"image,omitempty"`
	ForegroundShow bool          `json:"foregroundShow"`
}

type harmonyClick struct {
	ActionType int     `json:"actionType"`
	Data       appData `json:"data"`
}

type harmonyBadge struct {
	Add int  `json:"addNum,omitempty"`
	Set *int `json:"setNum,omitempty"`
}

func (h *Huawei) harmonyBody(n *Notification, devices []Device) ([]byte, error) {
	info := n.info()
	type options struct {
		TTL         int64  `json:"ttl"`
		BITag       string `json:"biTag,omitempty"`
		ReceiptID   string `json:"receiptId,omitempty"`
		CollapseKey int    `json:"collapseKey,omitempty"`
	}
	o := options{
		TTL:   seconds(n.timeToLive(cmp.Or(h.config.TimeToLive, 24*time.Hour), time.Second, huaweiMaxTTL)),
		BITag: h.tag(n, devices), ReceiptID: h.receiptID(),
	}
	if n.CollapseKey != "" {
		o.CollapseKey = n.collapseSlot()
	}
	display := harmonyDisplay{
		Category: h.category(n), Title: n.Title, Sound: info.AndroidInfo.Sound,
		NotifyID: n.replaceID(), Image: info.AndroidInfo.HuaWeiImage, ForegroundShow: true,
	}
	if add, set := n.androidBadge(); add > 0 || set != nil {
		display.Badge = &harmonyBadge{Add: add, Set: set}
	}
	message, err := fitBody(maxBody, n.Text, n.Ext, func(text, ext string) any {
		d := display
		d.Body, d.Click.Data = text, n.appData(ext)
		return struct {
			Payload any     `json:"payload"`
			Options options `json:"pushOptions"`
		}{map[string]harmonyDisplay{"notification": d}, o}
	})
	if err != nil {
		return nil, err
	}
	return withTokens(message, "target", map[string][]string{"token": tokenTexts(devices)}), nil
}

var huaweiCodes = newCodeTable(map[Outcome]string{
	Accepted: "80000000 80100000", // of 80100000 those that it does not list
	PayloadRejected: "80100001 80100002 80100003 80100004 80100013 80300008 80300013 " +
		"80300010", // the number of tokens, not the tokens
	ContentRejected: "80100016 80100018 80100022",
	Throttled:       "80100017 80300029 80300030",
	AuthExpired:     "80200001 80200003 80200005",
	AuthRejected:    "80300002 80300011 80300036 80300037",
	TokenInvalid:    "80300007",
	Retryable:       "80600003 81000001",
})

// huaweiForeignFrom is from how many tokens on "all tokens are invalid" speaks of the app.
const huaweiForeignFrom = 11

func (h *Huawei) results(ans answer, access string, part []Device, started time.Time) []Result {
	var got struct {
		Code      looseText `json:"code"`
		Msg       looseText `json:"msg"`
		RequestID string    `json:"requestId"`
	}
	if err := json.Unmarshal(ans.body, &got); err != nil {
		got.Code = ""
	}
	r := Result{Code: string(got.Code), VendorID: got.RequestID, AsOf: started, RetryAfter: retryAfter(ans.header, started)}
	r.Outcome = huaweiCodes.outcome(r.Code, ans.status)
	if _, known := huaweiCodes[r.Code]; !known && ans.status == http.StatusUnauthorized {
		r.Outcome = AuthExpired
	}
	if r.Code == "80300007" && len(part) >= huaweiForeignFrom {
		r.Outcome = TokenForeign
	}
	if r.Code == "" {
		r.Code = strconv.Itoa(ans.status)
	}
	if r.Outcome != Accepted {
		r.VendorID = ""
		r.Err = h.vendorError(r.Code, string(got.Msg), part, access)
		return each(part, r)
	}
	results := each(part, r)
	if r.Code != "80100000" {
		return results
	}
	refused := h.refusedTokens(ans.body, string(got.Msg))
	for i, d := range part {
		if o, ok := refused[d.Token.Reveal()]; ok {
			results[i].Outcome, results[i].VendorID = o, ""
		}
	}
	return results
}

// refusedTokens finds the tokens that a partial success lists, in msg or beside it.
func (h *Huawei) refusedTokens(body []byte, msg string) map[string]Outcome {
	found := make(map[string]Outcome)
	for _, raw := range [][]byte{body, []byte(msg)} {
		var v any
		if json.Unmarshal(raw, &v) == nil {
			h.collect(found, v, nil)
		}
	}
	return found
}

// maxNesting bounds how deep collect looks into an answer.
const maxNesting = 4

func (h *Huawei) collect(found map[string]Outcome, v any, path []string) {
	switch v := v.(type) {
	case map[string]any:
		if len(path) == maxNesting {
			return
		}
		for key, inner := range v {
			h.collect(found, inner, append(slices.Clone(path), key))
		}
	case []any:
		if len(path) == 0 {
			return
		}
		last := path[len(path)-1]
		listed := slices.Contains(path, "illegal_tokens") || slices.Contains(path, "illegalTokens")
		outcome := TokenInvalid
		if h.config.API == "v3" && last != "tokenFormatError" && last != "illegal_tokens" && last != "illegalTokens" {
			// A reason such as noRight is the app's fault and not the token's.
			outcome, listed = Undeliverable, true
		} else if last == "tokenFormatError" {
			listed = true
		}
		if !listed {
			return
		}
		for _, item := range v {
			if token, ok := item.(string); ok {
				found[token] = outcome
			}
		}
	}
}
