package push

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A ReceiptConfig has a vendor report what became of a push after it was taken. The zero value
// asks for nothing.
type ReceiptConfig struct {
	// Secret is the last part of the address that the vendor reports to,
	// {BaseURL}/push/receipts/{name}/{Secret}: 16 to 64 letters, digits, - or _. Zero means that
	// no receipts are wanted.
	Secret Secret
	// BaseURL is the public address of the HTTP listener. Huawei and Honor need none: their
	// consoles are told the whole address.
	BaseURL string
	// Key authenticates the callback parameters. It is to be one that does not follow from
	// Secret: proxies and vendors write addresses into their logs.
	Key Secret
	// ID names a receipt address that the console keeps: Huawei's receipt_id, vivo's
	// callback.id, which then needs no BaseURL.
	ID string
	// CallbackUser and CallbackKey sign the receipts of Huawei and Honor. A zero key means that
	// no signature is looked for.
	CallbackUser string
	CallbackKey  Secret
}

// ReceiptPath is what the addresses for receipts have behind the BaseURL.
const ReceiptPath = "/push/receipts/"

func (c ReceiptConfig) url(name string) string {
	return strings.TrimRight(c.BaseURL, "/") + ReceiptPath + url.PathEscape(name) + "/" + c.Secret.Reveal()
}

// validate checks what a provider app of that name is given. limit bounds the address, in bytes;
// 0 means that it is not sent.
func (c ReceiptConfig) validate(name string, limit int) error {
	secret := c.Secret.Reveal()
	if secret == "" {
		return nil
	}
	var errs []error
	if len(secret) < 16 || len(secret) > 64 || strings.ContainsFunc(secret, func(r rune) bool { return !isURLSafe(r) }) {
		errs = append(errs, errors.New("receipt secret is not 16 to 64 letters, digits, - or _"))
	}
	if c.Key.IsZero() {
		errs = append(errs, errors.New("receipts need a key"))
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !isURLSafe(r) && r != '.' }) || name == "." || name == ".." {
		errs = append(errs, errors.New("receipts need a name of only letters, digits and . - _"))
	}
	if limit > 0 {
		if c.BaseURL == "" {
			errs = append(errs, errors.New("receipts need the public address to report to"))
		}
		if n := len(c.url(name)); n > limit {
			errs = append(errs, fmt.Errorf("the address for receipts has %d bytes, and may have %d", n, limit))
		}
	}
	return errors.Join(errs...)
}

func isURLSafe(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// A ReceiptSource is a provider whose vendor sends receipts: all but APNs and FCM. Its methods
// may be called by several goroutines at once.
type ReceiptSource interface {
	// ReceiptSecret is the last part of the address that receipts come to. Zero means that the
	// provider app takes none.
	ReceiptSecret() Secret
	// Receipts reads one request of the vendor. The error is ErrUnsigned or wraps ErrBadReceipt.
	Receipts(header http.Header, body []byte) ([]Receipt, error)
}

// Why a vendor's request is not taken.
var (
	ErrBadReceipt = errors.New("push: receipts that can't be read")
	ErrUnsigned   = errors.New("push: receipts without the vendor's signature")
)

// MaxReceipts bounds the receipts of one request.
const MaxReceipts = 20_000

// ReceiptAnswer tells a vendor that its receipts were taken. Huawei and Honor look for it, to the
// others HTTP 200 is enough.
const ReceiptAnswer = `{"code":"0","message":"success"}`

// A ReceiptKind says what became of a push. It is fit for a metric label.
type ReceiptKind string

// The kinds of receipts.
const (
	ReceiptArrived     ReceiptKind = "arrived"
	ReceiptClicked     ReceiptKind = "clicked"
	ReceiptDead        ReceiptKind = "dead"        // the token will never work again
	ReceiptUndelivered ReceiptKind = "undelivered" // it did not arrive, and the token stays
	ReceiptOther       ReceiptKind = "other"       // nobody documented what the vendor says
)

// A Receipt is what became of one push to one device.
type Receipt struct {
	Kind  ReceiptKind
	Token Token
	// VendorID is the vendor's ID of the push, "" where there is none.
	VendorID string
	// Message is what was pushed; nil means that the receipt does not show that it is about a
	// push of this provider app, so that nothing may be done for it.
	Message *ReceiptMessage
}

// A ReceiptMessage is the message of a push, as its callback parameter tells.
type ReceiptMessage struct {
	Seq    uint64
	Sent   int64 // of the message, Unix seconds: no later than the push
	Random uint32
	// Group is empty where the parameter had no room for it, and From likewise. GroupSum, then,
	// is what the function of that name makes of the group's ID.
	Group, From string
	GroupSum    string
}

// GroupSum stands for a group's ID where that is too long.
func GroupSum(id string) string {
	sum := sha256.Sum256([]byte(id))
	return string(sum[:8])
}

// A callback parameter is base64url of a MAC and of what the MAC is over:
//
//	flags (1 byte)  sent (4)  random (4)  seq (uvarint)  group, from
//
// With paramFull the group's ID has its length before it and the sender's behind it, with
// paramGroup it comes alone, with paramSum it is only its GroupSum. The MAC is also over the
// provider app and, with paramBound, the one device token that the parameter was made for: in
// calls for several devices all share a parameter, and a receipt for another token of the app
// proves only that it is about a message which was pushed.
const (
	paramFull = iota
	paramGroup
	paramSum
	paramForms

	paramBound = 0x80

	paramMAC   = 8 // bytes
	paramFixed = 1 + 4 + 4
)

// withReceipts returns the app with c, whose secrets are then never to be seen in an error.
func (a app) withReceipts(c ReceiptConfig) app {
	a.receipts = c
	a.secrets = append(a.secrets, c.Secret.Reveal(), c.CallbackKey.Reveal())
	return a
}

// ReceiptSecret returns the last part of the address that receipts come to.
func (a *app) ReceiptSecret() Secret { return a.receipts.Secret }

// receiptURL is where the vendor shall report to.
func (a *app) receiptURL() string { return a.receipts.url(a.name) }

// receiptParam returns the callback parameter of a call for devices, at most limit bytes; "" where
// no receipts are wanted. It depends on nothing but the message and, for one device, its token.
func (a *app) receiptParam(n *Notification, limit int, devices []Device) string {
	if a.receipts.Secret.IsZero() || n.Group == "" {
		return ""
	}
	var flags byte
	var token string
	if len(devices) == 1 {
		flags, token = paramBound, devices[0].Token.Reveal()
	}
	for form := range byte(paramForms) {
		data := []byte{flags | form}
		data = binary.BigEndian.AppendUint32(data, uint32(n.Sent))
		data = binary.BigEndian.AppendUint32(data, n.Random)
		data = binary.AppendUvarint(data, n.Seq)
		switch form {
		case paramFull:
			data = append(data, byte(len(n.Group)))
			data = append(data, n.Group...)
			data = append(data, n.From...)
		case paramGroup:
			data = append(data, n.Group...)
		case paramSum:
			data = append(data, GroupSum(n.Group)...)
		}
		if base64.RawURLEncoding.EncodedLen(paramMAC+len(data)) <= limit {
			return base64.RawURLEncoding.EncodeToString(append(a.paramMAC(data, token), data...))
		}
	}
	return ""
}

func (a *app) paramMAC(data []byte, token string) []byte {
	mac := hmac.New(sha256.New, []byte(a.receipts.Key.Reveal()))
	for _, part := range []string{"receipt", string(a.vendor), a.name, token, string(data)} {
		_, _ = mac.Write(binary.AppendUvarint(nil, uint64(len(part)))) // never fails
		_, _ = mac.Write([]byte(part))
	}
	return mac.Sum(nil)[:paramMAC]
}

// receiptMessage reads a callback parameter that came back for token; nil where this provider app
// has not made it.
func (a *app) receiptMessage(param string, token Token) *ReceiptMessage {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimSpace(param))
	if err != nil || len(raw) < paramMAC+paramFixed {
		return nil
	}
	got, data := raw[:paramMAC], raw[paramMAC:]
	bound := ""
	if data[0]&paramBound != 0 {
		bound = token.Reveal()
	}
	if !hmac.Equal(got, a.paramMAC(data, bound)) {
		return nil
	}
	m := &ReceiptMessage{Sent: int64(binary.BigEndian.Uint32(data[1:])), Random: binary.BigEndian.Uint32(data[5:])}
	rest := data[paramFixed:]
	seq, n := binary.Uvarint(rest)
	if n <= 0 {
		return nil
	}
	m.Seq, rest = seq, rest[n:]
	switch data[0] &^ paramBound {
	case paramFull:
		if len(rest) == 0 || len(rest) <= int(rest[0]) {
			return nil
		}
		m.Group, m.From = string(rest[1:1+rest[0]]), string(rest[1+rest[0]:])
	case paramGroup:
		m.Group = string(rest)
	case paramSum:
		m.GroupSum = string(rest)
	default:
		return nil
	}
	return m
}

// reported is an entry of a vendor's request: one status of one push on some devices.
type reported struct {
	kind     ReceiptKind
	tokens   []string
	param    string
	vendorID string
}

// receiptsOf makes a receipt of each device of each entry.
func (a *app) receiptsOf(entries []reported) ([]Receipt, error) {
	var list []Receipt
	for _, e := range entries {
		if len(list)+len(e.tokens) > MaxReceipts {
			return nil, fmt.Errorf("%w: more than %d", ErrBadReceipt, MaxReceipts)
		}
		for _, text := range e.tokens {
			token := NewToken(strings.TrimSpace(text))
			if !sendable(token) {
				continue // we never sent to such a one
			}
			list = append(list, Receipt{
				Kind: cmp.Or(e.kind, ReceiptOther), Token: token, VendorID: vendorWord(e.vendorID, token), Message: a.receiptMessage(e.param, token),
			})
		}
	}
	return list, nil
}

// receiptCodes are the kinds of a vendor's statuses, which rows lists with spaces between them.
func receiptCodes(rows map[ReceiptKind]string) map[string]ReceiptKind {
	t := make(map[string]ReceiptKind)
	for kind, codes := range rows {
		for code := range strings.FieldsSeq(codes) {
			t[code] = kind
		}
	}
	return t
}

// receiptJSON finds the JSON text of a request: the body, or a field of a form.
func receiptJSON(body []byte, field string) ([]byte, error) {
	body = bytes.TrimSpace(body)
	if len(body) > 0 && (body[0] == '{' || body[0] == '[') {
		return body, nil
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || !form.Has(field) {
		return nil, fmt.Errorf("%w: neither JSON nor a form with %s", ErrBadReceipt, field)
	}
	return bytes.TrimSpace([]byte(form.Get(field))), nil
}

// eachEntry calls fn for the items of an array, or for the members of an object with their names:
// vendors key receipts by the message, and may name one twice.
func eachEntry(raw []byte, fn func(name string, entry json.RawMessage)) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	open, err := dec.Token()
	if err != nil || open != json.Delim('{') && open != json.Delim('[') {
		return fmt.Errorf("%w: no object and no array", ErrBadReceipt)
	}
	for n := 0; dec.More(); n++ {
		if n == MaxReceipts {
			return fmt.Errorf("%w: more than %d", ErrBadReceipt, MaxReceipts)
		}
		name := ""
		if open == json.Delim('{') {
			key, err := dec.Token()
			if err != nil {
				return fmt.Errorf("%w: %w", ErrBadReceipt, err)
			}
			name, _ = key.(string) // a name is a text
		}
		var entry json.RawMessage
		if err := dec.Decode(&entry); err != nil {
			return fmt.Errorf("%w: %w", ErrBadReceipt, err)
		}
		fn(name, entry)
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadReceipt, err)
	}
	return nil
}

// looseList is a list of texts, or one text with commas between them. Any other JSON value is an
// empty list.
type looseList []string

func (l *looseList) UnmarshalJSON(b []byte) error {
	var list []looseText
	if json.Unmarshal(b, &list) != nil {
		var text string
		if json.Unmarshal(b, &text) != nil {
			return nil
		}
		*l = strings.Split(text, ",")
		return nil
	}
	for _, t := range list {
		*l = append(*l, string(t))
	}
	return nil
}

// receiptsByMessage reads the receipts of Xiaomi, OPPO, vivo and Meizu: JSON, or a form with JSON
// in the named field, that lists what became of messages or has them by their IDs. An entry that
// does not say what happened is of kind untyped.
func (a *app) receiptsByMessage(body []byte, field string, kinds map[string]ReceiptKind, untyped ReceiptKind) ([]Receipt, error) {
	raw, err := receiptJSON(body, field)
	if err != nil {
		return nil, err
	}
	var entries []reported
	err = eachEntry(raw, func(name string, raw json.RawMessage) {
		var e struct {
			Type          looseText `json:"type"`
			EventType     looseText `json:"eventType"`
			Targets       looseList `json:"targets"`
			Registrations looseList `json:"registrationIds"`
			Param         looseText `json:"param"`
			MessageID     looseText `json:"messageId"`
		}
		if json.Unmarshal(raw, &e) != nil {
			return // no entry
		}
		id, suffix := name, ""
		if a.vendor == VendorMeizu { // its names are {message ID}-{type}
			if at := strings.LastIndexByte(name, '-'); at >= 0 {
				id, suffix = name[:at], name[at+1:]
			}
		}
		kind := untyped
		if what := cmp.Or(string(e.Type), string(e.EventType), suffix); what != "" {
			kind = kinds[what]
		}
		entries = append(entries, reported{kind, slices.Concat(e.Targets, e.Registrations), string(e.Param), cmp.Or(string(e.MessageID), id)})
	})
	if err != nil {
		return nil, err
	}
	return a.receiptsOf(entries)
}

// The statuses of Huawei, and of Honor, whose receipts are like Huawei's as far as is known.
var (
	huaweiReceipts = receiptCodes(map[ReceiptKind]string{
		ReceiptArrived:     "0",
		ReceiptDead:        "2 5 201",
		ReceiptUndelivered: "6 10 14 15 22 27 31 51 102 144 256",
	})
	honorReceipts = receiptCodes(map[ReceiptKind]string{
		ReceiptArrived:     "0",
		ReceiptDead:        "2 5",
		ReceiptUndelivered: "6 10 14 15 22 27 31 51 102 144 201 256",
	})
)

// huaweiReceiptsOf reads a list of statuses, or a single one that stands by itself.
func (a *app) huaweiReceiptsOf(body []byte, kinds map[string]ReceiptKind) ([]Receipt, error) {
	var got struct {
		Statuses json.RawMessage `json:"statuses"`
	}
	body = bytes.TrimSpace(body)
	list := slices.Concat([]byte("["), body, []byte("]"))
	if bytes.HasPrefix(body, []byte("[")) {
		list = body
	} else if err := json.Unmarshal(body, &got); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadReceipt, err)
	} else if got.Statuses != nil {
		list = got.Statuses
	}
	var entries []reported
	err := eachEntry(list, func(_ string, raw json.RawMessage) {
		var e struct {
			BITag     looseText `json:"biTag"`
			Token     string    `json:"token"`
			Status    looseText `json:"status"`
			RequestID looseText `json:"requestId"`
			Delivery  struct {
				Result looseText `json:"result"`
			} `json:"deliveryStatus"`
		}
		if json.Unmarshal(raw, &e) == nil {
			entries = append(entries, reported{kinds[string(cmp.Or(e.Status, e.Delivery.Result))], []string{e.Token}, string(e.BITag), string(e.RequestID)})
		}
	})
	if err != nil {
		return nil, err
	}
	return a.receiptsOf(entries)
}

// receiptSigned checks "timestamp=…; nonce=…; value=…" under one of the names. It is about the
// sender alone: the body is not signed, which is why the callback parameter has a MAC of its own.
func (a *app) receiptSigned(h http.Header, names ...string) bool {
	key := a.receipts.CallbackKey.Reveal()
	if key == "" {
		return true
	}
	fields := make(map[string]string)
	for _, name := range names {
		for field := range strings.SplitSeq(h.Get(name), ";") {
			k, v, _ := strings.Cut(strings.TrimSpace(field), "=")
			fields[k] = v
		}
	}
	got, err := base64.StdEncoding.DecodeString(fields["value"])
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = mac.Write([]byte(fields["timestamp"] + fields["nonce"] + a.receipts.CallbackUser)) // never fails
	return err == nil && hmac.Equal(got, mac.Sum(nil))
}
