// Package push speaks to the vendors that wake a phone: APNs, FCM, Huawei, Honor, Xiaomi,
// OPPO, vivo and Meizu.
//
// A [Provider] is one provider app: one set of credentials at one vendor. It turns a
// vendor-neutral [Notification] into the vendor's own call and whatever the vendor answers
// into an [Outcome]; who gets a push, when it is tried again and which token is dropped is
// decided by the caller, with the help of [Backoff], [Gate] and [RemovalGuard].
//
// Device tokens and keys are secrets: [Token] and [Secret] print as a fingerprint or a
// placeholder, and every error and every [Result] of this package is free of both.
package push

import (
	"context"
	"time"
)

// A Vendor names a push service.
type Vendor string

// The vendors this package has a provider for.
const (
	VendorAPNs   Vendor = "apns"
	VendorFCM    Vendor = "fcm"
	VendorHuawei Vendor = "huawei"
	VendorHonor  Vendor = "honor"
	VendorXiaomi Vendor = "xiaomi"
	VendorOPPO   Vendor = "oppo"
	VendorVivo   Vendor = "vivo"
	VendorMeizu  Vendor = "meizu"
)

// A Provider sends notifications with one provider app's credentials. All methods may be
// called by several goroutines at once.
type Provider interface {
	// Name is the provider app's name in the configuration.
	Name() string
	Vendor() Vendor
	// BatchSize is how many devices one call to the vendor takes: the number worth
	// gathering for one Send.
	BatchSize() int
	// Send pushes n to devices and returns one Result per device, in their order. It takes
	// any number of devices: longer lists are split into the vendor's calls, of which a
	// bounded number runs at once. A token that is listed twice is sent once. A stale access
	// token is renewed and the call repeated once before Send answers. Send keeps no
	// reference to n or devices, and neither is changed.
	Send(ctx context.Context, n *Notification, devices []Device) []Result
	// Check asks the vendor whether it knows the credentials, without reaching any device.
	// The error is a *CheckError.
	Check(ctx context.Context) error
	// Preview returns the call that Send would make for one device, secrets blanked out.
	Preview(n *Notification, d Device) (Preview, error)
	// QuotaClass names the share of the vendor's day quota that n counts against; a
	// QuotaExhausted outcome speaks of this class only.
	QuotaClass(n *Notification) string
	// Close gives back idle connections. A Send under way is not interrupted.
	Close()
}

// A Device is one address of a user.
type Device struct {
	Token Token
	// VoIPToken is the device's second APNs token, for calls; zero where the device gave none.
	VoIPToken Token
	// Badge is the user's unread count over all conversations, shown on the app's icon by
	// APNs and FCM. Nil leaves the icon's number as it is; 0 clears it.
	Badge *int
}

// A Notification is what one message wants a device to show. Title and Text are final (see
// [Texts.Compose]); everything vendor-specific comes from Info, then from the provider
// app's configuration.
type Notification struct {
	Title string
	Text  string
	// Ext is the sender's opaque text for the app.
	Ext string
	// Sound is a sound file's name for APNs, of a message without an Info.
	Sound string
	// CollapseKey, where set, makes this notification replace the older ones with the same
	// key: a busy group's ID. Empty means that the message is shown by itself; its MessageID
	// then is the replace key, so that a push which was sent twice is seen once.
	CollapseKey string
	// TimeToLive is how long the vendor keeps trying. Zero means the vendor's configured
	// default; each vendor's bounds apply.
	TimeToLive time.Duration
	// Info is the sender's OfflinePushInfo; nil means that there was none.
	Info *OfflinePushInfo

	// Group is empty for a one-to-one message.
	Group string
	// Seq is the message's place in the group.
	Seq uint64
	// MessageID is unique per message and must not be empty.
	MessageID string
	From      string
	// Sent (Unix seconds) and Random are the message's own, for its receipts.
	Sent   int64
	Random uint32
}

// A Result is what became of one device's push.
type Result struct {
	Outcome Outcome
	// Code is the vendor's code or reason as it stood in the answer, "" when there was none.
	Code string
	// VendorID is the vendor's ID of an accepted message.
	VendorID string
	// RetryAfter is the least time to wait before the next try (Retryable), or how long the
	// provider app shall pause (Throttled). Zero means that the vendor did not say.
	RetryAfter time.Duration
	// AsOf is the moment the outcome speaks of: since when APNs knows the token as dead,
	// else when the call was made. A token registered later is not meant.
	AsOf time.Time
	// VoIP reports that the push went to the device's VoIPToken, which the outcome speaks of.
	VoIP bool
	// Err says more for a log; it holds neither a token nor a key. Nil for Accepted.
	Err error

	// unnamed: a whole batch was refused for one of its tokens. Never set in what Send returns.
	unnamed bool
}

// A Preview is a vendor call as it would go out.
type Preview struct {
	Method string
	URL    string
	// Header lists "Name: value" lines, sorted.
	Header []string
	Body   string
}

// A CheckError says why a provider app's credentials could not be confirmed.
type CheckError struct {
	Provider string
	// Outcome is AuthRejected when the vendor refused the credentials; Retryable and
	// Throttled mean that the vendor could not be asked.
	Outcome Outcome
	Code    string
	Err     error
}

func (e *CheckError) Error() string {
	s := "push: check " + e.Provider + ": " + e.Outcome.String()
	if e.Code != "" {
		s += " (code " + e.Code + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *CheckError) Unwrap() error { return e.Err }
