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
	// janitorForgets is how often departures are looked through, all of them.
	janitorForgets = time.Hour
)

// groupTables are the tables whose records belong to one life of a group, by GroupPrefix.
var groupTables = []string{
	storage.Members.Name, storage.Mutes.Name, storage.Reads.Name, storage.Sends.Name, storage.Extensions.Name, storage.Receipts.Name,
	storage.Pendencies.Name, storage.Bans.Name, storage.Marks.Name, storage.Views.Name,
}

// A Janitor removes what is left of destroyed groups, whose keys carry the incarnation, so that
// nothing of them is ever seen meanwhile; and old departures.
type Janitor struct {
	store    storage.Store
	pipeline *hooks.Pipeline
	keep     time.Duration
	log      *slog.Logger
}

// NewJanitor returns a Janitor that lets departures be for the time keep; nothing happens before Run.
func NewJanitor(store storage.Store, pipeline *hooks.Pipeline, keep time.Duration, log *slog.Logger) *Janitor {
	return &Janitor{store, pipeline, keep, log}
}

// Run sweeps at once and then every minute, until ctx ends. What a sweep could not finish, the
// next one does.
func (j *Janitor) Run(ctx context.Context) error {
	tick := time.NewTicker(janitorInterval)
	defer tick.Stop()
	var forgot time.Time
	for {
		if err := j.Sweep(ctx, time.Now().Add(-janitorGrace)); err != nil && ctx.Err() == nil {
			j.log.Warn("trash not emptied", "err", err)
		}
		if time.Since(forgot) >= janitorForgets {
			forgot = time.Now()
			if err := j.Forget(ctx, forgot.Add(-j.keep)); err != nil && ctx.Err() == nil {
				j.log.Warn("departures not forgotten", "err", err)
			}
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
	if err := j.unindex(ctx, key, t.Gone); err != nil {
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
	return j.store.Apply(ctx, append(muts, storage.Rooms.Delete(row), storage.Uncounted.Delete(row), storage.Changes.Delete(row), storage.Attributes.Delete(row), storage.Counters.Delete(row), storage.Trash.Delete(row))...)
}

// unindex removes the members from the index of joined groups. The index has one row for all
// lives of an id, so this is done in the id's lane: a later life's rows stay. Each gets a
// departure.
func (j *Janitor) unindex(ctx context.Context, key group.Key, gone storage.Departure) error {
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
					if gone.Event != "" && row.Type.Rules().StoresMessages {
						tx.Write(storage.Departures.Put(keys[i], &gone))
					}
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

// Forget removes the departures from before the given instant. (One that is written anew at that
// very moment may go, too: then the account's devices see that it is out of the group, but not how.)
func (j *Janitor) Forget(ctx context.Context, before time.Time) error {
	var old []storage.Mutation
	for row, err := range storage.Departures.Scan(ctx, j.store, storage.Span{}) {
		if err != nil {
			return err
		}
		if row.Value.At >= before.Unix() {
			continue
		}
		if old = append(old, storage.Departures.Delete(row.Key)); len(old) == janitorChunk {
			if err := j.store.Apply(ctx, old...); err != nil {
				return err
			}
			old = old[:0]
		}
	}
	return j.store.Apply(ctx, old...)
}
