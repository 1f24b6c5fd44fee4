// Package hooks carries a message from its sender to storage and fan-out, and everything else
// that changes a group.
//
// Each active group has one lane: the only goroutine that decides about the group. A message
// passes, in this order: validate (pure, in the caller's goroutine), authorise (membership,
// role, mutes), duplicate suppression, the before-callback, flow control, authorise again,
// stamp (SEQ and time), persist, deliver, acknowledge, after. Messages of one group get SEQs
// 1, 2, 3, … without gaps and are stored and delivered in that order; there is no order
// between groups. A message is acknowledged after it is durable and never before.
//
// Changes of a group (members, roles, mutes, data, recalls) pass the same lane, through
// Pipeline.Update: when Update returns, the change is durable, and every message stamped from
// then on obeys it.
//
// The package knows neither MQTT nor HTTP. What it needs from outside (delivery, callbacks,
// outbox) it declares as small interfaces.
package hooks
