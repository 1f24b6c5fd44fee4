package client

import "time"

// Decode is what becomes of a publish.
func Decode(payload []byte, inbox bool) (*Message, Event, error) {
	m, ev, _, err := decodeItem(&item{payload: payload, inbox: inbox})
	return m, ev, err
}

// Backoffs returns the waits before the first n attempts to connect.
func Backoffs(cfg Config, n int) []time.Duration {
	c := &Client{cfg: cfg.withDefaults()}
	var out []time.Duration
	for range n {
		out = append(out, c.backoff())
	}
	return out
}
