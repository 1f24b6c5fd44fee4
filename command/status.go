package command

import (
	"context"
	"slices"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerStatus() {
	e := t.env
	register(t, Command{Service: openimService, Name: "query_online_status", Aliases: []string{"querystate"}, Doc: "Returns whether accounts are online."}, e.queryStatus)
	register(t, Command{Service: configService, Name: "setnospeaking", Changes: true, Doc: "Mutes an account everywhere, or lifts that."}, e.setNoSpeaking)
	register(t, Command{Service: configService, Name: "getnospeaking", Doc: "Returns for how long an account is muted everywhere."}, e.getNoSpeaking)
	register(t, Command{Service: operationService, Name: "GetIPList", Doc: "Returns the server's addresses, as configured."}, e.getIPs)
}

const (
	statusOnline  = "Online"
	statusPush    = "PushOnline"
	statusOffline = "Offline"

	maxStatuses     = 500
	codeTooManyToIM = 90011
)

type statusRequest struct {
	Accounts []group.Account `json:"To_Account" wire:"required,account" doc:"At most 500."`
	Detail   int             `json:"IsNeedDetail" doc:"1: by platform, too."`
}

type deviceStatus struct {
	Platform string `json:"Platform"`
	Status   string `json:"Status"`
}

type accountStatus struct {
	Account group.Account   `json:"To_Account"`
	Status  string          `json:"Status" also:"State"`
	Detail  *[]deviceStatus `json:"Detail"`
}

type statusError struct {
	Account group.Account `json:"To_Account"`
	Code    int           `json:"ErrorCode"`
}

type statusResponse struct {
	Results []accountStatus `json:"QueryResult"`
	Errors  []statusError   `json:"ErrorList,omitempty"`
}

// statusOf is the best of the devices.
func statusOf(devices []Device) string {
	switch {
	case slices.ContainsFunc(devices, func(d Device) bool { return d.Online }):
		return statusOnline
	case len(devices) > 0:
		return statusPush
	}
	return statusOffline
}

func (e *env) queryStatus(ctx context.Context, _ *Call, r *statusRequest) (*statusResponse, error) {
	switch {
	case len(r.Accounts) == 0:
		return nil, group.Errorf(90001, "To_Account is empty")
	case len(r.Accounts) > maxStatuses:
		return nil, group.Errorf(codeTooManyToIM, "%d accounts, at most %d are allowed", len(r.Accounts), maxStatuses)
	}
	profiles, err := e.profiles(ctx, r.Accounts)
	if err != nil {
		return nil, err
	}
	reachable, err := e.reachable(ctx, r.Accounts)
	if err != nil {
		return nil, err
	}
	absent := make([][]Device, len(r.Accounts))
	if e.absent != nil {
		if absent, err = e.absent.of(ctx, r.Accounts); err != nil {
			return nil, err
		}
	}
	resp := &statusResponse{}
	for i, a := range r.Accounts {
		if profiles[i] == nil {
			resp.Errors = append(resp.Errors, statusError{a, codeAccountUnknown})
			continue
		}
		devices := slices.Concat(e.online.Devices(a), absent[i])
		status := accountStatus{Account: a, Status: statusOf(devices)}
		if status.Status == statusOffline && reachable[i] {
			status.Status = statusPush
		}
		if r.Detail > 0 {
			detail := make([]deviceStatus, 0, len(devices))
			for _, platform := range platforms(devices) {
				of := slices.DeleteFunc(slices.Clone(devices), func(d Device) bool { return shownPlatform(d) != platform })
				detail = append(detail, deviceStatus{platform, statusOf(of)})
			}
			status.Detail = &detail
		}
		resp.Results = append(resp.Results, status)
	}
	if len(resp.Results) == 0 {
		return resp, group.Errorf(codeAccountUnknown, "none of the accounts exists")
	}
	return resp, nil
}

// pushOnlineFor is how long an app counts as reachable by push after it has lost its connection,
// or after its last registration: apps register at every start, and logging out removes that.
const pushOnlineFor = 7 * 24 * time.Hour

// reachable reports which of the accounts have a device that is registered for offline push.
func (e *env) reachable(ctx context.Context, accounts []group.Account) ([]bool, error) {
	out := make([]bool, len(accounts))
	if e.push == nil {
		return out, nil
	}
	keys := make([]string, len(accounts))
	for i, a := range accounts {
		keys[i] = storage.AccountKey(a)
	}
	users, err := storage.PushUsers.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	since := time.Now().Add(-pushOnlineFor).UnixNano()
	for i, u := range users {
		out[i] = u != nil && slices.ContainsFunc(u.Devices, func(d storage.PushDevice) bool { return d.Registered > since })
	}
	return out, nil
}

// platforms returns the names by which a status shows the devices' platforms, each once.
func platforms(devices []Device) []string {
	var out []string
	for _, d := range devices {
		out = append(out, shownPlatform(d))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// shownPlatform is a status's name of a device's platform; callbacks call the same ones otherwise.
func shownPlatform(d Device) string {
	switch d.Platform {
	case "iOS":
		return "iPhone"
	case "Windows":
		return "PC"
	}
	return d.Platform
}

const (
	codeGetAccountMissing = 130002
	codeGetAccountBad     = 130003
	codeSetAccountMissing = 130004
	codeSetAccountBad     = 130005
	codeNoMuteTime        = 130008
)

type setNoSpeakingRequest struct {
	Account group.Account `json:"Set_Account" wire:"account" doc:"Who is muted."`
	C2C     *int64        `json:"C2CmsgNospeakingTime" doc:"Seconds; 0: no longer; 4294967295: for ever."`
	Group   *int64        `json:"GroupmsgNospeakingTime" doc:"Seconds; 0: no longer; 4294967295: for ever."`
}

func (e *env) setNoSpeaking(ctx context.Context, _ *Call, r *setNoSpeakingRequest) (*ok, error) {
	switch {
	case r.Account == "":
		return nil, group.Errorf(codeSetAccountMissing, "Set_Account is missing")
	case r.C2C == nil && r.Group == nil:
		return nil, group.Errorf(codeNoMuteTime, "neither C2CmsgNospeakingTime nor GroupmsgNospeakingTime is given")
	}
	for _, t := range []*int64{r.C2C, r.Group} {
		if t != nil && (*t < 0 || *t > group.Forever) {
			return nil, group.Errorf(130001, "a mute has 0 to %d seconds", group.Forever)
		}
	}
	found, err := e.exists(ctx, r.Account)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, group.Errorf(codeSetAccountBad, "Set_Account does not exist")
	}
	return nil, e.changeAccount(ctx, r.Account, false, nil, func(p *group.Profile) error {
		now := nowUnix()
		until := func(seconds int64) int64 {
			if seconds == 0 {
				return 0
			}
			return min(now+seconds, group.Forever)
		}
		if r.C2C != nil {
			p.C2CMutedUntil = until(*r.C2C)
		}
		if r.Group != nil {
			p.MutedUntil = until(*r.Group)
		}
		return nil
	})
}

type getNoSpeakingRequest struct {
	Account group.Account `json:"Get_Account" wire:"account"`
}

type getNoSpeakingResponse struct {
	C2C   int64 `json:"C2CmsgNospeakingTime" doc:"Seconds left; 4294967295: for ever."`
	Group int64 `json:"GroupmsgNospeakingTime" doc:"Seconds left; 4294967295: for ever."`
}

func (e *env) getNoSpeaking(ctx context.Context, _ *Call, r *getNoSpeakingRequest) (*getNoSpeakingResponse, error) {
	if r.Account == "" {
		return nil, group.Errorf(codeGetAccountMissing, "Get_Account is missing")
	}
	profiles, err := e.profiles(ctx, []group.Account{r.Account})
	if err != nil {
		return nil, err
	}
	if profiles[0] == nil {
		return nil, group.Errorf(codeGetAccountBad, "Get_Account does not exist")
	}
	now := nowUnix()
	left := func(until int64) int64 {
		if until >= group.Forever {
			return group.Forever
		}
		return max(0, until-now)
	}
	return &getNoSpeakingResponse{left(profiles[0].C2CMutedUntil), left(profiles[0].MutedUntil)}, nil
}

type ipsResponse struct {
	IPs []string `json:"IPList"`
}

func (e *env) getIPs(context.Context, *Call, *ok) (*ipsResponse, error) {
	return &ipsResponse{e.cfg.IPs}, nil
}
