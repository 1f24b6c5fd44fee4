package command

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerContacts() {
	e := t.env
	register(t, Command{Service: contactService, Name: "get_list", Audience: Everyone, ErrorDisplay: true, Doc: "Returns an account's recent conversations, newest first."}, e.getContacts)
	register(t, Command{Service: contactService, Name: "delete", Audience: Everyone, Changes: true, ErrorDisplay: true, Doc: "Takes a conversation off an account's list, until its next message."}, e.deleteContact)
}

const (
	codeContactAccount = 50001

	contactC2C   = 1
	contactGroup = 2

	// maxContacts bounds the list; the oldest fall out.
	maxContacts = 100
	// maxLastDepth is how many messages back a conversation's last message is looked for.
	maxLastDepth = 50

	assistEmpty = 2 // bit of AssistFlags: conversations without messages, too
)

type contactsRequest struct {
	From          group.Account `json:"From_Account" wire:"account" doc:"Whose list. For users: always the caller."`
	TimeStamp     int64         `json:"TimeStamp" doc:"0 first, then as the answer before gave it."`
	StartIndex    int           `json:"StartIndex" doc:"0 first, then as the answer before gave it."`
	TopTimeStamp  int64         `json:"TopTimeStamp"`
	TopStartIndex int           `json:"TopStartIndex"`
	AssistFlags   int64         `json:"AssistFlags" doc:"Bit 1: conversations without messages, too."`
}

type contactItem struct {
	Type    int           `json:"Type" doc:"1 one-to-one, 2 group."`
	Account group.Account `json:"To_Account,omitempty"`
	GroupID group.ID      `json:"GroupId,omitempty"`
	Time    int64         `json:"MsgTime"`
	Top     int           `json:"TopFlag"`

	// For users, whose client shows them; backends count for themselves.
	Unread *int64          `json:"UnreadMsgNum" doc:"For users only."`
	Last   json.RawMessage `json:"LastMsg,omitempty" type:"object" doc:"The last message. For users only."`
}

type contactsResponse struct {
	Items         []contactItem `json:"SessionItem"`
	Complete      int           `json:"CompleteFlag"`
	TimeStamp     int64         `json:"TimeStamp"`
	StartIndex    int           `json:"StartIndex"`
	TopTimeStamp  int64         `json:"TopTimeStamp"`
	TopStartIndex int           `json:"TopStartIndex"`
}

func (e *env) getContacts(ctx context.Context, call *Call, r *contactsRequest) (*contactsResponse, error) {
	if !call.Admin {
		r.From = call.Caller
	}
	if r.StartIndex < 0 {
		return nil, group.Errorf(50002, "StartIndex is negative")
	}
	if err := e.contactAccount(ctx, r.From); err != nil {
		return nil, err
	}
	items, err := e.contacts(ctx, r.From, r.AssistFlags&assistEmpty != 0, !call.Admin)
	if err != nil {
		return nil, err
	}
	// The whole list fits one answer; a client that asks on gets its end.
	items = items[min(r.StartIndex, len(items)):]
	resp := &contactsResponse{Items: items, Complete: 1, StartIndex: r.StartIndex + len(items), TimeStamp: r.TimeStamp}
	if len(items) > 0 {
		resp.TimeStamp = items[len(items)-1].Time
	}
	return resp, nil
}

func (e *env) contactAccount(ctx context.Context, a group.Account) error {
	if a == "" {
		return group.Errorf(50002, "From_Account is missing")
	}
	found, err := e.exists(ctx, a)
	if err == nil && !found {
		err = group.Errorf(codeContactAccount, "account %.40q does not exist", a)
	}
	return err
}

// contacts makes the list from the groups of the account and their last messages: nothing is
// written per message and member. full adds the last messages and unread numbers.
func (e *env) contacts(ctx context.Context, a group.Account, empty, full bool) ([]contactItem, error) {
	rows, err := e.joinedRows(ctx, a)
	if err != nil {
		return nil, err
	}
	talks, err := e.talks(ctx, a, standings(rows))
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(talks))
	for i, t := range talks {
		keys[i] = storage.JoinedKey(a, t.group.ID)
	}
	deleted, err := storage.Contacts.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	type entry struct {
		talk
		shown int64 // Unix seconds
	}
	var entries []entry
	for i, t := range talks {
		gone := deleted[i] != nil && deleted[i].Incarnation == t.group.Incarnation
		switch {
		case t.last != nil && (!gone || t.last.Seq > deleted[i].Seq):
			entries = append(entries, entry{t, t.last.Time})
		case empty && t.last == nil && !gone:
			entries = append(entries, entry{t, t.member.JoinTime})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(b.shown, a.shown) })
	items := []contactItem{}
	room := maxSyncBytes
	for _, t := range entries[:min(len(entries), maxContacts)] {
		item := contactItem{Type: contactGroup, GroupID: t.group.ID, Time: t.shown}
		if full {
			item.Unread = &t.unread
			if t.last != nil {
				if last := appendStored(nil, t.last); len(last) <= room { // else sync or history has it
					item.Last = last
					room -= len(last)
				}
			}
		}
		items = append(items, item)
	}
	return items, nil
}

type deleteContactRequest struct {
	From    group.Account `json:"From_Account" wire:"account" doc:"Whose list. For users: always the caller."`
	Type    int           `json:"Type" wire:"required" doc:"1 one-to-one, 2 group."`
	To      string        `json:"To_Account"`
	GroupID group.ID      `json:"ToGroupid"`
	Clear   int           `json:"ClearRamble" doc:"1: the account no longer sees the messages so far, either."`
}

func (e *env) deleteContact(ctx context.Context, call *Call, r *deleteContactRequest) (*ok, error) {
	if !call.Admin {
		r.From = call.Caller
	}
	if r.GroupID == "" {
		r.GroupID = group.ID(r.To)
	}
	if err := e.contactAccount(ctx, r.From); err != nil {
		return nil, err
	}
	switch {
	case r.Type == contactC2C: // there are no such conversations
		return nil, nil
	case r.Type != contactGroup:
		return nil, group.Errorf(50002, "Type must be 1 or 2")
	case !r.GroupID.Valid():
		return nil, group.Errorf(50002, "ToGroupid is missing or not valid")
	}
	err := e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		m, err := tx.Member(r.From)
		if err != nil || m == nil {
			return err
		}
		tail := tx.Head().Tail
		tx.Write(storage.Contacts.Put(storage.JoinedKey(r.From, g.ID), &storage.DeletedContact{Incarnation: g.Incarnation, Seq: tail}))
		if r.Clear > 0 {
			tx.Write(storage.Views.Put(storage.MemberKey(g.Key(), r.From), &storage.View{ClearedTo: tail}))
		}
		return nil
	})
	if err != nil && isNoGroup(err) {
		err = nil // the conversation went with the group
	}
	return nil, err
}
