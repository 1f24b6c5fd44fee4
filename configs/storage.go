package configs

import "time"

// Storage chooses and shapes the store.
type Storage struct {
	Driver           string        `yaml:"driver" default:"pebble" oneof:"pebble|mongo" doc:"pebble: embedded, in the data folder; mongo: a MongoDB server."`
	Sync             string        `yaml:"sync" default:"always" oneof:"always|interval" doc:"always: a message is on disk before it is acknowledged; interval: up to sync_interval of acknowledged messages may be lost in a power cut. MongoDB: always means majority and journal."`
	SyncInterval     time.Duration `yaml:"sync_interval" default:"100ms" min:"1ms" max:"1m" doc:"How often the disk is told to write, with sync: interval."`
	FreeSpaceReserve Size          `yaml:"free_space_reserve" default:"256MiB" min:"0" max:"1TiB" doc:"Below so much free disk space nothing more is accepted; reading goes on, and writing resumes when there is space again. 0: no reserve."`
	Pebble           Pebble        `yaml:"pebble" doc:"The embedded store."`
	Mongo            Mongo         `yaml:"mongo" doc:"MongoDB."`
}

// Pebble shapes the embedded store.
type Pebble struct {
	CacheSize    Size `yaml:"cache_size" default:"64MiB" min:"1MiB" max:"1TiB" doc:"Memory for blocks that were read."`
	GroupCache   Size `yaml:"group_cache_size" default:"32MiB" min:"1MiB" max:"1TiB" doc:"Memory for the records and last messages of groups, of which all members who log in read the same."`
	MemTableSize Size `yaml:"memtable_size" default:"16MiB" min:"1MiB" max:"2GiB" doc:"Memory for each table of fresh writes, of which there are up to four."`
	MaxOpenFiles int  `yaml:"max_open_files" default:"512" min:"32" max:"1000000" unit:"files" doc:"How many table files are kept open."`
}

// Mongo shapes the MongoDB store.
type Mongo struct {
	URI            Secret        `yaml:"uri" default:"" doc:"The connection string, mongodb://… or mongodb+srv://…, password included."`
	Database       string        `yaml:"database" default:"rookery" doc:"The database's name."`
	PoolSize       int           `yaml:"pool_size" default:"100" min:"1" max:"10000" unit:"connections" doc:"The most connections to each server."`
	ConnectTimeout time.Duration `yaml:"connect_timeout" default:"5s" min:"100ms" max:"1m" doc:"How long a connection may take to open, and a server to be found."`
	Timeout        time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"10s" doc:"How long one operation may take."`
	BatchDocuments int           `yaml:"batch_documents" default:"1000" min:"1" max:"100000" unit:"documents" doc:"The most messages of several groups that one insert carries."`
	BatchBytes     Size          `yaml:"batch_bytes" default:"8MiB" min:"64KiB" max:"40MiB" doc:"The most bytes that one insert carries."`
	InFlight       int           `yaml:"in_flight" default:"8" min:"1" max:"1000" unit:"inserts" doc:"How many inserts may be under way, each for other groups."`
}
