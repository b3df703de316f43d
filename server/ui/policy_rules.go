package ui

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// Rules is the page that shows what a policy says: who may do what, why requests are
// denied, every rule, and what proxied requests stand for.
type Rules struct {
	Revision string
	Waives   []models.ReasonCode // by the manifest, where servers let it
	Roles    []string
	Types    []TypeRights
	Codes    []DenialCode
	Packages []RulePackage
	Routes   []engine.RouteInfo
}

// Title implements [Page].
func (Rules) Title() string    { return "Rules" }
func (Rules) template() string { return "policy-rules" }
func (Rules) section() section { return policyRules }
func (Rules) top() bool        { return true }

// TypeRights says who may do what with entities of one type.
type TypeRights struct {
	Name, Title, Description string
	Entities                 []string // suggestions
	Operations               []OperationRights
}

// OperationRights says who may do one thing.
type OperationRights struct {
	Name, Title, Description string
	Permits                  []bool // by role, as listed; the last one is the platform admin
}

// DenialCode is a reason for which requests are denied.
type DenialCode struct {
	models.Reason
	Status int
	Rule   *Rule // nil: Patrol itself gives it
}

// RulePackage are the rules of one file.
type RulePackage struct {
	File, Path, Title string // Path is "" if its package has no metadata here
	Description       []Paragraph
	Rules             []Rule
}

// Rule is a rule as the page shows it.
type Rule struct {
	Name, Title, Place string
	Description        []Paragraph
	Entrypoint         bool
	Code               string
	Lines              []SourceLine
	number             int // among all of the page
}

// ID is the anchor of the rule.
func (r Rule) ID() string { return "rule-" + strconv.Itoa(r.number) }

// SourceLine is a line of a file.
type SourceLine struct {
	Number int
	Text   string
	// Mark says whether the line held when it ran; "" if it did not run, or if
	// nothing was run.
	Mark LineMark
}

// LineMark is the outcome of a line that ran.
type LineMark string

// The outcomes of lines.
const (
	LineHeld   LineMark = "held"
	LineFailed LineMark = "failed"
)

// sourceLines numbers the lines of a piece of a file that begins at line first.
func sourceLines(text string, first int) (lines []SourceLine) {
	for line := range strings.Lines(text) {
		lines = append(lines, SourceLine{Number: first + len(lines), Text: strings.TrimRight(line, "\r\n")})
	}
	return lines
}

// NewRules is the page of a policy.
func NewRules(in *workbench.Inspection) Rules {
	page := Rules{Revision: in.Revision, Waives: in.Waives, Roles: slices.Sorted(maps.Keys(in.Catalog.Roles)), Routes: in.RouteTable}
	for _, name := range slices.Sorted(maps.Keys(in.Catalog.EntityTypes)) {
		page.Types = append(page.Types, typeRights(in.Catalog, name, page.Roles))
	}
	for i, r := range in.Rules {
		last := len(page.Packages) - 1
		if last < 0 || page.Packages[last].File != r.File { // a file is a package, or a part of one
			page.Packages = append(page.Packages, RulePackage{File: r.File, Title: r.File})
			last++
		}
		if r.Scope == "package" || r.Scope == "subpackages" {
			of := &page.Packages[last]
			of.Path, of.Title, of.Description = r.Path, cmp.Or(r.Title, r.Path), paragraphs(r.Description)
			continue
		}
		rule := Rule{
			Name: strings.TrimPrefix(r.Path, "data.patrol."), Title: cmp.Or(r.Title, r.Path), Place: placeOf(r.File, r.Line, 0),
			Description: paragraphs(r.Description), Entrypoint: r.Entrypoint, Code: r.Code, Lines: sourceLines(r.Text, r.Line), number: i,
		}
		page.Packages[last].Rules = append(page.Packages[last].Rules, rule)
		if r.Code != "" {
			code := models.ReasonCode(r.Code)
			page.Codes = append(page.Codes, DenialCode{Reason: models.Reason{Code: code, Message: r.Message}, Status: code.Status(), Rule: &rule})
		}
	}
	for _, own := range models.OwnReasons() {
		if !slices.ContainsFunc(page.Codes, func(c DenialCode) bool { return c.Code == own.Code }) {
			page.Codes = append(page.Codes, DenialCode{Reason: own, Status: own.Code.Status()})
		}
	}
	slices.SortStableFunc(page.Codes, func(a, b DenialCode) int { return cmp.Compare(a.Code, b.Code) })
	return page
}

func typeRights(c models.Catalog, name string, roles []string) TypeRights {
	t := c.EntityTypes[name]
	out := TypeRights{Name: name, Title: t.Title, Description: t.Description, Entities: t.Entities}
	for _, operation := range slices.Sorted(maps.Keys(t.Operations)) {
		o := OperationRights{Name: operation, Title: t.Operations[operation].Title, Description: t.Operations[operation].Description}
		for _, role := range roles {
			o.Permits = append(o.Permits, c.Roles[role].Permits(name, operation))
		}
		o.Permits = append(o.Permits, true)
		out.Operations = append(out.Operations, o)
	}
	return out
}

// Columns are the headings of who may: the roles, then the platform admin.
func (r Rules) Columns() []string { return append(slices.Clone(r.Roles), "platform admin") }

// Label is the heading of one of the columns.
func (r Rules) Label(i int) string { return r.Columns()[i] }

// EntityOf says in words where a route finds its entity.
func (Rules) EntityOf(path string, e engine.RouteEntity) string {
	switch {
	case e.Name != "":
		return e.Name
	case e.Path > 0:
		if strings.Count(strings.ReplaceAll(path, "**", "*"), "*") > 1 {
			return "star " + strconv.Itoa(e.Path) + " of the path"
		}
		return "the star of the path"
	case e.Query != "":
		return "the query’s " + e.Query
	case len(e.JSON) > 0 && len(e.Each) > 0:
		return "the body’s " + strings.Join(e.JSON, " or ") + ", and each of " + strings.Join(e.Each, ", ")
	case len(e.JSON) > 0:
		return "the body’s " + strings.Join(e.JSON, " or ")
	case len(e.Each) > 0:
		return "each of the body’s " + strings.Join(e.Each, ", ")
	case len(e.Multipart) > 0:
		return "the form’s " + strings.Join(e.Multipart, " or ")
	default:
		return models.Any
	}
}

// Any lists the names of which one is enough.
func (Rules) Any(names []string) string { return strings.Join(names, " or ") }

// Paragraph is a piece of running text, with pieces of code in it.
type Paragraph []Span

// Span is text, or code.
type Span struct {
	Text string
	Code bool
}

// paragraphs reads text as people write it into metadata: paragraphs with an empty
// line between them, lists with a hyphen before each entry, code between backticks.
func paragraphs(text string) (out []Paragraph) {
	var gathered []string
	end := func() {
		if len(gathered) == 0 {
			return
		}
		var p Paragraph
		for i, part := range strings.Split(strings.Join(gathered, " "), "`") {
			if part != "" {
				p = append(p, Span{Text: part, Code: i%2 == 1})
			}
		}
		out, gathered = append(out, p), nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "- ") {
			end()
		}
		if line != "" {
			gathered = append(gathered, line)
		}
	}
	end()
	return out
}
