package command

import (
	"context"

	"github.com/rookery-im/rookery/group"
)

// StuckCallbacks are the after-callbacks that wait to be sent, and those that were given up (dead).
type StuckCallbacks interface {
	// Waiting and Dead list at most limit of them.
	Waiting(ctx context.Context, limit int) ([]StuckCallback, error)
	Dead(ctx context.Context, limit int) ([]StuckCallback, error)
	// Retry sends the dead callback of that number again, Drop forgets it; there is false if there is none.
	Retry(ctx context.Context, number string) (there bool, err error)
	Drop(ctx context.Context, number string) (there bool, err error)
}

// A StuckCallback is shown without its body.
type StuckCallback struct {
	Number  string `json:"Number"`
	Queue   string `json:"Queue" doc:"The group or account whose callbacks follow each other."`
	Command string `json:"CallbackCommand"`
	Time    int64  `json:"Time" doc:"Unix seconds."`
	Reason  string `json:"Reason" doc:"Why it was given up: age, full, failed."`
}

func (t *Table) registerStuck() {
	e := t.env
	register(t, Command{Service: configService, Name: "get_stuck_callbacks", Doc: "Lists after-callbacks that were given up, or that wait. Rookery's own."}, e.getStuck)
	register(t, Command{Service: configService, Name: "retry_callbacks", Changes: true, Doc: "Queues after-callbacks that were given up to be sent again. Rookery's own."}, e.retryStuck)
	register(t, Command{Service: configService, Name: "drop_callbacks", Changes: true, Doc: "Forgets after-callbacks that were given up. Rookery's own."}, e.dropStuck)
}

const (
	maxStuck      = 1000
	maxStuckCall  = 100
	codeStuck     = 130001
	stuckWaiting  = "Waiting"
	stuckDead     = "Dead"
	defaultStucks = 100
)

type getStuckRequest struct {
	Which string `json:"Which" doc:"Dead (the default) or Waiting."`
	Limit int    `json:"Limit" doc:"At most 1,000; not given: 100."`
}

type getStuckResponse struct {
	Callbacks []StuckCallback `json:"CallbackList"`
}

func (e *env) getStuck(ctx context.Context, _ *Call, r *getStuckRequest) (*getStuckResponse, error) {
	if r.Limit < 0 || r.Limit > maxStuck || r.Which != "" && r.Which != stuckDead && r.Which != stuckWaiting {
		return nil, group.Errorf(codeStuck, "Which is Dead or Waiting, Limit at most %d", maxStuck)
	}
	if r.Limit == 0 {
		r.Limit = defaultStucks
	}
	resp := &getStuckResponse{}
	if e.stuck == nil {
		return resp, nil
	}
	list := e.stuck.Dead
	if r.Which == stuckWaiting {
		list = e.stuck.Waiting
	}
	var err error
	resp.Callbacks, err = list(ctx, r.Limit)
	return resp, err
}

type stuckRequest struct {
	Numbers []string `json:"NumberList" wire:"required" doc:"At most 100, as get_stuck_callbacks tells them."`
}

type stuckResult struct {
	Number string `json:"Number"`
	Code   int    `json:"ResultCode"`
	Info   string `json:"ResultInfo"`
}

type stuckResponse struct {
	Results []stuckResult `json:"ResultItem"`
}

func (e *env) retryStuck(ctx context.Context, _ *Call, r *stuckRequest) (*stuckResponse, error) {
	return e.changeStuck(ctx, r, StuckCallbacks.Retry)
}

func (e *env) dropStuck(ctx context.Context, _ *Call, r *stuckRequest) (*stuckResponse, error) {
	return e.changeStuck(ctx, r, StuckCallbacks.Drop)
}

func (e *env) changeStuck(ctx context.Context, r *stuckRequest, change func(StuckCallbacks, context.Context, string) (bool, error)) (*stuckResponse, error) {
	if n := len(r.Numbers); n == 0 || n > maxStuckCall {
		return nil, group.Errorf(codeStuck, "NumberList has %d entries, 1 to %d are allowed", n, maxStuckCall)
	}
	resp := &stuckResponse{}
	for _, number := range r.Numbers {
		result := stuckResult{Number: number}
		there := false
		if e.stuck != nil {
			var err error
			if there, err = change(e.stuck, ctx, number); err != nil {
				return nil, err
			}
		}
		if !there {
			result.Code, result.Info = codeStuck, "no callback that was given up has this number"
		}
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}
