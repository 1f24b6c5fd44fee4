package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// doctorOf runs rookery doctor and returns its findings by what they are about.
func doctorOf(t *testing.T, data string, env ...string) (code int, found map[string]string, text string) {
	t.Helper()
	cmd := rookery(t, append([]string{
		"ROOKERY_MQTT_ADDR=127.0.0.1:0", "ROOKERY_WS_ADDR=127.0.0.1:0", "ROOKERY_HTTP_ADDR=127.0.0.1:0", "ROOKERY_STORAGE_FREE_SPACE_RESERVE=0",
	}, env...), "doctor", "--data-dir", data)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	found = make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^(ok|warn|FAIL) +(\S+(?: \S+)?)  +`).FindAllStringSubmatch(string(out), -1) {
		found[m[2]] = m[1]
	}
	return cmd.ProcessState.ExitCode(), found, string(out)
}

func TestDoctor(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	expect := func(name string, code int, want map[string]string, env ...string) string {
		t.Helper()
		got, found, text := doctorOf(t, data, env...)
		if got != code {
			t.Errorf("%s: exit code %d, want %d", name, got, code)
		}
		for what, how := range want {
			if found[what] != how {
				t.Errorf("%s: %s is %q, want %q", name, what, found[what], how)
			}
		}
		if t.Failed() {
			t.Fatalf("%s:\n%s", name, text)
		}
		return text
	}

	expect("before the first start", 0, map[string]string{"configuration": "ok", "data folder": "ok", "secret": "ok", "store": "ok", "mqtt.addr": "ok"})
	if _, err := os.Stat(data); err == nil {
		t.Error("the doctor has made the data folder")
	}

	s := startServer(t, nil, "--data-dir", data)
	expect("beside the server", 0, map[string]string{"store": "warn", "mqtt.addr": "warn", "http.addr": "ok"}, "ROOKERY_MQTT_ADDR="+s.addrs["mqtt"])
	if code := s.stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	expect("after it", 0, map[string]string{"secret": "ok", "store": "ok"})

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	expect("somebody else's address", 1, map[string]string{"ws.addr": "FAIL", "store": "ok"}, "ROOKERY_WS_ADDR="+taken.Addr().String())
	expect("no certificate", 1, map[string]string{"certificate": "FAIL"},
		"ROOKERY_TLS_CERT_FILE="+filepath.Join(data, "no.pem"), "ROOKERY_TLS_KEY_FILE="+filepath.Join(data, "no.key"))
	expect("a full disk", 1, map[string]string{"free space": "FAIL"}, "ROOKERY_STORAGE_FREE_SPACE_RESERVE=1TiB")

	secret := filepath.Join(data, secretFile)
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	expect("a secret for all to read", 0, map[string]string{"secret": "warn"})
	const broken = "half a secr"
	if err := os.WriteFile(secret, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := expect("a broken secret", 1, map[string]string{"secret": "FAIL"}); strings.Contains(text, broken) {
		t.Errorf("the secret is shown:\n%s", text)
	}
	if err := os.WriteFile(filepath.Join(data, "store", "CURRENT"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	marker, err := filepath.Glob(filepath.Join(data, "store", "MANIFEST-*"))
	if err != nil || len(marker) == 0 {
		t.Fatalf("no manifest to break: %v", err)
	}
	for _, file := range marker {
		if err := os.Truncate(file, 3); err != nil {
			t.Fatal(err)
		}
	}
	expect("a broken store", 1, map[string]string{"store": "FAIL"})
	data = filepath.Join(secret, "data")
	expect("a file in the way", 1, map[string]string{"data folder": "FAIL"})
}

func TestJudgeCertificate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		from, to time.Duration
		want     finding
	}{
		"valid":        {-time.Hour, certificateWarning, fine},
		"ends soon":    {-time.Hour, certificateWarning - time.Second, suspect},
		"expired":      {-time.Hour, -time.Second, failed},
		"not yet":      {time.Second, time.Hour, failed},
		"its last one": {-time.Hour, 0, suspect},
	} {
		leaf := &x509.Certificate{NotBefore: now.Add(c.from), NotAfter: now.Add(c.to)}
		if got, text := judgeCertificate(tls.Certificate{Leaf: leaf}, now); got != c.want {
			t.Errorf("%s: %s %s, want %s", name, got, text, c.want)
		}
	}
}
