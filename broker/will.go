package broker

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// A will is a message that a connection leaves behind when it ends without DISCONNECT.
type will struct {
	group   group.ID
	payload []byte
	user    []packets.UserProperty
	delay   time.Duration
}

// newWill reads the Will of a CONNECT. Only a group can be its topic: membership and mutes
// are looked at when it is sent, as for any message.
func newWill(pk *packets.Packet) (*will, *refusal) {
	t, err := parseName(pk.Connect.WillTopic)
	switch {
	case pk.Connect.WillRetain: // [MQTT-3.2.2-13]
		return nil, refuse(codeNoRetain, 5, group.CodeBadParameter, "retained messages are not offered")
	case err != nil:
		return nil, refuse(codeBadTopic, 5, group.CodeBadParameter, "will: "+err.Error())
	case t.kind != groupTopic:
		return nil, refuse(codeBadTopic, 5, group.CodeBadParameter, "the topic of a will must be groups/{GroupId}")
	}
	w := &will{group: t.group, payload: bytes.Clone(pk.Connect.WillPayload)}
	w.delay = time.Duration(pk.Connect.WillProperties.WillDelayInterval) * time.Second
	for _, p := range pk.Connect.WillProperties.User {
		w.user = append(w.user, packets.UserProperty{Key: strings.Clone(p.Key), Val: strings.Clone(p.Val)})
	}
	var probe hooks.Draft
	if err := readPayload(&probe, w.payload, w.prop); err != nil {
		return nil, refuse(codeBadPayload, 5, err.Code, "will: "+err.Info)
	}
	return w, nil
}

func (w *will) prop(key string) string {
	if i := slices.IndexFunc(w.user, func(p packets.UserProperty) bool { return p.Key == key }); i >= 0 {
		return w.user[i].Val
	}
	return ""
}

// leaveWill publishes what the session leaves behind, as its user: at once, or after its delay
// or the end of the session, whichever is first ([MQTT-3.1.2-8], [MQTT-3.1.3-9]).
func (b *Broker) leaveWill(s *session) {
	w := s.will
	if w == nil || !s.conn.welcome || s.conn.cause == endShutdown { // DISCONNECT may have taken it away
		return
	}
	d := s.draft(w.group)
	if err := readPayload(d, w.payload, w.prop); err != nil {
		return // was checked at CONNECT
	}
	delay := time.Duration(0)
	if s.durable != nil {
		s.conn.mu.Lock()
		delay = min(w.delay, s.durable.expiry)
		s.conn.mu.Unlock()
	}
	if delay == 0 || !b.delayWill(deviceKey{s.account(), s.device}, d, len(w.payload), delay) {
		b.pending.Add(1)
		b.sendWill(d)
	}
}

// sendWill publishes a will that was counted as pending.
func (b *Broker) sendWill(d *hooks.Draft) {
	b.submitter.Submit(d, func(o hooks.Outcome) {
		if o.Err != nil {
			b.log.Debug("will not sent", "group", string(d.Group), "account", string(d.From), "err", o.Err)
		}
		if b.pending.Add(-1) == 0 && b.draining.Load() {
			b.drained()
		}
	})
}

// maxWillBytes bounds the wills that wait for their delay. What is more is sent at once.
const maxWillBytes = 16 << 20

// delayedWills wait for their delay, at most one for each session that is kept.
type delayedWills struct {
	mu    sync.Mutex
	of    map[deviceKey]*delayedWill // nil: none is taken in any more
	bytes int
}

type delayedWill struct {
	draft *hooks.Draft
	size  int
	timer *time.Timer
}

// delayWill has a will wait, or reports false if it must be sent at once.
func (b *Broker) delayWill(key deviceKey, d *hooks.Draft, size int, delay time.Duration) bool {
	size += 256 // what it costs besides its payload
	ws := &b.wills
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.of == nil || ws.bytes+size > maxWillBytes {
		return false
	}
	w := &delayedWill{draft: d, size: size}
	ws.of[key] = w
	ws.bytes += size
	w.timer = time.AfterFunc(delay, func() { b.endDelay(key, w, true) })
	return true
}

// resumed says that the session goes on, or that it has ended: then its will is due.
func (b *Broker) resumed(key deviceKey, goesOn bool) {
	b.wills.mu.Lock()
	w := b.wills.of[key]
	b.wills.mu.Unlock()
	if w != nil {
		b.endDelay(key, w, !goesOn)
	}
}

// endDelay takes out a will that waits, unless somebody else has, and sends it if it is due.
func (b *Broker) endDelay(key deviceKey, w *delayedWill, due bool) {
	ws := &b.wills
	ws.mu.Lock()
	if ws.of[key] != w {
		ws.mu.Unlock()
		return
	}
	delete(ws.of, key)
	ws.bytes -= w.size
	if due {
		b.pending.Add(1) // before the end can overlook it
	}
	ws.mu.Unlock()
	w.timer.Stop()
	if due {
		b.sendWill(w.draft)
	}
}

// endDelays sends all wills that wait, since the broker stops.
func (b *Broker) endDelays() {
	ws := &b.wills
	ws.mu.Lock()
	waiting := ws.of
	ws.of, ws.bytes = nil, 0
	b.pending.Add(int64(len(waiting)))
	ws.mu.Unlock()
	for _, w := range waiting {
		w.timer.Stop()
		b.sendWill(w.draft)
	}
}
