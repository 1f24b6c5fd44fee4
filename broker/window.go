package broker

// A window bounds the QoS 1 deliveries that wait for their PUBACK. Packet identifiers are
// ours alone, taken in turn, and an acknowledgement that comes out of turn widens the window
// only when those before it have come: clients acknowledge in order [MQTT-4.6.0-2].
//
// The zero window with a size is ready to use. Its bitmap is made at the first delivery, so
// that connections that get none do not pay for it.
type window struct {
	size    uint64
	oldest  uint64 // the first delivery that is not acknowledged
	next    uint64 // the delivery that comes next; its packet identifier is idOf(next)
	pending []uint64
}

func idOf(n uint64) uint16 { return uint16(n%maxPacketID) + 1 }

// open reports whether another delivery may be sent.
func (w *window) open() bool { return w.next-w.oldest < w.size }

// take returns the packet identifier of the next delivery. The window must be open.
func (w *window) take() uint16 {
	if w.pending == nil {
		w.pending = make([]uint64, (w.size+63)/64)
	}
	word, bit := w.place(w.next)
	w.pending[word] |= bit
	id := idOf(w.next)
	w.next++
	return id
}

// ack takes a PUBACK; one for an identifier that is not pending changes nothing. It reports
// whether the window moved.
func (w *window) ack(id uint16) bool {
	if id == 0 || w.oldest == w.next {
		return false
	}
	ahead := (uint64(id) - 1 + maxPacketID - w.oldest%maxPacketID) % maxPacketID
	if ahead >= w.next-w.oldest {
		return false
	}
	word, bit := w.place(w.oldest + ahead)
	w.pending[word] &^= bit
	if ahead > 0 {
		return false
	}
	for w.oldest < w.next {
		if word, bit = w.place(w.oldest); w.pending[word]&bit != 0 {
			break
		}
		w.oldest++
	}
	return true
}

func (w *window) place(n uint64) (word int, bit uint64) {
	slot := n % (uint64(len(w.pending)) * 64)
	return int(slot / 64), 1 << (slot % 64)
}
