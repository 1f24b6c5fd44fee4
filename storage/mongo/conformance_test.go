package mongo

import (
	"testing"

	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return openTemp(t, Config{}) })
}

func TestEnumerator(t *testing.T) {
	storagetest.RunEnumerator(t, func(t *testing.T) storage.Enumerator { return openTemp(t, Config{}) })
}
