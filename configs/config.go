// Package configs is Rookery's configuration: one struct, whose tags are the only place where
// a key's name, meaning, unit, default and bounds stand; the loader; and rookery.yaml, the
// file in which every key stands commented (a test keeps it equal to what Example renders).
//
// Later sources win: defaults, the YAML file, environment variables, flags. A key that nobody
// knows is refused wherever it stands, and all that is wrong is reported at once, each in one
// line that names the key as the operator wrote it.
//
// To add a key, add a field with its tags and run "go generate ./configs":
//
//	yaml     the key's name
//	doc      what it means; special values too
//	unit     what the number counts, where the type does not say it
//	default  as it would be written in the file
//	min, max the bounds, inclusive; written like the default
//	oneof    the allowed texts, separated by |
//
// A field is a string, [Secret], bool, int, int64, float64, [time.Duration], [Size], a list of
// strings, a struct (a section) or a list of structs (a section that may be repeated).
package configs

//go:generate go test -run TestExampleFile -update .

import "time"

// Config is the whole configuration. Take it from Load or Default: its zero value is not valid.
// It is not changed after loading, so that every part may read it from any goroutine.
type Config struct {
	App       App       `yaml:"app" doc:"The app: who may sign in, who may administrate, and where its data is."`
	MQTT      MQTT      `yaml:"mqtt" doc:"MQTT 3.1.1 and 5 over TCP."`
	WS        WS        `yaml:"ws" doc:"MQTT over WebSocket."`
	HTTP      HTTP      `yaml:"http" doc:"The HTTP server: REST API, health, metrics."`
	TLS       TLS       `yaml:"tls" doc:"The certificate of every listener that speaks TLS. Both files are read again at SIGHUP, so that it can be renewed."`
	Limits    Limits    `yaml:"limits" doc:"What one client, one address and all together may take."`
	Accounts  Accounts  `yaml:"accounts" doc:"Accounts and their logins."`
	Sessions  Sessions  `yaml:"sessions" doc:"MQTT sessions that outlive their connection."`
	Storage   Storage   `yaml:"storage" doc:"Where messages and records are kept."`
	Pipeline  Pipeline  `yaml:"pipeline" doc:"The way of a message from its sender to storage and fan-out."`
	Flow      Flow      `yaml:"flow" doc:"Frequency control: how many messages a group takes. Read again at SIGHUP, but for exempt_admins, and like groups.*.messages_per_second; one group gets its own by set_group_limits (docs/rest.md)."`
	Groups    Groups    `yaml:"groups" doc:"Limits of groups, and what differs by group type."`
	Roaming   Roaming   `yaml:"roaming" doc:"Message history."`
	Callbacks Callbacks `yaml:"callbacks" doc:"HTTP callbacks to the app's own server."`
	REST      REST      `yaml:"rest" doc:"The admin REST API."`
	Push      Push      `yaml:"push" doc:"Offline push."`
	Log       Log       `yaml:"log" doc:"The log, on standard error."`
	Metrics   Metrics   `yaml:"metrics" doc:"Prometheus metrics."`
}

// App names the app.
type App struct {
	SDKAppID        int64         `yaml:"sdkappid" default:"1400000001" min:"1" max:"4294967295" doc:"The app's number, which UserSigs and REST calls carry."`
	Secret          Secret        `yaml:"secret" default:"" doc:"The key that UserSigs are signed with, used as text. Empty: one is made at the first start and kept in the data folder (file \"secret\"); that is allowed only while every listener is on loopback."`
	Admins          []string      `yaml:"admins" default:"administrator" doc:"The UserIDs that may call the REST API."`
	DataDir         string        `yaml:"data_dir" default:"./data" doc:"The data folder: the embedded store, the secret that was made, files to export."`
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" default:"8s" min:"0s" max:"10m" doc:"How long a stop may take to finish what is under way; what is left then is cut off."`
}

// Log shapes the log.
type Log struct {
	Level  string `yaml:"level" default:"info" oneof:"debug|info|warn|error" doc:"The least level that is written."`
	Format string `yaml:"format" default:"text" oneof:"text|json" doc:"One line an event either way."`
	Audit  string `yaml:"audit" default:"log" doc:"Where each change that a command makes is noted: log, which is this log; stdout; none; or the path of a file that is appended to. stdout and files get JSON."`
}

// Metrics shapes the metrics endpoint.
type Metrics struct {
	Enabled bool `yaml:"enabled" default:"true" doc:"Serve /metrics on the HTTP listener."`
}
