package command_test

import (
	"strings"
	"testing"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
)

func TestGroupLimits(t *testing.T) {
	w := newWorld(t, command.Config{})
	w.accepted(t, "", g+"create_group", `{"Type":"Public","Name":"n","GroupId":"g"}`)
	for _, step := range []struct {
		command, body, want string
	}{
		{"get_group_limits", `{"GroupId":"g"}`, `"MessagesPerSecond":-1,"HighPerSecond":-1,"NormalPerSecond":-1,"LowPerSecond":-1,"LowestPerSecond":-1}`},
		{"set_group_limits", `{"GroupId":"g","MessagesPerSecond":80,"LowPerSecond":10}`, `"MessagesPerSecond":80,"HighPerSecond":-1,"NormalPerSecond":-1,"LowPerSecond":10,"LowestPerSecond":-1}`},
		{"set_group_limits", `{"GroupId":"g","MessagesPerSecond":0,"HighPerSecond":5,"LowPerSecond":null}`, `"MessagesPerSecond":0,"HighPerSecond":5,"NormalPerSecond":-1,"LowPerSecond":10,"LowestPerSecond":-1}`},
		{"set_group_limits", `{"GroupId":"g","NormalPerSecond":3,"LowestPerSecond":100001}`, `"ErrorCode":10004`},
		{"set_group_limits", `{"GroupId":"g","NormalPerSecond":-2}`, `"ErrorCode":10004`},
		{"set_group_limits", `{"GroupId":"none","NormalPerSecond":2}`, `"ErrorCode":10010`},
		{"get_group_limits", `{"GroupId":"g"}`, `"MessagesPerSecond":0,"HighPerSecond":5,"NormalPerSecond":-1,"LowPerSecond":10,"LowestPerSecond":-1}`},
	} {
		if got := string(w.call(t, "", g+step.command, step.body)); !strings.Contains(got, step.want) {
			t.Errorf("%s %s: %s, want %s", step.command, step.body, got, step.want)
		}
	}
	if a := w.must(t, "alice", "set_group_limits", `{"GroupId":"g"}`); a.ErrorCode != group.CodeUnknownCommand {
		t.Errorf("a user: %+v", a)
	}
	found, err := w.pipeline.Group(t.Context(), "g")
	if err != nil || found.Limits == nil || found.Limits.PerPriority != [4]int{5, -1, 10, -1} {
		t.Errorf("the group is stored with %+v, %v", found.Limits, err)
	}
}
