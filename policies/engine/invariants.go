package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// breach is a set of invariants: of what must hold for a request to be allowed,
// whatever the policy says. Each is named by the reason that a policy gives where it
// does not hold.
type breach uint16

// The invariants, in the order in which they are told.
const (
	breachRevoked breach = 1 << iota
	breachExpired
	breachUser
	breachOperation
	breachDomain
	breachDisabled
	breachFrozen
	breachMember
	breachRole
	breachScope
	breachLifetime
	breachWildcard
	breachApproval
	breachWithdrawn
	breachAddress
)

// invariants names each, and says which can be waived.
var invariants = [...]struct {
	is       breach
	code     models.ReasonCode
	waivable bool
}{
	{breachRevoked, models.TokenRevoked, false},
	{breachExpired, models.TokenExpired, false},
	{breachUser, models.UserDisabled, false},
	{breachOperation, models.UnknownOperation, false},
	{breachDomain, models.DomainUnknown, false},
	{breachDisabled, models.DomainDisabled, true},
	{breachFrozen, models.DomainFrozen, true},
	{breachMember, models.NotAMember, true},
	{breachRole, models.RoleForbids, true},
	{breachScope, models.OutOfScope, false},
	{breachLifetime, models.LifetimeExceeded, true},
	{breachWildcard, models.WildcardForbidden, true},
	{breachApproval, models.ApprovalRequired, true},
	{breachWithdrawn, models.Withdrawn, false},
	{breachAddress, models.IPForbidden, false},
}

// codes names the invariants in b.
func (b breach) codes() []models.ReasonCode {
	list := make([]models.ReasonCode, 0, bits.OnesCount16(uint16(b)))
	for _, i := range invariants {
		if b&i.is != 0 {
			list = append(list, i.code)
		}
	}
	return list
}

// waivable returns the invariant that a code names if it can be waived, else 0.
func waivable(code models.ReasonCode) breach {
	for _, i := range invariants {
		if i.code == code && i.waivable {
			return i.is
		}
	}
	return 0
}

// BreachError says that a policy allowed what no policy may allow. Nothing was.
type BreachError struct {
	// Codes are the reasons that the policy should have given.
	Codes []models.ReasonCode
	// Scope is the id of the scope by which the policy allowed it, if that is none of
	// the token's which covers the request.
	Scope string
	// Rule is the rule that should have denied it, or else the decision; File and Line
	// say where it is.
	Rule, File string
	Line       int
}

func (e *BreachError) Error() string {
	codes := make([]string, len(e.Codes))
	for i, code := range e.Codes {
		codes[i] = string(code)
	}
	what := strings.Join(codes, ", ")
	if e.Scope != "" {
		what = fmt.Sprintf("its scope %.80q is none of the token's that covers the request", e.Scope)
	}
	return fmt.Sprintf("the policy allows what no policy may allow: %s; see %s%s", what, place(e.File, e.Line, 0), e.Rule)
}

// uphold holds an allowance against the invariants, on the input that the policy
// judged. What it returns an error for is not allowed. An allowance that names no scope
// gets the one that covers the request. Where all is well it allocates nothing.
func (s *Snapshot) uphold(ctx context.Context, q *question, d *models.Decision) error {
	broken, granted := s.broken(q.reading())
	if broken == 0 {
		switch {
		case d.ScopeID == "":
			d.ScopeID = string(granted[0])
			return nil
		case granted.has(d.ScopeID):
			return nil
		}
		return s.breached(breachScope, d.ScopeID)
	}
	input := q.document()
	exceptions, err := s.madeExceptions(ctx, input, broken)
	if err != nil {
		return errors.Join(s.breached(broken, ""), err)
	}
	lifted, endless := s.ending(ctx, input, s.lifted(input.Value, exceptions, broken))
	for _, w := range lifted {
		broken &^= waivable(w.Code)
	}
	switch {
	case broken != 0:
		return errors.Join(s.breached(broken, ""), endless)
	case d.ScopeID == "":
		d.ScopeID = string(granted[0])
	case !granted.has(d.ScopeID):
		return s.breached(breachScope, d.ScopeID)
	}
	d.Waived = lifted
	return nil
}

// breached counts a breach and says where it is to be mended.
func (s *Snapshot) breached(b breach, scope string) error {
	e := &BreachError{Codes: b.codes(), Scope: scope, Rule: DecisionRef.String()}
	if s.compiler == nil { // where a policy's tests run
		return e
	}
	if rules := s.compiler.GetRulesExact(DecisionRef); len(rules) > 0 && rules[0].Location != nil {
		e.File, e.Line = rules[0].Location.File, rules[0].Location.Row
	}
	for _, code := range e.Codes {
		if a := s.AnnotationOf(string(code)); a != nil && scope == "" {
			e.Rule, e.File, e.Line = a.Path.String(), a.Location.File, a.Location.Row
			break
		}
	}
	for i, invariant := range invariants {
		if b&invariant.is != 0 {
			s.breaches[i].Add(1)
		}
	}
	return e
}

// breachCounts count what a policy allowed against the invariants.
type breachCounts [len(invariants)]atomic.Int64

// Breaches returns how often this policy allowed what no policy may allow, by the
// reason that it should have given. Nothing of it was allowed.
func (s *Snapshot) Breaches() map[models.ReasonCode]int64 {
	counts := map[models.ReasonCode]int64{}
	for i, invariant := range invariants {
		if n := s.breaches[i].Load(); n > 0 {
			counts[invariant.code] = n
		}
	}
	return counts
}

// grants are the ids of the token's scopes that cover a request, the most specific
// first, as far as there are any.
type grants [4]ast.String

func (g *grants) has(id string) bool {
	return id != "" && slices.Contains(g[:], ast.String(id))
}

// star is the mark of a scope that covers every domain or entity.
var star = sharedText(models.Any)

// broken returns the invariants that do not hold of an input, and by which scopes of
// the token the request is granted.
func (s *Snapshot) broken(in reading) (b breach, granted grants) {
	now, timed := numberOf(in.now)
	if !is(in.revoked, false) {
		b |= breachRevoked
	}
	if expires, ok := numberOf(in.expiresAt); !ok || !timed || compareNumbers(now, expires) >= 0 {
		b |= breachExpired
	}
	if !is(in.disabled, false) {
		b |= breachUser
	}
	kind, what := textOf(in.entityType), textOf(in.operation)
	if _, ok := s.catalog.EntityTypes[kind].Operations[what]; !ok {
		b |= breachOperation
	}
	status := models.DomainStatus(textOf(in.status))
	asked, isDomain := askedValue(in.domain)
	known, isKnown := askedValue(in.domainID)
	if !isDomain || !isKnown || asked != known || status != models.DomainEnabled && status != models.DomainIsDisabled && status != models.DomainIsFrozen {
		b |= breachDomain
	}
	role, member := askedValue(in.role)
	if !is(in.admin, true) {
		switch status {
		case models.DomainIsDisabled:
			if !s.catalog.Roles[role].AdministersDomain() {
				b |= breachDisabled
			}
		case models.DomainIsFrozen:
			b |= breachFrozen
		}
		if !member {
			b |= breachMember
		}
		if !s.catalog.Roles[role].Permits(kind, what) {
			b |= breachRole
		}
	}
	named := false
	if name, ok := askedValue(in.entity); ok && isDomain && (kind != DomainsType || name == asked) {
		named = in.coveredBy(&granted)
		named = named && name != models.Any && asked != models.Any
	}
	if granted[0] == "" {
		b |= breachScope
	}
	if in.withdrawn != nil {
		if from := objectOf(in.withdrawn); from == nil || termIn(from, in.domain) != nil {
			b |= breachWithdrawn
		}
	}
	if in.allowedIPs != nil && !in.fromAllowed() {
		b |= breachAddress
	}
	if in.limits {
		b |= brokenLimits(in, now, timed, named)
	}
	return b, granted
}

// fromAllowed reports whether one of the ranges from which the token may be used contains
// the client's address. What is no range, or no list of them, contains none.
func (in *reading) fromAllowed() bool {
	ranges, ok := in.allowedIPs.Value.(*ast.Array)
	addr, err := netip.ParseAddr(textOf(in.ip))
	if !ok || err != nil {
		return false
	}
	for i := range ranges.Len() {
		prefix, err := netip.ParsePrefix(textOf(ranges.Elem(i)))
		if err == nil && prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// coveredBy finds the scopes that cover a request: this domain before any, then this
// entity before any. named says that one of them names both.
func (in *reading) coveredBy(found *grants) (named bool) {
	n := 0
	scopes := objectOf(in.scopes)
	for _, d := range [...]*ast.Term{in.domain, star} {
		var entities ast.Object
		if in.tree == nil {
			entities = child(child(child(scopes, d), in.entityType), in.operation)
		}
		for _, e := range [...]*ast.Term{in.entity, star} {
			var id string
			if in.tree != nil {
				id = textOf(in.tree.Find(d, in.entityType, in.operation, e))
			} else {
				id = textOf(termIn(entities, e))
			}
			if id != "" {
				named = named || d == in.domain && e == in.entity
				found[n] = ast.String(id)
				n++
			}
		}
	}
	return named
}

// brokenLimits returns the limits of the domain that the token does not keep. What is no
// such limit is not kept.
func brokenLimits(in reading, now ast.Number, timed, named bool) (b breach) {
	most, bounded := numberOf(in.maxLifetime)
	made, dated := numberOf(in.createdAt)
	switch {
	case bounded && compareNumbers(most, "0") == 0:
	case !bounded || !dated || !timed || !younger(now, made, most):
		b |= breachLifetime
	}
	if !is(in.wildcards, true) && !named {
		b |= breachWildcard
	}
	if !is(in.must, false) {
		if _, approved := numberOf(termIn(objectOf(in.approvals), in.domain)); !approved {
			b |= breachApproval
		}
	}
	return b
}

// younger reports whether now < made + most.
func younger(now, made, most ast.Number) bool {
	n, ok1 := now.Int64()
	m, ok2 := made.Int64()
	l, ok3 := most.Int64()
	if ok1 && ok2 && ok3 && m < math.MaxInt64/4 && l < math.MaxInt64/4 && m > -math.MaxInt64/4 && l > -math.MaxInt64/4 {
		return n < m+l
	}
	nf, ok1 := now.Float64()
	mf, ok2 := made.Float64()
	lf, ok3 := most.Float64()
	return ok1 && ok2 && ok3 && nf < mf+lf
}

// compareNumbers compares without allocating where both are whole.
func compareNumbers(a, b ast.Number) int {
	x, ok1 := a.Int64()
	y, ok2 := b.Int64()
	if ok1 && ok2 {
		return cmp.Compare(x, y)
	}
	return a.Compare(b)
}

func termIn(o ast.Object, k *ast.Term) *ast.Term {
	if o == nil || k == nil {
		return nil
	}
	return o.Get(k)
}

func child(o ast.Object, k *ast.Term) ast.Object { return objectOf(termIn(o, k)) }

func objectOf(t *ast.Term) ast.Object {
	if t == nil {
		return nil
	}
	o, _ := t.Value.(ast.Object)
	return o
}

// is reports whether a term is the truth value.
func is(t *ast.Term, want ast.Boolean) bool {
	if t == nil {
		return false
	}
	b, ok := t.Value.(ast.Boolean)
	return ok && b == want
}

func numberIn(o ast.Object, k *ast.Term) (ast.Number, bool) { return numberOf(termIn(o, k)) }

func numberOf(t *ast.Term) (ast.Number, bool) {
	if t == nil {
		return "", false
	}
	n, ok := t.Value.(ast.Number)
	return n, ok
}

// textOf is the text that a term is, "" if it is none.
func textOf(t *ast.Term) string {
	text, _ := askedValue(t)
	return text
}

// askedValue is textOf that tells "" from what is no text.
func askedValue(t *ast.Term) (string, bool) {
	if t == nil {
		return "", false
	}
	text, ok := t.Value.(ast.String)
	return string(text), ok
}

// DomainsType is the entity type whose entity is the domain itself.
const DomainsType = "domains"

// UpholdOn holds an allowance against the invariants, with the exceptions at hand.
func (s *Snapshot) UpholdOn(input, exceptions, later ast.Value, d *models.Decision) error {
	broken, granted := s.broken(readingOf(input))
	lifted, endless := s.withoutEndless(s.lifted(input, exceptions, broken), LaterInput(input), later)
	for _, w := range lifted {
		broken &^= waivable(w.Code)
	}
	switch {
	case broken != 0:
		return errors.Join(s.breached(broken, ""), endless)
	case d.ScopeID != "" && !granted.has(d.ScopeID):
		return s.breached(breachScope, d.ScopeID)
	}
	return nil
}

// Invariants returns a snapshot that can hold allowances against the invariants, see
// [Snapshot.UpholdOn], and answers nothing. Its catalog is empty where the bundle's cannot be read.
func (b *Bundle) Invariants() *Snapshot {
	s := &Snapshot{waives: b.waives, breaches: new(breachCounts)}
	if docs, err := readDocs(b); err == nil {
		s.catalog = docs
	}
	return s
}

// On returns the same with another catalog and other roles, as tests of a policy put in
// place. There are none of what is nil or not as its schema says.
func (s *Snapshot) On(catalog, roles ast.Value) *Snapshot {
	on := &Snapshot{waives: s.waives, breaches: s.breaches}
	inRoot := map[string]any{}
	for name, v := range map[string]ast.Value{"catalog": catalog, "roles": roles} {
		if v == nil {
			continue
		}
		doc, err := ast.JSON(v)
		if err != nil {
			return on
		}
		inRoot[name] = doc
	}
	if docs, err := readDocs(&Bundle{Data: map[string]any{Root: inRoot}}); err == nil {
		on.catalog = docs
	}
	return on
}
