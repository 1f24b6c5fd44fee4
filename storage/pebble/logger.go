package pebble

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleLogger takes what Pebble has to say. Its Infof is chatter and is dropped.
type pebbleLogger struct{ s *Store }

func (pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.cfg.Logger.Warn("store", "err", fmt.Sprintf(format, args...))
}

// Fatalf is Pebble's word for "I can't go on". While it opens that is an error of Open's.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if !l.s.space.opened() {
		panic(err)
	}
	l.s.halt(err)
}

func (s *Store) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			s.cfg.Logger.Warn("store background work failed, will be repeated", "err", err)
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			s.cfg.Logger.Warn("store waits for the disk", "dur", info.Duration)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			s.cfg.Logger.Warn("store stalls writes", "reason", info.Reason)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.fail(fmt.Errorf("damaged file %s: %w", info.Path, info.Details))
		},
	}
}
