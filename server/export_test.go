package server

import (
	"context"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/manage"
	"patrol/server/request"
)

// Access for tests from outside the package.

// Route is one entry of the route table.
type Route struct {
	Method, Path string
	By           string
	SignIn       string // how recent a sign-in it needs, or why none
	Mount        bool
	Page         bool // answers with pages

	Query, Lists, Form []string // what it reads of the address and of a form
	Open               bool     // any parameter may be in the address
	Body               string   // "none", "object" or "maybe"
}

// Routes is the route table.
func Routes() []Route {
	names := map[endpoint.Caller]string{
		endpoint.Anyone: "anyone", endpoint.AskingProxy: "askingProxy", endpoint.TokenHolder: "tokenHolder", endpoint.PatItself: "patItself", endpoint.Session: "session", endpoint.Owner: "owner", endpoint.OwnerFresh: "ownerFresh",
		endpoint.OwnerConfirming:      "ownerConfirming",
		endpoint.OwnerOrPlatformAdmin: "ownerOrPlatformAdmin", endpoint.ThatUserOrPlatformAdmin: "thatUserOrPlatformAdmin", endpoint.DomainReader: "domainReader", endpoint.DomainAdmin: "domainAdmin", endpoint.PlatformAdmin: "platformAdmin",
		endpoint.PolicyTeam: "policyTeam", endpoint.BundleReader: "bundleReader",
	}
	signIns := map[endpoint.SignIn]string{
		endpoint.NoSession: "noSession", endpoint.AnyAgeToRead: "read", endpoint.AnyAgeToNarrow: "narrow", endpoint.AnyAgeForOwn: "own",
		endpoint.FreshOwn: "freshOwn", endpoint.FreshOwnToWiden: "freshOwnToWiden", endpoint.FreshByForm: "freshByForm", endpoint.FreshAdmin: "freshAdmin", endpoint.FreshAdminToWiden: "freshAdminToWiden",
	}
	routes := (&Server{}).routes()
	out := make([]Route, len(routes))
	for i, r := range routes {
		out[i] = Route{
			Method: r.Method, Path: r.Path, By: names[r.By], SignIn: signIns[r.SignIn], Mount: r.Mount, Page: r.Page,
			Query: r.Query, Lists: r.Lists, Form: r.Form, Open: r.Open,
			Body: map[endpoint.Payload]string{endpoint.Nothing: "none", endpoint.Object: "object", endpoint.ObjectOrNothing: "maybe"}[r.Body],
		}
	}
	return out
}

// GinRoutes returns the routes that the router serves.
func (s *Server) GinRoutes() gin.RoutesInfo { return s.gin.Routes() }

// WaitForNotes waits for audit events on their way.
func (s *Server) WaitForNotes() { s.identity.Wait() }

// Clock is a time that tests move.
type Clock struct {
	mu sync.Mutex
	t  time.Time
}

// NewClock returns a clock that stands still.
func NewClock() *Clock { return &Clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// RouteWithoutCaller builds a router with a route that names no caller.
func RouteWithoutCaller() {
	(&Server{}).newRouter([]endpoint.Route{{Method: "GET", Path: "/new"}})
}

// RouteWithoutSignIn builds a router with a route that does not say how recent a sign-in it
// needs.
func RouteWithoutSignIn() {
	(&Server{}).newRouter([]endpoint.Route{{Method: "GET", Path: "/new", By: endpoint.Anyone}})
}

// CheapHash hashes a password with as little memory as goes, which the
// configuration does not permit: most tests are not about the cost.
func CheapHash(password string) (string, error) {
	cfg := identity.DefaultLogin()
	cfg.Argon2Memory = cheapMemory
	p, err := identity.NewPasswords(cfg)
	if err != nil {
		return "", err
	}
	return p.Hash(context.Background(), password)
}

// HashCheaply makes s hash as [CheapHash] does.
func (s *Server) HashCheaply() error { return s.hashWith(func(*identity.LoginConfig) {}) }

// HashMoreCostly makes s hash with other parameters than [CheapHash].
func (s *Server) HashMoreCostly() error {
	return s.hashWith(func(c *identity.LoginConfig) { c.Argon2Iterations = 3 })
}

func (s *Server) hashWith(change func(*identity.LoginConfig)) error {
	cfg := s.cfg.Login
	cfg.Argon2Memory = cheapMemory
	change(&cfg)
	p, err := identity.NewPasswords(cfg)
	if err == nil {
		*s.passwords = *p
	}
	return err
}

const cheapMemory = 64 // KiB

// LoadedPolicies counts the policies that are kept ready and not in force.
func (s *Server) LoadedPolicies() int { return s.manage.ReadyPolicies() }

// OccupyExplaining takes all turns to explain decisions until release is called.
func (s *Server) OccupyExplaining() (release func()) {
	var turns []func()
	for range manage.MaxExplaining {
		done, err := s.manage.TakeTurn(context.Background())
		if err != nil {
			panic(err)
		}
		turns = append(turns, done)
	}
	return func() {
		for _, done := range turns {
			done()
		}
	}
}

// WaitingForPolicy counts the requests that wait for another policy to be in force.
func (s *Server) WaitingForPolicy() int { return len(s.pollers) }

// Fill takes all places for requests, of those for decisions only what callers who
// hold no verified token can take. free gives them back.
func (s *Server) Fill() (free func()) {
	var decided int64
	for s.places.Decisions.Take("", 1) == nil {
		decided++
	}
	for _, who := range []string{"one", "another"} {
		for s.places.Rest.Take(who, 1) == nil {
		}
	}
	held := s.places
	return func() {
		held.Decisions.Give("", decided)
		s.places = request.NewPlaces(s.cfg.HTTP.MaxInFlight)
	}
}
