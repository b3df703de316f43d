package pages

import (
	"context"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/request"
	"patrol/server/ui"
)

// The pages of a domain, for its admins and platform admins.

// administersAny reports whether p has domains to administer, for the navigation.
// Pages about failures have one, too, so that not to know is no failure.
func (s *Surface) administersAny(ctx context.Context, p models.Principal) bool {
	if p.User.Admin {
		return true
	}
	own, err := s.manage.Administered(ctx, p)
	if err != nil {
		s.log.WarnContext(ctx, "a page came without its administration", "request_id", request.ID(ctx), "error", err)
	}
	return len(own) > 0
}

// pageDomains lists all domains for platform admins, and for others those that they
// administer.
func (s *Surface) pageDomains(c *gin.Context, p models.Principal) error {
	if !p.User.Admin {
		own, err := s.manage.Administered(c.Request.Context(), p)
		if err != nil {
			return err
		}
		if len(own) == 0 {
			return models.NewError(models.CodeForbidden, "you administer no domain")
		}
		return s.show(c, p, http.StatusOK, ui.OwnDomains(own, s.now()))
	}
	after := c.Query("after")
	found, next, err := s.manage.Domains(c.Request.Context(), p, manage.DomainFilter{}, manage.Page{Limit: endpoint.DefaultPage, After: after})
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Domains(found, s.now(), next, after == ""))
}

func (s *Surface) pageNewDomain(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.NewDomain(api.NewDomain{}, ui.Problems{}))
}

func (s *Surface) formNewDomain(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in := ui.DecodeNewDomain(form)
	domain, err := s.manage.CreateDomain(c.Request.Context(), p, in)
	if err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page { return ui.NewDomain(in, problems) })
	}
	return s.seeOther(c, "/admin/domains/"+domain.ID, "The domain is made. Add its members.")
}

// domainShown is the page of the domain that the address names.
func (s *Surface) domainShown(c *gin.Context, p models.Principal) (ui.DomainPage, error) {
	ctx := c.Request.Context()
	domain, err := s.manage.ReadableDomain(ctx, p, c.Param("id"))
	if err != nil {
		return ui.DomainPage{}, err
	}
	members, next, err := s.manage.Members(ctx, domain.ID, manage.MemberFilter{}, manage.Page{Limit: manage.MaxPage, After: c.Query("after")})
	if err != nil {
		return ui.DomainPage{}, err
	}
	page := ui.DomainPage{
		Domain: domain, Catalog: s.manage.Catalog(), Platform: p.User.Admin, Limits: ui.LimitsOf(domain.Limits),
	}
	if domain.Limits.Approval {
		if page.Waiting, err = s.manage.CountWaiting(ctx, domain.ID); err != nil {
			return ui.DomainPage{}, err
		}
	}
	if next != "" {
		page.Next = "?" + url.Values{"after": {next}}.Encode()
	}
	for _, m := range members {
		page.Members = append(page.Members, api.Member(m))
	}
	return page, nil
}

// domainForm returns the page of the domain that the address names, and the form that was sent
// from it.
func (s *Surface) domainForm(c *gin.Context, p models.Principal) (ui.DomainPage, url.Values, error) {
	page, err := s.domainShown(c, p)
	if err != nil {
		return page, nil, err
	}
	form, err := s.form(c)
	return page, form, err
}

func (s *Surface) pageDomain(c *gin.Context, p models.Principal) error {
	page, err := s.domainShown(c, p)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, page)
}

func (s *Surface) formDomain(c *gin.Context, p models.Principal) error {
	page, form, err := s.domainForm(c, p)
	if err != nil {
		return err
	}
	name, status := form.Get("name"), models.DomainStatus(form.Get("status"))
	patch := api.DomainPatch{Name: &name, Status: &status}
	if status == page.Domain.Status {
		patch.Status = nil
	}
	if manage.WidensDomain(patch) {
		if err := s.identity.RequireFreshAdmin(p); err != nil {
			return err
		}
	}
	_, err = s.manage.UpdateDomain(c.Request.Context(), p, page.Domain.ID, patch)
	if err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page {
			page.Problems = problems
			page.Domain.Name, page.Domain.Status = name, status
			return page
		})
	}
	return s.seeOther(c, page.URL(), "The changes are saved.")
}

// formMember gives a user a role: a member by id, anybody by address.
func (s *Surface) formMember(c *gin.Context, p models.Principal) error {
	page, form, err := s.domainForm(c, p)
	if err != nil {
		return err
	}
	ctx, id := c.Request.Context(), form.Get("id")
	page.Email, page.Role = models.NormalizeEmail(form.Get("user")), form.Get("role")
	if id == "" {
		user, err := s.manage.LookUp(ctx, p, page.Domain.ID, page.Email)
		if models.CodeOf(err) == models.CodeRateLimited {
			page.Problems.General = "Too many people were looked up. Wait a minute before the next."
			return s.again(c, p, err, page)
		}
		if err != nil {
			return err
		}
		if user == nil {
			page.Problems.Add("user", "has no account with this address")
			return s.again(c, p, nil, page)
		}
		id = user.ID
	}
	member, _, err := s.manage.SetMember(ctx, p, page.Domain.ID, id, api.SetMember{Role: page.Role})
	if err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page {
			page.Problems = problems
			return page
		})
	}
	return s.seeOther(c, page.URL(), member.Email+" has the role "+member.Role+" now.")
}

func (s *Surface) pageRemoveMember(c *gin.Context, p models.Principal) error {
	domain, err := s.manage.ReadableDomain(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	user, err := s.manage.MemberOf(c.Request.Context(), domain.ID, c.Param("user"))
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.RemoveMember(domain, user))
}

func (s *Surface) formRemoveMember(c *gin.Context, p models.Principal) error {
	if err := s.manage.RemoveMember(c.Request.Context(), p, c.Param("id"), c.Param("user")); err != nil {
		return err
	}
	return s.seeOther(c, "/admin/domains/"+url.PathEscape(c.Param("id")), "The member is removed.")
}

func (s *Surface) formLimits(c *gin.Context, p models.Principal) error {
	page, form, err := s.domainForm(c, p)
	if err != nil {
		return err
	}
	if page.Limits, page.Problems = ui.DecodeLimits(form); page.Problems.Any() {
		return s.again(c, p, nil, page)
	}
	if _, err := s.manage.SetLimits(c.Request.Context(), p, page.Domain.ID, page.Limits.Submit()); err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page {
			page.Problems = problems
			return page
		})
	}
	return s.seeOther(c, page.URL(), "The limits are set. They bind from the next request on.")
}

func (s *Surface) pageDomainPATs(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	domain, err := s.manage.ReadableDomain(ctx, p, c.Param("id"))
	if err != nil {
		return err
	}
	filter, err := tokenFilter(c.Request.URL.Query())
	if err != nil {
		return err
	}
	filter.Domain = "" // it is this one
	search := s.search(filter)
	search.Approved = filter.Approved()
	found, next, err := s.manage.SearchPATsWithin(ctx, domain.ID, search, manage.Page{Limit: endpoint.DefaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, c.Request.URL.Path, "")
	}
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.DomainTokens(domain, s.owned(found), filter, next))
}

// domainToken is the page of a token of the domain that the address names.
func (s *Surface) domainToken(c *gin.Context, p models.Principal) (ui.DomainToken, error) {
	ctx := c.Request.Context()
	domain, err := s.manage.ReadableDomain(ctx, p, c.Param("id"))
	if err != nil {
		return ui.DomainToken{}, err
	}
	pat, err := s.manage.DomainPAT(ctx, domain.ID, c.Param("pat"))
	if err != nil {
		return ui.DomainToken{}, err
	}
	return ui.DomainToken{
		Domain: domain, Token: ui.TokenOf(s.manage.Counted(pat.PAT), s.now()), Email: pat.Email,
		Platform: pat.Platform,
		Meanings: ui.NewChoices(s.manage.Catalog(), s.cfg.Limits, nil).Meanings(pat.Scopes),
	}, nil
}

func (s *Surface) pageDomainPAT(c *gin.Context, p models.Principal) error {
	page, err := s.domainToken(c, p)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, page)
}

// onDomainToken does what a form on the page of a domain's token asks for.
func (s *Surface) onDomainToken(c *gin.Context, p models.Principal, notice string, do func(ctx context.Context, page *ui.DomainToken, form url.Values) error) error {
	page, err := s.domainToken(c, p)
	if err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	if err := do(c.Request.Context(), &page, form); err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page {
			page.Problems = problems
			return page
		})
	}
	return s.seeOther(c, page.URL(), notice)
}

func (s *Surface) formDomainRevoke(c *gin.Context, p models.Principal) error {
	return s.onDomainToken(c, p, "The token is revoked. Its owner sees why.", func(ctx context.Context, page *ui.DomainToken, form url.Values) error {
		page.Reason = ui.DecodeReason(form)
		return s.manage.RevokeWithin(ctx, p, page.Domain.ID, page.Token.ID, page.Reason)
	})
}

// formApprove approves of the scopes that the form showed.
func (s *Surface) formApprove(c *gin.Context, p models.Principal) error {
	return s.onDomainToken(c, p, "The token is approved.", func(ctx context.Context, page *ui.DomainToken, form url.Values) error {
		return s.manage.ApprovePAT(ctx, p, page.Domain.ID, page.Token.ID, append([]string{}, form["scope"]...))
	})
}

// formWithdrawal has the domain take the token no more.
func (s *Surface) formWithdrawal(c *gin.Context, p models.Principal) error {
	return s.onDomainToken(c, p, "The token is withdrawn from the domain. Its owner sees why.", func(ctx context.Context, page *ui.DomainToken, form url.Values) error {
		page.Reason = ui.DecodeReason(form)
		return s.manage.WithdrawPAT(ctx, p, page.Domain.ID, page.Token.ID, page.Reason)
	})
}

func (s *Surface) formAdmit(c *gin.Context, p models.Principal) error {
	return s.onDomainToken(c, p, "The domain takes the token again.", func(ctx context.Context, page *ui.DomainToken, _ url.Values) error {
		return s.manage.AdmitPAT(ctx, p, page.Domain.ID, page.Token.ID)
	})
}

func (s *Surface) formWithdraw(c *gin.Context, p models.Principal) error {
	return s.onDomainToken(c, p, "The approval is withdrawn.", func(ctx context.Context, page *ui.DomainToken, _ url.Values) error {
		return s.manage.WithdrawApproval(ctx, p, page.Domain.ID, page.Token.ID)
	})
}
