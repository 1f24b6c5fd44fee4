package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/command"
)

func list(n int, format string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(format, i)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func textOf(n int) string {
	return `[{"MsgType":"TIMTextElem","MsgContent":{"Text":"` + strings.Repeat("x", n) + `"}}]`
}

// TestRefusals has the errors that Tencent IM documents for its commands. What is refused
// changes nothing.
func TestRefusals(t *testing.T) {
	now := time.Now().Unix()
	b := newBackend(t, command.Config{})
	b.populate(t)
	send := func(members string) string {
		return `{"GroupId":"pub","Random":7,` + members + `}`
	}
	for _, test := range []struct {
		path, body string
		codes      []int
	}{
		{gs + "nothing", `{}`, []int{10003}},
		{"nothing/nothing", `{}`, []int{60009}},
		{"openim/nothing", `{}`, []int{60009}},
		{acc + "nothing", `{}`, []int{60009}},

		// send_group_msg
		{gs + "send_group_msg", `{"GroupId":"none","Random":1,"MsgBody":` + text + `}`, []int{10010}},
		{gs + "send_group_msg", `{"GroupId":"` + strings.Repeat("x", 60) + `","Random":1,"MsgBody":` + text + `}`, []int{10015}},
		{gs + "send_group_msg", `{"Random":1,"MsgBody":` + text + `}`, []int{10004}},
		{gs + "send_group_msg", `{"GroupId":"pub","MsgBody":` + text + `}`, []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":[]`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":{"MsgType":"TIMTextElem"}`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":[{"MsgType":"TIMtextElem","MsgContent":{"Text":"x"}}]`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":[{"MsgType":"TIMTextElem"}]`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":[{"MsgType":"TIMGroupTipElem","MsgContent":{"OpType":1}}]`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":[{"MsgType":"TIMGroupSystemNoticeElem","MsgContent":{"ReportType":1}}]`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":[{"MsgType":"TIMCustomElem","MsgContent":{"Data":"1"}},{"MsgType":"TIMCustomElem","MsgContent":{"Data":"2"}}]`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":` + textOf(12_000)), []int{80002}},
		{gs + "send_group_msg", send(`"MsgBody":` + textOf(7_000) + `,"CloudCustomData":"` + strings.Repeat("x", 6_000) + `"`), []int{80002}},
		{gs + "send_group_msg", send(`"MsgBody":` + text + `,"MsgPriority":"high"`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":` + text + `,"From_Account":"nobody"`), []int{10004, 10019}},
		{gs + "send_group_msg", send(`"MsgBody":` + text + `,"From_Account":7`), []int{60015}},
		{gs + "send_group_msg", send(`"MsgBody":` + text + `,"MsgOnlineOnlyFlag":1,"SendMsgControl":["NoUnread"]`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":` + text + `,"SendMsgControl":["Nothing"]`), []int{10004}},
		{gs + "send_group_msg", send(`"MsgBody":` + text + `,"GroupAtInfo":` + list(31, `{"GroupAtAllFlag":0,"GroupAt_Account":"u%d"}`)), []int{10053}},
		{gs + "send_group_msg", send(`"MsgBody":` + text + `,"To_Account":` + list(51, `"u%d"`)), []int{10004, 10005}},
		{gs + "send_group_msg", send(`"MsgBody":` + text + `,"TopicId":"pub@TOPIC#_1"`), []int{11000, 10004}},
		{gs + "send_group_msg", `{"GroupId":"room","Random":1,"OnlineOnlyFlag":1,"MsgBody":` + text + `}`, []int{10004}},
		{gs + "send_group_msg", `{"GroupId":"room","Random":1,"To_Account":["bob"],"MsgBody":` + text + `}`, []int{10004, 10007}},
		{gs + "send_group_msg", `{"GroupId":"room","Random":1,"GroupAtInfo":[{"GroupAtAllFlag":1}],"MsgBody":` + text + `}`, []int{10004}},
		{gs + "send_group_msg", `{"GroupId":"@TGS#_com","Random":1,"To_Account":["bob"],"MsgBody":` + text + `}`, []int{10004, 10007}},
		{gs + "send_group_msg", `{"GroupId":"room","Random":1,"SendMsgControl":["NoUnread"],"MsgBody":` + text + `}`, []int{10004}},

		// Notices and broadcasts.
		{gs + "send_group_system_notification", `{"GroupId":"pub","Content":"x","ToMembers_Account":` + list(501, `"u%d"`) + `}`, []int{10005}},
		{gs + "send_group_system_notification", `{"GroupId":"pub"}`, []int{10004}},
		{gs + "send_broadcast_msg", `{"Random":1,"MsgBody":[]}`, []int{10004}},
		{gs + "send_broadcast_msg", `{"Random":1,"From_Account":"nobody","MsgBody":` + text + `}`, []int{10019, 10004}},

		// Imported messages.
		{gs + "import_group_msg", `{"GroupId":"room","MsgList":[{"From_Account":"bob","SendTime":1,"Random":1,"MsgBody":` + text + `}]}`, []int{10007}},
		{gs + "import_group_msg", `{"GroupId":"fresh","MsgList":[]}`, []int{10004}},
		{gs + "import_group_msg", `{"GroupId":"fresh","MsgList":` + list(21, `{"From_Account":"bob","SendTime":1,"Random":%d,"MsgBody":`+text+`}`) + `}`, []int{10004}},

		// Recall, deletion, modification.
		{gs + "group_msg_recall", `{"GroupId":"pub","MsgSeqList":` + list(11, `{"MsgSeq":%d}`) + `}`, []int{10004}},
		{gs + "group_msg_recall", `{"GroupId":"pub","MsgSeqList":[]}`, []int{10004}},
		{gs + "group_msg_recall", `{"GroupId":"pub","MsgSeqList":[{"MsgSeq":1}],"Reason":"` + strings.Repeat("x", 101) + `"}`, []int{10004}},
		{gs + "clear_group_msg", `{"GroupId":"room"}`, []int{10035}},
		{gs + "clear_group_msg", `{"GroupId":"@TGS#_com"}`, []int{10007, 10004}},
		{gs + "clear_group_msg", `{"GroupId":"pub","MsgSeq":999}`, []int{10051}},
		{gs + "clear_group_msg", `{"GroupId":"empty-none"}`, []int{10010}},
		{"openim/modify_group_msg", `{"GroupId":"pub","MsgSeq":2}`, []int{90001, 90002, 20001}},
		{"openim/modify_group_msg", `{"GroupId":"pub","MsgSeq":2,"MsgBody":{}}`, []int{90001, 90002, 90007}},
		{"openim/modify_group_msg", `{"GroupId":"pub","MsgSeq":2,"MsgBody":[{"MsgType":"x","MsgContent":{}}]}`, []int{90001, 90002, 90010}},
		{"openim/modify_group_msg", `{"GroupId":"pub","MsgSeq":999,"MsgBody":` + text + `}`, []int{20001, 10030, 90001, 10004}},
		{"openim/modify_group_msg", `{"GroupId":"room","MsgSeq":1,"MsgBody":` + text + `}`, []int{20001, 10007, 90001, 10004}},

		// History and receipts.
		{gs + "group_msg_get_simple", `{"GroupId":"room","ReqMsgNumber":1}`, []int{10007, 10044}},
		{gs + "group_msg_get_simple", `{"GroupId":"pub","ReqMsgNumber":0}`, []int{10004}},
		{gs + "group_msg_get_simple", `{"GroupId":"pub"}`, []int{10004}},
		{gs + "get_group_msg_receipt_detail", `{"GroupId":"pub","MsgSeq":2,"Filter":2,"Cursor":"","Count":10}`, []int{10004}},
		{gs + "get_group_msg_receipt_detail", `{"GroupId":"pub","MsgSeq":2,"Filter":0,"Cursor":"","Count":201}`, []int{10004}},
		{gs + "get_group_msg_receipt", `{"GroupId":"room","MsgSeqList":[{"MsgSeq":1}]}`, []int{10007}},
		{gs + "set_unread_msg_num", `{"GroupId":"pub","Member_Account":"erin","UnreadMsgNum":1}`, []int{10007, 10004}},
		{gs + "set_unread_msg_num", `{"GroupId":"pub","Member_Account":"bob","UnreadMsgNum":-1}`, []int{10004}},
		{"openim_msg_ext_http_svc/group_get_key_values", `{"GroupId":"pub","MsgSeq":999}`, []int{23004}},
		{"openim_msg_ext_http_svc/group_set_key_values", `{"GroupId":"pub","MsgSeq":2,"OperateType":4}`, []int{10004}},
		{"openim_msg_ext_http_svc/group_set_key_values", `{"GroupId":"pub","MsgSeq":2,"OperateType":1,"ExtensionList":` + list(21, `{"Key":"k%d","Value":"v"}`) + `}`, []int{10004}},
		{"open_msg_svc/get_history", `{"ChatType":"Group","MsgTime":"2020"}`, []int{1002}},
		{"open_msg_svc/get_history", `{"ChatType":"Other","MsgTime":"2020010101"}`, []int{1002}},
		{"open_msg_svc/get_history", `{"ChatType":"Group","MsgTime":"2020010101"}`, []int{1004}},
		{"open_msg_svc/get_history", `{"ChatType":"C2C","MsgTime":"2020010101"}`, []int{1004}},

		// Counters and attributes.
		{gs + "update_group_counter", `{"GroupId":"pub","GroupCounter":` + list(21, `{"Key":"c%d","Value":1}`) + `}`, []int{10063}},
		{gs + "update_group_counter", `{"GroupId":"pub","GroupCounter":[{"Key":"c","Value":1}],"Mode":"Wrong"}`, []int{10004}},
		{gs + "update_group_counter", `{"GroupId":"pub","GroupCounter":[{"Key":"` + strings.Repeat("k", 129) + `","Value":1}]}`, []int{10004}},
		{gs + "update_group_counter", `{"GroupId":"@TGS#_com","GroupCounter":[{"Key":"c","Value":1}]}`, []int{10007}},
		{gs + "set_group_attr", `{"GroupId":"pub","GroupAttr":[{"key":"` + strings.Repeat("k", 33) + `","value":"v"}]}`, []int{10045}},
		{gs + "set_group_attr", `{"GroupId":"pub","GroupAttr":[{"key":"k","value":"` + strings.Repeat("v", 4001) + `"}]}`, []int{10046}},
		{gs + "set_group_attr", `{"GroupId":"pub","GroupAttr":` + list(17, `{"key":"k%d","value":"v"}`) + `}`, []int{10047}},
		{gs + "set_group_attr", `{"GroupId":"pub","GroupAttr":` + list(5, `{"key":"k%d","value":"`+strings.Repeat("v", 3500)+`"}`) + `}`, []int{10048}},
		{"group_open_attr_http_svc/delete_group_attr", `{"GroupId":"pub","GroupAttr":[{"key":"unknown"}]}`, []int{10050}},

		// Groups.
		{gs + "create_group", `{"Type":"AVChatRoom","Name":"n","MemberList":[{"Member_Account":"bob"}]}`, []int{10007}},
		{gs + "create_group", `{"Type":"Public","Name":"n","MemberList":` + list(101, `{"Member_Account":"u%d"}`) + `}`, []int{10005}},
		{gs + "create_group", `{"Type":"Public","Name":"n","Owner_Account":"nobody"}`, []int{10019}},
		{gs + "create_group", `{"Type":"Public","Name":"n","GroupId":"pub"}`, []int{10021}},
		{gs + "create_group", `{"Type":"Public","Name":"n","GroupId":"pub","Owner_Account":"alice"}`, []int{10025}},
		{gs + "create_group", `{"Type":"Wrong","Name":"n"}`, []int{10004}},
		{gs + "create_group", `{"Type":"Public"}`, []int{10004}},
		{gs + "create_group", `{"Type":"Public","Name":"` + strings.Repeat("n", 101) + `"}`, []int{10004}},
		{gs + "create_group", `{"Type":"Public","Name":"n","GroupId":"@TGS#mine"}`, []int{10015, 10004}},
		{gs + "create_group", `{"Type":"Public","Name":"n","GroupId":"` + strings.Repeat("g", 49) + `"}`, []int{10015, 10004}},
		{gs + "create_group", `{"Type":"Public","Name":"n","GroupId":"g\u00e4"}`, []int{10015, 10004}},
		{gs + "create_group", `{"Type":"Community","Name":"n","GroupId":"plain"}`, []int{10015, 10004}},
		{gs + "create_group", `{"Type":"Public","Name":"n","AppDefinedData":` + list(11, `{"Key":"k%d","Value":"v"}`) + `}`, []int{10004}},
		{gs + "create_group", `{"Type":"Public","Name":"n","ApplyJoinOption":"Maybe"}`, []int{10004}},
		{gs + "get_group_info", `{"GroupIdList":` + list(51, `"g%d"`) + `}`, []int{10004, 10005}},
		{gs + "get_group_info", `{"GroupIdList":[]}`, []int{10004}},
		{gs + "get_group_member_info", `{"GroupId":"none"}`, []int{10010}},
		{gs + "get_group_member_info", `{"GroupId":"pub","Limit":6001}`, []int{10004}},
		{gs + "get_specified_group_member_info", `{"GroupId":"pub","Member_List_Account":` + list(51, `"u%d"`) + `}`, []int{10004, 10005}},
		{gs + "modify_group_base_info", `{"GroupId":"pub","Name":"` + strings.Repeat("n", 101) + `"}`, []int{10004}},
		{gs + "modify_group_base_info", `{"GroupId":"pub","MuteAllMember":"Maybe"}`, []int{10004}},
		{gs + "modify_group_base_info", `{"GroupId":"pub","Name":"other","ApplyJoinOption":"Maybe"}`, []int{10004}},
		{gs + "add_group_member", `{"GroupId":"room","MemberList":[{"Member_Account":"bob"}]}`, []int{10007}},
		{gs + "add_group_member", `{"GroupId":"pub","MemberList":` + list(301, `{"Member_Account":"u%d"}`) + `}`, []int{10005}},
		{gs + "add_group_member", `{"GroupId":"pub","MemberList":[]}`, []int{10004}},
		{gs + "delete_group_member", `{"GroupId":"room","MemberToDel_Account":["bob"]}`, []int{10004, 10007}},
		{gs + "delete_group_member", `{"GroupId":"pub","MemberToDel_Account":["alice"]}`, []int{10004, 10007}},
		{gs + "delete_group_member", `{"GroupId":"pub","MemberToDel_Account":` + list(501, `"u%d"`) + `}`, []int{10005}},
		{gs + "modify_group_member_info", `{"GroupId":"pub","Member_Account":"erin","NameCard":"x"}`, []int{10007}},
		{gs + "modify_group_member_info", `{"GroupId":"pub","Member_Account":"bob","Role":"Owner"}`, []int{10004}},
		{gs + "modify_group_member_info", `{"GroupId":"work","Member_Account":"bob","Role":"Admin"}`, []int{10004, 10007}},
		{gs + "modify_group_member_info", `{"GroupId":"pub","Member_Account":"bob","MsgFlag":"Never"}`, []int{10004}},
		{gs + "modify_group_member_info", `{"GroupId":"pub","Member_Account":"bob","NameCard":"` + strings.Repeat("n", 51) + `"}`, []int{10004}},
		{gs + "modify_group_member_info", `{"GroupId":"pub","Member_Account":"bob","AppMemberDefinedData":[{"Key":"k","Value":"` + strings.Repeat("n", 65) + `"}]}`, []int{10004}},
		{gs + "destroy_group", `{"GroupId":"none"}`, []int{10010}},
		{gs + "get_joined_group_list", `{}`, []int{10004, 10012}},
		{gs + "get_joined_group_list", `{"Member_Account":"nobody"}`, []int{10019, 10004}},
		{gs + "get_appid_group_list", `{"Limit":10001}`, []int{10004}},
		{gs + "get_role_in_group", `{"GroupId":"room","User_Account":["bob"]}`, []int{10007}},
		{gs + "get_role_in_group", `{"GroupId":"pub","User_Account":` + list(501, `"u%d"`) + `}`, []int{10005, 10004}},
		{gs + "forbid_send_msg", `{"GroupId":"work","Members_Account":["bob"],"MuteTime":60}`, []int{10007}},
		{gs + "forbid_send_msg", `{"GroupId":"pub","Members_Account":["bob"]}`, []int{10004}},
		{gs + "forbid_send_msg", `{"GroupId":"pub","Members_Account":["bob"],"MuteTime":-1}`, []int{10004}},
		{gs + "forbid_send_msg", `{"GroupId":"pub","Members_Account":` + list(501, `"u%d"`) + `,"MuteTime":60}`, []int{10005}},
		{gs + "change_group_owner", `{"GroupId":"pub","NewOwner_Account":"erin"}`, []int{10004, 10007}},
		{gs + "change_group_owner", `{"GroupId":"room","NewOwner_Account":"bob"}`, []int{10007}},
		{gs + "import_group", `{"Type":"AVChatRoom","Name":"n"}`, []int{10007}},
		{gs + "import_group", `{"Type":"Public","Name":"n","GroupId":"pub"}`, []int{10021}},
		{gs + "import_group", `{"Type":"Public","Name":"n","CreateTime":` + fmt.Sprint(now+1000) + `}`, []int{10004}},
		{gs + "import_group_member", `{"GroupId":"pub","MemberList":` + list(301, `{"Member_Account":"u%d"}`) + `}`, []int{10005}},
		{gs + "import_group_member", `{"GroupId":"room","MemberList":[{"Member_Account":"bob"}]}`, []int{10007}},

		// Live rooms.
		{room + "get_members", `{"GroupId":"pub"}`, []int{10007}},
		{room + "modify_user_info", `{"GroupId":"room","CommandType":3,"MemberList":[{"Member_Account":"bob","Marks":[1000]}]}`, []int{10004}},
		{room + "modify_user_info", `{"GroupId":"room","CommandType":1,"MemberList":[{"Member_Account":"bob","Marks":[999]}]}`, []int{10004}},
		{room + "modify_admin", `{"GroupId":"room","CommandType":1,"Admin_Account":` + list(6, `"u%d"`) + `}`, []int{10005, 10004}},
		{gs + "ban_group_member", `{"GroupId":"pub","Members_Account":["bob"],"Duration":60}`, []int{10007}},
		{gs + "ban_group_member", `{"GroupId":"room","Members_Account":` + list(21, `"u%d"`) + `,"Duration":60}`, []int{10005}},
		{gs + "ban_group_member", `{"GroupId":"room","Members_Account":["bob"],"Duration":60,"Description":"` + strings.Repeat("d", 1001) + `"}`, []int{10004}},
		{gs + "unban_group_member", `{"GroupId":"room","Members_Account":` + list(21, `"u%d"`) + `}`, []int{10005}},
		{gs + "get_group_ban_member", `{"GroupId":"room","Limit":101}`, []int{10004}},

		// Accounts, profiles, conversations, mutes, operation data.
		{acc + "account_import", `{"UserID":""}`, []int{70402}},
		{acc + "account_import", `{"UserID":"` + strings.Repeat("u", 33) + `"}`, []int{70402}},
		{acc + "account_import", `{"UserID":7}`, []int{60015, 70402}},
		{acc + "account_import", `{"UserID":"zed","Nick":"` + strings.Repeat("n", 501) + `"}`, []int{40601}},
		{acc + "multiaccount_import", `{"Accounts":` + list(101, `"u%d"`) + `}`, []int{70206, 70402}},
		{acc + "multiaccount_import", `{}`, []int{70206, 70402}},
		{acc + "account_delete", `{"DeleteItem":` + list(101, `{"UserID":"u%d"}`) + `}`, []int{70206, 70402}},
		{acc + "account_check", `{"CheckItem":[]}`, []int{70206, 70402}},
		{acc + "kick", `{"UserID":"nobody"}`, []int{70107}},
		{"openim/querystate", `{"To_Account":[]}`, []int{90001}},
		{"openim/querystate", `{"To_Account":[1]}`, []int{90003}},
		{"openim/querystate", `{"To_Account":` + list(501, `"u%d"`) + `}`, []int{90011}},
		{"profile/portrait_set", `{"From_Account":"nobody","ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"x"}]}`, []int{40003}},
		{"profile/portrait_set", `{"From_Account":"bob","ProfileItem":[]}`, []int{40001}},
		{"profile/portrait_set", `{"From_Account":"bob","ProfileItem":[{"Tag":"Tag_Profile_IM_Other","Value":"x"}]}`, []int{40009}},
		{"profile/portrait_set", `{"From_Account":"bob","ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"` + strings.Repeat("n", 501) + `"}]}`, []int{40601}},
		{"profile/portrait_set", `{"From_Account":"bob","ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":"x"},{"Tag":"Tag_Profile_IM_Gender","Value":"x"}]}`, []int{40605}},
		{"profile/portrait_set", `{"From_Account":"bob","ProfileItem":[{"Tag":"Tag_Profile_IM_Nick","Value":{}}]}`, []int{40610}},
		{"profile/portrait_set", `{"From_Account":"bob","ProfileItem":[{"Tag":"Tag_Profile_Custom_ninechars","Value":"x"}]}`, []int{40009}},
		{"profile/portrait_get", `{"To_Account":[],"TagList":["Tag_Profile_IM_Nick"]}`, []int{40002}},
		{"profile/portrait_get", `{"To_Account":["bob"],"TagList":["Tag_Profile_IM_Other"]}`, []int{40009}},
		{"recentcontact/get_list", `{"From_Account":"nobody","TimeStamp":0,"StartIndex":0,"TopTimeStamp":0,"TopStartIndex":0,"AssistFlags":7}`, []int{50001}},
		{"recentcontact/delete", `{"From_Account":"bob","Type":3,"ToGroupid":"pub"}`, []int{50002}},
		{cfgs + "setnospeaking", `{"Set_Account":"bob"}`, []int{130008}},
		{cfgs + "setnospeaking", `{"GroupmsgNospeakingTime":1}`, []int{130004, 130001}},
		{cfgs + "setnospeaking", `{"Set_Account":"nobody","GroupmsgNospeakingTime":1}`, []int{130005, 70107}},
		{cfgs + "getnospeaking", `{}`, []int{130002, 130001}},
		{cfgs + "getnospeaking", `{"Get_Account":"nobody"}`, []int{130003, 70107}},
	} {
		b.refused(t, test.path, test.body, test.codes...)
	}
}
