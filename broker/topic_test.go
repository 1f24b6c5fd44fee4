package broker

import (
	"errors"
	"testing"

	"github.com/rookery-im/rookery/group"
)

func TestParseTopic(t *testing.T) {
	group1 := topic{kind: groupTopic, group: "g1"}
	for _, c := range []struct {
		in     string
		filter bool
		want   topic
		right  string // the spelling that the refusal names; "-": it is refused without one
	}{
		{in: "groups/g1", want: group1},
		{in: "groups/g1", filter: true, want: group1},
		{in: "groups/talk%20%231", want: topic{kind: groupTopic, group: "talk #1"}},
		{in: "groups/@TGS#1", right: "groups/@TGS%231"},
		{in: "groups/@TGS#1", filter: true, right: "groups/@TGS%231"},
		{in: "groups/a+b", filter: true, right: "groups/a%2Bb"},
		{in: "groups/talk 1", right: "groups/talk%201"},
		{in: "groups/a%2fb", right: "groups/a%2Fb"},
		{in: "groups/a/b", right: "groups/a%2Fb"},
		{in: "groups/%67%31", right: "groups/g1"},
		{in: "groups/100%", right: "groups/100%25"},
		{in: "groups/%zz", right: "groups/%25zz"},
		{in: "groups/", right: "-"},
		{in: "groups/%00", right: "-"},
		{in: "groups/\u00e9", right: "-"},
		{in: "groups/12345678901234567890123456789012345678901234567890", right: "-"},
		{in: "groups/+", right: "-"},
		{in: "groups/+", filter: true, want: topic{kind: allGroups}},
		{in: "groups/#", filter: true, want: topic{kind: otherFilter}},
		{in: "groups/+/x", filter: true, want: topic{kind: otherFilter}},
		{in: "#", filter: true, want: topic{kind: otherFilter}},
		{in: "+/g1", filter: true, want: topic{kind: otherFilter}},
		{in: "$SYS/broker", filter: true, want: topic{kind: otherFilter}},
		{in: "$SYS/broker", want: topic{kind: otherTopic}},
		{in: "users/alice", want: topic{kind: inboxTopic, account: "alice"}},
		{in: "users/al%20ice", want: topic{kind: inboxTopic, account: "al ice"}},
		{in: "users/alice/rpc", want: topic{kind: replyTopic, account: "alice", below: "rpc"}},
		{in: "users/alice/a/b", want: topic{kind: replyTopic, account: "alice", below: "a/b"}},
		{in: "users/al ice/rpc", right: "users/al%20ice/rpc"},
		{in: "users/alice/#", filter: true, want: topic{kind: otherFilter}},
		{in: "users/", right: "-"},
		{in: "rpc/sync", want: topic{kind: rpcTopic, command: "sync"}},
		{in: "rpc/", want: topic{kind: otherTopic}},
		{in: "rpc/a/b", want: topic{kind: otherTopic}},
		{in: "groups", want: topic{kind: otherTopic}},
		{in: "/groups/g1", want: topic{kind: otherTopic}},
		{in: "", want: topic{kind: otherTopic}},
	} {
		parse := parseName
		if c.filter {
			parse = parseFilter
		}
		got, err := parse(c.in)
		if c.right == "" {
			if err != nil || got != c.want {
				t.Errorf("parse(%q, filter %v) = %+v, %v; want %+v", c.in, c.filter, got, err, c.want)
			}
			continue
		}
		m, ok := errors.AsType[*misspeltError](err)
		switch {
		case err == nil:
			t.Errorf("parse(%q, filter %v) = %+v, want a refusal", c.in, c.filter, got)
		case c.right == "-" && ok && m.want != "", c.right != "-" && (!ok || m.want != c.right):
			t.Errorf("parse(%q, filter %v) = %v, want one that names %s", c.in, c.filter, err, c.right)
		}
	}
}

// Each id has one spelling, and a topic that parses is spelt like that.
func FuzzParseTopic(f *testing.F) {
	for _, s := range []string{"groups/g1", "groups/talk%20%231", "users/a/rpc", "groups/a%2fb", "groups/+", "rpc/sync", "groups/%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (topic, error){parseName, parseFilter} {
			got, err := parse(s)
			if m, ok := errors.AsType[*misspeltError](err); ok && m.want != "" {
				if again, err := parse(m.want); err != nil {
					t.Errorf("%q is refused for %q, which is refused too: %+v, %v", s, m.want, again, err)
				}
			}
			if err != nil {
				continue
			}
			switch got.kind {
			case groupTopic:
				if !got.group.Valid() || groupTopicName(got.group) != s {
					t.Errorf("%q parses as group %q, whose topic is %q", s, got.group, groupTopicName(got.group))
				}
			case inboxTopic:
				if !got.account.Valid() || userTopicName(got.account) != s {
					t.Errorf("%q parses as the inbox of %q", s, got.account)
				}
			case replyTopic:
				if userTopicName(got.account)+"/"+got.below != s {
					t.Errorf("%q parses as %+v", s, got)
				}
			}
		}
	})
}

// Whatever a group is called, its topic means it.
func FuzzGroupTopicName(f *testing.F) {
	f.Add("talk #1")
	f.Add("%41")
	f.Fuzz(func(t *testing.T, id string) {
		if !group.ID(id).Valid() {
			return
		}
		got, err := parseFilter(groupTopicName(group.ID(id)))
		if err != nil || got.kind != groupTopic || got.group != group.ID(id) {
			t.Errorf("the topic of %q parses as %+v, %v", id, got, err)
		}
	})
}
