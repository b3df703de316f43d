package route

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"patrol/models"
)

// IdentityPrefix begins, in lower case, the names of the headers in which Patrol
// tells an upstream who is calling.
const IdentityPrefix = "x-patrol-"

// judgedHeaders returns the header as policies see it: names in lower case,
// values joined with ", " and masked. What identifies or authenticates somebody
// is left out, and so are names that could be taken for another name.
func judgedHeaders(header http.Header) map[string]string {
	headers := make(map[string]string, len(header))
	for name, values := range header {
		if !IsPlainName(name) {
			continue
		}
		name = strings.ToLower(name)
		if isCredential(name) || strings.HasPrefix(name, IdentityPrefix) {
			continue
		}
		value := models.MaskTokens(strings.ToValidUTF8(strings.Join(values, ", "), "\uFFFD"))
		if prior, ok := headers[name]; ok { // two spellings of one name
			value = prior + ", " + value
		}
		headers[name] = value
	}
	return headers
}

// maxVisible bounds the headers that policies of decisions see.
const maxVisible = 32

// CheckVisible reports what keeps headers of these names from being seen by policies of
// decisions, see [models.ProxiedFacts].
func CheckVisible(names []string) error {
	if len(names) > maxVisible {
		return fmt.Errorf("%d names are more than the maximum of %d", len(names), maxVisible)
	}
	for i, name := range names {
		switch {
		case !IsPlainName(name) || strings.ToLower(name) != name:
			return fmt.Errorf("%.80q is no name of a header in lower case, of letters, digits and hyphens", name)
		case isCredential(name) || strings.HasPrefix(name, IdentityPrefix):
			return fmt.Errorf("%s can carry a credential, or speaks for Patrol, and is never shown to policies", name)
		case slices.Contains(names[:i], name):
			return fmt.Errorf("%s is there twice", name)
		}
	}
	return nil
}

// checkOverride refuses a header that asks for another method.
func checkOverride(header http.Header) error {
	for name := range header {
		if isMethodOverride(name) {
			return ambiguous("a header asks for another method")
		}
	}
	return nil
}

// IsPlainName reports whether a header name consists of letters, digits and
// hyphens. Servers that hand headers to programs as variables (CGI, WSGI, PHP)
// fold other characters, so that X_Patrol_User arrives as X-Patrol-User.
func IsPlainName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && c != '-' {
			return false
		}
	}
	return name != ""
}

// credentialWords are parts of names, in lower case, that tell a header with
// something secret in it.
var credentialWords = []string{
	"authorization", "cookie", "token", "secret", "password", "passwd",
	"credential", "api-key", "apikey", "access-key", "private-key", "subscription-key", "session",
}

func isCredential(name string) bool {
	if strings.HasPrefix(name, "sec-websocket-protocol") { // browsers have no other place for a key
		return true
	}
	for _, word := range credentialWords {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// isMethodOverride reports whether a header, a query parameter or a member of a
// body of this name is an order to take the request for one with another method.
func isMethodOverride(name string) bool {
	if len(name) > 32 || !strings.ContainsFunc(name, func(r rune) bool { return !isAlphanumeric(r) }) {
		return false // most names, at once
	}
	switch strings.Map(fold, name) {
	case "x-http-method-override", "x-http-method", "x-method-override", "-method", "-httpmethod":
		return true
	}
	return false
}

// fold maps a character to what it becomes where names turn into variables:
// lower case, and hyphens for all but letters and digits. `_method` becomes
// `-method`, and so does Google's `$httpMethod`, `-httpmethod`.
func fold(r rune) rune {
	switch {
	case 'A' <= r && r <= 'Z':
		return r + 'a' - 'A'
	case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
		return r
	default:
		return '-'
	}
}
