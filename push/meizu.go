package push

import (
	"cmp"
	"context"
	"crypto/md5" // Meizu's signature is an MD5 sum
	"encoding/hex"
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

// A MeizuConfig is an app of Flyme Push and what its notifications look like by default.
type MeizuConfig struct {
	// Name is the provider app's name.
	Name      string
	AppID     string
	AppSecret Secret
	// URL of the push call. Empty means Meizu's
	// https://server-api-push.meizu.com/garcia/api/server/push/varnished/pushByPushId.
	URL string

	// Public makes public notifications where the sender does not say: a few a device and
	// day. Otherwise they are private.
	Public bool
	// Activity is the page to open on a tap. Empty opens the app.
	Activity string
	// TimeToLive where the message has none, from 1 to 72 h. Zero means 24 h.
	TimeToLive time.Duration
	// Receipts has the vendor report what became of pushes.
	Receipts ReceiptConfig
	HTTP     HTTPConfig
}

const (
	meizuBatch    = 100
	meizuMaxTitle = 32
	meizuMaxText  = 100
	meizuMaxURL   = 128 // bytes
	meizuMaxParam = 64
)

// Meizu is Flyme Push.
type Meizu struct {
	app
	config MeizuConfig
}

// NewMeizu returns a provider; the error names every wrong field.
func NewMeizu(c MeizuConfig) (*Meizu, error) {
	var errs []error
	if c.AppID == "" || c.AppSecret.IsZero() {
		errs = append(errs, errors.New("needs an app ID and an app secret"))
	}
	errs = append(errs, c.HTTP.validate(), c.Receipts.validate(c.Name, meizuMaxURL))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("push: meizu %s: %w", c.Name, err)
	}
	c.URL = cmp.Or(c.URL, "https://server-api-push.meizu.com/garcia/api/server/push/varnished/pushByPushId")
	return &Meizu{app: newApp(c.Name, VendorMeizu, c.HTTP, c.AppSecret).withReceipts(c.Receipts), config: c}, nil
}

// meizuSign signs pairs (name, value, …), which must be sorted by name.
func meizuSign(secret string, pairs ...string) string {
	var b strings.Builder
	for pair := range slices.Chunk(pairs, 2) {
		b.WriteString(pair[0] + "=" + pair[1])
	}
	sum := md5.Sum([]byte(b.String() + secret))
	return hex.EncodeToString(sum[:])
}

// BatchSize is 100.
func (m *Meizu) BatchSize() int { return meizuBatch }

// QuotaClass is public or private: Meizu limits the first.
func (m *Meizu) QuotaClass(n *Notification) string {
	if m.noticeType(n) == 0 {
		return "public"
	}
	return "private"
}

func (m *Meizu) noticeType(n *Notification) int {
	if t := n.info().AndroidInfo.MeiZuNoticeMsgType; t != nil {
		return *t
	}
	if m.config.Public {
		return 0
	}
	return 1
}

// Send pushes n to devices, a hundred a call.
func (m *Meizu) Send(ctx context.Context, n *Notification, devices []Device) []Result {
	return sendBatches(ctx, devices, meizuBatch, m.config.HTTP.concurrency(), func(ctx context.Context, part []Device) []Result {
		return m.post(ctx, n, part)
	})
}

// Check pushes to a push ID that can't exist: there is no login to try.
func (m *Meizu) Check(ctx context.Context) error {
	probe := []Device{{Token: NewToken("rookery-check")}}
	return checkError(m.name, m.post(ctx, &Notification{Title: "check", Text: "check", MessageID: "check"}, probe)[0])
}

// Preview returns the call for one device.
func (m *Meizu) Preview(n *Notification, _ Device) (Preview, error) {
	return m.preview(m.call(m.config.URL, n, []Device{{Token: NewToken(previewToken)}}), nil)
}

func (m *Meizu) post(ctx context.Context, n *Notification, part []Device) []Result {
	target := m.config.URL
	for hop := 0; ; hop++ {
		started := time.Now()
		ans, err := m.do(ctx, m.call(target, n, part))
		if err != nil {
			return unsent(part, started, err)
		}
		results, redirect := m.results(ans, part, started)
		if redirect == "" {
			return results
		}
		if hop > 0 || !m.mayRedirect(redirect) {
			return each(part, Result{Outcome: AuthRejected, Code: "300", AsOf: started, Err: m.vendorError("300", "unusable redirect", nil)})
		}
		target = redirect
	}
}

// mayRedirect reports whether a redirect stays with the host, or at least in the domain, that
// was configured.
func (m *Meizu) mayRedirect(to string) bool {
	from, err := url.Parse(m.config.URL)
	target, err2 := url.Parse(to)
	if err != nil || err2 != nil || target.Scheme != "https" {
		return false
	}
	if target.Hostname() == from.Hostname() {
		return true
	}
	labels := strings.Split(from.Hostname(), ".")
	if _, err := strconv.Atoi(labels[len(labels)-1]); err == nil || len(labels) < 3 {
		return false // an address, or too short to have a domain of its own
	}
	return strings.HasSuffix(target.Hostname(), "."+strings.Join(labels[len(labels)-2:], "."))
}

type meizuMessage struct {
	Bar struct {
		Type    int    `json:"noticeBarType"`
		MsgType int    `json:"noticeMsgType"`
		Title   string `json:"title"`
		Content string `json:"content"`
	} `json:"noticeBarInfo"`
	Expand struct {
		Type    int    `json:"noticeExpandType"`
		Content string `json:"noticeExpandContent,omitempty"`
	} `json:"noticeExpandInfo"`
	Click struct {
		Type       int     `json:"clickType"`
		Activity   string  `json:"activity,omitempty"`
		Parameters appData `json:"parameters"`
	} `json:"clickTypeInfo"`
	Time struct {
		OffLine   int   `json:"offLine"`
		ValidTime int64 `json:"validTime"`
	} `json:"pushTimeInfo"`
	Advance struct {
		Suspend int `json:"suspend"`
		Clear   int `json:"clearNoticeBar"`
		Type    struct {
			Vibrate int `json:"vibrate"`
			Lights  int `json:"lights"`
			Sound   int `json:"sound"`
		} `json:"notificationType"`
		NotifyKey string `json:"notifyKey"`
	} `json:"advanceInfo"`
	// Extra is nil where no receipts are wanted.
	Extra *meizuExtra `json:"extra,omitempty"`
}

type meizuExtra struct {
	Callback string `json:"callback"`
	Param    string `json:"callback.param"`
	Type     int    `json:"callback.type"` // 3: delivered and clicked
}

func (m *Meizu) call(target string, n *Notification, part []Device) call {
	var b meizuMessage
	b.Bar.MsgType = m.noticeType(n)
	b.Bar.Title = cutRunes(nonBlank(n.Title, n.Group, n.From), meizuMaxTitle)
	b.Bar.Content = cutRunes(nonBlank(n.Text), meizuMaxText)
	if n.info().AndroidInfo.PushStyle == 1 {
		b.Expand.Type, b.Expand.Content = 1, n.Text
	}
	if m.config.Activity != "" {
		b.Click.Type, b.Click.Activity = 1, m.config.Activity
	}
	b.Click.Parameters = n.appData(n.Ext)
	b.Time.OffLine = 1
	// A part of an hour counts as one: rather late than never.
	ttl := n.timeToLive(cmp.Or(m.config.TimeToLive, 24*time.Hour), time.Hour, 72*time.Hour)
	b.Time.ValidTime = int64((ttl + time.Hour - 1) / time.Hour)
	b.Advance.Suspend, b.Advance.Clear = 1, 1
	b.Advance.Type.Vibrate, b.Advance.Type.Lights, b.Advance.Type.Sound = 1, 1, 1
	b.Advance.NotifyKey = hashText(n.replaceKey(), 8)
	if param := m.receiptParam(n, meizuMaxParam, part); param != "" {
		b.Extra = &meizuExtra{m.receiptURL(), param, 3}
	}

	pairs := []string{
		"appId", m.config.AppID,
		"messageJson", marshalText(b),
		"pushIds", strings.Join(tokenTexts(part), ","),
	}
	pairs = append(pairs, "sign", meizuSign(m.config.AppSecret.Reveal(), pairs...))
	return call{url: target, header: []string{"Content-Type", formType}, body: form(pairs...)}
}

var meizuKinds = receiptCodes(map[ReceiptKind]string{ReceiptArrived: "1", ReceiptClicked: "2"})

// Receipts reads a request of Meizu.
func (m *Meizu) Receipts(_ http.Header, body []byte) ([]Receipt, error) {
	return m.receiptsByMessage(body, "cb", meizuKinds, "")
}

// The codes for one push ID, in value, and those for the whole call differ: 110010 is in both.
var (
	meizuValueCodes = newCodeTable(map[Outcome]string{
		TokenInvalid:    "110002 110003",
		Undeliverable:   "110010",
		DeviceThrottled: "110011 520",
		Throttled:       "519",
		Retryable:       "501 513",
		AuthRejected:    "201",
	})
	meizuCodes = newCodeTable(map[Outcome]string{
		Accepted:        "200",
		Retryable:       "500 1001",
		Throttled:       "1003 110010",
		PayloadRejected: "1005 110004 110053",
		AuthRejected:    "1006 110000 110001 110009 110031 110033",
		QuotaExhausted:  "110019 110051",
	})
)

func (m *Meizu) results(ans answer, part []Device, started time.Time) (results []Result, redirect string) {
	var got struct {
		Code     looseText       `json:"code"`
		Message  looseText       `json:"message"`
		Value    json.RawMessage `json:"value"`
		MsgID    looseText       `json:"msgId"`
		Redirect string          `json:"redirect"`
	}
	r := Result{AsOf: started, RetryAfter: retryAfter(ans.header, started)}
	if json.Unmarshal(ans.body, &got) == nil {
		r.Code = string(got.Code)
	}
	if r.Code == "300" && got.Redirect != "" {
		return nil, got.Redirect
	}
	r.Outcome = meizuCodes.outcome(r.Code, ans.status)
	r.Code = cmp.Or(r.Code, strconv.Itoa(ans.status))
	if r.Outcome != Accepted {
		r.Err = m.vendorError(r.Code, string(got.Message), part)
		return each(part, r), ""
	}
	r.VendorID = string(got.MsgID)
	results = each(part, r)
	codes := meizuFailures(got.Value)
	for i, d := range part {
		if code, ok := codes[d.Token.Reveal()]; ok {
			results[i] = Result{Outcome: meizuValueCodes.outcome(code, ans.status), Code: code, AsOf: started}
		}
	}
	return results, ""
}

// meizuFailures reads which push IDs failed, and why: a map of codes to IDs as documented,
// or of IDs to codes as it has been seen.
func meizuFailures(value json.RawMessage) map[string]string {
	var raw map[string]json.RawMessage
	if json.Unmarshal(value, &raw) != nil {
		return nil // "" where nothing failed
	}
	codes := make(map[string]string)
	for key, v := range raw {
		var ids []string
		var text looseText
		switch {
		case isMeizuCode(key) && json.Unmarshal(v, &ids) == nil:
			for _, id := range ids {
				codes[id] = key
			}
		case isMeizuCode(key) && json.Unmarshal(v, &text) == nil:
			for id := range strings.SplitSeq(string(text), ",") {
				codes[id] = key
			}
		case json.Unmarshal(v, &ids) == nil && len(ids) > 0:
			codes[key] = ids[0]
		case json.Unmarshal(v, &text) == nil:
			codes[key] = string(text)
		}
	}
	return codes
}

func isMeizuCode(s string) bool {
	if s == "" || len(s) > 6 {
		return false
	}
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}
