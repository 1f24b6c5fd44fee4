package command

import (
	"strconv"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/wire"
)

// AppendMessage appends a message as the client protocol has it: a JSON object with the members
// Event, GroupId, MsgSeq, From_Account, MsgBody and so on. The body goes in as it is: it was
// brought into compact form when it was taken in.
func AppendMessage(b []byte, m *group.Message) []byte {
	if b == nil {
		b = make([]byte, 0, 256+len(m.Body)+len(m.CloudCustomData))
	}
	name := `{"Event":"Message",`
	if m.Has(group.System) {
		name = `{"Event":"Tip",`
	}
	return appendMembers(append(b, name...), m)
}

// appendStored appends a message like AppendMessage, without Event, and says what has become of it since.
func appendStored(b []byte, m *group.Message) []byte {
	b = appendMembers(append(b, '{'), m)
	if m.State != group.Recalled {
		return b
	}
	b = wire.AppendString(append(b[:len(b)-1], `,"IsPlaceMsg":2,"Revoker_Account":`...), string(m.Revoker))
	if m.Reason != "" {
		b = wire.AppendString(append(b, `,"RevokeReason":`...), m.Reason)
	}
	return append(b, '}')
}

func appendMembers(b []byte, m *group.Message) []byte {
	b = wire.AppendString(append(b, `"GroupId":`...), string(m.Group))
	if m.Seq > 0 {
		b = strconv.AppendInt(append(b, `,"MsgSeq":`...), int64(m.Seq), 10)
	}
	b = strconv.AppendInt(append(b, `,"MsgTime":`...), m.Time, 10)
	b = wire.AppendString(append(b, `,"From_Account":`...), string(m.From))
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
		b = wire.AppendString(append(b, `,"CloudCustomData":`...), m.CloudCustomData)
	}
	b = appendMentions(b, m.Mentions)
	b = appendReceivers(b, m.To)
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
		b = wire.AppendString(append(b, `{"GroupAtAllFlag":0,"GroupAt_Account":`...), string(m.Account))
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendReceivers shows that a message is directed: it does not count as unread.
func appendReceivers(b []byte, to []group.Account) []byte {
	if len(to) == 0 {
		return b
	}
	b = append(b, `,"To_Account":[`...)
	for i, a := range to {
		if i > 0 {
			b = append(b, ',')
		}
		b = wire.AppendString(b, string(a))
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
			b = append(wire.AppendString(append(b, f.name...), f.value), ',')
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
			b = append(wire.AppendString(b, field.Key), ':')
			b = append(wire.AppendString(b, field.Value), ',')
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
