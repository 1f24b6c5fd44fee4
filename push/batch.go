package push

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxToken bounds a device token in bytes, far above any vendor's.
const maxToken = 1024

// sendable reports whether a token can be written into a list or a form. Whatever else a
// client registered is no token of any vendor.
func sendable(t Token) bool {
	s := t.Reveal()
	return s != "" && len(s) <= maxToken &&
		!strings.ContainsFunc(s, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune(`,\"'`, r)
		})
}

// sendBatches splits devices into calls of at most size and runs up to parallel of them at
// once. Unusable tokens never reach send, and a token listed twice reaches it once.
func sendBatches(ctx context.Context, devices []Device, size, parallel int,
	send func(context.Context, []Device) []Result,
) []Result {
	results := make([]Result, len(devices))
	first := make(map[Token]int, len(devices))
	unique := make([]Device, 0, len(devices))
	place := make([]int, 0, len(devices)) // unique[i] is devices[place[i]]
	for i, d := range devices {
		if !sendable(d.Token) {
			results[i] = Result{Outcome: TokenForeign, Code: "malformed", AsOf: time.Now()}
			continue
		}
		if _, seen := first[d.Token]; seen {
			continue
		}
		first[d.Token] = i
		unique, place = append(unique, d), append(place, i)
	}

	var wg sync.WaitGroup
	slots := make(chan struct{}, max(parallel, 1))
	at := 0
	for part := range slices.Chunk(unique, size) {
		start := at
		at += len(part)
		run := func() {
			for i, r := range send(ctx, part) {
				r.Code = vendorWord(r.Code, part[i].Token)
				r.VendorID = vendorWord(r.VendorID, part[i].Token)
				results[place[start+i]] = r
			}
		}
		if len(unique) <= size {
			run() // one call needs no goroutine
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			run()
		})
	}
	wg.Wait()
	for i, d := range devices {
		if j, ok := first[d.Token]; ok && j != i {
			results[i] = results[j]
		}
	}
	return results
}

// maxVendorWord bounds a code or an ID that a vendor sent, in characters.
const maxVendorWord = 128

// vendorWord bounds a vendor's code or ID and keeps the device token out of it: it goes into
// logs as it is.
func vendorWord(word string, token Token) string {
	if word == "" {
		return ""
	}
	return cutRunes(strings.ToValidUTF8(redact(word, []string{token.Reveal()}), "?"), maxVendorWord)
}
