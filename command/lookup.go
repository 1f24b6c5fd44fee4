package command

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func noGroup(id group.ID) *group.Error {
	return group.Errorf(group.CodeNoGroup, "group %q does not exist", id)
}

func noAccount(a group.Account) *group.Error {
	return group.Errorf(group.CodeNoAccount, "account %.40q does not exist", a)
}

func badParameter(format string, args ...any) *group.Error {
	return group.Errorf(group.CodeBadParameter, format, args...)
}

func notPermitted(format string, args ...any) *group.Error {
	return group.Errorf(group.CodeNotPermitted, format, args...)
}

func tooMany(n, most int) *group.Error {
	return group.Errorf(group.CodeTooManyAccounts, "%d accounts, at most %d are allowed", n, most)
}

// group returns the current life of a group, or the refusal that there is none.
func (e *env) group(ctx context.Context, id group.ID) (*group.Group, error) {
	if !id.Valid() {
		return nil, group.Errorf(group.CodeBadGroupID, "group id %.60q is not valid", string(id))
	}
	g, err := storage.FindGroup(ctx, e.store, id)
	if err == nil && g == nil {
		err = noGroup(id)
	}
	return g, err
}

// update runs fn in the group's lane, on a group that exists.
func (e *env) update(ctx context.Context, id group.ID, fn func(tx *hooks.Tx, g *group.Group) error) error {
	return e.pipeline.Update(ctx, id, func(tx *hooks.Tx) error {
		g, err := tx.Exists()
		if err != nil {
			return err
		}
		return fn(tx, g)
	})
}

// act is update for a command of a member: fn gets a stage on which tips show the accounts and
// the caller, and what the caller may act as.
func (e *env) act(ctx context.Context, call *Call, id group.ID, accounts []group.Account, fn func(s *stage, g *group.Group, by group.Role) error) error {
	shown, err := e.shown(ctx, append(slices.Clone(accounts), call.Caller))
	if err != nil {
		return err
	}
	return e.update(ctx, id, func(tx *hooks.Tx, g *group.Group) error {
		by, err := roleIn(tx, call)
		if err != nil {
			return err
		}
		return fn(&stage{Tx: tx, e: e, call: call, shown: shown}, g, by)
	})
}

// profiles returns the accounts' profiles, nil where there is no such account. An app admin
// without one has an empty one.
func (e *env) profiles(ctx context.Context, accounts []group.Account) ([]*group.Profile, error) {
	keys := make([]string, len(accounts))
	for i, a := range accounts {
		keys[i] = storage.AccountKey(a)
	}
	found, err := storage.Accounts.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	for i, a := range accounts {
		if found[i] == nil && e.admins[a] {
			found[i] = &group.Profile{Account: a}
		}
	}
	return found, nil
}

// exists reports whether there is such an account.
func (e *env) exists(ctx context.Context, a group.Account) (bool, error) {
	if !a.Valid() {
		return false, nil
	}
	found, err := e.profiles(ctx, []group.Account{a})
	return err == nil && found[0] != nil, err
}

// roleIn returns what the caller may act as in the group: AppAdmin, or its role as a member.
func roleIn(tx *hooks.Tx, call *Call) (group.Role, error) {
	if call.Admin {
		return group.AppAdmin, nil
	}
	m, err := tx.Member(call.Caller)
	if err != nil || m == nil {
		return group.NotMember, err
	}
	return m.Role, nil
}

// memberRole is roleIn without a lane, for commands that only read.
func (e *env) memberRole(ctx context.Context, g *group.Group, call *Call) (group.Role, *group.Member, error) {
	if call.Admin {
		return group.AppAdmin, nil, nil
	}
	m, err := e.member(ctx, g, call.Caller)
	if err != nil || m == nil {
		return group.NotMember, nil, err
	}
	return m.Role, m, nil
}

// member returns a's membership, or nil. A live room's ordinary members are known to its lane alone.
func (e *env) member(ctx context.Context, g *group.Group, a group.Account) (m *group.Member, err error) {
	if g.Type.Rules().StoresMembers {
		return storage.FindMember(ctx, e.store, g.Key(), a)
	}
	err = e.update(ctx, g.ID, func(tx *hooks.Tx, _ *group.Group) error {
		m, err = tx.Member(a)
		return err
	})
	return m, err
}

// readable returns a group that the caller may look into: a member or an app admin.
func (e *env) readable(ctx context.Context, call *Call, id group.ID) (*group.Group, *group.Member, error) {
	g, err := e.group(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	role, m, err := e.memberRole(ctx, g, call)
	if err != nil {
		return nil, nil, err
	}
	if role == group.NotMember {
		return nil, nil, notPermitted("only members may do this")
	}
	return g, m, nil
}

// allowed refuses what the type or the caller's role does not allow.
func allowed(g *group.Group, o group.Operation, by, target group.Role) error {
	if g.Type.Allows(o, by, target) {
		return nil
	}
	if !g.Type.Allows(o, group.AppAdmin, group.OrdinaryMember) {
		return notPermitted("%s: not for groups of type %s", o, g.Type)
	}
	return notPermitted("%s: not within the caller's authority", o)
}

// origin is where the call came from, for callbacks.
func (c *Call) origin() hooks.Origin {
	return hooks.Origin{IP: c.IP, Platform: c.Platform, Device: c.Device}
}

// distinct returns the accounts without repetitions, in their order.
func distinct(accounts []group.Account) []group.Account {
	seen := make(map[group.Account]bool, len(accounts))
	return slices.DeleteFunc(slices.Clone(accounts), func(a group.Account) bool {
		had := seen[a]
		seen[a] = true
		return had
	})
}

func nowUnix() int64 { return time.Now().Unix() }

// refused reports whether err is a refusal for the caller rather than a failure.
func refused(err error) bool {
	_, is := errors.AsType[*group.Error](err)
	return is
}

// isNoGroup reports whether err is the refusal that there is no such group.
func isNoGroup(err error) bool { return errors.Is(err, &group.Error{Code: group.CodeNoGroup}) }
