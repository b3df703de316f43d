package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"patrol/models"
)

// OwnDocuments are the documents of [CustomPackage] that are asked for.
var OwnDocuments = []string{"deny", "labels", "reason", "waive"}

// contractCodes are the reasons that policies decide by the contract. Rules of a team's own
// have others.
var contractCodes = []models.ReasonCode{
	models.TokenRevoked, models.TokenExpired, models.UserDisabled, models.DomainUnknown, models.DomainDisabled, models.DomainFrozen,
	models.NotAMember, models.RoleForbids, models.OutOfScope, models.LifetimeExceeded, models.WildcardForbidden, models.ApprovalRequired,
	models.Withdrawn, models.UnknownOperation, models.RouteUnmapped, models.IPForbidden,
}

// IsContractCode reports whether a code is that of a reason of the contract.
func IsContractCode(code models.ReasonCode) bool { return slices.Contains(contractCodes, code) }

// OwnFault is an error in a value of one of [OwnDocuments].
type OwnFault struct {
	Keys     []string // of the part that is wrong, in the document
	Reserved bool     // it is a reason with a code of Patrol's
	Err      error
}

// OwnFaults returns what is wrong with a value of one of [OwnDocuments].
func OwnFaults(name string, v ast.Value) (faults []OwnFault) {
	note := func(keys []string, v ast.Value) {
		reserved, err := checkOwn(name, v)
		if err != nil {
			faults = append(faults, OwnFault{keys, reserved, err})
		}
	}
	if name == "labels" || name == "reason" {
		note(nil, v)
		return faults
	}
	switch of := v.(type) {
	case *ast.Array:
		i := 0
		of.Foreach(func(t *ast.Term) { note([]string{strconv.Itoa(i)}, t.Value); i++ })
	case ast.Set:
		of.Foreach(func(t *ast.Term) { note(nil, t.Value) })
	case ast.Object:
		if name == "waive" {
			return append(faults, OwnFault{Err: errors.New("waive is an object, and not a set or list of exceptions: no exception is made")})
		}
		of.Foreach(func(k, t *ast.Term) {
			key, _ := k.Value.(ast.String)
			note([]string{string(key)}, t.Value)
		})
	default:
		faults = append(faults, OwnFault{Err: fmt.Errorf("%s is %s, and not a set or list", name, ast.ValueName(v))})
	}
	return faults
}

// checkOwn checks one member of one of [OwnDocuments].
func checkOwn(name string, v ast.Value) (reserved bool, err error) {
	switch name {
	case "labels":
		_, err = readLabels(v)
		return false, err
	case "waive":
		_, err = readException(v)
		return false, err
	}
	if obj, ok := v.(ast.Object); ok {
		code := models.ReasonCode(textOf(obj.Get(key.code)))
		switch {
		case code == "":
		case !code.OfPolicy():
			return true, fmt.Errorf("the reason code %s is Patrol's own, for what no policy decides", code)
		case IsContractCode(code):
			return true, fmt.Errorf("the reason code %s is the default policy's: rules of your own have codes of their own", code)
		}
	}
	_, err = readReason(v)
	return false, err
}

// OwnRuleFault is an error in the value that an own rule has for an input.
type OwnRuleFault struct {
	Document string
	Rule     *ast.Rule
	OwnFault
}

// FaultsOn returns what is wrong with what the rules of one's own give for an input, by rule.
func (s *Snapshot) FaultsOn(ctx context.Context, input *ast.Term) (found []OwnRuleFault, err error) {
	for _, name := range OwnDocuments {
		for _, rule := range s.rulesOf(CustomPackage.Append(ast.StringTerm(name))) {
			for r := rule; r != nil; r = r.Else {
				values, err := s.valuesOf(ctx, r, input)
				switch {
				case ctx.Err() != nil:
					return nil, fmt.Errorf("evaluate %s: %w", r.Ref(), ctx.Err())
				case err != nil:
					found = append(found, OwnRuleFault{name, r, OwnFault{Err: err}})
					continue
				}
				for _, v := range values {
					for _, f := range OwnFaults(name, v) {
						found = append(found, OwnRuleFault{name, r, f})
					}
				}
				if len(values) > 0 {
					break
				}
			}
		}
	}
	return found, nil
}

// rulesOf are the rules of a document, in the order of files and lines.
func (s *Snapshot) rulesOf(ref ast.Ref) []*ast.Rule {
	rules := s.compiler.GetRules(ref)
	slices.SortFunc(rules, func(a, b *ast.Rule) int { return a.Location.Compare(b.Location) })
	return rules
}

// valuesOf are the values that one body of a rule gives for an input, each as that of the whole
// document.
func (s *Snapshot) valuesOf(ctx context.Context, r *ast.Rule, input *ast.Term) (values []ast.Value, err error) {
	value := r.Head.Value
	if r.Head.RuleKind() == ast.MultiValue {
		value = ast.SetTerm(r.Head.Key)
	}
	if value == nil || len(r.Head.Args) > 0 {
		return nil, nil
	}
	if ref := r.Ref(); len(ref) > len(CustomPackage)+1 && r.Head.RuleKind() != ast.MultiValue { // deny[x] := …
		value = ast.ObjectTerm([2]*ast.Term{ref[len(CustomPackage)+1], value})
	}
	defer func() {
		if p := recover(); p != nil {
			values, err = nil, fmt.Errorf("evaluate %s: panic: %v", r.Ref(), p)
		}
	}()
	asked := ast.NewBody(ast.Equality.Expr(ast.NewTerm(resultVar), ast.ArrayComprehensionTerm(value, r.Body))) // compiled, as the rule is
	v, err := s.topdown(ctx, document{ref: r.Ref(), body: asked, compiler: s.compiler.QueryCompiler(), fast: new(atomic.Pointer[fast])}, input)
	if err != nil {
		return nil, err
	}
	if all, ok := v.(*ast.Array); ok {
		all.Foreach(func(t *ast.Term) { values = append(values, t.Value) })
	}
	return values, nil
}

// HoldOn returns those of rules, as they were parsed, that give a value for an input.
func (s *Snapshot) HoldOn(ctx context.Context, rules []*ast.Rule, input *ast.Term) (hold []*ast.Rule, err error) {
	for _, parsed := range rules {
		for _, r := range s.compiler.Modules[parsed.Location.File].Rules {
			if !r.Location.Equal(parsed.Location) {
				continue
			}
			values, err := s.valuesOf(ctx, r, input)
			switch {
			case ctx.Err() != nil:
				return nil, fmt.Errorf("evaluate %s: %w", r.Ref(), ctx.Err())
			case err == nil && len(values) > 0:
				hold = append(hold, r)
			}
		}
	}
	return hold, nil
}

// IsConflict reports whether an evaluation failed because two rules gave one document
// different values.
func IsConflict(err error) bool {
	e, ok := errors.AsType[*topdown.Error](err)
	return ok && e.Code == topdown.ConflictErr
}
