package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// ForgedError says that a policy denied with a code of the contract that does not hold: callers
// would take a denial of a rule of its own for another.
type ForgedError struct {
	Code models.ReasonCode
	// File and Line say where the rule is, if that is known.
	File string
	Line int
}

func (e *ForgedError) Error() string {
	return fmt.Sprintf("%sa rule denies with the reason code %s, which does not hold: rules of your own have codes of their own", place(e.File, e.Line, 0), e.Code)
}

// unauthenticated are the invariants whose breach is told as 401.
const unauthenticated = breachRevoked | breachExpired | breachUser

// newlyReserved are codes that own rules of older bundles may have.
var newlyReserved = map[models.ReasonCode]bool{models.Withdrawn: true, models.IPForbidden: true}

// unforged holds a denial against the invariants: rules of one's own give no reason of the
// contract that does not hold, and nobody gives one that says who asks. An edited rule of the
// default policy may deny more than the contract does.
func (s *Snapshot) unforged(ctx context.Context, q *question, d *models.Decision) error {
	var given breach
	other := false // a reason of the contract that is no invariant
	for _, r := range d.Reasons {
		b := invariantOf(r.Code)
		given |= b
		other = other || b == 0 && IsContractCode(r.Code)
	}
	if len(s.denials) == 0 {
		given &= unauthenticated
		other = false
	}
	if given == 0 && !other {
		return nil
	}
	broken, _ := s.broken(q.reading())
	given &^= broken
	if codes := (given & unauthenticated).codes(); len(codes) > 0 {
		return s.forged(codes[0])
	}
	if given == 0 && !other {
		return nil
	}
	for _, doc := range s.denials {
		v, err := s.evalOn(ctx, doc, q)
		switch {
		case errors.Is(err, errUndefined):
			continue
		case err != nil:
			return err
		}
		for _, code := range codesIn(v) {
			if b := invariantOf(code); !newlyReserved[code] && IsContractCode(code) && (b == 0 || b&given != 0) {
				return s.forged(code)
			}
		}
	}
	return nil
}

func (s *Snapshot) forged(code models.ReasonCode) error {
	e := &ForgedError{Code: code}
	if s.compiler == nil { // where a policy's tests run
		return e
	}
	for _, a := range s.compiler.GetAnnotationSet().Flatten() {
		if a.Annotations.Custom["code"] == string(code) && a.Location != nil && a.Path.HasPrefix(CustomPackage) {
			e.File, e.Line = a.Location.File, a.Location.Row
		}
	}
	return e
}

// UnforgedOn holds a denial on an input against the invariants, without the policy.
func (s *Snapshot) UnforgedOn(ctx context.Context, input ast.Value, d *models.Decision) error {
	return s.unforged(ctx, &question{doc: ast.NewTerm(input)}, d)
}

// invariantOf is the invariant that is named by a code, 0 if none is.
func invariantOf(code models.ReasonCode) breach {
	for _, i := range invariants {
		if i.code == code {
			return i.is
		}
	}
	return 0
}

// codesIn are the codes of the reasons in a value of data.patrol.custom.deny or reason.
func codesIn(v ast.Value) (codes []models.ReasonCode) {
	note := func(t *ast.Term) {
		if code := textOf(termIn(objectOf(t), key.code)); code != "" {
			codes = append(codes, models.ReasonCode(code))
		}
	}
	switch of := v.(type) {
	case *ast.Array:
		of.Foreach(note)
	case ast.Set:
		of.Foreach(note)
	case ast.Object:
		note(ast.NewTerm(of))
		of.Foreach(func(_, t *ast.Term) { note(t) })
	}
	return codes
}
