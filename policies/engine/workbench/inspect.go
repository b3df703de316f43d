package workbench

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/version"

	"patrol/models"
	"patrol/policies/engine"
)

// Inspection describes a bundle without evaluating it.
type Inspection struct {
	Policy   string `json:"policy"`
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
	OPA      string `json:"opa_version"`

	// Waives are the reasons that the manifest waives, where servers let it.
	Waives []models.ReasonCode `json:"waives,omitempty"`

	Files   []FileInfo     `json:"files"`
	Rules   []RuleInfo     `json:"rules"`
	Catalog models.Catalog `json:"catalog"`
	Routes  int            `json:"routes"`
	// RouteTable is sorted by path and method.
	RouteTable []engine.RouteInfo `json:"route_table"`
}

// FileInfo is a file of a bundle.
type FileInfo struct {
	Name string `json:"name"`
	Size int    `json:"size"` // bytes
	Test bool   `json:"test,omitempty"`
}

// RuleInfo is a rule or a package, with what its metadata say.
type RuleInfo struct {
	Path        string `json:"path"`  // data.patrol.authz.decision
	Scope       string `json:"scope"` // rule, document, package or subpackages
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Entrypoint  bool   `json:"entrypoint,omitempty"`
	// Code and Message are of a rule that gives a reason.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	// Text is the rule as it is written; of a package nothing.
	Text string `json:"-"`
}

// Inspect reads a bundle and says what is in it. A bundle that cannot be read, or
// whose data are not as they must be, is an error.
func Inspect(ctx context.Context, src engine.Source) (*Inspection, error) {
	fail := func(err error) (*Inspection, error) { return nil, fmt.Errorf("policy %s: %w", src.Name, err) }
	b, err := src.Parse()
	if err != nil {
		return fail(err)
	}
	in := &Inspection{Policy: src.Name, Revision: b.Revision, Digest: src.Digest(), OPA: version.Version, Rules: []RuleInfo{}}
	if in.Catalog, err = engine.CheckData(ctx, b); err != nil {
		return fail(err)
	}
	in.Waives, _ = engine.ReadWaivers(b.Waivers)
	if in.RouteTable, err = engine.RoutesOf(b.Data); err != nil {
		return fail(err)
	}
	in.Routes = len(in.RouteTable)
	for _, name := range slices.Sorted(maps.Keys(src.Files)) {
		if engine.IsPolicyFile(name) || engine.IsTestFile(name) {
			in.Files = append(in.Files, FileInfo{name, len(src.Files[name]), engine.IsTestFile(name)})
		}
	}
	annotations, errs := ast.BuildAnnotationSet(slices.Collect(maps.Values(b.Modules)))
	if len(errs) > 0 {
		return fail(errs)
	}
	for _, a := range annotations.Flatten() {
		text := func(key string) string { s, _ := a.Annotations.Custom[key].(string); return s }
		r := RuleInfo{
			Path: a.Path.String(), Scope: a.Annotations.Scope, Title: a.Annotations.Title,
			Description: strings.TrimSpace(a.Annotations.Description), Entrypoint: a.Annotations.Entrypoint,
			Code: text("code"), Message: text("message"),
		}
		if a.Location != nil {
			r.File, r.Line = a.Location.File, a.Location.Row
		}
		if rule := a.GetRule(); rule != nil && rule.Location != nil {
			r.Text = string(rule.Location.Text)
		}
		in.Rules = append(in.Rules, r)
	}
	slices.SortStableFunc(in.Rules, func(a, b RuleInfo) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return in, nil
}

// Format brings a module into the form that `opa fmt` gives it. Name is for errors.
func Format(name string, content []byte) ([]byte, error) {
	formatted, err := format.SourceWithOpts(name, bytes.Clone(content), format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, err
	}
	return formatted, nil
}
