package pebble

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// A write is one batch on its way to the log.
type write struct {
	batch *pebble.Batch
	muts  []storage.Mutation // added to the batch when their stripes are held
	log   *group.Key         // whose messages the batch changes; nil: none
	// finished is called with the outcome, which may be after the writer has left.
	finished func(error)
	// abandoned is called when the writer leaves before the outcome is known.
	abandoned func()
}

// commit makes w durable. It returns early when ctx ends or the disk is full: the write goes
// on, and its outcome reaches w.finished only.
func (s *Store) commit(ctx context.Context, w *write) error {
	done := make(chan error, 1)
	s.writes.Go(func() {
		err := s.write(w)
		if w.finished != nil {
			w.finished(err)
		}
		done <- err
	})
	var err error
	select {
	case err := <-done:
		return err
	case <-s.gone:
		err = s.failure()
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.space.stalled():
		select {
		case err := <-done:
			return err
		default:
		}
		err = fmt.Errorf("%w: the disk is full", storage.ErrUnavailable)
	}
	if w.abandoned != nil {
		w.abandoned()
	}
	return err
}

// write checks, applies and fsyncs w. An error other than ErrExists means that the store has failed.
func (s *Store) write(w *write) error {
	unlock := s.stripes.lock(w.muts)
	err := s.addMutations(w.batch, w.muts)
	if err == nil {
		err = s.apply(w.batch)
		s.shared.changed(w)
	}
	unlock()
	if errors.Is(err, storage.ErrExists) && s.cfg.Sync == SyncAlways {
		// The record that was met may be somebody's who waits for its fsync. Whoever is told that it
		// exists may rely on it, so it has to be durable.
		if err := s.wait(nil); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return s.wait(w.batch)
}

// apply hands the batch to the log and makes it visible.
func (s *Store) apply(b *pebble.Batch) error {
	err := guard(func() error {
		if s.cfg.Sync == SyncInterval {
			return s.db.Apply(b, pebble.NoSync)
		}
		return s.db.ApplyNoSyncWait(b, pebble.Sync)
	})
	if err != nil {
		s.fail(fmt.Errorf("write to the log: %w", err))
	}
	return s.failure()
}

// wait waits for the fsync of b, or of all that was applied before if b is nil, and frees b.
func (s *Store) wait(b *pebble.Batch) error {
	var err error
	switch {
	case s.cfg.Sync == SyncInterval:
		s.unsaved.Store(true)
	case b == nil:
		err = s.syncLog()
	default:
		err = b.SyncWait()
	}
	if err != nil {
		s.fail(fmt.Errorf("fsync of the log: %w", err))
	}
	if err := s.failure(); err != nil {
		return err
	}
	if b != nil {
		return b.Close()
	}
	return nil
}
