package callback

import (
	"crypto/tls"
	"net/http"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// A Policy says how an operation goes on that the app could not be asked about.
type Policy string

// The policies. Wait is for Overflow alone.
const (
	Allow  Policy = "allow"  // as if the app had agreed
	Refuse Policy = "refuse" // it is refused with group.CodeCallbackFailed
	Wait   Policy = "wait"   // for its turn, up to half of the time limit; then as FailPolicy says
)

// Config says where callbacks go and what bounds them. URL and SDKAppID are needed; the other
// zero values work.
type Config struct {
	URL      string
	SDKAppID int64
	// Commands names those that are sent, such as Group.CallbackBeforeSendMsg. Empty: all.
	Commands []string
	// Timeout bounds one exchange with the server, waiting for a turn included. Zero means 2 s.
	Timeout time.Duration
	// FailPolicy is for before-callbacks that fail. Empty means Allow.
	FailPolicy Policy
	// Token signs each call; empty: calls are not signed.
	Token string
	// TLS holds our certificate and whom we trust; nil: none, and the system's authorities.
	TLS *tls.Config
	// AnswerBytes bounds the answer that is read; a longer one is a failure. Zero means 256 KiB.
	AnswerBytes int64
	// Concurrency bounds the before-callbacks under way, ConcurrencyPerGroup those of one
	// group, AfterConcurrency the after-callbacks. Zero means 512, 64 and 64.
	Concurrency         int
	ConcurrencyPerGroup int
	AfterConcurrency    int
	// Overflow says what a before-callback does at these bounds. Empty means Wait.
	Overflow Policy
	// BreakerFailures is after how many failures in a row no call is made for BreakerPause;
	// then one call tries whether the server is back. Zero: never. Zero BreakerPause means 5 s.
	BreakerFailures int
	BreakerPause    time.Duration

	// Retry sends after-callbacks again until they succeed, with pauses that double from
	// RetryPauseMin (zero means 1 s) to RetryPauseMax (5 min), until they are RetryAge old
	// (24 h). Off: each is tried once.
	Retry         bool
	RetryPauseMin time.Duration
	RetryPauseMax time.Duration
	RetryAge      time.Duration
	// Entries and Bytes bound the after-callbacks that are kept for sending; what comes then is
	// given up at once. Zero means 1,000,000 and 1 GiB. DeadEntries bounds those that are
	// kept to be looked at after they were given up; later ones are only counted. Zero means 10,000.
	Entries     int64
	Bytes       int64
	DeadEntries int64

	// Transport replaces the HTTP client's, TLS is then not used. For tests.
	Transport http.RoundTripper
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		v    *time.Duration
		zero time.Duration
	}{
		{&c.Timeout, 2 * time.Second},
		{&c.BreakerPause, 5 * time.Second},
		{&c.RetryPauseMin, time.Second},
		{&c.RetryPauseMax, 5 * time.Minute},
		{&c.RetryAge, 24 * time.Hour},
	} {
		if *d.v <= 0 {
			*d.v = d.zero
		}
	}
	for _, d := range []struct {
		v    *int
		zero int
	}{{&c.Concurrency, 512}, {&c.ConcurrencyPerGroup, 64}, {&c.AfterConcurrency, 64}} {
		if *d.v <= 0 {
			*d.v = d.zero
		}
	}
	for _, d := range []struct {
		v    *int64
		zero int64
	}{{&c.AnswerBytes, 256 << 10}, {&c.Entries, 1_000_000}, {&c.Bytes, 1 << 30}, {&c.DeadEntries, 10_000}} {
		if *d.v <= 0 {
			*d.v = d.zero
		}
	}
	if c.FailPolicy == "" {
		c.FailPolicy = Allow
	}
	if c.Overflow == "" {
		c.Overflow = Wait
	}
	return c
}

// The commands that this package sends by itself; commands' own come through Happened.
const (
	beforeSend    = "Group.CallbackBeforeSendMsg"
	afterSend     = "Group.CallbackAfterSendMsg"
	sendException = "Group.CallbackSendMsgException"
	stateChange   = "State.StateChange"
	memberState   = "Group.CallbackOnMemberStateChange"
	overLimit     = "Alert.RequestOverLimit"
)

var (
	_ hooks.BeforeSend = (*Client)(nil)
	_ hooks.Outbox     = (*Outbox)(nil)
)

// failed is what callers are told whose operation is refused because the app could not be asked.
func failed() *group.Error {
	return group.Errorf(group.CodeCallbackFailed, "the app could not be asked")
}
