package hooks

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

type mutationsOf = []storage.Mutation

// A batch is what is written and then delivered at once: messages of one group, or one change.
type batch struct {
	group    *group.Group // as it is for the messages in it; nil: only records, no group
	subs     []*submission
	tx       *Tx
	upd      *update
	write    storage.Batch
	replaced []*group.Message
	beside   []storage.Mutation // written with them
	deliver  []Delivery

	uncounted *storage.UncountedSet // with the batch's messages; nil: as before
	began     time.Time
}

// empty reports whether there is nothing to write.
func (b *batch) empty() bool {
	return len(b.write.Messages) == 0 && len(b.write.Mutations) == 0 && len(b.replaced) == 0
}

// next stamps what is ready and returns the batch for the caller to write, or nil. While a
// write is under way it gathers on.
func (l *lane) next() *batch {
	for l.writing == nil && (len(l.ready) > 0 || len(l.leftOver) > 0) {
		if l.st == nil {
			ctx, cancel := l.storeContext()
			err := l.load(ctx)
			cancel()
			if err != nil {
				l.p.log.Warn("group not loaded", "group", string(l.id), "err", err)
				for _, it := range l.ready {
					l.refuseItem(it, ErrUnavailable)
				}
				l.ready, l.leftOver = nil, nil
				return nil
			}
		}
		var b *batch
		if len(l.ready) > 0 && l.ready[0].upd != nil {
			u := l.ready[0].upd
			l.ready = l.ready[1:]
			b = l.change(u)
		} else {
			b = l.stamp()
		}
		if b == nil {
			continue
		}
		b.began = time.Now()
		l.writing = b
		if b.empty() { // nothing to write; delivered in its turn all the same
			l.post(item{written: &written{batch: b}})
			return nil
		}
		return b
	}
	return nil
}

// stamp gives the messages at the front of ready their places. Each is authorised once more:
// a refusal here gives back its slot.
func (l *lane) stamp() *batch {
	g := l.st.group
	b := &batch{group: g}
	for _, muts := range l.leftOver {
		b.write.Mutations = append(b.write.Mutations, muts...)
	}
	l.leftOver = nil
	now := time.Now()
	sent := make(map[group.Account]*group.Message)
	bytes := 0
	n := 0
	for ; n < len(l.ready) && l.ready[n].upd == nil; n++ {
		s := l.ready[n].sub
		if len(b.subs) >= l.p.cfg.BatchLen || bytes > l.p.cfg.BatchBytes {
			break
		}
		if s.load != l.loads && s.keyed { // the log was read again since: it may hold this message by now
			// Found by its key; without a Random and without DUP that may be an earlier one that
			// was just as equal, which its id tells apart.
			o, ok := l.st.dups.find(s.key, now)
			if ok && (s.draft.HasRandom || s.draft.Repeated || o.ID == s.draft.ID) {
				o.Duplicate = o.ID != s.draft.ID
				if o.Duplicate {
					l.returnSlot(s)
				}
				l.end(s, o)
				continue
			}
		}
		m, err := l.message(b, s, now)
		if err != nil {
			l.returnSlot(s)
			l.rejected(s, err)
			continue
		}
		s.message = m
		b.subs = append(b.subs, s)
		b.deliver = append(b.deliver, Delivery{Message: m})
		bytes += len(m.Body) + len(m.CloudCustomData) + 256
		if m.Seq > 0 && !m.Has(group.OnlineOnly) && g.Type.Rules().StoresMessages {
			b.write.Messages = append(b.write.Messages, m)
			sent[m.From] = m
		}
	}
	rest := copy(l.ready, l.ready[n:])
	clear(l.ready[rest:])
	l.ready = l.ready[:rest]
	if g == nil {
		if len(b.write.Mutations) == 0 {
			return nil
		}
		return b
	}
	if len(b.subs) == 0 && len(b.write.Mutations) == 0 {
		return nil
	}
	b.write.Key, b.write.Tail, b.write.Epoch = g.Key(), l.st.head.Tail, l.p.cfg.Epoch
	for a, m := range sent {
		b.write.Mutations = append(b.write.Mutations, storage.Sends.Put(storage.MemberKey(g.Key(), a), &storage.SendMark{Seq: m.Seq, Time: m.Time}))
	}
	l.noteUncounted(b)
	if len(b.write.Messages) > 0 && g.Type.Rules().NeedsActivation && !g.Activated {
		active := g.Clone()
		active.Activated = true
		b.group = active
		b.write.Mutations = append(b.write.Mutations, storage.Groups.Put(storage.GroupKey(g.ID), active))
	}
	return b
}

// returnSlot gives back the place in the flow's window of a message that is not stored after all.
func (l *lane) returnSlot(s *submission) {
	if s.released != 0 && l.flow != nil {
		l.flow.giveBack(s.released, s.draft.Priority)
	}
}

// message makes the stored message of a submission; its place is the next one in b.
func (l *lane) message(b *batch, s *submission, now time.Time) (*group.Message, error) {
	d := s.draft
	snd, profile, err := l.person(d.From)
	if err != nil {
		return nil, err
	}
	if err := l.authorise(d, snd, profile, now); err != nil {
		return nil, err
	}
	g := l.st.group
	m := &group.Message{
		ID: d.ID, From: d.From, Random: d.Random, HasRandom: d.HasRandom, Again: d.Again, Hash: s.hash,
		Priority: d.Priority, Flags: d.Flags, Body: d.Body, CloudCustomData: d.CloudCustomData, OfflinePush: d.OfflinePush,
		Mentions: d.Mentions, To: d.To, Released: s.released, Sender: l.p.senderOf(profile, snd.member),
	}
	stored := g.Type.Rules().StoresMessages && !d.Flags.Any(group.OnlineOnly)
	if !g.Type.Rules().StoresMessages {
		if m.Seq, err = l.reserve(); err != nil {
			return nil, err
		}
	}
	if s.released != 0 { // the time of the release, not of the write that it waited for: the limit holds for both
		m.Time = now.Add(-time.Duration(l.p.nanos() - s.released)).Unix()
	}
	l.place(b, g, m, stored, now)
	for _, o := range l.p.outbox {
		var muts []storage.Mutation
		if stored {
			muts = o.Stored(g, m, d)
		} else {
			muts = o.Online(g, m, d)
		}
		b.write.Mutations = append(b.write.Mutations, muts...)
	}
	return m, nil
}

// place fills in what the lane knows of a message: its group, identity, time and, if it is
// stored, its SEQ after those that are in b already.
func (l *lane) place(b *batch, g *group.Group, m *group.Message, stored bool, now time.Time) {
	m.Group, m.Incarnation, m.Epoch = g.ID, g.Incarnation, l.p.cfg.Epoch
	if m.ID == (group.MsgID{}) {
		m.ID = newMsgID()
	}
	tail, last := l.st.head.Tail, l.st.head.Time
	if b.tx != nil && b.tx.created {
		tail, last = 0, 0
	}
	if n := len(b.write.Messages); n > 0 {
		tail, last = b.write.Messages[n-1].Seq, b.write.Messages[n-1].Time
	}
	if m.Time == 0 {
		m.Time = now.Unix()
	}
	if !stored {
		return
	}
	m.Time = max(m.Time, last)
	m.Expires = m.Time + int64(l.p.cfg.retention(g.Type)/time.Second)
	m.Seq = tail + 1
}

// change runs an update's function and makes a batch of what it asked for; nil if it refused.
func (l *lane) change(u *update) (b *batch) {
	if err := u.ctx.Err(); err != nil {
		l.endUpdate(u, fmt.Errorf("%w: %w", ErrUnavailable, err))
		return nil
	}
	tx := &Tx{ctx: u.ctx, lane: l, now: time.Now()}
	if l.st.group != nil {
		tx.group = l.st.group.Clone()
	}
	if err := tx.run(u.fn); err != nil {
		l.endUpdate(u, err)
		return nil
	}
	b = &batch{group: tx.group, tx: tx, upd: u, replaced: tx.replaced, beside: tx.beside}
	if tx.group == nil {
		b.write.Mutations = tx.muts
		for _, it := range tx.items { // nobody is in a group that is not there; inboxes are
			if it.delivery.Notice != nil {
				b.deliver = append(b.deliver, it.delivery)
			}
		}
		return b
	}
	b.write.Key, b.write.Epoch = tx.group.Key(), l.p.cfg.Epoch
	if !tx.created {
		b.write.Tail = l.st.head.Tail
	}
	b.write.Mutations = tx.mutations()
	for _, it := range tx.items {
		switch {
		case it.callback != "":
			for _, o := range l.p.outbox {
				b.write.Mutations = append(b.write.Mutations, o.Happened(tx.group, it.callback, it.body)...)
			}
			continue
		case it.delivery.Message != nil:
			m := it.delivery.Message
			stored := it.stored && tx.group.Type.Rules().StoresMessages
			l.place(b, tx.group, m, stored, tx.now)
			if stored {
				b.write.Messages = append(b.write.Messages, m)
			}
			if m.Has(group.Imported) {
				continue // history is not news: nobody is told
			}
		}
		b.deliver = append(b.deliver, it.delivery)
	}
	l.noteUncounted(b)
	return b
}

// noteUncounted writes down which of the batch's messages do not count as unread.
func (l *lane) noteUncounted(b *batch) {
	var seqs []group.Seq
	for _, m := range b.write.Messages {
		if m.Has(group.NoUnread) || len(m.To) > 0 {
			seqs = append(seqs, m.Seq)
		}
	}
	if len(seqs) == 0 {
		return
	}
	before := l.st.uncounted
	if b.tx != nil && b.tx.created {
		before = nil
	}
	b.uncounted = before.With(seqs...)
	b.write.Mutations = append(b.write.Mutations, storage.Uncounted.Put(storage.GroupRecordKey(b.group.Key()), b.uncounted))
}

// run calls fn and turns a panic into an error: a mistake in one command must not end the
// process for all.
func (tx *Tx) run(fn func(*Tx) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("hooks: group %s: panic in an update: %v\n%s", tx.lane.id, r, debug.Stack())
		}
	}()
	return fn(tx)
}

// newMsgID returns an id that no other draft has: 128 random bits.
func newMsgID() (id group.MsgID) {
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	return id
}

// text returns a JSON string's text, or the literal of anything else.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
