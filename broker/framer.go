package broker

import "encoding/binary"

// A framer follows the packet boundaries in what a client sends and takes whole PUBACKs
// out, which would otherwise cost mochi a dozen allocations each. A PUBACK that is cut by
// the end of a read passes through to mochi and comes to us by OnPacketRead.
//
// With a grammar, of a packet with a fault mochi gets to see no more than a part, and of what
// follows nothing.
type framer struct {
	body    int    // bytes left of the packet that is passing
	length  int    // its remaining length, as far as it was read
	header  int    // bytes of its fixed header seen; 0: at a packet's first byte
	first   byte   // of its fixed header
	packets uint64 // that have ended
	broken  bool   // nothing more is looked at: a length that MQTT does not have, or a fault

	grammar grammar
	begun   []byte // what has passed of a packet that the grammar must see whole
	seen    bool   // the grammar has seen what it needs of this one
}

const pubackByte = typePuback << 4

// scan drops the PUBACKs from p, calls acked for each, and returns how much of p is left.
func (f *framer) scan(p []byte, strip bool, acked func(id uint16)) int {
	switch {
	case f.grammar.fault != nil:
		return 0
	case f.broken:
		return len(p)
	}
	kept := 0
	for i := 0; i < len(p); {
		if f.body > 0 {
			n := min(f.body, len(p)-i)
			if f.grammar.max > 0 && !f.seen && f.faulty(p[i:i+n]) {
				return kept
			}
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
				if n > 2 && f.grammar.max > 0 {
					if f.fail(f.grammar.body(pubackByte, p[i+2:i+2+n])) {
						return kept
					}
				}
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
			f.header, f.length, f.first = 1, 0, b
			continue
		}
		f.length |= int(b&0x7F) << (7 * (f.header - 1))
		switch {
		case b&0x80 == 0:
			if f.grammar.max > 0 && f.startsFaulty() {
				return kept - 1 // so that mochi waits for the rest
			}
			f.body, f.header = f.length, 0
			if f.body == 0 {
				f.packets++
			}
		case f.header == 4:
			if f.grammar.max > 0 {
				f.fail(malformed("a remaining length of more than four bytes"))
				return kept - 1
			}
			f.broken = true
			return kept + copy(p[kept:], p[i:])
		default:
			f.header++
		}
	}
	return kept
}

// fail notes a fault, if there is one.
func (f *framer) fail(why *fault) bool {
	if why != nil {
		f.grammar.fault, f.broken, f.begun = why, true, nil
	}
	return why != nil
}

// startsFaulty looks at a fixed header that has just ended.
func (f *framer) startsFaulty() bool {
	f.begun, f.seen = nil, false
	if f.fail(f.grammar.start(f.first, 1+f.header+f.length)) {
		return true
	}
	return f.length == 0 && f.fail(f.grammar.body(f.first, nil))
}

// faulty looks at the next part of a packet's body. A part that is not the last is kept, but of
// a PUBLISH usually the first one says all.
func (f *framer) faulty(part []byte) bool {
	last := len(part) == f.body
	if !last && (f.first>>4 != typePublish || len(f.begun) > 0) {
		f.begun = append(f.begun, part...)
		return false
	}
	if len(f.begun) > 0 {
		part = append(f.begun, part...)
	}
	why := f.grammar.body(f.first, part)
	if why == errShort && !last {
		f.begun = append(f.begun, part...)
		return false
	}
	f.begun, f.seen = nil, true
	return f.fail(why)
}

// within reports whether a packet has begun and not ended.
func (f *framer) within() bool { return f.body > 0 || f.header > 0 }
