package route

import (
	"maps"
	"slices"
	"strings"

	"patrol/models"
)

// EscapedPath returns the path of r, from its segment number skip on, the way it
// is written in a request target. It starts with a slash. Only the characters of
// an RFC 3986 pchar stand for themselves, and of these not the semicolon.
func EscapedPath(r models.HTTPRequest, skip int) string {
	if skip >= len(r.Segments) {
		return "/"
	}
	var b strings.Builder
	b.Grow(len(r.Path) + 16)
	for _, segment := range r.Segments[skip:] {
		b.WriteByte('/')
		escape(&b, segment, "!$&'()*+,=:@")
	}
	if strings.HasSuffix(r.Path, "/") {
		b.WriteByte('/')
	}
	return b.String()
}

// EncodedQuery returns the query of r the way it is written in a request target,
// without the question mark: sorted by name, the values of a name in their order.
// A space is %20 and a plus %2B, which leaves no reader a choice.
func EncodedQuery(r models.HTTPRequest) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Query)) {
		for _, value := range r.Query[name] {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			escape(&b, name, "!$'()*,:@/")
			b.WriteByte('=')
			escape(&b, value, "!$'()*,:@/=")
		}
	}
	return b.String()
}

// escape percent-encodes all of s but RFC 3986's unreserved characters and those
// in also.
func escape(b *strings.Builder, s, also string) {
	const upperHex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if isAlphanumeric(c) || strings.IndexByte("-._~", c) >= 0 || strings.IndexByte(also, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
}

func isAlphanumeric[C byte | rune](c C) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
