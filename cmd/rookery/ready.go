package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/rookery-im/rookery/configs"
)

// addresses are the listeners by their names in the ready file: mqtt, mqtts, ws, wss, http, https.
type addresses map[string]string

// writeReadyFile tells a waiting script where we listen. The file appears whole.
func writeReadyFile(path string, addrs addresses) error {
	data, err := json.Marshal(addrs)
	if err != nil {
		return err
	}
	fresh, err := writeTemp(filepath.Dir(path), append(data, '\n'))
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		_ = os.Remove(fresh) // the rename's error says it all
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}

// A greeting is what a person needs to know at the start.
type greeting struct {
	cfg        *configs.Config
	addrs      addresses
	program    string // how this program was called
	configFile string // empty: none
}

// print writes the greeting: where we listen, where the data is, and a first conversation.
func (g *greeting) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "rookery %s is ready.\n", buildVersion())
	for _, l := range []struct{ name, label, scheme, path string }{
		{"mqtt", "MQTT", "mqtt", ""},
		{"mqtts", "MQTT/TLS", "mqtts", ""},
		{"ws", "WebSocket", "ws", g.cfg.WS.Path},
		{"wss", "WebSocket", "wss", g.cfg.WS.Path},
		{"http", "HTTP", "http", ""},
		{"https", "HTTPS", "https", ""},
	} {
		if addr := g.addrs[l.name]; addr != "" {
			fmt.Fprintf(&b, "  %-10s %s://%s%s\n", l.label, l.scheme, addr, l.path)
		}
	}
	fmt.Fprintf(&b, "  %-10s %s\n", "data", absolute(g.cfg.App.DataDir))
	g.hello(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// hello shows a first conversation that works when it is pasted.
func (g *greeting) hello(b *strings.Builder) {
	mqtt, rest := g.addrs["mqtt"], g.addrs["http"]
	if mqtt == "" || rest == "" || len(g.cfg.App.Admins) == 0 {
		return
	}
	host, port, err := net.SplitHostPort(mqtt)
	if err != nil {
		return
	}
	client := fmt.Sprintf("-h %s -p %s", host, port)
	admin := quote(g.cfg.App.Admins[0])
	fmt.Fprintf(b, `Say hello from another terminal:
  sig()  { %s --user "$1"; }
  rest() { curl -sS -d "$2" "http://%s/v4/$1?sdkappid=%d&identifier=%s&usersig=$(sig %s)&random=1&contenttype=json"; echo; }
  rest im_open_login_svc/account_import '{"UserID":"alice"}'
  rest im_open_login_svc/account_import '{"UserID":"bob"}'
  rest group_open_http_svc/create_group '{"GroupId":"hello","Type":"Public","Name":"Hello","MemberList":[{"Member_Account":"alice"},{"Member_Account":"bob"}]}'
  mosquitto_sub %s -u bob -P "$(sig bob)" -t groups/hello &
  sleep 1
  mosquitto_pub %s -u alice -P "$(sig alice)" -t groups/hello -q 1 -m 'hello, bob'
`, g.userSig(), rest, g.cfg.App.SDKAppID, g.cfg.App.Admins[0], admin, client, client)
}

// userSig is the command that makes UserSigs of this server, from any folder.
func (g *greeting) userSig() string {
	cmd := quote(g.program) + " usersig"
	if g.configFile != "" {
		cmd += " --config " + quote(absolute(g.configFile))
	}
	return cmd + " --data-dir " + quote(absolute(g.cfg.App.DataDir))
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// quote makes one word of s for a POSIX shell.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
