package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/rookery-im/rookery/admin"
	"github.com/rookery-im/rookery/broker"
	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/usersig"
)

// openBroker opens the MQTT door and makes it the one that the lanes deliver to.
func (n *node) openBroker(_ context.Context, cert *tls.Config) error {
	n.userSigs = usersig.NewVerifier(n.app)
	b, err := broker.New(brokerConfig(n.cfg, cert), n.store, n.userSigs, n.log)
	if err != nil {
		return err
	}
	if err := b.Listen(); err != nil {
		if e, ok := errors.AsType[*broker.ListenError](err); ok {
			return listenError(brokerKeys[e.Name], e.Addr, e.Err)
		}
		return err
	}
	n.onClose("mqtt listeners", func(context.Context) error { b.Close(); return nil })
	for name, as := range map[string]string{"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"} {
		if addr := b.Addr(name); addr != nil {
			n.addrs[as] = addr.String()
		}
	}
	n.broker = b
	n.metrics.MustRegister(b)
	n.pipeline.UseDeliverer(b)
	n.door("mqtt", b.Run)
	return nil
}

// openCommands makes the command table, which both doors lead to.
func (n *node) openCommands(context.Context, *tls.Config) error {
	audit, err := n.openAudit()
	if err != nil {
		return err
	}
	exports, err := command.NewExporter(n.store, exportConfig(n.cfg, n.app), n.log)
	if err != nil {
		return err
	}
	n.exports = exports
	n.onClose("exports", func(context.Context) error { return exports.Close() })
	n.work("exports", exports.Run)
	n.stats = command.NewStats(n.store, n.log)
	n.stats.Follow(command.Deliveries, n.broker.Sent)
	n.stats.Follow(command.APNsPushes, n.apnsPushes.Load)
	if n.callbacks != nil {
		n.stats.Follow(command.CallbackRequests, n.callbacks.Requests)
		n.stats.Follow(command.CallbackAnswers, n.callbacks.Answers)
	}
	n.pipeline.UseOutbox(n.stats)
	n.work("statistics", n.stats.Run)
	n.absent = command.NewAbsent(n.store, n.log)
	n.work("absent devices", n.absent.Run)
	env := command.Env{
		Store: n.store, Pipeline: n.pipeline, Online: online{n.broker}, Exporter: exports, Stats: n.stats, Absent: n.absent, Log: n.log, Audit: audit,
	}
	if n.callbacks != nil {
		env.Before, env.After, env.Stuck = n.callbacks, n.outbox, stuck{n.outbox}
	}
	if n.push != nil {
		env.Push = pushCommands{n.push}
	}
	n.commands = command.New(env, commandConfig(n.cfg))
	if unknown := n.commands.Unmatched(); len(unknown) > 0 {
		return fmt.Errorf("rest.admins: no command is called %s", strings.Join(unknown, ", "))
	}
	n.metrics.MustRegister(n.commands)
	n.broker.Use(n.pipeline, n.rpc, n.stateChanged)
	n.broker.UseLapse(n.commands.Lapsed)
	n.work("janitor", command.NewJanitor(n.store, n.pipeline, n.cfg.Roaming.Retention, n.log).Run)
	return nil
}

const (
	// mutexProfileFraction has one in so many waits for a mutex profiled, blockProfileRate one
	// wait of a goroutine for every so many nanoseconds of waiting: seldom enough not to be felt.
	mutexProfileFraction = 100
	blockProfileRate     = 1_000_000
)

// openAdmin opens the REST door. Its listeners are one server's: limits and figures hold for both.
func (n *node) openAdmin(ctx context.Context, cert *tls.Config) error {
	back := admin.Backend{Table: n.commands, UserSigs: n.userSigs, Revoked: n.revoked, Ready: n.store.Health, Exports: n.exports, Log: n.log}
	if n.cfg.Metrics.Enabled {
		back.Metrics = n.metrics
	}
	if n.cfg.HTTP.Pprof { // else these two profiles are empty
		runtime.SetMutexProfileFraction(mutexProfileFraction)
		runtime.SetBlockProfileRate(blockProfileRate)
	}
	if n.outbox != nil {
		back.OverLimit = func(call *command.Call, c *command.Command, calls, limit int) {
			n.outbox.OverLimit(c.Service, c.Name, calls, limit, hooks.Origin{IP: call.IP, Platform: call.Platform})
		}
	}
	if n.push != nil {
		back.Receipts = n.push.ServeReceipts
	}
	s, err := admin.New(adminConfig(n.cfg), back)
	if err != nil {
		return fmt.Errorf("rest.allowed_ips: %w", err) // the one thing that it looks into
	}
	n.metrics.MustRegister(s)
	for _, l := range []struct {
		name, key, addr string
		tls             *tls.Config
	}{
		{"http", "http.addr", n.cfg.HTTP.Addr, nil},
		{"https", "http.tls_addr", n.cfg.HTTP.TLSAddr, cert},
	} {
		if l.addr == "" {
			continue
		}
		ln, err := n.listen(ctx, l.name, l.key, l.addr)
		if err != nil {
			return err
		}
		n.door(l.name, func(ctx context.Context) error { return s.Run(ctx, ln, l.tls) })
	}
	return nil
}

// rpc answers a request over MQTT from the command table.
func (n *node) rpc(ctx context.Context, c broker.Caller, name string, body []byte) []byte {
	call := &command.Call{Caller: c.Account, Admin: n.commands.IsAdmin(c.Account), IP: c.IP, Platform: c.Platform, Device: c.Device, MaxReply: c.MaxPacket}
	if !c.Expires.IsZero() {
		call.SigExpires = c.Expires.Unix()
	}
	return n.commands.RPC(ctx, call, name, body)
}

// revoked is when the account was kicked last: UserSigs from before do not count any more.
func (n *node) revoked(ctx context.Context, a group.Account) (int64, error) {
	p, err := n.pipeline.Profile(ctx, a)
	if err != nil || p == nil {
		return 0, err
	}
	return p.ValidSig, nil
}

// online is what the commands ask of the broker.
type online struct{ b *broker.Broker }

func (o online) Devices(a group.Account) []command.Device {
	var out []command.Device
	for _, s := range o.b.Online(a) {
		out = append(out, command.Device{Platform: s.Platform, Online: true})
	}
	return out
}

func (o online) Rooms(a group.Account) []group.Key { return o.b.RoomsOf(a) }

func (o online) InGroup(key group.Key, limit int) (some []group.Account, all int) {
	return o.b.InGroup(key, limit)
}

func (o online) Kick(a group.Account, reason string) {
	const administrativeAction = 0x98
	o.b.Kick(a, "", administrativeAction, reason)
}

func (o online) Notify(n hooks.Notice) { o.b.Notify(n) }

// brokerKeys are the configuration's names of the broker's listeners.
var brokerKeys = map[string]string{"tcp": "mqtt.addr", "tls": "mqtt.tls_addr", "ws": "ws.addr", "wss": "ws.tls_addr"}
