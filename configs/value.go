package configs

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setText parses text into the key v. Its error continues a sentence that starts with the key,
// and shows the text only where it can be no secret.
func setText(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *Secret:
		*p = Secret(text)
	case *[]string:
		*p = splitList(text)
	case *bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*p = text == "true"
	case *int:
		n, err := parseInt(text, strconv.IntSize)
		if err != nil {
			return err
		}
		*p = int(n)
	case *int64:
		n, err := parseInt(text, 64)
		if err != nil {
			return err
		}
		*p = n
	case *float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*p = f
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration like 500ms, 10s, 5m or 168h", text)
		}
		*p = d
	case *Size:
		s, err := ParseSize(text)
		if err != nil {
			return fmt.Errorf("%q %w", text, err)
		}
		*p = s
	default:
		panic(fmt.Sprintf("configs: no key can be a %T", p))
	}
	return nil
}

func parseInt(text string, bits int) (int64, error) {
	n, err := strconv.ParseInt(text, 10, bits)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%q is out of range", text)
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	return n, nil
}

// splitList reads a comma separated list. Empty parts are left out, so that "" is the empty list.
func splitList(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// checkBounds checks the key's value against its min, max and oneof tags.
func checkBounds(n *node, v reflect.Value) error {
	if allowed := n.tag.Get("oneof"); allowed != "" {
		if list := strings.Split(allowed, "|"); !slices.Contains(list, v.String()) {
			return fmt.Errorf("%q is none of %s", v.String(), strings.Join(list, ", "))
		}
	}
	for _, b := range []struct {
		tag   string
		wrong int // how the value compares with the bound if it is out of bounds
		text  string
	}{{"min", -1, "below the least"}, {"max", +1, "above the most"}} {
		text := n.tag.Get(b.tag)
		if text == "" {
			continue
		}
		bound := reflect.New(n.typ).Elem()
		if err := setText(bound, text); err != nil {
			panic("configs: " + b.tag + " of " + n.name + " " + err.Error())
		}
		if compare(v, bound) == b.wrong {
			return fmt.Errorf("%v is %s, %s", v.Interface(), b.text, text)
		}
	}
	return nil
}

// compare is -1, 0 or +1. NaN counts as below everything, so that a bounded number is never NaN.
func compare(a, b reflect.Value) int {
	if a.CanFloat() {
		switch x, y := a.Float(), b.Float(); {
		case x > y:
			return +1
		case x == y:
			return 0
		}
		return -1
	}
	switch x, y := a.Int(), b.Int(); {
	case x > y:
		return +1
	case x < y:
		return -1
	}
	return 0
}
