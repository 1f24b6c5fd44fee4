package configs

import "time"

// Callbacks is how the app's own server takes part.
type Callbacks struct {
	URL                 string        `yaml:"url" default:"" doc:"Where callbacks are sent, http:// or https://. Empty: none are."`
	Commands            []string      `yaml:"commands" default:"" doc:"Which are sent, as Group.CallbackBeforeSendMsg. Empty: every one."`
	Timeout             time.Duration `yaml:"timeout" default:"2s" min:"10ms" max:"30s" doc:"How long one exchange may take in all."`
	FailPolicy          string        `yaml:"fail_policy" default:"allow" oneof:"allow|refuse" doc:"What happens to an operation whose before-callback failed. allow: it goes on; refuse: it is refused (messages: 80003)."`
	Token               Secret        `yaml:"token" default:"" doc:"Signs every call (parameters Sign and RequestTime). Empty: calls are not signed."`
	CertFile            string        `yaml:"cert_file" default:"" doc:"Our client certificate for mutual TLS, PEM."`
	KeyFile             string        `yaml:"key_file" default:"" doc:"Its private key, PEM."`
	CAFile              string        `yaml:"ca_file" default:"" doc:"Who may have signed the server's certificate, PEM. Empty: the system's authorities."`
	AnswerSize          Size          `yaml:"answer_size" default:"256KiB" min:"1KiB" max:"16MiB" doc:"The largest answer that is read; a larger one is a failure of a before-callback."`
	Concurrency         int           `yaml:"concurrency" default:"512" min:"1" max:"100000" unit:"calls" doc:"How many calls may be under way in all."`
	ConcurrencyPerGroup int           `yaml:"concurrency_per_group" default:"64" min:"1" max:"100000" unit:"calls" doc:"How many before-callbacks of one group may be under way."`
	ConcurrencyAfter    int           `yaml:"concurrency_after" default:"64" min:"1" max:"100000" unit:"calls" doc:"How many after-callbacks may be under way; those of one group always follow each other."`
	Overflow            string        `yaml:"overflow" default:"wait" oneof:"wait|allow|refuse" doc:"What a before-callback does at these bounds. wait: for its turn, up to half of timeout, then as fail_policy says; allow: goes on uncalled; refuse: the operation is refused."`
	BreakerFailures     int           `yaml:"breaker_failures" default:"10" min:"0" max:"1000000" unit:"failures in a row" doc:"After so many no call is made for breaker_pause, and fail_policy decides at once. 0: never."`
	BreakerPause        time.Duration `yaml:"breaker_pause" default:"5s" min:"10ms" max:"1h" doc:"Then one call tries whether the server is back."`
	Retry               bool          `yaml:"retry" default:"true" doc:"Whether after-callbacks are kept and sent again until they succeed. Off: each is tried once."`
	RetryPauseMin       time.Duration `yaml:"retry_pause_min" default:"1s" min:"10ms" max:"1h" doc:"The pause after the first failure; it doubles with each one."`
	RetryPauseMax       time.Duration `yaml:"retry_pause_max" default:"5m" min:"10ms" max:"24h" doc:"The longest pause."`
	RetryAge            time.Duration `yaml:"retry_age" default:"24h" min:"1s" max:"720h" doc:"After which an after-callback is given up, counted and listed as dead."`
	OutboxEntries       int           `yaml:"outbox_entries" default:"1000000" min:"1" max:"100000000" unit:"callbacks" doc:"How many may be kept for sending; past it the newest are given up, counted and listed. (Of refused messages at most 1,000 a group, and half in all.)"`
	OutboxBytes         Size          `yaml:"outbox_bytes" default:"1GiB" min:"1MiB" max:"1TiB" doc:"The same in bytes."`
	DeadEntries         int           `yaml:"dead_entries" default:"10000" min:"1" max:"100000000" unit:"callbacks" doc:"How many that were given up are kept to be looked at; later ones are only counted."`
}

// callbackNames are those that commands may name; docs/callbacks.md describes them.
var callbackNames = []string{
	"Alert.RequestOverLimit",
	"Group.CallbackAfterChangeGroupOwner",
	"Group.CallbackAfterCreateGroup",
	"Group.CallbackAfterGroupAttrChanged",
	"Group.CallbackAfterGroupDestroyed",
	"Group.CallbackAfterGroupFull",
	"Group.CallbackAfterGroupInfoChanged",
	"Group.CallbackAfterMemberExit",
	"Group.CallbackAfterMemberFieldChanged",
	"Group.CallbackAfterNewMemberJoin",
	"Group.CallbackAfterReadReceipt",
	"Group.CallbackAfterRecallMsg",
	"Group.CallbackAfterSendMsg",
	"Group.CallbackBeforeApplyJoinGroup",
	"Group.CallbackBeforeCreateGroup",
	"Group.CallbackBeforeInviteJoinGroup",
	"Group.CallbackBeforeSendMsg",
	"Group.CallbackOnMemberStateChange",
	"Group.CallbackSendMsgException",
	"Profile.CallbackPortraitSet",
	"Push.OfflinePush",
	"State.StateChange",
}

// otherCallbackNames are Tencent Cloud IM's callbacks of what is not offered here. A list that
// names them is taken as it is, so that it need not be changed for Rookery; they are never sent.
var otherCallbackNames = []string{
	"C2C.CallbackAfterMsgReport",
	"C2C.CallbackAfterMsgWithDraw",
	"C2C.CallbackAfterSendMsg",
	"C2C.CallbackBeforeSendMsg",
	"Group.CallbackAfterCreateTopic",
	"Group.CallbackAfterTopicDestroyed",
	"Group.CallbackAfterTopicInfoChanged",
	"Group.CallbackBeforeCreateTopic",
	"Group.CallbackOnDailyGroupQuotaAlarm",
	"Push.AllMemberPush",
	"Sns.CallbackBlackListAdd",
	"Sns.CallbackBlackListDelete",
	"Sns.CallbackFriendAdd",
	"Sns.CallbackFriendDelete",
	"Sns.CallbackPrevFriendAdd",
	"Sns.CallbackPrevFriendResponse",
}
