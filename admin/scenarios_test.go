package admin_test

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
)

// at returns what is found in a JSON value by keys and indices.
func at(t testing.TB, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			o, is := v.(object)
			if !is {
				t.Fatalf("%v: %v is no object", path, v)
			}
			v = o[step]
		case int:
			l, is := v.([]any)
			if !is || step >= len(l) {
				t.Fatalf("%v: %v has no element %d", path, v, step)
			}
			v = l[step]
		}
	}
	return v
}

// is compares what is found in an answer with want, as JSON.
func is(t testing.TB, answer any, want string, path ...any) {
	t.Helper()
	if got := encoded(t, at(t, answer, path...)); got != want {
		t.Errorf("%v = %s, want %s", path, got, want)
	}
}

func mapKeys(o object) iter.Seq[string] { return maps.Keys(o) }

func (b *backend) nextSeq(t testing.TB, id string) string {
	t.Helper()
	return fmt.Sprint(at(t, b.ok(t, gs+"get_group_info", fmt.Sprintf(`{"GroupIdList":[%q]}`, id)), "GroupInfo", 0, "NextMsgSeq"))
}

// TestLife is the way of a group that SDKs' examples go: create, add, send, history, mute,
// recall, import, destroy.
func TestLife(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.ok(t, acc+"account_import", `{"Identifier":"alice","Nick":"Alice","FaceUrl":"http://f/a"}`) // the old name
	is(t, b.ok(t, acc+"multiaccount_import", `{"Accounts":["bob","carol",""]}`), `[""]`, "FailAccounts")
	check := b.ok(t, acc+"account_check", `{"CheckItem":[{"UserID":"bob"},{"UserID":"zoe"}]}`)
	is(t, check, `"Imported"`, "ResultItem", 0, "AccountStatus")
	is(t, check, `"NotImported"`, "ResultItem", 1, "AccountStatus")
	is(t, b.ok(t, gs+"create_group", `{"Type":"Work","Name":"n","GroupId":"g1","Owner_Account":"alice","MaxMemberNum":10,"MemberList":[{"Member_Account":"bob","Role":"","JoinTime":0,"NameCard":"","AppMemberDefinedData":null}]}`), `"g1"`, "GroupId")
	is(t, b.ok(t, gs+"add_group_member", `{"GroupId":"g1","MemberList":[{"Member_Account":"carol"},{"Member_Account":"bob"},{"Member_Account":"nobody"}]}`),
		`[{"Member_Account":"carol","Result":1},{"Member_Account":"bob","Result":2},{"Member_Account":"nobody","Result":0}]`, "MemberList")
	// As a public Go SDK sends it.
	sent := b.ok(t, gs+"send_group_msg", `{"GroupId":"g1","Random":3465726526,"MsgPriority":"High","From_Account":"alice",
		"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}},{"MsgType":"TIMCustomElem","MsgContent":{"Desc":"","Data":"d","Ext":"","Sound":""}}],
		"SendMsgControl":["NoUnread"],"ForbidCallbackControl":["ForbidAfterSendMsgCallback"],"OfflinePushInfo":{"Title":"t","AndroidInfo":{"HuaWeiChannelID":"c"}},
		"CloudCustomData":"cd","GroupAtInfo":[{"GroupAtAllFlag":0,"GroupAt_Account":"bob"},{"GroupAtAllFlag":1}]}`)
	seq := fmt.Sprint(sent["MsgSeq"])
	history := b.ok(t, gs+"group_msg_get_simple", `{"GroupId":"g1","ReqMsgNumber":20,"ReqMsgSeq":0}`)
	is(t, history, seq, "RspMsgList", 0, "MsgSeq")
	is(t, history, `3465726526`, "RspMsgList", 0, "MsgRandom")
	is(t, history, `1`, "RspMsgList", 0, "MsgPriority")
	is(t, history, `"Alice"`, "RspMsgList", 0, "From_AccountNick")
	is(t, history, `"http://f/a"`, "RspMsgList", 0, "From_AccountHeadurl")
	is(t, history, `[{"MsgContent":{"Text":"hi"},"MsgType":"TIMTextElem"},{"MsgContent":{"Data":"d","Desc":"","Ext":"","Sound":""},"MsgType":"TIMCustomElem"}]`, "RspMsgList", 0, "MsgBody")
	is(t, b.ok(t, gs+"group_msg_recall", `{"GroupId":"g1","MsgSeqList":[{"MsgSeq":`+seq+`}]}`), `[{"MsgSeq":`+seq+`,"RetCode":0}]`, "RecallRetList")
	b.ok(t, gs+"destroy_group", `{"GroupId":"g1"}`)
	b.refused(t, gs+"send_group_msg", `{"GroupId":"g1","Random":1,"MsgBody":`+text+`}`, 10010)
}

// TestTips looks at which changes take a SEQ in groups of each type.
func TestTips(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.populate(t)
	b.ok(t, acc+"multiaccount_import", `{"Accounts":["x1","x2"]}`)
	steps := []struct{ what, path, body string }{
		{"join", gs + "add_group_member", `{"GroupId":%q,"MemberList":[{"Member_Account":"dave"}]}`},
		{"silent join", gs + "add_group_member", `{"GroupId":%q,"Silence":1,"MemberList":[{"Member_Account":"x1"}]}`},
		{"name", gs + "modify_group_base_info", `{"GroupId":%q,"Name":"other"}`},
		{"face", gs + "modify_group_base_info", `{"GroupId":%q,"FaceUrl":"http://f"}`},
		{"mute all", gs + "modify_group_base_info", `{"GroupId":%q,"MuteAllMember":"On"}`},
		{"join option", gs + "modify_group_base_info", `{"GroupId":%q,"ApplyJoinOption":"FreeAccess"}`},
		{"mute", gs + "forbid_send_msg", `{"GroupId":%q,"Members_Account":["bob"],"MuteTime":60}`},
		{"admin", gs + "modify_group_member_info", `{"GroupId":%q,"Member_Account":"bob","Role":"Admin"}`},
		{"name card", gs + "modify_group_member_info", `{"GroupId":%q,"Member_Account":"bob","NameCard":"B"}`},
		{"owner", gs + "change_group_owner", `{"GroupId":%q,"NewOwner_Account":"carol"}`},
		{"leave", gs + "delete_group_member", `{"GroupId":%q,"MemberToDel_Account":["dave"]}`},
		{"silent leave", gs + "delete_group_member", `{"GroupId":%q,"MemberToDel_Account":["x1"],"Silence":1}`},
	}
	stored := map[string][]string{
		"pub":       {"join", "name", "face", "mute", "admin", "owner", "leave"},
		"work":      {"join", "name", "face", "owner", "leave"}, // no mutes and no admins
		"@TGS#_com": {"join", "name", "face", "mute", "admin", "owner", "leave"},
		"meet":      {"name", "face", "owner"},
	}
	for id, want := range stored {
		var got []string
		for _, step := range steps {
			before := b.nextSeq(t, id)
			b.post(t, step.path, fmt.Sprintf(step.body, id))
			if b.nextSeq(t, id) != before {
				got = append(got, step.what)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s stores tips of %q, want %q", id, got, want)
		}
	}
	// A tip in the history is an array with one element, and says who did what.
	page := b.ok(t, gs+"group_msg_get_simple", `{"GroupId":"pub","ReqMsgNumber":1}`)
	is(t, page, `"@TIM#SYSTEM"`, "RspMsgList", 0, "From_Account")
	is(t, page, `1`, "RspMsgList", 0, "IsSystemMsg")
	is(t, page, `"TIMGroupTipElem"`, "RspMsgList", 0, "MsgBody", 0, "MsgType")
	is(t, page, `3`, "RspMsgList", 0, "MsgBody", 0, "MsgContent", "OpType")
	is(t, page, `["dave"]`, "RspMsgList", 0, "MsgBody", 0, "MsgContent", "List_Account")
	is(t, page, `"pub"`, "RspMsgList", 0, "MsgBody", 0, "MsgContent", "GroupInfo", "GroupId")
}

// TestDuplicates sends what a client sends again after a timeout.
func TestDuplicates(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.populate(t)
	send := func(id, from string, random int, body string) (seq string) {
		answer := b.ok(t, gs+"send_group_msg", fmt.Sprintf(`{"GroupId":%q,"From_Account":%q,"Random":%d,"MsgBody":%s}`, id, from, random, body))
		when, err := at(t, answer, "MsgTime").(json.Number).Int64()
		if now := time.Now().Unix(); err != nil || when < now-2 || when > now {
			t.Errorf("MsgTime = %v at %d", answer["MsgTime"], now)
		}
		return fmt.Sprint(answer["MsgSeq"])
	}
	first := send("pub", "bob", 100, text)
	if again := send("pub", "bob", 100, `[ {"MsgContent" : {"Text":"hello"}, "MsgType":"TIMTextElem"} ]`); again != first {
		t.Logf("the same message written otherwise got SEQ %s after %s", again, first) // a new body: it counts as another
	}
	if again := send("pub", "bob", 100, text); again != first {
		t.Errorf("sent again: SEQ %s, want the first one's %s", again, first)
	}
	for name, other := range map[string]string{"random": send("pub", "bob", 101, text), "sender": send("pub", "carol", 100, text), "text": send("pub", "bob", 100, textOf(3))} {
		if other == first {
			t.Errorf("another %s: the first one's SEQ %s", name, first)
		}
	}
	one, two := send("room", "bob", 100, text), send("room", "bob", 101, text)
	if one == "0" || one == two || send("room", "bob", 100, text) != one {
		t.Errorf("in a live room: SEQs %s, %s, then not the first one again", one, two)
	}
}

// TestHistoryBelowRecalled pages below a flood that delete_group_msg_by_sender took back, as SDKs
// page: until IsFinished is 1 and the page is not full.
func TestHistoryBelowRecalled(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.populate(t)
	now := time.Now().Unix()
	b.ok(t, gs+"import_group", fmt.Sprintf(`{"Type":"Public","Name":"n","GroupId":"flood","Owner_Account":"alice","CreateTime":%d}`, now-1000))
	fill := func(from string, calls int) {
		list := strings.Repeat(fmt.Sprintf(`,{"From_Account":%q,"SendTime":%d,"MsgBody":%s}`, from, now-500, text), 20)[1:]
		for range calls {
			b.ok(t, gs+"import_group_msg", `{"GroupId":"flood","MsgList":[`+list+`]}`)
		}
	}
	fill("alice", 2)
	fill("bob", 50)
	fill("alice", 1)
	b.ok(t, gs+"delete_group_msg_by_sender", `{"GroupId":"flood","Sender_Account":"bob"}`)
	// The newest 1,000 are alice's 20 and 980 of bob's; the 20 of bob's below them stay.
	live, pages := 0, 0
	for seq := "0"; ; pages++ {
		answer := b.ok(t, gs+"group_msg_get_simple", `{"GroupId":"flood","ReqMsgNumber":19,"ReqMsgSeq":`+seq+`}`)
		page := answer["RspMsgList"].([]any)
		for _, m := range page {
			if fmt.Sprint(at(t, m, "IsPlaceMsg")) == "0" {
				live++
			}
		}
		if fmt.Sprint(answer["IsFinished"]) == "1" && len(page) < 19 || len(page) == 0 || pages > 20 {
			break
		}
		last, err := at(t, page, len(page)-1, "MsgSeq").(json.Number).Int64()
		if err != nil {
			t.Fatal(err)
		}
		if seq = fmt.Sprint(last - 1); last == 1 {
			break
		}
	}
	if live != 80 || pages > 10 {
		t.Errorf("%d messages on %d pages, want 80", live, pages)
	}
	// With all 1,000 in a row taken back there is a page with nothing but where to go on.
	b.ok(t, gs+"delete_group_msg_by_sender", `{"GroupId":"flood","Sender_Account":"alice"}`)
	answer := b.ok(t, gs+"group_msg_get_simple", `{"GroupId":"flood","ReqMsgNumber":20}`)
	is(t, answer, "0", "IsFinished")
	is(t, answer, "1", "RspMsgList", 0, "IsPlaceMsg")
	is(t, answer, "61", "RspMsgList", 0, "MsgSeq")
	is(t, answer, "[]", "RspMsgList", 0, "MsgBody")
	answer = b.ok(t, gs+"group_msg_get_simple", `{"GroupId":"flood","ReqMsgNumber":20,"ReqMsgSeq":60}`)
	is(t, answer, "1", "IsFinished")
	is(t, answer, `"bob"`, "RspMsgList", 0, "From_Account")
	is(t, b.ok(t, gs+"group_msg_get_simple", `{"GroupId":"flood","ReqMsgNumber":20,"WithRecalledMsg":1}`), "2", "RspMsgList", 19, "IsPlaceMsg")
}

// TestHistory pages through a group with tombstones and a cleared part.
func TestHistory(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.populate(t)
	b.ok(t, gs+"create_group", `{"Type":"ChatRoom","Name":"n","GroupId":"log"}`) // stores no tips of joins
	b.ok(t, gs+"create_group", `{"Type":"ChatRoom","Name":"n","GroupId":"silent"}`)
	for n := range 45 {
		b.ok(t, gs+"send_group_msg", fmt.Sprintf(`{"GroupId":"log","From_Account":"bob","Random":%d,"MsgPriority":"Low","CloudCustomData":"c","MsgBody":%s}`, n, text))
	}
	seqs := func(body string) (out []string, answer object) {
		answer = b.ok(t, gs+"group_msg_get_simple", body)
		for _, m := range answer["RspMsgList"].([]any) {
			out = append(out, fmt.Sprint(at(t, m, "MsgSeq")))
		}
		return out, answer
	}
	page, answer := seqs(`{"GroupId":"log","ReqMsgNumber":20}`)
	if len(page) != 20 || page[0] != "45" || page[19] != "26" {
		t.Errorf("first page %v", page)
	}
	is(t, answer, "1", "IsFinished")
	is(t, answer, `"c"`, "RspMsgList", 0, "CloudCustomData")
	is(t, answer, "3", "RspMsgList", 0, "MsgPriority")
	if _, answer = seqs(`{"GroupId":"log","ReqMsgNumber":21}`); fmt.Sprint(answer["IsFinished"]) != "0" || len(answer["RspMsgList"].([]any)) != 20 {
		t.Errorf("21 asked for: IsFinished %v of %d", answer["IsFinished"], len(answer["RspMsgList"].([]any)))
	}
	// A loop that asks for more than a page holds ends where the group does.
	for _, end := range []string{`{"GroupId":"log","ReqMsgNumber":50,"ReqMsgSeq":20}`, `{"GroupId":"log","ReqMsgNumber":50,"ReqMsgSeq":5}`, `{"GroupId":"log","ReqMsgNumber":50,"ReqMsgSeq":30,"Ascending":1}`, `{"GroupId":"silent","ReqMsgNumber":50}`} {
		_, answer = seqs(end)
		is(t, answer, "1", "IsFinished")
	}
	for _, more := range []string{`{"GroupId":"log","ReqMsgNumber":50,"ReqMsgSeq":21}`, `{"GroupId":"log","ReqMsgNumber":50,"ReqMsgSeq":25,"Ascending":1}`} {
		_, answer = seqs(more)
		is(t, answer, "0", "IsFinished")
	}
	if page, _ = seqs(`{"GroupId":"log","ReqMsgNumber":20,"ReqMsgSeq":25}`); page[0] != "25" || page[19] != "6" {
		t.Errorf("second page %v", page)
	}
	if page, _ = seqs(`{"GroupId":"log","ReqMsgNumber":20,"ReqMsgSeq":5}`); !slices.Equal(page, []string{"5", "4", "3", "2", "1"}) {
		t.Errorf("last page %v", page)
	}
	if page, _ = seqs(`{"GroupId":"log","ReqMsgNumber":2,"ReqMsgSeq":999}`); !slices.Equal(page, []string{"45", "44"}) {
		t.Errorf("beyond the end: %v", page)
	}
	recalled := b.ok(t, gs+"group_msg_recall", `{"GroupId":"log","MsgSeqList":[{"MsgSeq":44},{"MsgSeq":44},{"MsgSeq":999}],"Reason":"why"}`)
	is(t, recalled, "0", "RecallRetList", 0, "RetCode")
	is(t, recalled, "10030", "RecallRetList", 2, "RetCode")
	if page, _ = seqs(`{"GroupId":"log","ReqMsgNumber":3}`); !slices.Equal(page, []string{"45", "43", "42"}) {
		t.Errorf("without what was recalled: %v", page)
	}
	page, answer = seqs(`{"GroupId":"log","ReqMsgNumber":3,"WithRecalledMsg":1}`)
	if !slices.Equal(page, []string{"45", "44", "43"}) {
		t.Errorf("with what was recalled: %v", page)
	}
	is(t, answer, "2", "RspMsgList", 1, "IsPlaceMsg")
	is(t, answer, "[]", "RspMsgList", 1, "MsgBody")
	b.ok(t, gs+"clear_group_msg", `{"GroupId":"log","MsgSeq":10}`)
	if page, _ = seqs(`{"GroupId":"log","ReqMsgNumber":2,"ReqMsgSeq":10}`); !slices.Equal(page, []string{"10", "9"}) {
		t.Errorf("an admin after clear_group_msg: %v", page)
	}
	b.ok(t, gs+"delete_group_msg_by_sender", `{"GroupId":"log","Sender_Account":"bob"}`)
	if page, _ = seqs(`{"GroupId":"log","ReqMsgNumber":20}`); len(page) != 0 {
		t.Errorf("after delete_group_msg_by_sender: %v", page)
	}
	b.ok(t, gs+"delete_group_msg_by_sender", `{"GroupId":"room","Sender_Account":"bob"}`)
	b.refused(t, gs+"clear_group_msg", `{"GroupId":"fresh","MsgSeq":1}`, 10051, 10052)
	if got := b.nextSeq(t, "log"); got != "46" {
		t.Errorf("NextMsgSeq = %s after all that", got)
	}
}

// TestMutes mutes a member, everybody, and an account everywhere.
func TestMutes(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.populate(t)
	n := 1000
	send := func(from string) int {
		n++
		return codeOf(b.post(t, gs+"send_group_msg", fmt.Sprintf(`{"GroupId":"pub","From_Account":%q,"Random":%d,"MsgBody":%s}`, from, n, text)))
	}
	expect := func(what, from string, code int) {
		t.Helper()
		if got := send(from); got != code {
			t.Errorf("%s: %q sends and gets %d, want %d", what, from, got, code)
		}
	}
	for _, seconds := range []string{`"ShutUpTime":60`, `"MuteTime":4294967295`, `"MuteTime":"60"`} {
		b.ok(t, gs+"forbid_send_msg", `{"GroupId":"pub","Members_Account":["bob"],`+seconds+`}`)
		expect(seconds, "bob", 10017)
		expect(seconds, "carol", 0)
		expect(seconds, "", 0)
		muted := b.ok(t, gs+"get_group_shutted_uin", `{"GroupId":"pub"}`)
		is(t, muted, `"bob"`, "MutedAccountList", 0, "Member_Account")
		if !reflect.DeepEqual(at(t, muted, "MutedAccountList", 0, "MutedUntil"), at(t, muted, "ShuttedUinList", 0, "ShuttedUntil")) {
			t.Errorf("%v", muted)
		}
		b.ok(t, gs+"forbid_send_msg", `{"GroupId":"pub","Members_Account":["bob"],"ShutUpTime":0}`)
		expect("lifted", "bob", 0)
		is(t, b.ok(t, gs+"get_group_muted_account", `{"GroupId":"pub"}`), "[]", "MutedAccountList")
	}
	b.ok(t, gs+"modify_group_member_info", `{"GroupId":"pub","Member_Account":"bob","ShutUpUntil":60}`) // the duration under its third name
	expect("by ShutUpUntil", "bob", 10017)
	member := at(t, b.ok(t, gs+"get_specified_group_member_info", `{"GroupId":"pub","Member_List_Account":["bob"]}`), "MemberList", 0).(object)
	if until, err := member["MuteUntil"].(json.Number).Int64(); err != nil || until < time.Now().Unix()+50 || !reflect.DeepEqual(member["MuteUntil"], member["ShutUpUntil"]) {
		t.Errorf("MuteUntil = %v, ShutUpUntil = %v", member["MuteUntil"], member["ShutUpUntil"])
	}
	// It survives leaving and coming back.
	b.ok(t, gs+"delete_group_member", `{"GroupId":"pub","MemberToDel_Account":["bob"]}`)
	b.ok(t, gs+"add_group_member", `{"GroupId":"pub","MemberList":[{"Member_Account":"bob"}]}`)
	expect("after coming back", "bob", 10017)
	b.ok(t, gs+"modify_group_member_info", `{"GroupId":"pub","Member_Account":"bob","MuteTime":0}`)
	expect("lifted by member info", "bob", 0)

	b.ok(t, gs+"modify_group_base_info", `{"GroupId":"pub","ShutUpAllMember":"On"}`)
	expect("mute all", "bob", 10017)
	expect("mute all", "alice", 0)
	expect("mute all", "administrator", 0)
	info := b.ok(t, gs+"get_group_info", `{"GroupIdList":["pub"]}`)
	is(t, info, `"On"`, "GroupInfo", 0, "MuteAllMember")
	is(t, info, `"On"`, "GroupInfo", 0, "ShutUpAllMember")
	b.ok(t, gs+"modify_group_base_info", `{"GroupId":"pub","MuteAllMember":"Off"}`)
	expect("mute all off", "bob", 0)

	b.ok(t, cfgs+"setnospeaking", `{"Set_Account":"bob","GroupmsgNospeakingTime":4294967295}`)
	expect("global mute", "bob", 10017)
	is(t, b.ok(t, cfgs+"getnospeaking", `{"Get_Account":"bob"}`), "4294967295", "GroupmsgNospeakingTime")
	b.ok(t, cfgs+"setnospeaking", `{"Set_Account":"bob","GroupmsgNospeakingTime":0}`)
	expect("global mute off", "bob", 0)
	is(t, b.ok(t, cfgs+"getnospeaking", `{"Get_Account":"bob"}`), "0", "GroupmsgNospeakingTime")
}

// TestImport moves a group in from elsewhere.
func TestImport(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.populate(t)
	created := time.Now().Unix() - 1000
	b.ok(t, gs+"import_group", fmt.Sprintf(`{"Type":"Public","Name":"old","GroupId":"old","Owner_Account":"alice","CreateTime":%d}`, created))
	is(t, b.ok(t, gs+"get_group_info", `{"GroupIdList":["old"]}`), fmt.Sprint(created), "GroupInfo", 0, "CreateTime")
	results := b.ok(t, gs+"import_group_msg", fmt.Sprintf(`{"GroupId":"old","MsgList":[
		{"From_Account":"bob","SendTime":%[1]d,"Random":1,"MsgBody":%[5]s},
		{"From_Account":"bob","SendTime":%[2]d,"Random":2,"MsgBody":%[5]s},
		{"From_Account":"bob","SendTime":%[3]d,"Random":3,"MsgBody":%[5]s},
		{"From_Account":"bob","SendTime":%[4]d,"Random":4,"MsgBody":%[5]s},
		{"From_Account":"bob","SendTime":%[1]d,"Random":5,"MsgBody":%[6]s}]}`,
		created+10, created+5, created+20, time.Now().Unix()+1000, text, textOf(12_000)))
	is(t, results, fmt.Sprintf(`[{"MsgSeq":1,"MsgTime":%d,"Result":0},{"MsgSeq":0,"MsgTime":0,"Result":10004},{"MsgSeq":2,"MsgTime":%d,"Result":0},{"MsgSeq":0,"MsgTime":0,"Result":10004},{"MsgSeq":0,"MsgTime":0,"Result":80002}]`, created+10, created+20), "ImportMsgResult")
	is(t, b.ok(t, gs+"import_group_member", fmt.Sprintf(`{"GroupId":"old","MemberList":[{"Member_Account":"bob","UnreadMsgNum":1,"JoinTime":%d},
		{"Member_Account":"carol","UnreadMsgNum":99,"Role":"Admin"},{"Member_Account":"alice"},{"Member_Account":"nobody"},{"Member_Account":"dave","JoinTime":%d}]}`, created+1, created-1)),
		`[{"Member_Account":"bob","Result":1},{"Member_Account":"carol","Result":1},{"Member_Account":"alice","Result":2},{"Member_Account":"nobody","Result":0},{"Member_Account":"dave","Result":0}]`, "MemberList")
	read := func(a string) string {
		return encoded(t, at(t, b.ok(t, gs+"get_specified_group_member_info", fmt.Sprintf(`{"GroupId":"old","Member_List_Account":[%q]}`, a)), "MemberList", 0, "MsgSeq"))
	}
	if alice, bob, carol := read("alice"), read("bob"), read("carol"); alice != "2" || bob != "1" || carol != "0" {
		t.Errorf("read SEQs of alice %s, bob %s, carol %s; want 2, 1, 0", alice, bob, carol)
	}
	b.ok(t, gs+"set_unread_msg_num", `{"GroupId":"old","Member_Account":"alice","UnreadMsgNum":1000}`)
	if got := read("alice"); got != "0" {
		t.Errorf("more unread than there are: read SEQ %s, want 0", got)
	}
	b.ok(t, gs+"set_unread_msg_num", `{"GroupId":"meet","Member_Account":"bob","UnreadMsgNum":5}`)
	b.ok(t, gs+"set_unread_msg_num", `{"GroupId":"room","Member_Account":"bob","UnreadMsgNum":5}`)
}

// TestGroups asks for groups and members in both generations' words.
func TestGroups(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.populate(t)
	info := b.ok(t, gs+"get_group_info", `{"GroupIdList":["none","pub","@bad\u0001","work"]}`)
	for i, want := range []string{`10010`, `0`, `10015`, `0`} {
		is(t, info, want, "GroupInfo", i, "ErrorCode")
	}
	is(t, info, `"pub"`, "GroupInfo", 1, "GroupId")
	is(t, info, `"Private"`, "GroupInfo", 3, "Type")
	is(t, info, `1400000001`, "GroupInfo", 1, "Appid")
	is(t, info, `""`, "GroupInfo", 1, "Introduction")
	is(t, info, `[]`, "GroupInfo", 1, "AppDefinedData")
	is(t, info, `"DisableApply"`, "GroupInfo", 3, "ApplyJoinOption")
	is(t, info, `"NeedPermission"`, "GroupInfo", 1, "ApplyJoinOption")
	// With one filter only: base data and no members; members and all base data.
	base := at(t, b.ok(t, gs+"get_group_info", `{"GroupIdList":["pub"],"ResponseFilter":{"GroupBaseInfoFilter":["Name","ShutUpAllMember"],"MemberInfoFilter":null}}`), "GroupInfo", 0).(object)
	if keys := slices.Sorted(mapKeys(base)); !slices.Contains(keys, "Name") || slices.Contains(keys, "MemberList") || slices.Contains(keys, "Introduction") || !slices.Contains(keys, "ShutUpAllMember") || !slices.Contains(keys, "GroupId") {
		t.Errorf("base filter: %v", keys)
	}
	members := at(t, b.ok(t, gs+"get_group_info", `{"GroupIdList":["pub"],"ResponseFilter":{"MemberInfoFilter":["Account","Role"]}}`), "GroupInfo", 0).(object)
	if keys := slices.Sorted(mapKeys(members)); !slices.Contains(keys, "MemberList") || !slices.Contains(keys, "Introduction") {
		t.Errorf("member filter: %v", keys)
	}
	is(t, members, `{"Member_Account":"alice","Role":"Owner"}`, "MemberList", 0)
	for _, names := range []string{`"GroupType":"Work"`, `"Type":"Private"`, `"GroupType":"Private","Type":"Public"`} {
		is(t, b.ok(t, gs+"get_appid_group_list", `{`+names+`}`), `[{"GroupId":"work"}]`, "GroupIdList")
	}
	one := b.ok(t, gs+"get_appid_group_list", `{"Limit":1,"Next":0}`)
	is(t, one, "6", "TotalCount")
	two := b.ok(t, gs+"get_appid_group_list", fmt.Sprintf(`{"Limit":5,"Next":%v}`, one["Next"]))
	if n := len(two["GroupIdList"].([]any)); n != 5 || fmt.Sprint(two["Next"]) != "0" || fmt.Sprint(one["Next"]) == "0" {
		t.Errorf("pages: %v, %v", one, two)
	}
	joined := b.ok(t, gs+"get_joined_group_list", `{"Member_Account":"bob","Type":"Private","Limit":0,"Offset":0,"WithHugeGroups":0,"ResponseFilter":{"GroupBaseInfoFilter":["Type"],"SelfInfoFilter":["Role","MsgFlag"]}}`)
	is(t, joined, "1", "TotalCount")
	is(t, joined, `{"GroupId":"work","SelfInfo":{"MsgFlag":"AcceptAndNotify","Role":"Member"},"Type":"Private"}`, "GroupIdList", 0)
	is(t, b.ok(t, gs+"get_joined_group_list", `{"Member_Account":"bob","Limit":2}`), "4", "TotalCount")
	is(t, b.ok(t, gs+"get_role_in_group", `{"GroupId":"pub","User_Account":["alice","bob","dave"]}`),
		`[{"Member_Account":"alice","Role":"Owner"},{"Member_Account":"bob","Role":"Member"},{"Member_Account":"dave","Role":"NotMember"}]`, "UserIdList")
	page := b.ok(t, gs+"get_group_member_info", `{"GroupId":"pub","Limit":1,"Offset":1,"MemberInfoFilter":["Member_Account","ShutUpUntil"],"MemberRoleFilter":["Member"]}`)
	is(t, page, "3", "MemberNum")
	is(t, page, `[{"Member_Account":"carol","MuteUntil":0,"ShutUpUntil":0}]`, "MemberList")
	// A Community pages by a text.
	var seen []string
	for next, calls := "", 0; calls < 5; calls++ {
		page := b.ok(t, gs+"get_group_member_info", fmt.Sprintf(`{"GroupId":"@TGS#_com","Limit":1,"Next":%q}`, next))
		for _, m := range page["MemberList"].([]any) {
			seen = append(seen, fmt.Sprint(at(t, m, "Member_Account")))
		}
		if next, _ = page["Next"].(string); next == "" {
			break
		}
	}
	if !slices.Equal(seen, []string{"alice", "bob", "carol"}) {
		t.Errorf("paged through %v", seen)
	}
	// Custom fields: numbers are texts, an empty value deletes.
	b.ok(t, gs+"modify_group_base_info", `{"GroupId":"pub","AppDefinedData":[{"Key":"n","Value":7},{"Key":"s","Value":"x"}],"MaxMemberCount":3}`)
	b.ok(t, gs+"modify_group_base_info", `{"GroupId":"pub","AppDefinedData":[{"Key":"s","Value":""}]}`)
	info = b.ok(t, gs+"get_group_info", `{"GroupIdList":["pub"]}`)
	is(t, info, `[{"Key":"n","Value":"7"}]`, "GroupInfo", 0, "AppDefinedData")
	is(t, info, `3`, "GroupInfo", 0, "MaxMemberNum")
	b.refused(t, gs+"add_group_member", `{"GroupId":"pub","MemberList":[{"Member_Account":"dave"}]}`, 10014)
	b.ok(t, gs+"modify_group_member_info", `{"GroupId":"pub","Member_Account":"bob","AppMemberDefinedData":[{"key":"k","value":1}]}`)
	is(t, b.ok(t, gs+"get_specified_group_member_info", `{"GroupId":"pub","Member_List_Account":["bob","dave"]}`), `[{"Key":"k","Value":"1"}]`, "MemberList", 0, "AppMemberDefinedData")
	b.ok(t, gs+"delete_group_member", `{"GroupId":"pub","MemberToDel_Account":["dave","nobody"]}`)
	// The id of a destroyed group begins anew.
	b.ok(t, gs+"destroy_group", `{"GroupId":"pub"}`)
	b.ok(t, gs+"create_group", `{"Type":"Public","Name":"n","GroupId":"pub","Owner_Account":"bob"}`)
	info = b.ok(t, gs+"get_group_info", `{"GroupIdList":["pub"]}`)
	is(t, info, "1", "GroupInfo", 0, "NextMsgSeq")
	is(t, info, "1", "GroupInfo", 0, "MemberNum")
	is(t, info, "[]", "GroupInfo", 0, "AppDefinedData")
}

// TestAccounts goes through status, profiles, conversations and operation data.
func TestAccounts(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.populate(t)
	status := b.ok(t, "openim/querystate", `{"To_Account":["bob","nobody"],"IsNeedDetail":1}`)
	is(t, status, `"Offline"`, "QueryResult", 0, "Status")
	is(t, status, `"Offline"`, "QueryResult", 0, "State")
	is(t, status, `"nobody"`, "ErrorList", 0, "To_Account")
	is(t, status, `70107`, "ErrorList", 0, "ErrorCode")
	b.ok(t, "profile/portrait_set", `{"From_Account":"bob","ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"Bob"},{"Tag":"Tag_Profile_IM_BirthDay","Value":"20190419"},{"Tag":"Tag_Profile_Custom_Test","Value":5}]}`)
	profile := b.ok(t, "profile/portrait_get", `{"To_Account":["bob","nobody"],"TagList":["Tag_Profile_IM_Nick","Tag_Profile_IM_BirthDay","Tag_Profile_Custom_Test","Tag_Profile_IM_Gender"]}`)
	is(t, profile, `[{"Tag":"Tag_Profile_IM_Nick","Value":"Bob"},{"Tag":"Tag_Profile_IM_BirthDay","Value":20190419},{"Tag":"Tag_Profile_Custom_Test","Value":5}]`, "UserProfileItem", 0, "ProfileItem")
	is(t, profile, `["nobody"]`, "Fail_Account")
	is(t, profile, `""`, "ErrorDisplay")
	contacts := b.ok(t, "recentcontact/get_list", `{"From_Account":"bob","TimeStamp":0,"StartIndex":0,"TopTimeStamp":0,"TopStartIndex":0,"AssistFlags":0}`)
	is(t, contacts, "1", "CompleteFlag")
	is(t, contacts, "2", "SessionItem", 0, "Type")
	b.ok(t, "recentcontact/delete", `{"From_Account":"bob","type":2,"To_Account":"pub"}`)
	if n := len(b.ok(t, "recentcontact/get_list", `{"From_Account":"bob","TimeStamp":0,"StartIndex":0,"TopTimeStamp":0,"TopStartIndex":0,"AssistFlags":7}`)["SessionItem"].([]any)); n != len(contacts["SessionItem"].([]any))-1 {
		t.Errorf("%d conversations after one of %v was deleted", n, contacts)
	}
	deleted := b.ok(t, acc+"account_delete", `{"DeleteItem":[{"UserID":"carol"},{"UserID":"nobody"}]}`)
	is(t, deleted, `{"ResultCode":0,"ResultInfo":"","UserID":"carol"}`, "ResultItem", 0)
	is(t, deleted, `{"ResultCode":70107,"ResultInfo":"Err_TLS_PT_Open_Login_Account_Not_Exist","UserID":"nobody"}`, "ResultItem", 1)
	is(t, b.ok(t, gs+"get_role_in_group", `{"GroupId":"pub","User_Account":["carol"]}`), `"NotMember"`, "UserIdList", 0, "Role")
	for key, v := range at(t, b.ok(t, cfgs+"getappinfo", `{}`), "Result", 0).(object) {
		if _, isText := v.(string); !isText {
			t.Errorf("getappinfo: %s = %v is no text", key, v)
		}
	}
	some := at(t, b.ok(t, cfgs+"getappinfo", `{"RequestField":["GroupUpMsgNum","Date"]}`), "Result", 0).(object)
	if len(some) != 2 || some["GroupUpMsgNum"] != "12" {
		t.Errorf("getappinfo of two fields: %v", some)
	}
}

// TestKeyValues changes counters, attributes and extensions.
func TestKeyValues(t *testing.T) {
	b := newBackend(t, command.Config{})
	b.populate(t)
	is(t, b.ok(t, gs+"update_group_counter", `{"GroupId":"pub","GroupCounter":[{"Key":"c","Value":2},{"Key":"new","Value":3}],"Mode":"Decrease"}`),
		`[{"Key":"c","Value":3},{"Key":"new","Value":-3}]`, "GroupCounter")
	is(t, b.ok(t, gs+"update_group_counter", `{"GroupId":"pub","GroupCounter":[{"Key":"c","Value":9}]}`), `[{"Key":"c","Value":9}]`, "GroupCounter")
	b.ok(t, gs+"delete_group_counter", `{"GroupId":"pub"}`)
	is(t, b.ok(t, gs+"get_group_counter", `{"GroupId":"pub","GroupCounterKeys":[]}`), `[]`, "GroupCounter")
	for _, service := range []string{gs, "group_open_attr_http_svc/"} {
		b.ok(t, service+"modify_group_attr", `{"GroupId":"meet","GroupAttr":[{"key":"b","value":"2"}]}`)
		is(t, b.ok(t, service+"get_group_attr", `{"GroupId":"meet"}`), `[{"key":"b","value":"2"}]`, "GroupAttrAry")
	}
	b.ok(t, gs+"clear_group_attr", `{"GroupId":"pub"}`)
	is(t, b.ok(t, gs+"get_group_attr", `{"GroupId":"pub"}`), `[]`, "GroupAttrAry")
	const ext = "openim_msg_ext_http_svc/"
	set := b.ok(t, ext+"group_set_key_values", `{"GroupId":"pub","MsgSeq":2,"OperateType":1,"ExtensionList":[{"Key":"k","Value":"v","Seq":0}]}`)
	is(t, set, `{"ErrorCode":0,"Extension":{"Key":"k","Seq":1,"Value":"v"}}`, "ExtensionList", 0)
	is(t, b.ok(t, ext+"group_get_key_values", `{"GroupId":"pub","MsgSeq":2,"StartSeq":0}`), `1`, "CompleteFlag")
	plain := fmt.Sprint(b.ok(t, gs+"send_group_msg", `{"GroupId":"pub","Random":99,"MsgBody":`+text+`}`)["MsgSeq"])
	b.refused(t, ext+"group_set_key_values", `{"GroupId":"pub","MsgSeq":`+plain+`,"OperateType":1,"ExtensionList":[{"Key":"k","Value":"v"}]}`, 23002)
	receipts := b.ok(t, gs+"get_group_msg_receipt", `{"GroupId":"meet","MsgSeqList":[{"MsgSeq":1},{"MsgSeq":99}]}`)
	is(t, receipts, `{"Code":0,"MsgSeq":1,"ReadNum":0,"UnreadNum":2}`, "GroupMsgReceiptList", 0)
	is(t, receipts, `10062`, "GroupMsgReceiptList", 1, "Code")
	b.ok(t, gs+"group_msg_receipt", `{"GroupId":"meet","From_Account":"carol","MsgSeqList":[{"MsgSeq":1}]}`)
	detail := b.ok(t, gs+"get_group_msg_receipt_detail", `{"GroupId":"meet","MsgSeq":1,"Flag":0,"Cursor":"","Num":200}`)
	is(t, detail, `[{"Read_Account":"carol"}]`, "ReadList")
	is(t, detail, `1`, "IsFinish")
	is(t, detail, `1`, "IsFinished")
	detail = b.ok(t, gs+"get_group_msg_receipt_detail", `{"GroupId":"meet","MsgSeq":1,"Filter":1,"Cursor":"","Count":200}`)
	is(t, detail, `[{"Unread_Account":"alice"}]`, "UnreadList")
	if strings.Contains(encoded(t, detail), "bob") {
		t.Errorf("the sender is among the receivers: %v", detail)
	}
}
