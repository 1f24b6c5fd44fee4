package push

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// accessToken is what a vendor lends for our credentials.
type accessToken struct {
	value string
	// renewAt is when to ask for the next one: before this one ends.
	renewAt time.Time
}

// authError is a vendor's refusal to lend an access token.
type authError struct {
	outcome    Outcome
	code       string
	retryAfter time.Duration
	err        error
}

func (e *authError) Error() string { return e.err.Error() }
func (e *authError) Unwrap() error { return e.err }

const (
	// authPause is how long a failed fetch answers for the next callers, so that a thousand
	// waiting pushes ask a broken login service once and not a thousand times.
	authPause = time.Second
	// authRefusedPause is the same for refused credentials.
	authRefusedPause = 10 * time.Second
	// maxForced bounds the renewals a minute that vendors force by calling a token stale.
	maxForced = 6
)

// tokenSource keeps one access token for all sends of a provider app.
type tokenSource struct {
	// fetch asks the vendor; its error is an *authError or a network fault.
	fetch   func(context.Context) (accessToken, error)
	timeout time.Duration
	flight  singleflight.Group

	mu          sync.Mutex
	current     accessToken
	failure     error
	failedUntil time.Time
	forced      []time.Time // of the last minute
}

// get returns the access token, fetching one if there is none that is fresh. However many
// callers wait, one fetch is under way.
func (s *tokenSource) get(ctx context.Context) (string, error) {
	s.mu.Lock()
	token, failure := s.current, s.failure
	fresh := token.value != "" && time.Now().Before(token.renewAt)
	failed := failure != nil && time.Now().Before(s.failedUntil)
	s.mu.Unlock()
	switch {
	case fresh:
		return token.value, nil
	case failed:
		return "", failure
	}
	done := s.flight.DoChan("", func() (any, error) {
		// The fetch serves every waiter, so it outlives the one who happened to start it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
		defer cancel()
		return s.renew(ctx)
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return "", r.Err
		}
		return r.Val.(string), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *tokenSource) renew(ctx context.Context) (string, error) {
	s.mu.Lock()
	if s.current.value != "" && time.Now().Before(s.current.renewAt) {
		defer s.mu.Unlock()
		return s.current.value, nil // fetched between our look and our flight
	}
	s.mu.Unlock()
	token, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		pause := authPause
		if e, ok := errors.AsType[*authError](err); ok && e.outcome == AuthRejected {
			pause = authRefusedPause
		}
		s.failure, s.failedUntil = err, time.Now().Add(pause)
		return "", err
	}
	s.current, s.failure = token, nil
	return token.value, nil
}

// expire drops the token if it still is the current one. It reports whether asking again is
// worth it: not after maxForced renewals within a minute.
func (s *tokenSource) expire(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.value != value {
		return true // somebody else was told first
	}
	now := time.Now()
	for len(s.forced) > 0 && now.Sub(s.forced[0]) >= time.Minute {
		s.forced = s.forced[1:]
	}
	if len(s.forced) >= maxForced {
		return false
	}
	s.forced = append(s.forced, now)
	s.current = accessToken{}
	return true
}

// sendAuthorized runs send with an access token, and once more with a new one if the vendor
// calls the first one stale. A fresh token that is stale too is a refusal.
func (s *tokenSource) sendAuthorized(ctx context.Context, devices []Device, send func(access string) []Result) []Result {
	for try := 0; ; try++ {
		started := time.Now()
		access, err := s.get(ctx)
		if err != nil {
			return each(devices, authResult(err, started))
		}
		results := send(access)
		if len(results) == 0 || results[0].Outcome != AuthExpired {
			return results
		}
		if !s.expire(access) || try > 0 {
			for i := range results {
				results[i].Outcome = AuthRejected
			}
			return results
		}
	}
}

// check fetches a token if there is none, and tells why it can't be had.
func (s *tokenSource) check(ctx context.Context, name string) error {
	if _, err := s.get(ctx); err != nil {
		return checkError(name, authResult(err, time.Now()))
	}
	return nil
}

func authResult(err error, started time.Time) Result {
	if e, ok := errors.AsType[*authError](err); ok {
		return Result{Outcome: e.outcome, Code: e.code, RetryAfter: e.retryAfter, AsOf: started, Err: e.err}
	}
	return Result{Outcome: Retryable, AsOf: started, Err: fmt.Errorf("push: fetch access token: %w", err)}
}

// checkError is the error of a Check that got r as an answer, nil where the answer shows that
// the credentials are good.
func checkError(name string, r Result) error {
	switch r.Outcome {
	case AuthRejected, AuthExpired, Retryable, Throttled:
		return &CheckError{Provider: name, Outcome: r.Outcome, Code: r.Code, Err: r.Err}
	}
	return nil
}

// loginFailed is the error for a login call that brought no token.
func (a *app) loginFailed(ans answer, code, text string, outcome Outcome) error {
	return &authError{
		outcome: outcome, code: code, retryAfter: retryAfter(ans.header, time.Now()),
		err: fmt.Errorf("login refused: %w", a.vendorError(code, text, nil)),
	}
}

// loginStatus is the outcome of a login call by its HTTP status alone.
func loginStatus(status int) Outcome {
	if o := httpOutcome(status); o != PayloadRejected {
		return o
	}
	return AuthRejected // a login consists of credentials only
}
