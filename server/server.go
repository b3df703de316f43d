package server

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server/authz"
	"patrol/server/authzen"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/manage"
	"patrol/server/oauth"
	"patrol/server/pages"
	"patrol/server/reach"
	"patrol/server/request"
	"patrol/server/rest"
)

// Deps has the parts that a [Server] uses. Store, Authz, Engine, Policy and Keys are required.
type Deps struct {
	Store *store.Store
	// Decisions is the decision log's database; nil: decisions are not kept in one.
	Decisions *store.Decisions
	Authz     *authz.Authorizer
	Engine    *engine.Engine // for its catalog
	Policy    manage.Policy  // how it comes into force
	Shadow    manage.Shadow  // what is judged beside it; nil: nothing
	// Playground tries policies; nil: nobody may.
	Playground manage.Playground
	Keys       models.Keyring
	// ID is under which the store knows this server; "": it does not.
	ID      string
	Gateway http.Handler // serves /proxy/; nil: there is none
	// ForwardAuth answers proxies at /forward-auth; nil: nobody does.
	ForwardAuth http.Handler
	// Metrics is given where other parts of the program count into it too; nil
	// makes one.
	Metrics *Metrics
	Logger  *slog.Logger     // nil: slog.Default()
	Clock   func() time.Time // nil: time.Now
	Random  io.Reader        // nil: crypto/rand
}

// Server is the HTTP surface of Patrol. It is safe for concurrent use.
type Server struct {
	cfg      Config
	manage   *manage.Service
	identity *identity.Service
	rest     *rest.Surface
	authzen  *authzen.Surface
	oauth    *oauth.Surface
	pages    *pages.Surface
	store    *store.Store
	authz    *authz.Authorizer
	engine   *engine.Engine
	keys     models.Keyring
	gateway  http.Handler
	forward  http.Handler
	metrics  *Metrics
	log      *slog.Logger
	now      func() time.Time
	random   io.Reader

	gin       *gin.Engine
	mounts    []*endpoint.Route
	trusted   request.Proxies
	secure    bool // browsers reach it over https
	hsts      strictTransport
	passwords *identity.Passwords
	places    request.Places

	listeners listeners
	stopping  atomic.Bool
	ending    chan struct{} // closed when it begins to stop
	pollers   chan struct{} // one element for each request that waits for a policy
}

// New returns a server that listens nowhere yet. It fails if cfg is not valid.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Store == nil || deps.Authz == nil || deps.Engine == nil || deps.Policy == nil {
		return nil, errors.New("the server needs a store, an authorizer, a policy engine and a policy")
	}
	s := &Server{
		cfg: cfg, store: deps.Store, authz: deps.Authz, engine: deps.Engine, keys: deps.Keys,
		gateway: deps.Gateway, forward: deps.ForwardAuth, metrics: deps.Metrics, log: deps.Logger, now: deps.Clock, random: deps.Random,
		ending: make(chan struct{}), pollers: make(chan struct{}, rest.MaxWaiting),
	}
	if s.metrics == nil {
		s.metrics = NewMetrics()
	}
	s.metrics.watchFeed(s.authz.FeedLag)
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	var err error
	if s.trusted, err = request.ParseProxies(cfg.TrustedProxies); err != nil {
		return nil, err
	}
	origin, err := publicOrigin(cfg.PublicURL)
	if err != nil {
		return nil, err
	}
	s.secure = strings.HasPrefix(origin, "https://") || cfg.TLS.CertFile != ""
	if s.hsts, err = newTransport(origin, cfg.HTTP.HSTSIncludeSubdomains, s.secure); err != nil {
		return nil, err
	}
	if s.passwords, err = identity.NewPasswords(cfg.Login); err != nil {
		return nil, err
	}
	s.manage = manage.New(manage.Config{
		Limits: cfg.Limits, LogRetention: cfg.LogRetention, LogMaxRows: cfg.LogMaxRows, Playground: cfg.Playground, Lookups: cfg.Lookups, FoundPerMinute: cfg.FoundPerMinute,
		MaxAbsence: cfg.OIDC.MaxAbsence,
	}, manage.Deps{
		Store: s.store, Decisions: deps.Decisions, Engine: s.engine, Policy: deps.Policy, Shadow: deps.Shadow, Playground: deps.Playground,
		Passwords: s.passwords, Keys: s.keys, ID: deps.ID, Logger: s.log, Clock: s.now, Random: s.random,
	})
	installation, err := installationOf(s.store)
	if err != nil {
		return nil, err
	}
	s.identity, err = identity.New(identity.Config{
		Sessions: cfg.Sessions, Login: cfg.Login, OIDC: cfg.OIDC, Origin: origin, Secure: s.secure, Installation: installation, Callback: pages.OIDCCallback,
		SetupFile: cfg.setupFile(), SetupValidFor: cfg.SetupValidFor,
	}, identity.Deps{
		Store: s.store, Manage: s.manage, Authz: s.authz, Passwords: s.passwords, Keys: s.keys,
		Logger: s.log, Clock: s.now, Random: s.random, CountSignIn: s.metrics.signIn,
	})
	if err != nil {
		return nil, err
	}
	s.places = request.NewPlaces(cfg.HTTP.MaxInFlight)
	s.watchPlaces()

	forPrograms := rest.Config{Playground: cfg.Playground}
	if forPrograms.TrustedCallers, err = request.ParseProxies(cfg.TrustedCallers); err != nil {
		return nil, err
	}
	forPrograms.HTTP.MaxBodyBytes, forPrograms.HTTP.ReadTimeout, forPrograms.HTTP.WriteTimeout = cfg.HTTP.MaxBodyBytes, cfg.HTTP.ReadTimeout, cfg.HTTP.WriteTimeout
	s.rest = rest.New(forPrograms, rest.Deps{
		Manage: s.manage, Identity: s.identity, Authz: s.authz, Reach: reach.New(reach.Deps{Manage: s.manage, Authz: s.authz, Clock: s.now}), Clock: s.now, PageBase: s.pageBase, Ending: s.ending, Pollers: s.pollers,
	})
	asked := authzen.Config{MaxBodyBytes: cfg.HTTP.MaxBodyBytes, Domain: cfg.AuthZENDomain}
	if origin, err := publicOrigin(cfg.PublicURL); err == nil && strings.HasPrefix(origin, "https://") {
		asked.Origin = origin
	}
	s.authzen = authzen.New(asked, authzen.Deps{Manage: s.manage, Authz: s.authz})
	s.oauth = oauth.New(oauth.Config{MaxBodyBytes: cfg.HTTP.MaxBodyBytes, Origin: asked.Origin}, oauth.Deps{Manage: s.manage, Authz: s.authz})
	forPeople := pages.Config{Limits: cfg.Limits, Login: cfg.Login, OIDC: cfg.OIDC, Playground: cfg.Playground}
	forPeople.HTTP.MaxBodyBytes, forPeople.HTTP.WriteTimeout = cfg.HTTP.MaxBodyBytes, cfg.HTTP.WriteTimeout
	s.pages, err = pages.New(forPeople, pages.Deps{
		Manage: s.manage, Identity: s.identity, Authz: s.authz, Logger: s.log, Clock: s.now, BaseURL: s.baseURL, PageBase: s.pageBase,
	})
	if err != nil {
		return nil, err
	}

	gin.SetMode(gin.ReleaseMode) // in other modes gin prints to standard output
	routes := s.routes()
	s.gin = s.newRouter(routes)
	for i := range routes {
		if routes[i].Mount {
			s.mounts = append(s.mounts, &routes[i])
		}
	}
	return s, nil
}

// Handler returns the whole HTTP surface.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Manage returns what can be done here, for the program around.
func (s *Server) Manage() *manage.Service { return s.manage }

var errDraining = errors.New("the server is shutting down")

func (s *Server) draining() error {
	if s.stopping.Load() {
		return errDraining
	}
	return nil
}
