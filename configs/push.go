package configs

import "time"

// Push bounds offline push and lists the provider apps: sets of credentials at the vendors.
type Push struct {
	Deadline         time.Duration `yaml:"deadline" default:"10m" min:"1s" max:"24h" doc:"How long after its message a push is still sent."`
	QueueEntries     int           `yaml:"queue_entries" default:"1000000" min:"1" max:"100000000" unit:"pushes" doc:"How many may wait; past it the oldest that are not of High messages are given up and counted, then the oldest of all."`
	Concurrency      int           `yaml:"concurrency" default:"64" min:"1" max:"10000" unit:"requests" doc:"How many requests to each vendor may be under way. (APNs: see connections.)"`
	Timeout          time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"How long one request to a vendor may take."`
	CollapseAfter    int           `yaml:"collapse_after" default:"10" min:"-1" max:"1000000" unit:"messages" doc:"How many messages of a group are pushed one by one within collapse_interval. Of those that come faster only the newest is pushed, once in an interval, in place of the older ones; messages that mention somebody, are directed or High are always pushed by themselves. 0: 10; -1: never collapse."`
	CollapseInterval time.Duration `yaml:"collapse_interval" default:"10s" min:"1s" max:"1h" doc:"See collapse_after."`
	DevicesPerUser   int           `yaml:"devices_per_user" default:"10" min:"1" max:"1000" unit:"devices" doc:"How many devices of a user may have a push token; past it the oldest registration goes."`
	TokenBytes       int           `yaml:"token_bytes" default:"256" min:"1" max:"1024" unit:"bytes" doc:"The longest device token that is registered."`
	CheckCredentials bool          `yaml:"check_credentials" default:"true" doc:"Whether each vendor is asked at the start if it knows the credentials. What it says is logged; the server starts in any case."`
	CAFile           string        `yaml:"ca_file" default:"" doc:"Who may have signed the vendors' certificates, PEM, for a proxy that ends TLS. Empty: the system's authorities."`
	ReceiptsURL      string        `yaml:"receipts_url" default:"" doc:"The public address of the HTTP listener, as https://im.example.com, to which vendors report what became of pushes of the apps with a receipt_secret: they post to its /push/receipts/."`
	Texts            PushTexts     `yaml:"texts" doc:"Words and templates of pushes whose message brings no text of its own. In the templates {nick} is the sender's name card or nickname, {from} that or else the UserID, {group} the group's name or else its ID, {text} the text of the message."`
	APNs             []PushAPNs    `yaml:"apns" doc:"Apple Push Notification service."`
	FCM              []PushFCM     `yaml:"fcm" doc:"Firebase Cloud Messaging."`
	Huawei           []PushHuawei  `yaml:"huawei" doc:"Huawei Push Kit."`
	Honor            []PushHonor   `yaml:"honor" doc:"Honor Push."`
	Xiaomi           []PushXiaomi  `yaml:"xiaomi" doc:"Mi Push."`
	OPPO             []PushOPPO    `yaml:"oppo" doc:"OPPO Push, for OnePlus and realme too."`
	Vivo             []PushVivo    `yaml:"vivo" doc:"vivo Push."`
	Meizu            []PushMeizu   `yaml:"meizu" doc:"Flyme Push."`
}

// PushTexts are the words of pushes.
type PushTexts struct {
	Location      string `yaml:"location" default:"[Location]" doc:"Stands for a location."`
	Face          string `yaml:"face" default:"[Face]" doc:"Stands for a face."`
	Image         string `yaml:"image" default:"[Image]" doc:"Stands for an image."`
	Sound         string `yaml:"sound" default:"[Voice]" doc:"Stands for a voice message."`
	File          string `yaml:"file" default:"[File]" doc:"Stands for a file."`
	Video         string `yaml:"video" default:"[Video]" doc:"Stands for a video."`
	GroupTitle    string `yaml:"group_title" default:"{group}" doc:"The title."`
	GroupText     string `yaml:"group_text" default:"{nick}: {text}" doc:"The text."`
	GroupTextBare string `yaml:"group_text_bare" default:"{text}" doc:"The text where the sender has neither name card nor nickname."`
}

// PushAPNs is an iOS app.
type PushAPNs struct {
	Name            string        `yaml:"name" default:"" doc:"What devices name in App. Empty: the vendor's, apns."`
	BundleID        string        `yaml:"bundle_id" default:"" doc:"The app's bundle ID."`
	Sandbox         bool          `yaml:"sandbox" default:"false" doc:"Whether the tokens are of the development environment."`
	Key             Secret        `yaml:"key" default:"" doc:"The text of the .p8 key."`
	KeyFile         string        `yaml:"key_file" default:"" doc:"Or the file that it is in."`
	KeyID           string        `yaml:"key_id" default:"" doc:"The key's ID, 10 characters."`
	TeamID          string        `yaml:"team_id" default:"" doc:"The team's ID, 10 characters."`
	CertificateFile string        `yaml:"certificate_file" default:"" doc:"Instead of a key: a .p12 file, or PEM with certificate and key."`
	Password        Secret        `yaml:"password" default:"" doc:"Of the certificate file."`
	Sound           string        `yaml:"sound" default:"" doc:"Where the message names none. Empty: default; push.no_sound: silence."`
	Category        string        `yaml:"category" default:"" doc:"The category of the notification's actions."`
	TimeToLive      time.Duration `yaml:"time_to_live" default:"24h" min:"1s" max:"720h" doc:"How long Apple keeps trying."`
	Connections     int           `yaml:"connections" default:"2" min:"1" max:"64" unit:"connections" doc:"How many connections share the pushes, up to 300 at once on each."`
	BaseURL         string        `yaml:"base_url" default:"" doc:"Empty: the environment's."`
}

// PushFCM is a Firebase project.
type PushFCM struct {
	Name               string        `yaml:"name" default:"" doc:"What devices name in App. Empty: the vendor's, fcm."`
	ServiceAccount     Secret        `yaml:"service_account" default:"" doc:"The text of the service account's JSON key."`
	ServiceAccountFile string        `yaml:"service_account_file" default:"" doc:"Or the file that it is in."`
	Package            string        `yaml:"package" default:"" doc:"The Android package, if only one may be reached."`
	ChannelID          string        `yaml:"channel_id" default:"" doc:"The notification channel where the message names none."`
	Priority           string        `yaml:"priority" default:"high" oneof:"high|normal" doc:"Where the message names none."`
	ClickAction        string        `yaml:"click_action" default:"" doc:"The intent action of a tap. Empty: the app opens."`
	IOS                bool          `yaml:"ios" default:"false" doc:"Whether iPhones register with Firebase, too: messages then carry badge, sound and title for APNs."`
	TimeToLive         time.Duration `yaml:"time_to_live" default:"24h" min:"1s" max:"672h" doc:"How long Google keeps trying."`
	BaseURL            string        `yaml:"base_url" default:"" doc:"Empty: https://fcm.googleapis.com."`
	TokenURL           string        `yaml:"token_url" default:"" doc:"Empty: as the service account says."`
}

// PushHuawei is an app of Huawei Push Kit.
type PushHuawei struct {
	Name          string        `yaml:"name" default:"" doc:"What devices name in App. Empty: the vendor's, huawei."`
	Package       string        `yaml:"package" default:"" doc:"Another name that devices may use in App."`
	API           string        `yaml:"api" default:"v1" oneof:"v1|v2|v3" doc:"v1: Android, by app ID; v2: Android, by project ID; v3: HarmonyOS, with a key file."`
	AppID         string        `yaml:"app_id" default:"" doc:"The app ID (v1, v2)."`
	AppSecret     Secret        `yaml:"app_secret" default:"" doc:"The app secret (v1, v2)."`
	ProjectID     string        `yaml:"project_id" default:"" doc:"The project ID (v2)."`
	KeyFile       string        `yaml:"key_file" default:"" doc:"The service account's JSON key file (v3)."`
	ChannelID     string        `yaml:"channel_id" default:"" doc:"The notification channel where the message names none."`
	Category      string        `yaml:"category" default:"" doc:"IM, where the app has that right; else empty."`
	Importance    string        `yaml:"importance" default:"" doc:"LOW or NORMAL. Empty: Huawei's own."`
	LauncherClass string        `yaml:"launcher_class" default:"" doc:"The activity whose icon carries the badge. Empty: no badge."`
	Intent        string        `yaml:"intent" default:"" doc:"The intent URI of a tap."`
	Action        string        `yaml:"action" default:"" doc:"Or its intent action. Both empty: the app opens."`
	TimeToLive    time.Duration `yaml:"time_to_live" default:"24h" min:"1s" max:"360h" doc:"How long Huawei keeps trying."`
	BaseURL       string        `yaml:"base_url" default:"" doc:"Empty: https://push-api.cloud.huawei.com."`
	TokenURL      string        `yaml:"token_url" default:"" doc:"Empty: https://oauth-login.cloud.huawei.com/oauth2/v3/token."`
	ReceiptSecret Secret        `yaml:"receipt_secret" default:"" doc:"The last part of the address for receipts, 16 to 64 letters, digits, - or _. Empty: no receipts."`
	ReceiptID     string        `yaml:"receipt_id" default:"" doc:"Which of the console's addresses for receipts is meant. Empty: its only one."`
	CallbackUser  string        `yaml:"callback_user" default:"" doc:"The user name that the console has for receipts."`
	CallbackKey   Secret        `yaml:"callback_key" default:"" doc:"The key that signs receipts there. Empty: no signature is looked for."`
}

// PushHonor is an app of Honor Push.
type PushHonor struct {
	Name          string        `yaml:"name" default:"" doc:"What devices name in App. Empty: the vendor's, honor."`
	Package       string        `yaml:"package" default:"" doc:"Another name that devices may use in App."`
	AppID         string        `yaml:"app_id" default:"" doc:"The app ID."`
	ClientID      string        `yaml:"client_id" default:"" doc:"The client ID."`
	ClientSecret  Secret        `yaml:"client_secret" default:"" doc:"The client secret."`
	Importance    string        `yaml:"importance" default:"" doc:"LOW or NORMAL. Empty: NORMAL."`
	LauncherClass string        `yaml:"launcher_class" default:"" doc:"The activity whose icon carries the badge. Empty: no badge."`
	Intent        string        `yaml:"intent" default:"" doc:"The intent URI of a tap."`
	Action        string        `yaml:"action" default:"" doc:"Or its intent action. Both empty: the app opens."`
	TimeToLive    time.Duration `yaml:"time_to_live" default:"24h" min:"1s" max:"360h" doc:"How long Honor keeps trying."`
	BaseURL       string        `yaml:"base_url" default:"" doc:"Empty: https://push-api.cloud.honor.com."`
	TokenURL      string        `yaml:"token_url" default:"" doc:"Empty: https://iam.developer.honor.com/auth/token."`
	ReceiptSecret Secret        `yaml:"receipt_secret" default:"" doc:"The last part of the address for receipts, 16 to 64 letters, digits, - or _. Empty: no receipts."`
	CallbackUser  string        `yaml:"callback_user" default:"" doc:"The user name that the console has for receipts."`
	CallbackKey   Secret        `yaml:"callback_key" default:"" doc:"The key that signs receipts there. Empty: no signature is looked for."`
}

// PushXiaomi is an app of Mi Push.
type PushXiaomi struct {
	Name          string        `yaml:"name" default:"" doc:"What devices name in App. Empty: the vendor's, xiaomi."`
	Package       string        `yaml:"package" default:"" doc:"The Android package."`
	AppSecret     Secret        `yaml:"app_secret" default:"" doc:"The app secret."`
	Region        string        `yaml:"region" default:"cn" oneof:"cn|global|ru|idmb|fr|sgp" doc:"Where the app is registered."`
	ChannelID     string        `yaml:"channel_id" default:"" doc:"The notification channel where the message names none; it decides between the private and the public class."`
	Intent        string        `yaml:"intent" default:"" doc:"The intent URI of a tap. Empty: the app opens."`
	TimeToLive    time.Duration `yaml:"time_to_live" default:"24h" min:"1s" max:"240h" doc:"How long Xiaomi keeps trying."`
	BaseURL       string        `yaml:"base_url" default:"" doc:"Empty: the region's."`
	ReceiptSecret Secret        `yaml:"receipt_secret" default:"" doc:"The last part of the address for receipts, 16 to 64 letters, digits, - or _. Empty: no receipts."`
}

// PushOPPO is an app of OPPO Push.
type PushOPPO struct {
	Name          string        `yaml:"name" default:"" doc:"What devices name in App. Empty: the vendor's, oppo."`
	Package       string        `yaml:"package" default:"" doc:"Another name that devices may use in App."`
	AppKey        Secret        `yaml:"app_key" default:"" doc:"The app key."`
	MasterSecret  Secret        `yaml:"master_secret" default:"" doc:"The master secret (not the app secret)."`
	ChannelID     string        `yaml:"channel_id" default:"" doc:"The notification channel where the message names none."`
	Category      string        `yaml:"category" default:"" doc:"IM, where the app has that right; else empty."`
	NotifyLevel   int           `yaml:"notify_level" default:"0" min:"0" max:"16" doc:"1: bar; 2: and lock screen; 16: and banner and sound. It needs a category. 0: OPPO's own."`
	ClickActivity string        `yaml:"click_activity" default:"" doc:"The class of the page that a tap opens. Empty: the app opens."`
	TimeToLive    time.Duration `yaml:"time_to_live" default:"24h" min:"1s" max:"240h" doc:"How long OPPO keeps trying."`
	BaseURL       string        `yaml:"base_url" default:"" doc:"For devices in China. Empty: https://api.push.oppomobile.com."`
	GlobalURL     string        `yaml:"global_url" default:"" doc:"For the others. Empty: https://api-intl.push.oppomobile.com."`
	ReceiptSecret Secret        `yaml:"receipt_secret" default:"" doc:"The last part of the address for receipts, 16 to 64 letters, digits, - or _. Empty: no receipts."`
}

// PushVivo is an app of vivo Push.
type PushVivo struct {
	Name          string        `yaml:"name" default:"" doc:"What devices name in App. Empty: the vendor's, vivo."`
	Package       string        `yaml:"package" default:"" doc:"Another name that devices may use in App."`
	AppID         string        `yaml:"app_id" default:"" doc:"The app ID, a number."`
	AppKey        Secret        `yaml:"app_key" default:"" doc:"The app key."`
	AppSecret     Secret        `yaml:"app_secret" default:"" doc:"The app secret."`
	Category      string        `yaml:"category" default:"" doc:"IM, where the app has that right; it wins over operational."`
	Operational   bool          `yaml:"operational" default:"false" doc:"Whether pushes are operational messages (two a device and day) and not system messages."`
	NotifyType    int           `yaml:"notify_type" default:"4" min:"1" max:"4" doc:"1: nothing; 2: ring; 3: vibrate; 4: both."`
	Intent        string        `yaml:"intent" default:"" doc:"The page that a tap opens. Empty: the app opens."`
	TimeToLive    time.Duration `yaml:"time_to_live" default:"24h" min:"1m" max:"24h" doc:"How long vivo keeps trying."`
	BaseURL       string        `yaml:"base_url" default:"" doc:"Empty: https://api-push.vivo.com.cn."`
	ReceiptSecret Secret        `yaml:"receipt_secret" default:"" doc:"The last part of the address for receipts, 16 to 64 letters, digits, - or _. Empty: no receipts."`
	ReceiptID     string        `yaml:"receipt_id" default:"" doc:"The ID of an address for receipts that the console keeps, which is then not sent with each push."`
}

// PushMeizu is an app of Flyme Push.
type PushMeizu struct {
	Name          string        `yaml:"name" default:"" doc:"What devices name in App. Empty: the vendor's, meizu."`
	Package       string        `yaml:"package" default:"" doc:"Another name that devices may use in App."`
	AppID         string        `yaml:"app_id" default:"" doc:"The app ID."`
	AppSecret     Secret        `yaml:"app_secret" default:"" doc:"The app secret."`
	Public        bool          `yaml:"public" default:"false" doc:"Whether pushes are public messages (a few a device and day) and not private ones."`
	Activity      string        `yaml:"activity" default:"" doc:"The page that a tap opens. Empty: the app opens."`
	TimeToLive    time.Duration `yaml:"time_to_live" default:"24h" min:"1h" max:"72h" doc:"How long Meizu keeps trying."`
	URL           string        `yaml:"url" default:"" doc:"Empty: Meizu's."`
	ReceiptSecret Secret        `yaml:"receipt_secret" default:"" doc:"The last part of the address for receipts, 16 to 64 letters, digits, - or _. Empty: no receipts."`
}
