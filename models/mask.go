package models

import "strings"

const (
	maskText = "***"
	// minSecret is the number of characters after a prefix from which on they are taken
	// for a token: enough that a name such as patrol_small is none, few enough that a
	// token which lost its end still is one.
	minSecret = IDLength + 1 + 8
)

// MaskTokens replaces everything in text that is shaped like a token of Patrol, or like
// the greater part of one, leaving its prefix. Whatever a client chose and a log, an
// answer or a policy repeats goes through it. Mask before cutting: the rest of a token
// that was cut may be too short to be recognised.
func MaskTokens(text string) string { return maskTokens(text, false) }

// MaskSecrets is [MaskTokens] but for the public ids of access tokens, which it leaves,
// for the terminal of whoever typed the token.
func MaskSecrets(text string) string { return maskTokens(text, true) }

func maskTokens(s string, keepID bool) string {
	const common = "patrol" // of both prefixes
	at := strings.Index(s, common)
	if at < 0 {
		return s
	}
	var b strings.Builder
	for at >= 0 {
		prefix := prefixOf(s[at:])
		end := at + len(prefix)
		for prefix != "" && end < len(s) && (isAlphanumeric(s[end]) || s[end] == '_' || s[end] == '-' && prefix == BearerPrefix) {
			end++
		}
		if prefix == "" || !isToken(s[at+len(prefix):end], prefix) {
			end = at + len(common) // look again behind it
			b.WriteString(s[:end])
		} else {
			kept := at + len(prefix)
			if keepID && prefix == TokenPrefix {
				kept += IDLength + 1
			}
			b.WriteString(s[:kept])
			b.WriteString(maskText)
		}
		s = s[end:]
		at = strings.Index(s, common)
	}
	b.WriteString(s)
	return b.String()
}

func prefixOf(s string) string {
	for _, prefix := range [...]string{TokenPrefix, BearerPrefix} {
		if strings.HasPrefix(s, prefix) {
			return prefix
		}
	}
	return ""
}

// isToken reports whether rest, the characters after a prefix that a token may have, is a
// token's: an id, a separator and a secret; of a session token, whose shape is not fixed,
// as many characters.
func isToken(rest, prefix string) bool {
	return len(rest) >= minSecret && (prefix == BearerPrefix || rest[IDLength] == '_')
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
