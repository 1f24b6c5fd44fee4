// Package command is the one table of commands. The REST API and the requests of users over
// MQTT are two doors on it, so that a command is written once: its names, its request and
// response, who may call it, what it does, and what its documentation says.
//
// A door decides who calls (see Call) and hands the body over as bytes; it gets the whole
// answer back as bytes, for failures too. What an app admin may do is not bounded by roles; a
// user does what its role in the group's type allows (group.Type.Allows).
//
// Every change of a group goes through its lane (hooks.Pipeline): a command returns after the
// change is durable and was handed to delivery. Commands keep no state of their own; all of
// them may run concurrently.
package command
