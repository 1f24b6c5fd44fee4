package push

import (
	"cmp"
	"context"
	"crypto/md5" // vivo's signature is an MD5 sum
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A VivoConfig is an app of vivo Push and what its notifications look like by default.
type VivoConfig struct {
	// Name is the provider app's name.
	Name string
	// AppID is a number.
	AppID             string
	AppKey, AppSecret Secret
	// BaseURL of the API. Empty means https://api-push.vivo.com.cn.
	BaseURL string

	// Category (IM, …) where the sender names none; it wins over the classification.
	Category string
	// Operational makes notifications of this class where the sender does not say: two a
	// device and day, by day only. Otherwise they are system messages.
	Operational bool
	// NotifyType is 1 none, 2 ring, 3 vibrate, 4 both. Zero means 4.
	NotifyType int
	// Intent is the page to open on a tap. Empty opens the app.
	Intent string
	// TimeToLive where the message has none, from 60 s to 24 h. Zero means 24 h.
	TimeToLive time.Duration
	// Receipts has the vendor report what became of pushes.
	Receipts ReceiptConfig
	HTTP     HTTPConfig
}

const (
	vivoBatch    = 1000
	vivoListFrom = 10 // devices from which on two calls for a list beat one call a device
	vivoMaxTitle = 40
	vivoMaxText  = 100
	vivoMaxMap   = 1024 // characters, keys and values
	vivoMaxURL   = 128
	vivoMaxParam = 64
	// vivoTaskLife is how long a stored body is pushed to further lists of devices, so that
	// a large group costs one of the day's bodies and not one for each thousand members.
	vivoTaskLife = 10 * time.Minute
	vivoMaxTasks = 256
)

// Vivo is vivo Push.
type Vivo struct {
	app
	config VivoConfig
	appID  int64
	tokens tokenSource
	url    string

	mu    sync.Mutex
	tasks map[string]vivoTask // by the body that was stored under them
}

type vivoTask struct {
	id   string
	made time.Time
}

// NewVivo returns a provider; the error names every wrong field.
func NewVivo(c VivoConfig) (*Vivo, error) {
	var errs []error
	id, err := strconv.ParseInt(c.AppID, 10, 64)
	if err != nil || id <= 0 {
		errs = append(errs, errors.New("app ID is not a number"))
	}
	if c.AppKey.IsZero() || c.AppSecret.IsZero() {
		errs = append(errs, errors.New("needs an app key and an app secret"))
	}
	if c.NotifyType < 0 || c.NotifyType > 4 {
		errs = append(errs, errors.New("notify type is outside 1…4"))
	}
	limit := vivoMaxURL
	if c.Receipts.ID != "" {
		limit = 0
	}
	errs = append(errs, c.HTTP.validate(), c.Receipts.validate(c.Name, limit))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("push: vivo %s: %w", c.Name, err)
	}
	v := &Vivo{
		app: newApp(c.Name, VendorVivo, c.HTTP, c.AppKey, c.AppSecret).withReceipts(c.Receipts), config: c, appID: id,
		url: cmp.Or(c.BaseURL, "https://api-push.vivo.com.cn"), tasks: make(map[string]vivoTask),
	}
	v.tokens = tokenSource{fetch: v.login, timeout: v.timeout}
	return v, nil
}

func vivoSign(appID, appKey, timestamp, appSecret string) string {
	sum := md5.Sum([]byte(appID + appKey + timestamp + strings.TrimSpace(appSecret)))
	return hex.EncodeToString(sum[:])
}

func (v *Vivo) login(ctx context.Context) (accessToken, error) {
	now := time.Now()
	key := v.config.AppKey.Reveal()
	ans, err := v.do(ctx, call{
		url: v.url + "/message/auth", header: []string{"Content-Type", jsonType},
		body: []byte(marshalText(map[string]any{
			"appId": v.appID, "appKey": key, "timestamp": now.UnixMilli(),
			"sign": vivoSign(strconv.FormatInt(v.appID, 10), key, strconv.FormatInt(now.UnixMilli(), 10), v.config.AppSecret.Reveal()),
		})),
	})
	if err != nil {
		return accessToken{}, err
	}
	var got struct {
		Result    looseText `json:"result"`
		Desc      looseText `json:"desc"`
		AuthToken string    `json:"authToken"`
	}
	// An answer that can't be read has no token, and its HTTP status decides.
	_ = json.Unmarshal(ans.body, &got)
	if ans.status == http.StatusOK && got.AuthToken != "" {
		return accessToken{value: got.AuthToken, renewAt: now.Add(2 * time.Hour)}, nil
	}
	outcome := loginStatus(ans.status)
	if known, ok := vivoCodes[string(got.Result)]; ok && !known.Final() {
		outcome = known
	}
	if outcome == AuthExpired || ans.status == http.StatusOK && outcome == Retryable && got.Result != "" {
		outcome = AuthRejected
	}
	return accessToken{}, v.loginFailed(ans, cmp.Or(string(got.Result), strconv.Itoa(ans.status)), string(got.Desc), outcome)
}

// BatchSize is 1000.
func (v *Vivo) BatchSize() int { return vivoBatch }

// QuotaClass is the classification: operational and system messages have their own totals.
func (v *Vivo) QuotaClass(n *Notification) string {
	category, classification := v.class(n)
	if category != "" {
		return category
	}
	return "classification-" + strconv.Itoa(*classification)
}

// class returns the category, or else the classification; given both, they would have to
// agree.
func (v *Vivo) class(n *Notification) (category string, classification *int) {
	a := &n.info().AndroidInfo
	switch {
	case a.VIVOCategory != "":
		return strings.ToUpper(a.VIVOCategory), nil
	case a.VIVOClassification != nil:
		return "", a.VIVOClassification
	case v.config.Category != "":
		return strings.ToUpper(v.config.Category), nil
	case v.config.Operational:
		return "", new(0)
	}
	return "", new(1)
}

// Send pushes n to devices: one call each, or from ten devices on as a list.
func (v *Vivo) Send(ctx context.Context, n *Notification, devices []Device) []Result {
	size := 1
	if len(devices) >= vivoListFrom {
		size = vivoBatch
	}
	return sendBatches(ctx, devices, size, v.config.HTTP.concurrency(), func(ctx context.Context, part []Device) []Result {
		return sendSplitting(ctx, part, func(ctx context.Context, part []Device) []Result {
			return v.tokens.sendAuthorized(ctx, part, func(access string) []Result {
				if len(part) == 1 {
					return v.post(ctx, v.single(access, n, part[0]), access, part)
				}
				return v.list(ctx, access, n, part)
			})
		})
	})
}

// Check logs in.
func (v *Vivo) Check(ctx context.Context) error { return v.tokens.check(ctx, v.name) }

// Preview returns the call for one device.
func (v *Vivo) Preview(n *Notification, _ Device) (Preview, error) {
	return v.preview(v.single("", n, Device{Token: NewToken(previewToken)}), nil)
}

type vivoBody struct {
	AppID          int64   `json:"appId"`
	RegID          string  `json:"regId,omitempty"`
	NotifyType     int     `json:"notifyType"`
	Title          string  `json:"title"`
	Content        string  `json:"content"`
	TimeToLive     int64   `json:"timeToLive"`
	SkipType       int     `json:"skipType"`
	SkipContent    string  `json:"skipContent,omitempty"`
	NetworkType    int     `json:"networkType"`
	Classification *int    `json:"classification,omitempty"`
	Category       string  `json:"category,omitempty"`
	Custom         appData `json:"clientCustomMap"`
	RequestID      string  `json:"requestId"`
	NotifyID       int32   `json:"notifyId"`
	PushMode       int     `json:"pushMode"`
	// Extra is nil where no receipts are wanted.
	Extra *vivoExtra `json:"extra,omitempty"`
}

type vivoExtra struct {
	Callback   string `json:"callback,omitempty"`
	CallbackID string `json:"callback.id,omitempty"`
	Param      string `json:"callback.param"`
}

func (v *Vivo) body(n *Notification, part []Device) vivoBody {
	a := &n.info().AndroidInfo
	b := vivoBody{
		AppID: v.appID, NotifyType: cmp.Or(int(a.VIVONotifyType), v.config.NotifyType, 4),
		Title: cutRunes(nonBlank(n.Title, n.Group, n.From), vivoMaxTitle), Content: cutRunes(nonBlank(n.Text), vivoMaxText),
		TimeToLive: seconds(n.timeToLive(cmp.Or(v.config.TimeToLive, 24*time.Hour), time.Minute, 24*time.Hour)),
		SkipType:   1, NetworkType: -1, RequestID: boundedID(n.MessageID, 64), NotifyID: n.replaceID(),
		Custom: n.appData(n.Ext),
	}
	b.Category, b.Classification = v.class(n)
	if v.config.Intent != "" {
		b.SkipType, b.SkipContent = 4, v.config.Intent
	}
	if utf8.RuneCountInString("ext"+b.Custom.Ext+"im"+b.Custom.Routing) > vivoMaxMap {
		b.Custom.Ext = ""
	}
	if param := v.receiptParam(n, vivoMaxParam, part); param != "" {
		b.Extra = &vivoExtra{CallbackID: v.receipts.ID, Param: param}
		if b.Extra.CallbackID == "" {
			b.Extra.Callback = v.receiptURL()
		}
	}
	return b
}

func (v *Vivo) call(path, access string, body any) call {
	return call{url: v.url + path, header: []string{"Content-Type", jsonType, "authToken", access}, body: []byte(marshalText(body))}
}

func (v *Vivo) single(access string, n *Notification, d Device) call {
	b := v.body(n, []Device{d})
	b.RegID = d.Token.Reveal()
	return v.call("/message/send", access, b)
}

// list stores the body, unless it is stored already, and pushes it to the devices.
func (v *Vivo) list(ctx context.Context, access string, n *Notification, part []Device) []Result {
	store := v.call("/message/saveListPayload", access, v.body(n, part))
	task, ok := v.task(string(store.body))
	if !ok {
		results := v.post(ctx, store, access, part)
		if results[0].Outcome != Accepted {
			return results
		}
		if task = results[0].VendorID; task == "" {
			return unsent(part, results[0].AsOf, errors.New("push: "+v.name+": the stored body has no task ID"))
		}
		v.keep(string(store.body), task)
	}
	return v.post(ctx, v.call("/message/pushToList", access, struct {
		AppID     int64    `json:"appId"`
		RegIDs    []string `json:"regIds"`
		TaskID    string   `json:"taskId"`
		RequestID string   `json:"requestId"`
	}{v.appID, tokenTexts(part), task, boundedID(n.MessageID, 64)}), access, part)
}

func (v *Vivo) task(body string) (string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, ok := v.tasks[body]
	return t.id, ok && time.Since(t.made) < vivoTaskLife
}

func (v *Vivo) keep(body, id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.tasks) >= vivoMaxTasks {
		for b, t := range v.tasks {
			if time.Since(t.made) >= vivoTaskLife {
				delete(v.tasks, b)
			}
		}
		if len(v.tasks) >= vivoMaxTasks {
			clear(v.tasks) // costs a call a body, at worst
		}
	}
	v.tasks[body] = vivoTask{id, time.Now()}
}

// Whose names vivo gives to the events is not known: a receipt without one is of an arrival.
var vivoKinds = receiptCodes(map[ReceiptKind]string{
	ReceiptArrived:     "0 1 push_arrive arrive",
	ReceiptClicked:     "2 push_click click",
	ReceiptDead:        "regid_invalid",
	ReceiptUndelivered: "user_daily_limit",
})

// Receipts reads a request of vivo.
func (v *Vivo) Receipts(_ http.Header, body []byte) ([]Receipt, error) {
	return v.receiptsByMessage(body, "data", vivoKinds, ReceiptArrived)
}

var vivoCodes = newCodeTable(map[Outcome]string{
	Accepted:       "0",
	AuthExpired:    "10000",
	TokenInvalid:   "10302",
	Undeliverable:  "10311 10071",
	QuotaExhausted: "10070 10073 10252 10254",
	Throttled:      "10072 10102",
	AuthRejected: "10043 10045 10082 10094 10200 10201 10202 10203 10204 10205 10206 10207 " +
		"10096 10097 10051",
	ContentRejected: "10103 10104 10085 10101",
	PayloadRejected: "10050 10054 10055 10056 10057 10058 10059 10060 10061 10062 10063 10064 10065 10066 10067 " +
		"10095 10150 10151 10152 10153 10154 10155 10304 10305 10306 10352 10353 10800 10801",
})

type vivoInvalid struct {
	UserID string    `json:"userid"`
	Status looseText `json:"status"`
}

func (v *Vivo) post(ctx context.Context, c call, access string, part []Device) []Result {
	started := time.Now()
	ans, err := v.do(ctx, c)
	if err != nil {
		return unsent(part, started, err)
	}
	return v.results(ans, access, part, started)
}

func (v *Vivo) results(ans answer, access string, part []Device, started time.Time) []Result {
	var got struct {
		Result       looseText       `json:"result"`
		Desc         looseText       `json:"desc"`
		TaskID       looseText       `json:"taskId"`
		InvalidUser  json.RawMessage `json:"invalidUser"`
		InvalidUsers json.RawMessage `json:"invalidUsers"`
	}
	r := Result{AsOf: started, RetryAfter: retryAfter(ans.header, started)}
	if json.Unmarshal(ans.body, &got) == nil {
		r.Code = string(got.Result)
	}
	r.Outcome = vivoCodes.outcome(r.Code, ans.status)
	if ans.status >= 500 {
		r.Outcome = Retryable
	}
	r.Code = cmp.Or(r.Code, strconv.Itoa(ans.status))
	if r.Outcome == Accepted {
		r.VendorID = string(got.TaskID)
	} else {
		r.Err = v.vendorError(r.Code, string(got.Desc), part, access)
	}
	var invalid []vivoInvalid
	var one vivoInvalid
	// Neither has to be there, and one of another shape names nobody.
	_ = json.Unmarshal(got.InvalidUsers, &invalid)
	if json.Unmarshal(got.InvalidUser, &one) == nil {
		invalid = append(invalid, one)
	}
	results := each(part, unnamedDead(r, part))
	if results[0].unnamed || !r.Outcome.Final() {
		return results
	}
	status := make(map[string]string, len(invalid))
	for _, u := range invalid {
		status[u.UserID] = string(u.Status)
	}
	for i, d := range part {
		switch s := status[d.Token.Reveal()]; s {
		case "":
		case "1", "2": // unknown here; uninstalled or unsubscribed
			results[i] = Result{Outcome: TokenInvalid, Code: "invalidUser " + s, AsOf: started}
		default: // 4: not one of the test users
			results[i] = Result{Outcome: Undeliverable, Code: "invalidUser " + cutRunes(s, 10), AsOf: started}
		}
	}
	return results
}
