package command

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

const (
	// janitorInterval is how often the trash is looked at.
	janitorInterval = time.Minute
	// janitorGrace is how long a destroyed group's records stay: calls that began before its
	// end have ended by then.
	janitorGrace = time.Minute
	// janitorChunk is how many members are taken out of the index at once; the lane of the
	// group's id waits so long.
	janitorChunk = 200
)

// groupTables are the tables whose records belong to one life of a group, by GroupPrefix.
var groupTables = []string{
	storage.Members.Name, storage.Mutes.Name, storage.Reads.Name, storage.Sends.Name, storage.Extensions.Name, storage.Receipts.Name,
	storage.Pendencies.Name, storage.Bans.Name, storage.Marks.Name, storage.Views.Name,
}

// A Janitor removes what is left of destroyed groups. Their keys carry the incarnation, so that
// nothing of them is ever seen meanwhile.
type Janitor struct {
	store    storage.Store
	pipeline *hooks.Pipeline
	log      *slog.Logger
}

// NewJanitor returns a Janitor; nothing happens before Run.
func NewJanitor(store storage.Store, pipeline *hooks.Pipeline, log *slog.Logger) *Janitor {
	return &Janitor{store, pipeline, log}
}

// Run sweeps at once and then every minute, until ctx ends. What a sweep could not finish, the
// next one does.
func (j *Janitor) Run(ctx context.Context) error {
	tick := time.NewTicker(janitorInterval)
	defer tick.Stop()
	for {
		if err := j.Sweep(ctx, time.Now().Add(-janitorGrace)); err != nil && ctx.Err() == nil {
			j.log.Warn("trash not emptied", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep removes what is left of the groups that were destroyed before the given instant.
func (j *Janitor) Sweep(ctx context.Context, before time.Time) error {
	var errs []error
	for row, err := range storage.Trash.Scan(ctx, j.store, storage.Span{}) {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if row.Value.Time > before.Unix() {
			continue
		}
		if err := j.remove(ctx, row.Value); err != nil {
			errs = append(errs, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		j.log.Info("destroyed group removed", "group", string(row.Value.ID), "incarnation", int64(row.Value.Incarnation))
	}
	return errors.Join(errs...)
}

func (j *Janitor) remove(ctx context.Context, t *storage.Trashed) error {
	key := group.Key{ID: t.ID, Incarnation: t.Incarnation}
	if err := j.unindex(ctx, key); err != nil {
		return err
	}
	if err := j.store.Drop(ctx, key); err != nil {
		return err
	}
	var muts []storage.Mutation
	for _, table := range groupTables {
		muts = append(muts, storage.Mutation{Op: storage.DeletePrefix, Table: table, Key: storage.GroupPrefix(key)})
	}
	row := storage.GroupRecordKey(key)
	return j.store.Apply(ctx, append(muts, storage.Rooms.Delete(row), storage.Uncounted.Delete(row), storage.Attributes.Delete(row), storage.Counters.Delete(row), storage.Trash.Delete(row))...)
}

// unindex removes the members from the index of joined groups. The index has one row for all
// lives of an id, so this is done in the id's lane: a later life's rows stay.
func (j *Janitor) unindex(ctx context.Context, key group.Key) error {
	var chunk []group.Account
	flush := func() error {
		if len(chunk) == 0 {
			return nil
		}
		defer func() { chunk = chunk[:0] }()
		return j.pipeline.Update(ctx, key.ID, func(tx *hooks.Tx) error {
			keys := make([]string, len(chunk))
			for i, a := range chunk {
				keys[i] = storage.JoinedKey(a, key.ID)
			}
			rows, err := storage.Joined.GetMany(tx.Context(), j.store, keys)
			if err != nil {
				return err
			}
			for i, row := range rows {
				if row != nil && row.Incarnation == key.Incarnation {
					tx.Write(storage.Joined.Delete(keys[i]))
				}
			}
			return nil
		})
	}
	for row, err := range storage.Members.Scan(ctx, j.store, storage.Span{Prefix: storage.GroupPrefix(key)}) {
		if err != nil {
			return err
		}
		if chunk = append(chunk, row.Value.Account); len(chunk) == janitorChunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
