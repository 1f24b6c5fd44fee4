package push

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rookery-im/rookery/push/pushtest"
)

// TestBehaviours has one column per behaviour of the fakes and one row per vendor.
func TestBehaviours(t *testing.T) {
	type row map[string]Outcome
	common := row{
		"ok-1": Accepted, "dead-1": TokenInvalid, "busy-1": Throttled, "quota-1": QuotaExhausted, "html-1": Retryable,
		"5xx-1-1": Retryable, "drop-1-1": Retryable, "word-1": ContentRejected, "no,comma": TokenForeign, "": TokenForeign,
	}
	special := map[Vendor]row{
		VendorAPNs: {
			"foreign-1": TokenForeign, "dev429-1": DeviceThrottled,
			"quota-1": Accepted, "word-1": Accepted, // it has neither
			"no/slash": TokenForeign,
		},
		VendorFCM: {
			"foreign-1": TokenForeign, "dev429-1": DeviceThrottled, "quota-1": Throttled,
			"word-1": Accepted,
		},
		VendorHuawei: {"foreign-1": AuthRejected, "quota-1": Throttled},
		"huawei-v3":  {"foreign-1": AuthRejected, "quota-1": Throttled},
		VendorHonor:  {"foreign-1": AuthRejected},
		VendorXiaomi: {"foreign-1": AuthRejected},
		VendorOPPO:   {"word-1": AuthRejected, "foreign-1": TokenInvalid},
		VendorVivo:   {"foreign-1": AuthRejected},
		VendorMeizu:  {"foreign-1": AuthRejected, "dev429-1": DeviceThrottled, "word-1": PayloadRejected},
	}
	for _, vendor := range vendors {
		t.Run(string(vendor), func(t *testing.T) {
			t.Parallel()
			rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
			want := row{}
			for _, r := range []row{common, special[vendor]} {
				maps.Copy(want, r)
			}
			for token, o := range want {
				wantOutcomes(t, rig.provider, fullNotification(t), []string{token}, o)
				wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-between"}, Accepted)
			}
			// What failed on its way works when it is sent again; what was taken before the
			// connection broke was taken twice.
			wantOutcomes(t, rig.provider, plainNotification(), []string{"5xx-1-1"}, Accepted)
			wantOutcomes(t, rig.provider, plainNotification(), []string{"drop-1-1"}, Accepted)
			if got := rig.Count("drop-1-1"); got != 2 {
				t.Errorf("drop-1-1 was taken %d times, want 2", got)
			}
			wantNoViolations(t, rig.Server)
		})
	}
}

func TestRetryAfterIsPassedOn(t *testing.T) {
	for vendor, want := range map[Vendor]time.Duration{VendorAPNs: 2 * time.Second, VendorFCM: 2 * time.Second} {
		rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
		r := wantOutcomes(t, rig.provider, plainNotification(), []string{"busy-1"}, Throttled)[0]
		if r.RetryAfter != want {
			t.Errorf("%s: RetryAfter = %v, want %v", vendor, r.RetryAfter, want)
		}
	}
	rig := newRig(t, VendorFCM, pushtest.Options{}, HTTPConfig{})
	for token, want := range map[string]time.Duration{"quota-1": 60 * time.Second, "5xx-1-1": 10 * time.Second} {
		if r := rig.provider.Send(t.Context(), plainNotification(), devices(token))[0]; r.RetryAfter != want {
			t.Errorf("%s: RetryAfter = %v, want %v", token, r.RetryAfter, want)
		}
	}
}

func TestSlowVendorTimesOut(t *testing.T) {
	for _, vendor := range vendors {
		t.Run(string(vendor), func(t *testing.T) {
			t.Parallel()
			rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{Timeout: 300 * time.Millisecond})
			wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-1"}, Accepted)
			r := wantOutcomes(t, rig.provider, plainNotification(), []string{"hang-1"}, Retryable)[0]
			if r.Err == nil {
				t.Error("no error tells of the time-out")
			}
		})
	}
}

// TestStaleAccessToken: however many sends find the token stale, it is renewed once.
func TestStaleAccessToken(t *testing.T) {
	for _, vendor := range vendors {
		t.Run(string(vendor), func(t *testing.T) {
			t.Parallel()
			rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
			if rig.expire == nil || vendor == "huawei-v3" {
				return // no access token, or one of our own making
			}
			wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-1"}, Accepted)
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // APNs' iat has whole seconds
			before := rig.Stats().Logins
			rig.expire()
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-" + strconv.Itoa(i)}, Accepted)
				})
			}
			wg.Wait()
			if got := rig.Stats().Logins - before; rig.oauth && got != 1 {
				t.Errorf("%d logins, want 1", got)
			}
		})
	}
}

func TestLoginIsCached(t *testing.T) {
	for _, vendor := range vendors {
		rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
		for range 5 {
			wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-1", "ok-2"}, Accepted, Accepted)
		}
		want := 0
		if rig.oauth {
			want = 1
		}
		if got := rig.Stats().Logins; got != want {
			t.Errorf("%s: %d logins, want %d", vendor, got, want)
		}
	}
}

func TestWrongCredentials(t *testing.T) {
	for _, vendor := range vendors {
		t.Run(string(vendor), func(t *testing.T) {
			t.Parallel()
			rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
			bad := rig.again(false)
			defer bad.Close()
			wantOutcomes(t, bad, plainNotification(), []string{"ok-1"}, AuthRejected)
			if err := rig.provider.Check(t.Context()); err != nil {
				t.Errorf("Check with good credentials = %v, want nil", err)
			}
			err := bad.Check(t.Context())
			if vendor == "huawei-v3" {
				return // its Check proves the key only, as documented
			}
			if e, ok := errors.AsType[*CheckError](err); !ok || e.Outcome != AuthRejected {
				t.Errorf("Check with bad credentials = %v, want AuthRejected", err)
			}
			if got := rig.Count("ok-1"); got != 0 {
				t.Errorf("%d pushes were taken", got)
			}
		})
	}
}

func TestLoginServiceDown(t *testing.T) {
	for _, vendor := range vendors {
		rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
		if !rig.oauth {
			continue
		}
		rig.FailLogins(500)
		for range 10 {
			wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-1"}, Retryable)
		}
		if got := rig.Stats().Logins; got > 3 {
			t.Errorf("%s: %d logins in a burst of 10 sends, want them spaced by a second", vendor, got)
		}
	}
}

// TestBatches sends to 2,500 devices, every 50th of them dead and some listed twice.
func TestBatches(t *testing.T) {
	for vendor, calls := range map[Vendor]int{
		VendorHuawei: 3, "huawei-v3": 3, VendorHonor: 3, VendorXiaomi: 3, VendorOPPO: 3, VendorVivo: 3, VendorMeizu: 25,
		VendorFCM: 2500, VendorAPNs: 2500,
	} {
		t.Run(string(vendor), func(t *testing.T) {
			t.Parallel()
			rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{Concurrency: 8})
			var tokens []string
			var want []Outcome
			for i := range 2500 {
				kind, o := "ok-", Accepted
				if i%50 == 7 {
					kind, o = "dead-", TokenInvalid
				}
				tokens, want = append(tokens, kind+strconv.Itoa(i)), append(want, o)
			}
			tokens, want = append(tokens, "ok-0", "bad token", "dead-7"), append(want, Accepted, TokenForeign, TokenInvalid)
			got := outcomes(rig.provider.Send(t.Context(), plainNotification(), devices(tokens...)))
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("device %d (%s): %v, want %v", i, tokens[i], got[i], want[i])
				}
			}
			stats := rig.Stats()
			if stats.Calls != calls {
				t.Errorf("%d calls, want %d", stats.Calls, calls)
			}
			if most := 8; vendor != VendorAPNs && stats.MaxConcurrent > most {
				t.Errorf("%d calls at once, want at most %d", stats.MaxConcurrent, most)
			}
			for token, n := range rig.Counts() {
				if n != 1 || strings.HasPrefix(token, "dead") {
					t.Errorf("%s got %d pushes", token, n)
				}
			}
			if len(rig.Counts()) != 2450 {
				t.Errorf("%d devices got a push, want 2450", len(rig.Counts()))
			}
			wantNoViolations(t, rig.Server)
		})
	}
}

// TestOldSpellings: vendors are known to answer in two ways.
func TestOldSpellings(t *testing.T) {
	for _, vendor := range vendors {
		for _, old := range []bool{false, true} {
			rig := newRig(t, vendor, pushtest.Options{Old: old}, HTTPConfig{})
			got := wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-1", "dead-2", "ok-3"}, Accepted, TokenInvalid, Accepted)
			if got[0].VendorID == "" || got[2].VendorID == "" || got[1].VendorID != "" && vendor != VendorAPNs {
				t.Errorf("%s: IDs %q %q %q, want them for the accepted ones", vendor, got[0].VendorID, got[1].VendorID, got[2].VendorID)
			}
		}
	}
}

func TestQuotaOfTheDay(t *testing.T) {
	for _, vendor := range []Vendor{VendorXiaomi, VendorOPPO, VendorVivo, VendorMeizu} {
		rig := newRig(t, vendor, pushtest.Options{Quota: 2}, HTTPConfig{})
		wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-1"}, Accepted)
		wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-2"}, Accepted)
		wantOutcomes(t, rig.provider, plainNotification(), []string{"ok-3"}, QuotaExhausted)
	}
}

func TestRateLimit(t *testing.T) {
	for _, vendor := range vendors {
		rig := newRig(t, vendor, pushtest.Options{Rate: 1}, HTTPConfig{})
		throttled := false
		for range 5 { // at least two of them fall into one second
			o := rig.provider.Send(t.Context(), plainNotification(), devices("ok-1"))[0].Outcome
			if o != Accepted && o != Throttled {
				t.Errorf("%s: %v", vendor, o)
			}
			throttled = throttled || o == Throttled
		}
		if !throttled {
			t.Errorf("%s: never throttled", vendor)
		}
	}
}

func TestEndedContext(t *testing.T) {
	for _, vendor := range vendors {
		rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{})
		ctx, cancel := newCancelled(t)
		defer cancel()
		got := outcomes(rig.provider.Send(ctx, plainNotification(), devices("ok-1", "ok-2")))
		if !slices.Equal(got, []Outcome{Retryable, Retryable}) {
			t.Errorf("%s: %v, want Retryable", vendor, got)
		}
		if n := len(rig.Counts()); n != 0 {
			t.Errorf("%s: %d pushes were taken", vendor, n)
		}
	}
}

func newCancelled(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx, cancel
}

// TestProgress: a device's result is told while another device of the same Send has none.
func TestProgress(t *testing.T) {
	for _, vendor := range vendors {
		if vendor != VendorAPNs && vendor != VendorFCM { // the others take all devices in one call
			continue
		}
		rig := newRig(t, vendor, pushtest.Options{}, HTTPConfig{Timeout: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		told := make(chan Result, 2)
		ctx = WithProgress(ctx, func(token Token, r Result) {
			if token == NewToken("ok-1") {
				told <- r
				cancel() // nobody waits for the other one
			}
		})
		results := rig.provider.Send(ctx, plainNotification(), devices("ok-1", "hang-2"))
		if len(told) != 1 || (<-told).Outcome != Accepted || results[0].Outcome != Accepted {
			t.Errorf("%s: the first device's result was not told", vendor)
		}
		if !errors.Is(results[1].Err, context.Canceled) {
			t.Errorf("%s: %+v, want that it was cancelled by the progress", vendor, results[1])
		}
	}
}
