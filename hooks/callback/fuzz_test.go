package callback

import (
	"encoding/json"
	"testing"
)

// FuzzAnswer: whatever the app's server says is a failure or exactly one verdict.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"ErrorCode":0}`, `{"ErrorCode":2}`, `{"ErrorCode":10100,"ErrorInfo":"x"}`, `{"ErrorCode":0,"MsgBody":[{"MsgType":"TIMFaceElem"}],"CloudCustomData":"x"}`,
		`{"ErrorCode":"1"}`, `{"ErrorCode":1e400}`, `{"MsgBody":null}`, `[]`, ``, `{"ErrorCode":0,"MsgBody":`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parse(text)
		if err != nil {
			return
		}
		v := verdict(a)
		ways := 0
		for _, is := range []bool{v.Refuse != nil, v.Drop, a.Code == 0} {
			if is {
				ways++
			}
		}
		if ways != 1 {
			t.Errorf("%s: %+v", text, v)
		}
		if v.Body != nil && !json.Valid(v.Body) {
			t.Errorf("%s: body %q", text, v.Body)
		}
	})
}
