package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/manage"
	"patrol/server/request"
	"patrol/server/ui"
)

// adviceRoutes are about what tokens could do without.
var adviceRoutes = []route{
	{method: "GET", path: "/api/v1/pats/:id/advice", by: owner, do: (*Server).getAdvice, accepts: accepts{query: []string{"days"}}},
	{method: "GET", path: "/api/v1/admin/advice", by: policyTeam, do: (*Server).getAdviceOnAll, accepts: accepts{query: with("days", "user_id", "owner", "domain", "uncertain")}},
	{method: "GET", path: "/policy/advice", by: policyTeam, page: true, do: (*Server).pageAdvice, accepts: accepts{query: []string{"days", "domain", "uncertain", "after"}}},
	{method: "POST", path: "/api/v1/pats/:id/narrow", by: owner, do: (*Server).postNarrow, accepts: accepts{body: object}},
	{method: "POST", path: "/profile/pats/:id/narrow", by: owner, page: true, do: (*Server).formNarrowAll, accepts: accepts{lists: []string{"scope"}}},
}

const (
	adviceDays    = 30 // unless something else is asked for
	maxAdviceDays = 366
)

// readDays reads how far back advice is to look.
func readDays(query url.Values, v *models.Invalid) int {
	text := query.Get("days")
	if text == "" {
		return adviceDays
	}
	days, err := strconv.Atoi(text)
	if err != nil || days < 1 || days > maxAdviceDays {
		v.Add("days", "must be a whole number from 1 to %d", maxAdviceDays)
		return adviceDays
	}
	return days
}

func (s *Server) getAdviceOnAll(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	search := manage.AdviceSearch{Days: readDays(query, &v), UserID: query.Get("user_id"), Owner: query.Get("owner"), Domain: query.Get("domain")}
	switch query.Get("uncertain") {
	case "", "false":
	case "true":
		search.Uncertain = true
	default:
		v.Add("uncertain", "must be true or false")
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	out, err := s.manage.AdviseAll(c.Request.Context(), search, page)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) getAdvice(c *gin.Context, p models.Principal) error {
	var v models.Invalid
	days := readDays(c.Request.URL.Query(), &v)
	if err := v.Err(); err != nil {
		return err
	}
	out, err := s.manage.Advise(c.Request.Context(), p, c.Param("id"), days)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) postNarrow(c *gin.Context, p models.Principal) error {
	var in api.Narrowing
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, err := s.manage.NarrowPAT(c.Request.Context(), p, c.Param("id"), in)
	return s.answerPAT(c, pat, err)
}

// activity is what a token's page tells of its decisions; nil if no log is kept.
func (s *Server) activity(ctx context.Context, p models.Principal, pat models.PAT) (*ui.Activity, error) {
	summary, err := s.manage.PATDecisions(ctx, p, pat.ID)
	if errors.Is(err, manage.ErrNoDecisionLog) {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	if err != nil {
		return nil, err
	}
	advice, err := s.manage.AdviseOn(ctx, pat, adviceDays)
	if err != nil {
		return nil, err
	}
	counted := s.manage.Counted(pat)
	alive := counted.Status(s.now()) == models.StatusActive
	return ui.NewActivity(summary, advice, alive && pat.RotatedTo == "", s.now()), nil
}

// formNarrowAll takes the advice that the page showed, if it still stands.
func (s *Server) formNarrowAll(c *gin.Context, p models.Principal) error {
	_, token, err := s.patShown(c, p)
	if err != nil {
		return err
	}
	form, err := s.form(c)
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

func (s *Server) pageAdvice(c *gin.Context, p models.Principal) error {
	query := c.Request.URL.Query()
	if err := ui.CheckAdviceFilter(query); err != nil {
		return err
	}
	filter := ui.DecodeAdviceFilter(query)
	found, err := s.manage.AdviseAll(c.Request.Context(), manage.AdviceSearch{
		Days: filter.Days, Domain: filter.Domain, Uncertain: filter.Uncertain,
	}, store.Page{Limit: defaultPage, After: filter.After})
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
