package command

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

const (
	absentInterval = time.Second
	// maxAbsentPending bounds the accounts whose changes wait to be stored; more are forgotten.
	maxAbsentPending = 1 << 16
	// maxAbsentDevices bounds what is kept of one account; the newest stay.
	maxAbsentDevices = 10
)

// Absent remembers the mobile devices that have lost their connection without logging out: the
// app was killed, or the network is gone. It is told by the door that knows; what it is told is
// stored a second later.
type Absent struct {
	store storage.Store
	log   *slog.Logger

	mu      sync.Mutex                 // guards the two
	pending map[group.Account]absences // what is not stored yet
	writing map[group.Account]absences // what is being stored; not changed any more
}

// absences are the latest news of an account's devices, by client identifier.
type absences struct {
	loggedOut bool // everywhere, before what devices says
	devices   map[string]absence
}

// An absence says that the device is absent since then, or, if at is 0, that it is not.
type absence struct {
	platform string
	at       int64
}

// NewAbsent returns an Absent; run it.
func NewAbsent(store storage.Store, log *slog.Logger) *Absent {
	return &Absent{store: store, log: log, pending: make(map[group.Account]absences)}
}

// Lost says that the connection of a device has ended without a logout.
func (b *Absent) Lost(a group.Account, device, platform string) {
	b.note(a, device, absence{platform, time.Now().Unix()})
}

// Seen says that a device has logged in, or has logged out.
func (b *Absent) Seen(a group.Account, device, platform string) {
	b.note(a, device, absence{platform, 0})
}

func (b *Absent) note(a group.Account, device string, what absence) {
	switch shownPlatform(Device{Platform: what.platform}) {
	case "Android", "iPhone", "iPad":
	default: // others are offline at once
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	news, had := b.pending[a]
	if !had && len(b.pending) >= maxAbsentPending {
		return
	}
	if news.devices == nil {
		news.devices = make(map[string]absence)
	}
	news.devices[device] = what
	b.pending[a] = news
}

// loggedOut says that the account was logged out everywhere.
func (b *Absent) loggedOut(a group.Account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending[a] = absences{loggedOut: true}
}

// apply returns the stored devices with the news, without those that are too old.
func (n absences) apply(devices []storage.AbsentDevice, now time.Time) []storage.AbsentDevice {
	out := slices.DeleteFunc(slices.Clone(devices), func(d storage.AbsentDevice) bool {
		_, news := n.devices[d.Device]
		return n.loggedOut || news || d.Since <= now.Add(-pushOnlineFor).Unix()
	})
	for device, what := range n.devices {
		if what.at > 0 {
			out = append(out, storage.AbsentDevice{Device: device, Platform: what.platform, Since: what.at})
		}
	}
	slices.SortFunc(out, func(a, b storage.AbsentDevice) int { return int(b.Since - a.Since) })
	return out[:min(len(out), maxAbsentDevices)]
}

// of returns the absent devices of the accounts.
func (b *Absent) of(ctx context.Context, accounts []group.Account) ([][]Device, error) {
	news := make([][2]absences, len(accounts))
	b.mu.Lock() // before the store is read: news may be stored meanwhile, and count twice without harm
	for i, a := range accounts {
		later := b.pending[a]
		later.devices = maps.Clone(later.devices)
		news[i] = [...]absences{b.writing[a], later}
	}
	b.mu.Unlock()
	rows, err := b.rows(ctx, accounts)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	out := make([][]Device, len(accounts))
	for i := range accounts {
		for _, d := range news[i][1].apply(news[i][0].apply(rows[i], now), now) {
			out[i] = append(out[i], Device{Platform: d.Platform})
		}
	}
	return out, nil
}

func (b *Absent) rows(ctx context.Context, accounts []group.Account) ([][]storage.AbsentDevice, error) {
	keys := make([]string, len(accounts))
	for i, a := range accounts {
		keys[i] = storage.AccountKey(a)
	}
	found, err := storage.Absentees.GetMany(ctx, b.store, keys)
	if err != nil {
		return nil, err
	}
	out := make([][]storage.AbsentDevice, len(accounts))
	for i, row := range found {
		if row != nil {
			out[i] = row.Devices
		}
	}
	return out, nil
}

// Run stores what it is told every second, and when ctx ends.
func (b *Absent) Run(ctx context.Context) error {
	return flushEvery(ctx, absentInterval, b.flush)
}

// flush stores the news. What can't be stored is tried again the next time, before later news.
func (b *Absent) flush(ctx context.Context) {
	b.mu.Lock()
	if len(b.writing) == 0 {
		b.writing, b.pending = b.pending, make(map[group.Account]absences)
	}
	writing := b.writing
	b.mu.Unlock()
	accounts := make([]group.Account, 0, len(writing))
	for a := range writing {
		accounts = append(accounts, a)
	}
	for part := range slices.Chunk(accounts, 1000) {
		if err := b.write(ctx, part, writing); err != nil {
			b.log.Warn("absent devices not stored", "err", err)
			return
		}
	}
	b.mu.Lock()
	b.writing = nil
	b.mu.Unlock()
}

func (b *Absent) write(ctx context.Context, accounts []group.Account, news map[group.Account]absences) error {
	rows, err := b.rows(ctx, accounts)
	if err != nil {
		return err
	}
	var muts []storage.Mutation
	now := time.Now()
	for i, a := range accounts {
		switch devices := news[a].apply(rows[i], now); {
		case slices.Equal(devices, rows[i]):
		case len(devices) == 0:
			muts = append(muts, storage.Absentees.Delete(storage.AccountKey(a)))
		default:
			muts = append(muts, storage.Absentees.Put(storage.AccountKey(a), &storage.Absentee{Devices: devices}))
		}
	}
	if len(muts) == 0 {
		return nil
	}
	return b.store.Apply(ctx, muts...)
}
