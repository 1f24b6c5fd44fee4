package push

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rookery-im/rookery/push/pushtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a provider and the fake it talks to.
type rig struct {
	*pushtest.Server
	provider Provider
	// again makes another provider for the same fake, with the credentials changed or not.
	again func(good bool) Provider
	// oauth: the vendor lends access tokens.
	oauth bool
	// expire makes access tokens stale.
	expire func()
	// receipt is what the vendor would report of a push, for vendors that do.
	receipt func(token, what string) (*pushtest.Receipt, error)
}

var vendors = []Vendor{
	VendorAPNs, VendorFCM, VendorHuawei, "huawei-v3", VendorHonor, VendorXiaomi, VendorOPPO, VendorVivo, VendorMeizu,
}

// newRig starts the vendor's fake and a provider with every default set. h changes the HTTP
// settings, and receipts, if given, asks for receipts.
func newRig(t testing.TB, vendor Vendor, o pushtest.Options, h HTTPConfig, receipts ...ReceiptConfig) *rig {
	t.Helper()
	r := &rig{}
	rc := cmp.Or(receipts...)
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	secret := func(good bool, s string) Secret {
		if !good {
			s = "wrong-" + s
		}
		return NewSecret(s)
	}
	var err error
	switch vendor {
	case VendorAPNs:
		fake, err := pushtest.NewAPNs(o)
		must(err)
		r.Server, r.expire = fake.Server, fake.ExpireTokens
		h.RootCAs = fake.RootCAs()
		r.again = func(good bool) Provider {
			team := fake.TeamID
			if !good {
				team = "OTHERTEAM1"
			}
			p, err := NewAPNs(APNsConfig{
				Name: "ios", BundleID: fake.BundleID, BaseURL: fake.URL, Key: NewSecret(fake.Key),
				KeyID: fake.KeyID, TeamID: team, Category: "IM", HTTP: h,
			})
			must(err)
			return p
		}
	case VendorFCM:
		fake, err := pushtest.NewFCM(o)
		must(err)
		r.Server, r.expire, r.oauth = fake.Server, fake.ExpireTokens, true
		h.RootCAs = fake.RootCAs()
		r.again = func(good bool) Provider {
			account := fake.ServiceAccount
			if !good {
				account = strings.Replace(account, "push@example", "other@example", 1)
			}
			p, err := NewFCM(FCMConfig{
				Name: "google", ServiceAccount: NewSecret(account), BaseURL: fake.URL,
				Package: "com.example.app", ChannelID: "im", HTTP: h,
			})
			must(err)
			return p
		}
	case VendorHuawei, "huawei-v3":
		fake, err := pushtest.NewHuawei(o)
		must(err)
		r.Server, r.expire, r.oauth = fake.Server, fake.ExpireTokens, vendor == VendorHuawei
		r.receipt = fake.Receipt
		fake.Console = pushtest.Console{URL: "https://im.example.com/push/receipts/console", User: rc.CallbackUser, Key: rc.CallbackKey.Reveal()}
		h.RootCAs = fake.RootCAs()
		r.again = func(good bool) Provider {
			c := HuaweiConfig{
				Name: "huawei", AppID: fake.AppID, AppSecret: secret(good, fake.AppSecret), BaseURL: fake.URL, TokenURL: fake.TokenURL,
				ChannelID: "im", Category: "IM", LauncherClass: "com.example.app.Main", Receipts: rc, HTTP: h,
				Intent: "intent://com.example.app/chat?#Intent;scheme=pushscheme;launchFlags=0x04000000;end",
			}
			if vendor != VendorHuawei {
				c.API, c.KeyFile = "v3", NewSecret(fake.KeyFile)
				if !good {
					c.KeyFile = NewSecret(strings.Replace(fake.KeyFile, "sub-1", "sub-2", 1))
				}
			}
			p, err := NewHuawei(c)
			must(err)
			return p
		}
	case VendorHonor:
		fake, err := pushtest.NewHonor(o)
		must(err)
		r.Server, r.expire, r.oauth = fake.Server, fake.ExpireTokens, true
		r.receipt = fake.Receipt
		fake.Console = pushtest.Console{URL: "https://im.example.com/push/receipts/console", User: rc.CallbackUser, Key: rc.CallbackKey.Reveal()}
		h.RootCAs = fake.RootCAs()
		r.again = func(good bool) Provider {
			p, err := NewHonor(HonorConfig{
				Name: "honor", AppID: fake.AppID, ClientID: fake.ClientID, ClientSecret: secret(good, fake.ClientSecret),
				BaseURL: fake.URL, TokenURL: fake.TokenURL, LauncherClass: "com.example.app.Main", Receipts: rc, HTTP: h,
			})
			must(err)
			return p
		}
	case VendorXiaomi:
		fake, err := pushtest.NewXiaomi(o)
		must(err)
		r.Server = fake.Server
		r.receipt = fake.Receipt
		h.RootCAs = fake.RootCAs()
		r.again = func(good bool) Provider {
			p, err := NewXiaomi(XiaomiConfig{
				Name: "xiaomi", AppSecret: secret(good, fake.AppSecret), Package: fake.Package, BaseURL: fake.URL, ChannelID: "100001", Receipts: rc, HTTP: h,
			})
			must(err)
			return p
		}
	case VendorOPPO:
		fake, err := pushtest.NewOPPO(o)
		must(err)
		r.Server, r.expire, r.oauth = fake.Server, fake.ExpireTokens, true
		r.receipt = fake.Receipt
		h.RootCAs = fake.RootCAs()
		r.again = func(good bool) Provider {
			p, err := NewOPPO(OPPOConfig{
				Name: "oppo", AppKey: NewSecret(fake.AppKey), MasterSecret: secret(good, fake.MasterSecret),
				BaseURL: fake.URL, GlobalURL: fake.URL, ChannelID: "im", Category: "IM", NotifyLevel: 2, Receipts: rc, HTTP: h,
			})
			must(err)
			return p
		}
	case VendorVivo:
		fake, err := pushtest.NewVivo(o)
		must(err)
		r.Server, r.expire, r.oauth = fake.Server, fake.ExpireTokens, true
		r.receipt = fake.Receipt
		h.RootCAs = fake.RootCAs()
		r.again = func(good bool) Provider {
			p, err := NewVivo(VivoConfig{
				Name: "vivo", AppID: fake.AppID, AppKey: NewSecret(fake.AppKey), AppSecret: secret(good, fake.AppSecret),
				BaseURL: fake.URL, Category: "IM", Receipts: rc, HTTP: h,
			})
			must(err)
			return p
		}
	case VendorMeizu:
		fake, err := pushtest.NewMeizu(o)
		must(err)
		r.Server = fake.Server
		r.receipt = fake.Receipt
		h.RootCAs = fake.RootCAs()
		r.again = func(good bool) Provider {
			p, err := NewMeizu(MeizuConfig{Name: "meizu", AppID: fake.AppID, AppSecret: secret(good, fake.AppSecret), URL: fake.PushURL, Receipts: rc, HTTP: h})
			must(err)
			return p
		}
	default:
		t.Fatalf("no rig for %s", vendor)
	}
	must(err)
	t.Cleanup(r.Close)
	r.provider = r.again(true)
	t.Cleanup(r.provider.Close)
	return r
}

// fullInfo sets every field of an OfflinePushInfo.
const fullInfo = `{
 "PushFlag":0,"Title":"Team <A>","Desc":"Ann: see you at 7 & bring \"cake\" 🎂","Ext":"{\"order\":42}",
 "BadgeAddNum":2,
 "AndroidInfo":{"Sound":"shake","PushStyle":1,"HuaWeiChannelID":"hw_chat","HuaWeiImportance":"NORMAL","HuaWeiCategory":"IM",
  "HuaWeiImage":"https://img.example.com/h.png","ExtAsHuaweiIntentParam":1,"HonorImportance":"NORMAL",
  "HonorImage":"https://img.example.com/o.png","XiaoMiChannelID":"110110","OPPOChannelID":"oppo_chat","OPPOCategory":"IM",
  "OPPONotifyLevel":16,"OPPOPrivateMsgTemplateId":"tpl1","OPPOPrivateTitleParameters":{"group": "Team"},
  "OPPOPrivateContentParameters":{"text": "cake"},"VIVOClassification":1,"VIVOCategory":"IM","VIVONotifyType":"2",
  "GoogleChannelID":"fcm_chat","GoogleImage":"https://img.example.com/g.png","GooglePriority":"high","MeiZuNoticeMsgType":1},
 "ApnsInfo":{"Sound":"shake.caf","BadgeMode":0,"Title":"Team (iOS)","SubTitle":"from Ann","Image":"https://img.example.com/a.png",
  "MutableContent":1,"InterruptionLevel":"time-sensitive","ContentAvailable":0,"IsVoipPush":0},
 "Future":{"x":1}}`

func fullNotification(t testing.TB) *Notification {
	t.Helper()
	info, err := ParseOfflinePushInfo(json.RawMessage(fullInfo))
	if err != nil {
		t.Fatal(err)
	}
	n, ok := Texts{}.Compose(Message{
		Elements: []Element{{Kind: ElementText, Text: "see you"}}, Info: info,
		Group: "@TGS#1", GroupName: "Team", From: "ann", FromNick: "Ann", Seq: 42, ID: "msg-0001", TimeToLive: 6 * time.Hour,
	})
	if !ok {
		t.Fatal("Compose = false")
	}
	return n
}

func plainNotification() *Notification {
	return &Notification{Title: "Team", Text: "Ann: hi", Group: "@TGS#1", Seq: 7, MessageID: "msg-7", From: "ann"}
}

func devices(tokens ...string) []Device {
	list := make([]Device, len(tokens))
	for i, t := range tokens {
		list[i].Token = NewToken(t)
	}
	return list
}

func outcomes(results []Result) []Outcome {
	list := make([]Outcome, len(results))
	for i, r := range results {
		list[i] = r.Outcome
	}
	return list
}

// wantOutcomes sends to the tokens and compares.
func wantOutcomes(t *testing.T, p Provider, n *Notification, tokens []string, want ...Outcome) []Result {
	t.Helper()
	got := p.Send(t.Context(), n, devices(tokens...))
	if !slices.Equal(outcomes(got), want) {
		t.Errorf("%s: Send(%v) = %v, want %v", p.Vendor(), tokens, outcomes(got), want)
		for _, r := range got {
			t.Logf("  %+v", r)
		}
	}
	return got
}

func wantNoViolations(t *testing.T, s *pushtest.Server) {
	t.Helper()
	if v := s.Violations(); len(v) > 0 {
		t.Errorf("the vendor would have refused: %q", v)
	}
}
