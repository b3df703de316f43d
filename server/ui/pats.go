package ui

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"patrol/models"
)

// soon is the time before its end in which a token is said to expire soon.
const soon = 7 * 24 * time.Hour

// State is the state of a token in the words and marks of the pages.
type State struct {
	Key   string // for the style: active, soon, expired, revoked
	Label string
}

// StateOf returns the state of a token whose expiry is the one that counts.
func StateOf(p models.PAT, now time.Time) State {
	switch status := p.Status(now); {
	case status == models.StatusRevoked && p.RotatedTo != "":
		return State{"revoked", "Replaced"}
	case status == models.StatusRevoked:
		return State{"revoked", "Revoked"}
	case status == models.StatusExpired:
		return State{"expired", "Expired"}
	case p.RotatedTo != "":
		return State{"soon", "Replaced, ends soon"}
	case p.ExpiresAt.Sub(now) < soon:
		return State{"soon", "Expires soon"}
	default:
		return State{"active", "Active"}
	}
}

// Token is a token's record as pages show it.
type Token struct {
	ID, Name, Description string
	State                 State
	Alive, Rotated        bool
	Scopes                []models.Scope
	Created, Expires      Moment
	LastUsed, Revoked     *Moment
	LastIP, LastAgent     string
	RotatedTo             string
	RevokedBy, RevokedWhy string             // "" if its owner did
	Approved              map[string]*Moment // when, by domain
	Withdrawn             []Withdrawn
	AllowedIPs            []string // empty: from everywhere
}

// TokenOf shows a record whose expiry is the one that counts.
func TokenOf(p models.PAT, now time.Time) Token {
	return Token{
		ID: p.ID, Name: p.Name, Description: p.Description, State: StateOf(p, now),
		Alive: p.Status(now) == models.StatusActive, Rotated: p.RotatedTo != "",
		Scopes: p.Scopes, Created: At(p.CreatedAt, now), Expires: At(p.ExpiresAt, now),
		LastUsed: maybeAt(p.LastUsedAt, now), Revoked: maybeAt(p.RevokedAt, now),
		LastIP: p.LastUsedIP, LastAgent: p.LastUsedAgent, RotatedTo: p.RotatedTo,
		RevokedBy: revokedBy(p.Revoked), RevokedWhy: p.Revoked.Reason, Approved: approved(p, now), Withdrawn: withdrawn(p, now), AllowedIPs: p.AllowedIPs,
	}
}

// Link is the address of the token's page.
func (t Token) Link() string { return "/profile/pats/" + url.PathEscape(t.ID) }

// FirstScopes are as many scopes as a list shows.
func (t Token) FirstScopes() []models.Scope { return t.Scopes[:min(len(t.Scopes), shownScopes)] }

// MoreScopes counts the scopes that a list leaves out.
func (t Token) MoreScopes() int { return max(0, len(t.Scopes)-shownScopes) }

const shownScopes = 2

// List is the page with a user's tokens.
type List struct {
	Tokens  []Token
	Filter  Filter
	Presets []PresetLink
	Any     bool   // the user has tokens, shown or not
	Alive   bool   // some of them are alive
	Next    string // cursor of the next page
	Domains bool   // the user is in some domain
}

// Title implements [Page].
func (List) Title() string    { return "Personal access tokens" }
func (List) template() string { return "list" }
func (List) section() section { return tokens }
func (List) top() bool        { return true }

// Filter is the filter and order of a list of tokens in the address.
type Filter struct {
	Status models.Status
	Name   string // part of the name
	Sort   string // "" newest first, sortExpires
	After  string
	// Filters for administrators only.
	Owner, Domain string
	Approval      string // within a domain: approvalGiven, approvalMissing or ""
	Expiring      bool   // within [soon]
	Unused        bool   // for 90 days
}

const sortExpires = "expires"

// CheckFilter returns what is wrong with a list's address. A value that is not known
// must not leave the list, or what is done to all that it lists, wider than meant.
func CheckFilter(q url.Values) error {
	var v models.Invalid
	for _, field := range [...]struct {
		name   string
		values []string
	}{
		{"status", []string{string(models.StatusActive), string(models.StatusExpired), string(models.StatusRevoked)}},
		{"approval", []string{approvalGiven, approvalMissing}},
		{"sort", []string{sortExpires}},
		{"expiring", []string{"1"}},
		{"unused", []string{"1"}},
	} {
		if value := q.Get(field.name); value != "" && !slices.Contains(field.values, value) {
			v.Add(field.name, "must be one of %s", strings.Join(field.values, ", "))
		}
	}
	return v.Err()
}

// DecodeFilter reads a list's address, which [CheckFilter] found nothing wrong with.
func DecodeFilter(q url.Values) Filter {
	f := Filter{
		Name: strings.TrimSpace(q.Get("name")), After: q.Get("after"),
		Owner: strings.TrimSpace(q.Get("owner")), Domain: strings.TrimSpace(q.Get("domain")),
		Expiring: q.Get("expiring") != "", Unused: q.Get("unused") != "",
	}
	switch s := models.Status(q.Get("status")); s {
	case models.StatusActive, models.StatusExpired, models.StatusRevoked:
		f.Status = s
	}
	switch a := q.Get("approval"); a {
	case approvalGiven, approvalMissing:
		f.Approval = a
	}
	if q.Get("sort") == sortExpires {
		f.Sort = sortExpires
	}
	return f
}

// Narrowed reports whether the filter leaves something out.
func (f Filter) Narrowed() bool {
	f.Sort, f.After = "", ""
	return f != Filter{}
}

// ByExpiry reports whether what ends first comes first.
func (f Filter) ByExpiry() bool { return f.Sort == sortExpires }

// Statuses are the choices of the filter.
func (f Filter) Statuses() []Option {
	out := []Option{{Value: "", Label: "All"}, {Value: "active", Label: "Active"}, {Value: "expired", Label: "Expired"}, {Value: "revoked", Label: "Revoked"}}
	for i := range out {
		out[i].Selected = out[i].Value == string(f.Status)
	}
	return out
}

// query is the filter as part of an address.
func (f Filter) query() url.Values {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("status", string(f.Status))
	set("name", f.Name)
	set("sort", f.Sort)
	set("after", f.After)
	set("owner", f.Owner)
	set("domain", f.Domain)
	set("approval", f.Approval)
	if f.Expiring {
		q.Set("expiring", "1")
	}
	if f.Unused {
		q.Set("unused", "1")
	}
	return q
}

// Sorted is the query of the same list in the other order.
func (f Filter) Sorted() string {
	f.After = ""
	if f.Sort == "" {
		f.Sort = sortExpires
	} else {
		f.Sort = ""
	}
	return "?" + f.query().Encode()
}

// Page is the query of another page of the same list.
func (f Filter) Page(after string) string {
	f.After = after
	return "?" + f.query().Encode()
}

// View is the page of one token.
type View struct {
	Token    Token
	Meanings []ScopeMeaning
	// Family are the tokens that this one replaced or was replaced by, oldest
	// first, itself included; empty if it stands alone.
	Family     []Token
	Unapproved []string // domains that have to approve of it first
	// Activity lists its recent uses; nil: no log has them.
	Activity *Activity
	// Foreign is its last refused use from an address that it does not allow; nil: there is none.
	Foreign  *ForeignUse
	Problems Problems
}

// ForeignUse is a use of a token from an address that it is not for.
type ForeignUse struct {
	IP string // "" if nobody knew it
	At Moment
}

// ForeignUseOf returns such a use, nil if at is zero.
func ForeignUseOf(ip string, at, now time.Time) *ForeignUse {
	if at.IsZero() {
		return nil
	}
	return &ForeignUse{IP: ip, At: At(at, now)}
}

// ScopeMeaning is a scope with its meaning in plain words.
type ScopeMeaning struct {
	models.Scope
	Meaning string
}

// Title implements [Page].
func (v View) Title() string  { return v.Token.Name }
func (View) template() string { return "view" }
func (View) section() section { return tokens }
func (v View) failed() bool   { return v.Problems.Any() }

// Meanings puts scopes into words.
func (c Choices) Meanings(scopes []models.Scope) []ScopeMeaning {
	out := make([]ScopeMeaning, len(scopes))
	for i, s := range scopes {
		out[i] = ScopeMeaning{Scope: s, Meaning: c.Meaning(s)}
	}
	return out
}

// Family returns the chain of rotations that a token belongs to, oldest first, or
// nothing if it stands alone. all are tokens of the same owner.
func Family(p models.PAT, all []models.PAT, now time.Time) []Token {
	byID, before := map[string]models.PAT{}, map[string]string{}
	for _, t := range all {
		byID[t.ID] = t
		if t.RotatedTo != "" {
			before[t.RotatedTo] = t.ID
		}
	}
	byID[p.ID] = p
	chain := []models.PAT{p}
	seen := map[string]bool{p.ID: true}
	for id := before[p.ID]; id != "" && !seen[id]; id = before[id] {
		seen[id] = true
		chain = append(chain, byID[id])
	}
	slices.Reverse(chain)
	for id := p.RotatedTo; id != "" && !seen[id]; id = byID[id].RotatedTo {
		next, ok := byID[id]
		if !ok { // deleted since
			break
		}
		seen[id] = true
		chain = append(chain, next)
	}
	if len(chain) == 1 {
		return nil
	}
	out := make([]Token, len(chain))
	for i, t := range chain {
		out[i] = TokenOf(t, now)
	}
	return out
}

// Reveal is the one page that shows a token, as the direct answer to the form
// that made it.
type Reveal struct {
	Token   Token
	Secret  string // the token's text
	Rotated bool   // it replaces another
	OldEnds *Moment
	BaseURL string // of this server
	Domain  string // for the snippets
	Summary []string
	// Unapproved are the domains that have to approve of it first.
	Unapproved []string
}

// Title implements [Page].
func (r Reveal) Title() string {
	if r.Rotated {
		return "Your new token"
	}
	return "Your token"
}
func (Reveal) template() string  { return "reveal" }
func (Reveal) holdsSecret() bool { return true }
func (Reveal) section() section  { return tokens }

// RevealDomain is the domain that snippets for a token name.
func RevealDomain(scopes []models.Scope, c Choices) string {
	for _, s := range scopes {
		if s.EntityType == "models" && s.Domain != models.Any {
			return s.Domain
		}
	}
	for _, s := range scopes {
		if s.Domain != models.Any {
			return s.Domain
		}
	}
	if d := c.firstDomain(); d != "" {
		return d
	}
	return "DOMAIN"
}
