package ui

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"patrol/models"
)

// Help is the page that explains tokens.
type Help struct {
	BaseURL string
	Domain  string // of the viewer, for examples
	Maximum string // lifetime
}

// Title implements [Page].
func (Help) Title() string    { return "About personal access tokens" }
func (Help) template() string { return "help" }
func (Help) section() section { return help }
func (Help) top() bool        { return true }

// NewHelp returns the page for a user with these choices.
func NewHelp(baseURL string, c Choices) Help {
	domain := c.firstDomain()
	if domain == "" {
		domain = "DOMAIN"
	}
	return Help{BaseURL: baseURL, Domain: domain, Maximum: lengthInWords(c.limits.MaxLifetime)}
}

// Test is the page that asks for a decision about a token.
type Test struct {
	Request  models.Request
	choices  Choices
	Decision *models.Decision
	Problems Problems
}

// Title implements [Page].
func (Test) Title() string    { return "Test a token" }
func (Test) template() string { return "test" }
func (Test) section() section { return testToken }
func (Test) top() bool        { return true }
func (t Test) failed() bool   { return t.Problems.Any() }

// DecodeTest reads the form. The token is returned apart, so that no page holds
// it.
func DecodeTest(form url.Values, c Choices) (t Test, token string) {
	t = Test{choices: c, Request: models.Request{
		Domain: strings.TrimSpace(form.Get("domain")), EntityType: strings.TrimSpace(form.Get("entity_type")),
		Entity: strings.TrimSpace(form.Get("entity")), Operation: strings.TrimSpace(form.Get("operation")),
	}}
	return t, Pasted(form.Get("token"))
}

// Fields are the controls of the form.
func (t Test) Fields() []Field {
	types, ops := []Option{{Label: "Choose…"}}, []Option{{Label: "Choose…"}}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(t.choices.catalog.EntityTypes)) {
		types = append(types, Option{Value: name, Label: t.choices.typeTitle(name), Selected: name == t.Request.EntityType})
		for _, op := range slices.Sorted(maps.Keys(t.choices.catalog.EntityTypes[name].Operations)) {
			if !seen[op] {
				seen[op] = true
				ops = append(ops, Option{Value: op, Label: op, Selected: op == t.Request.Operation})
			}
		}
	}
	entity := t.Request.Entity
	if entity == "" {
		entity = models.Any
	}
	domain := t.Request.Domain
	if domain == "" {
		domain = t.choices.firstDomain()
	}
	return []Field{
		{
			Name: "token", Label: "Token", Kind: PasswordField, Required: true, Autocomplete: "off", Mono: true,
			Hint: "It is used for this one question and kept nowhere.",
		},
		{Name: "domain", Label: "Domain", Kind: TextField, Value: domain, Required: true, Mono: true},
		{Name: "entity_type", Label: "Entity type", Kind: SelectField, Options: types, Required: true},
		{
			Name: "entity", Label: "Entity", Kind: TextField, Value: entity, Required: true, Mono: true,
			Hint: "The id of one, or * for the whole collection.",
		},
		{Name: "operation", Label: "Operation", Kind: SelectField, Options: ops, Required: true},
	}
}

// Advice returns what to do about a reason, "" where its message says it all.
func (Test) Advice(code models.ReasonCode) string { return advice[code] }

var advice = map[models.ReasonCode]string{
	models.TokenMalformed:    "Copy the whole token: it begins with patrol_ and has 62 characters.",
	models.TokenUnknown:      "It may belong to another installation, or was deleted. Create a new one.",
	models.TokenRevoked:      "A revoked token stays revoked. Create a new one.",
	models.TokenExpired:      "Create a new one, or next time rotate before the end.",
	models.UserDisabled:      "Ask an administrator about the account.",
	models.DomainUnknown:     "Check the domain's spelling.",
	models.DomainDisabled:    "Ask an administrator of the domain.",
	models.DomainFrozen:      "Ask a platform administrator.",
	models.NotAMember:        "Ask an administrator of the domain to add the token's owner.",
	models.RoleForbids:       "A token can do no more than its owner. Ask an administrator of the domain for another role.",
	models.OutOfScope:        "Add a scope to the token that covers this.",
	models.LifetimeExceeded:  "Rotate the token: the new one counts from its own creation.",
	models.WildcardForbidden: "Add a scope that names the domain and the entity.",
	models.ApprovalRequired:  "Ask an administrator of the domain to approve the token.",
	models.IPForbidden:       "Use the token from an address that it allows, or have its owner allow this one.",
	models.Withdrawn:         "Ask an administrator of the domain why, or a platform administrator.",
	models.UnknownOperation:  "Choose an operation that this entity type has.",
	models.PolicyError:       "Tell an administrator: the policy has a defect.",
	models.Unavailable:       "Try again shortly.",
}
