package broker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
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
	CloudCustomData         string          `json:"CloudCustomData" wire:"text"`
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

// readPayload fills d with what a client published. It tries, in this order: the full form,
// text, other bytes. prop returns a user property of the PUBLISH, "" if there is none; they
// count where the payload has no place for them.
func readPayload(d *hooks.Draft, payload []byte, prop func(string) string) *group.Error {
	if !utf8.Valid(payload) {
		d.Body, d.Canonical = group.CustomBody(base64.StdEncoding.EncodeToString(payload), "base64"), true
		return readProperties(d, prop)
	}
	if namesBody(payload) {
		var f fullForm
		err := wire.Unmarshal(payload, &f)
		if err == nil {
			return f.fill(d)
		}
		if hasBody(payload) { // the full form with a mistake
			return group.Errorf(group.CodeBadParameter, "%s", strings.TrimPrefix(err.Error(), "wire: "))
		}
	}
	d.Body, d.Canonical = group.TextBody(string(payload)), true
	return readProperties(d, prop)
}

// bodyMember is the name that makes an object the full form, in any case, as in the REST API.
var bodyMember = []byte(`MsgBody"`)

// namesBody reports whether payload may be an object with a MsgBody. Most text is not.
func namesBody(payload []byte) bool {
	rest := bytes.TrimLeft(payload, " \t\r\n")
	if len(rest) == 0 || rest[0] != '{' {
		return false
	}
	for {
		quote := bytes.IndexByte(rest, '"')
		if quote < 0 {
			return false
		}
		if rest = rest[quote+1:]; len(rest) >= len(bodyMember) && bytes.EqualFold(rest[:len(bodyMember)], bodyMember) {
			return true
		}
	}
}

// hasBody reports whether payload is a JSON object that has a MsgBody, whatever its value.
func hasBody(payload []byte) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(payload, &members) != nil {
		return false
	}
	for name := range members {
		if strings.EqualFold(name, "MsgBody") {
			return true
		}
	}
	return false
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
		if at.All == 0 && at.Account == "" {
			return group.Errorf(group.CodeBadParameter, "GroupAtInfo: an entry names nobody")
		}
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
