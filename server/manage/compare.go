package manage

import (
	"context"
	"fmt"
	"slices"

	"patrol/api"
	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine/workbench"
)

// KeptPolicy finds a revision that is kept, by its digest or its name.
func (s *Service) KeptPolicy(ctx context.Context, name string) (api.PolicyRevision, error) {
	found, err := s.store.KeptPolicy(ctx, name)
	if err != nil {
		return api.PolicyRevision{}, err
	}
	history, err := s.PolicyHistory(ctx)
	if err != nil {
		return api.PolicyRevision{}, err
	}
	i := slices.IndexFunc(history.Kept, func(r api.PolicyRevision) bool { return r.Digest == found.Digest })
	if i < 0 {
		return api.PolicyRevision{}, models.NewError(models.CodeNotFound, "this revision of the policy is not kept any more")
	}
	return history.Kept[i], nil
}

// HasCandidate reports whether the policy's source holds another policy than the one in
// force.
func (s *Service) HasCandidate() bool { return s.policy.Candidate() != nil }

// ActiveRevision returns the revision of the policy in force.
func (s *Service) ActiveRevision() string { return s.policy.Status().Active.Revision }

// TakeTurn waits for a turn to do what takes much of a processor. The caller calls done at
// the end.
func (s *Service) TakeTurn(ctx context.Context) (done func(), err error) { return s.reader.begin(ctx) }

// DiffDecisions compares two kept policies by what they say and decide; nil if that
// cannot be done. What only the source holds has passed no gate, and is not run here.
func (s *Service) DiffDecisions(ctx context.Context, from, to string) *workbench.DiffReport {
	kept, err := s.store.PolicyRevisions(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "two policies could not be compared by what they decide", "from", from, "to", to, "error", err)
		return nil
	}
	within, cancel := context.WithTimeout(ctx, explainWithin)
	defer cancel()
	var sides [2]workbench.Loaded
	for i, key := range [...]string{from, to} {
		at := slices.IndexFunc(kept, func(r store.PolicyRevision) bool { return r.Digest == key })
		if at < 0 {
			return nil
		}
		var err error
		if sides[i], err = s.reader.load(within, s.store, kept[at]); err != nil {
			s.log.WarnContext(ctx, "a policy that is kept cannot be loaded to compare it", "revision", kept[at].Revision, "error", err)
			return nil
		}
	}
	report, err := workbench.Diff(within, sides[0], sides[1], 1)
	if err != nil {
		s.log.WarnContext(ctx, "two policies could not be compared by what they decide", "from", from, "to", to, "error", err)
		return nil
	}
	return report
}

// CandidateKey stands for the policy that the source holds where another would be named by
// its digest.
const CandidateKey = "candidate"

// PolicyFiles returns the files of a policy that can be compared: one that is kept, by its
// digest, or [CandidateKey].
func (s *Service) PolicyFiles(ctx context.Context, key string) (map[string][]byte, error) {
	if key == CandidateKey {
		archive := s.policy.Candidate()
		if archive == nil {
			return nil, models.NewError(models.CodeNotFound, "the policy’s source holds nothing else than what is in force")
		}
		b, err := bundles.Unpack(ctx, s.policy.Status().Source.Name, archive, nil)
		if err != nil {
			return nil, models.WrapError(models.CodeConflict, "what the policy’s source holds cannot be read: the page about the policy says why", err)
		}
		return b.Files, nil
	}
	kept, err := s.store.PolicyRevisions(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(kept, func(r store.PolicyRevision) bool { return r.Digest == key })
	if i < 0 {
		return nil, models.NewError(models.CodeNotFound, "no such revision of the policy is kept")
	}
	b, err := openKept(ctx, s.store, kept[i])
	if err != nil {
		return nil, fmt.Errorf("look into revision %s: %w", kept[i].Revision, err)
	}
	return b.Files, nil
}
