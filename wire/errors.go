package wire

import (
	"errors"
	"fmt"
	"strings"
)

// A SyntaxError reports a body that is not one JSON object in UTF-8, nested at most
// [MaxDepth] deep. Reason never quotes the body.
type SyntaxError struct {
	Offset int // bytes read before the error
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("wire: bad JSON at byte %d: %s", e.Offset, e.Reason)
}

// A Kind says what is wrong with a field.
type Kind uint8

// The kinds of a FieldError.
const (
	KindType     Kind = iota + 1 // another JSON type than the field takes, or a fraction for an integer
	KindRange                    // a number that the field can't hold
	KindRequired                 // a required member is absent or null
	KindAccount                  // an account is not a JSON string
	KindValue                    // refused by the field's own UnmarshalJSON or UnmarshalText
)

var kindNames = [...]string{"", "type", "range", "required", "account", "value"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// A FieldError reports a value that its field can't take. It quotes no value: it may be
// logged and sent to the caller.
type FieldError struct {
	Path string // such as MsgList[2].Random, in the spelling of the struct's tags
	Want string // such as "integer of 32 bits, unsigned"
	Got  string // the JSON type that came; "nothing" if none
	Kind Kind
	Err  error // from the field's own method, for KindValue
}

func (e *FieldError) Error() string {
	switch e.Kind {
	case KindRequired:
		return fmt.Sprintf("wire: %s is required", e.Path)
	case KindRange:
		return fmt.Sprintf("wire: %s is out of range: want %s", e.Path, e.Want)
	case KindValue:
		return fmt.Sprintf("wire: %s has a bad value: want %s", e.Path, e.Want)
	}
	return fmt.Sprintf("wire: %s: want %s, got %s", e.Path, e.Want, e.Got)
}

// Unwrap returns what the field's own method said.
func (e *FieldError) Unwrap() error { return e.Err }

// A TypeError reports a Go type that can't be decoded or encoded: an error in the program,
// never in a request.
type TypeError struct {
	Type   string
	Reason string
}

func (e *TypeError) Error() string { return "wire: type " + e.Type + ": " + e.Reason }

// under puts name in front of the path of a FieldError and returns other errors as they are.
func under(name string, err error) error {
	if e, ok := errors.AsType[*FieldError](err); ok {
		switch {
		case e.Path == "":
			e.Path = name
		case strings.HasPrefix(e.Path, "["):
			e.Path = name + e.Path
		default:
			e.Path = name + "." + e.Path
		}
	}
	return err
}

func underIndex(i int, err error) error { return under(fmt.Sprintf("[%d]", i), err) }
