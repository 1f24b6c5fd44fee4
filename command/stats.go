package command

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

const (
	statsInterval = 10 * time.Second
	statsDays     = 30
	dayLayout     = "20060102"

	statUp        = "UpMsgNum"
	statGroupUp   = "GroupUpMsgNum"
	statNewGroups = "GroupNewGroupNum"
	statDestroyed = "GroupDestroyGroupNum"
	statJoins     = "GroupJoinGroupTimes"
	statQuits     = "GroupQuitGroupTimes"
	statAccounts  = "RegistUserNumOneDay"
	statLogins    = "LoginTimes"
	statTotal     = "RegistUserNumTotal"
	statGroups    = "GroupAllGroupNum"
	statOnline    = "MaxOnlineNum"
)

// Stats counts what getappinfo tells of each day. It is a hooks.Outbox that writes nothing
// with the messages: after a crash the last seconds are missing.
type Stats struct {
	store storage.Store
	log   *slog.Logger

	mu     sync.Mutex
	days   map[string]map[string]int64 // by day: what is not stored yet
	online int64                       // accounts that are online
}

// NewStats returns Stats; give it to Pipeline.UseOutbox, and run it.
func NewStats(store storage.Store, log *slog.Logger) *Stats {
	return &Stats{store: store, log: log, days: make(map[string]map[string]int64)}
}

func (s *Stats) add(name string, n int64) {
	day := time.Now().Format(dayLayout)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.days[day] == nil {
		s.days[day] = make(map[string]int64)
	}
	s.days[day][name] += n
}

// Login counts a login; first says that the account was not online before.
func (s *Stats) Login(first bool) {
	s.add(statLogins, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if first {
		s.online++
	}
	day := time.Now().Format(dayLayout)
	if s.days[day] == nil {
		s.days[day] = make(map[string]int64)
	}
	s.days[day][statOnline] = max(s.days[day][statOnline], s.online)
}

// Logout counts that the last device of an account has gone.
func (s *Stats) Logout() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.online--
}

// Stored implements hooks.Outbox.
func (s *Stats) Stored(_ *group.Group, m *group.Message, _ *hooks.Draft) []storage.Mutation {
	if !m.Has(group.System) && !m.Has(group.Imported) {
		s.add(statUp, 1)
		s.add(statGroupUp, 1)
	}
	return nil
}

// Online implements hooks.Outbox.
func (s *Stats) Online(g *group.Group, m *group.Message, d *hooks.Draft) []storage.Mutation {
	return s.Stored(g, m, d)
}

// Happened implements hooks.Outbox.
func (s *Stats) Happened(_ *group.Group, _ string, body any) []storage.Mutation {
	switch b := body.(type) {
	case afterCreate:
		s.add(statNewGroups, 1)
	case afterDestroy:
		s.add(statDestroyed, 1)
	case afterJoin:
		s.add(statJoins, int64(len(b.Members)))
	case afterExit:
		s.add(statQuits, int64(len(b.Members)))
	}
	return nil
}

// Refused implements hooks.Outbox.
func (s *Stats) Refused(*group.Group, *hooks.Draft, *group.Error) []storage.Mutation { return nil }

// Committed implements hooks.Outbox.
func (s *Stats) Committed(group.Key) {}

// Run stores the counts every ten seconds, and when ctx ends.
func (s *Stats) Run(ctx context.Context) error {
	tick := time.NewTicker(statsInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.flush(ctx)
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // the last seconds' counts
			defer cancel()
			s.flush(ctx)
			return nil
		}
	}
}

// flush adds the counts to the stored ones. What can't be stored stays for the next time.
func (s *Stats) flush(ctx context.Context) {
	s.mu.Lock()
	days := s.days
	s.days = make(map[string]map[string]int64)
	s.mu.Unlock()
	for day, counts := range days {
		err := s.addTo(ctx, day, counts)
		if err == nil {
			continue
		}
		s.log.Warn("statistics not stored", "err", err)
		s.mu.Lock()
		if s.days[day] == nil {
			s.days[day] = make(map[string]int64)
		}
		for name, n := range counts {
			if name == statOnline {
				s.days[day][name] = max(s.days[day][name], n)
			} else {
				s.days[day][name] += n
			}
		}
		s.mu.Unlock()
	}
}

func (s *Stats) addTo(ctx context.Context, day string, counts map[string]int64) error {
	have, err := storage.Days.Find(ctx, s.store, storage.Key(day))
	if err != nil {
		return err
	}
	if have == nil {
		have = &storage.Day{}
	}
	if have.Counts == nil {
		have.Counts = make(map[string]int64)
	}
	for name, n := range counts {
		if name == statOnline {
			have.Counts[name] = max(have.Counts[name], n)
		} else {
			have.Counts[name] += n
		}
	}
	old := time.Now().AddDate(0, 0, -2*statsDays).Format(dayLayout)
	muts := []storage.Mutation{storage.Days.Put(storage.Key(day), have)}
	for row, err := range storage.Days.Scan(ctx, s.store, storage.Span{Limit: 10}) {
		if err != nil {
			return err
		}
		if row.Key < old {
			muts = append(muts, storage.Days.Delete(row.Key))
		}
	}
	return s.store.Apply(ctx, muts...)
}

// read returns the counts of the last 30 days, the newest first, with what is not stored yet.
func (s *Stats) read(ctx context.Context) ([]string, map[string]map[string]int64, error) {
	s.flush(ctx)
	days := make(map[string]map[string]int64)
	for row, err := range storage.Days.Scan(ctx, s.store, storage.Span{Reverse: true, Limit: statsDays}) {
		if err != nil {
			return nil, nil, err
		}
		days[row.Key] = row.Value.Counts
	}
	names := slices.Sorted(maps.Keys(days))
	slices.Reverse(names)
	return names, days, nil
}

func (t *Table) registerStats() {
	register(t, Command{Service: configService, Name: "getappinfo", Doc: "Returns operation data of the last 30 days."}, t.env.getAppInfo)
}

type appInfoRequest struct {
	Fields []string `json:"RequestField" doc:"Names of fields; not given: all."`
}

// appInfo is one day; all values are texts, as clients expect.
type appInfo struct {
	AppID     string `json:"AppId"`
	AppName   string `json:"AppName"`
	Company   string `json:"Company"`
	Date      string `json:"Date" wire:"always" doc:"YYYYMMDD in the server's time zone."`
	NewUsers  string `json:"RegistUserNumOneDay"`
	Users     string `json:"RegistUserNumTotal" doc:"Today only."`
	Logins    string `json:"LoginTimes"`
	Online    string `json:"MaxOnlineNum"`
	Up        string `json:"UpMsgNum"`
	GroupUp   string `json:"GroupUpMsgNum"`
	Joins     string `json:"GroupJoinGroupTimes"`
	Quits     string `json:"GroupQuitGroupTimes"`
	NewGroups string `json:"GroupNewGroupNum"`
	Groups    string `json:"GroupAllGroupNum" doc:"Today only."`
	Destroyed string `json:"GroupDestroyGroupNum"`
}

type appInfoResponse struct {
	Result []json.RawMessage `json:"Result"`
}

var appInfoType = reflect.TypeFor[appInfo]()

func (e *env) getAppInfo(ctx context.Context, _ *Call, r *appInfoRequest) (*appInfoResponse, error) {
	f, err := newFilter(appInfoType, "", r.Fields, nil)
	if err != nil {
		return nil, err
	}
	resp := &appInfoResponse{}
	if e.stats == nil {
		return resp, nil
	}
	names, days, err := e.stats.read(ctx)
	if err != nil {
		return nil, err
	}
	today := time.Now().Format(dayLayout)
	for _, day := range names {
		c := days[day]
		if day == today {
			for name, table := range map[string]string{statTotal: storage.Accounts.Name, statGroups: storage.Groups.Name} {
				if c[name], err = e.count(ctx, table); err != nil {
					return nil, err
				}
			}
		}
		text := func(name string) string { return strconv.FormatInt(c[name], 10) }
		raw, err := f.filter.Append(nil, &appInfo{
			AppID: strconv.FormatInt(e.cfg.SDKAppID, 10), Date: day, NewUsers: text(statAccounts), Users: text(statTotal), Logins: text(statLogins),
			Online: text(statOnline), Up: text(statUp), GroupUp: text(statGroupUp), Joins: text(statJoins), Quits: text(statQuits),
			NewGroups: text(statNewGroups), Groups: text(statGroups), Destroyed: text(statDestroyed),
		})
		if err != nil {
			return nil, err
		}
		resp.Result = append(resp.Result, raw)
	}
	return resp, nil
}

// count counts a table's records.
func (e *env) count(ctx context.Context, table string) (n int64, err error) {
	for _, err := range e.store.Scan(ctx, table, storage.Span{}) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

var _ hooks.Outbox = (*Stats)(nil)
