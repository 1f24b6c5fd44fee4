package broker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rookery-im/rookery/group"
)

// A topicKind is one row of the table of topics.
type topicKind uint8

const (
	groupTopic  topicKind = iota + 1 // groups/{GroupId}
	inboxTopic                       // users/{UserID}
	replyTopic                       // users/{UserID}/…
	rpcTopic                         // rpc/{Command}
	allGroups                        // groups/+, a topic filter
	otherFilter                      // a topic filter with wildcards that are not offered
	otherTopic                       // none of ours
)

// A topic is a topic name or topic filter that has the one spelling of its meaning.
type topic struct {
	kind    topicKind
	group   group.ID
	account group.Account
	command string
	below   string // what follows users/{UserID}/
}

const (
	groupsPrefix = "groups/"
	usersPrefix  = "users/"
	rpcPrefix    = "rpc/"
	allGroupsStr = "groups/+"
)

var errWildcard = errors.New("a topic name has no wildcards")

// A misspeltError refuses a topic that means one of ours but is not spelt like it.
type misspeltError struct{ want string }

func (e *misspeltError) Error() string {
	if e.want == "" {
		return "the id in the topic is not a valid one"
	}
	return fmt.Sprintf("the topic is spelt %s", e.want)
}

// parseName reads the name that a client publishes to. What it returns keeps no reference to s.
func parseName(s string) (topic, error) {
	if strings.ContainsAny(s, "+#") {
		if err := unescapedWildcard(s); err != nil {
			return topic{}, err
		}
		return topic{}, errWildcard
	}
	return parseTopic(s)
}

// unescapedWildcard recognises a group's id with a + or # that is not percent-encoded.
func unescapedWildcard(s string) error {
	rest, ok := strings.CutPrefix(s, groupsPrefix)
	if !ok || strings.Contains(rest, "/") || rest == "#" || rest == "+" || !group.ID(rest).Valid() {
		return nil
	}
	return &misspeltError{groupsPrefix + escape(rest)}
}

// parseFilter reads a topic filter that a client subscribes to.
func parseFilter(s string) (topic, error) {
	if s == allGroupsStr {
		return topic{kind: allGroups}, nil
	}
	if strings.ContainsAny(s, "+#") || strings.HasPrefix(s, "$") {
		return topic{kind: otherFilter}, unescapedWildcard(s)
	}
	return parseTopic(s)
}

func parseTopic(s string) (topic, error) {
	if rest, ok := strings.CutPrefix(s, groupsPrefix); ok {
		id, err := unescape(rest, func(id string) bool { return group.ID(id).Valid() }, groupsPrefix, "")
		return topic{kind: groupTopic, group: group.ID(id)}, err
	}
	if rest, ok := strings.CutPrefix(s, usersPrefix); ok {
		name, below, deeper := strings.Cut(rest, "/")
		tail := ""
		if deeper {
			tail = "/" + below
		}
		a, err := unescape(name, func(a string) bool { return group.Account(a).Valid() }, usersPrefix, tail)
		if deeper {
			return topic{kind: replyTopic, account: group.Account(a), below: strings.Clone(below)}, err
		}
		return topic{kind: inboxTopic, account: group.Account(a)}, err
	}
	if rest, ok := strings.CutPrefix(s, rpcPrefix); ok && rest != "" && !strings.Contains(rest, "/") {
		return topic{kind: rpcTopic, command: strings.Clone(rest)}, nil
	}
	return topic{kind: otherTopic}, nil
}

// groupTopicName is the topic of a group.
func groupTopicName(id group.ID) string { return groupsPrefix + escape(string(id)) }

// userTopicName is an account's inbox.
func userTopicName(a group.Account) string { return usersPrefix + escape(string(a)) }

const upperHex = "0123456789ABCDEF"

// literal reports whether a byte of an id stands for itself in a topic.
func literal(b byte) bool {
	return b >= 0x21 && b <= 0x7E && b != '%' && b != '/' && b != '+' && b != '#'
}

// escape spells an id as one topic level.
func escape(id string) string {
	n := 0
	for i := range len(id) {
		if !literal(id[i]) {
			n++
		}
	}
	if n == 0 {
		return id
	}
	var b strings.Builder
	b.Grow(len(id) + 2*n)
	for i := range len(id) {
		if c := id[i]; literal(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// unescape reads one topic level back. Each id has exactly one spelling: another one is a
// *misspeltError that names the right one, so that two topics can't mean one group.
func unescape(level string, valid func(string) bool, prefix, tail string) (string, error) {
	id := make([]byte, 0, len(level))
	for i := 0; i < len(level); i++ {
		c := level[i]
		if c == '%' && i+2 < len(level) {
			if hi, lo := unhex(level[i+1]), unhex(level[i+2]); hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		}
		id = append(id, c)
		if len(id) > group.MaxIDLen {
			return "", &misspeltError{}
		}
	}
	if !valid(string(id)) {
		return "", &misspeltError{}
	}
	if want := escape(string(id)); want != level {
		return "", &misspeltError{prefix + want + tail}
	}
	return string(id), nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
