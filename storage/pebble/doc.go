// Package pebble is Rookery's embedded store: storage.Store on a Pebble database in one
// folder, owned by one process.
//
// # Durability
//
// With Sync "always" a write returns nil after its batch is in the write-ahead log and the log
// is fsynced. Writers of different groups share fsyncs: while one runs, the batches of all
// others gather for the next. A failed fsync is never answered and never tried again, because
// the kernel may have dropped the pages that it could not write: Config.OnFatal is called
// once and nothing is acknowledged any more. With Sync "interval" writes return at once and the log
// is fsynced in the background; a power loss costs the last interval, a crash of the process
// costs what the operating system had not been given.
//
// Messages are shown to readers when they are durable. Records are visible to other callers as
// soon as they are in the log, a moment before their writer is answered.
//
// # A full disk
//
// Below the reserve (Config.ReserveBytes) all writes but Drop and Sweep, which free space, are
// refused with storage.ErrReadOnly; they resume by themselves. When a write meets a full disk
// nevertheless, the store holds that write back and repeats it until it goes through: Pebble
// can't go on after a failed write to its log, and what was handed to it must not be lost.
// Whoever waits for it is answered storage.ErrUnavailable, its group takes no other append
// until the outcome is known, and everything else is refused with ErrReadOnly. Reads go on.
//
// # Key space
//
// Version storage.SchemaVersion. Numbers are 8 bytes, big endian. GROUP is the group's id,
// percent-encoded by storage.Key, a zero byte (which no encoded id contains, so that no group's
// range lies inside another's), and the incarnation.
//
//	'h' GROUP                 the head of a log (see head)
//	'm' GROUP SEQ             a message (storage.EncodeMessage)
//	'e' HOUR GROUP SEQ        a run: from SEQ on, messages of the group expire in HOUR (hours since
//	                          1970). Value: the log's generation, and the SEQ after the run; 0
//	                          while the run is the group's last.
//	'x' HOUR GROUP            the group has messages of HOUR. Value: generation, SEQ of the first
//	't' TABLE 0 KEY           a record
//
// Runs and hours are written with the batch in which a group's hour changes, so that they cost
// nothing to the other messages of that hour. A log's generation is drawn when its first
// message is written; index entries of another generation were left by a log that was
// dropped, and mean nothing.
//
// # Memory
//
// Heads of logs are remembered (groups), and what all members of a group read when they log in:
// its records, decoded, and its last message (shared). Both are bounded, and a write changes or
// forgets what it makes stale before it is answered.
package pebble
