package dispatch

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A partition is one part of the queue: the jobs of the groups whose ids hash to it. One
// goroutine of the worker that holds the partition looks at their members.
type partition struct {
	d      *Dispatcher
	number int
	wake   chan struct{}

	heldUntil atomic.Int64 // Unix milliseconds; the partition is ours until then
	busy      map[group.Key]*busyGroup
	jobs      atomic.Int64 // that wait, as of counted
	counted   time.Time
	targets   atomic.Int64 // devices in tasks

	leaving atomic.Bool  // nothing new is begun: another worker is to have it
	begun   atomic.Int64 // rounds and sends under way
}

// A busyGroup counts what a group was pushed lately.
type busyGroup struct {
	since time.Time // of the interval
	sent  int       // in it
	over  bool      // there was more than that
	again bool      // the interval before had too much already
}

// windowJobs is how many jobs of a partition are in memory at a time, the oldest first.
const windowJobs = 256

// batchTasks and batchMuts end the gathering of small pages into one write.
const (
	batchTargets = 2000
	batchJobs    = 128
)

// held reports whether the partition is ours for some time still.
func (p *partition) held() bool { return time.Now().UnixMilli() < p.heldUntil.Load() }

// begin reports whether something new may be begun; end follows then.
func (p *partition) begin() bool {
	p.begun.Add(1)
	if p.leaving.Load() || !p.held() {
		p.begun.Add(-1)
		return false
	}
	return true
}

func (p *partition) end() { p.begun.Add(-1) }

func (p *partition) addTargets(n int) {
	p.targets.Add(int64(n))
	p.d.queued.Add(int64(n))
}

func (p *partition) setTargets(n int) { p.d.queued.Add(int64(n) - p.targets.Swap(int64(n))) }

func (p *partition) setJobs(n int) { p.d.queued.Add(int64(n) - p.jobs.Swap(int64(n))) }

// run works until ctx ends.
func (p *partition) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := p.d.cfg.Poll
		if p.begin() {
			again, err := p.round(ctx)
			p.end()
			if err != nil && ctx.Err() == nil {
				p.d.log.Warn("push queue not worked off", "err", err)
			}
			if again == 0 && err == nil {
				continue
			}
			if again > 0 {
				wait = min(wait, again)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// An expansion gathers what several pages write.
type expansion struct {
	muts    []storage.Mutation
	tasks   []newTask
	targets int
	ended   int // jobs
}

type newTask struct {
	line *line
	key  string
	row  *storage.PushTask
}

// round takes each job that is due one page further. It returns how long to wait for the next
// round, 0 for not at all.
func (p *partition) round(ctx context.Context) (wait time.Duration, err error) {
	d := p.d
	var window []storage.Row[storage.PushJob]
	for row, err := range storage.PushJobs.Scan(ctx, d.store, storage.Span{Prefix: storage.Prefix(partName(p.number)), Limit: windowJobs}) {
		if err != nil {
			return d.cfg.Poll, err
		}
		window = append(window, row)
	}
	if err := p.count(ctx, len(window)); err != nil {
		return d.cfg.Poll, err
	}
	if len(window) == 0 {
		return d.cfg.Poll, nil
	}
	now := time.Now()
	plan := p.plan(window, now)
	x := new(expansion)
	for reason, keys := range plan.drop {
		for _, key := range keys {
			x.muts = append(x.muts, storage.PushJobs.Delete(key))
			x.ended++
		}
		d.metrics.dropped.WithLabelValues(reason).Add(float64(len(keys)))
	}
	progress := len(x.muts) > 0
	for _, row := range plan.take {
		moved, err := p.page(ctx, row.Key, row.Value, x)
		if err != nil {
			return d.cfg.Poll, err
		}
		progress = progress || moved
		if x.targets >= batchTargets || x.ended >= batchJobs {
			if err := p.write(ctx, x); err != nil {
				return d.cfg.Poll, err
			}
			x = new(expansion)
		}
	}
	if err := p.write(ctx, x); err != nil {
		return d.cfg.Poll, err
	}
	if progress {
		return 0, nil
	}
	return plan.wait, nil
}

// count finds out how many jobs wait: those in the window or, if it is full, now and then all.
func (p *partition) count(ctx context.Context, window int) error {
	n := window
	if window == windowJobs {
		if time.Since(p.counted) < time.Second {
			return nil
		}
		n = 0
		span := storage.Span{Prefix: storage.Prefix(partName(p.number)), Limit: 2*p.d.cfg.QueueEntries + 1}
		for _, err := range p.d.store.Scan(ctx, storage.PushJobs.Name, span) {
			if err != nil {
				return err
			}
			n++
		}
		p.counted = time.Now()
	}
	p.setJobs(n)
	return nil
}

// A plan says what becomes of the jobs in a window.
type plan struct {
	take []storage.Row[storage.PushJob]
	drop map[string][]string // keys by reason
	wait time.Duration
}

// plan applies the deadline, the bound of the queue and the rule for busy groups.
func (p *partition) plan(window []storage.Row[storage.PushJob], now time.Time) plan {
	d := p.d
	out := plan{drop: make(map[string][]string), wait: d.cfg.Poll}
	for key, b := range p.busy {
		switch {
		case now.Sub(b.since) < d.cfg.CollapseInterval:
		case b.over:
			*b = busyGroup{since: now, sent: d.cfg.CollapseAfter - 1, again: true}
		default:
			delete(p.busy, key)
		}
	}
	over := d.queued.Load() - int64(d.cfg.QueueEntries)
	waiting := make(map[group.Key][]storage.Row[storage.PushJob]) // collapsible and not begun, by group
	for _, row := range window {
		j := row.Value
		switch {
		case now.Sub(time.Unix(j.Time, 0)) >= d.cfg.Deadline:
			out.drop[dropDeadline] = append(out.drop[dropDeadline], row.Key)
		case over > 0 && !j.High && j.Page == 0:
			over--
			out.drop[dropOverflow] = append(out.drop[dropOverflow], row.Key)
		case j.Alone || j.Page > 0 || d.cfg.CollapseAfter < 0:
			out.take = append(out.take, row)
		default:
			waiting[j.Key()] = append(waiting[j.Key()], row)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(waiting), compareKeys) {
		rows := waiting[key]
		b := p.busy[key]
		if b == nil {
			b = &busyGroup{since: now}
			p.busy[key] = b
		}
		room := max(d.cfg.CollapseAfter-b.sent, 0)
		if len(rows) <= room {
			for _, row := range rows {
				row.Value.Collapse = b.again
			}
			out.take = append(out.take, rows...)
			b.sent += len(rows)
			continue
		}
		// Too many: the newest stands for all, now if there is room and else when the
		// interval is over.
		b.over = true
		last := rows[len(rows)-1]
		for _, row := range rows[:len(rows)-1] {
			out.drop[dropCollapsed] = append(out.drop[dropCollapsed], row.Key)
		}
		last.Value.Collapse = true
		if room > 0 {
			b.sent = d.cfg.CollapseAfter
			out.take = append(out.take, last)
			continue
		}
		out.wait = min(out.wait, max(b.since.Add(d.cfg.CollapseInterval).Sub(now), time.Millisecond))
	}
	return out
}

func compareKeys(a, b group.Key) int {
	switch {
	case a.ID < b.ID:
		return -1
	case a.ID > b.ID:
		return 1
	}
	return int(min(1, max(-1, a.Incarnation-b.Incarnation)))
}

// write makes the gathered pages durable and hands their tasks to the lines.
func (p *partition) write(ctx context.Context, x *expansion) error {
	if len(x.muts) == 0 {
		return nil
	}
	p.d.makeRoom(ctx, x.targets)
	if !p.held() {
		return context.DeadlineExceeded // somebody else has the partition by now
	}
	for _, t := range x.tasks {
		t.line.expect(t.key)
	}
	if err := p.d.store.Apply(ctx, x.muts...); err != nil {
		for _, t := range x.tasks {
			t.line.missed(t.key)
		}
		return err
	}
	p.jobs.Add(int64(-x.ended))
	p.d.queued.Add(int64(-x.ended))
	p.addTargets(x.targets)
	for _, t := range x.tasks {
		t.line.offer(t.key, p, t.row)
	}
	return nil
}

// page adds the next page of the job to x and reports whether there is one: a job whose message
// is not in the log yet waits.
func (p *partition) page(ctx context.Context, jobKey string, j *storage.PushJob, x *expansion) (moved bool, err error) {
	d := p.d
	d.slots <- struct{}{}
	defer func() { <-d.slots }()
	n, err := d.note(ctx, j.Key(), j.Seq, j.ID, j.Time)
	if err != nil || n.early {
		return false, err
	}
	end := func(reason string) {
		if reason != "" {
			d.metrics.dropped.WithLabelValues(reason).Inc()
		}
		x.muts = append(x.muts, storage.PushJobs.Delete(jobKey))
		x.ended++
	}
	if n.plain == nil {
		end(dropWithdrawn)
		return true, nil
	}
	members, more, err := d.members(ctx, j, n)
	if err != nil {
		return false, err
	}
	targets, err := d.targets(ctx, n, members)
	if err != nil {
		return false, err
	}
	for _, l := range d.lines {
		number := 0
		for part := range slices.Chunk(targets[l], l.batch) {
			row := &storage.PushTask{
				Group: j.Group, Incarnation: j.Incarnation, Seq: j.Seq, ID: j.ID, Time: j.Time, High: j.High,
				Collapse: j.Collapse, Targets: part,
			}
			key := taskKey(p.number, l.name, j, number)
			number++
			x.muts = append(x.muts, storage.PushTasks.Put(key, row))
			x.tasks = append(x.tasks, newTask{l, key, row})
			x.targets += len(part)
		}
	}
	d.metrics.members.Add(float64(len(members)))
	if !more {
		end("")
		return true, nil
	}
	// Last: a store that applies a prefix leaves the page to be done again.
	next := *j
	next.Page++
	next.After = storage.MemberKey(j.Key(), members[len(members)-1].Account)
	x.muts = append(x.muts, storage.PushJobs.Put(jobKey, &next))
	return true, nil
}

// members returns the next page of the job's members, and whether there may be more.
func (d *Dispatcher) members(ctx context.Context, j *storage.PushJob, n *note) (page []*group.Member, more bool, err error) {
	if to := n.message.To; len(to) > 0 {
		keys := make([]string, len(to))
		for i, a := range to {
			keys[i] = storage.MemberKey(j.Key(), a)
		}
		page, err = storage.Members.GetMany(ctx, d.store, keys)
		return slices.DeleteFunc(page, func(m *group.Member) bool { return m == nil }), false, err
	}
	span := storage.Span{Prefix: storage.GroupPrefix(j.Key()), After: j.After, Limit: d.cfg.PageSize}
	for row, err := range storage.Members.Scan(ctx, d.store, span) {
		if err != nil {
			return nil, false, err
		}
		page = append(page, row.Value)
	}
	return page, len(page) == d.cfg.PageSize, nil
}

// targets applies the rules to the members and returns the devices to push to, by line.
func (d *Dispatcher) targets(ctx context.Context, n *note, members []*group.Member) (map[*line][]storage.PushTarget, error) {
	c := candidate{group: n.group, message: n.message, now: time.Now()}
	var accounts []*group.Member
	var keys []string
	for _, m := range members {
		c.member, c.account = m, m.Account
		if c.broken(ofMember) == nil {
			accounts, keys = append(accounts, m), append(keys, storage.AccountKey(m.Account))
		}
	}
	users, err := storage.PushUsers.GetMany(ctx, d.store, keys)
	if err != nil {
		return nil, err
	}
	out := make(map[*line][]storage.PushTarget)
	for i, m := range accounts {
		c.member, c.account, c.user = m, m.Account, users[i]
		if c.user == nil || len(c.user.Devices) == 0 || c.broken(ofUser) != nil {
			continue
		}
		c.connected = d.presence.Connected(m.Account)
		for k := range c.user.Devices {
			c.device = &c.user.Devices[k]
			l := d.byName[c.device.App]
			if c.known = l != nil; c.broken(ofDevice) == nil {
				out[l] = append(out[l], storage.PushTarget{Account: m.Account, Device: c.device.Device})
			}
		}
	}
	return out, nil
}
