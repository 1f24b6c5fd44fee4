package push

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-im/rookery/push/pushtest"
)

func newAPNsRig(t testing.TB, o pushtest.Options, change func(*APNsConfig, *pushtest.APNs)) (*APNs, *pushtest.APNs) {
	t.Helper()
	fake, err := pushtest.NewAPNs(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	c := APNsConfig{
		Name: "ios", BundleID: fake.BundleID, BaseURL: fake.URL, Key: NewSecret(fake.Key),
		KeyID: fake.KeyID, TeamID: fake.TeamID, HTTP: HTTPConfig{RootCAs: fake.RootCAs()},
	}
	if change != nil {
		change(&c, fake)
	}
	p, err := NewAPNs(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, fake
}

func TestAPNsCertificate(t *testing.T) {
	byCertificate := func(c *APNsConfig, f *pushtest.APNs) {
		c.Key, c.KeyID, c.TeamID, c.Certificate = Secret{}, "", "", NewSecret(f.Certificate)
	}
	p, _ := newAPNsRig(t, pushtest.Options{}, byCertificate)
	wantOutcomes(t, p, plainNotification(), []string{"ok-1"}, Accepted)
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("Check = %v, want nil", err)
	}
	other, err := pushtest.NewAPNs(pushtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p, _ = newAPNsRig(t, pushtest.Options{}, func(c *APNsConfig, _ *pushtest.APNs) { byCertificate(c, other) })
	wantOutcomes(t, p, plainNotification(), []string{"ok-1"}, AuthRejected)
}

func TestAPNsKinds(t *testing.T) {
	p, fake := newAPNsRig(t, pushtest.Options{}, nil)
	badge := 7
	sent := func(info string, d Device) (*pushtest.Push, Result) {
		t.Helper()
		n := plainNotification()
		parsed, err := ParseOfflinePushInfo(json.RawMessage(info))
		if err != nil {
			t.Fatal(err)
		}
		n.Info = parsed
		r := p.Send(t.Context(), n, []Device{d})[0]
		token := d.Token.Reveal()
		if r.VoIP {
			token = d.VoIPToken.Reveal()
		}
		pushes := fake.Pushes(token)
		if r.Outcome != Accepted || len(pushes) == 0 {
			t.Fatalf("%s: %+v", info, r)
		}
		return pushes[len(pushes)-1], r
	}
	phone := Device{Token: NewToken("ok-1"), Badge: &badge}
	calls := Device{Token: NewToken("ok-1"), VoIPToken: NewToken("ok-voip")}
	for _, c := range []struct {
		info                              string
		device                            Device
		kind, topic, priority, expiration string
		has, hasNot                       []string
	}{
		{`{}`, phone, "alert", "com.example.app", "10", "", []string{`"badge":7`, `"sound":"default"`, `"thread-id":"@TGS#1"`}, []string{"content-available"}},
		{`{"ApnsInfo":{"BadgeMode":1}}`, phone, "alert", "com.example.app", "10", "", nil, []string{"badge"}},
		{`{"BadgeSetNum":0,"BadgeAddNum":5}`, phone, "alert", "com.example.app", "10", "", []string{`"badge":0`}, nil},
		{`{"BadgeSetNum":999}`, Device{Token: NewToken("ok-1")}, "alert", "com.example.app", "10", "", []string{`"badge":999`}, nil},
		{`{"BadgeAddNum":5}`, phone, "alert", "com.example.app", "10", "", []string{`"badge":11`}, nil}, // six before this message
		{`{"BadgeAddNum":5}`, Device{Token: NewToken("ok-1")}, "alert", "com.example.app", "10", "", nil, []string{"badge"}},
		{`{"BadgeSetNum":3,"ApnsInfo":{"BadgeMode":1}}`, phone, "alert", "com.example.app", "10", "", nil, []string{"badge"}},
		{`{"ApnsInfo":{"Sound":"push.no_sound"}}`, phone, "alert", "com.example.app", "10", "", nil, []string{"sound"}},
		{`{"ApnsInfo":{"ContentAvailable":1}}`, phone, "background", "com.example.app", "5", "", []string{`{"aps":{"content-available":1}`}, []string{"alert", "sound", "badge"}},
		{`{"ApnsInfo":{"IsVoipPush":1}}`, calls, "voip", "com.example.app.voip", "10", "1", []string{`"alert"`}, nil},
		{`{"ApnsInfo":{"IsVoipPush":1}}`, phone, "alert", "com.example.app", "10", "", nil, nil}, // no VoIP token
		{`{"ApnsInfo":{"Image":"http://a/b.png"}}`, phone, "alert", "com.example.app", "10", "", []string{`"image":"http://a/b.png"`}, nil},
		{`{"ApnsInfo":{"Image":"https://a/b.png"}}`, phone, "alert", "com.example.app", "10", "", []string{`"image":"https://a/b.png"`, `"mutable-content":1`}, nil},
	} {
		push, _ := sent(c.info, c.device)
		h := push.Header
		got := []string{h.Get("apns-push-type"), h.Get("apns-topic"), h.Get("apns-priority")}
		if want := []string{c.kind, c.topic, c.priority}; !slices.Equal(got, want) {
			t.Errorf("%s: headers %q, want %q", c.info, got, want)
		}
		e, err := strconv.ParseInt(h.Get("apns-expiration"), 10, 64)
		if in := time.Until(time.Unix(e, 0)); err != nil || c.expiration != "" && h.Get("apns-expiration") != c.expiration ||
			c.expiration == "" && (in < 23*time.Hour || in > 25*time.Hour) {
			t.Errorf("%s: expiration %q", c.info, h.Get("apns-expiration"))
		}
		for _, s := range c.has {
			if !strings.Contains(string(push.Body), s) {
				t.Errorf("%s: body %s lacks %s", c.info, push.Body, s)
			}
		}
		for _, s := range c.hasNot {
			if strings.Contains(string(push.Body), s) {
				t.Errorf("%s: body %s has %s", c.info, push.Body, s)
			}
		}
	}
	wantNoViolations(t, fake.Server)
}

func TestAPNsDeadSince(t *testing.T) {
	p, _ := newAPNsRig(t, pushtest.Options{}, nil)
	r := wantOutcomes(t, p, plainNotification(), []string{"dead-1"}, TokenInvalid)[0]
	if ago := time.Since(r.AsOf); ago < 59*time.Minute || ago > 61*time.Minute {
		t.Errorf("AsOf is %v ago, want the answer's hour", ago)
	}
}

// TestAPNsWarmUp: a new connection carries one push until it has been answered.
func TestAPNsWarmUp(t *testing.T) {
	p, fake := newAPNsRig(t, pushtest.Options{Latency: 300 * time.Millisecond}, func(c *APNsConfig, _ *pushtest.APNs) { c.Connections = 1 })
	tokens := make([]string, 200)
	for i := range tokens {
		tokens[i] = "ok-" + strconv.Itoa(i)
	}
	for _, r := range p.Send(t.Context(), plainNotification(), devices(tokens...)) {
		if r.Outcome != Accepted {
			t.Fatalf("%+v", r)
		}
	}
	stats := fake.Stats()
	if fake.ColdStreams() != 0 || stats.Conns != 1 {
		t.Errorf("%d pushes went beside the first, on %d connections; want 0 on 1", fake.ColdStreams(), stats.Conns)
	}
	if stats.MaxConcurrent < 50 {
		t.Errorf("at most %d pushes at once: the connection never got warm", stats.MaxConcurrent)
	}
}

// TestAPNsForcedRenewal: a provider token that was renewed by force stays for 20 minutes.
func TestAPNsForcedRenewal(t *testing.T) {
	p, fake := newAPNsRig(t, pushtest.Options{}, nil)
	wantOutcomes(t, p, plainNotification(), []string{"ok-1"}, Accepted)
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // iat has whole seconds
	fake.ExpireTokens()
	wantOutcomes(t, p, plainNotification(), []string{"ok-1"}, Accepted)
	first := p.key.token.Bearer
	fake.ExpireTokens()
	wantOutcomes(t, p, plainNotification(), []string{"ok-1"}, AuthRejected)
	if p.key.token.Bearer != first {
		t.Error("the provider token was renewed twice within 20 minutes")
	}
	p.key.forced = time.Now().Add(-apnsForceEvery)
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	wantOutcomes(t, p, plainNotification(), []string{"ok-1"}, Accepted)
}

func TestAPNsGoAway(t *testing.T) {
	p, fake := newAPNsRig(t, pushtest.Options{}, nil)
	for i := range 30 {
		fake.GoAway(i%3 == 0)
		wantOutcomes(t, p, plainNotification(), []string{"ok-" + strconv.Itoa(i)}, Accepted)
	}
	if n := fake.Stats().Conns; n < 5 {
		t.Errorf("%d connections: the fake sent no GOAWAY", n)
	}
}

// sendAll pushes to every device, trying again what can be, as a worker does, and returns how
// many tries it took.
func sendAll(ctx context.Context, t testing.TB, p Provider, n *Notification, list []Device) int {
	t.Helper()
	tries := 0
	for round := 0; len(list) > 0; round++ {
		if round == 50 {
			t.Fatalf("%d pushes are not through after %d rounds", len(list), round)
		}
		var left []Device
		for i, r := range p.Send(ctx, n, list) {
			tries++
			switch r.Outcome {
			case Accepted:
			case Retryable:
				left = append(left, list[i])
			default:
				t.Fatalf("%+v", r)
			}
		}
		list = left
	}
	return tries
}

// TestAPNsKilledConnections: nothing is lost when connections die at random, and a push is
// sent twice only where an answer was lost.
func TestAPNsKilledConnections(t *testing.T) {
	p, fake := newAPNsRig(t, pushtest.Options{Latency: 5 * time.Millisecond, KillEvery: 300}, nil)
	const number = 3000
	list := make([]Device, number)
	for i := range list {
		list[i].Token = NewToken("ok-" + strconv.Itoa(i))
	}
	tries := sendAll(t.Context(), t, p, plainNotification(), list)
	counts := fake.Counts()
	if len(counts) != number {
		t.Errorf("%d of %d devices got the push", len(counts), number)
	}
	if total := fake.Stats().Accepted; total > tries {
		t.Errorf("%d pushes were taken in %d tries", total, tries)
	}
	for token := range counts {
		ids := make(map[string]bool)
		for _, push := range fake.Pushes(token) {
			ids[push.Header.Get("apns-collapse-id")] = true
		}
		if len(ids) != 1 {
			t.Errorf("%s was sent under %d collapse IDs", token, len(ids))
		}
	}
	t.Logf("%d tries, %d taken, %d connections", tries, fake.Stats().Accepted, fake.Stats().Conns)
}

// BenchmarkAPNs pushes to a fake that takes 20 ms for an answer.
func BenchmarkAPNs(b *testing.B) {
	for _, kill := range []int{0, 2000} {
		b.Run("kill="+strconv.Itoa(kill), func(b *testing.B) {
			p, fake := newAPNsRig(b, pushtest.Options{Latency: 20 * time.Millisecond, KillEvery: kill}, nil)
			const number = 500
			list := make([]Device, number)
			for i := range list {
				list[i].Token = NewToken("ok-" + strconv.Itoa(i))
			}
			n := plainNotification()
			var sent atomic.Int64
			b.SetParallelism(4)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					sendAll(b.Context(), b, p, n, list)
					sent.Add(number)
				}
			})
			b.ReportMetric(float64(sent.Load())/b.Elapsed().Seconds(), "pushes/s")
			if got := fake.Stats().Accepted; int64(got) < sent.Load() {
				b.Errorf("%d of %d pushes arrived", got, sent.Load())
			}
		})
	}
}

func TestAPNsShrinks(t *testing.T) {
	p, fake := newAPNsRig(t, pushtest.Options{}, nil)
	for _, c := range []struct {
		name      string
		text, ext int
		want      Outcome
		keepsExt  bool
	}{
		{"fits", 1000, 1000, Accepted, true},
		{"long text", 9000, 1000, Accepted, true},
		{"long ext", 100, 9000, Accepted, false},
	} {
		n := plainNotification()
		n.Text, n.Ext = strings.Repeat("<é>", c.text/3), strings.Repeat("x", c.ext)
		wantOutcomes(t, p, n, []string{"ok-" + c.name[:3]}, c.want)
		pushes := fake.Pushes("ok-" + c.name[:3])
		body := string(pushes[len(pushes)-1].Body)
		if len(body) > maxBody || strings.Contains(body, `"ext"`) != c.keepsExt {
			t.Errorf("%s: %d bytes, ext: %v; want at most %d, ext: %v", c.name, len(body), strings.Contains(body, `"ext"`), maxBody, c.keepsExt)
		}
		if c.text > maxBody && len(body) < maxBody-20 {
			t.Errorf("%s: only %d bytes of %d are used", c.name, len(body), maxBody)
		}
	}
	n := plainNotification()
	n.Title = strings.Repeat("t", 5000)
	wantOutcomes(t, p, n, []string{"ok-title"}, PayloadRejected)
	wantNoViolations(t, fake.Server)
}

func TestAPNsConfigErrors(t *testing.T) {
	_, err := NewAPNs(APNsConfig{Name: "ios", BaseURL: "http://x", KeyID: "short", Key: NewSecret("key"), HTTP: HTTPConfig{Timeout: -1}})
	for _, want := range []string{"bundle ID", "https URL", "key ID", "team ID", "PEM", "timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewAPNs = %v, want it to name the %s", err, want)
		}
	}
}

// TestAPNsReasons has every reason of Apple's table.
func TestAPNsReasons(t *testing.T) {
	p, _ := newAPNsRig(t, pushtest.Options{}, nil)
	for _, c := range []struct {
		status  int
		reasons string
		want    Outcome
	}{
		{400, "BadDeviceToken DeviceTokenNotForTopic", TokenForeign},
		{400, "MissingDeviceToken BadCollapseId BadExpirationDate BadMessageId BadPriority DuplicateHeaders InvalidPushType PayloadEmpty", PayloadRejected},
		{404, "BadPath", PayloadRejected},
		{400, "BadTopic MissingTopic TopicDisallowed", AuthRejected},
		{400, "IdleTimeout", Retryable},
		{403, "InvalidProviderToken MissingProviderToken BadCertificate BadCertificateEnvironment UnrelatedKeyIdInToken BadEnvironmentKeyIdInToken Forbidden", AuthRejected},
		{403, "ExpiredProviderToken", AuthRejected}, // the renewal did not help
		{405, "MethodNotAllowed", PayloadRejected},
		{410, "Unregistered ExpiredToken", TokenInvalid},
		{413, "PayloadTooLarge", PayloadRejected},
		{429, "TooManyRequests", DeviceThrottled},
		{429, "TooManyProviderTokenUpdates", Throttled},
		{500, "InternalServerError", Retryable},
		{503, "ServiceUnavailable", Throttled},
		{503, "Shutdown", Retryable},
		{599, "NeverHeardOf", Retryable},
		{418, "NeverHeardOf", PayloadRejected},
	} {
		for reason := range strings.FieldsSeq(c.reasons) {
			token := "code-" + strconv.Itoa(c.status) + "-" + reason + "-x"
			r := wantOutcomes(t, p, plainNotification(), []string{token}, c.want)[0]
			if r.Code != reason {
				t.Errorf("%s: code %q", reason, r.Code)
			}
		}
	}
	if got := apnsOutcome(http.StatusBadGateway, ""); got != Retryable {
		t.Errorf("502 without a reason = %v, want Retryable", got)
	}
}
