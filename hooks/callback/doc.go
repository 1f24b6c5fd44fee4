// Package callback asks the app's own server before messages and changes, and tells it
// afterwards, over HTTP: Tencent IM's webhooks.
//
// A before-callback is asked once, within one time limit for the whole exchange; what its
// failure means is configured. After-callbacks become durable with what they tell of and are
// sent by a worker: in order for each group, at least once, across restarts, until they succeed
// or are too old. Neither lets the app's server do harm: connections, concurrency, answers and
// what waits are bounded, redirects are not followed, and a breaker keeps a dead server from
// costing every message the time limit.
package callback
