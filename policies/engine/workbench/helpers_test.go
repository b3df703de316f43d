package workbench_test

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/enginetest"
	"patrol/policies/engine/workbench"
)

// Short names that the tests of policies share.
var (
	bundle   = enginetest.Bundle
	load     = enginetest.Load
	edited   = enginetest.Edited
	generate = enginetest.Generate
)

func found(r *workbench.Report) (lines []string) {
	for _, f := range r.Findings {
		lines = append(lines, fmt.Sprintf("%s %s %s", f.Stage, f.Code, f))
	}
	return lines
}

// judge judges a whole input document, which need not be one that the server can make.
func judge(ctx context.Context, s *engine.Snapshot, input any) (models.Decision, error) {
	v, err := ast.InterfaceToValue(input)
	if err != nil {
		return models.Decision{}, err
	}
	return s.DecideInput(ctx, ast.NewTerm(v))
}
