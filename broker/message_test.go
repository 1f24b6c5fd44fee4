package broker

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

func TestAppendMessage(t *testing.T) {
	body := json.RawMessage(`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`)
	for name, c := range map[string]struct {
		m    group.Message
		want string
	}{
		"full": {
			group.Message{
				Group: "g1", Seq: 42, Time: 1669000000, From: "alice", Random: 7, HasRandom: true, Priority: group.Normal, Body: body,
				CloudCustomData: "a\"b", Mentions: []group.Mention{{All: true}, {Account: "bob"}}, Flags: group.NeedReceipt | group.NoUnread | group.NoLastMsg,
				Sender: group.Sender{
					Nick: "Alice", FaceURL: "u", NameCard: "n", Role: "Member",
					UserCustom: []group.Field{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}, MemberCustom: []group.Field{{Key: "c", Value: "3"}},
				},
			},
			`{"Event":"Message","GroupId":"g1","MsgSeq":42,"MsgTime":1669000000,"From_Account":"alice","MsgPriority":"Normal","Random":7,` +
				`"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}],"CloudCustomData":"a\"b",` +
				`"GroupAtInfo":[{"GroupAtAllFlag":1},{"GroupAtAllFlag":0,"GroupAt_Account":"bob"}],"NeedReadReceipt":1,"SendMsgControl":["NoUnread","NoLastMsg"],` +
				`"Sender":{"Nick":"Alice","FaceUrl":"u","NameCard":"n","Role":"Member","UserCustom":{"a":"1","b":"2"},"MemberCustom":{"c":"3"}}}`,
		},
		"bare": {
			group.Message{Group: "g1", Time: 1, From: "alice", Body: body, Flags: group.OnlineOnly},
			`{"Event":"Message","GroupId":"g1","MsgTime":1,"From_Account":"alice","MsgPriority":"Normal","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}],"OnlineOnlyFlag":1}`,
		},
		"tip": {
			group.Message{Group: "g1", Seq: 1, Time: 1, From: group.SystemAccount, Body: body, Flags: group.System | group.NoUnread, Priority: group.High},
			`{"Event":"Tip","GroupId":"g1","MsgSeq":1,"MsgTime":1,"From_Account":"@TIM#SYSTEM","MsgPriority":"High","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`,
		},
	} {
		if got := string(appendMessage(nil, &c.m)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func TestEncodeEvent(t *testing.T) {
	for _, c := range []struct {
		id   group.ID
		body any
		want string
	}{
		{"", nil, `{"Event":"X"}`},
		{"g1", nil, `{"Event":"X","GroupId":"g1"}`},
		{"g1", map[string]any{"a": 1}, `{"Event":"X","GroupId":"g1","a":1}`},
		{"", struct{ B []int }{[]int{1}}, `{"Event":"X","B":[1]}`},
		{"g1", json.RawMessage(`{"GroupId":"g1"}`), `{"Event":"X","GroupId":"g1"}`},
		{"", make(chan int), `{"Event":"X"}`},
	} {
		if got := string(encodeEvent("X", c.id, c.body)); got != c.want {
			t.Errorf("encodeEvent(%q, %v) = %s, want %s", c.id, c.body, got, c.want)
		}
	}
}

func FuzzAppendJSONString(f *testing.F) {
	for _, s := range []string{"", "a\"b\\c", "\x00\x1f\n\r\t", "é\xff\u2028", "\U0001F600", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		out := appendJSONString(nil, s)
		if err := json.Unmarshal(out, &got); err != nil || got != strings.ToValidUTF8(s, "\uFFFD") && got != reencoded(t, s) {
			t.Errorf("appendJSONString(%q) = %s, which reads as %q, %v", s, out, got, err)
		}
	})
}

// reencoded is what encoding/json makes of s: each bad byte becomes one U+FFFD.
func reencoded(t *testing.T, s string) (out string) {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReadPayload(t *testing.T) {
	text := func(s string) string { return string(group.TextBody(s)) }
	full := `{"MsgBody": [{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`
	for _, c := range []struct {
		name, payload, body string
		props               map[string]string
		check               func(*hooks.Draft) bool
		code                int
	}{
		{name: "text", payload: "hello", body: text("hello")},
		{name: "empty", payload: "", body: text("")},
		{name: "a number is text", payload: "42", body: text("42")},
		{name: "an object without MsgBody is text", payload: `{"a":1}`, body: text(`{"a":1}`)},
		{name: "MsgBody deeper is text", payload: `{"a":{"MsgBody":[]}}`, body: text(`{"a":{"MsgBody":[]}}`)},
		{name: "a value called MsgBody is text", payload: `{"a":"MsgBody"}`, body: text(`{"a":"MsgBody"}`)},
		{name: "null", payload: `{"MsgBody":null}`, code: group.CodeBadParameter},
		{name: "null, in another case", payload: ` {"X":1,"msgbody":null}`, code: group.CodeBadParameter},
		{name: "nested too deep", payload: `{"MsgBody":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`, code: group.CodeBadParameter},
		{name: "in another case", payload: `{"msgBODY":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}`, body: `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`},
		{name: "an entry that mentions nobody", payload: full + `,"GroupAtInfo":[{}]}`, code: group.CodeBadParameter},
		{name: "broken JSON is text", payload: `{"MsgBody":[`, body: text(`{"MsgBody":[`)},
		{name: "an array is text", payload: `["MsgBody"]`, body: text(`["MsgBody"]`)},
		{name: "bytes", payload: "\xff\x00\x01", body: string(group.CustomBody("/wAB", "base64"))},
		{name: "full", payload: full + `}`, body: `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`},
		{
			name:    "full with everything",
			payload: full + `,"Random":7,"MsgPriority":"High","CloudCustomData":"c","OnlineOnlyFlag":1,"NeedReadReceipt":1,"To_Account":["bob"],"GroupAtInfo":[{"GroupAtAllFlag":1},{"GroupAt_Account":"bob"}],"OfflinePushInfo":{"Title":"t"},"From_Account":"eve"}`,
			body:    `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`,
			check: func(d *hooks.Draft) bool {
				return d.Random == 7 && d.HasRandom && d.Priority == group.High && d.CloudCustomData == "c" && d.From == "" &&
					d.Flags == group.OnlineOnly|group.NeedReceipt && len(d.To) == 1 && d.To[0] == "bob" && len(d.Mentions) == 2 && d.Mentions[0].All &&
					d.Mentions[1].Account == "bob" && string(d.OfflinePush) == `{"Title":"t"}`
			},
		},
		{name: "Random 0 counts", payload: full + `,"Random":0}`, body: `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`, check: func(d *hooks.Draft) bool { return d.HasRandom && d.Random == 0 }},
		{name: "Random of another type", payload: full + `,"Random":{}}`, code: group.CodeBadParameter},
		{name: "Random too large", payload: full + `,"Random":4294967296}`, code: group.CodeBadParameter},
		{name: "MsgBody of another type", payload: `{"MsgBody":"hi"}`, code: group.CodeBadParameter},
		{name: "unknown priority", payload: full + `,"MsgPriority":"Urgent"}`, code: group.CodeBadParameter},
		{
			name: "properties", payload: "hi", body: text("hi"), props: map[string]string{"MsgPriority": "Low", "Random": "9"},
			check: func(d *hooks.Draft) bool { return d.Priority == group.Low && d.Random == 9 && d.HasRandom },
		},
		{name: "bad property Random", payload: "hi", props: map[string]string{"Random": "x"}, code: group.CodeBadParameter},
		{name: "bad property MsgPriority", payload: "hi", props: map[string]string{"MsgPriority": "x"}, code: group.CodeBadParameter},
		{name: "properties do not count beside the full form", payload: full + `}`, body: `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`, props: map[string]string{"Random": "9"}, check: func(d *hooks.Draft) bool { return !d.HasRandom }},
	} {
		var d hooks.Draft
		err := readPayload(&d, []byte(c.payload), func(key string) string { return c.props[key] })
		switch {
		case c.code != 0:
			if err == nil || err.Code != c.code {
				t.Errorf("%s: %v, want code %d", c.name, err, c.code)
			}
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		case string(d.Body) != c.body || c.check != nil && !c.check(&d):
			t.Errorf("%s: draft %+v with body %s, want body %s", c.name, d, d.Body, c.body)
		}
	}
}

func FuzzReadPayload(f *testing.F) {
	f.Add([]byte(`{"MsgBody":[],"Random":7}`))
	f.Add([]byte("hi"))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, payload []byte) {
		var d hooks.Draft
		if err := readPayload(&d, payload, nil); err == nil && !json.Valid(d.Body) {
			t.Errorf("payload %q makes the body %s", payload, d.Body)
		}
	})
}
