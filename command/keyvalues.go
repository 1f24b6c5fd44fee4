package command

import (
	"context"
	"maps"
	"slices"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerKeyValues() {
	e := t.env
	both := []string{attrService}
	register(t, Command{Service: groupService, ServiceAliases: both, Name: "get_group_attr", Audience: Everyone, Doc: "Returns a group's attributes."}, e.getAttributes)
	register(t, Command{Service: groupService, ServiceAliases: both, Name: "modify_group_attr", Changes: true, Doc: "Adds attributes and overwrites those that are there."}, e.modifyAttributes)
	register(t, Command{Service: groupService, ServiceAliases: both, Name: "set_group_attr", Changes: true, Doc: "Replaces all attributes."}, e.setAttributes)
	register(t, Command{Service: groupService, ServiceAliases: both, Name: "delete_group_attr", Changes: true, Doc: "Deletes attributes."}, e.deleteAttributes)
	register(t, Command{Service: groupService, ServiceAliases: both, Name: "clear_group_attr", Changes: true, Doc: "Deletes all attributes."}, e.clearAttributes)
	register(t, Command{Service: groupService, Name: "get_group_counter", Audience: Everyone, Doc: "Returns a group's counters."}, e.getCounters)
	register(t, Command{Service: groupService, Name: "update_group_counter", Changes: true, Doc: "Sets, increases or decreases counters."}, e.updateCounters)
	register(t, Command{Service: groupService, Name: "delete_group_counter", Changes: true, Doc: "Deletes counters."}, e.deleteCounters)
}

const (
	maxAttrKey     = 32 // bytes
	maxAttrValue   = 4000
	maxAttrs       = 16
	maxAttrBytes   = 16_000
	maxAttrWrites  = 5   // a second and group
	maxCounterKey  = 128 // bytes
	maxCounters    = 20
	counterAdd     = "Increase"
	counterSub     = "Decrease"
	counterReplace = "Set"
)

type attribute struct {
	Key   string `json:"key" wire:"required"`
	Value string `json:"value" wire:"text"`
}

type attrResponse struct {
	Attributes []attribute `json:"GroupAttrAry"`
}

type attrRequest struct {
	GroupID    group.ID    `json:"GroupId" wire:"required"`
	Attributes []attribute `json:"GroupAttr" wire:"required"`
}

// afterAttrs is the body of Group.CallbackAfterGroupAttrChanged.
type afterAttrs struct {
	callback
	Operator   group.Account `json:"Operator_Account"`
	Option     string        `json:"OptionType"`
	Attributes []attribute   `json:"GroupAttr"`
}

// attrEvent is what members are told of changed attributes.
type attrEvent struct {
	Option     string      `json:"GroupAttrOption"`
	Attributes []attribute `json:"GroupAttrInfo"`
	Seq        int64       `json:"GroupAttrSeq"`
}

func (e *env) getAttributes(ctx context.Context, call *Call, r *groupRequest) (*attrResponse, error) {
	g, _, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	set, err := storage.Attributes.Find(ctx, e.store, storage.GroupRecordKey(g.Key()))
	if err != nil {
		return nil, err
	}
	resp := &attrResponse{}
	if set != nil {
		for _, k := range slices.Sorted(maps.Keys(set.Values)) {
			resp.Attributes = append(resp.Attributes, attribute{k, set.Values[k]})
		}
	}
	return resp, nil
}

func (e *env) modifyAttributes(ctx context.Context, call *Call, r *attrRequest) (*ok, error) {
	return e.changeAttributes(ctx, call, r.GroupID, "modify", r.Attributes, func(have map[string]string) error {
		for _, a := range r.Attributes {
			have[a.Key] = a.Value
		}
		return nil
	})
}

func (e *env) setAttributes(ctx context.Context, call *Call, r *attrRequest) (*ok, error) {
	return e.changeAttributes(ctx, call, r.GroupID, "set", r.Attributes, func(have map[string]string) error {
		clear(have)
		for _, a := range r.Attributes {
			have[a.Key] = a.Value
		}
		return nil
	})
}

func (e *env) deleteAttributes(ctx context.Context, call *Call, r *attrRequest) (*ok, error) {
	return e.changeAttributes(ctx, call, r.GroupID, "delete", r.Attributes, func(have map[string]string) error {
		for _, a := range r.Attributes {
			if _, had := have[a.Key]; !had {
				return group.Errorf(group.CodeNoAttr, "there is no attribute %.40q", a.Key)
			}
			delete(have, a.Key)
		}
		return nil
	})
}

func (e *env) clearAttributes(ctx context.Context, call *Call, r *groupRequest) (*ok, error) {
	return e.changeAttributes(ctx, call, r.GroupID, "clear", []attribute{}, func(have map[string]string) error {
		clear(have)
		return nil
	})
}

// changeAttributes changes the group's attributes in its lane and tells members and the app.
func (e *env) changeAttributes(ctx context.Context, call *Call, id group.ID, option string, given []attribute, change func(map[string]string) error) (*ok, error) {
	if option != "clear" && len(given) == 0 {
		return nil, badParameter("GroupAttr is empty")
	}
	for _, a := range given {
		switch {
		case a.Key == "" || len(a.Key) > maxAttrKey:
			return nil, group.Errorf(group.CodeAttrKeyTooLong, "a key has 1 to %d bytes", maxAttrKey)
		case len(a.Value) > maxAttrValue:
			return nil, group.Errorf(group.CodeAttrValueTooLong, "a value has at most %d bytes", maxAttrValue)
		}
	}
	return nil, e.update(ctx, id, func(tx *hooks.Tx, g *group.Group) error {
		row := storage.GroupRecordKey(g.Key())
		set, err := storage.Attributes.Find(tx.Context(), tx.Store(), row)
		if err != nil {
			return err
		}
		if set == nil {
			set = &storage.AttributeSet{}
		}
		if set.Values == nil {
			set.Values = make(map[string]string)
		}
		now := tx.Now().UnixMilli()
		set.Recent = append(slices.DeleteFunc(set.Recent, func(at int64) bool { return at <= now-1000 || at > now }), now)
		if len(set.Recent) > maxAttrWrites {
			return group.Errorf(group.CodeAttrTooFrequent, "at most %d changes a second", maxAttrWrites)
		}
		if err := change(set.Values); err != nil {
			return err
		}
		size := 0
		for _, v := range set.Values {
			size += len(v)
		}
		switch {
		case len(set.Values) > maxAttrs:
			return group.Errorf(group.CodeTooManyAttrs, "%d attributes, at most %d are allowed", len(set.Values), maxAttrs)
		case size > maxAttrBytes:
			return group.Errorf(group.CodeAttrsTooLarge, "the values have %d bytes, at most %d are allowed", size, maxAttrBytes)
		}
		set.Seq++
		tx.Write(storage.Attributes.Put(row, set))
		tx.Event(hooks.Event{Name: "Attributes", Body: attrEvent{option, given, set.Seq}})
		s := &stage{Tx: tx, e: e, call: call}
		body := afterAttrs{callback: s.head("Group.CallbackAfterGroupAttrChanged"), Operator: call.Caller, Option: option, Attributes: given}
		tx.Callback(body.Command, body)
		return nil
	})
}

type counter struct {
	Key   string `json:"Key" wire:"required"`
	Value int64  `json:"Value"`
}

type counterKeysRequest struct {
	GroupID group.ID `json:"GroupId" wire:"required"`
	Keys    []string `json:"GroupCounterKeys" doc:"Not given: all."`
}

type counterRequest struct {
	GroupID  group.ID  `json:"GroupId" wire:"required"`
	Counters []counter `json:"GroupCounter" wire:"required"`
	Mode     string    `json:"Mode" doc:"Set (the default), Increase or Decrease."`
}

type counterResponse struct {
	Counters []counter `json:"GroupCounter"`
}

// counterEvent is what members are told of changed counters.
type counterEvent struct {
	Counters []counter `json:"GroupCounter"`
}

func withCounters(g *group.Group) error {
	if !g.Type.Rules().Counters {
		return notPermitted("groups of type %s have no counters", g.Type)
	}
	return nil
}

func (e *env) getCounters(ctx context.Context, call *Call, r *counterKeysRequest) (*counterResponse, error) {
	g, _, err := e.readable(ctx, call, r.GroupID)
	if err != nil {
		return nil, err
	}
	if err := withCounters(g); err != nil {
		return nil, err
	}
	set, err := storage.Counters.Find(ctx, e.store, storage.GroupRecordKey(g.Key()))
	if err != nil {
		return nil, err
	}
	resp := &counterResponse{}
	if set != nil {
		for _, k := range slices.Sorted(maps.Keys(set.Values)) {
			if len(r.Keys) == 0 || slices.Contains(r.Keys, k) {
				resp.Counters = append(resp.Counters, counter{k, set.Values[k]})
			}
		}
	}
	return resp, nil
}

func (e *env) updateCounters(ctx context.Context, _ *Call, r *counterRequest) (*counterResponse, error) {
	switch r.Mode {
	case "", counterReplace, counterAdd, counterSub:
	default:
		return nil, badParameter("Mode must be Set, Increase or Decrease")
	}
	if len(r.Counters) == 0 {
		return nil, badParameter("GroupCounter is empty")
	}
	for _, c := range r.Counters {
		if c.Key == "" || len(c.Key) > maxCounterKey {
			return nil, badParameter("a counter's key has 1 to %d bytes", maxCounterKey)
		}
	}
	var resp *counterResponse
	err := e.changeCounters(ctx, r.GroupID, func(values map[string]int64) (changed []counter, err error) {
		for _, c := range r.Counters {
			n, fits := c.Value, true
			switch r.Mode {
			case counterAdd:
				n, fits = add(values[c.Key], c.Value)
			case counterSub:
				n = values[c.Key] - c.Value
				fits = (n <= values[c.Key]) == (c.Value >= 0)
			}
			if !fits {
				return nil, badParameter("counter %.40q would be out of range", c.Key)
			}
			values[c.Key] = n
			changed = append(changed, counter{c.Key, n})
		}
		if len(values) > maxCounters {
			return nil, group.Errorf(group.CodeTooManyCounters, "%d counters, at most %d are allowed", len(values), maxCounters)
		}
		resp = &counterResponse{changed}
		return changed, nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// add returns a+b, and whether it is in range.
func add(a, b int64) (int64, bool) {
	n := a + b
	return n, (n >= a) == (b >= 0)
}

func (e *env) deleteCounters(ctx context.Context, _ *Call, r *counterKeysRequest) (*ok, error) {
	return nil, e.changeCounters(ctx, r.GroupID, func(values map[string]int64) (changed []counter, err error) {
		keys := r.Keys
		if len(keys) == 0 {
			keys = slices.Sorted(maps.Keys(values))
		}
		for _, k := range keys {
			if _, had := values[k]; had {
				delete(values, k)
				changed = append(changed, counter{k, 0})
			}
		}
		return changed, nil
	})
}

// changeCounters changes the group's counters in its lane and tells members.
func (e *env) changeCounters(ctx context.Context, id group.ID, change func(map[string]int64) ([]counter, error)) error {
	return e.update(ctx, id, func(tx *hooks.Tx, g *group.Group) error {
		if err := withCounters(g); err != nil {
			return err
		}
		row := storage.GroupRecordKey(g.Key())
		set, err := storage.Counters.Find(tx.Context(), tx.Store(), row)
		if err != nil {
			return err
		}
		if set == nil {
			set = &storage.CounterSet{}
		}
		if set.Values == nil {
			set.Values = make(map[string]int64)
		}
		changed, err := change(set.Values)
		if err != nil || len(changed) == 0 {
			return err
		}
		tx.Write(storage.Counters.Put(row, set))
		tx.Event(hooks.Event{Name: "Counter", Body: counterEvent{changed}})
		return nil
	})
}
