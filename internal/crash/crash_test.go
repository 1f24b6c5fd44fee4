package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/internal/invariant"
	"github.com/rookery-im/rookery/storage"
)

var (
	lives = flag.Int("crash.lives", 50, "how often the process is killed")
	seed  = flag.Uint64("crash.seed", 0, "seed of the random choices; 0: a random one")

	mongoLives = flag.Int("crash.mongo-lives", 4, "how often it is killed on MongoDB")
)

// A scale says how much happens in a world.
type scale struct {
	groups      int
	publishers  int // in all
	subscribers int // in each group
	outstanding int // messages that a publisher has under way
	// pause is how long a publisher waits between two messages, at most.
	pause time.Duration
	// life is how long a process lives, at least and at most.
	life [2]time.Duration
}

var program string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "rookery-crash")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		program = filepath.Join(dir, "rookery")
		if out, err := exec.Command("go", "build", "-o", program, "../../cmd/rookery").CombinedOutput(); err != nil {
			fmt.Printf("go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// TestKilledAtRandom is the promise of durability as a client sees it: 64 publishers and 400
// subscribers, the process killed at a random moment, again and again over the same data.
func TestKilledAtRandom(t *testing.T) {
	killAtRandom(t, embedded{}, scale{groups: 8, publishers: 64, subscribers: 50, outstanding: 4, life: [2]time.Duration{20 * time.Millisecond, 400 * time.Millisecond}}, *lives)
}

func killAtRandom(t *testing.T, b backend, size scale, lives int) {
	t.Helper()
	chooseSeed(t)
	t.Logf("%d lives, -crash.seed %d, %+v", lives, *seed, size)
	w := newWorld(t, b, size)
	kills := 0
	for life := range lives {
		w.live(t, life)
		kills++
		if t.Failed() {
			break
		}
	}
	messages := len(w.acked)
	t.Logf("%d kills, %d messages acknowledged, %d sent again after an unknown outcome, %d deliveries seen", kills, messages, w.resent, w.delivered)
	if kills < lives && !t.Failed() || messages == 0 || lives > 1 && w.resent == 0 || w.delivered == 0 {
		t.Error("nothing was put to the test")
	}
}

// chooseSeed chooses a seed if none is set.
func chooseSeed(t *testing.T) {
	t.Helper()
	if *seed == 0 {
		*seed = rand.Uint64()
	}
}

// A message is one that a publisher sends until it knows the outcome.
type message struct {
	group  group.ID
	key    invariant.MessageKey
	before bool // it was sent in an earlier life
}

func (m *message) payload() []byte {
	b, _ := json.Marshal(map[string]any{ // strings and numbers only
		"Random": m.key.Random, "MsgBody": []any{map[string]any{"MsgType": "TIMTextElem", "MsgContent": map[string]any{"Text": m.key.Body}}},
	})
	return b
}

type world struct {
	scale
	backend   backend
	dir       string
	rand      *rand.Rand
	pubs      []*publisher
	conns     int
	delivered int
	resent    int

	mu    sync.Mutex
	acked map[invariant.MessageKey]place // of all lives
	last  []*message                     // some acknowledged ones of the life before, to be sent once more
}

type place struct {
	group group.ID
	seq   group.Seq
}

type publisher struct {
	name    group.Account
	group   group.ID
	next    uint32
	unknown []*message // sent, outcome unknown
}

func groupID(i int) group.ID            { return group.ID(fmt.Sprintf("crash %d", i)) }
func subscriber(g, i int) group.Account { return group.Account(fmt.Sprintf("s%d-%d", g, i)) }
func topic(g group.ID) string           { return "groups/" + strings.ReplaceAll(string(g), " ", "%20") }

func newWorld(t *testing.T, b backend, size scale) *world {
	w := &world{scale: size, backend: b, dir: filepath.Join(t.TempDir(), "data"), rand: rand.New(rand.NewPCG(*seed, 1)), acked: make(map[invariant.MessageKey]place)}
	n, err := Start(t.Context(), program, w.dir, b.env()...)
	if err != nil {
		t.Fatal(err)
	}
	call := func(command string, in any) {
		t.Helper()
		if err := n.Call(t.Context(), command, in, nil); err != nil {
			t.Fatal(err)
		}
	}
	type member struct {
		Account group.Account `json:"Member_Account"`
	}
	members := make([][]member, w.groups)
	var accounts []map[string]any
	for i := range w.publishers {
		p := &publisher{name: group.Account(fmt.Sprintf("p%d", i)), group: groupID(i % w.groups)}
		w.pubs = append(w.pubs, p)
		members[i%w.groups] = append(members[i%w.groups], member{p.name})
		accounts = append(accounts, map[string]any{"UserID": p.name})
	}
	for g := range w.groups {
		for i := range w.subscribers {
			members[g] = append(members[g], member{subscriber(g, i)})
			accounts = append(accounts, map[string]any{"UserID": subscriber(g, i)})
		}
	}
	for _, a := range accounts {
		call("im_open_login_svc/account_import", a)
	}
	for g := range w.groups {
		call("group_open_http_svc/create_group", map[string]any{"Type": "Public", "Name": "crash", "GroupId": groupID(g)})
		call("group_open_http_svc/add_group_member", map[string]any{"GroupId": groupID(g), "MemberList": members[g]})
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	return w
}

// live starts the process, lets everybody talk, kills it, and checks.
func (w *world) live(t *testing.T, life int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := new(invariant.Log)
	w.noteMembers(log)
	n, err := Start(ctx, program, w.dir, append(w.backend.env(), "ROOKERY_FLOW_MESSAGES_PER_SECOND=0")...)
	if err != nil {
		t.Fatal(err)
	}
	subs, pubs, err := w.connect(ctx, n)
	if err != nil {
		t.Fatal(errors.Join(err, n.Kill(), errors.New(n.Log())))
	}
	var all sync.WaitGroup
	for id, s := range subs {
		all.Go(func() { watch(s, id, log) })
	}
	for i, p := range w.pubs {
		all.Go(func() { w.publish(p, pubs[i], log) })
	}
	time.Sleep(w.life[0] + time.Duration(w.rand.Int64N(int64(w.life[1]-w.life[0]))))
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for _, c := range pubs {
		_ = c.Close()
	}
	content := read(t, w.backend.open(t, w.dir), w.groups)
	events := log.Events()
	for _, v := range invariant.Check(events, content) {
		t.Errorf("life %d: %v", life, v)
	}
	w.checkEarlier(t, life, events, content)
}

// noteMembers tells the log who is in which group: all memberships were confirmed before the first life.
func (w *world) noteMembers(log *invariant.Log) {
	for _, p := range w.pubs {
		log.Add(invariant.Event{Kind: invariant.Joined, Group: p.group, Account: p.name})
	}
	for g := range w.groups {
		for i := range w.subscribers {
			log.Add(invariant.Event{Kind: invariant.Joined, Group: groupID(g), Account: subscriber(g, i)})
		}
	}
}

type sub struct {
	*conn
	account group.Account
}

// connect brings everybody online; half of the subscribers at QoS 1, half at QoS 0.
func (w *world) connect(ctx context.Context, n *Node) (subs map[int]sub, pubs []*conn, err error) {
	subs = make(map[int]sub)
	pubs = make([]*conn, len(w.pubs))
	var mu sync.Mutex
	var all errgroup.Group
	all.SetLimit(16)
	for g := range w.groups {
		for i := range w.subscribers {
			w.conns++
			id := w.conns
			all.Go(func() error {
				a := subscriber(g, i)
				c, err := dial(ctx, n.MQTT, string(a), UserSig(string(a)), "sub")
				if err != nil {
					return fmt.Errorf("%s: %w", a, err)
				}
				mu.Lock()
				subs[id] = sub{c, a}
				mu.Unlock()
				return c.subscribe("groups/+", byte(i%2))
			})
		}
	}
	for i, p := range w.pubs {
		all.Go(func() (err error) {
			pubs[i], err = dial(ctx, n.MQTT, string(p.name), UserSig(string(p.name)), "pub")
			return err
		})
	}
	return subs, pubs, all.Wait()
}

// watch notes what a subscriber is sent until its connection ends.
func watch(s sub, id int, log *invariant.Log) {
	defer s.Close()
	for {
		kind, body, err := s.read()
		if err != nil {
			return
		}
		if kind>>4 != 3 {
			continue
		}
		_, packet, payload, err := parsePublish(kind, body)
		if err != nil {
			return
		}
		if packet != 0 {
			_ = s.send(0x40, []byte{byte(packet >> 8), byte(packet)}) // its failure shows at the next read
		}
		e, ok := delivery(payload)
		if !ok {
			continue
		}
		e.Kind, e.Conn, e.Account = invariant.Delivered, id, s.account
		log.Add(e)
	}
}

// delivery reads what the check needs from a message's JSON; a full decoding of each delivery
// would cost more than the broker.
func delivery(payload []byte) (e invariant.Event, ok bool) {
	if !bytes.Contains(payload, []byte(`"Event":"Message"`)) {
		return e, false
	}
	e.Group = group.ID(value(payload, `"GroupId":`))
	seq, err := strconv.ParseInt(value(payload, `"MsgSeq":`), 10, 64)
	e.Seq = group.Seq(seq)
	random, _ := strconv.ParseUint(value(payload, `"Random":`), 10, 32)
	e.Message = invariant.MessageKey{From: group.Account(value(payload, `"From_Account":`)), Random: uint32(random), Body: value(payload, `"Text":`)}
	return e, err == nil
}

func value(payload []byte, name string) string {
	_, rest, ok := bytes.Cut(payload, []byte(name))
	if !ok {
		return ""
	}
	if rest[0] == '"' {
		end := bytes.IndexByte(rest[1:], '"')
		return string(rest[1 : 1+end])
	}
	return string(rest[:bytes.IndexAny(rest, ",}")])
}

// publish sends until the connection ends: first again what has no known outcome, then new messages.
func (w *world) publish(p *publisher, c *conn, log *invariant.Log) {
	var mu sync.Mutex
	pending := make(map[uint16]*message)
	slots := make(chan struct{}, w.outstanding)
	ended := make(chan struct{})
	again := p.unknown
	for _, m := range again {
		m.before = true
	}
	w.mu.Lock()
	for _, m := range w.last {
		if m.key.From == p.name {
			again = append(again, m)
		}
	}
	w.resent += len(again)
	w.mu.Unlock()
	p.unknown = nil
	go func() {
		defer close(ended)
		for {
			kind, body, err := c.read()
			if err != nil {
				return
			}
			if kind>>4 != 4 {
				continue
			}
			a, err := parseAck(body)
			if err != nil {
				return
			}
			mu.Lock()
			m := pending[a.id]
			delete(pending, a.id)
			mu.Unlock()
			if m == nil {
				continue
			}
			w.note(m, a, log)
			<-slots
		}
	}()
	var id uint16
	var left []*message
	for {
		var m *message
		if len(again) > 0 {
			m, again = again[0], again[1:]
		} else {
			p.next++
			m = &message{group: p.group, key: invariant.MessageKey{From: p.name, Random: p.next, Body: fmt.Sprintf("%s-%d", p.name, p.next)}}
		}
		select {
		case slots <- struct{}{}:
		case <-ended:
			if m.before {
				left = append(left, m)
			}
			goto end
		}
		if w.pause > 0 {
			time.Sleep(rand.N(w.pause))
		}
		if id++; id == 0 {
			id = 1
		}
		mu.Lock()
		pending[id] = m
		mu.Unlock()
		log.Add(invariant.Event{Kind: invariant.Sent, Group: m.group, Message: m.key, Again: m.before})
		if err := c.publish(topic(m.group), id, false, m.payload()); err != nil {
			break
		}
	}
end:
	_ = c.Close()
	<-ended
	for _, m := range pending {
		left = append(left, m)
	}
	for _, m := range again {
		if m.before {
			left = append(left, m)
		}
	}
	p.unknown = left
}

// note records an answer. A message that was acknowledged before must get the same SEQ again.
func (w *world) note(m *message, a ack, log *invariant.Log) {
	e := invariant.Event{Kind: invariant.Acked, Group: m.group, Message: m.key}
	if a.reason != 0 {
		e.Kind = invariant.Refused
		log.Add(e)
		return
	}
	seq, _ := strconv.ParseInt(a.props["MsgSeq"], 10, 64)
	e.Seq = group.Seq(seq)
	log.Add(e)
}

// checkEarlier checks what was acknowledged in all lives, and the answers to what was sent again.
func (w *world) checkEarlier(t *testing.T, life int, events []invariant.Event, content invariant.Content) {
	stored := make(map[place]invariant.MessageKey)
	for g, messages := range content {
		for _, s := range messages {
			stored[place{g, s.Seq}] = s.Message
		}
	}
	for key, at := range w.acked {
		if stored[at] != key {
			t.Errorf("life %d: %+v was acknowledged in an earlier life as %+v; there is %+v", life, key, at, stored[at])
		}
	}
	w.last = nil
	for _, e := range events {
		switch e.Kind {
		case invariant.Refused:
			t.Errorf("life %d: %+v was refused", life, e.Message)
		case invariant.Delivered:
			w.delivered++
		case invariant.Acked:
			if e.Seq == 0 {
				t.Errorf("life %d: %+v was acknowledged without a SEQ", life, e.Message)
			}
			at := place{e.Group, e.Seq}
			if was, ok := w.acked[e.Message]; ok && was != at {
				t.Errorf("life %d: %+v was acknowledged as %+v before, and sent again as %+v", life, e.Message, was, at)
			}
			w.acked[e.Message] = at
			if w.rand.IntN(20) == 0 && len(w.last) < 32 {
				w.last = append(w.last, &message{group: e.Group, key: e.Message, before: true})
			}
		}
	}
}

// read returns what is stored and closes the store.
func read(t *testing.T, store storage.Store, groups int) invariant.Content {
	t.Helper()
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	content := make(invariant.Content)
	for i := range groups {
		g, err := storage.FindGroup(t.Context(), store, groupID(i))
		if err != nil || g == nil {
			t.Fatalf("group %q: %v, %v", groupID(i), g, err)
		}
		for m, err := range store.Range(t.Context(), g.Key(), 1, 1<<40) {
			if err != nil {
				t.Fatal(err)
			}
			s := invariant.Stored{Seq: m.Seq, Time: m.Time, Released: m.Released, Priority: m.Priority, System: m.Has(group.System)}
			s.Message = invariant.MessageKey{From: m.From, Random: m.Random, Body: value(m.Body, `"Text":`)}
			content[g.ID] = append(content[g.ID], s)
		}
	}
	return content
}
