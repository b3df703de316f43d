package manage

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"patrol/api"
	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
)

// Catalog returns the catalog of the policy in force.
func (s *Service) Catalog() models.Catalog { return s.engine.Current().Catalog() }

// KeptRevisions returns the names of the policies that are kept, each once.
func (s *Service) KeptRevisions(ctx context.Context) ([]string, error) {
	kept, err := s.store.PolicyRevisions(ctx)
	var names []string
	for _, r := range kept {
		if !slices.Contains(names, r.Revision) {
			names = append(names, r.Revision)
		}
	}
	return names, err
}

// Policy is the delivery of the policy, as far as it is needed here;
// [bundles.Delivery] is one.
type Policy interface {
	Status() bundles.Status
	// Sync puts in force what the database says is.
	Sync(ctx context.Context) error
	// Archive returns the bundle in force, its digest, and what is closed when
	// another is in force.
	Archive() (archive []byte, digest string, changed <-chan struct{})
	// Candidate returns the archive of what the source holds and is not in force; nil
	// if there is none.
	Candidate() []byte
	// Usable reports what would keep this server from putting a revision in force.
	Usable(ctx context.Context, r bundles.Record, archive []byte) error
	// Permit returns a bundle with what this server lets policies waive.
	Permit(src engine.Source) engine.Source
}

const (
	shownRefusals = 5
	shownEvents   = 100
)

// Policy returns the policy in force and how it is doing.
func (s *Service) Policy(ctx context.Context) (api.Policy, error) {
	status := s.policy.Status()
	out := api.Policy{
		Revision: status.Active.Revision, Digest: status.Active.Digest, Source: status.Active.Source,
		Since: status.Active.Since.UTC(), Pinned: status.Active.Pinned, Promoted: status.Active.Promoted, SyncError: status.SyncError,
		SourceStatus: wirePolicySource(status.Source), Refusals: []api.PolicyEvent{},
	}
	out.Departures, out.Breaches = s.departures()
	kept, err := s.store.PolicyRevisions(ctx)
	if err != nil {
		return api.Policy{}, err
	}
	for _, r := range kept {
		if r.Digest == out.Digest {
			out.SignedBy, out.Result = r.SignedBy, policyResult(r.Result)
		}
	}
	refused, err := s.store.PolicyEvents(ctx, store.PolicyRefused, shownRefusals)
	if err != nil {
		return api.Policy{}, err
	}
	for _, e := range refused {
		out.Refusals = append(out.Refusals, wirePolicyEvent(e))
	}
	return out, nil
}

// departures returns what the policy that decides here allows in spite of a reason to deny, and
// what it allowed that no policy may allow.
func (s *Service) departures() (out api.PolicyDepartures, breaches []api.PolicyBreach) {
	policy := s.engine.Current()
	d := policy.Departures()
	out = api.PolicyDepartures{Waives: d.Waives}
	for _, r := range d.Exceptions {
		out.Exceptions = append(out.Exceptions, api.PolicyRule(r))
	}
	for _, r := range d.Labels {
		out.Labels = append(out.Labels, api.PolicyRule(r))
	}
	breaches = []api.PolicyBreach{}
	counts := policy.Breaches()
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		breaches = append(breaches, api.PolicyBreach{Code: code, Count: counts[code]})
	}
	return out, breaches
}

// PolicyHistory returns what happened to the policy and what can be rolled back to.
func (s *Service) PolicyHistory(ctx context.Context) (api.PolicyHistory, error) {
	out := api.PolicyHistory{Events: []api.PolicyEvent{}, Kept: []api.PolicyRevision{}}
	events, err := s.store.PolicyEvents(ctx, "", shownEvents)
	if err != nil {
		return out, err
	}
	for _, e := range events {
		out.Events = append(out.Events, wirePolicyEvent(e))
	}
	kept, err := s.store.PolicyRevisions(ctx)
	if err != nil {
		return out, err
	}
	active := s.policy.Status().Active.Digest
	for _, r := range kept {
		out.Kept = append(out.Kept, api.PolicyRevision{
			Revision: r.Revision, Digest: r.Digest, Source: r.Source, SignedBy: r.SignedBy, ActivatedAt: r.ActivatedAt,
			Active: r.Digest == active, Result: policyResult(r.Result),
		})
	}
	return out, nil
}

// PolicyArchive returns the bundle in force, its digest, and what is closed when another is
// in force.
func (s *Service) PolicyArchive() (archive []byte, digest string, changed <-chan struct{}) {
	return s.policy.Archive()
}

// RollBackPolicy puts a revision in force that was before, and pins it. It is in
// force on this server when it returns; the others follow within a second.
func (s *Service) RollBackPolicy(ctx context.Context, p models.Principal, in api.PolicyRollback) (api.Policy, error) {
	if in.Revision == "" {
		var v models.Invalid
		v.Add("revision", "is required")
		return api.Policy{}, v.Err()
	}
	if _, err := s.store.RollBackPolicy(ctx, p.Actor, in.Revision); err != nil {
		return api.Policy{}, err
	}
	return s.syncedPolicy(ctx)
}

// ResumePolicy lifts the pin of a roll back, and has all servers look again at what
// the policy's source holds.
func (s *Service) ResumePolicy(ctx context.Context, p models.Principal) (api.Policy, error) {
	if _, err := s.store.ResumePolicy(ctx, p.Actor); err != nil {
		return api.Policy{}, err
	}
	return s.syncedPolicy(ctx)
}

func (s *Service) syncedPolicy(ctx context.Context) (api.Policy, error) {
	if err := s.policy.Sync(ctx); err != nil {
		return api.Policy{}, models.WrapError(models.CodeUnavailable, "this is noted, and is not in force on this server yet", err)
	}
	return s.Policy(ctx)
}

func wirePolicyEvent(e store.PolicyEvent) api.PolicyEvent {
	return api.PolicyEvent{
		ID: e.ID, At: e.At, Kind: string(e.Kind), Actor: e.ByKind, UserID: e.ByUser, Revision: e.Subject.Revision, Digest: e.Subject.Digest,
		Source: e.Subject.Source, SignedBy: e.Subject.SignedBy, Result: policyResult(e.Subject.Result),
	}
}

func wirePolicySource(s bundles.SourceStatus) api.PolicySource {
	out := api.PolicySource{Name: s.Name, Reached: s.Reached, Error: s.Error}
	if !s.CheckedAt.IsZero() {
		out.CheckedAt = new(s.CheckedAt.UTC())
	}
	if p := s.Pending; p != nil {
		out.Pending = &api.PolicyPending{Revision: p.Revision, Digest: p.Digest, Refused: p.Refused}
	}
	return out
}

// policyResult reads what the gate found out. What another version wrote in another
// form is shown as far as it goes.
func policyResult(stored json.RawMessage) (out api.PolicyResult) {
	_ = json.Unmarshal(stored, &out) // it is for show
	return out
}
