package push

import (
	"net/url"
	"slices"
	"strings"
)

// previewToken stands in a Preview where the device token would.
const previewToken = "DEVICE-TOKEN"

// hiddenHeaders carry credentials.
var hiddenHeaders = []string{"authorization", "auth_token", "authtoken"}

// previewCall writes a call for a reader; err is passed through.
func previewCall(c call, err error) (Preview, error) {
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Method: "POST", URL: c.url, Body: string(c.body)}
	for pair := range slices.Chunk(c.header, 2) {
		value := pair[1]
		if slices.Contains(hiddenHeaders, strings.ToLower(pair[0])) {
			value = secretPlaceholder
		}
		if strings.HasPrefix(value, formType) {
			p.Body = readableForm(p.Body)
		}
		p.Header = append(p.Header, pair[0]+": "+value)
	}
	slices.Sort(p.Header)
	return p, nil
}

// preview is previewCall without the secret part of the address for receipts.
func (a *app) preview(c call, err error) (Preview, error) {
	p, err := previewCall(c, err)
	if secret := a.receipts.Secret.Reveal(); secret != "" {
		p.Body = strings.ReplaceAll(p.Body, secret, secretPlaceholder)
	}
	return p, err
}

// readableForm writes a form a field a line, decoded, without its credentials.
func readableForm(body string) string {
	var b strings.Builder
	for field := range strings.SplitSeq(body, "&") {
		name, value, _ := strings.Cut(field, "=")
		name, _ = url.QueryUnescape(name) // we encoded it
		value, _ = url.QueryUnescape(value)
		if name == "sign" || name == "auth_token" {
			value = secretPlaceholder
		}
		b.WriteString(name + "=" + value + "\n")
	}
	return b.String()
}
