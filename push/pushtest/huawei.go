package pushtest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"
)

// Huawei is a fake of Huawei Push Kit (v1, v2 and v3) and its login.
type Huawei struct {
	*Server
	AppID, AppSecret, ProjectID string
	// KeyFile is a service account's key file, for v3.
	KeyFile  string
	TokenURL string
	// Console is to be set before Receipt is called.
	Console Console
}

// NewHuawei starts the fake.
func NewHuawei(o Options) (*Huawei, error) {
	key, err := rsaKey()
	if err != nil {
		return nil, err
	}
	private, err := pkcs8(key)
	if err != nil {
		return nil, err
	}
	h := &Huawei{AppID: "100100", AppSecret: "huawei-app-secret", ProjectID: "project-9"}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/v3/token", func(w http.ResponseWriter, r *http.Request) {
		h.clientCredentials(w, r, h.AppID, h.AppSecret)
	})
	mux.HandleFunc("POST /{api}/{id}/{call}", h.send)
	if h.Server, err = start(o, mux, func(s *httptest.Server) { s.EnableHTTP2 = true }); err != nil {
		return nil, err
	}
	h.TokenURL = h.URL + "/oauth2/v3/token"
	file, err := json.Marshal(object{"project_id": h.ProjectID, "key_id": "key-3", "private_key": private, "sub_account": "sub-1"})
	h.KeyFile = string(file)
	return h, err
}

// clientCredentials is the login of Huawei and Honor.
func (s *Server) clientCredentials(w http.ResponseWriter, r *http.Request, id, secret string) {
	body := readBody(r)
	if s.login(w) {
		return
	}
	form := s.readForm(r, body)
	if form.Get("grant_type") != "client_credentials" || form.Get("client_id") != id || form.Get("client_secret") != secret {
		writeJSON(w, 401, object{"error": 1101, "sub_error": 20001, "error_description": "invalid client " + form.Get("client_secret")})
		return
	}
	writeJSON(w, 200, object{"access_token": s.issue(time.Hour), "expires_in": 3600, "token_type": "Bearer"})
}

func huaweiAnswer(w http.ResponseWriter, status int, code, msg string) {
	writeJSON(w, status, object{"code": code, "msg": msg, "requestId": "req-" + strconv.FormatInt(time.Now().UnixNano(), 10)})
}

func (h *Huawei) authorized(r *http.Request, v3 bool) bool {
	access, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !v3 {
		return ok && h.valid(access)
	}
	key, _ := rsaKey() // made in NewHuawei
	j, err := verifyJWT(access, "PS256", &key.PublicKey)
	now := time.Now().Unix()
	return err == nil && j.Kid == "key-3" && j.Typ == "JWT" && j.Iss == "sub-1" &&
		j.Aud == h.TokenURL && j.Iat <= now+60 && j.Exp > now && j.Exp-j.Iat <= 86400
}

func (h *Huawei) send(w http.ResponseWriter, r *http.Request) {
	end, throttled := h.begin()
	defer end()
	api, id := r.PathValue("api"), r.PathValue("id")
	if r.PathValue("call") != "messages:send" || api == "v1" && id != h.AppID || api != "v1" && id != h.ProjectID {
		huaweiAnswer(w, 404, "", "not found")
		return
	}
	body := readBody(r)
	if !h.authorized(r, api == "v3") {
		huaweiAnswer(w, 401, "80200001", "authentication error")
		return
	}
	if throttled {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	tokens, ok := h.parse(r, body, api == "v3")
	if !ok {
		huaweiAnswer(w, 400, "80100003", "Illegal payload")
		return
	}
	if !h.batch(tokens, 1, 1000) {
		huaweiAnswer(w, 200, "80300010", "token count")
		return
	}
	if h.interfere(w, r, tokens) {
		return
	}
	if b, ok := callBehaviour(tokens, "code", "busy", "word", "quota", "foreign"); ok {
		switch b.kind {
		case "code":
			huaweiAnswer(w, 200, b.code, "asked for with "+tokens[0])
		case "busy", "quota":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "word":
			huaweiAnswer(w, 200, "80100016", "sensitive")
		case "foreign":
			huaweiAnswer(w, 200, "80300002", "no permission for these tokens")
		}
		return
	}
	good, bad := alive(tokens)
	switch {
	case len(good) == 0:
		huaweiAnswer(w, 200, "80300007", "all tokens invalid")
		return
	case len(bad) > 0:
		h.accept(r, body, good...)
		h.finish(r, tokens)
		huaweiAnswer(w, 200, "80100000", h.partial(len(good), bad, api == "v3"))
		return
	}
	h.accept(r, body, good...)
	h.finish(r, tokens)
	huaweiAnswer(w, 200, "80000000", "Success")
}

// partial is the msg that lists the tokens that failed.
func (h *Huawei) partial(good int, bad []string, v3 bool) string {
	var listed any = bad
	if v3 {
		reasons := make(map[string][]string)
		for _, t := range bad {
			reason := "tokenFormatError"
			if b := parseBehaviour(t); b.kind == "value" {
				reason = b.code
			}
			reasons[reason] = append(reasons[reason], t)
		}
		listed = reasons
	} else if h.old() {
		listed = object{"tokens": bad}
	}
	text, _ := json.Marshal(object{"success": good, "failure": len(bad), "illegal_tokens": listed}) // always marshals
	return string(text)
}

func (h *Huawei) parse(r *http.Request, body []byte, v3 bool) ([]string, bool) {
	type notification struct {
		Title      string `json:"title"`
		Body       string `json:"body"`
		Importance string `json:"importance"`
		Click      struct {
			Type   int    `json:"type"`
			Intent string `json:"intent"`
			Action string `json:"action"`
		} `json:"click_action"`
		HarmonyClick *struct{} `json:"clickAction"`
		Badge        *struct {
			Add   int    `json:"add_num"`
			Set   int    `json:"set_num"`
			Class string `json:"class"`
		} `json:"badge"`
	}
	if v3 {
		var m struct {
			Payload struct {
				Notification notification `json:"notification"`
			} `json:"payload"`
			Target struct {
				Token []string `json:"token"`
			} `json:"target"`
			Options struct {
				TTL   int64  `json:"ttl"`
				BITag string `json:"biTag"`
			} `json:"pushOptions"`
		}
		ok := h.readJSON(r, body, &m)
		if r.Header.Get("push-type") != "0" || m.Payload.Notification.HarmonyClick == nil || m.Options.TTL < 1 || m.Options.TTL > 1296000 || len(m.Options.BITag) > 64 {
			h.violate("huawei v3: message refused")
			ok = false
		}
		return m.Target.Token, ok
	}
	var m struct {
		Message struct {
			Data    string `json:"data"`
			Android struct {
				TTL          string       `json:"ttl"`
				CollapseKey  *int         `json:"collapse_key"`
				BITag        string       `json:"bi_tag"`
				Notification notification `json:"notification"`
			} `json:"android"`
			Token []string `json:"token"`
		} `json:"message"`
	}
	ok := h.readJSON(r, body, &m)
	n := m.Message.Android.Notification
	if !ttlWithin(m.Message.Android.TTL, 1296000) || n.Title == "" || n.Importance != "LOW" && n.Importance != "NORMAL" ||
		n.Click.Type < 1 || n.Click.Type > 3 || n.Click.Type == 1 && n.Click.Intent+n.Click.Action == "" ||
		n.Badge != nil && (n.Badge.Class == "" || n.Badge.Add > 99 || n.Badge.Set > 99) ||
		len(m.Message.Android.BITag) > 64 || m.Message.Data != "" && !json.Valid([]byte(m.Message.Data)) ||
		m.Message.Android.CollapseKey != nil && (*m.Message.Android.CollapseKey < -1 || *m.Message.Android.CollapseKey > 100) {
		h.violate("huawei: message refused")
		ok = false
	}
	if size := sizeWithout(body, m.Message.Token); size > 4096+64 {
		h.violate("huawei: %d bytes without tokens", size)
		ok = false
	}
	return m.Message.Token, ok
}

// sizeWithout is the body's size without its tokens (quotes and commas included).
func sizeWithout(body []byte, tokens []string) int {
	size := len(bytes.TrimSpace(body))
	for _, t := range tokens {
		size -= len(t) + 3
	}
	return size
}

func ttlWithin(ttl string, most int) bool {
	n, err := strconv.Atoi(strings.TrimSuffix(ttl, "s"))
	return err == nil && strings.HasSuffix(ttl, "s") && n >= 1 && n <= most
}
