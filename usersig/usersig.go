// Package usersig makes and checks UserSigs: the signed, expiring password with which a user
// logs in over MQTT and an administrator calls the REST API (Tencent IM: TLSSigAPIv2).
//
// A UserSig is a JSON object signed with HMAC-SHA256, compressed with zlib and written in a
// base64 of its own alphabet. It proves that whoever knows the app's secret vouched for an
// identifier at a moment; it is not encrypted. Whether the account exists, is blocked, or had
// its older signatures withdrawn is known to the caller alone, who finds what he needs for
// that in [Claims]. The package reads no clock and keeps no state: everything in it may be
// used by many goroutines at once.
package usersig

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

const (
	version = "2.0"

	// maxEncoded and maxInflated bound what an unauthenticated caller can make us decode. A
	// UserSig is below 1 KiB as a rule; one made with zlib level 0 grows by a third in base64.
	maxEncoded  = 8 << 10
	maxInflated = 4 << 10

	// maxSeconds bounds TLS.time and TLS.expire, so that their sum neither overflows nor
	// leaves the years that time.Time prints (it is in the year 5138).
	maxSeconds = 100_000_000_000
)

// encoding is base64 with '*' for '+', '-' for '/' and '_' for '='. It looks like RFC 4648's
// base64url but is not: there '-' stands for '+' and '_' for '/'.
var encoding = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-").WithPadding('_')

// An App is an application and the secret that its UserSigs are signed with.
type App struct {
	ID     int64  // the SDKAppID, positive
	Secret string // used as the bytes of its text, not decoded from hexadecimal
}

// String returns the SDKAppID: the secret must not reach a log by way of fmt.
func (a App) String() string { return strconv.FormatInt(a.ID, 10) }

// GoString does for %#v what String does for %v.
func (a App) GoString() string { return "usersig.App{ID:" + a.String() + "}" }

// LogValue keeps the secret out of slog.
func (a App) LogValue() slog.Value { return slog.Int64Value(a.ID) }

// document is the signed object. Pointers tell a missing member from a zero one.
type document struct {
	Version    *string `json:"TLS.ver"`
	Identifier *string `json:"TLS.identifier"`
	SDKAppID   *int64  `json:"TLS.sdkappid"`
	Expire     *int64  `json:"TLS.expire"` // lifetime in seconds
	Time       *int64  `json:"TLS.time"`   // Unix seconds
	UserBuf    *string `json:"TLS.userbuf,omitempty"`
	Sig        *string `json:"TLS.sig"`
}

// sign returns the value of TLS.sig for the other members, which must not be nil (UserBuf may be).
func (d *document) sign(secret string) string {
	var content strings.Builder
	fmt.Fprintf(&content, "TLS.identifier:%s\nTLS.sdkappid:%d\nTLS.time:%d\nTLS.expire:%d\n",
		*d.Identifier, *d.SDKAppID, *d.Time, *d.Expire)
	if d.UserBuf != nil {
		fmt.Fprintf(&content, "TLS.userbuf:%s\n", *d.UserBuf)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(content.String()))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Claims is what a valid UserSig states.
type Claims struct {
	Identifier string
	IssuedAt   time.Time // whole seconds, UTC; who withdraws a user's older UserSigs compares with this
	ExpiresAt  time.Time // the last second in which the UserSig is valid
}
