package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Finding is one thing that is wrong with a bundle, and where.
type Finding struct {
	Stage Stage `json:"stage,omitempty"`
	// File is relative to the bundle, "" if it is about no file in particular. Line
	// and Column count from 1; 0 is unknown.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Code is for programs: one of OPA's (rego_parse_error, …) or of those in
	// check.go. Message is for people.
	Code    string `json:"code"`
	Message string `json:"message"`
}

// String renders the finding as editors and terminals know to open it:
// file:line:column: message.
func (f Finding) String() string {
	return place(f.File, f.Line, f.Column) + f.Message
}

func place(file string, line, column int) string {
	switch {
	case file == "":
		return ""
	case line == 0:
		return file + ": "
	case column == 0:
		return fmt.Sprintf("%s:%d: ", file, line)
	default:
		return fmt.Sprintf("%s:%d:%d: ", file, line, column)
	}
}

// located is an error at a place in a bundle.
type located struct {
	file         string
	line, column int // 0 if unknown
	err          error
}

func at(file string, err error) error { return &located{file: file, err: err} }

func atLocation(l *ast.Location, err error) error {
	if l == nil {
		return err
	}
	return &located{l.File, l.Row, l.Col, err}
}

func (e *located) Error() string { return place(e.file, e.line, e.column) + e.err.Error() }

func (e *located) Unwrap() error { return e.err }

// Findings takes an error of [Load], [Inspect] or [Format] apart into what is wrong
// and where. It does not know the stage.
func Findings(err error) []Finding {
	return tidy(findings("", codeUnreadable, err))
}

// findings takes an error of reading or compiling a bundle apart. code is what
// errors that have none of their own are called.
func findings(stage Stage, code string, err error) (found []Finding) {
	var joined interface{ Unwrap() []error }
	var place *located
	var many ast.Errors
	var one *ast.Error
	switch {
	case err == nil:
	case errors.As(err, &joined):
		for _, e := range joined.Unwrap() {
			found = append(found, findings(stage, code, e)...)
		}
	case errors.As(err, &many):
		for _, e := range many {
			found = append(found, findingOf(stage, e))
		}
	case errors.As(err, &one):
		found = append(found, findingOf(stage, one))
	case errors.As(err, &place):
		found = append(found, Finding{
			Stage: stage, File: place.file, Line: place.line, Column: place.column, Code: code, Message: place.err.Error(),
		})
	default:
		found = append(found, Finding{Stage: stage, Code: code, Message: err.Error()})
	}
	return found
}

// findingOf renders an error of OPA's compiler on one line.
func findingOf(stage Stage, e *ast.Error) Finding {
	f := Finding{Stage: stage, Code: e.Code, Message: e.Message}
	if e.Location != nil {
		f.File, f.Line, f.Column = e.Location.File, e.Location.Row, e.Location.Col
	}
	if _, excerpt := e.Details.(*ast.ParserErrorDetail); e.Details == nil || excerpt {
		return f // an excerpt of the source says no more than the place does
	}
	var details []string
	for _, line := range e.Details.Lines() {
		if line = strings.TrimSpace(line); line != "" && strings.Trim(line, "^") != "" {
			details = append(details, line)
		}
	}
	if len(details) > 0 {
		f.Message += " (" + strings.Join(details, "; ") + ")"
	}
	return f
}

// tidy sorts findings by place and leaves out those that another says in more words:
// OPA's parser tells the end of a file twice.
func tidy(found []Finding) []Finding {
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), -cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(found, func(later, earlier Finding) bool {
		return later.File == earlier.File && later.Line == earlier.Line && later.Column == earlier.Column &&
			strings.HasPrefix(earlier.Message, later.Message)
	})
}
