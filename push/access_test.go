package push

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func counted(life time.Duration, fails *atomic.Bool) (*tokenSource, *atomic.Int64) {
	var n atomic.Int64
	return &tokenSource{timeout: time.Minute, fetch: func(ctx context.Context) (accessToken, error) {
		n.Add(1)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return accessToken{}, ctx.Err()
		}
		if fails != nil && fails.Load() {
			return accessToken{}, &authError{outcome: AuthRejected, code: "7", err: errors.New("no")}
		}
		return accessToken{value: "t" + strconv.FormatInt(n.Load(), 10), renewAt: time.Now().Add(life)}, nil
	}}, &n
}

func TestTokenSourceFetchesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := counted(time.Hour, nil)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if got, err := s.get(t.Context()); got != "t1" || err != nil {
					t.Errorf("get = %q, %v; want t1", got, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Hour - time.Second)
		if got, _ := s.get(t.Context()); got != "t1" {
			t.Errorf("get before the end = %q, want t1", got)
		}
		time.Sleep(time.Second)
		if got, _ := s.get(t.Context()); got != "t2" || n.Load() != 2 {
			t.Errorf("get after the end = %q after %d fetches, want t2 after 2", got, n.Load())
		}
	})
}

// TestTokenSourceOutlivesItsFirstCaller: the one who started the fetch leaves, the others
// still get their token.
func TestTokenSourceOutlivesItsFirstCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := counted(time.Hour, nil)
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.get(first); !errors.Is(err, context.Canceled) {
				t.Errorf("first caller got %v, want Canceled", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if got, err := s.get(t.Context()); got != "t1" || err != nil {
				t.Errorf("second caller got %q, %v; want t1", got, err)
			}
		})
		synctest.Wait()
		leave()
		wg.Wait()
		if n.Load() != 1 {
			t.Errorf("%d fetches, want 1", n.Load())
		}
	})
}

// TestStaleTokenIsRenewedOnce: 50 sends with one stale token cost one fetch, whenever they
// are told.
func TestStaleTokenIsRenewedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := counted(time.Hour, nil)
		if _, err := s.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				r := s.sendAuthorized(t.Context(), devices("d"), func(access string) []Result {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond)
					if access == "t1" {
						return []Result{{Outcome: AuthExpired}}
					}
					return []Result{{Outcome: Accepted}}
				})
				if r[0].Outcome != Accepted {
					t.Errorf("send %d = %v, want accepted", i, r[0].Outcome)
				}
			})
		}
		wg.Wait()
		if n.Load() != 2 {
			t.Errorf("%d fetches, want 2", n.Load())
		}
	})
}

// TestAlwaysStale: a vendor that calls every token stale does not get a login per push.
func TestAlwaysStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := counted(time.Hour, nil)
		for range 100 {
			r := s.sendAuthorized(t.Context(), devices("d"), func(string) []Result { return []Result{{Outcome: AuthExpired}} })
			if r[0].Outcome != AuthRejected {
				t.Fatalf("%v, want auth_rejected", r[0].Outcome)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := n.Load(); got > 1+2*maxForced {
			t.Errorf("%d fetches in %v", got, 100*10*time.Millisecond)
		}
	})
}

func TestFailedLoginIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		fails.Store(true)
		s, n := counted(time.Hour, &fails)
		for range 5 {
			r := s.sendAuthorized(t.Context(), devices("d"), func(string) []Result { panic("sent without a token") })
			if r[0].Outcome != AuthRejected || r[0].Code != "7" {
				t.Errorf("%+v, want auth_rejected, code 7", r[0])
			}
		}
		if n.Load() != 1 {
			t.Errorf("%d fetches, want 1", n.Load())
		}
		fails.Store(false)
		time.Sleep(authRefusedPause)
		if got, err := s.get(t.Context()); err != nil || got == "" {
			t.Errorf("get after the pause = %q, %v", got, err)
		}
	})
}
