package hooks

import (
	"time"

	"github.com/rookery-im/rookery/group"
)

// duplicates remembers the outcomes of recent messages by their keys, oldest first out.
type duplicates struct {
	known map[group.DuplicateKey]remembered
	order []group.DuplicateKey // by time of entry; [0:head] are gone
	head  int
}

type remembered struct {
	outcome Outcome
	until   int64 // Unix nanoseconds
}

func newDuplicates() duplicates {
	return duplicates{known: make(map[group.DuplicateKey]remembered)}
}

// find returns the outcome of an earlier message with the key, if it is recent enough.
func (d *duplicates) find(key group.DuplicateKey, now time.Time) (Outcome, bool) {
	r, ok := d.known[key]
	if !ok || now.UnixNano() >= r.until {
		return Outcome{}, false
	}
	return r.outcome, true
}

// add keeps the outcome of a message that was decided at the given time, for the length of
// keep, and at most most outcomes in all.
func (d *duplicates) add(key group.DuplicateKey, o Outcome, at time.Time, keep time.Duration, most int) {
	now := at.UnixNano()
	for d.head < len(d.order) {
		oldest := d.order[d.head]
		if r, ok := d.known[oldest]; ok && r.until > now && len(d.known) < most {
			break
		}
		delete(d.known, oldest)
		d.head++
	}
	if d.head > 1024 && d.head > len(d.order)/2 {
		d.order = append(d.order[:0], d.order[d.head:]...)
		d.head = 0
	}
	o.Duplicate = false
	if _, again := d.known[key]; !again {
		d.order = append(d.order, key)
	}
	d.known[key] = remembered{o, now + int64(keep)}
}
