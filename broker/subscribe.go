package broker

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
)

// subscribe takes a SUBSCRIBE. Each topic filter gets its own answer; the Reason String is
// about the first one that was refused.
func (s *session) subscribe(pk *packets.Packet) error {
	codes := make([]byte, len(pk.Filters))
	reason := ""
	for i := range pk.Filters {
		var why string
		if len(pk.Properties.SubscriptionIdentifier) > 0 {
			codes[i], why = codeNoSubID, "subscription identifiers are not offered"
		} else {
			codes[i], why = s.subscribeTo(&pk.Filters[i])
		}
		if codes[i] >= codeUnspecified {
			s.conn.b.metrics.refused(codes[i])
			if reason == "" {
				reason = why
			}
			if s.conn.version < 5 {
				codes[i] = codeUnspecified
			}
		}
	}
	if s.unremembered() {
		if err := s.remember(); err != nil {
			return err
		}
	}
	s.conn.mu.Lock()
	s.conn.say(s.conn.appendCodes(nil, typeSuback, pk.PacketID, codes, reason))
	s.conn.mu.Unlock()
	return nil
}

// subscribeTo grants one topic filter or says why not.
func (s *session) subscribeTo(f *packets.Subscription) (code byte, reason string) {
	if share, _, _ := strings.Cut(f.Filter, "/"); strings.EqualFold(share, "$share") {
		return codeNoShared, "shared subscriptions are not offered"
	}
	t, err := parseFilter(f.Filter)
	if err != nil {
		return codeBadFilter, err.Error()
	}
	sub := newSubscription(f.Qos, !f.NoLocal)
	switch t.kind {
	case groupTopic:
		if !s.user.inGroup(t.group) {
			return codeNotAuthorized, "10007 you are not a member of that group"
		}
	case inboxTopic, replyTopic:
		if t.account != s.account() {
			return codeNotAuthorized, "topics below users/ are for that user alone"
		}
	case allGroups:
	case rpcTopic:
		return codeNotAuthorized, "rpc/ is for publishing; the reply goes to " + userTopicName(s.account()) + "/rpc"
	case otherFilter:
		return codeNotAuthorized, "the only wildcard that is offered is groups/+"
	default:
		return codeNotAuthorized, "subscribe to groups/{GroupId}, groups/+ or users/{UserID}"
	}
	var bases map[group.Key]group.Seq
	if s.durable != nil && sub.qos() > 0 && (t.kind == groupTopic || t.kind == allGroups) {
		if bases, err = s.bases(t); err != nil {
			return codeImplementation, "the store does not answer, try again"
		}
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	had := s.subscribed(t)
	if !s.keep(t, sub) {
		return codeQuota, "too many topic filters on one connection"
	}
	if d := s.durable; d != nil {
		for key, tail := range bases {
			d.of(key, tail)
		}
		if had != sub {
			d.unremembered = true
		}
		if had.qos() > sub.qos() {
			d.prune(s)
		}
	}
	return sub.qos(), ""
}

// subscribed returns what was granted for exactly this filter. conn.mu is held.
func (s *session) subscribed(t topic) subscription {
	switch t.kind {
	case allGroups:
		return s.all
	case inboxTopic:
		return s.inbox
	case groupTopic:
		return s.groups[t.group]
	case replyTopic:
		return s.replies[t.below]
	}
	return 0
}

// unremembered reports whether the session's subscriptions are not what the store has.
func (s *session) unremembered() bool {
	if s.durable == nil {
		return false
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.durable.unremembered
}

// keep stores a subscription, or reports false if there are too many. conn.mu is held.
func (s *session) keep(t topic, sub subscription) bool {
	full := len(s.groups)+len(s.replies) >= s.conn.b.cfg.Subscriptions
	switch t.kind {
	case allGroups:
		s.all = sub
	case inboxTopic:
		s.inbox = sub
	case groupTopic:
		if s.groups[t.group] == 0 && full {
			return false
		}
		if s.groups == nil {
			s.groups = make(map[group.ID]subscription)
		}
		s.groups[t.group] = sub
	case replyTopic:
		if s.replies[t.below] == 0 && full {
			return false
		}
		if s.replies == nil {
			s.replies = make(map[string]subscription)
		}
		s.replies[t.below] = sub
	}
	return true
}

// unsubscribe takes an UNSUBSCRIBE.
func (s *session) unsubscribe(pk *packets.Packet) error {
	codes := make([]byte, len(pk.Filters))
	s.conn.mu.Lock()
	for i, f := range pk.Filters {
		codes[i] = s.forget(f.Filter)
		if d := s.durable; d != nil && codes[i] == codeSuccess {
			d.prune(s)
			d.unremembered = true
		}
	}
	s.conn.mu.Unlock()
	if s.unremembered() {
		if err := s.remember(); err != nil {
			return err
		}
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.conn.say(s.conn.appendCodes(nil, typeUnsuback, pk.PacketID, codes, ""))
	return nil
}

// forget removes a subscription. conn.mu is held.
func (s *session) forget(filter string) byte {
	t, err := parseFilter(filter)
	if err != nil {
		return codeBadFilter
	}
	had := false
	switch t.kind {
	case allGroups:
		had, s.all = s.all != 0, 0
	case groupTopic:
		had = s.groups[t.group] != 0
		delete(s.groups, t.group)
	case inboxTopic:
		if t.account == s.account() {
			had, s.inbox = s.inbox != 0, 0
		}
	case replyTopic:
		if t.account == s.account() {
			had = s.replies[t.below] != 0
			delete(s.replies, t.below)
		}
	}
	if !had {
		return codeNoSubscription
	}
	return codeSuccess
}
