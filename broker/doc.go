// Package broker is the MQTT door: listeners, logins, topics, and the fan-out of what the
// groups' lanes deliver to the members who are online.
//
// mochi-mqtt is used as codec and connection shell: it reads packets, answers CONNECT and
// PINGREQ, and ends connections. Everything that has to do with a topic is taken out of its
// hands in one place, the adapter's OnPacketRead, because its own paths queue a copy of each
// message for each subscriber, wait for slow ones, and acknowledge before anything is stored.
//
// The package guarantees: a publish is acknowledged after hooks.Pipeline has answered; a
// session gets a group's messages in the order of Deliver, and none of a group that its
// account is not a member of, even if frames of it were waiting; no connection can make
// another one wait, or take more memory than its limits; every goroutine ends before Run
// returns. It leaves to others: who may send what (hooks), what a command does (command),
// and what a client missed while it was away (history, read by SEQ).
package broker
