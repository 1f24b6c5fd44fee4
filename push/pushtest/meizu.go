package pushtest

import (
	"crypto/md5" // Meizu's signature is an MD5 sum
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
)

// Meizu is a fake of Flyme Push.
type Meizu struct {
	*Server
	AppID, AppSecret string
	// PushURL is where to send.
	PushURL string
}

const meizuPath = "/garcia/api/server/push/varnished/pushByPushId"

// NewMeizu starts the fake. It answers code 300 under /moved, with a redirect to PushURL, and
// under /away with one to another host.
func NewMeizu(o Options) (*Meizu, error) {
	m := &Meizu{AppID: "110110", AppSecret: "meizu-app-secret"}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+meizuPath, m.send)
	mux.HandleFunc("POST /moved", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, 200, object{"code": "300", "message": "moved", "value": "", "redirect": m.PushURL})
	})
	mux.HandleFunc("POST /away", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, 200, object{"code": "300", "message": "moved", "value": "", "redirect": "https://elsewhere.invalid/"})
	})
	var err error
	if m.Server, err = start(o, mux, func(s *httptest.Server) { s.EnableHTTP2 = true }); err != nil {
		return nil, err
	}
	m.PushURL = m.URL + meizuPath
	return m, nil
}

func meizuAnswer(w http.ResponseWriter, code, message string, value any) {
	writeJSON(w, 200, object{"code": code, "message": message, "value": value, "msgId": "NS1", "redirect": ""})
}

var meizuNotifyKey = regexp.MustCompile(`^[0-9A-Za-z_-]{1,8}$`)

func (m *Meizu) send(w http.ResponseWriter, r *http.Request) {
	end, throttled := m.begin()
	defer end()
	body := readBody(r)
	f := m.readForm(r, body)
	var names []string
	for name := range f {
		if name != "sign" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var text strings.Builder
	for _, name := range names {
		text.WriteString(name + "=" + f.Get(name))
	}
	sum := md5.Sum([]byte(text.String() + m.AppSecret))
	switch {
	case f.Get("appId") != m.AppID:
		meizuAnswer(w, "110000", "app ID", "")
		return
	case f.Get("sign") != hex.EncodeToString(sum[:]):
		meizuAnswer(w, "1006", "signature of "+f.Get("pushIds"), "")
		return
	}
	var msg struct {
		Bar struct {
			MsgType int    `json:"noticeMsgType"`
			Title   string `json:"title"`
			Content string `json:"content"`
		} `json:"noticeBarInfo"`
		Expand struct {
			Type    int    `json:"noticeExpandType"`
			Content string `json:"noticeExpandContent"`
		} `json:"noticeExpandInfo"`
		Click struct {
			Type       int            `json:"clickType"`
			Parameters map[string]any `json:"parameters"`
		} `json:"clickTypeInfo"`
		Time struct {
			Valid int `json:"validTime"`
		} `json:"pushTimeInfo"`
		Advance struct {
			NotifyKey string `json:"notifyKey"`
		} `json:"advanceInfo"`
		Extra meizuExtra `json:"extra"`
	}
	tokens := strings.Split(f.Get("pushIds"), ",")
	if json.Unmarshal([]byte(f.Get("messageJson")), &msg) != nil || msg.Time.Valid < 1 || msg.Time.Valid > 72 ||
		!m.length("title", msg.Bar.Title, 1, 32) || !m.length("content", msg.Bar.Content, 1, 100) ||
		!m.checkCallback(msg.Extra.Callback, msg.Extra.Param, 128, 64) || !meizuNotifyKey.MatchString(msg.Advance.NotifyKey) || msg.Expand.Type == 1 && msg.Expand.Content == "" {
		m.violate("meizu: message refused")
		meizuAnswer(w, "1005", "parameter", "")
		return
	}
	switch {
	case !m.batch(tokens, 1, 100):
		meizuAnswer(w, "110004", "pushIds", "")
		return
	case throttled:
		meizuAnswer(w, "110010", "too fast", "")
		return
	case m.overQuota(len(tokens)):
		meizuAnswer(w, "110019", "day's count used up", "")
		return
	case m.interfere(w, r, tokens):
		return
	}
	if b, ok := callBehaviour(tokens, "code", "busy", "word", "quota", "foreign"); ok {
		code := map[string]string{"busy": "1003", "word": "110004", "quota": "110019", "foreign": "110031"}[b.kind]
		if b.kind == "code" {
			code = b.code
		}
		meizuAnswer(w, code, "asked for with "+tokens[0], "")
		return
	}
	good, bad := alive(tokens)
	m.accept(r, body, good...)
	m.finish(r, tokens)
	byCode := make(map[string][]string)
	byID := make(map[string]string)
	for _, t := range bad {
		b := parseBehaviour(t)
		code := map[string]string{"dead": "110002", "foreign": "110003", "dev429": "520", "value": b.code}[b.kind]
		byCode[code] = append(byCode[code], t)
		byID[t] = code
	}
	var value any = byCode
	if m.old() {
		value = byID
	}
	meizuAnswer(w, "200", "", value)
}
