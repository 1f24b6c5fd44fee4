// Package wire decodes requests and encodes answers whose JSON is that of Tencent IM's commands.
//
// It is what encoding/json can't be told to do: one Go field has the names of two
// generations, a list is never null, and clients of loosely typed languages are understood.
// The same structs serve REST and RPC over MQTT, and [Fields] describes them for the
// documentation, so that the two can't drift.
//
// # Struct tags
//
//	json:"MuteTime"           canonical name, with ,omitempty or ,omitzero; "-" hides the field
//	alias:"ShutUpTime,…"      further names that Unmarshal accepts; the earlier one wins
//	also:"ShutUpTime,…"       further names under which Marshal repeats the value
//	wire:"required"           Unmarshal refuses a request in which the member is absent or null
//	wire:"account"            a UserID or a list of them: JSON strings only, refused as KindAccount
//	wire:"text"               a string that may also arrive as a number, whose literal is kept
//	wire:"int32"              Marshal refuses an integer that needs more than 32 bits, signed
//	wire:"always"             a Filter never leaves the member out
//	type:"array"              what a json.RawMessage must be: array, object or string
//	doc:"…"                   a sentence for the documentation
//
// # What a zero means
//
// In an optional member null, "", 0 and [] mean "not given", whatever its type. So a plain
// field's zero value stands for "not given", and a pointer is used where zero is a command:
// it is nil unless the member came. A required member may be zero, but it must be there.
//
// Plans are built once per type; all functions are safe for concurrent use.
package wire
