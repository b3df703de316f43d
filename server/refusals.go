package server

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/ui"
)

// Refusals lists what was counted of refusals without a token that verifies, the
// latest minute first.
func (s *Server) Refusals(ctx context.Context, f store.RefusalFilter, page store.Page) ([]models.CountedRefusals, string, error) {
	if s.decided == nil {
		return nil, "", errNoDecisionLog
	}
	return s.decided.Refusals(ctx, f, page)
}

// DecisionLog says how far back the decision log reaches.
func (s *Server) DecisionLog(ctx context.Context) (api.DecisionLog, error) {
	if s.decided == nil {
		return api.DecisionLog{}, errNoDecisionLog
	}
	reach, err := s.decided.Reach(ctx)
	if err != nil {
		return api.DecisionLog{}, err
	}
	class := func(c models.LogClass) api.LogClass {
		return api.LogClass{Rows: c.Rows, CompleteSince: c.Since(), CutShort: c.CutShort(s.now(), s.cfg.LogRetention)}
	}
	out := api.DecisionLog{
		RetentionSeconds: int64(s.cfg.LogRetention / time.Second), MaxRows: s.cfg.LogMaxRows,
		Verified: class(reach.Verified), Refused: class(reach.Refused), BusiestToken: reach.Busiest, BusiestRows: reach.BusiestRows,
	}
	if !reach.At.IsZero() {
		out.CountedAt = &reach.At
	}
	return out, nil
}

func (s *Server) getDecisionLog(c *gin.Context, _ models.Principal) error {
	out, err := s.DecisionLog(c.Request.Context())
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) getRefusals(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := store.RefusalFilter{
		Address: query.Get("address"), Reason: models.ReasonCode(query.Get("reason")),
		Since: s.pastTime(query, "since", &v), Until: s.pastTime(query, "until", &v),
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	list, next, err := s.Refusals(c.Request.Context(), filter, page)
	if err != nil {
		return err
	}
	writePage(c, list, next, wireRefusals)
	return nil
}

func wireRefusals(r models.CountedRefusals) api.CountedRefusals {
	return api.CountedRefusals{
		From: r.From, Seconds: int64(r.Span / time.Second), Address: r.Address, Reason: string(r.Reason),
		Calls: r.Calls, Decisions: r.Decisions, Kept: r.Kept,
	}
}

// pageRefusals lists the same for people.
func (s *Server) pageRefusals(c *gin.Context, p models.Principal) error {
	filter := ui.DecodeRefusalFilter(c.Request.URL.Query())
	found, next, err := s.Refusals(c.Request.Context(), store.RefusalFilter{
		Address: filter.Address, Reason: models.ReasonCode(filter.Reason),
	}, store.Page{Limit: defaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, ui.RefusalsPath, "")
	}
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Refusals(found, filter, s.now(), next))
}
