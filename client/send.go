package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rookery-im/rookery/group"
)

// A Draft is a message to send.
type Draft struct {
	Body []Element
	// Random makes sending again harmless: the server takes the same Random and Body of one
	// sender for the same message for five minutes. Zero: Send chooses one and keeps it here.
	Random          uint32
	Priority        group.Priority // zero: Normal
	CloudCustomData string
	Mentions        []group.Mention
	To              []group.Account // only these members get it
	OnlineOnly      bool            // for those online, not stored
	NeedReceipt     bool
	OfflinePush     json.RawMessage // an OfflinePushInfo object
}

// A Receipt is what the server says of a message that it has taken.
type Receipt struct {
	// Seq is the message's place in its group. Zero: it was not stored, because it is for those
	// online only, or was left out by frequency control.
	Seq  group.Seq
	Time time.Time // when; zero if it was left out
}

const (
	// sendAgain is for how long a message whose outcome is unknown is sent again: the server
	// recognises it for five minutes.
	sendAgain = 4*time.Minute + 30*time.Second

	notStored = 0x83 // reason code: nothing was acknowledged, try again
)

type draftJSON struct {
	Body        []Element       `json:"MsgBody"`
	Random      uint32          `json:"Random"`
	Priority    string          `json:"MsgPriority,omitempty"`
	Cloud       string          `json:"CloudCustomData,omitempty"`
	Mentions    []mentionJSON   `json:"GroupAtInfo,omitempty"`
	To          []group.Account `json:"To_Account,omitempty"`
	OnlineOnly  int             `json:"OnlineOnlyFlag,omitempty"`
	Receipt     int             `json:"NeedReadReceipt,omitempty"`
	OfflinePush json.RawMessage `json:"OfflinePushInfo,omitempty"`
}

func (d *Draft) payload() ([]byte, error) {
	j := draftJSON{Body: d.Body, Random: d.Random, Cloud: d.CloudCustomData, To: d.To, OfflinePush: d.OfflinePush}
	if d.Priority != 0 {
		j.Priority = d.Priority.String()
	}
	for _, m := range d.Mentions {
		at := mentionJSON{Account: m.Account}
		if m.All {
			at = mentionJSON{All: 1}
		}
		j.Mentions = append(j.Mentions, at)
	}
	if d.OnlineOnly {
		j.OnlineOnly = 1
	}
	if d.NeedReceipt {
		j.Receipt = 1
	}
	return json.Marshal(j)
}

// Send sends a message to a group and returns when it is stored. Messages of one priority
// that are sent one after the other keep their order.
//
// While there is no connection it waits, and a message without an answer is sent again with the
// same Random, until ctx ends: it is stored once, however often it was sent. A refusal is an
// *Error, and nothing was stored. Any other error may come after the message was stored, and then
// wraps ErrOutcomeUnknown; calling Send with the same Draft within five minutes finds out.
func (c *Client) Send(ctx context.Context, id group.ID, d *Draft) (Receipt, error) {
	if len(d.Body) == 0 {
		return Receipt{}, group.Errorf(group.CodeBadParameter, "the message has no elements")
	}
	for d.Random == 0 {
		d.Random = rand.Uint32()
	}
	payload, err := d.payload()
	if err != nil {
		return Receipt{}, fmt.Errorf("client: send: %w", err)
	}
	var first time.Time // when it may have reached the server for the first time
	fail := func(err error) (Receipt, error) {
		if !first.IsZero() {
			err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		return Receipt{}, fmt.Errorf("client: send to %s: %w", id, err)
	}
	for attempt := 0; ; attempt++ {
		l, err := c.waitLink(ctx)
		if err != nil {
			return fail(err)
		}
		if !first.IsZero() && time.Since(first) > sendAgain {
			return fail(errTimeout)
		}
		started := time.Now()
		receipt, sent, err := c.sendOnce(ctx, l, id, payload)
		if err == nil || refusedBy(err) {
			return receipt, err
		}
		if sent && first.IsZero() {
			first = started
		}
		if ctx.Err() != nil {
			return fail(context.Cause(ctx))
		}
		if err := c.pause(ctx, nil, attempt); err != nil {
			return fail(err)
		}
	}
}

// sendOnce makes one attempt. Sent says that the message may have reached the server and
// have been stored.
func (c *Client) sendOnce(ctx context.Context, l *link, id group.ID, payload []byte) (r Receipt, sent bool, err error) {
	ack, err := l.publish(ctx, &paho.Publish{Topic: "groups/" + escape(string(id)), QoS: 1, Payload: payload})
	if ack == nil {
		return Receipt{}, !errors.Is(err, errNotSent), err
	}
	var props paho.PublishResponseProperties
	if ack.Properties != nil {
		props = *ack.Properties
	}
	if ack.ReasonCode < 0x80 {
		if r.Seq, err = parseSeq(props.User.Get("MsgSeq")); err != nil {
			return r, true, err
		}
		if t, err := strconv.ParseInt(props.User.Get("MsgTime"), 10, 64); err == nil {
			r.Time = time.Unix(t, 0)
		}
		return r, true, nil
	}
	if ack.ReasonCode == notStored && (props.ReasonString == "" || strings.HasSuffix(props.ReasonString, "retry")) {
		return r, false, errTimeout
	}
	if e, ok := parseReason(props.ReasonString); ok {
		return r, true, e
	}
	return r, true, &Error{Code: int(ack.ReasonCode), Info: "refused: " + props.ReasonString}
}

func parseSeq(s string) (group.Seq, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("client: %.20q is no MsgSeq", s)
	}
	return group.Seq(n), nil
}
