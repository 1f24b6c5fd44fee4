package push

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/push/pushtest"
)

var receiptVendors = []Vendor{VendorHuawei, "huawei-v3", VendorHonor, VendorXiaomi, VendorOPPO, VendorVivo, VendorMeizu}

const receiptSecret = "0123456789abcdef-RECEIPT"

func receiptConfig() ReceiptConfig {
	return ReceiptConfig{
		Secret: NewSecret(receiptSecret), BaseURL: "https://im.example.com/", Key: NewSecret("mac-key"), CallbackUser: "cbuser", CallbackKey: NewSecret("cbkey"),
	}
}

func receiptRig(t testing.TB, vendor Vendor) *rig {
	t.Helper()
	return newRig(t, vendor, pushtest.Options{}, HTTPConfig{}, receiptConfig())
}

func receiptNotification() *Notification {
	n := plainNotification()
	n.Sent, n.Random = 1_700_000_000, 0xfedcba98
	return n
}

// TestGoldenReceipts: what goes out where receipts are wanted, to one device and, at vivo, whose
// call is another one then, to many.
func TestGoldenReceipts(t *testing.T) {
	for _, vendor := range receiptVendors {
		t.Run(string(vendor), func(t *testing.T) {
			c := receiptConfig()
			if vendor == "huawei-v3" || vendor == VendorHuawei {
				c.ID = "RCP1"
			}
			rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{}, c)
			n := receiptNotification()
			wantOutcomes(t, rig.provider, n, []string{"ok-golden"}, Accepted)
			wantNoViolations(t, rig.Server)
			wantGolden(t, string(vendor)+"-receipts.golden", writePush(t, rig.Pushes("ok-golden")[0]))

			preview, err := rig.provider.Preview(n, devices("ok-golden")[0])
			if err != nil || strings.Contains(fmt.Sprint(preview), receiptSecret) {
				t.Errorf("Preview = %v, %v: it must not show the address", preview, err)
			}
			rig.provider.Send(t.Context(), &Notification{Title: "t", Text: "x", MessageID: "m"}, devices("ok-single"))
			if body := string(rig.Pushes("ok-single")[0].Body); strings.Contains(body, receiptSecret) {
				t.Errorf("a push of no group asks for receipts: %s", body)
			}
		})
	}
}

// TestReceipts: what each vendor reports of a push, in a call for one device and in one for
// many, is read as it is meant.
func TestReceipts(t *testing.T) {
	many := []string{"ok-a", "ok-b"}
	for i := range 20 {
		many = append(many, fmt.Sprintf("ok-%d", i))
	}
	for _, vendor := range receiptVendors {
		t.Run(string(vendor), func(t *testing.T) {
			rig := receiptRig(t, vendor)
			source := rig.provider.(ReceiptSource)
			if source.ReceiptSecret().Reveal() != receiptSecret {
				t.Error("the secret is lost")
			}
			n := receiptNotification()
			for _, tokens := range [][]string{{"ok-one"}, many} {
				wantOutcomes(t, rig.provider, n, tokens, slices.Repeat([]Outcome{Accepted}, len(tokens))...)
				for _, kind := range []ReceiptKind{ReceiptArrived, ReceiptClicked, ReceiptDead, ReceiptUndelivered} {
					r, err := rig.receipt(tokens[0], string(kind))
					if err != nil {
						if kind == ReceiptArrived || kind == ReceiptDead && vendor != VendorMeizu {
							t.Errorf("%s: %v", kind, err)
						}
						continue // the vendor has no such thing
					}
					if u, err := url.Parse(r.URL); err != nil || u.Host != "im.example.com" || !strings.HasPrefix(u.Path, "/push/receipts/") {
						t.Errorf("reports go to %s, %v", r.URL, err)
					}
					got, err := source.Receipts(r.Header, []byte(r.Body))
					if err != nil || len(got) != 1 || got[0].Kind != kind || got[0].Token.Reveal() != tokens[0] || got[0].VendorID == "" {
						t.Fatalf("Receipts(%s) = %+v, %v; want %s of %s", r.Body, got, err, kind, tokens[0])
					}
					want := ReceiptMessage{Seq: 7, Sent: 1_700_000_000, Random: 0xfedcba98, Group: "@TGS#1", From: "ann"}
					if m := got[0].Message; m == nil || *m != want {
						t.Errorf("%s: the message is %+v, want %+v", r.Body, m, want)
					}
				}
			}
			wantNoViolations(t, rig.Server)
		})
	}
}

// TestReceiptOfAnother: a receipt proves nothing for a token that the parameter was not made for,
// nor at another provider app, nor with another key, nor with a byte changed.
func TestReceiptOfAnother(t *testing.T) {
	rig := receiptRig(t, VendorXiaomi)
	x := rig.provider.(*Xiaomi)
	n := receiptNotification()
	one, other := devices("ok-one"), devices("ok-two")
	bound, shared := x.receiptParam(n, 256, one), x.receiptParam(n, 256, append(one, other...))
	if x.receiptMessage(bound, one[0].Token) == nil || x.receiptMessage(shared, one[0].Token) == nil || x.receiptMessage(shared, other[0].Token) == nil {
		t.Fatal("its own parameter is not read")
	}
	if m := x.receiptMessage(bound, other[0].Token); m != nil {
		t.Errorf("another token's parameter is taken: %+v", m)
	}
	renamed, rekeyed := x.app, x.app
	renamed.name = "xiaomi2"
	rekeyed.receipts.Key = NewSecret("mac-key2")
	for i := range shared {
		for _, param := range []string{shared[:i], shared[:i] + "-" + shared[i+1:], shared[:i] + "x" + shared[i+1:], shared[:i] + "\x00" + shared[i:]} {
			if m := x.receiptMessage(param, one[0].Token); m != nil && param != shared {
				t.Errorf("%q is taken for %q: %+v", param, shared, m)
			}
		}
	}
	if renamed.receiptMessage(shared, one[0].Token) != nil || rekeyed.receiptMessage(shared, one[0].Token) != nil {
		t.Error("another provider app's parameter is taken")
	}
}

// TestReceiptParamLength: the longest names fit the least limit, and what has room is told.
func TestReceiptParamLength(t *testing.T) {
	a := newApp("app", VendorHuawei, HTTPConfig{}).withReceipts(receiptConfig())
	n := receiptNotification()
	n.Seq, n.Sent, n.Random = 1<<53, 1<<32-1, 1<<32-1
	for _, tt := range []struct {
		group, from, limit int
		want               string
	}{
		{48, 32, 256, "group and sender"},
		{48, 32, 100, "group"},
		{14, 10, 64, "group"},
		{10, 8, 64, "group and sender"},
		{48, 32, 64, "sum"},
		{1, 1, 30, "nothing"},
	} {
		n.Group, n.From = strings.Repeat("g", tt.group), strings.Repeat("f", tt.from)
		token := devices("ok-1")
		param := a.receiptParam(n, tt.limit, token)
		m := a.receiptMessage(param, token[0].Token)
		got := "nothing"
		switch {
		case m == nil:
		case m.Group == n.Group && m.From == n.From && m.GroupSum == "":
			got = "group and sender"
		case m.Group == n.Group && m.From == "" && m.GroupSum == "":
			got = "group"
		case m.Group == "" && m.From == "" && m.GroupSum == GroupSum(n.Group):
			got = "sum"
		}
		if got != tt.want || len(param) > tt.limit {
			t.Errorf("a group of %d and a sender of %d bytes within %d: %q tells %s, want %s", tt.group, tt.from, tt.limit, param, got, tt.want)
		}
		if m != nil && (m.Seq != n.Seq || m.Sent != n.Sent || m.Random != n.Random) {
			t.Errorf("got %+v", m)
		}
	}
}

// TestReceiptShapes: the forms that are documented or were seen, by what is read of them.
func TestReceiptShapes(t *testing.T) {
	form := func(field, text string) string { return url.Values{field: {text}, "access_token": {"x"}}.Encode() }
	for _, tt := range []struct {
		vendor Vendor
		body   string
		want   string // kind token ID, …
	}{
		{VendorHuawei, `{"statuses":[{"biTag":"p","appid":"1","token":"a","status":0,"timestamp":1,"requestId":"r"},{"token":"b","status":"2"},{"token":"c","status":5},{"token":"d","status":201},{"token":"e","status":102},{"token":"f","status":77}]}`, "arrived a r, dead b , dead c , dead d , undelivered e , other f "},
		{VendorHuawei, `{"token":"a","pushType":0,"appPackageName":"x","biTag":"p","requestId":"r","deliveryStatus":{"result":"0","timestamp":"1"}}`, "arrived a r"},
		{VendorHuawei, `[{"token":"a","deliveryStatus":{"result":6}}]`, "undelivered a "},
		{VendorHuawei, `{"statuses":[7,null,{"token":""},{"token":["a"]},{"token":"a\nb","status":2},{"token":"a","status":[2]}]}`, "other a "},
		{VendorHuawei, `{"statuses":[]}`, ""},
		{VendorHuawei, `{"statuses":`, "refused"},
		{VendorHuawei, ``, "refused"},
		{VendorHonor, `{"statuses":[{"token":"a","status":201},{"token":"b","status":5}]}`, "undelivered a , dead b "},
		{VendorXiaomi, form("data", `{"m1":{"type":1,"targets":"a,b","param":"p","timestamp":1,"extra":{"k":"v"}},"m1":{"type":"2","targets":"a"},"m2":{"type":16,"targets":["c"]},"m3":{"type":1024,"targets":"d"},"m4":{"targets":"e"}}`), "arrived a m1, arrived b m1, clicked a m1, dead c m2, undelivered d m3, other e m4"},
		{VendorXiaomi, `{"m1":{"type":1,"targets":"a"}}`, "arrived a m1"},
		{VendorXiaomi, form("datum", `{}`), "refused"},
		{VendorXiaomi, form("data", `"x"`), "refused"},
		{VendorXiaomi, form("data", `{"m1":{"type":1,"targets":"a"}`), "refused"},
		{VendorXiaomi, "data=%zz", "refused"},
		{VendorOPPO, `[{"messageId":"m1","appId":"1","taskId":"m1","registrationIds":"a, b","eventTime":"t","param":"p","eventType":"push_arrive"},{"messageId":"m2","registrationIds":"c","eventType":"regid_invalid"},{"registrationIds":"d","eventType":"user_daily_limit"},{"registrationIds":"e","eventType":"?"}]`, "arrived a m1, arrived b m1, dead c m2, undelivered d , other e "},
		{VendorOPPO, `7`, "refused"},
		{VendorVivo, `{"t1":{"param":"p","targets":"a,b"},"t2":{"type":"regid_invalid","targets":["c"]},"t3":{"type":9,"targets":"d"},"t4":7}`, "arrived a t1, arrived b t1, dead c t2, other d t3"},
		{VendorVivo, form("data", `{"t1":{"type":2,"targets":"a"}}`), "clicked a t1"},
		{VendorMeizu, form("cb", `{"NS-1-1":{"param":"p","type":1,"targets":["a","b"]},"NS-1-2":{"targets":["c"]},"x":{"type":3,"targets":["d"]}}`), "arrived a NS-1, arrived b NS-1, clicked c NS-1, other d x"},
	} {
		rig := newRig(t, tt.vendor, pushtest.Options{}, HTTPConfig{}, ReceiptConfig{Secret: NewSecret(receiptSecret), Key: NewSecret("k"), BaseURL: "https://im.example.com"})
		receipts, err := rig.provider.(ReceiptSource).Receipts(nil, []byte(tt.body))
		var list []string
		for _, r := range receipts {
			list = append(list, string(r.Kind)+" "+r.Token.Reveal()+" "+r.VendorID)
		}
		got := strings.Join(list, ", ")
		if errors.Is(err, ErrBadReceipt) {
			got = "refused"
		}
		if got != tt.want {
			t.Errorf("%s: %s is read as %q, %v; want %q", tt.vendor, tt.body, got, err, tt.want)
		}
	}
}

func TestTooManyReceipts(t *testing.T) {
	p := receiptRig(t, VendorXiaomi).provider.(ReceiptSource)
	body := func(n int) []byte {
		return []byte(`{"m":{"type":1,"targets":"` + strings.TrimSuffix(strings.Repeat("a,", n), ",") + `"}}`)
	}
	if got, err := p.Receipts(nil, body(MaxReceipts)); len(got) != MaxReceipts || err != nil {
		t.Errorf("%d receipts, %v", len(got), err)
	}
	if got, err := p.Receipts(nil, body(MaxReceipts+1)); got != nil || !errors.Is(err, ErrBadReceipt) {
		t.Errorf("one more: %d receipts, %v", len(got), err)
	}
	if got, err := p.Receipts(nil, []byte("["+strings.Repeat("0,", MaxReceipts)+"0]")); got != nil || !errors.Is(err, ErrBadReceipt) {
		t.Errorf("too many entries: %d receipts, %v", len(got), err)
	}
}

// TestReceiptSignature checks Huawei's with a vector that was computed independently.
func TestReceiptSignature(t *testing.T) {
	const good = "timestamp=1563105451261; nonce=a07bfa17-6d82-4b53-a9a2-07cfef5ceef1; value=MX+U4uHWzcH+bNXSoWswZHO/GtpVpLhw5W5g8m+dnHM="
	for _, vendor := range []Vendor{VendorHuawei, VendorHonor} {
		p := receiptRig(t, vendor).provider.(ReceiptSource)
		for header, want := range map[string]error{
			good: nil,
			strings.Replace(good, "1563105451261", "1563105451262", 1): ErrUnsigned,
			strings.Replace(good, "value=MX", "value=MY", 1):           ErrUnsigned,
			"timestamp=1; nonce=2; value=":                             ErrUnsigned,
			"":                                                         ErrUnsigned,
		} {
			h := http.Header{}
			h.Set("X-HUAWEI-CALLBACK-ID", header)
			if _, err := p.Receipts(h, []byte(`{"statuses":[]}`)); !errors.Is(err, want) {
				t.Errorf("%s: %q = %v, want %v", vendor, header, err, want)
			}
		}
	}
}

func TestReceiptConfig(t *testing.T) {
	good := receiptConfig()
	with := func(change func(*ReceiptConfig)) ReceiptConfig {
		c := good
		change(&c)
		return c
	}
	for _, tt := range []struct {
		name  string
		c     ReceiptConfig
		limit int
		want  string
	}{
		{"app", ReceiptConfig{}, 128, ""},
		{"app", good, 128, ""},
		{"com.example-1_x", with(func(c *ReceiptConfig) { c.BaseURL = "" }), 0, ""},
		{"app", with(func(c *ReceiptConfig) { c.BaseURL = "" }), 128, "public address"},
		{"app", with(func(c *ReceiptConfig) { c.BaseURL = "https://" + strings.Repeat("x", 100) }), 128, "may have 128"},
		{"app", with(func(c *ReceiptConfig) { c.Secret = NewSecret("short") }), 0, "16 to 64"},
		{"app", with(func(c *ReceiptConfig) { c.Secret = NewSecret("0123456789abcde/f") }), 0, "16 to 64"},
		{"app", with(func(c *ReceiptConfig) { c.Key = Secret{} }), 0, "key"},
		{"a/b", good, 0, "name"},
		{"..", good, 0, "name"},
	} {
		err := tt.c.validate(tt.name, tt.limit)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || strings.Contains(fmt.Sprint(err), receiptSecret) {
			t.Errorf("validate(%s, %+v, %d) = %v, want %q", tt.name, tt.c, tt.limit, err, tt.want)
		}
	}
}

// FuzzReceipts: no request makes a parser panic, and none is believed that has no parameter of ours.
func FuzzReceipts(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `[]`, `null`, `[[]]`, `{"statuses":[{"biTag":"p","token":"a","status":2}]}`, `{"token":"a","biTag":"p","deliveryStatus":{"result":0}}`,
		`data=%7B%22m%22%3A%7B%22type%22%3A16%2C%22targets%22%3A%22a%2Cb%22%2C%22param%22%3A%22p%22%7D%7D`,
		`[{"messageId":"m","registrationIds":"a,b","param":"p","eventType":"regid_invalid"}]`,
		`{"t1":{"param":"p","targets":"a"}}`, `cb=%7B%22m-1%22%3A%7B%22targets%22%3A%5B%22a%22%5D%7D%7D`, `{"a":{"type":1e9,"targets":{}}`,
	} {
		f.Add([]byte(s), "timestamp=1; nonce=2; value=AAAA")
	}
	var sources []ReceiptSource
	for _, v := range receiptVendors {
		p := newRig(f, v, pushtest.Options{}, HTTPConfig{}, ReceiptConfig{Secret: NewSecret(receiptSecret), Key: NewSecret("k"), BaseURL: "https://im.example.com"})
		sources = append(sources, p.provider.(ReceiptSource))
	}
	signed := receiptRig(f, VendorHuawei).provider.(ReceiptSource)
	f.Fuzz(func(t *testing.T, body []byte, signature string) {
		h := http.Header{"X-Huawei-Callback-Id": {signature}}
		for _, source := range sources {
			got, err := source.Receipts(h, body)
			if err != nil && (!errors.Is(err, ErrBadReceipt) || got != nil) {
				t.Fatalf("%v, %v", got, err)
			}
			if len(got) > MaxReceipts {
				t.Fatalf("%d receipts", len(got))
			}
			for _, r := range got {
				if r.Kind == "" || !sendable(r.Token) || r.Message != nil {
					t.Errorf("%s: %+v", body, r)
				}
			}
		}
		if _, err := signed.Receipts(h, body); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%q is taken for a signature: %v", signature, err)
		}
	})
}

// FuzzReceiptMessage reads parameters whose MAC is right, so that the rest of the reader is met.
func FuzzReceiptMessage(f *testing.F) {
	a := newApp("app", VendorHuawei, HTTPConfig{}).withReceipts(receiptConfig())
	n := receiptNotification()
	for _, limit := range []int{256, 64, 48} {
		raw, err := base64.RawURLEncoding.DecodeString(a.receiptParam(n, limit, nil))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw[paramMAC:])
	}
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		token := NewToken("ok-1")
		bound := ""
		if len(data) > 0 && data[0]&paramBound != 0 {
			bound = token.Reveal()
		}
		m := a.receiptMessage(base64.RawURLEncoding.EncodeToString(append(a.paramMAC(data, bound), data...)), token)
		if m == nil || m.Group == "" || m.From == "" || len(m.Group) > 255 {
			return
		}
		again := &Notification{Group: m.Group, From: m.From, Seq: m.Seq, Sent: m.Sent, Random: m.Random}
		if got := a.receiptMessage(a.receiptParam(again, 1<<20, nil), token); got == nil || *got != *m {
			t.Errorf("%x is read as %+v, written and read as %+v", data, m, got)
		}
	})
}
