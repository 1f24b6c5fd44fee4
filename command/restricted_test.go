package command_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// TestRestricted sends more than the group may have: one goes, one waits for its turn, and the
// others are told success, with the reason and the server's time.
func TestRestricted(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g"}`)
	limited := hooks.New(w.store, hooks.Config{
		Admins: []group.Account{"administrator"}, Limits: func(*group.Group) hooks.Limits { return hooks.Limits{PerSecond: 1} },
	}, slog.New(slog.DiscardHandler))
	defer func() {
		if err := limited.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	w.table = command.New(command.Env{Store: w.store, Pipeline: limited}, command.Config{Admins: []group.Account{"administrator"}})

	type result struct {
		ActionStatus  string
		ErrorCode     int
		MsgTime       int64
		MsgSeq        int64
		MsgDropReason *string
	}
	const sent = 5
	results := make([]result, sent)
	began := time.Now().Unix()
	var senders sync.WaitGroup
	for i := range results {
		senders.Go(func() {
			answer := w.call(t, "", g+"send_group_msg", fmt.Sprintf(`{"GroupId":"g","Random":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}]}`, i))
			if err := json.Unmarshal(answer, &results[i]); err != nil {
				t.Errorf("answer %s: %v", answer, err)
			}
		})
	}
	senders.Wait()
	restricted := 0
	for _, r := range results {
		if r.ActionStatus != "OK" || r.ErrorCode != 0 || r.MsgTime < began || r.MsgTime > time.Now().Unix() {
			t.Errorf("%+v, want success at about %d", r, began)
		}
		switch {
		case r.MsgDropReason == nil && r.MsgSeq == 0, r.MsgDropReason != nil && (r.MsgSeq != 0 || *r.MsgDropReason != "MsgFreqCtrl"):
			t.Errorf("%+v: want a MsgSeq, or MsgDropReason MsgFreqCtrl", r)
		case r.MsgDropReason != nil:
			restricted++
		}
	}
	if restricted < sent-2 {
		t.Errorf("%d of %d were restricted: %+v", restricted, sent, results)
	}
}
