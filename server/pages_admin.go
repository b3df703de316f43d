package server

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/ui"
)

// The pages of platform admins.

var adminRoutes = []route{
	{method: "GET", path: "/admin/pats", by: platformAdmin, page: true, do: (*Server).pageInventory},
	{method: "GET", path: "/admin/pats/revoke", by: platformAdmin, page: true, do: (*Server).pageBulkRevoke},
	{method: "POST", path: "/admin/pats/revoke", by: platformAdmin, page: true, do: (*Server).formBulkRevoke},
	{method: "GET", path: "/admin/pats/:id", by: platformAdmin, page: true, do: (*Server).pageAnyPAT},
	{method: "POST", path: "/admin/pats/:id/revoke", by: platformAdmin, page: true, do: (*Server).formRevokeAny},
	{method: "GET", path: "/admin/leaked", by: platformAdmin, page: true, do: (*Server).pageLeaked},
	{method: "POST", path: "/admin/leaked", by: platformAdmin, page: true, do: (*Server).formLeaked},

	{method: "GET", path: "/admin/users", by: platformAdmin, page: true, do: (*Server).pageUsers},
	{method: "GET", path: "/admin/users/new", by: platformAdmin, page: true, do: (*Server).pageNewUser},
	{method: "POST", path: "/admin/users/new", by: platformAdmin, page: true, do: (*Server).formNewUser},
	{method: "GET", path: "/admin/users/:id", by: platformAdmin, page: true, do: (*Server).pageUser},
	{method: "POST", path: "/admin/users/:id", by: platformAdmin, page: true, do: (*Server).formUser},

	{method: "GET", path: "/admin/domains", by: platformAdmin, page: true, do: (*Server).pageDomains},
	{method: "GET", path: "/admin/domains/new", by: platformAdmin, page: true, do: (*Server).pageNewDomain},
	{method: "POST", path: "/admin/domains/new", by: platformAdmin, page: true, do: (*Server).formNewDomain},
	{method: "GET", path: "/admin/domains/:id", by: platformAdmin, page: true, do: (*Server).pageDomain},
	{method: "POST", path: "/admin/domains/:id", by: platformAdmin, page: true, do: (*Server).formDomain},
	{method: "POST", path: "/admin/domains/:id/members", by: platformAdmin, page: true, do: (*Server).formMember},
	{method: "GET", path: "/admin/domains/:id/members/:user/remove", by: platformAdmin, page: true, do: (*Server).pageRemoveMember},
	{method: "POST", path: "/admin/domains/:id/members/:user/remove", by: platformAdmin, page: true, do: (*Server).formRemoveMember},

	{method: "GET", path: "/admin/audit", by: platformAdmin, page: true, do: (*Server).pageAudit},
}

// search is what a filter asks of the store.
func (s *Server) search(f ui.Filter) store.PATSearch {
	now := s.now()
	return store.PATSearch{
		Email: f.Owner, Name: f.Name, Status: f.Status, Domain: f.Domain, ByExpiry: f.ByExpiry(),
		ExpiresBefore: f.ExpiresBefore(now), UnusedSince: f.UnusedSince(now),
	}
}

func (s *Server) pageInventory(c *gin.Context, p Principal) error {
	filter := ui.DecodeFilter(c.Request.URL.Query())
	found, next, err := s.store.SearchPATs(c.Request.Context(), s.search(filter), store.Page{Limit: defaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, "/admin/pats", "")
	}
	if err != nil {
		return err
	}
	owned := make([]ui.Owned, len(found))
	for i, one := range found {
		owned[i] = ui.Owned{Token: ui.TokenOf(s.counted(one.PAT), s.now()), Email: one.Email}
	}
	return s.show(c, p, http.StatusOK, ui.Inventory(owned, filter, next))
}

// living returns the ids of the tokens that a filter finds and that are alive.
func (s *Server) living(ctx context.Context, filter ui.Filter) ([]string, error) {
	search := s.search(filter)
	if search.Status != "" && search.Status != models.StatusActive {
		return nil, nil
	}
	search.Status = models.StatusActive
	var ids []string
	page := store.Page{Limit: maxPage}
	for {
		found, next, err := s.store.SearchPATs(ctx, search, page)
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			ids = append(ids, one.ID)
		}
		if next == "" {
			return ids, nil
		}
		page.After = next
	}
}

func (s *Server) pageBulkRevoke(c *gin.Context, p Principal) error {
	filter := ui.DecodeFilter(c.Request.URL.Query())
	ids, err := s.living(c.Request.Context(), filter)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return s.seeOther(c, "/admin/pats"+filter.Page(""), "None of these tokens is alive.")
	}
	return s.show(c, p, http.StatusOK, ui.BulkRevoke(filter, len(ids), ui.Problems{}))
}

// formBulkRevoke revokes what the filter finds now, if that is as many as the
// admin saw and typed.
func (s *Server) formBulkRevoke(c *gin.Context, p Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	ctx, filter := c.Request.Context(), ui.DecodeFilter(form)
	ids, err := s.living(ctx, filter)
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
	if problems.Any() {
		return s.again(c, p, nil, ui.BulkRevoke(filter, len(ids), problems))
	}
	for _, id := range ids {
		if _, err := s.RevokePAT(ctx, p, id); err != nil && models.CodeOf(err) != models.CodeNotFound {
			return err
		}
	}
	return s.seeOther(c, "/admin/pats"+filter.Page(""), ui.Revoked(len(ids)))
}

// anyToken shows a token whoever's it is.
func (s *Server) anyToken(c *gin.Context, p Principal, pat *models.PAT, leaked bool) error {
	if pat == nil {
		return models.NewError(models.CodeNotFound, "there is no such token")
	}
	ctx := c.Request.Context()
	owner, err := s.store.User(ctx, pat.UserID)
	if err != nil {
		return err
	}
	page := ui.AdminToken{
		Token: ui.TokenOf(s.counted(*pat), s.now()), OwnerURL: "/admin/users/" + url.PathEscape(pat.UserID), Leaked: leaked,
		Meanings: ui.NewChoices(s.engine.Current().Catalog(), s.cfg.Limits, nil).Meanings(pat.Scopes),
	}
	if owner != nil {
		page.Email = owner.Email
	}
	return s.show(c, p, http.StatusOK, page)
}

func (s *Server) pageAnyPAT(c *gin.Context, p Principal) error {
	pat, err := s.store.PAT(c.Request.Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return s.anyToken(c, p, pat, false)
}

func (s *Server) formRevokeAny(c *gin.Context, p Principal) error {
	pat, err := s.RevokePAT(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	return s.seeOther(c, "/admin/pats/"+url.PathEscape(pat.ID), "The token is revoked. Requests with it are refused from now on.")
}

func (s *Server) pageLeaked(c *gin.Context, p Principal) error {
	return s.show(c, p, http.StatusOK, ui.Leaked(ui.Problems{}))
}

// formLeaked finds a token by its text. The secret must be right: an id alone is
// no leak.
func (s *Server) formLeaked(c *gin.Context, p Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	var problems ui.Problems
	token, err := models.ParseToken(ui.Pasted(form.Get("token")))
	if err != nil {
		problems.Add("token", "is not a whole token: it begins with patrol_ and has 62 characters")
		return s.again(c, p, err, ui.Leaked(problems))
	}
	pat, err := s.store.PAT(c.Request.Context(), token.ID)
	if err != nil {
		return err
	}
	if pat == nil || !s.keys.Verify(token, pat.KeyID, pat.MAC) {
		problems.Add("token", "is not known here: it was deleted, or is of another installation")
		return s.again(c, p, nil, ui.Leaked(problems))
	}
	return s.anyToken(c, p, pat, true)
}

func (s *Server) pageUsers(c *gin.Context, p Principal) error {
	after := c.Query("after")
	found, next, err := s.store.Users(c.Request.Context(), store.UserFilter{}, store.Page{Limit: defaultPage, After: after})
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Users(found, s.now(), next, after == ""))
}

func (s *Server) pageNewUser(c *gin.Context, p Principal) error {
	return s.show(c, p, http.StatusOK, ui.NewUser(api.NewUser{}, ui.Problems{}))
}

func (s *Server) formNewUser(c *gin.Context, p Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in := ui.DecodeNewUser(form)
	user, err := s.CreateUser(c.Request.Context(), p, in)
	if err != nil {
		if problems, ok := ui.ProblemsOf(err); ok {
			return s.again(c, p, err, ui.NewUser(in, problems))
		}
		return err
	}
	return s.seeOther(c, "/admin/users", user.Email+" can sign in now.")
}

// userHere is the account that the address names.
func (s *Server) userHere(c *gin.Context, param string) (models.User, error) {
	user, err := s.store.User(c.Request.Context(), c.Param(param))
	if err != nil {
		return models.User{}, err
	}
	if user == nil {
		return models.User{}, models.NewError(models.CodeNotFound, "there is no such user")
	}
	return *user, nil
}

func (s *Server) pageUser(c *gin.Context, p Principal) error {
	user, err := s.userHere(c, "id")
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.EditUser(user, user.ID == p.User.ID, ui.Problems{}))
}

func (s *Server) formUser(c *gin.Context, p Principal) error {
	user, err := s.userHere(c, "id")
	if err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	self := user.ID == p.User.ID
	in := ui.DecodeUser(form, self)
	if _, err := s.UpdateUser(c.Request.Context(), p, user.ID, in); err != nil {
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

func (s *Server) pageDomains(c *gin.Context, p Principal) error {
	after := c.Query("after")
	found, next, err := s.store.Domains(c.Request.Context(), store.DomainFilter{}, store.Page{Limit: defaultPage, After: after})
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Domains(found, s.now(), next, after == ""))
}

func (s *Server) pageNewDomain(c *gin.Context, p Principal) error {
	return s.show(c, p, http.StatusOK, ui.NewDomain(api.NewDomain{}, ui.Problems{}))
}

func (s *Server) formNewDomain(c *gin.Context, p Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in := ui.DecodeNewDomain(form)
	domain, err := s.CreateDomain(c.Request.Context(), p, in)
	if err != nil {
		if problems, ok := ui.ProblemsOf(err); ok {
			return s.again(c, p, err, ui.NewDomain(in, problems))
		}
		return err
	}
	return s.seeOther(c, "/admin/domains/"+domain.ID, "The domain is made. Add its members.")
}

// domainShown is the page of the domain that the address names.
func (s *Server) domainShown(c *gin.Context, p Principal) (ui.DomainPage, error) {
	ctx := c.Request.Context()
	domain, err := s.readableDomain(ctx, p, c.Param("id"))
	if err != nil {
		return ui.DomainPage{}, err
	}
	members, next, err := s.store.Members(ctx, domain.ID, store.Page{Limit: maxPage, After: c.Query("after")})
	if err != nil {
		return ui.DomainPage{}, err
	}
	page := ui.DomainPage{Domain: domain, Catalog: s.engine.Current().Catalog()}
	if next != "" {
		page.Next = "?" + url.Values{"after": {next}}.Encode()
	}
	for _, m := range members {
		page.Members = append(page.Members, api.Member(m))
	}
	return page, nil
}

func (s *Server) pageDomain(c *gin.Context, p Principal) error {
	page, err := s.domainShown(c, p)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, page)
}

func (s *Server) formDomain(c *gin.Context, p Principal) error {
	page, err := s.domainShown(c, p)
	if err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	name, status := form.Get("name"), models.DomainStatus(form.Get("status"))
	_, err = s.UpdateDomain(c.Request.Context(), p, page.Domain.ID, api.DomainPatch{Name: &name, Status: &status})
	if err != nil {
		var ok bool
		if page.Problems, ok = ui.ProblemsOf(err); ok {
			page.Domain.Name, page.Domain.Status = name, status
			return s.again(c, p, err, page)
		}
		return err
	}
	return s.seeOther(c, page.URL(), "The changes are saved.")
}

// formMember gives a user a role: a member by id, anybody by address.
func (s *Server) formMember(c *gin.Context, p Principal) error {
	page, err := s.domainShown(c, p)
	if err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	ctx, id := c.Request.Context(), form.Get("id")
	page.Email, page.Role = models.NormalizeEmail(form.Get("user")), form.Get("role")
	if id == "" {
		user, err := s.store.UserByEmail(ctx, page.Email)
		if err != nil {
			return err
		}
		if user == nil {
			page.Problems.Add("user", "has no account with this address")
			return s.again(c, p, nil, page)
		}
		id = user.ID
	}
	member, _, err := s.SetMember(ctx, p, page.Domain.ID, id, api.SetMember{Role: page.Role})
	if err != nil {
		var ok bool
		if page.Problems, ok = ui.ProblemsOf(err); ok {
			return s.again(c, p, err, page)
		}
		return err
	}
	return s.seeOther(c, page.URL(), member.Email+" has the role "+member.Role+" now.")
}

func (s *Server) pageRemoveMember(c *gin.Context, p Principal) error {
	domain, err := s.readableDomain(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	user, err := s.userHere(c, "user")
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.RemoveMember(domain, user))
}

func (s *Server) formRemoveMember(c *gin.Context, p Principal) error {
	if err := s.store.RemoveMember(c.Request.Context(), p.Actor, c.Param("user"), c.Param("id")); err != nil {
		return err
	}
	return s.seeOther(c, "/admin/domains/"+url.PathEscape(c.Param("id")), "The member is removed.")
}

func (s *Server) pageAudit(c *gin.Context, p Principal) error {
	ctx, filter := c.Request.Context(), ui.DecodeAuditFilter(c.Request.URL.Query())
	asked := store.AuditFilter{Action: filter.Action, Subject: filter.Subject}
	asked.Since, asked.Until = filter.Days()
	if filter.Actor != "" {
		user, err := s.store.UserByEmail(ctx, models.NormalizeEmail(filter.Actor))
		if err != nil {
			return err
		}
		asked.UserID = filter.Actor // an id, or nobody's address: finds nothing
		if user != nil {
			asked.UserID = user.ID
		}
	}
	found, next, err := s.store.AuditEvents(ctx, asked, store.Page{Limit: defaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, "/admin/audit", "")
	}
	if err != nil {
		return err
	}
	names := map[string]string{}
	events := make([]ui.Event, len(found))
	for i, e := range found {
		name, known := names[e.Actor.UserID]
		if !known && e.Actor.UserID != "" {
			user, err := s.store.User(ctx, e.Actor.UserID)
			if err != nil {
				return err
			}
			if user != nil {
				name = user.Email
			}
			names[e.Actor.UserID] = name
		}
		events[i] = ui.Event{At: e.At, Action: e.Action, Subject: e.Subject, Actor: e.Actor, ActorName: name, Detail: e.Detail}
	}
	return s.show(c, p, http.StatusOK, ui.Audit(events, filter, s.now(), next))
}
