package client

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// repeatable are the commands that do no harm when they are done twice, besides those that
// only read.
var repeatable = []string{
	"sync", "portrait_set", "msg_read_report", "group_msg_receipt", "group_msg_recall", "forbid_send_msg", "modify_group_base_info",
	"modify_group_member_info", "delete_group_ramble_msg_by_seq", "recentcontact_delete", "set_push_token", "delete_push_token", "set_badge",
}

func isRepeatable(command string) bool {
	for _, reads := range []string{"get_", "group_msg_get", "portrait_get", "recentcontact_get_"} {
		if strings.HasPrefix(command, reads) {
			return true
		}
	}
	return slices.Contains(repeatable, command)
}

// Call makes a request: it runs the command with the JSON of req, and decodes the answer
// into resp if that is not nil. The methods of Client that are named for what they do are made of
// it; use it for commands that have none.
//
// It waits for the connection and, for commands that do no harm when repeated, repeats the request
// when the connection is lost, until ctx ends. A refusal is an *Error.
func (c *Client) Call(ctx context.Context, command string, req, resp any) error {
	body, err := marshal(command, req)
	if err != nil {
		return err
	}
	select {
	case c.requests <- struct{}{}:
		defer func() { <-c.requests }()
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
		return c.Err()
	}
	for attempt := 0; ; attempt++ {
		l, err := c.waitLink(ctx)
		if err != nil {
			return fmt.Errorf("client: %s: %w", command, err)
		}
		err = c.request(ctx, l, command, body, resp)
		switch again := refusedBy(err, codeTooMany); {
		case err == nil, refusedBy(err) && !again:
			return err
		case !again && !isRepeatable(command):
			return fmt.Errorf("client: %s: %w: %w", command, ErrOutcomeUnknown, err)
		}
		if err := c.pause(ctx, nil, attempt); err != nil {
			return fmt.Errorf("client: %s: %w", command, err)
		}
	}
}

// request makes one attempt over one connection.
func (c *Client) request(ctx context.Context, l *link, command string, body []byte, resp any) error {
	id := c.lastRequest.Add(1)
	reply := make(chan []byte, 1) // the reader never waits for us
	c.mu.Lock()
	c.replies[id] = reply
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.replies, id)
		c.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.RequestTimeout, errTimeout)
	defer cancel()
	_, err := l.publish(ctx, &paho.Publish{
		Topic: "rpc/" + command, Payload: body, // QoS 0: the reply is the acknowledgement
		Properties: &paho.PublishProperties{ResponseTopic: c.replyTopic, CorrelationData: strconv.AppendUint(nil, id, 10)},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errLinkDown, err)
	}
	select {
	case answer := <-reply:
		return decodeReply(command, answer, resp)
	case <-l.down:
		return errLinkDown
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ended:
		return c.Err()
	}
}

func decodeReply(command string, answer []byte, resp any) error {
	var envelope struct {
		ErrorCode int
		ErrorInfo string
	}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return fmt.Errorf("client: reply to %s: %w", command, err)
	}
	if envelope.ErrorCode != 0 {
		return &Error{Code: envelope.ErrorCode, Info: envelope.ErrorInfo}
	}
	if resp == nil {
		return nil
	}
	if err := json.Unmarshal(answer, resp); err != nil {
		return fmt.Errorf("client: reply to %s: %w", command, err)
	}
	return nil
}

// replied hands a reply to who waits for it, if anybody still does.
func (c *Client) replied(correlation, payload []byte) {
	id, err := strconv.ParseUint(string(correlation), 10, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	reply := c.replies[id]
	delete(c.replies, id)
	c.mu.Unlock()
	if reply != nil {
		reply <- payload
	}
}

// pause waits before an attempt is repeated: a random time that grows with the attempts. It ends
// early with an error when l, if not nil, is down.
func (c *Client) pause(ctx context.Context, l *link, attempt int) error {
	const least, most = 100 * time.Millisecond, 5 * time.Second
	t := time.NewTimer(least/2 + jitter(min(least<<min(attempt, 10), most)))
	defer t.Stop()
	var down <-chan struct{}
	if l != nil {
		down = l.down
	}
	select {
	case <-t.C:
		return nil
	case <-down:
		return errLinkDown
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ended:
		return c.Err()
	}
}
