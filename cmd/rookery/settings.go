package main

import (
	"log/slog"
	"time"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage/pebble"
)

// Each part has a Config of its own; the functions here fill it from the operator's.

func pebbleConfig(cfg *configs.Config, log *slog.Logger) pebble.Config {
	return pebble.Config{
		Dir:           storeDir(cfg),
		Sync:          cfg.Storage.Sync,
		SyncInterval:  cfg.Storage.SyncInterval,
		CacheBytes:    int64(cfg.Storage.Pebble.CacheSize),
		MemTableBytes: int64(cfg.Storage.Pebble.MemTableSize),
		MaxOpenFiles:  cfg.Storage.Pebble.MaxOpenFiles,
		ReserveBytes:  int64(cfg.Storage.FreeSpaceReserve),
		Logger:        log,
	}
}

func pipelineConfig(cfg *configs.Config) hooks.Config {
	admins := make([]group.Account, len(cfg.App.Admins))
	for i, a := range cfg.App.Admins {
		admins[i] = group.Account(a)
	}
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
		Admins:           admins,
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
