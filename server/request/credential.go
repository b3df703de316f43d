package request

import (
	"iter"
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

// Bearer returns the token that a request presents in its Authorization header, "" if it
// presents none. ok is false if there is more than one Authorization header.
func Bearer(h http.Header) (token string, ok bool) {
	cred := CredentialOf(h)
	return cred.Token, cred.Kind != RepeatedCredential
}

// KeyHeaders are the headers in which clients of model APIs send a key: Anthropic's, Azure's
// and Google's. Patrol takes a value for a credential there only if it begins like an access token;
// any other is the upstream's affair.
var KeyHeaders = [...]string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key"}

// protocolHeader lists the sub-protocols that a client offers for a WebSocket (RFC 6455
// §11.3.4).
const protocolHeader = "Sec-Websocket-Protocol"

// protocolKey begins the sub-protocol in which browsers send a key for OpenAI's realtime API.
const protocolKey = "openai-insecure-api-key."

// Presented is the access token that a request for a model API presents.
type Presented struct {
	Token string // "" if there is none
	// Keyed says that the token stands in another header than Authorization alone. A shared cache
	// does not know such an answer for one that belongs to somebody (RFC 9111 §3.5).
	Keyed bool
}

// The problems of requests that present tokens in more than one way.
const (
	TwoAuthorizations = "The request has more than one Authorization header."
	TwoTokens         = "The request presents two different credentials. Send the access token alone."
)

// Present reads the access token of a request from its Authorization header, or else from one of
// [KeyHeaders] or, if protocol is set, the sub-protocol of a WebSocket. With an Authorization header
// nothing else counts. problem says why nobody can tell which token counts, "" if somebody can.
func Present(h http.Header, protocol bool) (p Presented, problem string) {
	cred := CredentialOf(h)
	if cred.Kind == RepeatedCredential {
		return p, TwoAuthorizations
	}
	p.Token = cred.Token
	alone := cred.Kind == NoCredential
	for key := range keys(h, protocol) {
		switch {
		case alone && p.Token == "":
			p = Presented{Token: key, Keyed: true}
		case key != p.Token:
			return Presented{}, TwoTokens
		}
	}
	return p, ""
}

// keys yields the access tokens in headers other than Authorization.
func keys(h http.Header, protocol bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range KeyHeaders {
			for element := range elements(h[name]) {
				if isKey(element) && !yield(element) {
					return
				}
			}
		}
		if !protocol {
			return
		}
		for element := range elements(h[protocolHeader]) {
			if key, ok := strings.CutPrefix(element, protocolKey); ok && isKey(key) && !yield(key) {
				return
			}
		}
	}
}

// elements yields the elements of a header that is a list. Proxies join headers of one name
// with commas, which no token contains.
func elements(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for element := range strings.SplitSeq(line, ",") {
				if !yield(strings.Trim(element, " \t")) {
					return
				}
			}
		}
	}
}

func isKey(text string) bool { return strings.HasPrefix(text, models.TokenPrefix) }

// KeyEdit is a change that takes an access token out of a header.
type KeyEdit struct {
	Name  string // in canonical form
	Value string // "": the header is removed
}

// KeyEdits returns the changes that take the tokens out of h that [Present] would find in other
// headers than Authorization: a key header goes as a whole, of the sub-protocols only the one
// with the token.
func KeyEdits(h http.Header) (edits []KeyEdit) {
	for _, name := range KeyHeaders {
		for element := range elements(h[name]) {
			if isKey(element) {
				edits = append(edits, KeyEdit{Name: name})
				break
			}
		}
	}
	var kept []string
	found := false
	for element := range elements(h[protocolHeader]) {
		if key, ok := strings.CutPrefix(element, protocolKey); ok && isKey(key) {
			found = true
		} else if element != "" {
			kept = append(kept, element)
		}
	}
	if found {
		edits = append(edits, KeyEdit{Name: protocolHeader, Value: strings.Join(kept, ", ")})
	}
	return edits
}
