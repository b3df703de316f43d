package server

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// decisionRoutes are about decisions that were made.
var decisionRoutes = []route{
	{method: "GET", path: "/api/v1/decisions", by: policyTeam, do: (*Server).getDecisions, accepts: accepts{query: with("user", "token", "domain", "outcome", "reason", "surface", "request", "revision", "since", "until")}},
	{method: "GET", path: "/api/v1/decisions/:decision", by: policyTeam, do: (*Server).getDecision},
	{method: "GET", path: "/api/v1/refusals", by: policyTeam, do: (*Server).getRefusals, accepts: accepts{query: with("address", "reason", "since", "until")}},
	{method: "GET", path: "/api/v1/decision-log", by: policyTeam, do: (*Server).getDecisionLog},
	{method: "GET", path: "/api/v1/pats/:id/decisions", by: owner, do: (*Server).getPATDecisions},
}

var errNoDecisionLog = models.NewError(models.CodeNotFound, "decisions are not kept in a database here; the setting is decision_log.database")

// Decisions lists decisions that were made, the latest first, without their input.
func (s *Server) Decisions(ctx context.Context, f store.DecisionFilter, page store.Page) ([]models.LoggedDecision, string, error) {
	if s.decided == nil {
		return nil, "", errNoDecisionLog
	}
	return s.decided.Decisions(ctx, f, page)
}

// Decision returns a decision with its input. The error says what is known of one
// that the log does not have.
func (s *Server) Decision(ctx context.Context, id string) (models.LoggedDecision, error) {
	if s.decided == nil {
		return models.LoggedDecision{}, errNoDecisionLog
	}
	d, err := s.decided.Decision(ctx, id)
	if err != nil {
		return models.LoggedDecision{}, err
	}
	if d == nil {
		missing, err := s.decided.Missing(ctx, id)
		if err != nil {
			return models.LoggedDecision{}, err
		}
		code := models.CodeNotFound
		if missing.Kind == models.MissingCounted {
			code = models.CodeCountedOnly
		}
		return models.LoggedDecision{}, models.NewError(code, missing.Message())
	}
	return *d, nil
}

// summaryDays is how many days back, this one included, a summary of a token's
// decisions goes.
const summaryDays = 7

// PATDecisions counts the decisions of the last seven days about a token of p, by
// day and outcome.
func (s *Server) PATDecisions(ctx context.Context, p models.Principal, id string) (api.DecisionSummary, error) {
	if _, err := s.PAT(ctx, p, id); err != nil {
		return api.DecisionSummary{}, err
	}
	if s.decided == nil {
		return api.DecisionSummary{}, errNoDecisionLog
	}
	since := models.DayOf(s.now()).AddDate(0, 0, 1-summaryDays)
	counts, err := s.decided.CountedOutcomes(ctx, id, since)
	if err != nil {
		return api.DecisionSummary{}, err
	}
	coverage, err := s.coverage(ctx, since)
	if err != nil {
		return api.DecisionSummary{}, err
	}
	out := api.DecisionSummary{Coverage: coverage, Reasons: map[string]int64{}, Days: make([]api.DecisionDay, summaryDays)}
	for i := range out.Days {
		out.Days[i].Date = since.AddDate(0, 0, i).Format(time.DateOnly)
	}
	for _, c := range counts {
		i := int(c.Day.Sub(since) / (24 * time.Hour))
		if i < 0 || i >= summaryDays {
			continue // of a clock that runs ahead
		}
		for _, to := range [...]*api.OutcomeCounts{&out.OutcomeCounts, &out.Days[i].OutcomeCounts} {
			switch c.Outcome {
			case models.OutcomeAllow:
				to.Allow += c.Count
			case models.OutcomeDeny:
				to.Deny += c.Count
			case models.OutcomeError:
				to.Error += c.Count
			}
		}
		if c.Reason != "" {
			out.Reasons[string(c.Reason)] += c.Count
		}
	}
	return out, nil
}

// coverage says how much of the time since then the log has taken down.
func (s *Server) coverage(ctx context.Context, since time.Time) (api.LogCoverage, error) {
	days, err := s.decided.LoggedDays(ctx, since)
	if err != nil {
		return api.LogCoverage{}, err
	}
	out := api.LogCoverage{Since: since, Until: s.now().UTC()}
	for _, d := range days {
		out.Recorded += d.Recorded
		out.Lost += d.Dropped
	}
	// A day without decisions is no day without a log, once that has begun.
	if out.From, err = s.decided.FirstLoggedDay(ctx); err != nil {
		return api.LogCoverage{}, err
	}
	if out.From != nil && out.From.Before(since) {
		out.From = &since
	}
	return out, nil
}

func (s *Server) getDecisions(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := s.decisionFilter(query, &v)
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	list, next, err := s.Decisions(c.Request.Context(), filter, page)
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
	d, err := s.Decision(c.Request.Context(), c.Param("decision"))
	if err != nil {
		return err
	}
	out := wireLogged(d)
	out.Event = d.AppendEvent(nil, []byte(`{"app":"patrol"}`))
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) getPATDecisions(c *gin.Context, p models.Principal) error {
	out, err := s.PATDecisions(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

// wireLogged is a decision of the log as lists of the API show it.
func wireLogged(d models.LoggedDecision) api.LoggedDecision {
	return api.LoggedDecision{
		ID: d.ID, At: d.At, Outcome: d.Outcome(), Status: d.Status(), Reasons: d.Reasons, Surface: d.Surface,
		Domain: d.Request.Domain, EntityType: d.Request.EntityType, Entity: d.Request.Entity, Operation: d.Request.Operation,
		TokenID: d.TokenID, UserID: d.UserID, ScopeID: d.ScopeID, RequestID: d.RequestID, Revision: d.Revision, RequestedBy: d.RequestedBy,
		Labels: d.Labels, Waived: wireWaived(d.Waived),
		Method: d.Method, Path: d.Path, Microseconds: d.Took.Microseconds(),
	}
}
