package push

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A XiaomiConfig is an app of Mi Push and what its notifications look like by default.
type XiaomiConfig struct {
	// Name is the provider app's name.
	Name      string
	AppSecret Secret
	// Package is the Android package's name.
	Package string
	// Region is empty for China, or global, ru, idmb, fr, sgp; ignored with a BaseURL.
	Region string
	// BaseURL overrides the region's host. Empty means https://api.xmpush.xiaomi.com in China.
	BaseURL string

	// ChannelID is the notification channel where the sender names none; it decides between
	// the private (chat) and the public class.
	ChannelID string
	// Intent is an intent URI to open on a tap. Empty opens the app.
	Intent string
	// TimeToLive where the message has none, at most 10 days. Zero means 24 h.
	TimeToLive time.Duration
	// Receipts has the vendor report what became of pushes.
	Receipts ReceiptConfig
	HTTP     HTTPConfig
}

const (
	xiaomiBatch      = 1000
	xiaomiMaxTitle   = 49
	xiaomiMaxText    = 127
	xiaomiMaxExtras  = 1024 // characters, keys and values
	xiaomiMaxPayload = 4096
	xiaomiMaxURL     = 200 // it counts as an extra: some room is left
	xiaomiMaxParam   = 256 // bytes
	// xiaomiReceipts asks for what arrived 1, was clicked 2, has an invalid target 16, met an app
	// that disabled push 32, was filtered out 64 or was over the day's quota 128.
	xiaomiReceipts = "243"
)

// Xiaomi is Mi Push.
type Xiaomi struct {
	app
	config  XiaomiConfig
	sendURL string
}

// NewXiaomi returns a provider; the error names every wrong field.
func NewXiaomi(c XiaomiConfig) (*Xiaomi, error) {
	var errs []error
	if c.AppSecret.IsZero() || c.Package == "" {
		errs = append(errs, errors.New("needs an app secret and a package"))
	}
	base := c.BaseURL
	if base == "" {
		switch c.Region {
		case "":
			base = "https://api.xmpush.xiaomi.com"
		case "global":
			base = "https://api.xmpush.global.xiaomi.com"
		case "ru", "idmb", "fr":
			base = "https://" + c.Region + "-api.xmpush.global.xiaomi.com"
		case "sgp":
			base = "https://sgp-api.xmpush.global.xiaomi.com"
		default:
			errs = append(errs, errors.New("region is unknown"))
		}
	}
	errs = append(errs, c.HTTP.validate(), c.Receipts.validate(c.Name, xiaomiMaxURL))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("push: xiaomi %s: %w", c.Name, err)
	}
	return &Xiaomi{app: newApp(c.Name, VendorXiaomi, c.HTTP, c.AppSecret).withReceipts(c.Receipts), config: c, sendURL: base + "/v3/message/regid"}, nil
}

// BatchSize is 1000.
func (x *Xiaomi) BatchSize() int { return xiaomiBatch }

// QuotaClass is the channel: Xiaomi grants day quotas by it.
func (x *Xiaomi) QuotaClass(n *Notification) string { return x.channel(n) }

func (x *Xiaomi) channel(n *Notification) string {
	return cmp.Or(n.info().AndroidInfo.XiaoMiChannelID, x.config.ChannelID)
}

// Send pushes n to devices, a thousand a call. Xiaomi tells of most dead tokens by receipt
// and not in the answer.
func (x *Xiaomi) Send(ctx context.Context, n *Notification, devices []Device) []Result {
	return sendBatches(ctx, devices, xiaomiBatch, x.config.HTTP.concurrency(), func(ctx context.Context, part []Device) []Result {
		return sendSplitting(ctx, part, func(ctx context.Context, part []Device) []Result { return x.post(ctx, n, part) })
	})
}

func (x *Xiaomi) post(ctx context.Context, n *Notification, part []Device) []Result {
	started := time.Now()
	ans, err := x.do(ctx, x.call(n, part))
	if err != nil {
		return unsent(part, started, err)
	}
	return x.results(ans, part, started)
}

// Check pushes to a registration ID that can't exist: there is no login to try.
func (x *Xiaomi) Check(ctx context.Context) error {
	probe := []Device{{Token: NewToken("rookery-check")}}
	return checkError(x.name, x.post(ctx, &Notification{Title: "check", Text: "check", MessageID: "check"}, probe)[0])
}

// Preview returns the call for one device.
func (x *Xiaomi) Preview(n *Notification, _ Device) (Preview, error) {
	return x.preview(x.call(n, []Device{{Token: NewToken(previewToken)}}), nil)
}

func (x *Xiaomi) call(n *Notification, part []Device) call {
	sound := n.info().AndroidInfo.sound()
	if sound != "" {
		sound = "android.resource://" + x.config.Package + "/raw/" + sound
	}
	effect := "1"
	if x.config.Intent != "" {
		effect = "2"
	}
	extras := []string{
		"extra.channel_id", x.channel(n),
		"extra.notify_effect", effect,
		"extra.intent_uri", x.config.Intent,
		"extra.sound_uri", sound,
		"extra.jobkey", hashText(n.MessageID, 20),
		"extra.im", marshalText(n.routing()),
	}
	if param := x.receiptParam(n, xiaomiMaxParam, part); param != "" {
		extras = append(extras, "extra.callback", x.receiptURL(), "extra.callback.param", param, "extra.callback.type", xiaomiReceipts)
	}
	size := 0
	for _, s := range extras {
		size += utf8.RuneCountInString(strings.TrimPrefix(s, "extra."))
	}
	if room := xiaomiMaxExtras - size - len("ext"); utf8.RuneCountInString(n.Ext) <= room {
		extras = append(extras, "extra.ext", n.Ext)
	}
	payload := n.Ext
	if len(payload) > xiaomiMaxPayload {
		payload = ""
	}
	ttl := n.timeToLive(cmp.Or(x.config.TimeToLive, 24*time.Hour), time.Second, 10*24*time.Hour)
	fields := append([]string{
		"registration_id", strings.Join(tokenTexts(part), ","),
		"restricted_package_name", x.config.Package,
		"pass_through", "0",
		"title", cutRunes(nonBlank(n.Title, n.Group, n.From), xiaomiMaxTitle),
		"description", cutRunes(nonBlank(n.Text), xiaomiMaxText),
		"payload", payload,
		"notify_type", "-1",
		"notify_id", strconv.Itoa(int(n.replaceID())),
		"time_to_live", strconv.FormatInt(ttl.Milliseconds(), 10),
	}, extras...)
	return call{url: x.sendURL, body: form(fields...), header: []string{
		"Authorization", "key=" + x.config.AppSecret.Reveal(), "Content-Type", formType,
	}}
}

var xiaomiKinds = receiptCodes(map[ReceiptKind]string{
	ReceiptArrived:     "1",
	ReceiptClicked:     "2 3",
	ReceiptDead:        "16",
	ReceiptUndelivered: "32 64 128 1024",
})

// Receipts reads a request of Xiaomi.
func (x *Xiaomi) Receipts(_ http.Header, body []byte) ([]Receipt, error) {
	return x.receiptsByMessage(body, "data", xiaomiKinds, "")
}

var xiaomiCodes = newCodeTable(map[Outcome]string{
	Accepted:       "0",
	Retryable:      "-1 1 10001 10003 20607 26003 65029",
	Throttled:      "10002 10027 200002 26004",
	QuotaExhausted: "10034 200001",
	TokenInvalid:   "10029 66007",
	Undeliverable:  "65003 20301", // 20301: unless its reason speaks of the target
	AuthRejected:   "21301 21302 21303 22000 22006 22007 22022 10031 10036 27001",
	PayloadRejected: "10008 10012 10016 10017 10037 21305 22102 65009 65014 65015 65036 " +
		"65037 65038",
	ContentRejected: "10041 26006",
})

func (x *Xiaomi) results(ans answer, part []Device, started time.Time) []Result {
	var got struct {
		Code        looseText       `json:"code"`
		Reason      looseText       `json:"reason"`
		Description looseText       `json:"description"`
		Data        json.RawMessage `json:"data"`
	}
	r := Result{AsOf: started, RetryAfter: retryAfter(ans.header, started)}
	if json.Unmarshal(ans.body, &got) == nil {
		r.Code = string(got.Code)
	}
	r.Outcome = xiaomiCodes.outcome(r.Code, ans.status)
	reason := strings.ToLower(string(got.Reason))
	if r.Code == "20301" && (strings.Contains(reason, "target") || strings.Contains(reason, "regid")) {
		r.Outcome = TokenInvalid
	}
	switch ans.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		r.Outcome = AuthRejected
	}
	r.Code = cmp.Or(r.Code, strconv.Itoa(ans.status))
	if r.Outcome != Accepted {
		r.Err = x.vendorError(r.Code, string(got.Reason+" "+got.Description), part)
		return each(part, unnamedDead(r, part))
	}
	var data struct {
		ID        looseText `json:"id"`
		BadRegIDs string    `json:"bad_regids"`
	}
	// Data of another shape tells neither, and the push was taken all the same.
	_ = json.Unmarshal(got.Data, &data)
	r.VendorID = string(data.ID)
	results := each(part, r)
	bad := make(map[string]bool)
	for id := range strings.SplitSeq(data.BadRegIDs, ",") {
		bad[strings.TrimSpace(id)] = true
	}
	for i, d := range part {
		if bad[d.Token.Reveal()] {
			results[i] = Result{Outcome: TokenInvalid, Code: "bad_regids", AsOf: started}
		}
	}
	return results
}
