package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"patrol/models"
	"patrol/policies/engine/plan"
)

// Value is one part of a decision's input, prepared once and then shared by all
// the evaluations that use it, in any number of goroutines. It is immutable. A
// nil *Value is an absent fact.
type Value struct {
	term  *ast.Term
	slots [12]*ast.Term // the same in the slots of a decision's input, as a fact of the kind, if it fits
	fits  bool
	tree  *plan.Tree // of a token's scopes; nil: they do not fit
	kind  FactKind

	hasAllowedIPs bool // of a token

	fact atomic.Pointer[models.Fact] // made when it is first asked for
}

// Facts are the facts about a request beyond the request itself. What is nil
// is absent from the input, and absent facts deny.
type Facts struct {
	Token, User, Domain, Membership *Value

	Client models.Client        // as far as it is known
	HTTP   *models.ProxiedFacts // of a proxied request
}

// TokenValue prepares `input.token`. Its expiry is p's, so that the caller may
// shorten it (see [models.PAT.WithMaxLifetime]); its scopes are keyed domain →
// entity type → operation → entity → scope id, so that a look-up is direct however
// many there are.
func TokenValue(p models.PAT) *Value {
	scopes := tree{}
	for _, s := range p.Scopes {
		leaf := scopes.at(s.Domain).at(s.EntityType).at(s.Operation)
		if _, taken := leaf[s.Entity]; !taken {
			leaf[s.Entity] = s.ID
		}
	}
	items := [][2]*ast.Term{
		ast.Item(key.id, ast.StringTerm(p.ID)),
		ast.Item(key.name, ast.StringTerm(p.Name)),
		ast.Item(key.revoked, ast.InternedTerm(p.RevokedAt != nil)),
		ast.Item(key.createdAt, unix(p.CreatedAt)),
		ast.Item(key.expiresAt, unix(p.ExpiresAt)),
		ast.Item(key.scopes, scopes.term()),
	}
	if len(p.Approvals) > 0 {
		approvals := ast.NewObjectWithCapacity(len(p.Approvals))
		for _, a := range p.Approvals {
			approvals.Insert(sharedText(a.Domain), unix(a.At))
		}
		items = append(items, ast.Item(key.approvals, ast.NewTerm(approvals)))
	}
	if len(p.Withdrawals) > 0 {
		withdrawn := ast.NewObjectWithCapacity(len(p.Withdrawals))
		for _, w := range p.Withdrawals {
			withdrawn.Insert(sharedText(w.Domain), unix(w.At))
		}
		items = append(items, ast.Item(key.withdrawn, ast.NewTerm(withdrawn)))
	}
	if len(p.AllowedIPs) > 0 {
		ranges := make([]*ast.Term, len(p.AllowedIPs))
		for i, entry := range p.AllowedIPs {
			if prefix, ok := models.AllowedPrefix(entry); ok {
				entry = prefix.String()
			}
			ranges[i] = ast.StringTerm(entry)
		}
		items = append(items, ast.Item(key.allowedIPs, ast.ArrayTerm(ranges...)))
	}
	return newValue(items...).fit(TokenFact)
}

// UserValue prepares `input.user`.
func UserValue(u models.User) *Value {
	return newValue(
		ast.Item(key.id, ast.StringTerm(u.ID)),
		ast.Item(key.email, ast.StringTerm(u.Email)),
		ast.Item(key.admin, ast.InternedTerm(u.Admin)),
		ast.Item(key.disabled, ast.InternedTerm(u.Disabled)),
	).fit(UserFact)
}

// DomainValue prepares `input.domain`. A domain that demands nothing has no
// limits in it, so that they cost nothing where there are none.
func DomainValue(d models.Domain) *Value {
	items := [][2]*ast.Term{
		ast.Item(key.id, sharedText(d.ID)),
		ast.Item(key.status, sharedText(string(d.Status))),
	}
	if l := d.Limits; l != (models.DomainLimits{}) {
		items = append(items, ast.Item(key.limits, ast.ObjectTerm(
			ast.Item(key.maxLifetime, seconds(int64(l.MaxLifetime/time.Second))),
			ast.Item(key.wildcards, ast.InternedTerm(!l.NoWildcards)),
			ast.Item(key.approval, ast.InternedTerm(l.Approval)),
		)))
	}
	return newValue(items...).fit(DomainFact)
}

// MembershipValue prepares `input.membership`.
func MembershipValue(m models.Membership) *Value {
	return newValue(ast.Item(key.role, sharedText(m.Role))).fit(MembershipFact)
}

// Fact returns the part as JSON, made once: for logs of decisions, which are to
// cost little. nil gives nil.
func (v *Value) Fact() (*models.Fact, error) {
	if v == nil {
		return nil, nil
	}
	if f := v.fact.Load(); f != nil {
		return f, nil
	}
	f, err := newFact(v.term.Value)
	if err != nil {
		return nil, err
	}
	v.fact.Store(f)
	return f, nil
}

func newFact(v ast.Value) (*models.Fact, error) {
	doc, err := ast.JSON(v)
	if err != nil {
		return nil, fmt.Errorf("write a fact as JSON: %w", err)
	}
	return FactOf(doc)
}

// FactOf returns a document, of what encoding/json makes of JSON, as a fact.
func FactOf(doc any) (*models.Fact, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil { // keys sorted: equal facts have equal texts
		return nil, fmt.Errorf("write a fact as JSON: %w", err)
	}
	return models.NewFact(strings.TrimSuffix(text.String(), "\n")), nil
}

// key are the keys of input and answers, made once.
var key = struct {
	request, token, user, domain, membership, now   *ast.Term
	entityType, entity, operation, context          *ast.Term
	id, name, revoked, createdAt, expiresAt, scopes *ast.Term
	email, admin, disabled, status, role            *ast.Term
	approvals, withdrawn, limits                    *ast.Term
	hypothetical                                    *ast.Term
	maxLifetime, wildcards, approval                *ast.Term

	http, method, path, segments, query, headers, body, model *ast.Term

	allow, reasons, scope, code, message *ast.Term // of what policies answer
	format, fields, each, absent         *ast.Term // likewise
	labels, because, until               *ast.Term // likewise

	client, ip, userAgent, allowedIPs *ast.Term
}{
	request: ast.StringTerm("request"), token: ast.StringTerm("token"), user: ast.StringTerm("user"),
	domain: ast.StringTerm("domain"), membership: ast.StringTerm("membership"), now: ast.StringTerm("now"),
	entityType: ast.StringTerm("entity_type"), entity: ast.StringTerm("entity"),
	operation: ast.StringTerm("operation"), context: ast.StringTerm("context"),
	id: ast.StringTerm("id"), name: ast.StringTerm("name"), revoked: ast.StringTerm("revoked"),
	createdAt: ast.StringTerm("created_at"), expiresAt: ast.StringTerm("expires_at"), scopes: ast.StringTerm("scopes"),
	email: ast.StringTerm("email"), admin: ast.StringTerm("admin"), disabled: ast.StringTerm("disabled"),
	status: ast.StringTerm("status"), role: ast.StringTerm("role"),
	approvals: ast.StringTerm("approvals"), withdrawn: ast.StringTerm("withdrawn"), limits: ast.StringTerm("limits"),
	hypothetical: ast.StringTerm("hypothetical"),
	maxLifetime:  ast.StringTerm("max_lifetime"), wildcards: ast.StringTerm("wildcards"), approval: ast.StringTerm("approval"),

	http: ast.StringTerm("http"), method: ast.StringTerm("method"), path: ast.StringTerm("path"),
	segments: ast.StringTerm("segments"), query: ast.StringTerm("query"), headers: ast.StringTerm("headers"),
	body: ast.StringTerm("body"), model: ast.StringTerm("model"),

	allow: ast.StringTerm("allow"), reasons: ast.StringTerm("reasons"), scope: ast.StringTerm("scope"),
	code: ast.StringTerm("code"), message: ast.StringTerm("message"), format: ast.StringTerm("format"), fields: ast.StringTerm("fields"),
	each: ast.StringTerm("each"), absent: ast.StringTerm("absent"),
	labels: ast.StringTerm("labels"), because: ast.StringTerm("because"), until: ast.StringTerm("until"),

	client: ast.StringTerm("client"), ip: ast.StringTerm("ip"), userAgent: ast.StringTerm("user_agent"), allowedIPs: ast.StringTerm("allowed_ips"),
}

func newValue(items ...[2]*ast.Term) *Value {
	t := ast.ObjectTerm(items...)
	plan.Settle(t.Value)
	return &Value{term: t}
}

// scopeDepth is the number of keys of a token's scope: domain, entity type, operation and entity.
const scopeDepth = 4

// tree is an object of objects whose leaves are strings.
type tree map[string]any

func (t tree) at(k string) tree {
	child, ok := t[k].(tree)
	if !ok {
		child = tree{}
		t[k] = child
	}
	return child
}

func (t tree) term() *ast.Term {
	obj := ast.NewObjectWithCapacity(len(t))
	for k, v := range t {
		switch v := v.(type) {
		case tree:
			obj.Insert(sharedText(k), v.term())
		case string:
			obj.Insert(sharedText(k), ast.StringTerm(v))
		}
	}
	return ast.NewTerm(obj)
}

func unix(t time.Time) *ast.Term { return seconds(t.Unix()) }

func seconds(n int64) *ast.Term {
	return ast.NumberTerm(json.Number(strconv.FormatInt(n, 10)))
}

// lastSecond is the `input.now` that was made last; there are many requests a
// second.
var lastSecond atomic.Pointer[instant]

type instant struct {
	unix int64
	term *ast.Term
}

func second(at time.Time) *ast.Term {
	last := lastSecond.Load()
	if last == nil || last.unix != at.Unix() {
		last = &instant{unix: at.Unix(), term: unix(at)}
		lastSecond.Store(last)
	}
	return last.term
}

// noFacts is the input when nothing is known but that somebody asks.
var noFacts = ast.ObjectTerm(
	ast.Item(key.request, ast.ObjectTerm()),
	ast.Item(key.now, ast.IntNumberTerm(0)),
)

// decisionInput builds `input` of one decision around the prepared facts.
func (s *Snapshot) decisionInput(req models.Request, f Facts, now time.Time) (*ast.Term, error) {
	context := emptyObject
	if len(req.Context) > 0 {
		var err error
		if context, err = contextTerm(req.Context, 0); err != nil {
			return nil, fmt.Errorf("request context: %w", err)
		}
	}
	// One allocation holds all the terms that are made here.
	terms := [...]ast.Term{
		{Value: ast.String(req.Domain)},
		{Value: ast.String(req.EntityType)},
		{Value: ast.String(req.Entity)},
		{Value: ast.String(req.Operation)},
		{},
		{},
	}
	request, input := &terms[4], &terms[5]
	request.Value = ast.NewObject(
		ast.Item(key.domain, &terms[0]),
		ast.Item(key.entityType, &terms[1]),
		ast.Item(key.entity, &terms[2]),
		ast.Item(key.operation, &terms[3]),
		ast.Item(key.context, context),
	)
	items := [8][2]*ast.Term{ast.Item(key.request, request), ast.Item(key.now, second(now))}
	n := 2
	for _, fact := range [...]struct {
		key   *ast.Term
		value *Value
	}{{key.token, f.Token}, {key.user, f.User}, {key.domain, f.Domain}, {key.membership, f.Membership}} {
		if fact.value != nil {
			items[n] = ast.Item(fact.key, fact.value.term)
			n++
		}
	}
	parts := s.callParts(f)
	for _, part := range [...]struct {
		key     *ast.Term
		members [][2]*ast.Term
	}{
		{key.client, members(ast.Item(key.ip, parts.ip), ast.Item(key.userAgent, parts.agent))},
		{key.http, members(ast.Item(key.method, parts.method), ast.Item(key.path, parts.path), ast.Item(key.headers, parts.headers))},
	} {
		if len(part.members) > 0 {
			items[n] = ast.Item(part.key, ast.ObjectTerm(part.members...))
			n++
		}
	}
	input.Value = ast.NewObject(items[:n]...)
	return input, nil
}

var emptyObject = ast.ObjectTerm()

// contextTerm converts what encoding/json makes of a JSON value. Anything else,
// such as a struct or a number that is none, is an error.
func contextTerm(v any, depth int) (*ast.Term, error) {
	if depth > models.MaxContextDepth {
		return nil, fmt.Errorf("nests deeper than %d levels", models.MaxContextDepth)
	}
	switch v := v.(type) {
	case nil:
		return ast.NullTerm(), nil
	case bool:
		return ast.InternedTerm(v), nil
	case string:
		return ast.StringTerm(v), nil
	case int:
		return ast.IntNumberTerm(v), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%v is not a JSON number", v)
		}
		return ast.FloatNumberTerm(v), nil
	case json.Number:
		// A number of any size is valid JSON, but OPA computes with all its digits.
		if _, err := v.Float64(); err != nil || len(v) > models.MaxContextNumber || !json.Valid([]byte(v)) {
			return nil, fmt.Errorf("%.64q is not a number that can be computed with", v.String())
		}
		return ast.NumberTerm(v), nil
	case []any:
		terms := make([]*ast.Term, len(v))
		for i, x := range v {
			var err error
			if terms[i], err = contextTerm(x, depth+1); err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return ast.ArrayTerm(terms...), nil
	case map[string]any:
		obj := ast.NewObjectWithCapacity(len(v))
		for k, x := range v {
			t, err := contextTerm(x, depth+1)
			if err != nil {
				return nil, fmt.Errorf("%.64q: %w", k, err)
			}
			obj.Insert(ast.StringTerm(k), t)
		}
		return ast.NewTerm(obj), nil
	default:
		return nil, fmt.Errorf("%T is not a JSON value", v)
	}
}

// LoggedFact reads a fact of the decision log.
func LoggedFact(f *models.Fact, kind FactKind) (*Value, error) {
	var doc any
	if err := util.UnmarshalJSON([]byte(f.JSON), &doc); err != nil {
		return nil, fmt.Errorf("read a logged fact: %w", err)
	}
	value, err := ast.InterfaceToValue(doc)
	if err != nil {
		return nil, fmt.Errorf("read a logged fact: %w", err)
	}
	plan.Settle(value)
	return (&Value{term: ast.NewTerm(value)}).fit(kind), nil
}
