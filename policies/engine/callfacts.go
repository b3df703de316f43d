package engine

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// Reads says which facts about a call the rules of a policy can read. The others are not
// in its input, and the log does not keep them. IP does not count rules that read the address
// only of tokens with allowed_ips; for those it is always read, since the invariants do.
type Reads struct{ IP, UserAgent, Method, Path, Headers bool }

// Call returns what of the facts about a call is read.
func (r Reads) Call(f Facts) (client models.Client, http *models.ProxiedFacts) {
	if r.IP || f.Token.HasAllowedIPs() {
		client.IP = f.Client.IP
	}
	if r.UserAgent {
		client.UserAgent = f.Client.UserAgent
	}
	if f.HTTP == nil || !r.Method && !r.Path && !r.Headers {
		return client, nil
	}
	http = new(models.ProxiedFacts)
	if r.Method {
		http.Method = f.HTTP.Method
	}
	if r.Path {
		http.Path = f.HTTP.Path
	}
	if r.Headers {
		http.Headers = f.HTTP.Headers
	}
	return client, http
}

// Reads lists the facts about a call that the policy reads.
func (s *Snapshot) Reads() Reads { return s.reads }

// Reads is [Snapshot.Reads].
func (s *Series) Reads() Reads { return s.policy.reads }

// readsOf returns what the rules of the documents at refs can read.
func readsOf(c *ast.Compiler, refs ...ast.Ref) (r Reads) {
	eachRule(c, refs, func(rule *ast.Rule) {
		before := r.IP
		eachInputOf(rule, r.add)
		r.IP = before || r.IP && !limitedOnly(rule)
	})
	return r
}

// limitedOnly reports whether a rule holds only for tokens with allowed_ips, so that for
// others the address makes no difference to it.
func limitedOnly(rule *ast.Rule) bool {
	if rule.Else != nil {
		return false
	}
	return slices.ContainsFunc(rule.Body, func(e *ast.Expr) bool {
		return !e.Negated && len(e.With) == 0 && slices.ContainsFunc(termsOf(e), func(t *ast.Term) bool {
			ref, ok := t.Value.(ast.Ref)
			return ok && ref.HasPrefix(allowedIPsRef)
		})
	})
}

var allowedIPsRef = ast.MustParseRef("input.token.allowed_ips")

// termsOf are the term that an expression is, or its operator and operands.
func termsOf(e *ast.Expr) []*ast.Term {
	switch terms := e.Terms.(type) {
	case *ast.Term:
		return []*ast.Term{terms}
	case []*ast.Term:
		return terms
	}
	return nil
}

// HasAllowedIPs reports whether a token is for some addresses.
func (v *Value) HasAllowedIPs() bool { return v != nil && v.hasAllowedIPs }

// add adds what a reference to input reads.
func (r *Reads) add(ref ast.Ref) {
	parts := [...]struct {
		of, name *ast.Term
		read     *bool
	}{
		{key.client, key.ip, &r.IP},
		{key.client, key.userAgent, &r.UserAgent},
		{key.http, key.method, &r.Method},
		{key.http, key.path, &r.Path},
		{key.http, key.headers, &r.Headers},
	}
	may := func(at int, name *ast.Term) bool {
		if len(ref) <= at {
			return true
		}
		_, named := ref[at].Value.(ast.String)
		return !named || ref[at].Equal(name)
	}
	for _, part := range parts {
		if may(1, part.of) && may(2, part.name) {
			*part.read = true
		}
	}
}

// callTerms are the facts about a call that are in an input; nil is absent.
type callTerms struct{ ip, agent, method, path, headers *ast.Term }

// callParts returns those that the policy reads.
func (s *Snapshot) callParts(f Facts) (t callTerms) {
	if (s.reads.IP || f.Token.HasAllowedIPs()) && f.Client.IP.IsValid() {
		t.ip = addressTerm(f.Client.IP)
	}
	if s.reads.UserAgent && f.Client.UserAgent != "" {
		t.agent = ast.StringTerm(f.Client.UserAgent)
	}
	if f.HTTP == nil {
		return t
	}
	if s.reads.Method && f.HTTP.Method != "" {
		t.method = sharedText(f.HTTP.Method)
	}
	if s.reads.Path && f.HTTP.Path != "" {
		t.path = ast.StringTerm(f.HTTP.Path)
	}
	if s.reads.Headers {
		if t.headers = emptyObject; len(f.HTTP.Headers) > 0 {
			headers := ast.NewObjectWithCapacity(len(f.HTTP.Headers))
			for name, value := range f.HTTP.Headers {
				headers.Insert(ast.StringTerm(name), ast.StringTerm(value))
			}
			t.headers = ast.NewTerm(headers)
		}
	}
	return t
}

// members are the items that have a value.
func members(items ...[2]*ast.Term) (there [][2]*ast.Term) {
	for _, item := range items {
		if item[1] != nil {
			there = append(there, item)
		}
	}
	return there
}

// seenAddresses holds the terms of the addresses that were seen last: a server has few peers.
var seenAddresses [256]atomic.Pointer[addressed]

type addressed struct {
	addr netip.Addr
	term *ast.Term
}

// addressTerm is an address in its one spelling: IPv4 as such, and without a zone.
func addressTerm(addr netip.Addr) *ast.Term {
	addr = addr.Unmap().WithZone("")
	place := uint32(2166136261)
	for _, b := range addr.As16() {
		place = (place ^ uint32(b)) * 16777619
	}
	at := &seenAddresses[(place^place>>16)%uint32(len(seenAddresses))]
	if known := at.Load(); known != nil && known.addr == addr {
		return known.term
	}
	made := &addressed{addr, ast.StringTerm(addr.String())}
	at.Store(made)
	return made.term
}
