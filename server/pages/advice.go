package pages

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/ui"
)

// advicePages are about what tokens could do without.
func (s *Surface) advicePages() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/policy/advice", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageAdvice, Accepts: endpoint.Accepts{Query: []string{"days", "domain", "uncertain", "after"}}},
		{Method: "POST", Path: "/profile/pats/:id/narrow", By: endpoint.Owner, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formNarrowAll, Accepts: endpoint.Accepts{Lists: []string{"scope"}}},
	}
}

// activity summarises the decisions of a token for its page; nil if no log is kept.
func (s *Surface) activity(ctx context.Context, p models.Principal, pat models.PAT) (*ui.Activity, error) {
	summary, err := s.manage.PATDecisions(ctx, p, pat.ID)
	if errors.Is(err, manage.ErrNoDecisionLog) {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	if err != nil {
		return nil, err
	}
	advice, err := s.manage.AdviseOn(ctx, pat, endpoint.AdviceDays)
	if err != nil {
		return nil, err
	}
	counted := s.manage.Counted(pat)
	alive := counted.Status(s.now()) == models.StatusActive
	return ui.NewActivity(summary, advice, alive && pat.RotatedTo == "", s.now()), nil
}

// formNarrowAll takes the advice that the page showed, if it still stands.
func (s *Surface) formNarrowAll(c *gin.Context, p models.Principal) error {
	_, token, form, err := s.patForm(c, p)
	if err != nil {
		return err
	}
	in, err := ui.DecodeNarrowing(form)
	if err == nil {
		_, err = s.manage.NarrowPAT(c.Request.Context(), p, token.ID, in)
	}
	switch models.CodeOf(err) {
	case "":
		return s.seeOther(c, token.Link(), "The token can do what it was used for, and nothing else.")
	case models.CodeInvalid, models.CodeConflict:
		return s.seeOther(c, token.Link(), "The token has changed meanwhile. Look at it again.")
	}
	return err
}

func (s *Surface) pageAdvice(c *gin.Context, p models.Principal) error {
	query := c.Request.URL.Query()
	if err := ui.CheckAdviceFilter(query); err != nil {
		return err
	}
	filter := ui.DecodeAdviceFilter(query)
	found, err := s.manage.AdviseAll(c.Request.Context(), manage.AdviceSearch{
		Days: filter.Days, Domain: filter.Domain, Uncertain: filter.Uncertain,
	}, manage.Page{Limit: endpoint.DefaultPage, After: filter.After})
	if errors.Is(err, manage.ErrNoDecisionLog) {
		return s.show(c, p, http.StatusOK, ui.NoAdvice())
	}
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, ui.AdvicePath, "")
	}
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Advised(found, filter, p.User.Admin, s.now()))
}
