package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"sort"
	"time"
	"unicode/utf8"
)

// maxBody is the limit that APNs, FCM, Huawei and Honor set on a message, in bytes.
const maxBody = 4096

var errTooLong = errors.New("push: payload too long even without text and ext")

// fitBody marshals what build makes of a text and an ext. Where that is longer than limit
// it shortens the text, then leaves out the ext, then gives up with errTooLong.
func fitBody(limit int, text, ext string, build func(text, ext string) any) ([]byte, error) {
	body, err := marshal(build(text, ext))
	if err != nil || len(body) <= limit {
		return body, err
	}
	for _, ext := range []string{ext, ""} {
		runes := utf8.RuneCountInString(text)
		// The body grows with the text, so the longest text that fits can be bisected.
		over := sort.Search(runes+1, func(keep int) bool {
			b, err := marshal(build(cutRunes(text, keep), ext))
			return err != nil || len(b) > limit
		})
		// A text of one character is only the ellipsis: rather give up the ext.
		if over > 2 || over > runes {
			return marshal(build(cutRunes(text, over-1), ext))
		}
	}
	return nil, errTooLong
}

// marshal is json.Marshal without the escapes for HTML, which only cost bytes here.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("push: marshal payload: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func marshalText(v any) string {
	b, err := marshal(v)
	if err != nil {
		return "" // strings and numbers always marshal
	}
	return string(b)
}

// replaceKey is what a newer push must share with an older one to take its place on the
// device: the busy group while it is being collapsed, else the message itself.
func (n *Notification) replaceKey() string {
	if n.CollapseKey != "" {
		return n.CollapseKey
	}
	return n.MessageID
}

// replaceID is the replace key for vendors that want a number: 1…2³¹−1.
func (n *Notification) replaceID() int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.replaceKey()))
	return int32(1 + (h.Sum32()&0x7fffffff)%0x7fffffff)
}

// collapseSlot spreads collapse keys over the 100 that Huawei keeps apart.
func (n *Notification) collapseSlot() int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.CollapseKey))
	return int(h.Sum32()%100) + 1
}

// hashText gives the first length (at most 20) characters of a base62 hash of s.
func hashText(s string, length int) string {
	h := fnv.New128a()
	_, _ = h.Write([]byte(s))
	text := fmt.Sprintf("%022s", new(big.Int).SetBytes(h.Sum(nil)).Text(62))
	return text[len(text)-length:]
}

// boundedID returns s, or a hash of it where it has more than limit bytes.
func boundedID(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return hashText(s, 20)
}

// timeToLive returns the notification's time to live, or the default, within the bounds.
func (n *Notification) timeToLive(byDefault, least, most time.Duration) time.Duration {
	ttl := n.TimeToLive
	if ttl == 0 {
		ttl = byDefault
	}
	return min(max(ttl, least), most)
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// routing is our own data beside the sender's Ext: it lets a tap open the right group.
type routing struct {
	Type    string `json:"t"` // "Group" or "C2C"
	Group   string `json:"g,omitempty"`
	Seq     uint64 `json:"s,omitempty"`
	Message string `json:"i"`
	From    string `json:"f,omitempty"`
}

func (n *Notification) routing() routing {
	kind := "C2C"
	if n.Group != "" {
		kind = "Group"
	}
	return routing{Type: kind, Group: n.Group, Seq: n.Seq, Message: n.MessageID, From: n.From}
}

// appData is the routing and the Ext for vendors whose app data is a map of texts.
type appData struct {
	Ext     string `json:"ext,omitempty"`
	Routing string `json:"im"`
}

func (n *Notification) appData(ext string) appData {
	return appData{Ext: ext, Routing: marshalText(n.routing())}
}

// info returns the sender's wishes, never nil.
func (n *Notification) info() *OfflinePushInfo {
	if n.Info == nil {
		return &OfflinePushInfo{}
	}
	return n.Info
}

// apnsBadge returns the number for the icon, which APNs takes absolute: unread, in which this
// message counts as one, or what the sender asks for. Nil leaves the icon alone.
func (o *OfflinePushInfo) apnsBadge(unread *int) *int {
	switch {
	case o.BadgeSetNum != nil:
		return o.BadgeSetNum
	case unread == nil || o.BadgeAddNum == 0:
		return unread
	}
	return new(max(*unread-1, 0) + o.BadgeAddNum)
}

// androidBadge returns what the Android vendors do to the badge: add, or set where not nil;
// nothing where the message does not count. Adding one, and not setting each user's unread
// count, lets one call serve a thousand devices.
func (n *Notification) androidBadge() (add int, set *int) {
	info := n.info()
	switch {
	case info.ApnsInfo.BadgeMode == 1:
		return 0, nil
	case info.BadgeSetNum != nil:
		return 0, new(min(*info.BadgeSetNum, 99))
	}
	return max(info.BadgeAddNum, 1), nil
}
