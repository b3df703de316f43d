package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
)

// policyLedger keeps in the database which policy is in force, on behalf of Patrol
// itself.
type policyLedger struct{ store *store.Store }

// PolicyLedger returns the ledger of all servers on a database.
func PolicyLedger(s *store.Store) bundles.Ledger { return policyLedger{s} }

var system = models.Actor{Kind: models.ActorSystem}

func (l policyLedger) State(ctx context.Context) (bundles.State, error) {
	s, err := l.store.PolicyState(ctx)
	return bundles.State(s), err
}

func (l policyLedger) Archive(ctx context.Context, digest string) ([]byte, error) {
	return l.store.PolicyArchive(ctx, digest)
}

func (l policyLedger) Activate(ctx context.Context, r bundles.Record, archive []byte) error {
	p, err := storedPolicy(r)
	if err != nil {
		return err
	}
	err = l.store.ActivatePolicy(ctx, system, p, archive)
	if models.CodeOf(err) == models.CodeConflict {
		return errors.Join(bundles.ErrPinned, err)
	}
	return err
}

func (l policyLedger) Refuse(ctx context.Context, r bundles.Record) error {
	p, err := storedPolicy(r)
	if err != nil {
		return err
	}
	return l.store.RefusePolicy(ctx, system, p)
}

func storedPolicy(r bundles.Record) (store.PolicyRevision, error) {
	result, err := json.Marshal(r.Result)
	if err != nil {
		return store.PolicyRevision{}, fmt.Errorf("write what was found out about a policy: %w", err)
	}
	return store.PolicyRevision{
		Digest: r.Digest, ArchiveDigest: r.ArchiveDigest, Revision: r.Revision, Source: r.Source, SignedBy: r.SignedBy,
		Result: result, Summary: r.Result.Summary(),
	}, nil
}

// shadowLedger keeps in the database which policy is the shadow, on behalf of Patrol
// itself.
type shadowLedger struct{ store *store.Store }

// ShadowLedger returns the ledger of shadows of all servers on a database.
func ShadowLedger(s *store.Store) bundles.ShadowLedger { return shadowLedger{s} }

func (l shadowLedger) Place(ctx context.Context, r bundles.Record, archive []byte) error {
	p, err := storedPolicy(r)
	if err != nil {
		return err
	}
	return l.store.PlaceShadow(ctx, system, p, archive)
}

func (l shadowLedger) Refuse(ctx context.Context, r bundles.Record) error {
	p, err := storedPolicy(r)
	if err != nil {
		return err
	}
	return l.store.RefuseShadow(ctx, system, p)
}
