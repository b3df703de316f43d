package identity

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"patrol/internal/secret"
)

// OIDCConfig names an OpenID Connect provider at which people can sign in, beside
// passwords. Without an issuer there is none.
type OIDCConfig struct {
	Issuer       string // URL, exactly as the provider's discovery document has it
	ClientID     string
	ClientSecret secret.Text // "" for a public client
	Name         string      // of the provider, on the button
	Scopes       []string

	// AllowCreate makes accounts for people who have none here yet and whose
	// address the provider has verified.
	AllowCreate bool
	// EmailDomains, if there are any, are the only ones whose verified addresses
	// may sign in.
	EmailDomains []string
	// VerifiedClaim says that the claim email is the person's own.
	VerifiedClaim string

	GroupsClaim string
	// Memberships are given by groups; of several for one domain the first counts.
	Memberships []GroupMembership
	// RemoveMemberships takes memberships away in domains that Memberships names,
	// if no group gives them.
	RemoveMemberships bool
	// AdminGroup, if there is one, makes its members platform admins, and nobody
	// else who signs in here.
	AdminGroup string

	// MaxAge is the age up to which the provider's own session counts as a sign-in;
	// 0: any.
	MaxAge time.Duration
	// RequireAuthTime refuses sign-ins of which the provider does not say when the
	// person gave their credentials. Otherwise they count as given now.
	RequireAuthTime bool
	// RequiredACR, if there are any, are the only authentication contexts (acr) of a sign-in that
	// counts, and RequiredAMR the methods (amr) of which it must have used one.
	RequiredACR, RequiredAMR []string
	// MaxAbsence is the age of a user's last sign-in at the provider from which on an account
	// without a password counts as disabled; 0: never.
	MaxAbsence time.Duration
	Timeout    time.Duration // of one request to the provider
}

// GroupMembership is a role in a domain that a group of the provider gives.
type GroupMembership struct{ Group, Domain, Role string }

// DefaultOIDC returns the configuration of a provider as far as it does not depend
// on the provider.
func DefaultOIDC() OIDCConfig {
	return OIDCConfig{
		Name: "single sign-on", Scopes: []string{"openid", "profile", "email"}, VerifiedClaim: "email_verified", GroupsClaim: "groups",
		RemoveMemberships: true, MaxAge: 7 * 24 * time.Hour, RequireAuthTime: true, Timeout: 10 * time.Second,
	}
}

// scopes are those to ask for; openid is always among them.
func (c OIDCConfig) scopes() []string {
	if slices.Contains(c.Scopes, "openid") {
		return c.Scopes
	}
	return append([]string{"openid"}, c.Scopes...)
}

// mapsGroups reports whether groups mean anything here.
func (c OIDCConfig) mapsGroups() bool { return len(c.Memberships) > 0 || c.AdminGroup != "" }

// Validate returns what is wrong with the section. publicURL is the server's own.
func (c OIDCConfig) Validate(publicURL string) error {
	if c.Issuer == "" {
		return nil
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(ValidIssuer(c.Issuer), "the issuer %q must be an https URL without query or fragment; http is for this machine alone", c.Issuer)
	check(c.ClientID != "", "the OpenID Connect client id is missing")
	check(publicURL != "", "OpenID Connect needs the public URL: the provider sends people back there")
	check(c.Name != "", "the provider's name is empty")
	check(c.VerifiedClaim != "" && c.GroupsClaim != "", "the names of the claims must not be empty")
	check(c.MaxAge >= 0, "the maximum age of a sign-in must not be negative")
	check(c.MaxAbsence >= 0, "the maximum absence must not be negative")
	check(c.Timeout > 0, "the timeout of the provider must be longer than zero")
	for _, m := range c.Memberships {
		check(m.Group != "" && m.Domain != "" && m.Role != "", "a mapping of groups needs group, domain and role")
	}
	return errors.Join(errs...)
}

// ValidIssuer reports whether an issuer can be asked safely: over https, or on this
// machine.
func ValidIssuer(issuer string) bool {
	u, err := url.Parse(issuer)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && local
}
