package server

import (
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/request"
)

// decisionRoutes are about decisions that were made.
var decisionRoutes = []route{
	{method: "GET", path: "/api/v1/decisions", by: policyTeam, do: (*Server).getDecisions, accepts: accepts{query: with("user", "token", "domain", "outcome", "reason", "surface", "request", "revision", "since", "until")}},
	{method: "GET", path: "/api/v1/decisions/:decision", by: policyTeam, do: (*Server).getDecision},
	{method: "GET", path: "/api/v1/refusals", by: policyTeam, do: (*Server).getRefusals, accepts: accepts{query: with("address", "reason", "since", "until")}},
	{method: "GET", path: "/api/v1/decision-log", by: policyTeam, do: (*Server).getDecisionLog},
	{method: "GET", path: "/api/v1/pats/:id/decisions", by: owner, do: (*Server).getPATDecisions},
}

func (s *Server) getDecisions(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := s.decisionFilter(query, &v)
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

// decisionFilter reads what narrows a list of decisions, adding to v what is wrong
// with it.
func (s *Server) decisionFilter(query url.Values, v *models.Invalid) store.DecisionFilter {
	f := store.DecisionFilter{
		TokenID: query.Get("token"), UserID: query.Get("user"), Domain: query.Get("domain"),
		Outcome: models.Outcome(query.Get("outcome")), Reason: models.ReasonCode(query.Get("reason")),
		Surface: query.Get("surface"), Request: query.Get("request"), Revision: query.Get("revision"),
		Since: s.pastTime(query, "since", v), Until: s.pastTime(query, "until", v),
	}
	switch f.Outcome {
	case "", models.OutcomeAllow, models.OutcomeDeny, models.OutcomeError:
	default:
		v.Add("outcome", "must be one of allow, deny, error")
	}
	return f
}

// pastTime reads a time, or how long ago it was.
func (s *Server) pastTime(query url.Values, name string, v *models.Invalid) time.Time {
	text := query.Get(name)
	if text == "" {
		return time.Time{}
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	ago, err := models.ParseDuration(text)
	if err != nil {
		v.Add(name, "must be a time such as 2027-01-31T12:00:00Z, or how long ago it was, such as 24h")
		return time.Time{}
	}
	return s.now().Add(-ago)
}

func (s *Server) getDecision(c *gin.Context, _ models.Principal) error {
	d, err := s.manage.Decision(c.Request.Context(), c.Param("decision"))
	if err != nil {
		return err
	}
	out := wireLogged(d)
	out.Event = d.AppendEvent(nil, []byte(`{"app":"patrol"}`))
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) getPATDecisions(c *gin.Context, p models.Principal) error {
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
