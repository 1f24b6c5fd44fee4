package configs

import "time"

// REST bounds the admin API.
type REST struct {
	RatePerCommand int           `yaml:"rate_per_command" default:"0" min:"0" max:"1000000" unit:"calls per second" doc:"How often each admin may call each command; more are answered with 60007. 0: off."`
	AllowedIPs     []string      `yaml:"allowed_ips" default:"" doc:"The addresses and networks (10.0.0.0/8) that may call; others are answered with 60021. Empty: any."`
	ServerIPs      []string      `yaml:"server_ips" default:"" doc:"What GetIPList answers: the addresses that callbacks and pushes come from."`
	NewTypeNames   bool          `yaml:"new_type_names" default:"false" doc:"Whether answers carry the newer names of group types, Work and Meeting, instead of Private and ChatRoom."`
	BodySize       Size          `yaml:"body_size" default:"1MiB" min:"16KiB" max:"64MiB" doc:"The largest request."`
	AnswerSize     Size          `yaml:"answer_size" default:"1MiB" min:"64KiB" max:"64MiB" doc:"The largest answer; what would be larger is answered with 10018."`
	Concurrency    int           `yaml:"concurrency" default:"256" min:"1" max:"100000" unit:"calls" doc:"How many calls may be under way; more wait for up to their timeout, then are answered with 60018."`
	Timeout        time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"How long one call may take."`
}
