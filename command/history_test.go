package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage/storagetest"
)

type history struct {
	ErrorCode     int
	ErrorInfo     string
	IsFinished    int
	NextReqMsgSeq group.Seq
	RspMsgList    []struct {
		MsgSeq     group.Seq
		IsPlaceMsg int
		MsgBody    []any
	}
}

func (w *world) history(t testing.TB, as, body string) (h history) {
	t.Helper()
	if err := json.Unmarshal(w.call(t, as, "group_msg_get", body), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// up reads everything from the first SEQ on.
func (w *world) up(t testing.TB, as, id string, number int) (seqs []group.Seq) {
	t.Helper()
	from := group.Seq(1)
	for {
		h := w.history(t, as, fmt.Sprintf(`{"GroupId":%q,"ReqMsgSeq":%d,"ReqMsgNumber":%d,"Ascending":1}`, id, from, number))
		if h.ErrorCode != 0 {
			t.Fatalf("%+v", h)
		}
		for _, m := range h.RspMsgList {
			if m.IsPlaceMsg == 0 {
				seqs = append(seqs, m.MsgSeq)
			}
		}
		if h.NextReqMsgSeq == from {
			return seqs
		}
		from = h.NextReqMsgSeq
	}
}

// TestHistoryUp reads upwards, past recalled and directed messages, in answers too small for a page.
func TestHistoryUp(t *testing.T) {
	w := newWorld(t, command.Config{AnswerSize: 32 << 10})
	w.people(t, "alice", "bob", "late")
	w.make(t, group.Public, "g", "alice", "bob")
	long := strings.Repeat("x", 5000)
	for i := 1; i <= 60; i++ {
		more := ""
		if i == 7 {
			more = `,"To_Account":["alice"]`
		}
		w.say(t, "alice", "g", long, more)
	}
	w.accepted(t, "alice", "group_msg_recall", `{"GroupId":"g","MsgSeqList":[{"MsgSeq":3},{"MsgSeq":60}]}`)
	w.accepted(t, "bob", "delete_group_ramble_msg_by_seq", `{"GroupId":"g","Seqs":[9]}`)
	var all, bobs []group.Seq
	for i := group.Seq(1); i <= 60; i++ {
		if i != 3 && i != 60 {
			all = append(all, i)
			if i != 7 && i != 9 {
				bobs = append(bobs, i)
			}
		}
	}
	for _, number := range []int{1, 3, 20} {
		if got := w.up(t, "alice", "g", number); !slices.Equal(got, all) {
			t.Errorf("alice reads %d at a time: %v", number, got)
		}
		if got := w.up(t, "bob", "g", number); !slices.Equal(got, bobs) {
			t.Errorf("bob reads %d at a time: %v", number, got)
		}
	}
	// Who joined late sees nothing from before, unless the group says so; who left, nothing at all.
	w.accepted(t, "", g+"add_group_member", `{"GroupId":"g","Silence":1,"MemberList":[{"Member_Account":"late"}]}`)
	w.say(t, "alice", "g", "short", "")
	if got := w.up(t, "late", "g", 20); !slices.Equal(got, []group.Seq{61}) {
		t.Errorf("late reads %v", got)
	}
	w.accepted(t, "alice", "modify_group_base_info", `{"GroupId":"g","HistoryMsgBeforeJoin":"On"}`)
	if got := w.up(t, "late", "g", 20); len(got) < 50 {
		t.Errorf("late, with the history from before: %v", got)
	}
	w.accepted(t, "", g+"delete_group_member", `{"GroupId":"g","MemberToDel_Account":["bob"]}`)
	for _, body := range []string{`{"GroupId":"g","ReqMsgNumber":20}`, `{"GroupId":"g","ReqMsgNumber":20,"Ascending":1}`} {
		if h := w.history(t, "bob", body); h.ErrorCode != group.CodeNotPermitted || len(h.RspMsgList) > 0 {
			t.Errorf("after the removal %s gives %+v", body, h)
		}
	}
}

// TestExpiry lets seven days pass: nobody sees the message, and SEQ and unread numbers go on.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storagetest.NewMemory()
		log := slog.New(slog.DiscardHandler)
		w := &world{store: store, ears: &ears{}, pipeline: hooks.New(store, hooks.Config{Admins: []group.Account{"administrator"}}, log)}
		w.pipeline.UseDeliverer(w.ears)
		w.table = command.New(command.Env{Store: store, Pipeline: w.pipeline, Log: log}, command.Config{Admins: []group.Account{"administrator"}})
		defer func() {
			if err := w.pipeline.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		w.people(t, "alice", "bob")
		w.make(t, group.Public, "g", "alice", "bob")
		w.say(t, "alice", "g", "one", "")
		w.say(t, "alice", "g", "quiet", `,"SendMsgControl":["NoUnread"]`)
		w.say(t, "alice", "g", "three", "")

		check := func(when string, shown int, next group.Seq, unread int64) {
			t.Helper()
			h := w.history(t, "bob", `{"GroupId":"g","ReqMsgNumber":20}`)
			n := 0
			for _, m := range h.RspMsgList {
				if m.IsPlaceMsg == 0 {
					n++
				} else if len(m.MsgBody) > 0 {
					t.Errorf("%s: the placeholder of %d has a body", when, m.MsgSeq)
				}
			}
			if n != shown || len(w.up(t, "bob", "g", 20)) != shown {
				t.Errorf("%s: %d messages are shown, want %d", when, n, shown)
			}
			got := w.syncAll(t, "bob", 10, nil)[0][0]
			if got.NextMsgSeq != next || got.UnreadMsgNum != unread || (got.LastMsg != nil) != (shown > 0) {
				t.Errorf("%s: %+v; want next SEQ %d, %d unread", when, got, next, unread)
			}
		}
		check("at first", 3, 4, 2)
		time.Sleep(7*24*time.Hour - time.Second)
		check("a second before the end", 3, 4, 2)
		time.Sleep(time.Second)
		check("after seven days", 0, 4, 2)
		if _, err := store.Sweep(t.Context(), time.Now().Unix()); err != nil {
			t.Fatal(err)
		}
		check("swept", 0, 4, 2)
		w.say(t, "alice", "g", "four", "")
		check("and on", 1, 5, 3)
		if h := w.history(t, "bob", `{"GroupId":"g","ReqMsgNumber":2,"ReqMsgSeq":3}`); h.IsFinished != 1 || len(h.RspMsgList) != 2 || h.RspMsgList[0].IsPlaceMsg != 1 {
			t.Errorf("a page of expired messages: %+v", h)
		}
	})
}
