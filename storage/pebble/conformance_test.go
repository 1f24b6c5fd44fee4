package pebble

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

func TestConformance(t *testing.T) {
	for name, cfg := range map[string]Config{
		"disk":     {},
		"memory":   {Dir: "db", FS: vfs.NewMem()},
		"interval": {Sync: SyncInterval},
	} {
		t.Run(name, func(t *testing.T) {
			storagetest.Run(t, func(t *testing.T) storage.Store {
				cfg := cfg
				if cfg.FS != nil {
					cfg.FS = vfs.NewMem()
				}
				return openTemp(t, cfg)
			})
		})
	}
}

func TestEnumerator(t *testing.T) {
	storagetest.RunEnumerator(t, func(t *testing.T) storage.Enumerator { return openTemp(t, Config{}) })
}
