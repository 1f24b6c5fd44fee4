package pushtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// APNs is a fake of Apple's push service.
type APNs struct {
	*Server
	// BundleID, Key (.p8), KeyID and TeamID are what it takes; Certificate (PEM with its key)
	// is the other way in.
	BundleID, Key, KeyID, TeamID, Certificate string

	key  *ecdsa.PrivateKey
	leaf []byte

	mu      sync.Mutex
	bearers map[string]time.Time // verified ones, and their iat
	expired map[string]bool
	byConn  map[net.Conn]*apnsConn
	goAway  bool
	cold    int
	strict  bool
}

type apnsConn struct {
	bearer  string
	changed time.Time
	warm    bool
	active  int
}

// NewAPNs starts the fake.
func NewAPNs(o Options) (*APNs, error) {
	key, err := newECKey()
	if err != nil {
		return nil, err
	}
	a := &APNs{
		BundleID: "com.example.app", KeyID: "KEY1234567", TeamID: "TEAM123456", key: key,
		bearers: make(map[string]time.Time), expired: make(map[string]bool), byConn: make(map[net.Conn]*apnsConn),
	}
	if a.Key, err = pkcs8(key); err != nil {
		return nil, err
	}
	if a.Certificate, a.leaf, err = clientCertificate(a.BundleID); err != nil {
		return nil, err
	}
	streams := o.Streams
	if streams == 0 {
		streams = 1000
	}
	a.Server, err = start(o, http.HandlerFunc(a.serve), func(h *httptest.Server) {
		h.EnableHTTP2 = true
		h.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
		h.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	})
	return a, err
}

// ExpireTokens makes all provider tokens that were seen up to now expired.
func (a *APNs) ExpireTokens() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for b := range a.bearers {
		a.expired[b] = true
	}
	clear(a.bearers)
}

// GoAway ends each connection gracefully with its next answer.
func (a *APNs) GoAway(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.goAway = on
}

// RefuseTokenUpdates answers TooManyProviderTokenUpdates when a connection's token changes
// within 20 minutes.
func (a *APNs) RefuseTokenUpdates(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.strict = on
}

// ColdStreams returns how many pushes came on a connection beside another one before the
// first was answered: Apple allows one.
func (a *APNs) ColdStreams() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cold
}

func (a *APNs) refuse(w http.ResponseWriter, status int, reason string) {
	v := object{"reason": reason}
	if status == http.StatusGone {
		v["timestamp"] = time.Now().Add(-time.Hour).UnixMilli()
	}
	if reason == "ServiceUnavailable" {
		w.Header().Set("Retry-After", "2")
	}
	writeJSON(w, status, v)
}

func (a *APNs) serve(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 {
		a.violate("HTTP/%d", r.ProtoMajor)
		http.Error(w, "HTTP/2 only", http.StatusHTTPVersionNotSupported)
		return
	}
	end, throttled := a.begin()
	defer end()
	conn := a.enter(r)
	defer a.leave(conn)
	body := readBody(r)
	token, isDevice := strings.CutPrefix(r.URL.Path, "/3/device/")
	id := r.Header.Get("apns-id")
	if id == "" {
		id = newUUID()
	}
	w.Header().Set("apns-id", id)
	a.mu.Lock()
	if a.goAway {
		w.Header().Set("Connection", "close") // net/http makes it a GOAWAY
	}
	a.mu.Unlock()
	var status int
	var reason string
	switch {
	case r.Method != http.MethodPost:
		status, reason = 405, "MethodNotAllowed"
	case !isDevice || token == "":
		status, reason = 404, "BadPath"
	default:
		if status, reason = a.authenticate(r, conn); reason == "" {
			status, reason = a.check(r, body)
		}
	}
	if reason != "" {
		if status == 400 || status == 413 {
			a.violate("%s", reason)
		}
		a.refuse(w, status, reason)
		return
	}
	if throttled {
		a.refuse(w, 503, "ServiceUnavailable")
		return
	}
	if a.interfere(w, r, []string{token}) {
		return
	}
	b := parseBehaviour(token)
	switch b.kind {
	case "dead":
		if strings.Trim(token, "0123456789abcdef") == "" {
			a.refuse(w, 400, "BadDeviceToken")
			return
		}
		a.refuse(w, 410, "Unregistered")
		return
	case "foreign":
		a.refuse(w, 400, "BadDeviceToken")
		return
	case "busy":
		a.refuse(w, 503, "ServiceUnavailable")
		return
	case "dev429":
		a.refuse(w, 429, "TooManyRequests")
		return
	case "code":
		_, rest, _ := strings.Cut(token, "-"+b.code+"-")
		reason, _, _ := strings.Cut(rest, "-")
		status, err := strconv.Atoi(b.code)
		if err != nil || status < 200 || status > 599 {
			status = 500
		}
		a.refuse(w, status, reason)
		return
	}
	a.accept(r, body, token)
	a.finish(r, []string{token})
	w.WriteHeader(http.StatusOK)
	a.mu.Lock()
	conn.warm = true
	a.mu.Unlock()
}

// enter finds the connection's state.
func (a *APNs) enter(r *http.Request) *apnsConn {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	a.mu.Lock()
	defer a.mu.Unlock()
	conn := a.byConn[c]
	if conn == nil {
		conn = &apnsConn{}
		a.byConn[c] = conn
	}
	if !conn.warm && conn.active > 0 {
		a.cold++
	}
	conn.active++
	return conn
}

func (a *APNs) leave(conn *apnsConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	conn.active--
	if conn.active == 0 && len(a.byConn) > 1000 {
		clear(a.byConn)
	}
}

func (a *APNs) authenticate(r *http.Request, conn *apnsConn) (int, string) {
	auth := r.Header.Get("authorization")
	if auth == "" {
		certs := r.TLS.PeerCertificates
		switch {
		case len(certs) == 0:
			return 403, "MissingProviderToken"
		case !bytes.Equal(certs[0].Raw, a.leaf):
			return 403, "BadCertificate"
		}
		return 200, ""
	}
	bearer, ok := strings.CutPrefix(auth, "bearer ")
	if !ok {
		return 403, "InvalidProviderToken"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	iat, known := a.bearers[bearer]
	if !known {
		j, err := verifyJWT(bearer, "ES256", &a.key.PublicKey)
		if err != nil || j.Kid != a.KeyID || j.Iss != a.TeamID {
			return 403, "InvalidProviderToken"
		}
		iat = time.Unix(j.Iat, 0)
		if !a.expired[bearer] {
			a.bearers[bearer] = iat
		}
	}
	if a.expired[bearer] || time.Since(iat) > time.Hour {
		return 403, "ExpiredProviderToken"
	}
	if conn.bearer != bearer {
		if a.strict && conn.bearer != "" && time.Since(conn.changed) < 20*time.Minute {
			return 429, "TooManyProviderTokenUpdates"
		}
		conn.bearer, conn.changed = bearer, time.Now()
	}
	return 200, ""
}

func (a *APNs) check(r *http.Request, body []byte) (int, string) {
	kind, topic, limit := r.Header.Get("apns-push-type"), a.BundleID, 4096
	priority := r.Header.Get("apns-priority")
	if kind == "voip" {
		topic, limit = topic+".voip", 5120
	}
	switch {
	case len(body) == 0:
		return 400, "PayloadEmpty"
	case len(body) > limit:
		return 413, "PayloadTooLarge"
	case kind != "alert" && kind != "background" && kind != "voip":
		return 400, "InvalidPushType"
	case r.Header.Get("apns-topic") == "":
		return 400, "MissingTopic"
	case r.Header.Get("apns-topic") != topic:
		return 400, "TopicDisallowed"
	case len(r.Header.Get("apns-collapse-id")) > 64:
		return 400, "BadCollapseId"
	case priority != "" && priority != "10" && priority != "5" && priority != "1", kind == "background" && priority != "5":
		return 400, "BadPriority"
	}
	if e := r.Header.Get("apns-expiration"); e != "" {
		if _, err := strconv.ParseInt(e, 10, 64); err != nil {
			return 400, "BadExpirationDate"
		}
	}
	var payload struct {
		APS map[string]json.RawMessage `json:"aps"`
	}
	if err := json.Unmarshal(body, &payload); err != nil || len(payload.APS) == 0 {
		a.violate("payload has no aps")
		return 400, "PayloadEmpty"
	}
	if kind == "background" && (payload.APS["alert"] != nil || payload.APS["sound"] != nil || payload.APS["badge"] != nil) {
		a.violate("background push with something to show")
	}
	return 200, ""
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}
