package storage

import (
	"slices"

	"github.com/rookery-im/rookery/group"
)

// maxUncountedRuns bounds the runs that an UncountedSet keeps apart; older ones are only summed up.
const maxUncountedRuns = 256

// An UncountedSet says which SEQs of a group do not count as unread: tips, messages that were
// sent so, and directed ones. It outlives the messages. Of a member who has read as far as
// the last maxUncountedRuns runs of such SEQs, or nothing at all, the count is exact; in
// between it errs on the side of more unread.
type UncountedSet struct {
	// Runs alternates: so many SEQs that count, so many that do not, …; it begins after Base.
	Runs []int64 `json:"r,omitempty"`
	// At or below Base, Count SEQs do not count, the lowest of which is First.
	Base  group.Seq `json:"b,omitzero"`
	First group.Seq `json:"f,omitzero"`
	Count int64     `json:"n,omitzero"`
}

// With returns the set with seqs, which ascend and lie above all that are in it. It leaves u as
// it is; u may be nil.
func (u *UncountedSet) With(seqs ...group.Seq) *UncountedSet {
	var out UncountedSet
	if u != nil {
		out = *u
		out.Runs = slices.Clone(u.Runs)
	}
	end := out.Base
	for _, n := range out.Runs {
		end += group.Seq(n)
	}
	for _, seq := range seqs {
		if last := len(out.Runs) - 1; last > 0 && seq == end+1 {
			out.Runs[last]++
		} else {
			out.Runs = append(out.Runs, int64(seq-end-1), 1)
		}
		end = seq
	}
	for len(out.Runs) > 2*maxUncountedRuns {
		if out.Count == 0 {
			out.First = out.Base + group.Seq(out.Runs[0]) + 1
		}
		out.Base += group.Seq(out.Runs[0] + out.Runs[1])
		out.Count += out.Runs[1]
		out.Runs = out.Runs[2:]
	}
	return &out
}

// Between returns how many SEQs with after < SEQ <= to do not count. u may be nil.
func (u *UncountedSet) Between(after, to group.Seq) int64 {
	if u == nil {
		return 0
	}
	var n int64
	if u.Count > 0 && after < u.First && to >= u.Base {
		n = u.Count
	}
	at := u.Base
	for i := 0; i+1 < len(u.Runs); i += 2 {
		from := at + group.Seq(u.Runs[i]) + 1
		at = from + group.Seq(u.Runs[i+1]) - 1
		n += max(0, int64(min(at, to)-max(from, after+1)+1))
	}
	return n
}

// Unread returns how many of a group's messages up to tail count as unread for one who has
// read as far as read.
func (u *UncountedSet) Unread(read, tail group.Seq) int64 {
	return max(0, int64(tail-read)-u.Between(read, tail))
}

// ReadFor returns how far a member has read of whose group n messages are unread; with fewer
// messages than that, it has read nothing.
func (u *UncountedSet) ReadFor(n int64, tail group.Seq) group.Seq {
	// Unread falls as read rises: the highest read with at least n unread.
	low, high := group.Seq(0), tail
	for low < high {
		mid := low + (high-low+1)/2
		if u.Unread(mid, tail) >= n {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}
