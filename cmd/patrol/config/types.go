package config

import (
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strconv"
	"strings"

	"patrol/internal/secret"
)

// URL is a URL that may carry a credential. It masks that in every form of
// output; [URL.Reveal] is the one way to the text.
type URL string

// Reveal returns the URL with what is secret in it.
func (u URL) Reveal() string { return string(u) }

// String masks the password, or the whole user part if there is no password,
// because a lone user part is how some services take a key; and every query
// parameter whose name sounds secret.
func (u URL) String() string {
	if u == "" {
		return ""
	}
	parsed, err := url.Parse(string(u))
	if err != nil { // no telling what is secret in it
		return secret.Mask
	}
	user := ""
	if parsed.User != nil {
		user = secret.Mask + "@"
		if _, ok := parsed.User.Password(); ok {
			user = url.User(parsed.User.Username()).String() + ":" + secret.Mask + "@"
		}
		parsed.User = nil
	}
	if parsed.RawQuery != "" {
		parsed.RawQuery = maskQuery(parsed.RawQuery)
	}
	text := parsed.String()
	if user != "" {
		text = strings.Replace(text, "://", "://"+user, 1)
	}
	return text
}

// maskQuery masks in place and leaves the rest as it was written.
func maskQuery(query string) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			continue
		}
		lower := strings.ToLower(name)
		for _, word := range [...]string{"pass", "secret", "token", "key", "credential", "%"} {
			if strings.Contains(lower, word) { // an escaped name may hide one of the words
				parts[i] = name + "=" + secret.Mask
				break
			}
		}
	}
	return strings.Join(parts, "&")
}

// GoString masks what is secret.
func (u URL) GoString() string { return u.String() }

// LogValue masks what is secret.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText masks what is secret.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Size is a number of bytes.
type Size int64

var sizeUnits = [...]struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}}

// ParseSize reads a number of bytes: `65536`, `64KiB`, `16MiB`, `10MB`.
func ParseSize(text string) (Size, error) {
	digits, factor := text, int64(1)
	for _, u := range sizeUnits {
		if head, ok := strings.CutSuffix(strings.ToLower(text), strings.ToLower(u.name)); ok {
			digits, factor = strings.TrimSpace(head), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("must be a size such as 64KiB, 16MiB or 1048576")
	}
	if int64(n) > math.MaxInt64/factor {
		return 0, fmt.Errorf("is too large")
	}
	return Size(int64(n) * factor), nil
}

// String renders the size in the largest binary unit that fits it evenly.
func (s Size) String() string {
	for _, u := range sizeUnits[:3] {
		if s > 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
