package ui

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
)

// Rotate is the page that replaces a token by a new one.
type Rotate struct {
	Token       Token
	Life        Life
	Grace       string // how long the old token lives on, "" not at all
	maxGrace    time.Duration
	Problems    Problems
	Key         string
	AskPassword bool
	password    string
}

// Title implements [Page].
func (r Rotate) Title() string  { return "Rotate " + r.Token.Name }
func (Rotate) template() string { return "rotate" }
func (Rotate) section() section { return tokens }
func (r Rotate) failed() bool   { return r.Problems.Any() }

// DecodeRotate reads the form, or the address of an empty one.
func DecodeRotate(form url.Values, token Token, limits models.Limits, now time.Time) Rotate {
	return Rotate{
		Token: token, Life: decodeLife(form, now, limits.MaxLifetime), Grace: strings.TrimSpace(form.Get("grace")),
		maxGrace: limits.MaxGrace, Key: form.Get("key"), password: form.Get("password"),
	}
}

// Password is the password that was given with the form, "" if none was.
func (r Rotate) Password() string { return r.password }

// Asking returns the page with or without the field for the password.
func (r Rotate) Asking(password bool) Rotate {
	r.AskPassword = password
	return r
}

// Submit returns what is asked for.
func (r Rotate) Submit() (api.Rotation, Problems) {
	var p Problems
	in := api.Rotation{Grace: r.Grace}
	in.ExpiresIn, in.ExpiresAt = r.Life.Lifetime(&p)
	return in, p
}

// Refused returns the page with what was wrong.
func (r Rotate) Refused(p Problems) Rotate {
	r.Problems, r.Life.Problem = p, lifeProblem(p)
	return r
}

// Graces are the choices for the old token.
func (r Rotate) Graces() []Option {
	out := []Option{{Value: "", Label: "At once", Selected: r.Grace == ""}}
	known := r.Grace == ""
	for _, g := range [...]struct {
		value, label string
		length       time.Duration
	}{
		{"1h", "In 1 hour", time.Hour},
		{"24h", "In 24 hours", 24 * time.Hour},
		{"3d", "In 3 days", 3 * 24 * time.Hour},
		{"7d", "In 7 days", 7 * 24 * time.Hour},
	} {
		if g.length <= r.maxGrace {
			out = append(out, Option{Value: g.value, Label: g.label, Selected: g.value == r.Grace})
			known = known || g.value == r.Grace
		}
	}
	if !known {
		out = append(out, Option{Value: r.Grace, Label: r.Grace, Selected: true})
	}
	return out
}

// Widen is the page that adds a scope to a token.
type Widen struct {
	Token       Token
	Scopes      ScopesForm
	Problems    Problems
	AskPassword bool
	password    string
}

// Title implements [Page].
func (w Widen) Title() string  { return "Add a scope to " + w.Token.Name }
func (Widen) template() string { return "widen" }
func (Widen) section() section { return tokens }
func (w Widen) failed() bool   { return w.Problems.Any() }

// DecodeWiden reads the form, or a link that prefills it as in [PrefillCreate].
func DecodeWiden(form url.Values, token Token, choices Choices) Widen {
	w := Widen{Token: token, Scopes: ScopesForm{Choices: choices, Single: true}, password: form.Get("password")}
	w.Scopes.Rows = decodeRows(form, &w.Problems)
	if scope, err := models.ParseScope(form.Get("scope")); err == nil {
		w.Scopes.Rows = rowsOf([]models.Scope{scope})
	}
	w.Scopes.ensureRow()
	w.Scopes.Rows = w.Scopes.Rows[:1]
	return w
}

// Password is the password that was given with the form, "" if none was.
func (w Widen) Password() string { return w.password }

// Asking returns the page with or without the field for the password.
func (w Widen) Asking(password bool) Widen {
	w.AskPassword = password
	return w
}

// Submit returns the scope that is asked for.
func (w Widen) Submit() (api.NewScope, Problems) {
	p := w.Problems
	checkRows(w.Scopes.Rows, w.Scopes.Choices, &p)
	s := w.Scopes.Rows[0].Scope
	if !p.Any() && slices.ContainsFunc(w.Token.Scopes, s.Same) {
		p.Fields = append(p.Fields, Problem{Field: "scopes[0]", Text: "The token has this scope already."})
	}
	return api.NewScope{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation}, p
}

// Refused returns the page with what was wrong. The fields of a single scope are
// those of the first row.
func (w Widen) Refused(p Problems) Widen {
	for i, f := range p.Fields {
		switch f.Field {
		case "domain", "entity_type", "entity", "operation":
			p.Fields[i].Field = "scopes[0]." + f.Field
		}
	}
	w.Problems, w.Scopes.Problems = p, p
	return w
}

// Link is the address of the page as it is filled in.
func (w Widen) Link() string {
	link := w.Token.Link() + "/scopes"
	if s := w.Scopes.Rows[0].Scope; s != (models.Scope{}) {
		link += "?" + url.Values{"scope": {s.String()}}.Encode()
	}
	return link
}

// Link is the address of the page as it is filled in.
func (r Rotate) Link() string {
	q := url.Values{}
	if r.Life.Custom() {
		q.Set("expires_on", r.Life.Date)
	} else {
		q.Set("expires_in", r.Life.Duration)
	}
	if r.Grace != "" {
		q.Set("grace", r.Grace)
	}
	return r.Token.Link() + "/rotate?" + q.Encode()
}
