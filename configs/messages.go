package configs

import "time"

// Pipeline bounds the way of a message.
type Pipeline struct {
	LaneLength       int           `yaml:"lane_length" default:"8192" min:"1" max:"1000000" unit:"messages" doc:"How many messages may wait in one group; more are refused as overloaded."`
	PendingTotal     int           `yaml:"pending_total" default:"262144" min:"1" max:"10000000" unit:"messages" doc:"How many messages may wait in all groups together; more are refused as overloaded. (Of one connection: limits.receive_maximum.)"`
	IdleLanes        int           `yaml:"idle_lanes" default:"100000" min:"1" max:"10000000" unit:"groups" doc:"The most groups that stay in memory though nothing happens in them; past it those idle longest go first."`
	CachedSenders    int           `yaml:"cached_senders" default:"4096" min:"1" max:"1000000" unit:"senders per group" doc:"The senders whose membership stays in memory with their group."`
	BatchMessages    int           `yaml:"batch_messages" default:"1024" min:"1" max:"10000" unit:"messages" doc:"The most messages of a group that are stored at once."`
	BatchBytes       Size          `yaml:"batch_bytes" default:"4MiB" min:"64KiB" max:"12MiB" doc:"The most bytes of a group that are stored at once."`
	DuplicateWindow  time.Duration `yaml:"duplicate_window" default:"5m" min:"1s" max:"24h" doc:"For how long the same message from the same sender gets the first one's answer again."`
	DuplicateEntries int           `yaml:"duplicate_entries" default:"65536" min:"100" max:"10000000" unit:"messages per group" doc:"How many messages of a group are remembered for that; past it the oldest are forgotten before the window ends."`
	StoreWait        time.Duration `yaml:"store_wait" default:"10s" min:"100ms" max:"5m" doc:"How long a message, a change of a group or a login waits for a store that is slow or away, before it is answered with an error and to be tried again."`
}

// Flow is frequency control.
type Flow struct {
	MessagesPerSecond        int  `yaml:"messages_per_second" default:"40" min:"0" max:"100000" unit:"messages per second" doc:"How many messages a group takes within any second; the rest is dropped by priority, then by chance. 0: off."`
	HighPerSecond            int  `yaml:"high_per_second" default:"0" min:"0" max:"100000" unit:"messages per second" doc:"The same for messages of priority High alone. 0, or more than that: as messages_per_second."`
	NormalPerSecond          int  `yaml:"normal_per_second" default:"0" min:"0" max:"100000" unit:"messages per second" doc:"The same for Normal."`
	LowPerSecond             int  `yaml:"low_per_second" default:"0" min:"0" max:"100000" unit:"messages per second" doc:"The same for Low."`
	LowestPerSecond          int  `yaml:"lowest_per_second" default:"0" min:"0" max:"100000" unit:"messages per second" doc:"The same for Lowest."`
	ExemptAdmins             bool `yaml:"exempt_admins" default:"false" doc:"Whether messages that the REST API sends are exempt. (System messages always are.)"`
	UserMessagesPerSecond    int  `yaml:"user_messages_per_second" default:"0" min:"0" max:"100000" unit:"messages per second" doc:"How many messages one user may send to all groups together; more are refused with 10023. 0: off."`
	AddressMessagesPerSecond int  `yaml:"address_messages_per_second" default:"0" min:"0" max:"1000000" unit:"messages per second" doc:"The same for one IP address (loopback: see limits.count_loopback). 0: off."`
}

// Groups holds the limits of groups.
type Groups struct {
	PerUser          int           `yaml:"per_user" default:"3000" min:"1" max:"1000000" unit:"groups" doc:"The most groups that one user may be in."`
	RoomsPerUser     int           `yaml:"rooms_per_user" default:"100" min:"1" max:"1000000" unit:"live rooms" doc:"The most live rooms that one user may be in besides those of which it is owner or admin; more are refused with 10037."`
	NameSize         Size          `yaml:"name_size" default:"100" min:"1" max:"10000" unit:"bytes" doc:"The longest group name."`
	IntroductionSize Size          `yaml:"introduction_size" default:"240" min:"1" max:"10000" unit:"bytes" doc:"The longest introduction."`
	NotificationSize Size          `yaml:"notification_size" default:"300" min:"1" max:"10000" unit:"bytes" doc:"The longest notification."`
	FaceURLSize      Size          `yaml:"face_url_size" default:"100" min:"1" max:"10000" unit:"bytes" doc:"The longest face URL."`
	NameCardSize     Size          `yaml:"name_card_size" default:"50" min:"1" max:"10000" unit:"bytes" doc:"The longest name card of a member."`
	CustomFields     int           `yaml:"custom_fields" default:"10" min:"0" max:"1000" unit:"fields" doc:"The most custom fields of a group. 0: none."`
	CustomFieldSize  Size          `yaml:"custom_field_size" default:"512" min:"1" max:"64KiB" unit:"bytes" doc:"The longest value of one."`
	CustomKeys       []string      `yaml:"custom_keys" default:"" doc:"The custom fields that groups may have. Empty: any."`
	MemberFields     int           `yaml:"member_fields" default:"5" min:"0" max:"1000" unit:"fields" doc:"The most custom fields of a member. 0: none."`
	MemberFieldSize  Size          `yaml:"member_field_size" default:"64" min:"1" max:"64KiB" unit:"bytes" doc:"The longest value of one."`
	MemberKeys       []string      `yaml:"member_keys" default:"" doc:"The custom fields that members may have. Empty: any."`
	SenderFields     []string      `yaml:"sender_fields" default:"" doc:"The custom fields of a member that receivers are shown with each of its messages."`
	RecallWindow     time.Duration `yaml:"recall_window" default:"2m" min:"1s" max:"8760h" doc:"For how long a member may recall its own message. (Owner, admins and the REST API: as long as it is kept.)"`
	RoomGrace        time.Duration `yaml:"room_grace" default:"20s" min:"1s" max:"1h" doc:"How long a member of a live room may be offline without leaving it."`
	Work             GroupType     `yaml:"work" doc:"Work groups (Private)."`
	Public           GroupType     `yaml:"public" doc:"Public groups."`
	Meeting          GroupType     `yaml:"meeting" doc:"Meeting groups (ChatRoom)."`
	AVChatRoom       GroupType     `yaml:"avchatroom" doc:"Live rooms. They keep no history, so that retention means nothing here."`
	Community        GroupType     `yaml:"community" doc:"Communities."`
}

// GroupType overrides for groups of one type.
type GroupType struct {
	MaxMembers        int           `yaml:"max_members" default:"0" min:"0" max:"10000000" unit:"members" doc:"The most members of a group that sets no limit of its own. 0: the type's default, which is 6000; 100000 in a community; none in a live room."`
	Retention         time.Duration `yaml:"retention" default:"0s" min:"0s" max:"87600h" doc:"How long messages are kept. 0: roaming.retention."`
	MessagesPerSecond int           `yaml:"messages_per_second" default:"-1" min:"-1" max:"100000" unit:"messages per second" doc:"The group's limit. -1: flow.messages_per_second; 0: off."`
}

// Roaming is message history.
type Roaming struct {
	Retention     time.Duration `yaml:"retention" default:"168h" min:"1s" max:"87600h" doc:"How long messages are kept for members to pull."`
	Changes       int           `yaml:"changes" default:"100" min:"1" max:"10000" unit:"changes per group" doc:"How many recalls and edits of messages are kept, besides the messages, to be told to members who were away; of more only the latest."`
	SweepInterval time.Duration `yaml:"sweep_interval" default:"10m" min:"1s" max:"24h" doc:"How often what has expired is removed from disk. (It is never shown, removed or not.)"`
}
