package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/client"
	"github.com/rookery-im/rookery/group"
)

// A fake is a server that misbehaves on request. It has the group g, whose history is from 1
// to tail.
type fake struct {
	mqtt.HookBase
	server *mqtt.Server
	addr   string

	mu       sync.Mutex
	tail     int64
	expired  int64                                            // history up to it is placeholders
	asked    map[string]int                                   // requests, by command
	answer   func(command string, n int, body []byte) *string // overrules; *nil: no reply at all
	publish  func(n int, payload []byte) error                // what becomes of messages
	messages [][]byte                                         // published
}

func newFake(t *testing.T) *fake {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newFakeOn(t, lis)
}

func newFakeOn(t *testing.T, lis net.Listener) *fake {
	t.Helper()
	f := &fake{server: mqtt.New(&mqtt.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)}), addr: lis.Addr().String(), asked: make(map[string]int)}
	if err := errors.Join(f.server.AddHook(f, nil), f.server.AddListener(listeners.NewNet("fake", lis)), f.server.Serve()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.server.Close() })
	return f
}

func (f *fake) ID() string { return "fake" }

func (f *fake) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck || b == mqtt.OnPublish
}

func (f *fake) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }
func (f *fake) OnACLCheck(*mqtt.Client, string, bool) bool              { return true }

func (f *fake) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	command, request := strings.CutPrefix(pk.TopicName, "rpc/")
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case cl.Net.Inline:
		return pk, nil
	case !request:
		f.messages = append(f.messages, bytes.Clone(pk.Payload))
		return pk, f.publish(len(f.messages), pk.Payload)
	}
	f.asked[command]++
	reply := f.reply(command, pk.Payload)
	if f.answer != nil {
		if other := f.answer(command, f.asked[command], pk.Payload); other != nil {
			reply = *other
		}
	}
	if reply != "" {
		out := packets.Packet{
			ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: pk.Properties.ResponseTopic, Payload: []byte(reply),
			Properties: packets.Properties{CorrelationData: bytes.Clone(pk.Properties.CorrelationData)},
		}
		_ = cl.WritePacket(out) // its loss is one more misbehaviour
	}
	return pk, nil
}

// reply answers as a server does. f.mu is held.
func (f *fake) reply(command string, body []byte) string {
	switch command {
	case "sync":
		return fmt.Sprintf(`{"Groups":[{"GroupId":"g","Type":"Public","NextMsgSeq":%d,"MsgFlag":"AcceptAndNotify","JoinTime":7}],"Cursor":""}`, f.tail+1)
	case "recentcontact_get_list":
		return `{"SessionItem":[],"CompleteFlag":1}`
	case "group_msg_get":
		var req struct{ ReqMsgSeq, ReqMsgNumber int64 }
		_ = json.Unmarshal(body, &req)
		if req.ReqMsgSeq == 0 {
			req.ReqMsgSeq = f.tail
		}
		var list []string
		for s := min(req.ReqMsgSeq, f.tail); s > 0 && int64(len(list)) < req.ReqMsgNumber; s-- {
			m := fmt.Sprintf(`{"From_Account":"eve","MsgSeq":%d,"MsgTimeStamp":1,"MsgPriority":2,"MsgBody":[]}`, s)
			if s <= f.expired {
				m = fmt.Sprintf(`{"IsPlaceMsg":1,"MsgSeq":%d,"MsgPriority":2,"MsgBody":[]}`, s)
			}
			list = append(list, m)
		}
		return `{"GroupId":"g","IsFinished":1,"RspMsgList":[` + strings.Join(list, ",") + `]}`
	}
	return `{"ErrorCode":0}`
}

// deliver publishes a live message. The tail follows.
func (f *fake) deliver(t *testing.T, seq int64) {
	t.Helper()
	f.mu.Lock()
	f.tail = max(f.tail, seq)
	f.mu.Unlock()
	payload := fmt.Sprintf(`{"Event":"Message","GroupId":"g","MsgSeq":%d,"MsgTime":1,"From_Account":"eve","MsgPriority":"Normal","MsgBody":[]}`, seq)
	if err := f.server.Publish("groups/g", []byte(payload), false, 0); err != nil {
		t.Fatal(err)
	}
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) count(command string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[command]
}

// dial logs in to the fake with a tail.
func (f *fake) dial(t *testing.T, tail int64, cfg client.Config) (*client.Client, *recorder) {
	t.Helper()
	f.set(func() { f.tail = tail })
	cfg.Server, cfg.Account = "mqtt://"+f.addr, "bob"
	return dial(t, cfg)
}

func failure(code int) *string {
	s := fmt.Sprintf(`{"ActionStatus":"FAIL","ErrorCode":%d,"ErrorInfo":"no"}`, code)
	return &s
}

var silence = new(string)

// TestRepair is what becomes of a gap between live messages.
func TestRepair(t *testing.T) {
	type seqs = []group.Seq
	for name, test := range map[string]struct {
		cfg    client.Config
		before func(f *fake)
		answer func(command string, n int, body []byte) *string
		live   []int64
		want   seqs
		gaps   []client.Gap
		pulls  int // at most
	}{
		"none":              {live: []int64{11, 12, 13}, want: seqs{11, 12, 13}},
		"doubled and late":  {live: []int64{11, 12, 11, 10, 12, 13}, want: seqs{11, 12, 13}},
		"one":               {live: []int64{11, 13}, want: seqs{11, 12, 13}, pulls: 1},
		"at the beginning":  {live: []int64{13}, want: seqs{11, 12, 13}, pulls: 1},
		"longer than pages": {live: []int64{11, 60}, want: ascending(11, 60), pulls: 3},
		"history is busy at first": {
			live: []int64{11, 13, 14}, want: seqs{11, 12, 13, 14}, pulls: 3,
			answer: func(command string, n int, _ []byte) *string {
				if command == "group_msg_get" && n < 3 {
					return failure(60011)
				}
				return nil
			},
		},
		"history does not answer at first": {
			cfg: client.Config{RequestTimeout: 50 * time.Millisecond}, live: []int64{11, 13, 14}, want: seqs{11, 12, 13, 14}, pulls: 2,
			answer: func(command string, n int, _ []byte) *string {
				if command == "group_msg_get" && n == 1 {
					return silence
				}
				return nil
			},
		},
		"history never answers": {
			cfg: client.Config{RequestTimeout: 20 * time.Millisecond, RepairTimeout: 50 * time.Millisecond}, live: []int64{11, 14, 15},
			want: seqs{11, 14, 15}, gaps: []client.Gap{{Group: "g", From: 12, To: 13}}, pulls: 10,
			answer: func(command string, _ int, _ []byte) *string {
				if command == "group_msg_get" {
					return silence
				}
				return nil
			},
		},
		"there is no history": {
			live: []int64{11, 14, 17}, want: seqs{11, 14, 17}, pulls: 1,
			answer: func(command string, _ int, _ []byte) *string {
				if command == "group_msg_get" {
					return failure(group.CodeNoHistory)
				}
				return nil
			},
		},
		"it has expired": {
			live: []int64{11, 15}, before: func(f *fake) { f.expired = 13 },
			want: seqs{11, 14, 15}, gaps: []client.Gap{{Group: "g", From: 12, To: 13}}, pulls: 1,
		},
		"pages are cut": {
			live: []int64{11, 15}, want: ascending(11, 15), pulls: 3,
			answer: func(command string, _ int, body []byte) *string {
				var req struct{ ReqMsgSeq int64 }
				if command != "group_msg_get" || json.Unmarshal(body, &req) != nil {
					return nil
				}
				finished := 0
				if req.ReqMsgSeq == 12 {
					finished = 1
				}
				s := fmt.Sprintf(`{"IsFinished":%d,"RspMsgList":[{"From_Account":"eve","MsgSeq":%d,"MsgPriority":2,"MsgBody":[]}]}`, finished, req.ReqMsgSeq)
				return &s
			},
		},
		"some are for others": {
			live: []int64{11, 15}, want: seqs{11, 13, 15}, pulls: 1,
			answer: func(command string, _ int, _ []byte) *string {
				if command != "group_msg_get" {
					return nil
				}
				s := `{"IsFinished":1,"RspMsgList":[{"From_Account":"eve","MsgSeq":13,"MsgBody":[]},{"From_Account":"eve","MsgSeq":10,"MsgBody":[]}]}`
				return &s
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.answer = test.answer
			_, r := f.dial(t, 10, test.cfg)
			if test.before != nil {
				f.set(func() { test.before(f) })
			}
			for _, seq := range test.live {
				f.deliver(t, seq)
			}
			end := group.Seq(slices.Max(test.live))
			r.until(t, "the last message", func() bool { return slices.Contains(r.seqs("g"), end) })
			r.mu.Lock()
			defer r.mu.Unlock()
			if got := r.seqs("g"); !equal(got, test.want) {
				t.Errorf("shown %d, want %d", got, test.want)
			}
			if gaps := eventsOf[client.Gap](r); !slices.Equal(gaps, test.gaps) {
				t.Errorf("gaps %+v, want %+v", gaps, test.gaps)
			}
			if pulls := f.count("group_msg_get"); pulls > test.pulls || pulls == 0 && test.pulls > 0 {
				t.Errorf("history was asked %d times, want 1 to %d", pulls, test.pulls)
			}
		})
	}
}

// TestChanges lets the server tell changes in its synchronisations and live: each is told once, and
// what it lists no more is told to be missing.
func TestChanges(t *testing.T) {
	f := newFake(t)
	var mu sync.Mutex
	var asked []string
	change, lost, list := 0, 0, ""
	f.answer = func(command string, n int, body []byte) *string {
		if command != "sync" {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		var req struct{ Since int64 }
		_ = json.Unmarshal(body, &req)
		asked = append(asked, fmt.Sprint(req.Since))
		return new(fmt.Sprintf(`{"Groups":[{"GroupId":"g","Type":"Public","NextMsgSeq":%d,"MsgFlag":"AcceptAndNotify","JoinTime":7,"ChangeSeq":%d,"LostChangeSeq":%d,"Changes":[%s]}],"Cursor":"","ServerTime":%d}`,
			f.tail+1, change, lost, list, 1000*n))
	}
	c, r := f.dial(t, 10, client.Config{BackoffMin: time.Millisecond})
	recall := func(n, seq int) string {
		return fmt.Sprintf(`{"Event":"Recall","GroupId":"g","ChangeSeq":%d,"MsgSeq":%d}`, n, seq)
	}
	live := func(n, seq int) {
		t.Helper()
		if err := f.server.Publish("groups/g", []byte(recall(n, seq)), false, 0); err != nil {
			t.Fatal(err)
		}
	}
	told := func(what string, seqs ...group.Seq) {
		t.Helper()
		r.until(t, what, func() bool {
			var got []group.Seq
			for _, e := range eventsOf[client.Recalled](r) {
				got = append(got, e.Seq)
			}
			return equal(got, seqs)
		})
	}
	again := func(newChange, newLost int, events ...string) {
		t.Helper()
		mu.Lock()
		change, lost, list = newChange, newLost, strings.Join(events, ",")
		mu.Unlock()
		r.mu.Lock()
		want := r.refresh + 1
		r.mu.Unlock()
		for _, cl := range f.server.Clients.GetAll() {
			if !cl.Net.Inline {
				cl.Stop(errors.New("cut"))
			}
		}
		r.until(t, "OnRefresh", func() bool { return r.refresh >= want })
	}
	live(1, 3)
	told("live", 3)
	again(3, 0, recall(1, 3), recall(2, 11), recall(3, 5)) // 11 was never shown
	told("what was missed", 3, 5)
	live(3, 5)
	live(5, 6) // 4 is of a message for others, or was lost
	told("live again", 3, 5, 6)
	again(5, 0, recall(4, 7), recall(5, 6))
	told("both, since 4 might have been lost", 3, 5, 6, 7, 6)
	again(9, 7, recall(8, 8), recall(9, 9))
	told("the latest", 3, 5, 6, 7, 6, 8, 9)
	r.mu.Lock()
	if n := len(eventsOf[client.ChangesMissed](r)); n != 1 {
		t.Errorf("%d times ChangesMissed, want 1", n)
	}
	r.mu.Unlock()
	c.Close()
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"0", "1000", "2000", "3000"}; !slices.Equal(asked, want) {
		t.Errorf("sync was asked for changes since %v, want %v", asked, want)
	}
}

// TestNewLife deletes a group and makes another of the same id while the client is away.
func TestNewLife(t *testing.T) {
	f := newFake(t)
	store := new(client.MemoryStore)
	if err := store.Save(t.Context(), "g", client.Position{Shown: 50, Joined: 6}); err != nil {
		t.Fatal(err)
	}
	if err := store.Save(t.Context(), "left", client.Position{Shown: 50, Joined: 6}); err != nil {
		t.Fatal(err)
	}
	c, r := f.dial(t, 60, client.Config{Store: store})
	f.deliver(t, 61)
	r.until(t, "the message", func() bool { return slices.Contains(r.seqs("g"), 61) })
	r.mu.Lock()
	if got := r.seqs("g"); !equal(got, []group.Seq{61}) {
		t.Errorf("shown %d: 51 to 60 are of a life that the client was not in", got)
	}
	r.mu.Unlock()
	c.Close()
	positions, err := store.Load(t.Context())
	if want := (client.Position{Shown: 61, Joined: 7}); err != nil || len(positions) != 1 || positions["g"] != want {
		t.Errorf("positions %+v, %v; want g at %+v alone", positions, err, want)
	}
}

// TestExpiredHistory jumps over what has expired instead of paging through it.
func TestExpiredHistory(t *testing.T) {
	f := newFake(t)
	c, _ := f.dial(t, 1_000_000, client.Config{})
	f.set(func() { f.expired = 999_950 })
	var got []group.Seq
	for m, err := range c.Messages(t.Context(), "g", 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Seq)
	}
	if !equal(got, ascending(999_951, 1_000_000)) || f.count("group_msg_get") > 30 {
		t.Errorf("%d messages in %d requests, want 50 in at most 30", len(got), f.count("group_msg_get"))
	}
	got = nil
	for m, err := range c.MessagesBefore(t.Context(), "g", 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Seq)
	}
	slices.Reverse(got)
	if !equal(got, ascending(999_951, 1_000_000)) {
		t.Errorf("backwards: %d messages, want 50", len(got))
	}
}

// TestHistoryForOthers goes on where a page ends with what is not for the account.
func TestHistoryForOthers(t *testing.T) {
	f := newFake(t)
	f.answer = func(command string, _ int, body []byte) *string {
		var req struct{ ReqMsgSeq int64 }
		if command != "group_msg_get" || json.Unmarshal(body, &req) != nil {
			return nil
		}
		s := `{"IsFinished":0,"RspMsgList":[{"From_Account":"eve","MsgSeq":2000,"MsgBody":[]},{"IsPlaceMsg":1,"MsgSeq":1001,"MsgBody":[]}]}`
		if req.ReqMsgSeq == 1000 {
			s = `{"IsFinished":1,"RspMsgList":[{"From_Account":"eve","MsgSeq":7,"MsgBody":[]},{"IsPlaceMsg":1,"MsgSeq":6,"MsgBody":[]}]}`
		}
		return &s
	}
	c, _ := f.dial(t, 2000, client.Config{})
	var got []group.Seq
	for m, err := range c.MessagesBefore(t.Context(), "g", 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Seq)
	}
	if !equal(got, []group.Seq{2000, 7}) {
		t.Errorf("got %d, want 2000 and 7", got)
	}
}

// TestSendAgain sends until the server takes the message, always the same one.
func TestSendAgain(t *testing.T) {
	f := newFake(t)
	c, _ := f.dial(t, 10, client.Config{RequestTimeout: 100 * time.Millisecond})
	f.set(func() {
		f.publish = func(n int, _ []byte) error {
			if n < 3 {
				return packets.Code{Code: 0x83, Reason: "10002 the message was not stored, retry"}
			}
			return nil
		}
	})
	if _, err := c.Send(t.Context(), "g", &client.Draft{Body: []client.Element{client.Text("hi")}}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	if len(f.messages) != 3 || !bytes.Equal(f.messages[0], f.messages[2]) || !bytes.Contains(f.messages[0], []byte(`"Random":`)) {
		t.Errorf("published %q", f.messages)
	}
	f.messages, f.publish = nil, func(int, []byte) error { return packets.Code{Code: 0x87, Reason: "10017 muted"} }
	f.mu.Unlock()
	_, err := c.Send(t.Context(), "g", &client.Draft{Body: []client.Element{client.Text("hi")}})
	wantCode(t, "Send", err, group.CodeMuted)
}

// TestCallAgain repeats what does no harm, and nothing else.
func TestCallAgain(t *testing.T) {
	f := newFake(t)
	f.answer = func(command string, n int, _ []byte) *string {
		if n == 1 && (command == "msg_read_report" || command == "create_group") {
			return silence
		}
		return nil
	}
	c, _ := f.dial(t, 10, client.Config{RequestTimeout: 50 * time.Millisecond})
	if err := c.MarkRead(t.Context(), "g", 5); err != nil || f.count("msg_read_report") != 2 {
		t.Errorf("MarkRead: %v after %d requests", err, f.count("msg_read_report"))
	}
	_, err := c.CreateGroup(t.Context(), client.NewGroup{Type: group.Public, Name: "n"})
	if !errors.Is(err, client.ErrOutcomeUnknown) || f.count("create_group") != 1 {
		t.Errorf("CreateGroup: %v after %d requests", err, f.count("create_group"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	f.set(func() { f.answer = func(string, int, []byte) *string { return silence } })
	if err := c.MarkRead(ctx, "g", 6); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("MarkRead without an answer: %v", err)
	}
}

// FuzzPublish feeds a client what a server must not publish.
func FuzzPublish(f *testing.F) {
	for _, seed := range []string{
		`{"Event":"Message","GroupId":"g","MsgSeq":11,"MsgPriority":"High","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}]}`,
		`{"Event":"Tip","GroupId":"g"}`, `{"Event":"Recall","GroupId":"g","MsgSeq":3}`, `{"Event":"Message"}`, `[]`, ``, `{"Event":"Message","GroupId":"g","MsgSeq":-1}`,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, payload []byte, inbox bool) {
		m, ev, err := client.Decode(payload, inbox)
		switch {
		case err != nil:
			if m != nil || ev != nil {
				t.Errorf("Decode returned something next to %v", err)
			}
		case (m == nil) == (ev == nil):
			t.Errorf("Decode = %v, %v", m, ev)
		case m != nil && (m.Group == "" || m.Seq < 0 || m.Priority < group.High || m.Priority > group.Lowest || inbox):
			t.Errorf("Decode = %+v", m)
		case m != nil:
			_ = m.Text()
		}
	})
}
