package broker

import (
	"bytes"
	"slices"
	"testing"
)

// However a stream is cut into reads, what passes plus the PUBACKs that were taken is the
// stream, and packets are counted right.
func FuzzFramer(f *testing.F) {
	f.Add([]byte{0x40, 2, 0, 1, 0xC0, 0, 0x40, 2, 0, 2}, uint8(3))
	f.Add([]byte{0x30, 5, 0x40, 2, 0, 1, 9, 0x40, 3, 0, 2, 0}, uint8(1))
	f.Add([]byte{0x30, 0x80, 0x80, 0x80, 0x80, 1, 0x40, 2, 0, 1}, uint8(9))
	f.Add([]byte{0x40, 1, 0, 0x40, 0x82, 0, 0, 1}, uint8(20))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		whole, broken := split(stream)
		var fr framer
		var passed []byte
		var acked []uint16
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), int(cut)+1)
			chunk := slices.Clone(rest[:n])
			rest = rest[n:]
			kept := fr.scan(chunk, true, func(id uint16) { acked = append(acked, id) })
			passed = append(passed, chunk[:kept]...)
		}
		var wantPassed []byte
		var ids, passedIDs []uint16
		for _, p := range whole {
			if p[0] == pubackByte && len(p) >= 4 && len(p) < 2+0x80 && p[1] < 0x80 {
				ids = append(ids, uint16(p[2])<<8|uint16(p[3]))
			} else {
				wantPassed = append(wantPassed, p...)
			}
		}
		// A PUBACK that a read cut in two has passed instead of being taken.
		got, _ := split(passed)
		var rest []byte
		for _, p := range got {
			if p[0] == pubackByte && len(p) >= 4 && len(p) < 2+0x80 && p[1] < 0x80 {
				passedIDs = append(passedIDs, uint16(p[2])<<8|uint16(p[3]))
			} else {
				rest = append(rest, p...)
			}
		}
		all := append(acked, passedIDs...)
		slices.Sort(all)
		slices.Sort(ids)
		if !slices.Equal(all, ids) && !broken {
			t.Errorf("%x in reads of %d: PUBACKs %v were taken and %v passed, want %v", stream, cut+1, acked, passedIDs, ids)
		}
		if !bytes.Equal(rest, wantPassed) && !broken {
			t.Errorf("%x in reads of %d: %x passed, want %x", stream, cut+1, rest, wantPassed)
		}
		if !broken && !fr.within() && fr.packets != uint64(len(whole)) {
			t.Errorf("%x in reads of %d: %d packets counted, want %d", stream, cut+1, fr.packets, len(whole))
		}
	})
}

// split cuts a stream into packets; the last may be incomplete.
func split(stream []byte) (whole [][]byte, broken bool) {
	for len(stream) > 0 {
		n, shift, i := 0, 0, 1
		for ; i < len(stream) && i <= 4; i++ {
			n |= int(stream[i]&0x7F) << shift
			shift += 7
			if stream[i]&0x80 == 0 {
				break
			}
		}
		if i > 4 {
			return append(whole, stream), true
		}
		end := min(len(stream), i+1+n)
		whole = append(whole, stream[:end])
		stream = stream[end:]
	}
	return whole, false
}

func TestFramerPassesPacketsThatCrossReads(t *testing.T) {
	var fr framer
	var acked []uint16
	var passed []byte
	for _, read := range [][]byte{{0x30, 4, 1}, {2, 3}, {4, 0x40, 2, 0}, {7, 0x40, 2, 0, 8, 0xC0, 0}} {
		n := fr.scan(read, true, func(id uint16) { acked = append(acked, id) })
		passed = append(passed, read[:n]...)
	}
	if want := []byte{0x30, 4, 1, 2, 3, 4, 0x40, 2, 0, 7, 0xC0, 0}; !bytes.Equal(passed, want) {
		t.Errorf("passed %x, want %x", passed, want)
	}
	if !slices.Equal(acked, []uint16{8}) || fr.packets != 4 {
		t.Errorf("acked %v, %d packets; want [8], 4", acked, fr.packets)
	}
}
