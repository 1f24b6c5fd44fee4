package push

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rookery-im/rookery/push/pushtest"
)

func TestParseOfflinePushInfo(t *testing.T) {
	for _, raw := range []string{"", "null", " null\n"} {
		if info, err := ParseOfflinePushInfo(json.RawMessage(raw)); info != nil || err != nil {
			t.Errorf("%q: %v, %v; want nothing", raw, info, err)
		}
	}
	info, err := ParseOfflinePushInfo(json.RawMessage(fullInfo))
	if err != nil {
		t.Fatal(err)
	}
	want := &OfflinePushInfo{
		Title: "Team <A>", Desc: "Ann: see you at 7 & bring \"cake\" 🎂", Ext: `{"order":42}`, BadgeAddNum: 2,
		AndroidInfo: AndroidInfo{
			Sound: "shake", PushStyle: 1, HuaWeiChannelID: "hw_chat", HuaWeiImportance: "NORMAL", HuaWeiCategory: "IM",
			HuaWeiImage: "https://img.example.com/h.png", ExtAsHuaweiIntentParam: 1, HonorImportance: "NORMAL",
			HonorImage: "https://img.example.com/o.png", XiaoMiChannelID: "110110", OPPOChannelID: "oppo_chat", OPPOCategory: "IM",
			OPPONotifyLevel: 16, OPPOPrivateMsgTemplateID: "tpl1", OPPOPrivateTitleParameters: json.RawMessage(`{"group": "Team"}`),
			OPPOPrivateContentParameters: json.RawMessage(`{"text": "cake"}`), VIVOClassification: new(1), VIVOCategory: "IM", VIVONotifyType: 2,
			GoogleChannelID: "fcm_chat", GoogleImage: "https://img.example.com/g.png", GooglePriority: "high", MeiZuNoticeMsgType: new(1),
		},
		ApnsInfo: ApnsInfo{
			Sound: "shake.caf", Title: "Team (iOS)", SubTitle: "from Ann", Image: "https://img.example.com/a.png",
			MutableContent: 1, InterruptionLevel: "time-sensitive",
		},
	}
	if !reflect.DeepEqual(info, want) {
		t.Errorf("got %+v, want %+v", info, want)
	}
	// What clients send for fields that nobody filled in.
	empty := `{"PushFlag":0,"Title":"","Desc":"","AndroidInfo":{"OPPONotifyLevel":0,"VIVONotifyType":"","HuaWeiImportance":"","HuaWeiImage":""},"ApnsInfo":{"InterruptionLevel":""}}`
	if _, err := ParseOfflinePushInfo(json.RawMessage(empty)); err != nil {
		t.Errorf("empty fields: %v", err)
	}
}

// TestParseOfflinePushInfoLenient reads what clients send that have no types.
func TestParseOfflinePushInfoLenient(t *testing.T) {
	for raw, want := range map[string]OfflinePushInfo{
		`{"PushFlag":"1","Title":0,"Desc":[],"Ext":null,"BadgeSetNum":"7","AndroidInfo":[],"ApnsInfo":""}`: {PushFlag: 1, BadgeSetNum: new(7)},
		`{"androidinfo":{"OPPONotifyLevel":"16","Sound":0,"VIVOClassification":"","VIVONotifyType":"3","OPPOPrivateTitleParameters":[]},"ApnsInfo":{"BadgeMode":"1"}}`: {
			AndroidInfo: AndroidInfo{OPPONotifyLevel: 16, VIVONotifyType: 3}, ApnsInfo: ApnsInfo{BadgeMode: 1},
		},
		`{"AndroidInfo":{"GoogleImage":"www.example.com"},"ApnsInfo":{"Image":"www.example.com/a.png"}}`: {},
	} {
		info, err := ParseOfflinePushInfo(json.RawMessage(raw))
		if err != nil || !reflect.DeepEqual(info, &want) {
			t.Errorf("%s: %+v, %v; want %+v", raw, info, err, want)
		}
	}
}

func TestParseOfflinePushInfoRefuses(t *testing.T) {
	for raw, field := range map[string]string{
		`{`: "not JSON", `[]`: "object", `"x"`: "object", `7`: "object", `{"Title":7}`: "Title", `{"PushFlag":"one"}`: "PushFlag",
		`{"PushFlag":2}`: "PushFlag", `{"BadgeAddNum":100}`: "BadgeAddNum", `{"BadgeAddNum":-1}`: "BadgeAddNum",
		`{"BadgeSetNum":1000}`: "BadgeSetNum", `{"AndroidInfo":[1]}`: "AndroidInfo", `{"PushFlag":"01"}`: "PushFlag", `{"PushFlag":"2"}`: "PushFlag", `{"ApnsInfo":{"BadgeMode":"-1"}}`: "BadgeMode", `{"AndroidInfo":{"PushStyle":2}}`: "PushStyle",
		`{"AndroidInfo":{"Sound":"a\nb"}}`:                                        "Sound",
		`{"AndroidInfo":{"HuaWeiImportance":"HIGH"}}`:                             "HuaWeiImportance",
		`{"AndroidInfo":{"HonorImportance":"low"}}`:                               "HonorImportance",
		`{"AndroidInfo":{"HuaWeiImage":"http://a/b"}}`:                            "HuaWeiImage",
		`{"AndroidInfo":{"HonorImage":"file:///etc/passwd"}}`:                     "HonorImage",
		`{"AndroidInfo":{"GoogleImage":"https:///x"}}`:                            "GoogleImage",
		`{"AndroidInfo":{"OPPONotifyLevel":3}}`:                                   "OPPONotifyLevel",
		`{"AndroidInfo":{"OPPOPrivateTitleParameters":"x"}}`:                      "OPPOPrivateTitleParameters",
		`{"AndroidInfo":{"VIVOClassification":2}}`:                                "VIVOClassification",
		`{"AndroidInfo":{"VIVONotifyType":"loud"}}`:                               "VIVONotifyType",
		`{"AndroidInfo":{"VIVONotifyType":5}}`:                                    "VIVONotifyType",
		`{"AndroidInfo":{"GooglePriority":"max"}}`:                                "GooglePriority",
		`{"AndroidInfo":{"MeiZuNoticeMsgType":2}}`:                                "MeiZuNoticeMsgType",
		`{"AndroidInfo":{"ExtAsHuaweiIntentParam":2}}`:                            "ExtAsHuaweiIntentParam",
		`{"AndroidInfo":{"XiaoMiChannelID":"` + strings.Repeat("x", 1025) + `"}}`: "XiaoMiChannelID",
		`{"ApnsInfo":{"BadgeMode":2}}`:                                            "BadgeMode",
		`{"ApnsInfo":{"InterruptionLevel":"loud"}}`:                               "InterruptionLevel",
		`{"ApnsInfo":{"Image":"javascript:x"}}`:                                   "Image",
		`{"ApnsInfo":{"ContentAvailable":true}}`:                                  "ContentAvailable",
		`{"Ext":"` + strings.Repeat("x", MaxInfoBytes) + `"}`:                     "bytes",
	} {
		info, err := ParseOfflinePushInfo(json.RawMessage(raw))
		if info != nil || !errors.Is(err, ErrBadInfo) || !strings.Contains(err.Error(), field) {
			t.Errorf("%.80s: %v, %v; want an error that names %s", raw, info, err, field)
		}
	}
}

func TestCompose(t *testing.T) {
	text := func(s string) []Element { return []Element{{Kind: ElementText, Text: s}} }
	all := []Element{
		{Kind: ElementText, Text: "a"},
		{Kind: ElementLocation},
		{Kind: ElementFace},
		{Kind: ElementImage},
		{Kind: ElementSound},
		{Kind: ElementFile},
		{Kind: ElementVideo},
		{Kind: ElementCustom, Text: "b"},
		{},
	}
	custom := []Element{{Kind: ElementCustom, Text: "offer", Ext: "e", Sound: "s"}}
	group := func(m Message) Message { m.Group, m.GroupName, m.From = "g1", "Team", "ann"; return m }
	for _, c := range []struct {
		name        string
		texts       Texts
		m           Message
		title, text string
		ext, sound  string
		no          bool
	}{
		{name: "group", m: group(Message{Elements: text("hi"), FromNick: "Ann"}), title: "Team", text: "Ann: hi"},
		{name: "no nick", m: group(Message{Elements: text("hi")}), title: "Team", text: "hi"},
		{name: "no group name", m: Message{Elements: text("hi"), Group: "g1", From: "ann"}, title: "g1", text: "hi"},
		{name: "one-to-one", m: Message{Elements: text("hi"), From: "ann", FromNick: "Ann"}, title: "Ann", text: "hi"},
		{name: "one-to-one, no nick", m: Message{Elements: text("hi"), From: "ann"}, title: "ann", text: "hi"},
		{name: "all elements", m: Message{Elements: all, From: "ann"}, title: "ann", text: "a[Location][Face][Image][Voice][File][Video]b"},
		{name: "own words", texts: Texts{Face: "☺", SingleText: "<{text}>", SingleTitle: "{from}!"}, m: Message{Elements: all[1:3], From: "ann"}, title: "ann!", text: "<[Location]☺>"},
		{name: "templates don't nest", m: group(Message{Elements: text("{group} {nick}"), FromNick: "{text}"}), title: "Team", text: "{text}: {group} {nick}"},
		{name: "Title and Desc", m: group(Message{Elements: text("hi"), Info: &OfflinePushInfo{Title: "T", Desc: "D", Ext: "E"}}), title: "T", text: "D", ext: "E"},
		{name: "Desc", m: group(Message{Elements: text("hi"), Info: &OfflinePushInfo{Desc: "D"}}), title: "Team", text: "D"},
		{name: "custom", m: Message{Elements: custom, From: "ann"}, title: "ann", text: "offer", ext: "e", sound: "s"},
		{name: "custom with info", m: Message{Elements: custom, From: "ann", Info: &OfflinePushInfo{}}, title: "ann", text: "offer"},
		{name: "custom, nothing to show", m: group(Message{Elements: []Element{{Kind: ElementCustom}}, FromNick: "Ann"}), no: true},
		{name: "custom, Desc of info", m: group(Message{Elements: []Element{{Kind: ElementCustom}}, Info: &OfflinePushInfo{Desc: "D"}}), title: "Team", text: "D"},
		{name: "PushFlag", m: group(Message{Elements: text("hi"), Info: &OfflinePushInfo{PushFlag: 1, Desc: "D"}}), no: true},
		{name: "custom, nothing to show, silent", m: group(Message{Elements: []Element{{Kind: ElementCustom}}, Info: &OfflinePushInfo{ApnsInfo: ApnsInfo{ContentAvailable: 1}}}), no: true},
		{name: "silent", m: Message{From: "ann", Info: &OfflinePushInfo{ApnsInfo: ApnsInfo{ContentAvailable: 1}}}, title: "ann"},
	} {
		n, ok := c.texts.Compose(c.m)
		if ok == c.no {
			t.Errorf("%s: push = %v, want %v", c.name, ok, !c.no)
			continue
		}
		if ok && (n.Title != c.title || n.Text != c.text || n.Ext != c.ext || n.Sound != c.sound) {
			t.Errorf("%s: %q, %q, ext %q, sound %q; want %q, %q, %q, %q", c.name, n.Title, n.Text, n.Ext, n.Sound, c.title, c.text, c.ext, c.sound)
		}
	}
	n, _ := Texts{}.Compose(Message{Elements: slices.Repeat(text("好 "), 9999), From: "ann", Seq: 3, Group: "g", ID: "m", CollapseKey: "k", TimeToLive: time.Hour})
	if len(n.Text) > maxComposed || !utf8.ValidString(n.Text) || n.Seq != 3 || n.Group != "g" || n.MessageID != "m" || n.CollapseKey != "k" || n.TimeToLive != time.Hour || n.From != "ann" {
		t.Errorf("a huge message gives %d bytes and %+v", len(n.Text), n)
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		s, want string
		limit   int
	}{{"hello", "hello", 5}, {"hello", "hel…", 4}, {"好好好", "好…", 2}, {"好好好", "好好好", 3}, {"abc", "…", 1}, {"abc", "", 0}, {"", "", 0}} {
		if got := cutRunes(c.s, c.limit); got != c.want {
			t.Errorf("cutRunes(%q, %d) = %q, want %q", c.s, c.limit, got, c.want)
		}
	}
	for limit := range 12 {
		got := cutBytes("a好好b", limit)
		if len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("cutBytes to %d = %q", limit, got)
		}
	}
}

// TestSounds: a custom element's sound is a file of the iOS app; AndroidInfo.Sound may be a path.
func TestSounds(t *testing.T) {
	for _, vendor := range []Vendor{VendorAPNs, VendorFCM, VendorHuawei, VendorXiaomi} {
		rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
		body := func(n *Notification) string {
			t.Helper()
			p, err := rig.provider.Preview(n, Device{Token: NewToken("t")})
			if err != nil {
				t.Fatal(err)
			}
			return p.Body
		}
		n := plainNotification()
		n.Sound = "chime.caf"
		if got, want := strings.Contains(body(n), "chime"), vendor == VendorAPNs; got != want {
			t.Errorf("%s: the custom element's sound is named: %v, want %v", vendor, got, want)
		}
		for _, sound := range []string{"shake", "/res/raw/shake.mp3"} {
			n.Info = &OfflinePushInfo{AndroidInfo: AndroidInfo{Sound: sound}}
			want := map[Vendor]string{VendorFCM: `"sound":"shake"`, VendorHuawei: `"sound":"/raw/shake"`, VendorXiaomi: "com.example.app/raw/shake\n"}[vendor]
			if got := body(n); !strings.Contains(got, want) {
				t.Errorf("%s: %s gives %s, want %s", vendor, sound, got, want)
			}
		}
	}
}

func TestReplaceKeys(t *testing.T) {
	a, b := plainNotification(), plainNotification()
	b.MessageID = "msg-8"
	if a.replaceID() == b.replaceID() || a.replaceKey() != "msg-7" {
		t.Error("two messages would replace each other")
	}
	a.CollapseKey, b.CollapseKey = "g", "g"
	if a.replaceID() != b.replaceID() || a.collapseSlot() != b.collapseSlot() {
		t.Error("a collapsed group's messages don't replace each other")
	}
	for i := range 1000 {
		n := Notification{MessageID: strings.Repeat("x", i), CollapseKey: strings.Repeat("y", i)}
		if id, slot := n.replaceID(), n.collapseSlot(); id < 1 || slot < 1 || slot > 100 {
			t.Fatalf("ID %d, slot %d", id, slot)
		}
		if h := hashText(n.MessageID, 8); len(h) != 8 {
			t.Fatalf("hash %q", h)
		}
	}
}

func TestTimeToLiveStaysInBounds(t *testing.T) {
	for _, c := range []struct{ in, want time.Duration }{{0, time.Hour}, {time.Second, time.Minute}, {2 * time.Hour, 2 * time.Hour}, {99 * time.Hour, 3 * time.Hour}} {
		n := Notification{TimeToLive: c.in}
		if got := n.timeToLive(time.Hour, time.Minute, 3*time.Hour); got != c.want {
			t.Errorf("%v becomes %v, want %v", c.in, got, c.want)
		}
	}
}
