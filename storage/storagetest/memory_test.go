package storagetest

import (
	"testing"

	"github.com/rookery-im/rookery/storage"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) storage.Store { return NewMemory() })
}
