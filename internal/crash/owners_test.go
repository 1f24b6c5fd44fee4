package crash

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/internal/invariant"
)

var (
	ownersRounds = flag.Int("crash.owners-rounds", 1, "how often two processes share a database, each time a new one")
	ownersTime   = flag.Duration("crash.owners-time", 20*time.Second, "how long")
	ownersPause  = flag.Duration("crash.owners-pause", 4*time.Second, "how long one of them is stopped, at most; at least 1s")
)

const (
	ownedGroups      = 2
	ownedPublishers  = 8 // in all
	ownedSubscribers = 3 // in each group on each node
	// patience is how long a publisher waits for an answer before it goes to the other node.
	patience = 1500 * time.Millisecond
	// thinking is how long a publisher waits between two messages, at most. The test server scans
	// a whole collection for each query: more messages would only make everything slow.
	thinking = 300 * time.Millisecond
)

// TestTwoOwners runs two processes on one database. Each believes that it owns every group, one
// or the other is stopped for seconds and killed at random, and clients go from one to the other.
func TestTwoOwners(t *testing.T) {
	chooseSeed(t)
	random := rand.New(rand.NewPCG(*seed, 2))
	var seen strain
	for round := 0; round < *ownersRounds || !seen.everything() && round < *ownersRounds+maxMoreRounds; round++ {
		o := newOwners(t, program)
		for _, v := range o.run(t, random, *ownersTime, *ownersPause) {
			t.Error(v)
		}
		t.Logf("-crash.seed %d: %d times stopped, %d kills, %d conflicts, %d messages acknowledged, %d sent again, %d gaps filled from history",
			*seed, o.stops, o.kills, o.conflicts, o.acked, o.again, o.filled)
		if t.Failed() {
			return
		}
		seen.add(o.strain)
	}
	if !seen.everything() {
		t.Error("nothing was put to the test")
	}
}

// maxMoreRounds is how many rounds are added until everything has happened that is to be
// survived: on a slow machine one may pass without, say, a gap.
const maxMoreRounds = 3

// A strain counts what a round has put to the test.
type strain struct{ stops, kills, conflicts, acked, again, filled int }

func (s *strain) add(o strain) {
	s.stops += o.stops
	s.kills += o.kills
	s.conflicts += o.conflicts
	s.acked += o.acked
	s.again += o.again
	s.filled += o.filled
}

func (s *strain) everything() bool {
	return s.stops > 0 && s.kills > 0 && s.conflicts > 0 && s.acked > 0 && s.again > 0 && s.filled > 0
}

// TestTwoOwnersUnchecked shows that TestTwoOwners finds a store that takes a message whose place
// is taken for stored.
func TestTwoOwnersUnchecked(t *testing.T) {
	planted := filepath.Join(t.TempDir(), "rookery")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "planted_position", "-o", planted, "../../cmd/rookery").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	chooseSeed(t)
	found := newOwners(t, planted).run(t, rand.New(rand.NewPCG(*seed, 2)), 4*time.Second, 2*time.Second)
	if !slices.ContainsFunc(found, func(v invariant.Violation) bool { return v.Rule == "I1" }) {
		t.Errorf("I1 did not find it; found %v", found[:min(3, len(found))])
	}
}

// owners are two nodes on one database, and those who talk to them.
type owners struct {
	db   database
	bin  string
	dirs [2]string
	log  *invariant.Log

	mu    sync.Mutex
	nodes [2]*Node // nil: it is being started
	conns int
	subs  map[int]group.ID // what the connections listen to is all groups; here the one that they are members of

	strain
}

func ownedGroup(i int) group.ID { return groupID(i % ownedGroups) }

func newOwners(t *testing.T, bin string) *owners {
	t.Helper()
	o := &owners{db: newDatabase(t), bin: bin, log: new(invariant.Log), subs: make(map[int]group.ID)}
	for i := range o.nodes {
		o.dirs[i] = filepath.Join(t.TempDir(), "data")
		if err := os.MkdirAll(o.dirs[i], 0o700); err != nil {
			t.Fatal(err)
		}
		o.start(t, i)
	}
	var members [ownedGroups][]map[string]any
	add := func(g int, a group.Account) {
		members[g%ownedGroups] = append(members[g%ownedGroups], map[string]any{"Member_Account": a})
		o.call(t, "im_open_login_svc/account_import", map[string]any{"UserID": a}, nil)
		o.log.Add(invariant.Event{Kind: invariant.Joined, Group: ownedGroup(g), Account: a})
	}
	for i := range ownedPublishers {
		add(i, group.Account(fmt.Sprintf("p%d", i)))
	}
	for g := range ownedGroups {
		for i := range 2 * ownedSubscribers {
			add(g, subscriber(g, i))
		}
		o.call(t, "group_open_http_svc/create_group", map[string]any{"Type": "Public", "Name": "owned", "GroupId": ownedGroup(g), "MemberList": members[g]}, nil)
	}
	return o
}

// call makes a REST call at the first node, which must be up.
func (o *owners) call(t *testing.T, command string, in, out any) {
	t.Helper()
	if err := o.node(0).Call(t.Context(), command, in, out); err != nil {
		t.Fatal(err)
	}
}

func (o *owners) node(i int) *Node {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.nodes[i]
}

func (o *owners) start(t *testing.T, i int) {
	t.Helper()
	n, err := Start(t.Context(), o.bin, o.dirs[i], append(o.db.env(), "ROOKERY_FLOW_MESSAGES_PER_SECOND=0")...)
	if err != nil {
		t.Fatal(err)
	}
	o.mu.Lock()
	o.nodes[i] = n
	o.mu.Unlock()
}

// kill kills a node, which runs or is stopped, and starts it again.
func (o *owners) kill(t *testing.T, i int, stopped bool) {
	t.Helper()
	n := o.node(i)
	if !stopped {
		o.conflicts += conflicts(t, n) // it does not live to tell
	}
	o.mu.Lock()
	o.nodes[i] = nil
	o.mu.Unlock()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	o.kills++
	o.start(t, i)
}

// run lets everybody talk for a while, heals what was broken, and checks.
func (o *owners) run(t *testing.T, random *rand.Rand, howLong, maxPause time.Duration) []invariant.Violation {
	t.Helper()
	stop, over := make(chan struct{}), make(chan struct{})
	var publishers, subscribers sync.WaitGroup
	for i := range ownedPublishers {
		publishers.Go(func() { o.publish(t, i, stop) })
	}
	for g := range ownedGroups {
		for i := range 2 * ownedSubscribers {
			subscribers.Go(func() { o.subscribe(t.Context(), g, i, over) })
		}
	}
	end := time.Now().Add(howLong)
	time.Sleep(time.Second) // both know the groups
	for time.Now().Before(end) {
		o.trouble(t, random, maxPause)
	}
	o.kill(t, random.IntN(2), false) // one for sure
	close(stop)
	publishers.Wait()
	history := o.history(t)
	close(over)
	for i := range o.nodes {
		o.conflicts += conflicts(t, o.node(i))
		if err := o.node(i).Stop(); err != nil {
			t.Error(err)
		}
	}
	subscribers.Wait()
	o.fill(history)
	events := o.log.Events()
	for _, e := range events {
		switch {
		case e.Kind == invariant.Acked:
			o.acked++
		case e.Kind == invariant.Sent && e.Again:
			o.again++
		}
	}
	return invariant.Check(events, read(t, o.db.open(t, ""), ownedGroups))
}

// trouble stops one of the nodes for a while; then it goes on, or is killed. After a moment one
// that runs may be killed, too.
func (o *owners) trouble(t *testing.T, random *rand.Rand, maxPause time.Duration) {
	t.Helper()
	i := random.IntN(2)
	n := o.node(i)
	before := conflicts(t, n)
	if err := syscall.Kill(n.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	o.stops++
	time.Sleep(time.Second + time.Duration(random.Int64N(int64(max(1, maxPause-time.Second)))))
	if random.IntN(3) == 0 {
		o.conflicts += before
		o.kill(t, i, true)
	} else if err := syscall.Kill(n.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
	if random.IntN(4) == 0 {
		o.kill(t, random.IntN(2), false)
	}
}

// publish sends one message after the other, each until its outcome is known, and goes to the
// other node for a while when it gets no answer. It returns after stop is closed and its last message's
// outcome is known.
func (o *owners) publish(t *testing.T, i int, stop <-chan struct{}) {
	m := &message{group: ownedGroup(i), key: invariant.MessageKey{From: group.Account(fmt.Sprintf("p%d", i))}}
	home := i / ownedGroups % 2
	for at := home; ; at = 1 - at {
		c := o.dial(t.Context(), at, string(m.key.From))
		for visit := 0; c != nil; visit++ {
			if at != home && !m.before && visit > 2 { // else all would soon be at the same node
				_ = c.Close() // nothing is under way
				break
			}
			if m.key.Random == 0 || !m.before {
				select {
				case <-stop:
					_ = c.Close()
					return
				default:
				}
				m = &message{group: m.group, key: invariant.MessageKey{From: m.key.From, Random: m.key.Random + 1, Body: fmt.Sprintf("%s-%d", m.key.From, m.key.Random+1)}}
			}
			known, err := o.send(t, c, m)
			if err != nil {
				_ = c.Close() // it has failed
				c = nil
			}
			m.before = !known
			time.Sleep(rand.N(thinking))
		}
		select {
		case <-t.Context().Done():
			return
		case <-stop:
			if !m.before {
				return
			}
		default:
		}
	}
}

// send sends m once. known says that its outcome is known; after an error the connection is dead.
func (o *owners) send(t *testing.T, c *conn, m *message) (known bool, err error) {
	o.log.Add(invariant.Event{Kind: invariant.Sent, Group: m.group, Message: m.key, Again: m.before})
	_ = c.SetReadDeadline(time.Now().Add(patience)) // a dead connection shows at the read
	if err := c.publish(topic(m.group), uint16(m.key.Random%65535)+1, m.before, m.payload()); err != nil {
		return false, err
	}
	for {
		kind, body, err := c.read()
		if err != nil {
			return false, err
		}
		if kind>>4 == 14 {
			return false, io.EOF
		}
		if kind>>4 != 4 {
			continue
		}
		a, err := parseAck(body)
		if err != nil {
			return false, err
		}
		switch a.reason {
		case 0:
			seq, err := strconv.ParseInt(a.props["MsgSeq"], 10, 64)
			if err != nil {
				t.Errorf("%+v was acknowledged with %q: %v", m.key, a.props["MsgSeq"], err)
			}
			o.log.Add(invariant.Event{Kind: invariant.Acked, Group: m.group, Message: m.key, Seq: group.Seq(seq)})
			return true, nil
		case 0x83: // try again
			return false, nil
		}
		t.Errorf("%+v was refused: 0x%02X %s", m.key, a.reason, a.text)
		return true, nil
	}
}

// dial connects a client to a node; nil: not now.
func (o *owners) dial(ctx context.Context, at int, user string) *conn {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if n := o.node(at); n != nil {
		c, err := dial(ctx, n.MQTT, user, UserSig(user), "c")
		if err == nil {
			return c
		}
	}
	time.Sleep(20 * time.Millisecond) // between two attempts
	return nil
}

// subscribe listens at one node, again after each of its ends, until over is closed.
func (o *owners) subscribe(ctx context.Context, g, i int, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		c := o.dial(ctx, i%2, string(subscriber(g, i)))
		if c == nil {
			continue
		}
		if c.subscribe("groups/+", byte(i/2%2)) != nil {
			_ = c.Close() // it has failed
			continue
		}
		o.mu.Lock()
		o.conns++
		id := o.conns
		o.subs[id] = groupID(g)
		o.mu.Unlock()
		watch(sub{c, subscriber(g, i)}, id, o.log)
	}
}

// history reads the SEQs of each group as a client does that fills its gaps.
func (o *owners) history(t *testing.T) map[group.ID][]group.Seq {
	t.Helper()
	out := make(map[group.ID][]group.Seq)
	for g := range ownedGroups {
		id := ownedGroup(g)
		before := group.Seq(0) // the newest
		for {
			in := map[string]any{"GroupId": id, "ReqMsgNumber": 20}
			if before > 0 {
				in["ReqMsgSeq"] = before
			}
			var page struct{ RspMsgList []struct{ MsgSeq group.Seq } }
			o.call(t, "group_open_http_svc/group_msg_get_simple", in, &page)
			for _, m := range page.RspMsgList {
				out[id] = append(out[id], m.MsgSeq)
				before = m.MsgSeq - 1
			}
			if len(page.RspMsgList) == 0 || before == 0 {
				break
			}
		}
		slices.Reverse(out[id])
	}
	return out
}

// fill notes that every connection with gaps has them from history.
func (o *owners) fill(history map[group.ID][]group.Seq) {
	last := make(map[int]group.Seq)
	for _, e := range slices.Clone(o.log.Events()) {
		if e.Kind != invariant.Delivered || e.Seq == 0 {
			continue
		}
		was := last[e.Conn]
		last[e.Conn] = e.Seq
		if was == 0 || e.Seq <= was+1 {
			continue
		}
		there := true
		for seq := was + 1; seq < e.Seq; seq++ {
			_, found := slices.BinarySearch(history[o.subs[e.Conn]], seq)
			there = there && found
		}
		if there {
			o.filled++
			o.log.Add(invariant.Event{Kind: invariant.Pulled, Conn: e.Conn, Group: e.Group, Seq: was + 1, To: e.Seq - 1})
		}
	}
}

var conflictsLine = regexp.MustCompile(`(?m)^rookery_storage_mongo_conflicts_total (\S+)$`)

// conflicts is how often the node has met another one's message at the place of its own.
func conflicts(t *testing.T, n *Node) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, body, err := n.Get(ctx, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	line := conflictsLine.FindStringSubmatch(body)
	if line == nil {
		t.Fatal("no metric of conflicts")
	}
	count, err := strconv.ParseFloat(line[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(count)
}
