package hooks

import (
	"encoding/json"
	"errors"

	"github.com/rookery-im/rookery/group"
)

// A Draft is a message on its way in. It is plain data: it can be serialised and sent to the
// node that owns the group.
type Draft struct {
	ID    group.MsgID // of the message that this becomes; zero: Submit makes one
	Group group.ID
	From  group.Account // the sender that receivers see

	// ByAdmin says that an app admin made the request: From need not be a member. Operator
	// is that admin; otherwise it is From.
	ByAdmin  bool
	Operator group.Account
	Origin   Origin

	Random    uint32
	HasRandom bool
	Again     group.Retransmission // for messages without a Random
	// Repeated says that the client marked the message as sent before (MQTT: DUP). Only then is
	// Again looked for: a packet identifier is used again for other messages, equal ones too.
	Repeated bool

	Priority        group.Priority // zero: Normal
	Flags           group.Flags
	Body            json.RawMessage // a JSON array of elements, compact
	Canonical       bool            // Body is as group.ParseBody would make it, and need not be parsed
	CloudCustomData string
	OfflinePush     json.RawMessage
	Mentions        []group.Mention
	To              []group.Account

	// Invalid is what the door found wrong. The draft is refused with it, as if the pipeline had
	// found it, so that whoever wants to know of refusals is told.
	Invalid *group.Error
}

// Origin says where a request came from; callbacks and the audit log tell it.
type Origin struct {
	IP       string // of the client or of the REST caller
	Platform string // RESTAPI, or what the client said: Android, iOS, Web, …
	Device   string // the client identifier; empty for REST
}

// An Outcome says what became of a Draft. Err is nil when the sender is told success.
type Outcome struct {
	Seq group.Seq // 0: not stored
	// RoomSeq is the message's number in a group whose type stores no messages. It grows, with
	// gaps after a restart, and nothing can be found by it later; 0 in other groups.
	RoomSeq group.Seq
	Time    int64 // Unix seconds; 0 when restricted or dropped
	ID      group.MsgID

	// Restricted: frequency control left it out. Dropped: the before-callback asked to drop it
	// silently. In both cases the sender is told success, and nothing was stored or delivered.
	Restricted bool
	Dropped    bool
	// Duplicate: this is an earlier message's outcome, told again.
	Duplicate bool

	// Err is a *group.Error for a refusal (final), or one for which Retry reports true: then
	// nothing was acknowledged, and the same Random makes sending again safe.
	Err error
}

var (
	// ErrOverloaded says that a bound on waiting messages was met; nothing was stored.
	ErrOverloaded = errors.New("hooks: overloaded")
	// ErrUnavailable says that the store took too long or refused; the outcome is unknown to
	// the sender, and repeating with the same Random is safe. Where it wraps
	// storage.ErrReadOnly nothing was stored.
	ErrUnavailable = errors.New("hooks: storage unavailable")
	// ErrMoved says that another node owns the group; the caller asks there.
	ErrMoved = errors.New("hooks: group moved")
	// ErrClosed says that the pipeline is shutting down.
	ErrClosed = errors.New("hooks: closed")
)

// Retry reports whether err leaves the outcome open, so that the sender should try again with
// the same Random.
func Retry(err error) bool {
	return errors.Is(err, ErrOverloaded) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrMoved) || errors.Is(err, ErrClosed)
}
