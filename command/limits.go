package command

import (
	"context"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

func (t *Table) registerLimits() {
	e := t.env
	register(t, Command{Service: groupService, Name: "set_group_limits", Changes: true, Doc: "Changes how many messages a group takes in a second, from the next message on. Rookery's own."}, e.setLimits)
	register(t, Command{Service: groupService, Name: "get_group_limits", Doc: "Returns a group's own limits of messages in a second. Rookery's own."}, e.getLimits)
}

// asConfigured leaves a limit to the configuration.
const asConfigured = -1

// maxLimit is the configuration's, too.
const maxLimit = 100_000

type setLimitsRequest struct {
	GroupID group.ID `json:"GroupId" wire:"required"`
	All     *int64   `json:"MessagesPerSecond" doc:"Of all priorities together. 0: no limit; -1: as configured. Not given: as it was."`
	High    *int64   `json:"HighPerSecond" doc:"Of High alone. 0, or more than MessagesPerSecond: as that one; -1: as configured. Not given: as it was."`
	Normal  *int64   `json:"NormalPerSecond" doc:"The same for Normal."`
	Low     *int64   `json:"LowPerSecond" doc:"The same for Low."`
	Lowest  *int64   `json:"LowestPerSecond" doc:"The same for Lowest."`
}

type limitsResponse struct {
	GroupID group.ID `json:"GroupId"`
	All     int      `json:"MessagesPerSecond" doc:"-1: as configured; 0: no limit."`
	High    int      `json:"HighPerSecond" doc:"-1: as configured; 0: as MessagesPerSecond."`
	Normal  int      `json:"NormalPerSecond"`
	Low     int      `json:"LowPerSecond"`
	Lowest  int      `json:"LowestPerSecond"`
}

func newLimitsResponse(g *group.Group) *limitsResponse {
	l := limitsOf(g)
	p := l.PerPriority
	return &limitsResponse{g.ID, l.PerSecond, p[group.High-1], p[group.Normal-1], p[group.Low-1], p[group.Lowest-1]}
}

// limitsOf returns the group's own limits.
func limitsOf(g *group.Group) group.Limits {
	if g.Limits != nil {
		return *g.Limits
	}
	return group.Limits{PerSecond: asConfigured, PerPriority: [group.Priorities]int{asConfigured, asConfigured, asConfigured, asConfigured}}
}

func (e *env) setLimits(ctx context.Context, _ *Call, r *setLimitsRequest) (*limitsResponse, error) {
	var resp *limitsResponse
	err := e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		l := limitsOf(g)
		for _, change := range []struct {
			to    *int
			given *int64
		}{
			{&l.PerSecond, r.All},
			{&l.PerPriority[group.High-1], r.High},
			{&l.PerPriority[group.Normal-1], r.Normal},
			{&l.PerPriority[group.Low-1], r.Low},
			{&l.PerPriority[group.Lowest-1], r.Lowest},
		} {
			switch n := change.given; {
			case n == nil:
			case *n < asConfigured || *n > maxLimit:
				return badParameter("a limit is %d to %d messages in a second", asConfigured, maxLimit)
			default:
				*change.to = int(*n)
			}
		}
		g.Limits = &l
		tx.Save()
		resp = newLimitsResponse(g)
		return nil
	})
	return resp, err
}

func (e *env) getLimits(ctx context.Context, _ *Call, r *groupRequest) (*limitsResponse, error) {
	g, err := e.group(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	return newLimitsResponse(g), nil
}
