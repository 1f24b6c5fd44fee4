package crash

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A conn is an MQTT connection with no more than the tests need: a few hundred of them
// must cost less than the broker that they watch.
type conn struct {
	net.Conn
	version byte
	mu      sync.Mutex // guards writing
	r       *bufio.Reader
}

// An ack is what a PUBACK says.
type ack struct {
	id     uint16
	reason byte
	text   string
	props  map[string]string
}

// dial connects as user with a client identifier and waits for the CONNACK, 10 s at most or
// until ctx's deadline.
func dial(ctx context.Context, addr, user, password, clientID string) (*conn, error) {
	return dialVersion(ctx, 5, addr, user, password, clientID)
}

// dialVersion is dial with MQTT 5, or with 3.1.1, whose version is 4.
func dialVersion(ctx context.Context, version byte, addr, user, password, clientID string) (*conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, version: version, r: bufio.NewReaderSize(nc, 4096)}
	body := append([]byte{0, 4}, "MQTT"...)
	body = append(body, version, 0xC2, 0, 60)
	if version >= 5 {
		body = append(body, 0)
	}
	for _, s := range []string{clientID, user, password} {
		body = appendString(body, s)
	}
	if err := c.send(0x10, body); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	limit, ok := ctx.Deadline()
	if !ok {
		limit = time.Now().Add(10 * time.Second)
	}
	_ = nc.SetReadDeadline(limit) // a dead connection shows at the read
	kind, body, err := c.read()
	if err == nil && (kind>>4 != 2 || len(body) < 2 || body[1] != 0) {
		err = fmt.Errorf("no CONNACK with success: %x % x", kind, body)
	}
	if err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	_ = nc.SetReadDeadline(time.Time{})
	return c, nil
}

// subscribe sends a SUBSCRIBE and waits for its SUBACK; nothing else may be under way.
func (c *conn) subscribe(filter string, qos byte) error {
	body := append(appendString([]byte{0, 1, 0}, filter), qos)
	if err := c.send(0x82, body); err != nil {
		return err
	}
	for {
		kind, body, err := c.read()
		if err != nil {
			return err
		}
		if kind>>4 == 9 {
			if code := body[len(body)-1]; code > 2 {
				return fmt.Errorf("SUBSCRIBE %s: reason 0x%02X", filter, code)
			}
			return nil
		}
	}
}

// publish sends a PUBLISH with QoS 1.
func (c *conn) publish(topic string, id uint16, dup bool, payload []byte) error {
	body := appendString(nil, topic)
	body = binary.BigEndian.AppendUint16(body, id)
	if c.version >= 5 {
		body = append(body, 0)
	}
	head := byte(0x32)
	if dup {
		head |= 8
	}
	return c.send(head, append(body, payload...))
}

func (c *conn) send(kind byte, body []byte) error {
	b := binary.AppendUvarint([]byte{kind}, uint64(len(body))) // MQTT's variable byte integer is the same encoding
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Write(append(b, body...))
	return err
}

// read returns the next packet's first byte and the rest after its length.
func (c *conn) read() (kind byte, body []byte, err error) {
	kind, err = c.r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		return 0, nil, err
	}
	if n > 1<<20 {
		return 0, nil, fmt.Errorf("packet of %d bytes", n)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return kind, body, err
}

// parsePublish returns the payload of a PUBLISH and, for QoS 1, its packet identifier.
func parsePublish(kind byte, body []byte) (topic string, id uint16, payload []byte, err error) {
	topic, rest, err := cutString(body)
	if err != nil {
		return "", 0, nil, err
	}
	if kind&6 != 0 {
		if len(rest) < 2 {
			return "", 0, nil, io.ErrUnexpectedEOF
		}
		id, rest = binary.BigEndian.Uint16(rest), rest[2:]
	}
	n, w := binary.Uvarint(rest)
	if w <= 0 || uint64(len(rest)-w) < n {
		return "", 0, nil, io.ErrUnexpectedEOF
	}
	return topic, id, rest[w+int(n):], nil
}

// parseAck reads a PUBACK.
func parseAck(body []byte) (a ack, err error) {
	if len(body) < 2 {
		return a, io.ErrUnexpectedEOF
	}
	a.id = binary.BigEndian.Uint16(body)
	if body = body[2:]; len(body) == 0 {
		return a, nil
	}
	a.reason = body[0]
	if body = body[1:]; len(body) == 0 {
		return a, nil
	}
	n, w := binary.Uvarint(body)
	if w <= 0 || uint64(len(body)-w) < n {
		return a, io.ErrUnexpectedEOF
	}
	props := body[w : w+int(n)]
	for len(props) > 0 {
		id := props[0]
		var s, v string
		switch s, props, err = cutString(props[1:]); {
		case err != nil:
			return a, err
		case id == 0x1F:
			a.text = s
		case id == 0x26:
			if v, props, err = cutString(props); err != nil {
				return a, err
			}
			if a.props == nil {
				a.props = make(map[string]string)
			}
			a.props[s] = v
		default:
			return a, fmt.Errorf("property 0x%02X in a PUBACK", id)
		}
	}
	return a, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func cutString(b []byte) (s string, rest []byte, err error) {
	if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
		return "", nil, io.ErrUnexpectedEOF
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	return string(b[2:n]), b[n:], nil
}
