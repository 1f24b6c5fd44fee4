package command

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerAccounts() {
	e := t.env
	register(t, Command{Service: accountService, Name: "account_import", Changes: true, Doc: "Creates an account, or changes the nickname and face URL of one."}, e.accountImport)
	register(t, Command{Service: accountService, Name: "multiaccount_import", Changes: true, Rate: 100, Doc: "Creates up to 100 accounts."}, e.importAccounts)
	register(t, Command{Service: accountService, Name: "account_delete", Changes: true, Rate: 100, Doc: "Deletes accounts; they leave their groups."}, e.deleteAccounts)
	register(t, Command{Service: accountService, Name: "account_check", Rate: 100, Doc: "Returns whether accounts exist."}, e.checkAccounts)
	register(t, Command{Service: accountService, Name: "kick", Changes: true, Doc: "Logs an account out everywhere; UserSigs made before are refused from now on."}, e.kick)
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
	case strings.HasPrefix(string(r.UserID), "@TIM#"), strings.HasPrefix(string(r.UserID), "@TLS#"):
		return group.Errorf(codeAccountParameter, "UserIDs that begin with @TIM# or @TLS# are the server's")
	case len(r.Nick) > maxNick, len(r.FaceURL) > maxFaceURL:
		return group.Errorf(codeNickTooLong, "Nick and FaceUrl have at most %d bytes", maxNick)
	}
	return e.changeAccount(ctx, r.UserID, true, nil, func(p *group.Profile) error {
		if r.Nick != "" {
			p.Nick = r.Nick
		}
		if r.FaceURL != "" {
			p.FaceURL = r.FaceURL
		}
		return nil
	})
}

// An accountEvent is what the app is told of a change afterwards.
type accountEvent struct {
	command string
	body    any
	from    hooks.Origin
}

// changeAccount changes an account's profile and tells the app of it (tell nil: nothing).
// Without create it returns the refusal that there is no such account.
func (e *env) changeAccount(ctx context.Context, a group.Account, create bool, tell *accountEvent, change func(*group.Profile) error) error {
	defer lockAccount(a)()
	p, err := storage.Accounts.Find(ctx, e.store, storage.AccountKey(a))
	if err != nil {
		return err
	}
	fresh := p == nil
	if fresh {
		if !create && !e.admins[a] {
			return group.Errorf(codeAccountUnknown, "account %.40q does not exist", a)
		}
		p = &group.Profile{Account: a, Created: time.Now().Unix()}
	}
	if err := change(p); err != nil {
		return err
	}
	defer e.pipeline.ProfileChanged(a) // whatever the write's outcome: it may have happened
	muts := []storage.Mutation{storage.Accounts.Put(storage.AccountKey(a), p)}
	if tell != nil && e.after != nil {
		muts = append(muts, e.after.AccountHappened(a, tell.command, tell.body, tell.from)...)
		defer e.after.AccountCommitted(a)
	}
	if err := e.store.Apply(ctx, muts...); err != nil {
		return err
	}
	if fresh && e.stats != nil {
		e.stats.add(statAccounts, 1)
	}
	return nil
}

type importAccountsRequest struct {
	Accounts []group.Account `json:"Accounts" wire:"account" doc:"UserIDs alone; at most 100 in both lists."`
	List     []newAccount    `json:"AccountList"`
}

type importAccountsResponse struct {
	Failed []group.Account `json:"FailAccounts" wire:"account"`
}

func (e *env) importAccounts(ctx context.Context, _ *Call, r *importAccountsRequest) (*importAccountsResponse, error) {
	list := r.List
	for _, a := range r.Accounts {
		list = append(list, newAccount{UserID: a})
	}
	if n := len(list); n == 0 || n > maxAccounts {
		return nil, group.Errorf(codeAccountBatch, "%d accounts, 1 to %d are allowed", n, maxAccounts)
	}
	resp := &importAccountsResponse{}
	for i := range list {
		err := e.putAccount(ctx, &list[i])
		if _, refused := errors.AsType[*group.Error](err); refused {
			resp.Failed = append(resp.Failed, list[i].UserID)
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return resp, nil
}

type userItem struct {
	UserID group.Account `json:"UserID" alias:"Identifier" wire:"required,account"`
}

type deleteAccountsRequest struct {
	Items []userItem `json:"DeleteItem" wire:"required" doc:"At most 100."`
}

type checkAccountsRequest struct {
	Items []userItem `json:"CheckItem" wire:"required" doc:"At most 100."`
}

type accountResult struct {
	Code   int           `json:"ResultCode"`
	Info   string        `json:"ResultInfo"`
	UserID group.Account `json:"UserID"`
	Status string        `json:"AccountStatus,omitempty" doc:"Imported or NotImported."`
}

type accountResults struct {
	Items []accountResult `json:"ResultItem"`
}

// infoNoAccount is the text that clients look for.
const infoNoAccount = "Err_TLS_PT_Open_Login_Account_Not_Exist"

func (e *env) deleteAccounts(ctx context.Context, call *Call, r *deleteAccountsRequest) (*accountResults, error) {
	if n := len(r.Items); n == 0 || n > maxAccounts {
		return nil, group.Errorf(codeAccountBatch, "%d accounts, 1 to %d are allowed", n, maxAccounts)
	}
	resp := &accountResults{}
	for _, item := range r.Items {
		result := accountResult{UserID: item.UserID}
		err := e.deleteAccount(ctx, call, item.UserID)
		if refusal, refused := errors.AsType[*group.Error](err); refused {
			result.Code, result.Info = refusal.Code, refusal.Info
		} else if err != nil {
			e.log.Error("account not deleted", "account", string(item.UserID), "err", err)
			result.Code, result.Info = codeAccountInternal, "the account may be partly deleted: delete it again"
		}
		resp.Items = append(resp.Items, result)
	}
	return resp, nil
}

// deleteAccount takes the account out of its groups, then removes it: after a failure in
// between it can be deleted again.
func (e *env) deleteAccount(ctx context.Context, call *Call, a group.Account) error {
	if e.admins[a] {
		return group.Errorf(codeNoDeletion, "an app admin can't be deleted")
	}
	found, err := e.exists(ctx, a)
	if err != nil {
		return err
	}
	if !found {
		if err := e.leaveAll(ctx, call, a); err != nil { // what an earlier deletion did not come to
			return err
		}
		return group.Errorf(codeAccountUnknown, infoNoAccount)
	}
	// From here on it can't log in any more, and so can't join another group.
	if err := e.revoke(ctx, a); err != nil {
		return err
	}
	e.online.Kick(a, "account deleted")
	if err := e.leaveAll(ctx, call, a); err != nil {
		return err
	}
	if err := e.forgetPush(ctx, a); err != nil { // before the account, so that it can be deleted again
		return err
	}
	defer lockAccount(a)()
	defer e.pipeline.ProfileChanged(a)
	own := storage.Prefix(string(a))
	err = e.store.Apply(ctx, storage.Accounts.Delete(storage.AccountKey(a)), storage.Contacts.DeletePrefix(own),
		storage.Invitations.DeletePrefix(own), storage.Departures.DeletePrefix(own), storage.Sessions.DeletePrefix(own), storage.SessionMarks.DeletePrefix(own))
	if err != nil {
		return err
	}
	if e.stats != nil {
		e.stats.add(statDeleted, 1)
	}
	// Somebody may have added the account to a group meanwhile: whoever has the name next must not find itself in it.
	return e.leaveAll(ctx, call, a)
}

// leaveAll takes the account out of its groups.
func (e *env) leaveAll(ctx context.Context, call *Call, a group.Account) error {
	joined, err := storage.JoinedGroups(ctx, e.store, a)
	if err != nil {
		return err
	}
	for _, j := range joined {
		err := e.update(ctx, j.ID, func(tx *hooks.Tx, _ *group.Group) error { return e.leave(&stage{Tx: tx, e: e, call: call}, a) })
		if err != nil && !isNoGroup(err) {
			return err
		}
	}
	return nil
}

// leave takes a out of the group; an owner leaves it without one.
func (e *env) leave(s *stage, a group.Account) error {
	had, err := s.RemoveMember(a)
	if err != nil || !had {
		return err
	}
	g := s.Group()
	if g.Owner == a {
		g.Owner = ""
		s.Save()
	}
	left := *s.call
	left.Caller = a
	told := &stage{Tx: s.Tx, e: e, call: &left, shown: s.shown}
	if err := told.tip(g.Type.Rules().JoinTip, tip{OpType: tipLeft, List: []group.Account{a}, MemberNum: g.MemberCount}); err != nil {
		return err
	}
	body := afterExit{callback: s.head("Group.CallbackAfterMemberExit"), ExitType: "Quit", Operator: a, Members: memberItems([]group.Account{a})}
	s.Callback(body.Command, body)
	return nil
}

func (e *env) checkAccounts(ctx context.Context, _ *Call, r *checkAccountsRequest) (*accountResults, error) {
	if n := len(r.Items); n == 0 || n > maxAccounts {
		return nil, group.Errorf(codeAccountBatch, "%d accounts, 1 to %d are allowed", n, maxAccounts)
	}
	accounts := make([]group.Account, len(r.Items))
	for i, item := range r.Items {
		accounts[i] = item.UserID
	}
	profiles, err := e.profiles(ctx, accounts)
	if err != nil {
		return nil, err
	}
	resp := &accountResults{}
	for i, a := range accounts {
		result := accountResult{UserID: a, Status: "NotImported"}
		if profiles[i] != nil {
			result.Status = "Imported"
		}
		resp.Items = append(resp.Items, result)
	}
	return resp, nil
}

// kick answers when the second is over in which it was called: UserSigs tell their time in whole
// seconds, so that one made before the call and one made after the answer never look the same.
func (e *env) kick(ctx context.Context, _ *Call, r *userItem) (*ok, error) {
	if err := e.revoke(ctx, r.UserID); err != nil {
		return nil, err
	}
	e.online.Kick(r.UserID, "kicked by an administrator")
	now := time.Now()
	select {
	case <-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now)):
	case <-ctx.Done():
	}
	return nil, nil
}

// revoke makes all UserSigs useless that were made up to the end of this second. It takes effect
// for new logins at once; who is logged in is for the caller to kick, afterwards.
func (e *env) revoke(ctx context.Context, a group.Account) error {
	err := e.changeAccount(ctx, a, false, nil, func(p *group.Profile) error {
		p.ValidSig = time.Now().Unix() + 1
		return nil
	})
	if err != nil {
		return err
	}
	if e.absent != nil {
		e.absent.loggedOut(a)
	}
	return e.forgetPush(ctx, a) // who is logged out everywhere gets no push either
}
