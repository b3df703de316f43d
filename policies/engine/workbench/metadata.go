package workbench

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"patrol/internal/metapolicies"
	"patrol/policies/engine"
)

// metaPolicy is the policy about policies, ready to be asked.
var metaPolicy = sync.OnceValues(func() (rego.PreparedEvalQuery, error) {
	return rego.New(
		rego.Query("findings = data.metapolicies.findings"),
		rego.Module("metapolicies.rego", metapolicies.Module),
		rego.SetRegoVersion(ast.RegoV1),
		rego.StrictBuiltinErrors(true),
	).PrepareForEval(context.Background())
})

// metadata runs the stage of that name.
func (c *check) metadata(ctx context.Context) error {
	c.ran[engine.StageMetadata] = true
	annotations, errs := ast.BuildAnnotationSet(slices.Collect(maps.Values(c.bundle.Modules)))
	if len(errs) > 0 {
		c.fail(engine.StageMetadata, codeCompile, errs)
		return nil
	}
	// OPA leaves the locations out of its own encoding unless a global option says so.
	type annotated struct {
		Path        ast.Ref          `json:"path"`
		Annotations *ast.Annotations `json:"annotations"`
		Location    *ast.Location    `json:"location"`
	}
	var described []annotated
	for _, a := range annotations.Flatten() {
		described = append(described, annotated{a.Path, a.Annotations, a.Location})
	}
	type rule struct {
		Path     string        `json:"path"`
		Location *ast.Location `json:"location"`
	}
	var rules []rule
	for _, m := range c.bundle.Modules {
		for _, r := range m.Rules {
			rules = append(rules, rule{r.Ref().GroundPrefix().String(), r.Location})
		}
	}
	input, err := json.Marshal(map[string]any{"annotations": described, "rules": rules})
	if err != nil {
		return fmt.Errorf("check metadata: %w", err)
	}
	var doc any
	if err := json.Unmarshal(input, &doc); err != nil {
		return fmt.Errorf("check metadata: %w", err)
	}
	query, err := metaPolicy()
	if err != nil {
		return fmt.Errorf("check metadata: %w", err)
	}
	results, err := query.Eval(ctx, rego.EvalInput(doc))
	if err != nil {
		return fmt.Errorf("check metadata: %w", err)
	}
	if len(results) != 1 {
		return fmt.Errorf("check metadata: %d answers", len(results))
	}
	answer, err := json.Marshal(results[0].Bindings["findings"])
	if err != nil {
		return fmt.Errorf("check metadata: %w", err)
	}
	var found []struct {
		Code, Message, File string
		Row, Col            int
	}
	if err := json.Unmarshal(answer, &found); err != nil {
		return fmt.Errorf("check metadata: %w", err)
	}
	all := make([]engine.Finding, len(found))
	for i, f := range found {
		all[i] = engine.Finding{Stage: engine.StageMetadata, File: f.File, Line: f.Row, Column: f.Col, Code: f.Code, Message: f.Message}
	}
	c.failed[engine.StageMetadata] = len(all) > 0
	c.report.Findings = append(c.report.Findings, engine.TidyFindings(all)...)
	return nil
}
