package manage

import (
	"context"
	"encoding/json"

	"patrol/api"
	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine/workbench"
	"patrol/server/shadow"
)

// Shadow tells of the policy that is judged beside the
// one in force; [shadow.Shadow] is one.
type Shadow interface {
	Status() shadow.Status
}

// latestDivergences bounds those that are listed beside those of each group.
const latestDivergences = models.KeptDivergences

// ReadShadow returns the shadow that the servers on a database judge by, and what it
// would have decided otherwise than the policy in force. digest names the shadow; "" is
// the last one of any server.
func ReadShadow(ctx context.Context, s *store.Store, digest string) (api.PolicyShadow, error) {
	out := api.PolicyShadow{Groups: []api.ShadowGroup{}, Latest: []models.Divergence{}}
	active, err := s.PolicyState(ctx)
	if err != nil {
		return out, err
	}
	out.Base = active.Revision
	p, err := s.PolicyShadow(ctx, digest)
	if err != nil || p.Digest == "" {
		return out, err
	}
	out.Shadow = &api.ShadowPolicy{
		Revision: p.Revision, Digest: p.Digest, Source: p.Source, SignedBy: p.SignedBy, Since: p.ActivatedAt, Result: policyResult(p.Result),
	}
	out.InForce = p.Digest == active.Digest
	counts, err := s.ShadowCounts(ctx, p.Digest, active.Revision)
	if err != nil {
		return out, err
	}
	for _, c := range counts {
		addShadowCount(&out, c)
	}
	return out, nil
}

// addShadowCount adds a count to what is shown.
func addShadowCount(out *api.PolicyShadow, c models.ShadowCount) {
	to := map[string]*int64{
		models.ShadowSame: &out.Counts.Same, models.ShadowError: &out.Counts.Errors, models.ShadowDropped: &out.Counts.Dropped,
		string(workbench.NewlyAllowed): &out.Counts.NewlyAllowed, string(workbench.NewlyDenied): &out.Counts.NewlyDenied,
		string(workbench.OtherReasons): &out.Counts.OtherReasons, string(workbench.OtherGrant): &out.Counts.OtherGrant,
	}[c.Kind]
	if to == nil {
		return // of a newer version
	}
	*to += c.Count
	if c.Kind != models.ShadowDropped {
		out.Counts.Judged += c.Count
		if out.Counts.From == nil || c.FirstAt.Before(*out.Counts.From) {
			out.Counts.From = new(c.FirstAt)
		}
		if out.Counts.To == nil || c.LastAt.After(*out.Counts.To) {
			out.Counts.To = new(c.LastAt)
		}
	}
	switch c.Kind {
	case models.ShadowSame, models.ShadowError, models.ShadowDropped:
		return
	}
	g := api.ShadowGroup{Kind: c.Kind, Reasons: []api.PolicyReplayReason{}, Count: c.Count, From: c.FirstAt, To: c.LastAt, Examples: c.Examples}
	_ = json.Unmarshal(c.Rules, &g.Reasons) // it is for show
	out.Groups = append(out.Groups, g)
	out.Latest = models.LatestDivergences(latestDivergences, out.Latest, c.Examples)
}

// PolicyShadow returns the shadow, what it would have decided otherwise, and how it is
// doing on this server.
func (s *Service) PolicyShadow(ctx context.Context) (api.PolicyShadow, error) {
	if s.shadow == nil {
		return ReadShadow(ctx, s.store, "")
	}
	status := s.shadow.Status()
	digest := ""
	if status.Candidate != nil {
		digest = status.Candidate.Digest
	}
	out, err := ReadShadow(ctx, s.store, digest)
	out.Server = &api.ShadowServer{
		Sample: status.Sample, Judging: status.Judging, Failure: status.Failure, SourceStatus: wirePolicySource(status.Source),
	}
	if status.Refused != nil {
		out.Server.Refused = new(wireResult(status.Refused.Result))
	}
	return out, err
}

// PromotePolicy puts the shadow in force, on all servers, and pins it until the
// policy's source holds the same. It is in force on this server when it returns; the
// others follow within a second.
func (s *Service) PromotePolicy(ctx context.Context, p models.Principal, in api.PolicyPromotion) (api.Policy, error) {
	var v models.Invalid
	if in.Revision == "" {
		v.Add("revision", "is required: the digest or revision of the shadow that was looked at")
	}
	if in.MaxChanges != nil && *in.MaxChanges < 0 {
		v.Add("max_changes", "must not be negative")
	}
	if err := v.Err(); err != nil {
		return api.Policy{}, err
	}
	limit := int64(-1)
	if in.MaxChanges != nil {
		limit = *in.MaxChanges
	}
	name, err := s.usableShadow(ctx, in.Revision)
	if err != nil {
		return api.Policy{}, err
	}
	if _, err := s.store.PromotePolicy(ctx, p.Actor, name, limit); err != nil {
		return api.Policy{}, err
	}
	return s.syncedPolicy(ctx)
}

// usableShadow makes sure that this server can put the shadow in force, and returns
// its digest. What cannot be loaded must not become what all servers are to follow. A name
// that is not the shadow's is returned as it is, for the store to refuse.
func (s *Service) usableShadow(ctx context.Context, name string) (string, error) {
	shadow, err := s.store.PolicyShadow(ctx, "")
	if err != nil || name != shadow.Digest && name != shadow.Revision {
		return name, err
	}
	archive, err := s.store.ShadowArchive(ctx, shadow.Digest)
	if err != nil {
		return "", err
	}
	err = s.policy.Usable(ctx, bundles.Record{
		Digest: shadow.Digest, ArchiveDigest: shadow.ArchiveDigest, Revision: shadow.Revision, Source: shadow.Source,
	}, archive)
	if err != nil {
		return "", models.WrapError(models.CodeConflict, "this server could not put it in force: "+err.Error(), err)
	}
	return shadow.Digest, nil
}
