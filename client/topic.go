package client

import (
	"fmt"
	"strings"
)

// escape spells an id as one topic level: everything but printable ASCII is percent-encoded, and
// so are the characters that mean something in a topic.
func escape(id string) string {
	var b strings.Builder
	for i := range len(id) {
		if c := id[i]; c < 0x21 || c > 0x7E || strings.IndexByte("%/+#", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
