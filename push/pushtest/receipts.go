package pushtest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What a fake can report of a push.
const (
	Arrived     = "arrived"
	Clicked     = "clicked"
	Dead        = "dead"
	Undelivered = "undelivered"
)

// A Console is what Huawei and Honor are told of receipts at their sites.
type Console struct {
	// URL is where to report to.
	URL string
	// User and Key sign the reports. An empty key means that they are not signed.
	User, Key string
}

// A Receipt is a vendor's report as it would go out.
type Receipt struct {
	URL    string
	Header http.Header
	Body   string
}

// Post sends the report.
func (r *Receipt) Post(ctx context.Context) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, strings.NewReader(r.Body))
	if err != nil {
		return 0, "", err
	}
	req.Header = r.Header
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func jsonReceipt(to string, body any) (*Receipt, error) {
	text, err := json.Marshal(body)
	return &Receipt{to, http.Header{"Content-Type": {"application/json"}}, string(text)}, err
}

func formReceipt(to, field string, body any) (*Receipt, error) {
	text, err := json.Marshal(body)
	form := url.Values{field: {string(text)}, "access_token": {"-"}}
	return &Receipt{to, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, form.Encode()}, err
}

// latest returns the body of the last push that was accepted for a device.
func (s *Server) latest(token string) ([]byte, error) {
	pushes := s.Pushes(token)
	if len(pushes) == 0 {
		return nil, fmt.Errorf("pushtest: nothing was pushed to %s", token)
	}
	return pushes[len(pushes)-1].Body, nil
}

// status finds what the vendor calls an event.
func status[T any](what string, names map[string]T) (T, error) {
	name, ok := names[what]
	if !ok {
		return name, fmt.Errorf("pushtest: the vendor does not report %q", what)
	}
	return name, nil
}

var huaweiStatuses = map[string]int{Arrived: 0, Dead: 2, Undelivered: 6}

// receipt is Huawei's and Honor's, in the other form for v3.
func (c *Console) receipt(tag, token, what string, v3 bool) (*Receipt, error) {
	code, err := status(what, huaweiStatuses)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	body := object{"statuses": []object{{"biTag": tag, "appid": "100100", "token": token, "status": code, "timestamp": now, "requestId": "req-1"}}}
	if v3 {
		body = object{"token": token, "pushType": 0, "biTag": tag, "requestId": "req-1", "deliveryStatus": object{"result": code, "timestamp": now}}
	}
	r, err := jsonReceipt(c.URL, body)
	if c.Key != "" && err == nil {
		stamp, nonce := strconv.FormatInt(now, 10), "a07bfa17-6d82-4b53-a9a2-07cfef5ceef1"
		mac := hmac.New(sha256.New, []byte(c.Key))
		_, _ = mac.Write([]byte(stamp + nonce + c.User)) // never fails
		r.Header.Set("X-HUAWEI-CALLBACK-ID", "timestamp="+stamp+"; nonce="+nonce+"; value="+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return r, err
}

// Receipt returns what Huawei would report of the last push to a device.
func (h *Huawei) Receipt(token, what string) (*Receipt, error) {
	body, err := h.latest(token)
	if err != nil {
		return nil, err
	}
	var m struct {
		Message struct {
			Android struct {
				BITag string `json:"bi_tag"`
			} `json:"android"`
		} `json:"message"`
		Options *struct {
			BITag string `json:"biTag"`
		} `json:"pushOptions"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	if m.Options != nil {
		return h.Console.receipt(m.Options.BITag, token, what, true)
	}
	return h.Console.receipt(m.Message.Android.BITag, token, what, false)
}

// Receipt returns what Honor would report of the last push to a device.
func (h *Honor) Receipt(token, what string) (*Receipt, error) {
	body, err := h.latest(token)
	if err != nil {
		return nil, err
	}
	var m struct {
		Android struct {
			BITag string `json:"biTag"`
		} `json:"android"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	return h.Console.receipt(m.Android.BITag, token, what, false)
}

// Receipt returns what Xiaomi would report of the last push to a device.
func (x *Xiaomi) Receipt(token, what string) (*Receipt, error) {
	body, err := x.latest(token)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	bit, err := status(what, map[string]int{Arrived: 1, Clicked: 2, Dead: 16, Undelivered: 64})
	if err != nil {
		return nil, err
	}
	if wanted, err := strconv.Atoi(form.Get("extra.callback.type")); err != nil || wanted&bit == 0 {
		return nil, fmt.Errorf("pushtest: callback.type %q does not ask for %d", form.Get("extra.callback.type"), bit)
	}
	return formReceipt(form.Get("extra.callback"), "data", object{"slm1": object{
		"type": bit, "targets": token, "param": form.Get("extra.callback.param"), "jobkey": form.Get("extra.jobkey"), "timestamp": time.Now().UnixMilli(), "extra": object{},
	}})
}

// Receipt returns what OPPO would report of the last push to a device.
func (p *OPPO) Receipt(token, what string) (*Receipt, error) {
	body, err := p.latest(token)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	event, err := status(what, map[string]string{Arrived: "push_arrive", Dead: "regid_invalid", Undelivered: "user_daily_limit"})
	if err != nil {
		return nil, err
	}
	messages := []byte("[" + form.Get("message") + "]")
	if form.Has("messages") {
		messages = []byte(form.Get("messages"))
	}
	var list []oppoMessage
	if err := json.Unmarshal(messages, &list); err != nil {
		return nil, err
	}
	for _, m := range list {
		if m.TargetValue == token {
			return jsonReceipt(m.Notification.CallBackURL, []object{{
				"messageId": "app-1-1-0", "appId": "1", "taskId": "app-1-1-0", "registrationIds": token,
				"eventTime": strconv.FormatInt(time.Now().UnixMilli(), 10), "param": m.Notification.CallBackParam, "eventType": event,
			}})
		}
	}
	return nil, fmt.Errorf("pushtest: %s is not in its push", token)
}

// Receipt returns what vivo would report of the last push to a device.
func (v *Vivo) Receipt(token, what string) (*Receipt, error) {
	body, err := v.latest(token)
	if err != nil {
		return nil, err
	}
	var m vivoBody
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	event, err := status(what, map[string]string{Arrived: "", Clicked: "2", Dead: "regid_invalid", Undelivered: "user_daily_limit"})
	if err != nil {
		return nil, err
	}
	to := m.Extra["callback"]
	if to == "" {
		to = v.Console.URL
	}
	entry := object{"param": m.Extra["callback.param"], "targets": token}
	if event != "" {
		entry["type"] = event
	}
	return jsonReceipt(to, object{"t1": entry})
}

// Receipt returns what Meizu would report of the last push to a device.
func (m *Meizu) Receipt(token, what string) (*Receipt, error) {
	body, err := m.latest(token)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	var msg struct {
		Extra meizuExtra `json:"extra"`
	}
	if err := json.Unmarshal([]byte(form.Get("messageJson")), &msg); err != nil {
		return nil, err
	}
	kind, err := status(what, map[string]int{Arrived: 1, Clicked: 2})
	if err != nil {
		return nil, err
	}
	if msg.Extra.Type&kind == 0 {
		return nil, fmt.Errorf("pushtest: callback.type %d does not ask for %d", msg.Extra.Type, kind)
	}
	return formReceipt(msg.Extra.Callback, "cb", object{"NS1-" + strconv.Itoa(kind): object{"param": msg.Extra.Param, "type": kind, "targets": []string{token}}})
}

type meizuExtra struct {
	Callback string `json:"callback"`
	Param    string `json:"callback.param"`
	Type     int    `json:"callback.type"`
}

// checkCallback checks what a push says of receipts: both fields or none, within their limits.
func (s *Server) checkCallback(to, param string, maxURL, maxParam int) bool {
	if (to == "") == (param == "") && len(to) <= maxURL && len(param) <= maxParam && !bytes.ContainsAny([]byte(to), " \n") {
		return true
	}
	s.violate("callback of %d bytes with a parameter of %d", len(to), len(param))
	return false
}
