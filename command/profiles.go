package command

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
)

func (t *Table) registerProfiles() {
	e := t.env
	register(t, Command{Service: profileService, Name: "portrait_set", Audience: Everyone, Changes: true, ErrorDisplay: true, Doc: "Changes an account's profile."}, e.setProfile)
	register(t, Command{Service: profileService, Name: "portrait_get", Audience: Everyone, ErrorDisplay: true, Doc: "Returns fields of accounts' profiles."}, e.getProfiles)
}

const (
	codeProfileParameter = 40001
	codeProfileNobody    = 40002
	codeProfileUnknown   = 40003
	codeProfileNoWrite   = 40008
	codeProfileTag       = 40009
	codeProfileTooLong   = 40601
	codeProfileValue     = 40605
	codeProfileType      = 40610

	maxProfiles  = 100
	maxTags      = 100
	maxCustomTag = 8 // letters of a custom tag's name

	tagPrefix       = "Tag_Profile_IM_"
	tagCustomPrefix = "Tag_Profile_Custom_"
	tagNick         = tagPrefix + "Nick"
	tagImage        = tagPrefix + "Image"
	tagForbid       = tagPrefix + "AdminForbidType"
)

// A tagRule says what the value of a profile tag may be: one of some words, a text up to a
// size, or an integer.
type tagRule struct {
	words   []string
	size    int // bytes; 0: an integer
	byAdmin bool
}

var tagRules = map[string]tagRule{
	tagNick:                     {size: maxNick},
	tagImage:                    {size: maxNick},
	tagPrefix + "Gender":        {words: []string{"Gender_Type_Unknown", "Gender_Type_Female", "Gender_Type_Male"}},
	tagPrefix + "BirthDay":      {},
	tagPrefix + "Location":      {size: 16},
	tagPrefix + "SelfSignature": {size: maxNick},
	tagPrefix + "AllowType":     {words: []string{"AllowType_Type_NeedConfirm", "AllowType_Type_AllowAny", "AllowType_Type_DenyAny"}},
	tagPrefix + "Language":      {},
	tagPrefix + "MsgSettings":   {},
	tagForbid:                   {words: []string{"AdminForbid_Type_None", "AdminForbid_Type_SendOut"}, byAdmin: true},
	tagPrefix + "Level":         {},
	tagPrefix + "Role":          {},
}

func ruleOf(tag string) (tagRule, bool) {
	if r, known := tagRules[tag]; known {
		return r, true
	}
	name, custom := strings.CutPrefix(tag, tagCustomPrefix)
	if !custom || name == "" || len(name) > maxCustomTag {
		return tagRule{}, false
	}
	for _, c := range []byte(name) {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return tagRule{}, false
		}
	}
	return tagRule{size: maxNick}, true
}

type profileItem struct {
	Tag   string          `json:"Tag" wire:"required"`
	Value json.RawMessage `json:"Value" doc:"A string or an integer, as the tag has it."`
}

// value checks the item's value and returns it in its canonical form.
func (it *profileItem) value(r tagRule) (json.RawMessage, error) {
	var v any
	if len(it.Value) > 0 {
		dec := json.NewDecoder(strings.NewReader(string(it.Value)))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			return nil, group.Errorf(codeProfileType, "%s: bad value", it.Tag)
		}
	}
	text, isText := v.(string)
	number, isNumber := v.(json.Number)
	switch {
	case v == nil:
		return nil, nil
	case r.words == nil && r.size == 0: // an integer
		if isText {
			number = json.Number(text)
		}
		n, err := strconv.ParseInt(number.String(), 10, 64)
		if !isText && !isNumber {
			return nil, group.Errorf(codeProfileType, "%s takes an integer", it.Tag)
		}
		if err != nil || n < 0 || n > group.Forever {
			return nil, group.Errorf(codeProfileValue, "%s takes an integer of 32 bits", it.Tag)
		}
		return strconv.AppendInt(nil, n, 10), nil
	case isNumber && strings.HasPrefix(it.Tag, tagCustomPrefix):
		return json.RawMessage(number.String()), nil
	case !isText:
		return nil, group.Errorf(codeProfileType, "%s takes a string", it.Tag)
	case r.words != nil && !slices.Contains(r.words, text):
		return nil, group.Errorf(codeProfileValue, "%s takes one of %s", it.Tag, strings.Join(r.words, ", "))
	case r.size > 0 && len(text) > r.size:
		return nil, group.Errorf(codeProfileTooLong, "%s has at most %d bytes", it.Tag, r.size)
	}
	return it.Value, nil
}

type setProfileRequest struct {
	From  group.Account `json:"From_Account" wire:"account" doc:"Whose profile. For users: always the caller."`
	Items []profileItem `json:"ProfileItem" wire:"required" doc:"At most 100."`
}

// profileNotice tells an account's devices what changed of its profile.
type profileNotice struct {
	Account group.Account `json:"From_Account"`
	Items   []profileItem `json:"ProfileItem"`
}

// profileSet is what the app is told of a changed profile.
type profileSet struct {
	Operator group.Account `json:"Operator_Account"`
	Account  group.Account `json:"From_Account"`
	Items    []profileItem `json:"ProfileItem"`
}

func (e *env) setProfile(ctx context.Context, call *Call, r *setProfileRequest) (*ok, error) {
	if !call.Admin {
		r.From = call.Caller
	}
	if r.From == "" {
		return nil, group.Errorf(codeProfileParameter, "From_Account is missing")
	}
	if n := len(r.Items); n == 0 || n > maxTags {
		return nil, group.Errorf(codeProfileParameter, "ProfileItem has %d entries, 1 to %d are allowed", n, maxTags)
	}
	for i := range r.Items {
		it := &r.Items[i]
		rule, known := ruleOf(it.Tag)
		switch {
		case !known:
			return nil, group.Errorf(codeProfileTag, "unknown tag %.60q", it.Tag)
		case rule.byAdmin && !call.Admin:
			return nil, group.Errorf(codeProfileNoWrite, "%s is set by app admins only", it.Tag)
		}
		var err error
		if it.Value, err = it.value(rule); err != nil {
			return nil, err
		}
	}
	found, err := e.exists(ctx, r.From)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, group.Errorf(codeProfileUnknown, "account %.40q does not exist", r.From)
	}
	told := &accountEvent{"Profile.CallbackPortraitSet", profileSet{call.Caller, r.From, r.Items}, call.origin()}
	err = e.changeAccount(ctx, r.From, false, told, func(p *group.Profile) error {
		p.Changed = time.Now().Unix()
		return applyItems(p, r.Items)
	})
	if err != nil {
		return nil, err
	}
	e.online.Notify(hooks.Notice{To: r.From, Event: "ProfileChanged", Body: profileNotice{r.From, r.Items}})
	return nil, nil
}

// profileItems returns all that is set in p, by tag.
func profileItems(p *group.Profile) []profileItem {
	items := []profileItem{}
	for _, tag := range []struct{ name, text string }{{tagNick, p.Nick}, {tagImage, p.FaceURL}} {
		if tag.text != "" {
			raw, _ := json.Marshal(tag.text) // a string always encodes
			items = append(items, profileItem{tag.name, raw})
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(p.Tags)) {
		items = append(items, profileItem{tag, p.Tags[tag]})
	}
	return items
}

// maxTagsKept bounds the custom tags of one profile.
const maxTagsKept = 100

// applyItems puts checked items into the profile; an empty value removes its tag.
func applyItems(p *group.Profile, items []profileItem) error {
	for _, it := range items {
		switch empty := len(it.Value) == 0 || string(it.Value) == `""`; {
		case it.Tag == tagNick || it.Tag == tagImage:
			var text string
			if !empty {
				if err := json.Unmarshal(it.Value, &text); err != nil {
					return err
				}
			}
			if it.Tag == tagNick {
				p.Nick = text
			} else {
				p.FaceURL = text
			}
		case empty:
			delete(p.Tags, it.Tag)
		default:
			if p.Tags == nil {
				p.Tags = make(map[string]json.RawMessage)
			}
			p.Tags[it.Tag] = it.Value
		}
	}
	if len(p.Tags) > maxTagsKept {
		return group.Errorf(codeProfileParameter, "a profile has at most %d tags", maxTagsKept)
	}
	return nil
}

type getProfilesRequest struct {
	Accounts []group.Account `json:"To_Account" wire:"account" doc:"1 to 100; of users, too: there is no default."`
	Tags     []string        `json:"TagList" wire:"required"`
}

type profileResult struct {
	Account group.Account  `json:"To_Account"`
	Items   *[]profileItem `json:"ProfileItem" doc:"Tags without a value are left out."`
	Code    int            `json:"ResultCode"`
	Info    string         `json:"ResultInfo"`
}

type getProfilesResponse struct {
	Profiles []profileResult `json:"UserProfileItem"`
	Failed   []group.Account `json:"Fail_Account,omitempty"`
}

func (e *env) getProfiles(ctx context.Context, _ *Call, r *getProfilesRequest) (*getProfilesResponse, error) {
	switch {
	case len(r.Accounts) == 0:
		return nil, group.Errorf(codeProfileNobody, "To_Account is empty")
	case len(r.Accounts) > maxProfiles || len(r.Tags) == 0 || len(r.Tags) > maxTags:
		return nil, group.Errorf(codeProfileParameter, "at most %d accounts and 1 to %d tags are allowed", maxProfiles, maxTags)
	}
	for _, tag := range r.Tags {
		if _, known := ruleOf(tag); !known {
			return nil, group.Errorf(codeProfileTag, "unknown tag %.60q", tag)
		}
	}
	profiles, err := e.profiles(ctx, r.Accounts)
	if err != nil {
		return nil, err
	}
	resp := &getProfilesResponse{}
	for i, a := range r.Accounts {
		if profiles[i] == nil {
			resp.Profiles = append(resp.Profiles, profileResult{Account: a, Code: codeProfileUnknown, Info: "the account does not exist"})
			resp.Failed = append(resp.Failed, a)
			continue
		}
		items, err := itemsOf(profiles[i], r.Tags)
		if err != nil {
			return nil, err
		}
		resp.Profiles = append(resp.Profiles, profileResult{Account: a, Items: &items})
	}
	return resp, nil
}

func itemsOf(p *group.Profile, tags []string) ([]profileItem, error) {
	items := []profileItem{}
	for _, tag := range tags {
		value := p.Tags[tag]
		text := ""
		switch tag {
		case tagNick:
			text = p.Nick
		case tagImage:
			text = p.FaceURL
		}
		if text != "" {
			var err error
			if value, err = json.Marshal(text); err != nil {
				return nil, err
			}
		}
		if len(value) > 0 {
			items = append(items, profileItem{tag, value})
		}
	}
	return items, nil
}
