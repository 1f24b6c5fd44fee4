package hooks

import (
	"context"
	"encoding/json"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A Verdict is what the before-callback says about a message.
type Verdict struct {
	// Refuse is told to the sender instead of storing the message.
	Refuse *group.Error
	// Drop tells the sender success and does nothing.
	Drop bool
	// Body and CloudCustomData replace the sender's, if not nil. They are validated like a client's.
	Body            json.RawMessage
	CloudCustomData *string
}

// BeforeSend asks the app about a message before it is stored. It is called once per message
// that gets as far as flow control, concurrently for different senders of a group, and one
// after another for one sender's messages of one priority. It returns within its own time
// limit; a failure of the callback is its to judge (by the configured policy), so there is no error.
type BeforeSend interface {
	// Due reports, without blocking, whether the app wants to be asked about d.
	Due(g *group.Group, d *Draft) bool
	BeforeSend(ctx context.Context, g *group.Group, d *Draft) Verdict
}

// An Outbox turns what happened into records that become durable together with it, for
// whoever works on them afterwards: after-callbacks, offline push. Its methods are called by
// the lane, must not block, and are called in the group's order.
type Outbox interface {
	// Stored returns the records to be written with m, which is stamped and about to be
	// stored. g and d must not be changed; d is nil for tips and imports.
	Stored(g *group.Group, m *group.Message, d *Draft) []storage.Mutation
	// Online is called for a message that is delivered to those online and not stored. Its
	// records are written too, for what it is worth.
	Online(g *group.Group, m *group.Message, d *Draft) []storage.Mutation
	// Happened returns the records for an event that Tx.Callback reports.
	Happened(g *group.Group, name string, body any) []storage.Mutation
	// Refused is told of messages that were not stored (SendMsgException); g is nil if there is
	// no such group. Records may be nil, and are written without the sender waiting for them.
	// Of those that are wrong by themselves only an outbox is told whose method HearsRefusals
	// returns true.
	Refused(g *group.Group, d *Draft, err *group.Error) []storage.Mutation
	// Committed wakes the worker up: records of the group are durable now.
	Committed(key group.Key)
}
