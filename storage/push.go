package storage

import "github.com/rookery-im/rookery/group"

// The tables of offline push. All but PushJobs, whose rows the lanes add, are written by push
// alone.
var (
	// PushUsers: {account}. Where an account is reached while it is offline, and when it does
	// not want to be. All of its devices are one row, so that a page of members is one read.
	PushUsers = Table[PushUser]{"pushusers"}
	// PushOwners: {vendor}{hash of the device token}. The device that a token belongs to; a
	// reader checks PushUsers.
	PushOwners = Table[PushOwner]{"pushowners"}
	// PushJobs: {partition}{time}{group}{seq}. Messages whose members are still to be looked
	// at. Written with the message; a reader checks that the message is there.
	PushJobs = Table[PushJob]{"pushjobs"}
	// PushTasks: {partition}{provider app}{time}{group}{seq}{page}{number}. Devices that a
	// message is still to be pushed to, gathered for one call to a vendor.
	PushTasks = Table[PushTask]{"pushtasks"}
	// PushLeases: {partition}{epoch}, and worker:{name}. Which worker has which part of the queue.
	PushLeases = Table[PushLease]{"pushleases"}
)

// A PushUser is what push knows of an account.
type PushUser struct {
	Devices  []PushDevice `json:"devices,omitempty"` // the oldest registration first
	Disabled bool         `json:"off,omitzero"`      // no push at all
	Quiet    *PushQuiet   `json:"quiet,omitempty"`   // nil: no quiet hours
}

// A PushDevice is one app on one device, as it registered. The tokens are secrets: they go to
// their vendor and nowhere else.
type PushDevice struct {
	Device     string `json:"dev"` // the client identifier
	App        string `json:"app"` // the provider app's name in the configuration
	Token      string `json:"tok"`
	VoIPToken  string `json:"voip,omitzero"`
	Registered int64  `json:"reg"` // Unix nanoseconds
	// Badge is the number that the app reported when it went to the background, and BadgeUnread
	// what was unread then: the icon shows the one and what came since. Nil: what is unread.
	Badge       *int `json:"badge,omitempty"`
	BadgeUnread int  `json:"unread,omitzero"`
	// Background: the app is pushed to although it is connected.
	Background bool `json:"bg,omitzero"`
}

// A PushQuiet is the time of day in which an account gets no push. It may pass midnight.
type PushQuiet struct {
	From   int `json:"from"`         // minutes after midnight
	To     int `json:"to"`           // likewise; equal to From: all day
	Offset int `json:"off,omitzero"` // minutes east of UTC
}

// A PushOwner is who a device token belongs to.
type PushOwner struct {
	Account group.Account `json:"acct"`
	Device  string        `json:"dev"`
}

// A PushJob is a message whose members are still to be looked at.
type PushJob struct {
	Group       group.ID          `json:"g"`
	Incarnation group.Incarnation `json:"inc"`
	Seq         group.Seq         `json:"seq"`
	ID          string            `json:"id"`   // the message's MsgID
	Time        int64             `json:"time"` // of the message, Unix seconds
	High        bool              `json:"high,omitzero"`
	Alone       bool              `json:"alone,omitzero"`    // never collapsed with others of its group
	Collapse    bool              `json:"collapse,omitzero"` // it stands for others of its group, too
	Page        int               `json:"page,omitzero"`     // pages of members that are done
	After       string            `json:"after,omitzero"`    // the key of the last member of them
}

// Key returns the key of the group's life.
func (j *PushJob) Key() group.Key { return group.Key{ID: j.Group, Incarnation: j.Incarnation} }

// A PushTask is one message for some devices of one provider app.
type PushTask struct {
	Group       group.ID          `json:"g"`
	Incarnation group.Incarnation `json:"inc"`
	Seq         group.Seq         `json:"seq"`
	ID          string            `json:"id"`
	Time        int64             `json:"time"`
	High        bool              `json:"high,omitzero"`
	Collapse    bool              `json:"collapse,omitzero"`
	Tries       int               `json:"tries,omitzero"` // calls that have failed
	NotBefore   int64             `json:"at,omitzero"`    // Unix milliseconds
	Targets     []PushTarget      `json:"to"`
}

// Key returns the key of the group's life.
func (t *PushTask) Key() group.Key { return group.Key{ID: t.Group, Incarnation: t.Incarnation} }

// A PushTarget is one device of an account.
type PushTarget struct {
	Account group.Account `json:"a"`
	Device  string        `json:"d"`
}

// A PushLease says that a part of the queue is a worker's for a while, or that a worker lives.
type PushLease struct {
	Owner string `json:"owner"`
	Until int64  `json:"until"` // Unix milliseconds
}
