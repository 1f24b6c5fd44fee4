package pushtest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// FCM is a fake of Firebase Cloud Messaging and of the login it needs.
type FCM struct {
	*Server
	// ServiceAccount is a key file for it; its token_uri is TokenURL.
	ServiceAccount string
	TokenURL       string
	ProjectID      string
}

const fcmEmail = "push@example.iam.gserviceaccount.com"

// NewFCM starts the fake.
func NewFCM(o Options) (*FCM, error) {
	key, err := rsaKey()
	if err != nil {
		return nil, err
	}
	private, err := pkcs8(key)
	if err != nil {
		return nil, err
	}
	f := &FCM{ProjectID: "example-1"}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", f.token)
	mux.HandleFunc("POST /v1/projects/{project}/{call}", f.send)
	if f.Server, err = start(o, mux, func(h *httptest.Server) { h.EnableHTTP2 = true }); err != nil {
		return nil, err
	}
	f.TokenURL = f.URL + "/token"
	account, err := json.Marshal(object{
		"type": "service_account", "project_id": f.ProjectID, "private_key_id": "key-1", "private_key": private,
		"client_email": fcmEmail, "token_uri": f.TokenURL,
	})
	f.ServiceAccount = string(account)
	return f, err
}

func (f *FCM) token(w http.ResponseWriter, r *http.Request) {
	body := readBody(r)
	if f.login(w) {
		return
	}
	form := f.readForm(r, body)
	key, _ := rsaKey() // made in NewFCM
	j, err := verifyJWT(form.Get("assertion"), "RS256", &key.PublicKey)
	now := time.Now().Unix()
	if err != nil || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || j.Kid != "key-1" || j.Iss != fcmEmail ||
		j.Aud != f.TokenURL || j.Scope != "https://www.googleapis.com/auth/firebase.messaging" ||
		j.Iat > now+60 || j.Iat < now-600 || j.Exp-j.Iat > 3600 {
		writeJSON(w, 400, object{"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
		return
	}
	writeJSON(w, 200, object{"access_token": f.issue(time.Hour), "expires_in": 3599, "token_type": "Bearer"})
}

// fcmErrors are the answers by code: HTTP status, status, and whether an FcmError names it.
var fcmErrors = map[string]struct {
	http   int
	status string
	detail bool
}{
	"INVALID_ARGUMENT":       {400, "INVALID_ARGUMENT", true},
	"THIRD_PARTY_AUTH_ERROR": {401, "UNAUTHENTICATED", true},
	"UNAUTHENTICATED":        {401, "UNAUTHENTICATED", false},
	"SENDER_ID_MISMATCH":     {403, "PERMISSION_DENIED", true},
	"PERMISSION_DENIED":      {403, "PERMISSION_DENIED", false},
	"UNREGISTERED":           {404, "NOT_FOUND", true},
	"NOT_FOUND":              {404, "NOT_FOUND", false},
	"QUOTA_EXCEEDED":         {429, "RESOURCE_EXHAUSTED", true},
	"INTERNAL":               {500, "INTERNAL", true},
	"UNAVAILABLE":            {503, "UNAVAILABLE", true},
}

func (f *FCM) fail(w http.ResponseWriter, code, message string, details ...object) {
	e := fcmErrors[code]
	if e.http == 0 {
		e.http, e.status = 500, "UNKNOWN"
	}
	if e.detail {
		details = append(details, object{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
	}
	writeJSON(w, e.http, object{"error": object{"code": e.http, "message": message, "status": e.status, "details": details}})
}

func badField(field string) object {
	return object{
		"@type":           "type.googleapis.com/google.rpc.BadRequest",
		"fieldViolations": []object{{"field": field, "description": "Invalid value"}},
	}
}

var fcmTTL = regexp.MustCompile(`^[0-9]{1,7}s$`)

func (f *FCM) send(w http.ResponseWriter, r *http.Request) {
	end, throttled := f.begin()
	defer end()
	body := readBody(r)
	if r.PathValue("project") != f.ProjectID || r.PathValue("call") != "messages:send" {
		f.fail(w, "NOT_FOUND", "Requested entity was not found.")
		return
	}
	access, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || !f.valid(access) {
		f.fail(w, "UNAUTHENTICATED", "Request had invalid authentication credentials: "+access)
		return
	}
	var m struct {
		ValidateOnly bool `json:"validate_only"`
		Message      struct {
			Token        string            `json:"token"`
			Data         map[string]string `json:"data"`
			Notification struct {
				Title string `json:"title"`
				Body  string `json:"body"`
			} `json:"notification"`
			Android struct {
				Priority string `json:"priority"`
				TTL      string `json:"ttl"`
			} `json:"android"`
		} `json:"message"`
	}
	valid := f.readJSON(r, body, &m)
	for key := range m.Message.Data {
		if key == "from" || key == "message_type" || strings.HasPrefix(key, "google.") || strings.HasPrefix(key, "gcm.") {
			valid = false
		}
	}
	seconds, _ := strconv.Atoi(strings.TrimSuffix(m.Message.Android.TTL, "s")) // checked by the pattern
	if !valid || len(body) > 4096+64 || !fcmTTL.MatchString(m.Message.Android.TTL) || seconds > 2419200 ||
		m.Message.Android.Priority != "HIGH" && m.Message.Android.Priority != "NORMAL" {
		f.violate("fcm: message refused")
		f.fail(w, "INVALID_ARGUMENT", "Request contains an invalid argument.", badField("message.android.ttl"))
		return
	}
	token := m.Message.Token
	if throttled {
		w.Header().Set("Retry-After", "2")
		f.fail(w, "QUOTA_EXCEEDED", "Quota exceeded.")
		return
	}
	if f.interfere(w, r, []string{token}) {
		return
	}
	switch b := parseBehaviour(token); b.kind {
	case "dead":
		if m.ValidateOnly {
			f.fail(w, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token", badField("message.token"))
			return
		}
		f.fail(w, "UNREGISTERED", "Requested entity was not found: "+token)
	case "foreign":
		f.fail(w, "SENDER_ID_MISMATCH", "SenderId mismatch")
	case "busy":
		w.Header().Set("Retry-After", "2")
		f.fail(w, "UNAVAILABLE", "The service is currently unavailable.")
	case "dev429":
		f.fail(w, "QUOTA_EXCEEDED", "Quota exceeded.", object{
			"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []object{{"subject": "device:" + token}},
		})
	case "quota":
		f.fail(w, "QUOTA_EXCEEDED", "Quota exceeded.")
	case "code":
		f.fail(w, b.code, "asked for with "+token)
	case "value": // INVALID_ARGUMENT about the named field, or about none
		if b.code == "none" {
			f.fail(w, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token")
			return
		}
		f.fail(w, "INVALID_ARGUMENT", "Invalid value", badField(b.code))
	default:
		if !m.ValidateOnly {
			f.accept(r, body, token)
			f.finish(r, []string{token})
		}
		writeJSON(w, 200, object{"name": "projects/" + f.ProjectID + "/messages/0:" + strconv.FormatInt(time.Now().UnixNano(), 10)})
	}
}
