package client

import (
	"context"
	"encoding/json"

	"github.com/rookery-im/rookery/group"
)

type seqJSON struct {
	Seq group.Seq `json:"MsgSeq"`
}

func seqList(seqs []group.Seq) []seqJSON {
	list := make([]seqJSON, len(seqs))
	for i, s := range seqs {
		list[i] = seqJSON{s}
	}
	return list
}

// Recall takes messages back: their content disappears, their places stay. If the server
// refuses some of them, the error is the first refusal.
func (c *Client) Recall(ctx context.Context, id group.ID, reason string, seqs ...group.Seq) error {
	var resp struct {
		Results []struct {
			seqJSON
			Code int `json:"RetCode"`
		} `json:"RecallRetList"`
	}
	err := c.Call(ctx, "group_msg_recall", struct {
		groupJSON
		Seqs   []seqJSON `json:"MsgSeqList"`
		Reason string    `json:",omitempty"`
	}{groupJSON{id}, seqList(seqs), reason}, &resp)
	if err != nil {
		return err
	}
	for _, r := range resp.Results {
		if r.Code != 0 {
			return group.Errorf(r.Code, "message %d was not recalled", r.Seq)
		}
	}
	return nil
}

// HideMessages removes messages from the account's own view of the history, at most 30 at once.
func (c *Client) HideMessages(ctx context.Context, id group.ID, seqs ...group.Seq) error {
	return c.Call(ctx, "delete_group_ramble_msg_by_seq", struct {
		groupJSON
		Seqs []group.Seq
	}{groupJSON{id}, seqs}, nil)
}

// MarkRead says that the account has read a group up to seq. It moves forward only.
func (c *Client) MarkRead(ctx context.Context, id group.ID, seq group.Seq) error {
	var state readState
	err := c.Call(ctx, "msg_read_report", struct {
		groupJSON
		Seq group.Seq `json:"MsgReadedSeq"`
	}{groupJSON{id}, seq}, &state)
	if err != nil {
		return err
	}
	c.update(ctx, id, func(r *room) { r.readAs(&state, false) })
	return nil
}

// readState is what the server says of how far the account has read a group, as of the message
// before Next.
type readState struct {
	Read   group.Seq `json:"LastReadMsgSeq"`
	Unread int       `json:"UnreadMsgNum"`
	Next   group.Seq `json:"NextMsgSeq"`
}

// Receipts counts who has confirmed to have read a message.
type Receipts struct {
	Seq    group.Seq `json:"MsgSeq"`
	Code   int       // not 0: there are no receipts for it
	Read   int       `json:"ReadNum"`
	Unread int       `json:"UnreadNum"`
}

// ConfirmRead confirms messages whose sender asked for it, at most 50 at once.
func (c *Client) ConfirmRead(ctx context.Context, id group.ID, seqs ...group.Seq) error {
	return c.Call(ctx, "group_msg_receipt", struct {
		groupJSON
		Seqs []seqJSON `json:"MsgSeqList"`
	}{groupJSON{id}, seqList(seqs)}, nil)
}

// Receipts returns how many members have confirmed messages.
func (c *Client) Receipts(ctx context.Context, id group.ID, seqs ...group.Seq) ([]Receipts, error) {
	var resp struct {
		Receipts []Receipts `json:"GroupMsgReceiptList"`
	}
	err := c.Call(ctx, "get_group_msg_receipt", struct {
		groupJSON
		Seqs []seqJSON `json:"MsgSeqList"`
	}{groupJSON{id}, seqList(seqs)}, &resp)
	return resp.Receipts, err
}

// DeleteContact takes a conversation off the recent ones until its next message.
func (c *Client) DeleteContact(ctx context.Context, id group.ID) error {
	return c.Call(ctx, "recentcontact_delete", struct {
		Type    int
		GroupID group.ID `json:"ToGroupid"`
	}{contactGroup, id}, nil)
}

// A Profile is an account's fields, by their tags, such as Tag_Profile_IM_Nick. A value is a
// string or an integer.
type Profile map[string]json.RawMessage

type profileItem struct {
	Tag   string
	Value json.RawMessage
}

// Profiles returns fields of accounts' profiles, of at most 100 accounts. Accounts that do not exist
// are not among them.
func (c *Client) Profiles(ctx context.Context, tags []string, accounts ...group.Account) (map[group.Account]Profile, error) {
	var resp struct {
		Items []struct {
			Account group.Account `json:"To_Account"`
			Code    int           `json:"ResultCode"`
			Items   []profileItem `json:"ProfileItem"`
		} `json:"UserProfileItem"`
	}
	err := c.Call(ctx, "portrait_get", struct {
		Accounts []group.Account `json:"To_Account"`
		TagList  []string
	}{accounts, tags}, &resp)
	if err != nil {
		return nil, err
	}
	profiles := make(map[group.Account]Profile)
	for _, it := range resp.Items {
		if it.Code != 0 {
			continue
		}
		p := make(Profile)
		for _, f := range it.Items {
			p[f.Tag] = f.Value
		}
		profiles[it.Account] = p
	}
	return profiles, nil
}

// SetProfile changes fields of the account's own profile.
func (c *Client) SetProfile(ctx context.Context, p Profile) error {
	items := []profileItem{}
	for tag, value := range p {
		items = append(items, profileItem{tag, value})
	}
	return c.Call(ctx, "portrait_set", struct {
		From  group.Account `json:"From_Account"`
		Items []profileItem `json:"ProfileItem"`
	}{c.cfg.Account, items}, nil)
}

// SetNick sets the account's nickname.
func (c *Client) SetNick(ctx context.Context, nick string) error {
	value, err := json.Marshal(nick)
	if err != nil {
		return err
	}
	return c.SetProfile(ctx, Profile{"Tag_Profile_IM_Nick": value})
}
