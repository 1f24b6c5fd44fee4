package configs

import "time"

// Push bounds offline push.
type Push struct {
	Deadline     time.Duration `yaml:"deadline" default:"10m" min:"1s" max:"24h" doc:"How long after its message a push is still sent."`
	QueueEntries int           `yaml:"queue_entries" default:"1000000" min:"1" max:"100000000" unit:"pushes" doc:"How many may wait; past it the oldest that are not of High messages are given up and counted."`
	Concurrency  int           `yaml:"concurrency" default:"64" min:"1" max:"10000" unit:"requests" doc:"How many requests to each vendor may be under way."`
	Timeout      time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"How long one request to a vendor may take."`
}
