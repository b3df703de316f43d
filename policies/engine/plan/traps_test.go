package plan_test

import (
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/stretchr/testify/require"
)

// TestTraps holds plans against topdown on what is known to differ between planners and
// evaluators. An answer must be the same; a failure leaves it to topdown.
func TestTraps(t *testing.T) {
	for _, c := range []struct {
		name, policy, input string
		outcome             string // "" if it must be the same
	}{
		{"a not with a loop in it, in a loop", `main := [x | some x in input.open; not { some y in input.token; x == y }]`, `{"open": [1, 2, 3, 1], "token": [2, 3]}`, ""},
		{"the same, the other way round", `main := {x | some x in input.open; not { some y in input.token; y == x; y > 1 }}`, `{"open": [3, 2, 1], "token": [1, 2]}`, ""},
		{"a not with a body of one value", `main if { some x in input.open; not { x == 1; input.now } }`, `{"open": [1, 2], "now": 1}`, ""},
		{"input is defined", `main := [x | some x in input.open; is_object(input); input][0]`, `{"open": ["a"]}`, ""},
		{"nothing of the input", `main if not input.request`, `{"now": 1}`, ""},
		{"an object of the input without members", `main if not input.request.entity`, `{"request": {"n": 1}}`, ""},
		{"the whole object", `main := input.request`, `{"request": {"n": 1}}`, ""},
		{"the whole input", `main := input`, `{"request": {"n": 1}, "now": 2}`, ""},
		{"a member by a value", `main := input.request[input.open]`, `{"request": {"entity": 5}, "open": "entity"}`, ""},
		{"a member that the schema does not name", `main := input.request.other`, `{"request": {"entity": 5}}`, ""},
		{"a number as the key of data", `main := data.roles[1]`, `{"now": 1}`, "failed"},
		{"1 and 1.0 as elements", `main := {1, 1.0, input.now}`, `{"now": 1}`, ""},
		{"1 and 1.0 as keys", `main := object.get({1: "a"}, input.now, "none")`, `{"now": 1.0}`, ""},
		{"two values for a key", "main[k] := v if { some k, v in input.open }\nmain[k] := v if { some v, k in input.token }", `{"open": {"a": 1}, "token": {"2": "a"}}`, "failed"},
		{"two values of a rule", "main := 1 if input.now == 1\nmain := 2 if input.open == 1", `{"now": 1, "open": 1}`, "failed"},
		{"a key written twice", `main := {input.open: 1, input.now: 2, "c": 3}`, `{"open": "a", "now": "a"}`, ""},
		{"an error after the first element", `main := [x | some x in input.open; startswith(x, "a")][0]`, `{"open": ["a", 1]}`, "failed"},
		{"nothing fails after the first element", `main := [x | some x in input.open; is_string(x)][0]`, `{"open": [1, "a", "b"]}`, ""},
		{"the first of two loops", `main := [[x, y] | some x in input.open; some y in input.token; x != y][0]`, `{"open": [1, 2], "token": [1, 3]}`, ""},
		{"no first element", `main := [x | some x in input.open; is_string(x)][0]`, `{"open": [1]}`, ""},
		{"a list of undefined values", `main := [x | some x in [input.now, input.missing]]`, `{"now": 1}`, ""},
		{"a list scanned twice", `main := [[x, y] | l := [input.now, "*"]; some x in l; some y in l]`, `{"now": 1}`, ""},
		{"every of nothing", `main if every x in input.open { x == 1 }`, `{"open": []}`, ""},
		{"every of what is no collection", `main if every x in input.open { x == 1 }`, `{"open": 1}`, ""},
		{"else", "main := 1 if input.now == 1 else := 2 if input.now == 2 else := 3", `{"now": 2}`, ""},
		{"false is not undefined", `main := input.now`, `{"now": false}`, ""},
		{"with", "late if input.now > 5\nmain if { not late; late with input.now as 6; not late }", `{"now": 1}`, ""},
		{"walk", `main := [v | walk(input.open, [_, v]); is_number(v)]`, `{"open": {"a": [1, {"b": 2}]}}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			both, err := prepare("package test\n\nimport future.keywords.not\n\n" + c.policy)
			if err != nil {
				both, err = prepare("package test\n\n" + c.policy)
			}
			require.NoError(t, err)
			require.NotNil(t, both.program, "%v", both.refused)
			outcome, detail := both.compare(t.Context(), ast.MustParseTerm(c.input))
			if c.outcome == "" {
				c.outcome = "same"
			}
			require.Equal(t, c.outcome, outcome, detail)
		})
	}
}
