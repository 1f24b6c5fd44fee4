package command

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// A census counts different names in at most 16 KiB, whatever their number: up to exactNames
// of them exactly, above that by a HyperLogLog, whose standard error is 0.8 %. What several
// of them have seen can be put together, so that a count goes on after a restart. Names are
// kept as hashes alone.
type census struct {
	few       map[uint64]struct{}
	registers []byte // once there were more than exactNames; few is nil then
}

const (
	exactNames   = 2048
	registerBits = 14
	registers    = 1 << registerBits
)

// hashName is FNV-1a with a final mix, so that all bits are as good.
func hashName(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (d *census) add(hash uint64) {
	if d.registers == nil {
		if d.few == nil {
			d.few = make(map[uint64]struct{})
		}
		d.few[hash] = struct{}{}
		if len(d.few) <= exactNames {
			return
		}
		d.registers = make([]byte, registers)
		for h := range d.few {
			d.note(h)
		}
		d.few = nil
		return
	}
	d.note(hash)
}

// note enters a hash into the registers: its first bits choose one, which keeps the longest run
// of zeros that it has seen in the rest.
func (d *census) note(hash uint64) {
	r := hash >> (64 - registerBits)
	run := byte(bits.LeadingZeros64(hash<<registerBits|1<<(registerBits-1)) + 1)
	d.registers[r] = max(d.registers[r], run)
}

// merge adds all that o has seen.
func (d *census) merge(o *census) {
	for h := range o.few {
		d.add(h)
	}
	if o.registers == nil {
		return
	}
	if d.registers == nil {
		d.registers = make([]byte, registers)
		for h := range d.few {
			d.note(h)
		}
		d.few = nil
	}
	for i, run := range o.registers {
		d.registers[i] = max(d.registers[i], run)
	}
}

func (d *census) count() int64 {
	if d.registers == nil {
		return int64(len(d.few))
	}
	sum, empty := 0.0, 0
	for _, run := range d.registers {
		sum += math.Ldexp(1, -int(run))
		if run == 0 {
			empty++
		}
	}
	const m = float64(registers)
	if estimate := 0.7213 / (1 + 1.079/m) * m * m / sum; estimate > 2.5*m || empty == 0 {
		return int64(math.Round(estimate))
	}
	return int64(math.Round(m * math.Log(m/float64(empty)))) // better while registers are empty
}

// bytes returns what is stored: the hashes, or the registers, which are longer.
func (d *census) bytes() []byte {
	if d.registers != nil {
		return append([]byte{1}, d.registers...)
	}
	out := make([]byte, 1, 1+8*len(d.few))
	for h := range d.few {
		out = binary.BigEndian.AppendUint64(out, h)
	}
	return out
}

// readCensus reads what bytes has made; anything else counts nothing.
func readCensus(b []byte) *census {
	d := &census{}
	switch {
	case len(b) == 1+registers && b[0] == 1:
		d.registers = slices.Clone(b[1:])
	case len(b) > 0 && b[0] == 0:
		for h := range slices.Chunk(b[1:], 8) {
			if len(h) == 8 {
				d.add(binary.BigEndian.Uint64(h))
			}
		}
	}
	return d
}
