package group

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
)

// An ElementType is the kind of one element of a message's body.
type ElementType uint8

// The element types. Those from TipElem on are made by the server only: ParseBody refuses them.
const (
	NoElem ElementType = iota
	TextElem
	FaceElem
	LocationElem
	CustomElem
	SoundElem
	ImageElem
	FileElem
	VideoElem
	RelayElem // merged and forwarded messages
	TipElem
	SystemNoticeElem
)

// MaxFileSize is the largest size, in bytes, that a file or a video element may state.
const MaxFileSize = 100 << 20

// MaxImageVariants bounds ImageInfoArray: the original, a large one and a thumbnail.
const MaxImageVariants = 3

// MaxRelayed bounds the number of messages that a relay element states.
const MaxRelayed = 300

// MaxBodyDepth bounds the nesting of a body, so that nobody's parser runs out of stack. It
// leaves room for relays inside relays.
const MaxBodyDepth = 128

// String returns the wire's name.
func (t ElementType) String() string {
	if int(t) >= len(elements) {
		return ""
	}
	return elements[t].name
}

// ParseElementType reads the wire's case-sensitive name.
func ParseElementType(s string) (ElementType, bool) {
	for t := range elements {
		if t != 0 && elements[t].name == s {
			return ElementType(t), true
		}
	}
	return NoElem, false
}

// An Element is what others need of a parsed element without reading it again.
type Element struct {
	Type ElementType
	text []byte // quoted JSON string that shows the element in a push; nil: its type's label
}

// PushText returns the element's part of a push's text: what it says, or a label for its type.
func (e Element) PushText() string {
	if e.text == nil {
		return elements[e.Type].label
	}
	return unquote(e.text)
}

// A Body is a message's validated body.
type Body struct {
	// Raw is the body in its canonical form: no white space, MsgType first in every
	// element, known members in their documented spelling and with their documented type
	// (a number that came as a string is a number), those that were null left out. What we
	// do not know is as it came.
	Raw      json.RawMessage
	Elements []Element
}

// PushText returns the text that stands for the body in a push, the elements' texts one
// after another.
func (b *Body) PushText() string {
	if len(b.Elements) == 1 {
		return b.Elements[0].PushText()
	}
	var s strings.Builder
	for _, e := range b.Elements {
		s.WriteString(e.PushText())
	}
	return s.String()
}

// Only reports whether all elements are of one of the given types.
func (b *Body) Only(types ...ElementType) bool {
	for _, e := range b.Elements {
		found := false
		for _, t := range types {
			found = found || e.Type == t
		}
		if !found {
			return false
		}
	}
	return true
}

// TextBody returns the body of a message that is plain text, in its canonical form.
func TextBody(text string) json.RawMessage {
	const before, after = `[{"MsgType":"TIMTextElem","MsgContent":{"Text":`, `}}]`
	b := append(make([]byte, 0, len(before)+len(text)+len(text)/8+2+len(after)), before...)
	return append(appendQuoted(b, text), after...)
}

// CustomBody returns the body of a message that is one custom element, in its canonical form.
func CustomBody(data, ext string) json.RawMessage {
	b := append(make([]byte, 0, 80+len(data)+len(ext)), `[{"MsgType":"TIMCustomElem","MsgContent":{"Data":`...)
	b = append(appendQuoted(b, data), `,"Ext":`...)
	return append(appendQuoted(b, ext), `}}]`...)
}

// appendQuoted appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	s = strings.ToValidUTF8(s, "\ufffd")
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(append(b, s[start:i]...), '\\')
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, c)
		case '\n':
			b = append(b, 'n')
		default:
			b = append(b, 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, s[start:]...), '"')
}

// A memberKind is what a known member of MsgContent must be.
type memberKind uint8

const (
	anyString   memberKind = iota
	shownString            // shows the element in a push
	integer                // signed, 64 bits
	natural                // not negative
	fileSize               // not negative, at most MaxFileSize
	relayCount             // not negative, at most MaxRelayed
	flag2                  // 2, or not given
	float                  // any finite number
	anyArray               // not looked into
	stringList             // an array of strings
	images                 // the variants of an image
)

type member struct {
	name string
	kind memberKind
}

// elements is the table of element types: what each may contain.
var elements = [...]struct {
	name    string
	label   string // in a push, for what says nothing itself
	needed  int    // of the first so many members one has to be there; 0: none
	members []member
}{
	TextElem:     {"TIMTextElem", "", 1, []member{{"Text", shownString}}},
	FaceElem:     {"TIMFaceElem", "[Face]", 0, []member{{"Index", integer}, {"Data", anyString}}},
	LocationElem: {"TIMLocationElem", "[Location]", 0, []member{{"Desc", anyString}, {"Latitude", float}, {"Longitude", float}}},
	CustomElem: {"TIMCustomElem", "", 0, []member{
		{"Data", anyString}, {"Desc", shownString}, {"Ext", anyString}, {"Sound", anyString},
	}},
	SoundElem: {"TIMSoundElem", "[audio]", 2, []member{
		{"Url", anyString}, {"UUID", anyString}, {"Size", natural}, {"Second", natural}, {"Download_Flag", flag2},
	}},
	ImageElem: {"TIMImageElem", "[image]", 0, []member{
		{"UUID", anyString}, {"ImageFormat", natural}, {"ImageInfoArray", images},
	}},
	FileElem: {"TIMFileElem", "[file]", 0, []member{
		{"Url", anyString}, {"UUID", anyString}, {"FileSize", fileSize}, {"FileName", anyString}, {"Download_Flag", flag2},
	}},
	VideoElem: {"TIMVideoFileElem", "[video]", 0, []member{
		{"VideoUrl", anyString},
		{"VideoUUID", anyString},
		{"VideoSize", fileSize},
		{"VideoSecond", natural},
		{"VideoFormat", anyString},
		{"VideoDownloadFlag", flag2},
		{"ThumbUrl", anyString},
		{"ThumbUUID", anyString},
		{"ThumbSize", natural},
		{"ThumbWidth", natural},
		{"ThumbHeight", natural},
		{"ThumbFormat", anyString},
		{"ThumbDownloadFlag", flag2},
	}},
	RelayElem: {"TIMRelayElem", "", 0, []member{
		{"Title", shownString},
		{"MsgNum", relayCount},
		{"CompatibleText", anyString},
		{"AbstractList", stringList},
		{"MsgList", anyArray},
		{"JsonMsgKey", anyString},
		{"PbMsgKey", anyString},
	}},
	TipElem:          {"TIMGroupTipElem", "", 0, nil},
	SystemNoticeElem: {"TIMGroupSystemNoticeElem", "", 0, nil},
}

var imageMembers = []member{
	{"Type", natural}, {"Size", natural}, {"Width", natural}, {"Height", natural}, {"URL", anyString},
}

// limits returns the smallest and the largest number that a member of kind k takes.
func (k memberKind) limits() (low, high int64) {
	switch k {
	case integer:
		return math.MinInt64, math.MaxInt64
	case fileSize:
		return 0, MaxFileSize
	case relayCount:
		return 0, MaxRelayed
	case flag2:
		return 0, 2
	}
	return 0, math.MaxInt64
}

// ParseBody validates MsgBody and brings it into its canonical form. max bounds the
// canonical form, in bytes; 0 means none.
//
// It refuses with CodeBadJSON what is no JSON or nested deeper than MaxBodyDepth, with
// CodeMessageTooLong what is longer than max, and with CodeBadParameter all else: no array or
// an empty one, unknown element types and those that only the server makes, a second custom
// element, members that are needed and missing, and known members of another type, outside of
// their range or given twice. Null, "", 0 and [] stand for a member that was not given; what
// we do not know stays as it is. The Body shares no memory with raw.
func ParseBody(raw json.RawMessage, max int) (Body, *Error) {
	p := bodyParser{in: raw, out: make([]byte, 0, len(raw)+32)}
	elements, err := p.body()
	switch {
	case err != nil:
		return Body{}, err
	case max > 0 && len(p.out) > max:
		return Body{}, Errorf(CodeMessageTooLong, "MsgBody has %d bytes, more than %d", len(p.out), max)
	}
	return Body{Raw: p.out, Elements: elements}, nil
}

// body parses the whole: an array of elements and nothing after it.
func (p *bodyParser) body() ([]Element, *Error) {
	if p.peek() != '[' {
		if !p.skipAll() {
			return nil, p.syntax()
		}
		return nil, Errorf(CodeBadParameter, "MsgBody is not an array")
	}
	var found []Element
	custom := false
	for more := p.open('[', ']'); more; more = p.nextItem() {
		e, err := p.element(len(found))
		if err != nil {
			return nil, err
		}
		if e.Type == CustomElem && custom {
			return nil, Errorf(CodeBadParameter, "MsgBody has more than one TIMCustomElem")
		}
		custom = custom || e.Type == CustomElem
		found = append(found, e)
	}
	if p.peek(); p.bad || p.i != len(p.in) {
		return nil, p.syntax()
	}
	if len(found) == 0 {
		return nil, Errorf(CodeBadParameter, "MsgBody is empty")
	}
	return found, nil
}

var keyType, keyContent = []byte("MsgType"), []byte("MsgContent")

// element parses one element, the n-th.
func (p *bodyParser) element(n int) (Element, *Error) {
	if p.peek() != '{' {
		return Element{}, p.orSyntax("MsgBody[%d] is not an object", n)
	}
	begin := *p // where to look from if MsgType does not come first
	e := Element{}
	types, content := 0, false
	p.text = nil
	for more := p.open('{', '}'); more; more = p.nextMember() {
		key, ok := p.key()
		if !ok {
			return Element{}, p.syntax()
		}
		isType := bytes.EqualFold(key, keyType)
		if e.Type == NoElem {
			from := p
			if !isType {
				from = &begin
			}
			t, err := from.elementType(n, isType)
			if err != nil {
				return Element{}, err
			}
			e.Type = t
			p.out = append(append(append(p.out, `"MsgType":"`...), t.String()...), '"')
			if isType {
				types++
				continue
			}
		}
		switch {
		case isType:
			types++
			ok = p.skip()
		case bytes.EqualFold(key, keyContent):
			if content {
				return Element{}, Errorf(CodeBadParameter, "MsgBody[%d] has two MsgContent", n)
			}
			content = true
			p.out = append(p.out, `,"MsgContent":`...)
			if err := p.content(e.Type, n); err != nil {
				return Element{}, err
			}
		default:
			p.out = append(append(append(p.out, ','), p.quoted...), ':')
			ok = p.copyValue()
		}
		if !ok {
			return Element{}, p.syntax()
		}
	}
	switch {
	case p.bad:
		return Element{}, p.syntax()
	case types == 0:
		return Element{}, Errorf(CodeBadParameter, "MsgBody[%d] has no MsgType", n)
	case types > 1:
		return Element{}, Errorf(CodeBadParameter, "MsgBody[%d] has two MsgType", n)
	case !content:
		return Element{}, Errorf(CodeBadParameter, "MsgBody[%d] has no MsgContent", n)
	}
	p.out = append(p.out, '}')
	e.text = p.text
	return e, nil
}

// elementType reads the n-th element's type: the value that comes next, or, if that is not
// at hand, what it finds ahead in the whole object that comes next.
func (p *bodyParser) elementType(n int, atHand bool) (ElementType, *Error) {
	if !atHand {
		ahead := *p
		ahead.out, ahead.quoted = nil, nil
		for more := ahead.open('{', '}'); more; more = ahead.nextMember() {
			key, ok := ahead.key()
			if ok && bytes.EqualFold(key, keyType) {
				return ahead.elementType(n, true)
			}
			if !ok || !ahead.skip() {
				return NoElem, ahead.syntax()
			}
		}
		if ahead.bad {
			return NoElem, ahead.syntax()
		}
		return NoElem, Errorf(CodeBadParameter, "MsgBody[%d] has no MsgType", n)
	}
	if p.peek() != '"' {
		return NoElem, p.orSyntax("MsgBody[%d].MsgType is not a string", n)
	}
	name, ok := p.stringValue()
	if !ok {
		return NoElem, p.syntax()
	}
	t, ok := ParseElementType(name)
	if !ok || t >= TipElem {
		return NoElem, Errorf(CodeBadParameter, "MsgBody[%d].MsgType is unknown, or the server's alone", n)
	}
	return t, nil
}

// content parses MsgContent of the n-th element.
func (p *bodyParser) content(t ElementType, n int) *Error {
	known := elements[t].members
	seen, err := p.object(known, place{n: n})
	if err != nil {
		return err
	}
	if needed := elements[t].needed; needed > 0 && seen&(1<<needed-1) == 0 {
		return Errorf(CodeBadParameter, "MsgBody[%d].MsgContent.%s is missing", n, known[0].name)
	}
	return nil
}
