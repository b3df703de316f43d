package workbench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine"
)

// The codes of findings about what rules of a policy cannot do, or do otherwise than they
// say.
const (
	codeUnreachable = "rule_unreachable" // nothing that the server asks for depends on it
	codeNeverTrue   = "never_true"       // it compares with what cannot be
	codeOff         = "rule_off"         // it never holds with the data as they are
	codeMisplaced   = "rule_misplaced"   // a file of custom/ adds to another package
	codeReserved    = "code_reserved"    // a reason's code is one of Patrol's own
	codeMalformed   = "code_malformed"   // a reason or exception is not one, or what has them
	codeReasonOld   = "reason_deprecated"
	codeUnasked     = "reason_unasked" // an authz.rego from before a reason of the contract
	codeConflict    = "reason_conflict"
	codeOnInput     = "error_on_input" // a value in the context makes the policy fail
	codeWaiverOld   = "waiver_by_case"
	codeEndless     = "exception_endless" // its end is not written down, or too far away
	codeEnded       = "exception_ended"
)

// authzPackage is the package with the reasons of the contract.
var authzPackage = ast.MustParseRef("data.patrol.authz")

// rules runs the stage of that name: whether each rule can do what it says.
func (c *check) rules(ctx context.Context) error {
	c.ran[engine.StageRules] = true
	var found []engine.Finding
	add := func(code string, l *ast.Location, format string, args ...any) {
		found = append(found, engine.FindingsOf(engine.StageRules, code, engine.AtLocation(l, fmt.Errorf(format, args...)))...)
	}
	misplaced := c.misplaced(add)
	c.unreachable(add, misplaced)
	c.unread(add)
	c.literalCodes(add)
	c.writtenExceptions(add)
	c.neverTrue(add)
	c.oldReasons(add)
	c.unasked()
	if err := c.endless(add); err != nil {
		return err
	}
	if err := c.chosenCodes(add); err != nil {
		return err
	}
	found = append(found, engine.FindingsOf(engine.StageRules, codeCompile, c.typed(ctx))...)
	told := map[string]bool{}
	for _, f := range found {
		told[fmt.Sprintf("%s:%d", f.File, f.Line)] = true
	}
	if err := c.dead(ctx, add, told); err != nil {
		return err
	}
	onInput, err := c.onInput(ctx)
	if err != nil {
		return err
	}
	if !c.rulesOnly {
		if err := c.plans(ctx); err != nil {
			return err
		}
	}
	for _, name := range WaiverNotes(c.src.Waive) {
		c.warn(engine.Finding{Stage: engine.StageRules, Code: codeWaiverOld, Message: name})
	}
	for _, f := range engine.TidyFindings(append(found, onInput...)) {
		c.stricter(f)
	}
	return nil
}

// stricter notes a finding of a kind that earlier versions did not look for: for a policy
// that is in force already it is a warning.
func (c *check) stricter(f engine.Finding) {
	if c.opts.InForce {
		f.Message += " (from now on no candidate passes with this)"
		c.warn(f)
		return
	}
	c.failed[f.Stage] = true
	c.report.Findings = append(c.report.Findings, f)
}

// The fields of reasons and exceptions.
var codeKey, messageKey, becauseKey, untilKey = ast.StringTerm("code"), ast.StringTerm("message"), ast.StringTerm("because"), ast.StringTerm("until")

type finder func(code string, l *ast.Location, format string, args ...any)

// modules goes through the modules by name.
func (c *check) modules(yield func(name string, m *ast.Module) bool) {
	for _, name := range slices.Sorted(maps.Keys(c.bundle.Modules)) {
		if !yield(name, c.bundle.Modules[name]) {
			return
		}
	}
}

// misplaced finds files of custom/ that add to a package of others, which an upgrade
// would overlook.
func (c *check) misplaced(add finder) map[string]bool {
	files := map[string]bool{}
	for name, m := range c.modules {
		for _, r := range m.Rules {
			path := texts(append(m.Package.Path[1:].Copy(), headOf(r)...))
			if len(path) > 1 && path[0] == engine.Root && slices.Contains(serverData, path[1]) {
				add(codeMisplaced, r.Location, "a rule adds to data.patrol.%s, which the server reads from data alone: what it adds is refused as policy_error", path[1])
			}
		}
		if first, _, _ := strings.Cut(name, "/"); first != "custom" || m.Package.Path.HasPrefix(engine.CustomPackage) {
			continue
		}
		files[name] = true
		for _, other := range []string{"patrol.authz", "patrol.http", "patrol.log"} {
			if strings.TrimPrefix(m.Package.Path.String(), "data.") == other {
				add(codeMisplaced, m.Package.Location, "a file of custom/ adds to package %s: own rules are deny and waive in package patrol.custom", other)
			}
		}
	}
	return files
}

// reachable are the rules that what the server asks for depends on.
func (c *check) reachable() map[*ast.Rule]bool {
	compiler := c.snapshot.Compiler()
	reached := map[*ast.Rule]bool{}
	var visit func(*ast.Rule)
	visit = func(r *ast.Rule) {
		for ; r != nil; r = r.Else {
			if reached[r] {
				return
			}
			reached[r] = true
			for dep := range compiler.Graph.Dependencies(r) {
				if next, ok := dep.(*ast.Rule); ok {
					visit(next)
				}
			}
		}
	}
	for _, ref := range []ast.Ref{engine.DecisionRef, engine.RequestRef, engine.RequestsRef, engine.HintsRef, engine.MaskRef} {
		for _, r := range compiler.GetRules(ref) {
			visit(r)
		}
	}
	return reached
}

// unreachable finds rules that nothing depends on which the server asks for.
func (c *check) unreachable(add finder, misplaced map[string]bool) {
	reached := map[string]bool{}
	for r := range c.reachable() {
		if r.Location != nil {
			reached[placeOf(r.Location)] = true
		}
	}
	for name, m := range c.modules {
		for _, r := range m.Rules {
			if r.Location == nil || reached[placeOf(r.Location)] {
				continue
			}
			rule := r.Ref().GroundPrefix()
			text := fmt.Sprintf("%s cannot fire: nothing that the server asks for depends on it", rule)
			if code := literalCode(r); code != "" {
				text += fmt.Sprintf(", so that nobody is ever denied for %s", code)
			}
			switch own := len(rule) == len(engine.CustomPackage)+1 && rule.HasPrefix(engine.CustomPackage); {
			case own && slices.Contains([]string{"deny", "waive", "labels"}, lastOf(rule)):
				text = fmt.Sprintf("%s cannot fire: the bundle's authz/authz.rego does not ask for it, as that of this version does; run 'patrol policy upgrade <folder>'", rule)
			case rule.HasPrefix(engine.CustomPackage):
				text += "; own rules are deny, waive and labels in package patrol.custom"
			case !misplaced[name] && strings.HasPrefix(m.Package.Path.String(), "data.patrol.custom"):
				text += "; own rules are in package patrol.custom"
			}
			add(codeUnreachable, r.Location, "%s", text)
		}
	}
}

func placeOf(l *ast.Location) string { return fmt.Sprintf("%s:%d:%d", l.File, l.Row, l.Col) }

func lastOf(ref ast.Ref) string {
	text, _ := ref[len(ref)-1].Value.(ast.String)
	return string(text)
}

// literalCode is the code of the reason that a rule gives, if its metadata or its head
// has one.
func literalCode(r *ast.Rule) string {
	for _, a := range r.Annotations {
		if code, ok := a.Custom["code"].(string); ok {
			return code
		}
	}
	found := ""
	ast.WalkTerms(r, func(t *ast.Term) bool {
		if obj, ok := t.Value.(ast.Object); ok && found == "" {
			if code := obj.Get(codeKey); code != nil && obj.Get(messageKey) != nil {
				text, _ := code.Value.(ast.String)
				found = string(text)
			}
		}
		return false
	})
	return found
}

// lookAtCode looks at the code and message of a reason, or the code of an exception.
func lookAtCode(add finder, code, message any, l *ast.Location, pkg ast.Ref, exception bool) {
	text, isText := code.(string)
	switch {
	case exception && !engine.Waivable(models.ReasonCode(text)):
		add(codeMalformed, l, "%v cannot be waived; what can is %s", code, engine.JoinCodes(engine.WaivableCodes()))
	case exception:
	case !isText || text == "" || !engine.IsReasonCode(text):
		add(codeMalformed, l, "%q is no reason code: they are 1 to 64 of a-z, 0-9 and _, letters first", fmt.Sprint(code))
	case !models.ReasonCode(text).OfPolicy():
		add(codeReserved, l, "the reason code %s is Patrol's own, for what no policy decides", text)
	case engine.IsContractCode(models.ReasonCode(text)) && !pkg.Equal(authzPackage):
		add(codeReserved, l, "the reason code %s is the default policy's: rules of your own have codes of their own", text)
	}
	if m, ok := message.(string); ok && (strings.ContainsFunc(m, engine.Unprintable) || len(m) > engine.MaxMessage) {
		add(codeMalformed, l, "the message has characters that cannot be printed, or change the direction of what is around it, or more than %d bytes", engine.MaxMessage)
	}
}

// literalCodes looks at reasons and exceptions as they are written, in rules and in
// metadata.
func (c *check) literalCodes(add finder) {
	for _, m := range c.modules {
		for _, r := range m.Rules {
			seen := map[string]bool{}
			ast.WalkTerms(r, func(t *ast.Term) bool {
				obj, ok := t.Value.(ast.Object)
				if !ok {
					return false
				}
				code, message, because := obj.Get(codeKey), obj.Get(messageKey), obj.Get(becauseKey)
				if code == nil || message == nil && because == nil || !ast.IsConstant(code.Value) {
					return false
				}
				l := t.Location
				if l == nil {
					l = r.Location
				}
				if !seen[placeOf(l)] {
					seen[placeOf(l)] = true
					lookAtCode(add, constantOf(code), constantOf(message), l, m.Package.Path, because != nil)
				}
				return false
			})
		}
		for _, a := range m.Annotations { // what else is wrong with them the stage metadata tells
			code, ok := a.Custom["code"].(string)
			if ok && a.Location != nil && engine.IsReasonCode(code) && models.ReasonCode(code).OfPolicy() {
				lookAtCode(add, code, a.Custom["message"], a.Location, m.Package.Path, false)
			}
		}
	}
}

// writtenExceptions looks at the fields of exceptions as they are written: one that is not as
// it must be lifts nothing.
func (c *check) writtenExceptions(add finder) {
	for _, m := range c.modules {
		for _, r := range m.Rules {
			if path := texts(append(m.Package.Path[1:].Copy(), headOf(r)...)); !slices.Equal(path, []string{engine.Root, "custom", "waive"}) {
				continue
			}
			ast.WalkTerms(r, func(t *ast.Term) bool {
				obj, ok := t.Value.(ast.Object)
				if !ok || obj.Get(codeKey) == nil {
					return false
				}
				l := t.Location
				if l == nil {
					l = r.Location
				}
				if obj.Len() != 3 || obj.Get(becauseKey) == nil || obj.Get(untilKey) == nil {
					add(codeMalformed, l, "an exception has code, because and until, and nothing else: this one lifts nothing")
					return false
				}
				if because := obj.Get(becauseKey); ast.IsConstant(because.Value) {
					if text, ok := because.Value.(ast.String); !ok || text == "" {
						add(codeMalformed, l, "because is a text that says why: this exception lifts nothing")
					}
				}
				if until := obj.Get(untilKey); ast.IsConstant(until.Value) {
					n, _ := until.Value.(ast.Number)
					if at, whole := n.Int64(); !whole || at <= 0 {
						add(codeMalformed, l, "until is a time in Unix seconds, such as 1792592000: this exception lifts nothing")
					}
				}
				return false
			})
		}
	}
}

func constantOf(t *ast.Term) any {
	if t == nil {
		return nil
	}
	v, err := ast.JSON(t.Value)
	if err != nil {
		return nil
	}
	return v
}

// oldReasons looks for data.patrol.custom.reason, which is one value where deny is a set.
func (c *check) oldReasons(add finder) {
	var all []*ast.Rule
	for _, m := range c.modules {
		for _, r := range m.Rules {
			if r.Ref().GroundPrefix().Equal(engine.CustomPackage.Append(ast.StringTerm("reason"))) {
				all = append(all, r)
			}
		}
	}
	for _, r := range all {
		c.warn(engine.Finding{
			Stage: engine.StageRules, File: r.Location.File, Line: r.Location.Row, Column: r.Location.Col, Code: codeReasonOld,
			Message: "data.patrol.custom.reason gives one reason at a time: write `deny contains …` in place of `reason := …` on this line",
		})
	}
	if len(all) > 1 {
		first := all[0].Location
		add(codeConflict, all[1].Location, "data.patrol.custom.reason is defined here and by %s:%d: where both hold, every request is a policy_error; write `deny contains …`", first.File, first.Row)
	}
}

// unasked looks for an authz.rego from before a reason of the contract. The server upholds what
// it does not ask for, without the reason's words.
func (c *check) unasked() {
	asked := map[models.ReasonCode]*ast.Location{}
	for _, m := range c.modules {
		for _, a := range m.Annotations {
			if code, ok := a.Custom["code"].(string); ok && m.Package.Path.Equal(authzPackage) {
				asked[models.ReasonCode(code)] = m.Package.Location
			}
		}
	}
	at := asked[models.OutOfScope]
	if at == nil { // not made of the default policy
		return
	}
	for _, code := range []models.ReasonCode{models.Withdrawn, models.IPForbidden} {
		if asked[code] == nil {
			c.warn(engine.Finding{
				Stage: engine.StageRules, File: at.File, Line: at.Row, Column: at.Col, Code: codeUnasked,
				Message: fmt.Sprintf("no rule asks for %s, as the default policy of this version does: what it is to deny is refused as %s; run 'patrol policy upgrade <folder>'", code, models.PolicyError),
			})
		}
	}
}

var neverHints = map[string]string{
	"request.entity_type": "the catalog has no such entity type",
	"request.operation":   "the catalog has no such operation",
	"membership.role":     "there is no such role",
	"domain.status":       "it is enabled, disabled or frozen",
}

// typed compiles the policy once more with the schema of the input for every file,
// whether it names it or not.
func (c *check) typed(ctx context.Context) error {
	const synthetic = "schemas of "
	modules := map[string]*ast.Module{}
	for name, m := range c.modules {
		modules[name] = m.Copy()
	}
	for pkg, schema := range map[string]string{
		"patrol": "schema.authz_input", "patrol.http": "schema.http_input", "patrol.log": "{type: object}",
	} {
		module := fmt.Sprintf("# METADATA\n# scope: subpackages\n# schemas:\n#   - input: %s\npackage %s\n", schema, pkg)
		m, err := ast.ParseModuleWithOpts(synthetic+pkg, module, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		if err != nil {
			return fmt.Errorf("write a schema: %w", err)
		}
		modules[synthetic+pkg] = m
	}
	typed := *c.bundle
	typed.Modules = modules
	err := c.snapshot.Recompile(ctx, &typed)
	all, ok := errors.AsType[ast.Errors](err)
	if !ok {
		return err
	}
	all = slices.DeleteFunc(all, func(e *ast.Error) bool {
		return e.Location != nil && strings.HasPrefix(path.Base(e.Location.File), synthetic)
	})
	if len(all) == 0 {
		return nil
	}
	return all
}
