package pushtest

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"
)

// Honor is a fake of Honor Push and its login.
type Honor struct {
	*Server
	AppID, ClientID, ClientSecret string
	TokenURL                      string
	// Console is to be set before Receipt is called.
	Console Console
}

// NewHonor starts the fake. A token that starts with value-fail- is listed under failTokens;
// value-failN-N- only for the first N times.
func NewHonor(o Options) (*Honor, error) {
	h := &Honor{AppID: "900900", ClientID: "honor-client", ClientSecret: "honor-client-secret"}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/token", func(w http.ResponseWriter, r *http.Request) {
		h.clientCredentials(w, r, h.ClientID, h.ClientSecret)
	})
	mux.HandleFunc("POST /api/v1/{id}/sendMessage", h.send)
	var err error
	if h.Server, err = start(o, mux, func(s *httptest.Server) { s.EnableHTTP2 = true }); err != nil {
		return nil, err
	}
	h.TokenURL = h.URL + "/auth/token"
	return h, nil
}

// answer writes the code as a number, or as a text in the older form.
func (h *Honor) answer(w http.ResponseWriter, status int, code int, message string, fail, expired []string) {
	var c any = code
	if h.old() {
		if code == 200 {
			code = 80000000
		}
		c = strconv.Itoa(code)
	}
	data := object{"sendResult": len(fail)+len(expired) == 0, "requestId": "req-" + strconv.FormatInt(time.Now().UnixNano(), 10)}
	if fail != nil {
		data["failTokens"] = fail
	}
	if expired != nil {
		data["expireTokens"] = expired
	}
	writeJSON(w, status, object{"code": c, "message": message, "data": data})
}

func (h *Honor) send(w http.ResponseWriter, r *http.Request) {
	end, throttled := h.begin()
	defer end()
	body := readBody(r)
	access, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	stamp, err := strconv.ParseInt(r.Header.Get("timestamp"), 10, 64)
	var m struct {
		Android struct {
			TTL          string `json:"ttl"`
			BITag        string `json:"biTag"`
			Notification struct {
				Title      string  `json:"title"`
				Importance string  `json:"importance"`
				Image      *string `json:"image"`
				NotifyID   int32   `json:"notifyId"`
				Badge      *struct {
					Add   int    `json:"addNum"`
					Class string `json:"badgeClass"`
				} `json:"badge"`
			} `json:"notification"`
		} `json:"android"`
		Token []string `json:"token"`
	}
	n := &m.Android.Notification
	switch {
	case r.PathValue("id") != h.AppID:
		h.answer(w, 404, 404, "no such app", nil, nil)
		return
	case !ok || !h.valid(access):
		h.answer(w, 401, 80200001, "authentication", nil, nil)
		return
	case err != nil || time.Since(time.UnixMilli(stamp)).Abs() > 10*time.Minute:
		h.violate("honor: bad timestamp")
		h.answer(w, 200, 10300, "timestamp", nil, nil)
		return
	case !h.readJSON(r, body, &m):
		h.answer(w, 200, 80100003, "structure", nil, nil)
		return
	case !h.batch(m.Token, 1, 1000):
		h.answer(w, 200, 80300006, "tokens", nil, nil)
		return
	case sizeWithout(body, m.Token) > 4096+64:
		h.violate("honor: too long")
		h.answer(w, 200, 80300008, "too long", nil, nil)
		return
	case !ttlWithin(m.Android.TTL, 1296000), len(m.Android.BITag) > 64, n.Title == "", n.NotifyID < 1, n.Badge != nil && n.Badge.Class == "",
		n.Importance != "LOW" && n.Importance != "NORMAL", n.Importance == "LOW" && n.Image != nil:
		h.violate("honor: message refused")
		h.answer(w, 200, 80200050, "parameter", nil, nil)
		return
	case throttled:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if h.interfere(w, r, m.Token) {
		return
	}
	if b, ok := callBehaviour(m.Token, "code", "busy", "word", "quota", "foreign"); ok {
		code := map[string]int{"busy": 503, "word": 80200056, "quota": 80200047, "foreign": 80200022}[b.kind]
		if b.kind == "code" {
			code, _ = strconv.Atoi(b.code) // a bad one is 0
		}
		h.answer(w, 200, code, "asked for with "+m.Token[0], nil, nil)
		return
	}
	var fail, expired, good []string
	for _, t := range m.Token {
		b := parseBehaviour(t)
		switch {
		case b.kind == "value" && b.code == "fail", b.kind == "value" && b.code == "failonce" && h.again(t, 1):
			fail = append(fail, t)
		case b.kind == "dead":
			expired = append(expired, t)
		default:
			good = append(good, t)
		}
	}
	if len(good)+len(fail) == 0 {
		h.answer(w, 200, 80300007, "all tokens invalid", nil, nil)
		return
	}
	h.accept(r, body, good...)
	h.finish(r, m.Token)
	h.answer(w, 200, 200, "success", fail, expired)
}
