package hooks

import (
	"time"

	"github.com/rookery-im/rookery/group"
)

// authorise says why the draft may not be sent, or nil. It is asked when the message comes in
// and again when it is stamped: a callback or the flow may have taken seconds.
func (l *lane) authorise(d *Draft, s *sender, profile *group.Profile, now time.Time) error {
	g := l.st.group
	if g == nil {
		return group.Errorf(group.CodeNoGroup, "group %q does not exist", l.id)
	}
	if err := validateFor(g, d); err != nil {
		return err
	}
	if l.p.admins[d.From] {
		return nil
	}
	if profile == nil {
		return group.Errorf(group.CodeNoAccount, "account %q does not exist", d.From)
	}
	role := group.NotMember
	if s != nil && s.member != nil {
		role = s.member.Role
	}
	if role == group.NotMember && !d.ByAdmin {
		return group.Errorf(group.CodeNotPermitted, "%s is not a member of the group", d.From)
	}
	sec := now.Unix()
	if s != nil && s.mutedUntil > sec {
		return muted(s.mutedUntil)
	}
	if profile.MutedUntil > sec {
		return muted(profile.MutedUntil)
	}
	if g.MuteAll && role < group.Admin {
		return group.Errorf(group.CodeMuted, "all members of the group are muted")
	}
	return nil
}

// muted is the refusal that tells when the mute ends.
func muted(until int64) *group.Error {
	if until >= group.Forever {
		return group.Errorf(group.CodeMuted, "muted without end (until %d)", until)
	}
	return group.Errorf(group.CodeMuted, "muted until %d (%s)", until, time.Unix(until, 0).UTC().Format(time.RFC3339))
}

// senderOf is what receivers are shown of a sender.
func (p *Pipeline) senderOf(profile *group.Profile, m *group.Member) group.Sender {
	var s group.Sender
	if profile != nil {
		s.Nick, s.FaceURL = profile.Nick, profile.FaceURL
		s.UserCustom = p.userCustom(profile)
	}
	if m != nil {
		s.NameCard, s.Role = m.NameCard, m.Role.String()
		for _, name := range p.cfg.MemberCustom {
			for _, f := range m.Custom {
				if f.Key == name {
					s.MemberCustom = append(s.MemberCustom, f)
				}
			}
		}
	}
	return s
}

func (p *Pipeline) userCustom(profile *group.Profile) []group.Field {
	var fields []group.Field
	for _, name := range p.cfg.UserCustom {
		if raw, ok := profile.Tags[name]; ok {
			fields = append(fields, group.Field{Key: name, Value: text(raw)})
		}
	}
	return fields
}
