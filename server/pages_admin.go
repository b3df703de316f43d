package server

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/manage"
	"patrol/server/ui"
)

// The pages of platform admins, and those of a domain, which its admins have too.

// inventoryFilter is what narrows the list of all tokens, and what a revocation of
// several is narrowed by.
var inventoryFilter = []string{"owner", "domain", "name", "status", "expiring", "unused", "sort"}

var adminRoutes = []route{
	{method: "GET", path: "/admin/pats", by: platformAdmin, page: true, do: (*Server).pageInventory, accepts: accepts{query: append([]string{"after"}, inventoryFilter...)}},
	{method: "GET", path: "/admin/pats/revoke", by: platformAdmin, page: true, do: (*Server).pageBulkRevoke, accepts: accepts{query: append([]string{"all"}, inventoryFilter...)}},
	{method: "POST", path: "/admin/pats/revoke", by: platformAdmin, page: true, do: (*Server).formBulkRevoke, accepts: accepts{form: append([]string{"all", "count", "typed", "reason"}, inventoryFilter...)}},
	{method: "GET", path: "/admin/pats/:id", by: platformAdmin, page: true, do: (*Server).pageAnyPAT},
	{method: "POST", path: "/admin/pats/:id/revoke", by: platformAdmin, page: true, do: (*Server).formRevokeAny, accepts: accepts{form: []string{"reason"}}},
	{method: "GET", path: "/admin/leaked", by: platformAdmin, page: true, do: (*Server).pageLeaked},
	{method: "POST", path: "/admin/leaked", by: platformAdmin, page: true, do: (*Server).formLeaked, accepts: accepts{form: []string{"token"}}},

	{method: "GET", path: "/admin/users", by: platformAdmin, page: true, do: (*Server).pageUsers, accepts: accepts{query: []string{"after"}}},
	{method: "GET", path: "/admin/users/new", by: platformAdmin, page: true, do: (*Server).pageNewUser},
	{method: "POST", path: "/admin/users/new", by: platformAdmin, page: true, do: (*Server).formNewUser, accepts: accepts{form: []string{"email", "name", "password"}, lists: []string{"admin", "policy"}}},
	{method: "GET", path: "/admin/users/:id", by: platformAdmin, page: true, do: (*Server).pageUser},
	{method: "POST", path: "/admin/users/:id", by: platformAdmin, page: true, do: (*Server).formUser, accepts: accepts{form: []string{"name"}, lists: []string{"admin", "policy", "disabled"}}},

	{method: "GET", path: "/admin/domains", by: session, page: true, do: (*Server).pageDomains, accepts: accepts{query: []string{"after"}}},
	{method: "GET", path: "/admin/domains/new", by: platformAdmin, page: true, do: (*Server).pageNewDomain},
	{method: "POST", path: "/admin/domains/new", by: platformAdmin, page: true, do: (*Server).formNewDomain, accepts: accepts{form: []string{"id", "name"}}},
	{method: "GET", path: "/admin/domains/:id", by: domainAdmin, page: true, do: (*Server).pageDomain, accepts: accepts{query: []string{"after"}}},
	{method: "POST", path: "/admin/domains/:id", by: platformAdmin, page: true, do: (*Server).formDomain, accepts: accepts{form: []string{"name", "status"}}},
	{method: "POST", path: "/admin/domains/:id/members", by: domainAdmin, page: true, do: (*Server).formMember, accepts: accepts{form: []string{"id", "user", "role"}}},
	{method: "GET", path: "/admin/domains/:id/members/:user/remove", by: domainAdmin, page: true, do: (*Server).pageRemoveMember},
	{method: "POST", path: "/admin/domains/:id/members/:user/remove", by: domainAdmin, page: true, do: (*Server).formRemoveMember},

	{method: "POST", path: "/admin/domains/:id/limits", by: domainAdmin, page: true, do: (*Server).formLimits, accepts: accepts{form: []string{"max_lifetime"}, lists: []string{"no_wildcards", "approval"}}},
	{method: "GET", path: "/admin/domains/:id/pats", by: domainAdmin, page: true, do: (*Server).pageDomainPATs, accepts: accepts{query: []string{"owner", "name", "status", "approval", "expiring", "unused", "sort", "after"}}},
	{method: "GET", path: "/admin/domains/:id/pats/:pat", by: domainAdmin, page: true, do: (*Server).pageDomainPAT},
	{method: "POST", path: "/admin/domains/:id/pats/:pat/revoke", by: domainAdmin, page: true, do: (*Server).formDomainRevoke, accepts: accepts{form: []string{"reason"}}},
	{method: "POST", path: "/admin/domains/:id/pats/:pat/approve", by: domainAdmin, page: true, do: (*Server).formApprove, accepts: accepts{lists: []string{"scope"}}},
	{method: "POST", path: "/admin/domains/:id/pats/:pat/withdraw", by: domainAdmin, page: true, do: (*Server).formWithdraw},

	{method: "GET", path: "/admin/audit", by: platformAdmin, page: true, do: (*Server).pageAudit, accepts: accepts{query: []string{"action", "subject", "actor", "since", "until", "after"}}},
}

// search is what a filter asks of the store.
func (s *Server) search(f ui.Filter) store.PATSearch {
	now := s.now()
	return store.PATSearch{
		Email: f.Owner, Name: f.Name, Status: f.Status, Domain: f.Domain, ByExpiry: f.ByExpiry(),
		ExpiresBefore: f.ExpiresBefore(now), UnusedSince: f.UnusedSince(now),
	}
}

func (s *Server) pageInventory(c *gin.Context, p models.Principal) error {
	filter, err := tokenFilter(c.Request.URL.Query())
	if err != nil {
		return err
	}
	found, next, err := s.manage.SearchPATs(c.Request.Context(), s.search(filter), store.Page{Limit: defaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, "/admin/pats", "")
	}
	if err != nil {
		return err
	}
	owned := make([]ui.Owned, len(found))
	for i, one := range found {
		owned[i] = ui.Owned{Token: ui.TokenOf(s.manage.Counted(one.PAT), s.now()), Email: one.Email}
	}
	return s.show(c, p, http.StatusOK, ui.Inventory(owned, filter, next))
}

// tokenFilter reads how a list of tokens is narrowed.
func tokenFilter(values url.Values) (ui.Filter, error) {
	return ui.DecodeFilter(values), ui.CheckFilter(values)
}

// bulkFilter is tokenFilter for what is done to all tokens that are listed. A filter
// that leaves nothing out counts only if all are asked for.
func bulkFilter(values url.Values) (ui.Filter, error) {
	filter, err := tokenFilter(values)
	if err == nil && !filter.Narrowed() && values.Get("all") != "true" {
		var v models.Invalid
		v.Add("all", "must be true where no filter says which tokens are meant")
		err = v.Err()
	}
	return filter, err
}

func (s *Server) pageBulkRevoke(c *gin.Context, p models.Principal) error {
	filter, err := bulkFilter(c.Request.URL.Query())
	if err != nil {
		return err
	}
	ids, err := s.manage.LivePATs(c.Request.Context(), s.search(filter))
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return s.seeOther(c, "/admin/pats"+filter.Page(""), "None of these tokens is alive.")
	}
	return s.show(c, p, http.StatusOK, ui.BulkRevoke(filter, len(ids), "", ui.Problems{}))
}

// formBulkRevoke revokes what the filter finds now, if that is as many as the
// admin saw and typed.
func (s *Server) formBulkRevoke(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	filter, err := bulkFilter(form)
	if err != nil {
		return err
	}
	ids, err := s.manage.LivePATs(ctx, s.search(filter))
	if err != nil {
		return err
	}
	count := strconv.Itoa(len(ids))
	var problems ui.Problems
	switch {
	case form.Get("count") != count:
		problems.General = "The number has changed meanwhile. Look at it again."
	case form.Get("typed") != count:
		problems.Fields = []ui.Problem{{Field: "typed", Text: "Type " + count + " to confirm."}}
	}
	reason := ui.DecodeReason(form)
	requireReason(reason, &problems)
	if problems.Any() {
		return s.again(c, p, nil, ui.BulkRevoke(filter, len(ids), reason, problems))
	}
	for _, id := range ids {
		if _, err := s.manage.RevokeFor(ctx, p, id, reason); err != nil && models.CodeOf(err) != models.CodeNotFound {
			return err
		}
	}
	return s.seeOther(c, "/admin/pats"+filter.Page(""), ui.Revoked(len(ids)))
}

// requireReason notes what is wrong with the reason of a revocation.
func requireReason(reason string, problems *ui.Problems) {
	var v models.Invalid
	models.ValidateReason("reason", reason, true, &v)
	found, _ := ui.ProblemsOf(v.Err())
	problems.Fields = append(problems.Fields, found.Fields...)
}

// anyToken is the page of a token whoever's it is.
func (s *Server) anyToken(pat store.OwnedPAT) ui.AdminToken {
	return ui.AdminToken{
		Token: ui.TokenOf(s.manage.Counted(pat.PAT), s.now()), OwnerURL: "/admin/users/" + url.PathEscape(pat.UserID), Email: pat.Email,
		Meanings: ui.NewChoices(s.manage.Catalog(), s.cfg.Limits, nil).Meanings(pat.Scopes),
	}
}

func (s *Server) pageAnyPAT(c *gin.Context, p models.Principal) error {
	pat, err := s.manage.AnyPAT(c.Request.Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, s.anyToken(pat))
}

func (s *Server) formRevokeAny(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	ctx, reason := c.Request.Context(), ui.DecodeReason(form)
	var problems ui.Problems
	if requireReason(reason, &problems); problems.Any() {
		pat, err := s.manage.AnyPAT(ctx, c.Param("id"))
		if err != nil {
			return err
		}
		page := s.anyToken(pat)
		page.Reason, page.Problems = reason, problems
		return s.again(c, p, nil, page)
	}
	pat, err := s.manage.RevokeFor(ctx, p, c.Param("id"), reason)
	if err != nil {
		return err
	}
	return s.seeOther(c, "/admin/pats/"+url.PathEscape(pat.ID), "The token is revoked. Requests with it are refused from now on.")
}

func (s *Server) pageLeaked(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.Leaked(ui.Problems{}))
}

// formLeaked finds a token by its text and shows it, ready to be revoked.
func (s *Server) formLeaked(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	pat, err := s.manage.FindLeaked(ctx, ui.Pasted(form.Get("token")))
	switch models.CodeOf(err) {
	case "":
	case models.CodeInvalid:
		problems, _ := ui.ProblemsOf(err)
		return s.again(c, p, err, ui.Leaked(problems))
	case models.CodeNotFound:
		var problems ui.Problems
		problems.Add("token", "is not known here: it was deleted, or is of another installation")
		return s.again(c, p, nil, ui.Leaked(problems))
	default:
		return err
	}
	owned, err := s.manage.WithOwner(ctx, pat)
	if err != nil {
		return err
	}
	page := s.anyToken(owned)
	page.Leaked, page.Reason = true, manage.LeakedReason
	return s.show(c, p, http.StatusOK, page)
}

func (s *Server) pageUsers(c *gin.Context, p models.Principal) error {
	after := c.Query("after")
	found, next, err := s.manage.Users(c.Request.Context(), store.Page{Limit: defaultPage, After: after})
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Users(found, s.now(), next, after == ""))
}

func (s *Server) pageNewUser(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.NewUser(api.NewUser{}, ui.Problems{}))
}

func (s *Server) formNewUser(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in := ui.DecodeNewUser(form)
	user, err := s.manage.CreateUser(c.Request.Context(), p, in)
	if err != nil {
		if problems, ok := ui.ProblemsOf(err); ok {
			return s.again(c, p, err, ui.NewUser(in, problems))
		}
		return err
	}
	return s.seeOther(c, "/admin/users", user.Email+" can sign in now.")
}

// userHere is the account that the address names.
func (s *Server) userHere(c *gin.Context) (models.User, error) {
	return s.manage.User(c.Request.Context(), c.Param("id"))
}

func (s *Server) pageUser(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.EditUser(user, user.ID == p.User.ID, ui.Problems{}))
}

func (s *Server) formUser(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	self := user.ID == p.User.ID
	in, problems := ui.DecodeUser(form, self)
	if problems.Any() {
		return s.again(c, p, nil, ui.EditUser(user, self, problems))
	}
	if _, err := s.manage.UpdateUser(c.Request.Context(), p, user.ID, in); err != nil {
		if problems, ok := ui.ProblemsOf(err); ok {
			user.Name = *in.Name
			if !self {
				user.Admin, user.Policy, user.Disabled = *in.Admin, *in.Policy, *in.Disabled
			}
			return s.again(c, p, err, ui.EditUser(user, self, problems))
		}
		return err
	}
	return s.seeOther(c, "/admin/users", "The changes are saved.")
}

func (s *Server) pageAudit(c *gin.Context, p models.Principal) error {
	query := c.Request.URL.Query()
	if err := ui.CheckAuditFilter(query); err != nil {
		return err
	}
	ctx, filter := c.Request.Context(), ui.DecodeAuditFilter(query)
	asked := store.AuditFilter{Action: filter.Action, Subject: filter.Subject}
	asked.Since, asked.Until = filter.Days()
	if filter.Actor != "" {
		user, err := s.manage.UserByEmail(ctx, models.NormalizeEmail(filter.Actor))
		if err != nil {
			return err
		}
		asked.UserID = filter.Actor // an id, or nobody's address: finds nothing
		if user != nil {
			asked.UserID = user.ID
		}
	}
	found, next, err := s.manage.AuditEvents(ctx, asked, store.Page{Limit: defaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, "/admin/audit", "")
	}
	if err != nil {
		return err
	}
	actors := make([]string, len(found))
	for i, e := range found {
		actors[i] = e.Actor.UserID
	}
	emails, _, err := s.manage.Names(ctx, actors, nil)
	if err != nil {
		return err
	}
	events := make([]ui.Event, len(found))
	for i, e := range found {
		events[i] = ui.Event{At: e.At, Action: e.Action, Subject: e.Subject, Actor: e.Actor, ActorName: emails[e.Actor.UserID], Detail: e.Detail}
	}
	return s.show(c, p, http.StatusOK, ui.Audit(events, filter, s.now(), next))
}
