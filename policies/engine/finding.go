package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Stage is one part of a check. A bundle passes when it passes all of them.
type Stage string

// The stages of a check, in their order.
const (
	StageRead        Stage = "read"        // files, manifest, roots
	StageData        Stage = "data"        // catalog, roles and routes against their schemas and each other
	StageCompile     Stage = "compile"     // strictly, under the enforced capabilities and schemas
	StageEntrypoints Stage = "entrypoints" // the documents that the server asks for
	StageRules       Stage = "rules"       // each can do what it says, and none fails on what callers send
	StageMetadata    Stage = "metadata"    // titles, reason codes, entrypoints, as package metapolicies wants them
	StageTests       Stage = "tests"       // the bundle's own exist, pass, and notice if the decision is wrong
	StageCoverage    Stage = "coverage"    // enough of the policy is run by them
	StageSafety      Stage = "safety"      // what no policy may allow, see workbench.SafetyCases
)

// Stages are all stages in their order.
var Stages = []Stage{StageRead, StageData, StageCompile, StageEntrypoints, StageRules, StageMetadata, StageTests, StageCoverage, StageSafety}

// Unreadable is the code of a finding about a file that cannot be read, or may not be there.
const Unreadable = "unreadable"

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

// LocatedError is an error at a place in a bundle.
type LocatedError struct {
	File         string
	Line, Column int // 0 if unknown
	Err          error
}

func at(file string, err error) error { return &LocatedError{File: file, Err: err} }

// AtLocation returns err with a place in a module.
func AtLocation(l *ast.Location, err error) error {
	if l == nil {
		return err
	}
	return &LocatedError{l.File, l.Row, l.Col, err}
}

func (e *LocatedError) Error() string { return place(e.File, e.Line, e.Column) + e.Err.Error() }

func (e *LocatedError) Unwrap() error { return e.Err }

// Findings takes an error of [Load], [Inspect] or [Format] apart into what is wrong
// and where. It does not know the stage.
func Findings(err error) []Finding {
	return TidyFindings(FindingsOf("", Unreadable, err))
}

// FindingsOf splits an error of reading or compiling a bundle into findings. The code is for
// errors without one.
func FindingsOf(stage Stage, code string, err error) (found []Finding) {
	var joined interface{ Unwrap() []error }
	var place *LocatedError
	var many ast.Errors
	var one *ast.Error
	switch {
	case err == nil:
	case errors.As(err, &joined):
		for _, e := range joined.Unwrap() {
			found = append(found, FindingsOf(stage, code, e)...)
		}
	case errors.As(err, &many):
		for _, e := range many {
			found = append(found, findingOf(stage, e))
		}
	case errors.As(err, &one):
		found = append(found, findingOf(stage, one))
	case errors.As(err, &place):
		found = append(found, Finding{
			Stage: stage, File: place.File, Line: place.Line, Column: place.Column, Code: code, Message: place.Err.Error(),
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

// TidyFindings sorts findings by place and leaves out those that another says in more words:
// OPA's parser tells the end of a file twice.
func TidyFindings(found []Finding) []Finding {
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), -cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(found, func(later, earlier Finding) bool {
		return later.File == earlier.File && later.Line == earlier.Line && later.Column == earlier.Column &&
			strings.HasPrefix(earlier.Message, later.Message)
	})
}
