package client_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/rookery-im/rookery/client"
	"github.com/rookery-im/rookery/internal/crash"
)

// TestPushToken registers a device for offline push with a real server, and logs it out.
func TestPushToken(t *testing.T) {
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	n, err := crash.Start(context.Background(), program, filepath.Join(t.TempDir(), "data"),
		"ROOKERY_PUSH_CHECK_CREDENTIALS=false", "ROOKERY_PUSH_HUAWEI_0_APP_ID=1", "ROOKERY_PUSH_HUAWEI_0_APP_SECRET=s",
		"ROOKERY_PUSH_HUAWEI_0_BASE_URL=http://127.0.0.1:1", "ROOKERY_PUSH_HUAWEI_0_TOKEN_URL=http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	})
	makeGroup(t, n, "c", "bob")
	bob, _ := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "bob"})
	devices := func() int {
		t.Helper()
		var options struct{ Devices []struct{ Device string } }
		if err := bob.Call(t.Context(), "get_push_options", struct{}{}, &options); err != nil {
			t.Fatal(err)
		}
		return len(options.Devices)
	}
	if err := bob.SetPushToken(t.Context(), client.PushToken{Vendor: "huawei", Token: "a-token"}); err != nil {
		t.Fatal(err)
	}
	if err := bob.SetBadge(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if got := devices(); got != 1 {
		t.Errorf("%d devices registered, want 1", got)
	}
	if err := bob.SetPushToken(t.Context(), client.PushToken{Vendor: "huawei"}); err == nil {
		t.Error("a registration without a token was taken")
	}
	if err := bob.DeletePushToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := devices(); got != 0 {
		t.Errorf("%d devices registered after the logout, want 0", got)
	}
}
