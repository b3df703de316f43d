package ui

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
)

// customDuration is the value of the duration that names a date.
const customDuration = "custom"

// durations are the lengths of life that are offered, as far as the server's
// maximum permits them.
var durations = []struct {
	value, label string
	length       time.Duration
}{
	{"24h", "24 hours", 24 * time.Hour},
	{"7d", "7 days", 7 * 24 * time.Hour},
	{"30d", "30 days", 30 * 24 * time.Hour},
	{"60d", "60 days", 60 * 24 * time.Hour},
	{"90d", "90 days", 90 * 24 * time.Hour},
	{"365d", "1 year", 365 * 24 * time.Hour},
}

// defaultDuration is the default choice unless the maximum is shorter.
const defaultDuration = "30d"

// Life is the part of a form that says how long a token lives.
type Life struct {
	Duration string // one of the offered values, customDuration, or another that a link prefilled
	Date     string // YYYY-MM-DD, with customDuration
	now      time.Time
	limit    time.Duration
	Problem  string
}

// decodeLife reads the duration and the date of a form or a link. Nothing chosen
// is the default offer.
func decodeLife(form url.Values, now time.Time, limit time.Duration) Life {
	l := Life{
		Duration: strings.TrimSpace(form.Get("expires_in")), Date: strings.TrimSpace(form.Get("expires_on")),
		now: now.UTC(), limit: limit,
	}
	if l.Duration == "" && l.Date != "" {
		l.Duration = customDuration
	}
	if l.Duration == "" {
		l.Duration = l.fallback()
	}
	return l
}

// fallback is the default offer, or the longest that is permitted.
func (l Life) fallback() string {
	best := ""
	for _, d := range durations {
		if d.length <= l.limit {
			best = d.value
		}
		if d.value == defaultDuration {
			break
		}
	}
	if best == "" {
		return models.FormatDuration(l.limit)
	}
	return best
}

// Lifetime returns the choice in the terms of the API. A date means its last
// second in UTC, so that the token lives through the day that was named.
func (l Life) Lifetime(p *Problems) (expiresIn string, expiresAt *time.Time) {
	if l.Duration != customDuration {
		return l.Duration, nil
	}
	if l.Date == "" {
		p.Add("expires_at", "needs a date: choose one, or another duration")
		return "", nil
	}
	day, err := time.Parse(time.DateOnly, l.Date)
	if err != nil {
		p.Add("expires_at", "is not a date of the form 2030-01-31")
		return "", nil
	}
	at := day.AddDate(0, 0, 1).Add(-time.Second)
	return "", &at
}

// Options are the durations to choose from.
func (l Life) Options() []Option {
	var out []Option
	known := l.Duration == customDuration
	for _, d := range durations {
		if d.length <= l.limit {
			out = append(out, Option{Value: d.value, Label: d.label, Selected: d.value == l.Duration})
			known = known || d.value == l.Duration
		}
	}
	if !known && l.Duration != "" {
		label := l.Duration
		if d, err := models.ParseDuration(l.Duration); err == nil {
			label = lengthInWords(d)
		}
		out = append(out, Option{Value: l.Duration, Label: label, Selected: true})
	}
	return append(out, Option{Value: customDuration, Label: "Custom date", Selected: l.Duration == customDuration})
}

// Custom reports whether a date is to be given.
func (l Life) Custom() bool { return l.Duration == customDuration }

// Seconds is the length of an option, for the script that shows the date; 0 where
// it is none.
func (l Life) Seconds(value string) int64 {
	d, err := models.ParseDuration(value)
	if err != nil {
		return 0
	}
	return int64(d / time.Second)
}

// MinDate is the first day that can be chosen.
func (l Life) MinDate() string { return l.now.Format(time.DateOnly) }

// MaxDate is the last day that can be chosen: the last whose end the maximum
// permits.
func (l Life) MaxDate() string {
	return l.now.Add(l.limit).Add(time.Second).AddDate(0, 0, -1).Format(time.DateOnly)
}

// Maximum is the longest life in words.
func (l Life) Maximum() string { return lengthInWords(l.limit) }

// Expiry returns the expiry of a token made now, nil if it is not known yet.
func (l Life) Expiry() *Moment {
	var p Problems
	in, at := l.Lifetime(&p)
	lifetime := models.Lifetime{In: in}
	if at != nil {
		lifetime.At = *at
	}
	var v models.Invalid
	end := lifetime.Resolve(l.now, l.limit, &v)
	if p.Any() || v.Err() != nil {
		return nil
	}
	m := At(end, l.now)
	return &m
}

// Actions of forms beside the one that does what the form is for.
const (
	actionSubmit      = "create"
	actionAddScope    = "add-scope"
	actionRemoveScope = "remove-scope-"
	actionPreset      = "preset-"
)

// NoDomain is the page that makes a token for somebody who is in no domain.
func NoDomain() Message {
	return Message{
		Heading: "Create a personal access token", Part: tokens, Link: "/profile/pats", Label: "To my tokens",
		Lines: []string{"You are not a member of any domain yet, so there is nothing a token could be for. Ask an administrator to add you to one."},
	}
}

// Create is the page that makes a token.
type Create struct {
	Name, Description string
	AllowedIPs        string // one to a line
	Life              Life
	Scopes            ScopesForm
	Problems          Problems
	Key               string // one-time, see [Once]
	AskPassword       bool   // the sign-in is too old
	action            string
	password          string
}

// Title implements [Page].
func (Create) Title() string    { return "Create a personal access token" }
func (Create) template() string { return "create" }
func (Create) section() section { return tokens }
func (c Create) failed() bool   { return c.Problems.Any() }

// PrefillCreate returns the page as a link asks for it: `name`, `description`, `allowed_ips`,
// `expires_in` or `expires_on`, `scope` (repeated, `domain:type:entity:operation`)
// and `preset` with `domain`. Nothing is submitted.
func PrefillCreate(query url.Values, choices Choices, now time.Time) Create {
	c := Create{
		Name: query.Get("name"), Description: query.Get("description"), AllowedIPs: query.Get(allowedIPsName),
		Life:   decodeLife(query, now, choices.limits.MaxLifetime),
		Scopes: ScopesForm{Choices: choices, PresetDomain: query.Get("domain")},
	}
	for _, text := range query["scope"] {
		if scope, err := models.ParseScope(text); err == nil && len(c.Scopes.Rows) < choices.limits.MaxScopes {
			c.Scopes.Rows = append(c.Scopes.Rows, ScopeRow{index: len(c.Scopes.Rows), Scope: scope})
		}
	}
	if len(c.Scopes.Rows) == 0 {
		c.Scopes.Rows = rowsOf(choices.preset(query.Get("preset"), query.Get("domain")))
	}
	c.Scopes.ensureRow()
	return c.sayUntil()
}

// sayUntil tells the summary of the scopes when the token would expire.
func (c Create) sayUntil() Create {
	c.Scopes.Until = ""
	if end := c.Life.Expiry(); end != nil {
		c.Scopes.Until = end.Date()
	}
	return c
}

// CopyOf fills the page with the scopes, the length of life and the labels of a
// token that exists.
func (c Create) CopyOf(p models.PAT) Create {
	c.Name, c.Description, c.AllowedIPs = copyName(p.Name), p.Description, strings.Join(p.AllowedIPs, "\n")
	c.Scopes.Rows = rowsOf(p.Scopes)
	if length := p.ExpiresAt.Sub(p.CreatedAt); length <= c.Life.limit {
		for _, d := range durations {
			if d.length >= length-time.Minute && d.length <= c.Life.limit {
				c.Life.Duration = d.value
				break
			}
		}
	}
	return c.sayUntil()
}

func copyName(name string) string {
	const suffix = " (copy)"
	runes := []rune(name)
	if len(runes) > 100-len(suffix) {
		runes = runes[:100-len(suffix)]
	}
	return string(runes) + suffix
}

// DecodeCreate reads the submitted form.
func DecodeCreate(form url.Values, choices Choices, now time.Time) Create {
	c := Create{
		Name: strings.TrimSpace(form.Get("name")), Description: text(form.Get("description")), AllowedIPs: text(form.Get(allowedIPsName)),
		Life:   decodeLife(form, now, choices.limits.MaxLifetime),
		Scopes: ScopesForm{Choices: choices, PresetDomain: form.Get("preset_domain")},
		Key:    form.Get("key"), action: form.Get("action"), password: form.Get("password"),
	}
	c.Scopes.Rows = decodeRows(form, &c.Problems)
	c.Scopes.ensureRow()
	return c.sayUntil()
}

// text brings what a textarea sends into one form: browsers write line ends as
// CR LF.
func text(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n"))
}

// Addresses is the field with the addresses that the token is to work from.
func (c Create) Addresses() Field { return allowedIPsField(c.AllowedIPs) }

// Password is the password that was given with the form, "" if none was.
func (c Create) Password() string { return c.password }

// Asking returns the page with or without the field for the password.
func (c Create) Asking(password bool) Create {
	c.AskPassword = password
	return c
}

// Submit returns what is asked for, and whether it is: a button that changes the
// rows asks for the form again, as [Create.Apply] returns it.
func (c Create) Submit() (in api.NewPAT, ok bool, problems Problems) {
	if c.action != actionSubmit {
		return api.NewPAT{}, false, Problems{}
	}
	p := c.Problems
	in = api.NewPAT{Name: c.Name, Description: c.Description, AllowedIPs: decodeAllowedIPs(c.AllowedIPs)}
	in.ExpiresIn, in.ExpiresAt = c.Life.Lifetime(&p)
	for _, s := range scopesOf(c.Scopes.Rows) {
		in.Scopes = append(in.Scopes, api.NewScope{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation})
	}
	if in.Name == "" { // all that is missing is said at once
		p.Fields = slices.Insert(p.Fields, 0, Problem{Field: "name", Text: "Name is required."})
	}
	checkRows(c.Scopes.Rows, c.Scopes.Choices, &p)
	return in, true, p
}

// Apply does what a button other than the last asked for.
func (c Create) Apply() Create {
	c.Problems = Problems{}
	c.Scopes.apply(c.action)
	return c
}

// Refused returns the page with what was wrong.
func (c Create) Refused(p Problems) Create {
	c.Problems, c.Scopes.Problems = p, p
	c.Life.Problem = lifeProblem(p)
	return c
}

func lifeProblem(p Problems) string {
	if text := p.For("expires_in"); text != "" {
		return text
	}
	return p.For("expires_at")
}

// Link is the address of the page as it is filled in, for coming back to it after
// a sign-in. It holds no secret: a token is made later.
func (c Create) Link() string {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("name", c.Name)
	set("description", c.Description)
	set(allowedIPsName, c.AllowedIPs)
	if c.Life.Custom() {
		set("expires_on", c.Life.Date)
	} else {
		set("expires_in", c.Life.Duration)
	}
	for _, s := range scopesOf(c.Scopes.Rows) {
		if s != (models.Scope{}) {
			q.Add("scope", s.String())
		}
	}
	return "/profile/pats/new?" + q.Encode()
}

func (f *ScopesForm) apply(action string) {
	switch {
	case action == actionAddScope && !f.Full():
		f.Rows = append(f.Rows, ScopeRow{index: len(f.Rows), Scope: models.Scope{Domain: f.onlyDomain()}})
	case strings.HasPrefix(action, actionRemoveScope):
		f.Rows = slices.DeleteFunc(f.Rows, func(r ScopeRow) bool { return fmt.Sprint(actionRemoveScope, r.index) == action })
		for i := range f.Rows {
			f.Rows[i].index = i
		}
	case strings.HasPrefix(action, actionPreset):
		f.Rows = rowsOf(f.Choices.preset(strings.TrimPrefix(action, actionPreset), f.PresetDomain))
	}
	f.ensureRow()
}

// ensureRow keeps at least one row to fill in.
func (f *ScopesForm) ensureRow() {
	if len(f.Rows) == 0 {
		f.Rows = []ScopeRow{{Scope: models.Scope{Domain: f.onlyDomain()}}}
	}
}

// onlyDomain is the user's domain if they have one only.
func (f *ScopesForm) onlyDomain() string {
	if len(f.Choices.domains) == 1 {
		return f.Choices.domains[0].id
	}
	return ""
}
