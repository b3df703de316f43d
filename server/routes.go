package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/request"
)

// caller says who may call a route. It is a closed set: the zero value names
// nobody, and a route with it does not get into the router.
type caller int

const (
	nobody caller = iota
	// anyone needs no credentials. Those sent are not looked at.
	anyone
	// askingProxy is a proxy that asks on behalf of its client. Which may is the
	// handler's configuration.
	askingProxy
	// tokenHolder is whoever holds the PAT that the request is about. The
	// handler judges the token; a refusal is its answer.
	tokenHolder
	// patItself is a PAT that is alive and whose owner is, acting on itself.
	patItself
	// session is a signed-in user.
	session
	// owner is a signed-in user, and the thing is theirs: the store is asked for
	// it under their id, so that others' things are not found.
	owner
	// ownerFresh is owner on a recent sign-in.
	ownerFresh
	// ownerConfirming is owner, on a recent sign-in or with the password in the
	// form: the handler calls [Server.confirm] before it does anything.
	ownerConfirming
	// ownerOrPlatformAdmin is the owner, or a signed-in platform admin.
	ownerOrPlatformAdmin
	// domainReader is a signed-in member of the route's domain, or a platform
	// admin. To others the domain does not exist.
	domainReader
	// domainAdmin is a signed-in user whose role in the route's domain permits
	// domains/write, unless the domain is frozen, or a platform admin.
	domainAdmin
	// platformAdmin is a signed-in platform admin.
	platformAdmin
	// policyTeam is a signed-in platform admin or a member of the policy team.
	policyTeam
	// bundleReader is a program with the credential that is configured for it, or
	// one of the policy team.
	bundleReader
)

// route is one entry of the route table: what is served and who may call it.
type route struct {
	method string // "*" on a mount: every method
	path   string // in gin's notation
	by     caller
	do     func(*Server, *gin.Context, models.Principal) error
	// quiet keeps successes out of the access log unless it is at debug level.
	quiet bool
	// mount marks a path prefix that is served outside of gin's router, which
	// knows too few paths: everything under path up to its wildcard.
	mount bool
	// bare says that the mount's path without the last slash belongs to it, too.
	bare bool
	// page marks a route that answers with pages, failures too.
	page bool
	// always marks a route that is answered, however much is under way.
	always bool
	// metrics marks the route that moves to its own listener if there is one.
	metrics bool
	// accepts is what the route reads beside its path. All else is refused.
	accepts
}

// routes is the whole HTTP surface. The router is built from it and from nothing
// else; tests hold it against the router, the OpenAPI document and every kind of
// caller.
var routes = slices.Concat(apiRoutes, decisionRoutes, adviceRoutes, policyRoutes, playgroundRoutes, shadowRoutes, pageRoutes, purgePageRoutes, policyPageRoutes, decisionPageRoutes, historyPageRoutes, shadowPageRoutes, adminRoutes, resetRoutes, oidcRoutes, codeRoutes)

// tokenParams are the names under which clients send a token in the address, where
// it would be logged on the way. Nothing reads them.
var tokenParams = []string{"token", "access_token"}

// with returns the parameters of a list: what it is narrowed by, and its page.
func with(filters ...string) []string { return append(filters, "limit", "after") }

// apiRoutes are for programs.
var apiRoutes = []route{
	{method: "POST", path: "/authorize", by: tokenHolder, do: (*Server).authorize, quiet: true, accepts: accepts{body: object, ignored: tokenParams}},
	{method: "POST", path: "/authorize/batch", by: tokenHolder, do: (*Server).authorizeBatch, quiet: true, accepts: accepts{body: object, ignored: tokenParams}},
	{method: "*", path: "/proxy/*path", by: tokenHolder, mount: true},
	{method: "*", path: "/forward-auth/*path", by: askingProxy, mount: true, bare: true, quiet: true},

	{method: "POST", path: "/api/v1/session", by: anyone, do: (*Server).postSession, accepts: accepts{body: object}},
	{method: "DELETE", path: "/api/v1/session", by: session, do: (*Server).deleteSession},
	{method: "POST", path: "/api/v1/session/reauthenticate", by: session, do: (*Server).postReauthenticate, accepts: accepts{body: object}},
	{method: "GET", path: "/api/v1/me", by: session, do: (*Server).getMe},
	{method: "GET", path: "/api/v1/catalog", by: session, do: (*Server).getCatalog},

	{method: "GET", path: "/api/v1/pats", by: owner, do: (*Server).getPATs, accepts: accepts{query: with("status", "name")}},
	{method: "POST", path: "/api/v1/pats", by: ownerFresh, do: (*Server).postPAT, accepts: accepts{body: object}},
	{method: "DELETE", path: "/api/v1/pats", by: owner, do: (*Server).deletePATs, accepts: accepts{query: []string{"all"}}},
	{method: "GET", path: "/api/v1/pats/self", by: patItself, do: (*Server).getSelf},
	{method: "DELETE", path: "/api/v1/pats/self", by: patItself, do: (*Server).deleteSelf},
	{method: "POST", path: "/api/v1/pats/purge", by: owner, do: (*Server).postPurge, accepts: accepts{body: objectOrNothing}},
	{method: "GET", path: "/api/v1/pats/:id", by: owner, do: (*Server).getPAT},
	{method: "PATCH", path: "/api/v1/pats/:id", by: owner, do: (*Server).patchPAT, accepts: accepts{body: object}},
	{method: "DELETE", path: "/api/v1/pats/:id", by: owner, do: (*Server).deletePAT},
	{method: "POST", path: "/api/v1/pats/:id/revoke", by: ownerOrPlatformAdmin, do: (*Server).postRevoke, accepts: accepts{query: []string{"wait"}, body: objectOrNothing}},
	{method: "POST", path: "/api/v1/pats/:id/rotate", by: ownerFresh, do: (*Server).postRotate, accepts: accepts{body: object}},
	{method: "POST", path: "/api/v1/pats/:id/scopes", by: ownerFresh, do: (*Server).postScope, accepts: accepts{body: object}},
	{method: "DELETE", path: "/api/v1/pats/:id/scopes/:scope", by: owner, do: (*Server).deleteScope},

	{method: "GET", path: "/api/v1/users", by: platformAdmin, do: (*Server).getUsers, accepts: accepts{query: with()}},
	{method: "POST", path: "/api/v1/users", by: platformAdmin, do: (*Server).postUser, accepts: accepts{body: object}},
	{method: "GET", path: "/api/v1/users/:id", by: platformAdmin, do: (*Server).getUser},
	{method: "PATCH", path: "/api/v1/users/:id", by: platformAdmin, do: (*Server).patchUser, accepts: accepts{body: object}},

	{method: "GET", path: "/api/v1/domains", by: session, do: (*Server).getDomains, accepts: accepts{query: with()}},
	{method: "POST", path: "/api/v1/domains", by: platformAdmin, do: (*Server).postDomain, accepts: accepts{body: object}},
	{method: "GET", path: "/api/v1/domains/:id", by: domainReader, do: (*Server).getDomain},
	{method: "PATCH", path: "/api/v1/domains/:id", by: platformAdmin, do: (*Server).patchDomain, accepts: accepts{body: object}},
	{method: "GET", path: "/api/v1/domains/:id/members", by: domainReader, do: (*Server).getMembers, accepts: accepts{query: with()}},
	{method: "PUT", path: "/api/v1/domains/:id/members/:user", by: domainAdmin, do: (*Server).putMember, accepts: accepts{body: object}},
	{method: "DELETE", path: "/api/v1/domains/:id/members/:user", by: domainAdmin, do: (*Server).deleteMember},
	{method: "GET", path: "/api/v1/domains/:id/limits", by: domainReader, do: (*Server).getLimits},
	{method: "PUT", path: "/api/v1/domains/:id/limits", by: domainAdmin, do: (*Server).putLimits, accepts: accepts{body: object}},
	{method: "GET", path: "/api/v1/domains/:id/pats", by: domainAdmin, do: (*Server).getDomainPATs, accepts: accepts{query: with("owner", "name", "status", "expires_before", "unused_since", "approved")}},
	{method: "GET", path: "/api/v1/domains/:id/pats/:pat", by: domainAdmin, do: (*Server).getDomainPAT},
	{method: "POST", path: "/api/v1/domains/:id/pats/:pat/revoke", by: domainAdmin, do: (*Server).postDomainRevoke, accepts: accepts{query: []string{"wait"}, body: object}},
	{method: "PUT", path: "/api/v1/domains/:id/approvals/:pat", by: domainAdmin, do: (*Server).putApproval, accepts: accepts{body: objectOrNothing}},
	{method: "DELETE", path: "/api/v1/domains/:id/approvals/:pat", by: domainAdmin, do: (*Server).deleteApproval},

	{method: "GET", path: "/api/v1/admin/pats", by: platformAdmin, do: (*Server).getInventory, accepts: accepts{query: with("owner", "name", "status", "expires_before", "unused_since", "domain", "user_id")}},
	{method: "POST", path: "/api/v1/admin/pats/purge", by: platformAdmin, do: (*Server).postAnyPurge, accepts: accepts{body: object}},
	{method: "POST", path: "/api/v1/admin/leaked", by: platformAdmin, do: (*Server).postLeaked, accepts: accepts{body: object}},
	{method: "GET", path: "/api/v1/admin/audit", by: platformAdmin, do: (*Server).getAudit, accepts: accepts{query: with("action", "subject", "user_id", "since", "until")}},

	{method: "GET", path: "/setup", by: anyone, do: (*Server).getSetup},
	{method: "POST", path: "/setup", by: anyone, do: (*Server).postSetup, accepts: accepts{body: object, form: []string{"code", "email", "name", "password"}}},

	{method: "GET", path: "/healthz", by: anyone, do: (*Server).getHealth, quiet: true, always: true},
	{method: "GET", path: "/readyz", by: anyone, do: (*Server).getReady, quiet: true, always: true, accepts: accepts{lists: []string{"exclude"}}},
	{method: "GET", path: "/metrics", by: anyone, do: (*Server).getMetrics, quiet: true, always: true, metrics: true},
}

// known is what an exchange knows of the route.
func (r *route) known() *request.Route {
	return &request.Route{Path: r.path, Quiet: r.quiet, Mount: r.mount, Always: r.always, Judges: r.by == tokenHolder, Open: r.by == anyone}
}

// prefix is the fixed part of a mount's path.
func (r *route) prefix() string { return r.path[:strings.IndexByte(r.path, '*')] }

// newRouter builds the router from the table. It panics on a route that names no
// caller, so that none is ever served.
func (s *Server) newRouter(table []route) *gin.Engine {
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
		s.failAstray(c, wantsPage(c.Request), models.NewError(models.CodeNotFound, "there is nothing at this path"))
	})
	engine.NoMethod(func(c *gin.Context) {
		page := wantsPage(c.Request) && slices.ContainsFunc(table, func(r route) bool {
			return (r.page || len(r.form) > 0) && r.matches(c.Request.URL.Path)
		})
		s.failAstray(c, page, models.NewError(models.CodeMethodNotAllowed,
			"this path does not have this method; the Allow header lists those it has"))
	})
	for i := range table {
		r := &table[i]
		if r.by == nobody {
			panic("the route " + r.method + " " + r.path + " does not name who may call it")
		}
		if r.mount || r.metrics && s.cfg.MetricsListen != "" {
			continue
		}
		engine.Handle(r.method, r.path, s.handler(r))
		if r.method == http.MethodGet { // net/http leaves the body out
			engine.Handle(http.MethodHead, r.path, s.handler(r))
		}
	}
	return engine
}

// handler admits the caller, then does what the route is for.
func (s *Server) handler(r *route) gin.HandlerFunc {
	known := r.known()
	return func(c *gin.Context) {
		x := request.Of(c.Request.Context())
		x.Route = known
		var p models.Principal
		var err error
		if r.page {
			defer func() { s.recoverPage(c, p, recover()) }()
		}
		if c.Request.ContentLength == 0 { // else when it is there
			err = x.Enter()
		}
		if err == nil {
			p, err = s.admit(c, r.by)
		}
		if err == nil {
			err = s.checkFrame(c, r)
		}
		if err == nil {
			err = r.do(s, c, p)
		}
		switch {
		case err != nil && (r.page || len(r.form) > 0 && wantsPage(c.Request)):
			s.failPage(c, p, err)
		case err != nil:
			request.WriteError(c.Writer, c.Request, err)
		}
	}
}

// failAstray answers a request that no route takes.
func (s *Server) failAstray(c *gin.Context, page bool, err error) {
	if page {
		s.failPage(c, models.Principal{}, err)
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
		s.failPage(c, p, models.NewError(models.CodeInternal, "a handler panicked"))
	}
}

// matches reports whether a path is one that the route is for.
func (r *route) matches(path string) bool {
	want, have := strings.Split(r.path, "/"), strings.Split(path, "/")
	return len(want) == len(have) && !slices.ContainsFunc(want, func(part string) bool {
		is := have[0]
		have = have[1:]
		return part != is && (!strings.HasPrefix(part, ":") || is == "")
	})
}

// mounted returns the mount that a request belongs to and what serves it, judged
// by the path as it was sent: paths that a router would clean or decode must reach
// the gateway, which refuses them, and none that merely decodes to the prefix may.
func (s *Server) mounted(r *http.Request) (*route, http.Handler) {
	path := r.URL.EscapedPath()
	for _, m := range s.mounts {
		prefix := m.prefix()
		if !strings.HasPrefix(path, prefix) && (!m.bare || path+"/" != prefix) {
			continue
		}
		serving := s.gateway
		if m.by == askingProxy {
			serving = s.forward
		}
		if serving != nil {
			return m, serving
		}
	}
	return nil, nil
}
