package pages

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/ui"
)

// The pages of platform admins, and those of a domain, which its admins have too.

// inventoryFilter has the parameters that narrow the list of all tokens, and a revocation of
// several.
var inventoryFilter = []string{"owner", "domain", "name", "status", "expiring", "unused", "sort"}

func (s *Surface) adminRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/admin/pats", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageInventory, Accepts: endpoint.Accepts{Query: append([]string{"after"}, inventoryFilter...)}},
		{Method: "GET", Path: "/admin/pats/revoke", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageBulkRevoke, Accepts: endpoint.Accepts{Query: append([]string{"all"}, inventoryFilter...)}},
		{Method: "POST", Path: "/admin/pats/revoke", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formBulkRevoke, Accepts: endpoint.Accepts{Form: append([]string{"all", "count", "typed", "reason"}, inventoryFilter...)}},
		{Method: "GET", Path: "/admin/pats/:id", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageAnyPAT},
		{Method: "POST", Path: "/admin/pats/:id/revoke", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formRevokeAny, Accepts: endpoint.Accepts{Form: []string{"reason"}}},
		{Method: "GET", Path: "/admin/leaked", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageLeaked},
		{Method: "POST", Path: "/admin/leaked", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formLeaked, Accepts: endpoint.Accepts{Form: []string{"token"}}},

		{Method: "GET", Path: "/admin/users", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageUsers, Accepts: endpoint.Accepts{Query: []string{"after"}}},
		{Method: "GET", Path: "/admin/users/new", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageNewUser},
		{Method: "POST", Path: "/admin/users/new", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formNewUser, Accepts: endpoint.Accepts{Form: []string{"email", "name", "password"}, Lists: []string{"admin", "policy"}}},
		{Method: "GET", Path: "/admin/users/:id", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageUser},
		{Method: "POST", Path: "/admin/users/:id", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdminToWiden, Page: true, Do: s.formUser, Accepts: endpoint.Accepts{Form: []string{"name"}, Lists: []string{"admin", "policy", "disabled", "revoke_tokens"}}},

		{Method: "GET", Path: "/admin/domains", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDomains, Accepts: endpoint.Accepts{Query: []string{"after"}}},
		{Method: "GET", Path: "/admin/domains/new", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageNewDomain},
		{Method: "POST", Path: "/admin/domains/new", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formNewDomain, Accepts: endpoint.Accepts{Form: []string{"id", "name"}}},
		{Method: "GET", Path: "/admin/domains/:id", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDomain, Accepts: endpoint.Accepts{Query: []string{"after"}}},
		{Method: "POST", Path: "/admin/domains/:id", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdminToWiden, Page: true, Do: s.formDomain, Accepts: endpoint.Accepts{Form: []string{"name", "status"}}},
		{Method: "POST", Path: "/admin/domains/:id/members", By: endpoint.DomainAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formMember, Accepts: endpoint.Accepts{Form: []string{"id", "user", "role"}}},
		{Method: "GET", Path: "/admin/domains/:id/members/:user/remove", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageRemoveMember},
		{Method: "POST", Path: "/admin/domains/:id/members/:user/remove", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formRemoveMember},

		{Method: "POST", Path: "/admin/domains/:id/limits", By: endpoint.DomainAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formLimits, Accepts: endpoint.Accepts{Form: []string{"max_lifetime"}, Lists: []string{"no_wildcards", "approval"}}},
		{Method: "GET", Path: "/admin/domains/:id/pats", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDomainPATs, Accepts: endpoint.Accepts{Query: []string{"owner", "name", "status", "approval", "expiring", "unused", "sort", "after"}}},
		{Method: "GET", Path: "/admin/domains/:id/pats/:pat", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDomainPAT},
		{Method: "POST", Path: "/admin/domains/:id/pats/:pat/revoke", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formDomainRevoke, Accepts: endpoint.Accepts{Form: []string{"reason"}}},
		{Method: "POST", Path: "/admin/domains/:id/pats/:pat/approve", By: endpoint.DomainAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formApprove, Accepts: endpoint.Accepts{Lists: []string{"scope"}}},
		{Method: "POST", Path: "/admin/domains/:id/pats/:pat/withdrawal", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formWithdrawal, Accepts: endpoint.Accepts{Form: []string{"reason"}}},
		{Method: "POST", Path: "/admin/domains/:id/pats/:pat/admit", By: endpoint.DomainAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formAdmit},
		{Method: "POST", Path: "/admin/domains/:id/pats/:pat/withdraw", By: endpoint.DomainAdmin, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formWithdraw},

		{Method: "GET", Path: "/admin/audit", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageAudit, Accepts: endpoint.Accepts{Query: []string{"action", "subject", "actor", "since", "until", "after"}}},
	}
}

// search returns the search for a filter.
func (s *Surface) search(f ui.Filter) manage.PATSearch {
	now := s.now()
	return manage.PATSearch{
		Email: f.Owner, Name: f.Name, Status: f.Status, Domain: f.Domain, ByExpiry: f.ByExpiry(),
		ExpiresBefore: f.ExpiresBefore(now), UnusedSince: f.UnusedSince(now),
	}
}

func (s *Surface) pageInventory(c *gin.Context, p models.Principal) error {
	filter, err := tokenFilter(c.Request.URL.Query())
	if err != nil {
		return err
	}
	found, next, err := s.manage.SearchPATs(c.Request.Context(), s.search(filter), manage.Page{Limit: endpoint.DefaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, "/admin/pats", "")
	}
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Inventory(s.owned(found), filter, next))
}

// owned returns tokens with their owners, as a list shows them.
func (s *Surface) owned(found []manage.OwnedPAT) []ui.Owned {
	owned := make([]ui.Owned, len(found))
	for i, one := range found {
		owned[i] = ui.Owned{Token: ui.TokenOf(s.manage.Counted(one.PAT), s.now()), Email: one.Email}
	}
	return owned
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

func (s *Surface) pageBulkRevoke(c *gin.Context, p models.Principal) error {
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
func (s *Surface) formBulkRevoke(c *gin.Context, p models.Principal) error {
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
func (s *Surface) anyToken(pat manage.OwnedPAT) ui.AdminToken {
	return ui.AdminToken{
		Token: ui.TokenOf(s.manage.Counted(pat.PAT), s.now()), OwnerURL: "/admin/users/" + url.PathEscape(pat.UserID), Email: pat.Email,
		Meanings: ui.NewChoices(s.manage.Catalog(), s.cfg.Limits, nil).Meanings(pat.Scopes),
	}
}

func (s *Surface) pageAnyPAT(c *gin.Context, p models.Principal) error {
	pat, err := s.manage.AnyPAT(c.Request.Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, s.anyToken(pat))
}

func (s *Surface) formRevokeAny(c *gin.Context, p models.Principal) error {
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

func (s *Surface) pageLeaked(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.Leaked(ui.Problems{}))
}

// formLeaked finds a token by its text and shows it, ready to be revoked.
func (s *Surface) formLeaked(c *gin.Context, p models.Principal) error {
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

func (s *Surface) pageUsers(c *gin.Context, p models.Principal) error {
	after := c.Query("after")
	found, next, err := s.manage.Users(c.Request.Context(), manage.UserFilter{}, manage.Page{Limit: endpoint.DefaultPage, After: after})
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Users(found, s.now(), next, after == ""))
}

func (s *Surface) pageNewUser(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.NewUser(api.NewUser{}, ui.Problems{}))
}

func (s *Surface) formNewUser(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in := ui.DecodeNewUser(form)
	user, err := s.manage.CreateUser(c.Request.Context(), p, in)
	if err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page { return ui.NewUser(in, problems) })
	}
	return s.seeOther(c, "/admin/users", user.Email+" can sign in now.")
}

// userHere is the account that the address names.
func (s *Surface) userHere(c *gin.Context) (models.User, error) {
	return s.manage.User(c.Request.Context(), c.Param("id"))
}

func (s *Surface) pageUser(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	page, err := s.editUser(c, user, user.ID == p.User.ID, ui.Problems{})
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, page)
}

func (s *Surface) formUser(c *gin.Context, p models.Principal) error {
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
	changes := changesOf(user, in)
	if manage.WidensUser(changes) {
		if err := s.identity.RequireFreshAdmin(p); err != nil {
			return err
		}
	}
	if _, err := s.manage.UpdateUser(c.Request.Context(), p, user.ID, changes); err != nil {
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

// changesOf leaves of a form what it changes of the account that it showed.
func changesOf(user models.User, in api.UserPatch) api.UserPatch {
	if in.Admin != nil && *in.Admin == user.Admin {
		in.Admin = nil
	}
	if in.Policy != nil && *in.Policy == user.Policy {
		in.Policy = nil
	}
	if in.Disabled != nil && *in.Disabled == user.Disabled && in.RevokeTokens == nil {
		in.Disabled = nil
	}
	return in
}

func (s *Surface) pageAudit(c *gin.Context, p models.Principal) error {
	query := c.Request.URL.Query()
	if err := ui.CheckAuditFilter(query); err != nil {
		return err
	}
	ctx, filter := c.Request.Context(), ui.DecodeAuditFilter(query)
	asked := manage.AuditFilter{Action: filter.Action, Subject: filter.Subject}
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
	found, next, err := s.manage.AuditEvents(ctx, asked, manage.Page{Limit: endpoint.DefaultPage, After: filter.After})
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
