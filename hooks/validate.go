package hooks

import "github.com/rookery-im/rookery/group"

// validate refuses what is wrong with a draft by itself, whatever the group. It brings the
// body into its compact form.
func (p *Pipeline) validate(d *Draft) error {
	if !d.Group.Valid() {
		return group.Errorf(group.CodeBadGroupID, "group id %.60q is not valid", string(d.Group))
	}
	if !d.From.Valid() {
		return group.Errorf(group.CodeBadParameter, "sender %.40q is not a valid UserID", string(d.From))
	}
	if d.Priority == 0 {
		d.Priority = group.Normal
	}
	if d.Invalid != nil {
		return d.Invalid
	}
	if err := p.validateBody(d); err != nil {
		return err
	}
	if len(d.Mentions) > group.MaxMentions {
		return group.Errorf(group.CodeTooManyMentions, "%d mentions, at most %d are allowed", len(d.Mentions), group.MaxMentions)
	}
	if len(d.To) > group.MaxRecipients {
		return group.Errorf(group.CodeBadParameter, "To_Account names %d accounts, at most %d are allowed", len(d.To), group.MaxRecipients)
	}
	if len(d.OfflinePush) > 0 && p.cfg.CheckOfflinePush != nil {
		if err := p.cfg.CheckOfflinePush(d.OfflinePush); err != nil {
			return group.Errorf(group.CodeBadParameter, "%v", err)
		}
	}
	if d.Flags.Any(group.OnlineOnly) && d.Flags.Any(group.NoUnread|group.NoLastMsg|group.MuteNotifications) {
		return group.Errorf(group.CodeBadParameter, "OnlineOnlyFlag and SendMsgControl exclude each other")
	}
	if d.Flags.Any(group.OnlineOnly) && d.Flags.Any(group.NeedReceipt) {
		return group.Errorf(group.CodeNoReceiptOnline, "messages with OnlineOnlyFlag have no receipts")
	}
	return nil
}

// validateBody checks what a before-callback may replace.
func (p *Pipeline) validateBody(d *Draft) error {
	left := p.cfg.BodyLimit - len(d.CloudCustomData)
	if left <= 0 {
		return group.Errorf(group.CodeMessageTooLong, "CloudCustomData of %d bytes leaves nothing of the %d that a message may have", len(d.CloudCustomData), p.cfg.BodyLimit)
	}
	if d.Canonical {
		if len(d.Body) > left {
			return group.Errorf(group.CodeMessageTooLong, "MsgBody has %d bytes, more than %d", len(d.Body), left)
		}
		return nil
	}
	body, err := group.ParseBody(d.Body, left)
	if err != nil {
		return err
	}
	d.Body, d.Canonical = body.Raw, true
	return nil
}

// validateFor refuses what the group's type does not have.
func validateFor(g *group.Group, d *Draft) *group.Error {
	r := g.Type.Rules()
	switch {
	case len(d.To) > 0 && !r.DirectedMessages:
		return group.Errorf(group.CodeBadParameter, "To_Account is not for groups of type %s", g.Type)
	case d.Flags.Any(group.OnlineOnly) && g.Type == group.AVChatRoom:
		return group.Errorf(group.CodeBadParameter, "OnlineOnlyFlag is not for groups of type %s", g.Type)
	case d.Flags.Any(group.NoUnread) && !r.CountsUnread:
		return group.Errorf(group.CodeBadParameter, "NoUnread is not for groups of type %s, which count nothing as unread", g.Type)
	}
	if g.Type == group.AVChatRoom {
		for _, m := range d.Mentions {
			if m.All {
				return group.Errorf(group.CodeBadParameter, "everybody cannot be mentioned in a group of type %s", g.Type)
			}
		}
	}
	return nil
}
