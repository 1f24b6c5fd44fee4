package callback

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

// A PushEvent is how far an offline push of a group's message to one device has come.
type PushEvent struct {
	Time     int64 // Unix seconds
	Stage    int   // 1 sent, 2 arrived, 3 clicked
	From, To group.Account
	Platform int // 1 APNs, 2 Xiaomi, 3 Huawei, 4 FCM, 5 Meizu, 6 OPPO, 7 vivo, 8 Honor
	Group    group.ID
	Seq      group.Seq
	Random   uint32
	Sent     int64  // the message's time, Unix seconds
	PushID   string // the vendor's
	ErrCode  int
	ErrInfo  string
}

const (
	offlinePush = "Push.OfflinePush"
	// maxPushEvents is how many events one callback tells.
	maxPushEvents = 100
	// pushQueues is how many of these callbacks are sent side by side.
	pushQueues = 8
)

// Pushed queues Push.OfflinePush callbacks. It does not block; they become durable soon after.
func (o *Outbox) Pushed(events []PushEvent) {
	if !o.client.sends(offlinePush) {
		return
	}
	type entry struct {
		CallbackCommand string
		EventType       int
		EventTime       int64
		From            group.Account `json:"From_Account"`
		To              group.Account `json:"To_Account"`
		PushPlatform    int
		PushStage       int
		GroupID         group.ID
		MsgSeq          group.Seq
		MsgRandom       uint32
		MsgTime         int64
		PushID          string `json:",omitempty"`
		ErrCode         int
		ErrInfo         string
	}
	const ofGroup = 2
	var queues [pushQueues][]PushEvent // what concerns one message stays in order
	for _, e := range events {
		n := uint64(e.Seq) % pushQueues
		queues[n] = append(queues[n], e)
	}
	for n, events := range queues {
		for part := range slices.Chunk(events, maxPushEvents) {
			body := struct{ Events []entry }{}
			for _, e := range part {
				body.Events = append(body.Events, entry{
					offlinePush, ofGroup, e.Time, e.From, e.To, e.Platform, e.Stage, e.Group, e.Seq, e.Random, e.Sent, e.PushID, e.ErrCode, e.ErrInfo,
				})
			}
			raw, err := json.Marshal(body)
			if err != nil {
				o.log.Error("callback body", "command", offlinePush, "err", err)
				return
			}
			o.queueState(storage.Prefix("push", strconv.Itoa(n)), &storage.Callback{Command: offlinePush, Body: raw, Time: time.Now().UnixMilli()}, hooks.Origin{})
		}
	}
}
