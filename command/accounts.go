package command

import (
	"context"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerAccounts() {
	e := t.env
	register(t, Command{Service: accountService, Name: "account_import", Changes: true, Doc: "Creates an account, or changes the nickname and face URL of one."}, e.accountImport)
}

// ok is the response of commands that say nothing but success.
type ok struct{}

// maxAccounts bounds the lists of the account commands.
const maxAccounts = 100

const (
	maxNick    = 500 // bytes, of a nickname and of all other texts of a profile
	maxFaceURL = 500
)

// An account to create.
type newAccount struct {
	UserID  group.Account `json:"UserID" alias:"Identifier" wire:"required,account" doc:"The account's UserID, at most 32 bytes of printable ASCII."`
	Nick    string        `json:"Nick" wire:"text" doc:"Nickname, at most 500 bytes. Not given: as it was."`
	FaceURL string        `json:"FaceUrl" wire:"text" doc:"URL of the face, at most 500 bytes. Not given: as it was."`
}

func (e *env) accountImport(ctx context.Context, _ *Call, r *newAccount) (*ok, error) {
	return nil, e.putAccount(ctx, r)
}

// accountLocks serialises the changes of one account: a profile is read, changed and written
// as a whole. Accounts share locks; that costs a wait, never correctness.
var accountLocks [256]sync.Mutex

func lockAccount(a group.Account) (unlock func()) {
	h := uint32(2166136261)
	for i := range len(a) {
		h = (h ^ uint32(a[i])) * 16777619
	}
	m := &accountLocks[h%uint32(len(accountLocks))]
	m.Lock()
	return m.Unlock
}

// putAccount creates the account or changes what is given of it.
func (e *env) putAccount(ctx context.Context, r *newAccount) error {
	switch {
	case !r.UserID.Valid():
		return group.Errorf(codeAccountParameter, "UserID must be 1 to %d bytes of printable ASCII", group.MaxAccountLen)
	case len(r.Nick) > maxNick, len(r.FaceURL) > maxFaceURL:
		return group.Errorf(codeNickTooLong, "Nick and FaceUrl have at most %d bytes", maxNick)
	}
	return e.changeAccount(ctx, r.UserID, true, func(p *group.Profile) error {
		if r.Nick != "" {
			p.Nick = r.Nick
		}
		if r.FaceURL != "" {
			p.FaceURL = r.FaceURL
		}
		return nil
	})
}

// changeAccount changes an account's profile. Without create it returns the refusal that
// there is no such account.
func (e *env) changeAccount(ctx context.Context, a group.Account, create bool, change func(*group.Profile) error) error {
	defer lockAccount(a)()
	p, err := storage.Accounts.Find(ctx, e.store, storage.AccountKey(a))
	if err != nil {
		return err
	}
	if p == nil {
		if !create && !e.admins[a] {
			return group.Errorf(codeAccountUnknown, "account %.40q does not exist", a)
		}
		p = &group.Profile{Account: a, Created: time.Now().Unix()}
	}
	if err := change(p); err != nil {
		return err
	}
	defer e.pipeline.ProfileChanged(a) // whatever the write's outcome: it may have happened
	return e.store.Apply(ctx, storage.Accounts.Put(storage.AccountKey(a), p))
}
