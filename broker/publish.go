package broker

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

// A submitter takes messages in; it is hooks.Pipeline's method. It returns at once, the order
// of one sender's messages is that of the calls, and done is called exactly once.
type submitter interface {
	Submit(d *hooks.Draft, done func(hooks.Outcome))
}

// exactlyOnce is where a QoS 2 publish stands.
type exactlyOnce uint8

const (
	awaitingOutcome exactlyOnce = iota + 1
	awaitingRelease             // PUBREC was sent, PUBREL is to come
)

// errEnded makes mochi's reader stop; the end has been said already.
var errEnded = errors.New("broker: the connection was ended")

// A publication is a PUBLISH that waits for its outcome.
type publication struct {
	s      *session
	id     uint16
	qos    byte
	random uint32
	group  group.ID
}

// published takes a PUBLISH. An error ends the connection.
func (s *session) published(pk *packets.Packet) error {
	qos, id := pk.FixedHeader.Qos, pk.PacketID
	if err := s.admit(pk); err != nil {
		return err
	}
	if qos == 2 {
		s.conn.mu.Lock()
		state := s.exactly[id]
		if state == awaitingRelease { // [MQTT-4.3.3-10]
			s.conn.say(s.conn.appendAck(nil, typePubrec, id, codeSuccess, ""))
		}
		s.conn.mu.Unlock()
		if state != 0 {
			return nil
		}
	}
	s.conn.b.metrics.received.Add(1)
	p := &publication{s: s, id: id, qos: qos}
	t, err := parseName(pk.TopicName)
	switch {
	case err != nil:
		return s.settle(p, codeBadTopic, group.CodeBadParameter, err.Error())
	case t.kind == groupTopic:
		return s.submit(p, t.group, pk)
	case t.kind == rpcTopic:
		return s.request(p, t.command, pk)
	case t.kind == inboxTopic || t.kind == replyTopic:
		return s.settle(p, codeNotAuthorized, group.CodeNotPermitted, "topics below users/ are for receiving only")
	}
	return s.settle(p, codeBadTopic, group.CodeBadParameter, "publish to groups/{GroupId} or rpc/{Command}")
}

// admit applies the rules of MQTT and the Receive Maximum, and counts the publish in.
func (s *session) admit(pk *packets.Packet) error {
	c, qos := s.conn, pk.FixedHeader.Qos
	switch {
	case c.version == 5 && pk.FixedHeader.Retain: // [MQTT-3.2.2-14]; before MQTT 5 nobody was told
		return s.violation(codeNoRetain, "retained messages are not offered")
	case pk.Properties.TopicAliasFlag || pk.Properties.TopicAlias > 0: // we announce no Topic Alias Maximum
		return s.violation(codeBadAlias, "topic aliases are not offered")
	case pk.TopicName == "":
		return s.violation(codeProtocolError, "a PUBLISH needs a topic name")
	case c.b.draining.Load():
		s.pause(0) // we stop: it is not taken in, and the client will send it again
		return errEnded
	}
	limit := int32(c.b.cfg.ReceiveMaximum)
	if qos > 0 && c.version == 5 && s.unacked.Load() >= limit {
		return s.violation(codeReceiveMaximum, "more unacknowledged publishes than the server's Receive Maximum")
	}
	if s.pending.Load() >= limit {
		s.pause(limit)
		if c.closing() {
			return errEnded
		}
	}
	return nil
}

// pause stops reading from the connection until fewer than limit publishes are pending, or
// it ends. The keep alive does not run meanwhile: its deadline is only looked at in Read.
func (s *session) pause(limit int32) {
	s.waiting.Store(true)
	for s.pending.Load() >= limit && !s.conn.closing() {
		<-s.resumed
	}
	s.waiting.Store(false)
}

// violation ends the connection with a reason.
func (s *session) violation(code byte, reason string) error {
	s.conn.b.metrics.refused(code)
	s.conn.end(endProtocol, code, reason)
	return errEnded
}

// submit hands a message to the pipeline.
func (s *session) submit(p *publication, id group.ID, pk *packets.Packet) error {
	p.group = id
	d := s.draft(id)
	if p.qos > 0 {
		d.Again.PacketID, d.Repeated = p.id, pk.FixedHeader.Dup
	}
	var prop func(string) string
	if len(pk.Properties.User) > 0 {
		prop = func(key string) string {
			for _, u := range pk.Properties.User {
				if u.Key == key {
					return strings.Clone(u.Val)
				}
			}
			return ""
		}
	}
	d.Invalid = readPayload(d, pk.Payload, prop)
	p.random = d.Random
	if p.pauses() {
		s.pending.Add(1)
	}
	s.conn.b.pending.Add(1)
	switch p.qos {
	case 1:
		s.unacked.Add(1)
	case 2:
		s.conn.mu.Lock()
		s.expect(p.id, awaitingOutcome)
		s.conn.mu.Unlock()
	}
	s.conn.b.submitter.Submit(d, p.done)
	return nil
}

// draft is a message of the session's user without its content.
func (s *session) draft(id group.ID) *hooks.Draft {
	return &hooks.Draft{
		Group: id, From: s.account(), Operator: s.account(),
		Origin: hooks.Origin{IP: s.ip, Platform: s.platform, Device: s.device},
		Again:  group.Retransmission{Client: s.device},
	}
}

// pauses reports whether too many like it pause the reader. An MQTT 5 client has been told
// how many it may have on their way at QoS 1 and 2; one too many is its mistake.
func (p *publication) pauses() bool { return p.qos == 0 || p.s.conn.version < 5 }

// done answers the client with the pipeline's outcome. It may be called from any goroutine,
// and after the connection has ended.
func (p *publication) done(o hooks.Outcome) {
	s := p.s
	b := s.conn.b
	switch {
	case o.Err == nil:
		s.acknowledge(p, &o)
	case hooks.Retry(o.Err):
		s.askForRetry(p)
	default:
		code, info := group.CodeInternal, "internal error"
		if e, ok := errors.AsType[*group.Error](o.Err); ok {
			code, info = e.Code, e.Info
		} else {
			b.log.Error("publish failed", "group", string(p.group), "account", string(s.account()), "err", o.Err)
		}
		s.refuse(p, reasonOf(code), code, info)
	}
	if p.qos == 1 {
		s.unacked.Add(-1)
	}
	if p.pauses() {
		s.pending.Add(-1)
		if s.waiting.Load() {
			s.resume()
		}
	}
	if b.pending.Add(-1) == 0 && b.draining.Load() {
		b.drained()
	}
}

// reasonOf is the reason code for a refusal.
func reasonOf(code int) byte {
	switch code {
	case group.CodeBadParameter, group.CodeBadJSON, group.CodeMessageTooLong, group.CodeJSONTooLong:
		return codeBadPayload
	case group.CodeBadGroupID:
		return codeBadTopic
	case group.CodeFrequencyLimit, group.CodeTooFrequent:
		return codeQuota
	case group.CodeInternal:
		return codeImplementation
	}
	return codeNotAuthorized
}

// acknowledge answers with success.
func (s *session) acknowledge(p *publication, o *hooks.Outcome) {
	if p.qos == 0 {
		return
	}
	var scratch [128]byte
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	kind := byte(typePuback)
	if p.qos == 2 {
		kind = typePubrec
		s.expect(p.id, awaitingRelease)
	}
	if c.version < 5 || o.Time == 0 {
		c.say(c.appendAck(scratch[:0], kind, p.id, codeSuccess, ""))
		return
	}
	var user [2]pair
	n := 0
	if o.Seq > 0 {
		user[n] = pair{"MsgSeq", strconv.FormatInt(int64(o.Seq), 10)}
		n++
	}
	user[n] = pair{"MsgTime", strconv.FormatInt(o.Time, 10)}
	c.say(c.appendAck(scratch[:0], kind, p.id, codeSuccess, "", user[:n+1]...))
}

// askForRetry answers that nothing was stored. MQTT 3.1.1 has no word for it: the connection
// is closed, and the client sends the message again when it is back.
func (s *session) askForRetry(p *publication) {
	const reason = "10002 the message was not stored, retry"
	if p.qos > 0 && s.conn.version < 5 {
		s.conn.b.metrics.refused(codeImplementation)
		s.conn.end(endProtocol, 0, "")
		return
	}
	s.answer(p, codeImplementation, reason)
	if p.qos == 0 {
		s.sendFailed(p, group.CodeInternal, reason[6:])
	}
}

// refuse answers that the message is not taken, now or later.
func (s *session) refuse(p *publication, code byte, errorCode int, info string) {
	s.answer(p, code, strconv.Itoa(errorCode)+" "+info)
	if p.qos == 0 || s.conn.version < 5 {
		s.sendFailed(p, errorCode, info)
	}
}

// settle refuses a publish that never was pending.
func (s *session) settle(p *publication, code byte, errorCode int, info string) error {
	s.refuse(p, code, errorCode, info)
	return nil
}

// answer acknowledges with a code; before MQTT 5 there is only success.
func (s *session) answer(p *publication, code byte, reason string) {
	c := s.conn
	c.b.metrics.refused(code)
	if p.qos == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	kind := byte(typePuback)
	if p.qos == 2 {
		kind = typePubrec
		if c.version < 5 { // the client goes on as after a success
			s.expect(p.id, awaitingRelease)
		} else { // a code from 0x80 on ends the exchange [MQTT-4.3.3-4]
			s.forgetID(p.id)
		}
	}
	c.say(c.appendAck(nil, kind, p.id, code, reason))
}

// released takes a PUBREL.
func (s *session) released(id uint16) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	code := codeSuccess
	if s.exactly[id] == awaitingRelease {
		s.forgetID(id)
	} else {
		code = codeUnknownPacketID
	}
	c.say(c.appendAck(nil, typePubcomp, id, code, ""))
}

// expect notes where the QoS 2 publish with the identifier stands. conn.mu is held.
func (s *session) expect(id uint16, state exactlyOnce) {
	if s.exactly == nil {
		s.exactly = make(map[uint16]exactlyOnce)
	}
	if s.exactly[id] == 0 {
		s.unacked.Add(1)
	}
	s.exactly[id] = state
}

// forgetID ends a QoS 2 exchange. conn.mu is held.
func (s *session) forgetID(id uint16) {
	if s.exactly[id] != 0 {
		delete(s.exactly, id)
		s.unacked.Add(-1)
	}
}

// sendFailed tells the user's inbox what a PUBACK of MQTT 3.1.1, or none at QoS 0, can't tell.
func (s *session) sendFailed(p *publication, code int, info string) {
	body := struct {
		GroupID   string `json:"GroupId,omitempty"`
		ErrorCode int
		ErrorInfo string
		PacketID  uint16 `json:"PacketId,omitempty"`
		Random    uint32 `json:",omitempty"`
		ClientID  string `json:"ClientId"`
	}{string(p.group), code, clip(info), p.id, p.random, s.device}
	s.conn.b.Notify(hooks.Notice{To: s.account(), Event: "SendFailed", Body: body})
}

// receiveQuota keeps mochi's own accounting out of the way: ours is in admit.
const receiveQuota = math.MaxInt32
