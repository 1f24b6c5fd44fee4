package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/admin"
	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/pebble"
	"github.com/rookery-im/rookery/usersig"
	"github.com/rookery-im/rookery/wire"
)

// A backend is an app's server that drives the REST API from outside, over a store of its own.
type backend struct {
	http     http.Handler
	table    *command.Table
	store    *pebble.Store
	pipeline *hooks.Pipeline
	query    string
}

func newBackend(t testing.TB, cfg command.Config) *backend {
	t.Helper()
	store, err := pebble.Open(pebble.Config{Dir: t.TempDir(), Sync: pebble.SyncInterval, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	cfg.SDKAppID, cfg.Admins = sdkAppID, []group.Account{"administrator"}
	pipeline := hooks.New(store, hooks.Config{Admins: cfg.Admins}, slog.New(slog.DiscardHandler))
	stats := command.NewStats(store, slog.New(slog.DiscardHandler))
	pipeline.UseOutbox(stats)
	table := command.New(command.Env{Store: store, Pipeline: pipeline, Stats: stats}, cfg)
	server, err := admin.New(admin.Config{SDKAppID: sdkAppID}, admin.Backend{Table: table, UserSigs: usersig.NewVerifier(app)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := pipeline.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	sig, err := usersig.Generate(app, "administrator", time.Now(), time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &backend{server, table, store, pipeline, "sdkappid=1400000001&identifier=administrator&usersig=" + strings.ReplaceAll(sig, "*", "%2A") + "&random=99999999999&contenttype=json"}
}

// object is a JSON object.
type object = map[string]any

// post makes a call and returns the answer. Whatever is sent, that must be HTTP 200 and JSON, with
// the three members that agree, and null nowhere in it.
func (b *backend) post(t testing.TB, path, body string) object {
	t.Helper()
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v4/"+path+"?"+b.query, strings.NewReader(body)).WithContext(t.Context()))
	shown := body[:min(len(body), 300)]
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%s %s: HTTP %d, Content-Type %q", path, shown, w.Code, w.Header().Get("Content-Type"))
	}
	d := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	d.UseNumber()
	var out object
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%s %s: answer %.300q: %v", path, shown, w.Body, err)
	}
	code, isNumber := out["ErrorCode"].(json.Number)
	_, isText := out["ErrorInfo"].(string)
	if !isNumber || !isText || (code == "0") != (out["ActionStatus"] == "OK") || code != "0" && out["ActionStatus"] != "FAIL" {
		t.Errorf("%s %s: envelope of %.300s", path, shown, w.Body)
	}
	if at := findNull(out, ""); at != "" {
		t.Errorf("%s %s: null at %s", path, shown, at)
	}
	return out
}

func findNull(v any, at string) string {
	switch v := v.(type) {
	case nil:
		return at
	case object:
		for key, in := range v {
			if found := findNull(in, at+"."+key); found != "" {
				return found
			}
		}
	case []any:
		for _, in := range v {
			if found := findNull(in, at+"[]"); found != "" {
				return found
			}
		}
	}
	return ""
}

func codeOf(answer object) int {
	n, err := answer["ErrorCode"].(json.Number).Int64()
	if err != nil {
		return -1
	}
	return int(n)
}

// ok makes a call that must succeed.
func (b *backend) ok(t testing.TB, path, body string) object {
	t.Helper()
	out := b.post(t, path, body)
	if codeOf(out) != 0 {
		t.Errorf("%s %s: %v", path, body, out)
	}
	return out
}

// refused makes a call that must be refused with one of the codes, and must not change anything.
func (b *backend) refused(t testing.TB, path, body string, codes ...int) {
	t.Helper()
	before := b.dump(t)
	if out := b.post(t, path, body); !slices.Contains(codes, codeOf(out)) {
		t.Errorf("%s %s: %v, want one of the codes %v", path, body, out, codes)
	}
	if after := b.dump(t); after != before {
		t.Errorf("%s %s was refused and changed something", path, body)
	}
}

// dump returns everything that is stored, but what is counted.
func (b *backend) dump(t testing.TB) string {
	t.Helper()
	var text strings.Builder
	tables, err := b.store.Tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if table == storage.Days.Name {
			continue
		}
		for r, err := range b.store.Scan(t.Context(), table, storage.Span{}) {
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&text, "%s %s %s\n", table, r.Key, r.Value)
		}
	}
	for row, err := range storage.Groups.Scan(t.Context(), b.store, storage.Span{}) {
		if err != nil {
			t.Fatal(err)
		}
		for m, err := range b.store.Range(t.Context(), row.Value.Key(), 1, 1<<40) {
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&text, "%s %+v\n", row.Key, m)
		}
	}
	return text.String()
}

const (
	gs   = "group_open_http_svc/"
	room = "group_open_avchatroom_http_svc/"
	acc  = "im_open_login_svc/"
	cfgs = "openconfigsvr/"
)

// populate makes accounts, a group of each type, and messages.
func (b *backend) populate(t testing.TB) {
	t.Helper()
	b.ok(t, acc+"multiaccount_import", `{"AccountList":[{"UserID":"alice","Nick":"Alice","FaceUrl":"http://f/a"},{"UserID":"bob"},{"UserID":"carol"},{"UserID":"dave"},{"UserID":"erin"}]}`)
	for id, typ := range map[string]string{"pub": "Public", "work": "Private", "meet": "ChatRoom", "@TGS#_com": "Community"} {
		b.ok(t, gs+"create_group", fmt.Sprintf(`{"Type":%q,"Name":"n","GroupId":%q,"Owner_Account":"alice","MemberList":[{"Member_Account":"bob"},{"Member_Account":"carol"}]}`, typ, id))
		for n := range 3 {
			b.ok(t, gs+"send_group_msg", fmt.Sprintf(`{"GroupId":%q,"From_Account":"bob","Random":%d,"SupportMessageExtension":1,"NeedReadReceipt":1,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi %d"}}]}`, id, n+1, n))
		}
	}
	b.ok(t, gs+"create_group", `{"Type":"AVChatRoom","Name":"n","GroupId":"room","Owner_Account":"alice"}`)
	b.ok(t, gs+"create_group", `{"Type":"Public","Name":"empty","GroupId":"fresh","Owner_Account":"alice"}`)
	b.ok(t, gs+"set_group_attr", `{"GroupId":"pub","GroupAttr":[{"key":"a","value":"1"}]}`)
	b.ok(t, gs+"update_group_counter", `{"GroupId":"pub","GroupCounter":[{"Key":"c","Value":5}],"Mode":"Set"}`)
	b.ok(t, gs+"ban_group_member", `{"GroupId":"room","Members_Account":["dave"],"Duration":600}`)
}

const text = `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hello"}}]`

// examples has a request of each command that an app admin's server calls, on what populate made.
// All of them are answered with success.
var examples = map[string]string{
	"ConfigSvc/GetIPList":                          `{}`,
	room + "check_members":                         `{"GroupId":"room","Member_Account":["bob"]}`,
	room + "get_admin_list":                        `{"GroupId":"room"}`,
	room + "get_members":                           `{"GroupId":"room","Timestamp":0}`,
	room + "modify_admin":                          `{"GroupId":"room","CommandType":1,"Admin_Account":["bob"]}`,
	room + "modify_user_info":                      `{"GroupId":"room","CommandType":1,"MemberList":[{"Member_Account":"bob","Marks":[1000]}]}`,
	gs + "add_group_member":                        `{"GroupId":"pub","MemberList":[{"Member_Account":"dave"},{"Member_Account":"bob"}]}`,
	gs + "ban_group_member":                        `{"GroupId":"room","Members_Account":["bob"],"Duration":60}`,
	gs + "change_group_owner":                      `{"GroupId":"pub","NewOwner_Account":"bob"}`,
	gs + "clear_group_attr":                        `{"GroupId":"pub"}`,
	gs + "clear_group_msg":                         `{"GroupId":"pub"}`,
	gs + "create_group":                            `{"Type":"Public","Name":"new","Owner_Account":"alice","MemberList":[{"Member_Account":"bob"}]}`,
	gs + "delete_group_attr":                       `{"GroupId":"pub","GroupAttr":[{"key":"a"}]}`,
	gs + "delete_group_counter":                    `{"GroupId":"pub","GroupCounterKeys":["c"]}`,
	gs + "delete_group_member":                     `{"GroupId":"pub","MemberToDel_Account":["bob"]}`,
	gs + "delete_group_msg_by_sender":              `{"GroupId":"pub","Sender_Account":"bob"}`,
	gs + "destroy_group":                           `{"GroupId":"pub"}`,
	gs + "forbid_send_msg":                         `{"GroupId":"pub","Members_Account":["bob"],"MuteTime":60}`,
	gs + "get_appid_group_list":                    `{}`,
	gs + "get_group_attr":                          `{"GroupId":"pub"}`,
	gs + "get_group_limits":                        `{"GroupId":"pub"}`,
	gs + "get_group_ban_member":                    `{"GroupId":"room"}`,
	gs + "get_group_counter":                       `{"GroupId":"pub"}`,
	gs + "get_group_info":                          `{"GroupIdList":["pub","none"]}`,
	gs + "get_group_member_info":                   `{"GroupId":"pub"}`,
	gs + "get_group_msg_receipt":                   `{"GroupId":"pub","MsgSeqList":[{"MsgSeq":1}]}`,
	gs + "get_group_msg_receipt_detail":            `{"GroupId":"pub","MsgSeq":2,"Filter":0,"Cursor":"","Count":10}`,
	gs + "get_group_muted_account":                 `{"GroupId":"pub"}`,
	gs + "get_joined_group_list":                   `{"Member_Account":"bob"}`,
	gs + "get_online_member_num":                   `{"GroupId":"room"}`,
	gs + "get_role_in_group":                       `{"GroupId":"pub","User_Account":["alice","dave"]}`,
	gs + "get_specified_group_member_info":         `{"GroupId":"pub","Member_List_Account":["bob"]}`,
	gs + "group_msg_get_simple":                    `{"GroupId":"pub","ReqMsgNumber":20}`,
	gs + "group_msg_recall":                        `{"GroupId":"pub","MsgSeqList":[{"MsgSeq":2}]}`,
	gs + "group_msg_receipt":                       `{"GroupId":"pub","From_Account":"carol","MsgSeqList":[{"MsgSeq":2}]}`,
	gs + "import_group":                            `{"Type":"Public","Name":"old"}`,
	gs + "import_group_member":                     `{"GroupId":"fresh","MemberList":[{"Member_Account":"dave"}]}`,
	gs + "import_group_msg":                        `{"GroupId":"fresh","MsgList":[{"From_Account":"bob","SendTime":%[1]d,"Random":1,"MsgBody":` + text + `}]}`,
	gs + "modify_group_attr":                       `{"GroupId":"pub","GroupAttr":[{"key":"a","value":"2"}]}`,
	gs + "modify_group_base_info":                  `{"GroupId":"pub","Name":"other"}`,
	gs + "modify_group_member_info":                `{"GroupId":"pub","Member_Account":"bob","NameCard":"Bobby"}`,
	gs + "send_broadcast_msg":                      `{"Random":1,"MsgBody":` + text + `}`,
	gs + "send_group_msg":                          `{"GroupId":"pub","Random":3465726526,"MsgBody":` + text + `}`,
	gs + "send_group_system_notification":          `{"GroupId":"pub","Content":"news"}`,
	gs + "set_group_attr":                          `{"GroupId":"pub","GroupAttr":[{"key":"b","value":"2"}]}`,
	gs + "set_group_limits":                        `{"GroupId":"pub","MessagesPerSecond":80,"LowPerSecond":10}`,
	gs + "set_unread_msg_num":                      `{"GroupId":"pub","Member_Account":"carol","UnreadMsgNum":1}`,
	gs + "unban_group_member":                      `{"GroupId":"room","Members_Account":["dave"]}`,
	gs + "update_group_counter":                    `{"GroupId":"pub","GroupCounter":[{"Key":"c","Value":1}],"Mode":"Increase"}`,
	acc + "account_check":                          `{"CheckItem":[{"UserID":"alice"},{"UserID":"nobody"}]}`,
	acc + "account_delete":                         `{"DeleteItem":[{"UserID":"bob"},{"UserID":"nobody"}]}`,
	acc + "account_import":                         `{"UserID":"frank"}`,
	acc + "kick":                                   `{"UserID":"bob"}`,
	acc + "multiaccount_import":                    `{"AccountList":[{"UserID":"gina"}]}`,
	cfgs + "drop_callbacks":                        `{"NumberList":["1"]}`,
	cfgs + "get_stuck_callbacks":                   `{"Which":"Waiting"}`,
	cfgs + "getappinfo":                            `{}`,
	cfgs + "retry_callbacks":                       `{"NumberList":["1"]}`,
	cfgs + "getnospeaking":                         `{"Get_Account":"bob"}`,
	cfgs + "setnospeaking":                         `{"Set_Account":"bob","GroupmsgNospeakingTime":60,"C2CmsgNospeakingTime":60}`,
	"openim/modify_group_msg":                      `{"GroupId":"pub","MsgSeq":2,"MsgBody":` + text + `}`,
	"openim/query_online_status":                   `{"To_Account":["bob","nobody"]}`,
	"openim_msg_ext_http_svc/group_get_key_values": `{"GroupId":"pub","MsgSeq":2}`,
	"openim_msg_ext_http_svc/group_set_key_values": `{"GroupId":"pub","MsgSeq":2,"OperateType":1,"ExtensionList":[{"Key":"k","Value":"v"}]}`,
	"profile/portrait_get":                         `{"To_Account":["alice","nobody"],"TagList":["Tag_Profile_IM_Nick"]}`,
	"profile/portrait_set":                         `{"From_Account":"alice","ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"A"}]}`,
	"recentcontact/delete":                         `{"From_Account":"bob","Type":2,"ToGroupid":"pub","ClearRamble":1}`,
	"recentcontact/get_list":                       `{"From_Account":"bob","TimeStamp":0,"StartIndex":0,"TopTimeStamp":0,"TopStartIndex":0,"AssistFlags":7}`,
}

// notForServers are the commands that Tencent IM's server SDKs do not call, or that need more than this test has.
var notForServers = []string{
	gs + "apply_join_group", gs + "delete_group_ramble_msg_by_seq", gs + "get_pendency", gs + "handle_apply_join_group",
	gs + "get_group_public_info", gs + "get_group_self_member_info", "openim/read_all_unread_msg",
	gs + "get_usersig_info", gs + "handle_invite_join_group", gs + "msg_read_report", gs + "quit_group", gs + "sync", "open_msg_svc/get_history",
	"openim/delete_push_token", "openim/get_push_options", "openim/push_test", "openim/set_badge", "openim/set_push_options", "openim/set_push_token",
}

func exampleOf(path string) string {
	if body := examples[path]; strings.Contains(body, "%[1]d") {
		return fmt.Sprintf(body, time.Now().Unix())
	}
	return examples[path]
}

// A rewrite makes another client's way to say the same of a request. o is an object of the
// request and fields describe it; it works on the object itself.
type rewrite func(o object, fields []wire.FieldDoc)

// deep applies the rewrite to the object and to all that are in it.
func (rw rewrite) deep(o object, fields []wire.FieldDoc) {
	for _, f := range fields {
		inner := f.Type
		if inner.JSON == "array" && inner.Elem != nil {
			list, _ := o[f.Name].([]any)
			for _, in := range list {
				if in, is := in.(object); is {
					rw.deep(in, inner.Elem.Fields)
				}
			}
		} else if in, is := o[f.Name].(object); is {
			rw.deep(in, inner.Fields)
		}
	}
	rw(o, fields)
}

// absent calls fn for each member that the object leaves out, though it may have it.
func absent(o object, fields []wire.FieldDoc, fn func(f wire.FieldDoc)) {
	for _, f := range fields {
		if _, has := o[f.Name]; !has && !f.Required {
			fn(f)
		}
	}
}

var dialects = map[string]rewrite{
	"nulls": func(o object, fields []wire.FieldDoc) {
		absent(o, fields, func(f wire.FieldDoc) { o[f.Name] = nil })
	},
	"zero values": func(o object, fields []wire.FieldDoc) {
		absent(o, fields, func(f wire.FieldDoc) {
			if f.ZeroIsValue {
				return
			}
			switch f.Type.JSON {
			case "string":
				o[f.Name] = ""
			case "integer", "number":
				o[f.Name] = 0
			case "array":
				o[f.Name] = []any{}
			case "boolean":
				o[f.Name] = false
			}
		})
	},
	"numbers as strings": func(o object, fields []wire.FieldDoc) {
		for _, f := range fields {
			if n, is := o[f.Name].(json.Number); is && f.Type.JSON == "integer" {
				o[f.Name] = n.String()
			}
		}
	},
	"upper case": func(o object, _ []wire.FieldDoc) {
		for _, key := range slices.Collect(maps.Keys(o)) {
			if v := o[key]; strings.ToUpper(key) != key {
				delete(o, key)
				o[strings.ToUpper(key)] = v
			}
		}
	},
	"other names": func(o object, fields []wire.FieldDoc) {
		for _, f := range fields {
			if v, has := o[f.Name]; has && len(f.Aliases) > 0 {
				delete(o, f.Name)
				o[f.Aliases[len(f.Aliases)-1]] = v
			}
		}
	},
	"unknown members": func(o object, _ []wire.FieldDoc) {
		o["CustomModerationConfigID"], o["CallbackData"], o["ClientSeq"], o["MsgClientTime"], o["Whatever"] = "x", "x", 1, 1, object{"a": []any{nil}}
	},
}

func decoded(t testing.TB, text string) object {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var o object
	if err := d.Decode(&o); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return o
}

func encoded(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestEveryCommandInEveryDialect sends the example of each command as SDKs in several languages
// would: each must mean the same. And whatever else is put into its members must be answered,
// and change nothing if it is refused.
func TestEveryCommandInEveryDialect(t *testing.T) {
	var known []string
	for c := range newBackend(t, command.Config{}).table.Commands() {
		known = append(known, c.Path())
		if _, has := examples[c.Path()]; !has && !slices.Contains(notForServers, c.Path()) {
			t.Errorf("%s has no example", c.Path())
		}
	}
	for path := range examples {
		if !slices.Contains(known, path) {
			t.Errorf("there is no command %s", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(examples)) {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, command.Config{})
			b.populate(t)
			service, name, _ := strings.Cut(path, "/")
			c := b.table.Find(service, name)
			fields := wire.Fields(c.Request)
			plain := b.post(t, path, exampleOf(path))
			if codeOf(plain) != 0 {
				t.Fatalf("%s: %v", exampleOf(path), plain)
			}
			checkShape(t, plain, c)
			for dialect, rw := range dialects {
				b := newBackend(t, command.Config{})
				b.populate(t)
				o := decoded(t, exampleOf(path))
				rw.deep(o, fields)
				body := encoded(t, o)
				got := b.post(t, path, body)
				if codeOf(got) != 0 {
					t.Errorf("%s: %s: %v", dialect, body, got)
					continue
				}
				if w, g := skeleton(plain), skeleton(got); !reflect.DeepEqual(w, g) {
					t.Errorf("%s: %s:\n got %v\nwant %v", dialect, body, g, w)
				}
			}
			if testing.Short() {
				return
			}
			b = newBackend(t, command.Config{})
			b.populate(t)
			abuse(t, b, c, exampleOf(path), fields)
		})
	}
}

// skeleton is an answer without what differs from call to call.
func skeleton(v any) any {
	switch v := v.(type) {
	case object:
		out := object{}
		for key, in := range v {
			switch key {
			case "MsgTime", "CreateTime", "LastInfoTime", "LastMsgTime", "MsgTimeStamp", "JoinTime", "LastSendMsgTime", "GroupId", "TimeStamp", "NextTimestamp", "GroupmsgNospeakingTime", "C2CmsgNospeakingTime", "BannedUntil":
				continue
			}
			out[key] = skeleton(in)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = skeleton(v[i])
		}
		return out
	}
	return v
}

// checkShape compares an answer with what the table says of it: every member that can't be left
// out is there, lists are lists, and what the server chooses needs no more than 32 bits.
func checkShape(t *testing.T, answer object, c *command.Command) {
	t.Helper()
	for _, f := range wire.Fields(c.Response) {
		v, has := answer[f.Name]
		if !has {
			if !f.Omittable || f.Type.JSON == "array" && !slices.Contains([]string{"Fail_Account", "ReadList", "UnreadList", "QueryFail", "ErrorList"}, f.Name) {
				t.Errorf("%s: the answer has no %s: %v", c.Path(), f.Name, answer)
			}
			continue
		}
		for _, name := range f.Also {
			if !reflect.DeepEqual(answer[name], v) {
				t.Errorf("%s: %s is %v and %s is %v", c.Path(), f.Name, v, name, answer[name])
			}
		}
		if _, is := v.([]any); f.Type.JSON == "array" && !is {
			t.Errorf("%s: %s is no list: %v", c.Path(), f.Name, v)
		}
	}
	var bits func(v any, at string)
	bits = func(v any, at string) {
		switch v := v.(type) {
		case object:
			for key, in := range v {
				bits(in, at+"."+key)
			}
		case []any:
			for _, in := range v {
				bits(in, at+"[]")
			}
		case json.Number:
			if n, err := v.Int64(); err == nil && (n >= 1<<31 || n < -(1<<31)) && !strings.HasSuffix(at, "MsgRandom") {
				t.Errorf("%s: %s = %d needs more than 32 bits", c.Path(), at, n)
			}
		}
	}
	bits(answer, "")
}

// hostile are values that no member takes, or takes with care.
var hostile = []string{
	`1e400`, `-1`, `99999999999999999999`, `1.5`, `"` + strings.Repeat("x", 20_000) + `"`, `"\u0000"`, `"\ud800"`, `{}`, `[[]]`, `[null]`, `[{}]`, `true`, `"-1"`, `4294967295`,
	`[` + strings.Repeat(`"a",`, 600) + `"a"]`, strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200), `[""]`, `"@TGS#x"`, `[{"Member_Account":7}]`, `{"Type":{}}`,
}

// abuse puts hostile values into each member of a good request.
func abuse(t *testing.T, b *backend, c *command.Command, example string, fields []wire.FieldDoc) {
	t.Helper()
	const internal = "internal error"
	before := b.dump(t)
	try := func(body string) {
		got := b.post(t, c.Path(), body)
		if info, _ := got["ErrorInfo"].(string); strings.Contains(info, internal) || strings.Contains(info, "outcome is unknown") {
			t.Errorf("%.300s: %v", body, got)
		}
		after := b.dump(t)
		if codeOf(got) != 0 && after != before {
			t.Errorf("%.300s was refused and changed something: %v", body, got)
		}
		before = after
	}
	for _, f := range fields {
		for _, value := range hostile {
			o := decoded(t, example)
			o[f.Name] = json.RawMessage(value)
			if !json.Valid([]byte(value)) {
				t.Fatalf("%q is no JSON", value)
			}
			raw, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			try(string(raw))
		}
		if f.Required {
			o := decoded(t, example)
			delete(o, f.Name)
			if body := encoded(t, o); codeOf(b.post(t, c.Path(), body)) == 0 {
				t.Errorf("%s: accepted without %s", body, f.Name)
			}
		}
	}
	for _, body := range []string{
		"", " ", "null", "[]", "1", `"x"`, "{", "{}}", `{"GroupId":"pub","GroupId":`, "{\"GroupId\":\"\xff\"}", strings.Repeat(`{"a":`, 50_000), `{"a":` + strings.Repeat("[", 100_000),
	} {
		if got := b.post(t, c.Path(), body); codeOf(got) == 0 {
			t.Errorf("%.100q: accepted", body)
		}
	}
	if after := b.dump(t); after != before {
		t.Errorf("a body that is no object changed something")
	}
	if got := b.post(t, c.Path(), `{"x":"`+strings.Repeat("x", 10<<20)+`"}`); codeOf(got) != group.CodeJSONTooLong {
		t.Errorf("10 MB: %v", got)
	}
}
