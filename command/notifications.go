package command

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerNotifications() {
	e := t.env
	register(t, Command{Service: groupService, Name: "send_group_system_notification", Changes: true, Doc: "Tells members who are online something, without storing it."}, e.notifyMembers)
	register(t, Command{Service: groupService, Name: "send_broadcast_msg", Changes: true, Rate: 1, Doc: "Sends a message to all live rooms."}, e.broadcast)
	register(t, Command{Service: groupService, Name: "get_online_member_num", Audience: Everyone, Doc: "Returns how many accounts are online in a group."}, e.onlineNumber)
}

type notifyRequest struct {
	GroupID group.ID        `json:"GroupId" wire:"required"`
	To      []group.Account `json:"ToMembers_Account" wire:"account" doc:"At most 500; not given: all members. Live rooms: always all."`
	Content string          `json:"Content" wire:"required,text"`
	TopicID string          `json:"TopicId" doc:"Topics are not offered."`
}

const maxNotified = 500

// notifyMembers goes through the lane, so that nobody is told after its removal returned.
func (e *env) notifyMembers(ctx context.Context, call *Call, r *notifyRequest) (*ok, error) {
	if len(r.To) > maxNotified {
		return nil, tooMany(len(r.To), maxNotified)
	}
	if len(r.Content) > e.cfg.BodyLimit {
		return nil, badParameter("Content has %d bytes, at most %d are allowed", len(r.Content), e.cfg.BodyLimit)
	}
	return nil, e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		s := &stage{Tx: tx, e: e, call: call}
		tell := func(a group.Account) {
			s.notice(a, "SystemNotification", notice{ReportType: reportCustom, Content: r.Content})
		}
		if !g.Type.Rules().StoresMembers {
			inside, _ := e.online.InGroup(g.Key(), 0)
			for _, in := range inside {
				tell(in)
			}
			return nil
		}
		if len(r.To) > 0 {
			for _, a := range distinct(r.To) {
				m, err := tx.Member(a)
				if err != nil {
					return err
				}
				if m != nil {
					tell(a)
				}
			}
			return nil
		}
		for row, err := range storage.Members.Scan(tx.Context(), tx.Store(), storage.Span{Prefix: storage.GroupPrefix(g.Key())}) {
			if err != nil {
				return err
			}
			tell(row.Value.Account)
		}
		return nil
	})
}

type broadcastRequest struct {
	From   group.Account   `json:"From_Account" wire:"account" doc:"Not given: the calling admin."`
	Random *uint32         `json:"Random"`
	Body   json.RawMessage `json:"MsgBody" wire:"required" type:"array"`
	Cloud  string          `json:"CloudCustomData" wire:"text"`
}

type broadcastResponse struct {
	Seq group.Seq `json:"MsgSeq" doc:"Each room counts for itself: the highest of the rooms' numbers. 0: no room took it."`
}

// maxBroadcasts bounds how many rooms are sent to at the same time.
const maxBroadcasts = 64

func (e *env) broadcast(ctx context.Context, call *Call, r *broadcastRequest) (*broadcastResponse, error) {
	if _, err := group.ParseBody(r.Body, e.cfg.BodyLimit-len(r.Cloud)); err != nil {
		return nil, err
	}
	from := call.Caller
	if r.From != "" {
		from = r.From
	}
	found, err := e.exists(ctx, from)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, noAccount(from)
	}
	var (
		mu      sync.Mutex
		failed  error
		highest group.Seq
		sending sync.WaitGroup
	)
	slots := make(chan struct{}, maxBroadcasts)
	for row, err := range storage.Groups.Scan(ctx, e.store, storage.Span{}) {
		if err != nil {
			failed = err
			break
		}
		if row.Value.Type != group.AVChatRoom {
			continue
		}
		d := &hooks.Draft{
			Group: row.Value.ID, From: from, Operator: call.Caller, ByAdmin: true, Origin: call.origin(), Body: r.Body, CloudCustomData: r.Cloud,
		}
		if r.Random != nil {
			d.Random, d.HasRandom = *r.Random, true
		}
		slots <- struct{}{}
		sending.Go(func() {
			defer func() { <-slots }()
			out := e.pipeline.Send(ctx, d)
			mu.Lock()
			defer mu.Unlock()
			if hooks.Retry(out.Err) {
				failed = out.Err
			}
			highest = max(highest, out.RoomSeq)
		})
	}
	sending.Wait()
	if failed != nil {
		return nil, failed
	}
	return &broadcastResponse{highest}, nil
}

type onlineResponse struct {
	Number int `json:"OnlineMemberNum"`
}

func (e *env) onlineNumber(ctx context.Context, call *Call, r *groupRequest) (*onlineResponse, error) {
	g, err := e.group(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	if g.Type.Rules().StoresMembers {
		if _, _, err := e.readable(ctx, call, r.GroupID); err != nil {
			return nil, err
		}
	}
	_, all := e.online.InGroup(g.Key(), 1)
	return &onlineResponse{all}, nil
}
