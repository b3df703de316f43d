package server

import (
	"context"
	"fmt"
	"sync"

	"patrol/bundles"
	"patrol/policies/engine"
)

// policyReader looks into policies for people: what is written in them, and how they
// decide.
type policyReader struct {
	mu        sync.Mutex
	inspected string // digest of the archive that inspection is of
	in        *engine.Inspection
}

// inspect says what is in a policy. The last answer is kept.
func (r *policyReader) inspect(ctx context.Context, name string, archive []byte, digest string) (*engine.Inspection, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inspected == digest {
		return r.in, nil
	}
	b, err := bundles.Unpack(ctx, name, archive, nil) // it is in force: its signature was good
	if err != nil {
		return nil, err
	}
	in, err := engine.Inspect(ctx, b.Source)
	if err != nil {
		return nil, err
	}
	r.inspected, r.in = digest, in
	return in, nil
}

// InspectPolicy says what is in the policy in force. The answer is shared and must not
// be changed.
func (s *Server) InspectPolicy(ctx context.Context) (*engine.Inspection, error) {
	archive, digest, _ := s.policy.Archive()
	in, err := s.reader.inspect(ctx, s.policy.Status().Active.Source, archive, digest)
	if err != nil {
		return nil, fmt.Errorf("look into the policy in force: %w", err)
	}
	return in, nil
}
