// Package client lets a Go program take part in Rookery's groups.
//
// [Dial] logs in, and from then on the client keeps itself connected: it reconnects with
// backoff and full jitter, with a new UserSig each time, until [Client.Close] or until the server
// logs it out. The handlers of [Config] are called one at a time, by one goroutine, in this order:
//
//  1. after a login, OnNewMessage for what is new to this client. A group that the [Store]
//     knows nothing of is shown by its latest message if it is among the recent conversations; of
//     the others comes all that was missed, oldest first. What happened to messages that were shown
//     before, and how the account came out of groups, OnEvent is told, as if it happened now;
//  2. OnRefresh: [Client.Conversations] is complete and right;
//  3. OnNewMessage and OnEvent as things happen.
//
// Messages of one group are shown strictly by SEQ, each once for the life of the Store. What is
// missing between two of them is pulled from roaming history before the later one is shown. Only
// what history can't give any more is left out, and then OnEvent is told of the [Gap].
//
// A handler that takes long holds up the others and nothing else: what arrives meanwhile
// waits in a queue of bounded size, and what does not fit there is pulled later. A handler may call
// every method except Close.
//
// Errors of the server are *[Error], with a code and a sentence. A request whose connection
// was lost before its answer came is repeated if repeating does no harm; otherwise the error is
// [ErrOutcomeUnknown]. Sending a message can always be repeated: see [Client.Send].
package client
