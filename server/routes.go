package server

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/request"
)

// routes is the whole HTTP surface. The router is built from it and from nothing
// else; tests hold it against the router, the OpenAPI document and every kind of
// caller.
func (s *Server) routes() []endpoint.Route {
	return slices.Concat(s.ownRoutes(), s.rest.Routes(), s.authzen.Routes(), s.oauth.Routes(), s.pages.Routes())
}

// ownRoutes are those that belong to neither programs nor people alone.
func (s *Server) ownRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "*", Path: "/proxy/*path", By: endpoint.TokenHolder, SignIn: endpoint.NoSession, Mount: true},
		{Method: "*", Path: "/forward-auth/*path", By: endpoint.AskingProxy, SignIn: endpoint.NoSession, Mount: true, Bare: true, Quiet: true},
		{Method: "GET", Path: "/setup", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.pages.GetSetup},
		{Method: "POST", Path: "/setup", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.postSetup, Accepts: endpoint.Accepts{Body: endpoint.Object, Form: []string{"code", "email", "name", "password"}}},
		{Method: "GET", Path: "/healthz", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.getHealth, Quiet: true, Always: true},
		{Method: "GET", Path: "/readyz", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.getReady, Quiet: true, Always: true, Accepts: endpoint.Accepts{Lists: []string{"exclude"}}},
		{Method: "GET", Path: "/metrics", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.getMetrics, Quiet: true, Always: true, Metrics: true},
	}
}

// postSetup takes the setup code from a program or from the page.
func (s *Server) postSetup(c *gin.Context, p models.Principal) error {
	if endpoint.IsForm(c.Request.Header) {
		return s.pages.PostSetup(c, p)
	}
	return s.rest.PostSetup(c, p)
}

// newRouter builds the router from the table. It panics on a route that names no
// caller, or does not say how recent a sign-in it needs, so that none is ever served.
func (s *Server) newRouter(table []endpoint.Route) *gin.Engine {
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	// A path means what it says: nothing is redirected to a cleaner one.
	engine.RedirectTrailingSlash = false
	engine.RedirectFixedPath = false
	engine.RemoveExtraSlash = false
	// Forwarding headers are read in one place, proxies.client.
	engine.ForwardedByClientIP = false
	if err := engine.SetTrustedProxies(nil); err != nil {
		panic(err) // nil is always fine
	}
	engine.NoRoute(func(c *gin.Context) {
		s.failAstray(c, endpoint.WantsPage(c.Request), models.NewError(models.CodeNotFound, "there is nothing at this path"))
	})
	engine.NoMethod(func(c *gin.Context) {
		page := endpoint.WantsPage(c.Request) && slices.ContainsFunc(table, func(r endpoint.Route) bool {
			return (r.Page || len(r.Form) > 0) && r.Matches(c.Request.URL.Path)
		})
		s.failAstray(c, page, models.NewError(models.CodeMethodNotAllowed,
			"this path does not have this method; the Allow header lists those it has"))
	})
	for i := range table {
		r := &table[i]
		if r.By == endpoint.Nobody {
			panic("the route " + r.Method + " " + r.Path + " does not name who may call it")
		}
		if r.SignIn == endpoint.Undeclared {
			panic("the route " + r.Method + " " + r.Path + " does not say how recent a sign-in it needs")
		}
		if r.Mount || r.Metrics && s.cfg.MetricsListen != "" {
			continue
		}
		engine.Handle(r.Method, r.Path, s.handler(r))
		if r.Method == http.MethodGet { // net/http leaves the body out
			engine.Handle(http.MethodHead, r.Path, s.handler(r))
		}
	}
	return engine
}

// handler admits the caller, then does what the route is for.
func (s *Server) handler(r *endpoint.Route) gin.HandlerFunc {
	known := r.Known()
	return func(c *gin.Context) {
		x := request.Of(c.Request.Context())
		x.Route = known
		var p models.Principal
		var err error
		if r.Page {
			defer func() { s.recoverPage(c, p, recover()) }()
		}
		if c.Request.ContentLength == 0 { // else when it is there
			err = x.Enter()
		}
		if err == nil {
			p, err = s.admit(c, r.By)
		}
		if err == nil {
			err = r.CheckFrame(c, max(endpoint.MaxForm, s.cfg.Playground.MaxBody))
		}
		if err == nil {
			p, err = s.recent(c, r, p)
		}
		if err == nil {
			err = r.Do(c, p)
		}
		if errors.Is(err, identity.ErrStaleForm) {
			s.identity.NoteStale(c.Request.Context(), p, r.Method+" "+r.Path)
		}
		switch {
		case err != nil && (r.Page || len(r.Form) > 0 && endpoint.WantsPage(c.Request)):
			s.pages.Fail(c, p, err)
		case err != nil:
			request.WriteError(c.Writer, c.Request, err)
		}
	}
}

// failAstray answers a request that no route takes.
func (s *Server) failAstray(c *gin.Context, page bool, err error) {
	if page {
		s.pages.Fail(c, models.Principal{}, err)
		return
	}
	request.WriteError(c.Writer, c.Request, err)
}

// recoverPage answers a panic with a page, unless an answer was begun. [Server.serve] sees
// to all others.
func (s *Server) recoverPage(c *gin.Context, p models.Principal, cause any) {
	x := request.Of(c.Request.Context())
	switch {
	case cause == nil:
	case cause == http.ErrAbortHandler || x.Status != 0: //nolint:errorlint // it is compared by identity, as net/http does
		panic(cause)
	default:
		s.logPanic(c.Request, cause)
		x.Header()["Connection"] = closeValue // nobody knows how far the body was read
		s.pages.Fail(c, p, models.NewError(models.CodeInternal, "a handler panicked"))
	}
}

// mounted returns the mount that a request belongs to and what serves it, judged
// by the path as it was sent: paths that a router would clean or decode must reach
// the gateway, which refuses them, and none that merely decodes to the prefix may.
func (s *Server) mounted(r *http.Request) (*endpoint.Route, http.Handler) {
	path := r.URL.EscapedPath()
	for _, m := range s.mounts {
		prefix := m.Prefix()
		if !strings.HasPrefix(path, prefix) && (!m.Bare || path+"/" != prefix) {
			continue
		}
		serving := s.gateway
		if m.By == endpoint.AskingProxy {
			serving = s.forward
		}
		if serving != nil {
			return m, serving
		}
	}
	return nil, nil
}
