package command

import (
	"context"
	"slices"
	"strings"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerReceipts() {
	e := t.env
	register(t, Command{Service: groupService, Name: "group_msg_receipt", Audience: Everyone, Changes: true, Doc: "Confirms that a member has read messages that asked for it."}, e.confirmRead)
	register(t, Command{Service: groupService, Name: "get_group_msg_receipt", Audience: Everyone, Doc: "Returns how many members have confirmed to have read messages."}, e.getReceipts)
	register(t, Command{Service: groupService, Name: "get_group_msg_receipt_detail", Audience: Everyone, Doc: "Returns who has, or has not, confirmed to have read a message."}, e.getReceiptDetail)
	register(t, Command{Service: groupService, Name: "set_unread_msg_num", Changes: true, Doc: "Sets how many messages are unread for a member."}, e.setUnreadNumber)
}

const (
	// maxReceiptMembers is the largest group with receipts.
	maxReceiptMembers = 200
	maxReceiptSeqs    = 50
	maxReceiptPage    = 200
)

type receiptRequest struct {
	GroupID group.ID      `json:"GroupId" wire:"required"`
	From    group.Account `json:"From_Account" wire:"account" doc:"Who has read. For users: always the caller."`
	Seqs    []seqItem     `json:"MsgSeqList" wire:"required" doc:"At most 50."`
}

type receiptCount struct {
	Code   int       `json:"Code" doc:"0, or 10062: there is no receipt for it."`
	Seq    group.Seq `json:"MsgSeq"`
	Read   int       `json:"ReadNum"`
	Unread int       `json:"UnreadNum"`
}

type receiptResponse struct {
	Receipts []receiptCount `json:"GroupMsgReceiptList"`
}

// readEvent is what senders are told of the confirmations of their messages.
type readEvent struct {
	Receipts []readCount `json:"GroupMsgReceiptList"`
}

type readCount struct {
	Seq     group.Seq    `json:"MsgSeq"`
	Read    int          `json:"ReadNum"`
	Unread  int          `json:"UnreadNum"`
	Members []memberItem `json:"ReadReceiptMembers"`
}

// afterReceipt is the body of Group.CallbackAfterReadReceipt.
type afterReceipt struct {
	callback
	Receipts []readCount `json:"GroupMsgReceiptList"`
}

// withReceipts refuses groups that have no receipts.
func withReceipts(g *group.Group) error {
	switch {
	case !g.Type.Rules().Receipts:
		return notPermitted("groups of type %s have no receipts", g.Type)
	case g.MemberCount > maxReceiptMembers:
		return group.Errorf(group.CodeTooLargeForReceipt, "the group has %d members, receipts are for at most %d", g.MemberCount, maxReceiptMembers)
	}
	return nil
}

func receiptKey(key group.Key, seq group.Seq, a group.Account) string {
	return storage.GroupRecordKey(key, storage.Num(int64(seq)), string(a))
}

// readers returns who has confirmed the message, ordered by account.
func readers(ctx context.Context, r storage.Records, key group.Key, seq group.Seq) ([]group.Account, error) {
	var out []group.Account
	for row, err := range storage.Receipts.Scan(ctx, r, storage.Span{Prefix: storage.GroupPrefix(key, storage.Num(int64(seq)))}) {
		if err != nil {
			return nil, err
		}
		parts, err := storage.SplitKey(row.Key)
		if err != nil {
			return nil, err
		}
		out = append(out, group.Account(parts[len(parts)-1]))
	}
	return out, nil
}

func (e *env) confirmRead(ctx context.Context, call *Call, r *receiptRequest) (*receiptResponse, error) {
	if n := len(r.Seqs); n == 0 || n > maxReceiptSeqs {
		return nil, badParameter("MsgSeqList has %d entries, 1 to %d are allowed", n, maxReceiptSeqs)
	}
	if !call.Admin {
		r.From = call.Caller
	}
	resp := &receiptResponse{}
	err := e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		if err := withReceipts(g); err != nil {
			return err
		}
		reader, err := tx.Member(r.From)
		if err != nil {
			return err
		}
		if reader == nil {
			return notPermitted("only members confirm messages")
		}
		s := &stage{Tx: tx, e: e, call: call}
		resp.Receipts = nil
		bySender := make(map[group.Account][]readCount)
		var all []readCount
		seen := make(map[group.Seq]bool)
		for _, item := range r.Seqs {
			m, count, err := e.confirmOne(s, item.Seq, r.From, seen[item.Seq])
			if err != nil {
				return err
			}
			seen[item.Seq] = true
			if m == nil {
				resp.Receipts = append(resp.Receipts, receiptCount{Code: group.CodeNoReceipt, Seq: item.Seq})
				continue
			}
			resp.Receipts = append(resp.Receipts, receiptCount{Seq: count.Seq, Read: count.Read, Unread: count.Unread})
			if len(count.Members) > 0 {
				bySender[m.From] = append(bySender[m.From], count)
				all = append(all, count)
			}
		}
		for sender, counts := range bySender {
			tx.Event(hooks.Event{Name: "Read", To: []group.Account{sender}, Body: readEvent{counts}})
		}
		if len(all) > 0 {
			body := afterReceipt{callback: s.head("Group.CallbackAfterReadReceipt"), Receipts: all}
			tx.Callback(body.Command, body)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// confirmOne notes one confirmation. It returns nil if the message asks for none, or may not be
// confirmed by the reader; the count names the reader if the confirmation is new.
func (e *env) confirmOne(s *stage, seq group.Seq, reader group.Account, again bool) (*group.Message, readCount, error) {
	g := s.Group()
	m, err := messageAt(s.Context(), s.Store(), g.Key(), seq)
	if err != nil || m == nil || !m.Has(group.NeedReceipt) || m.State != group.Live || m.From == reader || !m.VisibleTo(reader) {
		return nil, readCount{}, err
	}
	have, err := readers(s.Context(), s.Store(), g.Key(), seq)
	if err != nil {
		return nil, readCount{}, err
	}
	count := readCount{Seq: seq, Read: len(have)}
	if _, had := slices.BinarySearch(have, reader); !had {
		count.Read++
		if !again {
			count.Members = []memberItem{{reader}}
			s.Write(storage.Receipts.Put(receiptKey(g.Key(), seq, reader), &storage.Receipt{Time: s.Now().Unix()}))
		}
	}
	count.Unread = unreadCount(g, m, count.Read)
	return m, count, nil
}

// unreadCount is how many of those who got the message, its sender aside, have not confirmed it.
func unreadCount(g *group.Group, m *group.Message, read int) int {
	receivers := g.MemberCount - 1
	if len(m.To) > 0 {
		receivers = len(m.To)
	}
	return max(0, receivers-read)
}

func (e *env) getReceipts(ctx context.Context, call *Call, r *receiptRequest) (*receiptResponse, error) {
	if n := len(r.Seqs); n == 0 || n > maxReceiptSeqs {
		return nil, badParameter("MsgSeqList has %d entries, 1 to %d are allowed", n, maxReceiptSeqs)
	}
	g, member, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	if err := withReceipts(g); err != nil {
		return nil, err
	}
	resp := &receiptResponse{}
	for _, item := range r.Seqs {
		m, err := messageAt(ctx, e.store, g.Key(), item.Seq)
		if err != nil {
			return nil, err
		}
		if m == nil || !m.Has(group.NeedReceipt) || m.State != group.Live || member != nil && !mayRead(g, member, m) {
			resp.Receipts = append(resp.Receipts, receiptCount{Code: group.CodeNoReceipt, Seq: item.Seq})
			continue
		}
		have, err := readers(ctx, e.store, g.Key(), item.Seq)
		if err != nil {
			return nil, err
		}
		resp.Receipts = append(resp.Receipts, receiptCount{Seq: item.Seq, Read: len(have), Unread: unreadCount(g, m, len(have))})
	}
	return resp, nil
}

// mayRead reports whether a member may read m at all.
func mayRead(g *group.Group, member *group.Member, m *group.Message) bool {
	return m.Seq >= firstVisible(g, member) && m.VisibleTo(member.Account)
}

type receiptDetailRequest struct {
	GroupID group.ID  `json:"GroupId" wire:"required"`
	Seq     group.Seq `json:"MsgSeq" wire:"required"`
	Filter  int       `json:"Filter" alias:"Flag" doc:"0: who has read it; 1: who has not."`
	Cursor  string    `json:"Cursor" doc:"Empty first, then the Cursor of the answer before."`
	Count   int       `json:"Count" alias:"Num" wire:"required" doc:"At most 200."`
}

type readAccount struct {
	Account group.Account `json:"Read_Account"`
}

type unreadAccount struct {
	Account group.Account `json:"Unread_Account"`
}

type receiptDetailResponse struct {
	Seq      group.Seq        `json:"MsgSeq"`
	Cursor   string           `json:"Cursor"`
	Finished int              `json:"IsFinished" also:"IsFinish"`
	Read     *[]readAccount   `json:"ReadList"`
	Unread   *[]unreadAccount `json:"UnreadList"`
}

func (e *env) getReceiptDetail(ctx context.Context, call *Call, r *receiptDetailRequest) (*receiptDetailResponse, error) {
	if r.Count <= 0 || r.Count > maxReceiptPage || r.Filter < 0 || r.Filter > 1 {
		return nil, badParameter("Count must be 1 to %d, Filter 0 or 1", maxReceiptPage)
	}
	g, member, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	if err := withReceipts(g); err != nil {
		return nil, err
	}
	m, err := messageAt(ctx, e.store, g.Key(), r.Seq)
	if err != nil {
		return nil, err
	}
	if m == nil || !m.Has(group.NeedReceipt) || m.State != group.Live || member != nil && !mayRead(g, member, m) {
		return nil, group.Errorf(group.CodeNoReceipt, "there is no receipt for message %d", r.Seq)
	}
	accounts, err := e.receiptAccounts(ctx, g, m, r.Filter == 1)
	if err != nil {
		return nil, err
	}
	from, found := slices.BinarySearchFunc(accounts, r.Cursor, func(a group.Account, cursor string) int { return strings.Compare(string(a), cursor) })
	if found {
		from++
	}
	page := accounts[from:min(from+r.Count, len(accounts))]
	resp := &receiptDetailResponse{Seq: r.Seq, Finished: 1}
	if from+len(page) < len(accounts) {
		resp.Finished, resp.Cursor = 0, string(page[len(page)-1])
	}
	if r.Filter == 0 {
		list := make([]readAccount, len(page))
		for i, a := range page {
			list[i] = readAccount{a}
		}
		resp.Read = &list
		return resp, nil
	}
	list := make([]unreadAccount, len(page))
	for i, a := range page {
		list[i] = unreadAccount{a}
	}
	resp.Unread = &list
	return resp, nil
}

// receiptAccounts returns who has (or, unread, who has not) confirmed m, ordered by account.
func (e *env) receiptAccounts(ctx context.Context, g *group.Group, m *group.Message, unread bool) ([]group.Account, error) {
	have, err := readers(ctx, e.store, g.Key(), m.Seq)
	if err != nil || !unread {
		return have, err
	}
	members, err := e.members(ctx, g)
	if err != nil {
		return nil, err
	}
	var out []group.Account
	for _, member := range members {
		_, confirmed := slices.BinarySearch(have, member.Account)
		if !confirmed && member.Account != m.From && m.VisibleTo(member.Account) {
			out = append(out, member.Account)
		}
	}
	slices.Sort(out)
	return out, nil
}

type setUnreadRequest struct {
	GroupID group.ID      `json:"GroupId" wire:"required"`
	Account group.Account `json:"Member_Account" wire:"required,account"`
	Number  *int64        `json:"UnreadMsgNum" wire:"required" doc:"Cut to the number of messages."`
}

func (e *env) setUnreadNumber(ctx context.Context, call *Call, r *setUnreadRequest) (*ok, error) {
	if r.Number == nil || *r.Number < 0 {
		return nil, badParameter("UnreadMsgNum must not be negative")
	}
	return nil, e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		if !g.Type.Rules().CountsUnread {
			return nil
		}
		m, err := tx.Member(r.Account)
		if err != nil {
			return err
		}
		if m == nil {
			return notPermitted("%s is not a member of the group", r.Account)
		}
		state, err := stateOf(tx, m, e.setUnread(tx, r.Account, *r.Number))
		if err != nil {
			return err
		}
		tx.Notice(hooks.Notice{To: r.Account, Event: "ReadSync", Body: readSync{reportReadSync, g.ID, state, call.Caller}})
		return nil
	})
}
