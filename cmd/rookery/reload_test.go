package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestLimitsChangeWhileRunning sends 10 messages at once to a group that takes one a second,
// then as many when the configuration says otherwise, and when it can't be read.
func TestLimitsChangeWhileRunning(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	file := filepath.Join(t.TempDir(), "rookery.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("flow:\n  messages_per_second: 1\n")
	s := startServer(t, []string{"ROOKERY_APP_SECRET=" + secret}, "--data-dir", t.TempDir(), "--config", file)
	rest(t, s, secret, "group_open_http_svc/create_group", `{"Type":"Public","Name":"n","GroupId":"g"}`)
	next := 0
	dropped := func() string { // so far
		var sent sync.WaitGroup
		for range 10 {
			next++
			body := fmt.Sprintf(`{"GroupId":"g","Random":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}]}`, next)
			sent.Go(func() { rest(t, s, secret, "group_open_http_svc/send_group_msg", body) })
		}
		sent.Wait()
		_, metrics := get(t, "http://"+s.addrs["http"]+"/metrics")
		return regexp.MustCompile(`(?m)^rookery_hooks_restricted_total\{priority="Normal"\} .*$`).FindString(metrics)
	}
	reload := func(text, says string) {
		t.Helper()
		write(text)
		if err := s.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for s.log.Scan() {
			if strings.Contains(s.log.Text(), says) {
				return
			}
		}
		t.Fatalf("the log does not say %q:\n%s", says, s.stderr)
	}
	before := dropped()
	if before == "" {
		t.Error("10 messages at once, and none was dropped by a limit of 1")
	}
	reload("flow:\n  messages_per_second: 1000\n", "limits of messages read again")
	if after := dropped(); after != before {
		t.Errorf("with a limit of 1000: %s, before %s", after, before)
	}
	reload("flow:\n  messages_per_second: many\n", "configuration not read again")
	if after := dropped(); after != before {
		t.Errorf("after a configuration that can't be read: %s, before %s", after, before)
	}
	rest(t, s, secret, "group_open_http_svc/set_group_limits", `{"GroupId":"g","NormalPerSecond":1}`)
	if after := dropped(); after == before {
		t.Errorf("with a limit of 1 for Normal in this group: %s, before %s", after, before)
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
}

// TestCertificateChangesWhileRunning renews the certificate under a running server, then breaks it.
func TestCertificateChangesWhileRunning(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certFile, keyFile, 1)
	s := startServer(t, []string{"ROOKERY_TLS_CERT_FILE=" + certFile, "ROOKERY_TLS_KEY_FILE=" + keyFile, "ROOKERY_MQTT_TLS_ADDR=127.0.0.1:0", "ROOKERY_WS_TLS_ADDR=127.0.0.1:0", "ROOKERY_HTTP_TLS_ADDR=127.0.0.1:0"},
		"--data-dir", filepath.Join(dir, "data"))
	shown := func(want int64) {
		t.Helper()
		for _, door := range []string{"mqtts", "wss", "https"} {
			c, err := tls.Dial("tcp", s.addrs[door], &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatalf("%s: %v", door, err)
			}
			if got := c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != want {
				t.Errorf("%s shows certificate %d; want %d", door, got, want)
			}
			c.Close()
		}
	}
	hangUp := func(says string) {
		t.Helper()
		if err := s.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for s.log.Scan() {
			if strings.Contains(s.log.Text(), says) {
				return
			}
		}
		t.Fatalf("the log does not say %q:\n%s", says, s.stderr)
	}
	shown(1)
	writeCertificate(t, certFile, keyFile, 2)
	hangUp("certificate read again")
	shown(2)
	if err := os.WriteFile(keyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hangUp("certificate not read again")
	shown(2)
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
}

// writeCertificate writes a certificate that signs itself, and its key.
func writeCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
