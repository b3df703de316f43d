package ui

import (
	"maps"
	"slices"
	"strings"

	"patrol/models"
)

// Choices lists what a user may put into a scope: their domains, and in each the
// operations that their role holds.
type Choices struct {
	catalog models.Catalog
	domains []domainChoice
	limits  models.Limits
	read    []models.Domain
}

type domainChoice struct {
	id, name string
	role     models.Role // nil: every operation of the catalog
}

// DomainRole is a domain with the role that the user has in it. A nil role holds
// every operation: that of a platform admin.
type DomainRole struct {
	Domain models.Domain
	Role   models.Role
}

// NewChoices returns the choices of a user with these domains.
func NewChoices(catalog models.Catalog, limits models.Limits, domains []DomainRole) Choices {
	c := Choices{catalog: catalog, limits: limits}
	for _, d := range domains {
		c.read = append(c.read, d.Domain)
		c.domains = append(c.domains, domainChoice{id: d.Domain.ID, name: d.Domain.Name, role: d.Role})
	}
	slices.SortFunc(c.domains, func(a, b domainChoice) int { return strings.Compare(a.id, b.id) })
	return c
}

// Domains returns the domains as they were read.
func (c Choices) Domains() []models.Domain { return c.read }

// None reports that there is nothing to choose from: the user is in no domain.
func (c Choices) None() bool { return len(c.domains) == 0 }

// permits reports whether the user may have an operation in a domain, or in any
// of theirs for [models.Any].
func (c Choices) permits(domain, entityType, operation string) bool {
	for _, d := range c.domains {
		if (domain == models.Any || domain == d.id) && (d.role == nil || d.role.Permits(entityType, operation)) {
			return true
		}
	}
	return false
}

// operations lists the operations of an entity type that the user may have.
func (c Choices) operations(domain, entityType string) []string {
	var out []string
	for _, op := range slices.Sorted(maps.Keys(c.catalog.EntityTypes[entityType].Operations)) {
		if c.permits(domain, entityType, op) {
			out = append(out, op)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return operationRank(a) - operationRank(b) })
	return out
}

// operationRank brings what only looks before what acts, whatever a catalog calls
// its further operations.
func operationRank(op string) int {
	switch op {
	case "read":
		return 0
	case "write":
		return 2
	default:
		return 1
	}
}

// types lists the entity types of which the user may have some operation.
func (c Choices) types(domain string) []string {
	var out []string
	for _, t := range slices.Sorted(maps.Keys(c.catalog.EntityTypes)) {
		if len(c.operations(domain, t)) > 0 {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return typeRank(a) - typeRank(b) })
	return out
}

// typeRank puts models first, which most tokens are for, and the domain itself
// last.
func typeRank(t string) int {
	switch t {
	case "models":
		return 0
	case itselfType:
		return 2
	default:
		return 1
	}
}

// itselfType is the entity type whose one entity is the domain itself.
const itselfType = "domains"

func (c Choices) typeTitle(t string) string {
	if title := c.catalog.EntityTypes[t].Title; title != "" {
		return title
	}
	return t
}

func (c Choices) operationTitle(t, op string) string {
	if title := c.catalog.EntityTypes[t].Operations[op].Title; title != "" {
		return title
	}
	return op
}

// singular names one entity of a type: Models → model.
func (c Choices) singular(t string) string {
	title := lowerFirst(c.typeTitle(t))
	if strings.HasSuffix(title, "s") && !strings.HasSuffix(title, "ss") {
		return title[:len(title)-1]
	}
	return title
}

// Meaning says in plain words what a scope permits, to be read after "can".
func (c Choices) Meaning(s models.Scope) string {
	op := lowerFirst(c.operationTitle(s.EntityType, s.Operation))
	where := "in " + s.Domain
	if s.Domain == models.Any {
		where = "in every domain of yours"
	}
	switch {
	case s.EntityType == itselfType && s.Domain == models.Any:
		return op + " (every domain of yours)"
	case s.EntityType == itselfType:
		return op + " (domain " + s.Domain + ")"
	case s.Entity == models.Any:
		return op + " any " + c.singular(s.EntityType) + " " + where
	default:
		return op + " " + c.singular(s.EntityType) + " " + s.Entity + " " + where
	}
}

// warnings says what deserves a second look before one grants scopes.
func warnings(scopes []models.Scope) []string {
	var everywhere, anyWrite, write bool
	for _, s := range scopes {
		everywhere = everywhere || s.Domain == models.Any
		if s.Operation == "write" {
			write = true
			anyWrite = anyWrite || s.Entity == models.Any && s.EntityType != itselfType
		}
	}
	var out []string
	if everywhere {
		out = append(out, warnEverywhere)
	}
	switch {
	case anyWrite:
		out = append(out, warnAnyWrite)
	case write:
		out = append(out, warnWrite)
	}
	return out
}

// The warnings. The script that repeats them while one chooses is handed these
// texts.
const (
	warnEverywhere = "It reaches every domain you are in, those you join later too."
	warnAnyWrite   = "It can change and delete anything of a kind, what is added later too."
	warnWrite      = "It can change and delete."
)

// preset is a ready-made set of scopes.
type preset struct {
	Key, Label, Hint string
	scopes           func(c Choices, domain string) []models.Scope
}

// presets are offered as far as the user's roles and the catalog have what they
// need.
var presets = []preset{
	{"inference", "Inference client", "use models, and list them", func(c Choices, domain string) []models.Scope {
		if !c.permits(domain, "models", "execute") {
			return nil
		}
		return c.every(domain, func(t, op string) bool { return t == "models" && (op == "execute" || op == "read") })
	}},
	{"read", "Read-only", "look at everything, change nothing", func(c Choices, domain string) []models.Scope {
		return c.every(domain, func(_, op string) bool { return op == "read" })
	}},
	{"full", "Full access I have", "all that your role permits", func(c Choices, domain string) []models.Scope {
		return c.every(domain, func(_, _ string) bool { return true })
	}},
}

// every returns a scope for any entity for each operation of a domain that is
// wanted and permitted.
func (c Choices) every(domain string, want func(entityType, operation string) bool) []models.Scope {
	var out []models.Scope
	for _, t := range c.types(domain) {
		for _, op := range c.operations(domain, t) {
			if want(t, op) {
				out = append(out, models.Scope{Domain: domain, EntityType: t, Entity: models.Any, Operation: op})
			}
		}
	}
	return out
}

// PresetLink is a preset as lists and forms offer it.
type PresetLink struct {
	Key, Label, Hint string
}

// Presets returns the presets that have something in them for this user.
func (c Choices) Presets() []PresetLink {
	var out []PresetLink
	for _, p := range presets {
		for _, d := range c.domains {
			if len(p.scopes(c, d.id)) > 0 {
				out = append(out, PresetLink{Key: p.Key, Label: p.Label, Hint: p.Hint})
				break
			}
		}
	}
	return out
}

// preset returns the scopes of a preset for a domain, the first of the user's if
// it is none of theirs.
func (c Choices) preset(key, domain string) []models.Scope {
	if domain != models.Any && !slices.ContainsFunc(c.domains, func(d domainChoice) bool { return d.id == domain }) {
		domain = c.firstDomain()
	}
	for _, p := range presets {
		if p.Key == key {
			return p.scopes(c, domain)
		}
	}
	return nil
}

func (c Choices) firstDomain() string {
	if len(c.domains) == 0 {
		return ""
	}
	return c.domains[0].id
}
