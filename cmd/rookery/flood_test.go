package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/rookery-im/rookery/usersig"
)

const floodSecret = "a secret of sixteen"

func mqttClient(t *testing.T, s *server, user, id string, heard func(*paho.Publish)) *paho.Client {
	t.Helper()
	conn, err := net.Dial("tcp", s.addrs["mqtt"])
	if err != nil {
		t.Fatal(err)
	}
	sig, err := usersig.Generate(usersig.App{ID: 1400000001, Secret: floodSecret}, user, time.Now(), time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), PacketTimeout: time.Minute}
	if heard != nil {
		cfg.OnPublishReceived = []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) { heard(p.Packet); return true, nil }}
	}
	c := paho.NewClient(cfg)
	ack, err := c.Connect(t.Context(), &paho.Connect{ClientID: id, Username: user, UsernameFlag: true, Password: []byte(sig), PasswordFlag: true, KeepAlive: 60, CleanStart: true})
	if err != nil {
		t.Fatalf("%s: %v %+v", user, err, ack)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c
}

// TestAFloodFromOutside sends many times the limit in Low, and a few High, and looks at what a
// subscriber sees and what the senders are told.
func TestAFloodFromOutside(t *testing.T) {
	const seconds, flooders, low, high, limit = 4, 10, 1000, 5, 40
	s := startServer(t, []string{"ROOKERY_APP_SECRET=" + floodSecret}, "--data-dir", filepath.Join(t.TempDir(), "data"))
	type seen struct {
		Event       string
		MsgSeq      int
		MsgTime     int64
		MsgPriority string
	}
	var mu sync.Mutex
	var got []seen
	perSecond := map[int64]int{}
	highs := 0
	lastHigh := make(chan struct{})
	alice := mqttClient(t, s, "alice", "a", func(p *paho.Publish) {
		var m seen
		if err := json.Unmarshal(p.Payload, &m); err != nil || m.Event != "Message" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, m)
		perSecond[m.MsgTime]++
		if m.MsgPriority == "High" {
			if highs++; highs == seconds*high {
				close(lastHigh)
			}
		}
	})
	members := ""
	clients := make([]*paho.Client, flooders)
	for i := range clients {
		user := fmt.Sprint("user", i)
		clients[i] = mqttClient(t, s, user, "f", nil)
		members += fmt.Sprintf(`,{"Member_Account":%q}`, user)
	}
	rest(t, s, floodSecret, "group_open_http_svc/create_group", `{"Type":"Public","GroupId":"g1","Name":"n","Owner_Account":"alice","MemberList":[`+members[1:]+`]}`)
	if _, err := alice.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "groups/g1", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	var acked, failed atomic.Int64
	var sending sync.WaitGroup
	publish := func(c *paho.Client, priority string, n int, every time.Duration) {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := range n {
			<-tick.C
			sending.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				body := bytes.NewBufferString(fmt.Sprintf(`{"Random":%d,"MsgPriority":%q,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}]}`, i+1, priority))
				if _, err := c.Publish(ctx, &paho.Publish{QoS: 1, Topic: "groups/g1", Payload: body.Bytes()}); err != nil {
					failed.Add(1)
					return
				}
				acked.Add(1)
			})
		}
	}
	for _, c := range clients {
		sending.Go(func() { publish(c, "Low", seconds*low/flooders, time.Second*flooders/low) })
	}
	sending.Go(func() { publish(alice, "High", seconds*high, time.Second/high) })
	sending.Wait()
	<-lastHigh
	if acked.Load() != seconds*(low+high) || failed.Load() != 0 {
		t.Errorf("%d messages acknowledged, %d not, want all %d", acked.Load(), failed.Load(), seconds*(low+high))
	}
	mu.Lock()
	defer mu.Unlock()
	for i, m := range got {
		if i > 0 && m.MsgSeq != got[i-1].MsgSeq+1 {
			t.Errorf("SEQ %d after %d", m.MsgSeq, got[i-1].MsgSeq)
		}
	}
	for at, n := range perSecond {
		if n > limit {
			t.Errorf("%d messages in second %d", n, at)
		}
	}
	if len(got) < (seconds-1)*limit {
		t.Errorf("%d messages in %d seconds: the limit was not used", len(got), seconds)
	}
	t.Logf("%d sent, %d delivered, per second %v", acked.Load(), len(got), perSecond)
}
