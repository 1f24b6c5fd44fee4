package broker

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestReasonStrings: what a client is told is what MQTT calls a string, whatever an app's server
// has written (MQTT-1.5.4-1, MQTT-1.5.4-2).
func TestReasonStrings(t *testing.T) {
	for in, want := range map[string]string{
		"10100 bad word":                "10100 bad word",
		"10100 a\x00b\x01\nc\u0085d":    "10100 a b  c d",
		"10100 \xffx":                   "10100 \uFFFDx",
		"日本語":                           "日本語",
		strings.Repeat("é", maxReason):  strings.Repeat("é", maxReason/2),
		"x" + strings.Repeat("é", 1000): "x" + strings.Repeat("é", maxReason/2-1),
		strings.Repeat("\xff", 1000):    "\uFFFD",
	} {
		if got := clip(in); got != want || !utf8.ValidString(got) || len(got) > maxReason {
			t.Errorf("clip(%.40q) = %.40q (%d bytes), want %.40q", in, got, len(got), want)
		}
	}
}
