package group

import "fmt"

// An Error is a refusal that the caller is told: one of the Code… numbers and a text. The
// app's own before-callback may use codes of its own, 10100 to 10200.
type Error struct {
	Code int
	Info string
}

// Error returns "code info", the form that MQTT Reason Strings have.
func (e *Error) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Info) }

// Is makes errors.Is compare by code alone, so that a refusal can be matched whatever its text.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf returns an Error with the formatted text.
func Errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Info: fmt.Sprintf(format, args...)}
}

// The codes of group commands and group messages, as Tencent IM numbers them.
const (
	CodeNotLoggedIn        = 10001
	CodeInternal           = 10002
	CodeUnknownCommand     = 10003
	CodeBadParameter       = 10004
	CodeTooManyAccounts    = 10005
	CodeTooFrequent        = 10006
	CodeNotPermitted       = 10007
	CodeRefused            = 10008
	CodeOwnerMayNotLeave   = 10009
	CodeNoGroup            = 10010
	CodeBadJSON            = 10011
	CodeBadOperator        = 10012
	CodeAlreadyMember      = 10013
	CodeGroupFull          = 10014
	CodeBadGroupID         = 10015
	CodeRefusedByApp       = 10016
	CodeMuted              = 10017
	CodeAnswerTooLarge     = 10018
	CodeNoAccount          = 10019
	CodeImportTooLong      = 10020
	CodeGroupIDTaken       = 10021
	CodeFrequencyLimit     = 10023
	CodeAlreadyHandled     = 10024
	CodeGroupIDYours       = 10025
	CodeCommandDisabled    = 10026
	CodeNoMessage          = 10030
	CodeRecallTooLate      = 10031
	CodeCannotRecall       = 10032
	CodeTypeWithoutRecall  = 10033
	CodeCannotDelete       = 10034
	CodeNoDeletionInRoom   = 10035
	CodeTooManyRooms       = 10036
	CodeTooManyGroups      = 10037
	CodeTooManyMembers     = 10038
	CodeRecallDisabled     = 10041
	CodeNoHistory          = 10044
	CodeAttrKeyTooLong     = 10045
	CodeAttrValueTooLong   = 10046
	CodeTooManyAttrs       = 10047
	CodeAttrsTooLarge      = 10048
	CodeAttrTooFrequent    = 10049
	CodeNoAttr             = 10050
	CodeRangeTooLarge      = 10051
	CodeNothingToDelete    = 10052
	CodeTooManyMentions    = 10053
	CodePageMembers        = 10054
	CodeAttrConflict       = 10056
	CodeTooManyGroupsOfApp = 10058
	CodeNeedsPlan          = 10059
	CodeTooLargeForReceipt = 10060
	CodeNoReceiptOnline    = 10061
	CodeNoReceipt          = 10062
	CodeTooManyCounters    = 10063
	CodeAppFirst           = 10100 // the first and the last code that
	CodeAppLast            = 10200 // a before-callback may choose
	CodeSensitiveText      = 80001
	CodeMessageTooLong     = 80002
	CodeCallbackFailed     = 80003
	CodeJSONTooLong        = 93000
)
