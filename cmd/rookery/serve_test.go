package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/usersig"
)

// TestMain makes this test binary the program itself when it is started by one of its tests.
func TestMain(m *testing.M) {
	if os.Getenv("ROOKERY_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// command returns the program with args, to be run as a process of its own, in a fresh folder.
func rookery(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// No test needs a minute: one whose server should not have started ends as a failure.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"ROOKERY_TEST_MAIN=1", "PATH=" + os.Getenv("PATH")}, env...)
	return cmd
}

// freePorts are flags that let the server choose its ports.
var freePorts = []string{"--mqtt-addr", "127.0.0.1:0", "--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"}

// A server is a running process.
type server struct {
	*exec.Cmd
	addrs  map[string]string
	stdout string
	stderr *strings.Builder // complete after Wait
	log    *bufio.Scanner
}

// startServer starts the program and returns when it has said that it is ready.
func startServer(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready.json")
	s := &server{Cmd: rookery(t, env, append([]string{"serve", "--ready-file", ready}, append(freePorts, args...)...)...), stderr: new(strings.Builder)}
	stdout, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Process.Kill() })
	s.log = bufio.NewScanner(io.TeeReader(stderr, s.stderr))

	// The greeting is one write; after it nothing more comes.
	buf := make([]byte, 64<<10)
	n, err := stdout.Read(buf)
	if err != nil {
		rest, _ := io.ReadAll(stderr)
		t.Fatalf("the server did not become ready: %v\n%s", err, rest)
	}
	s.stdout = string(buf[:n])
	text, err := os.ReadFile(ready)
	if err != nil {
		t.Fatalf("ready, but without the ready file: %v", err)
	}
	if err := json.Unmarshal(text, &s.addrs); err != nil {
		t.Fatalf("ready file %q: %v", text, err)
	}
	return s
}

// stop ends the server as a supervisor does and returns its exit code.
func (s *server) stop(t *testing.T) int {
	t.Helper()
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for s.log.Scan() { // until the process has closed it
	}
	if err := s.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return s.ProcessState.ExitCode()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	data := filepath.Join(t.TempDir(), "it's data")
	s := startServer(t, nil, "--data-dir", data)
	for name, addr := range s.addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host != "127.0.0.1" || port == "0" {
			t.Errorf("%s listens on %q", name, addr)
		}
		if !strings.Contains(s.stdout, addr) {
			t.Errorf("the greeting does not show %s:\n%s", addr, s.stdout)
		}
	}
	if names := slices.Sorted(maps.Keys(s.addrs)); !slices.Equal(names, listeners) {
		t.Errorf("the ready file has %v, want %v", names, listeners)
	}
	if !strings.Contains(s.stdout, data) {
		t.Errorf("the greeting does not show the data folder:\n%s", s.stdout)
	}
	web := "http://" + s.addrs["http"]
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/healthz":      {200, `{"status":"ok"}`},
		"/readyz":       {200, `{"status":"ok"}`},
		"/metrics":      {200, "rookery_hooks_pending_messages 0"},
		"/debug/pprof/": {404, ""},
	} {
		if status, body := get(t, web+path); status != want.status || !strings.Contains(body, want.body) {
			t.Errorf("GET %s = %d %.200s; want %d %s", path, status, body, want.status, want.body)
		}
	}

	secret := filepath.Join(data, "secret")
	info, err := os.Stat(secret)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("secret file: %v, %v; want mode 0600", info, err)
	}
	text, err := os.ReadFile(secret)
	if err != nil || !regexp.MustCompile(`^[0-9a-f]{64}\n$`).Match(text) {
		t.Fatalf("secret file holds %q, %v", text, err)
	}
	if strings.Contains(s.stdout, string(text[:64])) {
		t.Error("the greeting shows the secret")
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0\n%s", code, s.stderr)
	}
	if log := s.stderr.String(); !strings.Contains(log, "msg=stopped") || strings.Contains(log, string(text[:64])) {
		t.Errorf("log: %s", log)
	}

	// A second start finds its data and its secret again.
	s = startServer(t, []string{"ROOKERY_HTTP_PPROF=true"}, "--data-dir", data)
	if status, _ := get(t, "http://"+s.addrs["http"]+"/debug/pprof/cmdline"); status != 200 {
		t.Errorf("pprof = %d, want 200 where it is on", status)
	}
	if _, body := get(t, "http://"+s.addrs["http"]+"/debug/pprof/mutex?debug=1"); !strings.Contains(body, "sampling period=100\n") {
		t.Errorf("the profile of mutexes: %.200s; want one of every 100 events", body)
	}
	if again, err := os.ReadFile(secret); err != nil || string(again) != string(text) {
		t.Errorf("secret = %q, %v; want %q", again, err, text)
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, s.stderr)
	}
}

// The commands that the greeting shows are the shell's to run from any folder: the one for
// UserSigs makes one that this data folder's secret verifies.
func TestGreetingCommands(t *testing.T) {
	cfg := configs.Default()
	cfg.App.DataDir = filepath.Join(t.TempDir(), "it's data")
	var out strings.Builder
	g := greeting{cfg: cfg, addrs: addresses{"mqtt": "127.0.0.1:1", "http": "127.0.0.1:2"}, program: program()}
	if err := g.print(&out); err != nil {
		t.Fatal(err)
	}
	_, script, ok := strings.Cut(out.String(), "another terminal:\n")
	if !ok {
		t.Fatalf("no commands in %s", &out)
	}
	// The clients are replaced by a function that shows what they would get.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "for f in curl mosquitto_sub mosquitto_pub; do eval \"$f() { echo $f \\\"\\$*\\\"; }\"; done\n"+script+"\nwait; sig alice >&2")
	cmd.Env = []string{"ROOKERY_TEST_MAIN=1", "PATH=" + os.Getenv("PATH")}
	var sig strings.Builder
	cmd.Stderr = &sig
	shown, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s\n%v: %s", script, err, &sig)
	}
	verify(t, sig.String()[strings.Index(sig.String(), "\n")+1:], cfg.App.DataDir, "alice") // the first line says that a secret was made
	for _, want := range []string{
		`curl -sS -d {"UserID":"alice"} http://127.0.0.1:2/v4/im_open_login_svc/account_import?sdkappid=1400000001&identifier=administrator&usersig=eJ`,
		`curl -sS -d {"GroupId":"hello",`,
		`mosquitto_sub -h 127.0.0.1 -p 1 -u bob -P eJ`,
		`mosquitto_pub -h 127.0.0.1 -p 1 -u alice -P eJ`,
	} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("the commands do not run %s:\n%s", want, shown)
		}
	}
}

// verify checks that out is one line, a UserSig of user that the data folder's secret signed.
func verify(t *testing.T, out, data, user string) usersig.Claims {
	t.Helper()
	secret, err := readSecret(filepath.Join(data, secretFile))
	if err != nil {
		t.Fatal(err)
	}
	sig, rest, ok := strings.Cut(out, "\n")
	if !ok || rest != "" {
		t.Fatalf("output %q is not one line", out)
	}
	claims, err := usersig.NewVerifier(usersig.App{ID: 1400000001, Secret: secret.Reveal()}).
		Verify(usersig.Request{Identifier: user, UserSig: sig}, time.Now())
	if err != nil {
		t.Fatalf("UserSig %q: %v", sig, err)
	}
	return claims
}

// What the operator did wrong is one line on stderr, nothing on stdout, and exit code 1.
func TestServeRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	typo := file("typo.yaml", "flow:\n  messages_per_minute: 3\n")
	badSecret := filepath.Dir(file("secret", "open sesame\n"))
	inUse := filepath.Join(t.TempDir(), "data")
	running := startServer(t, nil, "--data-dir", inUse)
	defer running.stop(t)

	for name, test := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"unknown flag":        {nil, []string{"--port", "1"}, `unknown flag: --port`},
		"unknown key":         {nil, []string{"--config", typo}, regexp.QuoteMeta(typo) + `:2: flow\.messages_per_minute: unknown key`},
		"unknown variable":    {[]string{"ROOKERY_FLOW_SPEED=1"}, nil, `ROOKERY_FLOW_SPEED: unknown variable`},
		"bad value":           {[]string{"ROOKERY_FLOW_MESSAGES_PER_SECOND=-1"}, nil, `ROOKERY_FLOW_MESSAGES_PER_SECOND: -1 is below the least, 0`},
		"two at once":         {[]string{"ROOKERY_LOG_FORMAT=xml"}, []string{"--log-level", "loud"}, `ROOKERY_LOG_FORMAT: "xml" is none of text, json; --log-level: .*|--log-level: .*; ROOKERY_LOG_FORMAT: .*`},
		"bad address":         {nil, []string{"--http-addr", "8080"}, `--http-addr: "8080" is not an address like 127\.0\.0\.1:1883: missing port in address`},
		"address in use":      {nil, []string{"--http-addr", taken.Addr().String()}, `http\.addr: listen on ` + taken.Addr().String() + `: bind: address already in use`},
		"MQTT in use":         {nil, []string{"--mqtt-addr", taken.Addr().String()}, `mqtt\.addr: listen on ` + taken.Addr().String() + `: bind: address already in use`},
		"bad network":         {[]string{"ROOKERY_REST_ALLOWED_IPS=10.0.0.0/8,x"}, nil, `rest\.allowed_ips: .*x.*`},
		"no audit log":        {[]string{"ROOKERY_LOG_AUDIT=/nowhere/audit"}, nil, `log\.audit: open /nowhere/audit: no such file or directory`},
		"beyond loopback":     {nil, []string{"--http-addr", "0.0.0.0:0"}, `--http-addr: 0\.0\.0\.0:0 can be reached from other machines, which needs a configured secret: set app\.secret or ROOKERY_APP_SECRET`},
		"no such file":        {[]string{"ROOKERY_CONFIG=/nowhere.yaml"}, nil, `configuration file: open /nowhere\.yaml: no such file or directory`},
		"damaged secret":      {nil, []string{"--data-dir", badSecret}, regexp.QuoteMeta(badSecret) + `/secret does not hold 64 hexadecimal digits: .*`},
		"data in use":         {nil, []string{"--data-dir", inUse}, `.*in use by another process.*`},
		"data is a file":      {nil, []string{"--data-dir", typo}, `.*not a directory.*`},
		"ready file a folder": {nil, []string{"--ready-file", t.TempDir()}, `ready file: \S+ is there and is no file`},
		"no folder":           {[]string{"ROOKERY_LOG_LEVEL=error"}, []string{"--ready-file", "/nowhere/ready"}, `ready file: .*no such file or directory`},
		"no certificate":      {[]string{"ROOKERY_TLS_CERT_FILE=/no.pem", "ROOKERY_TLS_KEY_FILE=/no.key"}, nil, `tls\.cert_file, tls\.key_file: open /no\.pem: no such file or directory`},
		"argument":            {nil, []string{"now"}, `unknown command "now" for "rookery serve"`},
		"no MongoDB server":   {[]string{"ROOKERY_STORAGE_DRIVER=mongo"}, nil, `storage\.mongo\.uri: is empty, but storage\.driver is mongo`},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := rookery(t, test.env, append(append([]string{"serve"}, freePorts...), test.args...)...)
			var stdout, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != 1 || stdout.Len() > 0 {
				t.Errorf("exit code %d, %v, stdout %q; want 1 and nothing", code, err, stdout.String())
			}
			if want := regexp.MustCompile(`^rookery: (` + test.want + `)\n$`); !want.MatchString(stderr.String()) {
				t.Errorf("stderr = %q\n want %s", stderr.String(), want)
			}
		})
	}
}

// What failed to start leaves no data folder's lock and no listener behind: checked by the
// refusals above, which use one port and one folder again. A secret is made for neither.
func TestRefusedStartMakesNoSecret(t *testing.T) {
	cmd := rookery(t, []string{"ROOKERY_FLOW_SPEED=1"}, "serve")
	if err := cmd.Run(); err == nil {
		t.Fatal("the server ran")
	}
	if _, err := os.Stat(filepath.Join(cmd.Dir, "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("data folder: %v, want none", err)
	}
}

// While the first signal's drain waits for a request, a second signal ends the process at once.
func TestSecondSignal(t *testing.T) {
	s := startServer(t, []string{"ROOKERY_HTTP_PPROF=true", "ROOKERY_APP_SHUTDOWN_TIMEOUT=10m"}, "--data-dir", t.TempDir())
	conn, err := net.Dial("tcp", s.addrs["http"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The trace's first bytes show that the request, which takes a minute, is under way.
	if _, err := io.WriteString(conn, "GET /debug/pprof/trace?seconds=50 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for s.log.Scan() && !strings.Contains(s.log.Text(), "msg=stopping") {
	}
	ended := make(chan struct{})
	go func() {
		_ = s.Wait() // ProcessState tells how it ended
		close(ended)
	}()
	again := time.NewTicker(20 * time.Millisecond) // the first one may still be on its way through the runtime
	defer again.Stop()
	for {
		select {
		case <-again.C:
			_ = s.Process.Signal(syscall.SIGTERM) // it may have ended
		case <-ended:
			if status, ok := s.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
				t.Errorf("process ended with %v, want by the signal", s.ProcessState)
			}
			return
		}
	}
}

// listeners are the names that the ready file has.
var listeners = []string{"http", "mqtt", "ws"}

// TestListenersShareTheServer has a call refused on each of the two HTTP listeners: both are counted,
// whichever is asked.
func TestListenersShareTheServer(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certFile, keyFile, 1)
	s := startServer(t, []string{
		"ROOKERY_TLS_CERT_FILE=" + certFile, "ROOKERY_TLS_KEY_FILE=" + keyFile, "ROOKERY_HTTP_TLS_ADDR=127.0.0.1:0",
	}, "--data-dir", filepath.Join(dir, "data"))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	doors := []string{"http://" + s.addrs["http"], "https://" + s.addrs["https"]}
	for _, door := range doors {
		resp, err := client.Post(door+"/v4/openim/push_test", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	for _, door := range doors {
		resp, err := client.Get(door + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		metrics, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(metrics), "\nrookery_admin_refused_total 2\n") {
			t.Errorf("%s/metrics does not count both calls, %v", door, err)
		}
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
}
