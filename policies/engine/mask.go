package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// Mask says what a log of decisions leaves out: the rules of data.patrol.log.mask,
// in OPA's format of masks and with one operation more.
type Mask struct{ Rules []MaskRule }

// MaskRule changes one part of a logged decision.
type MaskRule struct {
	Op    MaskOp
	Path  string   // the JSON pointer as the policy wrote it
	Parts []string // of it, unescaped; at least one
	Value any      // of an upsert: what encoding/json makes of JSON
}

// MaskOp is an operation of a mask.
type MaskOp string

// The operations of masks.
const (
	MaskRemove MaskOp = "remove"
	MaskUpsert MaskOp = "upsert"
	// MaskHash replaces a value by a keyed hash of it, so that equal values can be
	// told to be equal. OPA does not know it.
	MaskHash MaskOp = "hash"
)

// MaskRef is the document that masks decisions.
var MaskRef = ast.MustParseRef("data.patrol.log.mask")

// maskDocument is data.patrol.log.mask: absent, the same for every decision, or
// asked for with each.
type maskDocument struct {
	document
	perDecision bool
	fixed       *Mask // unless perDecision; never nil
}

// loadMask finds out whether the policy has a mask and evaluates one that does not
// depend on its input, once.
func (s *Snapshot) loadMask(ctx context.Context) error {
	s.mask.fixed = &Mask{}
	rules := s.compiler.GetRulesExact(MaskRef)
	if _, err := s.documents.data.Find(MaskRef[1:]); err != nil && len(rules) == 0 {
		return nil
	}
	for _, r := range rules {
		s.mask.perDecision = s.mask.perDecision || dependsOnInput(s.compiler, r, map[*ast.Rule]bool{})
	}
	var err error
	if s.mask.document, err = s.prepare(MaskRef); err != nil || s.mask.perDecision {
		return err
	}
	v, err := s.eval(ctx, s.mask.document, emptyObject)
	if errors.Is(err, errUndefined) {
		return nil
	}
	if err != nil {
		return err
	}
	s.mask.fixed, err = readMask(v)
	return err
}

// Mask returns what the policy wants left out of the log of a decision. event
// returns the decision as it would be logged, as JSON; it is called only if the
// mask depends on it. A mask that does not is the same pointer each time. An error
// means that nobody knows what must not be logged.
func (s *Snapshot) Mask(ctx context.Context, event func() []byte) (*Mask, error) {
	if !s.mask.perDecision {
		return s.mask.fixed, nil
	}
	var doc any
	if err := util.UnmarshalJSON(event(), &doc); err != nil {
		return nil, fmt.Errorf("read the event for the mask: %w", err)
	}
	input, err := ast.InterfaceToValue(doc)
	if err != nil {
		return nil, fmt.Errorf("read the event for the mask: %w", err)
	}
	v, err := s.eval(ctx, s.mask.document, ast.NewTerm(input))
	if errors.Is(err, errUndefined) {
		return &Mask{}, nil
	}
	if err != nil {
		return nil, err
	}
	return readMask(v)
}

// readMask reads a set or an array of pointers and objects.
func readMask(v ast.Value) (*Mask, error) {
	list, ok := v.(interface{ Foreach(func(*ast.Term)) })
	if _, isObject := v.(ast.Object); !ok || isObject {
		return nil, fmt.Errorf("%s is %s, not a set of JSON pointers and objects", MaskRef, ast.ValueName(v))
	}
	m := &Mask{}
	var errs []error
	list.Foreach(func(t *ast.Term) {
		rule, err := readMaskRule(t.Value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %v: %w", MaskRef, t, err))
			return
		}
		m.Rules = append(m.Rules, rule)
	})
	// The longest paths first, so that what is inside of something removed does
	// not depend on an order that sets do not have.
	slices.SortStableFunc(m.Rules, func(a, b MaskRule) int { return len(b.Parts) - len(a.Parts) })
	return m, errors.Join(errs...)
}

func readMaskRule(v ast.Value) (MaskRule, error) {
	doc, err := ast.JSON(v)
	if err != nil {
		return MaskRule{}, err
	}
	rule := MaskRule{Op: MaskRemove}
	switch doc := doc.(type) {
	case string:
		rule.Path = doc
	case map[string]any:
		op, isText := doc["op"].(string)
		path, isPath := doc["path"].(string)
		value, hasValue := doc["value"]
		known := 2
		if hasValue {
			known++
		}
		if !isText || !isPath || len(doc) != known {
			return rule, errors.New("must be an object of op, path and, with upsert, value")
		}
		rule.Op, rule.Path, rule.Value = MaskOp(op), path, value
		if hasValue != (rule.Op == MaskUpsert) {
			return rule, errors.New("a value goes with upsert, and with nothing else")
		}
	default:
		return rule, errors.New("is neither a JSON pointer nor an object")
	}
	switch rule.Op {
	case MaskRemove, MaskUpsert, MaskHash:
	default:
		return rule, fmt.Errorf("the operation %.40q is none of remove, upsert and hash", string(rule.Op))
	}
	rest, ok := strings.CutPrefix(rule.Path, "/")
	if !ok {
		return rule, errors.New("the path must begin with a slash")
	}
	for part := range strings.SplitSeq(rest, "/") {
		rule.Parts = append(rule.Parts, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return rule, rule.reachable()
}

// reachable refuses paths to what the log cannot do without: who was allowed what,
// and when.
func (r MaskRule) reachable() error {
	switch first := r.Parts[0]; {
	case first == "input" && len(r.Parts) > 1 && r.Parts[1] == "now":
		return errors.New("input.now cannot be masked")
	case first == "input", first == "requested_by" && len(r.Parts) == 1,
		first == "result" && len(r.Parts) > 1 && r.Parts[1] == "headers":
		return nil
	}
	return errors.New("a mask reaches /input, /result/headers and /requested_by, and what is below")
}
