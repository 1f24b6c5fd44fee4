package dispatch

import (
	"cmp"
	"container/heap"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
)

// A line sends the tasks of one provider app. It keeps a window of them in memory, the rest
// is in the store alone.
type line struct {
	d        *Dispatcher
	name     string
	id       string
	provider push.Provider
	batch    int
	gate     *push.Gate
	receipts push.ReceiptSource // nil: the vendor sends none
	guard    *push.RemovalGuard
	wake     chan struct{}

	mu      sync.Mutex
	tasks   map[string]*task // by key
	ready   taskHeap
	window  int             // how many tasks are in memory at most
	targets int             // of all tasks in memory
	more    bool            // the store may have tasks that are not in memory
	gone    map[string]bool // tasks that ended while refill reads: it may have read them before
	coming  map[string]bool // tasks that are being written and will be offered: refill leaves them alone
	hold    time.Time       // nothing is sent before it
	sends   int             // under way
	devices int             // in them
	refused []string        // the last messages that a vendor refused as built, with its codes
}

// maxRefused bounds the refusals that are remembered, to log each once.
const maxRefused = 64

// A task is a row of PushTasks in memory.
type task struct {
	key   string
	part  *partition
	row   *storage.PushTask
	due   time.Time
	over  bool // it is past its deadline
	index int  // in the heap; -1: it is being sent, recorded or dropped
}

// What a line keeps in memory: below the first mark it looks into the store for more.
const (
	windowTasks   = 4096
	windowTargets = 40_000
)

func newLine(d *Dispatcher, app App) *line {
	receipts, _ := app.Provider.(push.ReceiptSource)
	return &line{
		d: d, receipts: receipts, name: app.Provider.Name(), id: app.ID, provider: app.Provider, batch: max(app.Provider.BatchSize(), 1),
		gate: push.NewGate(d.cfg.Gate), guard: push.NewRemovalGuard(d.cfg.Removal),
		wake: make(chan struct{}, 1), tasks: make(map[string]*task), coming: make(map[string]bool), window: windowTasks, more: true,
	}
}

// expect announces a task that is about to be written; offer or missed follows.
func (l *line) expect(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.coming[key] = true
}

// offer takes a task that is durable, unless the window is full.
func (l *line) offer(key string, p *partition, row *storage.PushTask) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.coming, key)
	l.add(key, p, row)
	wake(l.wake)
}

// missed takes an announcement back: the task may have been written or not.
func (l *line) missed(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.coming, key)
	l.more = true
}

// add puts a task into the window; l.mu is held.
func (l *line) add(key string, p *partition, row *storage.PushTask) bool {
	if l.tasks[key] != nil || l.gone[key] || l.coming[key] {
		return true
	}
	if l.full() {
		l.more = true
		return false
	}
	t := &task{key: key, part: p, row: row, due: time.UnixMilli(row.NotBefore), index: -1}
	l.tasks[key] = t
	l.targets += len(row.Targets)
	heap.Push(&l.ready, t)
	return true
}

func (l *line) full() bool { return len(l.tasks) >= l.window || l.targets >= windowTargets }

// drop takes a task out of the window; l.mu is held.
func (l *line) drop(t *task) {
	if t.index >= 0 {
		heap.Remove(&l.ready, t.index)
	}
	delete(l.tasks, t.key)
	l.targets -= len(t.row.Targets)
	if l.gone != nil {
		l.gone[t.key] = true
	}
}

// run sends until ctx ends, and returns when what was under way has ended. late is the
// context of the calls.
func (l *line) run(ctx, late context.Context) {
	var sends sync.WaitGroup
	defer sends.Wait()
	for ctx.Err() == nil {
		if err := l.refill(ctx); err != nil && ctx.Err() == nil {
			l.d.log.Warn("push tasks not read", "provider", l.name, "err", err)
		}
		t, wait := l.next(time.Now())
		if t != nil {
			sends.Go(func() { l.work(late, t) })
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// refill reads tasks from the store where the window has become half empty.
func (l *line) refill(ctx context.Context) error {
	l.mu.Lock()
	need := l.more && len(l.tasks) < l.window/2 && l.targets < windowTargets/2
	if need {
		l.more = false // what comes from now on says so itself
		l.gone = make(map[string]bool)
	}
	l.mu.Unlock()
	if !need {
		return nil
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.gone = nil
	}()
	for _, p := range l.d.parts {
		if p.leaving.Load() || !p.held() {
			continue
		}
		span := storage.Span{Prefix: storage.Prefix(partName(p.number), l.name), Limit: l.window}
		seen := 0
		for row, err := range storage.PushTasks.Scan(ctx, l.d.store, span) {
			if err != nil {
				l.lookAgain()
				return err
			}
			if seen++; seen == span.Limit {
				l.lookAgain() // there may be more behind it
			}
			l.mu.Lock()
			room := l.add(row.Key, p, row.Value)
			l.mu.Unlock()
			if !room {
				break
			}
		}
	}
	return nil
}

func (l *line) lookAgain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.more = true
}

// next takes the task that is to be sent now, or says how long to wait.
func (l *line) next(now time.Time) (*task, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := l.d.cfg.Poll
	for len(l.ready) > 0 {
		t := l.ready[0]
		switch {
		case t.part.leaving.Load() || !t.part.held():
			l.drop(t) // another worker's, now or soon
			continue
		case l.expired(t, now):
			// Recording an end costs no call; it needs no place among the sends.
			if !t.part.begin() {
				l.drop(t)
				continue
			}
			heap.Pop(&l.ready)
			t.over = true
			return t, 0
		case now.Before(t.due):
			return nil, min(wait, t.due.Sub(now))
		case now.Before(l.hold):
			return nil, min(wait, l.hold.Sub(now), l.deadline(t).Sub(now))
		case l.sends >= l.d.cfg.Sends, l.sends > 0 && l.devices+len(t.row.Targets) > max(l.d.cfg.Devices, 2*l.batch):
			return nil, wait
		case l.sends > 0 && l.gate.State(now, "") != push.GateOpen:
			return nil, wait // one at a time tries whether the vendor is back
		}
		if !t.part.begin() {
			l.drop(t)
			continue
		}
		heap.Pop(&l.ready)
		l.sends++
		l.devices += len(t.row.Targets)
		return t, 0
	}
	return nil, wait
}

func (l *line) deadline(t *task) time.Time {
	return time.Unix(t.row.Time, 0).Add(l.d.cfg.Deadline)
}

func (l *line) expired(t *task, now time.Time) bool { return !now.Before(l.deadline(t)) }

// work sends a task and has its end recorded.
func (l *line) work(ctx context.Context, t *task) {
	if t.over {
		l.d.metrics.dropped.WithLabelValues(dropDeadline).Add(float64(len(t.row.Targets)))
		l.record(ctx, t, nil, time.Time{})
		return
	}
	left, again, err := l.send(ctx, t)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			l.d.log.Warn("push task not read, trying again", "provider", l.name, "err", err)
		}
		l.putBack(t, time.Now().Add(l.d.cfg.Poll))
	case left == t.row:
		l.putBack(t, again) // it was not sent
	default:
		l.record(ctx, t, left, again)
	}
}

// leave gives back the task's place among the sends; l.mu is held. What was sent keeps it until
// the end is recorded: a store that is slow must not let more and more be sent that a death of
// the process would repeat.
func (l *line) leave(t *task) {
	if t.over {
		return
	}
	l.sends--
	l.devices -= len(t.row.Targets)
}

// putBack makes a task wait in memory until then.
func (l *line) putBack(t *task, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leave(t)
	t.due = due
	heap.Push(&l.ready, t)
	t.part.end()
	wake(l.wake)
}

// record writes what is left of a task, nil for nothing, to be sent again at the time.
func (l *line) record(ctx context.Context, t *task, left *storage.PushTask, again time.Time) {
	mut := storage.PushTasks.Delete(t.key)
	if left != nil {
		left.NotBefore = again.UnixMilli()
		mut = storage.PushTasks.Put(t.key, left)
	}
	done := func(durable bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		defer t.part.end()
		l.leave(t)
		l.drop(t)
		wake(l.wake)
		if !durable { // the worker ends; the store still has the task
			return
		}
		if left == nil {
			t.part.addTargets(-len(t.row.Targets))
		} else {
			t.part.addTargets(len(left.Targets) - len(t.row.Targets))
			delete(l.gone, t.key)
			l.add(t.key, t.part, left)
		}
	}
	if left != nil && !t.part.held() {
		done(false) // another worker may be through with it
		return
	}
	select {
	case l.d.records <- record{mut, done}:
	case <-ctx.Done():
		done(false)
	}
}

// An address is a device of a task that is there to be pushed to.
type address struct {
	target storage.PushTarget
	device storage.PushDevice
}

// send pushes a task's devices. It returns what is left of it and when to try that; t.row
// itself if nothing was sent.
func (l *line) send(ctx context.Context, t *task) (left *storage.PushTask, again time.Time, err error) {
	d := l.d
	note, err := d.note(ctx, t.row.Key(), t.row.Seq, t.row.ID, t.row.Time)
	if err != nil {
		return nil, again, err
	}
	n := note.notification(t.row.Collapse)
	if n == nil {
		d.metrics.dropped.WithLabelValues(dropWithdrawn).Add(float64(len(t.row.Targets)))
		return nil, again, nil
	}
	found, err := l.addresses(ctx, t, note)
	if err != nil {
		return nil, again, err
	}
	d.metrics.dropped.WithLabelValues(dropUnneeded).Add(float64(len(t.row.Targets) - len(found)))
	if len(found) == 0 {
		return nil, again, nil
	}
	devices, err := l.devicesOf(ctx, found, n, time.Unix(t.row.Time+1, 0))
	if err != nil {
		return nil, again, err
	}
	now := time.Now()
	class := l.provider.QuotaClass(n)
	if reason, wait := l.gate.Admit(now, class); reason != push.GateOpen {
		if reason != push.GateQuota { // that is for one class
			l.mu.Lock()
			l.hold = now.Add(wait)
			l.mu.Unlock()
		}
		return t.row, minTime(now.Add(wait), l.deadline(t)), nil
	}
	following, stop := l.follow(ctx, t, found)
	results := l.sendParts(following, n, devices, t.row.Tries)
	stop()
	d.metrics.latency.WithLabelValues(l.name).Observe(time.Since(now).Seconds())
	left, again = l.judge(ctx, t, found, results, class)
	d.report(l, note, found, results)
	return left, again, nil
}

// maxParts bounds the parts that a task is sent in.
const maxParts = 64

// sendParts sends to the devices, and from the third try on in parts: a vendor that fails over
// one of them fails for all that are in its call.
func (l *line) sendParts(ctx context.Context, n *push.Notification, devices []push.Device, tries int) []push.Result {
	parts := 1
	for range tries - 1 {
		parts = min(4*parts, maxParts)
	}
	size := (len(devices) + parts - 1) / parts
	if size == len(devices) {
		return l.provider.Send(ctx, n, devices)
	}
	results := make([]push.Result, len(devices))
	var wg sync.WaitGroup
	at := 0
	for part := range slices.Chunk(devices, size) {
		room := results[at : at+len(part)]
		at += len(part)
		wg.Go(func() { copy(room, l.provider.Send(ctx, n, part)) })
	}
	wg.Wait()
	return results
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// addresses reads where the task's devices are reached now, leaving out those that have no
// token any more, came online or do not want to be disturbed by now.
func (l *line) addresses(ctx context.Context, t *task, note *note) ([]address, error) {
	d := l.d
	keys := make([]string, len(t.row.Targets))
	for i, to := range t.row.Targets {
		keys[i] = storage.AccountKey(to.Account)
	}
	users, err := storage.PushUsers.GetMany(ctx, d.store, keys)
	if err != nil {
		return nil, err
	}
	found := make([]address, 0, len(users))
	c := candidate{group: note.group, message: note.message, known: true, now: time.Now()}
	for i, to := range t.row.Targets {
		if c.user = users[i]; c.user == nil || c.broken(ofUser) != nil {
			continue
		}
		c.account, c.connected = to.Account, d.presence.Connected(to.Account)
		for k := range c.user.Devices {
			c.device = &c.user.Devices[k]
			if c.device.Device == to.Device && c.device.App == l.name && c.broken(ofDevice) == nil {
				found = append(found, address{to, *c.device})
			}
		}
	}
	return found, nil
}

// devicesOf adds the badges, where the vendor shows one.
func (l *line) devicesOf(ctx context.Context, found []address, n *push.Notification, since time.Time) ([]push.Device, error) {
	devices := make([]push.Device, len(found))
	for i, a := range found {
		devices[i] = push.Device{Token: push.NewToken(a.device.Token), VoIPToken: push.NewToken(a.device.VoIPToken)}
	}
	if v := l.provider.Vendor(); v != push.VendorAPNs && v != push.VendorFCM || n.Info != nil && n.Info.ApnsInfo.BadgeMode == 1 {
		return devices, nil
	}
	accounts := make([]group.Account, len(found))
	for i, a := range found {
		accounts[i] = a.target.Account
	}
	totals, err := l.d.unreadTotals(ctx, accounts, since)
	if err != nil {
		return nil, err
	}
	for i, a := range found {
		devices[i].Badge = new(badge(&a.device, totals[a.target.Account]))
	}
	return devices, nil
}

// badge is the number on the app's icon: what is unread or, after the app went to the
// background, what it showed then and what came since.
func badge(d *storage.PushDevice, unread int) int {
	if d.Badge == nil {
		return unread
	}
	return *d.Badge + max(unread-d.BadgeUnread, 0)
}

// judge does what the results ask for and returns what is left of the task.
func (l *line) judge(ctx context.Context, t *task, found []address, results []push.Result, class string) (left *storage.PushTask, again time.Time) {
	d := l.d
	now := time.Now()
	if reason := l.gate.Observe(now, class, results); reason != push.GateOpen {
		d.metrics.gates.WithLabelValues(l.name, string(reason)).Inc()
		l.warn(ctx, reason, results)
	}
	mayRemove := l.mayRemove(now, results)
	var tries []storage.PushTarget
	var retryable bool
	var atLeast time.Duration
	for i, r := range results {
		d.metrics.sends.WithLabelValues(l.name, r.Outcome.String()).Inc()
		if !r.Outcome.Final() {
			tries = append(tries, found[i].target)
			if r.Outcome == push.Retryable {
				retryable, atLeast = true, max(atLeast, r.RetryAfter)
			}
			continue
		}
		if r.Outcome.TokenDead() && mayRemove {
			l.remove(ctx, found[i], r)
		}
		if r.Outcome == push.PayloadRejected && l.firstRefusal(t, r.Code) {
			d.log.Warn("push refused as it was built", "provider", l.name, "group", string(t.row.Group), "seq", int64(t.row.Seq), "code", r.Code, "err", r.Err)
		}
	}
	if len(tries) == 0 {
		return nil, now
	}
	rest := *t.row
	rest.Targets = tries
	if !retryable { // the gate says when
		return &rest, now
	}
	rest.Tries++
	wait, ok := d.cfg.Backoff.Next(rest.Tries, atLeast, now, l.deadline(t))
	if !ok {
		d.metrics.dropped.WithLabelValues(dropGaveUp).Add(float64(len(tries)))
		return nil, now
	}
	return &rest, now.Add(wait)
}

// mayRemove has the guard count results and reports whether tokens may be removed for them.
func (l *line) mayRemove(now time.Time, results []push.Result) bool {
	wasSuspect := l.guard.Suspect()
	may := l.guard.Record(now, results)
	if !wasSuspect && l.guard.Suspect() {
		l.d.log.Error("so many push tokens look dead that none is removed: are the credentials those of the app, and is it the right environment?", "provider", l.name)
	}
	return may
}

func (l *line) warn(ctx context.Context, reason push.GateReason, results []push.Result) {
	var first push.Result
	for _, r := range results {
		if !r.Outcome.Final() {
			first = r
			break
		}
	}
	level := slog.LevelWarn
	if reason == push.GateAuth { // nobody but an operator can help
		level = slog.LevelError
	}
	l.d.log.Log(ctx, level, "push provider paused", "provider", l.name, "reason", string(reason), "code", first.Code, "err", first.Err)
}

// firstRefusal reports whether the message's refusal with the code has not been logged yet: one
// that has 100,000 receivers is one bug.
func (l *line) firstRefusal(t *task, code string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := t.row.ID + " " + code
	if slices.Contains(l.refused, now) {
		return false
	}
	if len(l.refused) >= maxRefused {
		l.refused = l.refused[1:]
	}
	l.refused = append(l.refused, now)
	return true
}

func (l *line) remove(ctx context.Context, a address, r push.Result) {
	removed, err := l.d.removeDead(ctx, a.target.Account, a.device, r)
	switch {
	case err != nil:
		l.d.log.Warn("dead push token not removed", "account", string(a.target.Account), "client", a.device.Device, "err", err)
	case removed:
		l.d.metrics.removed.WithLabelValues(l.name).Inc()
		l.d.log.Debug("dead push token removed", "account", string(a.target.Account), "client", a.device.Device, "token", push.NewToken(a.device.Token))
	}
}

// report tells the app what became of each push that is over.
func (d *Dispatcher) report(l *line, n *note, found []address, results []push.Result) {
	if d.reporter == nil {
		return
	}
	events := make([]Event, 0, len(results))
	for i, r := range results {
		if !r.Outcome.Final() {
			continue
		}
		m := n.message
		events = append(events, Event{
			Time: time.Now(), Stage: StageSent, Vendor: l.provider.Vendor(), From: m.From, To: found[i].target.Account, Group: m.Group, Seq: m.Seq,
			Random: m.Random, Sent: m.Time, PushID: r.VendorID, Outcome: r.Outcome, Code: r.Code,
		})
	}
	if len(events) > 0 {
		d.reporter.Report(events)
	}
}

// ErrCode is the event's result as a number: 0, or the vendor's code where that is one, or -1.
func (e *Event) ErrCode() int {
	if e.Outcome == push.Accepted {
		return 0
	}
	n, err := strconv.Atoi(e.Code)
	if err != nil {
		return -1
	}
	return cmp.Or(n, -1)
}

// taskHeap orders tasks by when they are due, High ones first, then by age.
type taskHeap []*task

func (h taskHeap) Len() int { return len(h) }

func (h taskHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if c := a.due.Compare(b.due); c != 0 {
		return c < 0
	}
	if a.row.High != b.row.High {
		return a.row.High
	}
	return a.key < b.key
}

func (h taskHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *taskHeap) Push(x any) {
	t := x.(*task)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *taskHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	t.index = -1
	*h = old[:len(old)-1]
	return t
}
