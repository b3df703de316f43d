package engine

import (
	"fmt"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine/plan"
)

// question is the input of one evaluation: in the slots of a shape, or as one document,
// which is built of the slots if something needs it.
type question struct {
	shape  *plan.Shape // nil: there is a document only
	slots  []*ast.Term
	scopes *plan.Tree // of the slot for them; nil: they are in that alone
	doc    *ast.Term
	trial  bool // the plan is tried as requests use it, with trees
	limit  deadline

	texts     [4]ast.Term   // of what is asked for
	textSlots [4]plan.Slots // that each is for

	watched   bool       // somebody asks what the rules look at
	read      plan.Slots // which they did, if watched
	unwatched bool       // topdown answered, which does not tell

	series  *plan.Series // which this is one of; changed is what differs from the one before
	changed plan.Slots
}

// document is the whole input.
func (q *question) document() *ast.Term {
	if q.doc == nil {
		q.doc = q.shape.Document(q.slots)
	}
	return q.doc
}

// layout says in which slots of a decision's input things stand.
type layout struct {
	shape *plan.Shape

	now, domain, entityType, entity, operation, context             int
	revoked, createdAt, expiresAt, scopes, approvals, withdrawn     int
	admin, disabled, domainID, status, maxLifetime, wildcards, must int
	role                                                            int
	ip, agent, method, path, headers, allowedIPs                    int

	ranges [factKinds][2]int // of the facts
}

// FactKind is a part of a decision's input.
type FactKind int

// The facts.
const (
	TokenFact FactKind = iota
	UserFact
	DomainFact
	MembershipFact
	factKinds
)

var factNames = [factKinds]string{"token", "user", "domain", "membership"}

var decisionLayout = sync.OnceValues(func() (*layout, error) {
	shape, err := shapes.decision()
	if err != nil {
		return nil, err
	}
	l := &layout{shape: shape}
	for _, at := range []struct {
		slot *int
		path []string
	}{
		{&l.now, []string{"now"}},
		{&l.domain, []string{"request", "domain"}},
		{&l.entityType, []string{"request", "entity_type"}},
		{&l.entity, []string{"request", "entity"}},
		{&l.operation, []string{"request", "operation"}},
		{&l.context, []string{"request", "context"}},
		{&l.revoked, []string{"token", "revoked"}},
		{&l.createdAt, []string{"token", "created_at"}},
		{&l.expiresAt, []string{"token", "expires_at"}},
		{&l.scopes, []string{"token", "scopes"}},
		{&l.approvals, []string{"token", "approvals"}},
		{&l.withdrawn, []string{"token", "withdrawn"}},
		{&l.admin, []string{"user", "admin"}},
		{&l.disabled, []string{"user", "disabled"}},
		{&l.domainID, []string{"domain", "id"}},
		{&l.status, []string{"domain", "status"}},
		{&l.maxLifetime, []string{"domain", "limits", "max_lifetime"}},
		{&l.wildcards, []string{"domain", "limits", "wildcards"}},
		{&l.must, []string{"domain", "limits", "approval"}},
		{&l.role, []string{"membership", "role"}},
		{&l.ip, []string{"client", "ip"}},
		{&l.agent, []string{"client", "user_agent"}},
		{&l.method, []string{"http", "method"}},
		{&l.path, []string{"http", "path"}},
		{&l.headers, []string{"http", "headers"}},
		{&l.allowedIPs, []string{"token", "allowed_ips"}},
	} {
		from, to, ok := shape.Range(at.path...)
		if !ok || to != from+1 {
			return nil, fmt.Errorf("the input's schema has no single value at %v", at.path)
		}
		*at.slot = from
	}
	for kind, name := range factNames {
		from, to, ok := shape.Range(name)
		if !ok {
			return nil, fmt.Errorf("the input's schema has no %s", name)
		}
		l.ranges[kind] = [2]int{from, to}
	}
	return l, nil
})

// fit takes a fact apart, for the slots of its range.
func (v *Value) fit(kind FactKind) *Value {
	v.hasAllowedIPs = kind == TokenFact && termIn(objectOf(v.term), key.allowedIPs) != nil
	l, err := decisionLayout()
	if err != nil {
		return v // the document is all there is
	}
	slots := make([]*ast.Term, l.shape.Len())
	if l.shape.Fill(slots, v.term, factNames[kind]) {
		at := l.ranges[kind]
		if at[1]-at[0] > len(v.slots) {
			return v
		}
		copy(v.slots[:], slots[at[0]:at[1]])
		v.fits, v.kind = true, kind
		if kind == TokenFact {
			v.tree = l.shape.Tree(slots)
		}
	}
	return v
}

var questions = sync.Pool{New: func() any { return newQuestion() }}

func newQuestion() *question {
	q := new(question)
	if l, err := decisionLayout(); err == nil {
		q.slots = make([]*ast.Term, l.shape.Len())
	}
	return q
}

// askDecision makes the input of one decision around the prepared facts. End it after use.
func (s *Snapshot) askDecision(req models.Request, f Facts, now time.Time) (*question, error) {
	q := questions.Get().(*question)
	fits, err := s.fill(q, req, f, now)
	if err != nil {
		q.end()
		return nil, err
	}
	if !fits {
		q.end()
		doc, err := s.decisionInput(req, f, now)
		return &question{doc: doc}, err
	}
	return q, nil
}

// fill fills the slots of a question. It reports false if the facts do not fit them.
func (s *Snapshot) fill(q *question, req models.Request, f Facts, now time.Time) (fits bool, err error) {
	l, err := decisionLayout()
	if err != nil {
		return false, err
	}
	q.shape, q.scopes = l.shape, nil
	for kind, v := range [factKinds]*Value{f.Token, f.User, f.Domain, f.Membership} {
		if v == nil {
			continue
		}
		if !v.fits || v.kind != FactKind(kind) {
			return false, nil
		}
		copy(q.slots[l.ranges[kind][0]:l.ranges[kind][1]], v.slots[:])
		if v.tree != nil {
			q.scopes = v.tree
		}
	}
	q.slots[l.now] = second(now)
	q.slots[l.context] = emptyObject
	if len(req.Context) > 0 {
		if q.slots[l.context], err = contextTerm(req.Context, 0); err != nil {
			return false, fmt.Errorf("request context: %w", err)
		}
	}
	parts := s.callParts(f)
	q.slots[l.ip], q.slots[l.agent] = parts.ip, parts.agent
	q.slots[l.method], q.slots[l.path], q.slots[l.headers] = parts.method, parts.path, parts.headers
	known := q.slots[l.domainID]
	for i, text := range [...]struct {
		slot int
		text string
	}{{l.domain, req.Domain}, {l.entityType, req.EntityType}, {l.entity, req.Entity}, {l.operation, req.Operation}} {
		if known != nil && textOf(known) == text.text {
			q.slots[text.slot] = known
			continue
		}
		switch t := s.names[text.text]; {
		case t != nil:
			q.slots[text.slot] = t
		default:
			if before, ok := q.texts[i].Value.(ast.String); !ok || string(before) != text.text {
				q.texts[i].Value = ast.String(text.text)
			}
			q.slots[text.slot], q.textSlots[i] = &q.texts[i], 1<<text.slot
		}
	}
	return true, nil
}

// end gives the memory back, unless others may still read it: a document contains parts
// of it.
func (q *question) end() {
	if q.doc != nil {
		return
	}
	clear(q.slots)
	q.texts, q.limit, q.shape, q.scopes = [4]ast.Term{}, deadline{}, nil, nil
	q.watched, q.unwatched, q.read = false, false, 0
	questions.Put(q)
}

// nameTerms are the names of entity types and operations, and the one for all of them.
func nameTerms(catalog models.Catalog) map[string]*ast.Term {
	terms := map[string]*ast.Term{models.Any: star}
	for name, t := range catalog.EntityTypes {
		terms[name] = sharedText(name)
		for operation := range t.Operations {
			terms[operation] = sharedText(operation)
		}
	}
	return terms
}

// reading holds the parts of an input that the invariants use.
type reading struct {
	now                                              *ast.Term
	domain, entityType, entity, operation            *ast.Term
	revoked, createdAt, expiresAt, scopes, approvals *ast.Term
	withdrawn, admin, disabled                       *ast.Term
	domainID, status, role                           *ast.Term
	allowedIPs, ip                                   *ast.Term

	tree *plan.Tree // of the scopes; nil: they are in that term alone

	limits                       bool // there are some; what they are may be nothing
	maxLifetime, wildcards, must *ast.Term
}

// reading reads an input.
func (q *question) reading() (r reading) {
	if q.shape == nil {
		return readingOf(q.doc.Value)
	}
	l, err := decisionLayout()
	if err != nil {
		return r
	}
	at := q.slots
	return reading{
		now: at[l.now], domain: at[l.domain], entityType: at[l.entityType], entity: at[l.entity], operation: at[l.operation],
		revoked: at[l.revoked], createdAt: at[l.createdAt], expiresAt: at[l.expiresAt], scopes: at[l.scopes], approvals: at[l.approvals], withdrawn: at[l.withdrawn],
		admin: at[l.admin], disabled: at[l.disabled], domainID: at[l.domainID], status: at[l.status], role: at[l.role],
		allowedIPs: at[l.allowedIPs], ip: at[l.ip],
		tree:        q.scopes,
		limits:      at[l.maxLifetime] != nil || at[l.wildcards] != nil || at[l.must] != nil,
		maxLifetime: at[l.maxLifetime], wildcards: at[l.wildcards], must: at[l.must],
	}
}

// readingOf reads an input that is one document.
func readingOf(input ast.Value) reading {
	in, _ := input.(ast.Object)
	request, token, user := child(in, key.request), child(in, key.token), child(in, key.user)
	domain := child(in, key.domain)
	r := reading{
		now: termIn(in, key.now), domain: termIn(request, key.domain), entityType: termIn(request, key.entityType), entity: termIn(request, key.entity),
		operation: termIn(request, key.operation), revoked: termIn(token, key.revoked), createdAt: termIn(token, key.createdAt),
		expiresAt: termIn(token, key.expiresAt), scopes: termIn(token, key.scopes), approvals: termIn(token, key.approvals), withdrawn: termIn(token, key.withdrawn),
		admin: termIn(user, key.admin), disabled: termIn(user, key.disabled), domainID: termIn(domain, key.id), status: termIn(domain, key.status),
		role:       termIn(child(in, key.membership), key.role),
		allowedIPs: termIn(token, key.allowedIPs), ip: termIn(child(in, key.client), key.ip),
	}
	if limits := termIn(domain, key.limits); limits != nil {
		if _, none := limits.Value.(ast.Null); !none {
			of, _ := limits.Value.(ast.Object)
			r.limits, r.maxLifetime, r.wildcards, r.must = true, termIn(of, key.maxLifetime), termIn(of, key.wildcards), termIn(of, key.approval)
		}
	}
	return r
}
