package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// Every payload starts with a stamp of fixed width, in characters that JSON keeps as they are, so that it is found
// again inside whatever the broker wraps around the text:
//
//	~rkb:RRRRRRRR:SSSSSS:QQQQQQQQQQ:TTTTTTTTTTTTTTTTTTT;
//
// run (8 hex digits), sender (index in the run), the sender's sequence (from 1), and the instant at which the message
// was due (Unix nanoseconds).
const (
	stampMarker = "~rkb:"
	stampSize   = len(stampMarker) + 8 + 1 + 6 + 1 + 10 + 1 + 19 + 1

	stampSenderAt = len(stampMarker) + 8 + 1
	stampSeqAt    = stampSenderAt + 6 + 1
	stampTimeAt   = stampSeqAt + 10 + 1

	maxSenders = 1_000_000 // what six digits tell apart
)

type stamp struct {
	sender int
	seq    uint32
	due    int64 // Unix nanoseconds
}

// newPayload makes a payload of size bytes for one sender; put fills in the rest for each message.
func newPayload(run string, sender, size int) []byte {
	p := make([]byte, size)
	copy(p, fmt.Sprintf("%s%s:%06d:%010d:%019d;", stampMarker, run, sender, 0, 0))
	fillPadding(p[stampSize:], uint32(sender))
	return p
}

// put stamps a payload that newPayload made. The padding changes as well, so that a store cannot compress one message
// by the one before.
func (s stamp) put(payload []byte) {
	putDigits(payload[stampSeqAt:stampSeqAt+10], uint64(s.seq))
	putDigits(payload[stampTimeAt:stampTimeAt+19], uint64(s.due))
	fillPadding(payload[stampSize:], uint32(s.sender)*31+s.seq)
}

// findStamp finds the stamp of this run in a received payload.
func findStamp(run string, payload []byte) (stamp, bool) {
	at := bytes.Index(payload, []byte(stampMarker))
	if at < 0 || len(payload)-at < stampSize {
		return stamp{}, false
	}
	p := payload[at : at+stampSize]
	if string(p[len(stampMarker):len(stampMarker)+8]) != run {
		return stamp{}, false
	}
	sender, ok1 := digits(p[stampSenderAt : stampSenderAt+6])
	seq, ok2 := digits(p[stampSeqAt : stampSeqAt+10])
	due, ok3 := digits(p[stampTimeAt : stampTimeAt+19])
	if !ok1 || !ok2 || !ok3 || seq > 1<<32-1 || due > 1<<63-1 {
		return stamp{}, false
	}
	return stamp{sender: int(sender), seq: uint32(seq), due: int64(due)}, true
}

func putDigits(b []byte, n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = '0' + byte(n%10)
		n /= 10
	}
}

func digits(b []byte) (uint64, bool) {
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// noise is text that does not compress well, from which payloads take their padding.
var noise = func() []byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ."
	b := make([]byte, 1<<17)
	r := rand.New(rand.NewPCG(1, 2)) // the same text in every run
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return b
}()

func fillPadding(b []byte, salt uint32) {
	for len(b) > 0 {
		at := int(salt * 2654435761 >> 16) // 65,536 places to start at
		n := copy(b, noise[at:])
		b = b[n:]
		salt++
	}
}
