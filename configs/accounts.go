package configs

import "time"

// Accounts says how accounts come to be and log in.
type Accounts struct {
	AutoCreate   bool     `yaml:"auto_create" default:"true" doc:"Whether the first valid login creates the account."`
	LoginPolicy  string   `yaml:"login_policy" default:"any" oneof:"any|single|dual|triple" doc:"Which devices of a user may be online together. any: all, up to limits.connections_per_user; single: one; dual: one mobile or desktop and one web; triple: one mobile, one desktop and one web. A device over the policy replaces the older one of its kind. The same client identifier always replaces itself."`
	SenderFields []string `yaml:"sender_fields" default:"" doc:"The custom profile items (Tag_Profile_Custom_…) that receivers are shown with each message of a sender."`
}

// Sessions bounds what is kept for clients that went away.
type Sessions struct {
	Expiry      time.Duration `yaml:"expiry" default:"168h" min:"0s" max:"8760h" doc:"The longest session expiry; MQTT 3.1.1 sessions (clean session 0) live this long. 0: no sessions."`
	PerUser     int           `yaml:"per_user" default:"10" min:"1" max:"1000" unit:"sessions" doc:"The most sessions kept for one user; past it the one unused longest ends."`
	ReplayLimit int           `yaml:"replay_limit" default:"100" min:"1" max:"100000" unit:"messages per group" doc:"How many missed messages of a group are sent when a session resumes: the newest; the client pulls what lies before."`
}
