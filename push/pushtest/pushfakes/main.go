// Command pushfakes runs a fake of every push vendor, to try a server against.
//
// It writes to the folder given by -dir what a server needs: rookery.yaml, a configuration with
// an app at each fake, ca.pem, which signs the fakes' certificates, and the key files. It prints
// the addresses and credentials as JSON, and runs until it is interrupted, when it prints what
// each fake has counted.
//
// How a device token begins says what becomes of its pushes: ok-1 is accepted, package pushtest
// lists the others.
package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rookery-im/rookery/push/pushtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pushfakes:", err)
		os.Exit(1)
	}
}

// A vendor is what is printed about a fake.
type vendor struct {
	URL string `json:"url"`
	// Settings are the credentials, by the names of the provider's configuration.
	Settings map[string]string `json:"settings"`
	server   *pushtest.Server
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("pushfakes", flag.ContinueOnError)
	dir := flags.String("dir", ".", "where to write rookery.yaml, ca.pem and the key files")
	var o pushtest.Options
	flags.DurationVar(&o.Latency, "latency", 20*time.Millisecond, "how long a push takes")
	flags.IntVar(&o.KillEvery, "kill", 0, "cut a connection once in so many calls; 0 never")
	flags.IntVar(&o.Quota, "quota", 0, "pushes a day at the Chinese vendors; 0 without end")
	flags.IntVar(&o.Rate, "rate", 0, "calls a second; 0 without limit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	vendors, files, err := start(o)
	defer func() {
		for _, v := range vendors {
			v.server.Close()
		}
	}()
	if err != nil {
		return err
	}
	if files["rookery.yaml"], err = configuration(vendors, *dir); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(*dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	printer := json.NewEncoder(out)
	printer.SetIndent("", "  ")
	if err := printer.Encode(vendors); err != nil {
		return err
	}
	<-ctx.Done()
	stats := make(map[string]pushtest.Stats)
	for name, v := range vendors {
		stats[name] = v.server.Stats()
		for _, violation := range v.server.Violations() {
			fmt.Fprintln(os.Stderr, name+":", violation)
		}
	}
	return printer.Encode(stats)
}

// configured are the settings that go into the configuration, and their keys in there. (The
// others are for another way in.)
var configured = map[string]string{
	"apns.BundleID": "bundle_id", "apns.Key": "key_file", "apns.KeyID": "key_id", "apns.TeamID": "team_id",
	"fcm.ServiceAccount": "service_account_file",
	"huawei.AppID":       "app_id", "huawei.AppSecret": "app_secret", "huawei.TokenURL": "token_url",
	"honor.AppID": "app_id", "honor.ClientID": "client_id", "honor.ClientSecret": "client_secret", "honor.TokenURL": "token_url",
	"xiaomi.AppSecret": "app_secret", "xiaomi.Package": "package", "xiaomi.ChannelID": "channel_id",
	"oppo.AppKey": "app_key", "oppo.MasterSecret": "master_secret",
	"vivo.AppID": "app_id", "vivo.AppKey": "app_key", "vivo.AppSecret": "app_secret",
	"meizu.AppID": "app_id", "meizu.AppSecret": "app_secret", "meizu.URL": "url",
}

// configuration is a server's configuration with an app at each fake.
func configuration(vendors map[string]*vendor, dir string) (string, error) {
	dir, err := filepath.Abs(dir) // the server may run elsewhere
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "push:\n  ca_file: %q\n", filepath.Join(dir, "ca.pem"))
	for _, name := range slices.Sorted(maps.Keys(vendors)) {
		v := vendors[name]
		lines := []string{}
		if name != "meizu" { // which has the URL of the one call
			lines = append(lines, fmt.Sprintf("base_url: %q", v.URL))
		}
		if name == "oppo" {
			lines = append(lines, fmt.Sprintf("global_url: %q", v.URL)) // for tokens without CN_
		}
		for _, setting := range slices.Sorted(maps.Keys(v.Settings)) {
			key, value := configured[name+"."+setting], v.Settings[setting]
			if key == "" {
				continue
			}
			if strings.HasSuffix(key, "_file") {
				value = filepath.Join(dir, value)
			}
			lines = append(lines, fmt.Sprintf("%s: %q", key, value))
		}
		fmt.Fprintf(&b, "  %s:\n    - %s\n", name, strings.Join(lines, "\n      "))
	}
	return b.String(), nil
}

// start starts all fakes. After an error the ones it returns are still to be closed.
func start(o pushtest.Options) (map[string]*vendor, map[string]string, error) {
	vendors := make(map[string]*vendor)
	files := make(map[string]string)
	add := func(name string, s *pushtest.Server, settings map[string]string) {
		vendors[name] = &vendor{URL: s.URL, Settings: settings, server: s}
		files["ca.pem"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	}
	apns, err := pushtest.NewAPNs(o)
	if err != nil {
		return vendors, nil, err
	}
	add("apns", apns.Server, map[string]string{"BundleID": apns.BundleID, "KeyID": apns.KeyID, "TeamID": apns.TeamID, "Key": "apns.p8", "Certificate": "apns.pem"})
	files["apns.p8"], files["apns.pem"] = apns.Key, apns.Certificate
	fcm, err := pushtest.NewFCM(o)
	if err != nil {
		return vendors, nil, err
	}
	add("fcm", fcm.Server, map[string]string{"ServiceAccount": "fcm.json"})
	files["fcm.json"] = fcm.ServiceAccount
	huawei, err := pushtest.NewHuawei(o)
	if err != nil {
		return vendors, nil, err
	}
	add("huawei", huawei.Server, map[string]string{
		"AppID": huawei.AppID, "AppSecret": huawei.AppSecret, "ProjectID": huawei.ProjectID, "TokenURL": huawei.TokenURL, "KeyFile": "huawei.json",
	})
	files["huawei.json"] = huawei.KeyFile
	honor, err := pushtest.NewHonor(o)
	if err != nil {
		return vendors, nil, err
	}
	add("honor", honor.Server, map[string]string{"AppID": honor.AppID, "ClientID": honor.ClientID, "ClientSecret": honor.ClientSecret, "TokenURL": honor.TokenURL})
	xiaomi, err := pushtest.NewXiaomi(o)
	if err != nil {
		return vendors, nil, err
	}
	add("xiaomi", xiaomi.Server, map[string]string{"AppSecret": xiaomi.AppSecret, "Package": xiaomi.Package, "ChannelID": "any"})
	oppo, err := pushtest.NewOPPO(o)
	if err != nil {
		return vendors, nil, err
	}
	add("oppo", oppo.Server, map[string]string{"AppKey": oppo.AppKey, "MasterSecret": oppo.MasterSecret})
	vivo, err := pushtest.NewVivo(o)
	if err != nil {
		return vendors, nil, err
	}
	add("vivo", vivo.Server, map[string]string{"AppID": vivo.AppID, "AppKey": vivo.AppKey, "AppSecret": vivo.AppSecret})
	meizu, err := pushtest.NewMeizu(o)
	if err != nil {
		return vendors, nil, err
	}
	add("meizu", meizu.Server, map[string]string{"AppID": meizu.AppID, "AppSecret": meizu.AppSecret, "URL": meizu.PushURL})
	return vendors, files, nil
}
