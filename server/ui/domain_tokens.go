package ui

import (
	"net/url"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
)

// What a domain's admins see and do: the limits of their domain, and the tokens
// that reach it.

// LimitsForm are a domain's limits as the form has them.
type LimitsForm struct {
	MaxLifetime string // as it was typed, "" for none
	NoWildcards bool
	Approval    bool
}

// LimitsOf is the form of limits in force.
func LimitsOf(l models.DomainLimits) LimitsForm {
	f := LimitsForm{NoWildcards: l.NoWildcards, Approval: l.Approval}
	if l.MaxLifetime > 0 {
		f.MaxLifetime = models.FormatDuration(l.MaxLifetime)
	}
	return f
}

// DecodeLimits reads the form. What is not in it is a problem: it must not lift a
// limit.
func DecodeLimits(form url.Values) (f LimitsForm, p Problems) {
	if !form.Has("max_lifetime") {
		p.Add("max_lifetime", "is missing from the form")
	}
	f.MaxLifetime = strings.TrimSpace(form.Get("max_lifetime"))
	f.NoWildcards, f.Approval = ticked(form, "no_wildcards", &p), ticked(form, "approval", &p)
	return f, p
}

// Submit returns the form's request.
func (f LimitsForm) Submit() api.SetDomainLimits {
	wildcards := !f.NoWildcards
	in := api.SetDomainLimits{Wildcards: &wildcards, Approval: &f.Approval}
	if f.MaxLifetime != "" {
		in.MaxLifetime = &f.MaxLifetime
	}
	return in
}

// Fields are the controls of the form.
func (f LimitsForm) Fields() []Field {
	return []Field{
		{
			Name: "max_lifetime", Label: "Longest lifetime", Kind: TextField, Value: f.MaxLifetime, Autocomplete: "off", MaxLength: 40,
			Hint: "Such as 30d or 12h. A token works here for so long after its creation, and elsewhere as long as it lives. Empty: no limit.",
		},
		{
			Name: "no_wildcards", Label: "No wildcards", Kind: CheckField, Checked: f.NoWildcards,
			Hint: "A scope counts only if it names the domain and the entity. Listing and creating have no name to give, so tokens cannot do them here.",
		},
		{
			Name: "approval", Label: "Approval needed", Kind: CheckField, Checked: f.Approval,
			Hint: "A token works here only once an admin has approved it. Those that are not approved are refused at once.",
		},
	}
}

func domainTokensURL(id string) string { return domainURL(id) + "/pats" }

// DomainTokens is the page with the tokens that reach a domain.
func DomainTokens(d models.Domain, found []Owned, f Filter, next string) Table {
	t := Table{
		Heading: "Tokens that reach " + d.Name, Part: adminDomains, Path: domainTokensURL(d.ID), Narrow: f.Narrowed(), First: f.After == "",
		Crumb:   Link{Label: d.Name, URL: domainURL(d.ID)},
		Intro:   "Those that name the domain, and those of its members and of platform admins that name any domain.",
		Columns: []string{"Name", "Owner", "Status", "Approval", "Scopes here", "Expires", "Last used"},
		Filters: []Field{
			{Name: "owner", Label: "Owner", Kind: TextField, Value: f.Owner, MaxLength: 254},
			{Name: "name", Label: "Name", Kind: TextField, Value: f.Name, MaxLength: 100},
			{Name: "status", Label: "Status", Kind: SelectField, Options: f.Statuses()},
			{Name: "approval", Label: "Approval", Kind: SelectField, Options: f.approvals()},
			{Name: "expiring", Label: "Ends within 7 days", Kind: CheckField, Checked: f.Expiring},
			{Name: "unused", Label: "Unused for 90 days", Kind: CheckField, Checked: f.Unused},
		},
		Empty: "No token fits this filter.",
	}
	if !f.Narrowed() {
		t.Empty = "No token reaches this domain."
	}
	if next != "" {
		t.Next = f.Page(next)
	}
	for _, o := range found {
		last, codes := Cell{Text: "Never"}, Cell{More: o.MoreScopes()}
		if o.LastUsed != nil {
			last = Cell{Moment: o.LastUsed}
		}
		for _, s := range o.FirstScopes() {
			codes.Codes = append(codes.Codes, s.String())
		}
		approval := Cell{Text: "Not given"}
		switch {
		case len(o.Withdrawn) > 0:
			approval = Cell{State: &State{"revoked", "Withdrawn"}}
		case o.Approved[d.ID] != nil:
			approval = Cell{State: &State{"active", "Approved"}}
		case d.Limits.Approval && o.Alive:
			approval = Cell{State: &State{"soon", "Waits"}}
		}
		t.Rows = append(t.Rows, []Cell{
			{Text: o.Name, Sub: o.ID, URL: DomainToken{Domain: d, Token: o.Token}.URL()}, {Text: o.Email}, {State: &o.State}, approval, codes, {Date: &o.Expires}, last,
		})
	}
	return t
}

// DomainToken is the page of a token as a domain's admins see it.
type DomainToken struct {
	Domain   models.Domain
	Token    Token // with the scopes that reach the domain
	Email    string
	Platform bool // the owner is a platform admin
	Meanings []ScopeMeaning
	Reason   string // typed for a revocation
	Problems Problems
}

// Title implements [Page].
func (d DomainToken) Title() string  { return d.Token.Name }
func (DomainToken) template() string { return "domain-token" }
func (DomainToken) section() section { return adminDomains }
func (d DomainToken) failed() bool   { return d.Problems.Any() }

// URL is the address of the page.
func (d DomainToken) URL() string { return d.List() + "/" + url.PathEscape(d.Token.ID) }

// List is the address of the page with all of the domain's.
func (d DomainToken) List() string { return domainTokensURL(d.Domain.ID) }

// Approved is the time of the domain's approval, nil for none.
func (d DomainToken) Approved() *Moment { return d.Token.Approved[d.Domain.ID] }

// Withdrawn is the domain's withdrawal of it, nil if there is none.
func (d DomainToken) Withdrawn() *Withdrawn {
	for i := range d.Token.Withdrawn {
		if d.Token.Withdrawn[i].Domain == d.Domain.ID {
			return &d.Token.Withdrawn[i]
		}
	}
	return nil
}

// Withdrawn is a domain that takes a token no more.
type Withdrawn struct {
	Domain, Reason string
	At             Moment
}

func withdrawn(p models.PAT, now time.Time) (out []Withdrawn) {
	for _, w := range p.Withdrawals {
		out = append(out, Withdrawn{Domain: w.Domain, Reason: w.Reason, At: At(w.At, now)})
	}
	return out
}

// AdmitURL returns the address of the form that ends the withdrawal of a token from a domain.
func AdmitURL(domain, id string) string {
	return domainTokensURL(domain) + "/" + url.PathEscape(id) + "/admit"
}

// ReasonField is the field for the reason of a revocation.
func (d DomainToken) ReasonField() Field { return reasonField(d.Reason) }

func reasonField(typed string) Field {
	return Field{
		Name: "reason", Label: "Reason", Kind: AreaField, Value: typed, Required: true, MaxLength: 500,
		Hint: "The token’s owner is shown it. Do not write the token here.",
	}
}

// DecodeReason reads the reason of a revocation.
func DecodeReason(form url.Values) string { return text(strings.TrimSpace(form.Get("reason"))) }

// revokedBy says who revoked a token, "" if its owner did or nobody knows.
func revokedBy(r models.Revocation) string {
	switch r.By {
	case models.RevokerDomainAdmin:
		if r.Domain == "" { // not for the viewer to know
			return "an admin of another domain"
		}
		return "an admin of " + r.Domain
	case models.RevokerPlatformAdmin:
		return "a platform admin"
	case models.RevokerOperator:
		return "an operator of the server"
	case models.RevokerToken:
		return "itself"
	default:
		return ""
	}
}

// approved holds the times of domains' approvals of a token, by domain.
func approved(p models.PAT, now time.Time) map[string]*Moment {
	if len(p.Approvals) == 0 {
		return nil
	}
	out := make(map[string]*Moment, len(p.Approvals))
	for _, a := range p.Approvals {
		out[a.Domain] = maybeAt(&a.At, now)
	}
	return out
}

// approvals are the choices of the filter.
func (f Filter) approvals() []Option {
	out := []Option{{Label: "All"}, {Value: approvalGiven, Label: "Approved"}, {Value: approvalMissing, Label: "Not approved"}}
	for i := range out {
		out[i].Selected = out[i].Value == f.Approval
	}
	return out
}

const (
	approvalGiven   = "given"
	approvalMissing = "missing"
)

// Approved returns the filter by approval, nil for none.
func (f Filter) Approved() *bool {
	if f.Approval == "" {
		return nil
	}
	given := f.Approval == approvalGiven
	return &given
}

// Waiting is the query of the list of tokens that would work but for an approval.
func Waiting() string {
	return Filter{Status: models.StatusActive, Approval: approvalMissing}.Page("")
}
