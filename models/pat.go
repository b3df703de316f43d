package models

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Any is the wildcard: any domain or any entity in a scope, the collection in a
// request.
const Any = "*"

// Scope permits one operation on one entity, or on any with [Any], of an entity
// type in a domain.
type Scope struct {
	ID         string
	Domain     string
	EntityType string
	Entity     string
	Operation  string
}

// ParseScope reads `domain:type:entity:operation`. The first two and the last
// field are cut at colons; the entity keeps its own (`acme:models:llama3:8b:read`).
// It checks the form only; see [Scope.Validate].
func ParseScope(text string) (Scope, error) {
	domain, rest, ok1 := strings.Cut(text, ":")
	entityType, rest, ok2 := strings.Cut(rest, ":")
	last := strings.LastIndexByte(rest, ':')
	if !ok1 || !ok2 || last < 0 {
		return Scope{}, NewError(CodeMalformed, fmt.Sprintf("scope %q is not of the form domain:type:entity:operation", text))
	}
	s := Scope{Domain: domain, EntityType: entityType, Entity: rest[:last], Operation: rest[last+1:]}
	if scopeList.MatchString(s.Entity) {
		return Scope{}, NewError(CodeMalformed, fmt.Sprintf("scope %q looks like several: give each of them by itself", text))
	}
	return s, nil
}

// scopeList matches an entity that ends one scope and begins another.
var scopeList = regexp.MustCompile(`:[a-z_]+,[ ]*([a-z0-9][a-z0-9-]*|\*):[a-z_]+:`)

// String renders the scope as `domain:type:entity:operation`.
func (s Scope) String() string {
	return s.Domain + ":" + s.EntityType + ":" + s.Entity + ":" + s.Operation
}

// Covers reports whether the scope covers req: fields are equal, or the scope
// has [Any] for domain or entity. A request for entity [Any] is covered only by
// a scope whose entity is [Any]. This is the meaning of a scope in words that
// pages and tools share; decisions are made by policy.
func (s Scope) Covers(req Request) bool {
	return (s.Domain == Any || s.Domain == req.Domain) &&
		s.EntityType == req.EntityType &&
		(s.Entity == Any || s.Entity == req.Entity) &&
		s.Operation == req.Operation
}

// Same reports whether both scopes say the same, ids aside.
func (s Scope) Same(o Scope) bool {
	s.ID, o.ID = "", ""
	return s == o
}

// Validate checks one scope against the catalog and adds what is wrong to v,
// each field under prefix. For the entity type `domains` the entity is the
// domain itself, so the two must be equal, or the entity [Any].
func (s Scope) Validate(c Catalog, prefix string, v *Invalid) {
	if s.Domain != Any && !validSlug(s.Domain) {
		v.Add(prefix+"domain", "must be * or a domain id: 1 to 63 characters of a-z, 0-9 and -, not starting with -")
	}
	if !validEntity(s.Entity) {
		v.Add(prefix+"entity", "must be * or 1 to 256 printable ASCII characters without space, quote or backslash")
	} else if s.Entity != Any && strings.Contains(s.Entity, Any) {
		v.Add(prefix+"entity", "has a * beside other characters, which would match nothing: name one entity, or give * alone for any")
	} else if MaskTokens(s.Entity) != s.Entity {
		v.Add(prefix+"entity", "contains a token, which is a secret; name what the scope is for, and revoke that token if it is a real one")
	} else if scopeList.MatchString(s.Entity) {
		v.Add(prefix+"entity", "looks like the end of one scope and the beginning of another: give each scope by itself")
	} else if s.EntityType == "domains" && s.Entity != Any && s.Entity != s.Domain {
		v.Add(prefix+"entity", "for the entity type domains this must be * or the scope's domain")
	}
	t, ok := c.EntityTypes[s.EntityType]
	if !ok {
		v.Add(prefix+"entity_type", "is not in the catalog: %s", oneOf(c.typeNames()))
		return
	}
	if _, ok := t.Operations[s.Operation]; !ok {
		v.Add(prefix+"operation", "%s has no such operation: %s", s.EntityType, oneOf(t.operationNames()))
	}
}

// Status is the state of a PAT.
type Status string

// The states of a PAT.
const (
	StatusActive  Status = "active"
	StatusExpired Status = "expired"
	StatusRevoked Status = "revoked"
)

// PAT is the record of a personal access token. It holds no secret: MAC is the
// keyed hash that a presented secret is verified against.
type PAT struct {
	ID          string // public id, part of the token's text
	UserID      string
	Name        string
	Description string
	KeyID       string
	MAC         []byte
	Scopes      []Scope
	Approvals   []Approval   // by domain; those that were given and still hold
	Withdrawals []Withdrawal // by domain; those that were not taken back
	// AllowedIPs are the addresses and ranges from which it may be used, as
	// [ParseAllowedIP] spells them; none: from everywhere.
	AllowedIPs []string
	CreatedAt  time.Time
	// ExpiresAt is a whole second. A rotation with grace moves it forward.
	ExpiresAt     time.Time
	RevokedAt     *time.Time
	Revoked       Revocation
	RotatedTo     string // id of the successor, "" if not rotated
	LastUsedAt    *time.Time
	LastUsedIP    string
	LastUsedAgent string
}

// Revocation says who ended a token, and why, for its owner. It is zero
// unless somebody revoked the token: one that a rotation replaced has none.
type Revocation struct {
	By     RevokerKind
	Domain string // the domain whose admin it was, with [RevokerDomainAdmin]
	Reason string // "" if none was given; no secret
}

// RevokerKind is in what capacity somebody revokes a token.
type RevokerKind string

// The kinds of revokers.
const (
	RevokerOwner         RevokerKind = "owner"
	RevokerToken         RevokerKind = "token"          // the token itself
	RevokerDomainAdmin   RevokerKind = "domain_admin"   // of a domain that the token reaches
	RevokerPlatformAdmin RevokerKind = "platform_admin" // of the whole platform
	RevokerOperator      RevokerKind = "operator"       // somebody at the shell of the server
)

// ValidateReason checks the reason for a revocation: at most 500 characters;
// line breaks are fine. It is shown to the token's owner.
func ValidateReason(field, text string, required bool, v *Invalid) {
	lowest := 0
	if required {
		lowest = 1
	}
	checkText(field, text, lowest, 500, true, v)
}

// Reaches reports whether the scope covers anything in the domain.
func (s Scope) Reaches(domain string) bool { return s.Domain == domain || s.Domain == Any }

// ScopesIn returns the scopes that reach the domain.
func (p PAT) ScopesIn(domain string) []Scope {
	var in []Scope
	for _, s := range p.Scopes {
		if s.Reaches(domain) {
			in = append(in, s)
		}
	}
	return in
}

// ApprovedBy returns the domain's approval of the token, nil if there is none.
func (p PAT) ApprovedBy(domain string) *Approval {
	for i := range p.Approvals {
		if p.Approvals[i].Domain == domain {
			return &p.Approvals[i]
		}
	}
	return nil
}

// WithApprovalsHeld returns the token without approvals that hold no more under these roles.
func (p PAT) WithApprovalsHeld(roles map[string]Role) PAT {
	lost := func(a Approval) bool { return !a.Holds(roles) }
	if slices.ContainsFunc(p.Approvals, lost) {
		p.Approvals = slices.DeleteFunc(slices.Clone(p.Approvals), lost)
	}
	return p
}

// Withdrawal is a domain's refusal of a token of a platform admin, which the domain's
// admins cannot end. The token works elsewhere.
type Withdrawal struct {
	Domain string
	By     string // id of who withdrew it; "" for an operator
	Reason string // for its owner
	At     time.Time
}

// WithdrawnFrom returns the domain's withdrawal of the token, nil if there is none.
func (p PAT) WithdrawnFrom(domain string) *Withdrawal {
	for i := range p.Withdrawals {
		if p.Withdrawals[i].Domain == domain {
			return &p.Withdrawals[i]
		}
	}
	return nil
}

// Status returns the state at the time now. Revoked comes before expired.
func (p PAT) Status(now time.Time) Status {
	switch {
	case p.RevokedAt != nil:
		return StatusRevoked
	case !now.Before(p.ExpiresAt):
		return StatusExpired
	default:
		return StatusActive
	}
}

// WithMaxLifetime returns p as it counts under a maximum lifetime: a token
// issued when a longer one was permitted ends when a new one would.
func (p PAT) WithMaxLifetime(limit time.Duration) PAT {
	if end := CeilSecond(p.CreatedAt.Add(limit)); limit > 0 && end.Before(p.ExpiresAt) {
		p.ExpiresAt = end
	}
	return p
}

// Limits bound what a PAT may be.
type Limits struct {
	MaxLifetime time.Duration // from creation to expiry
	MaxScopes   int           // per token
	MaxLive     int           // live tokens per user
	MaxGrace    time.Duration // how long a rotated token may live on

	MaxAllowedIPs int // addresses and ranges per token
}

// DefaultLimits are the limits unless configured otherwise.
func DefaultLimits() Limits {
	return Limits{MaxLifetime: 366 * 24 * time.Hour, MaxScopes: 64, MaxLive: 100, MaxGrace: 7 * 24 * time.Hour, MaxAllowedIPs: 32}
}

// DefaultLifetime is the lifetime that is offered for a token, and that a question about a user
// supposes.
const DefaultLifetime = 30 * 24 * time.Hour

// HypotheticalID stands for the id of the token, and of its scope, by which a question about a
// user is judged. No real token has an id of this length.
const HypotheticalID = "hypothetical"

// Lifetime is the end of a token as a caller gives it: exactly one of the two.
type Lifetime struct {
	In string    // a duration as [ParseDuration] reads it
	At time.Time // a point in time
}

// Resolve returns the expiry as a whole second, rounded up so that a token lives
// at least as long as asked. It adds to v, under `expires_in` or `expires_at`,
// what is wrong: neither or both given, a lifetime under one second or over
// limit.
func (l Lifetime) Resolve(now time.Time, limit time.Duration, v *Invalid) time.Time {
	field := "expires_in"
	var length time.Duration
	switch {
	case l.In != "" && !l.At.IsZero():
		v.Add(field, "give either expires_in or expires_at, not both")
		return time.Time{}
	case l.In == "" && l.At.IsZero():
		v.Add(field, "a lifetime is required: give expires_in (such as 30d) or expires_at")
		return time.Time{}
	case l.In != "":
		d, err := ParseDuration(l.In)
		if err != nil {
			v.Add(field, "%s", err.Error())
			return time.Time{}
		}
		length = d
	default:
		field = "expires_at"
		if l.At.After(now.Add(limit)) { // Sub saturates; compare the far future first
			v.Add(field, "is further away than the maximum of %s", FormatDuration(limit))
			return time.Time{}
		}
		length = l.At.Sub(now)
	}
	switch {
	case length < time.Second:
		v.Add(field, "must be at least 1 second from now")
	case length > limit:
		v.Add(field, "is longer than the maximum of %s", FormatDuration(limit))
	default:
		return CeilSecond(now.Add(length))
	}
	return time.Time{}
}

// CeilSecond rounds a time up to a whole second, in UTC.
func CeilSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); whole.Equal(t) {
		return whole.UTC()
	}
	return t.Truncate(time.Second).Add(time.Second).UTC()
}

// ValidateScopes checks a token's scopes, all of them, against catalog and
// limits, and adds what is wrong to v under `scopes`.
func ValidateScopes(scopes []Scope, c Catalog, l Limits, v *Invalid) {
	switch {
	case len(scopes) == 0:
		v.Add("scopes", "at least one scope is required")
	case len(scopes) > l.MaxScopes:
		v.Add("scopes", "%d scopes are more than the maximum of %d", len(scopes), l.MaxScopes)
		return
	}
	for i, s := range scopes {
		prefix := fmt.Sprintf("scopes[%d].", i)
		s.Validate(c, prefix, v)
		for j := range i {
			if s.Same(scopes[j]) {
				v.Add(fmt.Sprintf("scopes[%d]", i), "is the same as scopes[%d]", j)
				break
			}
		}
	}
}

// ValidateName checks a token's, user's or domain's display name: 1 to 100
// characters of text on one line.
func ValidateName(field, name string, v *Invalid) {
	checkText(field, name, 1, 100, false, v)
}

// ValidateDescription checks a description: at most 500 characters; line breaks
// (LF or CRLF) and tabs are fine.
func ValidateDescription(field, text string, v *Invalid) {
	checkText(field, text, 0, 500, true, v)
}

func checkText(field, text string, minimum, maximum int, lines bool, v *Invalid) {
	n := utf8.RuneCountInString(text)
	switch {
	case !utf8.ValidString(text):
		v.Add(field, "is not valid UTF-8")
	case minimum > 0 && n == 0:
		v.Add(field, "is required")
	case n > maximum:
		v.Add(field, "has %d characters; at most %d are allowed", n, maximum)
	case strings.TrimSpace(text) != text:
		v.Add(field, "must not start or end with a space")
	case hasHidden(text, lines):
		v.Add(field, "must not contain control or invisible characters")
	case MaskTokens(text) != text:
		v.Add(field, "contains a token, which is a secret that others can read here; take it out, and revoke that token if it is a real one")
	}
}

// hasHidden reports whether a text has characters that nobody sees, save line
// breaks and tabs if lines is true, and joiners where a script needs them.
func hasHidden(text string, lines bool) bool {
	runes := []rune(text)
	at := func(i int) rune {
		if i < 0 || i >= len(runes) {
			return 0
		}
		return runes[i]
	}
	for i, r := range runes {
		switch {
		case unicode.IsGraphic(r):
		case lines && (r == '\n' || r == '\t' || r == '\r' && at(i+1) == '\n'):
		case (r == zwnj || r == zwj) && joins(at(i-1)) && joins(at(i+1)):
		default:
			return true
		}
	}
	return false
}

// The joiners of Unicode: they tell a script whether two characters are written
// as one.
const (
	zwnj = '\u200c' // ZERO WIDTH NON-JOINER
	zwj  = '\u200d' // ZERO WIDTH JOINER
)

// joins reports whether a joiner beside r changes how it is written: beside letters
// and marks of scripts that join, such as Arabic and Devanagari, and between the
// parts of an emoji. Elsewhere a joiner only makes two names look alike.
func joins(r rune) bool {
	switch {
	case unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana):
		return false
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.So, unicode.Sk) // Sk has the skin tones
}

func validSlug(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// IsEntity reports whether a text can be the id of an entity.
func IsEntity(s string) bool { return validEntity(s) }

// validEntity allows RFC 6749 §3.3 scope-token characters, 1 to 256 of them.
func validEntity(s string) bool {
	return len(s) >= 1 && len(s) <= 256 && scopeChars(s)
}

// scopeChars reports whether s consists of scope-token characters.
func scopeChars(s string) bool {
	for i := range len(s) {
		if !isScopeChar(s[i]) {
			return false
		}
	}
	return true
}

func isScopeChar(c byte) bool {
	return c == '!' || '#' <= c && c <= '[' || ']' <= c && c <= '~'
}

// Validate reports with field errors what keeps a request from being judged: a
// field that is absent or has characters no such field can have. Domains, types
// and operations that are merely unknown are a matter for the policy.
func (r Request) Validate() error {
	var v Invalid
	r.validate("", &v)
	return v.Err()
}

// ValidateAt is [Request.Validate] for one of several requests: what is wrong is
// added to v under prefix.
func (r Request) ValidateAt(prefix string, v *Invalid) { r.validate(prefix, v) }

func (r Request) validate(prefix string, v *Invalid) {
	for _, f := range [...]struct{ name, value string }{
		{"domain", r.Domain}, {"entity_type", r.EntityType}, {"entity", r.Entity}, {"operation", r.Operation},
	} {
		switch {
		case f.value == "":
			v.Add(prefix+f.name, "is required")
		case !validEntity(f.value):
			v.Add(prefix+f.name, "must be at most 256 printable ASCII characters without space, quote or backslash")
		}
	}
}
