package authz

import (
	"slices"
	"sync/atomic"
	"time"

	"patrol/models"
	"patrol/policies/engine"
)

// tokenRecord is a cached PAT with its part of the policy's input.
type tokenRecord struct {
	pat models.PAT // as it counts under the maximum lifetime
	// value is the token as it was made. If the names in its scopes have another form
	// for a request, others has the value for that.
	value  *engine.Value
	others atomic.Pointer[[]formed]
	// lastNoted is the time of the last use that was noted, in Unix seconds; see useLog.
	lastNoted atomic.Int64
	proved    atomic.Bool // its secret has verified
	admission atomic.Pointer[admission]
	supposed  bool // there is no token; see [About.UserID]
}

// admission is the state under which a token was last found to be good; see [Proxied.Admit].
type admission struct {
	policy *engine.Snapshot
	user   *engine.Value // the cached owner, which is replaced when anything about them changes
}

// admitted reports whether policy has found the token and its owner to be good. The
// record itself is replaced when the token changes; what changes by itself is the
// time.
func (r *tokenRecord) admitted(policy *engine.Snapshot, user *engine.Value, now time.Time) bool {
	last := r.admission.Load()
	return last != nil && last.policy == policy && last.user == user && now.Before(r.pat.ExpiresAt)
}

// formed is a token's part of the input with its scopes in the form that a request
// meets: for a kind of upstream and, of domains, for one that a scope names. So a
// token has few of them.
type formed struct {
	kind   models.UpstreamKind
	domain string // "" unless the kind is not the one that is configured for it
	lost   string // the domain whose approval holds no more; see lostApproval
	value  *engine.Value
}

// lostApproval returns the domain if who approved of the token for it could not do so under
// the roles of the policy that judges, else "".
func (r *tokenRecord) lostApproval(policy judge, domain string) string {
	if given := r.pat.ApprovedBy(domain); given != nil && !given.Holds(policy.Catalog().Roles) {
		return domain
	}
	return ""
}

// inForm returns the token's part of the input for a request in domain, whose
// upstream is of that kind, without the approval that is lost.
func (r *tokenRecord) inForm(kinds models.DomainKinds, kind models.UpstreamKind, domain, lost string) *engine.Value {
	if kind == "" && len(kinds) == 0 && lost == "" {
		return r.value
	}
	f := formed{kind: kind, lost: lost}
	if kind != kinds.Of(domain) && slices.ContainsFunc(r.pat.Scopes, func(s models.Scope) bool { return s.Domain == domain }) {
		f.domain = domain
	}
	for {
		known := r.others.Load()
		if known != nil {
			for _, o := range *known {
				if o.kind == f.kind && o.domain == f.domain && o.lost == f.lost {
					return o.value
				}
			}
		}
		if f.value == nil {
			f.value = r.value
			scopes, changed := kinds.InForm(r.pat.Scopes, kind, domain)
			if changed || lost != "" {
				pat := r.pat
				pat.Scopes = scopes
				pat.Approvals = slices.DeleteFunc(slices.Clone(pat.Approvals), func(a models.Approval) bool { return a.Domain == lost })
				f.value = engine.TokenValue(pat)
			}
		}
		var more []formed
		if known != nil {
			more = slices.Clone(*known)
		}
		more = append(more, f)
		if r.others.CompareAndSwap(known, &more) {
			return f.value
		}
	}
}
