package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/request"
)

// decisionRoutes are about decisions that were made.
func (s *Surface) decisionRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/api/v1/decisions", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Do: s.getDecisions, Accepts: endpoint.Accepts{Query: endpoint.With("user_id", "token_id", "domain", "outcome", "reason", "surface", "request", "revision", "since", "until")}},
		{Method: "GET", Path: "/api/v1/decisions/:decision", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Do: s.getDecision},
		{Method: "GET", Path: "/api/v1/refusals", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Do: s.getRefusals, Accepts: endpoint.Accepts{Query: endpoint.With("address", "reason", "since", "until")}},
		{Method: "GET", Path: "/api/v1/decision-log", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Do: s.getDecisionLog},
		{Method: "GET", Path: "/api/v1/pats/:id/decisions", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Do: s.getPATDecisions},
	}
}

func (s *Surface) getDecisions(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := endpoint.DecisionFilter(query, s.now(), &v)
	filter.UserID, filter.TokenID = query.Get("user_id"), query.Get("token_id")
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	list, next, err := s.manage.Decisions(c.Request.Context(), filter, page)
	if err != nil {
		return err
	}
	writePage(c, list, next, wireLogged)
	return nil
}

func (s *Surface) getDecision(c *gin.Context, _ models.Principal) error {
	d, err := s.manage.Decision(c.Request.Context(), c.Param("decision"))
	if err != nil {
		return err
	}
	out := wireLogged(d)
	out.Event = d.AppendEvent(nil, []byte(`{"app":"patrol"}`))
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Surface) getPATDecisions(c *gin.Context, p models.Principal) error {
	out, err := s.manage.PATDecisions(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

// wireLogged is a decision of the log as lists of the API show it.
func wireLogged(d models.LoggedDecision) api.LoggedDecision {
	return api.LoggedDecision{
		ID: d.ID, At: d.At, Outcome: d.Outcome(), Status: d.Status(), Reasons: d.Reasons, Surface: d.Surface,
		Domain: d.Request.Domain, EntityType: d.Request.EntityType, Entity: d.Request.Entity, Operation: d.Request.Operation,
		TokenID: d.TokenID, UserID: d.UserID, ScopeID: d.ScopeID, RequestID: d.RequestID, Revision: d.Revision, RequestedBy: d.RequestedBy,
		Labels: d.Labels, Waived: api.WaivedOf(d.Waived),
		Method: d.Method, Path: d.Path, Microseconds: d.Took.Microseconds(),
	}
}
