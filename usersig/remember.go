package usersig

import (
	"sync"
	"time"
)

// A Memory is a Verifier for doors that see the same UserSig with every request: it unpacks and
// verifies each once. It is safe for concurrent use.
type Memory struct {
	v    *Verifier
	most int

	mu       sync.RWMutex
	verified map[Request]Claims // only what was found good
}

// NewMemory returns a Memory over v that keeps at most that many UserSigs; past it an arbitrary
// one is forgotten for each new one.
func NewMemory(v *Verifier, most int) *Memory {
	return &Memory{v: v, most: max(most, 1), verified: make(map[Request]Claims)}
}

// Verify is [Verifier.Verify].
func (m *Memory) Verify(r Request, now time.Time) (Claims, error) {
	m.mu.RLock()
	claims, known := m.verified[r]
	m.mu.RUnlock()
	if known && now.Unix() <= claims.ExpiresAt.Unix() {
		return claims, nil
	}
	claims, err := m.v.Verify(r, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		delete(m.verified, r) // expired since
		return Claims{}, err
	}
	for other := range m.verified {
		if len(m.verified) < m.most {
			break
		}
		delete(m.verified, other)
	}
	m.verified[r] = claims
	return claims, nil
}
