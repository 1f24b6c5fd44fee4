package storage

import (
	"context"
	"iter"

	"github.com/rookery-im/rookery/group"
)

// An Enumerator is a store that can list all it holds, and be filled from such a list: what is
// needed to move from one store to another. It is not for the path of a message.
type Enumerator interface {
	Store

	// Logs yields the key of every log, also of those whose messages have all expired, in an order
	// that is the store's own and does not change. It ends after an error.
	Logs(ctx context.Context) iter.Seq2[group.Key, error]

	// Tables returns the names of the tables that may have records, sorted.
	Tables(ctx context.Context) ([]string, error)

	// Advance raises the end of a log to head without messages: the next Append continues after
	// head.Tail, as if those up to there had been stored and had expired. It fails with a
	// *TailError if head.Tail, head.Epoch or head.Time is below what the log has.
	Advance(ctx context.Context, key group.Key, head Head) error
}
