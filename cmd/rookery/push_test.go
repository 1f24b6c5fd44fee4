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
	"github.com/rookery-im/rookery/usersig"
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
		args = append([]string{"push", "test", "--url", "http://" + s.addrs["http"]}, args...)
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

// TestPushReceipts: six vendors report that a push has arrived, one that it was clicked and one
// that its token is dead. The app's server is told, the token goes, the pages count it, and who
// does not know an address finds nothing there.
func TestPushReceipts(t *testing.T) {
	const secret = "receipt-secret-0123456789"
	huawei, err := pushtest.NewHuawei(pushtest.Options{})
	fakes := map[string]*pushtest.Server{}
	reports := map[string]func(token, what string) (*pushtest.Receipt, error){}
	add := func(name string, s *pushtest.Server, report func(token, what string) (*pushtest.Receipt, error), err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		fakes[name], reports[name] = s, report
	}
	add("huawei", huawei.Server, huawei.Receipt, err)
	honor, err := pushtest.NewHonor(pushtest.Options{})
	add("honor", honor.Server, honor.Receipt, err)
	xiaomi, err := pushtest.NewXiaomi(pushtest.Options{})
	add("xiaomi", xiaomi.Server, xiaomi.Receipt, err)
	oppo, err := pushtest.NewOPPO(pushtest.Options{})
	add("oppo", oppo.Server, oppo.Receipt, err)
	vivo, err := pushtest.NewVivo(pushtest.Options{})
	add("vivo", vivo.Server, vivo.Receipt, err)
	meizu, err := pushtest.NewMeizu(pushtest.Options{})
	add("meizu", meizu.Server, meizu.Receipt, err)

	roots := filepath.Join(t.TempDir(), "roots.pem")
	var bundle []byte
	for _, s := range fakes {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})...)
	}
	if err := os.WriteFile(roots, bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 100)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing shows below
		told <- string(body)
		_, _ = io.WriteString(w, `{"ErrorCode":0}`)
	}))
	defer app.Close()
	env := []string{
		"ROOKERY_APP_SECRET=" + floodSecret, "ROOKERY_LOG_LEVEL=debug", "ROOKERY_PUSH_CA_FILE=" + roots,
		"ROOKERY_CALLBACKS_URL=" + app.URL, "ROOKERY_CALLBACKS_COMMANDS=Push.OfflinePush",
		"ROOKERY_PUSH_RECEIPTS_URL=https://im.example.com", // of a proxy that the fakes do not go through
		"ROOKERY_PUSH_HUAWEI_0_APP_ID=" + huawei.AppID, "ROOKERY_PUSH_HUAWEI_0_APP_SECRET=" + huawei.AppSecret,
		"ROOKERY_PUSH_HUAWEI_0_BASE_URL=" + huawei.URL, "ROOKERY_PUSH_HUAWEI_0_TOKEN_URL=" + huawei.TokenURL,
		"ROOKERY_PUSH_HUAWEI_0_CALLBACK_USER=cbuser", "ROOKERY_PUSH_HUAWEI_0_CALLBACK_KEY=callback-key-1",
		"ROOKERY_PUSH_HONOR_0_APP_ID=" + honor.AppID, "ROOKERY_PUSH_HONOR_0_CLIENT_ID=" + honor.ClientID, "ROOKERY_PUSH_HONOR_0_CLIENT_SECRET=" + honor.ClientSecret,
		"ROOKERY_PUSH_HONOR_0_BASE_URL=" + honor.URL, "ROOKERY_PUSH_HONOR_0_TOKEN_URL=" + honor.TokenURL,
		"ROOKERY_PUSH_XIAOMI_0_APP_SECRET=" + xiaomi.AppSecret, "ROOKERY_PUSH_XIAOMI_0_PACKAGE=" + xiaomi.Package, "ROOKERY_PUSH_XIAOMI_0_BASE_URL=" + xiaomi.URL,
		"ROOKERY_PUSH_XIAOMI_0_CHANNEL_ID=1",
		"ROOKERY_PUSH_OPPO_0_APP_KEY=" + oppo.AppKey, "ROOKERY_PUSH_OPPO_0_MASTER_SECRET=" + oppo.MasterSecret, "ROOKERY_PUSH_OPPO_0_BASE_URL=" + oppo.URL,
		"ROOKERY_PUSH_OPPO_0_GLOBAL_URL=" + oppo.URL,
		"ROOKERY_PUSH_VIVO_0_APP_ID=" + vivo.AppID, "ROOKERY_PUSH_VIVO_0_APP_KEY=" + vivo.AppKey, "ROOKERY_PUSH_VIVO_0_APP_SECRET=" + vivo.AppSecret,
		"ROOKERY_PUSH_VIVO_0_BASE_URL=" + vivo.URL,
		"ROOKERY_PUSH_MEIZU_0_APP_ID=" + meizu.AppID, "ROOKERY_PUSH_MEIZU_0_APP_SECRET=" + meizu.AppSecret, "ROOKERY_PUSH_MEIZU_0_URL=" + meizu.PushURL,
	}
	for name := range fakes {
		env = append(env, "ROOKERY_PUSH_"+strings.ToUpper(name)+"_0_RECEIPT_SECRET="+secret)
	}
	s := startServer(t, env, "--data-dir", filepath.Join(t.TempDir(), "data"))
	base := "http://" + s.addrs["http"]
	huawei.Console = pushtest.Console{URL: "https://im.example.com/push/receipts/huawei/" + secret, User: "cbuser", Key: "callback-key-1"}
	honor.Console = pushtest.Console{URL: "https://im.example.com/push/receipts/honor/" + secret}
	ask := func(command, body string) { t.Helper(); rest(t, s, floodSecret, command, body) }
	members := `{"Member_Account":"ann"}`
	for name := range fakes {
		ask("im_open_login_svc/account_import", `{"UserID":"`+name+`-user"}`)
		members += `,{"Member_Account":"` + name + `-user"}`
	}
	ask("im_open_login_svc/account_import", `{"UserID":"ann"}`)
	const groupID = "a-group-whose-id-is-as-long-as-one-may-be-48-byt" // receipts have room for its sum only
	ask("group_open_http_svc/create_group", `{"Type":"Public","GroupId":"`+groupID+`","Name":"Team","Owner_Account":"ann","MemberList":[`+members+`]}`)
	for name := range fakes {
		ask("openim/set_push_token", `{"From_Account":"`+name+`-user","Device":"phone","Vendor":"`+name+`","Token":"ok-`+name+`"}`)
	}
	// Tokens that are registered in the second of a message, or later, are not removed for it.
	for registered := time.Now().Unix(); time.Now().Unix() == registered; {
		time.Sleep(10 * time.Millisecond)
	}
	ask("group_open_http_svc/send_group_msg", `{"GroupId":"`+groupID+`","From_Account":"ann","Random":5,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hello all"}}]}`)
	await := func(stage, user string) {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			select {
			case body := <-told:
				if strings.Contains(body, `"PushStage":`+stage) && strings.Contains(body, `"To_Account":"`+user+`"`) {
					if !strings.Contains(body, `"GroupID":"`+groupID+`","MsgSeq":`) || !strings.Contains(body, `"MsgRandom":5,`) {
						t.Errorf("the app's server was told %s", body)
					}
					return
				}
			case <-deadline:
				t.Fatalf("the app's server was not told of stage %s of %s", stage, user)
			}
		}
	}
	for range fakes { // all are sent, in whatever order
		<-told
	}
	report := func(name, what string, change func(*pushtest.Receipt)) int {
		t.Helper()
		r, err := reports[name]("ok-"+name, what)
		if err != nil {
			t.Fatal(err)
		}
		path, ok := strings.CutPrefix(r.URL, "https://im.example.com/")
		if !ok {
			t.Fatalf("%s reports to %s", name, r.URL)
		}
		r.URL = base + "/" + path
		if change != nil {
			change(r)
		}
		status, answer, err := r.Post(t.Context())
		if err != nil || status == http.StatusOK && answer != `{"code":"0","message":"success"}` {
			t.Errorf("%s: %d %s %v", name, status, answer, err)
		}
		return status
	}
	for name := range fakes {
		if status := report(name, pushtest.Arrived, nil); status != http.StatusOK {
			t.Errorf("%s: status %d", name, status)
		}
		await("2", name+"-user")
		report(name, pushtest.Arrived, nil) // vendors repeat
	}
	report("xiaomi", pushtest.Clicked, nil)
	await("3", "xiaomi-user")
	for name, change := range map[string]func(*pushtest.Receipt){
		"xiaomi": func(r *pushtest.Receipt) { r.URL += "x" },
		"honor":  func(r *pushtest.Receipt) { r.URL = strings.Replace(r.URL, "/honor/", "/apns/", 1) },
		"huawei": func(r *pushtest.Receipt) { r.Header.Del("X-HUAWEI-CALLBACK-ID") },
	} {
		if status := report(name, pushtest.Dead, change); status != http.StatusNotFound {
			t.Errorf("%s: an address that is none is answered with %d", name, status)
		}
	}
	report("vivo", pushtest.Dead, func(r *pushtest.Receipt) { r.Body = strings.Replace(r.Body, "ok-vivo", "ok-oppo", 1) })
	report("oppo", pushtest.Dead, nil)

	devices := ""
	for name := range fakes {
		out, err := rookery(t, env, "push", "test", "--server", base, "--user", name+"-user", "--group", groupID).CombinedOutput()
		if err != nil {
			t.Fatalf("push test: %v\n%s", err, out)
		}
		devices += string(out)
		if gone := strings.Contains(string(out), "registered devices (0)"); gone != (name == "oppo") {
			t.Errorf("of %s push test says\n%s", name, out)
		}
	}
	_, metrics := get(t, base+"/metrics")
	for _, want := range []string{
		`rookery_push_receipts_total{kind="arrived",vendor="xiaomi"} 1`, `rookery_push_receipts_total{kind="repeated",vendor="xiaomi"} 1`,
		`rookery_push_receipts_total{kind="clicked",vendor="xiaomi"} 1`, `rookery_push_receipts_total{kind="dead",vendor="oppo"} 1`,
		`rookery_push_receipts_total{kind="foreign",vendor="vivo"} 1`, `rookery_push_receipts_total{kind="unsigned",vendor="huawei"} 1`,
		`rookery_push_receipts_total{kind="bad_address",vendor="xiaomi"} 1`, `rookery_push_tokens_removed_total{provider="oppo"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
	for _, hidden := range []string{secret, "callback-key-1", "ok-xiaomi", "ok-oppo"} {
		if strings.Contains(s.stderr.String()+metrics+devices, hidden) {
			t.Errorf("%.10s… shows", hidden)
		}
	}
}

// TestPushRefusesBadApps: what is wrong is named with its key, all at once.
func TestPushRefusesBadApps(t *testing.T) {
	cfg := configs.Default()
	cfg.Push.APNs = []configs.PushAPNs{{KeyFile: "/nowhere/key.p8", Connections: 2}}
	cfg.Push.Vivo = []configs.PushVivo{{AppID: "x", NotifyType: 4, TimeToLive: time.Hour}}
	cfg.Push.Meizu = []configs.PushMeizu{{AppID: "x", AppSecret: "y", ReceiptSecret: "0123456789abcdef"}}
	_, err := pushApps(&cfg.Push, receiptKey(usersig.App{Secret: floodSecret}))
	for _, want := range []string{"push.apns[0].key_file", "push.apns[0]: ", "bundle ID", "push.vivo[0]: ", "push.meizu[0]: ", "public address"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("pushApps = %v, want it to say %q", err, want)
		}
	}
}
