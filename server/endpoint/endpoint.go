package endpoint

import (
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/request"
)

// Caller says who may call a route. It is a closed set: the zero value names
// nobody, and a route with it does not get into the router.
type Caller int

// The callers.
const (
	Nobody Caller = iota
	// Anyone needs no credentials. Those sent are not looked at.
	Anyone
	// AskingProxy is a proxy that asks on behalf of its client. Which may is the
	// handler's configuration.
	AskingProxy
	// TokenHolder is whoever holds the PAT that the request is about. The
	// handler judges the token; a refusal is its answer.
	TokenHolder
	// PatItself is a PAT that is alive and whose owner is, acting on itself.
	PatItself
	// Session is a signed-in user.
	Session
	// Owner is a signed-in user, and the thing is theirs: the store is asked for
	// it under their id, so that others' things are not found.
	Owner
	// OwnerFresh is owner on a recent sign-in.
	OwnerFresh
	// OwnerConfirming is owner, on a recent sign-in or with the password in the
	// form: the handler calls confirm before it does anything.
	OwnerConfirming
	// OwnerOrPlatformAdmin is the owner, or a signed-in platform admin.
	OwnerOrPlatformAdmin
	// ThatUserOrPlatformAdmin is the user whom the path names, or a signed-in platform admin. To
	// others the user does not exist.
	ThatUserOrPlatformAdmin
	// DomainReader is a signed-in member of the route's domain, or a platform
	// admin. To others the domain does not exist.
	DomainReader
	// DomainAdmin is a signed-in user whose role in the route's domain permits
	// domains/write, unless the domain is frozen, or a platform admin.
	DomainAdmin
	// PlatformAdmin is a signed-in platform admin.
	PlatformAdmin
	// PolicyTeam is a signed-in platform admin or a member of the policy team.
	PolicyTeam
	// BundleReader is a program with the credential that is configured for it, or
	// one of the policy team.
	BundleReader
)

// Route is one entry of the route table: what is served, who may call it, and how recent
// their sign-in has to be.
type Route struct {
	Method string // "*" on a mount: every method
	Path   string // in gin's notation
	By     Caller
	SignIn SignIn
	Do     func(*gin.Context, models.Principal) error
	// Quiet keeps successes out of the access log unless it is at debug level.
	Quiet bool
	// Mount marks a path prefix that is served outside of gin's router, which
	// knows too few paths: everything under path up to its wildcard.
	Mount bool
	// Bare says that the mount's path without the last slash belongs to it, too.
	Bare bool
	// Page marks a route that answers with pages, failures too.
	Page bool
	// Always marks a route that is answered, however much is under way.
	Always bool
	// Metrics marks the route that moves to its own listener if there is one.
	Metrics bool
	// Accepts has everything that the route reads beside its path. All else is refused.
	Accepts
}

// With returns the parameters of a list: what it is narrowed by, and its page.
func With(filters ...string) []string { return append(filters, "limit", "after") }

// Known returns what an exchange needs of the route.
func (r *Route) Known() *request.Route {
	return &request.Route{Path: r.Path, Quiet: r.Quiet, Mount: r.Mount, Always: r.Always, Judges: r.By == TokenHolder, Open: r.By == Anyone}
}

// Prefix is the fixed part of a mount's path.
func (r *Route) Prefix() string { return r.Path[:strings.IndexByte(r.Path, '*')] }

// Matches reports whether a path is one that the route is for.
func (r *Route) Matches(path string) bool {
	want, have := strings.Split(r.Path, "/"), strings.Split(path, "/")
	return len(want) == len(have) && !slices.ContainsFunc(want, func(part string) bool {
		is := have[0]
		have = have[1:]
		return part != is && (!strings.HasPrefix(part, ":") || is == "")
	})
}
