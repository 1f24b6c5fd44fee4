package group

import "strings"

// An ID names a group: 1 to 48 bytes of printable ASCII, as chosen by its creator or made by
// the server (then it starts with ServerIDPrefix).
type ID string

const (
	// MaxIDLen is the longest group id, in bytes.
	MaxIDLen = 48
	// ServerIDPrefix starts the ids that the server makes; custom ids may not start with it.
	ServerIDPrefix = "@TGS#"
	// CommunityIDPrefix starts every Community's id, also a custom one.
	CommunityIDPrefix = "@TGS#_"
)

// Valid reports whether id is well formed, whoever made it.
func (id ID) Valid() bool {
	return len(id) >= 1 && len(id) <= MaxIDLen && printable(string(id))
}

// ValidCustom reports whether a caller may choose id for a new group of type t.
func (id ID) ValidCustom(t Type) bool {
	if !id.Valid() {
		return false
	}
	if t == Community {
		return strings.HasPrefix(string(id), CommunityIDPrefix) && len(id) > len(CommunityIDPrefix)
	}
	return !strings.HasPrefix(string(id), ServerIDPrefix)
}

// printable reports whether s is printable ASCII, 0x20 to 0x7E.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7E {
			return false
		}
	}
	return true
}
