package broker

import "hash/maphash"

// places finds the members of a large room by their user: a hash table with open addressing of
// where they are in the room's list. It takes 4 bytes a slot, where a map takes 40 and more.
type places struct {
	slots []uint32 // place+1; 0: free
	used  int
}

var placesSeed = maphash.MakeSeed()

// home is the slot where a search for u begins.
func (p *places) home(u *user) int {
	h := maphash.Comparable(placesSeed, u)
	return int(h >> 32 * uint64(len(p.slots)) >> 32)
}

func (p *places) next(i int) int {
	if i++; i == len(p.slots) {
		return 0
	}
	return i
}

// slot returns the slot that says where u is in members, or the free one where it would be.
func (p *places) slot(u *user, members []member) int {
	i := p.home(u)
	for p.slots[i] != 0 && members[p.slots[i]-1].u != u {
		i = p.next(i)
	}
	return i
}

// find returns u's place in members, or -1.
func (p *places) find(u *user, members []member) int {
	return int(p.slots[p.slot(u, members)]) - 1
}

// put notes the place of u, who has none yet. Those before it are in the table.
func (p *places) put(u *user, place int, members []member) {
	if p.used*8 >= len(p.slots)*7 {
		p.rebuild(members[:place])
	}
	p.used++
	p.slots[p.slot(u, members)] = uint32(place + 1)
}

// move notes another place of u, who is where the table says when it is called.
func (p *places) move(u *user, place int, members []member) {
	p.slots[p.slot(u, members)] = uint32(place + 1)
}

// rebuild makes the table anew with room for a quarter more than members.
func (p *places) rebuild(members []member) {
	p.slots = make([]uint32, len(members)*10/7+8)
	p.used = len(members)
	for place, m := range members {
		i := p.home(m.u)
		for p.slots[i] != 0 {
			i = p.next(i)
		}
		p.slots[i] = uint32(place + 1)
	}
}

// remove forgets u, who is in members. What a search for others would have passed by moves up.
func (p *places) remove(u *user, members []member) {
	free := p.slot(u, members)
	for i := p.next(free); p.slots[i] != 0; i = p.next(i) {
		home := p.home(members[p.slots[i]-1].u)
		// Only if its search begins at the free slot or before it, going round from i.
		if (i-home+len(p.slots))%len(p.slots) >= (i-free+len(p.slots))%len(p.slots) {
			p.slots[free] = p.slots[i]
			free = i
		}
	}
	p.slots[free] = 0
	p.used--
}
