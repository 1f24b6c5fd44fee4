package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// unreadChunk bounds the memberships whose state is read at once.
const unreadChunk = 4096

// unreadScans is how many accounts' groups are listed at the same time.
const unreadScans = 8

// Unread returns, for each account, how many messages it has not read over all of its
// conversations that count them. Messages that do not count for anybody
// (tips, NoUnread and directed ones) are left out, as in sync. It takes one listing per account,
// and six reads for every few thousand memberships.
func Unread(ctx context.Context, store storage.Store, accounts []group.Account) ([]int, error) {
	joined, err := joinedGroups(ctx, store, accounts)
	if err != nil {
		return nil, err
	}
	totals := make([]int, len(accounts))
	var places []int
	var rows []*storage.JoinedGroup
	flush := func() error {
		if len(rows) == 0 {
			return nil
		}
		counts, err := unreadOf(ctx, store, accounts, places, rows)
		if err != nil {
			return err
		}
		for i, n := range counts {
			totals[places[i]] += n
		}
		places, rows = places[:0], rows[:0]
		return nil
	}
	for i, list := range joined {
		for _, row := range list {
			places, rows = append(places, i), append(rows, row)
			if len(rows) == unreadChunk {
				if err := flush(); err != nil {
					return nil, err
				}
			}
		}
	}
	return totals, flush()
}

// joinedGroups lists the groups of each account that count what is unread.
func joinedGroups(ctx context.Context, store storage.Records, accounts []group.Account) ([][]*storage.JoinedGroup, error) {
	joined := make([][]*storage.JoinedGroup, len(accounts))
	errs := make([]error, len(accounts))
	one := func(i int) {
		for row, err := range storage.Joined.Scan(ctx, store, storage.Span{Prefix: storage.Prefix(string(accounts[i]))}) {
			if err != nil {
				errs[i] = err
				return
			}
			if row.Value.Type.Rules().CountsUnread {
				joined[i] = append(joined[i], row.Value)
			}
		}
	}
	var wg sync.WaitGroup
	workers := min(unreadScans, len(accounts))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(accounts); i += workers {
				one(i)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return joined, nil
}

// unreadOf counts what is unread in rows[i] for accounts[places[i]].
func unreadOf(ctx context.Context, store storage.Store, accounts []group.Account, places []int, rows []*storage.JoinedGroup) ([]int, error) {
	groupKeys, recordKeys := make([]string, len(rows)), make([]string, len(rows))
	memberKeys, keys := make([]string, len(rows)), make([]group.Key, len(rows))
	for i, row := range rows {
		groupKeys[i], recordKeys[i], keys[i] = storage.GroupKey(row.ID), storage.GroupRecordKey(row.Key()), row.Key()
		memberKeys[i] = storage.MemberKey(row.Key(), accounts[places[i]])
	}
	groups, err := storage.Groups.GetMany(ctx, store, groupKeys)
	if err != nil {
		return nil, err
	}
	members, err := storage.Members.GetMany(ctx, store, memberKeys)
	if err != nil {
		return nil, err
	}
	reads, err := storage.Reads.GetMany(ctx, store, memberKeys)
	if err != nil {
		return nil, err
	}
	sends, err := storage.Sends.GetMany(ctx, store, memberKeys)
	if err != nil {
		return nil, err
	}
	uncounted, err := storage.Uncounted.GetMany(ctx, store, recordKeys)
	if err != nil {
		return nil, err
	}
	heads, err := store.Heads(ctx, keys)
	if err != nil {
		return nil, err
	}
	counts := make([]int, len(rows))
	for i, row := range rows {
		g, m := groups[i], members[i]
		if g == nil || m == nil || g.Incarnation != row.Incarnation {
			continue
		}
		read := max(storage.ReadSeq(reads[i], sends[i]), g.ClearedTo)
		if reads[i] == nil || reads[i].SentBefore < m.JoinSeq { // else it was set by hand, below the joining if need be
			read = max(read, m.JoinSeq)
		}
		counts[i] = int(uncounted[i].Unread(min(read, heads[i].Tail), heads[i].Tail))
	}
	return counts, nil
}

// unreadLife is how long a count serves the next push: the devices of one user are sent to at
// nearly the same time.
const unreadLife = 2 * time.Second

// maxUnread bounds the counts that are kept; past it all are forgotten.
const maxUnread = 1 << 16

type unreadEntry struct {
	n  int
	at time.Time
}

// unreadCache keeps the counts of the last moment.
type unreadCache struct {
	mu      sync.Mutex
	entries map[group.Account]unreadEntry
}

// unreadTotals is Unread, for pushes about messages of the time since: what was counted after
// that and a moment ago is not counted again.
func (d *Dispatcher) unreadTotals(ctx context.Context, accounts []group.Account, since time.Time) (map[group.Account]int, error) {
	now := time.Now()
	totals := make(map[group.Account]int, len(accounts))
	var missing []group.Account
	d.unread.mu.Lock()
	for _, a := range accounts {
		if _, twice := totals[a]; twice {
			continue
		}
		e, ok := d.unread.entries[a]
		if !ok || now.Sub(e.at) > unreadLife || e.at.Before(since) {
			missing = append(missing, a)
		}
		totals[a] = e.n
	}
	d.unread.mu.Unlock()
	if len(missing) == 0 {
		return totals, nil
	}
	counts, err := Unread(ctx, d.store, missing)
	if err != nil {
		return nil, err
	}
	d.unread.mu.Lock()
	defer d.unread.mu.Unlock()
	if len(d.unread.entries)+len(missing) > maxUnread {
		clear(d.unread.entries)
	}
	for i, a := range missing {
		totals[a] = counts[i]
		d.unread.entries[a] = unreadEntry{counts[i], now}
	}
	return totals, nil
}
