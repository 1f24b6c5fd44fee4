package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/push/pushtest"
)

// TestPush sends a message to a group over REST: it reaches the phones of two members who are
// not connected, and not the one that is; the app's server is told; rookery push test
// explains it; and nothing that is secret stands in the log, the metrics or the explanation.
func TestPush(t *testing.T) {
	apple, err := pushtest.NewAPNs(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer apple.Close()
	huawei, err := pushtest.NewHuawei(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer huawei.Close()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: apple.Server.Certificate().Raw})
	bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: huawei.Certificate().Raw})...)
	key := filepath.Join(t.TempDir(), "key.p8")
	for file, text := range map[string][]byte{roots: bundle, key: []byte(apple.Key)} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	told := make(chan string, 100)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing shows below
		told <- r.FormValue("CallbackCommand") + " " + string(body)
		_, _ = io.WriteString(w, `{"ErrorCode":0}`)
	}))
	defer app.Close()
	env := []string{
		"ROOKERY_APP_SECRET=" + floodSecret, "ROOKERY_LOG_LEVEL=debug", "ROOKERY_PUSH_CA_FILE=" + roots,
		"ROOKERY_PUSH_APNS_0_BUNDLE_ID=" + apple.BundleID, "ROOKERY_PUSH_APNS_0_KEY_FILE=" + key, "ROOKERY_PUSH_APNS_0_KEY_ID=" + apple.KeyID,
		"ROOKERY_PUSH_APNS_0_TEAM_ID=" + apple.TeamID, "ROOKERY_PUSH_APNS_0_BASE_URL=" + apple.URL,
		"ROOKERY_PUSH_HUAWEI_0_APP_ID=" + huawei.AppID, "ROOKERY_PUSH_HUAWEI_0_APP_SECRET=" + huawei.AppSecret,
		"ROOKERY_PUSH_HUAWEI_0_BASE_URL=" + huawei.URL, "ROOKERY_PUSH_HUAWEI_0_TOKEN_URL=" + huawei.TokenURL,
		"ROOKERY_CALLBACKS_URL=" + app.URL, "ROOKERY_CALLBACKS_COMMANDS=Push.OfflinePush",
	}
	s := startServer(t, env, "--data-dir", filepath.Join(t.TempDir(), "data"))
	ask := func(command, body string) { t.Helper(); rest(t, s, floodSecret, command, body) }
	for _, user := range []string{"ann", "bob", "carol"} {
		ask("im_open_login_svc/account_import", `{"UserID":"`+user+`"}`)
	}
	ask("group_open_http_svc/create_group", `{"Type":"Public","GroupId":"g1","Name":"Team","Owner_Account":"ann","MemberList":[{"Member_Account":"bob"},{"Member_Account":"carol"}]}`)

	replies := make(chan string, 10)
	carol := mqttClient(t, s, "carol", "carols-phone", func(p *paho.Publish) {
		if strings.HasSuffix(p.Topic, "/rpc") {
			replies <- string(p.Payload)
		}
	})
	call := func(command, body string) string {
		t.Helper()
		_, err := carol.Publish(t.Context(), &paho.Publish{
			Topic: "rpc/" + command, QoS: 1, Payload: []byte(body), Properties: &paho.PublishProperties{ResponseTopic: "users/carol/rpc"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return <-replies
	}
	for command, body := range map[string]string{
		"set_push_token":   `{"Vendor":"huawei","Token":"ok-carol-connected"}`,
		"set_push_options": `{"QuietFrom":"22:00","QuietTo":"22:00"}`,
	} {
		if reply := call(command, body); !strings.Contains(reply, `"ErrorCode":0`) {
			t.Errorf("%s: %s", command, reply)
		}
	}
	if reply := call("set_push_token", `{"From_Account":"bob","Vendor":"xiaomi","Token":"x"}`); !strings.Contains(reply, `"ErrorCode":22001`) {
		t.Errorf("a vendor that is not configured: %s", reply)
	}
	if reply := call("push_test", `{"To_Account":"carol"}`); strings.Contains(reply, `"ErrorCode":0`) {
		t.Errorf("a user may test: %s", reply)
	}
	if reply := call("get_push_options", `{}`); !strings.Contains(reply, `"QuietFrom":"22:00"`) || !strings.Contains(reply, "carols-phone") {
		t.Errorf("get_push_options: %s", reply)
	}
	call("set_push_options", `{}`)
	ask("openim/set_push_token", `{"From_Account":"carol","Device":"carols-tablet","App":"huawei","Token":"ok-carol-away"}`)
	ask("openim/set_push_token", `{"From_Account":"bob","Device":"bobs-phone","App":"`+apple.BundleID+`","Token":"ok-bob"}`)
	ask("group_open_http_svc/send_group_msg", `{"GroupId":"g1","From_Account":"ann","Random":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hello all"}}]}`)

	if reply := call("send_group_msg", `{"GroupId":"g1","Random":2,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}],"OfflinePushInfo":{"PushFlag":7}}`); !strings.Contains(reply, `"ErrorCode":10004`) || !strings.Contains(reply, "PushFlag") {
		t.Errorf("a malformed OfflinePushInfo: %s", reply)
	}

	events := ""
	for range 2 { // one for each vendor
		events += <-told
	}
	for _, want := range []string{`"To_Account":"bob"`, `"To_Account":"carol"`, `"PushPlatform":1`, `"PushPlatform":3`, `"GroupID":"g1"`, "Push.OfflinePush", `"ErrCode":0`} {
		if !strings.Contains(events, want) {
			t.Errorf("the app's server was told %s, want %s", events, want)
		}
	}
	if n := huawei.Count("ok-carol-away") + apple.Count("ok-bob"); n != 2 {
		t.Errorf("%d of 2 phones were reached", n)
	}
	if huawei.Count("ok-carol-connected") != 0 {
		t.Error("a device that is connected was pushed to")
	}
	pushed := apple.Pushes("ok-bob")[0]
	var payload struct {
		APS struct {
			Alert struct{ Title, Body string }
			Badge int
		}
	}
	if err := json.Unmarshal(pushed.Body, &payload); err != nil || payload.APS.Alert.Title != "Team" || payload.APS.Alert.Body != "hello all" || payload.APS.Badge < 1 {
		t.Errorf("the payload is %s", pushed.Body)
	}

	explain := func(args ...string) string {
		t.Helper()
		args = append([]string{"push", "test", "--server", "http://" + s.addrs["http"]}, args...)
		out, err := rookery(t, env, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("push test: %v\n%s", err, out)
		}
		return string(out)
	}
	text := explain("--user", "carol", "--group", "g1", "--text", "how are you", "--send")
	for _, want := range []string{
		"yes  the user is a member of the group", "device carols-phone", "NO   the device is not connected", "it would NOT be sent",
		"device carols-tablet", "how are you", "the vendor answered after", "accepted",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("push test says\n%s\nwant %q", text, want)
		}
	}
	if huawei.Count("ok-carol-away") != 2 || huawei.Count("ok-carol-connected") != 0 {
		t.Error("push test --send reached others than it should have")
	}
	ask("im_open_login_svc/kick", `{"UserID":"bob"}`)
	if text := explain("--user", "bob"); !strings.Contains(text, "NO   the account has registered devices (0)") {
		t.Errorf("after a kick push test says\n%s", text)
	}

	_, metrics := get(t, "http://"+s.addrs["http"]+"/metrics")
	if !strings.Contains(metrics, `rookery_push_sends_total{outcome="accepted",provider="apns"} 1`) {
		t.Error("the metrics do not count the push")
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
	log := s.stderr.String()
	if strings.Count(log, "push credentials confirmed") != 2 {
		t.Errorf("the credentials were not confirmed: %s", log)
	}
	_, pemBody, _ := strings.Cut(apple.Key, "\n")
	for _, secret := range []string{"ok-carol", "ok-bob", huawei.AppSecret, "PRIVATE KEY", pemBody[:40], "access-"} {
		if strings.Contains(log+metrics+text, secret) {
			t.Errorf("%.10s… shows", secret)
		}
	}
}

// TestPushAfterDisplacement: the push token of a device that the login policy logs out goes; that
// of one whose own new connection takes the old one's place stays.
func TestPushAfterDisplacement(t *testing.T) {
	huawei, err := pushtest.NewHuawei(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer huawei.Close()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: huawei.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, []string{
		"ROOKERY_APP_SECRET=" + floodSecret, "ROOKERY_ACCOUNTS_LOGIN_POLICY=single", "ROOKERY_PUSH_CA_FILE=" + roots,
		"ROOKERY_PUSH_HUAWEI_0_APP_ID=" + huawei.AppID, "ROOKERY_PUSH_HUAWEI_0_APP_SECRET=" + huawei.AppSecret,
		"ROOKERY_PUSH_HUAWEI_0_BASE_URL=" + huawei.URL, "ROOKERY_PUSH_HUAWEI_0_TOKEN_URL=" + huawei.TokenURL,
	}, "--data-dir", filepath.Join(t.TempDir(), "data"))
	ask := func(command, body string) { t.Helper(); rest(t, s, floodSecret, command, body) }
	ask("im_open_login_svc/account_import", `{"UserID":"bob"}`)
	for device, token := range map[string]string{"old-phone": "ok-old", "new-phone": "ok-new"} {
		ask("openim/set_push_token", `{"From_Account":"bob","Device":"`+device+`","Vendor":"huawei","Token":"`+token+`"}`)
	}
	mqttClient(t, s, "bob", "old-phone", nil)
	mqttClient(t, s, "bob", "new-phone", nil)
	replies := make(chan string, 1)
	c := mqttClient(t, s, "bob", "new-phone", func(p *paho.Publish) { replies <- string(p.Payload) }) // takes the session over
	_, err = c.Publish(t.Context(), &paho.Publish{
		Topic: "rpc/get_push_options", QoS: 1, Payload: []byte("{}"), Properties: &paho.PublishProperties{ResponseTopic: "users/bob/rpc"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if reply := <-replies; strings.Contains(reply, "old-phone") || !strings.Contains(reply, "new-phone") {
		t.Errorf("registered devices: %s, want the new phone alone", reply)
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
}

// TestPushRefusesBadApps: what is wrong is named with its key, all at once.
func TestPushRefusesBadApps(t *testing.T) {
	cfg := configs.Default()
	cfg.Push.APNs = []configs.PushAPNs{{KeyFile: "/nowhere/key.p8", Connections: 2}}
	cfg.Push.Vivo = []configs.PushVivo{{AppID: "x", NotifyType: 4, TimeToLive: time.Hour}}
	_, err := pushApps(&cfg.Push)
	for _, want := range []string{"push.apns[0].key_file", "push.apns[0]: ", "bundle ID", "push.vivo[0]: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("pushApps = %v, want it to say %q", err, want)
		}
	}
}
