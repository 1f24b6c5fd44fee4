package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rookery-im/rookery/usersig"
)

// Rookery says how to reach a Rookery's REST API. With it a run makes its accounts, groups and members before it
// starts, and logs in with UserSigs. The zero value is any other broker.
type Rookery struct {
	HTTP      string // host:port of the HTTP listener
	SDKAppID  int64  // zero means 1400000001
	Admin     string // empty means administrator
	Secret    string // or, when empty, read from DataDir
	DataDir   string // where the server keeps a secret that it made itself
	GroupType string // empty means Public, or Community for groups that are too large for it
}

// secretFile is where a server without a configured secret keeps the one that it made.
const secretFile = "secret"

// rookery is a client of the REST API, as far as a run needs it.
type rookery struct {
	Rookery
	app    usersig.App
	client *http.Client
}

func newRookery(o Rookery) (*rookery, error) {
	o.SDKAppID = cmp.Or(o.SDKAppID, 1400000001)
	o.Admin = cmp.Or(o.Admin, "administrator")
	if o.Secret == "" {
		if o.DataDir == "" {
			return nil, errors.New("no secret of Rookery: set $" + secretVariable + " or --rookery-data-dir")
		}
		text, err := os.ReadFile(filepath.Join(o.DataDir, secretFile))
		if err != nil {
			return nil, err
		}
		o.Secret = strings.TrimSpace(string(text))
	}
	return &rookery{
		Rookery: o,
		app:     usersig.App{ID: o.SDKAppID, Secret: o.Secret},
		client: &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: setUpCalls},
		},
	}, nil
}

func (r *rookery) sign(user string) (string, error) {
	return usersig.Generate(r.app, user, time.Now(), 24*time.Hour, nil)
}

// path is the request path of a command, with the query that authenticates the administrator.
func (r *rookery) path(command string) (string, error) {
	sig, err := r.sign(r.Admin)
	if err != nil {
		return "", err
	}
	q := url.Values{
		"sdkappid": {fmt.Sprint(r.SDKAppID)}, "identifier": {r.Admin}, "usersig": {sig},
		"random": {fmt.Sprint(rand.Uint32())}, "contenttype": {"json"},
	}
	return "/v4/" + command + "?" + q.Encode(), nil
}

// envelope is what every reply of the API has.
type envelope struct {
	ActionStatus string
	ErrorCode    int
	ErrorInfo    string
}

func (e envelope) err() error {
	if e.ErrorCode == 0 && e.ActionStatus != "FAIL" {
		return nil
	}
	return fmt.Errorf("error %d: %s", e.ErrorCode, e.ErrorInfo)
}

// call runs one command of the API; reply may be nil.
func (r *rookery) call(ctx context.Context, command string, request, reply any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	path, err := r.path(command)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.HTTP+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		// The URL that net/http would name holds a UserSig.
		if cause, ok := errors.AsType[*url.Error](err); ok {
			err = cause.Err
		}
		return fmt.Errorf("%s: %w", command, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxFrame))
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("%s answered HTTP %d and no JSON: %w", command, resp.StatusCode, err)
	}
	if err := e.err(); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(text, reply)
}

// A groupPlan is a group to be made, with the users that are to be in it.
type groupPlan struct {
	id      string
	members []string
}

const (
	setUpCalls      = 16 // API calls under way while setting up
	accountsPerCall = 100
	membersPerCall  = 300
	publicMembers   = 6000 // the most that a Public group has
)

// setUp imports users and makes the groups with their members.
func (r *rookery) setUp(ctx context.Context, users []string, groups []groupPlan) error {
	type account struct{ UserID string }
	accounts := make([]account, len(users))
	for i, u := range users {
		accounts[i].UserID = u
	}
	err := inParallel(ctx, slices.Collect(slices.Chunk(accounts, accountsPerCall)), func(ctx context.Context, part []account) error {
		var reply struct{ FailAccounts []string }
		request := map[string]any{"AccountList": part}
		if err := r.call(ctx, "im_open_login_svc/multiaccount_import", request, &reply); err != nil {
			return err
		}
		if len(reply.FailAccounts) > 0 {
			return fmt.Errorf("multiaccount_import: %d accounts were not imported", len(reply.FailAccounts))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return inParallel(ctx, groups, r.makeGroup)
}

const community = "Community"

// typeFor is the type of a group with so many members.
func (r *rookery) typeFor(members int) string {
	kind := "Public"
	if members > publicMembers {
		kind = community
	}
	return cmp.Or(r.GroupType, kind)
}

// idFor is a group's id as its type demands it.
func (r *rookery) idFor(id string, members int) string {
	if r.typeFor(members) == community {
		return "@TGS#_" + id
	}
	return id
}

// topicOf is the topic of a group: what MQTT keeps for itself is percent-encoded.
func topicOf(id string) string { return "groups/" + strings.ReplaceAll(id, "#", "%23") }

func (r *rookery) makeGroup(ctx context.Context, g groupPlan) error {
	request := map[string]any{"Type": r.typeFor(len(g.members)), "Name": "bench", "GroupId": g.id, "MaxMemberCount": max(len(g.members), 2)}
	if err := r.call(ctx, "group_open_http_svc/create_group", request, nil); err != nil {
		return err
	}
	type member struct {
		Account string `json:"Member_Account"`
	}
	for part := range slices.Chunk(g.members, membersPerCall) {
		list := make([]member, len(part))
		for i, m := range part {
			list[i].Account = m
		}
		var reply struct {
			MemberList []struct {
				Account string `json:"Member_Account"`
				Result  int
			}
		}
		request := map[string]any{"GroupId": g.id, "Silence": 1, "MemberList": list}
		if err := r.call(ctx, "group_open_http_svc/add_group_member", request, &reply); err != nil {
			return err
		}
		for _, m := range reply.MemberList {
			if m.Result != 1 {
				return fmt.Errorf("add_group_member: %s was answered with %d", m.Account, m.Result)
			}
		}
	}
	return nil
}

// inParallel calls f for every item, a few at a time, and ends with the first error.
func inParallel[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(setUpCalls)
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return f(ctx, item) })
	}
	return g.Wait()
}
