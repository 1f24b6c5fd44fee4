package command

import (
	"cmp"
	"context"
	"slices"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerExtensions() {
	e := t.env
	register(t, Command{Service: extensionService, Name: "group_set_key_values", Audience: Everyone, Changes: true, Doc: "Sets or deletes the extensions of a message."}, e.setExtensions)
	register(t, Command{Service: extensionService, Name: "group_get_key_values", Audience: Everyone, Doc: "Returns the extensions of a message."}, e.getExtensions)
}

const (
	extensionSet    = 1
	extensionDelete = 2
	extensionClear  = 3

	maxExtensionKey     = 100  // bytes
	maxExtensionValue   = 1000 // bytes
	maxExtensionsCall   = 20
	maxExtensions       = 300
	maxExtensionsAnswer = 200
	maxExtensionChanges = 200 // a minute and message

	codeExtensionConflict = 23001
	codeNoExtensions      = 23002
	codeExtensionsTooFast = 23003
	codeExtensionNoMsg    = 23004
)

type extension struct {
	Key   string `json:"Key" wire:"required"`
	Value string `json:"Value" wire:"text"`
	Seq   int64  `json:"Seq" doc:"The lock: what the key's Seq was before, 0 first. Ignored from app admins."`
}

type setExtensionsRequest struct {
	GroupID    group.ID    `json:"GroupId" wire:"required"`
	Seq        group.Seq   `json:"MsgSeq" wire:"required"`
	Operate    int         `json:"OperateType" wire:"required" doc:"1 set, 2 delete some, 3 delete all."`
	Extensions []extension `json:"ExtensionList" doc:"At most 20."`
}

type extensionResult struct {
	Code      int       `json:"ErrorCode" doc:"0, or 23001: somebody else changed it."`
	Extension extension `json:"Extension"`
}

type setExtensionsResponse struct {
	Extensions []extensionResult `json:"ExtensionList"`
}

// extensionEvent is what members are told of changed extensions.
type extensionEvent struct {
	Seq     group.Seq   `json:"MsgSeq"`
	Set     []extension `json:"SetKVInfo,omitempty"`
	Deleted []extension `json:"DeleteKVInfo,omitempty"`
	Cleared bool        `json:"ClearKVInfo,omitempty"`
	Latest  int64       `json:"LatestSeq"`
}

func (r *setExtensionsRequest) check() error {
	switch {
	case r.Operate < extensionSet || r.Operate > extensionClear:
		return badParameter("OperateType must be 1, 2 or 3")
	case r.Operate != extensionClear && (len(r.Extensions) == 0 || len(r.Extensions) > maxExtensionsCall):
		return badParameter("ExtensionList has %d entries, 1 to %d are allowed", len(r.Extensions), maxExtensionsCall)
	}
	seen := make(map[string]bool)
	for _, x := range r.Extensions {
		switch {
		case x.Key == "" || len(x.Key) > maxExtensionKey || len(x.Value) > maxExtensionValue:
			return badParameter("a key has 1 to %d bytes, a value at most %d", maxExtensionKey, maxExtensionValue)
		case seen[x.Key]:
			return badParameter("a key is given twice")
		}
		seen[x.Key] = true
	}
	return nil
}

func extensionKey(key group.Key, seq group.Seq) string {
	return storage.GroupRecordKey(key, storage.Num(int64(seq)))
}

func (e *env) setExtensions(ctx context.Context, call *Call, r *setExtensionsRequest) (*setExtensionsResponse, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	resp := &setExtensionsResponse{}
	err := e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		var member *group.Member
		if !call.Admin {
			var err error
			if member, err = tx.Member(call.Caller); err != nil {
				return err
			}
			if member == nil {
				return notPermitted("only members may do this")
			}
		}
		m, err := messageAt(tx.Context(), tx.Store(), g.Key(), r.Seq)
		if err != nil {
			return err
		}
		if err := extensible(g, member, m); err != nil {
			return err
		}
		row := extensionKey(g.Key(), r.Seq)
		set, err := storage.Extensions.Find(tx.Context(), tx.Store(), row)
		if err != nil {
			return err
		}
		if set == nil {
			set = &storage.ExtensionSet{}
		}
		if set.Values == nil {
			set.Values = make(map[string]storage.Extension)
		}
		if minute := tx.Now().Unix() / 60; set.Minute != minute {
			set.Minute, set.Changes = minute, 0
		}
		if set.Changes += max(1, len(r.Extensions)); set.Changes > maxExtensionChanges {
			return group.Errorf(codeExtensionsTooFast, "at most %d changes a minute", maxExtensionChanges)
		}
		event, results, err := changeExtensions(set, r, call.Admin)
		if err != nil {
			return err
		}
		resp.Extensions = results
		tx.Write(storage.Extensions.Put(row, set))
		if len(event.Set)+len(event.Deleted) > 0 || event.Cleared {
			tx.Event(eventOf(g, m, "Extension", event))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// extensible refuses messages that take no extensions, or are not the member's to see; app
// admins are no member and see all.
func extensible(g *group.Group, member *group.Member, m *group.Message) error {
	switch {
	case m == nil || m.State != group.Live || member != nil && !mayRead(g, member, m):
		return group.Errorf(codeExtensionNoMsg, "there is no such message")
	case !m.Has(group.Extensions) || !g.Type.Rules().Receipts: // the same three types have both
		return group.Errorf(codeNoExtensions, "the message takes no extensions")
	}
	return nil
}

// changeExtensions changes set as r asks.
func changeExtensions(set *storage.ExtensionSet, r *setExtensionsRequest, admin bool) (event extensionEvent, results []extensionResult, err error) {
	event.Seq = r.Seq
	if r.Operate == extensionClear {
		set.Seq++
		set.ClearSeq = set.Seq
		clear(set.Values)
		event.Cleared, event.Latest = true, set.Seq
		return event, nil, nil
	}
	for _, x := range r.Extensions {
		have := set.Values[x.Key]
		if !admin && x.Seq != have.Seq {
			results = append(results, extensionResult{codeExtensionConflict, extension{x.Key, have.Value, have.Seq}})
			continue
		}
		set.Seq++
		now := storage.Extension{Value: x.Value, Seq: have.Seq + 1, At: set.Seq}
		if r.Operate == extensionDelete {
			now.Value, now.Deleted = "", true
		}
		set.Values[x.Key] = now
		out := extension{x.Key, now.Value, now.Seq}
		results = append(results, extensionResult{0, out})
		if now.Deleted {
			event.Deleted = append(event.Deleted, out)
		} else {
			event.Set = append(event.Set, out)
		}
	}
	if n := forgetDeleted(set); n > maxExtensions {
		return event, nil, badParameter("the message would have %d extensions, at most %d are allowed", n, maxExtensions)
	}
	event.Latest = set.Seq
	return event, results, nil
}

// forgetDeleted returns how many extensions there are. Of those that were deleted, whose locks
// live on, it keeps as many as a message may have, the latest.
func forgetDeleted(set *storage.ExtensionSet) int {
	var deleted []string
	for k, v := range set.Values {
		if v.Deleted {
			deleted = append(deleted, k)
		}
	}
	n := len(set.Values) - len(deleted)
	if len(deleted) > maxExtensions {
		slices.SortFunc(deleted, func(a, b string) int { return cmp.Compare(set.Values[b].At, set.Values[a].At) })
		for _, k := range deleted[maxExtensions:] {
			delete(set.Values, k)
		}
	}
	return n
}

type getExtensionsRequest struct {
	GroupID group.ID  `json:"GroupId" wire:"required"`
	Seq     group.Seq `json:"MsgSeq" wire:"required"`
	Start   int64     `json:"StartSeq" doc:"Only what changed after this LatestSeq; not given: all."`
}

type getExtensionsResponse struct {
	Complete   int         `json:"CompleteFlag" doc:"1: all; 0: ask again from LatestSeq."`
	Latest     int64       `json:"LatestSeq"`
	ClearSeq   int64       `json:"ClearSeq"`
	Extensions []extension `json:"ExtensionList"`
}

func (e *env) getExtensions(ctx context.Context, call *Call, r *getExtensionsRequest) (*getExtensionsResponse, error) {
	g, member, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	m, err := messageAt(ctx, e.store, g.Key(), r.Seq)
	if err != nil {
		return nil, err
	}
	if err := extensible(g, member, m); err != nil {
		return nil, err
	}
	set, err := storage.Extensions.Find(ctx, e.store, extensionKey(g.Key(), r.Seq))
	if err != nil {
		return nil, err
	}
	resp := &getExtensionsResponse{Complete: 1}
	if set == nil {
		return resp, nil
	}
	type row struct {
		key string
		storage.Extension
	}
	var rows []row
	for k, v := range set.Values {
		if v.At > r.Start && !v.Deleted {
			rows = append(rows, row{k, v})
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.At, b.At) })
	resp.Latest, resp.ClearSeq = set.Seq, set.ClearSeq
	if len(rows) > maxExtensionsAnswer {
		rows = rows[:maxExtensionsAnswer]
		resp.Complete, resp.Latest = 0, rows[len(rows)-1].At
	}
	for _, r := range rows {
		resp.Extensions = append(resp.Extensions, extension{r.key, r.Value, r.Seq})
	}
	return resp, nil
}
