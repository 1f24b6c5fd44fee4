package broker

import (
	"slices"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// An adapter is our one mochi hook. It logs clients in, takes every packet that has to do
// with topics, and completes CONNACK.
type adapter struct {
	mqtt.HookBase
	b *Broker
}

// ID names the hook.
func (a *adapter) ID() string { return "rookery" }

// Provides lists the moments at which mochi asks us.
func (a *adapter) Provides(moment byte) bool {
	return slices.Contains([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPublish,
	}, moment)
}

// OnConnect logs the client in. An error ends the connection; the CONNACK was sent then.
func (a *adapter) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := cl.Net.Conn.(*conn)
	pk.Connect, c.connect = c.connect, packets.ConnectParams{}
	if no := a.b.login(c, cl, &pk); no != nil {
		a.b.metrics.refused(no.code)
		reason := packets.Code{Code: no.code, Reason: no.reason}
		if pk.ProtocolVersion < 5 {
			reason = packets.Code{Code: no.code3}
		}
		_ = a.b.server.SendConnack(cl, reason, false, nil)
		c.end(endRefused, 0, "")
		return reason
	}
	return nil
}

// OnConnectAuthenticate lets in whom OnConnect has let in.
func (a *adapter) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck refuses everything: nothing with a topic may reach mochi's own paths.
func (a *adapter) OnACLCheck(*mqtt.Client, string, bool) bool { return false }

// OnPublish stops whatever might reach mochi's own fan-out in spite of OnPacketRead.
func (a *adapter) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	return pk, packets.ErrRejectPacket
}

// handled is what mochi gets to see of a packet that we took: an acknowledgement of nothing.
var handled = packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}

// OnPacketRead takes the packets of a logged-in client that are ours. What remains for mochi
// is PINGREQ, DISCONNECT, a second CONNECT, and AUTH.
func (a *adapter) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := cl.Net.Conn.(*conn)
	s := c.session
	if s == nil { // CONNECT
		// mochi takes neither an empty Will nor an empty password, and has its own way with Wills:
		// OnConnect gets back what is taken away here.
		c.connect = pk.Connect
		pk.Connect.WillFlag, pk.Connect.WillRetain = false, false
		pk.Connect.PasswordFlag = len(pk.Connect.Password) > 0
		return pk, nil
	}
	var err error
	switch pk.FixedHeader.Type {
	case packets.Publish:
		err = s.published(&pk)
	case packets.Puback: // cut in two by the end of a read; the others never get here
		c.ackedOne(pk.PacketID)
	case packets.Pubrel:
		s.released(pk.PacketID)
	case packets.Pubrec, packets.Pubcomp: // we send nothing at QoS 2
	case packets.Subscribe:
		err = s.subscribe(&pk)
	case packets.Unsubscribe:
		err = s.unsubscribe(&pk)
	case packets.Disconnect:
		// An interval here may be legal, since the client asked for one at CONNECT; mochi
		// would compare it with the zero that it was given.
		if pk.Properties.SessionExpiryIntervalFlag {
			s.changeExpiry(pk.Properties.SessionExpiryInterval)
			pk.Properties.SessionExpiryIntervalFlag = false
		}
		if c.framer.grammar.parting == codeSuccess { // mochi overlooks a code without properties
			s.will = nil // [MQTT-3.14.4-3]
		}
		c.end(endClient, 0, "")
		return pk, nil
	default:
		return pk, nil
	}
	return handled, err
}

// OnPacketEncode completes CONNACK: mochi neither announces what it does not offer nor knows
// our limits.
func (a *adapter) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type != packets.Connack {
		return pk
	}
	if cl.Properties.ProtocolVersion < 5 {
		pk.ReasonCode = returnCode(pk.ReasonCode)
	}
	var expiry time.Duration
	pk.SessionPresent = false
	if s := cl.Net.Conn.(*conn).session; s != nil && s.durable != nil && pk.ReasonCode == codeSuccess {
		pk.SessionPresent, expiry = s.durable.present, s.granted
	}
	if cl.Properties.ProtocolVersion < 5 || pk.ReasonCode >= codeUnspecified {
		return pk
	}
	p := &pk.Properties
	p.MaximumPacketSize = uint32(a.b.cfg.MaxPacketSize)
	p.RetainAvailableFlag, p.RetainAvailable = true, 0
	p.SharedSubAvailableFlag, p.SharedSubAvailable = true, 0
	p.SubIDAvailableFlag, p.SubIDAvailable = true, 0
	p.WildcardSubAvailableFlag, p.WildcardSubAvailable = true, 1
	p.SessionExpiryIntervalFlag, p.SessionExpiryInterval = true, uint32(expiry/time.Second)
	return pk
}

// returnCode is the MQTT 3.1.1 return code for a reason code that mochi has refused with.
func returnCode(code byte) byte {
	switch {
	case code < codeUnspecified:
		return code
	case code == 0x84:
		return 1 // unacceptable protocol version
	case code == codeUnspecified || code == codeBadClientID: // mochi says unspecified for no client identifier without clean session
		return 2
	case code == codeUnavailable || code == 0x89:
		return 3
	case code == codeBadUserOrPassword:
		return 4
	}
	return 5
}
