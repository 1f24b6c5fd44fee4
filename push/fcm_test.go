package push

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/push/pushtest"
)

// TestFCMForIPhones: iPhones that register with Firebase get what APNs would be told.
func TestFCMForIPhones(t *testing.T) {
	fake, err := pushtest.NewFCM(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	p, err := NewFCM(FCMConfig{
		Name: "google", ServiceAccount: NewSecret(fake.ServiceAccount), BaseURL: fake.URL, IOS: true, HTTP: HTTPConfig{RootCAs: fake.RootCAs()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	long := plainNotification()
	long.Text = strings.Repeat("长", 4000)
	quiet := plainNotification()
	quiet.Info = &OfflinePushInfo{ApnsInfo: ApnsInfo{Sound: NoSound, BadgeMode: 1}}
	for _, c := range []struct {
		name string
		n    *Notification
		want string // the aps and the options
		id   string
	}{
		{"full", fullNotification(t), `{"alert":{"title":"Team (iOS)","subtitle":"from Ann","body":"Ann: see you at 7 & bring \"cake\" 🎂"},"badge":8,"sound":"shake.caf",` +
			`"thread-id":"@TGS#1","mutable-content":1,"interruption-level":"time-sensitive"} {"image":"https://img.example.com/a.png"}`, "msg-0001"},
		{"plain", plainNotification(), `{"badge":7,"sound":"default","thread-id":"@TGS#1"} `, "msg-7"},
		{"quiet", quiet, `{"thread-id":"@TGS#1"} `, "msg-7"},
		{"long", long, `{"badge":7,"sound":"default","thread-id":"@TGS#1"} `, "msg-7"},
	} {
		r := p.Send(t.Context(), c.n, []Device{{Token: NewToken("ok-" + c.name), Badge: new(7)}})[0]
		if r.Outcome != Accepted {
			t.Fatalf("%s: %+v", c.name, r)
		}
		body := fake.Pushes("ok-" + c.name)[0].Body
		var got struct {
			Message struct {
				APNs struct {
					Headers map[string]string
					Payload struct{ APS json.RawMessage }
					Options json.RawMessage `json:"fcm_options"`
				}
			}
		}
		if err := json.Unmarshal(body, &got); err != nil || len(body) > maxBody {
			t.Errorf("%s: %v, %d bytes", c.name, err, len(body))
		}
		a := got.Message.APNs
		if text := string(a.Payload.APS) + " " + string(a.Options); text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
		if a.Headers["apns-collapse-id"] != c.id || a.Headers["apns-priority"] != "10" || a.Headers["apns-expiration"] == "" {
			t.Errorf("%s: headers %v", c.name, a.Headers)
		}
	}
	wantNoViolations(t, fake.Server)
}
