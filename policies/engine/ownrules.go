package engine

import (
	"cmp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// CustomPackage is the package of a team's own rules.
var CustomPackage = ast.MustParseRef("data.patrol.custom")

// OwnRule is a rule of a team's own that makes exceptions or gives labels.
type OwnRule struct {
	Title string `json:"title,omitempty"`
	File  string `json:"file"` // data.patrol.custom, if data are what gives them
	Line  int    `json:"line,omitempty"`
}

// labelsRef is the rule by which a policy gives labels.
var labelsRef = CustomPackage.Append(ast.StringTerm("labels"))

// Exceptions are the rules that make exceptions, in the order of files and lines.
func (s *Snapshot) Exceptions() []OwnRule { return s.ownRules(ExceptionsRef) }

// LabelRules are the rules that give labels, likewise.
func (s *Snapshot) LabelRules() []OwnRule { return s.ownRules(labelsRef) }

func (s *Snapshot) ownRules(ref ast.Ref) (found []OwnRule) {
	for _, r := range s.compiler.GetRules(ref) {
		for ; r != nil; r = r.Else {
			if r.Location == nil {
				continue
			}
			one := OwnRule{File: r.Location.File, Line: r.Location.Row}
			for _, a := range r.Annotations {
				one.Title = plain(cmp.Or(one.Title, a.Title), MaxMessage)
			}
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b OwnRule) int { return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	if _, err := s.documents.data.Find(ref[1:]); err == nil {
		found = append(found, OwnRule{File: CustomPackage.String()})
	}
	return found
}

// Departures lists a policy's allowances in spite of a reason to deny, and their cause: what it waives
// together with the server, and where it makes exceptions. Labels are where it gives labels.
type Departures struct {
	Waives     []models.ReasonCode `json:"waives,omitempty"`
	Exceptions []OwnRule           `json:"exceptions,omitempty"`
	Labels     []OwnRule           `json:"labels,omitempty"`
}

// Departures returns the policy's.
func (s *Snapshot) Departures() Departures {
	return Departures{Waives: s.Waives(), Exceptions: s.Exceptions(), Labels: s.LabelRules()}
}

// AnnotationOf returns the metadata of the rule that declares a reason.
func (s *Snapshot) AnnotationOf(code string) *ast.AnnotationsRef {
	for _, a := range s.compiler.GetAnnotationSet().Flatten() {
		if a.Annotations.Custom["code"] == code && a.Location != nil {
			return a
		}
	}
	return nil
}
