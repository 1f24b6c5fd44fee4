package usersig

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// Made with the vendor's key format and checked with its Go library.
	vectorStored = "eAEBrgBR-3siVExTLnZlciI6IjIuMCIsIlRMUy5pZGVudGlmaWVyIjoiYWRtaW5pc3RyYXRvciIsIlRMUy5zZGthcHBpZCI6MTQwMDAwMDAwMSwiVExTLmV4cGlyZSI6ODY0MDAsIlRMUy50aW1lIjoxNzAwMDAwMDAwLCJUTFMuc2lnIjoiVVFzeGdGY2p0NkYwR0RoRTgwMDI4eWpXbDB1b2o1WDBjTkhzMVVkUnFsYz0ifbxqM*Y_"
	vectorBest   = "eNqrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwokpuZl5mcUlRYkl*UVQBcUp2YkFBZkpSlaGJgYQYAiRSa0oyCxKVbKyMANKQIRKMnOBAobmUIVQ0eLMdKDhoYHFFeluyVklZm4G7i4ZrhYGBkYWlVnhOQal*VmmEQbJfh7FhqEpQYU5ybZKtQC8ajPm"

	vectorSig        = "UQsxgFcjt6F0GDhE80028yjWl0uoj5X0cNHs1UdRqlc="
	vectorUserBufSig = "4dwDT4/070+DOkSxbjHkrvmrlXd+OqXjtrl5jfQ+La8="
)

var (
	testApp = App{ID: 1400000001, Secret: strings.Repeat("0123456789abcdef", 4)}
	issued  = time.Unix(1700000000, 0).UTC()
)

func TestVectorsAreValidUntilTheirLastSecond(t *testing.T) {
	v := NewVerifier(testApp)
	want := Claims{Identifier: "administrator", IssuedAt: issued, ExpiresAt: issued.Add(24 * time.Hour)}
	for name, sig := range map[string]string{"level 0": vectorStored, "level 9": vectorBest} {
		t.Run(name, func(t *testing.T) {
			r := Request{SDKAppID: testApp.ID, Identifier: "administrator", UserSig: sig}
			last := time.Unix(1700086400, 999_999_999)
			if got, err := v.Verify(r, last); err != nil || got != want {
				t.Errorf("Verify at %v = %+v, %v; want %+v", last, got, err, want)
			}
			wantCode(t, v, r, last.Add(1), CodeExpired)
			r.SDKAppID = 0 // a protocol that names no app
			if _, err := v.Verify(r, issued); err != nil {
				t.Errorf("Verify without an SDKAppID = %v", err)
			}
		})
	}
}

func TestGenerateSignsLikeTheVendor(t *testing.T) {
	for _, test := range []struct {
		identifier string
		userbuf    []byte
		sig        string
	}{
		{"administrator", nil, vectorSig},
		{"bob", []byte("hello"), vectorUserBufSig},
	} {
		d, problem := decode(generate(t, test.identifier, test.userbuf))
		if problem != "" || *d.Sig != test.sig {
			t.Errorf("Generate(%s): %q, signature %s; want %s", test.identifier, problem, *d.Sig, test.sig)
		}
		if hasBuf := d.UserBuf != nil; hasBuf != (test.userbuf != nil) {
			t.Errorf("Generate(%s): has a userbuf: %v", test.identifier, hasBuf)
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		app        App
		identifier string
		issued     time.Time
		lifetime   time.Duration
		userbuf    []byte
	}{
		"no app":              {App{Secret: "s"}, "bob", issued, time.Hour, nil},
		"no secret":           {App{ID: 1}, "bob", issued, time.Hour, nil},
		"no identifier":       {testApp, "", issued, time.Hour, nil},
		"line in identifier":  {testApp, "bob\nTLS.sdkappid:1", issued, time.Hour, nil},
		"identifier not text": {testApp, "\xff", issued, time.Hour, nil},
		"no lifetime":         {testApp, "bob", issued, 999 * time.Millisecond, nil},
		"before 1970":         {testApp, "bob", time.Unix(-1, 0), time.Hour, nil},
		"far future":          {testApp, "bob", time.Unix(maxSeconds+1, 0), time.Hour, nil},
		"long userbuf":        {testApp, "bob", issued, time.Hour, make([]byte, maxInflated)},
	} {
		if got, err := Generate(test.app, test.identifier, test.issued, test.lifetime, test.userbuf); err == nil || got != "" {
			t.Errorf("%s: Generate = %q, %v; want an error", name, got, err)
		}
	}
}

// members returns the object of a valid UserSig for bob, to be spoilt and packed again.
func members() map[string]any {
	at, expire, identifier := issued.Unix(), int64(3600), "bob"
	d := document{Identifier: &identifier, SDKAppID: &testApp.ID, Time: &at, Expire: &expire}
	return map[string]any{
		"TLS.ver": "2.0", "TLS.identifier": identifier, "TLS.sdkappid": testApp.ID,
		"TLS.expire": expire, "TLS.time": at, "TLS.sig": d.sign(testApp.Secret),
	}
}

func TestEveryPackingIsAccepted(t *testing.T) {
	v := NewVerifier(testApp)
	ordered, err := json.Marshal(members()) // sorted by name, unlike Generate's
	if err != nil {
		t.Fatal(err)
	}
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, ordered, " ", "\t"); err != nil {
		t.Fatal(err)
	}
	unknown := members()
	unknown["TLS.new"] = []int{1}
	more, err := json.Marshal(unknown)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"plain": string(ordered), "newline": string(ordered) + "\n", "spaced": spaced.String() + "\r\n \n", "unknown member": string(more),
	} {
		for level := zlib.HuffmanOnly; level <= zlib.BestCompression; level++ {
			r := Request{testApp.ID, "bob", pack(t, level, text)}
			if got, err := v.Verify(r, issued); err != nil || got.Identifier != "bob" {
				t.Errorf("%s, zlib level %d: Verify = %+v, %v", name, level, got, err)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	v := NewVerifier(testApp)
	valid := generate(t, "bob", nil)
	packed, err := encoding.DecodeString(vectorStored)
	if err != nil {
		t.Fatal(err)
	}
	sigs := map[string]string{
		"not base64":           "!",
		"base64url alphabet":   strings.NewReplacer("-", "_", "*", "-", "_", "").Replace(vectorStored),
		"cut":                  valid[:len(valid)-8],
		"not zlib":             encoding.EncodeToString([]byte("{}")),
		"no zlib checksum":     encoding.EncodeToString(packed[:len(packed)-4]),
		"not JSON":             pack(t, 6, "hello"),
		"two objects":          pack(t, 6, "{}{}"),
		"no object":            pack(t, 6, "[]"),
		"null":                 pack(t, 6, "null"),
		"too long":             strings.Repeat("A", maxEncoded+1),
		"bomb":                 pack(t, 9, strings.Repeat(" ", 8<<20)),
		"one byte over":        pack(t, 9, spoil(t, "TLS.ver", "2.0")+strings.Repeat(" ", maxInflated)),
		"another version":      pack(t, 6, spoil(t, "TLS.ver", "1.0")),
		"app in quotes":        pack(t, 6, spoil(t, "TLS.sdkappid", "1400000001")),
		"fraction of a second": pack(t, 6, spoil(t, "TLS.time", 1700000000.5)),
		"sum overflows":        pack(t, 6, spoil(t, "TLS.expire", int64(math.MaxInt64))),
		"negative time":        pack(t, 6, spoil(t, "TLS.time", -1)),
		"negative lifetime":    pack(t, 6, spoil(t, "TLS.expire", -1)),
		"line in identifier":   pack(t, 6, spoil(t, "TLS.identifier", "bob\n")),
	}
	for member := range members() {
		sigs["without "+member] = pack(t, 6, spoil(t, member, nil))
	}
	for name, sig := range sigs {
		t.Run(name, func(t *testing.T) {
			wantCode(t, v, Request{testApp.ID, "bob", sig}, issued, CodeMalformed)
		})
	}
}

// TestTheFirstFailedCheckDecides spoils a request in more and more ways, from the last check
// to the first: each new fault must hide those that are looked for after it.
func TestTheFirstFailedCheckDecides(t *testing.T) {
	v := NewVerifier(testApp)
	fields := members()
	r := Request{SDKAppID: testApp.ID, Identifier: "bob"}
	now := issued
	for _, step := range []struct {
		code  int
		spoil func()
	}{
		{0, func() {}},
		{CodeBadSignature, func() { fields["TLS.sig"] = vectorSig }},
		{CodeNoSecret, func() { v = NewVerifier(App{ID: testApp.ID}) }},
		{CodeMalformed, func() { fields["TLS.userbuf"] = "aGVsbG8=" }},
		{CodeExpired, func() { now = issued.Add(3601 * time.Second) }},
		{CodeIdentifierMismatch, func() { r.Identifier = "Bob" }},
		{CodeUnknownApp, func() { r.SDKAppID = 7; fields["TLS.sdkappid"] = 7 }},
		{CodeSDKAppIDMismatch, func() { r.SDKAppID = 8 }},
		{CodeMalformed, func() { delete(fields, "TLS.time") }},
	} {
		step.spoil()
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		r.UserSig = pack(t, 6, string(text))
		wantCode(t, v, r, now, step.code)
	}
	r.UserSig = ""
	wantCode(t, v, r, now, CodeEmpty)
}

func TestUserBufIsRefused(t *testing.T) {
	v := NewVerifier(testApp)
	wantCode(t, v, Request{testApp.ID, "bob", generate(t, "bob", []byte("hello"))}, issued, CodeMalformed)
	wantCode(t, v, Request{testApp.ID, "bob", pack(t, 6, spoil(t, "TLS.userbuf", ""))}, issued, CodeMalformed)
}

// TestEveryMemberIsSigned alters one member at a time and makes the request agree with it, so
// that only the signature can object.
func TestEveryMemberIsSigned(t *testing.T) {
	for member, test := range map[string]struct {
		value any
		r     Request
	}{
		"TLS.identifier": {"administrator", Request{testApp.ID, "administrator", ""}},
		"TLS.expire":     {3601, Request{testApp.ID, "bob", ""}},
		"TLS.time":       {issued.Unix() + 1, Request{testApp.ID, "bob", ""}},
		"TLS.sdkappid":   {testApp.ID + 1, Request{testApp.ID + 1, "bob", ""}},
	} {
		v := NewVerifier(App{ID: test.r.SDKAppID, Secret: testApp.Secret})
		test.r.UserSig = pack(t, 6, spoil(t, member, test.value))
		t.Run(member, func(t *testing.T) { wantCode(t, v, test.r, issued, CodeBadSignature) })
	}
	v := NewVerifier(App{ID: testApp.ID, Secret: testApp.Secret + " "})
	wantCode(t, v, Request{testApp.ID, "bob", generate(t, "bob", nil)}, issued, CodeBadSignature)
}

func TestAppKeepsItsSecret(t *testing.T) {
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("app", "app", testApp)
	fmt.Fprintf(&out, "%v %+v %#v %s", testApp, testApp, struct{ A App }{testApp}, &testApp)
	if s := out.String(); strings.Contains(s, testApp.Secret) || !strings.Contains(s, "1400000001") {
		t.Errorf("printed %s; want the SDKAppID and not the secret", s)
	}
}

// FuzzVerify checks that no input panics, that every refusal has one of the documented codes,
// and that what is accepted carries a signature over what it claims.
func FuzzVerify(f *testing.F) {
	for _, sig := range []string{"", "!", vectorStored, vectorBest, pack(f, 6, `{"TLS.ver":"2.0"}`)} {
		f.Add(sig, "administrator")
	}
	v := NewVerifier(testApp)
	codes := []int{
		CodeEmpty, CodeMalformed, CodeSDKAppIDMismatch, CodeIdentifierMismatch, CodeExpired, CodeBadSignature,
	}
	f.Fuzz(func(t *testing.T, sig, identifier string) {
		claims, err := v.Verify(Request{0, identifier, sig}, issued)
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok || !slices.Contains(codes, e.Code) || claims != (Claims{}) {
				t.Errorf("Verify = %+v, %v", claims, err)
			}
			return
		}
		again, err := Generate(testApp, identifier, claims.IssuedAt, claims.ExpiresAt.Sub(claims.IssuedAt), nil)
		if err != nil || claims.Identifier != identifier {
			t.Fatalf("accepted %+v for %q, which cannot be generated: %v", claims, identifier, err)
		}
		was, _ := decode(sig)
		is, _ := decode(again)
		if *was.Sig != *is.Sig {
			t.Errorf("accepted %q with signature %s; it signs as %s", sig, *was.Sig, *is.Sig)
		}
	})
}

// FuzzGenerate checks that what Generate makes verifies as what was asked for.
func FuzzGenerate(f *testing.F) {
	f.Add("bob", int64(1700000000), int64(86400))
	f.Add("<&>\u2028é", int64(0), int64(1))
	f.Fuzz(func(t *testing.T, identifier string, at, seconds int64) {
		seconds = min(seconds, int64(time.Duration(math.MaxInt64)/time.Second))
		sig, err := Generate(testApp, identifier, time.Unix(at, 0), time.Duration(max(seconds, 0))*time.Second, nil)
		if err != nil {
			return
		}
		want := Claims{identifier, time.Unix(at, 0).UTC(), time.Unix(at+seconds, 0).UTC()}
		got, err := NewVerifier(testApp).Verify(Request{0, identifier, sig}, time.Unix(at, 0))
		if err != nil || got != want {
			t.Errorf("Verify(Generate) = %+v, %v; want %+v", got, err, want)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := NewVerifier(testApp)
	r := Request{testApp.ID, "administrator", vectorBest}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r, issued); err != nil {
			b.Fatal(err)
		}
	}
}

func wantCode(t *testing.T, v *Verifier, r Request, now time.Time, code int) {
	t.Helper()
	claims, err := v.Verify(r, now)
	got := 0
	if e, ok := errors.AsType[*Error](err); ok {
		got = e.Code
	}
	if got != code || (err != nil) != (code != 0) || err != nil && claims != (Claims{}) {
		t.Errorf("Verify(%+v) at %v = %+v, %v; want code %d", r, now, claims, err, code)
	}
}

func generate(t *testing.T, identifier string, userbuf []byte) string {
	t.Helper()
	sig, err := Generate(testApp, identifier, issued, 24*time.Hour, userbuf)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// spoil returns the object of members with one of them changed, or left out when value is nil.
func spoil(t *testing.T, member string, value any) string {
	t.Helper()
	fields := members()
	fields[member] = value
	if value == nil {
		delete(fields, member)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func pack(t testing.TB, level int, text string) string {
	t.Helper()
	var packed bytes.Buffer
	z, err := zlib.NewWriterLevel(&packed, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return encoding.EncodeToString(packed.Bytes())
}
