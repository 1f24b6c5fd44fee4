package hooks

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rookery-im/rookery/group"
)

// A lane decides everything about one group. One goroutine at a time runs it, only while there
// is something to decide: who waits for a write, a callback or the flow's next slot needs none.
// Once nothing is under way the lane sleeps: it keeps what it knows (see state) until the group
// has been quiet for the duplicate window.
//
// What a lane does in a round: take what came in; let the flow release what may go; if no
// write is under way, stamp what is ready and write it. While a batch is being written, the
// next one gathers. The goroutine that has run the lane writes the batch and then, unless
// somebody else has begun to, runs the lane again: on an idle server that is one goroutine for a
// message's whole way, and each hand-over between two costs a wake-up before the sender's PUBACK.
type lane struct {
	p  *Pipeline
	id group.ID

	mu      sync.Mutex // guards the next seven
	inbox   []item
	running bool // a goroutine runs the lane
	awake   bool // something is under way; counted in Pipeline.running
	dead    bool // forgotten by the pipeline: look for another lane
	used    time.Time
	timer   *time.Timer // runs the lane when the flow wants to decide; set when that is first so
	expiry  *time.Timer // forgets the lane after the duplicate window; set when it first sleeps

	waiting atomic.Int64 // submissions and updates that have not ended, bounded by Config.LaneLen

	// The rest belongs to the goroutine that runs the lane, and to the next one after it.

	st       *state // nil: not loaded
	loads    int    // how often it was loaded
	room     map[group.Account]*group.Member
	flow     *flow
	counted  int // of the flow's waiters, in the metrics
	limits   Limits
	asking   map[stream][]*submission // those who wait behind one that the before-callback is asked about
	askingN  int
	keyed    map[group.DuplicateKey]*submission // on their way
	ready    []item                             // released submissions and updates, in order
	writing  *batch                             // under way
	leftOver []mutationsOf                      // records that no message carries (refusals)
	spare    []item
}

// A stream is what keeps its order: one sender's messages of one priority.
type stream struct {
	from     group.Account
	priority group.Priority
}

func (s *submission) stream() stream { return stream{s.draft.From, s.draft.Priority} }

type pushResult uint8

const (
	pushed pushResult = iota
	pushFull
	pushDead
	pushClosed
)

func newLane(p *Pipeline, id group.ID) *lane {
	p.metrics.lanes.Inc()
	return &lane{p: p, id: id, keyed: make(map[group.DuplicateKey]*submission)}
}

// push hands in a submission or an update.
func (l *lane) push(it item) pushResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.dead:
		return pushDead
	case l.p.closed.Load():
		return pushClosed
	case l.waiting.Load() >= int64(l.p.cfg.LaneLen):
		return pushFull
	}
	l.waiting.Add(1)
	if l.put(it) {
		go l.run()
	}
	return pushed
}

// post hands in what the lane itself asked for, which is never refused. It runs the lane if
// nobody does.
func (l *lane) post(it item) {
	if l.bring(it) {
		l.run()
	}
}

// bring is put for who does not hold l.mu.
func (l *lane) bring(it item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.put(it)
}

// put appends to the inbox and reports whether it is for the caller to see to it that the lane
// is run; l.mu is held.
func (l *lane) put(it item) bool {
	l.inbox = append(l.inbox, it)
	return l.start()
}

// start makes the caller the one that runs the lane, unless somebody does; l.mu is held.
func (l *lane) start() bool {
	if l.running {
		return false
	}
	l.running = true
	if !l.awake {
		l.awake = true
		l.p.running.Add(1)
	}
	return true
}

// run decides until nothing is left to decide now. The caller has got true from start.
func (l *lane) run() {
	for {
		if items := l.take(); len(items) > 0 {
			l.handle(items)
		}
		next := l.release()
		b := l.next()
		if !l.rest(next) {
			if b != nil {
				go l.write(b)
			}
			continue
		}
		if b == nil {
			return
		}
		if !l.bring(item{written: l.p.persist(b)}) {
			return
		}
	}
}

// write writes a batch beside whoever runs the lane.
func (l *lane) write(b *batch) { l.post(item{written: l.p.persist(b)}) }

// rest ends a run, and goes to sleep if nothing is under way. It reports false if something has
// come in meanwhile. The flow wants to decide at next again.
func (l *lane) rest(next int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.inbox) > 0 {
		return false
	}
	l.running = false
	switch {
	case l.quiet():
		l.sleep()
	case next == math.MaxInt64:
	case l.timer == nil:
		l.timer = time.AfterFunc(time.Duration(next-l.p.nanos()), l.tick)
	default:
		l.timer.Reset(time.Duration(next - l.p.nanos()))
	}
	return true
}

// tick runs the lane for the flow's sake. Who runs it already looks at the flow before the next
// rest, which sets the timer again. A timer that is late finds a lane that has nothing to decide.
func (l *lane) tick() {
	l.mu.Lock()
	run := l.awake && l.start()
	l.mu.Unlock()
	if run {
		l.run()
	}
}

func (l *lane) take() []item {
	l.mu.Lock()
	items := l.inbox
	l.inbox, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	return items
}

// handle goes through what came in and gives the slice back for later.
func (l *lane) handle(items []item) {
	if err := l.prepare(items); err != nil {
		l.p.log.Warn("group not loaded", "group", string(l.id), "err", err)
		for _, it := range items {
			l.refuseItem(it, ErrUnavailable)
		}
	} else {
		for _, it := range items {
			switch {
			case it.sub != nil:
				l.admit(it.sub)
			case it.upd != nil:
				l.ready = append(l.ready, it)
			case it.judged != nil:
				l.judged(it.judged)
			case it.written != nil:
				l.settle(it.written)
			}
		}
	}
	clear(items)
	if cap(items) <= 4096 {
		l.spare = items[:0]
	}
}

// prepare makes sure that the lane knows the group and, in one read, the senders in items.
func (l *lane) prepare(items []item) error {
	needed := false
	for _, it := range items {
		if it.written != nil { // must be settled whatever happens
			l.settleOnly(items)
		}
		needed = needed || it.sub != nil || it.upd != nil || it.judged != nil
	}
	if !needed || l.knows(items) {
		return nil
	}
	ctx, cancel := l.storeContext()
	defer cancel()
	if l.st == nil {
		if err := l.load(ctx); err != nil {
			return err
		}
	}
	return l.prefetch(ctx, items)
}

// storeContext bounds what the lane itself asks of the store.
func (l *lane) storeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), l.p.cfg.StoreTimeout, ErrUnavailable)
}

// settleOnly settles the writes among items at once, before anything is loaded for the others.
func (l *lane) settleOnly(items []item) {
	for i := range items {
		if w := items[i].written; w != nil {
			items[i].written = nil
			l.settle(w)
		}
	}
}

// refuseItem ends what can't be handled because the group could not be loaded.
func (l *lane) refuseItem(it item, err error) {
	switch {
	case it.sub != nil:
		l.end(it.sub, Outcome{Err: err})
	case it.upd != nil:
		l.endUpdate(it.upd, err)
	case it.judged != nil:
		l.nextOf(it.judged.sub.stream())
		l.end(it.judged.sub, Outcome{Err: err})
	}
}

// admit takes a message as far as it gets at once: to a refusal, an earlier outcome, the
// before-callback, or the flow.
func (l *lane) admit(s *submission) {
	if s.invalid != nil {
		l.refused(s, s.invalid)
		return
	}
	now := time.Now()
	if s.keyed && (s.draft.HasRandom || s.draft.Repeated) {
		if o, ok := l.st.dups.find(s.key, now); ok {
			o.Duplicate = true
			l.end(s, o)
			return
		}
		if first := l.keyed[s.key]; first != nil {
			first.again = append(first.again, s)
			return
		}
	}
	s.load = l.loads
	snd, profile, err := l.person(s.draft.From)
	if err == nil {
		err = l.authorise(s.draft, snd, profile, now)
	}
	if err != nil {
		l.rejected(s, err)
		return
	}
	if s.keyed {
		l.keyed[s.key] = s
	}
	if queue, busy := l.asking[s.stream()]; busy {
		l.asking[s.stream()] = append(queue, s)
		return
	}
	if l.due(s) {
		l.ask(s)
		return
	}
	l.toFlow(s)
}

func (l *lane) due(s *submission) bool {
	return l.p.before != nil && !s.draft.Flags.Any(group.ForbidBefore) && l.p.before.Due(l.st.group, s.draft)
}

// A judged is the before-callback's answer about a submission.
type judged struct {
	sub     *submission
	verdict Verdict
}

// ask hands s to the before-callback. Until it has answered, later messages of its stream wait behind s.
func (l *lane) ask(s *submission) {
	if l.asking == nil {
		l.asking = make(map[stream][]*submission)
	}
	if _, busy := l.asking[s.stream()]; !busy {
		l.asking[s.stream()] = nil
	}
	l.askingN++
	g := l.st.group
	l.p.running.Go(func() {
		v := l.p.before.BeforeSend(context.Background(), g, s.draft)
		l.post(item{judged: &judged{s, v}})
	})
}

func (l *lane) judged(j *judged) {
	s := j.sub
	switch v := j.verdict; {
	case v.Refuse != nil:
		l.refused(s, v.Refuse)
	case v.Drop:
		l.p.left("message dropped", s.draft, 0, "by the before-callback")
		l.remember(s, Outcome{Dropped: true})
		l.end(s, Outcome{Dropped: true})
	default:
		if v.Body != nil {
			s.draft.Body, s.draft.Canonical = v.Body, false
		}
		if v.CloudCustomData != nil {
			s.draft.CloudCustomData = *v.CloudCustomData
		}
		if v.Body != nil || v.CloudCustomData != nil {
			if err := l.p.validateBody(s.draft); err != nil {
				l.rejected(s, err)
				break
			}
		}
		l.toFlow(s)
	}
	l.nextOf(s.stream())
}

// nextOf goes on with the stream's next message after one was judged.
func (l *lane) nextOf(st stream) {
	l.askingN--
	queue := l.asking[st]
	delete(l.asking, st)
	for i, s := range queue {
		if l.st == nil { // the group can't be read now: nothing can be decided about it
			l.end(s, Outcome{Err: ErrUnavailable})
			continue
		}
		if l.due(s) {
			if l.p.closed.Load() { // a long queue, asked one by one, would outlast the time for stopping
				l.end(s, Outcome{Err: ErrClosed})
				continue
			}
			l.ask(s)
			l.asking[st] = queue[i+1:]
			return
		}
		l.toFlow(s)
	}
}

// toFlow releases s if there is no limit or room for it, or lets it wait.
func (l *lane) toFlow(s *submission) {
	if l.st.group == nil { // destroyed while the callback was asked
		l.refused(s, group.Errorf(group.CodeNoGroup, "group %q does not exist", l.id))
		return
	}
	now := l.p.nanos()
	l.relimit(now)
	if l.limits.PerSecond <= 0 || l.p.cfg.ExemptAdmins && s.draft.ByAdmin {
		s.released = 0
		l.released(s)
		return
	}
	if l.flow == nil {
		l.flow = newFlow(l.limits, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
		l.st.restore(l.flow, now)
	}
	l.flow.arrive(now, s, l.released, l.restricted)
}

// relimit asks for the group's limits, which may change at any moment.
func (l *lane) relimit(now int64) {
	if l.p.cfg.Limits == nil || l.st == nil || l.st.group == nil {
		return
	}
	limits := l.p.cfg.Limits(l.st.group)
	if limits == l.limits {
		return
	}
	l.limits = limits
	if l.flow == nil {
		return
	}
	if limits.PerSecond <= 0 {
		l.flow.drain(now, l.released)
	}
	l.flow.setLimits(limits)
}

// release lets the flow decide and returns when it wants to decide again.
func (l *lane) release() int64 {
	next, waiting := int64(math.MaxInt64), 0
	if l.flow != nil && !l.flow.quiet() {
		now := l.p.nanos()
		l.relimit(now)
		next = l.flow.advance(now, l.released, l.restricted)
		waiting = l.flow.count
	}
	l.p.metrics.waiting.Add(float64(waiting - l.counted))
	l.counted = waiting
	return next
}

func (l *lane) released(s *submission) { l.ready = append(l.ready, item{sub: s}) }

func (l *lane) restricted(s *submission) {
	o := Outcome{Restricted: true}
	l.remember(s, o)
	l.leave(s, group.Errorf(group.CodeFrequencyLimit, "msg count exceeds limit,please retry later"))
	l.p.left("message restricted", s.draft, group.CodeFrequencyLimit, s.draft.Priority.String())
	l.end(s, o)
}

// rejected ends s with a refusal or, if err is none, asks its sender to try again.
func (l *lane) rejected(s *submission, err error) {
	if e, ok := asRefusal(err); ok {
		l.refused(s, e)
		return
	}
	l.p.log.Warn("message not decided", "group", string(l.id), "msgid", s.draft.ID.String(), "err", err)
	l.end(s, Outcome{Err: ErrUnavailable})
}

// refused ends s with a refusal.
func (l *lane) refused(s *submission, err *group.Error) {
	l.leave(s, err)
	l.p.left("message refused", s.draft, err.Code, err.Info)
	l.end(s, Outcome{Err: err})
}

// leave tells the outboxes that s is not stored.
func (l *lane) leave(s *submission, err *group.Error) {
	if l.st == nil {
		return
	}
	for _, o := range l.p.outbox {
		if muts := o.Refused(l.st.group, s.draft, err); len(muts) > 0 && len(l.leftOver) < l.p.cfg.LaneLen {
			l.leftOver = append(l.leftOver, muts)
		}
	}
}

// remember keeps an outcome that is not in the log for whoever sends the message again.
func (l *lane) remember(s *submission, o Outcome) {
	if s.keyed && l.st != nil {
		l.st.dups.add(s.key, o, time.Now(), l.p.cfg.DuplicateWindow, l.p.cfg.DuplicateEntries)
	}
}

// end is the last that happens to s.
func (l *lane) end(s *submission, o Outcome) {
	if s.keyed && l.keyed[s.key] == s {
		delete(l.keyed, s.key)
	}
	l.waiting.Add(-1 - int64(len(s.again)))
	l.p.finish(s, o)
}

func (l *lane) endUpdate(u *update, err error) {
	l.waiting.Add(-1)
	u.done <- err
}

// quiet reports whether nothing is left to do but to wait for new work.
func (l *lane) quiet() bool {
	return l.writing == nil && len(l.ready) == 0 && l.askingN == 0 && len(l.leftOver) == 0 && (l.flow == nil || l.flow.quiet())
}

// sleep ends the lane's part in what is under way; l.mu is held.
func (l *lane) sleep() {
	l.awake = false
	l.used = time.Now()
	if cap(l.spare) > 64 { // a burst is over: what it needed is not kept for the next one
		l.inbox, l.spare, l.ready, l.keyed = nil, nil, nil, make(map[group.DuplicateKey]*submission)
	}
	keep := l.p.cfg.DuplicateWindow
	if l.st == nil || l.st.group == nil {
		keep = 0 // a group that is not there is not worth remembering
	}
	if l.expiry == nil {
		l.expiry = time.AfterFunc(keep, l.expire)
	} else if keep == 0 {
		l.expiry.Reset(0)
	}
	l.p.running.Done()
}

// expire forgets the lane if it has been idle for the duplicate window.
func (l *lane) expire() {
	sh := l.p.shard(l.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return
	}
	if l.awake || len(l.room) > 0 {
		l.expiry.Reset(max(l.p.cfg.DuplicateWindow, time.Second))
		return
	}
	if l.st != nil && l.st.group != nil {
		if left := l.p.cfg.DuplicateWindow - time.Since(l.used); left > 0 {
			l.expiry.Reset(left)
			return
		}
	}
	l.forget(sh)
}

// forget removes the lane; its shard's lock and its own are held, and it sleeps.
func (l *lane) forget(sh *shard) {
	l.dead = true
	if l.expiry != nil {
		l.expiry.Stop()
	}
	delete(sh.lanes, l.id)
	l.p.metrics.lanes.Dec()
}

// asRefusal returns err as a refusal, if it is one.
func asRefusal(err error) (*group.Error, bool) { return errors.AsType[*group.Error](err) }
