package push

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// A Token is a device's address at its vendor. Whatever prints it (fmt, slog, JSON) shows the
// first 8 hex digits of its SHA-256 instead; only Reveal gives the text. Tokens compare with
// == by their text. The zero Token is none.
type Token struct {
	// A handle and not a string: fmt prints the unexported fields of a struct that contains
	// a Token without asking its methods, and then finds a pointer.
	h unique.Handle[string]
}

// NewToken returns the token with the given text; an empty text gives the zero Token.
func NewToken(text string) Token {
	if text == "" {
		return Token{}
	}
	return Token{h: unique.Make(text)}
}

// Reveal returns the token's text, for the vendor and for storage.
func (t Token) Reveal() string {
	if t == (Token{}) {
		return ""
	}
	return t.h.Value()
}

// IsZero reports whether t is no token.
func (t Token) IsZero() bool { return t == Token{} }

// Fingerprint returns the first 8 hex digits of the token's SHA-256.
func (t Token) Fingerprint() string {
	if t.IsZero() {
		return "none"
	}
	sum := sha256.Sum256([]byte(t.h.Value()))
	return hex.EncodeToString(sum[:4])
}

func (t Token) String() string               { return t.Fingerprint() }
func (t Token) LogValue() slog.Value         { return slog.StringValue(t.Fingerprint()) }
func (t Token) MarshalText() ([]byte, error) { return []byte(t.Fingerprint()), nil }

// Format prints the fingerprint for every verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.Fingerprint()) }

// A Secret is a key or password of a provider app. It prints as a placeholder; only Reveal
// gives the text. Secrets compare with == by their text.
type Secret struct{ h unique.Handle[string] }

const secretPlaceholder = "[secret]"

// NewSecret returns the secret with the given text; an empty text gives the zero Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{h: unique.Make(text)}
}

// Reveal returns the secret's text.
func (s Secret) Reveal() string {
	if s == (Secret{}) {
		return ""
	}
	return s.h.Value()
}

// IsZero reports whether s is unset.
func (s Secret) IsZero() bool { return s == Secret{} }

func (s Secret) String() string               { return secretPlaceholder }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(secretPlaceholder) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(secretPlaceholder), nil }

// UnmarshalText sets s from a configuration file or an environment variable.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// Format prints the placeholder for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secretPlaceholder) }
