package identity

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"patrol/models"
)

// vouched holds a token that the provider signed against what it must say here (OpenID
// Connect Core 1.0 §3.1.3.7), and returns its claims.
func (p *provider) vouched(token *oidc.IDToken, accessToken, nonce string) (map[string]json.RawMessage, error) {
	said, err := claimsOf(token)
	if err != nil {
		return nil, err
	}
	now := p.now()
	switch {
	case !now.Before(token.Expiry.Add(oidcSkew)):
		return nil, errors.New("the ID token has expired")
	case said["nbf"] != nil && number(said["nbf"]) > float64(now.Add(oidcSkew).Unix()):
		return nil, errors.New("the ID token is used before the nbf time")
	case subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1:
		return nil, errors.New("the ID token has another nonce")
	}
	if token.AccessTokenHash != "" {
		if err := token.VerifyAccessToken(accessToken); err != nil {
			return nil, err
		}
	}
	azp := text(said["azp"])
	switch {
	case azp != "" && azp != p.cfg.ClientID || azp == "" && said["azp"] != nil:
		return nil, errors.New("the ID token was made for another client")
	case azp == "" && len(token.Audience) > 1:
		return nil, errors.New("the ID token has several audiences and does not say for which client it was made (azp)")
	}
	subject, ok := subjectOf(said["sub"])
	if !ok || subject != token.Subject {
		return nil, errors.New("the ID token has no usable subject")
	}
	return said, nil
}

// strongEnough holds how somebody signed in at the provider, as the ID token says, against what
// the settings require.
func (c OIDCConfig) strongEnough(said map[string]json.RawMessage) error {
	refused := "your sign-in at " + c.Name + " was not strong enough; sign in there with a second factor"
	if len(c.RequiredACR) > 0 && !slices.Contains(c.RequiredACR, text(said["acr"])) {
		return errNotSignedIn(refused, "the ID token has none of the values of oidc.required_acr in acr")
	}
	if len(c.RequiredAMR) == 0 {
		return nil
	}
	var used []string // a list, and nothing else (OpenID Connect Core 1.0 §2)
	if json.Unmarshal(said["amr"], &used) != nil || !slices.ContainsFunc(c.RequiredAMR, func(method string) bool { return slices.Contains(used, method) }) {
		return errNotSignedIn(refused, "the ID token has none of the values of oidc.required_amr in amr")
	}
	return nil
}

// claimsOf returns the claims of a token.
func claimsOf(token *oidc.IDToken) (map[string]json.RawMessage, error) {
	var plain json.RawMessage
	if err := token.Claims(&plain); err != nil {
		return nil, errors.New("the token's claims cannot be read")
	}
	return object(plain)
}

// object reads a JSON object. Names that readers could take for one another, because they are
// repeated or differ in case alone, are an error: what was checked must be what is used.
func object(plain []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(plain))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("the claims are no JSON object")
	}
	said, seen := map[string]json.RawMessage{}, map[string]bool{}
	for decoder.More() {
		name, err := decoder.Token()
		key, ok := name.(string)
		if err != nil || !ok {
			return nil, errors.New("the claims are no JSON object")
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, errors.New("the claims are no JSON object")
		}
		folded := foldName(key)
		if seen[folded] {
			return nil, fmt.Errorf("the claim %q is there more than once", models.MaskTokens(key))
		}
		seen[folded] = true
		said[key] = value
	}
	return said, nil
}

// foldName is the same for names that encoding/json takes for the same field.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		smallest := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			smallest = min(smallest, next)
		}
		return smallest
	}, name)
}

// subjectOf reads a subject, which is compared byte for byte. What could become another
// subject on the way, as text that is not UTF-8 or half of a surrogate pair does, and
// what a database does not keep, is no subject.
func subjectOf(raw json.RawMessage) (string, bool) {
	s := text(raw)
	ok := s != "" && len(s) <= 255 && utf8.Valid(raw) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) })
	return s, ok
}

// elsewhere reports whether a claim is said to be found elsewhere (OpenID Connect Core 1.0
// §5.6.2), as Entra ID does with groups that are too many for a token.
func elsewhere(said map[string]json.RawMessage, claim string) bool {
	var names map[string]json.RawMessage
	if json.Unmarshal(said["_claim_names"], &names) == nil && names[claim] != nil {
		return true
	}
	return truth(said["hasgroups"])
}

// number reads a claim that is a number, 0 for anything else.
func number(raw json.RawMessage) float64 {
	var n float64
	if json.Unmarshal(raw, &n) != nil {
		return 0
	}
	return n
}

// ask completes the claims from the UserInfo endpoint, where providers put what the
// ID token leaves out (OpenID Connect Core §5.4). Claims that qualify one another are
// taken from one answer: an address with whether it was verified, and groups with
// whether there are more.
func (p *provider) ask(ctx context.Context, found *discovered, tokens *oauth2.Token, subject string, said map[string]json.RawMessage) error {
	wanted := [][]string{{"email", p.cfg.VerifiedClaim}, {"name"}}
	if p.cfg.mapsGroups() {
		wanted = append(wanted, []string{p.cfg.GroupsClaim, "_claim_names", "hasgroups"})
	}
	wanted = slices.DeleteFunc(wanted, func(claims []string) bool {
		if claims[0] == "email" {
			return said["email"] != nil && said[p.cfg.VerifiedClaim] != nil
		}
		return said[claims[0]] != nil
	})
	if len(wanted) == 0 || found.provider.UserInfoEndpoint() == "" {
		return nil
	}
	info, err := found.provider.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return errProviderAway(fmt.Errorf("ask the identity provider for claims: %w", err))
	}
	var answer json.RawMessage
	if err := info.Claims(&answer); err != nil {
		return errNotSignedIn(messageNotVouched, "the claims of UserInfo cannot be read")
	}
	more, err := object(answer)
	if err != nil {
		return errNotSignedIn(messageNotVouched, "UserInfo: "+err.Error())
	}
	if about, ok := subjectOf(more["sub"]); !ok || about != subject || info.Subject != subject {
		return errNotSignedIn(messageNotVouched, "UserInfo is about somebody else than the ID token")
	}
	for _, claims := range wanted {
		if more[claims[0]] == nil {
			continue
		}
		for _, name := range claims {
			said[name] = more[name]
		}
	}
	return nil
}

// signedIn reads auth_time and holds it against the longest age. Without one it
// depends on the settings whether that is a refusal or counts as now.
func (p *provider) signedIn(raw json.RawMessage, maxAge time.Duration) (time.Time, error) {
	now := p.now()
	var seconds float64
	if raw == nil || json.Unmarshal(raw, &seconds) != nil || seconds < 1 || seconds > 1e12 {
		if p.cfg.RequireAuthTime {
			return time.Time{}, errNotSignedIn(p.cfg.Name+" does not say when you signed in there; an administrator has to look at oidc.require_auth_time",
				"the ID token has no auth_time; if the provider has none to give, set oidc.require_auth_time to false")
		}
		return now, nil
	}
	at := time.Unix(int64(seconds), 0)
	switch {
	case at.After(now.Add(oidcSkew)):
		return time.Time{}, errNotSignedIn(messageNotVouched, "auth_time is in the future: is a clock wrong?")
	case maxAge > 0 && now.Sub(at) > maxAge+oidcSkew:
		return time.Time{}, errNotSignedIn("you signed in at "+p.cfg.Name+" too long ago; sign in there again", "auth_time is older than max_age")
	case at.After(now):
		return now, nil
	}
	return at, nil
}

// text reads a claim that is a string, "" for anything else.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// texts reads a claim that is a list of strings, or one string.
func texts(raw json.RawMessage) []string {
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return list
	}
	if one := text(raw); one != "" {
		return []string{one}
	}
	return nil
}

// truth reads a claim that says yes: true, or as some providers write it, "true",
// "1" or 1.
func truth(raw json.RawMessage) bool {
	switch string(raw) {
	case `true`, `"true"`, `"1"`, `1`:
		return true
	}
	return false
}
