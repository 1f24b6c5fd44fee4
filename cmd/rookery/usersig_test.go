package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/usersig"
)

func TestUserSig(t *testing.T) {
	data := filepath.Join(t.TempDir(), "new", "data")
	var stdout, stderr strings.Builder
	before := time.Now().Truncate(time.Second)
	if code := run(t.Context(), []string{"usersig", "--user", "alice", "--data-dir", data}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	claims := verify(t, stdout.String(), data, "alice")
	if life := claims.ExpiresAt.Sub(claims.IssuedAt); life != 24*time.Hour || claims.IssuedAt.Before(before) {
		t.Errorf("UserSig of %v for %v, want of now for 24h", claims.IssuedAt, life)
	}
	if want := "rookery: no secret is configured, so one was made: " + filepath.Join(data, "secret") + "\n"; stderr.String() != want {
		t.Errorf("stderr = %q, want %q", stderr.String(), want)
	}

	stdout.Reset()
	stderr.Reset()
	if code := run(t.Context(), []string{"usersig", "--user", "bob", "--expire", "90m", "--data-dir", data}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("second call: exit code %d, stderr %q", code, stderr.String())
	}
	if claims := verify(t, stdout.String(), data, "bob"); claims.ExpiresAt.Sub(claims.IssuedAt) != 90*time.Minute {
		t.Errorf("UserSig for %v, want 90m", claims.ExpiresAt.Sub(claims.IssuedAt))
	}
}

// A configured secret and SDKAppID are used, and then no data folder is touched.
func TestUserSigConfigured(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "rookery.yaml")
	if err := os.WriteFile(file, []byte("app: {sdkappid: 7, secret: from-file}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	for name, test := range map[string]struct {
		args   []string
		env    map[string]string
		secret string
	}{
		"flag":        {[]string{"--config", file}, nil, "from-file"},
		"variable":    {nil, map[string]string{"ROOKERY_CONFIG": file}, "from-file"},
		"secret, too": {nil, map[string]string{"ROOKERY_CONFIG": file, "ROOKERY_APP_SECRET": "from-env"}, "from-env"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range test.env {
				t.Setenv(k, v)
			}
			var stdout, stderr strings.Builder
			code := run(t.Context(), append([]string{"usersig", "--user", "a b", "--data-dir", data}, test.args...), &stdout, &stderr)
			if code != 0 || stderr.Len() > 0 {
				t.Fatalf("exit code %d, stderr %q", code, stderr.String())
			}
			_, err := usersig.NewVerifier(usersig.App{ID: 7, Secret: test.secret}).
				Verify(usersig.Request{Identifier: "a b", UserSig: strings.TrimSuffix(stdout.String(), "\n")}, time.Now())
			if err != nil {
				t.Error(err)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("folder has %v, %v; want the file alone", entries, err)
			}
		})
	}
}

func TestUserSigRefusals(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no user":       {nil, `rookery: --user: "" is not a UserID: 1 to 32 printable ASCII characters`},
		"long user":     {[]string{"--user", strings.Repeat("a", 33)}, `is not a UserID`},
		"control":       {[]string{"--user", "a\nb"}, `rookery: --user: "a\nb" is not a UserID`},
		"no time":       {[]string{"--user", "a", "--expire", "0s"}, `rookery: --expire: 0s is below one second`},
		"odd time":      {[]string{"--user", "a", "--expire", "tomorrow"}, `--expire`},
		"bad data":      {[]string{"--user", "a", "--data-dir", os.DevNull}, `rookery: `},
		"configuration": {[]string{"--user", "a", "--config", os.DevNull + "x"}, `rookery: configuration file: `},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := run(t.Context(), append([]string{"usersig", "--data-dir", data}, test.args...), &stdout, &stderr)
			if code != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), test.want) || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("exit code %d, stdout %q, stderr %q; want 1, nothing and a line with %q", code, stdout.String(), stderr.String(), test.want)
			}
			if _, err := os.Stat(data); err == nil {
				t.Error("a data folder was made")
			}
		})
	}
}

// Whoever comes first makes the secret, and all get the same.
func TestSecretIsMadeOnce(t *testing.T) {
	app := configs.App{DataDir: filepath.Join(t.TempDir(), "data")}
	secrets := make([]configs.Secret, 16)
	var all sync.WaitGroup
	for i := range secrets {
		all.Go(func() {
			var err error
			if secrets[i], _, err = appSecret(app); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, s := range secrets {
		if s != secrets[0] || len(s.Reveal()) != 64 {
			t.Errorf("secrets differ: %q and %q", s.Reveal(), secrets[0].Reveal())
		}
	}
	entries, err := os.ReadDir(app.DataDir)
	if err != nil || len(entries) != 1 {
		t.Errorf("data folder has %v, %v; want the secret alone", entries, err)
	}
}
