package usersig

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Generate returns a UserSig for identifier that is valid from issued for lifetime; both are
// cut to whole seconds. userbuf is signed along when it is not empty; a [Verifier] refuses
// such a UserSig, because messaging uses none.
//
// An error names the argument that cannot be signed: an app without ID or secret, an
// identifier that is empty, not UTF-8 or holds control characters, a time or a lifetime that
// is negative or out of range.
func Generate(app App, identifier string, issued time.Time, lifetime time.Duration, userbuf []byte) (string, error) {
	at, expire := issued.Unix(), int64(lifetime/time.Second)
	switch {
	case app.ID <= 0:
		return "", fmt.Errorf("usersig: SDKAppID %d is not positive", app.ID)
	case app.Secret == "":
		return "", errors.New("usersig: the app has no secret")
	case !validIdentifier(identifier):
		return "", fmt.Errorf("usersig: identifier %q is empty or not printable", identifier)
	case at < 0 || at > maxSeconds:
		return "", fmt.Errorf("usersig: issue time %v is out of range", issued)
	case expire <= 0:
		return "", fmt.Errorf("usersig: lifetime %v is below one second", lifetime)
	}

	ver := version
	d := document{Version: &ver, Identifier: &identifier, SDKAppID: &app.ID, Expire: &expire, Time: &at}
	if len(userbuf) > 0 {
		d.UserBuf = new(base64.StdEncoding.EncodeToString(userbuf))
	}
	d.Sig = new(d.sign(app.Secret))
	text, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("usersig: %w", err)
	}
	if len(text) > maxInflated {
		return "", fmt.Errorf("usersig: %d bytes are more than the %d that a verifier accepts", len(text), maxInflated)
	}

	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	if _, err := z.Write(text); err != nil {
		return "", fmt.Errorf("usersig: %w", err)
	}
	if err := z.Close(); err != nil {
		return "", fmt.Errorf("usersig: %w", err)
	}
	return encoding.EncodeToString(packed.Bytes()), nil
}

// validIdentifier refuses what JSON would alter (invalid UTF-8) and line breaks, which would
// let one identifier imitate the lines that follow it in the signed content.
func validIdentifier(identifier string) bool {
	return identifier != "" && utf8.ValidString(identifier) && !strings.ContainsFunc(identifier, unicode.IsControl)
}
