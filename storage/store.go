// Package storage is the contract between Rookery and what keeps its data: a log of messages
// for each group, and tables of small records for everything else.
//
// Two implementations share it, storage/pebble (embedded, the default) and storage/mongo; both
// pass storage/storagetest. The contract asks for one thing that every database can give:
// insert-if-absent. A message is written at exactly tail+1 or not at all, so that even two
// writers by mistake cannot both win; ownership of a group (one lane) is for speed, order of
// effects and mutes, never for the integrity of SEQ.
//
// Durability: when a writing method returns nil, what it wrote survives a crash and a power
// loss (with storage.sync "always"; "interval" trades the last moments for speed). After any
// error the outcome is unknown unless the error says otherwise: read before you write again.
//
// Ownership: no method keeps a reference to its arguments after it returns; what a method
// returns belongs to the caller. All methods may be called from any goroutine.
package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/rookery-im/rookery/group"
)

var (
	// ErrNotFound says that there is no such record or message.
	ErrNotFound = errors.New("storage: not found")
	// ErrExists says that an Insert met a record with its key. Nothing after that mutation was applied.
	ErrExists = errors.New("storage: record exists")
	// ErrReadOnly says that the store refuses writes for now: the disk is below its
	// reserve, or full. Nothing was written. Reads go on; writes resume by themselves. Drop and
	// Sweep, which free space, are refused only when the disk is full.
	ErrReadOnly = errors.New("storage: no space left, writes are refused")
	// ErrUnavailable says that the store can't be reached. A write under way may or may not have happened.
	ErrUnavailable = errors.New("storage: unavailable")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("storage: closed")
)

// A TailError refuses an Append that does not continue the log where it ends. Nothing was
// written, neither messages nor mutations, except that a store which can't write both at
// once (MongoDB) may have applied the mutations, which precede the messages.
type TailError struct {
	Key  group.Key
	Want group.Seq // the tail that the caller expected
	Head Head      // what was found
}

func (e *TailError) Error() string {
	return fmt.Sprintf("storage: group %s/%d: append after SEQ %d (epoch refused below %d), but the log ends at %d",
		e.Key.ID, e.Key.Incarnation, e.Want, e.Head.Epoch, e.Head.Tail)
}

// A Head is the end of one group's log. It outlives the messages: when all have expired, Tail is what it was.
type Head struct {
	Tail  group.Seq // the highest SEQ ever stored; 0: none
	Epoch int64     // of the last append that had messages
	Time  int64     // Unix seconds of the last message; 0: none
	First group.Seq // a lower bound of the lowest SEQ still stored; readers may skip what is below
}

// An End is where one group's log ends.
type End struct {
	Key  group.Key
	Head Head
	Last *group.Message // the message at Head.Tail; nil if it has expired, or there is none
}

// A Batch is what one lane writes at once.
type Batch struct {
	Key   group.Key
	Tail  group.Seq // the tail that the writer expects: Messages[0].Seq is Tail+1
	Epoch int64     // refused if below the head's epoch
	// Messages have consecutive SEQs, Key's group and incarnation, and Times that do not run
	// backwards. There may be none: then only Mutations are written, and Tail is checked all the same.
	Messages []*group.Message
	// Mutations become durable with the messages: never the messages without them. (The
	// reverse can be seen after a crash of a store without transactions; readers of such
	// records check that the message is there.)
	Mutations []Mutation
}

// A Store keeps messages and records.
type Store interface {
	MessageLog
	Records

	// Health returns nil when the store takes reads and writes. It is cheap: it may report
	// what the last operations met, and asks the server at most once a second.
	Health(ctx context.Context) error
	// Close flushes and releases everything. No method may be called after it or while it runs.
	Close() error
}

// MessageLog keeps the messages of each group, in SEQ order.
type MessageLog interface {
	// Append writes b after the group's last message, all or none. It fails with a
	// *TailError if the log does not end at b.Tail or b.Epoch is below the head's, with
	// ErrReadOnly or ErrUnavailable as these say, and with CheckBatch's error for a batch that is
	// not well formed (or whose first Time lies before the head's). After any error but *TailError and
	// ErrReadOnly the caller reads the head and its own MsgIDs before it appends again. At
	// most one Append of a group is under way at a time (a second one waits or is refused);
	// Appends of different groups proceed together and share fsyncs or round trips.
	Append(ctx context.Context, b *Batch) error

	// Head returns the end of the group's log, the zero Head for a group without messages. It
	// never speaks of messages that are not durable yet, nor do Range, RangeDown and Latest.
	// When the outcome of an Append is unknown, Head waits for it or fails.
	Head(ctx context.Context, key group.Key) (Head, error)

	// Heads returns the heads of many groups in one round trip, in the order of keys.
	Heads(ctx context.Context, keys []group.Key) ([]Head, error)

	// Range yields the messages with from <= SEQ < to that have not expired, ascending;
	// tombstones are among them. It ends after an error. Range holds no lock: appends go on.
	Range(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error]

	// RangeDown is Range in descending order, from the message before to down to from.
	RangeDown(ctx context.Context, key group.Key, from, to group.Seq) iter.Seq2[*group.Message, error]

	// Ends returns the heads of many groups with the messages at their tails, in the order of
	// keys, in two round trips. The messages are shared: do not change them.
	Ends(ctx context.Context, keys []group.Key) ([]End, error)

	// Latest returns, for each of ends, the newest message that has not expired and that keep
	// accepts (nil: any), or nil, looking at the newest depth messages at or below the tail at
	// most. It takes one round trip, and none when keep accepts all that the ends have. The
	// messages are shared: do not change them.
	Latest(ctx context.Context, ends []End, depth int, keep func(*group.Message) bool) ([]*group.Message, error)

	// Replace writes new versions of messages that are stored (recall, modification), and
	// mutations with them. Messages whose SEQ is not stored are left out without an error. Group, Seq,
	// Time and Expires of a message stay what they were.
	Replace(ctx context.Context, key group.Key, msgs []*group.Message, muts ...Mutation) error

	// Hour yields all messages of all groups whose Time is in [from, from+3600), grouped by
	// group, SEQ ascending within one. It serves the history export and reads nothing else.
	Hour(ctx context.Context, from int64) iter.Seq2[*group.Message, error]

	// Drop removes everything in the log of a destroyed group: messages and head.
	Drop(ctx context.Context, key group.Key) error

	// Sweep removes messages that expired before now (Unix seconds) from disk, at bounded cost a
	// call, and reports whether it left work for another call. Reads never show expired
	// messages, swept or not. Stores whose server expires by itself return false.
	Sweep(ctx context.Context, now int64) (more bool, err error)
}

// Op is what a Mutation does.
type Op uint8

// The operations. Each is idempotent, so that a batch can be repeated after an unclear answer
// (an Insert then answers ErrExists: compare the value).
const (
	Put          Op = iota // write, whether or not there is such a record
	Insert                 // write only if there is none, else ErrExists
	Delete                 // remove if there is one
	DeletePrefix           // remove all records of the table whose key starts with Key
)

// A Mutation changes one record (or, DeletePrefix, a range of them).
type Mutation struct {
	Op    Op
	Table string // one of the tables of this package
	Key   string // see Key
	Value []byte
}

// A Record is one row of a table.
type Record struct {
	Key   string
	Value []byte
}

// A Ref names a record.
type Ref struct{ Table, Key string }

// Span selects records of a table in the order of their keys' bytes.
type Span struct {
	Prefix string // only keys that start with it
	After  string // only keys above it (below it, if Reverse); empty: from the beginning (the end)
	Limit  int    // at most so many; 0: all
	// Reverse yields descending.
	Reverse bool
}

// Records keeps small values under a table and a key. Values are opaque here; the typed
// Table in this package gives them their shape.
type Records interface {
	// Get returns the record's value, or ErrNotFound.
	Get(ctx context.Context, table, key string) ([]byte, error)
	// GetMany returns the values of keys in their order, nil where there is none, in a bounded number of round trips.
	GetMany(ctx context.Context, table string, keys []string) ([][]byte, error)
	// GetAll is GetMany for records of several tables. Those of LoginTables come in one round
	// trip, whatever their number up to 20,000.
	GetAll(ctx context.Context, refs []Ref) ([][]byte, error)
	// Scan yields the records of a span. It ends after an error.
	Scan(ctx context.Context, table string, s Span) iter.Seq2[Record, error]
	// Apply applies muts in order and is durable on nil. With ErrExists, what precedes the
	// failed Insert was applied or not at all, and nothing after it was. (The embedded
	// store applies all or none; write so that a prefix does no harm.)
	Apply(ctx context.Context, muts ...Mutation) error
}

// A Counter is a store whose Apply and Append may leave a prefix of their mutations behind: what
// one record says of how many others there are has to be counted again.
type Counter interface {
	// Count returns how many records of the table have keys that begin with prefix.
	Count(ctx context.Context, table, prefix string) (int, error)
}
