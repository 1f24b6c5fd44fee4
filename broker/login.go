package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/usersig"
)

// A verifier checks UserSigs; it is *usersig.Verifier.
type verifier interface {
	Verify(r usersig.Request, now time.Time) (usersig.Claims, error)
}

const (
	// maxDevice bounds a client identifier, in bytes: it is stored with each message.
	maxDevice = 128
	// maxPlatform bounds the platform's name.
	maxPlatform     = 32
	defaultPlatform = "IoT"

	codeNoAccount    = 70107
	codeBadLogin     = 70402
	codeLoginTimeout = 70169
)

// A refusal says why a CONNECT is not let in.
type refusal struct {
	code   byte   // MQTT 5
	code3  byte   // MQTT 3.1.1
	reason string // begins with the number of the error
}

func refuse(code, code3 byte, number int, text string) *refusal {
	return &refusal{code, code3, strconv.Itoa(number) + " " + text}
}

// login makes a session of a CONNECT, or says why not. It runs in the connection's goroutine
// and may wait for the store.
func (b *Broker) login(c *conn, cl *mqtt.Client, pk *packets.Packet) *refusal {
	now := time.Now()
	c.version = pk.ProtocolVersion
	c.terse = pk.Properties.RequestProblemInfoFlag && pk.Properties.RequestProblemInfo == 0
	c.maxPacket = int(pk.Properties.MaximumPacketSize)

	account := group.Account(pk.Connect.Username) // copies
	claims, no := b.authenticate(account, string(pk.Connect.Password), now)
	if no != nil {
		return no
	}
	device := strings.Clone(cl.ID) // the client's, or the one that mochi has assigned
	if len(device) > maxDevice || !utf8.ValidString(device) {
		return refuse(codeBadClientID, 2, codeBadLogin, "the client identifier is longer than "+strconv.Itoa(maxDevice)+" bytes")
	}
	s := &session{
		conn: c, device: device, platform: platformOf(pk), ip: c.addr.String(), since: now, expires: claims.ExpiresAt,
		resumed: make(chan struct{}, 1),
	}
	if pk.Connect.WillFlag {
		if s.will, no = newWill(pk); no != nil {
			return no
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.cfg.StoreTimeout)
	defer cancel()
	if s.created, no = b.checkAccount(ctx, account, claims.IssuedAt); no != nil {
		return no
	}
	u, err := b.registry.hold(ctx, b.store, account)
	if err != nil {
		b.log.Warn("memberships not loaded", "account", string(account), "err", err)
		return refuse(codeUnavailable, 3, codeLoginTimeout, "the store does not answer, try again")
	}
	s.user = u
	if no = b.openSession(ctx, s, pk); no != nil {
		b.registry.release(u)
		return no
	}
	b.establish(s, cl, pk)
	return nil
}

// establish lets the session begin; the CONNACK follows.
func (b *Broker) establish(s *session, cl *mqtt.Client, pk *packets.Packet) {
	c := s.conn
	// mochi must never see two connections with one identifier: its take-over is a race, and ours
	// is in attach.
	cl.ID = string(s.account()) + "/" + s.device + "/" + strconv.FormatUint(b.serial.Add(1), 36)
	cl.Properties.Clean = true
	cl.Properties.Will = mqtt.Will{}
	cl.Properties.Props.SessionExpiryInterval = 0
	cl.Properties.Props.TopicAliasMaximum = 0
	cl.Properties.Props.User = nil
	cl.State.TopicAliases.Outbound = mqtt.NewOutboundTopicAliases(0)
	cl.State.Inflight.ResetReceiveQuota(receiveQuota)

	keep := time.Duration(pk.Connect.Keepalive) * time.Second
	if keep == 0 || keep > b.cfg.KeepAlive {
		keep = b.cfg.KeepAlive
		cl.State.Keepalive, cl.State.ServerKeepalive = uint16(min(keep/time.Second, 65535)), true
	}
	window := b.cfg.SendWindow
	if rm := int(pk.Properties.ReceiveMaximum); rm > 0 {
		window = min(window, rm)
	}
	c.mu.Lock()
	c.session = s
	c.window.size = uint64(window)
	c.mu.Unlock()
	c.idle = keep + keep/2
	c.loggedIn()
	s.attach(b.cfg.LoginPolicy, b.cfg.ConnectionsPerUser)
	b.metrics.sessions.Add(1)
	b.stateChanged(s, StateLogin, "Register")
}

// authenticate checks user name and password.
func (b *Broker) authenticate(account group.Account, userSig string, now time.Time) (usersig.Claims, *refusal) {
	if !account.Valid() {
		return usersig.Claims{}, refuse(codeBadUserOrPassword, 4, codeBadLogin, "the user name must be a UserID of 1 to 32 printable ASCII characters")
	}
	claims, err := b.verifier.Verify(usersig.Request{Identifier: string(account), UserSig: userSig}, now)
	if err == nil {
		return claims, nil
	}
	e, ok := errors.AsType[*usersig.Error](err)
	if !ok {
		b.log.Error("UserSig not checked", "account", string(account), "err", err)
		return claims, refuse(codeUnavailable, 3, codeLoginTimeout, "the UserSig cannot be checked now")
	}
	if e.Code == usersig.CodeExpired {
		return claims, refuse(codeNotAuthorized, 5, e.Code, e.Info)
	}
	return claims, refuse(codeBadUserOrPassword, 4, e.Code, e.Info)
}

// checkAccount makes sure that the account exists, creating it if need be, and was not kicked
// since the UserSig was issued.
func (b *Broker) checkAccount(ctx context.Context, account group.Account, issued time.Time) (created bool, no *refusal) {
	profile, err := storage.Accounts.Find(ctx, b.store, storage.AccountKey(account))
	if err == nil && profile == nil {
		if b.cfg.NoAutoCreate {
			return false, refuse(codeNotAuthorized, 5, codeNoAccount, "the account does not exist")
		}
		profile = &group.Profile{Account: account, Created: time.Now().Unix()}
		err = b.store.Apply(ctx, storage.Accounts.Insert(storage.AccountKey(account), profile))
		created = err == nil
		if errors.Is(err, storage.ErrExists) { // another login was first
			profile, err = storage.Accounts.Get(ctx, b.store, storage.AccountKey(account))
		}
	}
	if err != nil {
		b.log.Warn("account not read or created", "account", string(account), "err", err)
		return false, refuse(codeUnavailable, 3, codeLoginTimeout, "the store does not answer, try again")
	}
	if issued.Unix() < profile.ValidSig {
		return false, refuse(codeNotAuthorized, 5, usersig.CodeExpired, "the account was kicked since this UserSig was issued: get a new one")
	}
	return created, nil
}

// platformOf reads the user property platform.
func platformOf(pk *packets.Packet) string {
	for _, p := range pk.Properties.User {
		if p.Key == "platform" && p.Val != "" && len(p.Val) <= maxPlatform {
			return strings.Clone(p.Val)
		}
	}
	return defaultPlatform
}
