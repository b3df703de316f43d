package rest

import (
	"time"

	"patrol/server/authz"
	"patrol/server/identity"
	"patrol/server/manage"
	"patrol/server/reach"
	"patrol/server/request"
)

// Config holds the settings of a [Surface].
type Config struct {
	HTTP struct {
		MaxBodyBytes int64         // of a request
		ReadTimeout  time.Duration // of a request, body included
		WriteTimeout time.Duration // from the end of the headers to the end of the answer
	}
	Playground manage.PlaygroundConfig
	// TrustedCallers are those whose word about the client of a question is taken.
	TrustedCallers request.Proxies
}

// Deps has the parts that a [Surface] uses. All are required.
type Deps struct {
	Manage   *manage.Service
	Identity *identity.Service
	Authz    *authz.Authorizer
	Reach    *reach.Service
	Clock    func() time.Time
	// PageBase returns what links begin with that people are handed; "": they are relative.
	PageBase func() string
	// Ending is closed when the server begins to stop, and Pollers has room for an element
	// for each request that waits for another policy.
	Ending  <-chan struct{}
	Pollers chan struct{}
}

// Surface answers programs.
type Surface struct {
	cfg      Config
	manage   *manage.Service
	identity *identity.Service
	authz    *authz.Authorizer
	reach    *reach.Service
	now      func() time.Time
	pageBase func() string
	ending   <-chan struct{}
	pollers  chan struct{}
}

// New returns a surface.
func New(cfg Config, deps Deps) *Surface {
	return &Surface{
		cfg: cfg, manage: deps.Manage, identity: deps.Identity, authz: deps.Authz, reach: deps.Reach, now: deps.Clock,
		pageBase: deps.PageBase, ending: deps.Ending, pollers: deps.Pollers,
	}
}
