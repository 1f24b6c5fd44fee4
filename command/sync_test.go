package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

type syncGroup struct {
	GroupID      string `json:"GroupId"`
	NextMsgSeq   group.Seq
	ReadSeq      group.Seq
	UnreadMsgNum int64
	FirstMsgSeq  group.Seq
	MsgFlag      string
	Role         string
	LastMsgTime  int64
	LastMsg      *struct {
		MsgSeq     group.Seq
		MsgBody    []any
		IsPlaceMsg int
	}
}

// syncAll pages through sync; between two pages it calls meanwhile.
func (w *world) syncAll(t testing.TB, as string, limit int, meanwhile func()) (pages [][]syncGroup) {
	t.Helper()
	cursor := ""
	for {
		var page struct {
			ErrorCode int
			Groups    []syncGroup
			Cursor    string
		}
		raw := w.call(t, as, "sync", fmt.Sprintf(`{"Limit":%d,"Cursor":%q}`, limit, cursor))
		if err := json.Unmarshal(raw, &page); err != nil || page.ErrorCode != 0 {
			t.Fatalf("sync: %s, %v", raw, err)
		}
		if len(page.Groups) > limit {
			t.Fatalf("a page has %d groups, at most %d were asked for", len(page.Groups), limit)
		}
		pages = append(pages, page.Groups)
		if cursor = page.Cursor; cursor == "" {
			return pages
		}
		if meanwhile != nil {
			meanwhile()
		}
	}
}

func (w *world) people(t testing.TB, accounts ...string) {
	t.Helper()
	for _, a := range accounts {
		w.accepted(t, "", "im_open_login_svc/account_import", fmt.Sprintf(`{"UserID":%q}`, a))
	}
}

func (w *world) make(t testing.TB, typ group.Type, id string, members ...string) {
	t.Helper()
	var list []string
	for _, m := range members[1:] {
		list = append(list, fmt.Sprintf(`{"Member_Account":%q}`, m))
	}
	w.accepted(t, "", g+"create_group", fmt.Sprintf(`{"Type":%q,"Name":"n","GroupId":%q,"Owner_Account":%q,"MemberList":[%s]}`, typ, id, members[0], strings.Join(list, ",")))
}

var sent int

// say sends a text as an account; more are further members of the request.
func (w *world) say(t testing.TB, as, id, text, more string) {
	t.Helper()
	sent++
	w.accepted(t, "", g+"send_group_msg",
		fmt.Sprintf(`{"GroupId":%q,"From_Account":%q,"Random":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":%q}}]%s}`, id, as, sent, text, more))
}

// TestSyncCounts sends, reads and sets unread numbers at random and compares every sync with a
// count over the whole log.
func TestSyncCounts(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob", "carol", "x")
	w.make(t, group.Public, "g", "alice", "bob", "carol")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	members := []string{"alice", "bob", "carol"}
	type sentBy struct {
		from    string
		counts  bool
		visible []string // nil: all
		last    bool
	}
	var log []sentBy // [i] has SEQ i+1
	read := map[string]group.Seq{}
	say := func(from string, m sentBy, more string) {
		w.say(t, from, "g", "m", more)
		m.from = from
		log = append(log, m)
		read[from] = group.Seq(len(log))
	}
	tip := func() { log = append(log, sentBy{last: true}) }
	for range 400 {
		from := members[rnd.IntN(3)]
		switch rnd.IntN(9) {
		case 0, 1, 2:
			say(from, sentBy{counts: true, last: true}, "")
		case 3:
			say(from, sentBy{last: true}, `,"SendMsgControl":["NoUnread"]`)
		case 4:
			say(from, sentBy{counts: true}, `,"SendMsgControl":["NoLastMsg"]`)
		case 5:
			to := members[rnd.IntN(3)]
			say(from, sentBy{last: true, visible: []string{from, to}}, fmt.Sprintf(`,"To_Account":[%q]`, to))
		case 6:
			w.accepted(t, "", g+"modify_group_base_info", fmt.Sprintf(`{"GroupId":"g","Name":"n%d"}`, len(log)))
			tip()
		case 7:
			seq := group.Seq(rnd.IntN(len(log) + 2))
			if seq == 0 {
				continue
			}
			w.accepted(t, from, "msg_read_report", fmt.Sprintf(`{"GroupId":"g","MsgReadedSeq":%d}`, seq))
			read[from] = max(read[from], min(seq, group.Seq(len(log))))
		case 8:
			n := rnd.IntN(len(log) + 2)
			w.accepted(t, "", g+"set_unread_msg_num", fmt.Sprintf(`{"GroupId":"g","Member_Account":%q,"UnreadMsgNum":%d}`, from, n))
			seq := group.Seq(len(log))
			for left := n; seq > 0; seq-- {
				if left == 0 {
					break
				}
				if log[seq-1].counts {
					left--
				}
			}
			read[from] = seq
		}
		for _, a := range members {
			var want syncGroup
			want.NextMsgSeq, want.ReadSeq = group.Seq(len(log)+1), read[a]
			lastSeq := group.Seq(0)
			for i, m := range log {
				if m.counts && group.Seq(i+1) > read[a] {
					want.UnreadMsgNum++
				}
				if m.last && (m.visible == nil || slices.Contains(m.visible, a)) && len(log)-i <= 50 {
					lastSeq = group.Seq(i + 1)
				}
			}
			got := w.syncAll(t, a, 10, nil)[0][0]
			gotLast := group.Seq(0)
			if got.LastMsg != nil {
				gotLast = got.LastMsg.MsgSeq
			}
			// A read SEQ among messages that do not count may be told as any of its equals.
			if got.NextMsgSeq != want.NextMsgSeq || got.UnreadMsgNum != want.UnreadMsgNum || gotLast != lastSeq {
				t.Fatalf("%s after %d messages: %+v, last %d; want %+v, last %d", a, len(log), got, gotLast, want, lastSeq)
			}
		}
	}
}

// TestSyncPages looks for groups that are lost between pages while messages reorder them.
func TestSyncPages(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob")
	const groups = 37
	for i := range groups {
		w.make(t, group.Public, fmt.Sprintf("g%02d", i), "bob", "alice")
	}
	w.make(t, group.AVChatRoom, "room", "alice")
	w.make(t, group.Public, "other", "bob")
	rnd := rand.New(rand.NewPCG(1, 2))
	for limit := range 12 {
		next := map[string]group.Seq{}
		last := map[string]group.Seq{}
		pages := w.syncAll(t, "alice", limit+1, func() {
			id := fmt.Sprintf("g%02d", rnd.IntN(groups))
			w.say(t, "bob", id, "up", "")
		})
		for _, p := range pages {
			for _, one := range p {
				next[one.GroupID] = one.NextMsgSeq
				if one.LastMsg != nil {
					last[one.GroupID] = one.LastMsg.MsgSeq
				}
				if one.LastMsg != nil && one.LastMsg.MsgSeq >= one.NextMsgSeq {
					t.Errorf("%s: the last message is %d, the next SEQ %d", one.GroupID, one.LastMsg.MsgSeq, one.NextMsgSeq)
				}
			}
		}
		if len(next) != groups {
			t.Fatalf("limit %d: %d groups, want %d", limit+1, len(next), groups)
		}
	}
	if a := w.must(t, "alice", "sync", `{"Cursor":"e30"}`); a.ErrorCode != group.CodeBadParameter {
		t.Errorf("a made-up cursor: %+v", a)
	}
}

// TestSyncFits asks with a small Maximum Packet Size: the pages are shorter.
func TestSyncFits(t *testing.T) {
	const groups, most = 30, 4096
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob")
	for i := range groups {
		id := fmt.Sprintf("g%02d", i)
		w.make(t, group.Public, id, "bob", "alice")
		w.say(t, "bob", id, "hello", "")
	}
	seen := map[string]bool{}
	for cursor, pages := "", 0; cursor != "" || pages == 0; pages++ {
		raw := w.table.RPC(t.Context(), &command.Call{Caller: "alice", MaxReply: most}, "sync", fmt.Appendf(nil, `{"Cursor":%q}`, cursor))
		if len(raw) > most {
			t.Fatalf("a page of %d bytes; want at most %d", len(raw), most)
		}
		var page struct {
			Groups []syncGroup
			Cursor string
		}
		if err := json.Unmarshal(raw, &page); err != nil || len(page.Groups) == 0 && page.Cursor != "" {
			t.Fatalf("page %s, %v", raw, err)
		}
		for _, g := range page.Groups {
			seen[g.GroupID] = true
		}
		cursor = page.Cursor
	}
	if len(seen) != groups {
		t.Errorf("%d groups, want %d", len(seen), groups)
	}
}

// TestSyncShows checks what sync and recent contacts show of groups that their reader left,
// joined late, or cut down.
func TestSyncShows(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.people(t, "alice", "bob", "late")
	w.make(t, group.Public, "g", "bob", "alice")
	w.make(t, group.Public, "gone", "bob", "alice")
	w.make(t, group.Public, "kicked", "bob", "alice")
	for _, id := range []string{"g", "gone", "kicked"} {
		w.say(t, "bob", id, "secret", "")
	}
	w.accepted(t, "", g+"destroy_group", `{"GroupId":"gone"}`)
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"gone","Owner_Account":"bob"}`)
	w.accepted(t, "", g+"delete_group_member", `{"GroupId":"kicked","MemberToDel_Account":["alice"]}`)
	w.accepted(t, "", g+"add_group_member", `{"GroupId":"g","Silence":1,"MemberList":[{"Member_Account":"late"}]}`)

	all := w.syncAll(t, "alice", 10, nil)[0]
	if len(all) != 1 || all[0].GroupID != "g" || all[0].UnreadMsgNum != 1 || all[0].LastMsg == nil || all[0].Role != "Member" || all[0].MsgFlag != "AcceptAndNotify" {
		t.Errorf("alice's groups: %+v", all)
	}
	if one := w.syncAll(t, "late", 10, nil)[0][0]; one.LastMsg != nil || one.UnreadMsgNum != 0 || one.FirstMsgSeq != 2 || one.NextMsgSeq != 2 {
		t.Errorf("what came before joining is shown: %+v", one)
	}
	w.accepted(t, "bob", "group_msg_recall", `{"GroupId":"g","MsgSeqList":[{"MsgSeq":1}]}`)
	if one := w.syncAll(t, "alice", 10, nil)[0][0]; one.LastMsg == nil || one.LastMsg.IsPlaceMsg != 2 || len(one.LastMsg.MsgBody) != 0 {
		t.Errorf("a recalled last message: %+v", one)
	}
	w.accepted(t, "alice", "delete_group_ramble_msg_by_seq", `{"GroupId":"g","Seqs":[1]}`)
	if one := w.syncAll(t, "alice", 10, nil)[0][0]; one.LastMsg != nil {
		t.Errorf("a message that its reader removed is shown: %+v", one)
	}
	contacts := func(want string) {
		t.Helper()
		raw := w.call(t, "alice", "recentcontact_get_list", `{"TimeStamp":0,"StartIndex":0,"TopTimeStamp":0,"TopStartIndex":0,"AssistFlags":0}`)
		var list struct {
			SessionItem []struct {
				GroupID      string `json:"GroupId"`
				UnreadMsgNum int64
				LastMsg      struct{ MsgSeq group.Seq }
			}
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, it := range list.SessionItem {
			got += fmt.Sprintf("%s %d unread, last %d;", it.GroupID, it.UnreadMsgNum, it.LastMsg.MsgSeq)
		}
		if got != want {
			t.Errorf("contacts %q, want %q", got, want)
		}
	}
	contacts("")
	w.say(t, "bob", "g", "two", "")
	contacts("g 2 unread, last 2;")
	w.accepted(t, "alice", "recentcontact_delete", `{"Type":2,"ToGroupid":"g"}`)
	contacts("")
	w.say(t, "bob", "g", "silent", `,"SendMsgControl":["NoLastMsg"]`)
	contacts("")
	w.say(t, "bob", "g", "three", "")
	contacts("g 4 unread, last 4;")
}

// missed asks sync what an account has missed since an instant, as a list of short lines.
func (w *world) missed(t testing.TB, as string, since int64) []string {
	t.Helper()
	type event struct {
		Event, Reason string
		GroupID       string `json:"GroupId"`
		ChangeSeq     int64
		MsgSeq        group.Seq
		MsgBody       []any
		Revoker       string `json:"Revoker_Account"`
		Operator      string `json:"Operator_Account"`
		RemarkInfo    string
		ReportType    int
		ProfileItem   []struct{ Tag, Value string }
	}
	var page struct {
		ErrorCode int
		Groups    []struct {
			GroupID       string `json:"GroupId"`
			ChangeSeq     int64
			LostChangeSeq int64
			Changes       []event
		}
		Events []event
	}
	raw := w.call(t, as, "sync", fmt.Sprintf(`{"Since":%d}`, since))
	if err := json.Unmarshal(raw, &page); err != nil || page.ErrorCode != 0 {
		t.Fatalf("sync: %s, %v", raw, err)
	}
	var out []string
	for _, g := range page.Groups {
		for _, e := range g.Changes {
			if e.GroupID != g.GroupID || len(e.MsgBody) > 0 {
				t.Errorf("a change of %s: %+v", g.GroupID, e)
			}
			out = append(out, fmt.Sprintf("%s %d: %s %d%s", g.GroupID, e.ChangeSeq, e.Event, e.MsgSeq, strings.TrimRight(" "+e.Revoker+" "+e.Reason, " ")))
		}
		out = append(out, fmt.Sprintf("%s to %d", g.GroupID, g.ChangeSeq))
		if g.LostChangeSeq > 0 {
			out = append(out, fmt.Sprintf("%s lost %d", g.GroupID, g.LostChangeSeq))
		}
	}
	for _, e := range page.Events {
		line := fmt.Sprintf("%s %s %d by %s", e.Event, e.GroupID, e.ReportType, e.Operator)
		if e.Event == "ProfileChanged" {
			line = fmt.Sprint(e.Event, e.ProfileItem)
		}
		out = append(out, strings.TrimRight(line+" "+e.RemarkInfo, " "))
	}
	return out
}

// TestSyncMissed changes messages, memberships and a profile while somebody is away.
func TestSyncMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storagetest.NewMemory()
		log := slog.New(slog.DiscardHandler)
		admins := []group.Account{"administrator"}
		w := &world{store: store, ears: &ears{}, online: &fakeOnline{}, pipeline: hooks.New(store, hooks.Config{Admins: admins}, log)}
		w.online.ears = w.ears
		w.pipeline.UseDeliverer(w.ears)
		w.table = command.New(command.Env{Store: store, Pipeline: w.pipeline, Online: w.online, Log: log}, command.Config{Admins: admins, ChangesKept: 3})
		w.janitor = command.NewJanitor(store, w.pipeline, 7*24*time.Hour, log)
		defer func() {
			if err := w.pipeline.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		check := func(what, as string, since int64, want ...string) {
			t.Helper()
			if got := w.missed(t, as, since); !slices.Equal(got, want) {
				t.Errorf("%s: %s missed\n%s\nwant\n%s", what, as, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		recall := func(seq int, reason string) {
			t.Helper()
			w.accepted(t, "alice", "group_msg_recall", fmt.Sprintf(`{"GroupId":"g","Reason":%q,"MsgSeqList":[{"MsgSeq":%d}]}`, reason, seq))
		}
		w.people(t, "alice", "bob", "carol", "dave")
		w.make(t, group.Public, "g", "alice", "bob", "carol", "dave")
		w.say(t, "bob", "g", "one", "")
		w.say(t, "alice", "g", "two", `,"To_Account":["bob"]`)
		w.say(t, "alice", "g", "three", "")
		w.say(t, "alice", "g", "four", "")
		w.accepted(t, "bob", "delete_group_ramble_msg_by_seq", `{"GroupId":"g","Seqs":[3]}`)
		early := time.Now().Unix()
		check("nothing has changed", "bob", early, "g to 0")

		time.Sleep(time.Hour)
		recall(1, "oops")
		w.accepted(t, "", "openim/modify_group_msg", `{"GroupId":"g","MsgSeq":2,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"changed"}}]}`)
		recall(3, "")
		check("to whom it may concern", "bob", early, "g 1: Recall 1 alice oops", "g 2: Modify 2", "g to 3")
		check("to others", "carol", early, "g 1: Recall 1 alice oops", "g 3: Recall 3 alice", "g to 3")
		check("who did not ask", "carol", 0, "g to 3")
		noon := time.Now().Unix()
		time.Sleep(time.Hour)
		recall(1, "again")
		check("nothing new", "carol", noon+3600, "g to 3")
		check("of the last minute", "carol", noon+60, "g 1: Recall 1 alice oops", "g 3: Recall 3 alice", "g to 3")
		w.accepted(t, "", "openim/modify_group_msg", `{"GroupId":"g","MsgSeq":2,"CloudCustomData":"x"}`)
		check("only the last change of a message", "bob", early, "g 1: Recall 1 alice oops", "g 4: Modify 2", "g to 4")
		recall(4, "")
		check("more than are kept", "bob", early, "g 4: Modify 2", "g 5: Recall 4 alice", "g to 5", "g lost 1")

		w.make(t, group.Public, "kicks", "alice", "bob", "carol")
		w.make(t, group.Public, "ends", "alice", "bob", "carol")
		w.make(t, group.Public, "left", "alice", "bob")
		away := time.Now().Unix() + 100
		time.Sleep(100 * time.Second)
		w.accepted(t, "", g+"delete_group_member", `{"GroupId":"kicks","MemberToDel_Account":["bob","carol"],"Reason":"bye"}`)
		time.Sleep(time.Second)
		w.accepted(t, "alice", "destroy_group", `{"GroupId":"ends"}`)
		time.Sleep(time.Second)
		w.accepted(t, "bob", "quit_group", `{"GroupId":"left"}`)
		w.accepted(t, "bob", "profile_portrait_set", `{"ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"Bob"}]}`)
		w.accepted(t, "", g+"add_group_member", `{"GroupId":"kicks","MemberList":[{"Member_Account":"carol"}]}`)
		all := []string{"g to 5", "g lost 1", "Left kicks 4 by administrator bye", "Dismissed ends 5 by alice", "Left left 8 by bob", "ProfileChanged[{Tag_Profile_IM_Nick Bob}]"}
		check("out of three groups", "bob", away, all...)
		check("who is in again", "carol", away, "kicks to 0", "g to 5", "g lost 1", "Dismissed ends 5 by alice")
		time.Sleep(2 * time.Minute)
		if err := w.janitor.Sweep(t.Context(), time.Now().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
		check("when the janitor was there", "bob", away, all...)
		check("later", "bob", time.Now().Unix(), "g to 5", "g lost 1")

		time.Sleep(7*24*time.Hour - 2*time.Hour)
		if err := w.janitor.Forget(t.Context(), time.Now().Add(-7*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		check("the messages have expired", "bob", away, append([]string{"g to 5", "g lost 1"}, all[2:]...)...)
		time.Sleep(2 * time.Hour)
		if err := w.janitor.Forget(t.Context(), time.Now().Add(-7*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		check("after seven days", "bob", away, "g to 5", "g lost 1", all[len(all)-1])
		if w.must(t, "bob", "sync", `{"Since":-1}`).ErrorCode != group.CodeBadParameter {
			t.Error("a negative Since is taken")
		}
	})
}

// BenchmarkSync500 is one page for an account with 500 groups.
func BenchmarkSync500(b *testing.B) {
	w := newWorld(b, command.Config{})
	w.people(b, "alice", "bob")
	for i := range 500 {
		id := fmt.Sprintf("g%03d", i)
		w.make(b, group.Public, id, "bob", "alice")
		for range 3 {
			w.say(b, "bob", id, "hello", "")
		}
	}
	for b.Loop() {
		if raw := w.call(b, "alice", "sync", `{"Limit":100}`); len(raw) < 1000 {
			b.Fatalf("%s", raw)
		}
	}
}

// A meter is a store that counts what is asked of it: records and messages read, and bytes written.
type meter struct {
	*storagetest.Memory
	mu            sync.Mutex
	read, written int
	replaced      []string // what was written with new versions of messages
}

func (m *meter) count(read int, muts []storage.Mutation, msgs []*group.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read += read
	for _, mut := range muts {
		m.written += len(mut.Key) + len(mut.Value)
	}
	for _, msg := range msgs {
		m.written += len(storage.EncodeMessage(nil, msg))
	}
}

// take returns what was counted, and begins anew.
func (m *meter) take() (read, written int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	read, written = m.read, m.written
	m.read, m.written = 0, 0
	return read, written
}

func (m *meter) Append(ctx context.Context, b *storage.Batch) error {
	m.count(0, b.Mutations, b.Messages)
	return m.Memory.Append(ctx, b)
}

func (m *meter) Apply(ctx context.Context, muts ...storage.Mutation) error {
	m.count(0, muts, nil)
	return m.Memory.Apply(ctx, muts...)
}

func (m *meter) Get(ctx context.Context, table, key string) ([]byte, error) {
	m.count(1, nil, nil)
	return m.Memory.Get(ctx, table, key)
}

func (m *meter) GetMany(ctx context.Context, table string, keys []string) ([][]byte, error) {
	m.count(len(keys), nil, nil)
	return m.Memory.GetMany(ctx, table, keys)
}

func (m *meter) GetAll(ctx context.Context, refs []storage.Ref) ([][]byte, error) {
	m.count(len(refs), nil, nil)
	return m.Memory.GetAll(ctx, refs)
}

func (m *meter) Scan(ctx context.Context, table string, s storage.Span) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for r, err := range m.Memory.Scan(ctx, table, s) {
			m.count(1, nil, nil)
			if !yield(r, err) {
				return
			}
		}
	}
}

func (m *meter) Replace(ctx context.Context, key group.Key, msgs []*group.Message, muts ...storage.Mutation) error {
	m.mu.Lock()
	for _, mut := range muts {
		m.replaced = append(m.replaced, fmt.Sprintf("%d messages, %s", len(msgs), mut.Table))
	}
	m.mu.Unlock()
	return m.Memory.Replace(ctx, key, msgs, muts...)
}

// newMetered returns a world over a meter.
func newMetered(t *testing.T) (*world, *meter) {
	store := &meter{Memory: storagetest.NewMemory()}
	log := slog.New(slog.DiscardHandler)
	admins := []group.Account{"administrator"}
	w := &world{store: store, ears: &ears{}, pipeline: hooks.New(store, hooks.Config{Admins: admins}, log)}
	w.pipeline.UseDeliverer(w.ears)
	w.table = command.New(command.Env{Store: store, Pipeline: w.pipeline, Log: log}, command.Config{Admins: admins})
	t.Cleanup(func() {
		if err := w.pipeline.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return w, store
}

// TestChangesAreWrittenAtOnce recalls messages: a crash must not leave a tombstone that nobody who
// was away is told of, since recalling it again changes nothing.
func TestChangesAreWrittenAtOnce(t *testing.T) {
	w, store := newMetered(t)
	w.people(t, "alice", "bob")
	w.make(t, group.Public, "g", "alice", "bob")
	w.say(t, "alice", "g", "one", "")
	w.say(t, "alice", "g", "two", "")
	w.accepted(t, "alice", "group_msg_recall", `{"GroupId":"g","MsgSeqList":[{"MsgSeq":1},{"MsgSeq":2}]}`)
	if got := w.missed(t, "bob", 1); !slices.Equal(got, []string{"g 1: Recall 1 alice", "g 2: Recall 2 alice", "g to 2"}) {
		t.Errorf("bob missed %q", got)
	}
	if want := "2 messages, " + storage.Changes.Name; len(store.replaced) == 0 || store.replaced[len(store.replaced)-1] != want {
		t.Errorf("written with the tombstones: %q, want %q", store.replaced, want)
	}
}

// TestSendingCostsTheSame sends to a group of 10 and to one of 100,000, nobody of whom is online:
// the store and the allocator have the same work, within a fifth.
func TestSendingCostsTheSame(t *testing.T) {
	w, store := newMetered(t)
	type cost struct{ read, written, allocated float64 }
	measure := func(id string, members int) cost {
		w.people(t, "alice")
		w.make(t, group.Community, id, "alice")
		for from := 1; from < members; {
			to := min(members, from+2000) // in one change
			err := w.pipeline.Update(t.Context(), group.ID(id), func(tx *hooks.Tx) error {
				for ; from < to; from++ {
					if err := tx.PutMember(&group.Member{Account: group.Account(fmt.Sprintf("u%d", from)), Role: group.OrdinaryMember}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if g, err := storage.FindGroup(t.Context(), store, group.ID(id)); err != nil || g.MemberCount != members {
			t.Fatalf("the group is %+v, %v; want %d members", g, err, members)
		}
		const sends = 20 // below the limit of a second
		send := func() { w.say(t, "alice", id, "hello", "") }
		send()
		store.take()
		allocated := testing.AllocsPerRun(sends, send)
		read, written := store.take()
		return cost{float64(read) / (sends + 1), float64(written) / (sends + 1), allocated}
	}
	small, large := measure("@TGS#_small", 10), measure("@TGS#_large", 100_000)
	t.Logf("a message to 10 members: %+v, to 100,000: %+v", small, large)
	for what, c := range map[string][2]float64{
		"records read": {small.read, large.read}, "bytes written": {small.written, large.written}, "allocations": {small.allocated, large.allocated},
	} {
		if c[1] > 1.2*c[0] || c[1] < 0.8*c[0] {
			t.Errorf("%s: %g for 10 members, %g for 100,000", what, c[0], c[1])
		}
	}
}

// BenchmarkLoginStorm has 200 users of 100 groups each log in and synchronise, over and over;
// each group has 50 of them. It reports the time for one membership.
func BenchmarkLoginStorm(b *testing.B) {
	const users, each, groups = 200, 100, 400
	w := newWorld(b, command.Config{})
	members := make([][]string, groups)
	for u := range users {
		w.people(b, fmt.Sprintf("user%d", u))
		for k := range each {
			g := (u*each + k) % groups
			members[g] = append(members[g], fmt.Sprintf("user%d", u))
		}
	}
	for i, m := range members {
		w.make(b, group.Public, fmt.Sprintf("group%d", i), m...)
		w.say(b, m[0], fmt.Sprintf("group%d", i), "hello", "")
	}
	n := 0
	for b.Loop() {
		a := fmt.Sprintf("user%d", n%users)
		n++
		if rows, err := storage.JoinedGroups(b.Context(), w.store, group.Account(a)); err != nil || len(rows) != each {
			b.Fatalf("%d groups, %v", len(rows), err)
		}
		if raw := w.call(b, a, "sync", `{}`); len(raw) < 100*each {
			b.Fatalf("%s", raw)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*each), "ns/membership")
}
