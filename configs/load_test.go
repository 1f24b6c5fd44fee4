package configs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSourcesOrder(t *testing.T) {
	file := writeFile(t, `
app:
  secret: from-file
  admins: [root, "a,b"]
flow:
  messages_per_second: 1
roaming:
  retention: 24h
storage:
limits:
  max_packet_size: 64KiB
`)
	c, err := Load(Sources{
		File:  file,
		Env:   []string{"HOME=/root", "ROOKERY_FLOW_MESSAGES_PER_SECOND=2", "ROOKERY_MQTT_ADDR=127.0.0.1:1", "ROOKERY_LIMITS_COUNT_LOOPBACK=true"},
		Flags: []Flag{{"--mqtt-addr", "mqtt.addr", "127.0.0.1:2"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.App.Secret = "from-file"
	want.App.Admins = []string{"root", "a,b"}
	want.Flow.MessagesPerSecond = 2
	want.Roaming.Retention = 24 * time.Hour
	want.Limits.MaxPacketSize = 64 << 10
	want.Limits.CountLoopback = true
	want.MQTT.Addr = "127.0.0.1:2"
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Load = %+v\nwant %+v", c, want)
	}
}

// Every key can be set by its variable, to something other than its default, and alone changes.
func TestEveryKeyHasAVariable(t *testing.T) {
	walkKeys(func(path string, n *node) {
		if strings.Contains(path, "tls_addr") || path == "app.secret" {
			return // change validity; covered below
		}
		if strings.HasPrefix(path, "rest.admins[") {
			return // it has to name an admin: see TestRESTAdmins
		}
		value := other(n)
		c, err := Load(Sources{Env: []string{envName(path) + "=" + value, "ROOKERY_APP_SECRET=s", "ROOKERY_STORAGE_MONGO_URI=mongodb://h"}})
		list, _, inList := strings.Cut(path, "[")
		if !inList && strings.HasSuffix(path, "cert_file") || !inList && strings.HasSuffix(path, "key_file") {
			if err == nil || !strings.Contains(err.Error(), "set both or none") {
				t.Errorf("%s alone: %v", path, err)
			}
			return
		}
		if err != nil {
			t.Errorf("%s=%s: %v", envName(path), value, err)
			return
		}
		changed := map[string]bool{}
		before := map[string]any{}
		schema().walk(reflect.ValueOf(Default()).Elem(), "", func(p string, _ *node, v reflect.Value) { before[p] = v.Interface() })
		schema().walk(reflect.ValueOf(c).Elem(), "", func(p string, _ *node, v reflect.Value) {
			old, known := before[p]
			if inList && !known && p != path && strings.HasPrefix(p, list+"[0].") {
				return // the rest of the item that the variable has made
			}
			if !reflect.DeepEqual(old, v.Interface()) {
				changed[p] = true
			}
		})
		delete(changed, "app.secret")
		if path != "storage.mongo.uri" {
			delete(changed, "storage.mongo.uri")
		}
		if !changed[path] || len(changed) != 1 {
			t.Errorf("%s=%s changed %v", envName(path), value, changed)
		}
	})
}

// other returns a valid text for the key that is not its default.
func other(n *node) string {
	def := n.tag.Get("default")
	switch choices := strings.Split(n.tag.Get("oneof"), "|"); {
	case len(choices) > 1:
		return choices[slices.IndexFunc(choices, func(s string) bool { return s != def })]
	case def == "true":
		return "false"
	case def == "false":
		return "true"
	case n.name == "uri":
		return "mongodb://other"
	case n.name == "url" || n.name == "receipts_url":
		return "http://127.0.0.1:9/callback"
	case n.name == "commands":
		return "State.StateChange"
	case n.name == "path":
		return "/other"
	case n.name == "addr":
		return "127.0.0.1:0"
	case n.name == "concurrency" || n.name == "retry_pause_max":
		return n.tag.Get("max")
	case n.tag.Get("min") != "" && n.tag.Get("min") != def:
		return n.tag.Get("min")
	case n.tag.Get("max") != "":
		return n.tag.Get("max")
	}
	return "other"
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		file  string
		env   []string
		flags []Flag
		want  []string // FILE stands for the file's path
	}{
		"unknown key":          {file: "flow:\n  messages_per_minute: 3\n", want: []string{"FILE:2: flow.messages_per_minute: unknown key"}},
		"unknown section":      {file: "\nfluss: {}\n", want: []string{"FILE:2: fluss: unknown key"}},
		"merge key":            {file: "flow: {<<: {a: b}}\n", want: []string{"FILE:1: flow.<<: unknown key"}},
		"key in lower section": {file: "storage:\n  mongo:\n    url: x\n", want: []string{"FILE:3: storage.mongo.url: unknown key"}},
		"twice":                {file: "log:\n  level: info\n  level: warn\n", want: []string{"FILE:3: log.level: stands twice, also in line 2"}},
		"not a section":        {file: "flow: 3\n", want: []string{"FILE:1: flow: is not a section with keys"}},
		"not a mapping":        {file: "- 1\n", want: []string{"FILE:1: is not a section with keys"}},
		"section for a key":    {file: "log:\n  level: {a: b}\n", want: []string{"FILE:2: log.level: is not a text"}},
		"list for a key":       {file: "log:\n  level: [info]\n", want: []string{"FILE:2: log.level: is not a text"}},
		"list in a list":       {file: "app:\n  admins: [[a]]\n", want: []string{"FILE:2: app.admins: has an item that is not a text"}},
		"no value":             {file: "app:\n  secret:\n", want: []string{`FILE:2: app.secret: has no value; write "" for an empty text, or remove the line`}},
		"odd key":              {file: "app:\n  ? [a]\n  : b\n", want: []string{"FILE:2: app: has a key that is not a text"}},
		"syntax":               {file: "app:\n\tsecret: x\n", want: []string{"FILE: line 2: found character that cannot start any token"}},
		"unquoted star":        {file: "app:\n  secret: *hunter2\n", want: []string{"FILE: a value starts with * and must be in quotes"}},
		"two documents":        {file: "app:\n---\napp:\n", want: []string{"FILE: there is more than one YAML document in the file"}},

		"not a number":      {file: "flow:\n  messages_per_second: many\n", want: []string{`FILE:2: flow.messages_per_second: "many" is not a whole number`}},
		"fraction":          {env: []string{"ROOKERY_FLOW_MESSAGES_PER_SECOND=1.5"}, want: []string{`ROOKERY_FLOW_MESSAGES_PER_SECOND: "1.5" is not a whole number`}},
		"huge":              {env: []string{"ROOKERY_FLOW_MESSAGES_PER_SECOND=99999999999999999999"}, want: []string{`ROOKERY_FLOW_MESSAGES_PER_SECOND: "99999999999999999999" is out of range`}},
		"negative":          {env: []string{"ROOKERY_FLOW_MESSAGES_PER_SECOND=-1"}, want: []string{`ROOKERY_FLOW_MESSAGES_PER_SECOND: -1 is below the least, 0`}},
		"above":             {file: "limits: {receive_maximum: 65536}", want: []string{`FILE:1: limits.receive_maximum: 65536 is above the most, 65535`}},
		"not a duration":    {file: "roaming: {retention: 7}", want: []string{`FILE:1: roaming.retention: "7" is not a duration like 500ms, 10s, 5m or 168h`}},
		"duration too long": {file: "storage: {mongo: {timeout: 11s}}", want: []string{`FILE:1: storage.mongo.timeout: 11s is above the most, 10s`}},
		"not a size":        {file: "limits: {max_packet_size: 1 MB}", want: []string{`FILE:1: limits.max_packet_size: "1 MB" is not a size like 12000, 64KiB or 1MiB`}},
		"size too small":    {file: "limits: {max_packet_size: 1KiB}", want: []string{`FILE:1: limits.max_packet_size: 1KiB is below the least, 16KiB`}},
		"not a choice":      {file: "storage: {driver: redis}", want: []string{`FILE:1: storage.driver: "redis" is none of pebble, mongo`}},
		"not a bool":        {env: []string{"ROOKERY_HTTP_PPROF=yes"}, want: []string{`ROOKERY_HTTP_PPROF: "yes" is neither true nor false`}},
		"flag":              {flags: []Flag{{"--log-level", "log.level", "loud"}}, want: []string{`--log-level: "loud" is none of debug, info, warn, error`}},
		"unknown variable":  {env: []string{"ROOKERY_FLOW_RATE=1"}, want: []string{`ROOKERY_FLOW_RATE: unknown variable`}},
		"section variable":  {env: []string{"ROOKERY_FLOW=1", "ROOKERY_=1"}, want: []string{`ROOKERY_: unknown variable`, `ROOKERY_FLOW: unknown variable`}},

		"admin":          {env: []string{"ROOKERY_APP_ADMINS=ok,tür"}, want: []string{`ROOKERY_APP_ADMINS: "tür" is not a UserID: 1 to 32 printable ASCII characters`}},
		"admin twice":    {file: "app: {admins: [a, a]}", want: []string{`FILE:1: app.admins: "a" stands twice`}},
		"no port":        {flags: []Flag{{"--ws-addr", "ws.addr", "localhost"}}, want: []string{`--ws-addr: "localhost" is not an address like 127.0.0.1:1883: missing port in address`}},
		"bad port":       {flags: []Flag{{"--ws-addr", "ws.addr", "localhost:x"}}, want: []string{`--ws-addr: "localhost:x" is not an address like 127.0.0.1:1883: port "x" is not a number from 0 to 65535`}},
		"same address":   {flags: []Flag{{"--ws-addr", "ws.addr", "127.0.0.1:1883"}}, want: []string{`--ws-addr: 127.0.0.1:1883 is also the address of mqtt.addr`}},
		"public":         {flags: []Flag{{"--mqtt-addr", "mqtt.addr", ":1883"}}, want: []string{`--mqtt-addr: :1883 can be reached from other machines, which needs a configured secret: set app.secret or ROOKERY_APP_SECRET`}},
		"public name":    {file: "http: {addr: 'chat.example.com:80'}", want: []string{`FILE:1: http.addr: chat.example.com:80 can be reached from other machines, which needs a configured secret: set app.secret or ROOKERY_APP_SECRET`}},
		"public IPv6":    {file: "http: {addr: '[::]:80'}", want: []string{`FILE:1: http.addr: [::]:80 can be reached from other machines, which needs a configured secret: set app.secret or ROOKERY_APP_SECRET`}},
		"TLS":            {file: "mqtt: {tls_addr: '127.0.0.1:8883'}", want: []string{`FILE:1: mqtt.tls_addr: needs a certificate: set tls.cert_file and tls.key_file`}},
		"mongo":          {file: "storage: {driver: mongo}", want: []string{`storage.mongo.uri: is empty, but storage.driver is mongo`}},
		"receipts URL":   {file: "push: {receipts_url: 'https://x/?a=b'}", want: []string{`FILE:1: push.receipts_url: is not an http:// or https:// URL without query and fragment`}},
		"callback name":  {file: "callbacks: {commands: [Group.CallbackBeforeSendMsg, C2C.CallbackBeforeSendMsg, Group.CallbackBeforeSendMessage]}", want: []string{`FILE:1: callbacks.commands: "Group.CallbackBeforeSendMessage" is no callback: docs/callbacks.md lists them`}},
		"callback URL":   {file: "callbacks: {url: 'ftp://x'}", want: []string{`FILE:1: callbacks.url: is not an http:// or https:// URL`}},
		"path":           {file: "ws: {path: mqtt}", want: []string{`FILE:1: ws.path: "mqtt" does not start with /`}},
		"no data folder": {flags: []Flag{{"--data-dir", "app.data_dir", ""}}, want: []string{`--data-dir: is empty`}},

		"everything at once": {
			file: "log:\n  level: loud\nflow:\n  rate: 1\n", env: []string{"ROOKERY_FLOW_MESSAGES_PER_SECOND=x"},
			want: []string{"FILE:4: flow.rate: unknown key", `ROOKERY_FLOW_MESSAGES_PER_SECOND: "x" is not a whole number`, `FILE:2: log.level: "loud" is none of debug, info, warn, error`},
		},
		"a bad value is reported once": {env: []string{"ROOKERY_LIMITS_MAX_PACKET_SIZE=x"}, want: []string{`ROOKERY_LIMITS_MAX_PACKET_SIZE: "x" is not a size like 12000, 64KiB or 1MiB`}},
	} {
		t.Run(name, func(t *testing.T) {
			src := Sources{Env: test.env, Flags: test.flags}
			if test.file != "" {
				src.File = writeFile(t, test.file)
			}
			_, err := Load(src)
			if err == nil {
				t.Fatalf("Load = nil, want %q", test.want)
			}
			got := strings.Split(err.Error(), "\n")
			for i := range got {
				if rest, ok := strings.CutPrefix(got[i], src.File); ok && src.File != "" {
					got[i] = "FILE" + rest
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("Load = %q\nwant   %q", got, test.want)
			}
		})
	}
}

// What a secret holds is shown neither by a refusal nor by any way of printing the configuration.
func TestRefusalHidesSecrets(t *testing.T) {
	_, err := Load(Sources{Env: []string{"ROOKERY_STORAGE_MONGO_URI=postgres://u:hunter2@h", "ROOKERY_APP_SECRETS=hunter2"}})
	want := "ROOKERY_APP_SECRETS: unknown variable\nROOKERY_STORAGE_MONGO_URI: does not start with mongodb:// or mongodb+srv://"
	if err == nil || err.Error() != want {
		t.Errorf("Load = %v, want %s", err, want)
	}
}

func TestVariablesOfOthers(t *testing.T) {
	env := []string{
		"ROOKERY_CONFIG=x.yaml", "ROOKERY_TEST_MONGO_URI=mongodb://h", "PATH=/bin", "ROOKERY",
		"ROOKERY_PORT=tcp://10.0.0.1:1883", "ROOKERY_SERVICE_HOST=10.0.0.1", "ROOKERY_SERVICE_PORT_MQTT=1883",
		"ROOKERY_PORT_1883_TCP=tcp://10.0.0.1:1883", "ROOKERY_PORT_1883_TCP_ADDR=10.0.0.1", "ROOKERY_HEADLESS_SERVICE_PORT=1",
	}
	c, err := Load(Sources{Env: env})
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Errorf("Load = %+v, %v; want the defaults", c, err)
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, maxFileSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		filepath.Join(t.TempDir(), "none.yaml"): "no such file",
		t.TempDir():                             "is a directory",
		big:                                     "more than 1MiB",
	} {
		if _, err := Load(Sources{File: name}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Load(%s) = %v, want one line with %q", name, err, want)
		}
	}
}

// Lists of sections: the file gives items, variables change or add them, each starts with its defaults.
func TestListOfSections(t *testing.T) {
	type app struct {
		Name  string `yaml:"name" default:"" doc:"."`
		Limit int    `yaml:"limit" default:"7" min:"0" max:"9" doc:"."`
	}
	type section struct {
		Apps []app `yaml:"apps" doc:"."`
	}
	root := &node{children: fieldsOf(reflect.TypeFor[section]())}
	load := func(file string, env ...string) (section, []*Error) {
		var s section
		l := &loader{origins: map[string]origin{}}
		l.yaml("f", []byte(file), root, reflect.ValueOf(&s).Elem())
		for _, e := range env {
			name, value, _ := strings.Cut(e, "=")
			if v, path, ok := l.lookup(root, reflect.ValueOf(&s).Elem(), "", name); ok {
				l.set(v, path, value, origin{text: name, self: true})
			} else {
				l.problems = append(l.problems, &Error{Origin: name, Problem: "unknown variable"})
			}
		}
		return s, l.problems
	}
	s, problems := load("apps:\n- name: a\n- {name: b, limit: 1}\n", "APPS_1_LIMIT=2", "APPS_2_NAME=c")
	if want := []app{{"a", 7}, {"b", 2}, {"c", 7}}; !slices.Equal(s.Apps, want) || problems != nil {
		t.Errorf("apps = %v, %v; want %v", s.Apps, problems, want)
	}
	for name, test := range map[string]struct{ file, env, want string }{
		"unknown key":  {file: "apps: [{x: 1}]", want: "f:1: apps[0].x: unknown key"},
		"not a list":   {file: "apps: {name: a}", want: "f:1: apps: is not a list of sections"},
		"bad value":    {file: "apps:\n- limit: x\n", want: `f:2: apps[0].limit: "x" is not a whole number`},
		"no index":     {env: "APPS_NAME=x", want: "APPS_NAME: unknown variable"},
		"odd index":    {env: "APPS_01_NAME=x", want: "APPS_01_NAME: unknown variable"},
		"huge index":   {env: "APPS_100_NAME=x", want: "APPS_100_NAME: unknown variable"},
		"unknown name": {env: "APPS_0_X=x", want: "APPS_0_X: unknown variable"},
	} {
		s, problems := load(test.file, slices.DeleteFunc([]string{test.env}, func(s string) bool { return s == "" })...)
		if len(problems) != 1 || problems[0].Error() != test.want || test.file == "" && s.Apps != nil {
			t.Errorf("%s: %v, %v; want %s", name, s.Apps, problems, test.want)
		}
	}
}

// Whatever stands in the file, Load answers with a valid configuration or with *Errors.
func FuzzFile(f *testing.F) {
	f.Add(string(Example()))
	f.Add("app: {admins: [a, b]}\nflow:\n  messages_per_second: 1\n")
	f.Add("a: &a [*a]\n---\n<<: *a\n")
	f.Fuzz(func(t *testing.T, text string) {
		l := &loader{cfg: Default(), origins: map[string]origin{}}
		l.file("f", []byte(text))
		for _, p := range l.problems {
			if _, ok := errors.AsType[*Error](error(p)); !ok || p.Problem == "" || strings.ContainsAny(p.Problem, "\r\n") {
				t.Errorf("problem %#v is not one line", p)
			}
		}
		_ = l.cfg.problems() // must not panic either
	})
}

func TestRESTAdmins(t *testing.T) {
	load := func(text string) (*Config, error) { return Load(Sources{File: writeFile(t, text)}) }
	c, err := load("app:\n  admins: [administrator, report]\nrest:\n  admins:\n    - user: report\n      commands: [group_open_http_svc/get_*, account_check]\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []RESTAdmin{{User: "report", Commands: []string{"group_open_http_svc/get_*", "account_check"}}}
	if !reflect.DeepEqual(c.REST.Admins, want) {
		t.Errorf("rest.admins = %+v, want %+v", c.REST.Admins, want)
	}
	c, err = Load(Sources{Env: []string{"ROOKERY_REST_ADMINS_0_USER=administrator", "ROOKERY_REST_ADMINS_0_COMMANDS=account_check"}})
	if want := (RESTAdmin{User: "administrator", Commands: []string{"account_check"}}); err != nil || !reflect.DeepEqual(c.REST.Admins, []RESTAdmin{want}) {
		t.Errorf("by variables: %+v, %v, want %+v", c.REST.Admins, err, want)
	}
	for name, text := range map[string]string{
		"no admin": "rest:\n  admins:\n    - user: mallory\n      commands: [account_check]\n",
		"twice":    "rest:\n  admins:\n    - user: administrator\n    - user: administrator\n",
		"no user":  "rest:\n  admins:\n    - commands: [account_check]\n",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), "rest.admins") {
			t.Errorf("%s: error %v, want one that names rest.admins", name, err)
		}
	}
}
