package storage

import (
	"encoding/json"
	"slices"

	"github.com/rookery-im/rookery/group"
)

// A ChangeSet holds the latest changes of a group's messages, for members who were away: of each
// message the last one.
type ChangeSet struct {
	Last int64    `json:"last"`          // the number of the last change
	List []Change `json:"l,omitempty"`   // ascending by N
	Lost int64    `json:"lost,omitzero"` // the highest number that was dropped to keep the list short
}

// A Change is one of a message that was stored already.
type Change struct {
	N     int64           `json:"n"` // 1, 2, 3, … in the group
	Seq   group.Seq       `json:"seq"`
	At    int64           `json:"at"`  // Unix seconds
	Until int64           `json:"til"` // Unix seconds: the message has expired then
	Event string          `json:"ev"`
	Body  json.RawMessage `json:"b"`
	To    []group.Account `json:"to,omitempty"` // who could see the message; empty: everybody
}

// With returns the set with one more change, which gets the next number, and at most keep in
// all. It leaves s as it is; s may be nil.
func (s *ChangeSet) With(c Change, keep int) *ChangeSet {
	out := new(ChangeSet)
	if s != nil {
		*out = *s
		out.List = slices.DeleteFunc(slices.Clone(s.List), func(have Change) bool { return have.Seq == c.Seq || have.Until <= c.At })
	}
	out.Last++
	c.N = out.Last
	out.List = append(out.List, c)
	if over := len(out.List) - keep; over > 0 {
		out.Lost = out.List[over-1].N
		out.List = out.List[over:]
	}
	return out
}

// A Departure is how an account came out of a group.
type Departure struct {
	ID    group.ID        `json:"id"`
	Event string          `json:"ev"` // as the inbox was told: Left or Dismissed
	At    int64           `json:"at"` // Unix seconds
	Body  json.RawMessage `json:"b"`
}
