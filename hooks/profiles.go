package hooks

import (
	"context"
	"sync"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

// maxProfiles bounds the accounts that a profileCache keeps; past it an arbitrary half is forgotten.
const maxProfiles = 1 << 16

// A profileCache keeps the profiles of recent senders, until forget.
type profileCache struct {
	store  storage.Records
	admins map[group.Account]bool

	mu    sync.RWMutex
	known map[group.Account]*group.Profile
	gen   uint64 // grows with each forget: a read that began before one is not kept
}

func newProfileCache(store storage.Records, admins map[group.Account]bool) *profileCache {
	return &profileCache{store: store, admins: admins, known: make(map[group.Account]*group.Profile)}
}

// find returns what get would, if it need not read.
func (c *profileCache) find(a group.Account) (p *group.Profile, known bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p, known = c.known[a]
	return p, known
}

// get returns the account's profile, or nil if there is no such account. The profile is
// shared: do not change it.
func (c *profileCache) get(ctx context.Context, a group.Account) (*group.Profile, error) {
	c.mu.RLock()
	p, ok := c.known[a]
	gen := c.gen
	c.mu.RUnlock()
	if ok {
		return p, nil
	}
	p, err := storage.Accounts.Find(ctx, c.store, storage.AccountKey(a))
	// That an account is missing is not kept: a login may make it at any moment. An administrator
	// needs none, and one that a login makes says nothing yet.
	if err != nil || p == nil && !c.admins[a] {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen == gen {
		if len(c.known) >= maxProfiles {
			drop := len(c.known) / 2
			for a := range c.known {
				if drop--; drop < 0 {
					break
				}
				delete(c.known, a)
			}
		}
		c.known[a] = p
	}
	return p, nil
}

func (c *profileCache) forget(a group.Account) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	delete(c.known, a)
}
