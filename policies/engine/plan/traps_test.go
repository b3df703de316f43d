package plan_test

import (
	"fmt"
	"strings"
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
		{"a leaf of the tree", `main := input.token[input.open][input.now]`, `{"token": {"a": {"b": 1, "c": 2}, "b": {"b": 3}}, "open": "b", "now": "b"}`, ""},
		{"no leaf", `main := input.token[input.open][input.now]`, `{"token": {"a": {"b": 1}}, "open": "b", "now": "b"}`, ""},
		{"no leaf, in a not", `main if not input.token[input.open][input.now]`, `{"token": {"a": {"b": 1}}, "open": "a", "now": "c"}`, ""},
		{"a leaf that is false", `main if not input.token.a.b`, `{"token": {"a": {"b": false}}}`, ""},
		{"a branch", `main := input.token[input.open]`, `{"token": {"a": {"b": 1}}, "open": "a"}`, ""},
		{"a branch, and a leaf of it", `main := [b, b[input.now]] if b := input.token[input.open]`, `{"token": {"a": {"b": 1}}, "open": "a", "now": "b"}`, ""},
		{"below a leaf", `main := input.token.a.b.c`, `{"token": {"a": {"b": {"c": 1}}}}`, ""},
		{"a tree that ends early", `main := [input.token.b, input.token.a.b]`, `{"token": {"a": {"b": 1}, "b": 2}}`, ""},
		{"a key that is no text", `main := input.token[input.open].b`, `{"token": {"a": {"b": 1}}, "open": 1}`, "failed"},
		{"a key that is no text, in an array", `main := input.token[input.open][input.now]`, `{"token": ["a", ["b"]], "open": 1, "now": 0}`, ""},
		{"no tree", `main := input.token.a.b`, `{"now": 1}`, ""},
		{"a tree that is a text", `main := input.token.a.b`, `{"token": "ab"}`, ""},
		{"names that end alike", `main := [input.token.aaaaaaaaaaaaaaaaz.b, input.token.baaaaaaaaaaaaaaaz.b]`, `{"token": {"aaaaaaaaaaaaaaaaz": {"b": 1}, "baaaaaaaaaaaaaaaz": {"b": 2}}}`, ""},
		{"a leaf by each name", `main := {[k, x] | some k in ["a", "b", "*"]; x := input.token[k][input.now]}`, `{"token": {"a": {"b": 1}, "*": {"b": 3}}, "now": "b"}`, ""},
		{"true in one of two ways", "ok if input.now == 1\nok if input.open == 2\nmain if not ok", `{"now": 3, "open": 2}`, ""},
		{"true in no way", "ok if input.now == 1\nok if { input.open == 2; input.token }\nmain := [1 | not ok]", `{"now": 3, "open": 2}`, ""},
		{"true or false", "ok if input.now == 1\nok := false if input.open == 2\nmain := [x | x := ok]", `{"now": 3, "open": 2}`, ""},
		{"true, by a value", "ok := input.open == 2\nmain := [x | x := ok]", `{"open": 1}`, ""},
		{"true in two ways at once", "ok if input.now == 1\nok if input.open == 2\nmain if ok", `{"now": 1, "open": 2}`, ""},
		{"true, or else true", "ok if input.now == 1 else if input.open == 2\nmain if ok", `{"now": 3, "open": 2}`, ""},
		{"a slot looked at twice", `main := [input.now, input.now] if { input.now; input.open; input.now }`, `{"now": 3, "open": 2}`, ""},
		{"a slot looked at in a loop first", `main if { x := [1 | input.now == 1]; count(x) == 0; input.now }`, `{"open": 2}`, ""},
		{"a slot looked at in a not first", `main if { not input.now; not input.open }`, `{"token": 2}`, ""},
		{"an argument that is called twice", "f(x) := y if y := [x, input.now]\nmain := [f(1), f(2), f(input.open)]", `{"now": 3, "open": 2}`, ""},
		{"many bodies, of which one names the text", "main contains i if { input.open == \"a\"; i := 0 }\n" + bodies(40, `main contains %[1]d if input.open == "x%[1]d"`), `{"open": "x7"}`, ""},
		{"many bodies, of which several do", bodies(40, `main contains %[1]d if input.open in {"x%[1]d", "y"}`), `{"open": "y"}`, ""},
		{"many bodies, of which none does", bodies(40, `main contains %[1]d if input.open == "x%[1]d"`), `{"open": 7}`, ""},
		{"many bodies, nothing given", bodies(40, `main contains %[1]d if input.open == "x%[1]d"`), `{"now": 7}`, ""},
		{"many bodies of two slots", bodies(40, `main contains %[1]d if input.open == "x%[1]d"`) + bodies(40, `main contains %[1]d if { input.request.entity == "x%[1]d"; input.now > 2 }`), `{"open": "x7", "request": {"entity": "x7"}, "now": 3}`, ""},
		{"many bodies, and some of another kind", bodies(40, `main contains %[1]d if input.open == "x%[1]d"`) + bodies(20, `main contains %[1]d if input.now > %[1]d`), `{"open": "x7", "now": 3}`, ""},
		{"many numbers", bodies(40, `main contains %[1]d if input.open == %[1]d`), `{"open": 7.0}`, ""},
		{"many ways to be true", bodies(40, `ok if input.open == "x%[1]d"`) + "main if not ok", `{"open": "x7"}`, ""},
		{"many ways to be true, none of which holds", bodies(40, `ok if input.open == "x%[1]d"`) + "main if not ok", `{"open": "x"}`, ""},
		{"many values of a rule", bodies(40, `main := %[1]d if input.open == "x%[1]d"`), `{"open": "x7"}`, ""},
		{"many keys of an object", bodies(40, `o["k%[1]d"] := %[1]d if input.open == "x%[1]d"`) + "main := o", `{"open": "x7"}`, ""},
		{"many bodies that fail before they look", bodies(40, `main contains %[1]d if { startswith(input.now, "a"); input.open == "x%[1]d" }`), `{"open": "x7", "now": 1}`, "failed"},
		{"many bodies with the text late", bodies(40, `main contains %[1]d if { is_number(input.now); input.now > 2; input.open == "x%[1]d" }`), `{"open": "x7", "now": 3}`, ""},
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

// bodies writes n bodies of a rule.
func bodies(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i)
	}
	return b.String()
}

// TestLinear holds that rules are looked up by the texts that they compare with, and that those
// which cannot be are told.
func TestLinear(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		bodies int // that are gone through; 0: the rule is not among those that are told
	}{
		"by equality":             {bodies(40, `main contains %[1]d if input.open == "x%[1]d"`), 0},
		"the text first":          {bodies(40, `main contains %[1]d if "x%[1]d" == input.open`), 0},
		"by a set":                {bodies(40, `main contains %[1]d if input.open in {"x%[1]d", "y%[1]d"}`), 0},
		"by an array":             {bodies(40, `main contains %[1]d if input.open in ["x%[1]d"]`), 0},
		"after what cannot fail":  {bodies(40, `main contains %[1]d if { input.now > 5; input.open == "x%[1]d" }`), 0},
		"as a truth":              {bodies(40, `main if input.open == "x%[1]d"`), 0},
		"after what can fail":     {bodies(40, `main contains %[1]d if { startswith(input.open, "x"); input.open == "x%[1]d" }`), 40},
		"a number":                {bodies(40, `main contains %[1]d if input.open == %[1]d`), 40},
		"a prefix":                {bodies(40, `main contains %[1]d if startswith(input.open, "x%[1]d")`), 40},
		"a negation":              {bodies(40, `main contains %[1]d if input.open != "x%[1]d"`), 40},
		"half of them":            {bodies(40, `main contains %[1]d if input.open == "x%[1]d"`) + bodies(20, `main contains %[1]d if input.now == %[1]d`), 20},
		"as few as need no index": {bodies(10, `main contains %[1]d if startswith(input.open, "x%[1]d")`), 0},
	} {
		both, err := prepare("package test\n\n" + c.policy)
		require.NoError(t, err, name)
		require.NoError(t, both.refused, name)
		n := 0
		for _, l := range both.program.Linear() {
			require.Equal(t, "data.test.main", l.Path, name)
			require.Equal(t, "test.rego", l.File, name)
			require.Positive(t, l.Row, name)
			n += l.Bodies
		}
		require.Equal(t, c.bodies, n, name)
	}
}
