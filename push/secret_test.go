package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/push/pushtest"
)

func TestTokenPrintsAsFingerprint(t *testing.T) {
	const text = "a-device-token-nobody-may-see"
	token, secret := NewToken(text), NewSecret(text)
	type inside struct {
		Token  Token
		Secret Secret
		token  Token
		secret Secret
		list   []Token
		m      map[Token]int
	}
	x := inside{token, secret, token, secret, []Token{token}, map[Token]int{token: 1}}
	_, _ = x.token, x.secret // read by fmt alone
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		for _, v := range []any{token, &token, secret, &secret, x, &x, []any{x}, Device{Token: token}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("push", "token", token, "secret", secret, "inside", x, "device", Device{Token: token}, "err", fmt.Errorf("bad %v %s", token, secret))
	}
	js, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(js)
	if strings.Contains(out.String(), text) {
		t.Errorf("the token shows in:\n%s", out.String())
	}
	if got := token.String(); len(got) != 8 || got != token.Fingerprint() {
		t.Errorf("String = %q, want 8 hex digits", got)
	}
	if a, b := NewToken("x"), NewToken("xx"[:1]); a != b || NewToken("x") == NewToken("y") || !NewToken("").IsZero() || NewToken("").Reveal() != "" {
		t.Error("tokens don't compare by their text")
	}
	if got := NewToken("abc").Fingerprint(); got != "ba7816bf" { // SHA-256("abc") = ba7816bf…
		t.Errorf("fingerprint of abc = %s, want ba7816bf", got)
	}
	var s Secret
	if err := s.UnmarshalText([]byte("k")); err != nil || s.Reveal() != "k" {
		t.Errorf("UnmarshalText gave %q, %v", s.Reveal(), err)
	}
}

// TestNothingLeaks provokes every kind of error at every vendor, logs all that comes back in
// every way, and looks for tokens and keys. The fakes echo both in their answers.
func TestNothingLeaks(t *testing.T) {
	var out bytes.Buffer
	logs := []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))}
	var needles []string
	show := func(r Result) {
		for _, l := range logs {
			l.Info("push", "result", r, "err", r.Err)
		}
		fmt.Fprintf(&out, "%v\n%+v\n%#v\n", r, r, r)
		for err := r.Err; err != nil; {
			fmt.Fprintf(&out, "%v %+v\n", err, err)
			u, ok := err.(interface{ Unwrap() error })
			if !ok {
				break
			}
			err = u.Unwrap()
		}
	}
	const mark = "NOBODYMAYSEETHIS"
	var kinds []string
	for _, kind := range []string{"ok-", "dead-", "foreign-", "busy-", "dev429-", "quota-", "word-", "5xx-9-", "hang-", "drop-", "html-", "code-1-x-", "value-1-", "bad token-"} {
		kinds = append(kinds, kind+mark)
	}
	for _, vendor := range vendors {
		var receipts ReceiptConfig
		if slices.Contains(receiptVendors, vendor) {
			receipts = receiptConfig()
		}
		rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{Timeout: 200 * time.Millisecond}, receipts)
		providers := []Provider{rig.provider, rig.again(false)}
		down := rig.again(true)
		providers = append(providers, down)
		for i, p := range providers {
			if i == 2 {
				rig.Close() // nobody listens any more
			}
			for _, token := range kinds {
				for _, r := range p.Send(t.Context(), fullNotification(t), devices(token)) {
					show(r)
				}
			}
			for _, r := range p.Send(t.Context(), plainNotification(), devices(kinds...)) {
				show(r)
			}
			if err := p.Check(t.Context()); err != nil {
				show(Result{Err: err})
			}
			preview, err := p.Preview(fullNotification(t), Device{Token: NewToken("ok-" + mark)})
			fmt.Fprintf(&out, "%+v %v\n%+v\n", preview, err, p.Name())
			if source, ok := p.(ReceiptSource); ok {
				got, err := source.Receipts(nil, []byte(`{"statuses":[{"token":"`+mark+`"}],"`+mark+`":{"targets":"`+mark+`"}}`))
				fmt.Fprintf(&out, "%+v %v\n", got, err)
			}
			p.Close()
		}
		needles = append(needles, secretsOf(rig.provider)...)
	}
	needles = append(needles, mark, "access-", "BEGIN PRIVATE KEY")
	if out.Len() < 10_000 || !strings.Contains(out.String(), "[redacted]") {
		t.Fatalf("only %d bytes were written: the test shows nothing", out.Len())
	}
	for _, needle := range needles {
		for _, form := range []string{needle, url.QueryEscape(needle), url.PathEscape(needle)} {
			if at := strings.Index(out.String(), form); needle != "" && at >= 0 {
				t.Errorf("%.12s… shows: …%s…", form, out.String()[max(at-200, 0):min(at+100, out.Len())])
			}
		}
	}
}

// secretsOf returns the keys of a rig's provider.
func secretsOf(p Provider) []string {
	var list []string
	switch p := p.(type) {
	case *APNs:
		list = append(p.secrets, p.key.token.Bearer)
	case *FCM:
		list = p.secrets
	case *Huawei:
		list = p.secrets
	case *Honor:
		list = p.secrets
	case *Xiaomi:
		list = p.secrets
	case *OPPO:
		list = p.secrets
	case *Vivo:
		list = p.secrets
	case *Meizu:
		list = p.secrets
	}
	return list
}

// TestVendorTextIsCutAfterRedaction: a token must not survive in halves.
func TestVendorTextIsCutAfterRedaction(t *testing.T) {
	a := newApp("x", VendorFCM, HTTPConfig{}, NewSecret("the-app-secret"))
	token := "tok-" + strings.Repeat("ab", 400)
	for pad := range 40 {
		text := strings.Repeat("x", pad*250) + token + " the-app-secret access=="
		got := a.vendorError("1", text, devices(token), "access==").Error()
		if strings.Contains(got, "tok-") || strings.Contains(got, "abab") || strings.Contains(got, "secret") || strings.Contains(got, "access") {
			t.Errorf("pad %d: %s", pad, got)
		}
		if len(got) > 300 {
			t.Errorf("pad %d: %d bytes", pad, len(got))
		}
	}
}
