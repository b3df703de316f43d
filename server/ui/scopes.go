package ui

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patrol/models"
)

// ScopeRow is one scope as it is being put together. Fields that are not chosen
// yet are empty.
type ScopeRow struct {
	index int
	models.Scope
	typed bool // the entity is typed, not picked from the list
}

// ScopesForm is the part of a form that chooses scopes.
type ScopesForm struct {
	Rows     []ScopeRow
	Problems Problems
	Choices  Choices
	// PresetDomain is the domain that presets are for.
	PresetDomain string
	Until        string // when the token would expire, "" if that is not known
	Single       bool   // exactly one scope is chosen, for a token that exists
}

// The values of the list of entities that are no entity.
const (
	pickTyped = ":typed"
	// typedSeparator stands between entity type and operation in the values of
	// the operation list. Before a script narrows it, the list holds those of all
	// types.
	typedSeparator = "/"
)

var scopeKey = regexp.MustCompile(`^scopes\[(\d{1,3})\]\.(domain|entity_type|pick|entity|operation)$`)

// IsRowField reports whether a form field is one of a row of scopes.
func IsRowField(name string) bool { return scopeKey.MatchString(name) }

// decodeRows reads the rows of a submitted form, in order; gaps close.
func decodeRows(form url.Values, p *Problems) []ScopeRow {
	found := map[int]map[string]string{}
	for key, values := range form {
		m := scopeKey.FindStringSubmatch(key)
		if m == nil || len(values) == 0 {
			continue
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			continue
		}
		if found[n] == nil {
			found[n] = map[string]string{}
		}
		found[n][m[2]] = strings.TrimSpace(values[0])
	}
	var numbers []int
	for n := range found {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	rows := make([]ScopeRow, 0, len(numbers))
	for i, n := range numbers {
		in := found[n]
		row := ScopeRow{index: i, Scope: models.Scope{Domain: in["domain"], EntityType: in["entity_type"]}}
		switch pick := in["pick"]; pick {
		case pickTyped:
			row.Entity, row.typed = in["entity"], true
		default:
			row.Entity = pick
		}
		operation := in["operation"]
		if t, op, ok := strings.Cut(operation, typedSeparator); ok {
			operation = op
			if row.EntityType != "" && t != row.EntityType {
				// Without a script both lists are whole, and two choices can
				// contradict each other.
				p.Add(fmt.Sprintf("scopes[%d].operation", i), "belongs to another entity type; choose again")
				operation = ""
			}
		}
		row.Operation = operation
		rows = append(rows, row)
	}
	return rows
}

func rowsOf(scopes []models.Scope) []ScopeRow {
	rows := make([]ScopeRow, len(scopes))
	for i, s := range scopes {
		s.ID = ""
		rows[i] = ScopeRow{index: i, Scope: s}
	}
	return rows
}

// scopes returns what was chosen, unfinished rows too, which the core refuses in
// its own words.
func scopesOf(rows []ScopeRow) []models.Scope {
	out := make([]models.Scope, len(rows))
	for i, r := range rows {
		out[i] = r.Scope
	}
	return out
}

func (s ScopeRow) complete() bool {
	return s.Domain != "" && s.EntityType != "" && s.Entity != "" && s.Operation != ""
}

// finished returns the rows that say something.
func finished(rows []ScopeRow) []models.Scope {
	var out []models.Scope
	for _, r := range rows {
		if r.complete() {
			out = append(out, r.Scope)
		}
	}
	return out
}

// checkRows notes what is missing, in words that name the lists.
func checkRows(rows []ScopeRow, c Choices, p *Problems) {
	for i, r := range rows {
		at := fmt.Sprintf("scopes[%d].", i)
		for _, f := range [...]struct{ name, value, message string }{
			{"domain", r.Domain, "is not chosen yet"},
			{"entity_type", r.EntityType, "is not chosen yet"},
			{"entity", r.Entity, "is missing: choose “any”, or type an id"},
			{"operation", r.Operation, "is not chosen yet"},
		} {
			if f.value == "" && p.For(at+f.name) == "" {
				p.Add(at+f.name, f.message)
			}
		}
		if r.complete() && !c.permits(r.Domain, r.EntityType, r.Operation) {
			p.Add(at+"operation", "is not one that your role in this domain holds")
		}
	}
}

// note says how a row relates to the others, "" if it stands for itself.
func note(rows []ScopeRow, i int) string {
	if !rows[i].complete() {
		return ""
	}
	for j, other := range rows {
		if j == i || !other.complete() {
			continue
		}
		if other.Same(rows[i].Scope) {
			if j < i {
				return fmt.Sprintf("The same as scope %d.", j+1)
			}
			continue
		}
		if other.Covers(requestOf(rows[i].Scope)) {
			return fmt.Sprintf("Scope %d already covers this.", j+1)
		}
	}
	return ""
}

func requestOf(s models.Scope) models.Request {
	return models.Request{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation}
}

// rowView is a row with its lists, each narrowed by the choices before it.
type rowView struct {
	ScopeRow
	form ScopesForm
}

func (f ScopesForm) rowView(r ScopeRow) rowView { return rowView{ScopeRow: r, form: f} }

// Number counts from 1.
func (v rowView) Number() int { return v.index + 1 }

// Index counts from 0.
func (v rowView) Index() int { return v.index }

// Name is the name of one of the row's controls.
func (v rowView) Name(field string) string { return fmt.Sprintf("scopes[%d].%s", v.index, field) }

// ID is the id of one of the row's controls.
func (v rowView) ID(field string) string { return fieldID(v.Name(field)) }

// Problem is the error of one of the row's controls, or of the row for "".
func (v rowView) Problem(field string) string {
	if field == "" {
		return v.form.Problems.For(fmt.Sprintf("scopes[%d]", v.index))
	}
	return v.form.Problems.For(v.Name(field))
}

// Note says how the row relates to the others.
func (v rowView) Note() string { return note(v.form.Rows, v.index) }

// Single reports that the row is the only one there can be.
func (v rowView) Single() bool { return v.form.Single }

// Removable reports whether the row can go: the last one stays.
func (v rowView) Removable() bool { return len(v.form.Rows) > 1 }

// Domains are the choices of the first list.
func (v rowView) Domains() []Option {
	var out []Option
	known := v.Domain == "" || v.Domain == models.Any
	for _, d := range v.form.Choices.domains {
		out = append(out, Option{Value: d.id, Label: domainLabel(d), Selected: d.id == v.Domain})
		known = known || d.id == v.Domain
	}
	if len(out) > 1 || v.Domain == models.Any {
		out = append(out, Option{Value: models.Any, Label: "Every domain of mine", Selected: v.Domain == models.Any})
	}
	if !known { // kept, so that a refused form shows what was sent
		out = append(out, Option{Value: v.Domain, Label: v.Domain, Selected: true})
	}
	return out
}

func domainLabel(d domainChoice) string {
	if d.name == "" || strings.EqualFold(d.name, d.id) {
		return d.id
	}
	return d.name + " (" + d.id + ")"
}

// Types are the choices of the second list.
func (v rowView) Types() []Option {
	domain := v.Domain
	if domain == "" {
		domain = models.Any
	}
	var out []Option
	known := v.EntityType == ""
	for _, t := range v.form.Choices.types(domain) {
		out = append(out, Option{Value: t, Label: v.form.Choices.typeTitle(t), Selected: t == v.EntityType})
		known = known || t == v.EntityType
	}
	if !known {
		out = append(out, Option{Value: v.EntityType, Label: v.EntityType, Selected: true})
	}
	return out
}

// Entities are the choices of the third list: any, the catalog's suggestions, or
// one that is typed.
func (v rowView) Entities() []Option {
	c := v.form.Choices
	label := "Any"
	if v.EntityType != "" {
		label = "Any " + c.singular(v.EntityType)
	}
	if v.EntityType == itselfType {
		label = "The domain itself"
	}
	out := []Option{{Value: models.Any, Label: label, Selected: v.Entity == models.Any && !v.typed}}
	if v.EntityType == itselfType {
		if v.Entity != "" && v.Entity != models.Any {
			out = append(out, Option{Value: v.Entity, Label: v.Entity, Selected: true})
		}
		return out
	}
	for _, e := range c.catalog.EntityTypes[v.EntityType].Entities {
		out = append(out, Option{Value: e, Label: e, Selected: e == v.Entity && !v.typed})
	}
	return append(out, Option{Value: pickTyped, Label: "A certain one…", Selected: v.Typed()})
}

// Typed reports whether the entity is in the text field.
func (v rowView) Typed() bool {
	if v.typed {
		return true
	}
	return v.Entity != "" && v.Entity != models.Any && v.EntityType != itselfType &&
		!slices.Contains(v.form.Choices.catalog.EntityTypes[v.EntityType].Entities, v.Entity)
}

// TypedEntity is the content of the text field.
func (v rowView) TypedEntity() string {
	if v.Typed() {
		return v.Entity
	}
	return ""
}

// OptionGroup is a group of choices under a heading.
type OptionGroup struct {
	Label   string
	Options []Option
}

// Operations are the choices of the last list, in one group for each type of the
// second: a script leaves the group of the chosen type.
func (v rowView) Operations() []OptionGroup {
	c, domain := v.form.Choices, v.Domain
	if domain == "" {
		domain = models.Any
	}
	var out []OptionGroup
	known := v.EntityType == "" || v.Operation == ""
	choice := func(t, op string) Option {
		chosen := t == v.EntityType && op == v.Operation
		known = known || chosen
		return Option{Value: t + typedSeparator + op, Label: c.operationTitle(t, op), Selected: chosen}
	}
	for _, t := range c.types(domain) {
		group := OptionGroup{Label: c.typeTitle(t)}
		for _, op := range c.operations(domain, t) {
			group.Options = append(group.Options, choice(t, op))
		}
		out = append(out, group)
	}
	if !known { // kept, so that a refused form shows what was sent
		out = append(out, OptionGroup{Label: c.typeTitle(v.EntityType), Options: []Option{choice(v.EntityType, v.Operation)}})
	}
	return out
}

// Summary lists the permissions of the chosen scopes, each to be read after "can".
func (f ScopesForm) Summary() []string {
	var out []string
	for _, s := range finished(f.Rows) {
		if meaning := f.Choices.Meaning(s); !slices.Contains(out, meaning) {
			out = append(out, meaning)
		}
	}
	return out
}

// Warnings says what deserves a second look.
func (f ScopesForm) Warnings() []string { return warnings(finished(f.Rows)) }

// Presets are the offered presets.
func (f ScopesForm) Presets() []PresetLink { return f.Choices.Presets() }

// PresetDomains are the domains that a preset can be for.
func (f ScopesForm) PresetDomains() []Option {
	return rowView{ScopeRow: ScopeRow{Scope: models.Scope{Domain: f.PresetDomain}}, form: f}.Domains()
}

// Full reports that no further row is possible.
func (f ScopesForm) Full() bool { return len(f.Rows) >= f.Choices.limits.MaxScopes }

// data is the data of the script that narrows the lists.
type data struct {
	Types     map[string]typeData   `json:"types"`
	TypeOrder []string              `json:"typeOrder"`
	Domains   map[string]domainData `json:"domains"`
	MaxRows   int                   `json:"maxRows"`
	Itself    string                `json:"itself"`
	Warn      map[string]string     `json:"warn"`
}

type typeData struct {
	Title    string            `json:"title"`
	One      string            `json:"one"`
	Ops      map[string]string `json:"ops"`
	Entities []string          `json:"entities"`
}

type domainData struct {
	Ops     map[string][]string `json:"ops"`     // entity type → operations
	Presets map[string][]string `json:"presets"` // key → entity type/operation
}

// Data is the data of the script that narrows the lists.
func (f ScopesForm) Data() any {
	c := f.Choices
	d := data{
		Types: map[string]typeData{}, TypeOrder: append([]string{}, c.types(models.Any)...), Domains: map[string]domainData{},
		MaxRows: c.limits.MaxScopes, Itself: itselfType,
		Warn: map[string]string{"everywhere": warnEverywhere, "anyWrite": warnAnyWrite, "write": warnWrite},
	}
	for t := range c.catalog.EntityTypes {
		entities := c.catalog.EntityTypes[t].Entities
		if entities == nil {
			entities = []string{}
		}
		td := typeData{Title: c.typeTitle(t), One: c.singular(t), Ops: map[string]string{}, Entities: entities}
		for op := range c.catalog.EntityTypes[t].Operations {
			td.Ops[op] = c.operationTitle(t, op)
		}
		d.Types[t] = td
	}
	for _, id := range append(c.domainIDs(), models.Any) {
		dd := domainData{Ops: map[string][]string{}, Presets: map[string][]string{}}
		for _, t := range c.types(id) {
			dd.Ops[t] = c.operations(id, t)
		}
		for _, p := range presets {
			pairs := []string{}
			for _, s := range p.scopes(c, id) {
				pairs = append(pairs, s.EntityType+typedSeparator+s.Operation)
			}
			dd.Presets[p.Key] = pairs
		}
		d.Domains[id] = dd
	}
	return d
}

func (c Choices) domainIDs() []string {
	ids := make([]string, len(c.domains))
	for i, d := range c.domains {
		ids[i] = d.id
	}
	return ids
}
