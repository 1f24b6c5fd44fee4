package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rookery-im/rookery/push/pushtest"
)

func FuzzParseOfflinePushInfo(f *testing.F) {
	f.Add([]byte(fullInfo))
	for _, s := range []string{`{}`, `null`, `{"AndroidInfo":{"VIVONotifyType":"x"}}`, `{"ApnsInfo":{"Image":"https://["}}`, `{"BadgeSetNum":-1}`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		info, err := ParseOfflinePushInfo(raw)
		if err != nil {
			if !errors.Is(err, ErrBadInfo) || info != nil {
				t.Fatalf("%v, %v", info, err)
			}
			return
		}
		if info == nil {
			return
		}
		again, err := json.Marshal(info)
		if err != nil {
			t.Fatalf("what was parsed can't be written: %v", err)
		}
		if len(again) > MaxInfoBytes {
			return // escapes and names that were left out make it longer
		}
		if _, err := ParseOfflinePushInfo(again); err != nil {
			t.Fatalf("%s: parsed, written, and refused: %v", again, err)
		}
	})
}

// FuzzCompose: whatever the sender wrote, every vendor's payload is within its limits. The
// fakes' checks are the judges, so this runs through one of each kind of payload.
func FuzzCompose(f *testing.F) {
	f.Add("Team", "hi", `{"a":1}`, "shake", "@TGS#1", uint8(0))
	f.Add(strings.Repeat("<&>", 2000), "", strings.Repeat(`"`, 5000), "\x00", "", uint8(1))
	f.Add("", "\u2028\xff", "é", "../x", strings.Repeat("g", 300), uint8(3))
	fakes := make(map[Vendor]*rig)
	for _, v := range vendors {
		fakes[v] = newRig(f, v, pushtest.Options{}, HTTPConfig{})
	}
	for _, v := range receiptVendors {
		fakes[v+" with receipts"] = receiptRig(f, v)
	}
	f.Fuzz(func(t *testing.T, title, text, ext, sound, group string, flags uint8) {
		info := &OfflinePushInfo{Title: title, Desc: text, Ext: ext}
		info.AndroidInfo.Sound, info.AndroidInfo.PushStyle = sound, int(flags&1)
		info.ApnsInfo.SubTitle, info.ApnsInfo.ContentAvailable = title, int(flags>>1&1)
		raw, err := json.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		if info, err = ParseOfflinePushInfo(raw); err != nil || len(group) > 500 || len(sound) > 200 {
			return // never gets that far
		}
		n, ok := Texts{}.Compose(Message{Elements: []Element{{Kind: ElementText, Text: text}}, Info: info, Group: group, From: "ann", ID: "m1"})
		if !ok {
			return
		}
		for vendor, rig := range fakes {
			r := rig.provider.Send(t.Context(), n, devices("ok-1"))[0]
			// Too long without text and ext is for the provider to say.
			if r.Outcome != Accepted && !errors.Is(r.Err, errTooLong) {
				t.Errorf("%s: %+v %q", vendor, r, rig.Violations())
			}
		}
	})
}

// FuzzAnswers: no answer of a vendor makes a provider panic, forget a device, or remove a
// token that a 200 did not name.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `[]`, `null`, `"x"`, `<html>`, `{"code":0}`, `{"code":"80000000"}`, `{"code":200,"data":{"expireTokens":["t1"],"failTokens":["t2"]}}`,
		`{"code":"80100000","msg":"{\"illegal_tokens\":[\"t1\"]}"}`, `{"code":"80100000","illegalTokens":{"a":{"b":{"c":{"d":["t1"]}}}}}`,
		`{"code":"200","value":{"110002":["t1"],"t2":"520"}}`, `{"code":"300","redirect":"https://x"}`,
		`{"result":0,"invalidUsers":[{"userid":"t1","status":2}]}`, `{"code":0,"data":[{"registrationId":"t1","errorCode":10000}]}`,
		`{"code":0,"data":{"id":1,"bad_regids":"t1,t2"}}`, `{"error":{"details":[{"@type":"x/google.rpc.BadRequest","fieldViolations":[{"field":"message.token"}]}]}}`,
		`{"access_token":"x","expires_in":"-5"}`,
	} {
		f.Add(200, []byte(s))
		f.Add(503, []byte(s))
		f.Add(400, []byte(s))
	}
	roots := make(map[Vendor]Provider)
	for _, v := range vendors {
		roots[v] = newRig(f, v, pushtest.Options{}, HTTPConfig{}).provider
	}
	list := devices("t1", "t2", "token3")
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		ans := answer{status: status, header: http.Header{"Retry-After": {string(body)}}, body: body}
		for vendor, p := range roots {
			if vendor == VendorAPNs {
				continue // the library parses; apnsOutcome takes any reason
			}
			for _, part := range [][]Device{list, list[:1]} {
				results := parseAnswer(p, ans, part)
				if len(results) != len(part) {
					t.Fatalf("%s: %d results for %d devices", vendor, len(results), len(part))
				}
				for i, r := range results {
					if r.Outcome == 0 || r.Outcome > Undeliverable {
						t.Errorf("%s: no outcome: %+v", vendor, r)
					}
					if r.RetryAfter < 0 || r.RetryAfter > maxRetryAfter {
						t.Errorf("%s: retry after %v", vendor, r.RetryAfter)
					}
					if r.Err != nil && (len(r.Err.Error()) > 4<<10 || !utf8.ValidString(r.Err.Error())) {
						t.Errorf("%s: error %q", vendor, r.Err)
					}
					// Named in plain, or by what may be an escape; or all of them, by the code for it.
					named := bytes.Contains(body, []byte(part[i].Token.Reveal())) || bytes.ContainsAny(body, `\`) || bytes.Contains(body, []byte("80300007"))
					if vendor != VendorFCM && len(part) > 1 && r.Outcome == TokenInvalid && !r.unnamed && !named {
						t.Errorf("%s: %s removes a token that it does not name", vendor, body)
					}
				}
			}
		}
		if o := apnsOutcome(status, string(body)); o == 0 {
			t.Error("no outcome")
		}
	})
}

func parseAnswer(p Provider, ans answer, part []Device) []Result {
	now := time.Now()
	switch p := p.(type) {
	case *FCM:
		results := make([]Result, len(part))
		for i := range part {
			results[i] = p.result(ans, "access", part[i:i+1], now)
		}
		return results
	case *Huawei:
		return p.results(ans, "access", part, now)
	case *Honor:
		return p.results(ans, "access", part, now)
	case *Xiaomi:
		return p.results(ans, part, now)
	case *OPPO:
		return p.results(ans, "access", part, now)
	case *Vivo:
		return p.results(ans, "access", part, now)
	case *Meizu:
		results, redirect := p.results(ans, part, now)
		if redirect != "" {
			return each(part, Result{Outcome: AuthRejected})
		}
		return results
	}
	panic("no parser")
}
