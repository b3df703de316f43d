package pages

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/manage"
	"patrol/server/request"
	"patrol/server/ui"
)

// patsPerPage bounds the tokens that a page lists.
const patsPerPage = 100

func (s *Surface) pagePATs(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	filter, err := tokenFilter(c.Request.URL.Query())
	if err != nil {
		return err
	}
	search := manage.PATSearch{UserID: p.User.ID, Status: filter.Status, Name: filter.Name, ByExpiry: filter.ByExpiry()}
	found, next, err := s.manage.SearchPATs(ctx, search, manage.Page{Limit: patsPerPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, patsPage, "")
	}
	if err != nil {
		return err
	}
	choices, err := s.choices(ctx, p)
	if err != nil {
		return err
	}
	page := ui.List{Filter: filter, Next: next, Presets: choices.Presets(), Domains: !choices.None(), Any: len(found) > 0}
	for _, one := range found {
		token := ui.TokenOf(s.manage.Counted(one.PAT), s.now())
		page.Tokens = append(page.Tokens, token)
		page.Alive = page.Alive || token.Alive
	}
	if filter.Narrowed() || filter.After != "" {
		if page.Any, err = s.manage.HasPAT(ctx, p, ""); err != nil {
			return err
		}
	}
	if !page.Alive && page.Any {
		if page.Alive, err = s.manage.HasPAT(ctx, p, models.StatusActive); err != nil {
			return err
		}
	}
	return s.show(c, p, http.StatusOK, page)
}

// pageCreate shows the form, filled in as the address asks for; `from` is a token
// of p to copy.
func (s *Surface) pageCreate(c *gin.Context, p models.Principal) error {
	ctx, query := c.Request.Context(), c.Request.URL.Query()
	choices, err := s.choices(ctx, p)
	if err != nil {
		return err
	}
	page := ui.PrefillCreate(query, choices, s.now())
	if id := query.Get("from"); id != "" {
		pat, err := s.manage.PAT(ctx, p, id)
		if err != nil {
			return err
		}
		page = page.CopyOf(pat)
	}
	if choices.None() {
		return s.show(c, p, http.StatusOK, ui.NoDomain())
	}
	page.Key, page.AskPassword = s.once.Key(), !s.identity.Fresh(p)
	return s.show(c, p, http.StatusOK, page)
}

func (s *Surface) formCreate(c *gin.Context, p models.Principal) error {
	form, choices, err := s.choicesForm(c, p)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	if choices.None() {
		return s.show(c, p, http.StatusConflict, ui.NoDomain())
	}
	page := ui.DecodeCreate(form, choices, s.now())
	page.AskPassword = !s.identity.Fresh(p)
	in, wanted, problems := page.Submit()
	if !wanted {
		page = page.Apply()
		return s.show(c, p, http.StatusOK, page)
	}
	page, ok, err := confirmed(s, c, p, page, problems)
	if err != nil || !ok {
		return err
	}
	return s.makeToken(c, p, page.Key, nil, func() (models.PAT, models.Token, error) {
		return s.manage.CreatePAT(ctx, p, in, choices.Domains()...)
	}, func(problems ui.Problems) ui.Page { return page.Refused(problems) })
}

// makeToken does what makes a token, once for a form, and leads to the page that shows the
// token. What the user can mend goes to refused.
func (s *Surface) makeToken(c *gin.Context, p models.Principal, key string, old *models.PAT,
	work func() (models.PAT, models.Token, error), refused func(ui.Problems) ui.Page,
) error {
	var pat models.PAT
	var token models.Token
	id, first, err := s.once.Do(p.User.ID, key, func() (string, error) {
		var err error
		pat, token, err = work()
		return pat.ID, err
	})
	if err != nil {
		return s.retry(c, p, err, refused)
	}
	path := ui.Token{ID: id}.Link() + "/token"
	if !first { // where it is shown if it was not yet
		return s.seeOther(c, path, "")
	}
	what := identity.Made{Secret: token.Reveal()}
	if old != nil {
		what.Old = old.ID
	}
	return s.leadToMade(c, p, path, what)
}

// pageToken shows a token that was just made, once.
func (s *Surface) pageToken(c *gin.Context, p models.Principal) error {
	pat, shown, choices, err := s.patChoices(c, p)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	what, there, err := s.identity.TakeMade(c.Writer, c.Request, p) // last of what can fail: it is gone then
	if err != nil {
		return err
	}
	if !there {
		return s.seeOther(c, shown.Link(), shownBefore("The token itself", "If you did not save it, rotate it: that gives it a new secret."))
	}
	page := ui.Reveal{
		Token: shown, Secret: what.Secret, Rotated: what.Old != "",
		BaseURL: s.baseURL(), Domain: ui.RevealDomain(pat.Scopes, choices),
	}
	for _, m := range choices.Meanings(pat.Scopes) {
		page.Summary = append(page.Summary, m.Meaning)
	}
	if page.Unapproved, err = s.manage.Unapproved(ctx, p, pat, choices.Domains()...); err != nil { // the token matters more
		s.log.WarnContext(ctx, "the page of a new token came without its approvals", "request_id", request.ID(ctx), "error", err)
	}
	if what.Old != "" {
		if now, err := s.manage.PAT(ctx, p, what.Old); err == nil && now.Status(s.now()) == models.StatusActive {
			ends := s.moment(s.manage.Counted(now).ExpiresAt)
			page.OldEnds = &ends
		}
	}
	return s.show(c, p, http.StatusOK, page)
}

// patShown returns a token of p that the address names, as pages show it.
func (s *Surface) patShown(c *gin.Context, p models.Principal) (models.PAT, ui.Token, error) {
	pat, err := s.manage.PAT(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return models.PAT{}, ui.Token{}, err
	}
	pat = s.manage.Counted(pat)
	return pat, ui.TokenOf(pat, s.now()), nil
}

// patChoices returns a token of p that the address names, and the domains of p.
func (s *Surface) patChoices(c *gin.Context, p models.Principal) (models.PAT, ui.Token, ui.Choices, error) {
	pat, token, err := s.patShown(c, p)
	if err != nil {
		return pat, token, ui.Choices{}, err
	}
	choices, err := s.choices(c.Request.Context(), p)
	return pat, token, choices, err
}

// patForm returns a token of p that the address names, and the form that was sent about it.
func (s *Surface) patForm(c *gin.Context, p models.Principal) (models.PAT, ui.Token, url.Values, error) {
	pat, token, err := s.patShown(c, p)
	if err != nil {
		return pat, token, nil, err
	}
	form, err := s.form(c)
	return pat, token, form, err
}

func (s *Surface) pagePAT(c *gin.Context, p models.Principal) error {
	pat, token, choices, err := s.patChoices(c, p)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	family, err := s.manage.PATFamily(ctx, p, pat.ID)
	if err != nil {
		return err
	}
	unapproved, err := s.manage.Unapproved(ctx, p, pat, choices.Domains()...)
	if err != nil {
		return err
	}
	activity, err := s.activity(ctx, p, pat)
	if err != nil {
		return err
	}
	ip, at, err := s.manage.ForeignUse(ctx, pat)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.View{
		Foreign:  ui.ForeignUseOf(ip, at, s.now()),
		Activity: activity, Token: token, Meanings: choices.Meanings(pat.Scopes), Family: ui.Family(pat, family, s.now()), Unapproved: unapproved,
	})
}

func (s *Surface) pageEdit(c *gin.Context, p models.Principal) error {
	_, token, err := s.patShown(c, p)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Edit(token, ui.DecodeEdit(c.Request.URL.Query(), token), ui.Problems{}))
}

func (s *Surface) formEdit(c *gin.Context, p models.Principal) error {
	_, token, form, err := s.patForm(c, p)
	if err != nil {
		return err
	}
	in := ui.DecodeEdit(form, token)
	_, err = s.manage.UpdatePAT(c.Request.Context(), p, token.ID, in, s.identity.Fresh(p))
	if models.CodeOf(err) == models.CodeReauthentication {
		return s.identity.RequireFresh(p)
	}
	if err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page { return ui.Edit(token, in, problems) })
	}
	return s.seeOther(c, token.Link(), "The changes are saved.")
}

func (s *Surface) pageRotate(c *gin.Context, p models.Principal) error {
	_, token, err := s.patShown(c, p)
	if err != nil {
		return err
	}
	if !token.Alive || token.Rotated {
		return s.seeOther(c, token.Link(), "")
	}
	page := ui.DecodeRotate(c.Request.URL.Query(), token, s.cfg.Limits, s.now())
	page.Key, page.AskPassword = s.once.Key(), !s.identity.Fresh(p)
	return s.show(c, p, http.StatusOK, page)
}

func (s *Surface) formRotate(c *gin.Context, p models.Principal) error {
	pat, token, form, err := s.patForm(c, p)
	if err != nil {
		return err
	}
	page := ui.DecodeRotate(form, token, s.cfg.Limits, s.now())
	page.AskPassword = !s.identity.Fresh(p)
	in, problems := page.Submit()
	page, ok, err := confirmed(s, c, p, page, problems)
	if err != nil || !ok {
		return err
	}
	return s.makeToken(c, p, page.Key, &pat, func() (models.PAT, models.Token, error) {
		return s.manage.RotatePAT(c.Request.Context(), p, pat.ID, in)
	}, func(problems ui.Problems) ui.Page { return page.Refused(problems) })
}

func (s *Surface) pageRevoke(c *gin.Context, p models.Principal) error {
	_, token, err := s.patShown(c, p)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Revoke(token))
}

func (s *Surface) formRevoke(c *gin.Context, p models.Principal) error {
	_, token, err := s.patShown(c, p)
	if err != nil {
		return err
	}
	if _, err := s.manage.RevokePAT(c.Request.Context(), p, token.ID); err != nil {
		return err
	}
	return s.seeOther(c, token.Link(), "The token is revoked. Requests with it are refused from now on.")
}

func (s *Surface) pageDelete(c *gin.Context, p models.Principal) error {
	_, token, err := s.patShown(c, p)
	if err != nil {
		return err
	}
	if token.Alive {
		return s.seeOther(c, token.Link()+"/revoke", "Only a token that has ended can be deleted. Revoke it first.")
	}
	return s.show(c, p, http.StatusOK, ui.Delete(token))
}

func (s *Surface) formDelete(c *gin.Context, p models.Principal) error {
	if err := s.manage.DeletePAT(c.Request.Context(), p, c.Param("id")); err != nil {
		return err
	}
	return s.seeOther(c, patsPage, "The token is deleted.")
}

func (s *Surface) pageRevokeAll(c *gin.Context, p models.Principal) error {
	alive, err := s.manage.CountLivePATs(c.Request.Context(), p)
	if err != nil {
		return err
	}
	if alive == 0 {
		return s.seeOther(c, patsPage, "")
	}
	return s.show(c, p, http.StatusOK, ui.RevokeAll(alive))
}

func (s *Surface) formRevokeAll(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	if err := endpoint.AllMeant(form, "a page revokes one at /profile/pats/<id>/revoke"); err != nil {
		return err
	}
	n, err := s.manage.RevokeAll(c.Request.Context(), p)
	if err != nil {
		return err
	}
	return s.seeOther(c, patsPage, ui.Revoked(n))
}

func (s *Surface) pageWiden(c *gin.Context, p models.Principal) error {
	_, token, err := s.patShown(c, p)
	if err != nil {
		return err
	}
	if !token.Alive || token.Rotated {
		return s.seeOther(c, token.Link(), "")
	}
	choices, err := s.choices(c.Request.Context(), p)
	if err != nil {
		return err
	}
	page := ui.DecodeWiden(c.Request.URL.Query(), token, choices)
	page.AskPassword = !s.identity.Fresh(p)
	return s.show(c, p, http.StatusOK, page)
}

func (s *Surface) formWiden(c *gin.Context, p models.Principal) error {
	_, token, form, err := s.patForm(c, p)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	choices, err := s.choices(ctx, p)
	if err != nil {
		return err
	}
	page := ui.DecodeWiden(form, token, choices)
	page.AskPassword = !s.identity.Fresh(p)
	in, problems := page.Submit()
	page, ok, err := confirmed(s, c, p, page, problems)
	if err != nil || !ok {
		return err
	}
	if _, err := s.manage.AddScope(ctx, p, token.ID, in, choices.Domains()...); err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page { return page.Refused(problems) })
	}
	return s.seeOther(c, token.Link(), "The scope is added.")
}

func (s *Surface) pageNarrow(c *gin.Context, p models.Principal) error {
	pat, token, choices, err := s.patChoices(c, p)
	if err != nil {
		return err
	}
	for _, m := range choices.Meanings(pat.Scopes) {
		if m.ID == c.Param("scope") {
			return s.show(c, p, http.StatusOK, ui.RemoveScope(token, m))
		}
	}
	return models.NewError(models.CodeNotFound, "the token has no such scope")
}

func (s *Surface) formNarrow(c *gin.Context, p models.Principal) error {
	pat, err := s.manage.RemoveScope(c.Request.Context(), p, c.Param("id"), c.Param("scope"))
	if err != nil {
		return err
	}
	return s.seeOther(c, ui.TokenOf(pat, s.now()).Link(), "The scope is removed.")
}

// onceRemembered bounds the sent forms that are remembered.
const onceRemembered = 4096
