package pushtest

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

var discardLog = log.New(io.Discard, "", 0)

// maxRequest bounds a request: a thousand OPPO messages.
const maxRequest = 8 << 20

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that left doesn't matter
}

type object = map[string]any

func readBody(r *http.Request) []byte {
	b, _ := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxRequest)) // a broken body fails its checks
	return b
}

// readForm checks the content type and parses a form.
func (s *Server) readForm(r *http.Request, body []byte) url.Values {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		s.violate("%s: content type %q is no form", r.URL.Path, r.Header.Get("Content-Type"))
	}
	v, err := url.ParseQuery(string(body))
	if err != nil {
		s.violate("%s: bad form", r.URL.Path)
	}
	return v
}

// readJSON checks the content type and parses into v.
func (s *Server) readJSON(r *http.Request, body []byte, v any) bool {
	if !strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "application/json") {
		s.violate("%s: content type %q is not JSON", r.URL.Path, r.Header.Get("Content-Type"))
	}
	if err := json.Unmarshal(body, v); err != nil {
		s.violate("%s: bad JSON: %v", r.URL.Path, err)
		return false
	}
	return true
}

// length checks a text's number of characters; it returns false where the vendor refuses.
func (s *Server) length(what, text string, least, most int) bool {
	if n := utf8.RuneCountInString(text); n < least || n > most {
		s.violate("%s has %d characters, %d to %d are allowed", what, n, least, most)
		return false
	}
	return true
}

// batch checks the number of tokens in a call, and that none stands there twice.
func (s *Server) batch(tokens []string, least, most int) bool {
	if len(tokens) < least || len(tokens) > most {
		s.violate("%d tokens in a call, %d to %d are allowed", len(tokens), least, most)
		return false
	}
	seen := make(map[string]bool, len(tokens))
	for _, t := range tokens {
		if seen[t] {
			s.violate("a token stands twice in a call")
			return false
		}
		seen[t] = true
	}
	return true
}

// callBehaviour returns the first behaviour that decides about the whole call.
func callBehaviour(tokens []string, whole ...string) (behaviour, bool) {
	for _, t := range tokens {
		b := parseBehaviour(t)
		if slices.Contains(whole, b.kind) {
			return b, true
		}
	}
	return behaviour{}, false
}

// alive returns the tokens that the vendor takes, and those that it names in its answer.
func alive(tokens []string) (good, bad []string) {
	for _, t := range tokens {
		switch parseBehaviour(t).kind {
		case "dead", "foreign", "dev429", "value":
			bad = append(bad, t)
		default:
			good = append(good, t)
		}
	}
	return good, bad
}
