package config

import (
	"fmt"
	"strings"
	"time"

	"patrol/internal/secret"
	"patrol/models"
	"patrol/server/identity"
)

// OIDC is an OpenID Connect provider at which people sign in, beside passwords.
type OIDC struct {
	Issuer            string        `key:"issuer" doc:"URL of the provider, exactly as its discovery document has it. Empty: people sign in with passwords alone. Needs public_url."`
	ClientID          string        `key:"client_id" doc:"What the provider calls this installation."`
	ClientSecret      secret.Text   `key:"client_secret" doc:"The client's secret. Empty: a public client."`
	Name              string        `key:"name" doc:"What people know the provider by: the button reads 'Sign in with …'."`
	Scopes            []string      `key:"scopes" doc:"Scopes to ask for. openid is always among them; many providers give groups only for a scope of their own."`
	AllowCreate       bool          `key:"allow_create" doc:"Make an account for whoever signs in and has none, if the provider has verified their address. If false, people connect an account that is there."`
	EmailDomains      []string      `key:"email_domains" doc:"Only people with a verified address of one of these domains may sign in here. Empty: no such limit."`
	VerifiedClaim     string        `key:"verified_claim" doc:"Claim that says that the provider has verified the claim email. Entra ID has xms_edov."`
	GroupsClaim       string        `key:"groups_claim" doc:"Claim with the groups of a person."`
	Memberships       []string      `key:"memberships" doc:"What groups give, each written group=domain:role. Of several that give a role in one domain, the first counts."`
	RemoveMemberships bool          `key:"remove_memberships" doc:"At every sign-in, take memberships away that no group gives, in the domains that oidc.memberships names."`
	AdminGroup        string        `key:"admin_group" doc:"Members of this group are platform admins, and nobody else who signs in here. Empty: groups make no admins."`
	MaxAge            time.Duration `key:"max_age" doc:"The provider's own session counts as a sign-in up to this age; then people give their credentials again. 0: any age."`
	RequireAuthTime   bool          `key:"require_auth_time" doc:"Refuse sign-ins of which the provider does not say when people gave their credentials (auth_time). If false, such a sign-in counts as just made, which Google needs."`
	RequiredACR       []string      `key:"required_acr" doc:"Only sign-ins at the provider of one of these authentication contexts (acr) count, and the provider is asked for one. Empty: any. What stands for a second factor is the provider's."`
	RequiredAMR       []string      `key:"required_amr" doc:"Only sign-ins at the provider by one of these methods (amr), such as mfa, count. Empty: any."`
	MaxAbsence        time.Duration `key:"max_absence" doc:"An account without a password whose owner has not come from the provider for this long counts as disabled, with its tokens, until they do. 0: accounts stay."`
	Timeout           time.Duration `key:"timeout" doc:"Time for one answer of the provider."`
}

func defaultOIDC() OIDC {
	d := identity.DefaultOIDC()
	return OIDC{
		Name: d.Name, Scopes: d.Scopes, VerifiedClaim: d.VerifiedClaim, GroupsClaim: d.GroupsClaim, RemoveMemberships: d.RemoveMemberships,
		MaxAge: d.MaxAge, RequireAuthTime: d.RequireAuthTime, Timeout: d.Timeout,
	}
}

// ServerConfig translates the settings for the HTTP surface.
func (o OIDC) ServerConfig() identity.OIDCConfig {
	c := identity.OIDCConfig{
		Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: o.ClientSecret, Name: o.Name, Scopes: o.Scopes,
		AllowCreate: o.AllowCreate, EmailDomains: o.EmailDomains, VerifiedClaim: o.VerifiedClaim, GroupsClaim: o.GroupsClaim,
		RemoveMemberships: o.RemoveMemberships, AdminGroup: o.AdminGroup, MaxAge: o.MaxAge, RequireAuthTime: o.RequireAuthTime, MaxAbsence: o.MaxAbsence, Timeout: o.Timeout,
		RequiredACR: o.RequiredACR, RequiredAMR: o.RequiredAMR,
	}
	if o.Issuer == "" { // nobody could come back
		c.MaxAbsence = 0
	}
	for _, text := range o.Memberships {
		if m, err := parseGroupMembership(text); err == nil { // refused by validate otherwise
			c.Memberships = append(c.Memberships, m)
		}
	}
	return c
}

// parseGroupMembership reads group=domain:role. The group may hold both characters.
func parseGroupMembership(text string) (identity.GroupMembership, error) {
	i := strings.LastIndexByte(text, '=')
	domain, role, ok := strings.Cut(text[i+1:], ":")
	m := identity.GroupMembership{Group: strings.TrimSpace(text[:max(i, 0)]), Domain: strings.TrimSpace(domain), Role: strings.TrimSpace(role)}
	var v models.Invalid
	models.ValidateDomainID("domain", m.Domain, &v)
	if !ok || m.Group == "" || m.Role == "" || v.Err() != nil {
		return m, fmt.Errorf("%q is not of the form group=domain:role", text)
	}
	return m, nil
}

func (o OIDC) validate(v *models.Invalid) {
	if o.Issuer == "" {
		if o.ClientID != "" || o.ClientSecret != "" {
			v.Add("oidc.issuer", "is required with oidc.client_id and oidc.client_secret")
		}
		return
	}
	if !identity.ValidIssuer(o.Issuer) {
		v.Add("oidc.issuer", "must be a URL that starts with https:// and has no user, ? or #; http:// is for a provider on this machine")
	}
	if o.ClientID == "" {
		v.Add("oidc.client_id", "is required with oidc.issuer")
	}
	for key, value := range map[string]string{"oidc.name": o.Name, "oidc.verified_claim": o.VerifiedClaim, "oidc.groups_claim": o.GroupsClaim} {
		if value == "" {
			v.Add(key, "is required")
		}
	}
	for _, scope := range o.Scopes {
		if scope == "" || strings.ContainsAny(scope, " \t\"\\") {
			v.Add("oidc.scopes", "%q is not a scope", scope)
		}
	}
	for key, values := range map[string][]string{"oidc.required_acr": o.RequiredACR, "oidc.required_amr": o.RequiredAMR} {
		for _, value := range values {
			if value == "" || strings.ContainsAny(value, " \t") {
				v.Add(key, "%q is not a value such as mfa", value)
			}
		}
	}
	for _, domain := range o.EmailDomains {
		if domain == "" || strings.ContainsAny(domain, "@ /") {
			v.Add("oidc.email_domains", "%q is not a domain such as example.com", domain)
		}
	}
	for _, text := range o.Memberships {
		if _, err := parseGroupMembership(text); err != nil {
			v.Add("oidc.memberships", "%s", err)
		}
	}
	checkDuration("oidc.max_age", o.MaxAge, 0, 0, v)
	checkDuration("oidc.max_absence", o.MaxAbsence, 0, 0, v)
	checkDuration("oidc.timeout", o.Timeout, 10*time.Millisecond, time.Minute, v)
}
