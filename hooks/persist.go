package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A written says how the write of a batch ended.
type written struct {
	batch *batch
	end   writeEnd
	// stored is how many of the batch's messages are in the log; all of them if end is writeDone.
	stored int
	err    error
	// untouched: the one attempt was refused and nothing came before it, so that nothing will
	// turn up in the store later.
	untouched bool
}

type writeEnd uint8

const (
	writeDone     writeEnd = iota
	writeRefused           // nothing was written
	writeConflict          // somebody else wrote: read the group again
	writeUnknown           // the store could not be asked what happened: read the group again
)

// persist writes a batch and does not return before it knows what happened to it, or its time
// is over. After any answer but success it asks the log whether the batch's messages are in
// it, by their MsgIDs, before it writes again: so at most one write of a group is under way,
// and none is repeated blindly.
func (p *Pipeline) persist(b *batch) *written {
	ctx, cancel := context.WithTimeoutCause(context.Background(), p.cfg.StoreTimeout, ErrUnavailable)
	defer cancel()
	pause := 10 * time.Millisecond
	for again := false; ; again = true {
		err := p.write(ctx, b, again)
		if err == nil {
			p.metrics.batch.Observe(float64(len(b.write.Messages)))
			p.metrics.latency.Observe(time.Since(b.began).Seconds())
			return &written{batch: b, stored: len(b.write.Messages)}
		}
		if errors.Is(err, storage.ErrReadOnly) {
			return &written{batch: b, end: writeRefused, err: err, untouched: !again && len(b.replaced) == 0}
		}
		if errors.Is(err, storage.ErrExists) {
			return &written{batch: b, end: writeConflict, err: err}
		}
		p.metrics.unclear.Inc()
		for {
			w, known := p.inspect(ctx, b, err)
			if known && w == nil {
				break // nothing of it is there: write again
			}
			if known {
				return w
			}
			if !sleep(ctx, pause) {
				return &written{batch: b, end: writeUnknown, err: err}
			}
			pause = min(2*pause, time.Second)
		}
		if !sleep(ctx, pause) {
			// Nothing was there when we looked, but a late write may still arrive: it
			// is for the next one to find out.
			return &written{batch: b, end: writeUnknown, err: err}
		}
	}
}

// sleep waits for d; it reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// write is one attempt.
func (p *Pipeline) write(ctx context.Context, b *batch, again bool) error {
	if b.group == nil {
		return p.store.Apply(ctx, b.write.Mutations...)
	}
	if len(b.replaced) > 0 {
		if err := p.store.Replace(ctx, b.write.Key, b.replaced, b.beside...); err != nil {
			return err
		}
	}
	err := p.store.Append(ctx, &b.write)
	if again && errors.Is(err, storage.ErrExists) && p.ours(ctx, b) {
		return nil // our own earlier attempt
	}
	return err
}

// ours reports whether the records that b inserts are the ones that are there.
func (p *Pipeline) ours(ctx context.Context, b *batch) bool {
	for _, m := range b.write.Mutations {
		if m.Op != storage.Insert {
			continue
		}
		have, err := p.store.Get(ctx, m.Table, m.Key)
		if err != nil || !bytes.Equal(have, m.Value) {
			return false
		}
	}
	return true
}

// inspect asks the log what became of b. known is false if it can't tell now; w is nil if
// nothing of b was written and it may be tried again.
func (p *Pipeline) inspect(ctx context.Context, b *batch, err error) (w *written, known bool) {
	if b.group == nil {
		return nil, true // only records: repeating them is harmless
	}
	head, herr := p.store.Head(ctx, b.write.Key)
	if herr != nil {
		return nil, false
	}
	msgs := b.write.Messages
	stored := 0
	if len(msgs) > 0 && head.Tail > b.write.Tail {
		for m, err := range p.store.Range(ctx, b.write.Key, msgs[0].Seq, msgs[len(msgs)-1].Seq+1) {
			if err != nil {
				return nil, false
			}
			if stored >= len(msgs) || m.ID != msgs[stored].ID || m.Seq != msgs[stored].Seq {
				break
			}
			stored++
		}
	}
	switch {
	case len(msgs) > 0 && stored == len(msgs):
		return &written{batch: b, stored: stored}, true
	case head.Tail == b.write.Tail && head.Epoch <= b.write.Epoch:
		return nil, true
	}
	p.metrics.conflicts.Inc()
	return &written{batch: b, end: writeConflict, stored: stored, err: err}, true
}

// settle goes on after a write: what is in the log counts, is delivered and acknowledged;
// the rest is told to its senders or stamped anew.
func (l *lane) settle(w *written) {
	b := w.batch
	l.writing = nil
	switch w.end {
	case writeDone:
		l.commit(b, len(b.subs))
		if next := l.next(); next != nil {
			go l.write(next) // while this one is delivered
		}
		l.hand(b, len(b.deliver))
		l.acknowledge(b, len(b.subs))
	case writeRefused:
		l.p.refusals.log(l.p.log, l.id, w.err)
		why := ErrUnavailable
		if w.untouched {
			why = fmt.Errorf("%w: %w", ErrUnavailable, storage.ErrReadOnly)
		}
		l.abandon(b, why)
	case writeConflict:
		l.p.log.Warn("another writer in the log, or an unclear write: the group is read again", "group", string(l.id), "stored", w.stored, "err", w.err)
		n := l.storedSubs(b, w.stored)
		if b.tx == nil && n > 0 {
			l.hand(b, n)
			l.acknowledge(b, n)
		}
		l.st = nil
		l.requeue(b, n)
	case writeUnknown:
		l.p.log.Error("write with unknown outcome: the group is read again", "group", string(l.id), "messages", len(b.write.Messages), "err", w.err)
		l.st = nil
		l.abandon(b, ErrUnavailable)
	}
}

// storedSubs is how many of the batch's submissions come no later than its n-th stored message.
func (l *lane) storedSubs(b *batch, n int) int {
	if n == 0 {
		return 0
	}
	last := b.write.Messages[n-1]
	for i, s := range b.subs {
		if s.message == last {
			return i + 1
		}
	}
	return 0
}

// commit takes what a batch changed into the state.
func (l *lane) commit(b *batch, subs int) {
	st := l.st
	if st == nil { // dropped while the write was under way: it will be read again
		return
	}
	if n := len(b.write.Messages); n > 0 {
		last := b.write.Messages[n-1]
		if b.tx != nil && b.tx.created {
			st.head = storage.Head{}
		}
		st.head.Tail, st.head.Time, st.head.Epoch = last.Seq, last.Time, b.write.Epoch
	} else if b.tx != nil && b.tx.created {
		st.head = storage.Head{}
	}
	if b.uncounted != nil {
		st.uncounted = b.uncounted
	}
	if tx := b.tx; tx != nil {
		l.commitChange(tx)
	} else if b.group != nil {
		st.group = b.group
	}
	for _, s := range b.subs[:subs] {
		if s.keyed {
			st.dups.add(s.key, l.outcome(b, s), time.Now(), l.p.cfg.DuplicateWindow, l.p.cfg.DuplicateEntries)
		}
	}
}

func (l *lane) commitChange(tx *Tx) {
	st := l.st
	if tx.destroyed {
		st.group, st.head, st.uncounted = nil, storage.Head{}, nil
		clear(st.senders)
		st.dups = newDuplicates()
		if l.flow != nil { // who waits there is refused when it is stamped
			l.flow.drain(l.p.nanos(), l.released)
		}
		l.room, l.flow = nil, nil
		return
	}
	if tx.group == nil {
		return
	}
	if tx.created {
		clear(st.senders)
		st.dups = newDuplicates()
		l.room = nil
		st.roomNext, st.roomEnd = 1, 0
	}
	st.group = tx.group
	for a, m := range tx.members {
		if !tx.group.Type.Rules().StoresMembers {
			if m != nil {
				if l.room == nil {
					l.room = make(map[group.Account]*group.Member)
				}
				l.room[a] = m
			} else {
				delete(l.room, a)
			}
		}
		if s := st.senders[a]; s != nil {
			st.senders[a] = &sender{member: m, mutedUntil: s.mutedUntil}
		}
	}
	for a, until := range tx.mutes {
		if s := st.senders[a]; s != nil {
			st.senders[a] = &sender{member: s.member, mutedUntil: until}
		}
	}
}

// hand gives the first n items of the batch to delivery.
func (l *lane) hand(b *batch, n int) {
	var key group.Key
	if b.group != nil {
		key = b.group.Key()
	} else {
		key.ID = l.id
	}
	if n > 0 && l.p.deliver != nil {
		l.p.deliver.Deliver(key, b.deliver[:n])
	}
	if len(b.write.Mutations) > 0 {
		for _, o := range l.p.outbox {
			o.Committed(key)
		}
	}
}

// acknowledge tells the first n senders of the batch, or the caller of the update.
func (l *lane) acknowledge(b *batch, n int) {
	for _, s := range b.subs[:n] {
		l.end(s, l.outcome(b, s))
	}
	if b.upd != nil {
		l.endUpdate(b.upd, nil)
	}
}

func (l *lane) outcome(b *batch, s *submission) Outcome {
	o := Outcome{Time: s.message.Time, ID: s.message.ID}
	if b.group.Type.Rules().StoresMessages {
		o.Seq = s.message.Seq
	} else {
		o.RoomSeq = s.message.Seq
	}
	return o
}

// abandon tells the senders of the batch to try again later.
func (l *lane) abandon(b *batch, why error) {
	for _, s := range b.subs {
		l.returnSlot(s)
		l.end(s, Outcome{Err: why})
	}
	if b.upd != nil {
		l.endUpdate(b.upd, why)
	}
}

// storeRefusals logs that the store refuses writes, which every message meets while it lasts:
// at most once in refusalPause, so that the log does not eat what is left of a full disk.
type storeRefusals struct {
	mu     sync.Mutex
	next   time.Time
	silent int // since the last line
}

const refusalPause = 10 * time.Second

func (r *storeRefusals) log(log *slog.Logger, id group.ID, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Before(r.next) {
		r.silent++
		return
	}
	log.Warn("store refuses writes", "group", string(id), "err", err, "others", r.silent)
	r.next, r.silent = now.Add(refusalPause), 0
}

// maxRequeues is how often a message is stamped anew because somebody else wrote at its place.
const maxRequeues = 8

// requeue puts what is not in the log back to the front, to be judged and stamped anew.
func (l *lane) requeue(b *batch, n int) {
	var back []item
	for _, s := range b.subs[n:] {
		if s.requeued++; s.requeued > maxRequeues {
			l.end(s, Outcome{Err: ErrUnavailable})
			continue
		}
		s.message = nil
		back = append(back, item{sub: s})
	}
	if u := b.upd; u != nil {
		if u.requeued++; u.requeued > maxRequeues {
			l.endUpdate(u, ErrUnavailable)
		} else {
			back = append(back, item{upd: u})
		}
	}
	l.ready = append(back, l.ready...)
}
