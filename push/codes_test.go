package push

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/push/pushtest"
)

// TestCodes sends to a device for which the fake answers with the code, for each code that the
// vendors document.
func TestCodes(t *testing.T) {
	type rows map[Outcome]string
	tables := map[Vendor]rows{
		VendorFCM: {
			PayloadRejected: "INVALID_ARGUMENT",
			AuthRejected:    "THIRD_PARTY_AUTH_ERROR UNAUTHENTICATED PERMISSION_DENIED NOT_FOUND", // UNAUTHENTICATED: again after a renewal
			TokenForeign:    "SENDER_ID_MISMATCH",
			TokenInvalid:    "UNREGISTERED",
			Throttled:       "QUOTA_EXCEEDED UNAVAILABLE",
			Retryable:       "INTERNAL NEVER_HEARD_OF",
		},
		VendorHuawei: {
			Accepted:        "80000000 80100000",
			PayloadRejected: "80100001 80100002 80100003 80100004 80100013 80300008 80300010 80300013",
			ContentRejected: "80100016 80100018",
			Throttled:       "80100017",
			AuthRejected:    "80200001 80200003 80300002 80300011", // the first two: again after a renewal
			TokenInvalid:    "80300007",
			Retryable:       "80600003 81000001 99999999",
		},
		"huawei-v3": {
			Accepted:        "80000000",
			AuthRejected:    "80200001 80200003 80200005 80300002 80300036 80300037",
			Throttled:       "80300029 80300030",
			ContentRejected: "80100022",
			PayloadRejected: "80100003",
		},
		VendorHonor: {
			Accepted:        "200 80000000 80100000",
			PayloadRejected: "400 80100003 80300008 80300010 10001 10207 10300 80200050 80300006",
			TokenInvalid:    "80300007",
			AuthRejected:    "401 403 80200001 80200003 404 10205 80200020 80200022",
			QuotaExhausted:  "80200047",
			ContentRejected: "80200056",
			Retryable:       "500 502 77",
			Throttled:       "503",
		},
		VendorXiaomi: {
			Accepted:        "0",
			Retryable:       "-1 1 10001 10003 20607 26003 65029 424242",
			Throttled:       "10002 10027 200002 26004",
			QuotaExhausted:  "10034 200001",
			TokenInvalid:    "10029 66007",
			Undeliverable:   "65003 20301",
			AuthRejected:    "21301 21302 21303 22000 22006 22007 22022 10031 10036 27001",
			PayloadRejected: "10008 10012 10016 10017 10037 21305 22102 65009 65014 65015 65036 65037 65038",
			ContentRejected: "10041 26006",
		},
		VendorOPPO: {
			Accepted:        "0 32 67", // 67: sent again without notify_level
			TokenInvalid:    "10000",
			AuthRejected:    "11 29 14 15 16 17 26 27 28 30 59 19",
			Throttled:       "-2 13 55",
			Retryable:       "-1 4242",
			QuotaExhausted:  "33 42",
			PayloadRejected: "12 18 20 21 22 23 24 25 31 40 41 51 69 34",
		},
		VendorVivo: {
			Accepted:       "0",
			AuthRejected:   "10000 10043 10045 10082 10094 10200 10201 10202 10203 10204 10205 10206 10207 10096 10097 10051",
			TokenInvalid:   "10302",
			Undeliverable:  "10311 10071",
			QuotaExhausted: "10070 10073 10252 10254",
			Throttled:      "10072 10102",
			PayloadRejected: "10050 10054 10055 10056 10057 10058 10059 10060 10061 10062 10063 10064 10065 10066 10067 10095 " +
				"10150 10151 10152 10153 10154 10155 10304 10305 10306 10352 10353 10800 10801",
			ContentRejected: "10103 10104 10085 10101",
			Retryable:       "4242",
		},
		VendorMeizu: {
			Accepted:        "200",
			Retryable:       "500 1001 4242",
			Throttled:       "1003 110010",
			PayloadRejected: "1005 110004 110053",
			AuthRejected:    "1006 110000 110001 110009 110031 110033",
			QuotaExhausted:  "110019 110051",
		},
	}
	for vendor, table := range tables {
		t.Run(string(vendor), func(t *testing.T) {
			t.Parallel()
			rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
			for want, codes := range table {
				for code := range strings.FieldsSeq(codes) {
					// A fresh provider: what a renewal of the access token may cost is bounded.
					p := rig.again(true)
					r := wantOutcomes(t, p, plainNotification(), []string{"code-" + code + "-x"}, want)[0]
					if r.Code != code && code != "67" && !strings.Contains("NEVER_HEARD_OF", code) {
						t.Errorf("code %s is reported as %q", code, r.Code)
					}
					if (r.Err == nil) != (want == Accepted) {
						t.Errorf("code %s: Err = %v", code, r.Err)
					}
					p.Close()
				}
			}
			wantNoViolations(t, rig.Server)
		})
	}
}

// TestCodesOfOneDevice: the codes that speak of one device in a batch leave the others alone.
func TestCodesOfOneDevice(t *testing.T) {
	for _, c := range []struct {
		vendor Vendor
		token  string
		want   Outcome
	}{
		{VendorMeizu, "value-110002-x", TokenInvalid},
		{VendorMeizu, "value-110003-x", TokenInvalid},
		{VendorMeizu, "value-110010-x", Undeliverable},
		{VendorMeizu, "value-110011-x", DeviceThrottled},
		{VendorMeizu, "value-520-x", DeviceThrottled},
		{VendorMeizu, "value-519-x", Throttled},
		{VendorMeizu, "value-501-x", Retryable},
		{VendorMeizu, "value-513-x", Retryable},
		{VendorMeizu, "value-201-x", AuthRejected},
		{VendorVivo, "value-1-x", TokenInvalid},
		{VendorVivo, "value-2-x", TokenInvalid},
		{VendorVivo, "value-4-x", Undeliverable},
		{VendorOPPO, "value-10000-x", TokenInvalid},
		{VendorOPPO, "value-33-x", QuotaExhausted},
		{VendorHonor, "dead-x", TokenInvalid},
		{VendorHonor, "value-fail-x", Undeliverable}, // twice
		{VendorHonor, "value-failonce-x", Accepted},
		{VendorHuawei, "dead-x", TokenInvalid},
		{"huawei-v3", "value-tokenFormatError-x", TokenInvalid},
		{"huawei-v3", "value-noRight-x", Undeliverable},
		{VendorXiaomi, "dead-x", TokenInvalid},
		{VendorFCM, "value-message.token-x", TokenInvalid},
		{VendorFCM, "value-message.data-x", PayloadRejected},
		{VendorFCM, "value-none-x", TokenInvalid},
	} {
		for _, old := range []bool{false, true} {
			for _, number := range []int{1, 12} { // vivo sends lists from ten devices on
				rig := newRig(t, c.vendor, pushtest.Options{Old: old}, HTTPConfig{})
				tokens := []string{c.token}
				want := []Outcome{c.want}
				for len(tokens) < number {
					tokens, want = append(tokens, "ok-"+strings.Repeat("x", len(tokens))), append(want, Accepted)
				}
				if number == 1 && slices.Contains([]Vendor{"huawei-v3", VendorXiaomi, VendorOPPO}, c.vendor) && strings.HasPrefix(c.token, "value") {
					continue // alone it gets the code for the whole call
				}
				wantOutcomes(t, rig.provider, plainNotification(), tokens, want...)
			}
		}
	}
}

// TestWholeBatchIsRefused: an answer that says "dead" without saying who removes nobody, or is
// suspected to speak of the app.
func TestWholeBatchIsRefused(t *testing.T) {
	for _, c := range []struct {
		vendor  Vendor
		token   string
		number  int
		outcome Outcome
	}{
		{VendorHuawei, "dead-", 10, TokenInvalid},
		{VendorHuawei, "dead-", 11, TokenForeign},
		{VendorXiaomi, "dead-", 3, TokenInvalid}, // each asked by itself
		{VendorXiaomi, "dead-", 1, TokenInvalid},
		{VendorOPPO, "code-10000-", 3, TokenInvalid},
		{VendorVivo, "code-10302-", 12, TokenInvalid},
	} {
		rig := newRig(t, c.vendor, pushtest.Options{}, HTTPConfig{})
		var tokens []string
		for i := range c.number {
			tokens = append(tokens, c.token+strings.Repeat("x", i+1))
		}
		wantOutcomes(t, rig.provider, plainNotification(), tokens, slices.Repeat([]Outcome{c.outcome}, c.number)...)
	}
}

// TestOneUnnamedDeadToken: one dead token that makes a vendor refuse a whole batch costs a few
// calls and nobody else's push; a batch of them costs no more than a bounded number.
func TestOneUnnamedDeadToken(t *testing.T) {
	for vendor, code := range map[Vendor]string{VendorXiaomi: "10029", VendorOPPO: "10000", VendorVivo: "10302"} {
		rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
		var tokens []string
		var want []Outcome
		for i := range 500 {
			tokens, want = append(tokens, "ok-"+strconv.Itoa(i)), append(want, Accepted)
		}
		tokens[333], want[333] = "code-"+code+"-x", TokenInvalid
		got := outcomes(rig.provider.Send(t.Context(), plainNotification(), devices(tokens...)))
		if !slices.Equal(got, want) {
			t.Errorf("%s: not the one dead token but %v", vendor, got)
		}
		if calls := rig.Stats().Calls; calls > 20 {
			t.Errorf("%s: %d calls to find it", vendor, calls)
		}
		if len(rig.Counts()) != 499 {
			t.Errorf("%s: %d devices got the push, want 499", vendor, len(rig.Counts()))
		}

		for i := range tokens {
			tokens[i] = "code-" + code + "-" + strconv.Itoa(i)
		}
		before := rig.Stats().Calls
		dead := 0
		for _, r := range rig.provider.Send(t.Context(), plainNotification(), devices(tokens...)) {
			switch r.Outcome {
			case TokenInvalid:
				dead++
			case Retryable:
			default:
				t.Fatalf("%+v", r)
			}
		}
		if calls := rig.Stats().Calls - before; calls > 1+maxSplits || dead == 0 {
			t.Errorf("%s: %d calls found %d dead tokens, want at most %d calls", vendor, calls, dead, 1+maxSplits)
		}
	}
}

func TestSignatures(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{"oppo", oppoSign("key1", "1700000000000", "master1"), "6438e5ba820077f9bf833090a763da51636f60678256bfc093d9004f4fa52191"},
		{"vivo", vivoSign("10004", "25509283-3767-4b9e-83fe-b6e55ac6243e", "1501484120000", "secret1 "), "b851b41444dc53bfbbd4d1db91d4a4df"},
		{
			"meizu, official", meizuSign("<APP_SECRET>", "appId", "10000",
				"messageJson", `{"title":"title","content":"content","pushTimeInfo":{"offLine":1,"validTime":24}}`,
				"pushIds", "RA50c6348036344485d01776773577c64740465480a6b"), "ac076ff25d9900015a681cb5172aa53b",
		},
		{
			"meizu", meizuSign("sec1", "appId", "10000", "messageJson", `{"noticeBarInfo":{"title":"t","content":"c"}}`, "pushIds", "p1,p2"),
			"84b87480f561e7a50f1bb2b5a8b027a4",
		},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.name, c.got, c.want)
		}
	}
}

func TestMeizuRedirect(t *testing.T) {
	fake, err := pushtest.NewMeizu(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	for path, want := range map[string]Outcome{"/moved": Accepted, "/away": AuthRejected} {
		p, err := NewMeizu(MeizuConfig{
			Name: "meizu", AppID: fake.AppID, AppSecret: NewSecret(fake.AppSecret), URL: fake.URL + path,
			HTTP: HTTPConfig{RootCAs: fake.RootCAs()},
		})
		if err != nil {
			t.Fatal(err)
		}
		wantOutcomes(t, p, plainNotification(), []string{"ok-1"}, want)
		p.Close()
	}
}

// TestVivoStoresABodyOnce: vivo grants a number of stored bodies a day.
func TestVivoStoresABodyOnce(t *testing.T) {
	fake, err := pushtest.NewVivo(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	p, err := NewVivo(VivoConfig{
		Name: "vivo", AppID: fake.AppID, AppKey: NewSecret(fake.AppKey), AppSecret: NewSecret(fake.AppSecret), BaseURL: fake.URL,
		HTTP: HTTPConfig{RootCAs: fake.RootCAs(), Concurrency: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var tokens []string
	for i := range 3001 {
		tokens = append(tokens, "ok-"+strconv.Itoa(i))
	}
	for _, r := range p.Send(t.Context(), plainNotification(), devices(tokens...)) {
		if r.Outcome != Accepted {
			t.Fatalf("%+v", r)
		}
	}
	if got, calls := fake.SavedBodies(), fake.Stats().Calls; got != 1 || calls != 4 {
		t.Errorf("%d bodies were stored for %d calls, want 1 for 4", got, calls)
	}
}

func TestOPPOSites(t *testing.T) {
	for id, china := range map[string]bool{"abc": true, "CN_abc": true, "X_CN_abc": true, "US_abc": false, "X_US_abc": false} {
		if got := oppoInChina(id); got != china {
			t.Errorf("oppoInChina(%q) = %v, want %v", id, got, china)
		}
	}
	home, err := pushtest.NewOPPO(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	abroad, err := pushtest.NewOPPO(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer abroad.Close()
	roots := home.RootCAs() // httptest signs all its servers with one certificate
	p, err := NewOPPO(OPPOConfig{
		Name: "oppo", AppKey: NewSecret(home.AppKey), MasterSecret: NewSecret(home.MasterSecret),
		BaseURL: home.URL, GlobalURL: abroad.URL, HTTP: HTTPConfig{RootCAs: roots},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	wantOutcomes(t, p, plainNotification(), []string{"CN_ok-1", "US_ok-2", "CN_dead-3", "US_dead-4"}, Accepted, Accepted, TokenInvalid, TokenInvalid)
	if home.Count("CN_ok-1") != 1 || abroad.Count("US_ok-2") != 1 || len(home.Counts())+len(abroad.Counts()) != 2 {
		t.Errorf("at home %v, abroad %v", home.Counts(), abroad.Counts())
	}
	if err := p.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
