// Package secret has the one type for settings that nobody may see: keys, passwords and
// credentials of upstreams and providers.
//
// A [Text] masks itself in every form of output: fmt, log/slog, JSON, YAML and text.
// [Text.Reveal] is the one way to what it holds.
package secret

import "log/slog"

// Mask stands in every output in the place of a secret.
const Mask = "***"

// Text is a text that nobody may see. The empty text is not secret, and prints as such,
// so that output tells whether something is set.
type Text string

// Reveal returns the secret.
func (t Text) Reveal() string { return string(t) }

// String masks the secret.
func (t Text) String() string {
	if t == "" {
		return ""
	}
	return Mask
}

// GoString masks the secret.
func (t Text) GoString() string { return t.String() }

// LogValue masks the secret.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText masks the secret.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
