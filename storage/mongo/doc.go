// Package mongo keeps messages and records in MongoDB.
//
// Correctness rests on one primitive, the insert of a document whose _id is not there yet: a
// message's _id names its group and its SEQ, so that of two writers at the same place only one
// can win, whatever either of them believes. Nothing is counted by an update and nothing is
// compared and set by one. Writes wait for the majority and its journal, reads see what the
// majority has, and every call has a deadline.
//
// A write of which nobody knows whether it happened (a timeout, a cut connection, a change of
// the primary) is answered with storage.ErrUnavailable, and the next append of that group
// reads the log's end before it writes. A duplicate key means "read that place": the same MsgID
// there is our own message, any other one belongs to another owner of the group.
//
// Writes of many groups share round trips: see committer. docs/storage-mongo.md lists the
// collections, their fields and indexes with the query that each serves, and the commands for
// a sharded cluster.
package mongo
