package command_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
)

// A pile is what the outbox could not deliver.
type pile struct {
	dead, waiting []string
	broken        error
}

func (p *pile) list(numbers []string, limit int) ([]command.StuckCallback, error) {
	var out []command.StuckCallback
	for _, n := range numbers[:min(limit, len(numbers))] {
		out = append(out, command.StuckCallback{Number: n, Queue: "group:g:", Command: "Group.CallbackAfterSendMsg", Time: 5, Reason: "age"})
	}
	return out, p.broken
}

func (p *pile) Waiting(_ context.Context, limit int) ([]command.StuckCallback, error) {
	return p.list(p.waiting, limit)
}

func (p *pile) Dead(_ context.Context, limit int) ([]command.StuckCallback, error) {
	return p.list(p.dead, limit)
}

func (p *pile) Retry(ctx context.Context, number string) (bool, error) {
	there, err := p.Drop(ctx, number)
	if there {
		p.waiting = append(p.waiting, number)
	}
	return there, err
}

func (p *pile) Drop(_ context.Context, number string) (bool, error) {
	i := slices.Index(p.dead, number)
	if i >= 0 && p.broken == nil {
		p.dead = slices.Delete(p.dead, i, i+1)
	}
	return i >= 0, p.broken
}

func TestStuckCallbacks(t *testing.T) {
	w := newWorld(t, command.Config{})
	p := &pile{dead: []string{"1", "2", "3"}}
	w.table = command.New(command.Env{Store: w.store, Pipeline: w.pipeline, Stuck: p}, command.Config{SDKAppID: 1400000001, Admins: []group.Account{"administrator"}})
	const one = `{"Number":%q,"Queue":"group:g:","CallbackCommand":"Group.CallbackAfterSendMsg","Time":5,"Reason":"age"}`
	gone := `"ResultCode":130001`
	for _, step := range []struct{ command, body, want string }{
		{"get_stuck_callbacks", `{"Limit":1}`, `"CallbackList":[` + fmt.Sprintf(one, "1") + `]`},
		{"get_stuck_callbacks", `{"Which":"Waiting"}`, `"CallbackList":[]`},
		{"retry_callbacks", `{"NumberList":["2","9"]}`, `"ResultItem":[{"Number":"2","ResultCode":0,"ResultInfo":""},{"Number":"9",` + gone},
		{"drop_callbacks", `{"NumberList":["1","2"]}`, `"ResultItem":[{"Number":"1","ResultCode":0,"ResultInfo":""},{"Number":"2",` + gone},
		{"get_stuck_callbacks", `{"Which":"Dead"}`, `"CallbackList":[` + fmt.Sprintf(one, "3") + `]`},
		{"get_stuck_callbacks", `{"Which":"Waiting"}`, `"CallbackList":[` + fmt.Sprintf(one, "2") + `]`},
		{"get_stuck_callbacks", `{"Which":"All"}`, `"ErrorCode":130001`},
		{"get_stuck_callbacks", `{"Limit":1001}`, `"ErrorCode":130001`},
		{"drop_callbacks", `{"NumberList":[]}`, `"ErrorCode":130001`},
		{"retry_callbacks", `{"NumberList":["` + strings.Repeat(`1","`, 100) + `1"]}`, `"ErrorCode":130001`},
	} {
		if got := string(w.call(t, "", "openconfigsvr/"+step.command, step.body)); !strings.Contains(got, step.want) {
			t.Errorf("%s %s: %s, want %s", step.command, step.body, got, step.want)
		}
	}
	p.broken = errors.New("disk full")
	if a := w.must(t, "", "openconfigsvr/drop_callbacks", `{"NumberList":["3"]}`); a.ErrorCode != 130014 || len(p.dead) != 1 {
		t.Errorf("with a broken store: %+v, dead %v", a, p.dead)
	}
}
