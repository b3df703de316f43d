package rest

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/request"
)

// adviceRoutes are about what tokens could do without.
func (s *Surface) adviceRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/api/v1/pats/:id/advice", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Do: s.getAdvice, Accepts: endpoint.Accepts{Query: []string{"days"}}},
		{Method: "GET", Path: "/api/v1/admin/advice", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Do: s.getAdviceOnAll, Accepts: endpoint.Accepts{Query: endpoint.With("days", "user_id", "email", "domain", "uncertain")}},
		{Method: "POST", Path: "/api/v1/pats/:id/narrow", By: endpoint.Owner, SignIn: endpoint.AnyAgeToNarrow, Do: s.postNarrow, Accepts: endpoint.Accepts{Body: endpoint.Object}},
	}
}

// readDays reads how far back advice is to look.
func readDays(query url.Values, v *models.Invalid) int {
	text := query.Get("days")
	if text == "" {
		return endpoint.AdviceDays
	}
	days, err := strconv.Atoi(text)
	if err != nil || days < 1 || days > endpoint.MaxAdviceDays {
		v.Add("days", "must be a whole number from 1 to %d", endpoint.MaxAdviceDays)
		return endpoint.AdviceDays
	}
	return days
}

func (s *Surface) getAdviceOnAll(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	search := manage.AdviceSearch{Days: readDays(query, &v), UserID: query.Get("user_id"), Owner: query.Get("email"), Domain: query.Get("domain")}
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

func (s *Surface) getAdvice(c *gin.Context, p models.Principal) error {
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

func (s *Surface) postNarrow(c *gin.Context, p models.Principal) error {
	var in api.Narrowing
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, err := s.manage.NarrowPAT(c.Request.Context(), p, c.Param("id"), in)
	return s.answerPAT(c, pat, err)
}
