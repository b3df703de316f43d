package pages

import (
	"log/slog"
	"time"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/identity"
	"patrol/server/manage"
	"patrol/server/ui"
)

// Config holds the settings of a [Surface].
type Config struct {
	HTTP struct {
		MaxBodyBytes int64         // of a small form
		WriteTimeout time.Duration // from the end of the headers to the end of the answer
	}
	Limits     models.Limits
	Login      identity.LoginConfig
	OIDC       identity.OIDCConfig
	Playground manage.PlaygroundConfig
}

// Deps has the parts that a [Surface] uses. All are required.
type Deps struct {
	Manage   *manage.Service
	Identity *identity.Service
	Authz    *authz.Authorizer
	Logger   *slog.Logger
	Clock    func() time.Time
	// BaseURL returns the URL under which people reach the server, for examples, and
	// PageBase what links begin with that people are handed; "": they are relative.
	BaseURL  func() string
	PageBase func() string
}

// Surface answers people.
type Surface struct {
	cfg      Config
	manage   *manage.Service
	identity *identity.Service
	authz    *authz.Authorizer
	log      *slog.Logger
	now      func() time.Time
	baseURL  func() string
	pageBase func() string
	ui       *ui.UI
	once     *ui.Once
}

// New returns a surface. It fails if the templates cannot be read.
func New(cfg Config, deps Deps) (*Surface, error) {
	s := &Surface{
		cfg: cfg, manage: deps.Manage, identity: deps.Identity, authz: deps.Authz, log: deps.Logger, now: deps.Clock,
		baseURL: deps.BaseURL, pageBase: deps.PageBase, once: ui.NewOnce(onceRemembered),
	}
	var err error
	s.ui, err = ui.New()
	return s, err
}
