package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// WaivableCodes are the invariants that can be waived, by the code of the reason that a
// policy gives where they do not hold.
func WaivableCodes() (codes []models.ReasonCode) {
	for _, i := range invariants {
		if i.waivable {
			codes = append(codes, i.code)
		}
	}
	return codes
}

// Waives returns what this policy waives: what its manifest and the server both name.
func (s *Snapshot) Waives() []models.ReasonCode { return s.waives.codes() }

// waivedCases says which invariants a case of the safety suite is about, for settings
// from when cases were what was waived.
var waivedCases = map[string]breach{
	"membership_absent": breachMember | breachRole,
	"role_unknown":      breachRole,
	"limit_lifetime":    breachLifetime,
	"limit_wildcards":   breachWildcard,
	"limit_approval":    breachApproval,
	"types_limits":      breachLifetime | breachWildcard | breachApproval,
	"types_membership":  breachMember | breachRole,
}

// readWaivers reads codes, and names of cases of the safety suite. notes says what is
// there to know about names.
func readWaivers(names []string) (b breach, notes []string) {
	for _, name := range names {
		code := waivable(models.ReasonCode(name))
		switch byCase, isCase := waivedCases[name]; {
		case code != 0:
			b |= code
		case isCase:
			b |= byCase
			notes = append(notes, fmt.Sprintf("%s is a case of the safety suite: write %s, the code of what is waived", name, JoinCodes(byCase.codes())))
		default:
			notes = append(notes, fmt.Sprintf("%s cannot be waived by any policy: what can is %s", name, JoinCodes(WaivableCodes())))
		}
	}
	return b, notes
}

// JoinCodes lists codes, with commas.
func JoinCodes(codes []models.ReasonCode) string {
	texts := make([]string, len(codes))
	for i, code := range codes {
		texts[i] = string(code)
	}
	return strings.Join(texts, ", ")
}

// WaivedBy returns the reasons that must be waived before a policy may allow a case of the
// safety suite; none if no waiver permits it.
func WaivedBy(name string) []models.ReasonCode {
	if code := waivable(models.ReasonCode(name)); code != 0 {
		return code.codes()
	}
	return waivedCases[name].codes()
}

// Waivable reports whether the invariant whose breach has this code can be waived.
func Waivable(code models.ReasonCode) bool { return waivable(code) != 0 }

// ReadWaivers returns the codes among names of reasons and of cases of the safety suite, and
// notes about names that are not codes.
func ReadWaivers(names []string) (codes []models.ReasonCode, notes []string) {
	b, notes := readWaivers(names)
	return b.codes(), notes
}

// manifestWaivers reads metadata.waive of a manifest: a list of codes.
func manifestWaivers(m manifest) ([]string, error) {
	listed, ok := m.Metadata["waive"]
	if !ok {
		return nil, nil
	}
	list, ok := listed.([]any)
	if !ok {
		return nil, errors.New("metadata.waive must be a list of reason codes")
	}
	names := make([]string, 0, len(list))
	for _, v := range list {
		name, ok := v.(string)
		if b, _ := readWaivers([]string{name}); !ok || b == 0 {
			return nil, fmt.Errorf("metadata.waive: %v cannot be waived; what can is %s", v, JoinCodes(WaivableCodes()))
		}
		names = append(names, name)
	}
	return names, nil
}

// ExceptionsRef is the rule with a policy's own exceptions.
var ExceptionsRef = ast.MustParseRef("data.patrol.custom.waive")

// MaxException bounds the time until an exception of a policy ends.
const MaxException = 90 * 24 * time.Hour

// maxExceptionReason bounds, in bytes, why an exception is made.
const maxExceptionReason = 200

// madeExceptions asks the policy for its exceptions, if they could lift something.
func (s *Snapshot) madeExceptions(ctx context.Context, input *ast.Term, broken breach) (ast.Value, error) {
	if broken&^s.waives == 0 || s.exceptions.ref == nil {
		return nil, nil
	}
	v, err := s.eval(ctx, s.exceptions, input)
	if errors.Is(err, errUndefined) {
		return nil, nil
	}
	return v, err
}

// ending drops exceptions that do not end: which the policy would still make after the longest
// time that an exception may last, all else being as it is.
func (s *Snapshot) ending(ctx context.Context, input *ast.Term, lifted []models.Waiver) ([]models.Waiver, error) {
	if !slices.ContainsFunc(lifted, func(w models.Waiver) bool { return w.Until != 0 }) {
		return lifted, nil
	}
	later := ast.NewTerm(LaterInput(input.Value))
	v, err := s.eval(ctx, s.exceptions, later)
	if errors.Is(err, errUndefined) {
		return lifted, nil
	}
	if err != nil {
		return nil, err
	}
	return s.withoutEndless(lifted, later.Value, v)
}

// withoutEndless drops the exceptions that stand in later as well.
func (s *Snapshot) withoutEndless(lifted []models.Waiver, laterInput, later ast.Value) (_ []models.Waiver, err error) {
	var still breach
	for _, w := range lifted {
		still |= waivable(w.Code)
	}
	for _, w := range s.lifted(laterInput, later, still&^s.waives) {
		if w.Until == 0 {
			continue
		}
		err = errors.Join(err, fmt.Errorf("the exception from %s does not end: the policy would make it %d days from now as well", w.Code, MaxException/(24*time.Hour)))
		lifted = slices.DeleteFunc(lifted, func(l models.Waiver) bool { return l.Code == w.Code && l.Until != 0 })
	}
	return lifted, err
}

// LaterInput is an input at the time at which every exception of now has ended.
func LaterInput(input ast.Value) ast.Value {
	in, _ := input.(ast.Object)
	now, _ := numberIn(in, key.now)
	at, ok := now.Int64()
	if !ok {
		return input
	}
	later := ast.NewObject()
	in.Foreach(func(k, v *ast.Term) { later.Insert(k, v) })
	later.Insert(key.now, ast.IntNumberTerm(int(at+int64(MaxException/time.Second))))
	return later
}

// lifted returns what lifts the broken invariants of an input, as far as anything does:
// waivers, and exceptions of the policy that have not ended. Of several exceptions from
// one thing, the one that ends last is told.
func (s *Snapshot) lifted(input, exceptions ast.Value, broken breach) (lifted []models.Waiver) {
	for _, code := range (broken & s.waives).codes() {
		lifted = append(lifted, models.Waiver{Code: code})
	}
	broken &^= s.waives
	in, _ := input.(ast.Object)
	now, timed := numberIn(in, key.now)
	at, whole := now.Int64()
	list, ok := exceptions.(interface{ Foreach(func(*ast.Term)) })
	if _, isObject := exceptions.(ast.Object); !ok || isObject || !timed || !whole {
		return lifted
	}
	list.Foreach(func(t *ast.Term) {
		w, err := readException(t.Value)
		if err == nil && at < w.Until && w.Until <= at+int64(MaxException/time.Second) && waivable(w.Code)&broken != 0 {
			lifted = append(lifted, w)
		}
	})
	slices.SortFunc(lifted, models.Waiver.Compare)
	return slices.CompactFunc(lifted, func(a, b models.Waiver) bool { return a.Code == b.Code })
}

// readException reads {"code", "because", "until"} and nothing else.
func readException(v ast.Value) (w models.Waiver, err error) {
	obj, ok := v.(ast.Object)
	if !ok || obj.Len() != 3 {
		return w, errors.New("an exception is an object of code, because and until")
	}
	code, err := readString("the code", obj.Get(key.code))
	if err != nil {
		return w, err
	}
	if waivable(models.ReasonCode(code)) == 0 {
		return w, fmt.Errorf("%.80q cannot be waived; what can is %s", code, JoinCodes(WaivableCodes()))
	}
	because, err := readString("because", obj.Get(key.because))
	if err != nil {
		return w, err
	}
	until, ok := numberIn(obj, key.until)
	end, whole := until.Int64()
	if !ok || !whole || end <= 0 || end > math.MaxInt64/4 {
		return w, errors.New("until is not a time in Unix seconds")
	}
	return models.Waiver{Code: models.ReasonCode(code), Because: plain(because, maxExceptionReason), Until: end}, nil
}
