package request

import (
	"net/http"
	"strings"

	"patrol/models"
	"patrol/server/route"
)

// HeaderGuardrails is the best known of the headers by which guardrails are told what they
// have seen already.
const HeaderGuardrails = "X-Guardrails-Request"

// GuardrailsPrefix begins the names of those headers, in lower case.
const GuardrailsPrefix = "x-guardrails-"

// IsIdentity reports whether name is one of the headers that tell an upstream who is
// calling.
func IsIdentity(name string) bool {
	return strings.EqualFold(name, models.HeaderUser) || strings.EqualFold(name, models.HeaderDomain) || strings.EqualFold(name, models.HeaderTokenID)
}

// Reserved reports whether a header of this name speaks for Patrol or for a guardrail,
// also to servers that take other characters for hyphens.
func Reserved(name string) bool {
	name = folded(name)
	return strings.HasPrefix(name, route.IdentityPrefix) || strings.HasPrefix(name, GuardrailsPrefix)
}

// folded returns a name in lower case, with hyphens for all but letters and digits, as
// servers read it that make variables of names.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			return r
		}
		return '-'
	}, name)
}

// Identify sets on h, which goes to an upstream, the headers that the policy sets and those
// that tell whom d allowed something in domain. The latter win.
func Identify(h http.Header, d models.Decision, domain string) {
	for name, value := range d.Headers {
		h.Set(name, value)
	}
	h.Set(models.HeaderUser, d.UserID)
	h.Set(models.HeaderDomain, domain)
	h.Set(models.HeaderTokenID, d.TokenID)
}
