package configs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "12000": 12000, "7B": 7, "64KiB": 64 << 10, "1 MiB": 1 << 20, "3GiB": 3 << 30, "1TiB": 1 << 40,
		"9223372036854775807": math.MaxInt64,
	} {
		got, err := ParseSize(text)
		if got != want || err != nil {
			t.Errorf("ParseSize(%q) = %v, %v; want %d", text, got, err, want)
		}
		if again, err := ParseSize(got.String()); again != got || err != nil {
			t.Errorf("ParseSize(%q) = %v, %v; want %d back", got.String(), again, err, got)
		}
	}
	for _, text := range []string{"", "B", "KiB", "-1", "1.5MiB", "1KB", "1kib", "0x10", "9223372036854775808", "9000000TiB", "1KiBB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", text, got)
		}
	}
}

func TestSecretIsHidden(t *testing.T) {
	c := Default()
	c.App.Secret, c.Callbacks.Token, c.Storage.Mongo.URI = "hunter2", "hunter2", "mongodb://u:hunter2@h"
	var out bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, format+"\n", c.App.Secret)
		fmt.Fprintf(&out, format+"\n", c)
		fmt.Fprintf(&out, format+"\n", *c)
	}
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, options), slog.NewJSONHandler(&out, options)} {
		slog.New(h).Info("started", "config", c, "app", c.App, "secret", c.App.Secret)
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		b, err := marshal(c)
		if err != nil {
			t.Error(err)
		}
		out.Write(b)
	}
	for _, secret := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2")} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the secret shows as %q", secret)
		}
	}
	if c.App.Secret.Reveal() != "hunter2" || c.App.Secret.String() != "[hidden]" || Secret("").String() != "" {
		t.Errorf("Reveal = %q, String = %q, of none %q", c.App.Secret.Reveal(), c.App.Secret, Secret(""))
	}
}
