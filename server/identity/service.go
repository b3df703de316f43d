package identity

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"patrol/models"
	"patrol/models/store"
	"patrol/server/authz"
	"patrol/server/manage"
	"patrol/server/window"
)

// Config holds the settings of a [Service].
type Config struct {
	Sessions SessionConfig
	Login    LoginConfig
	OIDC     OIDCConfig
	// Origin is the public origin of the server; "": it is not known.
	Origin string
	// Secure says that browsers reach the server over https alone.
	Secure bool
	// Installation is the id of the database, which names the cookies.
	Installation string
	// Callback is the path at which people come back from the provider.
	Callback string
	// SetupFile is where the setup code of a first start is written, and SetupValidFor how
	// long it is good.
	SetupFile     string
	SetupValidFor time.Duration
}

// Deps has the parts that a [Service] uses. All are required.
type Deps struct {
	Store     *store.Store
	Manage    *manage.Service
	Authz     *authz.Authorizer // verifies tokens
	Passwords *Passwords
	Keys      models.Keyring
	Logger    *slog.Logger
	Clock     func() time.Time
	Random    io.Reader
	// CountSignIn counts attempts to sign in: accepted, refused or throttled.
	CountSignIn func(outcome string)
}

// maxStale bounds how many attempts with old sign-ins are remembered.
const maxStale = 10_000

// Service finds out who calls. It is safe for concurrent use.
type Service struct {
	cfg         Config
	store       *store.Store
	manage      *manage.Service
	authz       *authz.Authorizer
	passwords   *Passwords
	keys        models.Keyring
	log         *slog.Logger
	now         func() time.Time
	random      io.Reader
	countSignIn func(outcome string)

	crossOrigin *http.CrossOriginProtection
	cookies     cookies
	sessions    *sessions
	attempts    *attempts
	setup       setup
	provider    *provider      // nil: people sign in with passwords alone
	stale       *window.Once   // of attempts with an old sign-in; see NoteStale
	exports     *window.Once   // of people's own data
	notes       sync.WaitGroup // audit events on their way; see noteRefusal
}

// New returns a service.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Store == nil || deps.Manage == nil || deps.Passwords == nil {
		return nil, errors.New("identity needs a store, what manages and passwords")
	}
	cookies := newCookies(cfg.Installation, cfg.Secure, deps.Clock)
	s := &Service{
		cfg: cfg, cookies: cookies, store: deps.Store, manage: deps.Manage, authz: deps.Authz, passwords: deps.Passwords, keys: deps.Keys, log: deps.Logger,
		now: deps.Clock, random: deps.Random, countSignIn: deps.CountSignIn,
		crossOrigin: http.NewCrossOriginProtection(),
		sessions:    newSessions(deps.Store.Sessions(), cfg.Sessions, cookies, deps.Clock, deps.Logger),
		attempts:    newAttempts(cfg.Login, deps.Clock), setup: setup{file: cfg.SetupFile},
		stale: window.NewOnce(time.Minute, maxStale), exports: window.NewOnce(exportEvery, maxStale),
		provider: newProvider(cfg.OIDC, cfg.Origin+cfg.Callback, deps.Clock, deps.Random, deps.Logger),
	}
	if cfg.Origin != "" {
		if err := s.crossOrigin.AddTrustedOrigin(cfg.Origin); err != nil {
			return nil, fmt.Errorf("trust the public URL: %w", err)
		}
	}
	return s, nil
}
