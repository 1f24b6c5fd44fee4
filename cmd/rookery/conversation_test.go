package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the greeting says to paste is a conversation that works, with the real clients.
func TestFirstConversation(t *testing.T) {
	for _, name := range []string{"curl", "stdbuf", "mosquitto_sub", "mosquitto_pub"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed; continuous integration has it", name)
		}
	}
	audit := filepath.Join(t.TempDir(), "audit.log")
	s := startServer(t, []string{"ROOKERY_LOG_AUDIT=" + audit}, "--data-dir", filepath.Join(t.TempDir(), "it's data"))
	_, script, _ := strings.Cut(s.stdout, "another terminal:\n")
	script, subscribe, ok := strings.Cut(script, "  mosquitto_sub ")
	subscribe, publish, more := strings.Cut(subscribe, " &\n")
	if !ok || !more {
		t.Fatalf("no conversation in %s", s.stdout)
	}
	functions, calls, _ := strings.Cut(script, "\n  rest im")
	sh := func(line string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", functions+"\n"+line)
		cmd.Env = append(cmd.Environ(), "ROOKERY_TEST_MAIN=1")
		return cmd
	}
	out, err := sh("  rest im" + calls).CombinedOutput()
	if err != nil || strings.Count(string(out), `"ErrorCode":0`) != 3 {
		t.Fatalf("REST calls: %v\n%s\nlog: %s", err, out, s.stderr)
	}

	// -d says when the subscription is in force, and stdbuf has it say so at once.
	bob := sh("exec stdbuf -oL mosquitto_sub -d -C 1 -W 60 " + subscribe)
	stdout, err := bob.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.Start(); err != nil {
		t.Fatal(err)
	}
	lines, seen := bufio.NewScanner(stdout), ""
	for lines.Scan() {
		seen += lines.Text() + "\n"
		if strings.HasPrefix(lines.Text(), "Subscribed ") {
			if out, err := sh(publish).CombinedOutput(); err != nil {
				t.Fatalf("publish: %v\n%s", err, out)
			}
		}
	}
	if err := bob.Wait(); err != nil || !strings.Contains(seen, `"MsgSeq":1`) || !strings.Contains(seen, "hello, bob") {
		t.Errorf("bob: %v\n%s", err, seen)
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
	checkAudit(t, audit)
}

// checkAudit checks that the audit log has the three changes of the conversation, in order.
func checkAudit(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for line := range strings.Lines(string(text)) {
		var entry struct{ Account, Command string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Account != "administrator" {
			t.Errorf("audit log has %q: %v", line, err)
		}
		commands = append(commands, entry.Command[strings.LastIndex(entry.Command, "/")+1:])
	}
	if want := []string{"account_import", "account_import", "create_group"}; !slices.Equal(commands, want) {
		t.Errorf("audit log has %q, want %q", commands, want)
	}
	if strings.Contains(string(text), "eJ") {
		t.Errorf("audit log shows a UserSig: %s", text)
	}
}
