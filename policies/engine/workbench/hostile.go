package workbench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies/engine"
)

// openFacts are the texts that callers, users and admins choose, each with legal values that
// who writes a rule may not think of.
var openFacts = []struct {
	path   []string
	values []string
}{
	{[]string{"request", "entity"}, []string{
		"Llama-3", "*", "a/b:c", "0", strings.Repeat("x", 256), "token_missing", "token_revoked", "policy_error", "role_forbids", "[x](^%$#@!?=&;,.",
	}},
	{[]string{"request", "domain"}, []string{"0", "a-b", strings.Repeat("z", 63)}},
	{[]string{"token", "name"}, []string{
		"CI of Ann", "*", "a/b:c", "0", strings.Repeat("\U0001F511", 100), "token_missing", "token_revoked", "policy_error", "role_forbids", `"Ops" \ (x`,
	}},
	{[]string{"token", "id"}, []string{"0000000000000000", "ZZZZZZZZZZZZZZZZ"}},
	{[]string{"user", "id"}, []string{"0000000000000000", "ZZZZZZZZZZZZZZZZ"}},
	{[]string{"user", "email"}, []string{
		"Ö@xn--80ak6aa92e.example", "o'brien+a_b%c@example.com", strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 90) + "example", `"a b@c"@example.com`, "a@b",
	}},
	{[]string{"client", "ip"}, []string{"192.0.2.1", "2001:db8::1"}},
}

// maxHostileBases bounds the inputs in which they are put.
const maxHostileBases = 90

// hostile decides allowances, what the policy compares input with put in, and with what callers
// and users may choose put in place: whatever they choose, the answer is one.
func (c *check) hostile(ctx context.Context, tried *trial) (found []engine.Finding, err error) {
	if !c.hasOwnRules() {
		return nil, nil
	}
	seen := map[string]bool{}
	try := func(input object, where string, fallback *ast.Location) error {
		f, err := c.faultsOn(ctx, input, where, fallback)
		for _, one := range f {
			if at := fmt.Sprint(one.File, one.Line, one.Code); !seen[at] {
				seen[at] = true
				found = append(found, one)
			}
		}
		return err
	}
	decision := c.decisionPlace()
	bases := []object{}
	step := max(1, len(tried.allowed)/10)
	for i := 0; i < len(tried.allowed); i += step {
		bases = append(bases, tried.allowed[i].input)
	}
	plain := len(bases)
	for _, s := range append(seedsOf(c.bundle), pairsOf(c.bundle)...) {
		n := 0
		for _, a := range tried.allowed {
			input, ok := seeded(a.input, s.changes)
			if !ok {
				continue
			}
			input = withScope(input)
			if err := try(input, "on what "+placeText(s.rule.Location)+" is about", s.rule.Location); err != nil {
				return nil, err
			}
			if n++; n <= perSeed && len(bases) < plain+maxHostileBases {
				bases = append(bases, input)
			}
		}
	}
	for _, base := range bases {
		for _, fact := range openFacts {
			for _, value := range fact.values {
				input, ok := withFact(base, fact.path, value)
				if !ok {
					continue
				}
				if err := try(input, fmt.Sprintf("where input.%s is %s", strings.Join(fact.path, "."), shortened(value)), decision); err != nil {
					return nil, err
				}
			}
		}
	}
	return found, nil
}

// withFact is an input with a fact that somebody chose, and what goes with it.
func withFact(base object, path []string, value string) (object, bool) {
	inner, _ := base[path[0]].(object)
	was, isText := inner[path[1]].(string)
	if path[0] != "client" && !isText {
		return nil, false
	}
	input := engine.Edited(base, path, value)
	if path[0] != "request" {
		return input, true
	}
	asked := requestIn(input)
	if path[1] == "domain" {
		if asked.EntityType == engine.DomainsType && asked.Entity == was {
			input = engine.Edited(input, []string{"request", "entity"}, value)
		}
	} else if asked.EntityType == engine.DomainsType {
		return nil, false // which is the domain's
	}
	return withScope(input), true
}

// shortened shows a text, or the beginning of a long one.
func shortened(text string) string {
	runes := []rune(text)
	if len(runes) <= 40 {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q… (%d characters)", string(runes[:10]), len(runes))
}

// hasOwnRules reports whether a rule or data of one's own take part in decisions.
func (c *check) hasOwnRules() bool {
	inRoot, _ := c.bundle.Data[engine.Root].(object)
	if inRoot["custom"] != nil {
		return true
	}
	for _, m := range c.modules {
		if slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return !defaultRules()[r.String()] }) {
			return true
		}
	}
	return false
}

func (c *check) decisionPlace() *ast.Location {
	return c.snapshot.Compiler().GetRulesExact(engine.DecisionRef)[0].Location
}

func placeText(l *ast.Location) string {
	if l == nil {
		return "a rule"
	}
	return fmt.Sprintf("%s:%d", l.File, l.Row)
}

// faultsOn decides an input, and says what is wrong with the answer, if there is none, and with
// exceptions. where describes the input.
func (c *check) faultsOn(ctx context.Context, input object, where string, fallback *ast.Location) ([]engine.Finding, error) {
	v, err := ast.InterfaceToValue(input)
	if err != nil {
		return nil, fmt.Errorf("try an input: %w", err)
	}
	term := ast.NewTerm(v)
	_, err = c.snapshot.DecideInput(ctx, term)
	if errors.Is(err, engine.ErrTimeout) { // of a busy machine, it may be
		_, err = c.snapshot.DecideInput(ctx, term)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("check policy %s: %w", c.src.Name, ctx.Err())
	}
	if _, breached := errors.AsType[*engine.BreachError](err); err == nil || breached {
		return nil, nil
	}
	return c.blame(ctx, term, err, where, fallback)
}

// blame finds the own rules by which an input has no answer; if there are none, it reports the
// place at which the evaluation failed.
func (c *check) blame(ctx context.Context, input *ast.Term, failed error, where string, fallback *ast.Location) (found []engine.Finding, err error) {
	add := func(code string, l *ast.Location, why string) {
		why = strings.Join(strings.Fields(why), " ")
		found = append(found, engine.FindingsOf(engine.StageRules, code, engine.AtLocation(l, fmt.Errorf("%s, the answer is a policy_error: %s", where, why)))...)
	}
	faults, err := c.snapshot.FaultsOn(ctx, input)
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		l, why := f.Rule.Location, f.Err.Error()
		code := codeOnInput
		if f.Reserved {
			code = codeReserved
		}
		if inRule, text := failedAt(f.Err, nil); inRule != nil {
			l, why = inRule, text
		}
		if f.Document != "waive" || errors.Is(failed, f.Err) {
			add(code, l, why)
		}
	}
	if len(found) > 0 || c.dataFaulty { // which is told at its place
		return found, nil
	}
	if l, why := failedAt(failed, fallback); engine.IsConflict(failed) {
		for _, rules := range c.ownComplete() {
			both, err := c.snapshot.HoldOn(ctx, rules, input)
			if err != nil {
				return nil, err
			}
			if len(both) > 1 {
				add(codeOnInput, both[1].Location, fmt.Sprintf("%s is given here and by %s: %s", both[1].Head.Ref(), placeText(both[0].Location), why))
				return found, nil
			}
		}
		add(codeOnInput, l, why)
		return found, nil
	}
	if forged, ok := errors.AsType[*engine.ForgedError](failed); ok {
		l := fallback
		if forged.File != "" {
			l = ast.NewLocation(nil, forged.File, forged.Line, 1)
		}
		for _, m := range c.modules {
			for _, r := range m.Rules {
				if !defaultRules()[r.String()] && literalCode(r) == string(forged.Code) {
					l = r.Location
				}
			}
		}
		add(codeReserved, l, forged.Error())
		return found, nil
	}
	l, why := failedAt(failed, fallback)
	add(codeOnInput, l, why)
	return found, nil
}
