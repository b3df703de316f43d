package rest

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/request"
)

// tokenParams are the names under which clients send a token in the address, where
// it would be logged on the way. Nothing reads them.
var tokenParams = []string{"token", "access_token"}

// apiRoutes are for programs.
func (s *Surface) apiRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "POST", Path: "/authorize", By: endpoint.TokenHolder, SignIn: endpoint.NoSession, Do: s.authorize, Quiet: true, Accepts: endpoint.Accepts{Body: endpoint.Object, Ignored: tokenParams}},
		{Method: "POST", Path: "/authorize/batch", By: endpoint.TokenHolder, SignIn: endpoint.NoSession, Do: s.authorizeBatch, Quiet: true, Accepts: endpoint.Accepts{Body: endpoint.Object, Ignored: tokenParams}},

		{Method: "POST", Path: "/api/v1/session", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.postSession, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "DELETE", Path: "/api/v1/session", By: endpoint.Session, SignIn: endpoint.AnyAgeForOwn, Do: s.deleteSession},
		{Method: "POST", Path: "/api/v1/session/reauthenticate", By: endpoint.Session, SignIn: endpoint.AnyAgeForOwn, Do: s.postReauthenticate, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "GET", Path: "/api/v1/me", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Do: s.getMe},
		{Method: "GET", Path: "/api/v1/catalog", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Do: s.getCatalog},

		{Method: "GET", Path: "/api/v1/pats", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Do: s.getPATs, Accepts: endpoint.Accepts{Query: endpoint.With("status", "name")}},
		{Method: "POST", Path: "/api/v1/pats", By: endpoint.OwnerFresh, SignIn: endpoint.FreshOwn, Do: s.postPAT, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "POST", Path: "/api/v1/pats/revoke", By: endpoint.Session, SignIn: endpoint.AnyAgeToNarrow, Do: s.postRevokeSome, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "DELETE", Path: "/api/v1/pats", By: endpoint.Owner, SignIn: endpoint.AnyAgeToNarrow, Do: s.deletePATs, Accepts: endpoint.Accepts{Query: []string{"all"}}},
		{Method: "GET", Path: "/api/v1/pats/self", By: endpoint.PatItself, SignIn: endpoint.NoSession, Do: s.getSelf},
		{Method: "DELETE", Path: "/api/v1/pats/self", By: endpoint.PatItself, SignIn: endpoint.NoSession, Do: s.deleteSelf},
		{Method: "POST", Path: "/api/v1/pats/purge", By: endpoint.Owner, SignIn: endpoint.AnyAgeForOwn, Do: s.postPurge, Accepts: endpoint.Accepts{Body: endpoint.ObjectOrNothing}},
		{Method: "GET", Path: "/api/v1/pats/:id", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Do: s.getPAT},
		{Method: "GET", Path: "/api/v1/pats/:id/reach", By: endpoint.OwnerOrPlatformAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getReach, Accepts: endpoint.Accepts{Query: []string{"domain", "entity_type", "after"}}},
		{Method: "POST", Path: "/api/v1/pats/reach", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Do: s.postReach, Accepts: endpoint.Accepts{Query: []string{"domain", "entity_type", "after"}, Body: endpoint.Object}},
		{Method: "GET", Path: "/api/v1/users/:id/reach", By: endpoint.ThatUserOrPlatformAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getUserReach, Accepts: endpoint.Accepts{Query: []string{"domain", "entity_type", "after"}}},
		{Method: "POST", Path: "/api/v1/policy/who-can", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Do: s.postWhoCan, Accepts: endpoint.Accepts{Query: []string{"limit", "after"}, Body: endpoint.Object}},
		{Method: "PATCH", Path: "/api/v1/pats/:id", By: endpoint.Owner, SignIn: endpoint.FreshOwnToWiden, Do: s.patchPAT, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "DELETE", Path: "/api/v1/pats/:id", By: endpoint.Owner, SignIn: endpoint.AnyAgeForOwn, Do: s.deletePAT},
		{Method: "POST", Path: "/api/v1/pats/:id/revoke", By: endpoint.OwnerOrPlatformAdmin, SignIn: endpoint.AnyAgeToNarrow, Do: s.postRevoke, Accepts: endpoint.Accepts{Query: []string{"wait"}, Body: endpoint.ObjectOrNothing}},
		{Method: "POST", Path: "/api/v1/pats/:id/rotate", By: endpoint.OwnerFresh, SignIn: endpoint.FreshOwn, Do: s.postRotate, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "POST", Path: "/api/v1/pats/:id/scopes", By: endpoint.OwnerFresh, SignIn: endpoint.FreshOwn, Do: s.postScope, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "DELETE", Path: "/api/v1/pats/:id/scopes/:scope", By: endpoint.Owner, SignIn: endpoint.AnyAgeToNarrow, Do: s.deleteScope},

		{Method: "GET", Path: "/api/v1/users", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getUsers, Accepts: endpoint.Accepts{Query: endpoint.With("email", "name", "status")}},
		{Method: "POST", Path: "/api/v1/users", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Do: s.postUser, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "GET", Path: "/api/v1/users/:id", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getUser},
		{Method: "PATCH", Path: "/api/v1/users/:id", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdminToWiden, Do: s.patchUser, Accepts: endpoint.Accepts{Body: endpoint.Object}},

		{Method: "GET", Path: "/api/v1/domains", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Do: s.getDomains, Accepts: endpoint.Accepts{Query: endpoint.With("name", "status")}},
		{Method: "POST", Path: "/api/v1/domains", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Do: s.postDomain, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "GET", Path: "/api/v1/domains/:id", By: endpoint.DomainReader, SignIn: endpoint.AnyAgeToRead, Do: s.getDomain},
		{Method: "PATCH", Path: "/api/v1/domains/:id", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdminToWiden, Do: s.patchDomain, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "GET", Path: "/api/v1/domains/:id/members", By: endpoint.DomainReader, SignIn: endpoint.AnyAgeToRead, Do: s.getMembers, Accepts: endpoint.Accepts{Query: endpoint.With("user_id", "email")}},
		{Method: "PUT", Path: "/api/v1/domains/:id/members/:user", By: endpoint.DomainAdmin, SignIn: endpoint.FreshAdmin, Do: s.putMember, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "DELETE", Path: "/api/v1/domains/:id/members/:user", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToNarrow, Do: s.deleteMember},
		{Method: "GET", Path: "/api/v1/domains/:id/limits", By: endpoint.DomainReader, SignIn: endpoint.AnyAgeToRead, Do: s.getLimits},
		{Method: "PUT", Path: "/api/v1/domains/:id/limits", By: endpoint.DomainAdmin, SignIn: endpoint.FreshAdmin, Do: s.putLimits, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "GET", Path: "/api/v1/domains/:id/pats", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getDomainPATs, Accepts: endpoint.Accepts{Query: endpoint.With("user_id", "email", "name", "status", "expires_before", "unused_since", "approved")}},
		{Method: "GET", Path: "/api/v1/domains/:id/pats/:pat", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getDomainPAT},
		{Method: "POST", Path: "/api/v1/domains/:id/pats/:pat/revoke", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToNarrow, Do: s.postDomainRevoke, Accepts: endpoint.Accepts{Query: []string{"wait"}, Body: endpoint.Object}},
		{Method: "PUT", Path: "/api/v1/domains/:id/pats/:pat/withdrawal", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToNarrow, Do: s.putWithdrawal, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "DELETE", Path: "/api/v1/domains/:id/pats/:pat/withdrawal", By: endpoint.DomainAdmin, SignIn: endpoint.FreshAdmin, Do: s.deleteWithdrawal},
		{Method: "PUT", Path: "/api/v1/domains/:id/approvals/:pat", By: endpoint.DomainAdmin, SignIn: endpoint.FreshAdmin, Do: s.putApproval, Accepts: endpoint.Accepts{Body: endpoint.ObjectOrNothing}},
		{Method: "DELETE", Path: "/api/v1/domains/:id/approvals/:pat", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToNarrow, Do: s.deleteApproval},

		{Method: "GET", Path: "/api/v1/admin/pats", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getInventory, Accepts: endpoint.Accepts{Query: endpoint.With("user_id", "email", "name", "status", "expires_before", "unused_since", "domain")}},
		{Method: "POST", Path: "/api/v1/admin/pats/purge", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Do: s.postAnyPurge, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "POST", Path: "/api/v1/credentials/revoke", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.postFound, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "GET", Path: "/openapi.yaml", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: getOpenAPI("application/yaml", api.OpenAPI)},
		{Method: "GET", Path: "/openapi.json", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: getOpenAPI("application/json", openAPIInJSON())},
		{Method: "POST", Path: "/api/v1/admin/leaked", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Do: s.postLeaked, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "GET", Path: "/api/v1/admin/audit", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getAudit, Accepts: endpoint.Accepts{Query: endpoint.With("action", "subject", "user_id", "since", "until")}},
	}
}

// Routes are the routes for programs.
func (s *Surface) Routes() []endpoint.Route {
	return slices.Concat(s.apiRoutes(), s.decisionRoutes(), s.adviceRoutes(), s.policyRoutes(), s.playgroundRoutes(), s.shadowRoutes(), s.resetRoutes(), s.identityRoutes(), s.logoutRoutes())
}

// PostSetup makes the first account of an empty database.
func (s *Surface) PostSetup(c *gin.Context, _ models.Principal) error {
	if err := s.identity.SameSite(c.Request); err != nil {
		return err
	}
	var in api.Setup
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	x := request.Of(c.Request.Context())
	user, err := s.identity.CreateFirstAdmin(c.Request.Context(), x.Actor(models.ActorSystem, "", ""), in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusCreated, api.UserOf(user))
	return nil
}
