package broker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/wire"
)

// A fullForm is the payload that says everything: send_group_msg without what only an
// administrator may say.
type fullForm struct {
	MsgBody                 json.RawMessage `json:"MsgBody" type:"array" wire:"required"`
	Random                  *uint32         `json:"Random"`
	MsgPriority             string          `json:"MsgPriority"`
	CloudCustomData         string          `json:"CloudCustomData"`
	OfflinePushInfo         json.RawMessage `json:"OfflinePushInfo" type:"object"`
	GroupAtInfo             []atInfo        `json:"GroupAtInfo"`
	ToAccount               []string        `json:"To_Account" wire:"account"`
	OnlineOnlyFlag          int             `json:"OnlineOnlyFlag" alias:"MsgOnlineOnlyFlag"`
	NeedReadReceipt         int             `json:"NeedReadReceipt"`
	SupportMessageExtension int             `json:"SupportMessageExtension"`
}

type atInfo struct {
	All     int    `json:"GroupAtAllFlag"`
	Account string `json:"GroupAt_Account" wire:"account"`
}

var msgBodyMember = []byte(`"MsgBody"`)

// readPayload fills d with what a client published. It tries, in this order: the full form,
// text, other bytes. prop returns a user property of the PUBLISH, "" if there is none; they
// count where the payload has no place for them.
func readPayload(d *hooks.Draft, payload []byte, prop func(string) string) *group.Error {
	if !utf8.Valid(payload) {
		d.Body = group.CustomBody(base64.StdEncoding.EncodeToString(payload), "base64")
		return readProperties(d, prop)
	}
	if bytes.Contains(payload, msgBodyMember) {
		var f fullForm
		err := wire.Unmarshal(payload, &f)
		if err == nil {
			return f.fill(d)
		}
		// Not an object, or one without a MsgBody, is text; one with a mistake is not.
		field, mistake := errors.AsType[*wire.FieldError](err)
		if mistake && (field.Kind != wire.KindRequired || field.Path != "MsgBody") {
			return group.Errorf(group.CodeBadParameter, "%s", strings.TrimPrefix(err.Error(), "wire: "))
		}
	}
	d.Body = group.TextBody(string(payload))
	return readProperties(d, prop)
}

func (f *fullForm) fill(d *hooks.Draft) *group.Error {
	p, ok := group.ParsePriority(f.MsgPriority)
	if !ok {
		return group.Errorf(group.CodeBadParameter, "MsgPriority %.20q is none of High, Normal, Low, Lowest", f.MsgPriority)
	}
	d.Body, d.Priority, d.CloudCustomData, d.OfflinePush = f.MsgBody, p, f.CloudCustomData, f.OfflinePushInfo
	if f.Random != nil {
		d.Random, d.HasRandom = *f.Random, true
	}
	for _, at := range f.GroupAtInfo {
		d.Mentions = append(d.Mentions, group.Mention{All: at.All != 0, Account: group.Account(at.Account)})
	}
	for _, a := range f.ToAccount {
		d.To = append(d.To, group.Account(a))
	}
	for _, flag := range []struct {
		value int
		flag  group.Flags
	}{
		{f.OnlineOnlyFlag, group.OnlineOnly},
		{f.NeedReadReceipt, group.NeedReceipt},
		{f.SupportMessageExtension, group.Extensions},
	} {
		if flag.value > 0 {
			d.Flags |= flag.flag
		}
	}
	return nil
}

func readProperties(d *hooks.Draft, prop func(string) string) *group.Error {
	if prop == nil {
		return nil
	}
	p, ok := group.ParsePriority(prop("MsgPriority"))
	if !ok {
		return group.Errorf(group.CodeBadParameter, "user property MsgPriority is none of High, Normal, Low, Lowest")
	}
	d.Priority = p
	if s := prop("Random"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return group.Errorf(group.CodeBadParameter, "user property Random is not an integer of 32 bits")
		}
		d.Random, d.HasRandom = uint32(n), true
	}
	return nil
}
