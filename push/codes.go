package push

import (
	"strings"
	"time"
)

// codeTable maps a vendor's codes to outcomes.
type codeTable map[string]Outcome

// newCodeTable takes for each outcome its codes, with spaces between them.
func newCodeTable(rows map[Outcome]string) codeTable {
	t := make(codeTable)
	for outcome, codes := range rows {
		for code := range strings.FieldsSeq(codes) {
			t[code] = outcome
		}
	}
	return t
}

// outcome returns the code's outcome. For a code that nobody documented a bad HTTP status
// decides, and without one the push is tried again.
func (t codeTable) outcome(code string, status int) Outcome {
	if o, ok := t[code]; ok {
		return o
	}
	return httpOutcome(status)
}

// chinaTime is where the Chinese vendors' days end; there is no daylight saving time.
var chinaTime = time.FixedZone("Asia/Shanghai", 8*60*60)

// nextChinaMidnight returns when a day quota that is used up at now is granted again.
func nextChinaMidnight(now time.Time) time.Time {
	y, m, d := now.In(chinaTime).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, chinaTime)
}

// nonBlank returns the first text that shows something. Vendors refuse blank ones.
func nonBlank(texts ...string) string {
	for _, t := range texts {
		if strings.TrimSpace(t) != "" {
			return t
		}
	}
	return ellipsis
}

func tokenTexts(devices []Device) []string {
	texts := make([]string, len(devices))
	for i, d := range devices {
		texts[i] = d.Token.Reveal()
	}
	return texts
}
