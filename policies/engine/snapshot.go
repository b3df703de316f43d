package engine

import (
	"context"
	"errors"
	"time"

	"patrol/models"
)

var errNotBuilt = errors.New("not built yet")

// Snapshot is one policy, compiled and immutable.
type Snapshot struct {
	revision string
	catalog  models.Catalog
}

// Option changes how a policy is loaded.
type Option func(*options)

type options struct{ timeout time.Duration }

// WithTimeout bounds each evaluation.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// Load compiles and checks a policy.
func Load(ctx context.Context, src Source, opts ...Option) (*Snapshot, error) { return nil, errNotBuilt }

// Revision identifies the policy.
func (s *Snapshot) Revision() string { return s.revision }

// Catalog returns what can be asked for and granted.
func (s *Snapshot) Catalog() models.Catalog { return s.catalog }

// Decide judges one request.
func (s *Snapshot) Decide(ctx context.Context, req models.Request, f Facts, now time.Time) (models.Decision, error) {
	return models.Decision{}, errNotBuilt
}

// Route says what a proxied request asks for.
func (s *Snapshot) Route(ctx context.Context, r models.HTTPRequest) (req models.Request, ok bool, err error) {
	return models.Request{}, false, errNotBuilt
}

// BodyNeed says what must be known of the body before Route.
func (s *Snapshot) BodyNeed(ctx context.Context, r models.HTTPRequest) (need *models.BodyNeed, upgrade bool, err error) {
	return nil, false, errNotBuilt
}
