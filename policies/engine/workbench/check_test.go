//go:build !race

package workbench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

func check(t testing.TB, replaced map[string]string, opts workbench.CheckOptions) *workbench.Report {
	t.Helper()
	opts.Options = append(opts.Options, engine.WithTimeout(10*time.Second))
	r, err := workbench.Check(t.Context(), bundle(t, replaced), opts)
	require.NoError(t, err)
	return r
}

// instead takes the tests of the default bundle away and puts files in.
func instead(t testing.TB, files map[string]string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for name := range bundle(t, nil).Files {
		if engine.IsTestFile(name) {
			all[name] = ""
		}
	}
	maps.Copy(all, files)
	return all
}

func outcomes(r *workbench.Report) map[engine.Stage]workbench.Outcome {
	byStage := map[engine.Stage]workbench.Outcome{}
	for _, s := range r.Stages {
		byStage[s.Stage] = s.Outcome
	}
	return byStage
}

func TestCheckPassesTheDefaultPolicy(t *testing.T) {
	r := check(t, nil, workbench.CheckOptions{MinCoverage: 100})
	assert.Empty(t, found(r))
	assert.Empty(t, r.Warnings)
	assert.True(t, r.Passed)
	require.NoError(t, r.Err())
	for stage, outcome := range outcomes(r) {
		assert.Equal(t, workbench.Passed, outcome, stage)
	}
	assert.Greater(t, r.Tests.Passed, 200)
	assert.Len(t, r.Tests.Tests, r.Tests.Passed)
	assert.InDelta(t, 100, r.Coverage.Percent, 0)
	assert.Len(t, r.Safety, len(workbench.SafetyCases()))
	for _, s := range r.Safety {
		assert.Equal(t, workbench.Passed, s.Outcome, s.Name)
		assert.Positive(t, s.Tried, s.Name)
		assert.Nil(t, s.Example, s.Name)
	}
	assert.Equal(t, r.Digest, r.Revision)

	content, err := json.Marshal(r)
	require.NoError(t, err)
	var again workbench.Report
	require.NoError(t, json.Unmarshal(content, &again))
	repeated, err := json.Marshal(again)
	require.NoError(t, err)
	assert.JSONEq(t, string(content), string(repeated))
}

// TestCheckRefuses holds that each way to be wrong is found at its stage and place,
// and told in words. A want is `stage code message`, the message with its place.
func TestCheckRefuses(t *testing.T) {
	const authz, tests = "authz/authz.rego", "authz/authz_test.rego"
	extra := func(rego string) map[string]string {
		return map[string]string{"x/x.rego": "package patrol.x\n\n" + rego}
	}
	for name, c := range map[string]struct {
		files map[string]string
		opts  workbench.CheckOptions
		want  []string // each is in a finding of its own, and there are no others
	}{
		"no manifest":   {map[string]string{".manifest": ""}, workbench.CheckOptions{}, []string{"read unreadable .manifest: the bundle has none"}},
		"foreign roots": {map[string]string{".manifest": `{"roots": ["patrol", "system"]}`}, workbench.CheckOptions{}, []string{"read unreadable .manifest: roots must be"}},
		"syntax, in two files": {
			map[string]string{"x/x.rego": "package patrol.x\n\np := ", "y/y.rego": "package patrol.y\n\nq if {"},
			workbench.CheckOptions{},
			[]string{"read rego_parse_error x/x.rego:3:", "read rego_parse_error y/y.rego:3:"},
		},
		"outside of the root": {map[string]string{"x/x.rego": "package other"}, workbench.CheckOptions{}, []string{"read unreadable x/x.rego:1:1: package other is outside of patrol"}},
		"a delta bundle":      {map[string]string{"patch.json": "{}"}, workbench.CheckOptions{}, []string{"read unreadable patch.json: bundles with such files"}},
		"data and rules, both at once": {
			map[string]string{"patrol/roles/data.yaml": "viewer: {models: {fly: true}}", "x/x.rego": "package patrol.x\n\np := q"},
			workbench.CheckOptions{},
			[]string{"data data_invalid ", "compile rego_unsafe_var_error x/x.rego:3:6: var q is unsafe"},
		},
		"a misspelt fact":  {extra("# METADATA\n# schemas:\n# - input: schema.authz_input\np if input.domian"), workbench.CheckOptions{}, []string{"compile rego_type_error x/x.rego:6:6: undefined ref: input.domian"}},
		"an unused import": {extra("import data.patrol.roles\n\np := 1"), workbench.CheckOptions{}, []string{"compile rego_compile_error x/x.rego:3:1: import data.patrol.roles unused"}},
		"recursion":        {extra("p if q\n\nq if p"), workbench.CheckOptions{}, []string{"compile rego_recursion_error x/x.rego:3", "compile rego_recursion_error x/x.rego:5"}},
		"http.send":        {extra(`p := http.send({"method": "GET", "url": "http://127.0.0.1"})`), workbench.CheckOptions{}, []string{"compile rego_type_error x/x.rego:3:6: undefined function http.send"}},
		"print":            {extra("p if print(input.token)"), workbench.CheckOptions{}, []string{"compile print_call x/x.rego:3:6: policies do not print"}},
		"no decision": {
			edited(t, authz, "\ndecision :=", "\nverdict :="),
			workbench.CheckOptions{},
			[]string{"entrypoints entrypoint_invalid it defines no data.patrol.authz.decision"},
		},
		"a built-in that fails on nothing": {
			edited(t, authz, "answer := {\"allow\": true", "answer := {\"allow\": false, \"reasons\": to_number(\"x\")} if input.now == 0 else := {\"allow\": true"),
			workbench.CheckOptions{},
			[]string{"entrypoints entrypoint_invalid it does not deny a request about which nothing is known"},
		},
		"allows nothing known": {
			edited(t, authz, "answer := {\"allow\": true", "answer := {\"allow\": true, \"reasons\": []} if not input.user else := {\"allow\": true"),
			workbench.CheckOptions{},
			[]string{"entrypoints entrypoint_invalid it allows a request about which nothing is known"},
		},
		"no tests": {
			instead(t, nil),
			workbench.CheckOptions{},
			[]string{"tests tests_missing the bundle has no tests"},
		},
		"a test that fails, and one that is skipped": {
			map[string]string{"x/x_test.rego": "package patrol.x_test\n\ntest_sum if {\n\tx := 1\n\tx + 1 == 3\n}\n\ntodo_test_later if false"},
			workbench.CheckOptions{},
			[]string{"tests test_failed x/x_test.rego:5:2: test_sum: does not hold: x + 1 == 3"},
		},
		"a case of a table that fails": {
			map[string]string{"x/x_test.rego": "package patrol.x_test\n\ntest_sum[note] if {\n\tsome note, case in {\"one\": 1, \"two\": 2}\n\tcase == 1\n}"},
			workbench.CheckOptions{},
			[]string{"tests test_failed x/x_test.rego:5:2: test_sum[two]: does not hold: case == 1"},
		},
		"a test in which a built-in fails": {
			map[string]string{"x/x_test.rego": "package patrol.x_test\n\ntest_x if {\n\tnot to_number(\"x\")\n}"},
			workbench.CheckOptions{},
			[]string{"tests test_error x/x_test.rego:4:2: test_x: "},
		},
		"a test that takes too long": {
			instead(t, map[string]string{"x/x_test.rego": "package patrol.x_test\n\ntest_x if {\n\tcount([x | some i in numbers.range(1, 9999); some j in numbers.range(1, 9999); x := i * j]) == 1\n}"}),
			workbench.CheckOptions{TestTimeout: time.Second},
			[]string{"tests test_error x/x_test.rego:3:1: test_x: took longer than 1s"},
		},
		"a test that does not compile":  {map[string]string{"x/x_test.rego": "package patrol.x_test\n\ntest_x if y"}, workbench.CheckOptions{}, []string{"tests rego_unsafe_var_error x/x_test.rego:3:11: var y is unsafe"}},
		"a test that does not parse":    {map[string]string{"x/x_test.rego": "package patrol.x_test\n\ntest_x if"}, workbench.CheckOptions{}, []string{"tests rego_parse_error x/x_test.rego:3:"}},
		"a test that calls the network": {map[string]string{"x/x_test.rego": "package patrol.x_test\n\ntest_x if http.send({})"}, workbench.CheckOptions{}, []string{"tests rego_type_error x/x_test.rego:3:11: undefined function http.send"}},
		"a test that mends the policy": {
			map[string]string{"x/x_test.rego": "package patrol.authz\n\ntoken_unrevoked if true\n\ntest_x if token_unrevoked"},
			workbench.CheckOptions{},
			[]string{"tests test_changes_policy x/x_test.rego:3:1: a test file adds to data.patrol.authz.token_unrevoked, a rule of the policy (authz/authz.rego:"},
		},
		"tests that assert nothing": {
			instead(t, map[string]string{"x_test.rego": "package patrol.x_test\n\ntest_nothing if 1 == 1"}),
			workbench.CheckOptions{},
			[]string{
				"data.patrol.authz.decision allows everything",
				"data.patrol.authz.decision denies everything",
				"data.patrol.http.requests takes every request for the same",
				"data.patrol.http.requests maps no request",
				"coverage coverage_low the tests run 0% of the policy's lines; 80% are required",
			},
		},
		"tests that run everything and assert nothing": {
			instead(t, map[string]string{
				tests:                       "package patrol.authz_test\n\ntest_run if {\n\t_ := data.patrol.authz with input as {}\n\ttrue\n}",
				"http/own_routes_test.rego": "",
				"http/http_test.rego":       "package patrol.http_test\n\ntest_run if {\n\t_ := data.patrol.http with input as {}\n\ttrue\n}",
			}),
			workbench.CheckOptions{MinCoverage: -1},
			[]string{"allows everything", "denies everything", "for the same", "maps no request"},
		},
		"rules that no test runs": {
			map[string]string{"custom/x.rego": "package patrol.custom\n\n# METADATA\n# title: P\n# custom:\n#   code: a\n#   message: A.\ndeny contains rego.metadata.rule().custom if {\n\tinput.user.email == \"a@example.com\"\n\tinput.user.id == \"b\"\n}\n"},
			workbench.CheckOptions{MinCoverage: 100},
			[]string{"coverage coverage_low the tests run 9"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := check(t, c.files, c.opts)
			got := found(r)
			assert.False(t, r.Passed)
			require.Error(t, r.Err())
			assert.Len(t, got, len(c.want), "%s", strings.Join(got, "\n"))
			for _, want := range c.want {
				assert.True(t, slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, want) }),
					"no finding has %q:\n%s", want, strings.Join(got, "\n"))
			}
		})
	}
}

// TestCheckSafety holds that each hole in a policy is found by the case that is
// named for it.
func TestCheckSafety(t *testing.T) {
	const authz = "authz/authz.rego"
	hole := func(when string) map[string]string {
		return edited(t, authz, "\nanswer := {\"allow\": true", "\nanswer := {\"allow\": true, \"reasons\": []} if {\n\t"+when+
			"\n} else := {\"allow\": true")
	}
	const known = "input.user.id; input.request.domain; "
	waivable := map[string][]string{
		"domain_disabled": {"domain_disabled"}, "domain_frozen": {"domain_frozen"}, "role_forbids": {"role_forbids"}, "role_unknown": {"role_forbids"},
		"membership_absent": {"not_a_member", "role_forbids"}, "types_membership": {"not_a_member", "role_forbids"},
		"limit_lifetime": {"lifetime_exceeded"}, "limit_wildcards": {"wildcard_forbidden"}, "limit_approval": {"approval_required"},
		"types_limits": {"lifetime_exceeded", "wildcard_forbidden", "approval_required"},
	}
	for name, files := range map[string]map[string]string{
		"token_revoked":         hole(known + "input.token.revoked == true"),
		"token_expired":         hole(known + "input.now == input.token.expires_at"),
		"token_absent":          hole(known + "not input.token"),
		"user_disabled":         hole(known + "input.user.disabled == true"),
		"user_absent":           hole("input.request.domain; not input.user"),
		"domain_absent":         hole(known + "not input.domain"),
		"domain_other":          hole(known + "input.domain.id != input.request.domain"),
		"domain_disabled":       hole(known + `input.domain.status == "disabled"`),
		"domain_frozen":         hole(known + `input.domain.status == "frozen"`),
		"membership_absent":     hole(known + "not input.user.admin; not input.membership; input.domain; not input.token.revoked"),
		"role_unknown":          hole(known + `input.membership.role == "no-such-role"`),
		"role_forbids":          hole(known + `input.request.operation == "write"; input.membership.role == "viewer"`),
		"operation_unknown":     hole(known + `input.request.operation == "no-such-operation"`),
		"entity_type_unknown":   hole(known + `input.request.entity_type == "no-such-type"`),
		"scope_absent":          hole(known + "input.token.scopes == {}"),
		"scope_other_domain":    hole(known + "some d, _ in input.token.scopes; d != input.request.domain"),
		"scope_other_type":      hole(known + "some _, s in input.token.scopes; some t, _ in s; t != input.request.entity_type"),
		"scope_other_operation": hole(known + "some _, s in input.token.scopes; some _, t in s; some o, _ in t; o != input.request.operation"),
		"scope_other_entity":    hole(known + "some _, s in input.token.scopes; some _, t in s; some _, o in t; some e, _ in o; e != input.request.entity"),
		"scope_collection":      hole(known + `input.request.entity == "*"`),
		"scope_star_type":       hole(known + `some _, s in input.token.scopes; s["*"]`),
		"domain_not_itself":     hole(known + `input.request.entity_type == "domains"; input.request.entity != input.request.domain`),
		"limit_lifetime":        hole(known + "input.domain.limits.max_lifetime == 1800"),
		"limit_wildcards":       hole(known + "input.domain.limits.wildcards == false"),
		"limit_approval":        hole(known + "input.domain.limits.approval == true"),
		"types_limits":          hole(known + "is_string(input.domain.limits.max_lifetime)"),
		"input_no_object":       hole("not is_object(input)"),
		"input_empty":           hole("not input.request; not input.now; not input.user"),
		"types_token":           hole(known + "is_string(input.token.revoked)"),
		"types_user":            hole(known + "is_string(input.user.admin)"),
		"types_domain":          hole(known + "is_null(input.domain.status)"),
		"types_membership":      hole(known + "is_array(input.membership.role)"),
		"types_request":         hole(known + "is_null(input.request.entity)"),
		"types_now":             hole(known + "is_string(input.now)"),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := workbench.CheckSafety(t.Context(), bundle(t, files))
			require.NoError(t, err)
			hit := caseOf(t, r, name)
			assert.Equal(t, workbench.Failed, hit.Outcome)
			assert.NotNil(t, hit.Example)
			assert.True(t, slices.ContainsFunc(found(r), func(line string) bool {
				return strings.HasPrefix(line, "safety safety_violated authz/authz.rego:") && strings.Contains(line, ": "+name+": it allows "+hit.Title)
			}), "%v", found(r))

			by, canBe := waivable[name]
			for _, c := range []struct {
				manifest, server []string
				want             workbench.Outcome
			}{
				{nil, []string{name}, workbench.Failed},
				{by, nil, workbench.Failed},
				{by, by, workbench.Waived},
				{by, []string{name}, workbench.Waived}, // as settings were written before there were codes
			} {
				if !canBe && c.server == nil {
					break // nobody can waive it
				}
				list, err := json.Marshal(c.manifest)
				require.NoError(t, err)
				files[".manifest"] = `{"roots": ["patrol"]}`
				if c.manifest != nil {
					files[".manifest"] = fmt.Sprintf(`{"roots": ["patrol"], "metadata": {"waive": %s}}`, list)
				}
				r, err := workbench.CheckSafety(t.Context(), bundle(t, files), c.server...)
				require.NoError(t, err)
				assert.Equal(t, c.want, caseOf(t, r, name).Outcome, "manifest %v, server %v", c.manifest, c.server)
				assert.Equal(t, c.want == workbench.Failed, strings.Contains(strings.Join(found(r), "\n"), " "+name+":"))
			}
		})
	}
	for _, c := range workbench.SafetyCases() {
		assert.Regexp(t, "^[a-z]+(_[a-z]+)*$", c.Name)
	}
}

func caseOf(t *testing.T, r *workbench.Report, name string) workbench.SafetyResult {
	t.Helper()
	i := slices.IndexFunc(r.Safety, func(s workbench.SafetyResult) bool { return s.Name == name })
	require.GreaterOrEqual(t, i, 0, "%s did not run: %v", name, found(r))
	return r.Safety[i]
}

func TestCheckWarns(t *testing.T) {
	closed := check(t, edited(t, "authz/authz.rego", "\nanswer := {\"allow\": true", "\nanswer := {\"allow\": false, \"reasons\": [{\"code\": \"closed\", \"message\": \"Closed.\"}]} if {\n\ttrue\n} else := {\"allow\": true"), workbench.CheckOptions{})
	assert.Contains(t, fmt.Sprint(closed.Warnings), "nothing that the catalog and the roles permit is allowed")

	skipping := check(t, map[string]string{"x/x_test.rego": "package patrol.x_test\n\ntodo_test_later if false"}, workbench.CheckOptions{})
	assert.True(t, skipping.Passed, "%v", found(skipping))
	assert.Equal(t, 1, skipping.Tests.Skipped)
	assert.Contains(t, fmt.Sprint(skipping.Warnings), "x/x_test.rego:3:1: todo_test_later is not run")
}

func TestCheckOptionsAndContext(t *testing.T) {
	_, err := workbench.Check(t.Context(), engine.Source{Files: bundle(t, nil).Files, Waive: []string{"gravity"}}, workbench.CheckOptions{})
	require.ErrorContains(t, err, `"gravity" cannot be waived; what can is domain_disabled, domain_frozen`)
	_, err = workbench.Check(t.Context(), bundle(t, nil), workbench.CheckOptions{Options: []engine.Option{engine.WithTimeout(0)}})
	require.ErrorContains(t, err, "must be positive")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = workbench.Check(ctx, bundle(t, nil), workbench.CheckOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// TestCheckedIsLoaded holds that what passes a check can be put in force, tests and
// all, and is the same policy without its tests.
func TestCheckedIsLoaded(t *testing.T) {
	with, without := bundle(t, nil), bundle(t, instead(t, nil))
	a, err := engine.Load(t.Context(), with)
	require.NoError(t, err)
	b, err := engine.Load(t.Context(), without)
	require.NoError(t, err)
	assert.Equal(t, a.Revision(), b.Revision())
	assert.Equal(t, with.Digest(), without.Digest())
}

// TestCheckMetadata holds that what the metapolicies find is told at the rule.
func TestCheckMetadata(t *testing.T) {
	r := check(t, instead(t, map[string]string{
		"x/x.rego": `package patrol.x

p := 1

# METADATA
# title: Q
# custom:
#   code: Bad Code
q := 2

# METADATA
# title: R
# custom:
#   code: role_forbids
#   message: Again.
r := 3
`,
	}), workbench.CheckOptions{MinCoverage: -1})
	assert.Equal(t, workbench.Failed, outcomes(r)[engine.StageMetadata])
	all := strings.Join(found(r), "\n")
	for _, want := range []string{
		"metadata metadata_missing x/x.rego:3:1: data.patrol.x.p has no title in its METADATA",
		"metadata code_malformed x/x.rego:9:1: Bad Code is no reason code",
		"metadata message_missing x/x.rego:9:1: the rule that gives the reason Bad Code has no message",
		"metadata code_duplicate x/x.rego:16:1: the reason code role_forbids is another rule's as well (authz/authz.rego:",
	} {
		assert.Contains(t, all, want)
	}
	undeclared := check(t, edited(t, "authz/authz.rego", "# entrypoint: true\n", ""), workbench.CheckOptions{})
	assert.Contains(t, strings.Join(found(undeclared), "\n"), "metadata entrypoint_undeclared authz/authz.rego:")
	assert.False(t, undeclared.Passed)
}

// TestCheckSaysWhatIsSlow holds that a policy of which each request goes through many rules is
// named so, and passes.
func TestCheckSaysWhatIsSlow(t *testing.T) {
	var own strings.Builder
	own.WriteString("# METADATA\n# scope: package\n# title: Own rules\npackage patrol.custom\n")
	for i := range 70 {
		fmt.Fprintf(&own, "\n# METADATA\n# title: Rule %[1]d\n# custom:\n#   code: own_%[1]d\n#   message: No.\ndeny contains rego.metadata.rule().custom if startswith(input.request.entity, \"secret-%[1]d-\")\n", i)
	}
	r := check(t, instead(t, map[string]string{"custom/own.rego": own.String()}), workbench.CheckOptions{MinCoverage: -1})
	for _, f := range r.Findings {
		assert.Equal(t, "tests_missing", f.Code, f)
	}
	assert.Contains(t, fmt.Sprint(r.Warnings), "custom/own.rego:11:1: each request goes through 70 rules for data.patrol.custom.deny one by one")
}
