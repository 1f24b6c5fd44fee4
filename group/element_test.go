package group

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestParseBodyAccepts(t *testing.T) {
	tests := map[string]struct{ in, want, push string }{
		"text":             {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`, "", "hi"},
		"empty text":       {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":""}}]`, "", ""},
		"escapes":          {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"a\n\"\u00e9😀\ud83d\ude00\/"}}]`, "", "a\n\"é😀😀/"},
		"white space":      {" [ {\n\"MsgType\" : \"TIMTextElem\" ,\t\"MsgContent\":{ \"Text\" : \" a b \" } } ]\r\n", `[{"MsgType":"TIMTextElem","MsgContent":{"Text":" a b "}}]`, " a b "},
		"content first":    {`[{"MsgContent":{"Text":"hi"},"X":1,"MsgType":"TIMTextElem"}]`, `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"},"X":1}]`, "hi"},
		"unknown kept":     {`[{"MsgType":"TIMTextElem","Y":[1,{"z":null}],"MsgContent":{"Text":"hi","X":{"a":[ ]},"N":null}}]`, `[{"MsgType":"TIMTextElem","Y":[1,{"z":null}],"MsgContent":{"Text":"hi","X":{"a":[]},"N":null}}]`, "hi"},
		"case":             {`[{"msgtype":"TIMTextElem","MSGCONTENT":{"text":"hi"}}]`, `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`, "hi"},
		"escaped names":    {`[{"\u004dsgType":"\u0054IMTextElem","MsgContent":{"T\u0065xt":"hi"}}]`, `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`, "hi"},
		"unknown escape":   {`[{"MsgType":"TIMTextElem","MsgContent":{"\u0058":1,"Text":"hi"}}]`, "", "hi"},
		"half surrogate":   {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"a\ud83db\udc00"}}]`, `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"a\ufffdb\ufffd"}}]`, "a\ufffdb\ufffd"},
		"face":             {`[{"MsgType":"TIMFaceElem","MsgContent":{"Index":-6,"Data":"x"}}]`, "", "[Face]"},
		"location":         {`[{"MsgType":"TIMLocationElem","MsgContent":{"Desc":"d","Latitude":29.340656774469956,"Longitude":-1.2e2}}]`, "", "[Location]"},
		"custom":           {`[{"MsgType":"TIMCustomElem","MsgContent":{"Data":"d","Desc":"shown","Ext":"e","Sound":"s"}}]`, "", "shown"},
		"php custom":       {`[{"MsgType":"TIMCustomElem","MsgContent":[]}]`, `[{"MsgType":"TIMCustomElem","MsgContent":{}}]`, ""},
		"sound":            {`[{"MsgType":"TIMSoundElem","MsgContent":{"Url":"u","UUID":"i","Size":62351,"Second":1,"Download_Flag":2}}]`, "", "[audio]"},
		"sound without id": {`[{"MsgType":"TIMSoundElem","MsgContent":{"Url":"u","Size":62351,"Second":1,"Download_Flag":2}}]`, "", "[audio]"},
		"old sound":        {`[{"MsgType":"TIMSoundElem","MsgContent":{"UUID":"i","Size":62351,"Second":1}}]`, "", "[audio]"},
		"image":            {`[{"MsgType":"TIMImageElem","MsgContent":{"UUID":"i","ImageFormat":255,"ImageInfoArray":[{"Type":1,"Size":1,"Width":2,"Height":3,"URL":"u"},{"Type":2},{"Type":3}]}}]`, "", "[image]"},
		"file":             {`[{"MsgType":"TIMFileElem","MsgContent":{"Url":"u","UUID":"i","FileSize":104857600,"FileName":"n","Download_Flag":2}}]`, "", "[file]"},
		"file name":        {`[{"MsgType":"TIMFileElem","MsgContent":{"fileName":"n"}}]`, `[{"MsgType":"TIMFileElem","MsgContent":{"FileName":"n"}}]`, "[file]"},
		"video":            {`[{"MsgType":"TIMVideoFileElem","MsgContent":{"VideoUrl":"u","VideoSize":104857600,"VideoSecond":0,"VideoFormat":"mp4","ThumbSize":1,"X":true}}]`, "", "[video]"},
		"numbers":          {`[{"MsgType":"TIMFileElem","MsgContent":{"FileSize":"12","Download_Flag":2.0,"Url":null,"UUID":[],"FileName":0}}]`, `[{"MsgType":"TIMFileElem","MsgContent":{"FileSize":12,"Download_Flag":2}}]`, "[file]"},
		"number zeroes":    {`[{"MsgType":"TIMFileElem","MsgContent":{"FileSize":"","Download_Flag":0,"Url":"u"}}]`, `[{"MsgType":"TIMFileElem","MsgContent":{"Download_Flag":0,"Url":"u"}}]`, "[file]"},
		"relay":            {`[{"MsgType":"TIMRelayElem","MsgContent":{"Title":"t","MsgNum":300,"AbstractList":["a","b"],"MsgList":[{"MsgBody":[{"MsgType":"TIMGroupTipElem"}]}]}}]`, "", "t"},
		"several":          {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"a"}},{"MsgType":"TIMFaceElem","MsgContent":{}},{"MsgType":"TIMCustomElem","MsgContent":{"Desc":"c"}},{"MsgType":"TIMTextElem","MsgContent":{"Text":"b"}}]`, "", "a[Face]cb"},
		"deepest":          {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"","X":` + nested(MaxBodyDepth-3) + `}}]`, "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			body, err := ParseBody(json.RawMessage(test.in), 0)
			if err != nil {
				t.Fatalf("ParseBody(%s): %v", test.in, err)
			}
			want := test.want
			if want == "" {
				want = test.in
			}
			if string(body.Raw) != want {
				t.Errorf("ParseBody(%s)\n got %s\nwant %s", test.in, body.Raw, want)
			}
			if got := body.PushText(); got != test.push {
				t.Errorf("PushText = %q, want %q", got, test.push)
			}
		})
	}
}

func TestParseBodyRefuses(t *testing.T) {
	element := func(typ, content string) string { return `[{"MsgType":"` + typ + `","MsgContent":` + content + `}]` }
	tests := map[string]struct {
		in   string
		code int
	}{
		"nothing":            {``, CodeBadJSON},
		"cut":                {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}`, CodeBadJSON},
		"more after it":      {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]1`, CodeBadJSON},
		"comma at the end":   {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}},]`, CodeBadJSON},
		"comma in object":    {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi",}}]`, CodeBadJSON},
		"no UTF-8":           {element("TIMTextElem", "{\"Text\":\"\xff\"}"), CodeBadJSON},
		"surrogate in UTF-8": {element("TIMTextElem", "{\"Text\":\"\xed\xa0\x80\"}"), CodeBadJSON},
		"raw control":        {element("TIMTextElem", "{\"Text\":\"\n\"}"), CodeBadJSON},
		"bad escape":         {element("TIMTextElem", `{"Text":"\x"}`), CodeBadJSON},
		"bad number":         {element("TIMTextElem", `{"Text":"","X":01}`), CodeBadJSON},
		"bad word":           {element("TIMTextElem", `{"Text":"","X":tru}`), CodeBadJSON},
		"too deep":           {element("TIMTextElem", `{"Text":"","X":`+nested(MaxBodyDepth-2)+`}`), CodeBadJSON},
		"too deep, no array": {nested(MaxBodyDepth + 1), CodeBadJSON},
		"object":             {`{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}`, CodeBadParameter},
		"string":             {`"hi"`, CodeBadParameter},
		"empty":              {`[]`, CodeBadParameter},
		"element no object":  {`["hi"]`, CodeBadParameter},
		"empty element":      {`[{}]`, CodeBadParameter},
		"no type":            {`[{"MsgContent":{"Text":"hi"}}]`, CodeBadParameter},
		"no content":         {`[{"MsgType":"TIMTextElem"}]`, CodeBadParameter},
		"null content":       {element("TIMTextElem", `null`), CodeBadParameter},
		"type no string":     {`[{"MsgType":1,"MsgContent":{}}]`, CodeBadParameter},
		"unknown type":       {element("TIMtextElem", `{"Text":"hi"}`), CodeBadParameter},
		"tip":                {element("TIMGroupTipElem", `{}`), CodeBadParameter},
		"notice":             {element("TIMGroupSystemNoticeElem", `{}`), CodeBadParameter},
		"escaped tip":        {`[{"MsgContent":{},"\u004dsgType":"TIM\u0047roupTipElem"}]`, CodeBadParameter},
		"two types":          {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":""},"MsgType":"TIMGroupTipElem"}]`, CodeBadParameter},
		"two types, folded":  {`[{"X":1,"MsgType":"TIMTextElem","MsgContent":{"Text":""},"M\u017fgType":"TIMGroupTipElem"}]`, CodeBadParameter},
		"two contents":       {`[{"MsgType":"TIMTextElem","MsgContent":{"Text":""},"msgContent":{"Text":""}}]`, CodeBadParameter},
		"two texts":          {element("TIMTextElem", `{"Text":"a","text":"b"}`), CodeBadParameter},
		"no text":            {element("TIMTextElem", `{}`), CodeBadParameter},
		"null text":          {element("TIMTextElem", `{"Text":null}`), CodeBadParameter},
		"text a number":      {element("TIMTextElem", `{"Text":5}`), CodeBadParameter},
		"two customs":        {`[{"MsgType":"TIMCustomElem","MsgContent":{}},{"MsgType":"TIMCustomElem","MsgContent":{}}]`, CodeBadParameter},
		"index a word":       {element("TIMFaceElem", `{"Index":"x"}`), CodeBadParameter},
		"index a fraction":   {element("TIMFaceElem", `{"Index":1.5}`), CodeBadParameter},
		"index a flood":      {element("TIMFaceElem", `{"Index":1e400}`), CodeBadParameter},
		"latitude":           {element("TIMLocationElem", `{"Latitude":1e400}`), CodeBadParameter},
		"seconds":            {element("TIMSoundElem", `{"Url":"u","UUID":"i","Second":-1}`), CodeBadParameter},
		"flag":               {element("TIMSoundElem", `{"Url":"u","UUID":"i","Download_Flag":1}`), CodeBadParameter},
		"sound from nowhere": {element("TIMSoundElem", `{"UUID":null,"Size":1,"Second":1}`), CodeBadParameter},
		"file over 100 MB":   {element("TIMFileElem", `{"FileSize":104857601}`), CodeBadParameter},
		"video over 100 MB":  {element("TIMVideoFileElem", `{"VideoSize":104857601}`), CodeBadParameter},
		"four images":        {element("TIMImageElem", `{"ImageInfoArray":[{},{},{},{}]}`), CodeBadParameter},
		"image no object":    {element("TIMImageElem", `{"ImageInfoArray":[1]}`), CodeBadParameter},
		"image URL":          {element("TIMImageElem", `{"ImageInfoArray":[{"URL":{}}]}`), CodeBadParameter},
		"images no array":    {element("TIMImageElem", `{"ImageInfoArray":{}}`), CodeBadParameter},
		"301 relayed":        {element("TIMRelayElem", `{"MsgNum":301}`), CodeBadParameter},
		"abstracts":          {element("TIMRelayElem", `{"AbstractList":[1]}`), CodeBadParameter},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			body, err := ParseBody(json.RawMessage(test.in), 0)
			if err == nil || err.Code != test.code {
				t.Errorf("ParseBody(%.100s) = %s, %v; want code %d", test.in, body.Raw, err, test.code)
			}
		})
	}
}

func TestParseBodyBoundsCanonicalForm(t *testing.T) {
	const canonical = `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`
	in := json.RawMessage(strings.ReplaceAll(canonical, ":", " : "))
	if _, err := ParseBody(in, len(canonical)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := ParseBody(in, len(canonical)-1); err == nil || err.Code != CodeMessageTooLong {
		t.Errorf("one byte over the limit: %v, want code %d", err, CodeMessageTooLong)
	}
}

// TestMadeBodiesAreCanonical wants what ParseBody would make of them, since nobody parses them.
func TestMadeBodiesAreCanonical(t *testing.T) {
	for _, text := range []string{"", "hi", "<a> & \x00\x1f\"\\\n\t\u2028 é 😀", "a\xffb", "\xff"} {
		for _, raw := range []json.RawMessage{TextBody(text), CustomBody(text, text)} {
			body, err := ParseBody(raw, 0)
			if err != nil || !bytes.Equal(body.Raw, raw) {
				t.Errorf("ParseBody(%s) = %s, %v; want it as it is", raw, body.Raw, err)
			}
			var elements []struct{ MsgContent map[string]string }
			want := strings.ToValidUTF8(text, "\ufffd")
			if err := json.Unmarshal(raw, &elements); err != nil {
				t.Errorf("%s: %v", raw, err)
				continue
			}
			for key, got := range elements[0].MsgContent {
				if got != want {
					t.Errorf("%s: %s says %q, want %q", raw, key, got, want)
				}
			}
		}
	}
}

// FuzzParseBody checks that whatever is accepted is valid JSON, that its canonical form is
// accepted and stays as it is, and that it means what the input meant to encoding/json.
func FuzzParseBody(f *testing.F) {
	f.Add([]byte(`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi\ud83d"}}, {"MsgContent":[],"MsgType":"TIMCustomElem"}]`))
	f.Add([]byte(`[{"MsgType":"TIMImageElem","MsgContent":{"ImageFormat":"1","ImageInfoArray":[{"Type":1.0,"URL":null}]}}]`))
	f.Add([]byte(`[{"MsgType":"TIMRelayElem","MsgContent":{"MsgList":[[[{}]]],"AbstractList":["a"]}}]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		body, err := ParseBody(in, 0)
		if err != nil {
			if err.Code == CodeBadJSON && json.Valid(in) && !deep(in) {
				t.Fatalf("%q is JSON, and was refused: %v", in, err)
			}
			return
		}
		if !json.Valid(in) || !json.Valid(body.Raw) {
			t.Fatalf("%q accepted as %q", in, body.Raw)
		}
		again, err := ParseBody(body.Raw, 0)
		if err != nil || !bytes.Equal(again.Raw, body.Raw) || again.PushText() != body.PushText() {
			t.Fatalf("%q became %q, then %q (%v)", in, body.Raw, again.Raw, err)
		}
		var elements []struct{ MsgType string }
		if err := json.Unmarshal(body.Raw, &elements); err != nil || len(elements) != len(body.Elements) {
			t.Fatalf("%q: %d elements, %v; want %d", body.Raw, len(elements), err, len(body.Elements))
		}
		for i, e := range elements {
			if e.MsgType != body.Elements[i].Type.String() || e.MsgType == TipElem.String() {
				t.Fatalf("%q: element %d is %q to others", body.Raw, i, e.MsgType)
			}
		}
	})
}

func BenchmarkParseBody(b *testing.B) {
	raw := TextBody(strings.Repeat("a word ", 25))
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := ParseBody(raw, 12000); err != nil {
			b.Fatal(err)
		}
	}
}

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// deep reports whether b may be nested deeper than MaxBodyDepth, or is no UTF-8, which
// encoding/json forgives.
func deep(b []byte) bool {
	return bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) > MaxBodyDepth || !bytes.Equal(bytes.ToValidUTF8(b, nil), b)
}
