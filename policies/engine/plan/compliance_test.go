package plan_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"
	"github.com/stretchr/testify/require"

	"patrol/policies/engine/plan"
)

// unlike are the cases of OPA's suite that a plan answers otherwise than topdown, with
// the reason. Whatever is refused or an error is asked of topdown and so not wrong.
var unlike = map[string]string{
	"jwtdecodeverify/rs256-exp-now-expired":          "the clock of evaluations stands still",
	"jwtdecodeverify/rs256-exp-now-explicit-expired": "the clock of evaluations stands still",
	"jwtdecodeverify/rs256-nbf-now-ok":               "the clock of evaluations stands still",
}

// TestCompliance runs OPA's own suite. A case may be refused or fail where topdown has
// an answer, but must not answer otherwise.
func TestCompliance(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa/v1/test/cases").Output()
	require.NoError(t, err)
	counts := map[string]int{}
	for _, tc := range cases.MustLoad(filepath.Join(strings.TrimSpace(string(dir)), "testdata", "v1")).Sorted().Cases {
		t.Run(tc.Note, func(t *testing.T) {
			outcome, detail := comply(t, tc)
			counts[outcome]++
			if reason := unlike[tc.Note]; reason != "" {
				require.Equal(t, "wrong", outcome, "this case is as topdown has it: %s", reason)
				return
			}
			why, listed := leftToTopdown[strings.TrimPrefix(t.Name(), "TestCompliance/")]
			switch {
			case outcome == "wrong":
				t.Errorf("%s", detail)
			case outcome == "same" && listed:
				t.Errorf("this case passes, and need not be listed any more: %s", why)
			case outcome != "same" && !listed:
				t.Errorf("this case is left to topdown and not listed with a reason: %s: %s", outcome, detail)
			}
		})
	}
	t.Logf("%v", counts)
}

func comply(t *testing.T, tc cases.TestCase) (outcome, detail string) {
	for k, v := range tc.Env {
		t.Setenv(k, v)
	}
	ctx := context.Background()
	capabilities := ast.CapabilitiesForThisVersion(ast.CapabilitiesExperimentalKeywords(tc.ExperimentalKeywords))
	opts := []func(*rego.Rego){rego.Query(tc.Query), rego.SetRegoVersion(ast.RegoV1), rego.Capabilities(capabilities)}
	for i, m := range tc.Modules {
		opts = append(opts, rego.Module("test-"+string(rune('a'+i))+".rego", m))
	}
	data := ast.NewTerm(ast.NewObject())
	if tc.Data != nil {
		data = ast.NewTerm(ast.MustInterfaceToValue(*tc.Data))
	}
	var input *ast.Term
	if tc.InputTerm != nil {
		input = ast.MustParseTerm(*tc.InputTerm)
	} else if tc.Input != nil {
		input = ast.NewTerm(ast.MustInterfaceToValue(*tc.Input))
	}
	policy, err := plan.PlanQuery(ctx, opts...)
	if err != nil {
		return "unplanned", err.Error()
	}
	program, err := plan.Compile(policy, plan.Config{Data: data})
	if err != nil {
		return "refused", err.Error()
	}
	got, err := program.Eval(ctx, plan.Input{Document: input}, topdown.NewCancel())
	switch wantsError := tc.WantError != nil || tc.WantErrorCode != nil; {
	case err != nil && wantsError:
		return "same", ""
	case err != nil:
		return "failed", err.Error()
	case wantsError:
		return "wrong", "there is no error, but " + got.String()
	}
	want := ast.NewSet()
	for _, b := range *tc.WantResult {
		obj := ast.NewObject()
		for k, v := range b {
			obj.Insert(ast.StringTerm(k), ast.NewTerm(ast.MustInterfaceToValue(v)))
		}
		want.Add(ast.NewTerm(obj))
	}
	have := ast.NewSet()
	got.(ast.Set).Foreach(func(row *ast.Term) {
		obj := ast.NewObject()
		row.Value.(ast.Object).Foreach(func(k, v *ast.Term) {
			name := string(k.Value.(ast.String))
			x, err := ast.JSON(v.Value)
			require.NoError(t, err)
			if list, ok := x.([]any); ok && tc.SortBindings {
				slices.SortFunc(list, util.Compare)
			}
			if !strings.HasPrefix(name, "__") {
				obj.Insert(k, ast.NewTerm(ast.MustInterfaceToValue(x)))
			}
		})
		have.Add(ast.NewTerm(obj))
	})
	if want.Compare(have) != 0 {
		return "wrong", "want " + want.String() + ", got " + have.String()
	}
	return "same", ""
}
