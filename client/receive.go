package client

import (
	"encoding/json"
	"strings"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rookery-im/rookery/group"
)

// received takes what the server publishes to us. It runs in the connection's reader.
func (c *Client) received(p paho.PublishReceived) (bool, error) {
	topic := p.Packet.Topic
	if topic == c.replyTopic {
		if p.Packet.Properties != nil {
			c.replied(p.Packet.Properties.CorrelationData, p.Packet.Payload)
		}
		return true, nil
	}
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	c.queue.add(item{link: l, inbox: !strings.HasPrefix(topic, "groups/"), payload: p.Packet.Payload})
	return true, nil
}

// decodeItem reads what has arrived: a message, or else an event.
func decodeItem(it *item) (m *Message, ev Event, j *eventJSON, err error) {
	var head struct {
		Event   string
		GroupID group.ID `json:"GroupId"`
	}
	if err := json.Unmarshal(it.payload, &head); err != nil {
		return nil, nil, nil, err
	}
	if !it.inbox && (head.Event == "Message" || head.Event == "Tip") {
		var wire messageJSON
		if err := json.Unmarshal(it.payload, &wire); err != nil {
			return nil, nil, nil, err
		}
		msg, err := wire.message("")
		if err != nil {
			return nil, nil, nil, err
		}
		return &msg, nil, nil, nil
	}
	j = new(eventJSON)
	if err := json.Unmarshal(it.payload, j); err != nil {
		return nil, nil, nil, err
	}
	if it.inbox {
		return nil, j.inboxEvent(it.payload), j, nil
	}
	return nil, j.groupEvent(it.payload), j, nil
}
