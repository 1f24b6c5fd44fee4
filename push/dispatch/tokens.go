package dispatch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
)

// The codes of refused registrations, as Tencent IM numbers them.
const (
	codeNoProviderApp = 22001
	codeNoToken       = 22003
	codeLongToken     = 22004
	codeNoDevice      = 90001
)

// maxDeviceBytes bounds a client identifier.
const maxDeviceBytes = 256

// A Registration is what a device says of itself.
type Registration struct {
	Device string // the client identifier
	Vendor string // apns, fcm, … in any case; empty: whichever has the App
	// App is a provider app's name, or the bundle ID or package that it speaks for. Empty: the
	// vendor's only one.
	App       string
	Token     string
	VoIPToken string
}

// SetToken registers a device of the account, in place of what the device had registered
// before. A token that belonged to another account or device leaves it: a phone was sold, or
// somebody else signed in. The error is a *group.Error where the registration is refused.
func (d *Dispatcher) SetToken(ctx context.Context, a group.Account, r Registration) error {
	switch {
	case r.Device == "" || len(r.Device) > maxDeviceBytes:
		return group.Errorf(codeNoDevice, "Device must be a client identifier of 1 to %d bytes", maxDeviceBytes)
	case r.Token == "":
		return group.Errorf(codeNoToken, "Token is empty")
	case len(r.Token) > d.cfg.TokenBytes || len(r.VoIPToken) > d.cfg.TokenBytes:
		return group.Errorf(codeLongToken, "Token has more than %d bytes", d.cfg.TokenBytes)
	case strings.ContainsFunc(r.Token+r.VoIPToken, func(c rune) bool { return c <= ' ' || c > '~' }):
		return group.Errorf(codeNoToken, "Token must be printable ASCII without spaces")
	}
	l, err := d.provider(strings.ToLower(r.Vendor), r.App)
	if err != nil {
		return err
	}
	ownerKey := tokenKey(l.provider.Vendor(), r.Token)
	for {
		owner, err := storage.PushOwners.Find(ctx, d.store, ownerKey)
		if err != nil {
			return err
		}
		done, err := d.register(ctx, a, r, l, ownerKey, owner)
		if done || err != nil {
			return err
		}
	}
}

// register writes a registration, if owner still is who the token belongs to.
func (d *Dispatcher) register(ctx context.Context, a group.Account, r Registration, l *line, ownerKey string, owner *storage.PushOwner) (done bool, err error) {
	// The token's own stripe: two accounts that both find it without an owner share no other.
	accounts := []group.Account{a, group.Account(ownerKey)}
	if owner != nil && owner.Account != a {
		accounts = append(accounts, owner.Account)
	}
	defer d.lock(accounts...)()
	now, err := storage.PushOwners.Find(ctx, d.store, ownerKey)
	if err != nil {
		return false, err
	}
	if (now == nil) != (owner == nil) || now != nil && *now != *owner {
		return false, nil // somebody was faster
	}
	var muts []storage.Mutation
	if owner != nil && owner.Account != a {
		other, err := d.pushUser(ctx, owner.Account)
		if err != nil {
			return false, err
		}
		other.Devices = slices.DeleteFunc(other.Devices, func(o storage.PushDevice) bool { return o.Token == r.Token && d.sameVendor(o.App, l) })
		muts = append(muts, d.putUser(owner.Account, other))
	}
	u, err := d.pushUser(ctx, a)
	if err != nil {
		return false, err
	}
	var gone []storage.PushDevice
	u.Devices = slices.DeleteFunc(u.Devices, func(o storage.PushDevice) bool {
		same := o.Device == r.Device || o.Token == r.Token && d.sameVendor(o.App, l)
		if same {
			gone = append(gone, o)
		}
		return same
	})
	for len(u.Devices) >= d.cfg.DevicesPerUser {
		gone = append(gone, u.Devices[0])
		u.Devices = u.Devices[1:]
	}
	u.Devices = append(u.Devices, storage.PushDevice{
		Device: r.Device, App: l.name, Token: r.Token, VoIPToken: r.VoIPToken, Registered: time.Now().UnixNano(),
	})
	muts = append(muts, d.forgetOwners(gone)...)
	muts = append(muts, d.putUser(a, u), storage.PushOwners.Put(ownerKey, &storage.PushOwner{Account: a, Device: r.Device}))
	return true, d.store.Apply(ctx, muts...)
}

// sameVendor reports whether the provider app called name is of l's vendor, whose tokens are
// unique over all of its apps.
func (d *Dispatcher) sameVendor(name string, l *line) bool {
	other := d.byName[name]
	return other != nil && other.provider.Vendor() == l.provider.Vendor()
}

// DeleteToken forgets what the device registered: a logout. One that is not there is no error.
func (d *Dispatcher) DeleteToken(ctx context.Context, a group.Account, device string) error {
	if u, err := d.pushUser(ctx, a); err != nil || !slices.ContainsFunc(u.Devices, func(o storage.PushDevice) bool { return o.Device == device }) {
		return err // most accounts that log out have none
	}
	return d.change(ctx, a, func(u *storage.PushUser) (gone []storage.PushDevice, err error) {
		u.Devices = slices.DeleteFunc(u.Devices, func(o storage.PushDevice) bool {
			if o.Device == device {
				gone = append(gone, o)
			}
			return o.Device == device
		})
		return gone, nil
	})
}

// SetBadge takes the number that the device's icon shows now, to which later messages add; nil
// makes it follow what is unread again. background, if not nil, says whether the device is to
// be pushed to although it is connected.
func (d *Dispatcher) SetBadge(ctx context.Context, a group.Account, device string, badge *int, background *bool) error {
	unread, err := Unread(ctx, d.store, []group.Account{a})
	if err != nil {
		return err
	}
	return d.change(ctx, a, func(u *storage.PushUser) ([]storage.PushDevice, error) {
		i := slices.IndexFunc(u.Devices, func(o storage.PushDevice) bool { return o.Device == device })
		if i < 0 {
			return nil, group.Errorf(codeNoToken, "the device has no push token")
		}
		u.Devices[i].Badge, u.Devices[i].BadgeUnread = badge, unread[0]
		if background != nil {
			u.Devices[i].Background = *background
		}
		return nil, nil
	})
}

// SetOptions switches push off or on for the account and sets its quiet hours; nil: none.
func (d *Dispatcher) SetOptions(ctx context.Context, a group.Account, disabled bool, q *storage.PushQuiet) error {
	return d.change(ctx, a, func(u *storage.PushUser) ([]storage.PushDevice, error) {
		u.Disabled, u.Quiet = disabled, q
		return nil, nil
	})
}

// User returns what is registered for the account. It holds device tokens.
func (d *Dispatcher) User(ctx context.Context, a group.Account) (*storage.PushUser, error) {
	return d.pushUser(ctx, a)
}

// removeDead forgets a registration whose token the vendor called dead, unless the device has
// registered anew since. It reports whether it did.
func (d *Dispatcher) removeDead(ctx context.Context, a group.Account, sent storage.PushDevice, r push.Result) (removed bool, err error) {
	err = d.change(ctx, a, func(u *storage.PushUser) (gone []storage.PushDevice, err error) {
		for i := range u.Devices {
			o := &u.Devices[i]
			if o.Device != sent.Device || o.App != sent.App {
				continue
			}
			registered := time.Unix(0, o.Registered)
			if r.VoIP {
				if push.MayRemove(r, push.NewToken(sent.VoIPToken), push.NewToken(o.VoIPToken), registered) {
					o.VoIPToken, removed = "", true
				}
				return nil, nil
			}
			if push.MayRemove(r, push.NewToken(sent.Token), push.NewToken(o.Token), registered) {
				gone, removed = []storage.PushDevice{*o}, true
				u.Devices = slices.Delete(u.Devices, i, i+1)
			}
			return gone, nil
		}
		return nil, nil
	})
	return removed, err
}

// change changes an account's row; what fn returns has lost its token.
func (d *Dispatcher) change(ctx context.Context, a group.Account, fn func(*storage.PushUser) (gone []storage.PushDevice, err error)) error {
	defer d.lock(a)()
	u, err := d.pushUser(ctx, a)
	if err != nil {
		return err
	}
	gone, err := fn(u)
	if err != nil {
		return err
	}
	return d.store.Apply(ctx, append(d.forgetOwners(gone), d.putUser(a, u))...)
}

func (d *Dispatcher) pushUser(ctx context.Context, a group.Account) (*storage.PushUser, error) {
	u, err := storage.PushUsers.Find(ctx, d.store, storage.AccountKey(a))
	if u == nil && err == nil {
		u = new(storage.PushUser)
	}
	return u, err
}

func (d *Dispatcher) putUser(a group.Account, u *storage.PushUser) storage.Mutation {
	key := storage.AccountKey(a)
	if len(u.Devices) == 0 && !u.Disabled && u.Quiet == nil {
		return storage.PushUsers.Delete(key)
	}
	return storage.PushUsers.Put(key, u)
}

func (d *Dispatcher) forgetOwners(gone []storage.PushDevice) []storage.Mutation {
	muts := make([]storage.Mutation, 0, len(gone)+2)
	for _, o := range gone {
		if l := d.byName[o.App]; l != nil {
			muts = append(muts, storage.PushOwners.Delete(tokenKey(l.provider.Vendor(), o.Token)))
		}
	}
	return muts
}

// provider finds the provider app that a registration means.
func (d *Dispatcher) provider(vendor, app string) (*line, error) {
	var found *line
	for _, l := range d.lines {
		if vendor != "" && vendor != string(l.provider.Vendor()) || app != "" && app != l.name && app != l.id {
			continue
		}
		if found != nil {
			return nil, group.Errorf(codeNoProviderApp, "several provider apps fit: name one in App")
		}
		found = l
	}
	if found == nil || vendor == "" && app == "" {
		return nil, group.Errorf(codeNoProviderApp, "no provider app of that Vendor and App is configured")
	}
	return found, nil
}

// tokenKey is the key of a token's owner: one vendor's tokens are unique, whichever app has them.
func tokenKey(v push.Vendor, token string) string {
	sum := sha256.Sum256([]byte(token))
	return storage.Key(string(v), hex.EncodeToString(sum[:]))
}

// lock keeps others from changing the accounts' rows. Several stripes are taken in their order.
func (d *Dispatcher) lock(accounts ...group.Account) (unlock func()) {
	var stripes []int
	for _, a := range accounts {
		sum := sha256.Sum256([]byte(a))
		stripes = append(stripes, int(sum[0]))
	}
	slices.Sort(stripes)
	stripes = slices.Compact(stripes)
	for _, i := range stripes {
		d.locks[i].Lock()
	}
	return func() {
		for _, i := range stripes {
			d.locks[i].Unlock()
		}
	}
}
