package models

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// User is a person with an account.
type User struct {
	ID           string
	Email        string // in lower case; never reused
	Name         string
	PasswordHash string // argon2id in PHC form; "" if the user has no password
	Admin        bool   // of the whole platform
	Policy       bool   // of the policy team: sees and steers the policy, as admins do
	Disabled     bool
	CreatedAt    time.Time
	ProviderAt   *time.Time // when the user last came from an identity provider; nil: never
}

// SignInBy returns when the user has to sign in at an identity provider again: so long after the
// last time, unless there is a password to sign in with, or no limit (0). Nil: never.
func (u User) SignInBy(maxAbsence time.Duration) *time.Time {
	if maxAbsence <= 0 || u.PasswordHash != "" || u.ProviderAt == nil {
		return nil
	}
	by := u.ProviderAt.Add(maxAbsence)
	return &by
}

// Absent reports whether the user has stayed away from the identity provider for too long, and
// counts as disabled until they come from there.
func (u User) Absent(now time.Time, maxAbsence time.Duration) bool {
	by := u.SignInBy(maxAbsence)
	return by != nil && !now.Before(*by)
}

// Identity is a user's account at an OpenID Connect provider. A user has at most one at
// each issuer.
type Identity struct {
	Issuer     string // URL of the provider
	Subject    string // the provider's id for the person, never given to another
	UserID     string
	CreatedAt  time.Time
	LastUsedAt *time.Time // nil: not since it is kept
}

// ID names the identity, in addresses too.
func (i Identity) ID() string {
	sum := sha256.Sum256([]byte(i.Issuer + "\x00" + i.Subject))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// What stands in place of the name and, behind a keyed hash, of the address of an anonymised user.
const (
	AnonymisedName   = "Anonymised user"
	AnonymisedDomain = "@anonymised.invalid"
)

// Anonymised reports whether what names the user was taken out of the database.
func (u User) Anonymised() bool { return u.Disabled && strings.HasSuffix(u.Email, AnonymisedDomain) }

// NormalizeEmail brings an email address into the form that is stored and
// compared: without white space around it, and with A to Z in lower case. Other
// letters stay as they are: Unicode folds some of them into ASCII (the Kelvin sign
// into k), which would make one person's address another's.
func NormalizeEmail(email string) string {
	return strings.Map(lowerASCII, strings.TrimSpace(email))
}

// ValidateEmail checks that email, already normalized, is one plain address.
func ValidateEmail(field, email string, v *Invalid) {
	addr, err := mail.ParseAddress(email)
	if err != nil || addr.Address != email || len(email) > 254 {
		v.Add(field, "is not an email address")
	}
}

// ValidatePassword checks a new password: 12 to 256 characters (NIST SP
// 800-63B §3.1.1: length counts, composition rules do not), not its own email address
// and none of those that are used most.
func ValidatePassword(field, password, email string, v *Invalid) {
	n := utf8.RuneCountInString(password)
	switch {
	case n < 12:
		v.Add(field, "must have at least 12 characters")
	case len(password) > 256:
		v.Add(field, "must have at most 256 bytes")
	case !utf8.ValidString(password):
		v.Add(field, "is not valid UTF-8")
	case email != "" && strings.EqualFold(password, email):
		v.Add(field, "must not be the email address")
	case isCommonPassword(password):
		v.Add(field, "is one of the passwords that are used most, and is tried first by whoever guesses; choose another")
	}
}

// DomainStatus says who gets into a domain.
type DomainStatus string

// The states of a domain.
const (
	DomainEnabled    DomainStatus = "enabled"  // its members
	DomainIsDisabled DomainStatus = "disabled" // its admins and platform admins
	DomainIsFrozen   DomainStatus = "frozen"   // platform admins
)

// Domain is a workspace.
type Domain struct {
	ID        string // an immutable slug, never reused
	Name      string
	Status    DomainStatus
	Limits    DomainLimits
	CreatedAt time.Time
}

// DomainLimits are a domain's limits for the tokens that reach it, on top of
// what the server demands. The zero value demands nothing. Policy judges them at
// every use.
type DomainLimits struct {
	// MaxLifetime is the time after its creation for which a token works in the domain, in
	// whole seconds; 0: for as long as it lives.
	MaxLifetime time.Duration
	// NoWildcards has a scope count only if it names both the domain and the entity.
	NoWildcards bool
	// Approval has a token work only once the domain's admins approved it as it is.
	Approval bool
}

// String says what the limits demand, for logs and people.
func (l DomainLimits) String() string {
	var demands []string
	if l.MaxLifetime > 0 {
		demands = append(demands, "at most "+FormatDuration(l.MaxLifetime))
	}
	if l.NoWildcards {
		demands = append(demands, "no wildcards")
	}
	if l.Approval {
		demands = append(demands, "approval")
	}
	if len(demands) == 0 {
		return "none"
	}
	return strings.Join(demands, ", ")
}

// ParseDomainLimits reads what [DomainLimits.String] wrote.
func ParseDomainLimits(text string) (l DomainLimits, ok bool) {
	if text == "none" {
		return l, true
	}
	for demand := range strings.SplitSeq(text, ", ") {
		lifetime, limited := strings.CutPrefix(demand, "at most ")
		switch {
		case limited:
			var err error
			if l.MaxLifetime, err = ParseDuration(lifetime); err != nil {
				return DomainLimits{}, false
			}
		case demand == "no wildcards":
			l.NoWildcards = true
		case demand == "approval":
			l.Approval = true
		default:
			return DomainLimits{}, false
		}
	}
	return l, true
}

// Stricter returns what both demand.
func (l DomainLimits) Stricter(than DomainLimits) DomainLimits {
	lifetime := max(l.MaxLifetime, than.MaxLifetime)
	if l.MaxLifetime > 0 && than.MaxLifetime > 0 {
		lifetime = min(l.MaxLifetime, than.MaxLifetime)
	}
	return DomainLimits{MaxLifetime: lifetime, NoWildcards: l.NoWildcards || than.NoWildcards, Approval: l.Approval || than.Approval}
}

// Approval is a domain's consent to a token with the scopes that it had then.
type Approval struct {
	Domain string
	By     string // id of the user who gave it, "" for an operator
	At     time.Time
	// What By may do now: whether they are a platform admin, and their role in the domain.
	Platform bool
	Role     string
}

// Holds reports whether who gave the approval could give it under these roles.
func (a Approval) Holds(roles map[string]Role) bool {
	return a.By == "" || a.Platform || roles[a.Role].AdministersDomain()
}

// ValidateDomainID checks the slug: `[a-z0-9][a-z0-9-]{0,62}`.
func ValidateDomainID(field, id string, v *Invalid) {
	if !validSlug(id) {
		v.Add(field, "must be 1 to 63 characters of a-z, 0-9 and -, not starting with -")
	}
}

// ValidateDomainStatus checks that s is one of the states.
func ValidateDomainStatus(field string, s DomainStatus, v *Invalid) {
	switch s {
	case DomainEnabled, DomainIsDisabled, DomainIsFrozen:
	default:
		v.Add(field, "must be one of enabled, disabled, frozen")
	}
}

// Membership gives a user one role in a domain.
type Membership struct {
	UserID string
	Domain string
	Role   string
}

// Actor is the person or program that made a change, with its address, for the audit log.
type Actor struct {
	Kind      ActorKind
	UserID    string // of a user, or the owner of a token
	TokenID   string // if a PAT acted on itself
	IP        string
	UserAgent string
	RequestID string
}

// ActorKind tells people from programs.
type ActorKind string

// The kinds of actors.
const (
	ActorUser     ActorKind = "user"     // a signed-in person
	ActorToken    ActorKind = "token"    // a PAT, acting on itself
	ActorOperator ActorKind = "operator" // somebody at the shell of the server
	ActorSystem   ActorKind = "system"   // Patrol itself
)

// Catalog lists what can be asked for and granted: the entity types with their
// operations, and the roles. It comes from the policy bundle; nothing else
// repeats it.
type Catalog struct {
	EntityTypes map[string]EntityType `json:"entity_types"`
	Roles       map[string]Role       `json:"roles"`
}

// EntityType is one kind of resource.
type EntityType struct {
	Title       string               `json:"title"`
	Description string               `json:"description,omitempty"`
	Operations  map[string]Operation `json:"operations"`
	Entities    []string             `json:"entities,omitempty"` // suggestions
}

// Operation is something one can do with entities of a type.
type Operation struct {
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
}

// Role holds the permissions of members of a domain: entity type → operation → true.
type Role map[string]map[string]bool

// Permits reports whether the role has the operation.
func (r Role) Permits(entityType, operation string) bool { return r[entityType][operation] }

// AdministersDomain reports whether holders of the role are a domain's admins:
// the role permits `domains/write`.
func (r Role) AdministersDomain() bool { return r.Permits("domains", "write") }

// ValidateRole checks that role is one of the catalog's.
func (c Catalog) ValidateRole(field, role string, v *Invalid) {
	if _, ok := c.Roles[role]; !ok {
		v.Add(field, "is not a role: %s", oneOf(slices.Sorted(maps.Keys(c.Roles))))
	}
}

func (c Catalog) typeNames() []string { return slices.Sorted(maps.Keys(c.EntityTypes)) }

func (t EntityType) operationNames() []string { return slices.Sorted(maps.Keys(t.Operations)) }

func oneOf(names []string) string {
	if len(names) == 0 {
		return "there are none"
	}
	return fmt.Sprintf("use one of %s", strings.Join(names, ", "))
}

// Standing holds a user, a domain and the membership; a field is nil if it does not exist.
type Standing struct {
	User       *User
	Domain     *Domain
	Membership *Membership
}
