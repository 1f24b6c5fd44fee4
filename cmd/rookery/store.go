package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/mongo"
	"github.com/rookery-im/rookery/storage/pebble"
)

// measuredStore is what both stores are.
type measuredStore interface {
	storage.Enumerator
	Metrics() prometheus.Collector
}

// openStore opens the store that storage.driver names.
func openStore(ctx context.Context, cfg *configs.Config, log *slog.Logger) (measuredStore, error) {
	if cfg.Storage.Driver == "mongo" {
		store, err := mongo.Open(ctx, mongoConfig(cfg, log))
		if err != nil {
			return nil, err // a nil *Store is no nil interface
		}
		return store, nil
	}
	store, err := pebble.Open(pebbleConfig(cfg, log))
	if err != nil {
		return nil, err
	}
	return store, nil
}
