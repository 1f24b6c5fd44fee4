package dispatch

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rookery-im/rookery/storage"
)

// workerPrefix starts the keys of the rows by which workers tell that they live.
const workerPrefix = "worker"

// keepLeases takes, keeps and gives up partitions until ctx ends.
//
// A lease is an inserted row (partition, epoch): of two workers that want the same partition
// one inserts the next epoch, the other meets it. Who holds the highest epoch holds the
// partition until the lease ends. Workers share the partitions evenly: each takes what is free
// up to its share, and gives up what it has beyond.
func (d *Dispatcher) keepLeases(ctx context.Context) {
	if d.cfg.Exclusive {
		for _, p := range d.parts {
			d.takeOver(ctx, p, math.MaxInt64)
		}
		return
	}
	for ctx.Err() == nil {
		if err := d.shareOut(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("push leases not renewed", "err", err)
		}
		timer := time.NewTimer(d.cfg.Lease / 4)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// A held is the newest lease of a partition.
type held struct {
	epoch int64
	lease storage.PushLease
}

// shareOut is one round of keepLeases.
func (d *Dispatcher) shareOut(ctx context.Context) error {
	now := time.Now()
	until := now.Add(d.cfg.Lease).UnixMilli()
	me := storage.PushLease{Owner: d.cfg.Name, Until: until}
	if err := d.store.Apply(ctx, storage.PushLeases.Put(storage.Key(workerPrefix, d.cfg.Name), &me)); err != nil {
		return err
	}
	newest, workers, err := d.leases(ctx, now)
	if err != nil {
		return err
	}
	share := (partitions + workers - 1) / workers
	mine := 0
	for _, p := range d.parts {
		h := newest[p.number]
		if h.lease.Owner != d.cfg.Name || h.lease.Until <= now.UnixMilli() {
			continue
		}
		mine++
		// What is under way ends first, so that nobody does it again.
		if p.leaving.Store(mine > share); mine > share && p.begun.Load() == 0 {
			p.heldUntil.Store(0)
			p.leaving.Store(false)
			p.setTargets(0)
			p.setJobs(0)
			h.lease.Until = 0
			if err := d.store.Apply(ctx, storage.PushLeases.Put(leaseKey(p.number, h.epoch), &h.lease)); err != nil {
				return err
			}
			mine--
			newest[p.number] = held{epoch: h.epoch, lease: storage.PushLease{Owner: d.cfg.Name, Until: math.MaxInt64}} // not to be taken back at once
			continue
		}
		if err := d.store.Apply(ctx, storage.PushLeases.Put(leaseKey(p.number, h.epoch), &me)); err != nil {
			return err
		}
		d.takeOver(ctx, p, until)
	}
	for _, p := range d.parts {
		h := newest[p.number]
		if mine >= share || h.lease.Until > now.UnixMilli() {
			continue
		}
		won, err := d.takeLease(ctx, p.number, h.epoch+1, me)
		if err != nil {
			return err
		}
		if won {
			mine++
			d.takeOver(ctx, p, until)
		}
	}
	return nil
}

// takeLease inserts the partition's next lease and clears away the ones before. It reports
// false where another worker was first.
func (d *Dispatcher) takeLease(ctx context.Context, part int, epoch int64, me storage.PushLease) (won bool, err error) {
	err = d.store.Apply(ctx, storage.PushLeases.Insert(leaseKey(part, epoch), &me))
	if errors.Is(err, storage.ErrExists) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// A worker that was asleep since it read may insert an epoch that is long over.
	var old []storage.Mutation
	for row, err := range storage.PushLeases.Scan(ctx, d.store, storage.Span{Prefix: storage.Prefix(partName(part))}) {
		if err != nil {
			return false, err
		}
		switch key := leaseKey(part, epoch); {
		case row.Key > key:
			return false, d.store.Apply(ctx, storage.PushLeases.Delete(key))
		case row.Key < key:
			old = append(old, storage.PushLeases.Delete(row.Key))
		}
	}
	return true, d.store.Apply(ctx, old...)
}

// leases returns the newest lease of each partition and the number of workers that live.
func (d *Dispatcher) leases(ctx context.Context, now time.Time) (newest [partitions]held, workers int, err error) {
	for row, err := range storage.PushLeases.Scan(ctx, d.store, storage.Span{}) {
		if err != nil {
			return newest, 0, err
		}
		parts, err := storage.SplitKey(row.Key)
		if err != nil || len(parts) != 2 {
			continue // not one of ours
		}
		if parts[0] == workerPrefix {
			if row.Value.Until > now.UnixMilli() {
				workers++
			}
			continue
		}
		part := slices.IndexFunc(d.parts[:], func(p *partition) bool { return partName(p.number) == parts[0] })
		epoch, err := storage.ParseNum(parts[1])
		if part >= 0 && err == nil && epoch >= newest[part].epoch {
			newest[part] = held{epoch, *row.Value}
		}
	}
	return newest, max(workers, 1), nil
}

func leaseKey(part int, epoch int64) string { return storage.Key(partName(part), storage.Num(epoch)) }

// takeOver begins to work on a partition, or goes on. until is Unix milliseconds.
func (d *Dispatcher) takeOver(ctx context.Context, p *partition, until int64) {
	if !p.held() {
		if err := d.tidy(ctx, p); err != nil {
			if ctx.Err() == nil {
				d.log.Warn("push partition not taken over", "err", err)
			}
			return
		}
	}
	if until != math.MaxInt64 {
		// What is begun shortly before the end must be over by then, and clocks differ.
		until -= d.cfg.Lease.Milliseconds() / 4
	}
	p.heldUntil.Store(until)
	wake(p.wake)
	for _, l := range d.lines {
		l.lookAgain()
		wake(l.wake)
	}
}

// tidy removes what a worker before us has left behind: tasks of a page that was not finished,
// which only a store that applies a prefix can have, and will be made again; and tasks of
// provider apps that are not configured any more. It counts the rest.
func (d *Dispatcher) tidy(ctx context.Context, p *partition) error {
	if !d.cfg.Exclusive {
		var muts []storage.Mutation
		for row, err := range storage.PushJobs.Scan(ctx, d.store, storage.Span{Prefix: storage.Prefix(partName(p.number)), Limit: d.cfg.QueueEntries}) {
			if err != nil {
				return err
			}
			for _, l := range d.lines {
				muts = append(muts, storage.PushTasks.DeletePrefix(taskPagePrefix(p.number, l.name, row.Value)))
			}
			if len(muts) >= batchTargets {
				if err := d.store.Apply(ctx, muts...); err != nil {
					return err
				}
				muts = muts[:0]
			}
		}
		if len(muts) > 0 {
			if err := d.store.Apply(ctx, muts...); err != nil {
				return err
			}
		}
	}
	prefix := storage.Prefix(partName(p.number))
	waiting := 0
	for after := ""; ; {
		var strange string
		for row, err := range storage.PushTasks.Scan(ctx, d.store, storage.Span{Prefix: prefix, After: after}) {
			if err != nil {
				return err
			}
			app, _, _ := strings.Cut(strings.TrimPrefix(row.Key, prefix), ":")
			if d.lineOf(app) == nil {
				strange = prefix + app + ":"
				break
			}
			waiting += len(row.Value.Targets)
			after = row.Key
		}
		if strange == "" {
			p.setTargets(waiting)
			return nil
		}
		if err := d.store.Apply(ctx, storage.PushTasks.DeletePrefix(strange)); err != nil {
			return err
		}
		d.log.Warn("push tasks dropped: their provider app is not configured any more", "provider", strings.TrimSuffix(strings.TrimPrefix(strange, prefix), ":"))
	}
}

// lineOf finds a line by its name as keys have it.
func (d *Dispatcher) lineOf(key string) *line {
	for _, l := range d.lines {
		if storage.Key(l.name) == key {
			return l
		}
	}
	return nil
}

// giveUpLeases lets others take over at once.
func (d *Dispatcher) giveUpLeases(ctx context.Context) {
	newest, _, err := d.leases(ctx, time.Now())
	muts := []storage.Mutation{storage.PushLeases.Delete(storage.Key(workerPrefix, d.cfg.Name))}
	for part, h := range newest {
		if err == nil && h.lease.Owner == d.cfg.Name {
			muts = append(muts, storage.PushLeases.Put(leaseKey(part, h.epoch), &storage.PushLease{Owner: d.cfg.Name}))
		}
	}
	if err := d.store.Apply(ctx, muts...); err != nil && ctx.Err() == nil {
		d.log.Warn("push leases not given up", "err", err) // they end by themselves
	}
}
