package wire

import (
	"reflect"
	"slices"
	"strconv"
)

// A FieldDoc describes one member of an object.
type FieldDoc struct {
	Name      string
	Aliases   []string // further names that are read
	Also      []string // further names that are written
	Doc       string
	Required  bool // in a request
	Omittable bool // may be absent from an answer
	Always    bool // a filter never leaves it out
	// ZeroIsValue says that 0 is a command here and does not mean "not given".
	ZeroIsValue bool
	Account     bool // a UserID, or a list of them
	Number      bool // a string that may also be sent as a number
	Type        TypeDoc
}

// A TypeDoc describes a value.
type TypeDoc struct {
	JSON   string     // string, integer, number, boolean, array, object; "" is any value
	Format string     // of an integer: int32, int64, uint32, …
	Go     string     // the name of a struct's Go type, for references
	Elem   *TypeDoc   // of an array; of an object that is a map
	Fields []FieldDoc // of an object that is a struct
	// Recursive marks a struct inside itself; its Fields are those of the outer one called Go.
	Recursive bool
}

// Fields describes the members of the struct type t, or of the struct it points to, in the
// order in which Marshal writes them. It is nil for a type that Marshal refuses.
func Fields(t reflect.Type) []FieldDoc {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	sh, err := shapeOf(t)
	if err != nil || sh.form != formObject {
		return nil
	}
	return sh.describe(nil).Fields
}

// describe returns the description of sh; outer are the structs it is in.
func (sh *shape) describe(outer []reflect.Type) TypeDoc {
	if sh.decodes == methodText || sh.encodes == methodText {
		return TypeDoc{JSON: "string"}
	}
	if sh.decodes == methodJSON || sh.encodes == methodJSON {
		return TypeDoc{}
	}
	switch sh.form {
	case formString:
		return TypeDoc{JSON: "string"}
	case formBool:
		return TypeDoc{JSON: "boolean"}
	case formInt:
		return TypeDoc{JSON: "integer", Format: "int" + strconv.Itoa(sh.typ.Bits())}
	case formUint:
		return TypeDoc{JSON: "integer", Format: "uint" + strconv.Itoa(sh.typ.Bits())}
	case formFloat, formNumber:
		return TypeDoc{JSON: "number"}
	case formPointer:
		return sh.elem.describe(outer)
	case formSlice:
		elem := sh.elem.describe(outer)
		return TypeDoc{JSON: "array", Elem: &elem}
	case formMap:
		elem := sh.elem.describe(outer)
		return TypeDoc{JSON: "object", Elem: &elem}
	case formObject:
		return sh.describeObject(outer)
	}
	return TypeDoc{}
}

func (sh *shape) describeObject(outer []reflect.Type) TypeDoc {
	doc := TypeDoc{JSON: "object", Go: sh.typ.Name()}
	if slices.Contains(outer, sh.typ) {
		doc.Recursive = true
		return doc
	}
	outer = append(slices.Clone(outer), sh.typ)
	for _, f := range sh.object.fields {
		has := func(fl flags) bool { return f.flags&fl != 0 }
		d := FieldDoc{
			Name: f.name, Aliases: slices.Clone(f.aliases), Also: slices.Clone(f.also), Doc: f.doc,
			Required: has(flagRequired), Always: has(flagAlways), Account: has(flagAccount), Number: has(flagText),
			Omittable:   has(flagOmitEmpty | flagOmitZero),
			ZeroIsValue: f.shape.form == formPointer,
			Type:        f.shape.describe(outer),
		}
		switch f.shape.form {
		case formPointer, formMap, formAny:
			d.Omittable = true
		case formRaw:
			d.Type.JSON = f.rawType
		}
		if has(flagInt32) && d.Type.JSON == "integer" {
			d.Type.Format = "int32"
		}
		doc.Fields = append(doc.Fields, d)
	}
	return doc
}
