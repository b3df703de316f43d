package request

import (
	"net/http"
	"strings"

	"patrol/models"
)

// Credential is the content of an Authorization header.
type Credential struct {
	Kind  CredentialKind
	Token string // after the scheme Bearer; "" for any other
}

// CredentialKind tells credentials apart before any of them is verified.
type CredentialKind int

// The kinds of credentials.
const (
	NoCredential       CredentialKind = iota
	AccessCredential                  // a Bearer token, whatever it looks like
	SessionCredential                 // a Bearer token with the prefix of session tokens
	OtherCredential                   // another scheme, or none
	RepeatedCredential                // more than one header: nobody can tell which one counts
)

// CredentialOf reads the Authorization header. Scheme names are case-insensitive (RFC 9110
// §11.1). A scheme other than Bearer presents no token (RFC 6750 §3.1).
func CredentialOf(h http.Header) Credential {
	lines := h["Authorization"]
	switch {
	case len(lines) == 0:
		return Credential{}
	case len(lines) > 1:
		return Credential{Kind: RepeatedCredential}
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	token = strings.Trim(token, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return Credential{Kind: OtherCredential}
	case strings.HasPrefix(token, models.BearerPrefix):
		return Credential{Kind: SessionCredential, Token: token}
	}
	return Credential{Kind: AccessCredential, Token: token}
}

// Bearer returns the token that a request presents, "" if it presents none. ok is false if
// there is more than one Authorization header.
func Bearer(h http.Header) (token string, ok bool) {
	cred := CredentialOf(h)
	return cred.Token, cred.Kind != RepeatedCredential
}
