package storage

import "github.com/rookery-im/rookery/group"

// A Session is what an MQTT session consists of besides its SessionMarks.
type Session struct {
	Expiry int64 `json:"expiry"`        // seconds that it is kept without a connection
	Seen   int64 `json:"seen"`          // Unix seconds of its last sign of life
	Held   bool  `json:"held,omitzero"` // a connection had it then: unless that was written later, the server has crashed

	// The subscriptions; the broker gives the bits their meaning.
	All     uint8              `json:"all,omitzero"`
	Inbox   uint8              `json:"inbox,omitzero"`
	Groups  map[group.ID]uint8 `json:"groups,omitempty"`
	Replies map[string]uint8   `json:"replies,omitempty"`
}

// Expired reports whether the session, without a connection, has ended, for a server that runs
// since started. One that had a connection when the server before it crashed had it until then:
// its time is counted from the start.
func (s *Session) Expired(now, started int64) bool {
	seen := s.Seen
	if s.Held && s.Expiry > 0 {
		seen = max(seen, started)
	}
	return seen+s.Expiry < now
}

// A SessionMark says how far a session has come in one group.
type SessionMark struct {
	ID          group.ID          `json:"id"`
	Incarnation group.Incarnation `json:"inc"`
	Seq         group.Seq         `json:"seq"` // everything up to it is acknowledged
}

// SessionKey is the key of a row in Sessions.
func SessionKey(a group.Account, device string) string { return Key(string(a), device) }

// SessionMarkKey is the key of a row in SessionMarks.
func SessionMarkKey(a group.Account, device string, id group.ID) string {
	return Key(string(a), device, string(id))
}

// SessionMarkPrefix is the prefix of a session's rows in SessionMarks.
func SessionMarkPrefix(a group.Account, device string) string { return Prefix(string(a), device) }
