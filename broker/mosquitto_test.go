package broker

import (
	"bufio"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/group"
)

// mosquitto's clients are the plainest that people use.
func TestMosquittoClients(t *testing.T) {
	for _, name := range []string{"mosquitto_sub", "mosquitto_pub"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("the package mosquitto-clients is not installed; continuous integration has it")
		}
	}
	for _, version := range []string{"311", "5"} {
		t.Run(version, func(t *testing.T) {
			s := serve(t, serverOptions{})
			s.create("talk #1", group.Meeting, "alice", "bob")
			host, port, _ := net.SplitHostPort(s.b.Addr("tcp").String())
			args := func(user string, more ...string) []string {
				return append([]string{"-h", host, "-p", port, "-V", version, "-u", user, "-P", sigOf(t, user), "-q", "1"}, more...)
			}
			// Line by line: the SUBACK in its log says when to publish.
			sub := exec.CommandContext(t.Context(), "stdbuf", append([]string{"-oL", "mosquitto_sub"}, args("bob", "-i", "tv", "-t", "groups/+", "-C", "2", "-W", "20", "-F", "%t %p", "-d")...)...)
			out, err := sub.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := sub.Start(); err != nil {
				t.Fatal(err)
			}
			var got []string
			lines := bufio.NewScanner(out)
			for lines.Scan() {
				if strings.Contains(lines.Text(), "received SUBACK") {
					for _, topic := range []string{"groups/g1", "groups/talk%20%231"} {
						pub := exec.CommandContext(t.Context(), "mosquitto_pub", args("alice", "-t", topic, "-m", "hi "+topic)...)
						if text, err := pub.CombinedOutput(); err != nil {
							t.Errorf("mosquitto_pub: %v: %s", err, text)
						}
					}
				}
				if topic, payload, _ := strings.Cut(lines.Text(), " "); strings.HasPrefix(topic, "groups/") {
					got = append(got, topic+" "+decodeEvent(t, []byte(payload)).text())
				}
			}
			if err := sub.Wait(); err != nil {
				t.Errorf("mosquitto_sub: %v", err)
			}
			if want := "groups/g1 hi groups/g1\ngroups/talk%20%231 hi groups/talk%20%231"; strings.Join(got, "\n") != want {
				t.Errorf("mosquitto_sub printed %q, want %q", got, want)
			}
		})
	}
}
