package push

import "strconv"

// An Outcome is what a vendor's answer means for the sender. The zero value is none of them,
// so that a forgotten result shows.
type Outcome uint8

// The outcomes, and what each asks of the caller.
const (
	_ Outcome = iota
	// Accepted: the vendor took it, which is not to say that the device showed it.
	Accepted
	// TokenInvalid: this token will never work again; remove it if [MayRemove] agrees.
	TokenInvalid
	// TokenForeign: the token belongs to another app, project or environment, or was never
	// one. As TokenInvalid, counted apart: a burst means a wrong credential.
	TokenForeign
	// DeviceThrottled: too many pushes to this device; drop this one.
	DeviceThrottled
	// Throttled: the whole provider app must pause for RetryAfter, then try again.
	Throttled
	// QuotaExhausted: nothing of this quota class goes through before the vendor's midnight.
	QuotaExhausted
	// AuthExpired: the access token was stale. Providers renew it themselves; a caller sees
	// AuthRejected when a fresh token did not help either.
	AuthExpired
	// AuthRejected: wrong secret, app, permission or configuration. Stop the provider app
	// and raise an alarm; the push itself may be tried again until its deadline.
	AuthRejected
	// Retryable: try again with backoff. The vendor may have taken the push already.
	Retryable
	// PayloadRejected: this push cannot be sent as it was built. Final.
	PayloadRejected
	// ContentRejected: the vendor does not like what it says. Final.
	ContentRejected
	// Undeliverable: well-formed, but the device won't get it now. Final; keep the token.
	Undeliverable
)

var outcomeNames = [...]string{
	Accepted: "accepted", TokenInvalid: "token_invalid", TokenForeign: "token_foreign",
	DeviceThrottled: "device_throttled", Throttled: "throttled", QuotaExhausted: "quota_exhausted",
	AuthExpired: "auth_expired", AuthRejected: "auth_rejected", Retryable: "retryable",
	PayloadRejected: "payload_rejected", ContentRejected: "content_rejected", Undeliverable: "undeliverable",
}

// String returns the outcome's name, fit for a metric label.
func (o Outcome) String() string {
	if o == 0 || int(o) >= len(outcomeNames) {
		return "outcome(" + strconv.Itoa(int(o)) + ")"
	}
	return outcomeNames[o]
}

// Final reports whether nothing more is to be done for this push.
func (o Outcome) Final() bool {
	switch o {
	case Throttled, QuotaExhausted, AuthExpired, AuthRejected, Retryable:
		return false
	}
	return true
}

// TokenDead reports whether o speaks against the token itself.
func (o Outcome) TokenDead() bool { return o == TokenInvalid || o == TokenForeign }
