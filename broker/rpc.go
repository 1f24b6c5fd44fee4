package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// A Caller is who makes a request.
type Caller struct {
	Account   group.Account
	Device    string // the client identifier
	Platform  string
	IP        string
	Expires   time.Time // of the UserSig that it has logged in with
	MaxPacket int       // the client's Maximum Packet Size; 0: none
}

// An RPC answers one request: it returns the JSON object of the reply, whatever went wrong; the
// broker adds Command and RequestId. It is called concurrently, also for one caller, and
// returns when ctx ends.
type RPC func(ctx context.Context, c Caller, command string, body []byte) []byte

// codeBusy and codeNoRPC are the REST interface's numbers for a caller that is too fast and
// for a command that does not exist.
const (
	codeBusy  = 60011
	codeNoRPC = 60009
)

// request takes a PUBLISH to rpc/{Command}. The publish is acknowledged when the request is
// taken; the reply comes as a message of its own, to the requesting connection alone.
func (s *session) request(p *publication, command string, pk *packets.Packet) error {
	b := s.conn.b
	reply, ok := s.replyTo(pk)
	if !ok {
		const reason = "the response topic must be users/{UserID}, your own, or below it"
		s.answer(p, codeBadTopic, "10004 "+reason)
		s.reply(reply, s.rpcError(command, pk.Payload, group.CodeBadParameter, reason))
		return nil
	}
	body := bytes.Clone(pk.Payload)
	if s.rpc.Add(1) > int32(b.cfg.RPCPending) {
		s.rpc.Add(-1)
		s.answer(p, codeQuota, "60011 too many requests under way")
		s.reply(reply, s.rpcError(command, body, codeBusy, "too many requests under way"))
		return nil
	}
	if b.rpc == nil {
		s.rpc.Add(-1)
		s.acknowledge(p, &hooks.Outcome{})
		s.reply(reply, s.rpcError(command, body, codeNoRPC, "no command is offered"))
		return nil
	}
	s.acknowledge(p, &hooks.Outcome{})
	caller := Caller{Account: s.account(), Device: s.device, Platform: s.platform, IP: s.ip, Expires: s.expires, MaxPacket: s.conn.maxPacket}
	b.running.Go(func() {
		defer s.rpc.Add(-1)
		ctx, cancel := context.WithTimeout(b.ctx, b.cfg.RPCTimeout)
		defer cancel()
		if !s.reply(reply, b.call(ctx, s, caller, command, body)) {
			s.reply(reply, s.rpcError(command, body, group.CodeAnswerTooLarge, "the reply is larger than the client's Maximum Packet Size: ask for less"))
		}
	})
	return nil
}

// call runs the command; a panic in it costs this request alone.
func (b *Broker) call(ctx context.Context, s *session, c Caller, command string, body []byte) (out []byte) {
	defer func() {
		if r := recover(); r != nil {
			b.log.Error("command panicked", "command", command, "account", string(c.Account), "panic", r, "stack", string(debug.Stack()))
			out = s.rpcError(command, body, group.CodeInternal, "internal error")
		}
	}()
	return withRequest(b.rpc(ctx, c, command, body), command, body)
}

// withRequest adds to a reply which request it answers.
func withRequest(reply []byte, command string, body []byte) []byte {
	end := bytes.LastIndexByte(reply, '}')
	if end < 0 {
		return reply
	}
	out := reply[:end:end]
	if len(bytes.TrimSpace(out)) > 1 {
		out = append(out, ',')
	}
	out = appendJSONString(append(out, `"Command":`...), command)
	if id := requestID(body); len(id) > 0 {
		out = append(append(out, `,"RequestId":`...), id...)
	}
	return append(out, '}')
}

// requestID returns the request's RequestId as it was sent; nil if it has none or a silly one.
func requestID(body []byte) json.RawMessage {
	var id struct {
		RequestID json.RawMessage `json:"RequestId"`
	}
	_ = json.Unmarshal(body, &id) // a body that is no JSON has no id
	if len(id.RequestID) > maxReason {
		return nil
	}
	return id.RequestID
}

// A replyAddress is where the reply to a request goes.
type replyAddress struct {
	topic string
	props []byte
}

// replyTo reads where the reply is wanted. A topic that is not the caller's is not ok; then
// the address is the usual one.
func (s *session) replyTo(pk *packets.Packet) (replyAddress, bool) {
	to := replyAddress{topic: userTopicName(s.account()) + "/rpc"}
	if cd := pk.Properties.CorrelationData; len(cd) > 0 && s.conn.version == 5 {
		to.props = appendString([]byte{propCorrData}, string(cd))
	}
	want := pk.Properties.ResponseTopic
	if want == "" {
		return to, true
	}
	t, err := parseName(want)
	if err != nil || t.account != s.account() || t.kind != inboxTopic && t.kind != replyTopic {
		return to, false
	}
	to.topic = strings.Clone(want)
	return to, true
}

// reply sends a reply to this connection, at QoS 1. It reports false if the client takes none
// of that size.
func (s *session) reply(to replyAddress, payload []byte) bool {
	pub := published{topic: to.topic, props: to.props, payloads: [][]byte{payload}}
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	f := pub.frames(c.version == 5, 1)
	if c.maxPacket > 0 && f.longest > c.maxPacket {
		return false
	}
	c.put(f, 0, 1)
	return true
}

// rpcError is the reply to a request that does not reach its command.
func (s *session) rpcError(command string, body []byte, code int, info string) []byte {
	out, _ := json.Marshal(struct {
		ActionStatus string
		ErrorCode    int
		ErrorInfo    string
		Command      string
		RequestID    json.RawMessage `json:"RequestId,omitempty"`
	}{"FAIL", code, info, command, requestID(body)})
	return out
}
