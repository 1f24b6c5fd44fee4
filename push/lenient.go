package push

import (
	"bytes"
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
)

// lenient returns the object raw as encoding/json reads it into the struct t: integers lose the
// quotes that some clients put around them, and what stands for "not given" in a member of
// another type (null, "", 0 and []) is left out. What else is wrong stays for others to refuse.
func lenient(raw json.RawMessage, t reflect.Type) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return raw
	}
	changed := false
	for name, value := range members {
		f, known := t.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, name) })
		if !known || f.Type == reflect.TypeFor[looseInt]() { // which is lenient itself
			continue
		}
		typ := f.Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		text, number, object := typ.Kind() == reflect.String, typ.Kind() == reflect.Int, typ.Kind() == reflect.Struct
		switch v := string(value); {
		case v == "null", v == "[]", v == `""` && !text, v == "0" && !number:
			delete(members, name)
		case number && len(v) > 2 && v[0] == '"' && strings.Trim(v[1:len(v)-1], "0123456789") == "":
			members[name] = value[1 : len(value)-1]
		case object && value[0] == '{':
			inner := lenient(value, typ)
			changed = changed || !bytes.Equal(inner, value)
			members[name] = inner
			continue
		default:
			continue
		}
		changed = true
	}
	if !changed {
		return raw
	}
	out, err := json.Marshal(members)
	if err != nil { // "007" is no number
		return raw
	}
	return out
}

// dropBareImages leaves out images that are named without a scheme, as in www.example.com: no
// vendor can fetch them, and the message is none the worse.
func (o *OfflinePushInfo) dropBareImages() {
	for _, image := range []*string{&o.AndroidInfo.HuaWeiImage, &o.AndroidInfo.HonorImage, &o.AndroidInfo.GoogleImage, &o.ApnsInfo.Image} {
		if u, err := url.Parse(*image); err == nil && u.Scheme == "" && u.Host == "" {
			*image = ""
		}
	}
}
