package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/usersig"
)

const sessionSecret = "a secret for the tests of sessions, long enough"

func sigFor(t *testing.T, account string) string {
	t.Helper()
	sig, err := usersig.Generate(usersig.App{ID: 1400000001, Secret: sessionSecret}, account, time.Now().Add(-time.Minute), time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// rest calls a REST command, which must succeed.
func (s *server) rest(t *testing.T, path, body string) {
	t.Helper()
	query := url.Values{"sdkappid": {"1400000001"}, "identifier": {"administrator"}, "usersig": {sigFor(t, "administrator")}, "random": {"1"}, "contenttype": {"json"}}
	resp, err := http.Post("http://"+s.addrs["http"]+"/v4/"+path+"?"+query.Encode(), "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), `"ErrorCode":0`) {
		t.Fatalf("%s %s: %s, %v", path, body, text, err)
	}
}

func (s *server) say(t *testing.T, id string, n int) {
	t.Helper()
	s.rest(t, "group_open_http_svc/send_group_msg",
		fmt.Sprintf(`{"GroupId":%q,"From_Account":"alice","Random":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"%d"}}]}`, id, n, n))
}

// listen runs mosquitto_sub as bob with a session that is to be kept, and returns the lines.
func (s *server) listen(t *testing.T, args ...string) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(s.addrs["mqtt"])
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "mosquitto_sub", append([]string{
		"-V", "mqttv311", "-h", host, "-p", port, "-u", "bob", "-P", sigFor(t, "bob"), "-c", "-i", "phone", "-q", "1", "-W", "60", "-t", "groups/+",
	}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("mosquitto_sub: %v\n%s", err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestMosquittoComesBack sends 250 messages while mosquitto_sub is away, kills the server without
// a warning, and has the client come back to the next one.
func TestMosquittoComesBack(t *testing.T) {
	if _, err := exec.LookPath("mosquitto_sub"); err != nil {
		t.Skip("mosquitto_sub is not installed; continuous integration has it")
	}
	env := []string{"ROOKERY_APP_SECRET=" + sessionSecret, "ROOKERY_FLOW_MESSAGES_PER_SECOND=0", "ROOKERY_SESSIONS_REPLAY_LIMIT=1000"}
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, env, "--data-dir", data)
	for _, a := range []string{"alice", "bob"} {
		s.rest(t, "im_open_login_svc/account_import", fmt.Sprintf(`{"UserID":%q}`, a))
	}
	create := `{"Type":"Public","Name":"n","GroupId":%q,"Owner_Account":"alice","MemberList":[{"Member_Account":"bob"}]}`
	s.rest(t, "group_open_http_svc/create_group", fmt.Sprintf(create, "c"))
	s.listen(t, "-E") // subscribes and goes
	const messages = 250
	for i := 1; i <= messages; i++ {
		s.say(t, "c", i)
	}
	if err := s.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.Wait()

	s = startServer(t, env, "--data-dir", data)
	lines := s.listen(t, "-C", fmt.Sprint(messages))
	for i, line := range lines {
		var m struct{ MsgSeq int }
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.MsgSeq != i+1 {
			t.Fatalf("line %d of %d: SEQ %d, %v: %s", i+1, len(lines), m.MsgSeq, err, line)
		}
	}
	if len(lines) != messages {
		t.Errorf("%d lines, want %d", len(lines), messages)
	}
	// Removed while away: nothing of the group comes, though it would come before the other.
	s.say(t, "c", messages+1)
	s.rest(t, "group_open_http_svc/delete_group_member", `{"GroupId":"c","Silence":1,"MemberToDel_Account":["bob"]}`)
	s.rest(t, "group_open_http_svc/create_group", fmt.Sprintf(create, "d"))
	s.say(t, "d", messages+2)
	if lines := s.listen(t, "-C", "1"); !strings.Contains(lines[0], `"GroupId":"d"`) {
		t.Errorf("after the removal came %s", lines[0])
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
}
