package broker

import "encoding/binary"

// A framer follows the packet boundaries in what a client sends and takes whole PUBACKs
// out, which would otherwise cost mochi a dozen allocations each. A PUBACK that is cut by
// the end of a read passes through to mochi and comes to us by OnPacketRead.
type framer struct {
	body    int    // bytes left of the packet that is passing
	length  int    // its remaining length, as far as it was read
	header  int    // bytes of its fixed header seen; 0: at a packet's first byte
	packets uint64 // that have ended
	broken  bool   // a length that MQTT does not have: mochi will end the connection
}

const pubackByte = typePuback << 4

// scan drops the PUBACKs from p, calls acked for each, and returns how much of p is left.
func (f *framer) scan(p []byte, strip bool, acked func(id uint16)) int {
	if f.broken {
		return len(p)
	}
	kept := 0
	for i := 0; i < len(p); {
		if f.body > 0 {
			n := min(f.body, len(p)-i)
			if kept != i {
				copy(p[kept:], p[i:i+n])
			}
			kept, i, f.body = kept+n, i+n, f.body-n
			if f.body == 0 {
				f.packets++
			}
			continue
		}
		if strip && f.header == 0 && p[i] == pubackByte && i+4 <= len(p) {
			if n := int(p[i+1]); n >= 2 && n < 0x80 && i+2+n <= len(p) {
				acked(binary.BigEndian.Uint16(p[i+2:]))
				f.packets++
				i += 2 + n
				continue
			}
		}
		b := p[i]
		p[kept] = b
		kept, i = kept+1, i+1
		if f.header == 0 {
			f.header, f.length = 1, 0
			continue
		}
		f.length |= int(b&0x7F) << (7 * (f.header - 1))
		switch {
		case b&0x80 == 0:
			f.body, f.header = f.length, 0
			if f.body == 0 {
				f.packets++
			}
		case f.header == 4:
			f.broken = true
			return kept + copy(p[kept:], p[i:])
		default:
			f.header++
		}
	}
	return kept
}

// within reports whether a packet has begun and not ended.
func (f *framer) within() bool { return f.body > 0 || f.header > 0 }
