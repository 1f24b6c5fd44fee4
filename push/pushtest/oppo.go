package pushtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"
)

// OPPO is a fake of OPPO Push.
type OPPO struct {
	*Server
	AppKey, MasterSecret string
}

// NewOPPO starts the fake.
func NewOPPO(o Options) (*OPPO, error) {
	p := &OPPO{AppKey: "oppo-key-1", MasterSecret: "oppo-master-secret"}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /server/v1/auth", p.auth)
	mux.HandleFunc("POST /server/v1/message/notification/unicast", p.send)
	mux.HandleFunc("POST /server/v1/message/notification/unicast_batch", p.send)
	var err error
	p.Server, err = start(o, mux, func(s *httptest.Server) { s.EnableHTTP2 = true })
	return p, err
}

func (p *OPPO) auth(w http.ResponseWriter, r *http.Request) {
	body := readBody(r)
	if p.login(w) {
		return
	}
	f := p.readForm(r, body)
	stamp, err := strconv.ParseInt(f.Get("timestamp"), 10, 64)
	sum := sha256.Sum256([]byte(p.AppKey + f.Get("timestamp") + p.MasterSecret))
	switch {
	case f.Get("app_key") != p.AppKey:
		oppoAnswer(w, 14, "invalid app key "+f.Get("app_key"), nil)
	case err != nil || time.Since(time.UnixMilli(stamp)).Abs() > 10*time.Minute:
		oppoAnswer(w, 19, "timestamp", nil)
	case f.Get("sign") != hex.EncodeToString(sum[:]):
		oppoAnswer(w, 15, "signature", nil)
	default:
		oppoAnswer(w, 0, "success", object{"auth_token": p.issue(24 * time.Hour), "create_time": time.Now().UnixMilli()})
	}
}

func oppoAnswer(w http.ResponseWriter, code int, message string, data any) {
	writeJSON(w, 200, object{"code": code, "message": message, "data": data})
}

type oppoMessage struct {
	TargetType   int    `json:"target_type"`
	TargetValue  string `json:"target_value"`
	Notification struct {
		AppMessageID  string  `json:"app_message_id"`
		Style         int     `json:"style"`
		Title         string  `json:"title"`
		SubTitle      *string `json:"sub_title"`
		Content       string  `json:"content"`
		Parameters    string  `json:"action_parameters"`
		TTL           int64   `json:"off_line_ttl"`
		Category      *string `json:"category"`
		NotifyLevel   *int    `json:"notify_level"`
		NotifyID      int32   `json:"notify_id"`
		CallBackURL   string  `json:"call_back_url"`
		CallBackParam string  `json:"call_back_parameter"`
	} `json:"notification"`
}

func (p *OPPO) send(w http.ResponseWriter, r *http.Request) {
	end, throttled := p.begin()
	defer end()
	body := readBody(r)
	f := p.readForm(r, body)
	if f.Get("auth_token") != r.Header.Get("auth_token") || !p.valid(f.Get("auth_token")) {
		oppoAnswer(w, 11, "auth token "+f.Get("auth_token"), nil)
		return
	}
	one := f.Has("message")
	messages := make([]oppoMessage, 1)
	var err error
	if one {
		err = json.Unmarshal([]byte(f.Get("message")), &messages[0])
	} else {
		err = json.Unmarshal([]byte(f.Get("messages")), &messages)
	}
	var tokens []string
	ok := err == nil
	for _, m := range messages {
		ok = ok && p.checkMessage(m)
		tokens = append(tokens, m.TargetValue)
	}
	if !ok || !p.batch(tokens, 1, 1000) {
		p.violate("oppo: message refused")
		oppoAnswer(w, 41, "arguments", nil)
		return
	}
	switch {
	case throttled:
		oppoAnswer(w, 13, "calls limited", nil)
		return
	case p.overQuota(len(tokens)):
		oppoAnswer(w, 33, "over the day's limit", nil)
		return
	case p.interfere(w, r, tokens):
		return
	}
	if b, ok := callBehaviour(tokens, "code", "busy", "word", "quota"); ok {
		code := map[string]int{"busy": 13, "word": 67, "quota": 33}[b.kind]
		if b.kind == "code" {
			code, _ = strconv.Atoi(b.code) // a bad one is 0
		}
		if code == 67 && messages[0].Notification.NotifyLevel == nil && b.kind == "code" {
			code = 0 // without the level it is fine
			p.accept(r, body, tokens...)
		}
		oppoAnswer(w, code, "asked for with "+tokens[0], object{"messageId": "app-1-1-x"})
		return
	}
	good, bad := alive(tokens)
	p.accept(r, body, good...)
	p.finish(r, tokens)
	id := "messageId"
	if p.old() {
		id = "message_id"
	}
	if one {
		if len(bad) > 0 {
			oppoAnswer(w, 10000, "invalid registration id "+bad[0], nil)
			return
		}
		oppoAnswer(w, 0, "", object{id: "app-1-1-0"})
		return
	}
	var items []object
	for i, t := range good {
		items = append(items, object{id: "app-1-1-" + strconv.Itoa(i), "registrationId": t})
	}
	for _, t := range bad {
		code := 10000
		if b := parseBehaviour(t); b.kind == "value" {
			code, _ = strconv.Atoi(b.code) // a bad one is 0
		}
		items = append(items, object{"registrationId": t, "errorCode": code, "errorMessage": "invalid " + t})
	}
	oppoAnswer(w, 0, "", items)
}

func (p *OPPO) checkMessage(m oppoMessage) bool {
	n := &m.Notification
	most := 50
	if n.Style == 2 {
		most = 128
	}
	return m.TargetType == 2 && m.TargetValue != "" && n.AppMessageID != "" && (n.Style == 1 || n.Style == 2) &&
		p.length("title", n.Title, 1, 50) && p.length("content", n.Content, 1, most) &&
		p.length("action_parameters", n.Parameters, 0, 4000) && json.Valid([]byte(n.Parameters)) &&
		p.checkCallback(n.CallBackURL, n.CallBackParam, 200, 100) && n.TTL > 0 && n.TTL <= 10*24*3600 && n.NotifyID > 0 &&
		(n.SubTitle == nil || p.length("sub_title", *n.SubTitle, 1, 10)) &&
		(n.Category == nil || *n.Category != "") && (n.NotifyLevel == nil || n.Category != nil)
}
