package callback

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// Due implements hooks.BeforeSend.
func (c *Client) Due(*group.Group, *hooks.Draft) bool { return c.sends(beforeSend) }

// BeforeSend implements hooks.BeforeSend.
func (c *Client) BeforeSend(ctx context.Context, g *group.Group, d *hooks.Draft) hooks.Verdict {
	body, err := json.Marshal(newMessage(beforeSend, g, d, time.Now()))
	if err != nil { // a body that was parsed before marshals
		c.log.Error("callback body", "group", string(g.ID), "err", err)
		return hooks.Verdict{Refuse: failed()}
	}
	raw, refuse := c.before(ctx, beforeSend, g.ID, body, d.Origin, "msgid", d.ID.String())
	switch {
	case refuse != nil:
		return hooks.Verdict{Refuse: refuse}
	case raw == nil:
		return hooks.Verdict{}
	}
	a, _ := parse(raw)
	v := verdict(a)
	outcome := "ok"
	switch {
	case v.Refuse != nil:
		outcome = "refused"
	case v.Drop:
		outcome = "dropped"
	case v.Body != nil || v.CloudCustomData != nil:
		outcome = "changed"
	}
	c.metrics.calls.WithLabelValues("before", outcome).Inc()
	return v
}

// Before asks about anything but a message, with the before-callback called name; body's
// members CallbackCommand and EventTime are filled in if it has none. The answer is the app's
// JSON object; nil if the app was not asked, or if it failed and FailPolicy allows.
func (c *Client) Before(ctx context.Context, name string, body any, from hooks.Origin) (json.RawMessage, *group.Error) {
	if !c.sends(name) {
		return nil, nil
	}
	full, id, err := complete(name, nil, body, time.Now())
	if err != nil {
		c.log.Error("callback body", "command", name, "err", err)
		return nil, failed()
	}
	raw, refuse := c.before(ctx, name, id, full, from, "command", name)
	if refuse != nil || raw == nil {
		return nil, refuse
	}
	a, _ := parse(raw)
	if refuse := refusal(a); refuse != nil || a.Code == 2 {
		c.metrics.calls.WithLabelValues("before", "refused").Inc()
		return nil, cmp.Or(refuse, refusedByApp(a))
	}
	c.metrics.calls.WithLabelValues("before", "ok").Inc()
	return raw, nil
}

// before asks within the time limit and the bounds. A refusal is one by policy; without an
// answer (nil) the operation goes on.
func (c *Client) before(ctx context.Context, name string, id group.ID, body []byte, from hooks.Origin, key, value string) (json.RawMessage, *group.Error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	c.metrics.waiting.Inc()
	// The other half is the exchange's: one that is cut short because it began late would be
	// held against a server that is only busy.
	waitCtx, stopWaiting := context.WithTimeout(ctx, c.cfg.Timeout/2)
	free, ok := c.turn(waitCtx, id)
	stopWaiting()
	c.metrics.waiting.Dec()
	if !ok {
		policy := c.cfg.Overflow
		if policy == Wait {
			policy = c.cfg.FailPolicy
		}
		return nil, c.unasked("overflow", policy, id, errTooMany, key, value)
	}
	defer free()
	c.metrics.underWay.Inc()
	defer c.metrics.underWay.Dec()
	began := time.Now()
	raw, err := c.ask(ctx, name, body, from)
	if err == nil {
		_, err = parse(raw)
	}
	if !errors.Is(err, errOpen) {
		c.metrics.duration.WithLabelValues("before").Observe(time.Since(began).Seconds())
	}
	if err != nil {
		return nil, c.unasked(outcomeOf(err), c.cfg.FailPolicy, id, err, key, value)
	}
	return raw, nil
}

var errTooMany = errors.New("callback: too many calls under way")

// turn waits for the group's turn and then for one of all, so that who waits for its group keeps nobody out.
func (c *Client) turn(ctx context.Context, id group.ID) (free func(), ok bool) {
	wait := c.cfg.Overflow == Wait
	leave, ok := c.groups.take(ctx, id, wait)
	if !ok {
		return nil, false
	}
	if !acquire(ctx, c.total, wait) {
		leave()
		return nil, false
	}
	return func() { c.total.Release(1); leave() }, true
}

// unasked applies the policy to what the app was not asked about.
func (c *Client) unasked(outcome string, p Policy, id group.ID, err error, key, value string) *group.Error {
	c.metrics.calls.WithLabelValues("before", outcome).Inc()
	c.log.Debug("before-callback failed", "group", string(id), key, value, "policy", string(p), "err", err)
	if p == Refuse {
		return failed()
	}
	return nil
}

func outcomeOf(err error) string {
	switch {
	case errors.Is(err, errOpen):
		return "breaker"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "failed"
}

func parse(raw json.RawMessage) (answer, error) {
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		return answer{}, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if a.Code != 0 {
		return a, nil // whatever else it says
	}
	switch b := string(a.Body); {
	case b == "null", b == `""`, b == "0", strings.HasPrefix(b, "[") && strings.TrimSpace(b[1:]) == "]":
		a.Body = nil // not given, as in a request; none of them could be sent
	}
	if string(a.CloudCustomData) == "null" {
		a.CloudCustomData = nil
	}
	if a.CloudCustomData != nil && a.CloudCustomData[0] != '"' {
		return answer{}, fmt.Errorf("%w: CloudCustomData is not a text", errAnswer)
	}
	return a, nil
}

// verdict is what an answer means for a message.
func verdict(a answer) hooks.Verdict {
	switch a.Code {
	case 0:
		v := hooks.Verdict{Body: a.Body}
		if a.CloudCustomData != nil {
			v.CloudCustomData = new(string)
			_ = json.Unmarshal(a.CloudCustomData, v.CloudCustomData) // it is a text of an answer that was parsed
		}
		return v
	case 2:
		return hooks.Verdict{Drop: true}
	}
	return hooks.Verdict{Refuse: refusal(a)}
}

// refusal is what the caller is told, or nil if the app agrees or wants to drop silently.
func refusal(a answer) *group.Error {
	switch {
	case a.Code == 0 || a.Code == 2:
		return nil
	case a.Code >= group.CodeAppFirst && a.Code <= group.CodeAppLast:
		return &group.Error{Code: int(a.Code), Info: string(a.Info)}
	}
	return refusedByApp(a)
}

func refusedByApp(a answer) *group.Error {
	return &group.Error{Code: group.CodeRefusedByApp, Info: cmp.Or(string(a.Info), "refused by the app")}
}
