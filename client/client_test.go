package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rookery-im/rookery/client"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/internal/crash"
	"github.com/rookery-im/rookery/usersig"
)

// TestComingOnline is what somebody sees who was away while 250 messages were sent.
func TestComingOnline(t *testing.T) {
	n := start(t)
	makeGroup(t, n, "c", "alice", "bob")
	makeGroup(t, n, "quiet", "alice", "bob")
	alice, _ := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "alice"})
	before := tail(t, alice, "c")
	for i := range 250 {
		send(t, alice, "c", fmt.Sprint("message ", i))
	}
	end := before + 250

	bob, r := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "bob", Platform: "PC"})
	live := send(t, alice, "c", "live")
	r.until(t, "the live message", func() bool { return slices.Contains(r.seqs("c"), live) })
	r.mu.Lock()
	calls := slices.DeleteFunc(slices.Clone(r.calls), func(s string) bool { return len(s) > 13 && s[:13] == "message quiet" })
	r.mu.Unlock()
	want := []string{"event client.Connected", fmt.Sprint("message c ", end), "refresh", fmt.Sprint("message c ", live)}
	if !slices.Equal(calls, want) || live != end+1 {
		t.Errorf("calls: %q, want %q", calls, want)
	}
	conv, ok := bob.Conversation("c")
	if !ok || conv.Unread != 251 || conv.ReadSeq > before || conv.LastSeq != live || conv.Last == nil || conv.Last.Text() != "live" || conv.Role != group.OrdinaryMember {
		t.Errorf("conversation: %+v, last %+v; want 251 unread", conv, conv.Last)
	}
	if first := bob.Conversations()[0]; first.Group != "c" {
		t.Errorf("the newest conversation is %s", first.Group)
	}

	var texts, back []string
	for m, err := range bob.Messages(t.Context(), "c", before+1) {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, m.Text())
	}
	for m, err := range bob.MessagesBefore(t.Context(), "c", end) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Seq > before {
			back = append(back, m.Text())
		}
	}
	slices.Reverse(back)
	if len(texts) != 251 || texts[0] != "message 0" || texts[249] != "message 249" || texts[250] != "live" || !slices.Equal(back, texts[:250]) {
		t.Errorf("history has %d messages (%q…), backwards %d", len(texts), texts[:min(3, len(texts))], len(back))
	}

	if err := bob.MarkRead(t.Context(), "c", end); err != nil {
		t.Fatal(err)
	}
	if conv, _ := bob.Conversation("c"); conv.Unread != 1 || conv.ReadSeq != end {
		t.Errorf("after MarkRead: %d unread, read to %d", conv.Unread, conv.ReadSeq)
	}
	bob.Close()
	again, _ := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "bob"})
	if conv, _ := again.Conversation("c"); conv.Unread != 1 || conv.ReadSeq != end {
		t.Errorf("the server says %d unread, read to %d; want 1, %d", conv.Unread, conv.ReadSeq, end)
	}
}

// TestStore lets a client end and come back with its Store: it is shown what it missed, once.
func TestStore(t *testing.T) {
	n := start(t)
	makeGroup(t, n, "c", "alice", "bob")
	alice, _ := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "alice"})
	store := new(client.MemoryStore)
	bob, r := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "bob", Store: store})
	first := send(t, alice, "c", "first")
	r.until(t, "the first message", func() bool { return slices.Contains(r.seqs("c"), first) })
	bob.Close()
	for i := range 45 {
		send(t, alice, "c", fmt.Sprint("missed ", i))
	}
	again, r := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "bob", Store: store})
	r.mu.Lock()
	if got := r.seqs("c"); !equal(got, ascending(first+1, first+45)) {
		t.Errorf("shown before the refresh: %d, want %d to %d", got, first+1, first+45)
	}
	r.mu.Unlock()
	again.Close()

	for i := range 45 {
		send(t, alice, "c", fmt.Sprint("missed again ", i))
	}
	_, r = dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "bob", Store: store, CatchUp: 30})
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := r.seqs("c"); !equal(got, ascending(first+61, first+90)) {
		t.Errorf("with CatchUp 30: %d, want %d to %d", got, first+61, first+90)
	}
	if gaps := eventsOf[client.Gap](r); !slices.Equal(gaps, []client.Gap{{Group: "c", From: first + 46, To: first + 60}}) {
		t.Errorf("gaps: %+v", gaps)
	}
}

// TestMissedChanges changes messages and memberships while a client is away; it is told of them
// before it is synchronised, once.
func TestMissedChanges(t *testing.T) {
	n := start(t)
	ctx := t.Context()
	for _, id := range []group.ID{"c", "kicks", "ends"} {
		makeGroup(t, n, id, "alice", "bob")
	}
	cfg := client.Config{Server: "mqtt://" + n.MQTT, Account: "bob", Store: new(client.MemoryStore)}
	alice, _ := dial(t, client.Config{Server: cfg.Server, Account: "alice"})
	bob, r := dial(t, cfg)
	first := send(t, alice, "c", "first")
	second := send(t, alice, "c", "second")
	r.until(t, "the messages", func() bool { return slices.Contains(r.seqs("c"), second) })
	bob.Close()

	third := send(t, alice, "c", "third")
	if err := errors.Join(alice.Recall(ctx, "c", "oops", first), alice.Recall(ctx, "c", "never shown", third)); err != nil {
		t.Fatal(err)
	}
	call(t, n, "openim/modify_group_msg", object{"GroupId": "c", "MsgSeq": second, "MsgBody": []client.Element{client.Text("changed")}})
	if err := errors.Join(alice.RemoveMembers(ctx, "kicks", "bye", "bob"), alice.DestroyGroup(ctx, "ends")); err != nil {
		t.Fatal(err)
	}
	fourth := send(t, alice, "c", "fourth")

	bob, r = dial(t, cfg)
	r.mu.Lock()
	want := []string{
		"event client.Connected", "event client.Notice", "event client.Notice", "event client.Recalled", "event client.Modified",
		fmt.Sprint("message c ", fourth), "refresh",
	}
	if !slices.Equal(r.calls, want) {
		t.Errorf("calls: %q, want %q", r.calls, want)
	}
	var notices []string
	for _, e := range eventsOf[client.Notice](r) {
		notices = append(notices, fmt.Sprint(e.Name, " ", e.Group, " ", e.ReportType, " by ", e.Operator))
	}
	if slices.Sort(notices); !slices.Equal(notices, []string{"Dismissed ends 5 by alice", "Left kicks 4 by alice"}) {
		t.Errorf("notices: %q", notices)
	}
	if got := eventsOf[client.Recalled](r); !slices.Equal(got, []client.Recalled{{Group: "c", Seq: first, By: "alice", Reason: "oops"}}) {
		t.Errorf("recalled: %+v", got)
	}
	if got := eventsOf[client.Modified](r)[0]; got.Seq != second || got.From != "alice" || len(got.Body) != 1 || !strings.Contains(string(got.Body[0].Content), "changed") {
		t.Errorf("modified: %+v", got)
	}
	r.mu.Unlock()
	if err := alice.Recall(ctx, "c", "live", fourth); err != nil {
		t.Fatal(err)
	}
	r.until(t, "Recalled", func() bool { return len(eventsOf[client.Recalled](r)) == 2 })
	bob.Close()

	_, r = dial(t, cfg)
	r.mu.Lock()
	if want := []string{"event client.Connected", "refresh"}; !slices.Equal(r.calls, want) {
		t.Errorf("calls when nothing was missed: %q, want %q", r.calls, want)
	}
	r.mu.Unlock()
}

// TestLiveRoom loses its connection while it is in two live rooms, of which it is taken out of one
// meanwhile: it is still in the other, in which nothing is unread.
func TestLiveRoom(t *testing.T) {
	n := start(t)
	ctx := t.Context()
	call(t, n, "im_open_login_svc/account_import", object{"UserID": "alice"})
	for _, id := range []string{"stays", "bans"} {
		call(t, n, "group_open_http_svc/create_group", object{"Type": "AVChatRoom", "GroupId": id, "Name": id, "Owner_Account": "alice"})
	}
	p := newProxy(t, n.MQTT)
	bob, r := dial(t, client.Config{Server: "mqtt://" + p.addr, Account: "bob", BackoffMin: time.Millisecond})
	for _, id := range []group.ID{"stays", "bans"} {
		if in, err := bob.Join(ctx, id, ""); err != nil || !in {
			t.Fatalf("Join = %v, %v", in, err)
		}
	}
	alice, _ := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "alice"})
	say := func(text string) {
		t.Helper()
		send(t, alice, "stays", text)
		r.until(t, text, func() bool { return len(r.shown) > 0 && r.shown[len(r.shown)-1].Text() == text })
	}
	say("before")
	p.freeze()
	p.cut()
	r.until(t, "Disconnected", func() bool { return len(eventsOf[client.Disconnected](r)) > 0 })
	call(t, n, "group_open_http_svc/ban_group_member", object{"GroupId": "bans", "Members_Account": []string{"bob"}, "Duration": 100})
	p.unfreeze()
	r.until(t, "OnRefresh", func() bool { return r.refresh >= 2 })
	if conv, ok := bob.Conversation("stays"); !ok || conv.Name != "stays" {
		t.Errorf("the room is not there after the connection was lost: %+v", conv)
	}
	if conv, ok := bob.Conversation("bans"); ok {
		t.Errorf("the room from which bob is banned is there: %+v", conv)
	}
	say("after")
	say("again")
	if conv, _ := bob.Conversation("stays"); conv.Unread != 0 || conv.Type != "AVChatRoom" {
		t.Errorf("the room: %+v; want nothing unread", conv)
	}
}

// TestUnread sends what counts and what does not, and reads on two devices and by REST, at random:
// both devices always have the number that the server counts.
func TestUnread(t *testing.T) {
	n := start(t)
	ctx := t.Context()
	makeGroup(t, n, "c", "alice", "bob", "carol")
	server := "mqtt://" + n.MQTT
	alice, _ := dial(t, client.Config{Server: server, Account: "alice"})
	phone, onPhone := dial(t, client.Config{Server: server, Account: "bob"})
	pad, onPad := dial(t, client.Config{Server: server, Account: "bob"})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	end := tail(t, alice, "c")
	text := []client.Element{client.Text("hello")}
	for i := range 60 {
		var err error
		what := ""
		switch random.IntN(8) {
		case 0, 1, 2:
			what = "a message"
			end = send(t, alice, "c", "hello")
		case 3:
			what = "a directed message"
			var r client.Receipt
			r, err = alice.Send(ctx, "c", &client.Draft{Body: text, To: []group.Account{[]group.Account{"bob", "carol"}[random.IntN(2)]}})
			end = r.Seq
		case 4:
			what = "a message that does not count"
			call(t, n, "group_open_http_svc/send_group_msg", object{"GroupId": "c", "From_Account": "alice", "Random": i + 1, "MsgBody": text, "SendMsgControl": []string{"NoUnread"}})
			end++
		case 5:
			what = "read on the phone"
			err = phone.MarkRead(ctx, "c", 1+group.Seq(random.Int64N(int64(end+1))))
		case 6:
			what = "read on the pad"
			err = pad.MarkRead(ctx, "c", 1+group.Seq(random.Int64N(int64(end+1))))
		case 7:
			what = "set by REST"
			call(t, n, "group_open_http_svc/set_unread_msg_num", object{"GroupId": "c", "Member_Account": "bob", "UnreadMsgNum": random.IntN(10)})
		}
		if err != nil {
			t.Fatal(err)
		}
		barrier := fmt.Sprint("barrier ", i)
		if _, err := alice.Send(ctx, "c", &client.Draft{Body: []client.Element{client.Text(barrier)}, OnlineOnly: true}); err != nil {
			t.Fatal(err)
		}
		var all struct {
			Groups []struct {
				ReadSeq      group.Seq
				UnreadMsgNum int
			}
		}
		if err := phone.Call(ctx, "sync", object{}, &all); err != nil || len(all.Groups) != 1 {
			t.Fatalf("sync: %+v, %v", all, err)
		}
		want := all.Groups[0]
		for device, seen := range map[*client.Client]*recorder{phone: onPhone, pad: onPad} {
			seen.until(t, barrier, func() bool { return len(seen.shown) > 0 && seen.shown[len(seen.shown)-1].Text() == barrier })
			if got, _ := device.Conversation("c"); got.Unread != want.UnreadMsgNum || got.ReadSeq != want.ReadSeq {
				t.Fatalf("step %d, %s: %d unread, read to %d; the server says %d, %d", i, what, got.Unread, got.ReadSeq, want.UnreadMsgNum, want.ReadSeq)
			}
		}
	}
}

// TestSlowHandler lets more arrive than the queue holds while a handler is busy.
func TestSlowHandler(t *testing.T) {
	n := start(t)
	makeGroup(t, n, "c", "alice", "bob")
	alice, _ := dial(t, client.Config{Server: "mqtt://" + n.MQTT, Account: "alice"})
	r := new(recorder)
	cfg := r.config(client.Config{Server: "mqtt://" + n.MQTT, Account: "bob", UserSig: sign("bob"), QueueLen: 5})
	release := make(chan struct{})
	var blocked atomic.Bool
	record := cfg.OnNewMessage
	cfg.OnNewMessage = func(c *client.Client, m client.Message) {
		if m.Text() == "busy" && blocked.CompareAndSwap(false, true) {
			<-release
			// A reply must find its way although the queue is full.
			if _, err := c.GroupInfo(context.Background(), "c"); err != nil {
				t.Error(err)
			}
		}
		record(c, m)
	}
	bob, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	r.until(t, "OnRefresh", func() bool { return r.refresh > 0 })
	start := send(t, alice, "c", "busy")
	for i := range 60 {
		send(t, alice, "c", fmt.Sprint(i))
	}
	close(release)
	r.until(t, "the last message", func() bool { return slices.Contains(r.seqs("c"), start+60) })
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.seqs("c")
	if i := slices.Index(got, start); !equal(got[i:], ascending(start, start+60)) {
		t.Errorf("shown: %d, want %d to %d", got, start, start+60)
	}
}

// TestRestart restarts the server under a client that sends.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := run(t, dir)
	makeGroup(t, n, "c", "alice")
	p := newProxy(t, n.MQTT)
	alice, r := dial(t, client.Config{Server: "mqtt://" + p.addr, Account: "alice", BackoffMax: 200 * time.Millisecond})
	first := send(t, alice, "c", "before")
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	type result struct {
		client.Receipt
		err error
	}
	done := make(chan result, 1)
	draft := &client.Draft{Body: []client.Element{client.Text("meanwhile")}}
	go func() {
		receipt, err := alice.Send(t.Context(), "c", draft)
		done <- result{receipt, err}
	}()
	r.until(t, "a failed attempt to connect", func() bool { return len(eventsOf[client.Refused](r)) > 0 })
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := alice.Send(short, "c", &client.Draft{Body: draft.Body}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("Send without a server: %v", err)
	}
	n = startIn(t, dir)
	p.redirect(n.MQTT)
	got := <-done
	if got.err != nil || got.Seq != first+1 || got.Time.IsZero() || draft.Random == 0 {
		t.Fatalf("Send over a restart: %+v, want SEQ %d", got, first+1)
	}
	// The same draft again is the same message.
	again, err := alice.Send(t.Context(), "c", draft)
	if err != nil || again != got.Receipt {
		t.Errorf("Send again: %+v, %v; want %+v", again, err, got.Receipt)
	}
	r.until(t, "the message", func() bool { return slices.Contains(r.seqs("c"), got.Seq) })
}

// TestRefusals are the errors that the server tells.
func TestRefusals(t *testing.T) {
	n := start(t)
	makeGroup(t, n, "c", "alice", "bob")
	server := "mqtt://" + n.MQTT
	alice, _ := dial(t, client.Config{Server: server, Account: "alice"})
	bob, _ := dial(t, client.Config{Server: server, Account: "bob"})
	eve, _ := dial(t, client.Config{Server: server, Account: "eve"})
	text := &client.Draft{Body: []client.Element{client.Text("hi")}}
	_, err := eve.Send(t.Context(), "c", text)
	wantCode(t, "Send by a stranger", err, group.CodeNotPermitted)
	_, err = bob.Send(t.Context(), "c", &client.Draft{})
	wantCode(t, "Send without a body", err, group.CodeBadParameter)
	wantCode(t, "Mute by a member", bob.Mute(t.Context(), "c", time.Minute, "alice"), group.CodeNotPermitted)
	if err := alice.Mute(t.Context(), "c", time.Minute, "bob"); err != nil {
		t.Error(err)
	}
	_, err = bob.Send(t.Context(), "c", text)
	wantCode(t, "Send while muted", err, group.CodeMuted)
	if muted, err := alice.MutedMembers(t.Context(), "c"); err != nil || len(muted) != 1 || muted[0].Account != "bob" {
		t.Errorf("MutedMembers = %v, %v", muted, err)
	}
	wantCode(t, "an unknown command", alice.Call(t.Context(), "no_such_command", object{}, nil), group.CodeUnknownCommand)
	for _, err := range eve.Messages(t.Context(), "c", 0) {
		wantCode(t, "Messages for a stranger", err, group.CodeNotPermitted)
	}
}

func wantCode(t *testing.T, what string, err error, code int) {
	t.Helper()
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != code {
		t.Errorf("%s: %v, want code %d", what, err, code)
	}
}

// TestUserSig is the source's part in logins.
func TestUserSig(t *testing.T) {
	n := start(t)
	at := func(age, lifetime time.Duration) string {
		sig, err := usersig.Generate(crash.App, "alice", time.Now().Add(-age), lifetime, nil)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	cfg := client.Config{Server: "mqtt://" + n.MQTT, Account: "alice", BackoffMin: time.Millisecond}
	var asked atomic.Int32
	cfg.UserSig = func(context.Context) (string, error) {
		if asked.Add(1) == 1 {
			return at(2*time.Hour, time.Hour), nil
		}
		return at(0, time.Hour), nil
	}
	c, _ := dial(t, cfg)
	if asked.Load() != 2 {
		t.Errorf("the source was asked %d times, want 2: the first UserSig had expired", asked.Load())
	}
	c.Close()
	for name, bad := range map[string]struct {
		sig  string
		code int
	}{
		"always expired": {at(2*time.Hour, time.Hour), usersig.CodeExpired},
		"no UserSig":     {"not one", usersig.CodeMalformed},
	} {
		cfg.UserSig = func(context.Context) (string, error) { return bad.sig, nil }
		_, err := client.Dial(t.Context(), cfg)
		wantCode(t, name, err, bad.code)
	}
	cfg.UserSig = func(context.Context) (string, error) { return "", errors.New("no signer") }
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := client.Dial(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial without a UserSig: %v", err)
	}
}

// TestKicked ends a client for good: by another device of the same name, and by an administrator.
func TestKicked(t *testing.T) {
	n := start(t)
	cfg := client.Config{Server: "mqtt://" + n.MQTT, Account: "alice", Device: "phone"}
	first, r := dial(t, cfg)
	second, r2 := dial(t, cfg)
	<-first.Done()
	r.until(t, "Kicked", func() bool { return len(eventsOf[client.Kicked](r)) == 1 })
	if _, err := first.Send(t.Context(), "c", &client.Draft{Body: []client.Element{client.Text("hi")}}); !errors.Is(err, client.ErrKicked) || !errors.Is(first.Err(), client.ErrKicked) {
		t.Errorf("Send after the end: %v", err)
	}
	call(t, n, "im_open_login_svc/kick", object{"UserID": "alice"})
	<-second.Done()
	r2.until(t, "Kicked", func() bool { return len(eventsOf[client.Kicked](r2)) == 1 })
}

// TestEvents is what two members are told of what they do.
func TestEvents(t *testing.T) {
	n := start(t)
	ctx := t.Context()
	call(t, n, "im_open_login_svc/multiaccount_import", object{"AccountList": []object{{"UserID": "alice"}, {"UserID": "bob"}}})
	server := "mqtt://" + n.MQTT
	alice, ra := dial(t, client.Config{Server: server, Account: "alice"})
	bob, rb := dial(t, client.Config{Server: server, Account: "bob"})
	pad, rp := dial(t, client.Config{Server: server, Account: "bob"})
	id, err := alice.CreateGroup(ctx, client.NewGroup{Type: group.Public, Name: "birds", ID: "birds / +", ApplyJoinOption: group.FreeAccess})
	if err != nil || id != "birds / +" {
		t.Fatalf("CreateGroup = %q, %v", id, err)
	}
	if in, err := bob.Join(ctx, id, "hello"); err != nil || !in {
		t.Fatalf("Join = %v, %v", in, err)
	}
	rp.until(t, "Joined", func() bool {
		return slices.ContainsFunc(eventsOf[client.Notice](rp), func(e client.Notice) bool { return e.Name == "Joined" && e.Group == id })
	})
	seq := send(t, alice, id, "hi")
	for _, r := range []*recorder{ra, rb, rp} {
		r.until(t, "the message", func() bool { return slices.Contains(r.seqs(id), seq) })
	}
	if conv, _ := pad.Conversation(id); conv.Unread == 0 {
		t.Errorf("nothing is unread: %+v", conv)
	}
	if err := bob.MarkRead(ctx, id, seq); err != nil {
		t.Fatal(err)
	}
	rp.until(t, "ReadElsewhere", func() bool {
		return slices.Contains(eventsOf[client.ReadElsewhere](rp), client.ReadElsewhere{Group: id, Seq: seq})
	})
	if conv, _ := pad.Conversation(id); conv.Unread != 0 || conv.ReadSeq != seq {
		t.Errorf("on the other device: %+v", conv)
	}
	if err := alice.Recall(ctx, id, "oops", seq); err != nil {
		t.Fatal(err)
	}
	rb.until(t, "Recalled", func() bool {
		return slices.Contains(eventsOf[client.Recalled](rb), client.Recalled{Group: id, Seq: seq, By: "alice", Reason: "oops"})
	})
	wantCode(t, "Recall of nothing", alice.Recall(ctx, id, "", 999), group.CodeNoMessage)
	asks, err := alice.Send(ctx, id, &client.Draft{Body: []client.Element{client.Text("read?")}, NeedReceipt: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.ConfirmRead(ctx, id, asks.Seq); err != nil {
		t.Fatal(err)
	}
	ra.until(t, "Confirmed", func() bool { return len(eventsOf[client.Confirmed](ra)) == 1 })
	if got, err := alice.Receipts(ctx, id, asks.Seq); err != nil || len(got) != 1 || got[0].Read != 1 || got[0].Unread != 0 {
		t.Errorf("Receipts = %+v, %v", got, err)
	}
	if err := bob.SetReceiveOption(ctx, id, group.Discard); err != nil {
		t.Fatal(err)
	}
	unwanted := send(t, alice, id, "unwanted")
	if err := bob.SetReceiveOption(ctx, id, group.AcceptAndNotify); err != nil {
		t.Fatal(err)
	}
	for _, none := range []group.ReceiveOption{group.DefaultReceive, 99} {
		if err := bob.SetReceiveOption(ctx, id, none); err == nil {
			t.Errorf("receive option %d was taken", none)
		}
	}
	if err := bob.SetNameCard(ctx, id, ""); err == nil {
		t.Error("an empty name card was taken")
	}
	if c, _ := bob.Conversation(id); c.Receive != group.AcceptAndNotify {
		t.Errorf("after a refused receive option it is %v", c.Receive)
	}
	wanted := send(t, alice, id, "wanted")
	rb.until(t, "the wanted message", func() bool { return slices.Contains(rb.seqs(id), wanted) })
	rb.mu.Lock()
	if slices.Contains(rb.seqs(id), unwanted) {
		t.Error("a discarded message was shown")
	}
	rb.mu.Unlock()
	members, total, err := bob.Members(ctx, id, 0, 10)
	if err != nil || total != 2 || len(members) != 2 || members[0].Account != "alice" || members[0].Role != "Owner" {
		t.Errorf("Members = %+v, %d, %v", members, total, err)
	}
	if err := errors.Join(bob.SetNameCard(ctx, id, "Bobby"), bob.SetNick(ctx, "B."), alice.ModifyGroup(ctx, id, client.GroupChange{Name: "owls"})); err != nil {
		t.Fatal(err)
	}
	if info, err := bob.GroupInfo(ctx, id); err != nil || info.Name != "owls" || info.Owner != "alice" {
		t.Errorf("GroupInfo = %+v, %v", info, err)
	}
	profiles, err := alice.Profiles(ctx, []string{"Tag_Profile_IM_Nick"}, "bob")
	if err != nil || string(profiles["bob"]["Tag_Profile_IM_Nick"]) != `"B."` {
		t.Errorf("Profiles = %s, %v", profiles, err)
	}
	if err := alice.RemoveMembers(ctx, id, "bye", "bob"); err != nil {
		t.Fatal(err)
	}
	rb.until(t, "Left", func() bool {
		return slices.ContainsFunc(eventsOf[client.Notice](rb), func(e client.Notice) bool { return e.Name == "Left" && e.Group == id })
	})
	if conv, ok := bob.Conversation(id); ok {
		t.Errorf("after the removal: %+v", conv)
	}
}

func TestConfigValidate(t *testing.T) {
	err := client.Config{Server: "http://x", KeepAlive: time.Millisecond, QueueLen: -1, BackoffMin: -1}.Validate()
	for _, want := range []string{"Server", "Account", "UserSig", "KeepAlive", "QueueLen", "BackoffMin"} {
		if err == nil || !strings.Contains(err.Error(), "client: "+want+":") {
			t.Errorf("Validate does not name %s: %v", want, err)
		}
	}
}

func TestBackoff(t *testing.T) {
	var different bool
	first := client.Backoffs(client.Config{}, 40)
	for range 10 {
		waits := client.Backoffs(client.Config{}, 40)
		limit := 500 * time.Millisecond
		for i, d := range waits {
			switch {
			case i == 0 && d != 0:
				t.Errorf("the first attempt waits for %v", d)
			case i > 0 && (d < 0 || d >= limit):
				t.Errorf("attempt %d waits for %v, want less than %v", i+1, d, limit)
			}
			if i > 0 {
				limit = min(2*limit, 30*time.Second)
			}
			different = different || d != first[i]
		}
	}
	if !different {
		t.Error("the waits are not random")
	}
}
