package dispatch

import (
	"cmp"
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
)

// A note is a message and the notification that is made of it.
type note struct {
	group   *group.Group
	message *group.Message
	// plain is nil where there is nothing to push (any more); collapsed is the same for a
	// message that stands for others of its group, too.
	plain, collapsed *push.Notification
	at               time.Time
	// early: the message is not in the log yet, but may come.
	early bool
}

func (n *note) notification(collapse bool) *push.Notification {
	if collapse {
		return n.collapsed
	}
	return n.plain
}

const (
	// noteLife bounds how long a recall may go unseen by the tasks that are still to be sent.
	noteLife = 3 * time.Second
	// maxNotes bounds the messages that are kept between their tasks; past it all are forgotten.
	maxNotes = 512
	// earlyFor is how long a job waits for its message: a store that can't write both at
	// once writes the job first.
	earlyFor = 30 * time.Second
)

type noteKey struct {
	key group.Key
	seq group.Seq
	id  string
}

type noteCache struct {
	mu      sync.Mutex
	entries map[noteKey]*note
}

// note returns what is to be shown for a message. The note is shared.
func (d *Dispatcher) note(ctx context.Context, key group.Key, seq group.Seq, id string, sent int64) (*note, error) {
	k := noteKey{key, seq, id}
	now := time.Now()
	d.notes.mu.Lock()
	n := d.notes.entries[k]
	d.notes.mu.Unlock()
	if n != nil && now.Sub(n.at) < noteLife {
		return n, nil
	}
	n, err := d.readNote(ctx, k, sent, now)
	if err != nil || n.early {
		return n, err
	}
	d.notes.mu.Lock()
	defer d.notes.mu.Unlock()
	if len(d.notes.entries) >= maxNotes {
		clear(d.notes.entries)
	}
	d.notes.entries[k] = n
	return n, nil
}

func (d *Dispatcher) readNote(ctx context.Context, k noteKey, sent int64, now time.Time) (*note, error) {
	n := &note{at: now}
	g, err := storage.FindGroup(ctx, d.store, k.key.ID)
	if err != nil || g == nil || g.Incarnation != k.key.Incarnation {
		return n, err
	}
	n.group = g
	n.message, err = d.findMessage(ctx, k)
	if err != nil {
		return nil, err
	}
	if n.message == nil {
		head, err := d.store.Head(ctx, k.key)
		if err != nil {
			return nil, err
		}
		if head.Tail < k.seq {
			n.early = now.Sub(time.Unix(sent, 0)) < earlyFor
			return n, nil
		}
		// It may have come between the two reads.
		if n.message, err = d.findMessage(ctx, k); n.message == nil {
			return n, err
		}
	}
	if pushable(g, n.message) {
		n.plain, n.collapsed = d.compose(g, n.message)
	}
	return n, nil
}

// findMessage returns the message, nil if the log has none or another one at its SEQ.
func (d *Dispatcher) findMessage(ctx context.Context, k noteKey) (found *group.Message, err error) {
	for m, err := range d.store.Range(ctx, k.key, k.seq, k.seq+1) {
		if err != nil {
			return nil, err
		}
		if m.ID.String() == k.id {
			found = m
		}
	}
	return found, nil
}

// compose makes the two forms of a message's notification; nil, nil where it has nothing to show.
func (d *Dispatcher) compose(g *group.Group, m *group.Message) (plain, collapsed *push.Notification) {
	info, err := push.ParseOfflinePushInfo(m.OfflinePush)
	if err != nil {
		d.log.Debug("push without its OfflinePushInfo", "group", string(m.Group), "seq", int64(m.Seq), "err", err)
	}
	plain, ok := d.cfg.Texts.Compose(push.Message{
		Elements: elements(m.Body), Info: info, Group: string(g.ID), GroupName: g.Name,
		From: string(m.From), FromNick: cmp.Or(m.Sender.NameCard, m.Sender.Nick), Seq: uint64(m.Seq), ID: m.ID.String(),
		Sent: m.Time, Random: m.Random,
	})
	if !ok {
		return nil, nil
	}
	c := *plain
	c.CollapseKey = string(g.ID)
	return plain, &c
}

var elementKinds = map[string]push.ElementKind{
	group.TextElem.String(): push.ElementText, group.LocationElem.String(): push.ElementLocation,
	group.FaceElem.String(): push.ElementFace, group.ImageElem.String(): push.ElementImage,
	group.SoundElem.String(): push.ElementSound, group.FileElem.String(): push.ElementFile,
	group.VideoElem.String(): push.ElementVideo, group.CustomElem.String(): push.ElementCustom,
	group.RelayElem.String(): push.ElementText,
}

// elements reads what a push shows of a stored body.
func elements(body json.RawMessage) []push.Element {
	var raw []struct {
		MsgType    string
		MsgContent struct{ Text, Title, Desc, Ext, Sound json.RawMessage }
	}
	if json.Unmarshal(body, &raw) != nil {
		return nil
	}
	out := make([]push.Element, len(raw))
	for i, e := range raw {
		out[i] = push.Element{Kind: elementKinds[e.MsgType]}
		switch e.MsgType {
		case group.TextElem.String():
			out[i].Text = text(e.MsgContent.Text)
		case group.RelayElem.String():
			out[i].Text = text(e.MsgContent.Title)
		case group.CustomElem.String():
			out[i].Text, out[i].Ext, out[i].Sound = text(e.MsgContent.Desc), text(e.MsgContent.Ext), text(e.MsgContent.Sound)
		}
	}
	return out
}

// text returns a JSON string's text, empty for anything else.
func text(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s) // what is no string has no text
	return s
}
