package storage

import (
	"fmt"

	"github.com/rookery-im/rookery/group"
)

// CheckBatch reports what is wrong with the shape of b, whatever the log holds: SEQs that are not
// consecutive from Tail+1, a message of another group, a Time that runs back.
func CheckBatch(b *Batch) error {
	if b.Tail < 0 {
		return fmt.Errorf("storage: group %s: append after SEQ %d", b.Key.ID, b.Tail)
	}
	for i, m := range b.Messages {
		switch {
		case m.Key() != b.Key:
			return fmt.Errorf("storage: group %s/%d: message %d of the batch belongs to group %s/%d",
				b.Key.ID, b.Key.Incarnation, i, m.Group, m.Incarnation)
		case m.Seq != b.Tail+1+group.Seq(i):
			return fmt.Errorf("storage: group %s: SEQ %d at place %d of a batch after %d", b.Key.ID, m.Seq, i, b.Tail)
		case i > 0 && m.Time < b.Messages[i-1].Time:
			return fmt.Errorf("storage: group %s: SEQ %d: time %d runs back", b.Key.ID, m.Seq, m.Time)
		}
	}
	return nil
}
