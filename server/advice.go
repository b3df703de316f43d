package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/ui"
)

// adviceRoutes are about what a token could do without.
var adviceRoutes = []route{
	{method: "GET", path: "/api/v1/pats/:id/advice", by: owner, do: (*Server).getAdvice},
	{method: "POST", path: "/api/v1/pats/:id/narrow", by: owner, do: (*Server).postNarrow},
	{method: "POST", path: "/profile/pats/:id/narrow", by: owner, page: true, do: (*Server).formNarrowAll},
}

const (
	adviceDays    = 30 // unless something else is asked for
	maxAdviceDays = 366
)

// Advise says which scopes of a token of p were not used in that many days, and
// which could be narrower.
func (s *Server) Advise(ctx context.Context, p Principal, id string, days int) (api.Advice, error) {
	pat, err := s.PAT(ctx, p, id)
	if err != nil {
		return api.Advice{}, err
	}
	return s.advise(ctx, pat, days)
}

func (s *Server) advise(ctx context.Context, pat models.PAT, days int) (api.Advice, error) {
	if s.decided == nil {
		return api.Advice{}, errNoDecisionLog
	}
	since := s.now().UTC().Add(-time.Duration(days) * 24 * time.Hour)
	used, all, err := s.decided.UsedScopes(ctx, pat.ID, since)
	if err != nil {
		return api.Advice{}, err
	}
	coverage, err := s.coverage(ctx, models.DayOf(since))
	if err != nil {
		return api.Advice{}, err
	}
	out := api.Advice{TokenID: pat.ID, Name: pat.Name, Days: days, Coverage: coverage}
	out.Enough = coverage.From != nil && !coverage.From.After(models.DayOf(since)) && coverage.Lost == 0 && !pat.CreatedAt.After(since)
	if from := out.Coverage.From; from != nil && pat.CreatedAt.After(*from) {
		created := pat.CreatedAt.UTC()
		out.Coverage.From = &created
	}
	advice, needed := models.Advise(pat, used, all, s.cfg.Limits.MaxScopes)
	changes := false
	for _, a := range advice {
		one := api.ScopeAdvice{Scope: api.Scope(a.Scope), Uses: a.Uses, LastUsedAt: a.LastAt, Do: "keep"}
		switch {
		case !a.Keep && len(a.Narrowed) == 0:
			one.Do = "remove"
		case !a.Keep:
			one.Do, one.To = "narrow", newScopes(a.Narrowed)
		}
		changes = changes || !a.Keep
		out.Scopes = append(out.Scopes, one)
	}
	out.Unused = len(needed) == 0
	if changes && !out.Unused {
		out.Narrowed = newScopes(needed)
	}
	return out, nil
}

func newScopes(scopes []models.Scope) []api.NewScope {
	out := make([]api.NewScope, len(scopes))
	for i, sc := range scopes {
		out[i] = api.NewScope{Domain: sc.Domain, EntityType: sc.EntityType, Entity: sc.Entity, Operation: sc.Operation}
	}
	return out
}

// NarrowPAT leaves a token of p some of what it may do.
func (s *Server) NarrowPAT(ctx context.Context, p Principal, id string, in api.Narrowing) (models.PAT, error) {
	scopes := make([]models.Scope, len(in.Scopes))
	for i, sc := range in.Scopes {
		scopes[i] = newScope(sc)
	}
	return s.store.NarrowPAT(ctx, p.Actor, p.User.ID, id, scopes)
}

func (s *Server) getAdvice(c *gin.Context, p Principal) error {
	days := adviceDays
	if text := c.Query("days"); text != "" {
		var err error
		if days, err = strconv.Atoi(text); err != nil || days < 1 || days > maxAdviceDays {
			var v models.Invalid
			v.Add("days", "must be a whole number from 1 to %d", maxAdviceDays)
			return v.Err()
		}
	}
	out, err := s.Advise(c.Request.Context(), p, c.Param("id"), days)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) postNarrow(c *gin.Context, p Principal) error {
	var in api.Narrowing
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, err := s.NarrowPAT(c.Request.Context(), p, c.Param("id"), in)
	return s.answerPAT(c, pat, err)
}

// activity is what a token's page tells of its decisions; nil if no log is kept.
func (s *Server) activity(ctx context.Context, p Principal, pat models.PAT) (*ui.Activity, error) {
	summary, err := s.PATDecisions(ctx, p, pat.ID)
	if errors.Is(err, errNoDecisionLog) {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	if err != nil {
		return nil, err
	}
	advice, err := s.advise(ctx, pat, adviceDays)
	if err != nil {
		return nil, err
	}
	counted := s.counted(pat)
	alive := counted.Status(s.now()) == models.StatusActive
	return ui.NewActivity(summary, advice, alive && pat.RotatedTo == "", s.now()), nil
}

// formNarrowAll takes the advice that the page showed, if it still stands.
func (s *Server) formNarrowAll(c *gin.Context, p Principal) error {
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
		_, err = s.NarrowPAT(c.Request.Context(), p, token.ID, in)
	}
	switch models.CodeOf(err) {
	case "":
		return s.seeOther(c, token.Link(), "The token can do what it was used for, and nothing else.")
	case models.CodeInvalid, models.CodeConflict:
		return s.seeOther(c, token.Link(), "The token has changed meanwhile. Look at it again.")
	}
	return err
}
