package main

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-im/rookery/broker"
	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/hooks/callback"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/push/dispatch"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/usersig"
)

// openPush starts offline push, if a provider app is configured.
func (n *node) openPush(context.Context, *tls.Config) error {
	apps, err := pushApps(&n.cfg.Push, receiptKey(n.app))
	if err != nil || len(apps) == 0 {
		return err
	}
	d, err := dispatch.New(n.store, pushConfig(n.cfg, apps), presence{n.broker}, pushEvents{n.outbox, &n.apnsPushes}, n.log)
	if err != nil {
		return err
	}
	n.push = d
	n.metrics.MustRegister(d)
	n.pipeline.UseOutbox(pushOutbox{d})
	n.onClose("push", func(context.Context) error { d.Close(); return nil })
	n.work("push", func(ctx context.Context) error {
		var check sync.WaitGroup
		if n.cfg.Push.CheckCredentials {
			check.Go(func() { d.CheckCredentials(ctx) })
		}
		defer check.Wait()
		return d.Run(ctx)
	})
	return nil
}

func pushConfig(cfg *configs.Config, apps []dispatch.App) dispatch.Config {
	p, t := &cfg.Push, &cfg.Push.Texts
	host, err := os.Hostname()
	if err != nil {
		host = "rookery"
	}
	return dispatch.Config{
		Apps: apps,
		Texts: push.Texts{
			Location: t.Location, Face: t.Face, Image: t.Image, Sound: t.Sound, File: t.File, Video: t.Video,
			GroupTitle: t.GroupTitle, GroupText: t.GroupText, GroupTextBare: t.GroupTextBare,
		},
		Deadline:         p.Deadline,
		QueueEntries:     p.QueueEntries,
		CollapseAfter:    p.CollapseAfter,
		CollapseInterval: p.CollapseInterval,
		DevicesPerUser:   p.DevicesPerUser,
		TokenBytes:       p.TokenBytes,
		Exclusive:        cfg.Storage.Driver == "pebble", // which one process opens
		Name:             host + "-" + rand.Text(),
		Grace:            cfg.App.ShutdownTimeout / 2,
	}
}

// checkOfflinePush refuses what no push could be made of, also where push is not configured: a
// sender is told the same everywhere.
func checkOfflinePush(info json.RawMessage) error {
	_, err := push.ParseOfflinePushInfo(info)
	return err
}

// receiptKey authenticates the callback parameters of receipts with a key of the app's secret, which
// is the same on all nodes.
func receiptKey(app usersig.App) push.Secret {
	mac := hmac.New(sha256.New, []byte(app.Secret))
	_, _ = mac.Write([]byte("callback parameters of push receipts")) // never fails
	return push.NewSecret(string(mac.Sum(nil)))
}

// pushApps makes the providers. What is wrong with one is told with its key.
func pushApps(p *configs.Push, receiptKey push.Secret) ([]dispatch.App, error) {
	m := &pushMaker{http: push.HTTPConfig{Timeout: p.Timeout, Concurrency: p.Concurrency}}
	receipts := func(secret configs.Secret) push.ReceiptConfig {
		return push.ReceiptConfig{Secret: push.NewSecret(secret.Reveal()), BaseURL: p.ReceiptsURL, Key: receiptKey}
	}
	if p.CAFile != "" {
		m.http.RootCAs = m.roots(p.CAFile)
	}
	for i, c := range p.APNs {
		h := m.http
		h.Concurrency = 0 // 300 streams a connection
		at := fmt.Sprintf("push.apns[%d]", i)
		a, err := push.NewAPNs(push.APNsConfig{
			Name: cmp.Or(c.Name, "apns"), BundleID: c.BundleID, Sandbox: c.Sandbox, BaseURL: c.BaseURL, Key: m.secret(at+".key_file", c.Key, c.KeyFile),
			KeyID: c.KeyID, TeamID: c.TeamID, Certificate: m.secret(at+".certificate_file", "", c.CertificateFile),
			CertificatePassword: push.NewSecret(c.Password.Reveal()), Sound: c.Sound, Category: c.Category, TimeToLive: c.TimeToLive,
			Connections: c.Connections, HTTP: h,
		})
		addApp(m, at, a, err, c.BundleID)
	}
	for i, c := range p.FCM {
		at := fmt.Sprintf("push.fcm[%d]", i)
		a, err := push.NewFCM(push.FCMConfig{
			Name: cmp.Or(c.Name, "fcm"), ServiceAccount: m.secret(at+".service_account_file", c.ServiceAccount, c.ServiceAccountFile), BaseURL: c.BaseURL,
			TokenURL: c.TokenURL, Package: c.Package, ChannelID: c.ChannelID, Priority: c.Priority, ClickAction: c.ClickAction,
			IOS: c.IOS, TimeToLive: c.TimeToLive, HTTP: m.http,
		})
		addApp(m, at, a, err, c.Package)
	}
	for i, c := range p.Huawei {
		at := fmt.Sprintf("push.huawei[%d]", i)
		rc := receipts(c.ReceiptSecret)
		rc.ID, rc.CallbackUser, rc.CallbackKey = c.ReceiptID, c.CallbackUser, push.NewSecret(c.CallbackKey.Reveal())
		a, err := push.NewHuawei(push.HuaweiConfig{
			Name: cmp.Or(c.Name, "huawei"), API: c.API, AppID: c.AppID, AppSecret: push.NewSecret(c.AppSecret.Reveal()), ProjectID: c.ProjectID,
			KeyFile: m.secret(at+".key_file", "", c.KeyFile), BaseURL: c.BaseURL, TokenURL: c.TokenURL, ChannelID: c.ChannelID, Category: c.Category,
			Importance: c.Importance, LauncherClass: c.LauncherClass, Intent: c.Intent, Action: c.Action, TimeToLive: c.TimeToLive, Receipts: rc, HTTP: m.http,
		})
		addApp(m, at, a, err, c.Package)
	}
	for i, c := range p.Honor {
		rc := receipts(c.ReceiptSecret)
		rc.CallbackUser, rc.CallbackKey = c.CallbackUser, push.NewSecret(c.CallbackKey.Reveal())
		a, err := push.NewHonor(push.HonorConfig{
			Name: cmp.Or(c.Name, "honor"), AppID: c.AppID, ClientID: c.ClientID, ClientSecret: push.NewSecret(c.ClientSecret.Reveal()), BaseURL: c.BaseURL,
			TokenURL: c.TokenURL, Importance: c.Importance, LauncherClass: c.LauncherClass, Intent: c.Intent, Action: c.Action, TimeToLive: c.TimeToLive, Receipts: rc, HTTP: m.http,
		})
		addApp(m, fmt.Sprintf("push.honor[%d]", i), a, err, c.Package)
	}
	for i, c := range p.Xiaomi {
		region := c.Region
		if region == "cn" {
			region = ""
		}
		a, err := push.NewXiaomi(push.XiaomiConfig{
			Name: cmp.Or(c.Name, "xiaomi"), AppSecret: push.NewSecret(c.AppSecret.Reveal()), Package: c.Package, Region: region, BaseURL: c.BaseURL,
			ChannelID: c.ChannelID, Intent: c.Intent, TimeToLive: c.TimeToLive, Receipts: receipts(c.ReceiptSecret), HTTP: m.http,
		})
		addApp(m, fmt.Sprintf("push.xiaomi[%d]", i), a, err, c.Package)
	}
	for i, c := range p.OPPO {
		a, err := push.NewOPPO(push.OPPOConfig{
			Name: cmp.Or(c.Name, "oppo"), AppKey: push.NewSecret(c.AppKey.Reveal()), MasterSecret: push.NewSecret(c.MasterSecret.Reveal()), BaseURL: c.BaseURL,
			GlobalURL: c.GlobalURL, ChannelID: c.ChannelID, Category: c.Category, NotifyLevel: c.NotifyLevel, ClickActivity: c.ClickActivity,
			TimeToLive: c.TimeToLive, Receipts: receipts(c.ReceiptSecret), HTTP: m.http,
		})
		addApp(m, fmt.Sprintf("push.oppo[%d]", i), a, err, c.Package)
	}
	for i, c := range p.Vivo {
		rc := receipts(c.ReceiptSecret)
		rc.ID = c.ReceiptID
		a, err := push.NewVivo(push.VivoConfig{
			Name: cmp.Or(c.Name, "vivo"), AppID: c.AppID, AppKey: push.NewSecret(c.AppKey.Reveal()), AppSecret: push.NewSecret(c.AppSecret.Reveal()), BaseURL: c.BaseURL,
			Category: c.Category, Operational: c.Operational, NotifyType: c.NotifyType, Intent: c.Intent, TimeToLive: c.TimeToLive, Receipts: rc, HTTP: m.http,
		})
		addApp(m, fmt.Sprintf("push.vivo[%d]", i), a, err, c.Package)
	}
	for i, c := range p.Meizu {
		a, err := push.NewMeizu(push.MeizuConfig{
			Name: cmp.Or(c.Name, "meizu"), AppID: c.AppID, AppSecret: push.NewSecret(c.AppSecret.Reveal()), URL: c.URL, Public: c.Public,
			Activity: c.Activity, TimeToLive: c.TimeToLive, Receipts: receipts(c.ReceiptSecret), HTTP: m.http,
		})
		addApp(m, fmt.Sprintf("push.meizu[%d]", i), a, err, c.Package)
	}
	return m.apps, errors.Join(m.errs...)
}

// A pushMaker gathers provider apps and what is wrong with them.
type pushMaker struct {
	http push.HTTPConfig
	apps []dispatch.App
	errs []error
}

func addApp[P push.Provider](m *pushMaker, at string, p P, err error, id string) {
	if err != nil {
		m.errs = append(m.errs, fmt.Errorf("%s: %w", at, err))
		return
	}
	m.apps = append(m.apps, dispatch.App{Provider: p, ID: id})
}

// secret returns the text, or what is in the file.
func (m *pushMaker) secret(key string, text configs.Secret, file string) push.Secret {
	switch {
	case file == "":
		return push.NewSecret(text.Reveal())
	case text != "":
		m.errs = append(m.errs, fmt.Errorf("%s: the text is given, too: set one of them", key))
	}
	b, err := os.ReadFile(file)
	if err != nil {
		m.errs = append(m.errs, fmt.Errorf("%s: %w", key, err))
	}
	return push.NewSecret(string(b))
}

func (m *pushMaker) roots(file string) *x509.CertPool {
	b, err := os.ReadFile(file)
	if err != nil {
		m.errs = append(m.errs, fmt.Errorf("push.ca_file: %w", err))
		return nil
	}
	pool, err := push.ParseRootCAs(string(b))
	if err != nil {
		m.errs = append(m.errs, fmt.Errorf("push.ca_file: %w", err))
	}
	return pool
}

// presence is what push asks of the broker.
type presence struct{ b *broker.Broker }

func (p presence) Connected(a group.Account) []string {
	sessions := p.b.Online(a)
	devices := make([]string, len(sessions))
	for i, s := range sessions {
		devices[i] = s.Device
	}
	return devices
}

// pushOutbox leaves a job with each message that may be pushed.
type pushOutbox struct{ d *dispatch.Dispatcher }

// Stored implements hooks.Outbox. Tips and imports have no draft.
func (o pushOutbox) Stored(g *group.Group, m *group.Message, d *hooks.Draft) []storage.Mutation {
	if d == nil {
		return nil
	}
	if mut, ok := o.d.Job(g, m); ok {
		return []storage.Mutation{mut}
	}
	return nil
}

// Online implements hooks.Outbox: what is not stored is not pushed.
func (pushOutbox) Online(*group.Group, *group.Message, *hooks.Draft) []storage.Mutation { return nil }

// Happened implements hooks.Outbox.
func (pushOutbox) Happened(*group.Group, string, any) []storage.Mutation { return nil }

// Refused implements hooks.Outbox.
func (pushOutbox) Refused(*group.Group, *hooks.Draft, *group.Error) []storage.Mutation { return nil }

// Committed implements hooks.Outbox.
func (o pushOutbox) Committed(key group.Key) { o.d.Committed(key.ID) }

// pushEvents counts what Apple has taken and tells the app's server, if there is one, what became
// of pushes.
type pushEvents struct {
	o    *callback.Outbox
	apns *atomic.Int64
}

// pushPlatforms are the callback's numbers of the vendors.
var pushPlatforms = map[push.Vendor]int{
	push.VendorAPNs: 1, push.VendorXiaomi: 2, push.VendorHuawei: 3, push.VendorFCM: 4, push.VendorMeizu: 5, push.VendorOPPO: 6,
	push.VendorVivo: 7, push.VendorHonor: 8,
}

// Report implements dispatch.Reporter.
func (p pushEvents) Report(events []dispatch.Event) {
	for _, e := range events {
		if e.Vendor == push.VendorAPNs && e.Outcome == push.Accepted {
			p.apns.Add(1)
		}
	}
	if p.o == nil {
		return
	}
	out := make([]callback.PushEvent, len(events))
	for i, e := range events {
		out[i] = callback.PushEvent{
			Time: e.Time.Unix(), Stage: int(e.Stage), From: e.From, To: e.To, Platform: pushPlatforms[e.Vendor], Group: e.Group, Seq: e.Seq, Random: e.Random,
			Sent: e.Sent, PushID: e.PushID, ErrCode: e.ErrCode(),
		}
		if e.Outcome != push.Accepted {
			out[i].ErrInfo = cmp.Or(e.Code, e.Outcome.String())
		}
	}
	p.o.Pushed(out)
}

// forgetTimeout bounds how long a login waits until the devices that it has displaced are forgotten.
const forgetTimeout = 5 * time.Second

// forgetPush forgets the push tokens of devices that another one's login has logged out.
func (n *node) forgetPush(a group.Account, devices []string) {
	if n.push == nil || len(devices) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
	defer cancel()
	for _, device := range devices {
		if err := n.push.DeleteToken(ctx, a, device); err != nil {
			n.log.Warn("push token of a device that was logged out not removed", "account", string(a), "client", device, "err", err)
		}
	}
}

// pushCommands is what the push commands ask of the dispatcher.
type pushCommands struct{ *dispatch.Dispatcher }

// SetToken implements command.Push.
func (p pushCommands) SetToken(ctx context.Context, a group.Account, t command.PushToken) error {
	return p.Dispatcher.SetToken(ctx, a, dispatch.Registration(t))
}

// Options implements command.Push.
func (p pushCommands) Options(ctx context.Context, a group.Account) (command.PushOptions, []command.PushDevice, error) {
	u, err := p.User(ctx, a)
	if err != nil {
		return command.PushOptions{}, nil, err
	}
	o := command.PushOptions{Disabled: u.Disabled}
	if q := u.Quiet; q != nil {
		o.Quiet, o.From, o.To, o.Offset = true, q.From, q.To, q.Offset
	}
	var devices []command.PushDevice
	for _, d := range u.Devices {
		one := command.PushDevice{
			Device: d.Device, App: d.App, Fingerprint: push.NewToken(d.Token).Fingerprint(), Registered: d.Registered / int64(time.Second),
		}
		if d.Background {
			one.Background = 1
		}
		devices = append(devices, one)
	}
	return o, devices, nil
}

// SetOptions implements command.Push.
func (p pushCommands) SetOptions(ctx context.Context, a group.Account, o command.PushOptions) error {
	var q *storage.PushQuiet
	if o.Quiet {
		q = &storage.PushQuiet{From: o.From, To: o.To, Offset: o.Offset}
	}
	return p.Dispatcher.SetOptions(ctx, a, o.Disabled, q)
}

// Test implements command.Push.
func (p pushCommands) Test(ctx context.Context, t command.PushTest) (json.RawMessage, error) {
	r, err := p.Explain(ctx, dispatch.Trial{Account: t.Account, Group: t.Group, Text: t.Text, Info: t.Info, Send: t.Send})
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}
