package pushtest

import (
	"crypto/md5" // vivo's signature is an MD5 sum
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"time"
)

// Vivo is a fake of vivo Push.
type Vivo struct {
	*Server
	AppID, AppKey, AppSecret string
	// Console is where pushes that only name a callback.id are reported to.
	Console Console

	mu    sync.Mutex
	tasks map[string][]byte
}

// NewVivo starts the fake.
func NewVivo(o Options) (*Vivo, error) {
	v := &Vivo{AppID: "10004", AppKey: "vivo-app-key", AppSecret: "vivo-app-secret", tasks: make(map[string][]byte)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /message/auth", v.auth)
	mux.HandleFunc("POST /message/send", v.send)
	mux.HandleFunc("POST /message/saveListPayload", v.save)
	mux.HandleFunc("POST /message/pushToList", v.list)
	var err error
	v.Server, err = start(o, mux, func(s *httptest.Server) { s.EnableHTTP2 = true })
	return v, err
}

// SavedBodies returns how many list bodies have been stored.
func (v *Vivo) SavedBodies() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.tasks)
}

func vivoAnswer(w http.ResponseWriter, result any, desc string, more object) {
	a := object{"result": result, "desc": desc, "requestId": "r1"}
	maps.Copy(a, more)
	writeJSON(w, 200, a)
}

func (v *Vivo) auth(w http.ResponseWriter, r *http.Request) {
	body := readBody(r)
	if v.login(w) {
		return
	}
	var m struct {
		AppID     json.Number `json:"appId"`
		AppKey    string      `json:"appKey"`
		Timestamp int64       `json:"timestamp"`
		Sign      string      `json:"sign"`
	}
	ok := v.readJSON(r, body, &m)
	sum := md5.Sum([]byte(v.AppID + v.AppKey + strconv.FormatInt(m.Timestamp, 10) + v.AppSecret))
	switch {
	case !ok, m.AppID.String() != v.AppID:
		vivoAnswer(w, 10200, "appId", nil)
	case m.AppKey != v.AppKey:
		vivoAnswer(w, 10202, "appKey "+m.AppKey, nil)
	case time.Since(time.UnixMilli(m.Timestamp)).Abs() > 10*time.Minute:
		vivoAnswer(w, 10205, "timestamp", nil)
	case m.Sign != hex.EncodeToString(sum[:]):
		vivoAnswer(w, 10203, "sign", nil)
	default:
		vivoAnswer(w, 0, "请求成功", object{"authToken": v.issue(24 * time.Hour)})
	}
}

type vivoBody struct {
	AppID          json.RawMessage   `json:"appId"`
	RegID          string            `json:"regId"`
	NotifyType     int               `json:"notifyType"`
	Title          string            `json:"title"`
	Content        string            `json:"content"`
	TTL            int64             `json:"timeToLive"`
	SkipType       int               `json:"skipType"`
	SkipContent    string            `json:"skipContent"`
	Classification *int              `json:"classification"`
	Category       *string           `json:"category"`
	Custom         map[string]string `json:"clientCustomMap"`
	RequestID      string            `json:"requestId"`
	NotifyID       int32             `json:"notifyId"`
	Extra          map[string]string `json:"extra"`
}

// open checks what all calls have in common; it answers and returns false if that is wrong.
func (v *Vivo) open(w http.ResponseWriter, r *http.Request, throttled bool) bool {
	switch {
	case !v.valid(r.Header.Get("authToken")):
		vivoAnswer(w, 10000, "authentication "+r.Header.Get("authToken"), nil)
	case throttled:
		vivoAnswer(w, 10072, "too fast", nil)
	default:
		return true
	}
	return false
}

func (v *Vivo) check(r *http.Request, body []byte) (vivoBody, bool) {
	var m vivoBody
	ok := v.readJSON(r, body, &m)
	size := 0
	for k, x := range m.Custom {
		size += len([]rune(k + x))
	}
	ok = ok && string(m.AppID) == v.AppID && m.NotifyType >= 1 && m.NotifyType <= 4 &&
		v.length("title", m.Title, 1, 40) && v.length("content", m.Content, 1, 100) && m.TTL >= 60 && m.TTL <= 86400 &&
		(m.SkipType == 1 || m.SkipType == 4 && m.SkipContent != "") && (m.Classification != nil || m.Category != nil) &&
		v.checkCallback(m.Extra["callback"]+m.Extra["callback.id"], m.Extra["callback.param"], 128, 64) &&
		v.length("requestId", m.RequestID, 1, 64) && m.NotifyID > 0 && size <= 1024
	if !ok {
		v.violate("vivo: message refused")
	}
	return m, ok
}

func (v *Vivo) send(w http.ResponseWriter, r *http.Request) {
	end, throttled := v.begin()
	defer end()
	body := readBody(r)
	if !v.open(w, r, throttled) {
		return
	}
	m, ok := v.check(r, body)
	if !ok || m.RegID == "" {
		vivoAnswer(w, 10054, "field", nil)
		return
	}
	v.deliver(w, r, body, []string{m.RegID}, true)
}

func (v *Vivo) save(w http.ResponseWriter, r *http.Request) {
	body := readBody(r)
	if !v.open(w, r, false) {
		return
	}
	if m, ok := v.check(r, body); !ok || m.RegID != "" {
		vivoAnswer(w, 10054, "field", nil)
		return
	}
	v.mu.Lock()
	id := "task-" + strconv.Itoa(len(v.tasks)+1)
	v.tasks[id] = body
	v.mu.Unlock()
	vivoAnswer(w, 0, "请求成功", object{"taskId": id})
}

func (v *Vivo) list(w http.ResponseWriter, r *http.Request) {
	end, throttled := v.begin()
	defer end()
	body := readBody(r)
	if !v.open(w, r, throttled) {
		return
	}
	var m struct {
		AppID     json.RawMessage `json:"appId"`
		RegIDs    []string        `json:"regIds"`
		TaskID    string          `json:"taskId"`
		RequestID string          `json:"requestId"`
	}
	ok := v.readJSON(r, body, &m)
	v.mu.Lock()
	stored := v.tasks[m.TaskID]
	v.mu.Unlock()
	if !ok || stored == nil || string(m.AppID) != v.AppID || m.RequestID == "" || !v.batch(m.RegIDs, 2, 1000) {
		v.violate("vivo: list refused")
		vivoAnswer(w, 10306, "list", nil)
		return
	}
	v.deliver(w, r, stored, m.RegIDs, false)
}

func (v *Vivo) deliver(w http.ResponseWriter, r *http.Request, body []byte, tokens []string, one bool) {
	if v.overQuota(len(tokens)) {
		vivoAnswer(w, 10073, "total used up", nil)
		return
	}
	if v.interfere(w, r, tokens) {
		return
	}
	if b, ok := callBehaviour(tokens, "code", "busy", "word", "quota", "foreign"); ok {
		code := map[string]int{"busy": 10072, "word": 10103, "quota": 10073, "foreign": 10094}[b.kind]
		if b.kind == "code" {
			code, _ = strconv.Atoi(b.code) // a bad one is 0
		}
		vivoAnswer(w, code, "asked for with "+tokens[0], nil)
		return
	}
	good, bad := alive(tokens)
	v.accept(r, body, good...)
	v.finish(r, tokens)
	invalid := make([]object, 0, len(bad))
	for _, t := range bad {
		status := 2
		if b := parseBehaviour(t); b.kind == "value" {
			status, _ = strconv.Atoi(b.code) // a bad one is 0
		}
		invalid = append(invalid, object{"userid": t, "status": status})
	}
	var result any = 0
	if v.old() {
		result = "0"
	}
	more := object{"taskId": "t1"}
	switch {
	case len(invalid) > 0 && one:
		more["invalidUser"] = invalid[0]
		if parseBehaviour(tokens[0]).kind == "dead" && !v.old() {
			result = 10302
		}
	case len(invalid) > 0:
		more["invalidUsers"] = invalid
	}
	vivoAnswer(w, result, "请求成功", more)
}
