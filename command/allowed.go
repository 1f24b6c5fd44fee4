package command

import (
	"path"
	"strings"

	"github.com/rookery-im/rookery/group"
)

// allow fills in which commands the bounded admins may call.
func (t *Table) allow(bounds map[group.Account][]string) {
	t.allowed = make(map[group.Account]map[*Command]bool, len(bounds))
	for a, patterns := range bounds {
		t.allowed[a] = make(map[*Command]bool)
		for _, pattern := range patterns {
			matched := false
			for full, c := range t.byPath {
				if matches(pattern, full) {
					t.allowed[a][c], matched = true, true
				}
			}
			if !matched {
				t.unmatched = append(t.unmatched, pattern)
			}
		}
	}
}

// matches reports whether a pattern of Config.Allowed means the command at service/name.
func matches(pattern, full string) bool {
	if !strings.Contains(pattern, "/") {
		pattern = "*/" + pattern
	}
	ok, err := path.Match(pattern, full)
	return ok && err == nil
}

// Unmatched returns the patterns of Config.Allowed that match no command: they are misspelt.
func (t *Table) Unmatched() []string { return t.unmatched }
