package pushtest

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Xiaomi is a fake of Mi Push.
type Xiaomi struct {
	*Server
	AppSecret, Package string
}

// NewXiaomi starts the fake.
func NewXiaomi(o Options) (*Xiaomi, error) {
	x := &Xiaomi{AppSecret: "xiaomi/app+secret=", Package: "com.example.app"}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v3/message/regid", x.send)
	var err error
	x.Server, err = start(o, mux, func(s *httptest.Server) { s.EnableHTTP2 = true })
	return x, err
}

func xiaomiError(w http.ResponseWriter, code, reason string) {
	n, err := strconv.Atoi(code)
	var c any = n
	if err != nil {
		c = code
	}
	writeJSON(w, 200, object{"result": "error", "reason": reason, "trace_id": "Xdm1", "code": c, "description": "发送消息失败"})
}

func (x *Xiaomi) send(w http.ResponseWriter, r *http.Request) {
	end, throttled := x.begin()
	defer end()
	body := readBody(r)
	if r.Header.Get("Authorization") != "key="+x.AppSecret {
		xiaomiError(w, "21301", "auth failed: "+r.Header.Get("Authorization"))
		return
	}
	f := x.readForm(r, body)
	tokens := strings.Split(f.Get("registration_id"), ",")
	ttl, err := strconv.ParseInt(f.Get("time_to_live"), 10, 64)
	id, idErr := strconv.ParseInt(f.Get("notify_id"), 10, 32)
	extras, size := 0, 0
	for name := range f {
		if own, ok := strings.CutPrefix(name, "extra."); ok {
			extras++
			size += utf8.RuneCountInString(own + f.Get(name))
		}
	}
	switch {
	case !x.batch(tokens, 1, 1000):
		xiaomiError(w, "10016", "missing registration_id")
		return
	case f.Get("restricted_package_name") != x.Package:
		xiaomiError(w, "22007", "package")
		return
	case strings.TrimSpace(f.Get("title")) == "" || strings.TrimSpace(f.Get("description")) == "",
		!x.length("title", f.Get("title"), 1, 49), !x.length("description", f.Get("description"), 1, 127),
		len(f.Get("payload")) > 4096, extras > 10 || size > 1024,
		err != nil || ttl < 1000 || ttl > 10*24*3600*1000, // milliseconds
		idErr != nil || id < 0, f.Get("extra.notify_effect") == "2" && f.Get("extra.intent_uri") == "",
		!x.checkCallback(f.Get("extra.callback"), f.Get("extra.callback.param"), 256, 256),
		len(f.Get("extra.jobkey")) > 20 || strings.HasPrefix(f.Get("extra.jobkey"), "_"):
		x.violate("xiaomi: message refused")
		xiaomiError(w, "10017", "parameter")
		return
	case f.Get("extra.channel_id") == "" && f.Get("title") != "check":
		xiaomiError(w, "27001", "channel")
		return
	case throttled:
		xiaomiError(w, "200002", "over rate")
		return
	case x.overQuota(len(tokens)):
		xiaomiError(w, "200001", "exceed quota, quota: 10, have acked: 10")
		return
	}
	if x.interfere(w, r, tokens) {
		return
	}
	if b, ok := callBehaviour(tokens, "code", "busy", "word", "quota", "foreign"); ok {
		code := map[string]string{"busy": "10002", "word": "26006", "quota": "200001", "foreign": "22006"}[b.kind]
		if b.kind == "code" {
			code = b.code
		}
		reason := "asked for with " + tokens[0]
		if strings.HasSuffix(tokens[0], "-target") {
			reason = "No valid targets!"
		}
		xiaomiError(w, code, reason)
		return
	}
	good, bad := alive(tokens)
	if len(good) == 0 {
		xiaomiError(w, "20301", "No valid targets: bad regid")
		return
	}
	x.accept(r, body, good...)
	x.finish(r, tokens)
	data := object{"id": "slm1"}
	if len(bad) > 0 {
		data["bad_regids"] = strings.Join(bad, ",")
	}
	var code any = 0
	if x.old() {
		code = "0"
	}
	writeJSON(w, 200, object{
		"result": "ok", "trace_id": "Xdm1", "code": code, "data": data, "description": "成功",
		"info": "Received push messages for " + strconv.Itoa(len(good)) + " regid",
	})
}
