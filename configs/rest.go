package configs

import "time"

// REST bounds the admin API.
type REST struct {
	RatePerCommand int           `yaml:"rate_per_command" default:"0" min:"0" max:"1000000" unit:"calls per second" doc:"How often each admin may call each command; more are answered with 60007. 0: off."`
	Admins         []RESTAdmin   `yaml:"admins" doc:"App admins who may call some commands only. Those of app.admins who are not named here may call every one."`
	AllowedIPs     []string      `yaml:"allowed_ips" default:"" doc:"The addresses and networks (10.0.0.0/8) that may call; others are answered with 60021. Empty: any."`
	ServerIPs      []string      `yaml:"server_ips" default:"" doc:"What GetIPList answers: the addresses that callbacks and pushes come from."`
	NewTypeNames   bool          `yaml:"new_type_names" default:"false" doc:"Whether answers carry the newer names of group types, Work and Meeting, instead of Private and ChatRoom."`
	BodySize       Size          `yaml:"body_size" default:"1MiB" min:"16KiB" max:"64MiB" doc:"The largest request."`
	AnswerSize     Size          `yaml:"answer_size" default:"1MiB" min:"64KiB" max:"64MiB" doc:"The largest answer; what would be larger is answered with 10018."`
	Concurrency    int           `yaml:"concurrency" default:"256" min:"1" max:"100000" unit:"calls" doc:"How many calls may be under way; more wait for up to their timeout, then are answered with 60018."`
	Timeout        time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"How long one call may take."`
}

// RESTAdmin bounds one app admin, over REST and over MQTT.
type RESTAdmin struct {
	User     string   `yaml:"user" default:"" doc:"One of app.admins."`
	Commands []string `yaml:"commands" default:"" doc:"The commands it may call: service/command as in docs/rest.md, or the command alone; * stands for any text within either, as in group_open_http_svc/get_* or account_check. Others are answered with 60017. Empty: none."`
}
