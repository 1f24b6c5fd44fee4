package main

import (
	"context"
	"log/slog"
	"time"
)

// expirer is the part of a store that removes what has expired.
type expirer interface {
	Sweep(ctx context.Context, now int64) (more bool, err error)
}

// A sweeper removes expired messages from disk, a bounded piece at a time.
type sweeper struct {
	store expirer
	every time.Duration
	log   *slog.Logger
}

// sweepPause lets messages pass between the pieces of one sweep.
const sweepPause = 100 * time.Millisecond

// run sweeps at once, since a stop may have been long, then again and again until ctx ends.
func (s *sweeper) run(ctx context.Context) error {
	for {
		pause := s.every
		more, err := s.store.Sweep(ctx, time.Now().Unix())
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.log.Warn("sweep failed, trying again later", "err", err)
		case more:
			pause = min(pause, sweepPause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}
