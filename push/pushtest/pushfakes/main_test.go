package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/push/pushtest"
)

// TestRun starts the command and pushes with nothing but what it wrote.
func TestRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fakes")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-dir", dir, "-latency", "0"}, w)
		done <- err
		_ = w.CloseWithError(err)
	}()
	out := json.NewDecoder(r)
	var vendors map[string]vendor
	if err := out.Decode(&vendors); err != nil {
		t.Fatal(err)
	}
	if len(vendors) != 8 {
		t.Errorf("%d fakes, want 8", len(vendors))
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	roots, err := push.ParseRootCAs(read("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(configs.Sources{File: filepath.Join(dir, "rookery.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Push; len(p.APNs) != 1 || len(p.FCM) != 1 || len(p.Huawei) != 1 || len(p.Honor) != 1 || len(p.Xiaomi) != 1 || len(p.OPPO) != 1 || len(p.Vivo) != 1 || len(p.Meizu) != 1 {
		t.Errorf("push in rookery.yaml: %+v", p)
	}
	v := vendors["apns"]
	p, err := push.NewAPNs(push.APNsConfig{
		Name: "ios", BaseURL: v.URL, BundleID: v.Settings["BundleID"], KeyID: v.Settings["KeyID"], TeamID: v.Settings["TeamID"],
		Key: push.NewSecret(read(v.Settings["Key"])), HTTP: push.HTTPConfig{RootCAs: roots},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	got := p.Send(t.Context(), &push.Notification{Title: "t", Text: "x", MessageID: "m"}, []push.Device{{Token: push.NewToken("ok-1")}})
	if got[0].Outcome != push.Accepted {
		t.Errorf("%+v", got[0])
	}
	stop()
	var stats map[string]pushtest.Stats
	if err := out.Decode(&stats); err != nil {
		t.Fatal(err)
	}
	if stats["apns"].Accepted != 1 {
		t.Errorf("%+v, want one push at APNs", stats)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
