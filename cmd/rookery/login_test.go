package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"golang.org/x/sync/errgroup"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/mongo"
	"github.com/rookery-im/rookery/storage/mongo/testserver"
)

// joinMany puts alice into groups with some messages each; the last of every tenth group does
// not count as its last.
func joinMany(t *testing.T, store storage.Store, groups, messages int) {
	t.Helper()
	now := time.Now().Unix()
	var muts, joined []storage.Mutation
	appends, ctx := errgroup.WithContext(t.Context())
	appends.SetLimit(16) // what the test server gets done in time, beside whatever else runs
	for i := range groups {
		g := &group.Group{ID: group.ID(fmt.Sprintf("g%03d", i)), Incarnation: 1, Type: group.Public, Name: "n", Owner: "bob", MemberCount: 2, CreateTime: now}
		m := &group.Member{Account: "alice", JoinTime: now, Role: group.OrdinaryMember}
		row := storage.MemberKey(g.Key(), "alice")
		muts = append(muts, storage.Groups.Put(storage.GroupKey(g.ID), g), storage.Members.Put(row, m), storage.Reads.Put(row, &storage.ReadMark{}))
		joined = append(joined, storage.Joined.Put(storage.JoinedKey("alice", g.ID), &storage.JoinedGroup{
			ID: g.ID, Incarnation: 1, Type: g.Type, JoinTime: now, Role: m.Role,
		}))
		b := &storage.Batch{Key: g.Key(), Epoch: 1}
		for n := range messages {
			b.Messages = append(b.Messages, &group.Message{
				Group: g.ID, Incarnation: 1, Seq: group.Seq(n + 1), ID: group.MsgID{byte(i), byte(i >> 8), byte(n)}, Time: now, From: "bob",
				Body: []byte(`[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hello"}}]`), Epoch: 1,
			})
		}
		if i%10 == 0 {
			b.Messages[messages-1].Flags = group.NoLastMsg
		}
		appends.Go(func() error { return store.Append(ctx, b) })
	}
	if err := appends.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, some := range [][]storage.Mutation{muts, joined} {
		if err := store.Apply(t.Context(), some...); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLoginRoundTrips counts the commands that MongoDB gets when a member of 500 groups logs in
// and synchronises.
func TestLoginRoundTrips(t *testing.T) {
	const groups, messages = 500, 3
	var commands atomic.Int64
	store, err := mongo.Open(t.Context(), mongo.Config{
		URI: testserver.URI(t), Database: testserver.Database(t), HeadInterval: time.Hour,
		Monitor: &event.CommandMonitor{Started: func(context.Context, *event.CommandStartedEvent) { commands.Add(1) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	joinMany(t, store, groups, messages)
	pipeline := hooks.New(store, hooks.Config{}, slog.New(slog.DiscardHandler))
	table := command.New(command.Env{Store: store, Pipeline: pipeline, Log: slog.New(slog.DiscardHandler)}, command.Config{SDKAppID: 1400000001})

	commands.Store(0)
	if joined, err := storage.JoinedGroups(t.Context(), store, "alice"); err != nil || len(joined) != groups {
		t.Fatalf("JoinedGroups = %d groups, %v; want %d", len(joined), err, groups)
	}
	if n := commands.Swap(0); n > 2 {
		t.Errorf("the memberships took %d round trips; want at most 2", n)
	}
	var page struct {
		Groups []struct {
			GroupID    string `json:"GroupId"`
			NextMsgSeq int
			LastMsg    struct{ MsgSeq int }
		}
		Cursor string
	}
	reply := table.RPC(t.Context(), &command.Call{Caller: "alice"}, "sync", []byte(`{}`))
	if err := json.Unmarshal(reply, &page); err != nil || len(page.Groups) != groups || page.Cursor != "" {
		t.Fatalf("sync: %d groups, cursor %q, %v: %.300s", len(page.Groups), page.Cursor, err, reply)
	}
	for i, g := range page.Groups {
		want := messages
		if i%10 == 0 {
			want--
		}
		if g.GroupID != fmt.Sprintf("g%03d", i) || g.NextMsgSeq != messages+1 || g.LastMsg.MsgSeq != want {
			t.Errorf("sync: %+v in place %d; want next SEQ %d, last message %d", g, i, messages+1, want)
		}
	}
	if n := commands.Load(); n > 5 {
		t.Errorf("sync took %d round trips; want at most 5", n)
	}
}
