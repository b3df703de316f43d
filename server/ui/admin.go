package ui

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
)

// Table is a page with one list.
type Table struct {
	Heading string
	Intro   string
	Crumb   Link // where the list belongs to
	Create  Link // what makes a further row, if anything
	Filters []Field
	Path    string // of the page, where the filter is sent
	Narrow  bool   // the filter leaves something out
	Columns []string
	Rows    [][]Cell // one cell for each column; the first names the row
	Empty   string   // what is said instead of an empty list
	Next    string   // query of the next page
	First   bool     // this is the first page
	Below   Link     // what can be done to all that is listed
	Also    Link     // and what else
	Part    section
}

// Title implements [Page].
func (t Table) Title() string    { return t.Heading }
func (Table) template() string   { return "table" }
func (t Table) section() section { return t.Part }
func (Table) top() bool          { return true }

// Label is the heading of a column.
func (t Table) Label(i int) string { return t.Columns[i] }

// Link is a link that says where it leads.
type Link struct {
	Label, URL string
	Danger     bool
}

// Cell is one place of a table.
type Cell struct {
	Text, Sub string
	URL       string
	State     *State
	Moment    *Moment // shown relative to now
	Date      *Moment
	Codes     []string
	More      int // codes left out
}

// ExpiresBefore returns the time, at now, of the filter for tokens that end soon, the zero
// time without it.
func (f Filter) ExpiresBefore(now time.Time) time.Time {
	if !f.Expiring {
		return time.Time{}
	}
	return now.Add(soon)
}

// unusedFor is the time without use after which somebody should look
// at it.
const unusedFor = 90 * 24 * time.Hour

// UnusedSince returns the time, at now, of the filter for unused tokens, the zero time
// without it.
func (f Filter) UnusedSince(now time.Time) time.Time {
	if !f.Unused {
		return time.Time{}
	}
	return now.Add(-unusedFor)
}

// Owned is a token with the address of its owner.
type Owned struct {
	Token
	Email string
}

// Inventory is the page with the tokens of all users.
func Inventory(found []Owned, f Filter, next string) Table {
	t := Table{
		Heading: "All tokens", Part: adminTokens, Path: "/admin/pats", Narrow: f.Narrowed(), First: f.After == "",
		Columns: []string{"Name", "Owner", "Status", "Scopes", "Expires", "Last used"},
		Filters: []Field{
			{Name: "owner", Label: "Owner", Kind: TextField, Value: f.Owner, MaxLength: 254},
			{Name: "name", Label: "Name", Kind: TextField, Value: f.Name, MaxLength: 100},
			{Name: "domain", Label: "Reaches domain", Kind: TextField, Value: f.Domain, MaxLength: 63},
			{Name: "status", Label: "Status", Kind: SelectField, Options: f.Statuses()},
			{Name: "expiring", Label: "Ends within 7 days", Kind: CheckField, Checked: f.Expiring},
			{Name: "unused", Label: "Unused for 90 days", Kind: CheckField, Checked: f.Unused},
		},
		Empty: "No token fits this filter.",
	}
	if !f.Narrowed() {
		t.Also = Link{Label: "Remove the records of dead tokens…", URL: PurgeURL(""), Danger: true}
	}
	if next != "" {
		t.Next = f.Page(next)
	}
	alive := false
	for _, o := range found {
		alive = alive || o.Alive
		last := Cell{Text: "Never"}
		if o.LastUsed != nil {
			last = Cell{Moment: o.LastUsed}
		}
		codes := Cell{More: o.MoreScopes()}
		for _, s := range o.FirstScopes() {
			codes.Codes = append(codes.Codes, s.String())
		}
		t.Rows = append(t.Rows, []Cell{
			{Text: o.Name, Sub: o.ID, URL: "/admin/pats/" + url.PathEscape(o.ID)}, {Text: o.Email}, {State: &o.State}, codes, {Date: &o.Expires}, last,
		})
	}
	if alive {
		f.After, f.Sort = "", ""
		t.Below = Link{Label: "Revoke all that this lists…", URL: "/admin/pats/revoke?" + f.query().Encode(), Danger: true}
		if !f.Narrowed() {
			t.Below.Label, t.Below.URL = "Revoke all tokens…", "/admin/pats/revoke?all=true"
		}
	}
	return t
}

// BulkRevoke asks before many tokens end. The count has to be typed.
func BulkRevoke(f Filter, alive int, reason string, p Problems) Confirm {
	f.After = ""
	hidden := map[string]string{"count": strconv.Itoa(alive)}
	for name, values := range f.query() {
		hidden[name] = values[0]
	}
	if !f.Narrowed() {
		hidden["all"] = "true"
	}
	return Confirm{
		Heading: "Revoke " + plural(alive, "token", "tokens") + "?",
		Lines: []string{
			"Every request with one of them is refused from now on. This cannot be undone.",
			"Their owners are shown the reason. The audit log names you.",
		},
		Fields: []Field{reasonField(reason), {Name: "typed", Label: fmt.Sprintf("Type %d to confirm", alive), Kind: TextField, Required: true, Autocomplete: "off", Mono: true}},
		Action: "/admin/pats/revoke", Hidden: hidden, Submit: "Revoke " + plural(alive, "token", "tokens"),
		Cancel: "/admin/pats?" + f.query().Encode(), Part: adminTokens, Problems: p,
	}
}

// AdminToken is the page of anybody's token.
type AdminToken struct {
	Token    Token
	Email    string
	OwnerURL string
	Meanings []ScopeMeaning
	// Leaked says that the token itself was pasted and is this one.
	Leaked   bool
	Reason   string // typed for a revocation
	Problems Problems
}

// ReasonField is the field for the reason of a revocation.
func (a AdminToken) ReasonField() Field { return reasonField(a.Reason) }

// Title implements [Page].
func (a AdminToken) Title() string  { return a.Token.Name }
func (AdminToken) template() string { return "admin-token" }
func (AdminToken) section() section { return adminTokens }
func (a AdminToken) failed() bool   { return a.Problems.Any() }

// Leaked is the page that finds a token by its text.
func Leaked(p Problems) Form {
	return Form{
		Heading: "Revoke a leaked token", Action: "/admin/leaked", Submit: "Find it", Part: adminLeaked, Problems: p,
		Intro: "Paste the token as it was found. The next page shows whose it is and asks before it ends. What you paste is kept nowhere.",
		Fields: []Field{
			{Name: "token", Label: "Token", Kind: PasswordField, Required: true, Autocomplete: "off", Mono: true},
		},
	}
}

// Users is the page with all accounts.
func Users(found []models.User, now time.Time, next string, first bool) Table {
	t := Table{
		Heading: "Users", Part: adminUsers, Path: "/admin/users", Create: Link{Label: "Create a user", URL: "/admin/users/new"},
		Columns: []string{"Name", "Email address", "Account", "Created"}, First: first, Empty: "There are no users.",
		Also: Link{Label: "Links and codes that nobody has used", URL: "/admin/codes"},
	}
	if next != "" {
		t.Next = "?" + url.Values{"after": {next}}.Encode()
	}
	for _, u := range found {
		t.Rows = append(t.Rows, []Cell{
			{Text: u.Name, URL: userURL(u.ID)}, {Text: u.Email}, {State: accountState(u)}, dateCell(u.CreatedAt, now),
		})
	}
	return t
}

func userURL(id string) string { return "/admin/users/" + url.PathEscape(id) }

func dateCell(at, now time.Time) Cell {
	m := At(at, now)
	return Cell{Date: &m}
}

func accountState(u models.User) *State {
	switch {
	case u.Disabled:
		return &State{"revoked", "Disabled"}
	case u.Admin:
		return &State{"soon", "Platform admin"}
	case u.Policy:
		return &State{"soon", "Policy team"}
	default:
		return &State{"active", "Active"}
	}
}

const policyHint = "Sees the policy in force and recorded decisions, and may roll the policy back."

// NewUser is the page that makes an account.
func NewUser(in api.NewUser, p Problems) Form {
	return Form{
		Heading: "Create a user", Action: "/admin/users/new", Submit: "Create user", Cancel: "/admin/users", Part: adminUsers, Problems: p,
		Fields: []Field{
			{Name: "email", Label: "Email address", Kind: EmailField, Value: in.Email, Required: true, Autocomplete: "off", Focus: !p.Any()},
			{Name: "name", Label: "Name", Kind: TextField, Value: in.Name, Required: true, MaxLength: 100, Autocomplete: "off"},
			{
				Name: "password", Label: "First password", Kind: PasswordField, Required: true, Autocomplete: "new-password",
				Hint: "At least 12 characters. Hand it over safely; its owner changes it under Profile, Password.",
			},
			{Name: "admin", Label: "Platform admin", Kind: CheckField, Checked: in.Admin, Hint: "May do everything in every domain, and manage users."},
			{Name: "policy", Label: "Policy team", Kind: CheckField, Checked: in.Policy, Hint: policyHint},
		},
	}
}

// DecodeNewUser reads the form.
func DecodeNewUser(form url.Values) api.NewUser {
	in := api.NewUser{
		Email: strings.TrimSpace(form.Get("email")), Name: strings.TrimSpace(form.Get("name")),
		Password: form.Get("password"),
	}
	var left Problems // a new account has no right that a form does not name
	in.Admin, in.Policy = ticked(form, "admin", &left), ticked(form, "policy", &left)
	return in
}

// EditUser is the page of an account. self says that it is the viewer's own, of
// which nobody gives up the rights or the use.
func EditUser(u models.User, self bool, p Problems) Form {
	f := Form{
		Heading: u.Name, Intro: u.Email, Action: userURL(u.ID), Submit: "Save", Cancel: "/admin/users", Part: adminUsers, Problems: p,
		Fields: []Field{{Name: "name", Label: "Name", Kind: TextField, Value: u.Name, Required: true, MaxLength: 100, Autocomplete: "off"}},
	}
	f.Also = Link{Label: "Remove the records of their dead tokens…", URL: PurgeURL(u.ID), Danger: true}
	if self {
		f.Also = Link{}
		f.Aside = "This is your own account: another admin can disable it or take its rights away."
		return f
	}
	f.Fields = append(f.Fields,
		Field{Name: "admin", Label: "Platform admin", Kind: CheckField, Checked: u.Admin, Hint: "May do everything in every domain, and manage users."},
		Field{Name: "policy", Label: "Policy team", Kind: CheckField, Checked: u.Policy, Hint: policyHint},
		Field{Name: "disabled", Label: "Disabled", Kind: CheckField, Checked: u.Disabled, Hint: "Cannot sign in. All their sessions end, and their tokens are refused until the account is enabled again."},
		Field{Name: "revoke_tokens", Label: "Revoke all tokens", Kind: CheckField, Hint: "With Disabled: their tokens end for good, and do not come back when the account is enabled."},
	)
	if !u.Disabled {
		f.Links = []Link{{Label: "Change the address…", URL: userURL(u.ID) + "/email"}}
	}
	f.Next = Link{Label: "Sessions, links and codes…", URL: userURL(u.ID) + "/access"}
	switch {
	case u.Anonymised():
		f.Aside = "Nothing names this user any more."
	case u.Disabled:
		f.More = Link{Label: "Anonymise…", URL: userURL(u.ID) + "/anonymise", Danger: true}
	}
	if !u.Disabled {
		f.More = Link{Label: "Make a reset link for a forgotten password…", URL: userURL(u.ID) + "/reset"}
	}
	return f
}

// DecodeUser reads the form of an account, which is the viewer's own or not. A box
// that is not in the form is a problem: it must neither give nor take a right.
func DecodeUser(form url.Values, self bool) (patch api.UserPatch, p Problems) {
	name := strings.TrimSpace(form.Get("name"))
	patch.Name = &name
	if !self {
		admin, policy, disabled := ticked(form, "admin", &p), ticked(form, "policy", &p), ticked(form, "disabled", &p)
		patch.Admin, patch.Policy, patch.Disabled = &admin, &policy, &disabled
		if slices.Contains(form["revoke_tokens"], "1") {
			revoke := true
			patch.RevokeTokens = &revoke
		}
	}
	return patch, p
}

// OwnDomains is the page with the domains that somebody administers who is no
// platform admin.
func OwnDomains(found []models.Domain, now time.Time) Table {
	t := Domains(found, now, "", true)
	t.Create = Link{}
	return t
}

// Domains is the page with all domains.
func Domains(found []models.Domain, now time.Time, next string, first bool) Table {
	t := Table{
		Heading: "Domains", Part: adminDomains, Path: "/admin/domains", Create: Link{Label: "Create a domain", URL: "/admin/domains/new"},
		Columns: []string{"Name", "Status", "Created"}, First: first, Empty: "There are no domains yet.",
	}
	if next != "" {
		t.Next = "?" + url.Values{"after": {next}}.Encode()
	}
	for _, d := range found {
		t.Rows = append(t.Rows, []Cell{{Text: d.Name, Sub: d.ID, URL: domainURL(d.ID)}, {State: domainState(d.Status)}, dateCell(d.CreatedAt, now)})
	}
	return t
}

func domainURL(id string) string { return "/admin/domains/" + url.PathEscape(id) }

func domainState(s models.DomainStatus) *State {
	switch s {
	case models.DomainIsDisabled:
		return &State{"expired", "Disabled"}
	case models.DomainIsFrozen:
		return &State{"revoked", "Frozen"}
	default:
		return &State{"active", "Enabled"}
	}
}

// NewDomain is the page that makes a domain.
func NewDomain(in api.NewDomain, p Problems) Form {
	return Form{
		Heading: "Create a domain", Action: "/admin/domains/new", Submit: "Create domain", Cancel: "/admin/domains", Part: adminDomains, Problems: p,
		Fields: []Field{
			{Name: "name", Label: "Name", Kind: TextField, Value: in.Name, Required: true, MaxLength: 100, Autocomplete: "off", Focus: !p.Any()},
			{
				Name: "id", Label: "Identifier", Kind: TextField, Value: in.ID, Required: true, MaxLength: 63, Autocomplete: "off", Mono: true,
				Hint: "Small letters, digits and hyphens. It is part of addresses and scopes, and can never be changed or used again.",
			},
		},
	}
}

// DecodeNewDomain reads the form.
func DecodeNewDomain(form url.Values) api.NewDomain {
	return api.NewDomain{ID: strings.TrimSpace(form.Get("id")), Name: strings.TrimSpace(form.Get("name"))}
}

// DomainPage is the page of a domain with its members.
type DomainPage struct {
	Domain   models.Domain
	Platform bool // the viewer is an admin of the platform
	Limits   LimitsForm
	Waiting  int // tokens that would work but for an approval
	Members  []api.Member
	Next     string
	Catalog  models.Catalog
	Email    string // typed for a further member
	Role     string
	Problems Problems
}

// Title implements [Page].
func (d DomainPage) Title() string  { return d.Domain.Name }
func (DomainPage) template() string { return "domain" }
func (DomainPage) section() section { return adminDomains }
func (d DomainPage) failed() bool   { return d.Problems.Any() }

// URL is the address of the page.
func (d DomainPage) URL() string { return domainURL(d.Domain.ID) }

// WaitingQuery leaves those tokens of the domain's list.
func (DomainPage) WaitingQuery() string { return Waiting() }

// MemberURL is the address of what concerns a member.
func (d DomainPage) MemberURL(userID string) string {
	return d.URL() + "/members/" + url.PathEscape(userID)
}

// State is the domain's status.
func (d DomainPage) State() State { return *domainState(d.Domain.Status) }

// Settings are the fields of the domain itself.
func (d DomainPage) Settings() []Field {
	statuses := []Option{
		{Value: string(models.DomainEnabled), Label: "Enabled: its members get in"},
		{Value: string(models.DomainIsDisabled), Label: "Disabled: only its admins and platform admins get in"},
		{Value: string(models.DomainIsFrozen), Label: "Frozen: only platform admins get in"},
	}
	for i := range statuses {
		statuses[i].Selected = statuses[i].Value == string(d.Domain.Status)
	}
	return []Field{
		{Name: "name", Label: "Name", Kind: TextField, Value: d.Domain.Name, Required: true, MaxLength: 100, Autocomplete: "off"},
		{Name: "status", Label: "Status", Kind: SelectField, Options: statuses},
	}
}

// Roles are the choices of a role.
func (d DomainPage) Roles(chosen string) []Option {
	var out []Option
	for _, role := range slices.Sorted(maps.Keys(d.Catalog.Roles)) {
		out = append(out, Option{Value: role, Label: role, Selected: role == chosen})
	}
	return out
}

// NewMember are the fields for a further member.
func (d DomainPage) NewMember() []Field {
	return []Field{
		{Name: "user", Label: "Email address", Kind: EmailField, Value: d.Email, Required: true, Autocomplete: "off"},
		{Name: "role", Label: "Role", Kind: SelectField, Options: append([]Option{{Label: "Choose…"}}, d.Roles(d.Role)...), Required: true},
	}
}

// RemoveMember asks before somebody loses a domain.
func RemoveMember(d models.Domain, u models.User) Confirm {
	return Confirm{
		Heading: "Remove " + u.Name + " from " + d.Name + "?",
		Lines:   []string{u.Email + " loses the domain at once, and so do their tokens. Their tokens are not revoked: they work there again if the membership comes back."},
		Action:  DomainPage{Domain: d}.MemberURL(u.ID) + "/remove", Submit: "Remove", Cancel: domainURL(d.ID), Part: adminDomains,
	}
}
