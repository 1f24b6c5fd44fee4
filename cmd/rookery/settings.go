package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/rookery-im/rookery/admin"
	"github.com/rookery-im/rookery/broker"
	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage/mongo"
	"github.com/rookery-im/rookery/storage/pebble"
	"github.com/rookery-im/rookery/usersig"
)

// Each part has a Config of its own; the functions here fill it from the operator's.

func pebbleConfig(cfg *configs.Config, log *slog.Logger) pebble.Config {
	return pebble.Config{
		Dir:           storeDir(cfg),
		Sync:          cfg.Storage.Sync,
		SyncInterval:  cfg.Storage.SyncInterval,
		CacheBytes:    int64(cfg.Storage.Pebble.CacheSize),
		GroupBytes:    int64(cfg.Storage.Pebble.GroupCache),
		MemTableBytes: int64(cfg.Storage.Pebble.MemTableSize),
		MaxOpenFiles:  cfg.Storage.Pebble.MaxOpenFiles,
		ReserveBytes:  int64(cfg.Storage.FreeSpaceReserve),
		Logger:        log,
	}
}

func mongoConfig(cfg *configs.Config, log *slog.Logger) mongo.Config {
	m := &cfg.Storage.Mongo
	return mongo.Config{
		URI:            m.URI.Reveal(),
		Database:       m.Database,
		PoolSize:       m.PoolSize,
		ConnectTimeout: m.ConnectTimeout,
		Timeout:        m.Timeout,
		BatchDocuments: m.BatchDocuments,
		BatchBytes:     int(m.BatchBytes),
		InFlight:       m.InFlight,
		Logger:         log,
	}
}

func pipelineConfig(cfg *configs.Config) hooks.Config {
	p := &cfg.Pipeline
	return hooks.Config{
		LaneLen:          p.LaneLength,
		Pending:          p.PendingTotal,
		BatchLen:         p.BatchMessages,
		BatchBytes:       int(p.BatchBytes),
		StoreTimeout:     p.StoreWait,
		UpdateTimeout:    p.StoreWait,
		BodyLimit:        int(cfg.Limits.MessageSize),
		DuplicateWindow:  p.DuplicateWindow,
		DuplicateEntries: p.DuplicateEntries,
		CachedSenders:    p.CachedSenders,
		IdleLanes:        p.IdleLanes,
		Retention:        func(t group.Type) time.Duration { return retention(cfg, t) },
		Limits:           func(g *group.Group) hooks.Limits { return limitsOf(cfg, g) },
		ExemptAdmins:     cfg.Flow.ExemptAdmins,
		UserRate:         cfg.Flow.UserMessagesPerSecond,
		AddressRate:      cfg.Flow.AddressMessagesPerSecond,
		CountLoopback:    cfg.Limits.CountLoopback,
		CheckOfflinePush: checkOfflinePush,
		Admins:           admins(cfg),
		UserCustom:       cfg.Accounts.SenderFields,
		MemberCustom:     cfg.Groups.SenderFields,
	}
}

func groupType(cfg *configs.Config, t group.Type) configs.GroupType {
	switch t {
	case group.Work:
		return cfg.Groups.Work
	case group.Public:
		return cfg.Groups.Public
	case group.Meeting:
		return cfg.Groups.Meeting
	case group.AVChatRoom:
		return cfg.Groups.AVChatRoom
	case group.Community:
		return cfg.Groups.Community
	}
	return configs.GroupType{MessagesPerSecond: asConfigured}
}

func retention(cfg *configs.Config, t group.Type) time.Duration {
	if d := groupType(cfg, t).Retention; d > 0 {
		return d
	}
	return cfg.Roaming.Retention
}

// asConfigured leaves a limit to the one behind it: the group's to its type's, and the type's to
// section flow.
const asConfigured = -1

// limitsOf returns the frequency limits of one group.
func limitsOf(cfg *configs.Config, g *group.Group) hooks.Limits {
	f := &cfg.Flow
	l := hooks.Limits{
		PerSecond:   f.MessagesPerSecond,
		PerPriority: [group.Priorities]int{f.HighPerSecond, f.NormalPerSecond, f.LowPerSecond, f.LowestPerSecond},
	}
	if n := groupType(cfg, g.Type).MessagesPerSecond; n > asConfigured {
		l.PerSecond = n
	}
	if g.Limits != nil {
		if g.Limits.PerSecond > asConfigured {
			l.PerSecond = g.Limits.PerSecond
		}
		for i, n := range g.Limits.PerPriority {
			if n > asConfigured {
				l.PerPriority[i] = n
			}
		}
	}
	return l
}

func admins(cfg *configs.Config) []group.Account {
	out := make([]group.Account, len(cfg.App.Admins))
	for i, a := range cfg.App.Admins {
		out[i] = group.Account(a)
	}
	return out
}

func brokerConfig(cfg *configs.Config, cert *tls.Config) broker.Config {
	l := &cfg.Limits
	return broker.Config{
		TCPAddr: cfg.MQTT.Addr, TLSAddr: cfg.MQTT.TLSAddr, WSAddr: cfg.WS.Addr, WSSAddr: cfg.WS.TLSAddr,
		TLS: cert, WSPath: cfg.WS.Path, WSOrigins: cfg.WS.Origins,
		MaxPacketSize:          int(l.MaxPacketSize),
		KeepAlive:              l.KeepAlive,
		ReceiveMaximum:         l.ReceiveMaximum,
		SendWindow:             l.SendWindow,
		Connections:            l.Connections,
		ConnectionsPerUser:     l.ConnectionsPerUser,
		ConnectionsPerAddress:  l.ConnectionsPerAddress,
		ConnectsPerAddress:     l.ConnectsPerAddress,
		ConnectBurstPerAddress: l.ConnectBurstPerAddress,
		TrackedAddresses:       l.TrackedAddresses,
		CountLoopback:          l.CountLoopback,
		Unauthenticated:        l.UnauthenticatedConnections,
		ConnectDeadline:        l.ConnectDeadline,
		SlowConsumerBytes:      int(l.SlowConsumerBytes),
		SlowConsumerTime:       l.SlowConsumerTime,
		Subscriptions:          l.SubscriptionsPerConnection,
		RPCPending:             l.RPCPending,
		RPCTimeout:             l.RPCTimeout,
		DrainTimeout:           drainTimeout(cfg),
		StoreTimeout:           cfg.Pipeline.StoreWait,
		RoomGrace:              cfg.Groups.RoomGrace,
		SessionExpiry:          cfg.Sessions.Expiry,
		SessionsPerUser:        cfg.Sessions.PerUser,
		ReplayLimit:            cfg.Sessions.ReplayLimit,
		NoAutoCreate:           !cfg.Accounts.AutoCreate,
		LoginPolicy:            broker.LoginPolicy(cfg.Accounts.LoginPolicy),
	}
}

// drainTimeout is the doors' part of the time for stopping; the rest is for what they lean on.
func drainTimeout(cfg *configs.Config) time.Duration {
	return max(cfg.App.ShutdownTimeout/2, time.Millisecond) // zero would be a part's own default
}

func commandConfig(cfg *configs.Config) command.Config {
	g := &cfg.Groups
	return command.Config{
		SDKAppID:         cfg.App.SDKAppID,
		Admins:           admins(cfg),
		Allowed:          allowedCommands(cfg),
		NewTypeNames:     cfg.REST.NewTypeNames,
		IPs:              cfg.REST.ServerIPs,
		NameSize:         int(g.NameSize),
		IntroductionSize: int(g.IntroductionSize),
		NotificationSize: int(g.NotificationSize),
		FaceURLSize:      int(g.FaceURLSize),
		NameCardSize:     int(g.NameCardSize),
		CustomFields:     orNone(g.CustomFields),
		CustomFieldSize:  int(g.CustomFieldSize),
		CustomKeys:       g.CustomKeys,
		MemberFields:     orNone(g.MemberFields),
		MemberFieldSize:  int(g.MemberFieldSize),
		MemberKeys:       g.MemberKeys,
		GroupsPerUser:    g.PerUser,
		RoomsPerUser:     g.RoomsPerUser,
		MaxMembers:       func(t group.Type) int { return groupType(cfg, t).MaxMembers },
		RecallWindow:     g.RecallWindow,
		ChangesKept:      cfg.Roaming.Changes,
		BodyLimit:        int(cfg.Limits.MessageSize),
		AnswerSize:       int(cfg.REST.AnswerSize),
	}
}

func allowedCommands(cfg *configs.Config) map[group.Account][]string {
	out := make(map[group.Account][]string)
	for _, a := range cfg.REST.Admins {
		out[group.Account(a.User)] = a.Commands
	}
	return out
}

// orNone turns a number for which the operator's 0 means none into a part's, where 0 is the default.
func orNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// exportConfig puts the exported files into the data folder. Their addresses are signed with a
// key of their own, made from the app's secret.
func exportConfig(cfg *configs.Config, app usersig.App) command.ExportConfig {
	mac := hmac.New(sha256.New, []byte(app.Secret))
	_, _ = mac.Write([]byte("addresses of exported files"))
	return command.ExportConfig{Dir: filepath.Join(cfg.App.DataDir, "exports"), SDKAppID: cfg.App.SDKAppID, Key: mac.Sum(nil)}
}

func adminConfig(cfg *configs.Config) admin.Config {
	h := &cfg.HTTP
	return admin.Config{
		SDKAppID:          cfg.App.SDKAppID,
		BodySize:          int64(cfg.REST.BodySize),
		Concurrency:       cfg.REST.Concurrency,
		Timeout:           cfg.REST.Timeout,
		RatePerCommand:    cfg.REST.RatePerCommand,
		AllowedIPs:        cfg.REST.AllowedIPs,
		ReadHeaderTimeout: h.ReadHeaderTimeout,
		ReadTimeout:       h.ReadTimeout,
		WriteTimeout:      h.WriteTimeout,
		IdleTimeout:       h.IdleTimeout,
		HeaderSize:        int(h.HeaderSize),
		Connections:       h.Connections,
		ShutdownTimeout:   drainTimeout(cfg),
		Pprof:             h.Pprof,
	}
}
