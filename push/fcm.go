package push

import (
	"cmp"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An FCMConfig is a Firebase project and what its notifications look like by default.
type FCMConfig struct {
	// Name is the provider app's name.
	Name string
	// ServiceAccount is the text of the service account's JSON key file.
	ServiceAccount Secret
	// BaseURL of the API. Empty means https://fcm.googleapis.com.
	BaseURL string
	// TokenURL overrides the key file's token_uri.
	TokenURL string
	// Package restricts delivery to one Android package. Optional.
	Package string
	// ChannelID is the notification channel where the sender names none. Optional.
	ChannelID string
	// Priority is normal or high. Empty means high.
	Priority string
	// ClickAction is the intent action of a tap. Optional.
	ClickAction string
	// IOS says that iPhones register with FCM, too: each message then carries what APNs is told
	// (badge, sound, …), at the cost of some of its 4096 bytes.
	IOS bool
	// TimeToLive where the message has none, at most 4 weeks. Zero means 24 h.
	TimeToLive time.Duration
	HTTP       HTTPConfig
}

const (
	fcmScope = "https://www.googleapis.com/auth/firebase.messaging"
	// fcmMinPause is the least pause after QUOTA_EXCEEDED, fcmMinRetry before a first retry.
	fcmMinPause = 60 * time.Second
	fcmMinRetry = 10 * time.Second
)

// FCM is Firebase Cloud Messaging, HTTP v1.
type FCM struct {
	app
	config  FCMConfig
	key     *rsa.PrivateKey
	account fcmAccount
	tokens  tokenSource
	sendURL string
}

type fcmAccount struct {
	ProjectID    string `json:"project_id"`
	ClientEmail  string `json:"client_email"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	TokenURI     string `json:"token_uri"`
}

// NewFCM returns a provider; the error names every wrong field.
func NewFCM(c FCMConfig) (*FCM, error) {
	f := &FCM{config: c}
	var errs []error
	if err := json.Unmarshal([]byte(c.ServiceAccount.Reveal()), &f.account); err != nil {
		errs = append(errs, errors.New("service account is not JSON"))
	}
	key, err := parseRSAKey(f.account.PrivateKey)
	if err != nil {
		errs = append(errs, fmt.Errorf("service account: %w", err))
	}
	if f.account.ProjectID == "" || f.account.ClientEmail == "" {
		errs = append(errs, errors.New("service account lacks project_id or client_email"))
	}
	if c.Priority != "" && c.Priority != "normal" && c.Priority != "high" {
		errs = append(errs, errors.New("priority is neither normal nor high"))
	}
	errs = append(errs, c.HTTP.validate())
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("push: fcm %s: %w", c.Name, err)
	}
	f.key = key
	f.app = newApp(c.Name, VendorFCM, c.HTTP, c.ServiceAccount, NewSecret(f.account.PrivateKey))
	f.tokens = tokenSource{fetch: f.login, timeout: f.timeout}
	f.sendURL = cmp.Or(c.BaseURL, "https://fcm.googleapis.com") + "/v1/projects/" + f.account.ProjectID + "/messages:send"
	return f, nil
}

func (f *FCM) tokenURL() string {
	return cmp.Or(f.config.TokenURL, f.account.TokenURI, "https://oauth2.googleapis.com/token")
}

func (f *FCM) login(ctx context.Context) (accessToken, error) {
	now := time.Now().Unix()
	assertion, err := signRSA(f.key, f.account.PrivateKeyID, false, map[string]any{
		"iss": f.account.ClientEmail, "scope": fcmScope,
		"aud": cmp.Or(f.account.TokenURI, f.tokenURL()), "iat": now, "exp": now + 3600,
	})
	if err != nil {
		return accessToken{}, fmt.Errorf("sign assertion: %w", err)
	}
	return f.oauth(ctx, f.tokenURL(), form("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion", assertion))
}

// BatchSize is a number of devices worth gathering: FCM takes one a call, Send runs
// HTTP.Concurrency of them at once.
func (f *FCM) BatchSize() int { return 100 }

// QuotaClass is always the same: FCM has no day quota.
func (f *FCM) QuotaClass(*Notification) string { return "" }

// Send pushes n to each device.
func (f *FCM) Send(ctx context.Context, n *Notification, devices []Device) []Result {
	return sendBatches(ctx, devices, 1, f.config.HTTP.concurrency(), func(ctx context.Context, one []Device) []Result {
		body, err := f.body(n, one[0], false)
		if err != nil {
			return each(one, Result{Outcome: PayloadRejected, AsOf: time.Now(), Err: err})
		}
		return f.tokens.sendAuthorized(ctx, one, func(access string) []Result {
			return f.post(ctx, access, body, one)
		})
	})
}

// Check validates a message for a token that can't exist: Google looks at credentials and
// project first.
func (f *FCM) Check(ctx context.Context) error {
	probe := []Device{{Token: NewToken("rookery-check")}}
	body, err := f.body(&Notification{Title: "check", Text: "check", MessageID: "check"}, probe[0], true)
	if err != nil {
		return &CheckError{Provider: f.name, Outcome: PayloadRejected, Err: err}
	}
	return checkError(f.name, f.tokens.sendAuthorized(ctx, probe, func(access string) []Result {
		return f.post(ctx, access, body, probe)
	})[0])
}

// Preview returns the call for one device.
func (f *FCM) Preview(n *Notification, d Device) (Preview, error) {
	d.Token = NewToken(previewToken)
	body, err := f.body(n, d, false)
	return previewCall(f.call("", body), err)
}

func (f *FCM) call(access string, body []byte) call {
	return call{url: f.sendURL, body: body, header: []string{"Authorization", "Bearer " + access, "Content-Type", jsonType}}
}

func (f *FCM) post(ctx context.Context, access string, body []byte, one []Device) []Result {
	started := time.Now()
	ans, err := f.do(ctx, f.call(access, body))
	if err != nil {
		r := unsent(one, started, err)
		r[0].RetryAfter = fcmMinRetry
		return r
	}
	return []Result{f.result(ans, access, one, started)}
}

type fcmMessage struct {
	Token        string     `json:"token"`
	Data         appData    `json:"data"`
	Notification fcmText    `json:"notification"`
	Android      fcmAndroid `json:"android"`
	APNs         *fcmAPNs   `json:"apns,omitempty"`
}

// fcmAPNs is what FCM passes on to APNs for an iPhone.
type fcmAPNs struct {
	Headers map[string]string `json:"headers"`
	Payload struct {
		APS apnsBody `json:"aps"`
	} `json:"payload"`
	Options *fcmAPNsOptions `json:"fcm_options,omitempty"`
}

type fcmAPNsOptions struct {
	Image string `json:"image"`
}

// iOS returns the part for iPhones. Title and text come from the message's notification, unless
// the sender has others for them.
func (f *FCM) iOS(n *Notification, d Device, ttl time.Duration, text string) *fcmAPNs {
	if !f.config.IOS {
		return nil
	}
	info := n.info()
	p := &info.ApnsInfo
	a := &fcmAPNs{Headers: map[string]string{
		"apns-priority": "10", "apns-collapse-id": boundedID(n.replaceKey(), apnsMaxCollapse),
		"apns-expiration": strconv.FormatInt(time.Now().Add(ttl).Unix(), 10),
	}}
	body := apnsBody{ThreadID: cmp.Or(n.Group, n.From), InterruptionLevel: p.InterruptionLevel, MutableContent: p.MutableContent}
	if p.BadgeMode == 0 {
		body.Badge = info.apnsBadge(d.Badge)
	}
	if sound := cmp.Or(p.Sound, n.Sound, "default"); sound != NoSound {
		body.Sound = sound
	}
	if p.Title != "" || p.SubTitle != "" {
		body.Alert = &apnsAlert{Title: cmp.Or(p.Title, n.Title), Subtitle: p.SubTitle, Body: text}
	}
	if p.Image != "" {
		body.MutableContent, a.Options = 1, &fcmAPNsOptions{p.Image}
	}
	a.Payload.APS = body
	return a
}

type fcmText struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
}

type fcmAndroid struct {
	Priority          string     `json:"priority"`
	TTL               string     `json:"ttl"`
	CollapseKey       string     `json:"collapse_key,omitempty"`
	RestrictedPackage string     `json:"restricted_package_name,omitempty"`
	Notification      fcmDisplay `json:"notification"`
}

type fcmDisplay struct {
	ChannelID    string `json:"channel_id,omitempty"`
	Sound        string `json:"sound,omitempty"`
	DefaultSound bool   `json:"default_sound,omitempty"`
	Tag          string `json:"tag"`
	Image        string `json:"image,omitempty"`
	Count        *int   `json:"notification_count,omitempty"`
	ClickAction  string `json:"click_action,omitempty"`
	Priority     string `json:"notification_priority,omitempty"`
}

func (f *FCM) body(n *Notification, d Device, dryRun bool) ([]byte, error) {
	info := n.info()
	a := &info.AndroidInfo
	priority := cmp.Or(a.GooglePriority, f.config.Priority, "high")
	display := fcmDisplay{
		ChannelID:   cmp.Or(a.GoogleChannelID, f.config.ChannelID),
		Sound:       a.sound(),
		Tag:         n.replaceKey(),
		Image:       a.GoogleImage,
		ClickAction: f.config.ClickAction,
	}
	display.DefaultSound = display.Sound == ""
	if priority == "high" {
		display.Priority = "PRIORITY_HIGH"
	}
	if info.ApnsInfo.BadgeMode == 0 {
		display.Count = d.Badge
	}
	ttl := n.timeToLive(cmp.Or(f.config.TimeToLive, 24*time.Hour), 0, 4*7*24*time.Hour)
	return fitBody(maxBody, n.Text, n.Ext, func(text, ext string) any {
		return struct {
			ValidateOnly bool       `json:"validate_only,omitempty"`
			Message      fcmMessage `json:"message"`
		}{dryRun, fcmMessage{
			Token: d.Token.Reveal(), Data: n.appData(ext), Notification: fcmText{n.Title, text},
			Android: fcmAndroid{
				Priority: strings.ToUpper(priority), TTL: strconv.FormatInt(seconds(ttl), 10) + "s",
				CollapseKey: n.CollapseKey, RestrictedPackage: f.config.Package, Notification: display,
			},
			APNs: f.iOS(n, d, ttl, text),
		}}
	})
}

type fcmDetail struct {
	Type            string `json:"@type"`
	ErrorCode       string `json:"errorCode"`
	FieldViolations []struct {
		Field string `json:"field"`
	} `json:"fieldViolations"`
	Violations []struct {
		Subject     string `json:"subject"`
		Description string `json:"description"`
	} `json:"violations"`
}

func (f *FCM) result(ans answer, access string, one []Device, started time.Time) Result {
	r := Result{AsOf: started}
	var got struct {
		Name  string `json:"name"`
		Error struct {
			Message string      `json:"message"`
			Status  string      `json:"status"`
			Details []fcmDetail `json:"details"`
		} `json:"error"`
	}
	// What can't be read leaves got empty, and the HTTP status decides.
	readable := json.Unmarshal(ans.body, &got) == nil
	if ans.status == http.StatusOK && readable && got.Name != "" {
		r.Outcome, r.VendorID = Accepted, got.Name
		return r
	}
	r.RetryAfter = retryAfter(ans.header, started)
	for _, d := range got.Error.Details {
		if strings.HasSuffix(d.Type, "FcmError") {
			r.Code = d.ErrorCode
		}
	}
	r.Outcome = fcmOutcome(ans.status, r.Code, got.Error.Message, got.Error.Details)
	switch {
	case r.Code == "QUOTA_EXCEEDED" || ans.status == http.StatusTooManyRequests:
		if r.Outcome == Throttled {
			r.RetryAfter = max(r.RetryAfter, fcmMinPause)
		}
	case r.Outcome == Retryable:
		r.RetryAfter = max(r.RetryAfter, fcmMinRetry)
	}
	r.Code = cmp.Or(r.Code, got.Error.Status, strconv.Itoa(ans.status))
	r.Err = f.vendorError(r.Code, got.Error.Message, one, access)
	return r
}

// fcmOutcome decides by the FcmError's code first, then by the HTTP status.
func fcmOutcome(status int, code, message string, details []fcmDetail) Outcome {
	switch code {
	case "INVALID_ARGUMENT":
		return fcmInvalid(message, details)
	case "THIRD_PARTY_AUTH_ERROR":
		return AuthRejected
	case "SENDER_ID_MISMATCH":
		return TokenForeign
	case "UNREGISTERED":
		return TokenInvalid
	case "QUOTA_EXCEEDED":
		return fcmQuota(details)
	case "INTERNAL":
		return Retryable
	case "UNAVAILABLE":
		return Throttled
	}
	switch status {
	case http.StatusBadRequest:
		return fcmInvalid(message, details)
	case http.StatusUnauthorized:
		return AuthExpired
	case http.StatusTooManyRequests:
		return fcmQuota(details)
	}
	// 403 and a bare 404 are the project's fault and never the token's.
	return httpOutcome(status)
}

// fcmInvalid tells a bad token from a bad message: both are INVALID_ARGUMENT.
func fcmInvalid(message string, details []fcmDetail) Outcome {
	named := false
	for _, d := range details {
		if !strings.HasSuffix(d.Type, "google.rpc.BadRequest") {
			continue
		}
		named = true
		for _, v := range d.FieldViolations {
			if v.Field == "message.token" {
				return TokenInvalid
			}
		}
	}
	if !named && strings.Contains(strings.ToLower(message), "registration token is not a valid") {
		return TokenInvalid
	}
	return PayloadRejected
}

func fcmQuota(details []fcmDetail) Outcome {
	for _, d := range details {
		for _, v := range d.Violations {
			if strings.Contains(strings.ToLower(v.Subject+" "+v.Description), "device") {
				return DeviceThrottled
			}
		}
	}
	return Throttled
}
