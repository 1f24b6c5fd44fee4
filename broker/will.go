package broker

import (
	"bytes"
	"slices"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// A will is a message that a connection leaves behind when it ends without DISCONNECT. It is
// sent at once: a delay would end with the session, and that ends with the connection.
type will struct {
	group   group.ID
	payload []byte
	user    []packets.UserProperty
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

// sendWill publishes what the session leaves behind, as its user.
func (b *Broker) sendWill(s *session) {
	w := s.will
	if w == nil { // DISCONNECT has taken it away, or there was none
		return
	}
	d := s.draft(w.group)
	if err := readPayload(d, w.payload, w.prop); err != nil {
		return // was checked at CONNECT
	}
	b.pending.Add(1)
	b.submitter.Submit(d, func(o hooks.Outcome) {
		if o.Err != nil {
			b.log.Debug("will not sent", "group", string(w.group), "account", string(s.account()), "err", o.Err)
		}
		if b.pending.Add(-1) == 0 && b.draining.Load() {
			b.drained()
		}
	})
}
