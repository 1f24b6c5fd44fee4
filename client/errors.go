package client

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/rookery-im/rookery/group"
)

// An Error is a refusal by the server: a Code of the tables in the documentation, and a
// sentence, Info. errors.Is(err, &Error{Code: 10017}) asks for a code.
type Error = group.Error

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("client: closed")
	// ErrKicked is returned after the server has logged the client out, because of another
	// device or an administrator. The client does not reconnect.
	ErrKicked = errors.New("client: logged out by the server")
	// ErrOutcomeUnknown says that the server may or may not have done what it was asked for.
	ErrOutcomeUnknown = errors.New("client: the outcome is unknown")

	errLinkDown = errors.New("client: connection lost")
	errTimeout  = errors.New("client: the server does not answer")
)

const (
	codeExpired   = 70001 // the UserSig
	codeTooMany   = 60011 // requests under way
	codeLoginBusy = 70169 // the server can't check a login now
)

// parseReason reads an MQTT Reason String of the form "10017 muted".
func parseReason(reason string) (*Error, bool) {
	number, info, _ := strings.Cut(reason, " ")
	code, err := strconv.Atoi(number)
	if err != nil || code <= 0 {
		return nil, false
	}
	return &Error{Code: code, Info: info}, true
}

// refusedBy reports whether err is a refusal by the server, with one of the codes if there are any.
func refusedBy(err error, codes ...int) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (len(codes) == 0 || slices.Contains(codes, e.Code))
}
