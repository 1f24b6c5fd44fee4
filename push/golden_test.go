package push

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/push/pushtest"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// golden are the notifications whose payloads are kept.
func golden(t *testing.T) map[string]*Notification {
	collapsed := plainNotification()
	collapsed.CollapseKey = "@TGS#1"
	long := plainNotification()
	long.Title, long.Text, long.TimeToLive = strings.Repeat("标题", 40), strings.Repeat("长", 400), 40*24*time.Hour
	long.MessageID = strings.Repeat("m", 100)
	return map[string]*Notification{"full": fullNotification(t), "plain": plainNotification(), "collapsed": collapsed, "long": long}
}

var changing = regexp.MustCompile(`(?m)^((?:apns-expiration|timestamp): )\d+$`)

// TestGolden compares what reached each vendor's fake with testdata, byte for byte but for
// line breaks, times and credentials.
func TestGolden(t *testing.T) {
	for _, vendor := range vendors {
		t.Run(string(vendor), func(t *testing.T) {
			rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
			badge := 7
			device := Device{Token: NewToken("ok-golden"), Badge: &badge}
			var all strings.Builder
			notifications := golden(t)
			for _, name := range []string{"full", "plain", "collapsed", "long"} {
				n := notifications[name]
				r := rig.provider.Send(t.Context(), n, []Device{device})[0]
				if r.Outcome != Accepted {
					t.Fatalf("%s: %+v", name, r)
				}
				pushes := rig.Pushes("ok-golden")
				sent := pushes[len(pushes)-1]
				text := writePush(t, sent)
				all.WriteString("== " + name + "\n" + text)

				preview, err := rig.provider.Preview(n, device)
				if err != nil {
					t.Fatal(err)
				}
				want := string(sent.Body)
				if strings.HasPrefix(sent.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
					want = readableForm(want)
				}
				got := strings.ReplaceAll(preview.Body, previewToken, "ok-golden")
				if got != want {
					t.Errorf("%s: Preview = %s, sent was %s", name, got, want)
				}
				if !strings.HasSuffix(strings.ReplaceAll(preview.URL, previewToken, "ok-golden"), sent.Path) || preview.Method != "POST" {
					t.Errorf("%s: Preview is of %s %s, sent was to %s", name, preview.Method, preview.URL, sent.Path)
				}
			}
			wantNoViolations(t, rig.Server)
			wantGolden(t, string(vendor)+".golden", all.String())
		})
	}
}

// wantGolden compares text with a file of testdata, or writes it.
func wantGolden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs (go test -run Golden -update rewrites it). Got:\n%s", file, text)
	}
}

// writePush writes a push as lines.
func writePush(t *testing.T, p *pushtest.Push) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("POST " + p.Path + "\n")
	var header []string
	for name := range p.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "apns-") || slices.Contains([]string{"content-type", "push-type", "timestamp"}, name) {
			header = append(header, name+": "+p.Header.Get(name)+"\n")
		}
	}
	slices.Sort(header)
	b.WriteString(changing.ReplaceAllString(strings.Join(header, ""), "$1<now>"))
	if strings.HasPrefix(p.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		b.WriteString(readableForm(string(p.Body)))
		return b.String() + "\n"
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, p.Body, "", " "); err != nil {
		t.Fatal(err)
	}
	return b.String() + indented.String() + "\n\n"
}
