package models

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// OneTimeCode is a code for a person to type or paste once, in place of a
// password: 100 random bits as four groups of five letters and digits. Whoever
// checks one keeps its hash alone. It masks itself when printed or logged.
type OneTimeCode struct{ text string }

const (
	codeLength = 20 // characters of base32
	codeGroup  = 5
)

var codeEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewOneTimeCode draws a code. It fails if random does.
func NewOneTimeCode(random io.Reader) (OneTimeCode, error) {
	var raw [13]byte // 104 bits
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return OneTimeCode{}, fmt.Errorf("draw a one-time code: %w", err)
	}
	return OneTimeCode{codeEncoding.EncodeToString(raw[:])[:codeLength]}, nil
}

// ReadOneTimeCode takes a code as somebody typed it: in any case, with hyphens and
// spaces or without. A text of another form is a code, too, that nobody was given.
func ReadOneTimeCode(typed string) OneTimeCode {
	return OneTimeCode{strings.ToUpper(strings.NewReplacer("-", "", " ", "", "\t", "", "\r", "", "\n", "").Replace(typed))}
}

// Hash is the stored form of the code. A plain SHA-256 is enough for so many random
// bits, and can be looked up.
func (c OneTimeCode) Hash() string {
	sum := sha256.Sum256([]byte(c.text))
	return hex.EncodeToString(sum[:])
}

// Reveal returns the code as people read it.
func (c OneTimeCode) Reveal() string {
	var groups []string
	for rest := c.text; rest != ""; {
		n := min(codeGroup, len(rest))
		groups, rest = append(groups, rest[:n]), rest[n:]
	}
	return strings.Join(groups, "-")
}

// String masks the code.
func (c OneTimeCode) String() string { return "one-time code" }

// GoString masks the code.
func (c OneTimeCode) GoString() string { return c.String() }

// LogValue masks the code.
func (c OneTimeCode) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText refuses, so that a code is not written by accident.
func (c OneTimeCode) MarshalText() ([]byte, error) {
	return nil, fmt.Errorf("a one-time code is not written: use Reveal where it is meant")
}
