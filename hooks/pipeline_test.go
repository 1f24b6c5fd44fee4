package hooks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A recorder is a Deliverer that keeps everything.
type recorder struct {
	mu    sync.Mutex
	items []hooks.Delivery
}

func (r *recorder) Deliver(_ group.Key, batch []hooks.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items = append(r.items, batch...)
}

func (r *recorder) seqs() (seqs []group.Seq) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.items {
		if d.Message != nil {
			seqs = append(seqs, d.Message.Seq)
		}
	}
	return seqs
}

// A bench is a pipeline over a store in memory, with a group g1 (owner alice, member bob).
type bench struct {
	*hooks.Pipeline
	t     *testing.T
	store *storagetest.Memory
	out   *recorder
}

func newBench(t *testing.T, cfg hooks.Config) *bench {
	b := &bench{t: t, store: storagetest.NewMemory(), out: &recorder{}}
	for _, a := range []group.Account{"alice", "bob", "carol"} {
		if err := b.store.Apply(t.Context(), storage.Accounts.Put(storage.AccountKey(a), &group.Profile{Account: a, Nick: strings.ToUpper(string(a))})); err != nil {
			t.Fatal(err)
		}
	}
	b.start(cfg)
	b.create("g1", group.Public, "alice", "bob")
	return b
}

// start begins a life over the same store, as after a restart.
func (b *bench) start(cfg hooks.Config) {
	cfg.Admins = []group.Account{"administrator"}
	b.Pipeline = hooks.New(b.store, cfg, slog.New(slog.DiscardHandler))
	b.UseDeliverer(b.out)
}

func (b *bench) close() {
	if err := b.Close(context.Background()); err != nil {
		b.t.Error(err)
	}
}

func (b *bench) create(id group.ID, typ group.Type, members ...group.Account) {
	b.t.Helper()
	err := b.Update(b.t.Context(), id, func(tx *hooks.Tx) error {
		if err := tx.Create(&group.Group{ID: id, Type: typ, Name: "n", Owner: members[0], CreateTime: tx.Now().Unix()}); err != nil {
			return err
		}
		for i, a := range members {
			role := group.OrdinaryMember
			if i == 0 {
				role = group.Owner
			}
			if err := tx.PutMember(&group.Member{Account: a, Role: role}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func draft(from group.Account, random uint32, text string) *hooks.Draft {
	body, err := json.Marshal([]any{map[string]any{"MsgType": "TIMTextElem", "MsgContent": map[string]any{"Text": text}}})
	if err != nil {
		panic(err)
	}
	return &hooks.Draft{Group: "g1", From: from, Operator: from, Random: random, HasRandom: random != 0, Body: body}
}

func (b *bench) mustSend(d *hooks.Draft) hooks.Outcome {
	b.t.Helper()
	o := b.Send(context.Background(), d)
	if o.Err != nil {
		b.t.Fatalf("Send(%s, %s) = %v", d.From, d.Body, o.Err)
	}
	return o
}

// wantCode wants d refused with the code.
func (b *bench) wantCode(d *hooks.Draft, code int) {
	b.t.Helper()
	_ = b.refusal(d, code)
}

// refusal wants d refused with the code, and returns the text.
func (b *bench) refusal(d *hooks.Draft, code int) string {
	b.t.Helper()
	o := b.Send(context.Background(), d)
	e, ok := errors.AsType[*group.Error](o.Err)
	if !ok || e.Code != code {
		b.t.Fatalf("Send(%s) = %+v, want refusal %d", d.From, o, code)
	}
	return e.Info
}

// stored returns the SEQs and texts in the log.
func (b *bench) stored(key group.Key) (out []string) {
	b.t.Helper()
	for m, err := range b.store.Range(context.Background(), key, 1, 1<<40) {
		if err != nil {
			b.t.Fatal(err)
		}
		var body []struct{ MsgContent struct{ Text string } }
		if err := json.Unmarshal(m.Body, &body); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d:%s", m.Seq, body[0].MsgContent.Text))
	}
	return out
}

var g1 = group.Key{ID: "g1", Incarnation: 1}

func TestMessagesGetConsecutiveSEQs(t *testing.T) {
	b := newBench(t, hooks.Config{})
	defer b.close()
	for i := range 3 {
		if o := b.mustSend(draft("bob", uint32(i+1), fmt.Sprint("m", i))); o.Seq != group.Seq(i+1) {
			t.Errorf("message %d got SEQ %d", i, o.Seq)
		}
	}
	if got, want := b.stored(g1), []string{"1:m0", "2:m1", "3:m2"}; !slices.Equal(got, want) {
		t.Errorf("stored %v, want %v", got, want)
	}
	if got := b.out.seqs(); !slices.Equal(got, []group.Seq{1, 2, 3}) {
		t.Errorf("delivered %v", got)
	}
	for m, err := range b.store.Range(t.Context(), g1, 1, 2) {
		if err != nil || m.Sender.Nick != "BOB" || m.Sender.Role != "Member" || m.Expires != m.Time+7*24*3600 {
			t.Errorf("stored message %+v, %v", m, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	b := newBench(t, hooks.Config{BodyLimit: 200})
	defer b.close()
	b.wantCode(draft("carol", 1, "x"), group.CodeNotPermitted)
	b.wantCode(draft("nobody", 1, "x"), group.CodeNoAccount)
	other := draft("bob", 1, "x")
	other.Group = "g2"
	b.wantCode(other, group.CodeNoGroup)
	bad := draft("bob", 1, "x")
	bad.Group = "with\ttab"
	b.wantCode(bad, group.CodeBadGroupID)
	b.wantCode(draft("bob", 1, strings.Repeat("x", 300)), group.CodeMessageTooLong)
	made := draft("bob", 1, "")
	made.Body, made.Canonical = group.TextBody(strings.Repeat("x", 300)), true
	b.wantCode(made, group.CodeMessageTooLong)
	receipt := draft("bob", 1, "x")
	receipt.Flags = group.OnlineOnly | group.NeedReceipt
	b.wantCode(receipt, group.CodeNoReceiptOnline)
	admin := draft("carol", 1, "by rest")
	admin.ByAdmin, admin.Operator = true, "administrator"
	b.mustSend(admin)
	ghost := draft("nobody", 1, "by rest")
	ghost.ByAdmin = true
	b.wantCode(ghost, group.CodeNoAccount)
	if got := b.stored(g1); !slices.Equal(got, []string{"1:by rest"}) {
		t.Errorf("stored %v", got)
	}
}

// rewriter is a before-callback that replaces the body.
type rewriter string

func (rewriter) Due(*group.Group, *hooks.Draft) bool { return true }

func (r rewriter) BeforeSend(context.Context, *group.Group, *hooks.Draft) hooks.Verdict {
	return hooks.Verdict{Body: json.RawMessage(r)}
}

// TestARewrittenBodyIsParsed has the app replace a body that needed no parsing.
func TestARewrittenBodyIsParsed(t *testing.T) {
	for answer, code := range map[string]int{
		`[{"MsgType":"TIMNoElem","MsgContent":{}}]`:                                               group.CodeBadParameter,
		`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"` + strings.Repeat("x", 300) + `"}}]`:    group.CodeMessageTooLong,
		` [ { "MsgType":"TIMTextElem", "MsgContent":{"Text":"` + strings.Repeat("x", 10) + `"}}]`: 0,
	} {
		b := newBench(t, hooks.Config{BodyLimit: 200})
		b.UseBeforeSend(rewriter(answer))
		d := draft("bob", 1, "")
		d.Body, d.Canonical = group.TextBody("hi"), true
		if code != 0 {
			b.wantCode(d, code)
		} else if b.mustSend(d); string(d.Body) != string(group.TextBody(strings.Repeat("x", 10))) {
			t.Errorf("stored %s", d.Body)
		}
		b.close()
	}
}

// TestNoUnreadNeedsCounting: what is never counted can't be left out of the count.
func TestNoUnreadNeedsCounting(t *testing.T) {
	b := newBench(t, hooks.Config{})
	defer b.close()
	for _, typ := range group.Types {
		id := group.ID("in " + typ.String())
		b.create(id, typ, "alice", "bob")
		d := draft("alice", 1, "hi")
		d.Group, d.Flags = id, group.NoUnread
		if typ.Rules().CountsUnread {
			b.mustSend(d)
		} else {
			b.wantCode(d, group.CodeBadParameter)
		}
	}
}

func TestADuplicateIsTheFirstOneAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{})
		first := b.mustSend(draft("bob", 7, "hi"))
		again := b.mustSend(draft("bob", 7, "hi"))
		if !again.Duplicate || again.Seq != first.Seq || again.Time != first.Time {
			t.Errorf("again = %+v, first %+v", again, first)
		}
		if o := b.mustSend(draft("bob", 7, "other body")); o.Duplicate || o.Seq != 2 {
			t.Errorf("another body with the same Random = %+v, want SEQ 2", o)
		}
		if o := b.mustSend(draft("alice", 7, "hi")); o.Duplicate || o.Seq != 3 {
			t.Errorf("another sender with the same Random = %+v, want SEQ 3", o)
		}
		plain := draft("bob", 0, "hi")
		if o := b.mustSend(plain); o.Duplicate || o.Seq != 4 {
			t.Errorf("no Random = %+v, want SEQ 4", o)
		}
		b.close()
		b.start(hooks.Config{}) // a restart forgets nothing that is stored
		if o := b.mustSend(draft("bob", 7, "hi")); !o.Duplicate || o.Seq != 1 {
			t.Errorf("after a restart = %+v, want SEQ 1 again", o)
		}
		time.Sleep(5 * time.Minute)
		if o := b.mustSend(draft("bob", 7, "hi")); o.Duplicate || o.Seq != 5 {
			t.Errorf("after five minutes = %+v, want SEQ 5", o)
		}
		b.close()
	})
}

func TestARetransmissionIsRecognisedAcrossARestart(t *testing.T) {
	b := newBench(t, hooks.Config{})
	send := func(repeated bool) hooks.Outcome {
		d := draft("bob", 0, "hi")
		d.Again, d.Repeated = group.Retransmission{Client: "phone", PacketID: 9}, repeated
		return b.mustSend(d)
	}
	send(false)
	b.close()
	b.start(hooks.Config{})
	defer b.close()
	if o := send(true); !o.Duplicate || o.Seq != 1 {
		t.Errorf("retransmission = %+v, want SEQ 1 again", o)
	}
	if o := send(false); o.Duplicate || o.Seq != 2 {
		t.Errorf("an equal message with the same packet identifier = %+v, want SEQ 2", o)
	}
	if o := send(true); !o.Duplicate || o.Seq != 2 {
		t.Errorf("its retransmission = %+v, want SEQ 2 again", o)
	}
}

func TestAnUpdateHoldsForWhatIsStampedAfterIt(t *testing.T) {
	b := newBench(t, hooks.Config{})
	defer b.close()
	b.mustSend(draft("bob", 1, "before"))
	until := time.Now().Add(time.Hour).Unix()
	if err := b.Update(t.Context(), "g1", func(tx *hooks.Tx) error { tx.SetMute("bob", until); return nil }); err != nil {
		t.Fatal(err)
	}
	if info := b.refusal(draft("bob", 2, "muted"), group.CodeMuted); !strings.Contains(info, fmt.Sprint(until)) {
		t.Errorf("refusal %q does not tell the end", info)
	}
	err := b.Update(t.Context(), "g1", func(tx *hooks.Tx) error {
		tx.SetMute("bob", 0)
		_, err := tx.RemoveMember("bob")
		return errors.Join(err, tx.Tip(group.TipStored, map[string]any{"OpType": 3}))
	})
	if err != nil {
		t.Fatal(err)
	}
	b.wantCode(draft("bob", 3, "gone"), group.CodeNotPermitted)
	if o := b.mustSend(draft("alice", 4, "x")); o.Seq != 3 {
		t.Errorf("SEQ after a tip = %d, want 3", o.Seq)
	}
	last := b.out.items[len(b.out.items)-3:]
	if last[0].Member == nil || last[0].Member.Joined || last[1].Message == nil || !last[1].Message.Has(group.System) || last[2].Message.Seq != 3 {
		t.Errorf("stream ends with %+v", last)
	}
}

func TestADestroyedGroupSharesNothingWithTheNext(t *testing.T) {
	b := newBench(t, hooks.Config{})
	defer b.close()
	b.mustSend(draft("bob", 1, "old"))
	if err := b.Update(t.Context(), "g1", func(tx *hooks.Tx) error { tx.Destroy(); return nil }); err != nil {
		t.Fatal(err)
	}
	b.wantCode(draft("bob", 1, "old"), group.CodeNoGroup)
	b.create("g1", group.Public, "carol")
	b.wantCode(draft("bob", 1, "old"), group.CodeNotPermitted)
	if o := b.mustSend(draft("carol", 1, "new")); o.Seq != 1 {
		t.Errorf("first SEQ of the new life = %d", o.Seq)
	}
	if got := b.stored(group.Key{ID: "g1", Incarnation: 2}); !slices.Equal(got, []string{"1:new"}) {
		t.Errorf("stored %v", got)
	}
	err := b.Update(t.Context(), "g1", func(tx *hooks.Tx) error { return tx.Create(&group.Group{ID: "g1", Type: group.Public}) })
	if e, ok := errors.AsType[*group.Error](err); !ok || e.Code != group.CodeGroupIDTaken {
		t.Errorf("creating it twice: %v", err)
	}
}

func TestFlowControlHoldsAndReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{Limits: func(*group.Group) hooks.Limits { return hooks.Limits{PerSecond: 40} }})
		defer b.close()
		start := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		at := map[time.Duration]int{}
		wg.Add(50)
		for i := range 50 {
			b.Submit(draft("bob", uint32(i+1), "x"), func(o hooks.Outcome) {
				mu.Lock()
				defer mu.Unlock()
				if o.Err != nil || o.Restricted {
					t.Errorf("outcome %+v", o)
				}
				at[time.Since(start)]++
				wg.Done()
			})
		}
		wg.Wait()
		if at[0] != 40 || at[time.Second] != 10 {
			t.Errorf("released %v, want 40 at once and 10 after a second", at)
		}
	})
}

// TestEveryStoreFaultLosesNothing fails call after call of the store and checks that what was
// acknowledged is stored, once, without gaps.
func TestEveryStoreFaultLosesNothing(t *testing.T) {
	for failAt := 0; ; failAt++ {
		fired := false
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, hooks.Config{})
			calls := 0
			b.store.Fail(func(method string) error {
				if calls++; calls-1 == failAt {
					fired = true
					return fmt.Errorf("%s: %w", method, storage.ErrUnavailable)
				}
				return nil
			})
			acked := map[group.Seq]string{}
			for i := range 3 {
				text := fmt.Sprint("m", i)
				o := b.Send(t.Context(), draft("bob", uint32(i+1), text))
				if hooks.Retry(o.Err) {
					o = b.Send(t.Context(), draft("bob", uint32(i+1), text))
				}
				if o.Err != nil {
					t.Errorf("fault %d: message %d: %v", failAt, i, o.Err)
					continue
				}
				acked[o.Seq] = text
			}
			b.store.Fail(nil)
			got := b.stored(g1)
			if len(got) != 3 {
				t.Errorf("fault %d: stored %v", failAt, got)
			}
			for seq, text := range acked {
				if want := fmt.Sprintf("%d:%s", seq, text); int(seq) > len(got) || got[seq-1] != want {
					t.Errorf("fault %d: acknowledged %s, stored %v", failAt, want, got)
				}
			}
			b.close()
		})
		if !fired {
			if failAt < 5 {
				t.Errorf("only %d store calls were made to fail", failAt)
			}
			return
		}
	}
}

// TestALostReplyIsNotAppliedTwice lets an append succeed and its answer get lost.
func TestALostReplyIsNotAppliedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{})
		defer b.close()
		lossy := &lostReplies{Store: b.store, lose: 2}
		b.Pipeline = hooks.New(lossy, hooks.Config{}, slog.New(slog.DiscardHandler))
		b.UseDeliverer(b.out)
		for i := range 4 {
			if o := b.mustSend(draft("bob", 0, fmt.Sprint("m", i))); o.Seq != group.Seq(i+1) {
				t.Errorf("message %d = %+v", i, o)
			}
		}
		if got := b.stored(g1); !slices.Equal(got, []string{"1:m0", "2:m1", "3:m2", "4:m3"}) {
			t.Errorf("stored %v", got)
		}
		if lossy.lose != 0 {
			t.Error("no reply was lost")
		}
	})
}

type lostReplies struct {
	storage.Store
	lose int
}

func (s *lostReplies) Append(ctx context.Context, b *storage.Batch) error {
	err := s.Store.Append(ctx, b)
	if err == nil && len(b.Messages) > 0 && s.lose > 0 {
		s.lose--
		return storage.ErrUnavailable
	}
	return err
}

// TestTwoOwnersShareOneLog runs two pipelines over one store, both believing that the group is
// theirs: every acknowledged message is stored once, and SEQs have no gap.
func TestTwoOwnersShareOneLog(t *testing.T) {
	b := newBench(t, hooks.Config{})
	other := hooks.New(b.store, hooks.Config{}, slog.New(slog.DiscardHandler))
	const n = 200
	var mu sync.Mutex
	acked := map[group.Seq]string{}
	var wg sync.WaitGroup
	for k, p := range []*hooks.Pipeline{b.Pipeline, other} {
		wg.Go(func() {
			for i := range n {
				text := fmt.Sprint(k, "-", i)
				o := p.Send(t.Context(), draft("bob", uint32(k*n+i+1), text))
				for hooks.Retry(o.Err) {
					o = p.Send(t.Context(), draft("bob", uint32(k*n+i+1), text))
				}
				if o.Err != nil {
					t.Errorf("%s: %v", text, o.Err)
				}
				mu.Lock()
				if was, twice := acked[o.Seq]; twice {
					t.Errorf("SEQ %d acknowledged for %s and %s", o.Seq, was, text)
				}
				acked[o.Seq] = text
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	got := b.stored(g1)
	if len(got) != 2*n || len(acked) != 2*n {
		t.Fatalf("stored %d, acknowledged %d, want %d", len(got), len(acked), 2*n)
	}
	for i, s := range got {
		if want := fmt.Sprintf("%d:%s", i+1, acked[group.Seq(i+1)]); s != want {
			t.Errorf("stored %s, acknowledged %s", s, want)
		}
	}
	b.close()
	if err := other.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A holding store lets an append begin only when it is told to, once hold is set.
type holding struct {
	storage.Store
	hold chan struct{}
}

func (s *holding) Append(ctx context.Context, b *storage.Batch) error {
	if s.hold != nil {
		<-s.hold
	}
	return s.Store.Append(ctx, b)
}

// TestWhatGathersBehindAConflictIsJudgedAnew sends a message that the other owner has stored
// already to an owner who does not know it, while that one's write is about to meet a conflict.
func TestWhatGathersBehindAConflictIsJudgedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{})
		defer b.close()
		store := &holding{Store: b.store}
		late := hooks.New(store, hooks.Config{}, slog.New(slog.DiscardHandler))
		if o := late.Send(t.Context(), draft("bob", 1, "first")); o.Seq != 1 || o.Err != nil {
			t.Fatalf("Send = %+v, want SEQ 1", o)
		}
		if o := b.mustSend(draft("alice", 7, "once")); o.Seq != 2 {
			t.Fatalf("Send = %+v, want SEQ 2", o)
		}
		store.hold = make(chan struct{})
		var bob, alice hooks.Outcome
		var both sync.WaitGroup
		both.Go(func() { bob = late.Send(t.Context(), draft("bob", 2, "second")) })
		synctest.Wait() // its write is under way
		both.Go(func() { alice = late.Send(t.Context(), draft("alice", 7, "once")) })
		synctest.Wait()
		close(store.hold)
		both.Wait()
		if bob.Seq != 3 || alice.Seq != 2 {
			t.Errorf("Send = %+v and %+v, want SEQ 3, and SEQ 2 again", bob, alice)
		}
		if err := late.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestARoomNumbersWithoutStoring(t *testing.T) {
	b := newBench(t, hooks.Config{})
	defer b.close()
	b.create("room", group.AVChatRoom, "alice", "bob")
	d := draft("bob", 1, "live")
	d.Group = "room"
	if o := b.mustSend(d); o.Seq != 0 || o.Time == 0 {
		t.Errorf("outcome %+v, want no SEQ and a time", o)
	}
	if got := b.out.seqs(); !slices.Equal(got, []group.Seq{1}) {
		t.Errorf("delivered %v, want a number all the same", got)
	}
	if got := b.stored(group.Key{ID: "room", Incarnation: 1}); len(got) != 0 {
		t.Errorf("stored %v", got)
	}
}

func TestOnlineOnlyIsNotStored(t *testing.T) {
	b := newBench(t, hooks.Config{})
	defer b.close()
	d := draft("bob", 1, "typing")
	d.Flags = group.OnlineOnly
	if o := b.mustSend(d); o.Seq != 0 || o.Time == 0 {
		t.Errorf("outcome %+v", o)
	}
	if o := b.mustSend(draft("bob", 2, "said")); o.Seq != 1 {
		t.Errorf("the next message got SEQ %d", o.Seq)
	}
}

func TestCloseWaitsForWhatWasSubmitted(t *testing.T) {
	b := newBench(t, hooks.Config{})
	var acked sync.WaitGroup
	acked.Add(100)
	for i := range 100 {
		b.Submit(draft("bob", uint32(i+1), "x"), func(o hooks.Outcome) {
			if o.Err != nil {
				t.Error(o.Err)
			}
			acked.Done()
		})
	}
	b.close()
	acked.Wait()
	if o := b.Send(t.Context(), draft("bob", 1000, "late")); !errors.Is(o.Err, hooks.ErrClosed) {
		t.Errorf("after Close: %+v", o)
	}
}

// readOnly is a store that refuses appends as long as the disk is full.
type readOnly struct {
	storage.Store
	full atomic.Bool
}

func (s *readOnly) Append(ctx context.Context, a *storage.Batch) error {
	if s.full.Load() {
		return storage.ErrReadOnly
	}
	return s.Store.Append(ctx, a)
}

// TestStoreThatRefuses sends while the disk is full: the senders learn that nothing was stored,
// and the log is told once in ten seconds, not with each message.
func TestStoreThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{})
		store := &readOnly{Store: b.store}
		var log strings.Builder
		b.Pipeline = hooks.New(store, hooks.Config{}, slog.New(slog.NewTextHandler(&log, nil)))
		b.UseDeliverer(b.out)
		store.full.Store(true)
		random := uint32(0)
		send := func(n int) {
			for range n {
				random++
				if o := b.Send(t.Context(), draft("bob", random, "m")); !hooks.Retry(o.Err) || !errors.Is(o.Err, storage.ErrReadOnly) {
					t.Errorf("message %d: %+v, want to be told that the store takes no writes", random, o)
				}
			}
		}
		send(30)
		time.Sleep(11 * time.Second)
		send(10)
		if got := strings.Count(log.String(), "\n"); got != 2 || !strings.Contains(log.String(), "others=29") {
			t.Errorf("the log has %d lines, want 2, of which the second tells of 29 others:\n%s", got, log.String())
		}
		store.full.Store(false)
		if o := b.Send(t.Context(), draft("bob", 1, "m")); o.Err != nil || o.Seq != 1 {
			t.Errorf("the first message again: %+v, want SEQ 1", o)
		}
		b.close()
	})
}

// torn is a store that may leave a change half done, and counts.
type torn struct{ storage.Store }

func (s torn) Count(ctx context.Context, table, prefix string) (n int, err error) {
	for _, err := range s.Scan(ctx, table, storage.Span{Prefix: prefix}) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// TestHalfAChange leaves the group's record behind its members, and a group without the owner
// that it names: the next change of each puts it right.
func TestHalfAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hooks.Config{})
		b.create("g2", group.Public, "alice", "bob")
		b.close()
		key := group.Key{ID: "g1", Incarnation: 1}
		gone := group.Key{ID: "g2", Incarnation: 1}
		err := b.store.Apply(t.Context(), storage.Members.Put(storage.MemberKey(key, "carol"), &group.Member{Account: "carol", JoinTime: 1}),
			storage.Members.DeletePrefix(storage.GroupPrefix(gone)))
		if err != nil {
			t.Fatal(err)
		}
		b.Pipeline = hooks.New(torn{b.store}, hooks.Config{}, slog.New(slog.DiscardHandler))
		b.UseDeliverer(b.out)
		for id, want := range map[group.ID]group.Group{"g1": {MemberCount: 4, Owner: "alice"}, "g2": {MemberCount: 1}} {
			err := b.Update(t.Context(), id, func(tx *hooks.Tx) error {
				return tx.PutMember(&group.Member{Account: "dan", Role: group.OrdinaryMember})
			})
			if err != nil {
				t.Fatal(err)
			}
			g, err := storage.FindGroup(t.Context(), b.store, id)
			if err != nil || g == nil || g.MemberCount != want.MemberCount || g.Owner != want.Owner {
				t.Errorf("%s: %+v, %v; want %d members and the owner %q", id, g, err, want.MemberCount, want.Owner)
			}
		}
		b.close()
	})
}
