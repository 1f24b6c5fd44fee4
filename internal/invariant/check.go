package invariant

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
)

// A Violation is a promise that was not kept.
type Violation struct {
	Rule string
	Text string
}

func (v Violation) String() string { return v.Rule + ": " + v.Text }

// A Rule finds the violations of one promise.
type Rule struct {
	Name  string
	About string
	Check func(events []Event, content Content) []string
}

// Rules are the promises, in the order of docs/ARCHITECTURE.md.
var Rules = []Rule{
	{"I1", "acknowledged means stored at that SEQ, unchanged", ackedIsStored},
	{"I2", "stored SEQs are 1…max, and max is no lower than what anybody was told", gapless},
	{"I3", "a message is stored once, however often it was sent", once},
	{"I4", "a message sent after another one's acknowledgement has the higher SEQ", realTime},
	{"I5", "one sender's messages of one priority keep their order", senderOrder},
	{"I6", "a connection sees SEQs strictly increase, and every gap is filled from history", connectionOrder},
	{"I8", "what is delivered live goes to members only", membersOnly},
	{"I9", "nothing of a muted member is stored", mutedIsSilent},
	{"I12", "what was restricted is neither stored nor delivered", restrictedIsGone},
}

// Check returns all violations of all rules.
func Check(events []Event, content Content) []Violation {
	var found []Violation
	for _, r := range Rules {
		for _, text := range r.Check(events, content) {
			found = append(found, Violation{r.Name, text})
		}
	}
	return found
}

type place struct {
	group group.ID
	seq   group.Seq
}

func bySeq(content Content) map[place]Stored {
	out := make(map[place]Stored)
	for g, stored := range content {
		for _, s := range stored {
			out[place{g, s.Seq}] = s
		}
	}
	return out
}

type groupMessage struct {
	group group.ID
	key   MessageKey
}

func byMessage(content Content) map[groupMessage]Stored {
	out := make(map[groupMessage]Stored)
	for g, stored := range content {
		for _, s := range stored {
			if _, twice := out[groupMessage{g, s.Message}]; !twice {
				out[groupMessage{g, s.Message}] = s
			}
		}
	}
	return out
}

func ackedIsStored(events []Event, content Content) (found []string) {
	stored := bySeq(content)
	for _, e := range events {
		if e.Kind != Acked || e.Seq == 0 {
			continue
		}
		if s, ok := stored[place{e.Group, e.Seq}]; !ok {
			found = append(found, fmt.Sprintf("%s: SEQ %d was acknowledged to %s and is not stored", e.Group, e.Seq, e.Message.From))
		} else if s.Message != e.Message {
			found = append(found, fmt.Sprintf("%s: SEQ %d was acknowledged for %+v and is %+v", e.Group, e.Seq, e.Message, s.Message))
		}
	}
	return found
}

func gapless(events []Event, content Content) (found []string) {
	tails := make(map[group.ID]group.Seq)
	for g, stored := range content {
		for i, s := range stored {
			if want := group.Seq(i + 1); s.Seq != want {
				found = append(found, fmt.Sprintf("%s: SEQ %d stands at the place of %d", g, s.Seq, want))
				break
			}
		}
		if n := len(stored); n > 0 {
			tails[g] = stored[n-1].Seq
		}
	}
	for _, e := range events {
		if (e.Kind == Acked || e.Kind == Delivered) && e.Seq > tails[e.Group] {
			found = append(found, fmt.Sprintf("%s: SEQ %d was told to a client, and the log ends at %d", e.Group, e.Seq, tails[e.Group]))
		}
	}
	return found
}

func once(_ []Event, content Content) (found []string) {
	for g, stored := range content {
		seen := make(map[MessageKey]group.Seq)
		for _, s := range stored {
			if s.System || s.Message.Random == 0 {
				continue
			}
			if first, twice := seen[s.Message]; twice {
				found = append(found, fmt.Sprintf("%s: %+v is stored at %d and at %d", g, s.Message, first, s.Seq))
			}
			seen[s.Message] = s.Seq
		}
	}
	return found
}

// realTime walks the log once: a message that is first sent when SEQ n had been acknowledged
// must be stored above n.
func realTime(events []Event, content Content) (found []string) {
	stored := byMessage(content)
	acked := make(map[group.ID]group.Seq)
	for _, e := range events {
		switch {
		case e.Kind == Acked && e.Seq > 0:
			acked[e.Group] = max(acked[e.Group], e.Seq)
		case e.Kind == Sent && !e.Again:
			if s, ok := stored[groupMessage{e.Group, e.Message}]; ok && s.Seq <= acked[e.Group] {
				found = append(found, fmt.Sprintf("%s: %+v was sent after SEQ %d was acknowledged and has SEQ %d", e.Group, e.Message, acked[e.Group], s.Seq))
			}
		}
	}
	return found
}

type senderLine struct {
	group    group.ID
	from     group.Account
	priority group.Priority
}

func senderOrder(events []Event, content Content) (found []string) {
	stored := byMessage(content)
	last := make(map[senderLine]group.Seq)
	for _, e := range events {
		if e.Kind != Sent || e.Again {
			continue
		}
		s, ok := stored[groupMessage{e.Group, e.Message}]
		if !ok {
			continue
		}
		line := senderLine{e.Group, e.Message.From, cmp.Or(e.Priority, group.Normal)}
		if s.Seq <= last[line] {
			found = append(found, fmt.Sprintf("%s: %+v was sent after a message of the same sender with SEQ %d and has SEQ %d", e.Group, e.Message, last[line], s.Seq))
		}
		last[line] = s.Seq
	}
	return found
}

type connGroup struct {
	conn  int
	group group.ID
}

// connectionOrder wants the SEQs of a connection to increase strictly, and what a jump leaves
// out to be pulled from history later. Messages that came before the connection's
// first in a group are not its affair.
func connectionOrder(events []Event, _ Content) (found []string) {
	last := make(map[connGroup]group.Seq)
	type hole struct{ from, to group.Seq }
	holes := make(map[connGroup][]hole)
	for _, e := range events {
		at := connGroup{e.Conn, e.Group}
		switch e.Kind {
		case Delivered:
			if e.Seq == 0 {
				continue
			}
			was := last[at]
			if e.Seq <= was {
				found = append(found, fmt.Sprintf("%s: connection %d got SEQ %d after %d", e.Group, e.Conn, e.Seq, was))
				continue
			}
			if was > 0 && e.Seq != was+1 {
				holes[at] = append(holes[at], hole{was + 1, e.Seq - 1})
			}
			last[at] = e.Seq
		case Pulled:
			holes[at] = slices.DeleteFunc(holes[at], func(h hole) bool { return e.Seq <= h.from && h.to <= e.To })
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(holes), func(a, b connGroup) int { return cmp.Compare(a.conn, b.conn) }) {
		for _, h := range holes[at] {
			found = append(found, fmt.Sprintf("%s: connection %d never got SEQ %d to %d", at.group, at.conn, h.from, h.to))
		}
	}
	return found
}

// membersOnly wants nothing sent after a removal was confirmed to be delivered to who was
// removed, and nothing ever to who was never a member.
func membersOnly(events []Event, _ Content) (found []string) {
	type membership struct {
		group   group.ID
		account group.Account
	}
	const in, out = 1, 2
	state := make(map[membership]int)
	outSince := make(map[membership]int) // the index of the confirmation
	sentAt := make(map[groupMessage]int)
	for i, e := range events {
		m := membership{e.Group, e.Account}
		switch e.Kind {
		case Joined:
			state[m] = in
		case Left:
			state[m], outSince[m] = out, i
		case Sent:
			if !e.Again {
				sentAt[groupMessage{e.Group, e.Message}] = i
			}
		case Delivered:
			if state[m] == in {
				continue
			}
			sent, known := sentAt[groupMessage{e.Group, e.Message}]
			if since, left := outSince[m]; left && (!known || sent <= since) {
				continue // stored before the removal; its delivery may have been noted late
			}
			found = append(found, fmt.Sprintf("%s: SEQ %d was delivered to %s, who is not a member", e.Group, e.Seq, e.Account))
		}
	}
	return found
}

// mutedIsSilent wants no message stored that was first sent while its sender's mute was confirmed.
func mutedIsSilent(events []Event, content Content) (found []string) {
	stored := byMessage(content)
	type member struct {
		group   group.ID
		account group.Account
	}
	silent := make(map[member]bool)
	for _, e := range events {
		m := member{e.Group, e.Account}
		switch e.Kind {
		case Muted:
			silent[m] = true
		case Unmuting:
			delete(silent, m)
		case Sent:
			m.account = e.Message.From
			if s, ok := stored[groupMessage{e.Group, e.Message}]; ok && silent[m] && !e.Again {
				found = append(found, fmt.Sprintf("%s: SEQ %d was sent by %s, who was muted", e.Group, s.Seq, m.account))
			}
		}
	}
	return found
}

func restrictedIsGone(events []Event, content Content) (found []string) {
	stored := byMessage(content)
	gone := make(map[groupMessage]bool)
	for _, e := range events {
		if e.Kind == Restricted {
			gone[groupMessage{e.Group, e.Message}] = true
			if s, ok := stored[groupMessage{e.Group, e.Message}]; ok {
				found = append(found, fmt.Sprintf("%s: %+v was restricted and is stored as SEQ %d", e.Group, e.Message, s.Seq))
			}
		}
	}
	for _, e := range events {
		if e.Kind == Delivered && gone[groupMessage{e.Group, e.Message}] {
			found = append(found, fmt.Sprintf("%s: %+v was restricted and delivered to %s", e.Group, e.Message, e.Account))
		}
	}
	return found
}

// Rate checks I10: never more than n ordinary messages of a group in any window of one second.
func Rate(content Content, n int) (found []Violation) {
	for g, stored := range content {
		var at []int64
		for _, s := range stored {
			if s.Released > 0 {
				at = append(at, s.Released)
			}
		}
		slices.Sort(at)
		for i := 0; i+n < len(at); i++ {
			if d := time.Duration(at[i+n] - at[i]); d < time.Second {
				found = append(found, Violation{"I10", fmt.Sprintf("%s: %d messages within %v", g, n+1, d)})
			}
		}
	}
	return found
}

// Online checks I7: who was connected throughout [ack, ack + within] has the message by then.
func Online(events []Event, members map[group.ID][]group.Account, within time.Duration) (found []Violation) {
	type life struct {
		account  group.Account
		from, to time.Time
		got      map[place]time.Time
	}
	lives := make(map[int]*life)
	var end time.Time
	for _, e := range events {
		end = e.At
		switch e.Kind {
		case Connected:
			lives[e.Conn] = &life{account: e.Account, from: e.At, got: make(map[place]time.Time)}
		case Ended:
			lives[e.Conn].to = e.At
		case Delivered:
			lives[e.Conn].got[place{e.Group, e.Seq}] = e.At
		}
	}
	for _, e := range events {
		if e.Kind != Acked || e.Seq == 0 {
			continue
		}
		for conn, l := range lives {
			to := l.to
			if to.IsZero() {
				to = end
			}
			if !slices.Contains(members[e.Group], l.account) || l.from.After(e.At) || to.Before(e.At.Add(within)) {
				continue
			}
			if at, ok := l.got[place{e.Group, e.Seq}]; !ok || at.After(e.At.Add(within)) {
				found = append(found, Violation{"I7", fmt.Sprintf("%s: connection %d of %s did not get SEQ %d within %v", e.Group, conn, l.account, e.Seq, within)})
			}
		}
	}
	return found
}
