package dispatch

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/push"
	"github.com/rookery-im/rookery/storage"
)

const (
	// maxReceiptBody bounds a vendor's request, in bytes.
	maxReceiptBody = 1 << 20
	// receiptSlots is how many requests are worked on at once.
	receiptSlots = 32
	// receiptTimeout is how long one may take, waiting for a slot and for its body included.
	receiptTimeout = 5 * time.Second
	// maxSeen is how many receipts are remembered, to tell a repeated one, before the older half goes.
	maxSeen = 1 << 17
)

// receipts is what a Dispatcher keeps for the requests of vendors.
type receipts struct {
	slots chan struct{}

	mu         sync.Mutex
	seen, past map[[16]byte]struct{}
}

// ServeReceipts answers a vendor's POST that tells what became of pushes of the provider app, at
// the address that ends in secret. It returns false and answers nothing where there is no such
// address, or where the vendor's signature is missing: whoever asks shall not learn which.
//
// Receipts are worked off before the answer, so that a vendor which got one has no reason to
// repeat them; any other answer asks it to.
func (d *Dispatcher) ServeReceipts(w http.ResponseWriter, r *http.Request, app, secret string) bool {
	l := d.receiptLine(app, secret)
	if l == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), receiptTimeout)
	defer cancel()
	select {
	case d.receipts.slots <- struct{}{}:
		defer func() { <-d.receipts.slots }()
	case <-ctx.Done():
		l.countReceipts(receiptFailed, 1)
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return true
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = http.NewResponseController(w).SetReadDeadline(deadline) // not all writers have one
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxReceiptBody+1))
	if err == nil && len(body) > maxReceiptBody {
		err = fmt.Errorf("%w: more than %d bytes", push.ErrBadReceipt, maxReceiptBody)
	}
	var list []push.Receipt
	if err == nil {
		list, err = l.receipts.Receipts(r.Header, body)
	}
	switch {
	case errors.Is(err, push.ErrUnsigned):
		l.countReceipts(receiptUnsigned, 1)
		return false
	case err != nil:
		l.countReceipts(receiptMalformed, 1)
		d.log.Debug("push receipts refused", "provider", l.name, "err", err)
		http.Error(w, "bad receipts", http.StatusBadRequest)
		return true
	}
	if err := l.receive(ctx, list); err != nil {
		l.countReceipts(receiptFailed, len(list))
		d.log.Warn("push receipts not taken", "provider", l.name, "entries", len(list), "err", err)
		http.Error(w, "try again", http.StatusServiceUnavailable)
		return true
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, push.ReceiptAnswer) // a vendor that left repeats them
	return true
}

// receiptLine returns the provider app of that name if it takes receipts under secret. The time
// that it takes tells nothing of the secret.
func (d *Dispatcher) receiptLine(app, secret string) *line {
	l := d.byName[app]
	if l == nil || l.receipts == nil || l.receipts.ReceiptSecret().IsZero() {
		return nil
	}
	got, want := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(l.receipts.ReceiptSecret().Reveal()))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		l.countReceipts(receiptBadAddress, 1)
		return nil
	}
	return l
}

func (l *line) countReceipts(kind string, n int) {
	l.d.metrics.reports.WithLabelValues(string(l.provider.Vendor()), kind).Add(float64(n))
}

// receiptStages are what the app's server is told of.
var receiptStages = map[push.ReceiptKind]Stage{push.ReceiptArrived: StageArrived, push.ReceiptClicked: StageClicked}

// receive does what receipts ask for. After an error nothing of them is remembered.
func (l *line) receive(ctx context.Context, list []push.Receipt) error {
	d := l.d
	counts := make(map[string]int)
	var fresh []push.Receipt
	var seen [][16]byte
	for _, r := range list {
		switch key := receiptKey(l.name, r); {
		case r.Message == nil:
			counts[receiptForeign]++
		case d.receipts.repeated(key):
			counts[receiptRepeated]++
		default:
			fresh, seen = append(fresh, r), append(seen, key)
		}
	}
	owned, err := l.owners(ctx, fresh)
	var groups []group.ID
	if err == nil {
		groups, err = l.groups(ctx, fresh, owned)
	}
	if err != nil {
		d.receipts.forget(seen)
		return err
	}
	for i := range owned {
		if groups[i] == "" {
			owned[i] = nil
		}
	}
	l.removeReported(ctx, fresh, owned)
	var events []Event
	for i, r := range fresh {
		if owned[i] == nil {
			counts[receiptUnowned]++
			continue
		}
		counts[string(r.Kind)]++
		if stage, ok := receiptStages[r.Kind]; ok && r.Message.Sent > 0 { // else of a push test
			events = append(events, Event{
				Time: time.Now(), Stage: stage, Vendor: l.provider.Vendor(), From: group.Account(r.Message.From), To: owned[i].target.Account, Group: groups[i],
				Seq: group.Seq(r.Message.Seq), Random: r.Message.Random, Sent: r.Message.Sent, PushID: r.VendorID, Outcome: push.Accepted,
			})
		}
	}
	for kind, n := range counts {
		l.countReceipts(kind, n)
	}
	if d.reporter != nil && len(events) > 0 {
		d.reporter.Report(events)
	}
	return nil
}

// owners finds whose tokens the receipts are about; nil where this provider app has no such token.
func (l *line) owners(ctx context.Context, list []push.Receipt) ([]*address, error) {
	d := l.d
	keys := make([]string, len(list))
	for i, r := range list {
		keys[i] = tokenKey(l.provider.Vendor(), r.Token.Reveal())
	}
	owners, err := storage.PushOwners.GetMany(ctx, d.store, keys)
	if err != nil {
		return nil, err
	}
	var accounts []string
	var places []int
	for i, o := range owners {
		if o != nil {
			accounts, places = append(accounts, storage.AccountKey(o.Account)), append(places, i)
		}
	}
	users, err := storage.PushUsers.GetMany(ctx, d.store, accounts)
	if err != nil {
		return nil, err
	}
	found := make([]*address, len(list))
	for i, u := range users {
		if u == nil {
			continue
		}
		at := places[i]
		for _, device := range u.Devices {
			if device.App == l.name && device.Token == list[at].Token.Reveal() {
				found[at] = &address{storage.PushTarget{Account: owners[at].Account, Device: device.Device}, device}
			}
		}
	}
	return found, nil
}

// groups returns the groups that receipts are about; "" where the token's owner is not in it, so
// that a parameter which many devices share proves nothing for those of other groups.
func (l *line) groups(ctx context.Context, list []push.Receipt, owned []*address) ([]group.ID, error) {
	found := make([]group.ID, len(list))
	bySum := make(map[string]group.ID)
	var keys []string
	var places []int
	for i, r := range list {
		if owned[i] == nil {
			continue
		}
		account, sum := owned[i].target.Account, r.Message.GroupSum
		found[i] = group.ID(r.Message.Group)
		if sum != "" && bySum[sum] == "" {
			joined, err := storage.JoinedGroups(ctx, l.d.store, account)
			if err != nil {
				return nil, err
			}
			for _, j := range joined {
				if push.GroupSum(string(j.ID)) == sum {
					bySum[sum] = j.ID
				}
			}
		}
		if sum != "" {
			found[i] = bySum[sum]
		}
		if found[i] == "" {
			continue
		}
		keys, places = append(keys, storage.JoinedKey(account, found[i])), append(places, i)
	}
	joined, err := storage.Joined.GetMany(ctx, l.d.store, keys)
	for n, j := range joined {
		if j == nil {
			found[places[n]] = ""
		}
	}
	return found, err
}

// removeReported forgets the tokens that receipts call dead, if the guard lets it. A receipt
// speaks of the time of its message: a token that was registered since stays.
func (l *line) removeReported(ctx context.Context, list []push.Receipt, owned []*address) {
	var dead []address
	var results []push.Result
	for i, r := range list {
		if r.Kind == push.ReceiptDead && owned[i] != nil {
			dead = append(dead, *owned[i])
			results = append(results, push.Result{Outcome: push.TokenInvalid, AsOf: time.Unix(r.Message.Sent, 0)})
		}
	}
	if len(dead) == 0 || !l.mayRemove(time.Now(), results) {
		return
	}
	for i := range dead {
		l.remove(ctx, dead[i], results[i])
	}
}

// receiptKey tells receipts of a provider app apart.
func receiptKey(app string, r push.Receipt) (key [16]byte) {
	if m := r.Message; m != nil {
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %x %d %d %d", app, r.Kind, r.Token.Reveal(), m.Group, m.GroupSum, m.Seq, m.Sent, m.Random))
		copy(key[:], sum[:])
	}
	return key
}

// repeated reports whether the receipt is one of the last, and remembers it.
func (s *receipts) repeated(key [16]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, now := s.seen[key]
	_, before := s.past[key]
	if now || before {
		return true
	}
	if s.seen == nil || len(s.seen) >= maxSeen/2 {
		s.seen, s.past = make(map[[16]byte]struct{}), s.seen
	}
	s.seen[key] = struct{}{}
	return false
}

// forget makes receipts count that come again.
func (s *receipts) forget(keys [][16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		delete(s.seen, key)
		delete(s.past, key)
	}
}
