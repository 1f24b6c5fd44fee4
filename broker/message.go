package broker

import (
	"strconv"
	"unicode/utf8"

	"github.com/rookery-im/rookery/group"
)

// appendMessage appends a message as its receivers get it. The body goes in as it is: it was
// brought into compact form when it was taken in.
func appendMessage(b []byte, m *group.Message) []byte {
	if b == nil {
		b = make([]byte, 0, 256+len(m.Body)+len(m.CloudCustomData))
	}
	name := "Message"
	if m.Has(group.System) {
		name = "Tip"
	}
	b = append(b, `{"Event":"`...)
	b = append(b, name...)
	b = appendJSONString(append(b, `","GroupId":`...), string(m.Group))
	if m.Seq > 0 {
		b = strconv.AppendInt(append(b, `,"MsgSeq":`...), int64(m.Seq), 10)
	}
	b = strconv.AppendInt(append(b, `,"MsgTime":`...), m.Time, 10)
	b = appendJSONString(append(b, `,"From_Account":`...), string(m.From))
	b = append(b, `,"MsgPriority":"`...)
	b = append(b, m.Priority.String()...)
	b = append(b, '"')
	if m.HasRandom {
		b = strconv.AppendUint(append(b, `,"Random":`...), uint64(m.Random), 10)
	}
	b = append(b, `,"MsgBody":`...)
	if len(m.Body) == 0 {
		b = append(b, "[]"...)
	} else {
		b = append(b, m.Body...)
	}
	if m.CloudCustomData != "" {
		b = appendJSONString(append(b, `,"CloudCustomData":`...), m.CloudCustomData)
	}
	b = appendMentions(b, m.Mentions)
	b = appendFlags(b, m)
	return append(appendSender(b, m), '}')
}

func appendMentions(b []byte, at []group.Mention) []byte {
	if len(at) == 0 {
		return b
	}
	b = append(b, `,"GroupAtInfo":[`...)
	for i, m := range at {
		if i > 0 {
			b = append(b, ',')
		}
		if m.All {
			b = append(b, `{"GroupAtAllFlag":1}`...)
			continue
		}
		b = appendJSONString(append(b, `{"GroupAtAllFlag":0,"GroupAt_Account":`...), string(m.Account))
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendFlags(b []byte, m *group.Message) []byte {
	for _, f := range []struct {
		flag   group.Flags
		member string
	}{
		{group.OnlineOnly, `,"OnlineOnlyFlag":1`},
		{group.NeedReceipt, `,"NeedReadReceipt":1`},
		{group.Extensions, `,"SupportMessageExtension":1`},
		{group.Modified, `,"MsgModifiedFlag":1`},
	} {
		if m.Has(f.flag) {
			b = append(b, f.member...)
		}
	}
	const control = group.NoUnread | group.NoLastMsg | group.MuteNotifications
	if m.Has(group.System) || m.Flags&control == 0 {
		return b
	}
	b = append(b, `,"SendMsgControl":[`...)
	for _, f := range []struct {
		flag group.Flags
		name string
	}{
		{group.NoUnread, `"NoUnread",`},
		{group.NoLastMsg, `"NoLastMsg",`},
		{group.MuteNotifications, `"WithMuteNotifications",`},
	} {
		if m.Has(f.flag) {
			b = append(b, f.name...)
		}
	}
	b[len(b)-1] = ']' // for the last comma
	return b
}

// appendSender appends what is known of the sender, if anything is.
func appendSender(b []byte, m *group.Message) []byte {
	s := &m.Sender
	open := len(b)
	b = append(b, `,"Sender":{`...)
	empty := len(b)
	for _, f := range []struct{ name, value string }{
		{`"Nick":`, s.Nick}, {`"FaceUrl":`, s.FaceURL}, {`"NameCard":`, s.NameCard}, {`"Role":`, s.Role},
	} {
		if f.value != "" {
			b = append(appendJSONString(append(b, f.name...), f.value), ',')
		}
	}
	for _, f := range []struct {
		name   string
		fields []group.Field
	}{{`"UserCustom":{`, s.UserCustom}, {`"MemberCustom":{`, s.MemberCustom}} {
		if len(f.fields) == 0 {
			continue
		}
		b = append(b, f.name...)
		for _, field := range f.fields {
			b = append(appendJSONString(b, field.Key), ':')
			b = append(appendJSONString(b, field.Value), ',')
		}
		b[len(b)-1] = '}'
		b = append(b, ',')
	}
	if len(b) == empty {
		return b[:open]
	}
	b[len(b)-1] = '}'
	return b
}

// appendJSONString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD, as in
// encoding/json, whose encoder would cost an allocation for each string.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(b, s[from:i]...)
			b = append(b, "\uFFFD"...)
			from = i + n
		}
		i += n
	}
	return append(append(b, s[from:]...), '"')
}
