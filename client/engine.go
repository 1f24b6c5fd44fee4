package client

import (
	"context"
	"errors"
	"time"

	"github.com/rookery-im/rookery/group"
)

// An engine calls the handlers. It is one goroutine, so that what is shown has one order.
type engine struct {
	*Client
	synced *link // the connection whose synchronisation is complete
	begun  *link // the connection whose login was told
	failed int   // synchronisations in a row
	since  int64 // when the last synchronisation that was complete began, by the server's clock; 0: there was none
}

// run is the engine's goroutine; it ends with ctx.
func (c *Client) run(ctx context.Context) {
	e := &engine{Client: c}
	for ctx.Err() == nil {
		l, it, ok := c.queue.next(e.synced)
		switch {
		case l != nil:
			e.login(ctx, l)
		case ok:
			e.handle(ctx, &it)
		default:
			select {
			case <-c.queue.wake:
			case <-ctx.Done():
			}
		}
	}
	if kicked, ok := errors.AsType[*kickedError](c.Err()); ok {
		c.cfg.OnEvent(c, Kicked{kicked.reason})
	}
}

// login brings a new connection up to date; after a failure it is called again while the
// connection lasts.
func (e *engine) login(ctx context.Context, l *link) {
	if e.begun != l {
		e.begun = l
		e.failed = 0
		e.cfg.OnEvent(e.Client, Connected{})
	}
	err := e.synchronise(ctx, l)
	if err == nil {
		e.synced = l
		e.failed = 0
		e.attempts.Store(1)
		e.cfg.OnRefresh(e.Client)
		return
	}
	if !l.up() || ctx.Err() != nil {
		return
	}
	e.cfg.Log.Warn("not synchronised", "account", string(e.cfg.Account), "err", err)
	e.failed++
	_ = e.pause(ctx, l, e.failed) // whatever ends it, what is to be done then is asked anew
}

// handle shows one thing that has arrived.
func (e *engine) handle(ctx context.Context, it *item) {
	if it.event != nil {
		e.cfg.OnEvent(e.Client, it.event)
		return
	}
	m, ev, j, err := decodeItem(it)
	switch {
	case err != nil:
		e.cfg.Log.Warn("publish not understood", "account", string(e.cfg.Account), "err", err)
	case m != nil:
		e.arrived(ctx, it.link, *m)
	case !it.inbox && !e.news(ctx, j):
	default:
		// What an earlier connection said of our groups was overtaken by the synchronisation.
		if it.link == e.synced {
			e.apply(ctx, it.inbox, j)
		}
		e.cfg.OnEvent(e.Client, ev)
	}
}

// arrived shows a live message in its place.
func (e *engine) arrived(ctx context.Context, l *link, m Message) {
	if m.Seq == 0 { // not stored, so it has no place
		e.show(ctx, m, false)
		return
	}
	if l != e.synced {
		return // the synchronisation that is to come shows it, or has
	}
	var missing bool
	var from group.Seq
	e.update(ctx, m.Group, func(r *room) {
		if !r.known || !r.repaired() {
			r.known, r.pos.Shown = true, max(r.pos.Shown, m.Seq-1)
		}
		from = r.pos.Shown + 1
		missing = from < m.Seq
	})
	if missing {
		if err := e.repair(ctx, l, m.Group, from, m.Seq-1, true); err != nil {
			return // the connection is lost, and the next synchronisation begins where we are
		}
	}
	if from <= m.Seq {
		e.show(ctx, m, true)
	}
}

// show calls the handler, then notes that it was.
func (e *engine) show(ctx context.Context, m Message, live bool) {
	e.cfg.OnNewMessage(e.Client, m)
	e.update(ctx, m.Group, func(r *room) { r.shown(&m, e.cfg.Account, live) })
}

// repair shows the messages from…to out of history. An error means that the connection is lost
// or the client has ended; what history refuses or can't give in time is told as a Gap.
func (e *engine) repair(ctx context.Context, l *link, id group.ID, from, to group.Seq, live bool) error {
	call := func(ctx context.Context, command string, req, resp any) error {
		return e.callOver(ctx, l, command, req, resp)
	}
	deadline := time.Now().Add(e.cfg.RepairTimeout)
	for attempt := 0; from <= to; {
		end := min(from+maxPage-1, to)
		page, err := pull(ctx, call, id, from, end)
		switch {
		case err == nil:
			e.showPage(ctx, id, page, end, live)
			from, attempt, deadline = end+1, 0, time.Now().Add(e.cfg.RepairTimeout)
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case !l.up():
			return errLinkDown
		case refusedBy(err, group.CodeNotPermitted, group.CodeNoHistory):
			e.update(ctx, id, func(r *room) { r.noHistory = true })
			return nil
		case refusedBy(err, group.CodeNoGroup, group.CodeBadGroupID):
			return nil
		case time.Now().After(deadline):
			e.cfg.Log.Warn("history not pulled", "account", string(e.cfg.Account), "group", string(id), "err", err)
			e.skip(ctx, id, from, to)
			return nil
		}
		if err := e.pause(ctx, l, attempt); err != nil {
			return err
		}
		attempt++
	}
	return nil
}

// showPage shows the messages of a range up to and with end, and tells what has expired of it.
func (e *engine) showPage(ctx context.Context, id group.ID, page []Message, end group.Seq, live bool) {
	var gap Gap
	flush := func() {
		if gap.To > 0 {
			e.skip(ctx, id, gap.From, gap.To)
		}
		gap = Gap{}
	}
	for _, m := range page {
		switch {
		case m.expired():
			if gap.To == 0 {
				gap.From = m.Seq
			}
			gap.To = m.Seq
		case m.Recalled || m.Missing:
		default:
			flush()
			e.show(ctx, m, live)
		}
	}
	flush()
	e.update(ctx, id, func(r *room) { r.pos.Shown = max(r.pos.Shown, end) })
}

// skip tells of messages that are not shown.
func (e *engine) skip(ctx context.Context, id group.ID, from, to group.Seq) {
	e.cfg.OnEvent(e.Client, Gap{id, from, to})
	e.update(ctx, id, func(r *room) { r.pos.Shown = max(r.pos.Shown, to) })
}

// apply changes what we know of our groups by an event.
func (e *engine) apply(ctx context.Context, inbox bool, j *eventJSON) {
	switch {
	case j.GroupID == "":
	case inbox && (j.Event == "Left" || j.Event == "Dismissed"):
		e.forget(ctx, j.GroupID)
	case inbox && j.Event == "Joined":
		e.update(ctx, j.GroupID, func(r *room) { r.joined(j) })
	case inbox && j.Event == "ReadSync":
		e.update(ctx, j.GroupID, func(r *room) { r.readAs(&j.readState, j.Operator != "") })
	case inbox && j.MsgFlag != "":
		if option, ok := group.ParseReceiveOption(j.MsgFlag); ok {
			e.update(ctx, j.GroupID, func(r *room) { r.receive(option) })
		}
	case !inbox && j.Event == "Recall":
		e.update(ctx, j.GroupID, func(r *room) { r.recalled(j.Seq) })
	case !inbox && j.Event == "Modify":
		e.update(ctx, j.GroupID, func(r *room) { r.modified(j.Seq, j.Body, j.Cloud) })
	}
}

// news reports whether an event of a group tells what the synchronisation has not told already.
func (e *engine) news(ctx context.Context, j *eventJSON) (news bool) {
	if j.Change == 0 || j.GroupID == "" {
		return true
	}
	e.update(ctx, j.GroupID, func(r *room) {
		news = j.Change > r.pos.Changed
		// A number that was left out is of a change that others are told of, or of one that was
		// lost with an overflow of the queue: the next synchronisation tells which.
		if j.Change == r.pos.Changed+1 || r.pos.Joined == 0 && news {
			r.pos.Changed = j.Change
		}
	})
	return news
}
