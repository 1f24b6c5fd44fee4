package push

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// An ElementKind says what a message element is, as far as its push text goes.
type ElementKind uint8

// The element kinds. ElementOther has no text of its own.
const (
	ElementOther ElementKind = iota
	ElementText
	ElementLocation
	ElementFace
	ElementImage
	ElementSound
	ElementFile
	ElementVideo
	ElementCustom
)

// An Element is one element of a message body.
type Element struct {
	Kind ElementKind
	// Text is a text element's Text and a custom element's Desc.
	Text string
	// Ext and Sound are a custom element's; they serve only where there is no OfflinePushInfo.
	Ext, Sound string
}

// A Message is what Compose needs to know of a message.
type Message struct {
	Elements []Element
	Info     *OfflinePushInfo // nil where the sender gave none

	// Group is empty for a one-to-one message.
	Group, GroupName string
	From, FromNick   string
	Seq              uint64
	ID               string
	Sent             int64 // Unix seconds
	Random           uint32
	// CollapseKey and TimeToLive go into the Notification.
	CollapseKey string
	TimeToLive  time.Duration
}

// Texts holds the words and templates a push text is made from. In the templates {nick} is
// the sender's nickname, {from} the nickname or else the user ID, {group} the group's name or
// else its ID, and {text} the text of the elements. The zero value works.
type Texts struct {
	Location string // "[Location]"
	Face     string // "[Face]"
	Image    string // "[Image]"
	Sound    string // "[Voice]"
	File     string // "[File]"
	Video    string // "[Video]"

	GroupTitle    string // "{group}"
	GroupText     string // "{nick}: {text}"
	GroupTextBare string // for a sender without a nickname: "{text}"
	SingleTitle   string // "{from}"
	SingleText    string // "{text}"
}

// maxComposed bounds a composed text in bytes: above every vendor's own limit.
const maxComposed = 4096

// Compose makes the notification of a message. It returns false where the message asks for
// no push (PushFlag 1) or has nothing to show: a custom message without a Desc, or no text.
func (t Texts) Compose(m Message) (*Notification, bool) {
	n := &Notification{
		CollapseKey: m.CollapseKey, TimeToLive: m.TimeToLive, Info: m.Info,
		Group: m.Group, Seq: m.Seq, MessageID: m.ID, From: m.From, Sent: m.Sent, Random: m.Random,
	}
	var title, desc string
	if m.Info != nil {
		if m.Info.PushFlag == 1 {
			return nil, false
		}
		title, desc, n.Ext = m.Info.Title, m.Info.Desc, m.Info.Ext
	} else {
		for _, e := range m.Elements {
			if e.Kind == ElementCustom {
				n.Ext, n.Sound = cmp.Or(n.Ext, e.Ext), cmp.Or(n.Sound, e.Sound)
			}
		}
	}

	text := t.join(m.Elements)
	silent := m.Info != nil && m.Info.ApnsInfo.ContentAvailable == 1 &&
		!slices.ContainsFunc(m.Elements, func(e Element) bool { return e.Kind == ElementCustom })
	if desc == "" && text == "" && !silent {
		return nil, false
	}
	titleTemplate, textTemplate := cmp.Or(t.SingleTitle, "{from}"), cmp.Or(t.SingleText, "{text}")
	if m.Group != "" {
		titleTemplate = cmp.Or(t.GroupTitle, "{group}")
		textTemplate = cmp.Or(t.GroupText, "{nick}: {text}")
		if m.FromNick == "" {
			textTemplate = cmp.Or(t.GroupTextBare, "{text}")
		}
	}
	fill := strings.NewReplacer("{nick}", m.FromNick, "{from}", cmp.Or(m.FromNick, m.From),
		"{group}", cmp.Or(m.GroupName, m.Group), "{text}", text)
	n.Title = cutBytes(cmp.Or(title, fill.Replace(titleTemplate)), maxComposed)
	n.Text = desc
	if desc == "" {
		n.Text = fill.Replace(textTemplate)
	}
	n.Text = cutBytes(n.Text, maxComposed)
	return n, true
}

func (t Texts) join(elements []Element) string {
	var b strings.Builder
	for _, e := range elements {
		switch e.Kind {
		case ElementText, ElementCustom:
			b.WriteString(e.Text)
		case ElementLocation:
			b.WriteString(cmp.Or(t.Location, "[Location]"))
		case ElementFace:
			b.WriteString(cmp.Or(t.Face, "[Face]"))
		case ElementImage:
			b.WriteString(cmp.Or(t.Image, "[Image]"))
		case ElementSound:
			b.WriteString(cmp.Or(t.Sound, "[Voice]"))
		case ElementFile:
			b.WriteString(cmp.Or(t.File, "[File]"))
		case ElementVideo:
			b.WriteString(cmp.Or(t.Video, "[Video]"))
		}
		if b.Len() > maxComposed {
			break
		}
	}
	return b.String()
}

const ellipsis = "…"

// cutRunes shortens s to at most limit characters, the last of them an ellipsis.
func cutRunes(s string, limit int) string {
	if len(s) <= limit || utf8.RuneCountInString(s) <= limit {
		return s
	}
	if limit <= 0 {
		return ""
	}
	seen := 0
	for i := range s {
		if seen == limit-1 {
			return s[:i] + ellipsis
		}
		seen++
	}
	return s
}

// cutBytes shortens s to at most limit bytes without splitting a character.
func cutBytes(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len(ellipsis)
	if end < 0 {
		return ""
	}
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}
