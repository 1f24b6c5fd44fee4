package pebble

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(m.Run()) // a store that failed on purpose leaves its goroutines
	}
	goleak.VerifyTestMain(m)
}
