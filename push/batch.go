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
				r.unnamed = false
				r.Code = vendorWord(r.Code, part[i].Token)
				r.VendorID = vendorWord(r.VendorID, part[i].Token)
				results[place[start+i]] = r
				ReportProgress(ctx, part[i].Token, r)
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

// vendorWord bounds a vendor's code or ID and keeps the device token out of it: it goes into
// logs as it is.
func vendorWord(word string, token Token) string {
	if word == "" {
		return ""
	}
	return clean(word, maxVendorWord, []string{token.Reveal()})
}

// maxSplits bounds the further calls that one refused batch may cost.
const maxSplits = 64

// sendSplitting sends a batch. Where the vendor refuses all of it for a dead token that it
// does not name, the halves are sent by themselves until the token is found; what is left when
// maxSplits calls are spent is to be tried again. Nobody is removed on suspicion.
func sendSplitting(ctx context.Context, part []Device, send func(context.Context, []Device) []Result) []Result {
	budget := maxSplits
	var split func(part []Device) []Result
	split = func(part []Device) []Result {
		results := send(ctx, part)
		if !results[0].unnamed {
			return results
		}
		if budget < 2 {
			for i := range results {
				results[i].Outcome = Retryable
			}
			return results
		}
		budget -= 2
		half := len(part) / 2
		return slices.Concat(split(part[:half]), split(part[half:]))
	}
	return split(part)
}

// unnamedDead marks the result of a whole batch that says "dead" without saying who.
func unnamedDead(r Result, part []Device) Result {
	r.unnamed = r.Outcome.TokenDead() && len(part) > 1
	return r
}
