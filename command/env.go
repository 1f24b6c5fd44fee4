package command

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

// The services.
const (
	groupService     = "group_open_http_svc"
	attrService      = "group_open_attr_http_svc"
	roomService      = "group_open_avchatroom_http_svc"
	accountService   = "im_open_login_svc"
	openimService    = "openim"
	extensionService = "openim_msg_ext_http_svc"
	historyService   = "open_msg_svc"
	profileService   = "profile"
	contactService   = "recentcontact"
	configService    = "openconfigsvr"
	operationService = "ConfigSvc"
)

// Online answers what only the broker knows. All methods may be called from any goroutine
// and return at once.
type Online interface {
	// Devices returns the account's devices: those connected, and those that count as
	// reachable by push.
	Devices(a group.Account) []Device
	// InGroup returns the accounts that are online in the group, at most limit of them (0:
	// all); and how many there are in all.
	InGroup(key group.Key, limit int) (some []group.Account, all int)
	// Rooms returns the live rooms in which the account is as an ordinary member, whether or not it
	// is connected at the moment.
	Rooms(a group.Account) []group.Key
	// Kick closes all connections of the account.
	Kick(a group.Account, reason string)
	// Notify delivers a notice outside of any group.
	Notify(n hooks.Notice)
}

// A Device is one device of an account as others may see it.
type Device struct {
	Platform string // Android, iOS, Web, …
	Online   bool   // connected; else it is reachable by push only
}

// Callbacks asks the app before a command changes something.
type Callbacks interface {
	// Before asks with the before-callback called name. A refusal is for the caller; the
	// answer is the app's JSON object, nil if the app was not asked or could not answer.
	Before(ctx context.Context, name string, body any, from hooks.Origin) (json.RawMessage, *group.Error)
}

// AccountCallbacks tells the app afterwards what happened to an account.
type AccountCallbacks interface {
	// AccountHappened returns what is to be written with the change, so that the app is told of
	// it if and only if it happened.
	AccountHappened(a group.Account, name string, body any, from hooks.Origin) []storage.Mutation
	// AccountCommitted follows the write, whatever its outcome.
	AccountCommitted(a group.Account)
}

// Config bounds the commands. The zero value works: zero limits mean Tencent IM's numbers.
type Config struct {
	SDKAppID int64
	// Admins are the app's administrators; their accounts exist implicitly.
	Admins []group.Account
	// Allowed bounds which commands an app admin may call; one that is not in the map may call
	// every one. A pattern is service/command or a command alone, * standing for any text
	// within either; see Table.Unmatched.
	Allowed map[group.Account][]string
	// NewTypeNames makes answers carry the newer names of group types (Work, Meeting).
	NewTypeNames bool

	// The longest texts, in bytes. Zero means 100, 240, 300, 100 and 50.
	NameSize, IntroductionSize, NotificationSize, FaceURLSize, NameCardSize int
	// CustomFields bounds a group's custom fields (zero: 10; negative: none) and CustomFieldSize their
	// values (zero: 512); CustomKeys, if not empty, are the only ones. The same for members: 5 and 64.
	CustomFields, CustomFieldSize int
	CustomKeys                    []string
	MemberFields, MemberFieldSize int
	MemberKeys                    []string

	// GroupsPerUser bounds the groups that one account is in. Zero means 3,000. Two joins at
	// the same moment may both pass.
	GroupsPerUser int
	// RoomsPerUser bounds the live rooms that one account is in as an ordinary member. Zero means
	// 100. Here too, two joins at the same moment may both pass.
	RoomsPerUser int
	// MaxMembers gives a type's limit of members. Nil, or an answer of 0, means the type's own.
	MaxMembers func(group.Type) int
	// RecallWindow is how long a member may recall its own message. Zero means 2 minutes.
	RecallWindow time.Duration
	// ChangesKept bounds the changes of messages that are kept of each group for members who are
	// away. Zero means 100.
	ChangesKept int
	// BodyLimit bounds MsgBody and CloudCustomData together, in bytes. Zero means 12,000.
	BodyLimit int
	// AnswerSize bounds an answer, in bytes. Zero means 1 MiB.
	AnswerSize int
	// IPs is what GetIPList answers.
	IPs []string
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.NameSize, 100)
	set(&c.IntroductionSize, 240)
	set(&c.NotificationSize, 300)
	set(&c.FaceURLSize, 100)
	set(&c.NameCardSize, 50)
	if c.CustomFields == 0 {
		c.CustomFields = 10
	}
	if c.MemberFields == 0 {
		c.MemberFields = 5
	}
	set(&c.CustomFieldSize, 512)
	set(&c.MemberFieldSize, 64)
	set(&c.GroupsPerUser, 3000)
	set(&c.RoomsPerUser, 100)
	set(&c.ChangesKept, 100)
	set(&c.BodyLimit, 12_000)
	set(&c.AnswerSize, 1<<20)
	if c.RecallWindow <= 0 {
		c.RecallWindow = 2 * time.Minute
	}
	return c
}

// Env is what the commands work with. Store and Pipeline are needed, the rest may be absent.
type Env struct {
	Store    storage.Store
	Pipeline *hooks.Pipeline
	Online   Online           // nil: nobody is online
	Before   Callbacks        // nil: the app is not asked
	After    AccountCallbacks // nil: the app is not told of accounts (of groups: Pipeline.UseOutbox)
	Stuck    StuckCallbacks   // nil: no callbacks are kept
	Exporter *Exporter        // nil: get_history has no files
	Stats    *Stats           // nil: getappinfo knows nothing
	Absent   *Absent          // nil: who is not connected is reachable by push alone if it has registered
	Push     Push             // nil: there is no offline push
	Log      *slog.Logger
	Audit    *slog.Logger // one line for each call of an app admin that may change something; nil: none
}

// env is an Env with everything filled in, the receiver of all handlers.
type env struct {
	store    storage.Store
	pipeline *hooks.Pipeline
	online   Online
	before   Callbacks
	after    AccountCallbacks
	stuck    StuckCallbacks
	exporter *Exporter
	stats    *Stats
	absent   *Absent
	push     Push
	log      *slog.Logger
	audit    *slog.Logger
	cfg      Config
	admins   map[group.Account]bool
	away     away

	fullOfRooms prometheus.Counter // joins refused for RoomsPerUser
}

// New returns the table of all commands.
func New(e Env, cfg Config) *Table {
	v := &env{
		store: e.Store, pipeline: e.Pipeline, online: e.Online, before: e.Before, after: e.After, stuck: e.Stuck, exporter: e.Exporter, stats: e.Stats, absent: e.Absent, push: e.Push, log: e.Log, audit: e.Audit,
		cfg: cfg.withDefaults(), admins: make(map[group.Account]bool),
		fullOfRooms: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rookery_command_room_limit_refusals_total", Help: "Joins of live rooms that were refused since the account is in groups.rooms_per_user of them.",
		}),
	}
	if v.online == nil {
		v.online = nobody{}
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if v.audit == nil {
		v.audit = slog.New(slog.DiscardHandler)
	}
	for _, a := range cfg.Admins {
		v.admins[a] = true
	}
	t := &Table{env: v, byPath: make(map[string]*Command), byName: make(map[string]*Command), metrics: newMetrics()}
	t.registerAccounts()
	t.registerGroups()
	t.registerMembers()
	t.registerMessages()
	t.registerRecall()
	t.registerPush()
	t.registerImports()
	t.registerReceipts()
	t.registerNotifications()
	t.registerKeyValues()
	t.registerExtensions()
	t.registerGroupChanges()
	t.registerRooms()
	t.registerStatus()
	t.registerProfiles()
	t.registerContacts()
	t.registerJoining()
	t.registerClients()
	t.registerInvitations()
	t.registerSync()
	t.registerExport()
	t.registerStats()
	t.registerLimits()
	t.registerStuck()
	t.allow(cfg.Allowed)
	return t
}

// IsAdmin reports whether a is one of the app's administrators.
func (t *Table) IsAdmin(a group.Account) bool { return t.env.admins[a] }

// maxMembers returns the most members that g may have; 0 means no limit.
func (e *env) maxMembers(g *group.Group) int {
	if g.MaxMembers == 0 && e.cfg.MaxMembers != nil {
		if n := e.cfg.MaxMembers(g.Type); n > 0 {
			return n
		}
	}
	return g.MaxMembersOf()
}

// nobody is Online without a broker.
type nobody struct{}

func (nobody) Devices(group.Account) []Device                { return nil }
func (nobody) InGroup(group.Key, int) ([]group.Account, int) { return nil, 0 }
func (nobody) Rooms(group.Account) []group.Key               { return nil }
func (nobody) Kick(group.Account, string)                    {}
func (nobody) Notify(hooks.Notice)                           {}
