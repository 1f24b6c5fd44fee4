package usersig

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// The codes with which a UserSig is refused, in the order in which they are looked for.
const (
	CodeEmpty              = 70002 // there is no UserSig
	CodeMalformed          = 70003 // not a UserSig, or one with a userbuf
	CodeSDKAppIDMismatch   = 70014 // made for another app than the request's
	CodeUnknownApp         = 70020 // the request's app is not the verifier's
	CodeIdentifierMismatch = 70013 // made for another user than the request's
	CodeExpired            = 70001 // past its time
	CodeNoSecret           = 70016 // the app has no secret, so nothing can be verified
	CodeBadSignature       = 70009 // signed with another secret, or altered
)

// An Error says why a UserSig was refused. Its text may be shown to the client: it holds
// nothing of the UserSig and nothing of the secret.
type Error struct {
	Code int    // one of the Code constants
	Info string // one sentence without the code
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Info) }

// A Request is what a client presents.
type Request struct {
	SDKAppID   int64 // the app that the client names; zero when its protocol has no place for one (MQTT)
	Identifier string
	UserSig    string
}

// A Verifier checks the UserSigs of one app.
type Verifier struct{ app App }

// NewVerifier returns a Verifier for app. Without a secret it refuses every UserSig.
func NewVerifier(app App) *Verifier { return &Verifier{app: app} }

// Verify checks at the time now that r.UserSig is a UserSig of this app for r.Identifier.
// A UserSig is valid until and including the second Claims.ExpiresAt; one that is dated in the
// future is valid, since clocks differ. Every error is an [*Error], and the first check to
// fail, in the order of the Code constants, decides its code.
func (v *Verifier) Verify(r Request, now time.Time) (Claims, error) {
	if r.UserSig == "" {
		return Claims{}, &Error{CodeEmpty, "the UserSig is empty"}
	}
	d, problem := decode(r.UserSig)
	if problem != "" {
		return Claims{}, &Error{CodeMalformed, problem}
	}
	app := cmp.Or(r.SDKAppID, v.app.ID)
	claims := Claims{
		Identifier: *d.Identifier,
		IssuedAt:   time.Unix(*d.Time, 0).UTC(),
		ExpiresAt:  time.Unix(*d.Time+*d.Expire, 0).UTC(),
	}
	switch {
	case *d.SDKAppID != app:
		return Claims{}, &Error{CodeSDKAppIDMismatch, "the UserSig is for another SDKAppID"}
	case app != v.app.ID:
		return Claims{}, &Error{CodeUnknownApp, "there is no app with this SDKAppID"}
	case claims.Identifier != r.Identifier:
		return Claims{}, &Error{CodeIdentifierMismatch, "the UserSig is for another identifier"}
	case now.Unix() > claims.ExpiresAt.Unix():
		return Claims{}, &Error{CodeExpired, "the UserSig has expired"}
	case d.UserBuf != nil:
		return Claims{}, &Error{CodeMalformed, "the UserSig has a userbuf, none is expected"}
	case v.app.Secret == "":
		// An empty key is a key to HMAC, and one that everybody knows.
		return Claims{}, &Error{CodeNoSecret, "the app has no secret"}
	case !hmac.Equal([]byte(*d.Sig), []byte(d.sign(v.app.Secret))):
		return Claims{}, &Error{CodeBadSignature, "the signature of the UserSig is wrong"}
	}
	return claims, nil
}

// inflaters keeps the 40 KiB that unpacking takes: half of what a login would allocate.
var inflaters sync.Pool // of *inflater

type inflater struct {
	packed bytes.Reader
	z      io.ReadCloser
}

// inflate returns up to maxInflated+1 bytes of what is packed.
func inflate(packed []byte) (text []byte, err error) {
	in, ok := inflaters.Get().(*inflater)
	if !ok {
		in = new(inflater)
	}
	defer inflaters.Put(in)
	in.packed.Reset(packed)
	defer in.packed.Reset(nil)
	if in.z == nil {
		in.z, err = zlib.NewReader(&in.packed)
	} else {
		err = in.z.(zlib.Resetter).Reset(&in.packed, nil)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(in.z, maxInflated+1))
}

// decode unpacks a UserSig and returns it with every member but the userbuf present and in
// range, or else a sentence that says what is wrong with it. Nothing in it is authentic yet.
func decode(userSig string) (document, string) {
	if len(userSig) > maxEncoded {
		return document{}, "the UserSig is too long"
	}
	packed, err := encoding.DecodeString(userSig)
	if err != nil {
		return document{}, "the UserSig is not base64 with * - _ for + / ="
	}
	text, err := inflate(packed)
	switch {
	case len(text) > maxInflated:
		return document{}, "the UserSig is too long when unpacked"
	case err != nil:
		return document{}, "the UserSig is not compressed with zlib"
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return document{}, "the UserSig does not hold a JSON object with members of the right types"
	}
	switch {
	case d.Version == nil || d.Identifier == nil || d.SDKAppID == nil || d.Expire == nil || d.Time == nil || d.Sig == nil:
		return document{}, "the UserSig lacks a member"
	case *d.Version != version:
		return document{}, "the UserSig is of another version than " + version
	case !validIdentifier(*d.Identifier):
		return document{}, "the identifier in the UserSig is empty or not printable"
	case *d.Time < 0 || *d.Time > maxSeconds || *d.Expire < 0 || *d.Expire > maxSeconds:
		return document{}, "a time in the UserSig is out of range"
	}
	return d, ""
}
