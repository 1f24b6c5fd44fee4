package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/rookery-im/rookery/group"
)

// maxPage is how many messages the server gives at once.
const maxPage = 20

type historyRequest struct {
	GroupID      group.ID  `json:"GroupId"`
	Number       int       `json:"ReqMsgNumber"`
	Seq          group.Seq `json:"ReqMsgSeq,omitempty"` // the highest wanted; 0: the newest
	WithRecalled int       `json:"WithRecalledMsg"`
}

type historyResponse struct {
	Finished int           `json:"IsFinished"`
	Messages []messageJSON `json:"RspMsgList"` // newest first
}

// A caller makes a request.
type caller func(ctx context.Context, command string, req, resp any) error

func marshal(command string, req any) ([]byte, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("client: %s: %w", command, err)
	}
	return body, nil
}

// older returns up to n messages from the highest SEQ downwards, newest first; cut says that
// there was no room for all.
func older(ctx context.Context, call caller, id group.ID, highest group.Seq, n int) (page []Message, cut bool, err error) {
	var resp historyResponse
	if err := call(ctx, "group_msg_get", historyRequest{id, n, highest, 1}, &resp); err != nil {
		return nil, false, err
	}
	for i := range resp.Messages {
		m, err := resp.Messages[i].message(id)
		if err != nil {
			return nil, false, err
		}
		page = append(page, m)
	}
	return page, resp.Finished != 1, nil
}

// pull returns what history has of from…to, at most maxPage SEQs, ascending. SEQs that are not
// for this account are not among them.
func pull(ctx context.Context, call caller, id group.ID, from, to group.Seq) ([]Message, error) {
	var found []Message
	for next := to; next >= from; {
		page, cut, err := older(ctx, call, id, next, int(next-from)+1)
		if err != nil {
			return nil, err
		}
		lowest := next + 1
		for _, m := range page {
			if m.Seq >= from && m.Seq <= to {
				found = append(found, m)
			}
			lowest = min(lowest, m.Seq)
		}
		if !cut || lowest > next {
			break
		}
		next = lowest - 1
	}
	slices.SortFunc(found, func(a, b Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return found, nil
}

// expired reports whether the message is a placeholder for one that history has no more.
func (m *Message) expired() bool { return m.Missing && m.From == "" }

// Messages iterates over a group's history from the SEQ from on, oldest first, up to the newest
// message there is when it gets there; from 0 is from the oldest that is still there. Recalled
// and deleted messages come without their content, expired ones do not come. After an error it
// ends. Nothing of it is marked as shown or read.
func (c *Client) Messages(ctx context.Context, id group.ID, from group.Seq) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		newest, _, err := older(ctx, c.Call, id, 0, 1)
		if err != nil {
			yield(Message{}, err)
			return
		}
		if len(newest) == 0 {
			return
		}
		tail := newest[0].Seq
		found := false // something that has not expired
		for from = max(from, 1); from <= tail; {
			end := min(from+maxPage-1, tail)
			page, err := pull(ctx, c.Call, id, from, end)
			if err != nil {
				yield(Message{}, err)
				return
			}
			for _, m := range page {
				if m.expired() {
					continue
				}
				found = true
				if !yield(m, nil) {
					return
				}
			}
			from = end + 1
			if !found { // the old part of a long history has expired: jump over it
				if from, err = c.oldest(ctx, id, from, tail); err != nil {
					yield(Message{}, err)
					return
				}
			}
		}
	}
}

// oldest returns the lowest SEQ of from…tail at or below which history has something, or
// tail+1.
func (c *Client) oldest(ctx context.Context, id group.ID, from, tail group.Seq) (group.Seq, error) {
	low, high := from, tail+1
	for low < high {
		mid := low + (high-low)/2
		page, _, err := older(ctx, c.Call, id, mid, 1)
		if err != nil {
			return 0, err
		}
		if len(page) > 0 && !page[0].expired() {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low, nil
}

// MessagesBefore iterates over a group's history from the SEQ highest downwards, as one scrolls
// back; 0 is from the newest. It is like Messages otherwise.
func (c *Client) MessagesBefore(ctx context.Context, id group.ID, highest group.Seq) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			page, cut, err := older(ctx, c.Call, id, highest, maxPage)
			if err != nil {
				yield(Message{}, err)
				return
			}
			for _, m := range page {
				if m.expired() {
					if cut { // it stands for much that is not for this account
						continue
					}
					return // all that is older has expired, too
				}
				if !yield(m, nil) {
					return
				}
			}
			if len(page) == 0 || page[len(page)-1].Seq <= 1 {
				return
			}
			highest = page[len(page)-1].Seq - 1
		}
	}
}
