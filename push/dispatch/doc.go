// Package dispatch decides who gets a push for a message, and sees to it that it is sent.
//
// A message that may be pushed leaves a job in the store, in the same write as the message
// itself; the lane does nothing per member. A [Dispatcher] works the jobs off in the
// background: page by page it looks at the group's members and writes tasks, each some devices
// of one provider app, together with how far it has come. Every provider app has a line of its
// own that sends its tasks, so that a slow or dead vendor holds up nobody else.
//
// What is durable at each step: the job with the message; the tasks of a page with the job's
// progress; the end of a task (or what is left of it, to be tried again) after the vendor has
// answered; the end of some of its devices while the others wait for an answer. So no device is
// missed when the process dies, and one is pushed to twice only where the vendor's answer was
// lost or had not been recorded yet: at most the calls that were under way. Such a push carries the same replace key, so that the device shows it once.
//
// Bounds: the queue holds Config.QueueEntries; past it the oldest entries that are not of High
// messages are dropped first, then the oldest of all. A push is dropped when its message is
// older than Config.Deadline. A group that sends much is collapsed: see Config.CollapseAfter.
//
// Several workers share a queue by leases on its partitions; a group's partition follows from
// its id. A partition changes hands when its lease ends or its worker gives it up.
package dispatch
