package manage

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

const (
	// maxLoaded bounds the policies that are kept ready beside the one in force.
	maxLoaded = 3
	// MaxExplaining bounds the decisions that are explained at a time, and explainWait
	// how long others wait for their turn.
	MaxExplaining = 2
	explainWait   = 2 * time.Second
	// explainWithin bounds one explanation, which is some thousand evaluations at most.
	explainWithin = 5 * time.Second
)

// policyReader looks into policies for people: what is written in them, and how they
// decide. What it takes of memory and processors is bounded.
type policyReader struct {
	permit func(engine.Source) engine.Source // with what the server lets policies waive

	mu        sync.Mutex
	inspected string // digest of the archive that inspection is of
	in        *workbench.Inspection

	explaining chan struct{} // one element for each explanation in the making

	loading sync.Mutex
	loaded  []loadedPolicy // the last used first
}

// loadedPolicy is a policy that was in force, ready to decide again.
type loadedPolicy struct {
	digest string // of its archive
	workbench.Loaded
}

func newPolicyReader(permit func(engine.Source) engine.Source) *policyReader {
	return &policyReader{permit: permit, explaining: make(chan struct{}, MaxExplaining)}
}

// begin waits for a turn to explain. The caller calls done at the end.
func (r *policyReader) begin(ctx context.Context) (done func(), err error) {
	timer := time.NewTimer(explainWait)
	defer timer.Stop()
	select {
	case r.explaining <- struct{}{}:
		return func() { <-r.explaining }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		e := models.NewError(models.CodeRateLimited, "too many decisions are being explained at the moment; try again shortly")
		e.RetryAfter = 1
		return nil, e
	}
}

// inspect says what is in a policy. The last answer is kept.
func (r *policyReader) inspect(ctx context.Context, name string, archive []byte, digest string) (*workbench.Inspection, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inspected == digest {
		return r.in, nil
	}
	b, err := bundles.Unpack(ctx, name, archive, nil) // it is in force: its signature was good
	if err != nil {
		return nil, err
	}
	in, err := workbench.Inspect(ctx, b.Source)
	if err != nil {
		return nil, err
	}
	r.inspected, r.in = digest, in
	return in, nil
}

// load returns a policy that is kept, ready to decide.
func (r *policyReader) load(ctx context.Context, s *store.Store, kept store.PolicyRevision) (workbench.Loaded, error) {
	r.loading.Lock()
	defer r.loading.Unlock()
	for i, l := range r.loaded {
		if l.digest == kept.ArchiveDigest {
			r.loaded = slices.Insert(slices.Delete(r.loaded, i, i+1), 0, l)
			return l.Loaded, nil
		}
	}
	b, err := openKept(ctx, s, kept)
	if err != nil {
		return workbench.Loaded{}, err
	}
	source := r.permit(b.Source)
	snapshot, err := engine.Load(ctx, source, engine.WithRecall(0))
	if err != nil {
		return workbench.Loaded{}, err
	}
	ready := workbench.Loaded{Source: source, Snapshot: snapshot}
	r.loaded = slices.Insert(r.loaded, 0, loadedPolicy{kept.ArchiveDigest, ready})
	r.loaded = slices.Clip(slices.Delete(r.loaded, min(len(r.loaded), maxLoaded), len(r.loaded)))
	return ready, nil
}

// ReadyPolicies returns how many policies that are not in force are kept ready to decide.
func (s *Service) ReadyPolicies() int {
	s.reader.loading.Lock()
	defer s.reader.loading.Unlock()
	return len(s.reader.loaded)
}

// openKept reads a revision that is kept, if it is still what it was.
func openKept(ctx context.Context, s *store.Store, kept store.PolicyRevision) (*bundles.Bundle, error) {
	archive, err := s.PolicyArchive(ctx, kept.Digest)
	if err != nil {
		return nil, err
	}
	if bundles.ArchiveDigest(archive) != kept.ArchiveDigest {
		return nil, fmt.Errorf("what is kept of revision %s is not what was in force", kept.Revision)
	}
	return bundles.Unpack(ctx, kept.Source, archive, nil)
}

// ExplainDecision says why a decision of the log was made, under the policy that made
// it if that is kept, else under the one in force, and whether the one in force would
// decide otherwise. The error is not about the decision.
func (s *Service) ExplainDecision(ctx context.Context, d models.LoggedDecision) (workbench.Explained, error) {
	if err := workbench.CheckReplayable(&d); err != nil {
		return workbench.Explained{Unexplained: err}, nil
	}
	done, err := s.reader.begin(ctx)
	if err != nil {
		return workbench.Explained{}, err
	}
	defer done()
	active := s.engine.Current()
	decider, several, err := s.deciderOf(ctx, d, active)
	if err != nil {
		return workbench.Explained{}, err
	}
	within, cancel := context.WithTimeout(ctx, explainWithin)
	defer cancel()
	out := workbench.Explained{Revision: decider.Revision(), Decided: decider.Revision() == d.Revision, Several: several, Active: active.Revision()}
	out.Explanation, err = workbench.ExplainLogged(within, decider, &d)
	if err != nil {
		if ctx.Err() != nil {
			return workbench.Explained{}, ctx.Err()
		}
		out.Unexplained = err
	}
	if decider != active {
		// Without time left, or if the input cannot be read, the answer is left out.
		if out.Today, err = workbench.ReplayDecision(within, active, &d, &workbench.FactCache{}); err == nil {
			out.TodayKnown, out.TodayChange = true, workbench.Compare(d.Decision, out.Today, d.HeadersKnown())
		}
	}
	return out, nil
}

// deciderOf returns the policy to explain a decision under: that which made it, as far
// as its name says, or else active. several says that more than one is kept under that
// name.
func (s *Service) deciderOf(ctx context.Context, d models.LoggedDecision, active *engine.Snapshot) (_ *engine.Snapshot, several bool, err error) {
	kept, err := s.store.PolicyRevisions(ctx)
	if err != nil {
		return nil, false, err
	}
	kept = slices.DeleteFunc(kept, func(r store.PolicyRevision) bool { return r.Revision != d.Revision })
	several = len(kept) > 1
	if active.Revision() == d.Revision || len(kept) == 0 {
		return active, several, nil
	}
	loaded, err := s.reader.load(ctx, s.store, kept[0])
	if err == nil {
		return loaded.Snapshot, several, nil
	}
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	if models.CodeOf(err) != models.CodeNotFound { // else it was forgotten meanwhile
		s.log.ErrorContext(ctx, "a policy that is kept cannot be used to explain a decision", "revision", kept[0].Revision, "digest", kept[0].Digest, "error", err)
	}
	return active, false, nil
}

// InspectPolicy says what is in the policy in force. The answer is shared and must not
// be changed.
func (s *Service) InspectPolicy(ctx context.Context) (*workbench.Inspection, error) {
	archive, digest, _ := s.policy.Archive()
	in, err := s.reader.inspect(ctx, s.policy.Status().Active.Source, archive, digest)
	if err != nil {
		return nil, fmt.Errorf("look into the policy in force: %w", err)
	}
	return in, nil
}
