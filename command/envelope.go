package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/wire"
)

// The codes of all services, as Tencent IM numbers them.
const (
	CodeBadURL          = 60002
	CodeBadBody         = 60003
	CodeBadCaller       = 60004
	CodeBadSDKAppID     = 60006
	CodeRateOfCommand   = 60007
	CodeTimeout         = 60008
	CodeNoResource      = 60009
	CodeNotAdmin        = 60010
	CodeNoSDKAppID      = 60012
	CodeAccountNoString = 60015
	CodeCommandDisabled = 60017
	CodeTooManyRequests = 60018
	CodeIPRefused       = 60021
)

// The codes of single services.
const (
	codeAccountUnknown   = 70107
	codeAccountParameter = 70402
	codeAccountBatch     = 70206
	codeAccountNoAdmin   = 70403
	codeAccountInternal  = 70500
	codeNickTooLong      = 40601
	codeNoDeletion       = 71000
	codeNoTopics         = 11000
)

// codes are the numbers by which one family of services tells the same troubles.
type codes struct{ parameter, account, internal, notAdmin int }

func codesOf(service string) codes {
	switch service {
	case accountService:
		return codes{codeAccountParameter, CodeAccountNoString, codeAccountInternal, codeAccountNoAdmin}
	case openimService:
		return codes{90001, 90003, 90992, 90009}
	case profileService:
		return codes{40001, CodeAccountNoString, 40006, 40004}
	case contactService:
		return codes{50002, CodeAccountNoString, 50004, 50003}
	case configService, operationService:
		return codes{130001, CodeAccountNoString, 130014, CodeNotAdmin}
	case historyService:
		return codes{1002, CodeAccountNoString, 1003, 1002}
	}
	return codes{group.CodeBadParameter, CodeAccountNoString, group.CodeInternal, group.CodeNotPermitted}
}

// refusal turns what a handler returned into what the caller is told. What it does not know is
// internal: logged in full, told to nobody.
func (t *Table) refusal(c *Command, call *Call, groupID string, err error) *group.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*group.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*wire.SyntaxError](err); ok {
		return &group.Error{Code: CodeBadBody, Info: plain(e)}
	}
	if e, ok := errors.AsType[*wire.FieldError](err); ok {
		if e.Kind == wire.KindAccount {
			return &group.Error{Code: c.codes.account, Info: plain(e)}
		}
		return &group.Error{Code: c.codes.parameter, Info: plain(e)}
	}
	level, info := slog.LevelError, "internal error"
	switch {
	case errors.Is(err, hooks.ErrOverloaded):
		level, info = slog.LevelWarn, "overloaded, try again"
	case errors.Is(err, storage.ErrReadOnly) && hooks.Retry(err): // of a group: what came before it in the command may stand
		level, info = slog.LevelWarn, "the store takes no writes now: try again later"
	case errors.Is(err, storage.ErrReadOnly):
		level, info = slog.LevelWarn, "the store takes no writes now, nothing was changed: try again later"
	case hooks.Retry(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, storage.ErrUnavailable):
		level, info = slog.LevelWarn, "the outcome is unknown, try again"
	}
	t.env.log.Log(context.Background(), level, "command failed", "command", c.Path(), "account", string(call.Caller), "group", groupID, "err", err)
	return &group.Error{Code: c.codes.internal, Info: info}
}

// plain returns an error of package wire without its prefix.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "wire: ") }

// answer builds the JSON object: the envelope, then the response's members.
func (t *Table) answer(c *Command, resp any, refusal *group.Error) []byte {
	buf := appendEnvelope(make([]byte, 0, 512), refusal)
	if c.ErrorDisplay {
		buf = append(buf, `,"ErrorDisplay":""`...)
	}
	if resp != nil {
		mark := len(buf)
		var err error
		if buf, err = wire.Append(buf, resp); err != nil {
			t.env.log.Error("answer can't be encoded", "command", c.Path(), "err", err)
			return t.failure(c, c.codes.internal, "internal error")
		}
		if len(buf) == mark+2 { // {}
			buf = buf[:mark]
		} else {
			buf[mark] = ','
			buf = buf[:len(buf)-1]
		}
	}
	return append(buf, '}')
}

func (t *Table) failure(c *Command, code int, info string) []byte {
	return t.answer(c, nil, &group.Error{Code: code, Info: info})
}

// Failure returns the answer that tells a refusal that no command made.
func Failure(code int, info string) []byte {
	return append(appendEnvelope(nil, &group.Error{Code: code, Info: info}), '}')
}

// appendEnvelope appends the object's first members and leaves it open.
func appendEnvelope(buf []byte, refusal *group.Error) []byte {
	envelope := struct {
		ActionStatus string
		ErrorCode    int
		ErrorInfo    string
	}{"OK", 0, ""}
	if refusal != nil {
		envelope.ActionStatus, envelope.ErrorCode, envelope.ErrorInfo = "FAIL", refusal.Code, refusal.Info
	}
	buf, err := wire.Append(buf, envelope)
	if err != nil {
		panic(fmt.Sprintf("command: envelope: %v", err)) // two strings and a number
	}
	return buf[:len(buf)-1]
}
