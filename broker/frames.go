package broker

import "github.com/rookery-im/rookery/group"

// frames is a run of PUBLISH packets, encoded once for one version of MQTT and one QoS, and
// shared by the queues of all who get them. It is never changed; the packet identifiers in
// it are zero and filled in where it is written.
type frames struct {
	buf     []byte
	ends    []uint32    // where each packet ends
	ids     []uint32    // where each packet's identifier is; nil at QoS 0
	longest int         // bytes of the longest packet
	room    *room       // nil for an inbox
	seqs    []group.Seq // of the messages in it, 0 for what has none; nil for an inbox
}

// add encodes one more packet. It is for whoever makes the frames.
func (f *frames) add(v5 bool, qos byte, topic string, props, payload []byte) {
	from := len(f.buf)
	var id int
	f.buf, id = appendPublish(f.buf, v5, qos, topic, props, payload)
	f.ends = append(f.ends, uint32(len(f.buf)))
	if qos > 0 {
		f.ids = append(f.ids, uint32(id))
	}
	f.longest = max(f.longest, len(f.buf)-from)
}

// start returns where packet i starts.
func (f *frames) start(i uint32) int {
	if i == 0 {
		return 0
	}
	return int(f.ends[i-1])
}

// bytes returns the size of the packets from ≤ i < to.
func (f *frames) bytes(from, to uint32) int { return f.start(to) - f.start(from) }

// fit returns how many packets from from on fit into n bytes, but at least one.
func (f *frames) fit(from uint32, n int) uint32 {
	if f.bytes(from, uint32(len(f.ends))) <= n {
		return uint32(len(f.ends)) - from
	}
	limit := uint32(f.start(from) + n)
	i := from + 1
	for i < uint32(len(f.ends)) && f.ends[i] <= limit {
		i++
	}
	return i - from
}

// A published makes the frames of a run of publishes on one topic for whichever versions and
// QoS its receivers turn out to have.
type published struct {
	room     *room
	topic    string
	props    []byte // MQTT 5 properties
	payloads [][]byte
	seqs     []group.Seq
	made     [2][2]*frames // by MQTT 5 or not, QoS
}

func (p *published) frames(v5 bool, qos byte) *frames {
	v := 0
	if v5 {
		v = 1
	}
	if f := p.made[v][qos]; f != nil {
		return f
	}
	f := &frames{room: p.room, seqs: p.seqs, ends: make([]uint32, 0, len(p.payloads))}
	size := 0
	for _, b := range p.payloads {
		size += len(b) + len(p.topic) + 16
	}
	f.buf = make([]byte, 0, size+len(p.props)*len(p.payloads))
	if qos > 0 {
		f.ids = make([]uint32, 0, len(p.payloads))
	}
	for _, b := range p.payloads {
		f.add(v5, qos, p.topic, p.props, b)
	}
	p.made[v][qos] = f
	return f
}
