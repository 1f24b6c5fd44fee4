package push

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// An HonorConfig is an app of Honor Push and what its notifications look like by default.
type HonorConfig struct {
	// Name is the provider app's name.
	Name string
	// AppID is the app in the URL; ClientID and ClientSecret are the OAuth client.
	AppID, ClientID string
	ClientSecret    Secret
	// BaseURL of the push API. Empty means https://push-api.cloud.honor.com.
	BaseURL string
	// TokenURL of the login. Empty means https://iam.developer.honor.com/auth/token.
	TokenURL string

	// Importance is LOW (marketing) or NORMAL. Empty means NORMAL.
	Importance string
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

const honorBatch = 1000

// Honor is Honor Push.
type Honor struct {
	app
	config  HonorConfig
	tokens  tokenSource
	sendURL string
}

// NewHonor returns a provider; the error names every wrong field.
func NewHonor(c HonorConfig) (*Honor, error) {
	var errs []error
	if c.AppID == "" || c.ClientID == "" || c.ClientSecret.IsZero() {
		errs = append(errs, errors.New("needs an app ID, a client ID and a client secret"))
	}
	errs = append(errs, checkImportance(c.Importance), c.HTTP.validate(), c.Receipts.validate(c.Name, 0))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("push: honor %s: %w", c.Name, err)
	}
	c.TokenURL = cmp.Or(c.TokenURL, "https://iam.developer.honor.com/auth/token")
	h := &Honor{app: newApp(c.Name, VendorHonor, c.HTTP, c.ClientSecret).withReceipts(c.Receipts), config: c}
	h.tokens = tokenSource{fetch: h.login, timeout: h.timeout}
	h.sendURL = cmp.Or(c.BaseURL, "https://push-api.cloud.honor.com") + "/api/v1/" + url.PathEscape(c.AppID) + "/sendMessage"
	return h, nil
}

func (h *Honor) login(ctx context.Context) (accessToken, error) {
	return h.oauth(ctx, h.config.TokenURL, form("grant_type", "client_credentials",
		"client_id", h.config.ClientID, "client_secret", h.config.ClientSecret.Reveal()))
}

// BatchSize is 1000.
func (h *Honor) BatchSize() int { return honorBatch }

// QuotaClass is the notification's importance: Honor limits LOW.
func (h *Honor) QuotaClass(n *Notification) string { return h.importance(n) }

func (h *Honor) importance(n *Notification) string {
	return cmp.Or(n.info().AndroidInfo.HonorImportance, h.config.Importance, "NORMAL")
}

// Send pushes n to devices, a thousand a call. Tokens that Honor reports as failed for no
// known reason are sent once more.
func (h *Honor) Send(ctx context.Context, n *Notification, devices []Device) []Result {
	return sendBatches(ctx, devices, honorBatch, h.config.HTTP.concurrency(), func(ctx context.Context, part []Device) []Result {
		results := h.sendPart(ctx, n, part)
		var again []Device
		var place []int
		for i, r := range results {
			if r.Code == honorFailToken {
				again, place = append(again, part[i]), append(place, i)
			}
		}
		if len(again) == 0 {
			return results
		}
		for i, r := range h.sendPart(ctx, n, again) {
			if r.Code == honorFailToken {
				r.Outcome = Undeliverable
			}
			results[place[i]] = r
		}
		return results
	})
}

func (h *Honor) sendPart(ctx context.Context, n *Notification, part []Device) []Result {
	body, err := h.body(n, part)
	if err != nil {
		return each(part, Result{Outcome: PayloadRejected, AsOf: time.Now(), Err: err})
	}
	return h.tokens.sendAuthorized(ctx, part, func(access string) []Result {
		started := time.Now()
		ans, err := h.do(ctx, h.call(access, body, started))
		if err != nil {
			return unsent(part, started, err)
		}
		return h.results(ans, access, part, started)
	})
}

// Check logs in.
func (h *Honor) Check(ctx context.Context) error { return h.tokens.check(ctx, h.name) }

// Preview returns the call for one device.
func (h *Honor) Preview(n *Notification, _ Device) (Preview, error) {
	body, err := h.body(n, []Device{{Token: NewToken(previewToken)}})
	return h.preview(h.call("", body, time.Now()), err)
}

func (h *Honor) call(access string, body []byte, now time.Time) call {
	return call{url: h.sendURL, body: body, header: []string{
		"Authorization", "Bearer " + access, "Content-Type", jsonType, "timestamp", strconv.FormatInt(now.UnixMilli(), 10),
	}}
}

type honorMessage struct {
	Data         string       `json:"data,omitempty"`
	Notification honorText    `json:"notification"`
	Android      honorAndroid `json:"android"`
}

type honorText struct {
	Title string `json:"title"`
	Body  string `json:"body"`
}

type honorAndroid struct {
	TTL          string       `json:"ttl"`
	BITag        string       `json:"biTag,omitempty"`
	Notification honorDisplay `json:"notification"`
}

type honorDisplay struct {
	Title      string      `json:"title"`
	Body       string      `json:"body"`
	Importance string      `json:"importance"`
	NotifyID   int32       `json:"notifyId"`
	Group      string      `json:"group,omitempty"`
	Style      int         `json:"style,omitempty"`
	BigTitle   string      `json:"bigTitle,omitempty"`
	BigBody    string      `json:"bigBody,omitempty"`
	Image      string      `json:"image,omitempty"`
	Click      huaweiClick `json:"clickAction"`
	Badge      *honorBadge `json:"badge,omitempty"`
}

type honorBadge struct {
	Add   int    `json:"addNum,omitempty"`
	Set   *int   `json:"setNum,omitempty"`
	Class string `json:"badgeClass"`
}

func (h *Honor) body(n *Notification, devices []Device) ([]byte, error) {
	info := n.info()
	a := &info.AndroidInfo
	display := honorDisplay{Title: n.Title, Importance: h.importance(n), NotifyID: n.replaceID(), Group: n.Group}
	if display.Importance != "LOW" { // an image is an error there
		display.Image = a.HonorImage
	}
	if add, set := n.androidBadge(); h.config.LauncherClass != "" && (add > 0 || set != nil) {
		display.Badge = &honorBadge{Add: add, Set: set, Class: h.config.LauncherClass}
	}
	switch {
	case h.config.Intent != "":
		display.Click = huaweiClick{Type: 1, Intent: h.config.Intent}
	case h.config.Action != "":
		display.Click = huaweiClick{Type: 1, Action: h.config.Action}
	default:
		display.Click = huaweiClick{Type: 3}
	}
	ttl := n.timeToLive(cmp.Or(h.config.TimeToLive, 24*time.Hour), time.Second, huaweiMaxTTL)
	message, err := fitBody(maxBody, n.Text, n.Ext, func(text, ext string) any {
		d := display
		d.Body = text
		if a.PushStyle == 1 {
			d.Style, d.BigTitle, d.BigBody = 1, n.Title, text
		}
		m := honorMessage{
			Notification: honorText{n.Title, text},
			Android:      honorAndroid{TTL: strconv.FormatInt(seconds(ttl), 10) + "s", BITag: h.tag(n, devices)},
		}
		data := n.appData(ext)
		if h.config.Intent != "" && a.ExtAsHuaweiIntentParam == 1 {
			d.Click.Intent = intentWith(h.config.Intent, data)
		} else {
			m.Data = marshalText(data)
		}
		m.Android.Notification = d
		return m
	})
	if err != nil {
		return nil, err
	}
	return withTokens(message, "token", tokenTexts(devices)), nil
}

// Receipts reads a request of Honor.
func (h *Honor) Receipts(header http.Header, body []byte) ([]Receipt, error) {
	if !h.receiptSigned(header, "X-HONOR-CALLBACK-ID", "X-HUAWEI-CALLBACK-ID") {
		return nil, ErrUnsigned
	}
	return h.huaweiReceiptsOf(body, honorReceipts)
}

var honorCodes = newCodeTable(map[Outcome]string{
	Accepted:        "200 80000000 80100000",
	PayloadRejected: "400 80100003 80300008 80300010 10001 10207 10300 80200050 80300006",
	TokenInvalid:    "80300007",
	AuthExpired:     "401 403 80200001 80200003",
	AuthRejected:    "404 10205 80200020 80200022",
	QuotaExhausted:  "80200047",
	ContentRejected: "80200056",
	Retryable:       "500 502",
	Throttled:       "503",
})

// honorFailToken is our code for a token that Honor lists under failTokens.
const honorFailToken = "failTokens"

func (h *Honor) results(ans answer, access string, part []Device, started time.Time) []Result {
	var got struct {
		Code    looseText `json:"code"`
		Message looseText `json:"message"`
		Data    struct {
			RequestID    string   `json:"requestId"`
			FailTokens   []string `json:"failTokens"`
			ExpireTokens []string `json:"expireTokens"`
		} `json:"data"`
	}
	code := ""
	if json.Unmarshal(ans.body, &got) == nil {
		code = string(got.Code)
	}
	r := Result{
		Code: cmp.Or(code, strconv.Itoa(ans.status)), VendorID: got.Data.RequestID,
		AsOf: started, RetryAfter: retryAfter(ans.header, started),
	}
	switch {
	case code != "":
		r.Outcome = honorCodes.outcome(code, ans.status)
	case ans.status == http.StatusOK:
		r.Outcome = Retryable // a page, not an answer
	default:
		r.Outcome = honorCodes.outcome(r.Code, ans.status)
	}
	if r.Outcome != Accepted {
		r.VendorID = ""
		r.Err = h.vendorError(r.Code, string(got.Message), part, access)
		return each(part, r)
	}
	results := each(part, r)
	for i, d := range part {
		switch {
		case slices.Contains(got.Data.ExpireTokens, d.Token.Reveal()):
			results[i] = Result{Outcome: TokenInvalid, Code: "expireTokens", AsOf: started}
		case slices.Contains(got.Data.FailTokens, d.Token.Reveal()):
			results[i] = Result{Outcome: Retryable, Code: honorFailToken, AsOf: started}
		}
	}
	return results
}
