package command

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"reflect"
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

	statUp           = "UpMsgNum" // and GroupUpMsgNum: there are no others
	statDown         = "DownMsgNum"
	statSenders      = "SendMsgUserNum"
	statSentTo       = "GroupSendMsgGroupNum"
	statActive       = "ActiveUserNum"
	statNewGroups    = "GroupNewGroupNum"
	statDestroyed    = "GroupDestroyGroupNum"
	statJoins        = "GroupJoinGroupTimes"
	statQuits        = "GroupQuitGroupTimes"
	statAccounts     = "RegistUserNumOneDay"
	statDeleted      = "deleted" // accounts; not on the wire
	statLogins       = "LoginTimes"
	statLoginUsers   = "LoginUserNum"
	statTotal        = "RegistUserNumTotal"
	statGroups       = "GroupAllGroupNum"
	statOnline       = "MaxOnlineNum"
	statAPNs         = "APNSMsgNum"
	statCallbackReqs = "CallBackReq"
	statCallbackRsps = "CallBackRsp"
)

// A Source is something that is counted elsewhere since the process began.
type Source string

// The sources of Stats.Follow.
const (
	Deliveries       Source = statDown         // messages, tips and notices written to clients
	APNsPushes       Source = statAPNs         // that Apple has taken
	CallbackRequests Source = statCallbackReqs // calls of the app's server
	CallbackAnswers  Source = statCallbackRsps // those that it has answered
)

// Stats counts what getappinfo tells of each day. It is a hooks.Outbox that writes nothing
// with the messages: after a crash the last seconds are missing.
type Stats struct {
	store storage.Store
	log   *slog.Logger

	sent   [16]tally // of messages, by group: one for all would be a lock that every message takes
	rest   tally
	online int64 // accounts that are online; guarded by rest.mu

	flushing sync.Mutex // held while counts are added to the stored ones; guards followed
	followed []followed
}

// A tally is what is not stored yet.
type tally struct {
	mu    sync.Mutex // guards all
	days  map[string]*dayCounts
	day   string // the one that from and until bound
	from  time.Time
	until time.Time
}

// dayCounts is what is known of one day, or of a part of it.
type dayCounts struct {
	counts map[string]int64
	names  map[string]*census
}

type followed struct {
	source Source
	total  func() int64
	known  int64 // of total, in the counts already
}

// NewStats returns Stats; give it to Pipeline.UseOutbox, and run it.
func NewStats(store storage.Store, log *slog.Logger) *Stats {
	return &Stats{store: store, log: log}
}

// Follow counts what total, which only grows, grows by from now on. It is called before Run.
func (s *Stats) Follow(source Source, total func() int64) {
	s.followed = append(s.followed, followed{source, total, total()})
}

// today returns the counts of the day; t.mu is held.
func (t *tally) today() *dayCounts {
	now := time.Now()
	if now.Before(t.from) || !now.Before(t.until) {
		y, m, d := now.Date()
		t.from, t.until = time.Date(y, m, d, 0, 0, 0, 0, now.Location()), time.Date(y, m, d+1, 0, 0, 0, 0, now.Location())
		t.day = now.Format(dayLayout)
	}
	return t.of(t.day)
}

// of returns the counts of a day; t.mu is held.
func (t *tally) of(day string) *dayCounts {
	c := t.days[day]
	if c == nil {
		if t.days == nil {
			t.days = make(map[string]*dayCounts)
		}
		c = &dayCounts{counts: make(map[string]int64), names: make(map[string]*census)}
		t.days[day] = c
	}
	return c
}

// moveTo adds what t has to o, and empties t.
func (t *tally) moveTo(o *tally) {
	t.mu.Lock()
	days := t.days
	t.days = nil
	t.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	for day, c := range days {
		o.of(day).merge(c)
	}
}

func (c *dayCounts) name(kind string, hash uint64) {
	if c.names[kind] == nil {
		c.names[kind] = &census{}
	}
	c.names[kind].add(hash)
}

// merge adds what o has counted.
func (c *dayCounts) merge(o *dayCounts) {
	for name, n := range o.counts {
		if name == statOnline {
			c.counts[name] = max(c.counts[name], n)
		} else {
			c.counts[name] += n
		}
	}
	for kind, d := range o.names {
		if c.names[kind] == nil {
			c.names[kind] = &census{}
		}
		c.names[kind].merge(d)
	}
}

func (s *Stats) add(name string, n int64) {
	s.rest.mu.Lock()
	defer s.rest.mu.Unlock()
	s.rest.today().counts[name] += n
}

// Login counts a login; first says that the account was not online before, created that it did
// not exist before.
func (s *Stats) Login(a group.Account, first, created bool) {
	hash := hashName(string(a))
	s.rest.mu.Lock()
	defer s.rest.mu.Unlock()
	c := s.rest.today()
	c.counts[statLogins]++
	c.name(statLoginUsers, hash)
	c.name(statActive, hash)
	if created {
		c.counts[statAccounts]++
	}
	if first {
		s.online++
	}
	c.counts[statOnline] = max(c.counts[statOnline], s.online)
}

// Logout counts that the last device of an account has gone.
func (s *Stats) Logout() {
	s.rest.mu.Lock()
	defer s.rest.mu.Unlock()
	s.online--
}

// Stored implements hooks.Outbox.
func (s *Stats) Stored(g *group.Group, m *group.Message, _ *hooks.Draft) []storage.Mutation {
	if m.Has(group.System) || m.Has(group.Imported) {
		return nil
	}
	from, to := hashName(string(m.From)), hashName(string(g.ID))
	t := &s.sent[to%uint64(len(s.sent))]
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.today()
	c.counts[statUp]++
	c.name(statSenders, from)
	c.name(statActive, from)
	c.name(statSentTo, to)
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
	return flushEvery(ctx, statsInterval, s.flush)
}

// flushEvery calls flush at every interval and, for a second at most, once more when ctx ends: what
// the last moments brought, like the end of connections that we have closed, is stored too.
func flushEvery(ctx context.Context, interval time.Duration, flush func(context.Context)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			flush(ctx)
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			flush(ctx)
			return nil
		}
	}
}

// flush adds the counts to the stored ones. What can't be stored stays for the next time.
func (s *Stats) flush(ctx context.Context) {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.rest.mu.Lock()
	for i := range s.followed {
		f := &s.followed[i]
		if now := f.total(); now != f.known {
			s.rest.today().counts[string(f.source)] += now - f.known
			f.known = now
		}
	}
	if s.online > 0 {
		c := s.rest.today().counts
		c[statOnline] = max(c[statOnline], s.online)
	}
	s.rest.mu.Unlock()
	var all tally
	for i := range s.sent {
		s.sent[i].moveTo(&all)
	}
	s.rest.moveTo(&all)
	for day, c := range all.days {
		if err := s.addTo(ctx, day, c); err != nil {
			s.log.Warn("statistics not stored", "err", err)
			s.rest.mu.Lock()
			s.rest.of(day).merge(c)
			s.rest.mu.Unlock()
		}
	}
}

func (s *Stats) addTo(ctx context.Context, day string, c *dayCounts) error {
	stored, err := storage.Days.Find(ctx, s.store, storage.Key(day))
	if err != nil {
		return err
	}
	have := readDay(stored)
	have.merge(c)
	now := &storage.Day{Counts: have.counts, Names: make(map[string][]byte)}
	for kind, d := range have.names {
		now.Names[kind] = d.bytes()
	}
	old := time.Now().AddDate(0, 0, -2*statsDays).Format(dayLayout)
	muts := []storage.Mutation{storage.Days.Put(storage.Key(day), now)}
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

// readDay returns what is stored of a day; d may be nil.
func readDay(d *storage.Day) *dayCounts {
	c := &dayCounts{counts: make(map[string]int64), names: make(map[string]*census)}
	if d == nil {
		return c
	}
	maps.Copy(c.counts, d.Counts)
	for kind, b := range d.Names {
		c.names[kind] = readCensus(b)
	}
	return c
}

// A statsDay is one day's counts by their names on the wire.
type statsDay struct {
	date   string
	counts map[string]int64
}

// read returns the last 30 days, today first, back to the first that anything is known of, with
// what is not stored yet. accounts and groups are how many there are now: what there was at the
// end of an earlier day follows from what came and went since.
func (s *Stats) read(ctx context.Context, accounts, groups int64) ([]statsDay, error) {
	s.flush(ctx)
	known := make(map[string]map[string]int64)
	now := time.Now()
	first := now.Format(dayLayout)
	for row, err := range storage.Days.Scan(ctx, s.store, storage.Span{Reverse: true, Limit: statsDays}) {
		if err != nil {
			return nil, err
		}
		c := readDay(row.Value)
		for kind, d := range c.names {
			c.counts[kind] = d.count()
		}
		known[row.Key] = c.counts
		first = min(first, row.Key)
	}
	var days []statsDay
	for back := range statsDays {
		date := now.AddDate(0, 0, -back).Format(dayLayout)
		if date < first {
			break
		}
		c := known[date]
		if c == nil {
			c = make(map[string]int64)
		}
		c[statTotal], c[statGroups] = max(accounts, 0), max(groups, 0)
		accounts += c[statDeleted] - c[statAccounts]
		groups += c[statDestroyed] - c[statNewGroups]
		days = append(days, statsDay{date, c})
	}
	return days, nil
}

func (t *Table) registerStats() {
	register(t, Command{Service: configService, Name: "getappinfo", Doc: "Returns operation data of the last 30 days."}, t.env.getAppInfo)
}

type appInfoRequest struct {
	Fields []string `json:"RequestField" doc:"Names of fields; not given: all."`
}

// appInfo is one day; all values are texts, as clients expect.
type appInfo struct {
	AppID         string `json:"AppId"`
	AppName       string `json:"AppName"`
	Company       string `json:"Company"`
	Date          string `json:"Date" wire:"always" doc:"YYYYMMDD in the server's time zone."`
	Active        string `json:"ActiveUserNum" doc:"Users who logged in or sent. Numbers of different users and groups are exact up to 2,048, above that within about 2 %."`
	NewUsers      string `json:"RegistUserNumOneDay"`
	Users         string `json:"RegistUserNumTotal"`
	Logins        string `json:"LoginTimes"`
	LoginUsers    string `json:"LoginUserNum"`
	Up            string `json:"UpMsgNum"`
	Down          string `json:"DownMsgNum" doc:"Messages, tips and notices to each device that was online."`
	Senders       string `json:"SendMsgUserNum"`
	APNs          string `json:"APNSMsgNum"`
	Online        string `json:"MaxOnlineNum"`
	ChainIncrease string `json:"ChainIncrease" doc:"0, like all of contacts and one-to-one messages."`
	ChainDecrease string `json:"ChainDecrease"`
	CallbackReqs  string `json:"CallBackReq"`
	CallbackRsps  string `json:"CallBackRsp"`
	C2CUp         string `json:"C2CUpMsgNum"`
	C2CDown       string `json:"C2CDownMsgNum"`
	C2CSenders    string `json:"C2CSendMsgUserNum"`
	C2CAPNs       string `json:"C2CAPNSMsgNum"`
	GroupUp       string `json:"GroupUpMsgNum"`
	GroupDown     string `json:"GroupDownMsgNum"`
	GroupSenders  string `json:"GroupSendMsgUserNum"`
	GroupAPNs     string `json:"GroupAPNSMsgNum"`
	GroupsSentTo  string `json:"GroupSendMsgGroupNum"`
	Joins         string `json:"GroupJoinGroupTimes"`
	Quits         string `json:"GroupQuitGroupTimes"`
	NewGroups     string `json:"GroupNewGroupNum"`
	Groups        string `json:"GroupAllGroupNum"`
	Destroyed     string `json:"GroupDestroyGroupNum"`
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
	accounts, err := e.count(ctx, storage.Accounts.Name)
	if err != nil {
		return nil, err
	}
	groups, err := e.count(ctx, storage.Groups.Name)
	if err != nil {
		return nil, err
	}
	days, err := e.stats.read(ctx, accounts, groups)
	if err != nil {
		return nil, err
	}
	for _, d := range days {
		text := func(name string) string { return strconv.FormatInt(d.counts[name], 10) }
		const none = "0"
		raw, err := f.filter.Append(nil, &appInfo{
			AppID: strconv.FormatInt(e.cfg.SDKAppID, 10), Date: d.date, Active: text(statActive), NewUsers: text(statAccounts), Users: text(statTotal),
			Logins: text(statLogins), LoginUsers: text(statLoginUsers), Up: text(statUp), Down: text(statDown), Senders: text(statSenders), APNs: text(statAPNs),
			Online: text(statOnline), ChainIncrease: none, ChainDecrease: none, CallbackReqs: text(statCallbackReqs), CallbackRsps: text(statCallbackRsps),
			C2CUp: none, C2CDown: none, C2CSenders: none, C2CAPNs: none, GroupUp: text(statUp), GroupDown: text(statDown), GroupSenders: text(statSenders),
			GroupAPNs: text(statAPNs), GroupsSentTo: text(statSentTo), Joins: text(statJoins), Quits: text(statQuits), NewGroups: text(statNewGroups),
			Groups: text(statGroups), Destroyed: text(statDestroyed),
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
