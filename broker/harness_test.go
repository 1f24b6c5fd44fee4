package broker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
	"github.com/rookery-im/rookery/usersig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testApp = usersig.App{ID: 1400000001, Secret: "a secret for tests"}

// patience is how long a test waits for what must come. It is no measurement: it only
// decides when a broken test gives up.
const patience = 20 * time.Second

// A server is a broker on loopback, with the real pipeline over a store in memory. Its group
// g1 is Public, owned by alice, with member bob.
type server struct {
	t        *testing.T
	b        *Broker
	pipeline *hooks.Pipeline
	store    *storagetest.Memory
	stop     func()
}

type serverOptions struct {
	cfg      Config
	pipeline hooks.Config
	submit   submitter // instead of the pipeline
	rpc      RPC
	onState  func(StateChange)
	onLapse  func(context.Context, group.Account, group.Key)
	store    *storagetest.Memory // of a server that was before; nil: a new one
}

func serve(t *testing.T, o serverOptions) *server {
	t.Helper()
	if o.cfg.TCPAddr == "" {
		o.cfg.TCPAddr = "127.0.0.1:0"
	}
	s := &server{t: t, store: o.store}
	if s.store == nil {
		s.store = storagetest.NewMemory()
	}
	s.pipeline = hooks.New(s.store, o.pipeline, slog.New(slog.DiscardHandler))
	b, err := New(o.cfg, s.store, usersig.NewVerifier(testApp), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.b = b
	s.pipeline.UseDeliverer(b)
	if o.submit == nil {
		o.submit = s.pipeline
	}
	b.Use(o.submit, o.rpc, o.onState)
	b.UseLapse(o.onLapse)
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	var stopped bool
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run did not return")
		}
		closing, done := context.WithTimeout(context.Background(), patience)
		defer done()
		if err := s.pipeline.Close(closing); err != nil {
			t.Errorf("pipeline: %v", err)
		}
	}
	t.Cleanup(s.stop)
	if o.store != nil {
		return s
	}
	for _, a := range []group.Account{"alice", "bob", "carol"} {
		if err := s.store.Apply(t.Context(), storage.Accounts.Put(storage.AccountKey(a), &group.Profile{Account: a})); err != nil {
			t.Fatal(err)
		}
	}
	s.create("g1", group.Public, "alice", "bob")
	return s
}

// create makes a group with the first member as its owner.
func (s *server) create(id group.ID, typ group.Type, members ...group.Account) {
	s.t.Helper()
	s.update(id, func(tx *hooks.Tx) error {
		if err := tx.Create(&group.Group{ID: id, Type: typ, Owner: members[0], CreateTime: 1}); err != nil {
			return err
		}
		for i, a := range members {
			role := group.OrdinaryMember
			if i == 0 {
				role = group.Owner
			}
			if err := tx.PutMember(&group.Member{Account: a, Role: role}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *server) update(id group.ID, fn func(*hooks.Tx) error) {
	s.t.Helper()
	if err := s.pipeline.Update(s.t.Context(), id, fn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) join(id group.ID, a group.Account) {
	s.t.Helper()
	s.update(id, func(tx *hooks.Tx) error { return tx.PutMember(&group.Member{Account: a, Role: group.OrdinaryMember}) })
}

func (s *server) remove(id group.ID, a group.Account) {
	s.t.Helper()
	s.update(id, func(tx *hooks.Tx) error {
		_, err := tx.RemoveMember(a)
		return err
	})
}

// key returns the key of a group's present life.
func (s *server) key(id group.ID) group.Key {
	s.t.Helper()
	g, err := storage.FindGroup(s.t.Context(), s.store, id)
	if err != nil || g == nil {
		s.t.Fatalf("FindGroup(%s) = %v, %v", id, g, err)
	}
	return g.Key()
}

// send posts a text as an account, past MQTT.
func (s *server) send(id group.ID, from group.Account, text string) hooks.Outcome {
	s.t.Helper()
	o := s.pipeline.Send(s.t.Context(), &hooks.Draft{Group: id, From: from, Operator: from, Body: group.TextBody(text)})
	if o.Err != nil {
		s.t.Fatalf("send %q: %v", text, o.Err)
	}
	return o
}

var sigs sync.Map // by account: making one costs more than a login

func sigOf(t testing.TB, a string) string {
	t.Helper()
	if sig, ok := sigs.Load(a); ok {
		return sig.(string)
	}
	sig, err := usersig.Generate(testApp, a, time.Now().Add(-time.Minute), time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	sigs.Store(a, sig)
	return sig
}

// A client speaks raw MQTT; what it sends may be as wrong as it likes.
type client struct {
	t       testing.TB
	nc      net.Conn
	r       *bufio.Reader
	version byte
	id      uint16
}

func (s *server) dial() *client {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.b.Addr("tcp").String())
	if err != nil {
		s.t.Fatal(err)
	}
	return newClient(s.t, nc)
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { _ = nc.Close() })
	return &client{t: t, nc: nc, r: bufio.NewReader(nc), version: 4}
}

// connectPacket is a good CONNECT.
func connectPacket(t testing.TB, version byte, account, device string) *packets.Packet {
	return &packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: version,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 60, ClientIdentifier: device,
			UsernameFlag: true, Username: []byte(account), PasswordFlag: true, Password: []byte(sigOf(t, account)),
		},
	}
}

// login connects and returns once CONNACK has said yes.
func (s *server) login(version byte, account, device string) *client {
	s.t.Helper()
	c := s.dial()
	if ack := c.connect(connectPacket(s.t, version, account, device)); ack.ReasonCode != 0 {
		s.t.Fatalf("login of %s: code 0x%02X %s", account, ack.ReasonCode, ack.Properties.ReasonString)
	}
	return c
}

func (c *client) connect(pk *packets.Packet) packets.Packet {
	c.t.Helper()
	c.version = pk.ProtocolVersion
	c.write(pk)
	return c.want(packets.Connack)
}

func (c *client) encode(pk *packets.Packet) []byte {
	c.t.Helper()
	var buf bytes.Buffer
	var err error
	pk.ProtocolVersion = c.version
	pk.Mods.AllowResponseInfo = true
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Pubrel:
		err = pk.PubrelEncode(&buf)
	case packets.Subscribe:
		err = pk.SubscribeEncode(&buf)
	case packets.Unsubscribe:
		err = pk.UnsubscribeEncode(&buf)
	case packets.Pingreq:
		err = pk.PingreqEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	default:
		err = fmt.Errorf("type %d is not sent by clients here", pk.FixedHeader.Type)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return buf.Bytes()
}

func (c *client) write(pks ...*packets.Packet) {
	c.t.Helper()
	var out []byte
	for _, pk := range pks {
		out = append(out, c.encode(pk)...)
	}
	c.raw(out)
}

func (c *client) raw(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// read returns the next packet, or the error that the connection ended with.
func (c *client) read() (packets.Packet, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	var pk packets.Packet
	b, err := c.r.ReadByte()
	if err != nil {
		return pk, err
	}
	// As in mochi, whose decoder reads the client's packets.
	if err := pk.FixedHeader.Decode(b); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(c.r)
	if err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining, pk.ProtocolVersion = n, c.version
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Pubcomp:
		err = pk.PubcompDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

// want reads the next packet and fails if it is of another type.
func (c *client) want(kind byte) packets.Packet {
	c.t.Helper()
	pk, err := c.read()
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", packets.PacketNames[kind], err)
	}
	if pk.FixedHeader.Type != kind {
		c.t.Fatalf("got %s (code 0x%02X %s %s), want %s", packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode, pk.Properties.ReasonString, pk.Payload, packets.PacketNames[kind])
	}
	return pk
}

// wantEnd reads until the connection ends, and returns the DISCONNECT if there was one.
func (c *client) wantEnd() (last packets.Packet) {
	c.t.Helper()
	for {
		pk, err := c.read()
		switch {
		case err == nil:
			if pk.FixedHeader.Type == packets.Disconnect {
				last = pk
			}
		case errors.Is(err, io.EOF):
			return last
		default:
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				c.t.Fatal("the connection did not end")
			}
			return last
		}
	}
}

func (c *client) nextID() uint16 {
	c.id++
	return c.id
}

// subscribe subscribes and returns the SUBACK's codes.
func (c *client) subscribe(qos byte, filters ...string) []byte {
	c.t.Helper()
	pk := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: c.nextID()}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	c.write(pk)
	return c.want(packets.Suback).ReasonCodes
}

func (c *client) mustSubscribe(qos byte, filters ...string) *client {
	c.t.Helper()
	for _, code := range c.subscribe(qos, filters...) {
		if code >= 0x80 {
			c.t.Fatalf("subscribe to %q: code 0x%02X", filters, code)
		}
	}
	return c
}

func publishPacket(qos byte, id uint16, topic string, payload string) *packets.Packet {
	return &packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, PacketID: id, TopicName: topic, Payload: []byte(payload),
	}
}

// publish publishes at QoS 1 and returns the PUBACK, which must be the next packet.
func (c *client) publish(topic, payload string) packets.Packet {
	c.t.Helper()
	id := c.nextID()
	c.write(publishPacket(1, id, topic, payload))
	ack := c.want(packets.Puback)
	if ack.PacketID != id {
		c.t.Fatalf("PUBACK for %d, want %d", ack.PacketID, id)
	}
	return ack
}

// ping returns once the server has handled everything that was sent before.
func (c *client) ping() {
	c.t.Helper()
	c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.want(packets.Pingresp)
}

// An event is what a PUBLISH from the server carries.
type event struct {
	Event       string
	GroupID     string `json:"GroupId"`
	MsgSeq      int64
	FromAccount string `json:"From_Account"`
	MsgPriority string
	Random      uint32
	MsgBody     []struct {
		MsgType    string
		MsgContent map[string]any
	}
	Sender    map[string]any
	ErrorCode int
	ErrorInfo string
	Command   string
	RequestID json.RawMessage `json:"RequestId"`
}

func (e event) text() string {
	if len(e.MsgBody) != 1 {
		return fmt.Sprint(e.MsgBody)
	}
	s, _ := e.MsgBody[0].MsgContent["Text"].(string)
	return s
}

func decodeEvent(t testing.TB, payload []byte) (e event) {
	t.Helper()
	if err := json.Unmarshal(payload, &e); err != nil {
		t.Fatalf("payload %s: %v", payload, err)
	}
	return e
}

// receive waits for a delivery, acknowledges it and returns what it carries.
func (c *client) receive() event {
	c.t.Helper()
	pk := c.want(packets.Publish)
	if pk.FixedHeader.Qos == 1 {
		c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	return decodeEvent(c.t, pk.Payload)
}

// wantText waits for a message and checks its text.
func (c *client) wantText(text string) event {
	c.t.Helper()
	e := c.receive()
	if e.Event != "Message" || e.text() != text {
		c.t.Fatalf("received %+v, want the text %q", e, text)
	}
	return e
}

func userProperty(pk packets.Packet, key string) string {
	for _, p := range pk.Properties.User {
		if p.Key == key {
			return p.Val
		}
	}
	return ""
}
