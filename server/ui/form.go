package ui

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patrol/models"
)

// Problems lists the errors of a form, to be shown above it and at its
// fields. The zero value says that nothing was.
type Problems struct {
	General string // about the form as a whole
	Fields  []Problem
}

// Problem is one thing that is wrong, in a sentence.
type Problem struct {
	Field string // as in [models.FieldError]
	Text  string
}

// Any reports whether something was wrong.
func (p Problems) Any() bool { return p.General != "" || len(p.Fields) > 0 }

// For returns the sentence about a field, "" if it is fine.
func (p Problems) For(field string) string {
	for _, f := range p.Fields {
		if f.Field == field {
			return f.Text
		}
	}
	return ""
}

// Add notes a problem of a field, in words that follow its label.
func (p *Problems) Add(field, message string) {
	if m := addressField.FindStringSubmatch(field); m != nil { // of the lines of one control
		p.Fields = append(p.Fields, Problem{Field: m[1], Text: sentence(lineOf(field), addressField.ReplaceAllStringFunc(message, lineOf))})
		return
	}
	p.Fields = append(p.Fields, Problem{Field: field, Text: sentence(labelOf(field), message)})
}

// ProblemsOf puts an error that the user can do something about into words. It
// returns false for any other.
func ProblemsOf(err error) (Problems, bool) {
	e, ok := errors.AsType[*models.Error](err)
	if !ok {
		return Problems{}, false
	}
	var p Problems
	switch e.Code {
	case models.CodeInvalid:
		for _, f := range e.Fields {
			p.Add(f.Field, f.Message)
		}
	case models.CodeConflict, models.CodeTaken, models.CodeAlreadyRotated, models.CodeLastScope, models.CodeTokenAlive,
		models.CodeLimitReached, models.CodeBadCredentials, models.CodeForbidden, models.CodeMalformed:
		p.General = sentence("", e.Message)
	case models.CodeRateLimited:
		p.General = sentence("", e.Message)
		if e.RetryAfter > 0 {
			p.General = fmt.Sprintf("Too many failed attempts. Wait %s before the next.", plural(e.RetryAfter, "second", "seconds"))
		}
	default:
		return Problems{}, false
	}
	return p, true
}

// ticked reads a checkbox. Its form sends a 0 along, so that a box that was not
// ticked can be told from one that is not in the form, which must change nothing.
func ticked(form url.Values, name string, p *Problems) bool {
	if !form.Has(name) {
		p.Add(name, "is missing from the form")
	}
	return slices.Contains(form[name], "1")
}

// labels name fields in sentences. Fields that are not here are named after
// themselves.
var labels = map[string]string{
	"expires_in": "Duration", "expires_at": "Duration", "id": "Identifier", "current": "Current password",
	"repeat": "Repeated password", "confirm_password": "Your password", "code": "Setup code", "entity_type": "Entity type", "user": "User",
	"allowed_ips": "Addresses it works from",
}

var scopeField = regexp.MustCompile(`^scopes\[(\d+)\](?:\.(.+))?$`)

// addressField matches one of the addresses that a token may be used from.
var addressField = regexp.MustCompile(`(allowed_ips)\[(\d+)\]`)

// lineOf is the line of such an address in the control.
func lineOf(field string) string {
	m := addressField.FindStringSubmatch(field)
	n, err := strconv.Atoi(m[2])
	if err != nil {
		return "A line"
	}
	return fmt.Sprintf("Line %d of the addresses", n+1)
}

func labelOf(field string) string {
	if m := scopeField.FindStringSubmatch(field); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return "Scopes"
		}
		label := fmt.Sprintf("Scope %d", n+1)
		if m[2] != "" {
			label += ", " + lowerFirst(labelOf(m[2]))
		}
		return label
	}
	if label, ok := labels[field]; ok {
		return label
	}
	return upperFirst(strings.ReplaceAll(field, "_", " "))
}

// sentence joins a label and a message of the core, which begins with a verb if
// it is about the label.
func sentence(label, message string) string {
	message = scopeIndex.ReplaceAllStringFunc(message, func(s string) string { return lowerFirst(labelOf(s)) })
	text := upperFirst(message)
	if label != "" {
		verb, _, _ := strings.Cut(message, " ")
		switch verb {
		case "is", "has", "must", "are", "belongs", "needs":
			text = label + " " + message
		default:
			text = label + ": " + message
		}
	}
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

var scopeIndex = regexp.MustCompile(`scopes\[\d+\]`)

func upperFirst(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func lowerFirst(s string) string {
	if s == "" || len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' { // an abbreviation
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// fieldID is the id of the control for a field, the target of links in error
// summaries. A scope as a whole is its row.
func fieldID(field string) string {
	switch field {
	case "expires_in", "expires_at":
		return "f-duration"
	}
	return "f-" + strings.Trim(notID.ReplaceAllString(field, "-"), "-")
}

var notID = regexp.MustCompile(`[^A-Za-z0-9]+`)

// Field is one control of a plain form.
type Field struct {
	Name, Label  string
	Kind         FieldKind
	Value        string
	Hint         string
	Required     bool
	Autocomplete string
	MaxLength    int
	Options      []Option // of a select
	Checked      bool     // a checkbox
	Mono         bool     // shown in a fixed-width face: ids and tokens
	Focus        bool     // where to begin
}

// FieldKind is the sort of control.
type FieldKind string

// The kinds of controls.
const (
	TextField     FieldKind = "text"
	EmailField    FieldKind = "email"
	PasswordField FieldKind = "password"
	DateField     FieldKind = "date"
	TimeField     FieldKind = "datetime-local"
	AreaField     FieldKind = "textarea"
	SelectField   FieldKind = "select"
	CheckField    FieldKind = "checkbox"
)

// Option is one choice of a select.
type Option struct {
	Value, Label string
	Selected     bool
}

// fieldView is a field with what is wrong with it.
type fieldView struct {
	Field
	Problem string
}

// ID is the id of the control.
func (f fieldView) ID() string { return fieldID(f.Name) }

// DescribedBy lists the ids of hint and problem, as aria-describedby takes them.
func (f fieldView) DescribedBy() string {
	var ids []string
	if f.Hint != "" {
		ids = append(ids, f.ID()+"-hint")
	}
	if f.Problem != "" {
		ids = append(ids, f.ID()+"-problem")
	}
	return strings.Join(ids, " ")
}
