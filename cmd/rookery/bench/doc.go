// Package bench is the load generator behind "rookery bench". It drives any MQTT broker, Rookery included, and
// reports throughput, latency and what the measured process paid for it.
//
// It is written to cost far less than what it measures: its own MQTT codec for the client's side of 3.1.1 and 5, a
// few epoll loops instead of a goroutine per connection, one read per readiness and one write per burst. Every
// message carries the instant at which it was due, as text inside its payload, so a delivery can be timed on any
// connection and through any broker that keeps the text. In open-loop runs the latency counts from the instant at
// which the message was due and not from when it could be written, so a broker that stalls the sender pays for it.
//
// Loops share nothing but atomic counters: a connection, its session and its role are touched by the goroutine of
// their loop alone. The package measures; it promises nothing about the broker beyond what a run counted.
package bench
