package command

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/wire"
)

// A Call says who calls and from where. The door vouches for it.
type Call struct {
	Caller   group.Account
	Admin    bool   // an app admin: roles do not bound it
	IP       string // without port; empty if unknown
	Platform string // RESTAPI, or what the client said of itself
	Device   string // the client identifier; empty for REST
	// SigExpires is when the UserSig expires that the caller has logged in with, in Unix
	// seconds; 0: unknown.
	SigExpires int64
	// MaxReply is the largest reply that the caller takes, in bytes; 0: any. A reply that comes in
	// pages keeps to it where it can.
	MaxReply int
	// BaseURL is the server's root as the caller wrote it, https://host:port; empty if there is
	// none. Addresses in answers start with it.
	BaseURL string
}

// An Audience says who may call a command at all.
type Audience uint8

// The audiences.
const (
	Admins   Audience = iota // app admins only
	Everyone                 // users too, within their authority
	Users                    // about the caller itself, whoever it is
)

// A Command is one row of the table.
type Command struct {
	Service string // group_open_http_svc, …
	Name    string // the last part of the path
	// Aliases are other names of the same command; ServiceAliases are other services that
	// serve it, under all of its names.
	Aliases        []string
	ServiceAliases []string
	Audience       Audience
	// Changes says that the command may change something: calls of app admins are audited.
	Changes bool
	// Rate is how often Tencent IM lets an app call it, in calls per second. For information;
	// ours is configured by the door.
	Rate int
	// ErrorDisplay says that answers carry an empty member of that name.
	ErrorDisplay bool
	Doc          string // what it does, in a sentence

	// Request and Response are the struct types of the bodies.
	Request, Response reflect.Type

	codes  codes
	group  []int // the index of the request's field GroupID; nil: none
	topic  []int // and of TopicID
	handle func(ctx context.Context, call *Call, body []byte) (resp any, groupID string, err error)
}

// Path returns the command's path below /v4/.
func (c *Command) Path() string { return c.Service + "/" + c.Name }

// A Table holds commands. It is not changed after it was made.
type Table struct {
	env      *env
	commands []*Command
	byPath   map[string]*Command
	byName   map[string]*Command // for RPC: by the last segment, and as service_segment
	metrics  *metrics

	allowed   map[group.Account]map[*Command]bool // absent: every command
	unmatched []string
}

// handler is the shape of every command: it returns the response, which may be nil for "nothing
// but success", or an error. A response next to an error is sent with it.
type handler[Req, Resp any] func(ctx context.Context, call *Call, req *Req) (*Resp, error)

// register adds a command to the table. It panics if a name is taken: the table is fixed when
// the program is written.
func register[Req, Resp any](t *Table, c Command, h handler[Req, Resp]) {
	c.Request, c.Response = reflect.TypeFor[Req](), reflect.TypeFor[Resp]()
	if c.Rate == 0 {
		c.Rate = 200
	}
	c.codes = codesOf(c.Service)
	if f, ok := c.Request.FieldByName("GroupID"); ok && f.Type.Kind() == reflect.String {
		c.group = f.Index
	}
	if f, ok := c.Request.FieldByName("TopicID"); ok {
		c.topic = f.Index
	}
	c.handle = func(ctx context.Context, call *Call, body []byte) (any, string, error) {
		req := new(Req)
		if err := wire.Unmarshal(body, req); err != nil {
			return nil, "", err
		}
		id := ""
		if c.group != nil {
			id = reflect.ValueOf(req).Elem().FieldByIndex(c.group).String()
		}
		if c.topic != nil && reflect.ValueOf(req).Elem().FieldByIndex(c.topic).String() != "" {
			return nil, id, group.Errorf(codeNoTopics, "topics are not offered") // the group itself is not meant
		}
		resp, err := h(ctx, call, req)
		if resp == nil {
			return nil, id, err
		}
		return resp, id, err
	}
	t.add(&c)
}

func (t *Table) add(c *Command) {
	t.commands = append(t.commands, c)
	for _, service := range append([]string{c.Service}, c.ServiceAliases...) {
		for _, name := range append([]string{c.Name}, c.Aliases...) {
			path := service + "/" + name
			if t.byPath[path] != nil {
				panic("command: two commands are called " + path)
			}
			t.byPath[path] = c
			t.byName[service+"_"+name] = c
			if other, taken := t.byName[name]; !taken {
				t.byName[name] = c
			} else if other != c {
				t.byName[name] = nil // shared by two services: only the long name is clear
			}
		}
	}
}

// Commands yields the commands, ordered by service and name.
func (t *Table) Commands() iter.Seq[*Command] {
	sorted := slices.SortedFunc(slices.Values(t.commands), func(a, b *Command) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Name, b.Name))
	})
	return slices.Values(sorted)
}

// Find returns the command that service/name means, or nil.
func (t *Table) Find(service, name string) *Command { return t.byPath[service+"/"+name] }

// Call runs the command service/name and returns the whole answer, a JSON object with
// ActionStatus, ErrorCode and ErrorInfo. It never fails otherwise.
func (t *Table) Call(ctx context.Context, call *Call, service, name string, body []byte) []byte {
	c := t.Find(service, name)
	if c == nil {
		if service == groupService {
			return Failure(group.CodeUnknownCommand, "unknown command")
		}
		return Failure(CodeNoResource, "no such service or command")
	}
	return t.run(ctx, call, c, body)
}

// RPC runs the command that a client names in a topic: the last part of its path, or
// service_name where two services share that.
func (t *Table) RPC(ctx context.Context, call *Call, name string, body []byte) []byte {
	c := t.byName[name]
	if c == nil || c.Audience == Admins && !call.Admin {
		return Failure(group.CodeUnknownCommand, "unknown command")
	}
	return t.run(ctx, call, c, body)
}

func (t *Table) run(ctx context.Context, call *Call, c *Command, body []byte) []byte {
	if c.Audience == Admins && !call.Admin {
		return t.failure(c, c.codes.notAdmin, "the caller must be an app admin")
	}
	if bounded, is := t.allowed[call.Caller]; is && call.Admin && !bounded[c] {
		return t.failure(c, CodeCommandDisabled, "the configuration (rest.admins) does not let this admin call the command")
	}
	start := time.Now()
	resp, groupID, err := c.handle(ctx, call, body)
	refusal := t.refusal(c, call, groupID, err)
	answer := t.answer(c, resp, refusal)
	if n := t.env.cfg.AnswerSize; n > 0 && len(answer) > n {
		refusal = group.Errorf(group.CodeAnswerTooLarge, "the answer would have %d bytes, at most %d are allowed: ask for less", len(answer), n)
		answer = t.answer(c, nil, refusal)
	}
	took := time.Since(start)
	t.metrics.observe(c, refusal, took)
	if c.Changes && call.Admin { // what users do is in their groups' tips and messages
		code := 0
		if refusal != nil {
			code = refusal.Code
		}
		t.env.audit.LogAttrs(ctx, slog.LevelInfo, "command", slog.String("account", string(call.Caller)),
			slog.String("ip", call.IP), slog.String("platform", call.Platform), slog.String("client", call.Device), slog.String("command", c.Path()),
			slog.String("group", groupID), slog.Int("code", code), slog.Duration("dur", took))
	}
	return answer
}
