package command_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage/storagetest"
)

// TestAttributeRate writes attributes across the turn of a second: five in any second.
func TestAttributeRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storagetest.NewMemory()
		admins := []group.Account{"administrator"}
		w := &world{store: store, pipeline: hooks.New(store, hooks.Config{Admins: admins}, slog.New(slog.DiscardHandler))}
		w.table = command.New(command.Env{Store: store, Pipeline: w.pipeline}, command.Config{Admins: admins})
		defer func() {
			if err := w.pipeline.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		w.people(t, "alice")
		w.make(t, group.Public, "g", "alice")
		write := func() int {
			return w.must(t, "", g+"modify_group_attr", `{"GroupId":"g","GroupAttr":[{"key":"k","value":"v"}]}`).ErrorCode
		}
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(1900 * time.Millisecond)))
		for i := range 5 {
			if code := write(); code != 0 {
				t.Errorf("write %d: %d", i+1, code)
			}
		}
		time.Sleep(999 * time.Millisecond) // another second by the clock
		if code := write(); code != group.CodeAttrTooFrequent {
			t.Errorf("the sixth within a second: %d, want %d", code, group.CodeAttrTooFrequent)
		}
		time.Sleep(time.Millisecond)
		if code := write(); code != 0 {
			t.Errorf("a second later: %d", code)
		}
	})
}
