package client

import (
	"context"
	"maps"
	"sync"

	"github.com/rookery-im/rookery/group"
)

// A Position is how far a client has come in a group.
type Position struct {
	// Shown is the highest SEQ that was shown or is known not to be for this client.
	Shown group.Seq
	// Read is the highest SEQ that the account has read, as far as this client knows.
	Read group.Seq
	// Joined tells one membership from the next, and one group from a later one of the same id.
	// Zero: not known yet.
	Joined int64
	// Changed is the number of the last change of the group's messages that OnEvent was told of.
	Changed int64
}

// A Store keeps the Positions of one account on one device. With one that survives the program,
// the next Dial shows what was missed since. The client calls it from one goroutine at a time.
type Store interface {
	// Load returns all positions.
	Load(ctx context.Context) (map[group.ID]Position, error)
	// Save replaces a group's position. It is called after a message's handler has returned:
	// a program that dies in between is shown the message again.
	Save(ctx context.Context, id group.ID, p Position) error
	// Delete forgets a group. That there is none is no error.
	Delete(ctx context.Context, id group.ID) error
}

// A MemoryStore keeps positions for as long as the program runs. Its zero value is empty and
// ready; it may be used by one client after another.
type MemoryStore struct {
	mu        sync.Mutex
	positions map[group.ID]Position
}

// Load implements Store.
func (s *MemoryStore) Load(context.Context) (map[group.ID]Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.positions), nil
}

// Save implements Store.
func (s *MemoryStore) Save(_ context.Context, id group.ID, p Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.positions == nil {
		s.positions = make(map[group.ID]Position)
	}
	s.positions[id] = p
	return nil
}

// Delete implements Store.
func (s *MemoryStore) Delete(_ context.Context, id group.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.positions, id)
	return nil
}
